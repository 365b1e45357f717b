//! What it costs to run a small workload in a warm Keep, from the moment that its compiled form is there to its last
//! byte of output, against plain wasmtime with the same bytes compiled by the same compiler. Prints medians and ratios.

use std::time::{Duration, Instant};

use keep::{
    command::{self, Ended, Stdio},
    runtime::{Pool, Runtime, Workload},
    world::{Given, World},
};
use keep_config::KeepConfig;
use tokio::io::AsyncReadExt;
use wasmtime::{
    Caller, Config, Engine, Extern, InstancePre, Linker, Module, OptLevel, Store,
    component::{Component, ResourceTable},
};
use wasmtime_wasi::{
    WasiCtx, WasiCtxView, WasiView,
    p2::{bindings::CommandPre, pipe::MemoryOutputPipe},
};

#[path = "../../tests/it/workloads.rs"]
#[expect(dead_code, reason = "the tests' other workloads are not measured")]
mod workloads;

const WARM_UP: usize = 100;
const RUNS: usize = 1000;
const HELLO: &[u8] = b"hello\n";

/// Prints through preview 1.
const MODULE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 17)
    (data (i32.const 0) "\10\00\00\00\06\00\00\00")
    (data (i32.const 16) "hello\n")
    (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

fn main() {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let module = wat::parse_str(MODULE).expect("a module");
    let component = workloads::command_bytes();
    let runtime = Runtime::new(Pool::default()).expect("an engine");
    let warm = |bytes: &[u8]| runtime.load(bytes, None).expect("a workload");
    let (warm_module, warm_component) = (warm(&module), warm(&component));
    let engine = Engine::new(Config::new().cranelift_opt_level(OptLevel::Speed)).expect("an engine");
    let (plain_module, plain_component) = (PlainModule::new(&engine, &module), plain(&engine, &component));
    threads.block_on(async {
        let (mut keep, mut other) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + RUNS {
            let (a, b) = (timed(in_keep(&warm_module)).await, timed(plain_module.run()).await);
            if round >= WARM_UP {
                keep.push(a);
                other.push(b);
            }
        }
        report("a module of preview 1", &mut keep, &mut other);
        let (mut keep, mut other) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + RUNS {
            let (a, b) = (timed(in_keep(&warm_component)).await, timed(run_plain(&plain_component)).await);
            if round >= WARM_UP {
                keep.push(a);
                other.push(b);
            }
        }
        report("a component of WASI 0.2, in Rust", &mut keep, &mut other);
    });
}

async fn timed(run: impl Future<Output = ()>) -> Duration {
    let begun = Instant::now();
    run.await;
    begun.elapsed()
}

async fn in_keep(workload: &Workload) {
    let world = World::new(&KeepConfig::default(), Given::default()).expect("a world");
    let (stdout, mut printed) = tokio::io::duplex(64);
    let stdio = Stdio { stdout: Box::new(stdout), ..Stdio::null() };
    let ended = command::run(workload, world, stdio, std::future::pending()).await;
    assert_eq!(ended, Ended::Exit(0));
    let mut text = Vec::new();
    printed.read_to_end(&mut text).await.expect("output");
    assert_eq!(text, HELLO);
}

/// The one call that the module makes, into memory: less than any WASI does.
struct PlainModule(InstancePre<Vec<u8>>);

impl PlainModule {
    fn new(engine: &Engine, bytes: &[u8]) -> Self {
        let mut linker = Linker::new(engine);
        let write = |mut caller: Caller<'_, Vec<u8>>, _: i32, list: i32, _: i32, _: i32| -> i32 {
            let Some(Extern::Memory(memory)) = caller.get_export("memory") else { return 1 };
            let (bytes, printed) = memory.data_and_store_mut(&mut caller);
            let word =
                |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
            let (from, length) = (word(list as usize) as usize, word(list as usize + 4) as usize);
            printed.extend_from_slice(&bytes[from..from + length]);
            0
        };
        linker.func_wrap("wasi_snapshot_preview1", "fd_write", write).expect("a function");
        Self(linker.instantiate_pre(&Module::new(engine, bytes).expect("a module")).expect("linked"))
    }

    async fn run(&self) {
        let mut store = Store::new(self.0.module().engine(), Vec::new());
        let instance = self.0.instantiate_async(&mut store).await.expect("an instance");
        let entry = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("an entry");
        entry.call_async(&mut store, ()).await.expect("a run");
        assert_eq!(store.data(), HELLO);
    }
}

struct State(WasiCtx, ResourceTable);

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.0, table: &mut self.1 }
    }
}

fn plain(engine: &Engine, bytes: &[u8]) -> CommandPre<State> {
    let mut linker = wasmtime::component::Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("WASI");
    let component = Component::new(engine, bytes).expect("a component");
    CommandPre::new(linker.instantiate_pre(&component).expect("linked")).expect("a command")
}

async fn run_plain(command: &CommandPre<State>) {
    let stdout = MemoryOutputPipe::new(4096);
    let wasi = WasiCtx::builder().arg("main.wasm").stdout(stdout.clone()).build();
    let mut store = Store::new(command.engine(), State(wasi, ResourceTable::new()));
    let instance = command.instantiate_async(&mut store).await.expect("an instance");
    instance.wasi_cli_run().call_run(&mut store).await.expect("a run").expect("success");
    drop(store);
    assert_eq!(stdout.contents(), HELLO);
}

fn report(name: &str, keep: &mut [Duration], plain: &mut [Duration]) {
    keep.sort();
    plain.sort();
    let (keep, plain) = (keep[keep.len() / 2], plain[plain.len() / 2]);
    let ratio = keep.as_secs_f64() / plain.as_secs_f64();
    println!("{name:<40} Keep {keep:>10.1?}   plain wasmtime {plain:>10.1?}   ratio {ratio:.2}");
}
