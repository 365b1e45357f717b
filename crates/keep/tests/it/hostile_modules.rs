//! Hostile modules: what is too much is refused or ended, and the next workload is none the wiser.

use std::time::Duration;

use keep::{
    cache::Cache,
    command::{Ended, Stdio, Which},
    runtime::{LoadError, Pool, Runtime},
    world::{Given, World},
};
use keep_config::KeepConfig;
use zeroize::Zeroizing;

use crate::run::{self, Run, module};

fn refused(bytes: &[u8]) -> &'static str {
    run::runtime().load(bytes, None).unwrap_err().code()
}

/// A section: its number, and its content with its length before it.
fn section(id: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![id];
    bytes.extend(leb(content.len()));
    bytes.extend_from_slice(content);
    bytes
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

/// `functions` functions that do `body`, of which `_start` is the first.
fn functions(functions: usize, body: &[u8]) -> Vec<u8> {
    let mut bytes = b"\0asm\x01\0\0\0".to_vec();
    bytes.extend(section(1, &[1, 0x60, 0, 0]));
    let mut types = leb(functions);
    types.resize(types.len() + functions, 0);
    bytes.extend(section(3, &types));
    bytes.extend(section(7, b"\x01\x06_start\0\0"));
    let mut code = leb(functions);
    for _ in 0..functions {
        code.extend(leb(body.len() + 1));
        code.push(0);
        code.extend_from_slice(body);
    }
    bytes.extend(section(10, &code));
    bytes
}

async fn ends(bytes: &[u8]) -> Ended {
    let workload = run::runtime().load_within(bytes.to_vec(), None, Duration::from_secs(300)).await.unwrap();
    Run::of_workload(workload).ended().await
}

const END: u8 = 0x0b;
/// Far more than a recursive compiler could take on such a stack.
const DEPTH: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn many_functions_are_compiled_and_too_many_are_refused() {
    assert_eq!(ends(&functions(20_000, &[END])).await, Ended::Exit(0));
    assert_eq!(refused(&functions(1_000_001, &[END])), "WORKLOAD_INVALID");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compilation_has_an_end_for_who_waits() {
    let many = functions(20_000, &[END]);
    let waited = run::runtime().load_within(many, None, Duration::ZERO).await;
    assert!(matches!(waited, Err(LoadError::TooSlow { .. })));
    assert_eq!(waited.unwrap_err().code(), "WORKLOAD_COMPILATION_TOO_SLOW");
}

/// On a thread with a small stack, as the Keep compiles.
#[tokio::test(flavor = "multi_thread")]
async fn deep_nesting_overflows_no_stack() {
    for open in [[0x02_u8, 0x40], [0x03, 0x40]] {
        let mut body = open.repeat(DEPTH);
        body.extend(std::iter::repeat_n(END, DEPTH + 1));
        assert_eq!(ends(&functions(1, &body)).await, Ended::Exit(0));
    }
    let mut ifs = [0x41_u8, 1, 0x04, 0x40].repeat(DEPTH);
    ifs.extend(std::iter::repeat_n(END, DEPTH + 1));
    assert_eq!(ends(&functions(1, &ifs)).await, Ended::Exit(0));
    let mut operands = [0x41_u8, 1].repeat(DEPTH);
    operands.extend(std::iter::repeat_n(0x6a, DEPTH - 1));
    operands.extend([0x1a, END]);
    assert_eq!(ends(&functions(1, &operands)).await, Ended::Exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_or_ended() {
    let start = r#"(func (export "_start"))"#;
    let parsed = |text: &str| wat::parse_str(text.replace("START", start)).unwrap();
    assert_eq!(refused(&parsed("(module (table 4000000000 funcref) START)")), "WORKLOAD_INVALID");
    assert_eq!(refused(&parsed("(module (memory i64 1) START)")), "WORKLOAD_INVALID");
    let memories = "(memory 1)".repeat(101);
    assert_eq!(refused(&parsed(&format!("(module {memories} START)"))), "WORKLOAD_INVALID");
    let text = format!("(module (memory 65536) {start})");
    assert_eq!(Run::of(&text).ended().await, Ended::Limit(Which::Memory));
    let text = format!("(module (memory 1) (data (i32.const 65535) \"ab\") {start})");
    assert_eq!(Run::of(&text).ended().await.code(), Some("TRAP_OUT_OF_BOUNDS"));
    let text = format!("(module (table 1 funcref) (elem (i32.const 9) 0) {start})");
    assert_eq!(Run::of(&text).ended().await.code(), Some("TRAP_TABLE_OUT_OF_BOUNDS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_that_is_not_allowed_is_a_limit_and_what_the_module_forbids_itself_is_none() {
    let grow = |memory: &str| {
        format!(
            r#"(module (memory {memory}) (func (export "_start")
                (if (i32.ne (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))))"#
        )
    };
    let limited = Run::of(&grow("1")).config("[limits]\nmemory = \"1MiB\"");
    assert_eq!(limited.ended().await, Ended::Limit(Which::Memory));
    assert_eq!(Run::of(&grow("1 50")).ended().await, Ended::Exit(0));
    let table = r#"(module (table 1 funcref) (func (export "_start")
        (if (i32.ne (table.grow (ref.null func) (i32.const 0x7fffffff)) (i32.const -1)) (then unreachable))))"#;
    assert_eq!(Run::of(table).ended().await, Ended::Exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_start_function_is_ended() {
    let text = r#"(module (func $s (loop (br 0))) (start $s) (func (export "_start")))"#;
    let cpu = Run::of(text).config("[limits]\ncpu = \"50ms\"").ended().await;
    assert_eq!(cpu, Ended::Limit(Which::Cpu));
    let wall = Run::of(text).config("[limits]\nwall = \"50ms\"").ended().await;
    assert_eq!(wall, Ended::Limit(Which::Wall));
    assert_eq!(Run::of(text).cancel_after(Duration::from_millis(50)).ended().await, Ended::Cancelled);
}

/// Every byte of a module, changed or cut off: refused, or another workload that ends in one of the known ways.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_module_is_refused_or_is_another() {
    let good = wat::parse_str(module("(call $exit (i32.const 3))")).unwrap();
    let config = "[limits]\nwall = \"200ms\"\nmemory = \"1MiB\"";
    let cuts = (0..good.len()).map(|cut| good[..cut].to_vec());
    let flips = (0..good.len()).map(|at| {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        bad
    });
    for bad in cuts.chain(flips) {
        if let Ok(workload) = run::runtime().load(&bad, None) {
            assert_ne!(workload.digest(), keep::runtime::digest(&good));
            let _ended = Run::of_workload(workload).config(config).ended().await;
        }
    }
}

/// S-54: what one module leaves in its memory and tables, the next one in the same slots cannot read.
#[tokio::test(flavor = "multi_thread")]
async fn s54_memory_of_modules_is_zeroed() {
    let runtime = Runtime::new(Pool { instances: 1, memory: 1 << 20 }).unwrap();
    let text = |act: &str| {
        format!(
            r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory 1) (table $t 64 funcref) (elem declare func $exit)
                (func (export "_start") (local $at i32)
                    (if (i32.ne (memory.grow (i32.const 7)) (i32.const 1)) (then unreachable))
                    (loop $next
                        {act}
                        (local.set $at (i32.add (local.get $at) (i32.const 8)))
                        (br_if $next (i32.lt_u (local.get $at) (i32.const 524288))))))"#
        )
    };
    let leave = "(i64.store (local.get $at) (i64.const 0x5ec2e7))
                 (table.set $t (i32.and (local.get $at) (i32.const 63)) (ref.func $exit))";
    let look = "(if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (call $exit (i32.const 1))))
                (if (i32.eqz (ref.is_null (table.get $t (i32.and (local.get $at) (i32.const 63)))))
                    (then (call $exit (i32.const 2))))";
    let load = |act| runtime.load(&wat::parse_str(text(act)).unwrap(), None).unwrap();
    let (leave, look) = (load(leave), load(look));
    // More often than there are slots, so that each was used before it is looked at.
    for workload in [&leave, &look].into_iter().flat_map(|workload| std::iter::repeat_n(workload, 8)) {
        let world = World::new(&KeepConfig::default(), Given::default()).unwrap();
        let ended = keep::command::run(workload, world, Stdio::null(), std::future::pending()).await;
        assert_eq!(ended, Ended::Exit(0));
    }
}

/// One engine for several workloads, each with its own limits; more at a time than it has room for are told so.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_full_says_so() {
    let runtime = Runtime::new(Pool { instances: 1, memory: 1 << 20 }).unwrap();
    let text = r#"(module (func (export "_start") (loop (br 0))))"#;
    let endless = runtime.load(&wat::parse_str(text).unwrap(), None).unwrap();
    let config = KeepConfig::parse("[limits]\nwall = \"400ms\"").unwrap();
    let run = || async {
        let world = World::new(&config, Given::default()).unwrap();
        keep::command::run(&endless, world, Stdio::null(), std::future::pending()).await
    };
    let (first, second) = tokio::join!(run(), run());
    let codes = [first.code(), second.code()];
    assert!(codes.contains(&Some("TIME_LIMIT")) && codes.contains(&Some("KEEP_BUSY")), "{codes:?}");
}

/// S-56, for modules: sealed by this TEE or compiled again.
#[test]
fn s56_a_module_is_taken_from_the_cache_or_compiled() {
    let directory = tempfile::tempdir().unwrap();
    let cache = |key| Cache::new(directory.path(), Zeroizing::new([key; 32]));
    let bytes = wat::parse_str(module("")).unwrap();
    let load = |key| run::runtime().load(&bytes, Some(&cache(key))).unwrap().from_cache();
    assert_eq!([load(1), load(1), load(2), load(2), load(1)], [false, true, false, true, false]);
    let file = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let mut artefact = std::fs::read(&file).unwrap();
    let middle = artefact.len() / 2;
    artefact[middle] ^= 1;
    std::fs::write(&file, artefact).unwrap();
    assert!(!load(1));
}
