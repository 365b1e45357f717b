//! The story with all its checks, as `cargo xtask demo --check` runs it.

use std::{path::Path, process::Command};

#[test]
fn every_check_passes_and_nothing_is_left_behind() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for name in ["bailey", "bailey-emulator", "bailey-coordinator", "bailey-keep"] {
        testkit::binary(name);
    }
    testkit::workloads();
    let temporary = tempfile::tempdir().expect("a folder");
    let screenshot = temporary.path().join("poll.png");
    let output = Command::new(testkit::binary("bailey-demo"))
        .arg(root.join("examples/poll"))
        .args(["--check", "--screenshot"])
        .arg(&screenshot)
        .env("TMPDIR", temporary.path())
        .output()
        .expect("the demo runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complaints}");
    let last = said.lines().last().unwrap_or_default();
    assert!(last.starts_with("demo: ") && last.ends_with(" checks passed, 0 failed"), "{last}");
    let left: Vec<_> = std::fs::read_dir(temporary.path())
        .expect("the folder")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| name.starts_with("bailey-"))
        .collect();
    assert_eq!(left, [""; 0], "the demo left something behind");
}
