//! What becomes of workloads.

use std::{collections::BTreeMap, time::Duration};

use attested_tls::clock;
use deploy::{Deployment, Silent, Step, Streams, Watcher};
use keep_config::WITHOUT_A_FILE;
use keep_protocol::keep::{Limit, Outcome};
use testkit::tee::NOW;
use tokio::net::TcpStream;

use crate::{
    modules,
    world::{Keep, deploy_to, deployment, run, secrets, wanted},
};

#[tokio::test(flavor = "multi_thread")]
async fn output_and_exit_code_reach_the_caller() {
    let hello = run(&deployment(modules::hello()), b"").await;
    assert_eq!(hello.ran.unwrap().outcome, Outcome::Exit { code: 0 });
    assert_eq!((hello.stdout.as_str(), hello.stderr.as_str()), ("hello\n", ""));

    let failed = run(&deployment(modules::exits(42)), b"").await;
    assert_eq!(failed.ran.unwrap().outcome, Outcome::Exit { code: 42 });
    assert_eq!((failed.stdout.as_str(), failed.stderr.as_str()), ("", "hello\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_reach_the_caller() {
    let trapped = run(&deployment(modules::traps()), b"").await;
    let outcome = trapped.ran.unwrap().outcome;
    assert!(matches!(&outcome, Outcome::Trap { code, .. } if code == "TRAP_UNREACHABLE"), "{outcome:?}");
    assert_eq!(trapped.stdout, "hello\n", "what was printed before the trap is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_streams_in_and_out() {
    let input: &'static [u8] = Vec::leak(b"0123456789abcdef".repeat(64 << 10));
    let came = run(&deployment(modules::cat()), input).await;
    assert_eq!(came.ran.unwrap().outcome, Outcome::Exit { code: 0 });
    assert!(came.stdout.as_bytes() == input, "a mebibyte comes back as it went in");
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_environment_and_secrets_arrive() {
    let mut with = deployment(modules::args());
    with.config = Some(format!("args = [\"configured\"]\n{WITHOUT_A_FILE}"));
    assert_eq!(run(&with, b"").await.stdout, "main.wasm\0configured\0");
    with.args = Some(vec!["--in".into(), "place".into()]);
    assert_eq!(run(&with, b"").await.stdout, "main.wasm\0--in\0place\0");

    let mut with = deployment(modules::environment());
    let variables = "[env]\nMODE = \"a\"\nLEVEL = \"1\"\n[[secrets]]\nname = \"key\"\nenv = \"KEY\"\n";
    with.config = Some(format!("{variables}{WITHOUT_A_FILE}"));
    with.env = BTreeMap::from([("MODE".into(), "b".into())]);
    with.secrets = secrets(&[("key", "hidden")]);
    let came = run(&with, b"").await;
    for variable in ["MODE=b\0", "LEVEL=1\0", "KEY=hidden\0", "FD_COUNT=3\0"] {
        assert!(came.stdout.contains(variable), "{variable} {came:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_end_the_workload_with_their_reason() {
    for (workload, limits, expected) in [
        (modules::spins(), "cpu = \"200ms\"", Limit::Cpu),
        (modules::spins(), "wall = \"200ms\"", Limit::Wall),
        (modules::chatters(), "output = \"64KiB\"", Limit::Output),
    ] {
        let mut with = deployment(workload);
        with.config = Some(format!("[limits]\n{limits}\n{WITHOUT_A_FILE}"));
        let came = run(&with, b"").await;
        let outcome = came.ran.unwrap().outcome;
        assert!(matches!(&outcome, Outcome::Limit { which, .. } if *which == expected), "{outcome:?}");
        assert!(came.stdout.starts_with("hello\n") && came.stdout.len() <= 64 << 10);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_with_its_reason() {
    let config = |text: &str| Deployment { config: Some(text.into()), ..deployment(modules::hello()) };
    let secret = config("[[secrets]]\nname = \"key\"\nenv = \"KEY\"\n");
    let unused = Deployment { secrets: secrets(&[("key", "x")]), ..deployment(modules::hello()) };
    for (deployment, code) in [
        (deployment(b"no module".to_vec()), "WORKLOAD_INVALID"),
        (config("argz = []"), "CONFIG_INVALID"),
        (config("args = ["), "CONFIG_INVALID"),
        (config("peers = [\"tally\"]"), "CONFIG_UNSUPPORTED"),
        (secret, "SECRETS_MISMATCH"),
        (unused, "SECRETS_MISMATCH"),
    ] {
        let came = run(&deployment, b"").await;
        assert_eq!(came.codes()[0], code, "{came:?}");
        assert_eq!(came.stdout, "");
    }
}

/// What a workload does not read does not hold up its client's wish to end it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_does_not_wait_behind_input_that_is_not_read() {
    let keep = Keep::start().await;
    let stream = TcpStream::connect(keep.address).await.unwrap();
    let verified = deploy::verify(stream, clock::fixed(NOW), &wanted(), &mut Silent).await.unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let endless = Box::new(tokio::io::repeat(7));
    let streams = Streams { stdin: endless, stdout: &mut stdout, stderr: &mut stderr };
    let soon = tokio::time::sleep(Duration::from_millis(300));
    let deployment = deployment(modules::spins());
    let ran = deploy::run(verified, &deployment, streams, &mut Silent, soon).await.unwrap();
    assert_eq!(ran.outcome, Outcome::Cancelled {}, "the Keep says so itself");
    keep.served.await.unwrap();
}

/// A workload that never ends is ended by its client's wish, or by its absence.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_workload_ends() {
    let keep = Keep::start().await;
    let stream = TcpStream::connect(keep.address).await.unwrap();
    let verified = deploy::verify(stream, clock::fixed(NOW), &wanted(), &mut Silent).await.unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let streams = Streams { stdin: Box::new(&b""[..]), stdout: &mut stdout, stderr: &mut stderr };
    let soon = tokio::time::sleep(Duration::from_millis(300));
    let deployment = deployment(modules::spins());
    let ran = deploy::run(verified, &deployment, streams, &mut Silent, soon).await.unwrap();
    assert_eq!(ran.outcome, Outcome::Cancelled {});
    keep.served.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_cancels_its_workload() {
    let keep = Keep::start().await;
    let address = keep.address;
    let client = tokio::spawn(async move { deploy_to(address, &deployment(modules::spins()), b"").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!keep.served.is_finished());
    client.abort();
    keep.served.await.unwrap();
}

#[derive(Default)]
struct Steps(Vec<u8>);

impl Watcher for Steps {
    fn step(&mut self, step: Step, _: &str) {
        self.0.push(step.number());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_are_told_in_order() {
    let keep = Keep::start().await;
    let mut steps = Steps::default();
    let stream = TcpStream::connect(keep.address).await.unwrap();
    let verified = deploy::verify(stream, clock::fixed(NOW), &wanted(), &mut steps).await.unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let streams = Streams { stdin: Box::new(&b""[..]), stdout: &mut stdout, stderr: &mut stderr };
    let deployment = deployment(modules::hello());
    deploy::run(verified, &deployment, streams, &mut steps, std::future::pending()).await.unwrap();
    assert_eq!(steps.0, [5, 6, 7, 8, 9, 10]);
}
