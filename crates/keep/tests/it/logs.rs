//! What reaches the Keep's log, which the host reads: codes for an operator, nothing of the workload's.

use std::{
    collections::BTreeMap,
    future::pending,
    io::{self, Write},
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use attested_tls::clock;
use keep::{
    admission::{Admission, Limits, LogPolicy},
    command::{Ended, run_admitted},
    net::Net,
};
use keep_config::KeepConfig;
use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;
use zeroize::Zeroizing;

use crate::{client::Client, pki::Root, poll, run, running::Running, workloads};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static CAPTURED: LazyLock<()> = LazyLock::new(|| {
    let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(Capture);
    subscriber.with_max_level(tracing::Level::INFO).init();
});

#[derive(Clone)]
struct Capture;

impl Write for Capture {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Capture {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The lines that name `marble`, which only one test uses.
fn lines_of(marble: &str) -> String {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = String::from_utf8_lossy(&lines);
    lines.lines().filter(|line| line.contains(marble)).map(|line| format!("{line}\n")).collect()
}

async fn served(admission: Admission, paths: &[&str]) -> Running {
    LazyLock::force(&CAPTURED);
    let root = Root::new();
    let keep = Running::start(workloads::probe(), admission, root.public("probe")).await;
    for path in paths {
        Client::to(&keep, &root).await.get(path).await;
    }
    keep
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_workload_goes_to_the_host_by_default() {
    let mut admission = Admission { marble: "discreet".into(), ..Admission::default() };
    admission.args.push("canary-argument".into());
    admission.env.insert("KEY".into(), "canary-variable".into());
    admission.files.insert("/key".into(), Zeroizing::new(b"canary-file".to_vec()));
    let paths = [
        "/print?p=canary-output",
        "/panic?p=canary-panic",
        "/fetch?url=http://canary-destination/canary-path",
        "/env?canary-query",
        "/read?p=/key",
    ];
    served(admission, &paths).await.stop().await;
    let log = lines_of("discreet");
    for code in ["SERVING", "WORKLOAD_TRAPPED", "DESTINATION_NOT_ALLOWED", "SERVED"] {
        assert!(log.contains(&format!("\"code\":\"{code}\"")), "{code} is not in {log}");
    }
    assert!(!log.contains("WORKLOAD_METRICS") && !log.contains("output_bytes"), "{log}");
    let all = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(!String::from_utf8_lossy(&all).contains("canary"), "the host can read the workload's data");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workloads_lines_go_to_the_host_where_the_manifest_says_so() {
    let admission = Admission { marble: "talkative".into(), log: LogPolicy::Host, ..Admission::default() };
    let paths = ["/print?p=first%0Aforged%1B[31m", "/fetch?url=http://elsewhere.example/"];
    served(admission, &paths).await.stop().await;
    let log = lines_of("talkative");
    assert!(log.contains("\"code\":\"WORKLOAD_OUTPUT\""), "{log}");
    assert!(log.contains("\"line\":\"first\"") && log.contains("forged"), "{log}");
    assert!(!log.contains('\u{1b}') && !log.contains("\\u001b"), "a terminal can be driven: {log}");
    assert!(log.contains("elsewhere.example"), "{log}");
    // And what was counted, at the end.
    let metrics = log.lines().find(|line| line.contains("\"code\":\"WORKLOAD_METRICS\"")).expect("metrics");
    assert!(metrics.contains("\"requests\":2") && metrics.contains("\"failed\":0"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_used_is_told_at_its_end_to_whom_the_manifest_names() {
    LazyLock::force(&CAPTURED);
    let workload = run::load(&run::module(""));
    for (marble, log) in [("numbered", LogPolicy::Host), ("unheard", LogPolicy::Discard)] {
        let admission = Admission { marble: marble.into(), log, ..Admission::default() };
        let (_identity, current) = watch::channel(Arc::new(Root::new().public(marble)));
        let net = Net::new(&KeepConfig::default(), BTreeMap::new(), current, clock::system()).unwrap();
        let ended = run_admitted(&workload, admission, net, pending()).await.unwrap();
        assert_eq!(ended, Ended::Exit(0));
    }
    let log = lines_of("numbered");
    let [metrics] = log.lines().collect::<Vec<_>>()[..] else { panic!("{log}") };
    for part in ["WORKLOAD_METRICS", "\"cpu_ms\":", "\"memory_bytes\":65536", "\"output_bytes\":0"] {
        assert!(metrics.contains(part), "{metrics}");
    }
    assert!(!metrics.contains("requests"), "it was asked nothing: {metrics}");
    assert_eq!(lines_of("unheard"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_towards_a_peer_has_its_code() {
    let (root, other) = (Root::new(), Root::new());
    let tally = |identity| Running::start(workloads::tally(), poll::tally(None), identity);
    let (strict, stranger) =
        (tally(root.mutual("strict", &other)).await, tally(other.mutual("stranger", &root)).await);
    let away = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut admission = Admission { marble: "caller".into(), ..Admission::default() };
    for (name, address) in [("strict", strict.address), ("stranger", stranger.address), ("away", away)] {
        admission.peers.insert(name.into(), address.to_string());
    }
    LazyLock::force(&CAPTURED);
    let keep = Running::start(workloads::probe(), admission, root.public("probe")).await;
    let mut client = Client::to(&keep, &root).await;
    for peer in ["strict", "stranger", "away"] {
        client.get(&format!("/fetch?url=http://{peer}/")).await;
    }
    let log = lines_of("caller");
    for (code, peer) in [
        ("PEER_REFUSED_US", "strict"),
        ("PEER_CERTIFICATE_INVALID", "stranger"),
        ("PEER_UNREACHABLE", "away"),
    ] {
        let named = |line: &str| line.contains(code) && line.contains(&format!("\"peer\":\"{peer}\""));
        assert!(log.lines().any(named), "{code} for {peer} is not in {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_logged_by_code() {
    let limits = Limits { cpu_ms_per_request: 500, memory_bytes: 8 << 20, ..Limits::default() };
    let admission = Admission { marble: "limited".into(), limits, ..Admission::default() };
    served(admission, &["/spin", "/hog"]).await.stop().await;
    let log = lines_of("limited");
    for code in ["CPU_LIMIT", "MEMORY_LIMIT"] {
        assert!(log.contains(&format!("\"code\":\"{code}\"")), "{code} is not in {log}");
    }
}
