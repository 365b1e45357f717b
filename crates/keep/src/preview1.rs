//! WASI preview 1: core modules with numbered descriptors, as Enarx ran them. The index of a `[[files]]` entry is its
//! descriptor's number; `/` follows them where the workload has files.

use std::{sync::Arc, time::Instant};

use keep_config::File;
use wasmtime::{Engine, InstancePre, Linker, Store, UpdateDeadline, Val};

use self::table::{Descriptor, Directory, Open, Table};
use crate::{
    command::{Failure, instantiating},
    limit::{Alarm, Exceeded, MemoryLimit, Which},
    net::{NetError, STREAM},
    stdio::Streams,
    workload::Entry,
    world::{Listening, World},
};

mod abi;
mod calls;
mod clock;
mod files;
mod link;
mod poll;
mod table;
mod transfer;
mod unstable;

/// The state of one instance of a module.
pub(crate) struct Instance {
    table: Table,
    args: Vec<String>,
    env: Vec<String>,
    /// When its monotonic clock was zero.
    begun: Instant,
    memory: MemoryLimit,
}

/// Everything that a module may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Instance>> {
    let mut linker = Linker::new(engine);
    link::link(&mut linker)?;
    Ok(linker)
}

/// Runs a module from its entry to its end. What the entry returns is nobody's exit code, as in Enarx.
pub(crate) async fn run(
    engine: &Engine,
    pre: &InstancePre<Instance>,
    entry: Entry,
    world: &Arc<World>,
    alarm: &Alarm,
    streams: &Streams,
) -> wasmtime::Result<u8> {
    let instance = Instance {
        table: descriptors(world, streams).await?,
        args: world.args.clone(),
        env: world.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        begun: Instant::now(),
        memory: MemoryLimit::new(world.limits.memory, alarm.clone(), Arc::clone(&world.metrics)),
    };
    let mut store = Store::new(engine, instance);
    store.limiter(|instance| &mut instance.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
    let instance = pre.instantiate_async(&mut store).await.map_err(instantiating)?;
    let entry = instance.get_func(&mut store, entry.0).ok_or_else(|| wasmtime::Error::msg("no entry"))?;
    let mut results = vec![Val::I32(0); entry.ty(&store).results().len()];
    entry.call_async(&mut store, &[], &mut results).await?;
    Ok(0)
}

/// What is open at the start. Connections are made, and listeners listen, before the module begins.
async fn descriptors(world: &World, streams: &Streams) -> wasmtime::Result<Table> {
    let mut table = Table::default();
    for (place, file) in world.descriptors.iter().enumerate() {
        let failed = |error: NetError| match error {
            NetError::TooMany(_) => wasmtime::Error::from(Exceeded(Which::Connections)),
            error => wasmtime::Error::from(Failure::Network {
                name: file.name().to_owned(),
                code: error.code(),
                message: format!("files[{place}]: {}", chain(&error)),
            }),
        };
        let open = match file {
            File::Null { .. } => Open::Null,
            File::Stdin { .. } => Open::Stdin(streams.stdin.clone()),
            File::Stdout { .. } => Open::Printer(streams.stdout.clone()),
            File::Stderr { .. } => Open::Printer(streams.stderr.clone()),
            File::Listen { name, listen } => {
                let listener = world.network()?.listen(listen, STREAM).map_err(failed)?;
                world.tell(Listening { name: name.clone(), address: listener.local_addr() });
                Open::Listener(listener)
            }
            File::Connect { connect, .. } => {
                Open::Connection(world.network()?.connect(connect, STREAM).await.map_err(failed)?)
            }
        };
        insert(&mut table, open)?;
    }
    if world.has_files {
        let handle = world.files.root().map_err(|error| Failure::Instantiate(error.to_string()))?;
        insert(&mut table, Open::Directory(Directory { handle, preopened: true, entries: Vec::new() }))?;
    }
    Ok(table)
}

fn insert(table: &mut Table, open: Open) -> Result<(), Failure> {
    let inserted = table.insert(Descriptor::new(open)).map(drop);
    inserted.map_err(|_| Failure::Instantiate("there are too many descriptors".into()))
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
