//! A host on this machine for one deployment: the emulated platform, and a host agent whose API this user alone can
//! reach, with one warm Keep.

use std::{
    fs::{self, DirBuilder, File},
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use appraisal::Policy;
use deploy::{Access, Host, Wanted};
use emulator::daemon::Daemon;
use serde_json::json;

use super::{Programs, free_address, machine};

const READY_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// The file in which an emulated platform has its keys. Making them takes seconds, so they are kept.
const KEYS: &str = "platform.json";

/// Platform and host agent. Both end with this.
pub struct Lone {
    folder: PathBuf,
    programs: Programs,
    platform: Option<Daemon>,
    agent: Child,
    address: SocketAddr,
}

impl Lone {
    /// Starts both below `folder`. The platform is the one that is kept in `kept`, or a new one, which is kept there.
    pub async fn start(folder: &Path, kept: Option<&Path>, programs: &Programs) -> Result<Self> {
        let programs =
            programs.pinned_of(&folder.join("programs"), &["bailey", "bailey-emulator", "bailey-keep"])?;
        let platform_folder = folder.join("platform");
        let had = kept.is_some_and(|kept| restore(kept, &platform_folder).is_ok());
        if !had {
            eprintln!("making the keys of an emulated platform; the next start is faster");
        }
        let log = |name: &str| File::create(folder.join(name)).context("a log cannot be written");
        let platform = Daemon::start(
            &programs.path("bailey-emulator")?,
            &platform_folder,
            Stdio::from(log("emulator.log")?),
        )?;
        if let Some(kept) = kept.filter(|_| !had) {
            // Only the next start is slower without it.
            let _ = keep(&platform_folder, kept);
        }
        let address = free_address().context("no port could be had")?;
        let config = folder.join("host.json");
        // What is stored outlives the folder of this one run.
        let volumes = kept.map_or_else(|| folder.join("volumes"), |kept| kept.join("volumes"));
        let text = json!({
            "directory": "host",
            "volumes": volumes,
            "backends": [{"process": {
                "name": "emulated", "platform": "platform", "isolation": "none",
                "keep": {"executable": programs.path("bailey-keep")?},
            }}],
            "api": {"listen": address, "open": {"storage_mib": 1 << 20}},
            "keeps": {"warm": 1},
        });
        fs::write(&config, text.to_string()).context("the agent's configuration cannot be written")?;
        let agent = Command::new(programs.path("bailey")?)
            .args(["host", "start", "--supervised", "--config"])
            .arg(&config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log("host.log")?)
            .spawn()
            .context("the host agent cannot be started")?;
        let mut lone = Self { folder: folder.to_owned(), programs, platform: Some(platform), agent, address };
        lone.await_agent().await?;
        Ok(lone)
    }

    async fn await_agent(&mut self) -> Result<()> {
        let (host, deadline) = (self.host()?, Instant::now() + READY_WITHIN);
        loop {
            match host.info().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(anyhow::Error::new(error).context("the host agent does not answer"));
                }
                Err(_) => {}
            }
            if let Some(status) = self.agent.try_wait()? {
                let log = fs::read_to_string(self.folder.join("host.log")).unwrap_or_default();
                bail!(
                    "the host agent ended with {status}: {}",
                    log.lines().last().unwrap_or("it said nothing")
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Its API.
    pub fn host(&self) -> Result<Host> {
        let endpoint = format!("https://localhost:{}", self.address.port()).parse()?;
        Ok(Host::new(endpoint, Access::Anyone, deploy::clock()))
    }

    /// The folder that all of it is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The strict policy with this machine's emulated roots named, and the very bailey-keep that it launches.
    pub fn wanted(&self, configuration: &[u8]) -> Result<Wanted> {
        Ok(Wanted {
            policy: self.policy()?,
            measurements: self.programs.measure("bailey-keep", Some(configuration))?,
        })
    }

    /// The strict policy, with this machine's emulated roots named.
    pub fn policy(&self) -> Result<Policy> {
        machine::policy_of(&self.folder.join("platform"))
    }
}

impl Drop for Lone {
    fn drop(&mut self) {
        // The host agent ends when its standard input does.
        drop(self.agent.stdin.take());
        let ended = self.agent.wait().map(|_| ()).map_err(anyhow::Error::from);
        let stopped = self.platform.take().map_or(Ok(()), |platform| Ok(platform.stop().map(|_| ())?));
        if let Err(error) = ended.and(stopped) {
            eprintln!("the Keep's host could not be shut down: {error:#}");
        }
    }
}

/// A copy of the kept platform's keys, in a new folder.
fn restore(kept: &Path, platform: &Path) -> Result<()> {
    let keys = fs::read(kept.join(KEYS))?;
    private_folder(platform)?;
    private_file(&platform.join(KEYS), &keys)
}

/// Keeps the platform's keys. Who comes second finds them there.
fn keep(platform: &Path, kept: &Path) -> Result<()> {
    let keys = fs::read(platform.join(KEYS))?;
    private_folder(kept)?;
    let fresh = kept.join(format!("{KEYS}.{}", std::process::id()));
    private_file(&fresh, &keys)?;
    Ok(fs::rename(fresh, kept.join(KEYS))?)
}

fn private_folder(path: &Path) -> Result<()> {
    Ok(DirBuilder::new().recursive(true).mode(0o700).create(path)?)
}

fn private_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    Ok(file.write_all(bytes)?)
}
