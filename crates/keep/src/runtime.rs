//! The engine: one configuration of wasmtime, the loading of workloads, and what the Keep's claims say about
//! both. Compilation happens here, inside the TEE, or not at all: native code from outside is accepted only
//! from [`crate::cache`], which this TEE sealed itself (S-56).
//!
//! What bounds the time of a compilation: [`MAX_WORKLOAD`], wasmparser's limits on what one function and one module may
//! hold, and [`Runtime::load_within`], which gives up waiting. A compilation cannot be interrupted, so the thread that
//! was given up on ends with its module, or with the process.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::SHA256;
use tokio::{task::spawn_blocking, time::timeout};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Module, OptLevel, PoolingAllocationConfig, Strategy,
    component::{Component, Linker},
};
use wasmtime_wasi::{p2::bindings::CommandPre as Command2Pre, p3::bindings::CommandPre as Command3Pre};
use wasmtime_wasi_http::{p2::bindings::ProxyPre, p3::bindings::ServicePre};

use crate::{
    cache::{self, Cache},
    cpu::Ticker,
    guest::{self, Guest},
    limit::MAX_TABLE_ELEMENTS,
    preview1,
    workload::{Compiled, Entry, Program},
};

pub use crate::workload::{Kind, LoadError, Workload};

/// Engine and security-relevant settings, as the Keep's claims state them (S-53). A floor in a policy compares
/// the version; a change of the settings is a change of this text.
pub const ENGINE_VERSION: &str = "wasmtime/48.0.8 (cranelift; speed; core modules with preview 1; \
                                  component-model, also async; epoch-interruption; pooling, zeroed, nothing \
                                  kept resident; stacks zeroed)";

/// How long a workload may take to compile.
pub const COMPILATION: Duration = Duration::from_secs(120);

/// Largest workload that is loaded, in bytes.
pub const MAX_WORKLOAD: usize = 64 << 20;

/// SHA-256 of a workload's exact bytes: what manifest and claims know it by.
pub fn digest(workload: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, workload).as_ref());
    bytes
}

/// What an engine has room for. It is set once: each workload's own limits are within it, and a workload that needs
/// more is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Instances at a time, over all workloads.
    pub instances: u32,
    /// Largest linear memory, in bytes.
    pub memory: u64,
}

impl Default for Pool {
    /// 64 instances with the most that 32-bit WebAssembly can address.
    fn default() -> Self {
        Self { instances: 64, memory: 4 << 30 }
    }
}

impl Pool {
    /// In whole WebAssembly pages, as far as this machine can address it.
    fn memory(&self) -> usize {
        const PAGE: u64 = 64 << 10;
        const FOUR_GIB: u64 = 4 << 30;
        let pages = self.memory.min(FOUR_GIB) / PAGE * PAGE;
        usize::try_from(pages).unwrap_or(usize::MAX)
    }
}

/// The engine could not be set up on this machine.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// wasmtime refused the settings, or memory for the pool could not be reserved.
    #[error("the WebAssembly engine cannot be set up with these limits")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The thread that keeps time could not be started.
    #[error("the engine's clock cannot be started")]
    Clock(#[source] std::io::Error),
}

/// A configured engine, for any number of workloads.
#[derive(Clone)]
pub struct Runtime {
    engine: Engine,
    components: Arc<Linker<Guest>>,
    modules: Arc<wasmtime::Linker<preview1::Instance>>,
    ticker: Arc<Ticker>,
}

impl Runtime {
    /// Sets the engine up.
    ///
    /// # Errors
    /// When this machine does not give what `pool` asks for.
    pub fn new(pool: Pool) -> Result<Self, RuntimeError> {
        let failed = |error: wasmtime::Error| RuntimeError::Engine(error.into());
        let engine = Engine::new(&config(pool)).map_err(failed)?;
        let components = Arc::new(guest::linker(&engine).map_err(failed)?);
        let modules = Arc::new(preview1::linker(&engine).map_err(failed)?);
        let ticker = Arc::new(Ticker::start(&engine).map_err(RuntimeError::Clock)?);
        Ok(Self { engine, components, modules, ticker })
    }

    /// Compiles `workload`, or takes it from `cache`. Takes processor time: not for an async thread.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub fn load(&self, workload: &[u8], cache: Option<&Cache>) -> Result<Workload, LoadError> {
        if workload.len() > MAX_WORKLOAD {
            return Err(LoadError::TooLarge { bytes: workload.len() });
        }
        let digest = digest(workload);
        let cached = cache.and_then(|cache| self.take(cache, digest, Compiled::is_module(workload)));
        let from_cache = cached.is_some();
        let compiled = match cached {
            Some(compiled) => compiled,
            None => self.compile(workload, digest, cache)?,
        };
        let program = self.link(&compiled)?;
        let (engine, ticker) = (self.engine.clone(), Arc::clone(&self.ticker));
        Ok(Workload { program, engine, ticker, digest, from_cache })
    }

    /// Does the same on a thread of its own, and waits for at most `patience`.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub async fn load_within(
        &self,
        workload: Vec<u8>,
        cache: Option<Arc<Cache>>,
        patience: Duration,
    ) -> Result<Workload, LoadError> {
        let runtime = self.clone();
        let loading = spawn_blocking(move || runtime.load(&workload, cache.as_deref()));
        match timeout(patience, loading).await {
            Ok(Ok(loaded)) => loaded,
            // A compiler that panics on a module refuses that module.
            Ok(Err(panicked)) => Err(LoadError::Invalid(panicked.into())),
            Err(_) => Err(LoadError::TooSlow { seconds: patience.as_secs() }),
        }
    }

    fn link(&self, compiled: &Compiled) -> Result<Program, LoadError> {
        let component = match compiled {
            Compiled::Component(component) => component,
            Compiled::Module(module) => {
                let entry = Entry::of(module)?;
                let pre = self.modules.instantiate_pre(module);
                return Ok(Program::Module(pre.map_err(|error| LoadError::Import(error.into()))?, entry));
            }
        };
        let pre =
            self.components.instantiate_pre(component).map_err(|error| LoadError::Import(error.into()))?;
        // What answers requests is served, also where it could be run.
        if let Ok(pre) = ProxyPre::new(pre.clone()) {
            return Ok(Program::Http02(pre));
        }
        if let Ok(pre) = ServicePre::new(pre.clone()) {
            return Ok(Program::Http03(pre));
        }
        if let Ok(pre) = Command3Pre::new(pre.clone()) {
            return Ok(Program::Command03(pre));
        }
        match Command2Pre::new(pre) {
            Ok(pre) => Ok(Program::Command02(pre)),
            Err(error) => Err(LoadError::NoExport(error.into())),
        }
    }

    fn compile(&self, bytes: &[u8], digest: [u8; 32], cache: Option<&Cache>) -> Result<Compiled, LoadError> {
        let compiled = Compiled::compile(&self.engine, bytes)?;
        if let Some(cache) = cache {
            match compiled.serialize() {
                Ok(artefact) => cache.put(&self.slot(digest), artefact),
                Err(_) => {
                    tracing::warn!(code = "CACHE_NOT_WRITTEN", "the compiled workload cannot be stored")
                }
            }
        }
        Ok(compiled)
    }

    fn take(&self, cache: &Cache, digest: [u8; 32], is_module: bool) -> Option<Compiled> {
        let artefact = cache.get(&self.slot(digest))?;
        // SAFETY: wasmtime runs these bytes as native code, so they must be what `Compiled::serialize`
        // returned. `Cache::get` only returns plaintexts of authenticated encryption under a key that never
        // leaves this TEE and that only `compile` above uses, with engine, settings and digest as associated
        // data; so they are what a Keep of this very measurement compiled from the workload of this digest.
        #[expect(unsafe_code, reason = "the artefact is authenticated by this TEE's sealing key")]
        let compiled = unsafe {
            if is_module {
                Module::deserialize(&self.engine, &artefact).map(Compiled::Module)
            } else {
                Component::deserialize(&self.engine, &artefact).map(Compiled::Component)
            }
        };
        match compiled {
            Ok(compiled) => Some(compiled),
            Err(_) => {
                tracing::warn!(code = "CACHE_IGNORED", "the engine does not take the stored workload");
                None
            }
        }
    }

    fn slot(&self, digest: [u8; 32]) -> cache::Slot {
        cache::Slot::new(ENGINE_VERSION, self.engine.precompile_compatibility_hash(), &digest)
    }
}

/// The settings that [`ENGINE_VERSION`] states.
fn config(room: Pool) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_component_model(true)
        .wasm_component_model_async(true)
        .wasm_memory64(false)
        .epoch_interruption(true)
        .async_stack_zeroing(true)
        // Neither back traces nor profilers look into a workload.
        .generate_address_map(false)
        .native_unwind_info(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(room)));
    config
}

/// Slots are address space, not memory, until they are used; they go back to the operating system when an instance
/// ends, so the next one gets zeroed pages (S-54).
fn pool(room: Pool) -> PoolingAllocationConfig {
    const INSTANCES: u32 = 32;
    const MEMORIES: u32 = 4;
    const TABLES: u32 = 16;
    let instances = room.instances.max(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(0)
        .table_keep_resident(0)
        .async_stack_keep_resident(0)
        .decommit_batch_size(1)
        .max_memory_size(room.memory())
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_core_instances_per_component(INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .total_component_instances(instances)
        .total_stacks(instances)
        .total_core_instances(instances.saturating_mul(INSTANCES))
        .total_memories(instances.saturating_mul(MEMORIES))
        .total_tables(instances.saturating_mul(TABLES));
    pool
}

#[cfg(test)]
mod tests {
    use wasmtime::{Instance, Store};

    use super::*;

    /// S-53: the text in the claims is the engine that is linked.
    #[test]
    fn s53_engine_version_is_the_locked_one() {
        let lock = include_str!("../../../Cargo.lock");
        let locked =
            lock.split("[[package]]").find(|package| package.contains("name = \"wasmtime\"\n")).unwrap();
        let version = locked.split('"').nth(3).unwrap();
        assert!(ENGINE_VERSION.starts_with(&format!("wasmtime/{version} ")), "{version}");
    }

    /// S-54: what one instance leaves in its memory, the next one in the same slot cannot read.
    #[tokio::test]
    async fn s54_pooled_memory_is_zeroed() {
        const CANARY: &str = r#"(module
            (memory (export "memory") 2)
            (global $g (mut i64) (i64.const 0))
            (func (export "grow") (result i32) (memory.grow (i32.const 6))))"#;
        let room = Pool { instances: 1, memory: 512 << 10 };
        let mut config = config(room);
        let mut pool = pool(room);
        pool.total_memories(1).total_core_instances(1);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).unwrap();
        let module = Module::new(&engine, wat::parse_str(CANARY).unwrap()).unwrap();
        let mut places = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(1);
            let instance = Instance::new_async(&mut store, &module, &[]).await.unwrap();
            let grow = instance.get_typed_func::<(), i32>(&mut store, "grow").unwrap();
            assert_eq!(grow.call_async(&mut store, ()).await.unwrap(), 2);
            let memory = instance.get_memory(&mut store, "memory").unwrap();
            let bytes = memory.data_mut(&mut store);
            assert_eq!(bytes.len(), 512 << 10);
            assert!(bytes.iter().all(|byte| *byte == 0), "an earlier instance's memory is visible");
            bytes.fill(0xc5);
            places.insert(bytes.as_ptr().addr());
        }
        assert_eq!(places.len(), 1, "the slot was not reused, so this test shows nothing");
    }

    fn load(bytes: &[u8]) -> Result<Workload, LoadError> {
        Runtime::new(Pool { instances: 2, memory: 128 << 20 }).unwrap().load(bytes, None)
    }

    fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn what_is_no_runnable_workload_has_a_name() {
        let code = |bytes: &[u8]| load(bytes).unwrap_err().code();
        assert_eq!(code(b""), "WORKLOAD_INVALID");
        assert_eq!(code(b"(component)"), "WORKLOAD_INVALID");
        assert_eq!(code(&vec![0; MAX_WORKLOAD + 1]), "WORKLOAD_TOO_LARGE");
        assert_eq!(code(&wat("(module)")), "WORKLOAD_WITHOUT_ENTRY");
        assert_eq!(code(&wat("(component)")), "WORKLOAD_WITHOUT_ENTRY");
        let imports = r#"(component (import "host:secrets/all" (instance (export "take" (func)))))"#;
        assert_eq!(code(&wat(imports)), "WORKLOAD_IMPORT_UNKNOWN");
        let greedy = "(component (core module $m (memory 60000)) (core instance (instantiate $m)))";
        assert_eq!(code(&wat(greedy)), "WORKLOAD_INVALID");
    }

    #[test]
    fn hostile_components_are_errors_not_panics() {
        let nested = format!("{}{}", "(component ".repeat(500), ")".repeat(500));
        if let Ok(bytes) = wat::parse_str(&nested) {
            assert!(load(&bytes).is_err());
        }
        let tables =
            "(component (core module $m (table 4000000000 funcref)) (core instance (instantiate $m)))";
        assert!(load(&wat(tables)).is_err());
        let valid =
            wat("(component (core module (func (result i32) i32.const 1)) (type (func (param \"x\" u8))))");
        for cut in 0..valid.len() {
            assert!(load(&valid[..cut]).is_err());
        }
        for at in 0..valid.len() {
            let mut flipped = valid.clone();
            flipped[at] ^= 0x41;
            assert!(load(&flipped).is_err());
        }
    }

    /// S-56: native code that is handed in as if it were a component is not run.
    #[test]
    fn s56_precompiled_code_is_not_a_component() {
        let runtime = Runtime::new(Pool { instances: 1, ..Pool::default() }).unwrap();
        let native = Component::new(&runtime.engine, wat("(component)")).unwrap().serialize().unwrap();
        assert_eq!(runtime.load(&native, None).unwrap_err().code(), "WORKLOAD_INVALID");
    }
}
