//! `bailey guest` and `bailey secret seal`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use sealed_secret::{KeyId, Sealed, Secret, VerifyingKey};

use crate::{bailey, text};

/// This program, in a folder of its own: what lies beside it is the test's.
fn alone() -> (tempfile::TempDir, std::path::PathBuf) {
    let program = Path::new(env!("CARGO_BIN_EXE_bailey"));
    let folder = tempfile::tempdir_in(program.parent().expect("a folder")).expect("a folder");
    let linked = folder.path().join("bailey");
    fs::hard_link(program, &linked).expect("linked");
    (folder, linked)
}

#[test]
fn bailey_guest_is_the_program_beside_it_and_no_other() {
    let (folder, program) = alone();
    let beside = folder.path().join("bailey-guest");
    let elsewhere = tempfile::tempdir().expect("a folder");
    let script = "#!/bin/sh\necho \"$@\"\nexit 41\n";
    let place = |path: &Path| {
        fs::write(path, script).expect("written");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
    };
    place(&elsewhere.path().join("bailey-guest"));
    let run = || {
        let mut command = Command::new(&program);
        command.args(["guest", "run", "--env", "A=kbs:///a/b/c", "--", "x", "--help"]);
        command.env("PATH", elsewhere.path()).output().expect("started")
    };
    let output = run();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{output:?}");
    assert!(text(&output.stderr).contains("belongs beside it"), "{output:?}");
    place(&beside);
    let output = run();
    assert_eq!(output.status.code(), Some(41));
    assert_eq!(text(&output.stdout), "run --env A=kbs:///a/b/c -- x --help\n");
}

#[test]
fn people_seal_secrets_that_verify() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (key, jwk, kek, file) = (path("sealing.key"), path("sealing.jwk"), path("kek"), path("secret"));
    fs::write(&kek, [7; 32]).expect("written");
    fs::write(&file, "open sesame").expect("written");
    let signer = ["--signing-key", &key, "--kid", "kbs:///default/key/sealing", "--jwk", &jwk];

    let seal = |kind: &[&str]| bailey(&[&["secret", "seal"], kind, &signer].concat());
    let open = |text: &str| {
        let sealed = Sealed::parse(text).expect("sealed");
        assert_eq!(sealed.key_id(), &"kbs:///default/key/sealing".parse::<KeyId>().expect("a key"));
        let jwk = VerifyingKey::from_jwk(&fs::read(&jwk).expect("written")).expect("a key");
        sealed.verify(&jwk).expect("signed")
    };
    let vault = seal(&["vault", "--resource", "kbs:///default/password/db"]);
    assert_eq!(vault.status.code(), Some(0), "{vault:?}");
    assert_eq!(
        open(&text(&vault.stdout)),
        Secret::Vault("kbs:///default/password/db".parse().expect("a resource"))
    );
    assert_eq!(fs::metadata(&key).expect("made").permissions().mode() & 0o777, 0o600);

    let envelope = ["envelope", "--file", &file, "--key-resource", "kbs:///default/kek/1", "--key-file"];
    let output = seal(&[&envelope[..], &[&kek]].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let Secret::Envelope(opened) = open(&text(&output.stdout)) else { panic!("an envelope") };
    assert_eq!(opened.open(&[7; 32]).expect("opened").as_slice(), b"open sesame");

    let output = seal(&[&envelope[..], &[&file]].concat());
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("11 bytes, and a key has 32"), "{output:?}");
}
