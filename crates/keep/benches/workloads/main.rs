//! What a Keep adds to computation, against plain wasmtime with the same program, compiled before; and what five hundred
//! workloads that wait take of memory. Ratios in one run, medians. A Keep can interrupt a workload at every turn of a loop, so
//! the tightest loops are measured by themselves, also against wasmtime that can.

mod plain;

use std::{
    future::pending,
    process::Command,
    time::{Duration, Instant},
};

use keep::{
    command::{self, Ended, Stdio},
    runtime::{Pool, Runtime, Workload},
    world::{Given, World},
};
use keep_config::KeepConfig;
use tokio::io::duplex;

const COMPUTATIONS: usize = 15;
const IDLE: usize = 500;

/// Counts primes below four million by a sieve, twelve times: loads, stores, branches.
const SIEVE: &str = r#"(module
    (memory (export "memory") 64)
    (func $sieve (result i32) (local $n i32) (local $m i32) (local $count i32)
        (memory.fill (i32.const 0) (i32.const 0) (i32.const 4000000))
        (local.set $n (i32.const 2))
        (loop $next
            (if (i32.eqz (i32.load8_u (local.get $n))) (then
                (local.set $count (i32.add (local.get $count) (i32.const 1)))
                (local.set $m (i32.shl (local.get $n) (i32.const 1)))
                (block $done (loop $mark
                    (br_if $done (i32.ge_u (local.get $m) (i32.const 4000000)))
                    (i32.store8 (local.get $m) (i32.const 1))
                    (local.set $m (i32.add (local.get $m) (local.get $n)))
                    (br $mark)))))
            (local.set $n (i32.add (local.get $n) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $n) (i32.const 4000000))))
        (local.get $count))
    (func (export "_start") (local $round i32)
        (loop $again
            (if (i32.ne (call $sieve) (i32.const 283146)) (then unreachable))
            (local.set $round (i32.add (local.get $round) (i32.const 1)))
            (br_if $again (i32.lt_u (local.get $round) (i32.const 12))))))"#;

/// Waits for its input, which does not come.
const WAITING: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 14))
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn main() {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let before = resident();
    let pool = Pool { instances: 512, memory: 128 << 20 };
    let runtime = Runtime::new(pool).expect("an engine");
    println!("engine: {} KiB resident", resident().saturating_sub(before) >> 10);
    let load = |text: &str| runtime.load(&wat::parse_str(text).expect("a module"), None).expect("a workload");
    println!(
        "| computation | Keep | wasmtime | ratio | wasmtime that can be interrupted | ratio |\n|---|---|---|---|---|---|"
    );
    for name in ["sort", "words", "digest", "matrices", "text"] {
        let bytes = built(name);
        let workload = runtime.load(&bytes, None).expect("a workload");
        let plain = [false, true].map(|it| plain::PlainCommand::new(&bytes, it));
        compare(
            name,
            [&|| threads.block_on(run(&workload)), &|| threads.block_on(plain[0].run()), &|| {
                threads.block_on(plain[1].run())
            }],
        );
    }
    let (workload, plain) = (load(SIEVE), [false, true].map(|it| plain::Plain::new(SIEVE, it)));
    compare(
        "the tightest loops",
        [&|| threads.block_on(run(&workload)), &|| threads.block_on(plain[0].run()), &|| {
            threads.block_on(plain[1].run())
        }],
    );
    threads.block_on(idle(&load(WAITING)));
}

/// Turn by turn, so that what else this machine does reaches all.
fn compare(name: &str, runs: [&dyn Fn(); 3]) {
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..COMPUTATIONS {
        for (run, times) in runs.iter().zip(&mut times) {
            times.push(timed(run));
        }
    }
    let [ours, plain, interruptible] = times.map(median);
    let ratio = |yardstick: Duration| ours.as_secs_f64() / yardstick.as_secs_f64();
    println!(
        "| {name} | {ours:.1?} | {plain:.1?} | {:.2} | {interruptible:.1?} | {:.2} |",
        ratio(plain),
        ratio(interruptible)
    );
}

/// One of the programs of `computation.rs`, as a component.
fn built(name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, out) = (
        concat!(env!("CARGO_MANIFEST_DIR"), "/benches/workloads/computation.rs"),
        folder.path().join("it.wasm"),
    );
    let built = Command::new("rustc")
        .args([
            "--edition",
            "2024",
            "--target",
            "wasm32-wasip2",
            "-C",
            "opt-level=3",
            "-A",
            "warnings",
            "--cfg",
        ])
        .arg(format!("computation=\"{name}\""))
        .args([source.as_ref(), "-o".as_ref(), out.as_os_str()])
        .status();
    assert!(built.is_ok_and(|status| status.success()), "rustc could not build {name}");
    std::fs::read(out).expect("a component")
}

async fn run(workload: &Workload) {
    let world = World::new(&KeepConfig::default(), Given::default()).expect("a world");
    assert_eq!(command::run(workload, world, Stdio::null(), pending()).await, Ended::Exit(0));
}

/// All of them wait in the same process.
async fn idle(workload: &Workload) {
    let before = resident();
    let mut inputs = Vec::new();
    let runs: Vec<_> = (0..IDLE)
        .map(|_| {
            let (near, far) = duplex(64);
            inputs.push(far);
            let (workload, stdio) = (workload.clone(), Stdio { stdin: Box::new(near), ..Stdio::null() });
            let world = World::new(&KeepConfig::default(), Given::default()).expect("a world");
            tokio::spawn(async move { command::run(&workload, world, stdio, pending()).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let all = resident();
    assert!(runs.iter().all(|run| !run.is_finished()), "one did not wait");
    let each = all.saturating_sub(before) / IDLE as u64;
    println!("{IDLE} idle workloads: {} KiB each, {} MiB of this process", each >> 10, all >> 20);
    drop(inputs);
    for run in runs {
        assert_eq!(run.await.expect("a run"), Ended::Exit(0));
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Resident memory of this process, in bytes (proc(5), `statm`).
fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).map_or(0, |pages| pages * PAGE)
}
