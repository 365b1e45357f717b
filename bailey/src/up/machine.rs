//! The emulated platform and the host agent on it, as child processes that end with this one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use appraisal::{EmulatedRoot, Policy, ReferenceValue};
use emulator::daemon::Daemon;
use evidence::Platform;
use host::{Action, LogDestination, ProcessSpec, Reply, Restart};

use crate::commands::measure::reference_values;

const READY_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// Where our programs are.
#[derive(Debug, Clone)]
pub struct Programs(PathBuf);

impl Programs {
    /// Beside the program that is running.
    pub fn beside_this_one() -> Result<Self> {
        let this = std::env::current_exe().context("the path of this program is unknown")?;
        Ok(Self(this.parent().context("this program has no folder")?.to_owned()))
    }

    /// In `folder`.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The path of one.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        if !path.is_file() {
            bail!("{} is missing: build it with `cargo build --workspace`", path.display());
        }
        Ok(path)
    }

    /// Programs as they are now, in `folder`: whoever builds them anew meanwhile changes nothing here.
    pub(super) fn pinned_of(&self, folder: &Path, names: &[&str]) -> Result<Self> {
        // Those of an earlier start may be older.
        if folder.is_dir() {
            fs::remove_dir_all(folder).with_context(|| format!("{} cannot be removed", folder.display()))?;
        }
        fs::create_dir(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        for name in names {
            let (from, to) = (self.path(name)?, folder.join(name));
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(|_| ()))
                .with_context(|| format!("{} cannot be copied", from.display()))?;
        }
        Ok(Self(folder.to_owned()))
    }

    /// Its reference values, with any launch configuration or one.
    pub fn measure(&self, name: &str, configuration: Option<&[u8]>) -> Result<Vec<ReferenceValue>> {
        let path = self.path(name)?;
        let code = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(reference_values(name, &code, configuration).reference_values)
    }
}

/// The platform with its host agent.
pub struct Machine {
    folder: PathBuf,
    programs: Programs,
    platform: Option<Daemon>,
    agent: Child,
}

impl Machine {
    /// Starts both below `folder`, where the programs of a mesh are pinned, too.
    pub fn start(folder: &Path, programs: Programs) -> Result<Self> {
        let names = ["bailey", "bailey-emulator", "bailey-coordinator", "bailey-keep", "bailey-guest"];
        Self::start_with(folder, programs, &names)
    }

    /// As that, with these programs.
    pub(super) fn start_with(folder: &Path, programs: Programs, names: &[&str]) -> Result<Self> {
        let programs = programs.pinned_of(&folder.join("programs"), names)?;
        let platform_folder = folder.join("platform");
        let log =
            fs::File::create(folder.join("emulator.log")).context("the emulator's log cannot be written")?;
        let platform = Daemon::start(&programs.path("bailey-emulator")?, &platform_folder, Stdio::from(log))?;
        let agent_folder = folder.join("host");
        let log =
            fs::File::create(folder.join("host.log")).context("the host agent's log cannot be written")?;
        let agent = Command::new(programs.path("bailey")?)
            .args(["host", "start", "--supervised", "--directory"])
            .arg(&agent_folder)
            .arg("--platform")
            .arg(&platform_folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("the host agent cannot be started")?;
        let machine = Self { folder: folder.to_owned(), programs, platform: Some(platform), agent };
        machine.await_agent()?;
        Ok(machine)
    }

    fn await_agent(&self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match host::ask(&self.agent_folder(), &Action::Status {}) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(anyhow::Error::new(error).context("the host agent does not answer"));
                }
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    /// The folder that everything of this machine is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the host agent's socket and logs are.
    pub fn agent_folder(&self) -> PathBuf {
        self.folder.join("host")
    }

    /// The host agent's process.
    pub fn agent_pid(&self) -> u32 {
        self.agent.id()
    }

    /// The programs that it launches.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The trust root of this platform's Evidence of one kind, PEM.
    pub fn root_pem(&self, platform: Platform) -> Result<String> {
        root_of(&self.folder.join("platform"), platform)
    }

    /// The strict policy, with this machine's emulated roots named.
    pub fn policy(&self) -> Result<Policy> {
        policy_of(&self.folder.join("platform"))
    }

    /// Has the host agent launch a program of ours, and keep it running or not.
    pub fn launch(
        &self,
        name: &str,
        platform: Platform,
        program: &Path,
        configuration: Vec<u8>,
        arguments: Vec<String>,
        restart: Restart,
    ) -> Result<()> {
        let process = ProcessSpec {
            name: name.parse()?,
            platform,
            backend: None,
            limits: host::Limits::default(),
            executable: program.to_owned(),
            configuration: host::Configuration::Hex(hex::encode(configuration)),
            arguments,
            log: LogDestination::File,
            restart,
            volumes: None,
            workload: None,
            ports: Vec::new(),
        };
        self.act(&Action::Launch { process: Box::new(process) })
    }

    /// Has the host agent end a process.
    pub fn stop(&self, name: &str) -> Result<()> {
        self.act(&Action::Stop { name: name.parse()? })
    }

    /// What the host agent tells of its processes.
    pub fn status(&self) -> Result<Vec<host::Status>> {
        match host::ask(&self.agent_folder(), &Action::Status {})? {
            Reply::Processes { processes } => Ok(processes),
            other => Err(anyhow!("the host agent gave an unexpected answer: {other:?}")),
        }
    }

    fn act(&self, action: &Action) -> Result<()> {
        match host::ask(&self.agent_folder(), action)? {
            Reply::Done {} => Ok(()),
            Reply::Refused { code, reason } => Err(anyhow!("the host agent refused: {reason} [{code}]")),
            _ => Err(anyhow!("the host agent gave an unexpected answer")),
        }
    }

    /// The log of a process.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.agent_folder().join("logs").join(format!("{name}.log"))
    }

    /// Ends everything.
    pub fn shut_down(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        // The host agent ends when its standard input does.
        drop(self.agent.stdin.take());
        self.agent.wait().context("the host agent cannot be waited for")?;
        if let Some(platform) = self.platform.take() {
            platform.stop()?;
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.platform.is_some()
            && let Err(error) = self.end()
        {
            eprintln!("the machine could not be shut down: {error:#}");
        }
    }
}

/// The trust root of the Evidence of one kind that the emulated platform in this folder gives, PEM.
fn root_of(platform_folder: &Path, platform: Platform) -> Result<String> {
    let name = match platform {
        Platform::Sgx | Platform::Tdx => "sgx-root.pem",
        Platform::Snp => "ark.pem",
        other => bail!("{other} is not emulated"),
    };
    let path = platform_folder.join("roots").join(name);
    fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
}

/// The strict policy, with the roots of the emulated platform in this folder named.
pub(super) fn policy_of(platform_folder: &Path) -> Result<Policy> {
    let mut roots = Vec::new();
    for platform in [Platform::Sgx, Platform::Snp] {
        let pem = root_of(platform_folder, platform)?;
        let certificates = evidence::pem::certificates(pem.as_bytes())?;
        let [certificate] = certificates.as_slice() else { bail!("a root file has not one certificate") };
        roots.push(EmulatedRoot::new(format!("emulated {platform} root of this machine"), &certificate.0)?);
    }
    Ok(Policy::production().trust_emulated(roots))
}
