//! Packages of Debian 13 on a machine with Debian 12, unpacked below `target/tools` beside the libraries that they want.
//! Nothing of the system changes. What is unpacked is what Debian signed: its own keyring checks it.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};

use crate::shell::{available, run};

const RELEASE: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Whether this machine can unpack packages of Debian 13.
pub fn possible() -> bool {
    let apt = available("apt-get") && available("dpkg") && cfg!(target_arch = "x86_64");
    apt && Path::new(KEYRING).is_file()
}

/// Unpacks `packages` into `folder/root`; apt's own files are left beside it.
pub fn unpack(folder: &Path, packages: &[&str]) -> Result<()> {
    for part in ["lists/partial", "cache/archives/partial", "root"] {
        fs::create_dir_all(folder.join(part))?;
    }
    let at = |name: &str| folder.join(name).display().to_string();
    fs::write(
        folder.join("sources.list"),
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
    fs::write(folder.join("apt.conf"), text)?;
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(["-qq"]).args(arguments).env("APT_CONFIG", at("apt.conf")).current_dir(folder);
        run(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["download"][..], packages].concat())?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(folder.join("root")))?;
            fs::remove_file(path)?;
        }
    }
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
