//! A virtual machine that runs: started, followed, adopted, ended.

use std::{
    fs,
    net::{SocketAddrV4, TcpListener},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use time::OffsetDateTime;

use crate::{
    Forward, Guest, Hardware, Protection, Supplied, VmError, arguments, authority::Authority,
    console::Console, file, files::workload_disk, qmp::Monitor, tpm,
};

const PATIENCE: Duration = Duration::from_secs(20);
/// How often the console is looked at.
const INTERVAL: Duration = Duration::from_millis(25);
/// The largest workload that a guest takes, in bytes.
pub const MAX_WORKLOAD: usize = 256 * 1024 * 1024;
const MAX_CONFIGURATION: usize = 256 * 1024;
const MAX_ARGUMENTS: usize = 64 * 1024;

/// Where a port of the guest is on this host.
pub type Address = SocketAddrV4;

/// What is to be launched.
#[derive(Clone, Debug)]
pub struct Launch<'a> {
    /// The image.
    pub guest: &'a Guest,
    /// The machine.
    pub hardware: Hardware,
    /// What protects it.
    pub protection: Protection,
    /// The launch configuration, which is measured.
    pub configuration: &'a [u8],
    /// The Keep's arguments: hints.
    pub arguments: &'a [String],
    /// The workload, where the host supplies one: the guest finds it at [`arguments::WORKLOAD`].
    pub workload: Option<&'a [u8]>,
    /// Ports of the guest to be reached.
    pub ports: &'a [Forward],
    /// Whether the guest finds storage at [`arguments::STORAGE`]: [`storage`] is the host's end of it.
    pub storage: bool,
    /// Whether the guest may connect to others by itself.
    pub outgoing: bool,
}

/// What happens to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The guest wrote to its console.
    Console(Vec<u8>),
    /// The machine is off. The exit code of its Keep, as far as the guest said one.
    Ended(Option<u8>),
}

/// A machine. Dropping it ends it, unless it was released.
#[derive(Debug)]
pub struct Machine {
    folder: PathBuf,
    pid: Pid,
    /// QEMU and the TPM, where this process started them.
    children: Vec<Child>,
    monitor: Monitor,
    console: Console,
    /// As QEMU says.
    ports: Vec<Forward>,
    asked: Arc<Asked>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Asked {
    stop: AtomicBool,
    release: AtomicBool,
}

/// Ends a machine, or lets it go, from another thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Asked>);

impl Stopper {
    /// Ends it at once: nothing in it is worth an orderly end.
    pub fn stop(&self) {
        self.0.stop.store(true, Ordering::Release);
    }

    /// Lets it go on without this process.
    pub fn release(&self) {
        self.0.release.store(true, Ordering::Release);
    }
}

/// The host's end of the storage of the machine in `folder`, which was launched with some; for one holder at a time, the
/// next has it when the one before is gone. What comes out of it is the guest's word.
///
/// # Errors
/// [`VmError::Gone`].
pub fn storage(folder: &Path) -> Result<UnixStream, VmError> {
    UnixStream::connect(folder.join(arguments::STORAGE_SOCKET)).map_err(|_| VmError::Gone)
}

impl Machine {
    /// Starts a machine, with all its files in `folder`, which is its own. `authority` certifies the key of its TPM.
    ///
    /// # Errors
    /// [`VmError`]. Then nothing of it runs.
    pub fn launch(
        launch: &Launch<'_>,
        folder: &Path,
        authority: &Authority,
        now: OffsetDateTime,
    ) -> Result<Self, VmError> {
        launch.ports.iter().try_for_each(|port| can_be_had(port.host))?;
        let mut supplied = supply(launch, folder)?;
        let mut children = Vec::new();
        if launch.protection == Protection::Tpm {
            let variables = folder.join("variables");
            fs::copy(launch.guest.variables(), &variables).map_err(file(&variables))?;
            let key = tpm::provision(folder)?;
            let endorsements = authority.certify(&key, now)?;
            supplied.endorsements = Some(write(folder, "endorsements", &endorsements.to_bytes())?);
            children.push(tpm::run(folder)?);
        }
        let arguments =
            arguments::qemu(launch.guest, &launch.hardware, &launch.protection, &supplied, folder);
        match start(folder, &arguments, &mut children) {
            Ok((pid, monitor)) => {
                let mut machine = Self::new(folder, pid, monitor, children);
                machine.ports = machine.monitor.forwarded()?;
                match launch.ports.iter().find(|port| machine.address(port.guest).is_none()) {
                    Some(port) => {
                        Err(VmError::Monitor(format!("no port leads to the guest's {}", port.guest)))
                    }
                    None => Ok(machine),
                }
            }
            Err(error) => {
                end(&mut children);
                Err(error)
            }
        }
    }

    /// Takes up a machine again that another process started in `folder`, with the ports that it was started with.
    ///
    /// # Errors
    /// [`VmError::Gone`] when there is none any more.
    pub fn adopt(folder: &Path) -> Result<Self, VmError> {
        let monitor = Monitor::connect(&folder.join("qmp"))?;
        let pid = monitor.process().ok_or(VmError::Gone)?;
        let mut machine = Self::new(folder, pid, monitor, Vec::new());
        machine.ports = machine.monitor.forwarded()?;
        Ok(machine)
    }

    fn new(folder: &Path, pid: Pid, monitor: Monitor, children: Vec<Child>) -> Self {
        Self {
            folder: folder.to_owned(),
            pid,
            children,
            monitor,
            console: Console::default(),
            ports: Vec::new(),
            asked: Arc::default(),
            ended: false,
        }
    }

    /// QEMU's process.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Where a port of the guest is reached, if it is.
    pub fn address(&self, guest: u16) -> Option<Address> {
        self.ports.iter().find(|port| port.guest == guest).map(|port| port.host)
    }

    /// Ends it from another thread.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.asked.clone())
    }

    /// Waits for the next thing that happens. [`Happened::Ended`] is the last.
    ///
    /// # Errors
    /// [`VmError::Released`] after it was let go; others when it was lost sight of.
    pub fn next_event(&mut self) -> Result<Happened, VmError> {
        loop {
            if self.asked.release.load(Ordering::Acquire) {
                return Err(VmError::Released);
            }
            if self.ended || self.asked.stop.load(Ordering::Acquire) {
                return Ok(self.over());
            }
            match self.monitor.console() {
                Ok(bytes) if !bytes.is_empty() => {
                    self.console.read(&bytes);
                    return Ok(Happened::Console(bytes));
                }
                // Nothing more is coming: what was written before the end was read above.
                Ok(_) if self.monitor.shut_down => return Ok(self.over()),
                Ok(_) => std::thread::sleep(INTERVAL),
                Err(VmError::Gone) => return Ok(self.over()),
                Err(error) => return Err(error),
            }
        }
    }

    fn over(&mut self) -> Happened {
        self.end();
        Happened::Ended(self.console.code())
    }

    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.monitor.quit();
        let begun = Instant::now();
        while self.children.is_empty() && test_kill_process(self.pid).is_ok() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.children.is_empty() && test_kill_process(self.pid).is_ok() && self.is_ours() {
            let _ = kill_process(self.pid, Signal::KILL);
        }
        end(&mut self.children);
    }

    /// A number of a process may be another's by now.
    fn is_ours(&self) -> bool {
        let command = fs::read(format!("/proc/{}/cmdline", self.pid())).unwrap_or_default();
        let folder = self.folder.to_string_lossy();
        command.windows(folder.len().max(1)).any(|window| window == folder.as_bytes())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.asked.release.load(Ordering::Acquire) {
            // Whoever follows reaps nothing: they become init's.
            self.children.clear();
            return;
        }
        self.end();
    }
}

fn start(folder: &Path, arguments: &[String], children: &mut Vec<Child>) -> Result<(Pid, Monitor), VmError> {
    let log = folder.join("qemu.log");
    let out = fs::File::create(&log).map_err(file(&log))?;
    let qemu = Command::new("qemu-system-x86_64")
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(out)
        .spawn()
        .map_err(|source| VmError::Program {
            program: "qemu-system-x86_64",
            package: "qemu-system-x86",
            source,
        })?;
    let id = qemu.id();
    children.insert(0, qemu);
    let socket = folder.join("qmp");
    let begun = Instant::now();
    loop {
        match Monitor::connect(&socket) {
            Err(VmError::Gone) if begun.elapsed() < PATIENCE => {}
            Err(error) => return Err(error),
            Ok(monitor) => {
                let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(VmError::Gone)?;
                return Ok((pid, monitor));
            }
        }
        if children.iter_mut().any(|child| child.try_wait().ok().flatten().is_some()) {
            let words = fs::read_to_string(&log).unwrap_or_default().trim().to_owned();
            return Err(VmError::Ended { program: "qemu-system-x86_64", words });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// QEMU would only say that it could not. Another program may still be faster; then QEMU's words are what is told.
fn can_be_had(address: SocketAddrV4) -> Result<(), VmError> {
    TcpListener::bind(address).map(drop).map_err(|source| VmError::Port { address, source })
}

fn end(children: &mut Vec<Child>) {
    for mut child in children.drain(..) {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Writes what the guest is handed.
fn supply(launch: &Launch<'_>, folder: &Path) -> Result<Supplied, VmError> {
    let bounded = |what, size, limit| {
        if size > limit { Err(VmError::TooLarge { what, size, limit }) } else { Ok(()) }
    };
    let arguments = serde_json::to_vec(launch.arguments).unwrap_or_default();
    bounded("the launch configuration", launch.configuration.len(), MAX_CONFIGURATION)?;
    bounded("the arguments", arguments.len(), MAX_ARGUMENTS)?;
    let mut supplied = Supplied {
        ports: launch.ports.to_vec(),
        storage: launch.storage,
        outgoing: launch.outgoing,
        ..Supplied::default()
    };
    supplied.configuration = Some(write(folder, "configuration", launch.configuration)?);
    supplied.arguments = Some(write(folder, "arguments", &arguments)?);
    if let Some(workload) = launch.workload {
        bounded("the workload", workload.len(), MAX_WORKLOAD)?;
        supplied.workload = Some(write(folder, "workload.img", &workload_disk(workload))?);
    }
    Ok(supplied)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, VmError> {
    let path = folder.join(name);
    fs::write(&path, bytes).map_err(file(&path))?;
    Ok(path)
}
