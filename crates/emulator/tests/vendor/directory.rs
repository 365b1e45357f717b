//! What is left in the platform's directory, and what happens when somebody else was there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use emulator::vendor::{Platform, PlatformError, PlatformOptions, TcbSetting};
use evidence::Platform as Kind;
use tempfile::TempDir;
use time::Duration;

use crate::{NOW, code};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("present").permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permission to");
}

/// One platform for all that re-opening must show, because it is slow to create.
#[test]
fn reopening_gives_the_same_platform_and_creation_leaves_nothing_open() {
    let parent = TempDir::new().expect("a directory");
    let directory = parent.path().join("platform");
    let created = Platform::open(&directory, NOW).expect("created");

    assert_eq!(mode(&directory), 0o700);
    for entry in fs::read_dir(&directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
    let pem = fs::read(directory.join("roots/sgx-root.pem")).expect("the SGX root");
    assert_eq!(evidence::pem::certificates(&pem), Ok(vec![created.roots().intel]));
    let pem = fs::read(directory.join("roots/ark.pem")).expect("the ARK");
    assert_eq!(evidence::pem::certificates(&pem), Ok(vec![created.roots().amd]));

    // A crash while a renewal was written, and a roots directory that somebody tidied away.
    fs::write(directory.join("platform.json.new"), b"{\"layo").expect("written");
    chmod(&directory.join("platform.json.new"), 0o644);
    fs::remove_dir_all(directory.join("roots")).expect("removed");
    let reopened = Platform::open(&directory, NOW + Duration::days(1)).expect("reopened");
    assert_eq!(reopened.roots(), created.roots());
    assert_eq!(reopened.chip_id(), created.chip_id());
    assert!(directory.join("roots/ark.pem").exists());
    for kind in Kind::KEEPS {
        assert_eq!(reopened.endorsements(kind), created.endorsements(kind), "not renewed too early");
        let key =
            |platform: &Platform| *platform.sealing_key(kind, &code(kind), b"", "state").expect("a key");
        assert_eq!(key(&reopened), key(&created));
    }

    let renewed = Platform::open(&directory, NOW + Duration::days(24)).expect("reopened");
    assert_eq!(renewed.roots(), created.roots());
    for kind in Kind::KEEPS {
        assert_ne!(renewed.endorsements(kind), created.endorsements(kind), "less than a week was left");
    }
    assert!(!directory.join("platform.json.new").exists());
    let again = Platform::open(&directory, NOW + Duration::days(24)).expect("reopened");
    assert_eq!(again.endorsements(Kind::Snp), renewed.endorsements(Kind::Snp), "the renewal was stored");

    let earlier = Platform::open(&directory, NOW).expect("reopened");
    assert_ne!(earlier.endorsements(Kind::Snp), renewed.endorsements(Kind::Snp), "those are not valid yet");

    let options = PlatformOptions { tcb: TcbSetting::Outdated, ..PlatformOptions::default() };
    let refused = Platform::open_with(&directory, &options, NOW);
    assert!(matches!(refused, Err(PlatformError::OtherOptions { .. })));

    let file = directory.join("platform.json");
    chmod(&file, 0o640);
    assert!(matches!(Platform::open(&directory, NOW), Err(PlatformError::Exposed { mode: 0o640, .. })));
    chmod(&file, 0o600);
    let text = fs::read_to_string(&file).expect("text");
    for damaged in [&text[..text.len() / 2], &text.replace("platform/1", "platform/2"), ""] {
        fs::write(&file, damaged).expect("written");
        let refused = Platform::open(&directory, NOW);
        assert!(matches!(refused, Err(PlatformError::Damaged { .. })));
        assert_eq!(fs::read_to_string(&file).expect("text"), damaged, "kept for its owner to look at");
    }
}

#[test]
fn a_creation_that_was_cut_off_starts_again() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("platform.json.new"), b"{\"layout\":\"bailey/emul").expect("written");
    let platform = Platform::open(directory.path(), NOW).expect("created");
    assert!(!directory.path().join("platform.json.new").exists());
    assert_eq!(mode(&directory.path().join("platform.json")), 0o600);
    let reopened = Platform::open(directory.path(), NOW).expect("reopened");
    assert_eq!(reopened.roots(), platform.roots());
}

#[test]
fn a_directory_that_others_may_write_is_refused() {
    let directory = TempDir::new().expect("a directory");
    chmod(directory.path(), 0o777);
    let refused = Platform::open(directory.path(), NOW);
    assert!(matches!(refused, Err(PlatformError::Exposed { required: 0o700, .. })));
    assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 0);
}
