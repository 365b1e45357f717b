//! Commands of every kind: how they begin, what they find, how they end.

use std::time::Duration;

use keep::{
    command::{Ended, Failure, Which},
    runtime::Kind,
};

use crate::{
    calls,
    run::{self, Run, module},
};

/// What a module with these instructions does, with preview 1's `proc_exit` at hand.
fn ended(body: &str) -> Ended {
    futures(Run::of(&module(body)).ended())
}

fn futures<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn an_exit_code_reaches_the_caller() {
    assert_eq!(ended("(call $exit (i32.const 0))"), Ended::Exit(0));
    assert_eq!(ended("(call $exit (i32.const 7))"), Ended::Exit(7));
    assert_eq!(ended("(call $exit (i32.const 255))"), Ended::Exit(255));
    // What does not fit must not become a success.
    assert_eq!(ended("(call $exit (i32.const 256))"), Ended::Exit(255));
    assert_eq!(ended("(call $exit (i32.const -1))"), Ended::Exit(255));
    assert_eq!(ended(""), Ended::Exit(0));
}

/// Enarx' `return_1`: what the entry returns is no exit code.
#[test]
fn a_return_value_is_no_exit_code() {
    let text = r#"(module (func (export "_start") (result i32) i32.const 1))"#;
    assert_eq!(futures(Run::of(text).ended()), Ended::Exit(0));
    let unnamed = r#"(module (func (export "") (result i32 i64) i32.const 1 i64.const 2))"#;
    assert_eq!(futures(Run::of(unnamed).ended()), Ended::Exit(0));
}

/// Enarx' `no_export` failed too.
#[test]
fn a_module_without_an_entry_is_refused() {
    for text in [
        "(module)",
        r#"(module (func (export "main")))"#,
        r#"(module (func (export "_start") (param i32)))"#,
        r#"(module (memory (export "_start") 1))"#,
    ] {
        let refused = run::runtime().load(&wat::parse_str(text).unwrap(), None).unwrap_err();
        assert_eq!(refused.code(), "WORKLOAD_WITHOUT_ENTRY", "{text}");
    }
    let text = r#"(module (import "env" "secrets" (func)) (func (export "_start")))"#;
    let refused = run::runtime().load(&wat::parse_str(text).unwrap(), None).unwrap_err();
    assert_eq!(refused.code(), "WORKLOAD_IMPORT_UNKNOWN");
}

#[test]
fn a_trap_has_a_code_and_tells_nothing_of_the_memory() {
    let cases = [
        ("unreachable", "TRAP_UNREACHABLE"),
        ("(drop (i32.load (i32.const 0x7ffffff0)))", "TRAP_OUT_OF_BOUNDS"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "TRAP_DIVISION_BY_ZERO"),
        ("(drop (i32.trunc_f64_s (f64.const 1e30)))", "TRAP_INTEGER_OVERFLOW"),
        ("(drop (i32.trunc_f64_s (f64.const nan)))", "TRAP_BAD_CONVERSION"),
        ("(call_indirect (i32.const 3))", "TRAP_NULL_CALL"),
        ("(call_indirect (i32.const 99))", "TRAP_TABLE_OUT_OF_BOUNDS"),
        ("(call_indirect (param i64) (i64.const 0) (i32.const 0))", "TRAP_BAD_SIGNATURE"),
        ("(call $deep)", "TRAP_STACK_OVERFLOW"),
    ];
    for (body, expected) in cases {
        match ended(body) {
            Ended::Trap { code, message } => {
                assert_eq!(code, expected, "{body}");
                assert!(!message.is_empty() && !message.contains("wasm trap"), "said once: {message}");
                assert!(!message.contains("canary"), "{message}");
            }
            other => panic!("{body}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_in_a_start_function_is_a_trap() {
    let text = r#"(module (func $s unreachable) (start $s) (func (export "_start")))"#;
    assert_eq!(Run::of(text).ended().await.code(), Some("TRAP_UNREACHABLE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_no_command() {
    let ended = Run::of_workload(crate::workloads::probe()).ended().await;
    assert_eq!(ended, Ended::Failed(Failure::NotACommand));
}

fn command_02(result: &str) -> String {
    format!(
        r#"(component
            (core module $m (func (export "run") (result i32) {result}))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $inst (export "run" (func $run)))
            (export "wasi:cli/run@0.2.0" (instance $inst)))"#
    )
}

fn command_03(result: &str) -> String {
    format!(
        r#"(component
            (core module $m (func (export "run") (result i32) {result}))
            (core instance $i (instantiate $m))
            (func $run async (result (result)) (canon lift (core func $i "run")))
            (instance $inst (export "run" (func $run)))
            (export "wasi:cli/run@0.3.0" (instance $inst)))"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn components_of_both_generations_are_commands() {
    for (kind, command) in
        [(Kind::Command02, command_02 as fn(&str) -> String), (Kind::Command03, command_03)]
    {
        let workload = run::load(&command("i32.const 0"));
        assert_eq!(workload.kind(), kind);
        assert_eq!(Run::of_workload(workload).ended().await, Ended::Exit(0));
        assert_eq!(Run::of(&command("i32.const 1")).ended().await, Ended::Exit(1));
        let trap = Run::of(&command("unreachable")).ended().await;
        assert_eq!(trap.code(), Some("TRAP_UNREACHABLE"));
        let endless = Run::of(&command("(loop (br 0)) unreachable")).config("[limits]\ncpu = \"100ms\"");
        assert_eq!(endless.ended().await, Ended::Limit(Which::Cpu), "{kind:?}");
    }
}

fn probe(argument: &str) -> Run {
    let args: Vec<String> = argument.split(' ').map(|argument| format!("{argument:?}")).collect();
    Run::of_workload(crate::workloads::command()).config(&format!("args = [{}]\n{STDIO}", args.join(", ")))
}

const STDIO: &str =
    "[[files]]\nkind = \"stdin\"\n[[files]]\nkind = \"stdout\"\n[[files]]\nkind = \"stderr\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_real_program_of_wasi_02_finds_its_world() {
    let hello = probe("hello").finish().await;
    assert_eq!((hello.ended, hello.stdout.as_str()), (Ended::Exit(0), "hello\n"));
    let args = probe("args a b").finish().await;
    assert_eq!(args.stdout, "main.wasm|args|a|b\n");
    let env = probe("env").more("[env]\nA = \"1\"\n").finish().await;
    assert_eq!(env.stdout, "FD_COUNT=3\nFD_NAMES=stdin:stdout:stderr\nA=1\n");
    let input = vec![b'y'; 300_000];
    let cat = probe("cat").input(&input).finish().await;
    assert_eq!((cat.stdout.as_bytes(), cat.stderr.as_str()), (&input[..], "300000 bytes\n"));
    // All that `wasi:cli/exit` 0.2 can say.
    assert_eq!(probe("exit 42").ended().await, Ended::Exit(1));
    let failed = probe("fail").finish().await;
    assert_eq!(failed.ended.code(), Some("TRAP_UNREACHABLE"));
    assert!(failed.stderr.contains("as asked"));
}

/// A configuration without streams connects none.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_not_configured_are_not_connected() {
    let args = "args = [\"cat\"]\nfiles = []\n";
    let cat = Run::of_workload(crate::workloads::command()).config(args).input(b"secret").finish().await;
    assert_eq!((cat.ended, cat.stdout.as_str()), (Ended::Exit(0), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_ends_a_real_program_with_its_reason() {
    let limits = [
        ("spin", "[limits]\ncpu = \"100ms\"", Which::Cpu),
        ("sleep 60000", "[limits]\nwall = \"200ms\"", Which::Wall),
        ("flood", "[limits]\noutput = \"64KiB\"", Which::Output),
        ("hog", "[limits]\nmemory = \"16MiB\"", Which::Memory),
        ("open", "[limits]\nopen-files = 20\n[[tmpfs]]\npath = \"/tmp\"\nsize = \"1MiB\"", Which::OpenFiles),
    ];
    for (argument, limit, which) in limits {
        let run = probe(argument).more(limit).finish().await;
        assert_eq!(run.ended, Ended::Limit(which), "{argument}: {run:?}");
        assert_eq!(run.ended.code(), Some(which.code()));
        if which == Which::Output {
            assert_eq!(run.stdout.len() + run.stderr.len(), 64 << 10);
        }
    }
    assert_eq!(probe("deep").ended().await.code(), Some("TRAP_STACK_OVERFLOW"));
}

/// The same limits and reasons for a module; connections are in `wasi03_sockets`, for all worlds.
#[tokio::test(flavor = "multi_thread")]
async fn each_limit_ends_a_module_with_its_reason() {
    const TMPFS: &str = "[[files]]\nkind = \"null\"\n[[files]]\nkind = \"stdout\"\n[[tmpfs]]\npath = \"/tmp\"\nsize = \"1MiB\"";
    let print = "(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 1000))
        (loop (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br 0))";
    // The directory `/` is descriptor 2, and each file a new one.
    let open = r#"(loop (drop (call $path_open (i32.const 2) (i32.const 0) (i32.const 64) (i32.const 5) (i32.const 1)
        (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 8))) (br 0))"#;
    // One that is ready in a thousand hours.
    let wait =
        "(i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 3600000000000000))
        (drop (call $poll_oneoff (i32.const 0) (i32.const 512) (i32.const 1) (i32.const 8)))";
    let limits = [
        ("(loop (br 0))", "cpu = \"100ms\"", Which::Cpu),
        (wait, "wall = \"200ms\"", Which::Wall),
        (print, "output = \"64KiB\"", Which::Output),
        ("(drop (memory.grow (i32.const 4096)))", "memory = \"16MiB\"", Which::Memory),
        (open, "open-files = 20", Which::OpenFiles),
    ];
    for (body, limit, which) in limits {
        let data = "(data (i32.const 64) \"tmp/a\")";
        let text = calls::module(&format!("{data} (func (export \"_start\") {body})"));
        let run = Run::of(&text).config(&format!("[limits]\n{limit}\n{TMPFS}")).finish().await;
        assert_eq!(run.ended, Ended::Limit(which), "{body}");
        if which == Which::Output {
            assert_eq!(run.stdout.len(), 64 << 10);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_costs_no_processor_time() {
    let slept = probe("sleep 300").more("[limits]\ncpu = \"200ms\"").ended().await;
    assert_eq!(slept, Ended::Exit(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_wherever_it_is() {
    for argument in ["spin", "sleep 60000", "cat"] {
        let run = probe(argument).endless_input().cancel_after(Duration::from_millis(100));
        assert_eq!(run.ended().await, Ended::Cancelled, "{argument}");
    }
}

/// A caller that reads nothing holds up the workload only.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_takes_no_output_holds_up_nobody_else() {
    let stalled = probe("flood").stalled_output().more("[limits]\nwall = \"300ms\"");
    let stalled = tokio::spawn(async move { stalled.ended().await });
    assert_eq!(probe("hello").finish().await.stdout, "hello\n");
    assert_eq!(stalled.await.unwrap(), Ended::Limit(Which::Wall));
}
