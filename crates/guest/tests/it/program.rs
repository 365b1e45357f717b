//! The program itself, outside of a TEE, with the stand-in.

use std::{
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

use crate::fake::Fake;

struct Site {
    fake: Fake,
    folder: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        let site = Self { fake: Fake::start().await, folder: tempfile::tempdir().expect("a folder") };
        site.fake.put("default/password/db", b"open sesame");
        std::fs::write(site.root(), &site.fake.root_pem).expect("written");
        site
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    fn command(&self, command: &str, arguments: &[&str]) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_bailey-guest"));
        program.arg(command).arg("--sample").args(["--broker", &self.fake.url()]);
        program.arg("--broker-root").arg(self.root()).args(arguments).kill_on_drop(true);
        program
    }

    async fn run(&self, command: &str, arguments: &[&str]) -> Output {
        self.command(command, arguments).output().await.expect("started")
    }

    fn start(&self, command: &str, arguments: &[&str]) -> Child {
        self.command(command, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_resource_is_printed_or_written_for_its_owner() {
    let site = Site::new().await;
    let output = site.run("get", &["kbs:///default/password/db"]).await;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "open sesame".into()), "{output:?}");

    let file = site.folder.path().join("secret");
    let output =
        site.run("get", &["kbs:///default/password/db", "--output", file.to_str().expect("text")]).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0), "{output:?}");
    assert_eq!(std::fs::read(&file).expect("written"), b"open sesame");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn failures_have_causes_and_say_what_mends_them() {
    let site = Site::new().await;
    let output = site.run("get", &["kbs:///default/secret-name/none"]).await;
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("error: ") && said.contains("mend:") && said.contains("bailey broker explain"),
        "{said}"
    );
    assert!(!said.contains("secret-name"));

    let mut bare = Command::new(env!("CARGO_BIN_EXE_bailey-guest"));
    let output =
        bare.args(["get", "kbs:///a/b/c", "--broker", &site.fake.url()]).output().await.expect("started");
    let said = text(&output.stderr);
    assert!(said.contains("not inside a TEE") && said.contains("--sample"), "{said}");
    assert_eq!(site.fake.asked("/"), 2 + 1, "without a TEE nobody is asked");
}

#[tokio::test]
async fn a_command_runs_with_secrets_in_files_and_variables_and_its_exit_code_is_ours() {
    let site = Site::new().await;
    let script = "stat -c %a $BAILEY_SECRETS/db/pw $BAILEY_SECRETS; cat $BAILEY_SECRETS/db/pw; echo; echo $DB; \
                  echo $BAILEY_SECRETS; env | cut -d= -f1 | sort | tr '\\n' ' '; exit 37";
    let run = [
        "--file",
        "db/pw=kbs:///default/password/db",
        "--env",
        "DB=kbs:///default/password/db",
        "--keep",
        "KEPT",
    ];
    let mut command = site.command("run", &[&run[..], &["--", "/bin/sh", "-c", script]].concat());
    let output = command
        .env("KEPT", "1")
        .env("LD_PRELOAD_X", "1")
        .env("SECRETIVE", "1")
        .output()
        .await
        .expect("started");
    let said = text(&output.stdout);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..4], ["600", "700", "open sesame", "open sesame"], "{output:?}");
    let folder = PathBuf::from(lines[4]);
    assert!(folder.starts_with("/dev/shm") || folder.starts_with("/run"));
    assert!(!folder.exists(), "the files are gone");
    assert_eq!(lines[5].trim(), "BAILEY_SECRETS DB KEPT PATH PWD", "nothing else is passed on");
    assert_eq!(output.status.code(), Some(37));
}

#[tokio::test]
async fn signals_are_passed_on_and_told() {
    let site = Site::new().await;
    for (script, expected) in [
        ("trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.05; done", 9),
        ("echo ready; kill -TERM $$; sleep 60", 128 + 15),
    ] {
        let mut child = site.start("run", &["--", "/bin/sh", "-c", script]);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert_eq!(lines.next_line().await.expect("read"), Some("ready".into()));
        let pid = rustix::process::Pid::from_raw(child.id().expect("running") as i32).expect("a number");
        if expected == 9 {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
            assert_eq!(lines.next_line().await.expect("read"), Some("caught".into()));
        }
        assert_eq!(child.wait().await.expect("ended").code(), Some(expected));
    }
}

#[tokio::test]
async fn a_signal_before_the_command_runs_leaves_no_file_behind() {
    let site = Site::new().await;
    site.fake.faults("none", [crate::fake::Fault::Silence]);
    let folders = || {
        std::fs::read_dir("/dev/shm")
            .into_iter()
            .flatten()
            .chain(std::fs::read_dir("/run").into_iter().flatten())
    };
    let ours = |pid: u32| {
        let secrets = folders()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(&format!("-{pid}")));
        secrets.count()
    };
    let files = ["--file", "a=kbs:///default/password/db", "--file", "b=kbs:///default/password/none"];
    let mut child = site.start("run", &[&files[..], &["--", "/bin/true"]].concat());
    let number = child.id().expect("running");
    while site.fake.asked("none") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ours(number), 1, "the first secret is there");
    let pid = rustix::process::Pid::from_raw(number as i32).expect("a number");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    assert_eq!(child.wait().await.expect("ended").code(), Some(128 + 15));
    assert_eq!(ours(number), 0, "and is gone");
}

#[tokio::test]
async fn s24_dangerous_names_and_failures_before_the_start_have_codes_of_their_own() {
    let site = Site::new().await;
    for name in ["LD_PRELOAD", "PATH", "BASH_ENV"] {
        let assigned = format!("{name}=kbs:///default/password/db");
        let output = site.run("run", &["--env", &assigned, "--", "/bin/true"]).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains("never set"), "{output:?}");
    }
    assert_eq!(site.fake.asked("/"), 0, "nothing was fetched");
    assert_eq!(site.run("run", &["--", "/no/such/program"]).await.status.code(), Some(127));
    assert_eq!(site.run("run", &["--", "/etc/hostname"]).await.status.code(), Some(126));
    let output = site.run("run", &["--env", "A=kbs:///a/b/none", "--", "/bin/true"]).await;
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    let disk = site.folder.path().join("secret");
    let assigned = format!("{}=kbs:///default/password/db", disk.display());
    let output = site.run("run", &["--file", &assigned, "--", "/bin/true"]).await;
    assert_eq!(output.status.code(), Some(125), "{output:?}");
    assert!(text(&output.stderr).contains("never written to a disk") && !disk.exists(), "{output:?}");
}

#[tokio::test]
async fn the_local_api_is_served_on_loopback_only() {
    let site = Site::new().await;
    let output = site.run("serve", &["--listen", "0.0.0.0:0"]).await;
    assert!(text(&output.stderr).contains("not an address of loopback"), "{output:?}");

    let mut child = site.start("serve", &["--listen", "127.0.0.1:0", "--json"]);
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let ready: serde_json::Value =
        serde_json::from_str(&lines.next_line().await.expect("read").expect("a line")).expect("JSON");
    let mut stream = TcpStream::connect(ready["api"].as_str().expect("an address")).await.expect("connected");
    let request =
        "GET /cdh/resource/default/password/db HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("open sesame"), "{answer}");

    let pid = rustix::process::Pid::from_raw(child.id().expect("running") as i32).expect("a number");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    let ended =
        tokio::time::timeout(Duration::from_secs(20), child.wait()).await.expect("in time").expect("ended");
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn a_sealed_secret_is_opened_from_text_file_and_standard_input() {
    let site = Site::new().await;
    let key = sealed_secret::SigningKey::generate().expect("a key");
    std::fs::write(site.folder.path().join("sealing.jwk"), key.verifying_key().to_jwk()).expect("written");
    let name = "kbs:///default/password/db".parse().expect("a resource");
    let sealed = sealed_secret::vault(&name, &"sealing.jwk".parse().expect("a key"), &key).expect("sealed");
    let keys = site.folder.path().to_str().expect("text").to_owned();
    let file = site.folder.path().join("sealed");
    std::fs::write(&file, format!("{sealed}\n")).expect("written");
    for given in [&sealed, file.to_str().expect("text")] {
        let output = site.run("unseal", &[given, "--sealing-keys", &keys]).await;
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(0), "open sesame".into()),
            "{output:?}"
        );
    }
    let mut child = site.command("unseal", &["-", "--sealing-keys", &keys]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    child.stdin.take().expect("piped").write_all(sealed.as_bytes()).await.expect("sent");
    assert_eq!(text(&child.wait_with_output().await.expect("ended").stdout), "open sesame");

    let old = "sealed.fakejwsheader.e30.fakesignature";
    let output = site.run("unseal", &[old]).await;
    assert!(text(&output.stderr).contains("before they were signed"), "{output:?}");
}
