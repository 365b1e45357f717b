//! The back ends `vm`, `snp` and `tdx`: virtual machines that hold one Keep each. What a process names as its program is
//! the folder of a guest's image (`bailey image build`). A Keep is for clients, who come by a channel, or a Marble's, with
//! ports of its own. Those of SEV-SNP and TDX have not yet run on hardware.

use std::fs::{self, DirBuilder};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use emulator::control::{Exit, Stream};
use evidence::{Measurement, Platform};
use sha2::{Digest, Sha256, Sha384};
use time::OffsetDateTime;
use vm::arguments::{STORAGE, WORKLOAD};
use vm::authority::Authority;
use vm::{Address, Forward, Guest, Happened, Hardware, Launch, MAX_WORKLOAD, Machine, Protection, VmError};

use super::{About, BackendKind, Event, LaunchError, Launcher, Reach, Running, Site, Stopper, Storage};
use crate::clock::{Clock, SystemClock};
use crate::config::VmBackend;
use crate::names::BackendName;
use crate::process::{Channel, Process, make_folder, read_regular};

/// The guest's port that the agent's channels lead to.
const PORT: u16 = 7000;
/// What a guest has when nobody limits it, in MiB.
const MEMORY_MIB: u64 = 768;

/// Launches virtual machines.
#[derive(Clone, Debug)]
pub struct VmLauncher {
    name: BackendName,
    settings: VmBackend,
}

impl VmLauncher {
    /// With these settings.
    pub fn new(name: BackendName, settings: VmBackend) -> Self {
        Self { name, settings }
    }

    fn protection(&self, process: &Process) -> Protection {
        match self.settings.platform {
            Platform::Snp => Protection::snp(Sha256::digest(&process.configuration).into()),
            Platform::Tdx => Protection::tdx(Sha384::digest(&process.configuration).into()),
            _ => Protection::Tpm,
        }
    }
}

impl Launcher for VmLauncher {
    fn about(&self) -> About {
        About {
            name: self.name.clone(),
            kind: match self.settings.platform {
                Platform::Snp => BackendKind::Snp,
                Platform::Tdx => BackendKind::Tdx,
                _ => BackendKind::Vm,
            },
            platforms: vec![self.settings.platform],
            // A TPM of software is an emulated one, though its Evidence ends in no emulated root.
            emulated: self.settings.platform == Platform::Tpm,
            capacity: self.settings.capacity,
            storage: Storage::Attached,
        }
    }

    fn launch(&self, process: &Process, site: &Site) -> Result<Box<dyn Running>, LaunchError> {
        // A machine takes its processors and no more; a smaller share of one is nothing that we can hold it to.
        if process.limits.cpu_milli.is_some_and(|milli| milli / 1000 < self.settings.processors) {
            let reason = "a machine has whole processors, more than the limit of processor time allows";
            return Err(LaunchError::Backend(reason.into()));
        }
        if let Some(unfit) = self.settings.unfit(process).into_iter().next() {
            return Err(unfit.into());
        }
        let workload = process.workload.as_deref().map(read_workload).transpose()?;
        let guest = Guest::open(&process.executable).map_err(refused)?;
        let authority = &self.settings.authority;
        DirBuilder::new().recursive(true).mode(0o700).create(authority)?;
        let now = i64::try_from(SystemClock.unix_ms() / 1000).unwrap_or(i64::MAX);
        let now = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let authority = Authority::open(authority, now).map_err(refused)?;
        let relayed = process.channel == Channel::Relayed;
        // Of a Keep for clients: whose it is, is known once a tenant has it.
        let storage = relayed || process.volumes.is_some();
        let mut arguments = process.arguments.clone();
        let mut ports = process.ports.clone();
        if relayed {
            arguments.extend(["--channel".to_owned(), format!("0.0.0.0:{PORT}")]);
            ports.push(Forward { host: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), guest: PORT });
        }
        if storage {
            arguments.extend(["--storage".to_owned(), format!("{}:{}", STORAGE.0, STORAGE.1)]);
        }
        if workload.is_some() {
            arguments.extend(["--workload".to_owned(), WORKLOAD.to_owned()]);
        }
        let launch = Launch {
            guest: &guest,
            hardware: Hardware {
                accelerator: self.settings.accelerator,
                memory_mib: process.limits.memory_mib.unwrap_or(MEMORY_MIB),
                processors: self.settings.processors,
            },
            protection: self.protection(process),
            configuration: &process.configuration,
            arguments: &arguments,
            workload: workload.as_deref(),
            ports: &ports,
            storage,
            outgoing: self.settings.outgoing,
        };
        fs::create_dir_all(site.directory())?;
        let machine = Machine::launch(&launch, site.directory(), &authority, now).map_err(refused)?;
        process.volumes.iter().try_for_each(|folder| self.attach(folder, site))?;
        Ok(Box::new(Virtual::new(machine, process, site)?))
    }

    fn adopt(&self, process: &Process, site: &Site) -> Result<Box<dyn Running>, LaunchError> {
        match Machine::adopt(site.directory()) {
            Ok(machine) => {
                process.volumes.iter().try_for_each(|folder| self.attach(folder, site))?;
                Ok(Box::new(Virtual::new(machine, process, site)?))
            }
            Err(VmError::Gone) => Err(LaunchError::NothingToAdopt),
            Err(error) => Err(refused(error)),
        }
    }

    /// Answers for the files of the volumes of a machine's Keep, until the machine ends. What comes may be anything: it
    /// leads to the tenant's own folder, and there to files of volumes.
    fn attach(&self, folder: &Path, site: &Site) -> Result<(), LaunchError> {
        make_folder(folder)?;
        let (folder, stream) = (folder.to_owned(), vm::storage(site.directory()).map_err(refused)?);
        let serving = move || {
            if let Err(error) = volume::remote::serve(&stream, &folder) {
                tracing::warn!(reason = %error, "the storage of a machine's Keep ended");
            }
        };
        std::thread::Builder::new().name("storage".into()).spawn(serving)?;
        Ok(())
    }
}

fn refused(error: VmError) -> LaunchError {
    LaunchError::Backend(Box::new(error))
}

fn read_workload(path: &Path) -> Result<Vec<u8>, LaunchError> {
    read_regular(path, MAX_WORKLOAD).map_err(|source| LaunchError::Workload { path: path.to_owned(), source })
}

/// SHA-256 of the image's disk: which image it is. What it measures to, `bailey image measure` says.
fn expected(process: &Process) -> Measurement {
    let disk = fs::read(process.executable.join("disk.img")).unwrap_or_default();
    Measurement::from(<[u8; 32]>::from(Sha256::digest(disk)))
}

/// What the Keep says on the console when a client can have it. A guest that says so too early harms its own client.
const WAITING: &[u8] = b"\"code\":\"WAITING\"";
/// Is in a machine's folder once it has said so, for the next agent.
const READY: &str = "ready";

/// A virtual machine.
struct Virtual {
    machine: Machine,
    /// Where clients' connections are taken, of a Keep for clients.
    channel: Option<Address>,
    measurement: Measurement,
    ready: PathBuf,
    is_ready: bool,
    /// The end of the console as far as it was read.
    tail: Vec<u8>,
    next: Option<Event>,
}

impl Virtual {
    fn new(machine: Machine, process: &Process, site: &Site) -> Result<Self, LaunchError> {
        let channel = match process.channel {
            Channel::None => None,
            Channel::Relayed => {
                let lost = || refused(VmError::Monitor("the channel of the machine is not known".into()));
                Some(machine.address(PORT).ok_or_else(lost)?)
            }
        };
        let ready = site.directory().join(READY);
        let is_ready = channel.is_none() || ready.exists();
        let measurement = expected(process);
        Ok(Self { machine, channel, measurement, ready, is_ready, tail: Vec::new(), next: None })
    }

    fn hear(&mut self, bytes: &[u8]) {
        if self.is_ready {
            return;
        }
        self.tail.extend_from_slice(bytes);
        if self.tail.windows(WAITING.len()).any(|words| words == WAITING) {
            (self.is_ready, self.tail) = (true, Vec::new());
            self.next = Some(Event::Reachable);
            if let Err(error) = fs::write(&self.ready, []) {
                tracing::warn!(reason = %error, "another agent will not know that this machine is ready");
            }
        } else {
            self.tail.drain(..self.tail.len().saturating_sub(WAITING.len()));
        }
    }
}

impl Running for Virtual {
    fn pid(&self) -> u32 {
        self.machine.pid()
    }

    fn measurement(&self) -> Measurement {
        self.measurement.clone()
    }

    fn reach(&self) -> Option<Reach> {
        self.channel.filter(|_| self.is_ready).map(|address| Reach::Tcp(address.into()))
    }

    fn walls(&self) -> Vec<String> {
        ["virtual machine", "seccomp"].map(str::to_owned).to_vec()
    }

    fn next_event(&mut self) -> Result<Event, LaunchError> {
        if let Some(event) = self.next.take() {
            return Ok(event);
        }
        match self.machine.next_event().map_err(refused)? {
            Happened::Console(bytes) => {
                self.hear(&bytes);
                Ok(Event::Output { stream: Stream::Stderr, bytes })
            }
            Happened::Ended(Some(code)) => Ok(Event::Exited(Exit::Code(code.into()))),
            // Without a word of its own it was ended.
            Happened::Ended(None) => Ok(Event::Exited(Exit::Signal(9))),
        }
    }

    fn stopper(&self) -> Result<Box<dyn Stopper>, LaunchError> {
        Ok(Box::new(VmStopper(self.machine.stopper())))
    }
}

struct VmStopper(vm::Stopper);

impl Stopper for VmStopper {
    fn stop(&self) {
        self.0.stop();
    }

    fn release(&self) {
        self.0.release();
    }
}
