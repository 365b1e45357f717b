//! The agent against the real emulator and real processes, and against a back end that does as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use emulator::daemon::Daemon;
use emulator::{measure, vendor};
use evidence::{Measurement, Platform};
use host::{
    About, Action, ActionError, Agent, BackendKind, BackoffPolicy, Channel, Config, Ending, Event, Exit,
    LaunchError, Launcher, Limits, LogDestination, Notice, Process, Reach, Reply, Restart, Running, Shutdown,
    State, Status, Stopper, Stream, SystemClock,
};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(20);

/// A platform and a directory for an agent.
struct Site {
    daemon: Daemon,
    directory: TempDir,
}

impl Site {
    fn new() -> Self {
        // All tests' platforms have the same keys, which are generated once.
        static KEYS: OnceLock<Vec<u8>> = OnceLock::new();
        let keys = KEYS.get_or_init(|| {
            let first = tempfile::tempdir().unwrap();
            start_platform(first.path());
            std::fs::read(first.path().join("platform.json")).unwrap()
        });
        let directory = tempfile::tempdir().unwrap();
        let platform = directory.path().join("platform");
        std::fs::create_dir(&platform).unwrap();
        std::fs::set_permissions(&platform, PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::write(platform.join("platform.json"), keys).unwrap();
        std::fs::set_permissions(platform.join("platform.json"), PermissionsExt::from_mode(0o600)).unwrap();
        let daemon = start_platform(&platform);
        Self { daemon, directory }
    }

    fn config(&self) -> Config {
        let mut config = Config::new(&self.host(), &self.daemon.socket());
        config.backoff = BackoffPolicy { first_ms: 50, limit_ms: 400, reset_after_ms: 60_000 };
        config
    }

    fn host(&self) -> PathBuf {
        self.directory.path().join("host")
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.host().join("logs").join(name)).unwrap()
    }
}

fn start_platform(directory: &Path) -> Daemon {
    Daemon::start(&testkit::binary("bailey-emulator"), directory, Stdio::null()).unwrap()
}

fn shell(name: &str, script: &str) -> Process {
    Process {
        volumes: None,
        workload: None,
        ports: Vec::new(),
        name: name.parse().unwrap(),
        platform: Platform::Snp,
        executable: std::fs::canonicalize("/bin/sh").unwrap(),
        configuration: b"measured".to_vec(),
        arguments: vec!["-c".into(), script.into()],
        log: LogDestination::File,
        restart: Restart::Always,
        backend: None,
        channel: Channel::None,
        limits: Limits::default(),
    }
}

const SERVE: &str = "echo ready; while :; do sleep 0.05; done";

/// Waits until the process is in a state.
fn await_state(agent: &Agent, name: &str, is: impl Fn(&Status) -> bool) -> Status {
    let began = Instant::now();
    loop {
        let status = agent.status().into_iter().find(|status| status.name.as_str() == name).unwrap();
        if is(&status) {
            return status;
        }
        assert!(began.elapsed() < LONG, "{status:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_running(status: &Status) -> bool {
    status.pid().is_some()
}

fn exists(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

fn await_gone(pid: u32) {
    let began = Instant::now();
    while exists(pid) {
        assert!(began.elapsed() < LONG, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn launches_restarts_what_is_killed_and_leaves_nothing_behind() {
    let site = Site::new();
    let shutdown = Shutdown::new().unwrap();
    let mut config = site.config();
    config.processes = vec![shell("tally", SERVE), shell("frontend", SERVE)];
    let agent = Agent::start(config, &shutdown).unwrap();
    let first = await_state(&agent, "tally", is_running);
    let frontend = await_state(&agent, "frontend", is_running);
    let code = std::fs::read(std::fs::canonicalize("/bin/sh").unwrap()).unwrap();
    assert_eq!(first.measurement.as_ref(), Some(measure::measure(&code).of(Platform::Snp)));

    kill(first.pid().unwrap());
    let second = await_state(&agent, "tally", |status| is_running(status) && status.pid() != first.pid());
    assert_eq!(second.restarts, 1);
    assert_eq!(second.last_exit.clone().unwrap().ending, Ending::Exited(Exit::Signal(9)));
    assert_eq!(await_state(&agent, "frontend", is_running), frontend);
    // It runs before it has said anything.
    let began = Instant::now();
    while site.log("tally.log").matches("ready").count() < 2 {
        assert!(began.elapsed() < LONG, "{}", site.log("tally.log"));
        std::thread::sleep(Duration::from_millis(5));
    }

    agent.stop();
    assert!([second.pid(), frontend.pid()].into_iter().flatten().all(|pid| !exists(pid)));
    let log = site.log("tally.log");
    assert_eq!(log.matches("ready").count(), 2, "{log}");
    assert!(log.contains("bailey host: ended: signal 9"), "{log}");
    assert!(!site.host().join("host.sock").exists());
}

#[test]
fn watchers_hear_every_line_and_state() {
    let site = Site::new();
    let agent = Agent::start(site.config(), &Shutdown::new().unwrap()).unwrap();
    let watch = agent.watch();
    let mut task = shell("task", "echo out; echo err >&2; printf unfinished; exit 3");
    task.restart = Restart::Never;
    agent.launch(task).unwrap();
    let (mut lines, mut states) = (Vec::new(), Vec::new());
    while states.last() != Some(&State::Stopped) {
        match watch.recv_timeout(LONG).unwrap() {
            Notice::Output(line) => lines.push((line.stream, line.text)),
            Notice::State(status) => states.push(status.state),
        }
    }
    lines.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
    let expected = [(Stream::Stdout, "out"), (Stream::Stdout, "unfinished"), (Stream::Stderr, "err")];
    assert_eq!(lines, expected.map(|(stream, text)| (stream, text.to_owned())));
    assert!(matches!(states[..], [State::Starting, State::Running { .. }, .., State::Stopped]), "{states:?}");
    let status = &agent.status()[0];
    assert_eq!(status.last_exit.as_ref().unwrap().ending, Ending::Exited(Exit::Code(3)));
    assert_eq!(status.restarts, 0);
}

#[test]
fn what_cannot_be_launched_is_tried_again() {
    let site = Site::new();
    let agent = Agent::start(site.config(), &Shutdown::new().unwrap()).unwrap();
    let program = site.directory.path().join("program");
    agent.launch(Process { executable: program.clone(), ..shell("late", SERVE) }).unwrap();
    let waiting = await_state(&agent, "late", |status| matches!(status.state, State::BackOff { .. }));
    let State::BackOff { reason, .. } = waiting.state else { unreachable!() };
    assert!(reason.contains("EXECUTABLE_UNREADABLE") && reason.contains("program"), "{reason}");
    std::fs::copy(std::fs::canonicalize("/bin/sh").unwrap(), &program).unwrap();
    await_state(&agent, "late", is_running);
}

#[test]
fn processes_come_back_with_their_platform() {
    let site = Site::new();
    let agent = Agent::start(site.config(), &Shutdown::new().unwrap()).unwrap();
    agent.launch(shell("tally", SERVE)).unwrap();
    let pid = await_state(&agent, "tally", is_running).pid().unwrap();
    kill(site.daemon.pid());
    let lost = await_state(&agent, "tally", |status| matches!(status.state, State::BackOff { .. }));
    assert!(matches!(lost.last_exit.unwrap().ending, Ending::Lost { .. } | Ending::NotLaunched { .. }));
    await_gone(pid);
    let _again = start_platform(site.daemon.directory());
    await_state(&agent, "tally", is_running);
    agent.stop();
}

#[test]
fn another_process_can_ask() {
    let site = Site::new();
    let shutdown = Shutdown::new().unwrap();
    let mut config = site.config();
    config.processes = vec![shell("tally", SERVE)];
    let agent = Agent::start(config, &shutdown).unwrap();
    let socket = site.host().join("host.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let pid = await_state(&agent, "tally", is_running).pid().unwrap();
    let ask = |json: &str| host::ask(&site.host(), &Action::parse(json.as_bytes()).unwrap()).unwrap();

    assert_eq!(ask(r#"{"action":"status"}"#), Reply::Processes { processes: agent.status() });
    assert_eq!(ask(r#"{"action":"stop","name":"tally"}"#), Reply::Done {});
    assert!(!exists(pid));
    assert_eq!(agent.status()[0].state, State::Stopped);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(agent.status()[0].state, State::Stopped);
    assert_eq!(ask(r#"{"action":"restart","name":"tally"}"#), Reply::Done {});
    let pid = await_state(&agent, "tally", is_running).pid();
    assert_eq!(ask(r#"{"action":"restart","name":"tally"}"#), Reply::Done {});
    await_state(&agent, "tally", |status| is_running(status) && status.pid() != pid);

    let launch = r#"{"action":"launch","process":{"name":"NAME","platform":"tdx","executable":"EXE",
        "arguments":["-c","exec sleep 600"]}}"#
        .replace("EXE", std::fs::canonicalize("/bin/sh").unwrap().to_str().unwrap());
    assert_eq!(ask(&launch.replace("NAME", "other")), Reply::Done {});
    await_state(&agent, "other", is_running);
    let refused = |json: &str| match ask(json) {
        Reply::Refused { code, .. } => code,
        reply => panic!("{reply:?}"),
    };
    assert_eq!(refused(&launch.replace("NAME", "tally")), "NAME_IN_USE");
    assert_eq!(refused(r#"{"action":"stop","name":"nobody"}"#), "NO_SUCH_PROCESS");
    let relative = r#"{"action":"launch","process":{"name":"x","platform":"snp","executable":"x"}}"#;
    assert_eq!(refused(relative), "INVALID_PROCESS");

    assert_eq!(ask(r#"{"action":"shutdown"}"#), Reply::Done {});
    shutdown.wait().unwrap();
    agent.stop();
    assert!(host::ask(&site.host(), &Action::Status {}).is_err());
}

#[test]
fn s43_garbage_on_the_socket_is_refused_and_the_agent_lives() {
    let site = Site::new();
    let agent = Agent::start(site.config(), &Shutdown::new().unwrap()).unwrap();
    let ask = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(site.host().join("host.sock")).unwrap();
        // The agent may hang up on the oversized one before it is written.
        let _ = stream.write_all(bytes);
        let mut answer = String::new();
        let _ = BufReader::new(stream).read_line(&mut answer);
        answer
    };
    for garbage in [b"\n".as_slice(), b"\xff\n", b"{\"action\":\"evidence\"}\n", &vec![b'['; (1 << 20) + 1]] {
        let answer = ask(garbage);
        assert!(answer.contains(r#""code":"MALFORMED_REQUEST""#), "{answer}");
    }
    assert_eq!(ask(b"{\"action\":\"status\"}\n"), "{\"reply\":\"processes\",\"processes\":[]}\n");
    agent.stop();
}

#[test]
fn one_directory_has_one_agent() {
    let site = Site::new();
    let _agent = Agent::start(site.config(), &Shutdown::new().unwrap()).unwrap();
    let second = Agent::start(site.config(), &Shutdown::new().unwrap()).err().unwrap();
    assert!(matches!(second, host::HostError::Socket(_)), "{second}");
}

#[test]
fn logs_are_bounded_and_private() {
    let site = Site::new();
    let mut config = site.config();
    config.log_limit = 10_000;
    let agent = Agent::start(config, &Shutdown::new().unwrap()).unwrap();
    let mut task = shell("chatty", "seq 1 20000");
    task.restart = Restart::Never;
    agent.launch(task).unwrap();
    await_state(&agent, "chatty", |status| status.state == State::Stopped);
    let (new, old) = (site.log("chatty.log"), site.log("chatty.log.1"));
    assert!(new.len() <= 10_000 && old.len() <= 10_000);
    assert!(new.contains("20000\nbailey host: ended: exit code 0\n"), "{new}");
    let logs = site.host().join("logs");
    assert_eq!(std::fs::read_dir(&logs).unwrap().count(), 2);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&logs), mode(&logs.join("chatty.log"))), (0o700, 0o600));
    agent.stop();
}

/// Promise 1 and the host's part in it: what a launched process was given is nowhere in the agent.
#[test]
fn the_agent_never_sees_a_secret() {
    let site = Site::new();
    let probe = testkit::example("probe");
    let file = site.directory.path().join("host.json");
    let config = serde_json::json!({
        "directory": site.host(), "platform": site.daemon.directory(),
        "processes": [{
            "name": "keeper", "platform": "tdx", "executable": probe,
            "configuration": {"text": "measured"}, "arguments": ["secret"],
        }],
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let mut agent = Command::new(testkit::example("agent")).arg(&file).spawn().unwrap();
    let keeper = loop {
        if let Ok(Reply::Processes { processes }) = host::ask(&site.host(), &Action::Status {})
            && let Some(pid) = processes.first().and_then(Status::pid)
            && std::fs::read_to_string(site.host().join("logs/keeper.log"))
                .is_ok_and(|log| log.contains("holding a secret"))
        {
            break pid;
        }
        assert!(agent.try_wait().unwrap().is_none(), "the agent ended");
        std::thread::sleep(Duration::from_millis(10));
    };

    // The key that the process holds, as its platform would derive it again. (A copy of the directory: the
    // original is in use.)
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(site.daemon.directory().join("platform.json"), copy.path().join("platform.json")).unwrap();
    let created = std::fs::metadata(&file).unwrap().modified().unwrap();
    let platform = vendor::Platform::open(copy.path(), created.into()).unwrap();
    let measured = measure::measure(&std::fs::read(&probe).unwrap());
    let key = platform.sealing_key(Platform::Tdx, &measured.tdx, b"measured", "secret").unwrap();

    // The search finds the key where it is, so that not finding it means something.
    assert!(contains(&memory(keeper), &*key), "the canary is not even where it should be");
    assert!(!contains(&memory(agent.id()), &*key));
    assert!(!contains(&memory(agent.id()), hex::encode(*key).as_bytes()));
    assert!(!contains(&std::fs::read(format!("/proc/{}/environ", agent.id())).unwrap(), &*key));
    for entry in std::fs::read_dir(site.host().join("logs")).unwrap() {
        let log = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!contains(&log, &*key) && !contains(&log, hex::encode(*key).as_bytes()));
    }

    // And with the agent its processes end.
    agent.kill().unwrap();
    agent.wait().unwrap();
    await_gone(keeper);
}

/// All of a process's writable memory.
fn memory(pid: u32) -> Vec<u8> {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let file = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut all = Vec::new();
    for map in maps.lines().filter(|map| map.contains(" rw")) {
        let (from, to) = map.split(' ').next().and_then(|range| range.split_once('-')).unwrap();
        let [from, to] = [from, to].map(|address| u64::from_str_radix(address, 16).unwrap());
        let mut region = vec![0; usize::try_from(to - from).unwrap()];
        if file.read_exact_at(&mut region, from).is_ok() {
            all.extend(region);
        }
    }
    all
}

/// A back end whose processes end as it is told.
struct Scripted {
    runs: Mutex<VecDeque<Result<Exit, ()>>>,
    launched: Sender<Instant>,
}

struct ScriptedRun {
    exit: Option<Exit>,
    stopped: Receiver<()>,
    stop: Sender<()>,
}

struct ScriptedStop(Sender<()>);

impl Launcher for Scripted {
    fn about(&self) -> About {
        About {
            storage: host::Storage::AtLaunch,
            name: "scripted".parse().unwrap(),
            kind: BackendKind::Process,
            platforms: vec![Platform::Snp],
            emulated: true,
            capacity: 1,
        }
    }

    fn adopt(&self, _: &Process, _: &host::Site) -> Result<Box<dyn Running>, LaunchError> {
        Err(LaunchError::NothingToAdopt)
    }

    fn launch(&self, _: &Process, _: &host::Site) -> Result<Box<dyn Running>, LaunchError> {
        let _ = self.launched.send(Instant::now());
        let (stop, stopped) = mpsc::channel();
        match self.runs.lock().unwrap().pop_front() {
            Some(Ok(exit)) => Ok(Box::new(ScriptedRun { exit: Some(exit), stopped, stop })),
            Some(Err(())) => Err(LaunchError::System(std::io::ErrorKind::OutOfMemory.into())),
            None => Ok(Box::new(ScriptedRun { exit: None, stopped, stop })),
        }
    }
}

impl Running for ScriptedRun {
    fn pid(&self) -> u32 {
        1
    }

    fn measurement(&self) -> Measurement {
        Measurement::from([7; 48])
    }

    fn reach(&self) -> Option<Reach> {
        None
    }

    fn walls(&self) -> Vec<String> {
        Vec::new()
    }

    fn next_event(&mut self) -> Result<Event, LaunchError> {
        let exit = self.exit.unwrap_or_else(|| {
            let _ = self.stopped.recv();
            Exit::Signal(15)
        });
        Ok(Event::Exited(exit))
    }

    fn stopper(&self) -> Result<Box<dyn Stopper>, LaunchError> {
        Ok(Box::new(ScriptedStop(self.stop.clone())))
    }
}

impl Stopper for ScriptedStop {
    fn stop(&self) {
        let _ = self.0.send(());
    }

    fn release(&self) {}
}

fn scripted(runs: &[Result<Exit, ()>], backoff: BackoffPolicy) -> (TempDir, Agent, Receiver<Instant>) {
    let directory = tempfile::tempdir().unwrap();
    let (sender, launched) = mpsc::channel();
    let launcher = Scripted { runs: Mutex::new(runs.iter().copied().collect()), launched: sender };
    let mut config = Config::new(directory.path(), Path::new("/nowhere"));
    config.backoff = backoff;
    let shutdown = Shutdown::new().unwrap();
    let agent =
        Agent::start_with(config, &shutdown, vec![Arc::new(launcher)], Arc::new(SystemClock)).unwrap();
    (directory, agent, launched)
}

#[test]
fn waits_longer_after_each_failure() {
    let backoff = BackoffPolicy { first_ms: 20, limit_ms: 60, reset_after_ms: 60_000 };
    let (_directory, agent, launched) = scripted(&[Ok(Exit::Code(1)), Err(()), Ok(Exit::Code(0))], backoff);
    agent.launch(shell("x", "")).unwrap();
    let times: Vec<Instant> = (0..4).map(|_| launched.recv_timeout(LONG).unwrap()).collect();
    for (pair, least) in times.windows(2).zip([20, 40, 60]) {
        assert!(pair[1] - pair[0] >= Duration::from_millis(least));
    }
    let status = await_state(&agent, "x", is_running);
    assert_eq!(status.restarts, 3);
    agent.stop();
}

#[test]
fn waiting_can_be_cut_short() {
    let forever = BackoffPolicy { first_ms: 3_600_000, limit_ms: 3_600_000, reset_after_ms: 60_000 };
    let (_directory, agent, launched) = scripted(&[Err(()), Err(())], forever);
    agent.launch(shell("x", "")).unwrap();
    let is_waiting = |status: &Status| matches!(status.state, State::BackOff { .. });
    await_state(&agent, "x", is_waiting);
    agent.act(Action::Restart { name: "x".parse().unwrap() }).unwrap();
    launched.recv_timeout(LONG).unwrap();
    launched.recv_timeout(LONG).unwrap();
    await_state(&agent, "x", is_waiting);
    agent.act(Action::Stop { name: "x".parse().unwrap() }).unwrap();
    assert_eq!(agent.status()[0].state, State::Stopped);
    agent.launch(shell("x", "")).unwrap();
    await_state(&agent, "x", is_running);
    let refused = agent.launch(shell("x", ""));
    assert_eq!(refused, Err(ActionError::NameInUse("x".parse().unwrap())));
    agent.stop();
}

#[test]
fn a_task_is_not_run_twice() {
    for (restart, exit, launches) in [
        (Restart::Never, 1, 1),
        (Restart::OnFailure, 0, 1),
        (Restart::OnFailure, 1, 2),
        (Restart::Always, 0, 2),
    ] {
        let quick = BackoffPolicy { first_ms: 1, limit_ms: 1, reset_after_ms: 60_000 };
        let (_directory, agent, launched) = scripted(&[Ok(Exit::Code(exit))], quick);
        agent.launch(Process { restart, ..shell("x", "") }).unwrap();
        let settled = |status: &Status| match launches {
            1 => status.state == State::Stopped,
            _ => is_running(status) && status.restarts == 1,
        };
        await_state(&agent, "x", settled);
        agent.stop();
        assert_eq!(launched.iter().count(), launches, "{restart:?} after exit code {exit}");
    }
}

#[test]
fn processes_that_live_with_their_agent_are_not_handed_over() {
    let site = Site::new();
    let agent = Agent::start(site.config(), &Shutdown::new().unwrap()).unwrap();
    for action in [Action::HandOver {}, Action::Leave {}] {
        assert_eq!(agent.act(action), Err(ActionError::LivesWithAgent));
    }
    let second =
        Agent::arrive(site.config(), host::Arrival::TakeOver, &Shutdown::new().unwrap()).err().unwrap();
    assert!(
        matches!(&second, host::HostError::NotHandedOver { code, .. } if code == "LIVES_WITH_AGENT"),
        "{second}"
    );
    assert_eq!(agent.act(Action::Drain { now: false }), Err(ActionError::NoApi));
    agent.stop();
    // Where nobody is, there is nothing to take over. (Children of other tests, between fork and exec, may hold the
    // first one's lock for a moment.)
    let began = Instant::now();
    loop {
        match Agent::arrive(site.config(), host::Arrival::TakeOver, &Shutdown::new().unwrap()) {
            Ok(third) => return third.stop(),
            Err(error) => assert!(began.elapsed() < LONG, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
