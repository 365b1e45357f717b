//! `bailey host`: an agent without a platform, which shows what an operator sees when nothing works, and what a client is told.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{bailey, text};

/// An agent that ends with the test.
pub struct Agent(Child);

impl Agent {
    /// Starts one, and says where its API listens.
    pub fn start(folder: &Path, config: &Value) -> (Self, String) {
        let file = folder.join("host.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_bailey"))
            .args(["host", "start", "--supervised", "--config"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            said.push_str(&line);
            let line: Value = serde_json::from_str(&line).ok()?;
            (line["message"] == "the API listens").then(|| line["address"].as_str().unwrap().to_owned())
        });
        // What it says from here on is read and thrown away, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        (Self(child), address.unwrap_or_else(|| panic!("no agent: {said}")))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = bailey(arguments);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_operator_sees_why_nothing_runs_and_a_client_what_is_offered() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let directory = path("host");
    let here = |more: &[&str]| said(&[&["host"][..], more, &["--directory", &directory]].concat());

    let (code, _, error) = here(&["list"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("no host agent answers at") && error.contains("hint:  is it running?"), "{error}");

    let (_, token, _) = said(&["host", "token"]);
    let word = |line: usize| token.lines().nth(line).unwrap().split_whitespace().nth(1).unwrap().to_owned();
    let mut config = json!({
        "directory": "host",
        "backends": [{"process": {
            "name": "emulated", "platform": "nowhere", "capacity": 8,
            "keep": {"executable": env!("CARGO_BIN_EXE_bailey")},
        }}],
        "api": {"listen": "127.0.0.1:0"},
        "tenants": [{"name": "acme", "tokens": [word(1)], "quota": {"keeps": 2}}],
        "keeps": {"warm": 0},
        "processes": [
            {"name": "service", "platform": "snp", "executable": env!("CARGO_BIN_EXE_bailey")},
            {"name": "task", "platform": "snp", "executable": env!("CARGO_BIN_EXE_bailey"), "restart": "never"},
        ],
    });
    let (_agent, address) = Agent::start(folder.path(), &config);
    let url = format!("https://{}", address.replace("127.0.0.1", "localhost"));

    // The processes are tried at once, and again and again; one of them is not.
    let list = loop {
        let (code, list, error) = here(&["list"]);
        assert_eq!(code, Some(0), "{error}");
        if list.contains("to be launched") && list.contains("stopped") {
            break list;
        }
    };
    assert!(list.starts_with("bailey-host/"), "{list}");
    assert!(
        list.contains("  emulated  process  ") && list.contains("8 of 8 places free, 0 warm\n"),
        "{list}"
    );
    assert!(list.contains("Keeps: none\nprocesses\n  service  snp  to be launched "), "{list}");
    assert_eq!(list.matches("not launched: no emulated platform answers").count(), 2, "{list}");
    let (_, listed, _) = here(&["list", "--json"]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(
        (&listed["host"]["draining"], &listed["processes"][1]["state"]),
        (&json!(false), &json!("stopped"))
    );

    let (_, inspection, _) = here(&["inspect", "task"]);
    assert!(inspection.contains("\nconfiguration  none\n") && inspection.contains("\nlimits         none\n"));
    let (code, _, error) = here(&["inspect", "nobody"]);
    assert_eq!((code, error.as_str()), (Some(1), "error: there is no process nobody [NO_SUCH_PROCESS]\n"));
    let (_, log, _) = here(&["logs", "task"]);
    assert!(log.contains("ended: not launched: no emulated platform answers"), "{log}");

    // A client: without a token, with a wrong one, with the right one.
    for (name, content) in [("right", word(0)), ("wrong", "wrong".to_owned())] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let ca = path("host/api.crt");
    let (code, _, error) = said(&["host", "list", "--host", &url]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("[UNAUTHORISED]") && error.contains("hint:  --token FILE"), "{error}");
    let (code, _, error) =
        said(&["host", "list", "--host", &url, "--host-ca", &ca, "--token", &path("wrong")]);
    assert!(code == Some(1) && error.contains("[UNAUTHORISED]"), "{error}");
    let right = path("right");
    let with = ["--host", url.as_str(), "--host-ca", &ca, "--token", &right];
    let (code, offered, error) = said(&[&["host", "list"][..], &with].concat());
    assert_eq!(code, Some(0), "{error}");
    assert!(
        offered.contains("8 places free, 0 warm\n") && offered.ends_with("your Keeps: none\n"),
        "{offered}"
    );

    // What the operator has to look into, a client only hears that there is something.
    let app = path("app.wasm");
    std::fs::write(&app, wat::parse_str(r#"(module (func (export "_start")))"#).unwrap()).unwrap();
    let root = path("root.pem");
    let key = rcgen::KeyPair::generate().unwrap();
    let mut certificate = rcgen::CertificateParams::default();
    certificate.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = certificate.self_signed(&key).unwrap();
    std::fs::write(&root, certificate.pem()).unwrap();
    let keep = env!("CARGO_BIN_EXE_bailey");
    let reference = path("reference.json");
    std::fs::write(&reference, said(&["measure", keep]).1).unwrap();
    let deploy = [&["deploy", &app, "--reference", &reference][..], &with].concat();
    let (code, _, error) = said(&deploy);
    assert!(code == Some(1) && error.contains("[NO_SUCH_TEE]") && error.contains("(emulated)"), "{error}");
    let (code, _, error) = said(&[&deploy[..], &["--emulated-root", &root]].concat());
    assert!(code == Some(1) && error.contains("[LAUNCH_FAILED]"), "{error}");
    assert!(!error.contains("nowhere"), "no file of the host's: {error}");
    let (_, list, _) = here(&["list"]);
    assert!(list.contains("the last launch failed: not launched: no emulated"), "{list}");

    assert_eq!(here(&["drain", "--json"]).1, "{\n  \"draining\": true,\n  \"keeps\": 0\n}\n");
    assert!(here(&["list"]).1.contains(", draining: it takes no new Keeps\n"));
    let (code, _, error) = said(&[&deploy[..], &["--emulated-root", &root]].concat());
    assert!(code == Some(1) && error.contains("[DRAINING]") && error.contains("try another host"), "{error}");

    // Once `stop` is done the place is free for the next, with the same port.
    assert_eq!(here(&["stop"]), (Some(0), String::new(), String::new()));
    config["api"]["listen"] = json!(address);
    let (_next, same) = Agent::start(folder.path(), &config);
    assert_eq!(same, address);
}
