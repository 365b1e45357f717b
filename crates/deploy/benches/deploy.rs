//! How long a deployment of a hello module to a warm Keep takes, from the first byte to the last, and how much of that
//! is cryptography that no design saves: one TLS 1.3 handshake with keys on both sides, Evidence issued and appraised.
//! Client and Keep are in this process, on one emulated TEE, with the loopback interface between them; both compile
//! nothing twice. `cargo xtask bench deploy`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use appraisal::binding::Role;
use attested_tls::{
    clock,
    direct::{self, Server},
    key::TeeKey,
    launch::DirectConfiguration,
    statement::{Expected, Statement, verifier},
};
use deploy::{Deployment, Step, Streams, Wanted, Watcher};
use evidence::Platform;
use keep::{
    direct::{Door, Waiting},
    runtime::{Pool, Runtime},
};
use testkit::tee::{EmulatedTee, NOW};
use tokio::net::{TcpListener, TcpStream};

const ROUNDS: usize = 60;

const HELLO: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "hello\n")
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 6))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// When each step was done.
#[derive(Default)]
struct Times(Vec<(Step, Instant)>);

impl Watcher for Times {
    fn step(&mut self, step: Step, _: &str) {
        self.0.push((step, Instant::now()));
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

#[tokio::main]
async fn main() {
    let tee = EmulatedTee::launch(Platform::Snp, b"code", &DirectConfiguration { version: 1 }.to_json());
    let wanted = Wanted { policy: testkit::tee::policy(), measurements: vec![tee.reference()] };
    let runtime = Runtime::new(Pool::default()).unwrap();
    let workload = wat::parse_str(HELLO).unwrap();
    let deployment = Deployment { workload: workload.into(), ..Deployment::default() };

    let (mut whole, mut phases) = (Vec::new(), vec![Vec::new(); 7]);
    for _ in 0..ROUNDS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let waiting = Waiting::new(tee.clone(), runtime.clone(), None, clock::fixed(NOW));
        let served = tokio::spawn(waiting.serve(Door::Tcp(listener), std::future::pending()));
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let streams =
            Streams { stdin: Box::new(tokio::io::empty()), stdout: &mut stdout, stderr: &mut stderr };
        let mut times = Times::default();
        let begun = Instant::now();
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let keep = deploy::verify(stream, clock::fixed(NOW), &wanted, &mut times).await.unwrap();
        deploy::run(keep, &deployment, streams, &mut times, std::future::pending()).await.unwrap();
        whole.push(begun.elapsed());
        assert_eq!(stdout, b"hello\n");
        let mut last = begun;
        for (phase, (_, at)) in phases.iter_mut().zip(&times.0) {
            phase.push(at.duration_since(last));
            last = *at;
        }
        served.await.unwrap();
    }

    let raw = raw(&tee, &wanted).await;
    let whole = median(whole);
    let steps = [Step::Secured, Step::Presented, Step::Appraised, Step::Taken, Step::Loaded, Step::Ended];
    println!("deploy/hello, {ROUNDS} times, medians");
    for (step, phase) in steps.into_iter().zip(phases) {
        println!("  {:<34} {:>8.3} ms", step.words(), median(phase));
    }
    println!("  {:<34} {whole:>8.3} ms", "all of it");
    println!("  {:<34} {raw:>8.3} ms", "raw cryptography");
    println!("  {:<34} {:>8.3} ms (at most 10)", "beyond raw cryptography", whole - raw);
}

/// One handshake in memory, one key on each side, Evidence issued and appraised: the same, without anything around it.
async fn raw(tee: &Arc<EmulatedTee>, wanted: &Wanted) -> f64 {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let server = Server { tee: tee.clone(), clock: clock::fixed(NOW), engine: String::new() };
        let begun = Instant::now();
        // Keys and handshake: the connection is given up as soon as it is secured.
        let (near, far) = tokio::io::duplex(64 << 10);
        let (secured, mut told) = tokio::sync::oneshot::channel();
        let mut secured = Some(secured);
        let client = direct::Client { clock: clock::fixed(NOW), verifier: Arc::new(verifier()) };
        let tell = |step| {
            if let (direct::Step::Secured, Some(secured)) = (step, secured.take()) {
                let _ = secured.send(());
            }
        };
        tokio::select! {
            biased;
            _ = &mut told => {}
            _ = direct::connect_telling(near, &client, wanted, tell) => {}
            _ = direct::accept(far, &server, || false) => {}
        }
        let key = TeeKey::generate().unwrap();
        let nonce = [7; 32];
        let statement =
            Statement::issue(tee.as_ref(), Role::DirectKeep, key.digest(), &nonce, Vec::new()).unwrap();
        let expected = Expected {
            role: Role::DirectKeep,
            key: *key.digest(),
            nonce: &nonce,
            measurements: &wanted.measurements,
            policy: &wanted.policy,
            now: NOW,
        };
        statement.appraise(&expected, &verifier()).unwrap();
        times.push(begun.elapsed());
    }
    median(times)
}
