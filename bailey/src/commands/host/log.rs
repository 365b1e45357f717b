//! `bailey host logs`: what a process has printed.

use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use anyhow::Context;
use host::{Action, ProcessName, Reply};

use super::{ask, unexpected};
use crate::failure::{Failure, Outcome};

const LOOK: Duration = Duration::from_millis(200);

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
    let mut last: VecDeque<&str> = text.lines().collect();
    // A log that was set aside a moment ago has what came before.
    let before = std::fs::read_to_string(path.with_extension("log.1")).unwrap_or_default();
    before.lines().rev().take(lines.saturating_sub(last.len())).for_each(|line| last.push_front(line));
    last.iter().skip(last.len().saturating_sub(lines)).for_each(|line| told(line, json));
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
