//! What the agent tells, for people.

use std::{
    fmt::Write,
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use anyhow::Context;
use comfy_table::{Table, presets};
use host::{Action, Inspection, ProcessName, Reply, State, Status};

use super::{ask, unexpected};
use crate::failure::{Failure, Outcome};

const LOOK: Duration = Duration::from_millis(200);

/// One row per process.
pub(super) fn table(processes: &[Status]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_BORDERS_ONLY)
        .set_header(["process", "back end", "TEE", "state", "restarts", "last end"]);
    for process in processes {
        let last = process.last_exit.as_ref().map_or_else(String::new, |exit| exit.ending.to_string());
        let backend = process.backend.as_ref().map_or_else(String::new, ToString::to_string);
        let name = process.name.to_string();
        let restarts = process.restarts.to_string();
        table.add_row([name, backend, process.platform.to_string(), state(&process.state), restarts, last]);
    }
    table
}

fn state(state: &State) -> String {
    match state {
        State::Starting => "starting".to_owned(),
        State::Running { pid, .. } => format!("running, pid {pid}"),
        State::BackOff { reason, .. } => format!("waiting to restart: {reason}"),
        State::Stopped => "stopped".to_owned(),
    }
}

/// All of one process.
pub(super) fn inspection(inspection: &Inspection) -> String {
    let Inspection { status, tenant, executable, configuration_sha256, limits, log, .. } = inspection;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<15}{value}");
    };
    line("process", status.name.to_string());
    line("state", state(&status.state));
    if let Some(tenant) = tenant {
        line("tenant", tenant.to_string());
    }
    line("TEE", status.platform.to_string());
    if let Some(backend) = &status.backend {
        line("back end", backend.to_string());
    }
    line("program", executable.display().to_string());
    line("configuration", format!("sha256:{configuration_sha256}"));
    if let Some(measurement) = &status.measurement {
        line("measurement", format!("{measurement} (a hint: only Evidence proves it)"));
    }
    let walls = if status.walls.is_empty() { "none".to_owned() } else { status.walls.join(", ") };
    line("walls", walls);
    let memory = limits.memory_mib.map_or_else(|| "any".to_owned(), |memory| format!("{memory} MiB"));
    let cpu = limits.cpu_milli.map_or_else(|| "any".to_owned(), |cpu| format!("{cpu}/1000"));
    line("limits", format!("memory {memory}, processor {cpu}"));
    line("restarts", status.restarts.to_string());
    if let Some(last) = &status.last_exit {
        line("last end", last.ending.to_string());
    }
    line("log", log.as_ref().map_or_else(|| "not kept".to_owned(), |path| path.display().to_string()));
    out.trim_end().to_owned()
}

/// The last lines of a log, and what comes.
pub(super) async fn log(directory: &Path, name: &ProcessName, lines: usize, follow: bool) -> Outcome {
    // The agent says whether there is one: the output of clients' Keeps is not kept.
    let Reply::Process { process } = ask(directory, &Action::Inspect { name: name.clone() })? else {
        return unexpected();
    };
    let Some(path) = process.log else {
        return Err(Failure::refused(format!("the output of {name} is not kept"))
            .hint("what a tenant's workload prints goes to the tenant; \"keeps\": {\"log\": \"file\"} keeps what Keeps say"));
    };
    let mut file = open(&path)?;
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(|| format!("{} cannot be read", path.display()))?;
    let all: Vec<&str> = text.lines().collect();
    for line in &all[all.len().saturating_sub(lines)..] {
        crate::say!("{line}");
    }
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let mut more = String::new();
        // What cannot be read now is read the next time: a log that is set aside is another file then.
        let _ = file.read_to_string(&mut more);
        crate::output::write(format_args!("{more}"));
        let new = open(&path)?;
        let is_same =
            |one: &File, other: &File| Some(one.metadata().ok()?.ino() == other.metadata().ok()?.ino());
        if is_same(&file, &new) == Some(false) {
            file = new;
            file.seek(SeekFrom::Start(0)).context("the log cannot be read")?;
        }
    }
}

fn open(path: &Path) -> Outcome<File> {
    Ok(File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?)
}
