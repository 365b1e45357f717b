//! `bailey image build` and `measure`, on the parts that `cargo xtask tools` makes.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn parts() -> Option<PathBuf> {
    let parts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/vm");
    if parts.join("kernel").is_file() {
        return Some(parts);
    }
    eprintln!("\n*** NOT RUN: no parts of a guest here: cargo xtask tools ***\n");
    None
}

fn bailey(arguments: &[&str]) -> Output {
    Command::new(testkit::binary("bailey")).args(arguments).output().expect("bailey runs")
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A small image, of the first process twice.
fn build(parts: &Path, out: &Path) -> Value {
    let init = testkit::binary("bailey-init").display().to_string();
    let (parts, out) = (parts.display().to_string(), out.display().to_string());
    json(&bailey(&["image", "build", &parts, "--keep", &init, "--init", &init, "--out", &out, "--json"]))
}

#[test]
fn two_images_of_the_same_parts_are_the_same_and_measure_the_same() {
    let Some(parts) = parts() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let built = build(&parts, &first);
    assert_eq!(built, build(&parts, &second));
    // S-31: what is in the image, all of it.
    let known = [
        "bin/bailey-keep",
        "init",
        "lib/ld-linux-x86-64.so.2",
        "lib/libc.so.6",
        "lib/libgcc_s.so.1",
        "lib/modules/00-configfs.ko",
        "lib/modules/01-tsm.ko",
        "lib/modules/02-sev-guest.ko",
        "lib/modules/03-tdx-guest.ko",
        "lib/modules/04-failover.ko",
        "lib/modules/05-net_failover.ko",
        "lib/modules/06-virtio_net.ko",
        "lib/modules/07-virtio_blk.ko",
        "lib/modules/08-qemu_fw_cfg.ko",
        "lib64/ld-linux-x86-64.so.2",
    ];
    let contents: Vec<_> = built["contents"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(contents, known);

    let measure = |image: &Path| json(&bailey(&["image", "measure", &image.display().to_string(), "--json"]));
    let measured = measure(&first);
    assert_eq!(measured, measure(&second));
    let registers = measured["reference_values"][0]["registers"].as_object().unwrap();
    let names: Vec<_> = registers.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["pcr13.sha256", "pcr14.sha256", "pcr15.sha256", "pcr4.sha256", "pcr8.sha256", "pcr9.sha256"]
    );
}

#[test]
fn a_file_of_an_image_that_was_changed_is_refused() {
    let Some(parts) = parts() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    build(&parts, &image);
    let whole = bailey(&["image", "measure", &image.display().to_string()]);
    assert!(whole.status.success(), "{whole:?}");
    for name in ["kernel", "initrd", "cmdline", "image.efi", "disk.img"] {
        let path = image.join(name);
        let before = std::fs::read(&path).unwrap();
        let mut changed = before.clone();
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&path, changed).unwrap();
        let refused = bailey(&["image", "measure", &image.display().to_string()]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("not those of one image"), "{name}: {said}");
        std::fs::write(&path, before).unwrap();
    }
    // And an image is never written over.
    let (parts, out) = (parts.display().to_string(), image.display().to_string());
    assert_eq!(bailey(&["image", "build", &parts, "--out", &out]).status.code(), Some(2));
}
