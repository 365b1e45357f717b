//! A skopeo that knows key providers. Debian 12's is built without them (of ocicrypt it has 1.0.3, and they came with 1.1),
//! so there the tests use Debian 13's, unpacked below `target/tools` beside the libraries that it wants. Nothing of the
//! system changes.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::shell::{available, root, run, step};

const RELEASE: &str = "trixie";
const PACKAGES: [&str; 5] = ["skopeo", "libc6", "libgpgme11t64", "libassuan9", "libgpg-error0"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
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
    let apt = available("apt-get") && available("dpkg") && cfg!(target_arch = "x86_64");
    if ready() || !apt || !Path::new(KEYRING).is_file() {
        return Ok(());
    }
    step("unpacking a skopeo that knows key providers");
    let place = root().join("target/tools");
    fs::create_dir_all(&place)?;
    // Made aside and then moved, so that a failure leaves nothing half done.
    let making = place.join("skopeo.new");
    let _ = fs::remove_dir_all(&making);
    for folder in ["lists/partial", "cache/archives/partial", "root"] {
        fs::create_dir_all(making.join(folder))?;
    }
    let at = |name: &str| making.join(name).display().to_string();
    fs::write(
        making.join("sources.list"),
        format!("deb [signed-by={KEYRING}] {} {RELEASE} main\n", archive()?),
    )?;
    let settings = [
        ("Dir::Etc::sourcelist", at("sources.list")),
        ("Dir::Etc::sourceparts", "-".into()),
        ("Dir::State::lists", at("lists")),
        ("Dir::State::status", "/dev/null".into()),
        ("Dir::Cache", at("cache")),
        ("Acquire::Languages", "none".into()),
        ("APT::Sandbox::User", "root".into()),
    ];
    let text: String = settings.iter().map(|(name, value)| format!("{name} \"{value}\";\n")).collect();
    fs::write(making.join("apt.conf"), text)?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq"]).args(arguments).env("APT_CONFIG", at("apt.conf")).current_dir(&making);
        run(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["download"][..], &PACKAGES].concat())?;
    for entry in fs::read_dir(&making)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(path).arg(making.join("root")))?;
        }
    }
    fs::write(making.join("skopeo"), SCRIPT)?;
    fs::set_permissions(making.join("skopeo"), fs::Permissions::from_mode(0o755))?;
    if !knows_providers(&at("skopeo")) {
        bail!("the skopeo of Debian's {RELEASE} does not run here");
    }
    let last = place.join("skopeo");
    let _ = fs::remove_dir_all(&last);
    fs::rename(making, last)?;
    Ok(())
}

/// Where this machine has Debian's packages from.
fn archive() -> Result<String> {
    let asked = ["indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"];
    let output = Command::new("apt-get").args(asked).output().context("apt-get could not be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let of_debian = text.lines().filter_map(|line| line.strip_prefix("Debian "));
    let archive = of_debian.map(str::trim).find(|uri| !uri.contains("security"));
    Ok(archive.context("apt knows no archive of Debian; `apt-get update` may be wanted first")?.to_owned())
}

fn knows_providers(program: &str) -> bool {
    let nothing = "oci:/nonexistent:x";
    let probe = ["copy", "--insecure-policy", "--encryption-key", "provider:probe:x", nothing, nothing];
    let output = Command::new(program).args(probe).stdin(Stdio::null()).output();
    output.is_ok_and(|output| !String::from_utf8_lossy(&output.stderr).contains(UNKNOWN))
}
