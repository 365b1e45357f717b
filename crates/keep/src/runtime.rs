//! The engine: one configuration of wasmtime, the loading of components, and what the Keep's claims say about
//! both. Compilation happens here, inside the TEE, or not at all: native code from outside is accepted only
//! from [`crate::cache`], which this TEE sealed itself (S-56).

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::SHA256;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
    component::{Component, Linker},
};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::{
    admission::Limits,
    cache::{self, Cache},
    cpu::Ticker,
    guest::{self, Guest},
};

/// Engine and security-relevant settings, as the Keep's claims state them (S-53). A floor in a policy compares
/// the version; a change of the settings is a change of this text.
pub const ENGINE_VERSION: &str = "wasmtime/48.0.8 (cranelift; speed; component-model; epoch-interruption; \
                                  pooling, zeroed, nothing kept resident; stacks zeroed)";

/// Largest component that is loaded.
pub const MAX_COMPONENT: usize = 64 << 20;

/// SHA-256 of a component's exact bytes: what manifest and claims know a workload by.
pub fn digest(component: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(aws_lc_rs::digest::digest(&SHA256, component).as_ref());
    bytes
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

/// Why a component cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Larger than [`MAX_COMPONENT`].
    #[error("the component has {bytes} bytes; at most {MAX_COMPONENT} are loaded")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A core module, not a component.
    #[error("this is a core module; a Keep runs components (target wasm32-wasip2)")]
    CoreModule,
    /// Not a valid component, or one that needs more memory, tables or instances than a Keep offers.
    #[error("the component is invalid, or exceeds what a Keep offers")]
    Invalid(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It imports what a Keep does not offer.
    #[error("the component imports what a Keep does not offer")]
    Import(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It does not export `wasi:http/incoming-handler`.
    #[error("the component does not serve HTTP: it exports no wasi:http/incoming-handler")]
    NoHandler(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl LoadError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "COMPONENT_TOO_LARGE",
            Self::CoreModule => "COMPONENT_IS_CORE_MODULE",
            Self::Invalid(_) => "COMPONENT_INVALID",
            Self::Import(_) => "COMPONENT_IMPORT_UNKNOWN",
            Self::NoHandler(_) => "COMPONENT_WITHOUT_HANDLER",
        }
    }
}

/// A configured engine.
pub struct Runtime {
    engine: Engine,
    linker: Linker<Guest>,
    ticker: Arc<Ticker>,
}

impl Runtime {
    /// Sets the engine up for instances within `limits`.
    pub fn new(limits: &Limits) -> Result<Self, RuntimeError> {
        let engine = Engine::new(&config(limits)).map_err(|error| RuntimeError::Engine(error.into()))?;
        let linker = guest::linker(&engine).map_err(|error| RuntimeError::Engine(error.into()))?;
        let ticker = Arc::new(Ticker::start(&engine).map_err(RuntimeError::Clock)?);
        Ok(Self { engine, linker, ticker })
    }

    /// Compiles `component`, or takes it from `cache`. Takes processor time: not for an async thread.
    pub fn load(&self, component: &[u8], cache: Option<&Cache>) -> Result<Workload, LoadError> {
        if component.len() > MAX_COMPONENT {
            return Err(LoadError::TooLarge { bytes: component.len() });
        }
        let digest = digest(component);
        let cached = cache.and_then(|cache| self.take(cache, digest));
        let from_cache = cached.is_some();
        let component = match cached {
            Some(component) => component,
            None => self.compile(component, digest, cache)?,
        };
        let pre = self.linker.instantiate_pre(&component).map_err(|error| LoadError::Import(error.into()))?;
        let pre = ProxyPre::new(pre).map_err(|error| LoadError::NoHandler(error.into()))?;
        Ok(Workload { pre, digest, from_cache, ticker: Arc::clone(&self.ticker) })
    }

    fn compile(&self, bytes: &[u8], digest: [u8; 32], cache: Option<&Cache>) -> Result<Component, LoadError> {
        const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
        if bytes.starts_with(CORE_MODULE) {
            return Err(LoadError::CoreModule);
        }
        let component =
            Component::from_binary(&self.engine, bytes).map_err(|error| LoadError::Invalid(error.into()))?;
        if let Some(cache) = cache {
            match component.serialize() {
                Ok(artefact) => cache.put(&self.slot(digest), artefact),
                Err(_) => {
                    tracing::warn!(code = "CACHE_NOT_WRITTEN", "the compiled component cannot be stored")
                }
            }
        }
        Ok(component)
    }

    fn take(&self, cache: &Cache, digest: [u8; 32]) -> Option<Component> {
        let artefact = cache.get(&self.slot(digest))?;
        // SAFETY: wasmtime runs these bytes as native code, so they must be what `Component::serialize`
        // returned. `Cache::get` only returns plaintexts of authenticated encryption under a key that never
        // leaves this TEE and that only `compile` above uses, with engine, settings and digest as associated
        // data; so they are what a Keep of this very measurement compiled from the component of this digest.
        #[expect(unsafe_code, reason = "the artefact is authenticated by this TEE's sealing key")]
        let component = unsafe { Component::deserialize(&self.engine, &artefact) };
        match component {
            Ok(component) => Some(component),
            Err(_) => {
                tracing::warn!(code = "CACHE_IGNORED", "the engine does not take the stored component");
                None
            }
        }
    }

    fn slot(&self, digest: [u8; 32]) -> cache::Slot {
        cache::Slot::new(ENGINE_VERSION, self.engine.precompile_compatibility_hash(), &digest)
    }
}

/// A component that is ready to be instantiated.
#[derive(Clone)]
pub struct Workload {
    pub(crate) pre: ProxyPre<Guest>,
    pub(crate) ticker: Arc<Ticker>,
    digest: [u8; 32],
    from_cache: bool,
}

impl Workload {
    /// SHA-256 of the component.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Whether compilation was saved.
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("digest", &hex::encode(self.digest))
            .field("from_cache", &self.from_cache)
            .finish_non_exhaustive()
    }
}

/// The settings that [`ENGINE_VERSION`] states.
fn config(limits: &Limits) -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_component_model(true)
        .wasm_memory64(false)
        .epoch_interruption(true)
        .async_stack_zeroing(true)
        // Neither back traces nor profilers look into a workload.
        .generate_address_map(false)
        .native_unwind_info(false)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)));
    config
}

/// Room for `max_concurrent_requests` instances. Slots are address space, not memory, until they are used; they
/// go back to the operating system when an instance ends, so the next one gets zeroed pages (S-54).
fn pool(limits: &Limits) -> PoolingAllocationConfig {
    const INSTANCES: u32 = 32;
    const MEMORIES: u32 = 4;
    const TABLES: u32 = 16;
    let requests = limits.max_concurrent_requests.max(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(0)
        .table_keep_resident(0)
        .async_stack_keep_resident(0)
        .decommit_batch_size(1)
        .max_memory_size(limits.memory())
        .table_elements(guest::MAX_TABLE_ELEMENTS)
        .max_core_instances_per_component(INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .total_component_instances(requests)
        .total_stacks(requests)
        .total_core_instances(requests.saturating_mul(INSTANCES))
        .total_memories(requests.saturating_mul(MEMORIES))
        .total_tables(requests.saturating_mul(TABLES));
    pool
}

#[cfg(test)]
mod tests {
    use wasmtime::{Instance, Module, Store};

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
        let limits = Limits { max_concurrent_requests: 1, memory_bytes: 512 << 10, ..Limits::default() };
        let mut config = config(&limits);
        let mut pool = pool(&limits);
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
        let limits = Limits { max_concurrent_requests: 2, ..Limits::default() };
        Runtime::new(&limits).unwrap().load(bytes, None)
    }

    fn wat(text: &str) -> Vec<u8> {
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn what_is_no_runnable_component_has_a_name() {
        let code = |bytes: &[u8]| load(bytes).unwrap_err().code();
        assert_eq!(code(b""), "COMPONENT_INVALID");
        assert_eq!(code(b"(component)"), "COMPONENT_INVALID");
        assert_eq!(code(&vec![0; MAX_COMPONENT + 1]), "COMPONENT_TOO_LARGE");
        assert_eq!(code(&wat("(module)")), "COMPONENT_IS_CORE_MODULE");
        assert_eq!(code(&wat("(component)")), "COMPONENT_WITHOUT_HANDLER");
        let imports = r#"(component (import "host:secrets/all" (instance (export "take" (func)))))"#;
        assert_eq!(code(&wat(imports)), "COMPONENT_IMPORT_UNKNOWN");
        let greedy = "(component (core module $m (memory 60000)) (core instance (instantiate $m)))";
        assert_eq!(code(&wat(greedy)), "COMPONENT_INVALID");
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
        let runtime = Runtime::new(&Limits { max_concurrent_requests: 1, ..Limits::default() }).unwrap();
        let native = Component::new(&runtime.engine, wat("(component)")).unwrap().serialize().unwrap();
        assert_eq!(runtime.load(&native, None).unwrap_err().code(), "COMPONENT_INVALID");
    }
}
