//! `bailey-emulator`: switches an emulated platform on, until SIGTERM or SIGINT.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use emulator::launcher::Launcher;
use emulator::socket::Stop;
use emulator::vendor::{Platform, PlatformOptions, TcbSetting};
use rustix::process::{Resource, Rlimit};

/// A software TEE platform: to a laptop what the CPU is to a server.
#[derive(Parser)]
#[command(name = "bailey-emulator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Switch the platform in a directory on, creating it if it does not exist.
    Start(Start),
    /// Build the walls around a process and become its program: for the emulator's own use.
    #[command(hide = true)]
    Jail {
        profile: String,
        #[arg(last = true)]
        arguments: Vec<String>,
    },
}

#[derive(Args)]
struct Start {
    /// The platform's directory: its keys, its roots (`roots/*.pem`), its control socket.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Create a platform whose firmware its vendor calls outdated.
    #[arg(long)]
    outdated: bool,
    /// Print the ready line and the logs as JSON.
    #[arg(long)]
    json: bool,
    /// Switch off when standard input ends, that is, when whoever started this has ended.
    #[arg(long)]
    supervised: bool,
}

fn main() -> ExitCode {
    let start = match Arguments::parse().command {
        Command::Start(start) => start,
        Command::Jail { profile, arguments } => {
            eprintln!("error: {}", emulator::jail::enter(&profile, &arguments));
            return ExitCode::FAILURE;
        }
    };
    // Before anything else opens descriptors or starts threads.
    if let Err(error) = harden() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    log_to_stderr(start.json);
    match run(&start) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut causes = error.chain();
            eprintln!("error: {}", causes.next().map(ToString::to_string).unwrap_or_default());
            causes.for_each(|cause| eprintln!("  cause: {cause}"));
            ExitCode::FAILURE
        }
    }
}

fn run(start: &Start) -> anyhow::Result<()> {
    let now = time::OffsetDateTime::now_utc();
    let platform = if start.outdated {
        let options = PlatformOptions { tcb: TcbSetting::Outdated, ..PlatformOptions::default() };
        Platform::open_with(&start.dir, &options, now)
    } else {
        Platform::open(&start.dir, now)
    };
    let launcher = Launcher::open(platform.context("the platform cannot be opened")?, &start.dir)?;
    let stop = Stop::new().context("creating the off switch")?;
    stop_on_signals(stop.clone())?;
    if start.supervised {
        stop_with_stdin(stop.clone())?;
    }
    announce(start, &launcher).context("writing to standard output")?;
    Ok(launcher.serve(&stop)?)
}

/// One line, which says that connections are taken from now on.
fn announce(start: &Start, launcher: &Launcher) -> io::Result<()> {
    let (directory, socket) = (start.dir.display().to_string(), launcher.socket().display().to_string());
    let mut out = io::stdout().lock();
    if start.json {
        let line = serde_json::json!({
            "event": "ready", "pid": std::process::id(), "directory": directory, "socket": socket
        });
        writeln!(out, "{line}")?;
    } else {
        writeln!(out, "ready: the emulated platform in {directory} listens on {socket}")?;
    }
    out.flush()
}

fn stop_on_signals(stop: Stop) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .context("starting the signal listener")?;
    let (mut terminate, mut interrupt) = {
        let _guard = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        });
        tracing::info!("switching off");
        stop.request();
    })?;
    Ok(())
}

fn stop_with_stdin(stop: Stop) -> anyhow::Result<()> {
    std::thread::Builder::new().name("supervisor".into()).spawn(move || {
        let mut stdin = io::stdin().lock();
        let mut ignored = [0; 256];
        while !matches!(stdin.read(&mut ignored), Ok(0) | Err(_)) {}
        stop.request();
    })?;
    Ok(())
}

fn log_to_stderr(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    if json { builder.json().init() } else { builder.init() }
}

/// What holds for this process and all that it launches: files are private, no core dump ever holds a
/// secret, no program gains privileges, and no descriptor that we inherited by somebody's mistake is
/// handed on.
fn harden() -> anyhow::Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(Resource::Core, none).context("forbidding core dumps")?;
    rustix::thread::set_no_new_privs(true).context("giving up new privileges")?;
    let inherited: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .context("listing inherited descriptors in /proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in inherited {
        #[expect(unsafe_code, reason = "inherited descriptors are only known by their numbers")]
        // SAFETY: no other thread exists yet, so that a descriptor which is open now stays open for the
        // call; that of the listing itself is closed by now, and the call then fails without effect.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        match rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC) {
            Ok(()) | Err(rustix::io::Errno::BADF) => {}
            Err(error) => return Err(error).context("keeping inherited descriptors from processes"),
        }
    }
    Ok(())
}
