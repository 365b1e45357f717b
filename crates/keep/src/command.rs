//! A workload that runs once: its standard streams are the caller's, and how it ended is told in full.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use crate::{
    admission::Admission,
    cpu::{CpuExceeded, Metered},
    guest,
    limit::{Alarm, Exceeded},
    metrics::Of,
    net::Net,
    output::{Output, Stdio as Printed},
    preview1,
    stdio::Streams,
    vfs::Vfs,
    workload::{Program, Workload},
    world::{World, WorldError},
};

pub use crate::{limit::Which, stdio::Stdio};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit code.
    Exit(u8),
    /// It failed.
    Trap {
        /// Stable code: `TRAP_…`.
        code: &'static str,
        /// The engine's words, which hold nothing of the workload's memory.
        message: String,
    },
    /// It exceeded a limit.
    Limit(Which),
    /// The caller wanted it to end.
    Cancelled,
    /// It did not begin.
    Failed(Failure),
}

/// Why a run did not begin, or not end as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It answers requests, and is served instead.
    #[error("the workload is no command: it answers HTTP requests")]
    NotACommand,
    /// All instances of this Keep are in use.
    #[error("all instances of this Keep are in use")]
    Busy,
    /// It ended well, and what it wrote to its volumes could not be kept.
    #[error("what the workload wrote is not kept: {0}")]
    Storage(String),
    /// A listener or a connection that it is to have from the start cannot be had.
    #[error("{message}")]
    Network {
        /// The descriptor's name.
        name: String,
        /// Stable code.
        code: &'static str,
        /// What is wrong, with all causes.
        message: String,
    },
    /// It is to have listeners or connections, and this Keep gives it no network.
    #[error("the configuration asks for a network, and this Keep gives it none")]
    NoNetwork,
    /// Its memories, tables or instances exceed what a Keep offers.
    #[error("the workload cannot be instantiated: {0}")]
    Instantiate(String),
}

impl Failure {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotACommand => "WORKLOAD_IS_NO_COMMAND",
            Self::Busy => "KEEP_BUSY",
            Self::Storage(_) => "STORAGE_FAILED",
            Self::Network { code, .. } => code,
            Self::NoNetwork => "NO_NETWORK",
            Self::Instantiate(_) => "WORKLOAD_NOT_INSTANTIATED",
        }
    }
}

impl Ended {
    /// Stable code; none for a workload that ended by itself.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::Exit(_) => None,
            Self::Trap { code, .. } => Some(code),
            Self::Limit(which) => Some(which.code()),
            Self::Cancelled => Some("CANCELLED"),
            Self::Failed(failure) => Some(failure.code()),
        }
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "the workload ended with exit code {code}"),
            Self::Trap { message, .. } => write!(f, "the workload failed: {message}"),
            Self::Limit(which) => which.fmt(f),
            Self::Cancelled => f.write_str("the workload was ended on request"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Runs an admitted Marble's `workload` once. It finds no input; what it prints goes where the manifest says.
///
/// # Errors
/// When its world cannot be built of what the manifest says.
pub async fn run_admitted(
    workload: &Workload,
    mut admission: Admission,
    net: Net,
    cancel: impl Future<Output = ()> + Send,
) -> Result<Ended, WorldError> {
    admission.config.get_or_insert_default();
    let (marble, log) = (admission.marble.clone(), admission.log);
    let world = World::admitted(admission, net)?;
    let output = Output::new(&marble, log, &world.metrics);
    let print = |stream| Box::new(Printed { output: Arc::clone(&output), stream }.lines());
    let (stdout, stderr) = (print("stdout"), print("stderr"));
    let stdio = Stdio { stdin: Box::new(tokio::io::empty()), stdout, stderr };
    Ok(run_told(workload, world, stdio, Some(&output), cancel).await)
}

/// Runs `workload` once in `world`, until it ends, exceeds a limit, or `cancel` is done. What it printed until then
/// has been written to `stdio` when this returns, as far as the caller takes it.
pub async fn run(
    workload: &Workload,
    world: World,
    stdio: Stdio,
    cancel: impl Future<Output = ()> + Send,
) -> Ended {
    run_told(workload, world, stdio, None, cancel).await
}

/// The same; what it uses is told by `output`, while it runs and at its end.
pub(crate) async fn run_told(
    workload: &Workload,
    world: World,
    stdio: Stdio,
    output: Option<&Output>,
    cancel: impl Future<Output = ()> + Send,
) -> Ended {
    let alarm = Alarm::default();
    let files = Arc::clone(&world.files);
    let (streams, drivers) = stdio.split(&world.limits, &alarm);
    let (limits, metrics) = (world.limits.clone(), Arc::clone(&world.metrics));
    Vfs::keep_committing(&files);
    let running = async {
        let _ticking = workload.ticker.run();
        let cpu = limits.cpu.unwrap_or(Duration::MAX);
        let instance = instance(workload, Arc::new(world), &alarm, &streams);
        let cancel = told(output, cancel);
        until(Metered::new(instance, cpu, metrics), limits.wall, &alarm, cancel).await
    };
    let ended = drivers.during(&streams, running).await;
    let kept = files.commit().await;
    if let Some(output) = output {
        output.tell_metrics(Of::Command);
    }
    match (kept, &ended) {
        // What it left behind was to stay, and does not.
        (Err(error), Ended::Exit(_)) => Ended::Failed(Failure::Storage(error.to_string())),
        _ => ended,
    }
}

/// Tells what is used until `over`, in the task of the instance. A command of which nobody is to hear has no timer.
async fn told(output: Option<&Output>, over: impl Future<Output = ()>) {
    let telling = async {
        match output {
            Some(output) => output.tell_metrics_regularly(Of::Command).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = over => {}
        never = telling => match never {},
    }
}

/// The instance's life, within its limits.
async fn until(
    running: Metered<impl Future<Output = wasmtime::Result<u8>>>,
    wall: Option<Duration>,
    alarm: &Alarm,
    cancel: impl Future<Output = ()>,
) -> Ended {
    let wall = async {
        match wall {
            Some(wall) => sleep(wall).await,
            None => pending().await,
        }
    };
    let (cancel, wall) = (pin!(cancel), pin!(wall));
    tokio::select! {
        biased;
        which = alarm.raised() => Ended::Limit(which),
        () = cancel => Ended::Cancelled,
        () = wall => Ended::Limit(Which::Wall),
        // What was raised in the last moment is the reason, whatever the instance made of it.
        ended = running => match (alarm.exceeded(), ended) {
            (Some(which), _) => Ended::Limit(which),
            (None, Ok(Ok(code))) => Ended::Exit(code),
            (None, Ok(Err(error))) => classify(&error),
            (None, Err(CpuExceeded)) => Ended::Limit(Which::Cpu),
        },
    }
}

/// A fresh instance, from its beginning to its end. The exit code of one that returns is what its world says.
async fn instance(
    workload: &Workload,
    world: Arc<World>,
    alarm: &Alarm,
    streams: &Streams,
) -> wasmtime::Result<u8> {
    let store = || guest::store(&workload.engine, &world, alarm, |wasi| streams.wire(&world, wasi));
    let status = match &workload.program {
        Program::Module(pre, entry) => {
            return preview1::run(&workload.engine, pre, *entry, &world, alarm, streams).await;
        }
        Program::Command02(pre) => {
            let mut store = store();
            let command = pre.instantiate_async(&mut store).await.map_err(instantiating)?;
            command.wasi_cli_run().call_run(&mut store).await?
        }
        Program::Command03(pre) => {
            let mut store = store();
            let command = pre.instantiate_async(&mut store).await.map_err(instantiating)?;
            store.run_concurrent(async |store| command.wasi_cli_run().call_run(store).await).await??
        }
        Program::Http02(_) | Program::Http03(_) => return Err(Failure::NotACommand.into()),
    };
    Ok(u8::from(status.is_err()))
}

/// Marks an error as one that came before the workload's first instruction, unless that was in a start function.
pub(crate) fn instantiating(error: wasmtime::Error) -> wasmtime::Error {
    if error.is::<Trap>()
        || error.is::<Exceeded>()
        || error.is::<PoolConcurrencyLimitError>()
        || error.is::<Exit>()
    {
        return error;
    }
    // The engine's words are about the module's own declarations.
    Failure::Instantiate(format!("{error:#}")).into()
}

/// `proc_exit` and `wasi:cli/exit`, on their way to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("exit code {0}")]
pub(crate) struct Exit(pub(crate) u32);

fn classify(error: &wasmtime::Error) -> Ended {
    if let Some(Exceeded(which)) = error.downcast_ref() {
        return Ended::Limit(*which);
    }
    if let Some(Exit(code)) = error.downcast_ref() {
        // What does not fit is a failure, and must not become a success by being cut off.
        return Ended::Exit(u8::try_from(*code).unwrap_or(u8::MAX));
    }
    if let Some(I32Exit(code)) = error.downcast_ref() {
        return Ended::Exit(u8::try_from(*code).unwrap_or(u8::MAX));
    }
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Ended::Failed(failure.clone());
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Ended::Failed(Failure::Busy);
    }
    match error.downcast_ref::<Trap>() {
        Some(trap) => {
            let words = trap.to_string();
            let message = words.strip_prefix("wasm trap: ").unwrap_or(&words).to_owned();
            Ended::Trap { code: trap_code(trap), message }
        }
        // Only our own words: an error of a call may quote what the workload passed, which can be its secret.
        None => Ended::Trap { code: "TRAP_HOST_CALL", message: "a call to the Keep was refused".into() },
    }
}

/// A trap's stable code.
pub(crate) fn trap_code(trap: &Trap) -> &'static str {
    match trap {
        Trap::StackOverflow => "TRAP_STACK_OVERFLOW",
        Trap::MemoryOutOfBounds | Trap::HeapMisaligned => "TRAP_OUT_OF_BOUNDS",
        Trap::TableOutOfBounds => "TRAP_TABLE_OUT_OF_BOUNDS",
        Trap::IndirectCallToNull => "TRAP_NULL_CALL",
        Trap::BadSignature => "TRAP_BAD_SIGNATURE",
        Trap::IntegerOverflow => "TRAP_INTEGER_OVERFLOW",
        Trap::IntegerDivisionByZero => "TRAP_DIVISION_BY_ZERO",
        Trap::BadConversionToInteger => "TRAP_BAD_CONVERSION",
        Trap::UnreachableCodeReached => "TRAP_UNREACHABLE",
        _ => "TRAP_OTHER",
    }
}
