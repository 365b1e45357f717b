//! What the agent tells, for people.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use anyhow::Context;
use appraisal::UnixTime;
use comfy_table::{Table, presets};
use host::{Action, Inspection, ProcessName, Reply, State, Status, TenantName};

use super::{ask, unexpected};
use crate::failure::{Failure, Outcome};

const LOOK: Duration = Duration::from_millis(200);

/// One row per process. `tenants` says whose the Keeps are that clients lease.
pub(super) fn table(
    processes: &[Status],
    tenants: &BTreeMap<ProcessName, Option<TenantName>>,
    now: UnixTime,
) -> Table {
    let mut table = Table::new();
    let header = ["process", "tenant", "back end", "TEE", "state", "for", "pid", "restarts", "last end"];
    table.load_preset(presets::UTF8_BORDERS_ONLY).set_header(header);
    for process in processes {
        let tenant = match tenants.get(&process.name) {
            // What the operator has launched is nobody's to lease.
            None => "",
            Some(None) => "none yet",
            Some(Some(tenant)) => tenant.as_str(),
        };
        table.add_row([
            process.name.as_str().to_owned(),
            tenant.to_owned(),
            process.backend.as_ref().map_or_else(String::new, ToString::to_string),
            process.platform.to_string(),
            state(&process.state),
            since(&process.state).map_or_else(String::new, |since| lasted(since, now)),
            process.pid().map_or_else(String::new, |pid| pid.to_string()),
            process.restarts.to_string(),
            process.last_exit.as_ref().map_or_else(String::new, |exit| exit.ending.to_string()),
        ]);
    }
    table
}

fn state(state: &State) -> String {
    match state {
        State::Starting => "starting".to_owned(),
        State::Running { .. } => "running".to_owned(),
        State::BackOff { reason, .. } => format!("waiting to restart: {reason}"),
        State::Stopped => "stopped".to_owned(),
    }
}

fn since(state: &State) -> Option<UnixTime> {
    let State::Running { since_ms, .. } = state else { return None };
    Some(seconds(*since_ms))
}

fn seconds(ms: u64) -> UnixTime {
    UnixTime(i64::try_from(ms / 1000).unwrap_or(i64::MAX))
}

/// How long ago it was, in the two largest units that there are.
fn lasted(since: UnixTime, now: UnixTime) -> String {
    let seconds = u64::try_from(now.0.saturating_sub(since.0)).unwrap_or(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days} d {} h", hours % 24),
        () if hours > 0 => format!("{hours} h {} min", minutes % 60),
        () if minutes > 0 => format!("{minutes} min {} s", seconds % 60),
        () => format!("{seconds} s"),
    }
}

/// Thousandths of a processor, as people say it.
fn processors(milli: u32) -> String {
    match (milli / 1000, milli % 1000) {
        (1, 0) => "1 processor".to_owned(),
        (whole, 0) => format!("{whole} processors"),
        (whole, part) => {
            let part = format!("{part:03}");
            format!("{whole}.{} processors", part.trim_end_matches('0'))
        }
    }
}

/// All of one process.
pub(super) fn inspection(inspection: &Inspection, now: UnixTime) -> String {
    let Inspection { status, tenant, executable, configuration_sha256, limits, log, spec, .. } = inspection;
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<15}{value}");
    };
    line("process", status.name.to_string());
    line("state", state(&status.state));
    if let (Some(since), Some(pid)) = (since(&status.state), status.pid()) {
        line("since", format!("{since}, {} ago, pid {pid}", lasted(since, now)));
    }
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
    let cpu = limits.cpu_milli.map_or_else(|| "any processor".to_owned(), processors);
    line("limits", format!("{memory} of memory, {cpu}"));
    if let Some(volumes) = &spec.volumes {
        line("volumes", volumes.display().to_string());
    }
    line("restarts", status.restarts.to_string());
    if let Some(last) = &status.last_exit {
        line("last end", format!("{}, at {}", last.ending, seconds(last.at_ms)));
    }
    line("log", log.as_ref().map_or_else(|| "not kept".to_owned(), |path| path.display().to_string()));
    out.trim_end().to_owned()
}

/// The last lines of a log, and what comes.
pub(super) async fn log(
    directory: &Path,
    name: &ProcessName,
    lines: usize,
    (follow, json): (bool, bool),
) -> Outcome {
    // The agent says whether there is one: the output of clients' Keeps is not kept.
    let Reply::Process { process } = ask(directory, &Action::Inspect { name: name.clone() })? else {
        return unexpected();
    };
    let Some(path) = process.log else {
        return Err(Failure::refused(format!("the output of {name} is not kept"))
            .hint("what a tenant's workload prints goes to the tenant; \"keeps\": {\"log\": \"file\"} keeps what Keeps say"));
    };
    let mut file = open(&path)?;
    let (mut text, mut unfinished) = (String::new(), String::new());
    file.read_to_string(&mut text).with_context(|| format!("{} cannot be read", path.display()))?;
    let all: Vec<&str> = text.lines().collect();
    for line in &all[all.len().saturating_sub(lines)..] {
        told(line, json);
    }
    if !follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(LOOK).await;
        let mut more = String::new();
        // What cannot be read now is read the next time: a log that is set aside is another file then.
        let _ = file.read_to_string(&mut more);
        unfinished.push_str(&more);
        while let Some(end) = unfinished.find('\n') {
            told(&unfinished[..end], json);
            unfinished.drain(..=end);
        }
        let new = open(&path)?;
        let is_same =
            |one: &File, other: &File| Some(one.metadata().ok()?.ino() == other.metadata().ok()?.ino());
        if is_same(&file, &new) == Some(false) {
            file = new;
            file.seek(SeekFrom::Start(0)).context("the log cannot be read")?;
        }
    }
}

/// A line of a log, for people or for a program.
fn told(line: &str, json: bool) {
    if json {
        crate::say!("{}", serde_json::json!({ "line": line }));
    } else {
        crate::say!("{line}");
    }
}

fn open(path: &Path) -> Outcome<File> {
    Ok(File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_limits_are_said_as_people_say_them() {
        let ago = |seconds: i64| lasted(UnixTime(1_000_000 - seconds), UnixTime(1_000_000));
        assert_eq!(
            [0, 59, 61, 3600, 90_000, -5].map(ago),
            ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h", "0 s"]
        );
        assert_eq!(
            [1000, 4000, 500, 1250].map(processors),
            ["1 processor", "4 processors", "0.5 processors", "1.25 processors"]
        );
    }
}
