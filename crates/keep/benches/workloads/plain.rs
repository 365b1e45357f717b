//! The same workloads in wasmtime alone, with its defaults and its own WASI, or the least that they import.

use wasmtime::{
    Config, Engine, InstancePre, Linker, Module, Store,
    component::{Component, ResourceTable},
};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView, p2::bindings::CommandPre};

const NEVER: u64 = u64::MAX / 2;

/// A module that imports nothing.
pub struct Plain(InstancePre<()>);

impl Plain {
    pub fn new(text: &str, interruptible: bool) -> Self {
        let engine = Engine::new(Config::new().epoch_interruption(interruptible)).expect("an engine");
        let module = Module::new(&engine, wat::parse_str(text).expect("a module")).expect("code");
        Self(Linker::new(&engine).instantiate_pre(&module).expect("its imports"))
    }

    pub async fn run(&self) {
        let mut store = Store::new(self.0.module().engine(), ());
        store.set_epoch_deadline(NEVER);
        let instance = self.0.instantiate_async(&mut store).await.expect("an instance");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("an entry");
        start.call_async(&mut store, ()).await.expect("its end");
    }
}

pub struct State(WasiCtx, ResourceTable);

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.0, table: &mut self.1 }
    }
}

/// A component of WASI 0.2.
pub struct PlainCommand(CommandPre<State>);

impl PlainCommand {
    pub fn new(bytes: &[u8], interruptible: bool) -> Self {
        let engine = Engine::new(Config::new().epoch_interruption(interruptible)).expect("an engine");
        let mut linker = wasmtime::component::Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("WASI");
        let component = Component::new(&engine, bytes).expect("a component");
        Self(CommandPre::new(linker.instantiate_pre(&component).expect("linked")).expect("a command"))
    }

    pub async fn run(&self) {
        let wasi = WasiCtx::builder().arg("main.wasm").build();
        let mut store = Store::new(self.0.engine(), State(wasi, ResourceTable::new()));
        store.set_epoch_deadline(NEVER);
        let instance = self.0.instantiate_async(&mut store).await.expect("an instance");
        instance.wasi_cli_run().call_run(&mut store).await.expect("a run").expect("success");
    }
}
