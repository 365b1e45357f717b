//! A skopeo that knows key providers. Debian 12's is built without them (of ocicrypt it has 1.0.3, and they came with 1.1),
//! so there the tests use Debian 13's.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};

use crate::{
    shell::{root, step},
    trixie,
};

const PACKAGES: [&str; 5] = ["skopeo", "libc6", "libgpgme11t64", "libassuan9", "libgpg-error0"];
/// What a skopeo without key providers says to one.
const UNKNOWN: &str = "protocol not recognized";
const SCRIPT: &str = r#"#!/bin/sh
lib=$(dirname "$0")/root/usr/lib/x86_64-linux-gnu
exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$(dirname "$0")/root/usr/bin/skopeo" "$@"
"#;

/// Whether the tests of encrypted images have what they need.
pub fn ready() -> bool {
    root().join("target/tools/skopeo/skopeo").is_file() || knows_providers("skopeo")
}

/// Sees to it that there is such a skopeo, where that needs nobody's permission.
pub fn provide() -> Result<()> {
    if ready() || !trixie::possible() {
        return Ok(());
    }
    step("unpacking a skopeo that knows key providers");
    let place = root().join("target/tools");
    // Made aside and then moved, so that a failure leaves nothing half done.
    let making = place.join("skopeo.new");
    let _ = fs::remove_dir_all(&making);
    fs::create_dir_all(&making)?;
    trixie::unpack(&making, &PACKAGES)?;
    let script = making.join("skopeo");
    fs::write(&script, SCRIPT)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    if !knows_providers(&script.display().to_string()) {
        bail!("Debian 13's skopeo does not run here");
    }
    let last = place.join("skopeo");
    let _ = fs::remove_dir_all(&last);
    fs::rename(making, last)?;
    Ok(())
}

fn knows_providers(program: &str) -> bool {
    let nothing = "oci:/nonexistent:x";
    let probe = ["copy", "--insecure-policy", "--encryption-key", "provider:probe:x", nothing, nothing];
    let output = Command::new(program).args(probe).stdin(Stdio::null()).output();
    output.is_ok_and(|output| !String::from_utf8_lossy(&output.stderr).contains(UNKNOWN))
}
