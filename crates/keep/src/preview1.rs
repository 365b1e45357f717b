//! WASI preview 1: core modules with numbered descriptors, as Enarx ran them.

use std::sync::Arc;

use wasmtime::{Engine, InstancePre, Linker, Store, UpdateDeadline};

use crate::{
    command::instantiating,
    limit::{Alarm, MemoryLimit},
    stdio::Streams,
    workload::Entry,
    world::World,
};

/// The state of one instance of a module.
pub(crate) struct Instance {
    memory: MemoryLimit,
}

/// Everything that a module may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Instance>> {
    Ok(Linker::new(engine))
}

/// Runs a module from its entry to its end. What the entry returns is nobody's exit code, as in Enarx.
pub(crate) async fn run(
    engine: &Engine,
    pre: &InstancePre<Instance>,
    entry: Entry,
    world: &Arc<World>,
    alarm: &Alarm,
    _streams: &Streams,
) -> wasmtime::Result<u8> {
    let instance = Instance { memory: MemoryLimit::new(world.limits.memory, alarm.clone()) };
    let mut store = Store::new(engine, instance);
    store.limiter(|instance| &mut instance.memory);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
    let instance = pre.instantiate_async(&mut store).await.map_err(instantiating)?;
    let entry = instance.get_func(&mut store, entry.0).ok_or_else(|| wasmtime::Error::msg("no entry"))?;
    let results = entry.ty(&store).results().len();
    entry.call_async(&mut store, &[], &mut vec![wasmtime::Val::I32(0); results]).await?;
    Ok(0)
}
