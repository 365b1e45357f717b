//! One instance of the workload: its state, its limits, and the world that it is linked to.

use std::{collections::BTreeMap, sync::Arc};

use wasmtime::{
    Engine, ResourceLimiter, Store, UpdateDeadline,
    component::{HasData, Linker, ResourceTable},
};
use wasmtime_wasi::{
    WasiCtx, WasiCtxView, WasiView,
    cli::{WasiCli, WasiCliView as _},
    clocks::{WasiClocks, WasiClocksView as _},
    random::WasiRandom,
    sockets::{WasiSockets, WasiSocketsView as _},
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::{
    admission::Limits,
    filesystem::{self, Filesystem},
    http::outgoing::{Outgoing, Peers},
    keyvalue::{self, KeyValue, KeyValueView},
    output::{Output, Stdio},
    vfs::Vfs,
};

const MAX_HANDLES: usize = 10_000;
const MAX_RANDOM: u64 = 1 << 20;
/// What one call may make the host copy out of the instance.
const MAX_CALL_BYTES: usize = 32 << 20;
/// As many tables and instances as a component of today's largest toolchains has, with room.
const MAX_TABLES: usize = 64;
const MAX_INSTANCES: usize = 128;
const MAX_MEMORIES: usize = 16;
/// Elements of one table; the pool's slots have this size.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 65_536;

/// What all instances of one workload share.
pub(crate) struct World {
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) files: Arc<Vfs>,
    pub(crate) keyvalue: KeyValue,
    pub(crate) output: Arc<Output>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) limits: Limits,
}

/// The state of one instance.
pub(crate) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    world: Arc<World>,
    memory: MemoryLimit,
}

impl Guest {
    /// Whether the instance asked for more memory than it may have.
    pub(crate) fn was_refused_memory(&self) -> bool {
        self.memory.refused
    }
}

impl World {
    /// A store for one instance. Nothing of the host is in it: no directory, variable, standard stream or
    /// socket is inherited.
    pub(crate) fn store(self: &Arc<Self>, engine: &Engine) -> Store<Guest> {
        let mut wasi = WasiCtx::builder();
        wasi.args(&self.args).max_random_size(MAX_RANDOM).allow_tcp(false).allow_udp(false);
        for (name, value) in &self.env {
            wasi.env(name, value);
        }
        wasi.stdout(Stdio { output: Arc::clone(&self.output), stream: "stdout" });
        wasi.stderr(Stdio { output: Arc::clone(&self.output), stream: "stderr" });
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_HANDLES);
        let guest = Guest {
            table,
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            outgoing: Outgoing(Arc::clone(&self.peers)),
            world: Arc::clone(self),
            memory: MemoryLimit { left: self.limits.memory(), refused: false },
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(MAX_CALL_BYTES);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        store
    }
}

/// Memory of one instance, over all its linear memories.
struct MemoryLimit {
    left: usize,
    refused: bool,
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The component's own bound, or the pool's slot, which is as large as the limit.
            self.refused |= desired > current.saturating_add(self.left);
            return Ok(false);
        }
        match self.left.checked_sub(desired - current) {
            Some(left) => {
                self.left = left;
                Ok(true)
            }
            None => {
                self.refused = true;
                Ok(false)
            }
        }
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
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

/// Everything that a workload may import. `wasi:filesystem` and `wasi:keyvalue` are the Keep's own;
/// `wasi:sockets` is there for programs that import it, and refuses every socket.
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
    sockets::ip_name_lookup::add_to_linker::<Guest, WasiSockets>(l, Guest::sockets)?;
    sockets::tcp::add_to_linker::<Guest, WasiSockets>(l, Guest::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<Guest, WasiSockets>(l, Guest::sockets)?;
    sockets::udp::add_to_linker::<Guest, WasiSockets>(l, Guest::sockets)?;
    sockets::udp_create_socket::add_to_linker::<Guest, WasiSockets>(l, Guest::sockets)?;

    wasmtime_wasi_http::p2::add_only_http_to_linker_async(l)?;
    filesystem::add_to_linker(l, |guest| Filesystem { files: &guest.world.files, table: &mut guest.table })?;
    keyvalue::add_to_linker(l, |guest| KeyValueView {
        store: &guest.world.keyvalue,
        table: &mut guest.table,
    })?;
    Ok(linker)
}
