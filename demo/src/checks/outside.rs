//! What is outside of TEEs: a process that nobody measured, the host agent's memory, a crash.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bailey::up::{Deployment, Log, Up};
use rustix::process::{Pid, Signal, kill_process};

/// A program that the platform did not launch gets nothing.
pub fn process_outside_a_tee(up: &Up) -> Result<String> {
    let output = Command::new(up.machine.programs().path("bailey-coordinator")?)
        .arg("--state")
        .arg(up.machine.folder().join("nowhere"))
        .output()?;
    ensure!(!output.status.success(), "the coordinator ran outside a TEE");
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.contains("not inside a TEE"), "it did not say why: {said}");
    Ok("the coordinator's program started by hand, not by the platform: gets nothing, says `not inside a TEE`".into())
}

/// The host agent launches everything and gathers all logs; the operator's secret is nowhere in its memory,
/// its environment, its arguments or its logs.
pub fn host_agent_has_no_secret(up: &Up, deployment: &Deployment) -> Result<String> {
    let secrets: Vec<_> = deployment.users.values().flat_map(|user| user.secrets.values()).collect();
    ensure!(!secrets.is_empty(), "the deployment uploads no secret to look for");
    let mut looked = 0;
    let mut processes = vec![("host agent", up.machine.agent_pid())];
    // Where the secret must be, so that not finding it elsewhere means something.
    let coordinator = pid(up, up.mesh.name())?;
    ensure!(
        contains(&memory(coordinator)?, secrets[0].as_bytes()),
        "the search does not find the secret where it is"
    );
    for (what, pid) in processes.drain(..) {
        let mut places = memory(pid)?;
        places.extend(fs::read(format!("/proc/{pid}/environ"))?);
        places.extend(fs::read(format!("/proc/{pid}/cmdline"))?);
        looked += places.len();
        for secret in &secrets {
            ensure!(
                !contains(&places, secret.as_bytes()),
                "the {what} has the operator's secret in its memory"
            );
        }
    }
    for entry in fs::read_dir(up.machine.agent_folder().join("logs"))? {
        let log = fs::read(entry?.path())?;
        for secret in &secrets {
            ensure!(!contains(&log, secret.as_bytes()), "a log has the operator's secret");
        }
    }
    Ok(format!(
        "the operator's secret is nowhere in the host agent's memory ({} MiB searched) nor in any log",
        looked >> 20
    ))
}

/// kill -9: the host agent starts the coordinator again, and it has the same root and manifest.
pub async fn coordinator_killed(up: &Up) -> Result<String> {
    let before = up.mesh.verify(up.mesh.requirements()).await?;
    let log = Log::of(&up.machine, up.mesh.name());
    let victim = pid(up, up.mesh.name())?;
    let victim = Pid::from_raw(i32::try_from(victim)?).context("no process id")?;
    let killed = Instant::now();
    kill_process(victim, Signal::KILL)?;
    log.until(|line| line["message"] == "serving").await.context("the coordinator did not come back")?;
    let took = killed.elapsed();
    let after = up.mesh.verify(up.mesh.requirements()).await?;
    ensure!(before.claims.root == after.claims.root, "the root CA was lost");
    ensure!(before.claims.manifest == after.claims.manifest, "the manifest was lost");
    ensure!(before.claims.log_head == after.claims.log_head, "the state log is another one");
    Ok(format!(
        "coordinator killed with SIGKILL: back after {} ms with the same root, manifest and log head",
        took.as_millis()
    ))
}

fn pid(up: &Up, name: &str) -> Result<u32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let status = up.machine.status()?;
        if let Some(pid) =
            status.iter().find(|process| process.name.as_str() == name).and_then(host::Status::pid)
        {
            return Ok(pid);
        }
        if Instant::now() > deadline {
            bail!("process {name} does not run");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All readable memory of a process.
fn memory(pid: u32) -> Result<Vec<u8>> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut memory = fs::File::open(format!("/proc/{pid}/mem"))
        .context("the memory of another process cannot be read here; is kernel.yama.ptrace_scope set?")?;
    let mut all = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (Some(range), Some(rights)) = (fields.next(), fields.next()) else { continue };
        // What is writable is where data is; reserved address space without content cannot be read.
        if !rights.starts_with("rw") {
            continue;
        }
        let Some((from, to)) = range.split_once('-') else { continue };
        let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
        if memory.seek(SeekFrom::Start(from)).is_ok() {
            let _ = (&mut memory).take(to - from).read_to_end(&mut all);
        }
    }
    Ok(all)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}
