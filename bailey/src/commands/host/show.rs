//! What the agent tells, for people: lines of at most 80 columns as far as names allow, whose last column is the one that
//! grows; what is long has a line of its own.

use std::fmt::Write;

use host::{BackendView, Inspection, KeepView, Overview, State, Status};
use keep_protocol::host::KeepState;

use crate::commands::deploy::printable;

/// A host, its Keeps, its processes. `now` is milliseconds since 1970.
pub(super) fn listing(host: &Overview, processes: &[Status], now: u64) -> String {
    let mut out = host.agent.clone();
    out.push_str(match (host.api, host.draining) {
        (_, true) => ", draining: it takes no new Keeps",
        (false, false) => ", for its own processes alone: it has no API",
        (true, false) => "",
    });
    out.push('\n');
    let backends = host.backends.iter().map(backend).collect();
    out.push_str(&section("back ends", backends));
    if host.api {
        // Where there is one back end, it need not be told of each.
        let several = host.backends.len() > 1;
        out.push_str(&section("Keeps", host.keeps.iter().map(|view| keep(view, several)).collect()));
    }
    let own = |status: &&Status| host.keeps.iter().all(|keep| keep.name != status.name);
    out.push_str(&section("processes", processes.iter().filter(own).map(|it| process(it, now)).collect()));
    out
}

/// A row, and what is told below it.
pub(super) type Row = (Vec<String>, Option<String>);

/// A title, and rows below each other's columns.
pub(super) fn section(title: &str, rows: Vec<Row>) -> String {
    if rows.is_empty() {
        return format!("{title}: none\n");
    }
    let columns = rows.iter().map(|(row, _)| row.len()).max().unwrap_or(0);
    let wide =
        |column: usize| rows.iter().filter_map(|(row, _)| Some(row.get(column)?.chars().count())).max();
    let widths: Vec<usize> = (0..columns.saturating_sub(1)).filter_map(wide).collect();
    let mut out = format!("{title}\n");
    for (row, below) in rows {
        let (last, others) =
            row.split_last().map_or((String::new(), [].as_slice()), |(last, all)| (last.clone(), all));
        let mut line = String::new();
        for (cell, width) in others.iter().zip(widths.iter().copied()) {
            // Writing to a string cannot fail.
            let _ = write!(line, "  {cell:<width$}");
        }
        let _ = writeln!(out, "{line}  {last}");
        if let Some(below) = below {
            let _ = writeln!(out, "      {below}");
        }
    }
    out
}

fn backend(view: &BackendView) -> Row {
    let tees = view.tees.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let tees = if view.emulated { format!("{tees} (emulated)") } else { tees };
    let places = view.places.map_or_else(
        || "no Keeps for clients".to_owned(),
        |places| format!("{} of {} places free, {} warm", places.free, places.all, places.warm),
    );
    let failure = view.failure.as_ref().map(|failure| {
        let again = match failure.again_in_ms {
            0 => "the last launch failed".to_owned(),
            ms => format!("launches fail, the next is {}", soon(ms)),
        };
        format!("{again}: {}", printable(&failure.reason))
    });
    (vec![view.name.to_string(), view.kind.to_string(), tees, places], failure)
}

fn keep(view: &KeepView, several: bool) -> Row {
    let tenant = view.tenant.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    let place =
        if several { format!("{} {}", view.backend, view.platform) } else { view.platform.to_string() };
    (vec![view.name.to_string(), tenant, place, keep_state(view.state, view.age_ms)], None)
}

/// What a client's Keep does, and for how long it has been there or leased.
pub(super) fn keep_state(state: KeepState, age_ms: u64) -> String {
    let age = lasted(age_ms);
    match state {
        KeepState::Starting => "starting".to_owned(),
        KeepState::Warm => format!("warm {age}"),
        KeepState::Leased => format!("leased {age}, no client yet"),
        KeepState::Connected => format!("connected {age}"),
        KeepState::Marble => format!("a Marble {age}"),
        KeepState::Ended => "ending".to_owned(),
    }
}

fn process(status: &Status, now: u64) -> Row {
    let (state, why) = state(status, now);
    (vec![status.name.to_string(), status.platform.to_string(), state], why)
}

/// What a process does, and why it does not run or did not before.
fn state(status: &Status, now: u64) -> (String, Option<String>) {
    let again = match status.restarts {
        0 => String::new(),
        1 => ", launched again once".to_owned(),
        times => format!(", launched again {times} times"),
    };
    let last = status.last_exit.as_ref();
    let ended = || last.map(|last| printable(&last.ending.to_string()));
    match &status.state {
        State::Starting => (format!("starting{again}"), None),
        State::Running { since_ms, .. } => {
            let before = ended().map(|ending| format!("before that: {ending}"));
            (format!("running {}{again}", lasted(now.saturating_sub(*since_ms))), before)
        }
        State::BackOff { until_ms, reason } => {
            (format!("to be launched {}{again}", soon(until_ms.saturating_sub(now))), Some(printable(reason)))
        }
        State::Stopped => {
            let ago = last.map(|last| format!(" {} ago", lasted(now.saturating_sub(last.at_ms))));
            (format!("stopped{}", ago.unwrap_or_default()), ended())
        }
    }
}

fn soon(ms: u64) -> String {
    if ms == 0 { "at once".to_owned() } else { format!("in {}", lasted(ms.saturating_add(999))) }
}

/// A time, in the two largest units that there are.
pub(super) fn lasted(ms: u64) -> String {
    let seconds = ms / 1000;
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
pub(super) fn inspection(inspection: &Inspection, now: u64) -> String {
    let Inspection { status, keep, executable, configuration_sha256, limits, log, spec, .. } = inspection;
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{name:<15}{value}");
    };
    line("process", status.name.as_str());
    let (doing, why) = state(status, now);
    line("state", &status.pid().map_or(doing.clone(), |pid| format!("{doing}, process {pid}")));
    if let Some(why) = why {
        line("", &why);
    }
    if let Some(keep) = keep {
        line("tenant", keep.tenant.as_ref().map_or("nobody yet", |tenant| tenant.as_str()));
        if !keep.label.is_empty() {
            line("label", &format!("{}, as its tenant calls it", printable(&keep.label)));
        }
        let left = keep.left_ms.map(|left| format!("; its lease ends {}", soon(left)));
        line("Keep", &(keep_state(keep.state, keep.age_ms) + &left.unwrap_or_default()));
    }
    line("TEE", &status.platform.to_string());
    if let Some(backend) = &status.backend {
        line("back end", backend.as_str());
    }
    line("program", &executable.display().to_string());
    if !spec.arguments.is_empty() {
        line("arguments", &printable(&spec.arguments.join(" ")));
    }
    let is_empty = spec.configuration == host::Configuration::Hex(String::new());
    let configuration = format!("sha256:{configuration_sha256}");
    line("configuration", if is_empty { "none" } else { &configuration });
    if let Some(measurement) = &status.measurement {
        line("measurement", &measurement.to_string());
        line("", "(a hint: only Evidence proves it)");
    }
    line("walls", &if status.walls.is_empty() { "none".to_owned() } else { status.walls.join(", ") });
    let memory = limits.memory_mib.map(|memory| format!("{memory} MiB of memory"));
    let bounds: Vec<String> = memory.into_iter().chain(limits.cpu_milli.map(processors)).collect();
    line("limits", &if bounds.is_empty() { "none".to_owned() } else { bounds.join(", ") });
    if let Some(workload) = &spec.workload {
        line("workload", &workload.display().to_string());
    }
    for host::Forward { host, guest } in &spec.ports {
        line("port", &format!("{host} leads to {guest} of the machine"));
    }
    if let Some(volumes) = &spec.volumes {
        line("volumes", &volumes.display().to_string());
    }
    line("log", &log.as_ref().map_or_else(|| "not kept".to_owned(), |path| path.display().to_string()));
    out
}

#[cfg(test)]
#[path = "show_tests.rs"]
mod tests;
