//! The systemd units: read as systemd reads them where it is there, and in any case by what must be in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

type Unit = BTreeMap<(String, String), Vec<String>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd")
}

/// Sections, keys, values; anything else is no unit.
fn read(name: &str) -> Unit {
    let text = std::fs::read_to_string(folder().join(name)).unwrap();
    let (mut unit, mut section) = (Unit::new(), String::new());
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name.to_owned();
        } else {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
            unit.entry((section.clone(), key.to_owned())).or_default().push(value.to_owned());
        }
    }
    unit
}

fn value<'a>(unit: &'a Unit, section: &str, key: &str) -> &'a str {
    let values = unit.get(&(section.to_owned(), key.to_owned())).unwrap_or_else(|| panic!("no {key}"));
    assert_eq!(values.len(), 1, "{key}");
    &values[0]
}

#[test]
fn the_units_are_hardened_and_keeps_outlive_a_restart() {
    let unit = read("bailey-host.service");
    let service = |key: &str| value(&unit, "Service", key);
    assert_eq!(service("ExecStart"), "/usr/bin/bailey host start --config /etc/bailey/host.json");
    assert_eq!(service("KillMode"), "process");
    assert_eq!(service("LimitCORE"), "0");
    for key in ["NoNewPrivileges", "PrivateTmp", "ProtectHome", "ProtectKernelModules", "RestrictNamespaces"]
    {
        assert_eq!(service(key), "yes", "{key}");
    }
    assert_eq!(service("ProtectSystem"), "strict");
    assert!(!service("CapabilityBoundingSet").contains("SYS_"), "{}", service("CapabilityBoundingSet"));
    let emulator = read("bailey-emulator.service");
    assert!(value(&emulator, "Service", "ExecStart").starts_with("/usr/bin/bailey-emulator start --dir "));
    assert_eq!(value(&emulator, "Service", "NoNewPrivileges"), "yes");
}

#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("NOT RUN: there is no systemd-analyze here");
        return;
    }
    // It wants the programs to be there: copies that name one that is.
    let copies = tempfile::tempdir().unwrap();
    let program = std::fs::canonicalize("/bin/true").unwrap();
    for name in ["bailey-host.service", "bailey-emulator.service"] {
        let text = std::fs::read_to_string(folder().join(name)).unwrap();
        let start = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        let text = text.replace(start, &format!("ExecStart={}", program.display()));
        std::fs::write(copies.path().join(name), text).unwrap();
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(copies.path().join(name))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // Of other units of the machine, which are none of ours, it may say what it likes.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
        assert!(ours.is_empty(), "{said}");
    }
}
