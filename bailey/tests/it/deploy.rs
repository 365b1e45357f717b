//! `bailey deploy` and `bailey run`: what is said before anything is sent, and what comes back.

use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{bailey, text};

const HEAD: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 1024))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"#;

/// Prints the first of its input, and then ends like this.
fn module(folder: &Path, end: &str) -> String {
    let path = folder.join("app.wasm");
    std::fs::write(&path, wat::parse_str(format!("{HEAD} {end}))")).unwrap()).unwrap();
    path.display().to_string()
}

#[test]
fn what_cannot_be_deployed_is_said_before_a_host_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let app = module(folder.path(), "");
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let (wrong, empty) = (file("Keep.toml", "argz = []"), file("empty.wasm", ""));
    let written = file("text.wat", "(module)");
    let host = "https://127.0.0.1:1";
    for arguments in [
        &["deploy", &app, "--host", "localhost"][..],
        &["deploy", "/missing.wasm", "--host", host],
        &["deploy", &empty, "--host", host],
        &["deploy", &written, "--host", host],
        &["deploy", &app, "--host", host, "--config", &wrong],
        &["deploy", &app, "--host", host, "--env", "A=1", "--env", "A=2"],
        &["deploy", &app, "--host", host, "--env", "A"],
        &["deploy", &app, "--host", host, "--policy", &wrong],
        &["deploy", &app, "--host", host, "--token", &wrong],
        &["run", &app, "--config", &wrong],
    ] {
        let output = bailey(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
    let said = text(&bailey(&["run", &app, "--config", &wrong]).stderr);
    assert!(said.contains("argz"), "{said}");
    let said = text(&bailey(&["run", &written]).stderr);
    assert!(said.contains("is no WebAssembly") && said.contains("wat2wasm"), "{said}");
}

/// The policy for production and reference values that no hardware has: there is nothing to ask for.
#[test]
fn a_keep_that_cannot_be_accepted_is_not_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none.json");
    std::fs::write(&none, r#"{"reference_values": []}"#).unwrap();
    let app = module(folder.path(), "");
    let none = none.display().to_string();
    let output = bailey(&["deploy", &app, "--host", "https://127.0.0.1:1", "--reference", &none]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--reference"), "{}", text(&output.stderr));
}

/// Whether the programs of a Keep are beside ours, where `bailey run` looks for them.
fn keep_is_built() -> bool {
    let folder = Path::new(env!("CARGO_BIN_EXE_bailey")).parent().unwrap();
    let built = ["bailey-keep", "bailey-emulator"].iter().all(|name| folder.join(name).is_file());
    if !built {
        println!("NOT RUN: bailey-keep and bailey-emulator are not built: cargo build --workspace");
    }
    built
}

fn run(folder: &Path, end: &str, more: &[&str]) -> Output {
    let app = module(folder, end);
    let mut child = Command::new(env!("CARGO_BIN_EXE_bailey"))
        .args(["run", &app])
        .args(more)
        .env("XDG_DATA_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("data"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from here\n").unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_program_runs_in_a_keep_on_this_machine() {
    if !keep_is_built() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), "(call $exit (i32.const 42))", &[]);
    assert_eq!(output.status.code(), Some(42), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "from here\n");
    assert!(text(&output.stderr).contains("EMULATED: "), "{}", text(&output.stderr));

    let output = run(folder.path(), "(unreachable)", &["--verbose"]);
    assert_eq!(output.status.code(), Some(134), "{}", text(&output.stderr));
    let told = text(&output.stderr);
    assert!(told.contains("TRAP_UNREACHABLE") && told.contains("10 "), "{told}");

    let output = run(folder.path(), "", &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let events: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert_eq!(of("step").len(), 10);
    assert_eq!(of("verified")[0]["emulated"], true);
    assert_eq!(of("stdout")[0]["text"], "from here\n");
    assert_eq!(of("ended")[0]["outcome"]["exit"], 0);
}

/// Appends the first of its input to `/data/journal`, and prints all of it.
const JOURNAL: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pread" (func $pread (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 32) "data/journal")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 1024))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4)))
        (if (call $open (i32.const 3) (i32.const 0) (i32.const 32) (i32.const 12) (i32.const 1) (i64.const 0x42)
                (i64.const 0) (i32.const 1) (i32.const 16))
            (then (call $exit (i32.const 9))))
        (drop (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 4) (i32.const 8192))
        (drop (call $pread (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i64.const 0) (i32.const 4)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

const VOLUME: &str = "[[files]]\nkind = \"stdin\"\n[[files]]\nkind = \"stdout\"\n[[files]]\nkind = \"stderr\"\n\
    [[volumes]]\nname = \"data\"\npath = \"/data\"\nsize = \"1MiB\"\n";

/// Volumes of `bailey run` outlive the Keep and its host; an old copy of them is refused by what this user holds.
#[test]
fn a_volume_outlives_its_keep_and_an_old_copy_is_refused() {
    if !keep_is_built() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("journal.wasm"), wat::parse_str(JOURNAL).unwrap()).unwrap();
    std::fs::write(at("Keep.toml"), VOLUME).unwrap();
    let volume = format!("data={}", at("data.key"));
    let run = |input: &str, volume: &str| {
        std::fs::write(at("input"), input).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bailey"));
        command.args(["run", &at("journal.wasm"), "--config", &at("Keep.toml"), "--input", &at("input")]);
        if !volume.is_empty() {
            command.args(["--volume", volume]);
        }
        command.env("XDG_DATA_HOME", at("home")).output().unwrap()
    };
    let unnamed = run("", "");
    assert_eq!(unnamed.status.code(), Some(2));
    assert!(text(&unnamed.stderr).contains("--volume data=FILE"), "{}", text(&unnamed.stderr));

    let first = run("one\n", &volume);
    assert_eq!(
        (first.status.code(), text(&first.stdout)),
        (Some(0), "one\n".to_owned()),
        "{}",
        text(&first.stderr)
    );
    let stored = folder.path().join("home/bailey/machine/volumes");
    let old = folder.path().join("old");
    let copied = Command::new("cp").args(["-r"]).arg(&stored).arg(&old).status().unwrap();
    assert!(copied.success());
    let second = run("two\n", &volume);
    assert_eq!(text(&second.stdout), "one\ntwo\n", "{}", text(&second.stderr));

    std::fs::remove_dir_all(&stored).unwrap();
    std::fs::rename(&old, &stored).unwrap();
    let refused = run("three\n", &volume);
    let said = text(&refused.stderr);
    assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), String::new()), "{said}");
    assert!(said.contains("VOLUME_ROLLED_BACK") && said.contains("older copy"), "{said}");
}

/// A package in the place of a file: named by its digest, or by a tag and whose signature counts.
#[test]
fn a_package_is_deployed_by_its_digest_or_its_signer() {
    use rcgen::{KeyPair, PKCS_ED25519};
    use testkit::registry::{Registry, USER};

    if !keep_is_built() {
        return;
    }
    let Some(registry) = Registry::private() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let app = module(folder.path(), "(call $exit (i32.const 7))");
    let (root, password) =
        (file("root.pem", registry.root_pem.as_bytes()), file("password", USER.1.as_bytes()));
    let access = ["--root-ca", &root, "--username", USER.0, "--password-file", &password];
    let [pair, other] = [(); 2].map(|()| KeyPair::generate_for(&PKCS_ED25519).unwrap());
    let key = file("key.pem", pair.serialize_pem().as_bytes());
    let (public, stranger) = (
        file("key.pub", pair.public_key_pem().as_bytes()),
        file("other.pub", other.public_key_pem().as_bytes()),
    );
    let tagged = format!("{}/team/job:1.0.0", registry.host);
    let pushed = bailey(&[&["package", "push", &app, &tagged], &access[..]].concat());
    let package = text(&pushed.stdout).trim().to_owned();
    assert!(bailey(&[&["package", "sign", &package, "--key", &key], &access[..]].concat()).status.success());

    let input = file("input", b"from here\n");
    let run = |what: &str, more: &[&str]| {
        let words = [&["run", what, "--input", &input], &access[..], more].concat();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bailey"));
        command.args(words).env("XDG_DATA_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("data"));
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, said) = run(&tagged, &[]);
    assert_eq!(code, Some(2), "a tag says nothing: {said}");
    let (code, _, said) = run(&tagged, &["--signer", &stranger]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("SIGNER_UNKNOWN"), "{said}");
    let here = "fetched here, and sent to the Keep";
    for (what, more, signed) in [
        (&tagged, &["--signer", &public][..], "version 1.0.0, signed by"),
        (&package, &[], "nobody's signature was asked for; fetched and verified by the Keep"),
        (&tagged, &["--signer", &public, "--fetch-here"], here),
    ] {
        let (code, printed, said) = run(what, more);
        assert_eq!((code, printed.as_str()), (Some(7), "from here\n"), "{said}");
        assert!(said.contains(signed), "{said}");
    }

    // The key of an encrypted package stays here.
    let kek = file("kek", &[7; 32]);
    let sealed = format!("{}/team/job:2.0.0", registry.host);
    let key = ["--encryption-key", "kbs:///default/key/job", "--key-file", &kek];
    let pushed = bailey(&[&["package", "push", &app, &sealed], &access[..], &key].concat());
    let sealed = text(&pushed.stdout).trim().to_owned();
    let (code, _, said) = run(&sealed, &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("WORKLOAD_KEY_NOT_OPENED") && said.contains("--key-file"), "{said}");
    let (code, printed, said) = run(&sealed, &["--key-file", &kek]);
    assert_eq!((code, printed.as_str()), (Some(7), "from here\n"), "{said}");
}
