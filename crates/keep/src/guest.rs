//! One instance of the workload: its state, its limits, and the world that it is linked to.

use std::sync::Arc;

use wasmtime::{
    Engine, Store, UpdateDeadline,
    component::{HasData, Linker, ResourceTable},
};
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    cli::{WasiCli, WasiCliView as _},
    clocks::{WasiClocks, WasiClocksView as _},
    random::WasiRandom,
    sockets::{WasiSockets, WasiSocketsView as _},
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    filesystem::{self, Filesystem},
    http::outgoing::Outgoing,
    keyvalue::{self, KeyValueView},
    limit::{Alarm, MemoryLimit},
    sockets::{self as own_sockets, Sockets},
    wasi03,
    world::World,
};

const MAX_HANDLES: usize = 10_000;
const MAX_RANDOM: u64 = 1 << 20;
/// What one call may make the host copy out of the instance.
const MAX_CALL_BYTES: usize = 32 << 20;

/// The state of one instance of a component.
pub(crate) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    world: Arc<World>,
    memory: MemoryLimit,
}

/// A store for one instance. Nothing of the host is in it: no directory, variable, standard stream or
/// socket is inherited; `wire` connects what standard streams it has.
pub(crate) fn store(
    engine: &Engine,
    world: &Arc<World>,
    alarm: &Alarm,
    wire: impl FnOnce(&mut WasiCtxBuilder),
) -> Store<Guest> {
    let mut wasi = WasiCtx::builder();
    wasi.args(&world.args).envs(&world.env).max_random_size(MAX_RANDOM).allow_tcp(false).allow_udp(false);
    wire(&mut wasi);
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_HANDLES);
    let guest = Guest {
        table,
        wasi: wasi.build(),
        http: WasiHttpCtx::new(),
        outgoing: Outgoing(Arc::clone(&world.peers)),
        world: Arc::clone(world),
        memory: MemoryLimit::new(world.limits.memory, alarm.clone(), Arc::clone(&world.metrics)),
    };
    let mut store = Store::new(engine, guest);
    store.limiter(|guest| &mut guest.memory);
    store.set_hostcall_fuel(MAX_CALL_BYTES);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
    store
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

struct HasIo;

impl HasData for HasIo {
    type Data<'a> = &'a mut ResourceTable;
}

/// Everything that a workload may import. `wasi:filesystem`, in both generations, and `wasi:keyvalue` are the Keep's own;
/// `wasi:sockets` is too, as far as a socket can be had by it.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    use wasmtime_wasi::p2::bindings::{cli, clocks, io, random, sockets};

    let mut linker = Linker::new(engine);
    let l = &mut linker;
    io::error::add_to_linker::<Guest, HasIo>(l, |guest| &mut guest.table)?;
    io::poll::add_to_linker::<Guest, HasIo>(l, |guest| &mut guest.table)?;
    io::streams::add_to_linker::<Guest, HasIo>(l, |guest| &mut guest.table)?;

    clocks::wall_clock::add_to_linker::<Guest, WasiClocks>(l, Guest::clocks)?;
    clocks::monotonic_clock::add_to_linker::<Guest, WasiClocks>(l, Guest::clocks)?;
    random::random::add_to_linker::<Guest, WasiRandom>(l, |guest| guest.wasi.random())?;
    random::insecure::add_to_linker::<Guest, WasiRandom>(l, |guest| guest.wasi.random())?;
    random::insecure_seed::add_to_linker::<Guest, WasiRandom>(l, |guest| guest.wasi.random())?;

    cli::environment::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::exit::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::stdin::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::stdout::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::stderr::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_input::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_output::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;

    let network = sockets::network::LinkOptions::default();
    sockets::network::add_to_linker::<Guest, WasiSockets>(l, &network, Guest::sockets)?;
    sockets::instance_network::add_to_linker::<Guest, WasiSockets>(l, Guest::sockets)?;
    sockets::udp::add_to_linker::<Guest, WasiSockets>(l, Guest::sockets)?;
    own_sockets::add_to_linker(l, |guest| Sockets {
        net: guest.world.net.as_ref(),
        table: &mut guest.table,
    })?;

    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    filesystem::add_to_linker(l, |guest| Filesystem { files: &guest.world.files, table: &mut guest.table })?;
    keyvalue::add_to_linker(l, |guest| KeyValueView {
        store: &guest.world.keyvalue,
        table: &mut guest.table,
    })?;
    wasmtime_wasi::p3::cli::add_to_linker(l)?;
    wasmtime_wasi::p3::clocks::add_to_linker(l)?;
    wasmtime_wasi::p3::random::add_to_linker(l)?;
    wasi03::add_to_linker(
        l,
        |guest| Filesystem { files: &guest.world.files, table: &mut guest.table },
        |guest| Sockets { net: guest.world.net.as_ref(), table: &mut guest.table },
    )?;
    wasmtime_wasi_http::p3::add_to_linker(l)?;
    Ok(linker)
}
