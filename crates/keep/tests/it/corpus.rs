//! Hostile workloads, each through the Keep while a good one runs beside it in the same engine: the caller is told what
//! happened, in bounded time, and the good one does its work.

use std::{sync::Arc, time::Duration};

use attested_tls::clock;
use keep::{
    command::{self, Ended, Stdio},
    net::Net,
    runtime::{Pool, Runtime},
    world::{Given, World},
};
use keep_config::KeepConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpListener,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    calls,
    filter::{copying, echo},
    net::within,
    pki::Root,
    run::{self, Run, load},
};

/// What a workload does to the limits, and what ends it.
const LIMITS: &str = r#"
[[files]]
kind = "stdin"
[[files]]
kind = "stdout"
[[files]]
kind = "stderr"
[limits]
memory = "16MiB"
cpu = "300ms"
output = "1MiB"
"#;

/// For those that use no processor time.
const PATIENCE: &str = "wall = \"500ms\"\n";

/// The workload beside a good one. The code with which it was refused or ended; none: it ended by itself.
async fn beside_a_good_one(bytes: Vec<u8>) -> Option<&'static str> {
    limited_beside_a_good_one(bytes, "").await
}

async fn limited_beside_a_good_one(bytes: Vec<u8>, more: &'static str) -> Option<&'static str> {
    let good = load(&echo());
    let input: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let begun = tokio::spawn(Run::of_workload(good.clone()).input(&input).output());
    let outcome = timeout(Duration::from_secs(60), async {
        let loaded = tokio::task::spawn_blocking(move || run::runtime().load(&bytes, None)).await.unwrap();
        match loaded {
            Err(refused) => Some(refused.code()),
            Ok(hostile) => Run::of_workload(hostile).config(LIMITS).more(more).ended().await.code(),
        }
    });
    let outcome = outcome.await.expect("it was neither refused nor ended");
    // One that was there before, and one that comes after.
    let before = begun.await.unwrap();
    let after = Run::of_workload(good).input(&input).output().await;
    for (ended, output) in [before, after] {
        assert_eq!(ended, Ended::Exit(0));
        assert!(output == input, "the good workload's output was damaged");
    }
    outcome
}

async fn text(text: &str) -> Option<&'static str> {
    beside_a_good_one(wat::parse_str(text).unwrap()).await
}

/// An unsigned number in a module's binary form.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(content.len()), content].concat()
}

/// A module whose `_start` has this body, without the `end`.
fn module_of(locals: &[u8], body: &[u8]) -> Vec<u8> {
    let body = [locals, body, &[0x0b]].concat();
    let code = [&[1][..], &leb(body.len()), &body].concat();
    [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[1, 0]),
        section(7, &[&[1, 6][..], b"_start", &[0, 0]].concat()),
        section(10, &code),
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_workload_is_refused() {
    let good = wat::parse_str(echo()).unwrap();
    let mut cases: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0asm".to_vec(),
        b"\0asm\x02\0\0\0".to_vec(),
        b"\x7fELF\x02\x01\x01\0".repeat(64),
        good[..good.len() - 1].to_vec(),
        // A section that claims to be larger than the file.
        [b"\0asm\x01\0\0\0".as_slice(), &[1, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat(),
        // Four thousand million functions, types, table entries, in a few bytes.
        [b"\0asm\x01\0\0\0".as_slice(), &section(3, &leb(u32::MAX as usize))].concat(),
        [b"\0asm\x01\0\0\0".as_slice(), &section(1, &leb(u32::MAX as usize))].concat(),
        // More locals than a function may have: 4 thousand million in eight bytes.
        module_of(&[&[1][..], &leb(u32::MAX as usize), &[0x7f]].concat(), &[]),
    ];
    for text in [
        "(module (memory i64 1) (func (export \"_start\")))",
        "(module (memory 1 1 shared) (func (export \"_start\")))",
        "(module (table 4000000000 funcref) (func (export \"_start\")))",
        "(module (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1)
            (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1) (memory 1)
            (func (export \"_start\")))",
    ] {
        cases.push(wat::parse_str(text).unwrap());
    }
    for (number, bytes) in cases.into_iter().enumerate() {
        assert_eq!(beside_a_good_one(bytes).await, Some("WORKLOAD_INVALID"), "case {number}");
    }
    assert_eq!(beside_a_good_one(vec![0; (64 << 20) + 1]).await, Some("WORKLOAD_TOO_LARGE"));
    let stranger = r#"(module (import "env" "system" (func (param i32))) (func (export "_start")))"#;
    assert_eq!(text(stranger).await, Some("WORKLOAD_IMPORT_UNKNOWN"));
}

/// Neither parser nor compiler goes as deep as the workload does.
#[tokio::test(flavor = "multi_thread")]
async fn deep_nesting_is_refused_or_harmless() {
    const BLOCK: [u8; 2] = [0x02, 0x40];
    for depth in [1_000, 50_000] {
        let body = [BLOCK.repeat(depth), vec![0x0b; depth]].concat();
        let outcome = beside_a_good_one(module_of(&[0], &body)).await;
        assert!(matches!(outcome, None | Some("WORKLOAD_INVALID")), "{depth}: {outcome:?}");
    }
    // Components within components, from the inside out.
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    let mut nested = COMPONENT.to_vec();
    for _ in 0..2_000 {
        nested = [COMPONENT.to_vec(), section(4, &nested)].concat();
    }
    let outcome = beside_a_good_one(nested).await;
    assert!(matches!(outcome, Some("WORKLOAD_INVALID" | "WORKLOAD_WITHOUT_ENTRY")), "{outcome:?}");
}

/// Each level instantiates ten of the next: a thousand million instances in half a kilobyte.
#[tokio::test(flavor = "multi_thread")]
async fn instances_that_multiply_are_refused() {
    let mut inner = "(core module $m (memory 1)) (core instance (instantiate $m))".to_owned();
    for _ in 0..8 {
        inner = format!("(component $c {inner}) {}", "(instance (instantiate $c))".repeat(10));
    }
    let run = r#"(core module $r (func (export "run") (result i32) i32.const 0))
        (core instance $i (instantiate $r))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $inst (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $inst))"#;
    let outcome = text(&format!("(component {inner} {run})")).await;
    assert!(matches!(outcome, Some("WORKLOAD_INVALID" | "WORKLOAD_NOT_INSTANTIATED")), "{outcome:?}");
    let many = "(core instance (instantiate $m))".repeat(300);
    let outcome = text(&format!("(component (core module $m (memory 1)) {many} {run})")).await;
    assert!(matches!(outcome, Some("WORKLOAD_INVALID" | "WORKLOAD_NOT_INSTANTIATED")), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_ends_is_ended_with_its_reason() {
    let start = "(module (func $s (loop (br 0))) (start $s) (func (export \"_start\")))";
    assert_eq!(text(start).await, Some("CPU_LIMIT"));
    assert_eq!(text("(module (func (export \"_start\") (loop (br 0))))").await, Some("CPU_LIMIT"));
    let sleeper = calls::module(
        r#"(func (export "_start")
               (loop $again
                   (i32.store8 (i32.const 8) (i32.const 0))
                   (i32.store (i32.const 16) (i32.const 1))
                   (i64.store (i32.const 24) (i64.const 0x7fffffffffffffff))
                   (drop (call $poll_oneoff (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)))
                   (br $again)))"#,
    );
    let sleeper = wat::parse_str(sleeper).unwrap();
    assert_eq!(limited_beside_a_good_one(sleeper, PATIENCE).await, Some("TIME_LIMIT"));
    let calling =
        calls::module(r#"(func (export "_start") (loop $again (drop (call $sched_yield)) (br $again)))"#);
    assert_eq!(text(&calling).await, Some("CPU_LIMIT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_all_it_can_is_ended_with_its_reason() {
    let flood = calls::module(
        r#"(func (export "_start")
               (i32.store (i32.const 0) (i32.const 0)) (i32.store (i32.const 4) (i32.const 65536))
               (loop $again
                   (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
                   (br $again)))"#,
    );
    assert_eq!(text(&flood).await, Some("OUTPUT_LIMIT"));
    let growing =
        "(module (memory 1) (func (export \"_start\") (loop (drop (memory.grow (i32.const 1))) (br 0))))";
    assert_eq!(text(growing).await, Some("MEMORY_LIMIT"));
    let greedy = "(module (memory 60000) (func (export \"_start\")))";
    assert_eq!(text(greedy).await, Some("MEMORY_LIMIT"));
    let deep = "(module (func $f (export \"_start\") (call $f) (call $f)))";
    assert_eq!(text(deep).await, Some("TRAP_STACK_OVERFLOW"));
    // A table that grows until it may not, and then says so.
    let tables = r#"(module (table 1 funcref) (func (export "_start")
        (loop (br_if 0 (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1))))))"#;
    assert_eq!(text(tables).await, None);
}

/// Forty of them at once, and each is told the same.
#[tokio::test(flavor = "multi_thread")]
async fn many_hostile_ones_at_once_harm_nobody() {
    let hostile = load(
        "(module (memory 1) (func (export \"_start\") (loop (drop (memory.grow (i32.const 1))) (br 0))))",
    );
    let runs: Vec<_> =
        (0..40).map(|_| tokio::spawn(Run::of_workload(hostile.clone()).config(LIMITS).ended())).collect();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(text("(module (func (export \"_start\")))").await, None);
    for run in runs {
        assert_eq!(run.await.unwrap().code(), Some("MEMORY_LIMIT"));
    }
}

/// A peer that is gone in the middle of its stream: the program's call fails, and it is not told that this was the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_dies_is_an_error_of_the_call() {
    let root = Root::new();
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = format!(
        "[[files]]\nkind = \"stdin\"\n[[files]]\nkind = \"stdout\"\n[[files]]\nkind = \"connect\"\nprot = \"tls\"\n\
         host = \"localhost\"\nport = {}\nroots = \"ours\"\n[roots]\nours = \"\"\"{}\"\"\"",
        server.local_addr().unwrap().port(),
        root.pem()
    );
    let parsed = KeepConfig::parse(&config).unwrap();
    let (_identity, current) = watch::channel(Arc::new(root.identity()));
    let net = Net::new(&parsed, Default::default(), current, clock::system()).unwrap();
    let given = Given { net: Some(net), ..Given::default() };
    let reader = copying("(i32.const 2)", "(i32.const 1)", "", "", "");
    let run = tokio::spawn(Run::of(&reader).config(&config).given(given).finish());
    let (stream, _) = within(server.accept()).await.unwrap();
    let mut stream = within(TlsAcceptor::from(root.server()).accept(stream)).await.unwrap();
    stream.write_all(b"half of it").await.unwrap();
    stream.flush().await.unwrap();
    // The TCP connection ends, and TLS does not.
    drop(stream);
    let run = within(run).await.unwrap();
    assert_eq!((run.ended, run.stdout.as_str()), (Ended::Exit(1), "half of it"));
}

/// Each has said that it is there and waits for its input, before any of them gets it.
#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_workloads_wait_beside_each_other() {
    const ALL: usize = 500;
    let text = copying(
        "(i32.const 0)",
        "(i32.const 1)",
        "(call $put (i32.const 1) (i32.const 1024) (i32.const 1))",
        "",
        "",
    );
    let engine = Runtime::new(Pool { instances: 512, memory: 1 << 20 }).unwrap();
    let workload = engine.load(&wat::parse_str(text).unwrap(), None).unwrap();
    let (mut inputs, mut outputs, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ALL {
        let ((stdin, input), (stdout, output)) = (duplex(64), duplex(64));
        inputs.push(input);
        outputs.push(output);
        let stdio = Stdio { stdin: Box::new(stdin), stdout: Box::new(stdout), ..Stdio::null() };
        let (workload, world) =
            (workload.clone(), World::new(&KeepConfig::default(), Given::default()).unwrap());
        runs.push(tokio::spawn(async move {
            command::run(&workload, world, stdio, std::future::pending()).await
        }));
    }
    for output in &mut outputs {
        assert_eq!(within(output.read_u8()).await.unwrap(), 0);
    }
    assert!(runs.iter().all(|run| !run.is_finished()));
    for (input, output) in inputs.iter_mut().zip(&mut outputs) {
        input.write_all(b"x").await.unwrap();
        assert_eq!(within(output.read_u8()).await.unwrap(), b'x');
    }
    drop(inputs);
    for run in runs {
        assert_eq!(within(run).await.unwrap(), Ended::Exit(0));
    }
}
