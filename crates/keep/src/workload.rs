//! What can be run: the kinds of workload, how each is recognised, and why something is none.

use std::{fmt, sync::Arc};

use wasmtime::{Engine, ExternType, InstancePre, Module, component::Component};
use wasmtime_wasi::{p2::bindings::CommandPre as Command2Pre, p3::bindings::CommandPre as Command3Pre};
use wasmtime_wasi_http::{p2::bindings::ProxyPre, p3::bindings::ServicePre};

use crate::{cpu::Ticker, guest::Guest, nesting, preview1, runtime::MAX_WORKLOAD};

/// How a workload is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A core module of WASI preview 1: runs once, from its unnamed export or `_start`.
    Module,
    /// A component that exports `wasi:cli/run` 0.2: runs once.
    Command02,
    /// A component that exports `wasi:cli/run` 0.3: runs once.
    Command03,
    /// A component that exports `wasi:http/incoming-handler` 0.2: answers requests.
    Http02,
    /// A component that exports `wasi:http/handler` 0.3: answers requests.
    Http03,
}

impl Kind {
    /// Whether it is run by [`crate::command::run`]; otherwise it is served.
    pub fn is_command(self) -> bool {
        matches!(self, Self::Module | Self::Command02 | Self::Command03)
    }
}

/// Why a workload cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Larger than [`MAX_WORKLOAD`].
    #[error("the workload has {bytes} bytes; at most {MAX_WORKLOAD} are loaded")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not valid WebAssembly, or one that needs larger memories, tables or more instances than a Keep offers.
    #[error("the workload is invalid WebAssembly, or exceeds what a Keep offers")]
    Invalid(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It imports what a Keep does not offer.
    #[error("the workload imports what a Keep does not offer")]
    Import(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A module with neither an unnamed export nor `_start`, or one that takes arguments.
    #[error("the module has no entry: it exports no function `_start` without parameters")]
    NoEntry,
    /// A component that exports none of the worlds that a Keep runs.
    #[error("the component has no entry: it exports neither wasi:cli/run nor a wasi:http handler")]
    NoExport(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Compilation took longer than it may.
    #[error("the workload was not compiled within {seconds} s")]
    TooSlow {
        /// How long it had.
        seconds: u64,
    },
}

impl LoadError {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "WORKLOAD_TOO_LARGE",
            Self::Invalid(_) => "WORKLOAD_INVALID",
            Self::Import(_) => "WORKLOAD_IMPORT_UNKNOWN",
            Self::NoEntry | Self::NoExport(_) => "WORKLOAD_WITHOUT_ENTRY",
            Self::TooSlow { .. } => "WORKLOAD_COMPILATION_TOO_SLOW",
        }
    }
}

/// Linked, and ready to be instantiated.
#[derive(Clone)]
pub(crate) enum Program {
    Module(InstancePre<preview1::Instance>, Entry),
    Command02(Command2Pre<Guest>),
    Command03(Command3Pre<Guest>),
    Http02(ProxyPre<Guest>),
    Http03(ServicePre<Guest>),
}

/// Where a module begins: `""` or `_start`, as `wasmtime::Linker::get_default` looks for it, which Enarx used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) &'static str);

impl Entry {
    /// Results are allowed, and are nobody's exit code.
    pub(crate) fn of(module: &Module) -> Result<Self, LoadError> {
        let found = ["", "_start"].into_iter().find_map(|name| Some((name, module.get_export(name)?)));
        match found {
            Some((name, ExternType::Func(entry))) if entry.params().len() == 0 => Ok(Self(name)),
            _ => Err(LoadError::NoEntry),
        }
    }
}

/// What was compiled.
pub(crate) enum Compiled {
    Module(Module),
    Component(Component),
}

impl Compiled {
    /// Whether `bytes` begin as a core module's do; otherwise they can only be a component.
    pub(crate) fn is_module(bytes: &[u8]) -> bool {
        bytes.starts_with(b"\0asm\x01\0\0\0")
    }

    pub(crate) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Self, LoadError> {
        let compiled = if Self::is_module(bytes) {
            Module::from_binary(engine, bytes).map(Self::Module)
        } else {
            nesting::check(bytes).map_err(|error| LoadError::Invalid(error.into()))?;
            Component::from_binary(engine, bytes).map(Self::Component)
        };
        compiled.map_err(|error| LoadError::Invalid(error.into()))
    }

    pub(crate) fn serialize(&self) -> wasmtime::Result<Vec<u8>> {
        match self {
            Self::Module(module) => module.serialize(),
            Self::Component(component) => component.serialize(),
        }
    }
}

/// A workload that is ready to run.
#[derive(Clone)]
pub struct Workload {
    pub(crate) program: Program,
    pub(crate) engine: Engine,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) digest: [u8; 32],
    pub(crate) from_cache: bool,
}

impl Workload {
    /// How it is entered.
    pub fn kind(&self) -> Kind {
        match &self.program {
            Program::Module(..) => Kind::Module,
            Program::Command02(_) => Kind::Command02,
            Program::Command03(_) => Kind::Command03,
            Program::Http02(_) => Kind::Http02,
            Program::Http03(_) => Kind::Http03,
        }
    }

    /// SHA-256 of its exact bytes.
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
            .field("kind", &self.kind())
            .field("digest", &hex::encode(self.digest))
            .field("from_cache", &self.from_cache)
            .finish_non_exhaustive()
    }
}
