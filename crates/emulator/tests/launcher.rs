//! The real `bailey-emulator`, real processes, and those who would like to be launched or to listen in.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use attester::SealingKey;
use attester::emulated::{Response, frame};
use command_fds::{CommandFdExt, FdMapping};
use emulator::control::{
    self, ControlError, Event, Exit, Launch, Refusal, RefusalCode, Request, Running, Stream,
};
use emulator::daemon::Daemon;
use emulator::measure;
use evidence::{Endorsements, Evidence, Platform, ReportData};
use serde_json::Value;
use tempfile::TempDir;
use zeroize::Zeroizing;

/// A switched-on platform in a directory of its own. (Fields drop in order: first off, then removed.)
struct Emulated {
    daemon: Daemon,
    directory: TempDir,
}

impl Emulated {
    /// All tests' platforms have the same keys, which are generated once.
    fn start() -> Self {
        static KEYS: OnceLock<Vec<u8>> = OnceLock::new();
        let keys = KEYS.get_or_init(|| {
            let first = tempfile::tempdir().unwrap();
            Daemon::start(&testkit::binary("bailey-emulator"), first.path(), Stdio::null()).unwrap();
            std::fs::read(first.path().join("platform.json")).unwrap()
        });
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("platform.json");
        std::fs::write(&file, keys).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let binary = testkit::binary("bailey-emulator");
        let daemon = Daemon::start(&binary, directory.path(), Stdio::null()).unwrap();
        Self { daemon, directory }
    }

    fn launch(&self, launch: &Launch) -> Result<Running, ControlError> {
        control::launch(&self.daemon.socket(), launch)
    }

    fn refusal(&self, launch: &Launch) -> RefusalCode {
        match self.launch(launch) {
            Err(ControlError::Refused(Refusal { code, .. })) => code,
            other => panic!("not refused: {:?}", other.map(|running| running.pid())),
        }
    }

    /// Launches a program and returns the JSON line that it prints.
    fn probe(&self, launch: &Launch) -> Value {
        let (out, err, exit) = finish(self.launch(launch).unwrap());
        assert_eq!(exit, Exit::Code(0), "{err}");
        serde_json::from_str(&out).unwrap()
    }

    /// Sends raw bytes to the control socket and returns the answer.
    fn raw(&self, bytes: &[u8]) -> Event {
        let mut stream = UnixStream::connect(self.daemon.socket()).unwrap();
        stream.write_all(bytes).unwrap();
        next(&mut stream).unwrap()
    }
}

fn next(stream: &mut UnixStream) -> Option<Event> {
    frame::read(stream).unwrap().map(|payload| Event::decode(&payload).unwrap())
}

/// Collects a process's output to its end.
fn finish(mut running: Running) -> (String, String, Exit) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match running.next_event().unwrap() {
            Event::Output { stream: Stream::Stdout, bytes } => out.extend(bytes),
            Event::Output { stream: Stream::Stderr, bytes } => err.extend(bytes),
            Event::Exited(exit) => {
                return (String::from_utf8_lossy(&out).into(), String::from_utf8_lossy(&err).into(), exit);
            }
            event => panic!("{event:?}"),
        }
    }
}

fn probe(platform: Platform) -> Launch {
    Launch { configuration: b"measured".to_vec(), ..Launch::new(platform, testkit::example("probe")) }
}

/// The system's shell as a program: a real file that does what its arguments say.
fn shell(script: &str) -> Launch {
    let executable = std::fs::canonicalize("/bin/sh").unwrap();
    let arguments = vec!["-c".into(), script.into()];
    Launch { arguments, ..Launch::new(Platform::Snp, executable) }
}

/// The first output of a process, with which it says that it is ready.
fn first_output(running: &mut Running) -> String {
    match running.next_event().unwrap() {
        Event::Output { bytes, .. } => String::from_utf8_lossy(&bytes).trim().to_owned(),
        event => panic!("{event:?}"),
    }
}

fn exists(pid: u32) -> bool {
    // A killed child of init in a container without a reaper stays as a zombie: that is gone, too.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

fn assert_gone_within(pid: u32, limit: Duration) {
    let began = Instant::now();
    while exists(pid) {
        assert!(began.elapsed() < limit, "process {pid} is still there after {limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn a_launched_process_gets_evidence_over_what_was_launched() {
    let emulated = Emulated::start();
    for platform in Platform::KEEPS {
        let launch = probe(platform);
        let seen = emulated.probe(&launch);
        assert_eq!(seen["platform"], platform.as_str());
        assert_eq!(bytes(&seen["configuration"]), b"measured");
        let evidence = Evidence::parse(&bytes(&seen["evidence"])).unwrap();
        assert_eq!(evidence.platform(), platform);
        assert_eq!(evidence.covered(), ReportData([0x5a; 64]).into());
        let code = std::fs::read(&launch.executable).unwrap();
        assert_eq!(evidence.measurement().as_ref(), Some(measure::measure(&code).of(platform)));
        let configuration = measure::launch_configuration(platform, b"measured");
        assert_eq!(evidence.launch_configuration(), configuration.as_bytes());
        Endorsements::from_bytes(&bytes(&seen["endorsements"])).unwrap();
    }
}

#[test]
fn a_process_that_was_not_launched_gets_nothing() {
    let by_hand = Command::new(testkit::example("probe")).output().unwrap();
    let said = String::from_utf8_lossy(&by_hand.stderr).into_owned();
    assert!(!by_hand.status.success() && by_hand.stdout.is_empty());
    assert!(said.contains("not inside a TEE: no platform channel was inherited"), "{said}");
    assert!(said.contains("bailey host"), "{said}");

    // A descriptor 3 that is something else is not taken for the platform.
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg("exec \"$0\" 3</dev/null").arg(testkit::example("probe"));
    let with_a_file = shell.output().unwrap();
    let said = String::from_utf8_lossy(&with_a_file.stderr).into_owned();
    assert!(!with_a_file.status.success());
    assert!(said.contains("not inside a TEE: file descriptor 3 was inherited, but is no platform"), "{said}");
}

#[test]
fn s24_nothing_of_the_host_comes_along() {
    // A descriptor that whoever started the emulator forgot to close. (`dup` does not set close-on-exec.)
    let _forgotten = rustix::io::dup(std::io::stderr()).unwrap();
    let emulated = Emulated::start();
    let seen = emulated.probe(&Launch { arguments: vec!["".into(), "a b".into()], ..probe(Platform::Tdx) });
    assert_eq!(seen["environment"], 0);
    assert_eq!(seen["directory"], "/");
    assert_eq!(seen["descriptors"], serde_json::json!([0, 1, 2, 3]));
    assert_eq!(seen["arguments"], serde_json::json!(["probe", "", "a b"]));
    let (out, _, _) =
        finish(emulated.launch(&shell("ulimit -c; umask; cat; grep NoNewPrivs /proc/self/status")).unwrap());
    assert_eq!(out, "0\n0077\nNoNewPrivs:\t1\n");
}

#[test]
fn s46_sealing_keys_belong_to_code_configuration_platform_and_context() {
    let emulated = Emulated::start();
    let launch = probe(Platform::Snp);
    let first = emulated.probe(&launch);
    assert_eq!(emulated.probe(&launch)["sealing_key"], first["sealing_key"]);
    assert_ne!(first["sealing_key"], first["other_sealing_key"]);

    let mut changed = std::fs::read(&launch.executable).unwrap();
    changed.push(0);
    let path = emulated.directory.path().join("changed");
    std::fs::write(&path, changed).unwrap();
    for other in [
        Launch { executable: path, ..launch.clone() },
        Launch { configuration: b"other".to_vec(), ..launch.clone() },
        Launch { platform: Platform::Tdx, ..launch.clone() },
    ] {
        assert_ne!(emulated.probe(&other)["sealing_key"], first["sealing_key"]);
    }
}

#[test]
fn changed_code_has_another_measurement() {
    let emulated = Emulated::start();
    let launch = probe(Platform::Sgx);
    let mut changed = std::fs::read(&launch.executable).unwrap();
    changed.push(0);
    let path = emulated.directory.path().join("changed");
    std::fs::write(&path, changed).unwrap();
    let original = emulated.launch(&launch).unwrap();
    let other = emulated.launch(&Launch { executable: path, ..launch }).unwrap();
    assert_ne!(original.measurement(), other.measurement());
}

#[test]
fn s27_what_is_no_private_regular_program_is_refused() {
    let emulated = Emulated::start();
    let link = emulated.directory.path().join("link");
    std::os::unix::fs::symlink("/bin/true", &link).unwrap();
    let script = emulated.directory.path().join("script");
    std::fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    let oversized = emulated.directory.path().join("oversized");
    std::fs::File::create(&oversized).unwrap().set_len(513 * 1024 * 1024).unwrap();
    let truncated = emulated.directory.path().join("truncated");
    std::fs::write(&truncated, b"\x7fELF").unwrap();
    for (path, code) in [
        (link, RefusalCode::ExecutableUnreadable),
        (oversized, RefusalCode::ExecutableUnreadable),
        (PathBuf::from("/dev/zero"), RefusalCode::ExecutableUnreadable),
        (PathBuf::from("/nowhere"), RefusalCode::ExecutableUnreadable),
        (script, RefusalCode::ExecutableInvalid),
        (truncated, RefusalCode::ExecutableInvalid),
        (PathBuf::from("relative"), RefusalCode::InvalidArguments),
    ] {
        assert_eq!(emulated.refusal(&Launch { executable: path, ..probe(Platform::Snp) }), code);
    }
}

#[test]
fn the_control_socket_gives_no_evidence_and_no_keys() {
    let emulated = Emulated::start();
    let inner = [
        attester::emulated::Request::Launch,
        attester::emulated::Request::Evidence { report_data: ReportData([0; 64]) },
        attester::emulated::Request::SealingKey { context: "state".into() },
    ]
    .map(|request| frame::framed(&frame::encode(&request).unwrap()).unwrap());
    for request in &inner {
        let Event::Refused(refusal) = emulated.raw(request) else { panic!("not refused") };
        assert_eq!(refusal.code, RefusalCode::OnlyInside);
    }

    // Nor does it over a connection that has a process, whether asked with the launch or after it.
    let launch = Request::Launch(Box::new(shell("sleep 600")));
    let launch = frame::framed(&frame::encode(&launch).unwrap()).unwrap();
    let mut stream = UnixStream::connect(emulated.daemon.socket()).unwrap();
    stream.write_all(&[launch.as_slice(), &inner[1]].concat()).unwrap();
    assert!(matches!(next(&mut stream), Some(Event::Launched { .. })));
    let answer = |stream: &mut UnixStream| match next(stream) {
        Some(Event::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(answer(&mut stream), RefusalCode::OnlyInside);
    stream.write_all(&inner[2]).unwrap();
    assert_eq!(answer(&mut stream), RefusalCode::OnlyInside);
    stream.write_all(&launch).unwrap();
    assert_eq!(answer(&mut stream), RefusalCode::AlreadyLaunched);
}

#[test]
fn s43_garbage_is_refused_and_the_platform_lives() {
    let emulated = Emulated::start();
    for garbage in [
        vec![0xff; 64],                                               // an oversized length
        vec![0, 0, 0, 1, 0xff],                                       // no CBOR
        vec![0, 0, 0, 0],                                             // nothing
        [vec![0, 0, 4, 0], vec![0x81; 1024]].concat(),                // deep nesting
        b"\0\0\0\x0b\x9b\xff\xff\xff\xff\xff\xff\xff\xff..".to_vec(), // an array that claims 2^64 elements
    ] {
        let Event::Refused(refusal) = emulated.raw(&garbage) else { panic!("not refused") };
        assert_eq!(refusal.code, RefusalCode::MalformedRequest);
    }
    let mut cut_short = UnixStream::connect(emulated.daemon.socket()).unwrap();
    cut_short.write_all(&[0, 0, 1, 0, 1, 2, 3]).unwrap();
    cut_short.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut cut_short), None);

    // The same on the inner channel: each is refused, and the process and the platform live.
    let (out, err, exit) = finish(
        emulated.launch(&Launch { arguments: vec!["garbage".into()], ..probe(Platform::Snp) }).unwrap(),
    );
    assert_eq!(exit, Exit::Code(0), "{err}");
    let codes: Vec<bool> = out.lines().map(|line| line.contains("MalformedRequest")).collect();
    assert_eq!(codes, [true, true, true, false, true], "{out}");
    assert!(out.contains("InvalidContext"));

    emulated.probe(&probe(Platform::Snp));
}

#[test]
fn output_and_exit_arrive_whole() {
    let emulated = Emulated::start();
    let (out, err, exit) = finish(emulated.launch(&shell("echo out; echo err >&2; exit 7")).unwrap());
    assert_eq!((out.as_str(), err.as_str(), exit), ("out\n", "err\n", Exit::Code(7)));
    let (_, _, exit) = finish(emulated.launch(&shell("kill -KILL $$")).unwrap());
    assert_eq!(exit, Exit::Signal(9));
    // More than pipes and sockets hold, to a host that takes its time.
    let running = emulated.launch(&shell("head -c 3000000 /dev/zero | tr '\\0' x")).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let (out, _, exit) = finish(running);
    assert_eq!((out.len(), exit), (3_000_000, Exit::Code(0)));
}

#[test]
fn a_slow_host_costs_no_memory() {
    let emulated = Emulated::start();
    let running = emulated.launch(&shell("yes")).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let status = std::fs::read_to_string(format!("/proc/{}/status", emulated.daemon.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes < 100_000, "the emulator holds {kilobytes} kB");
    let pid = running.pid();
    drop(running);
    assert_gone_within(pid, Duration::from_secs(2));
}

#[test]
fn a_process_ends_with_its_connection() {
    let emulated = Emulated::start();
    let mut running = emulated.launch(&shell("echo ready; while :; do sleep 1; done")).unwrap();
    assert_eq!(first_output(&mut running), "ready");
    let pid = running.pid();
    assert!(exists(pid));
    drop(running);
    assert_gone_within(pid, Duration::from_secs(2));
}

#[test]
fn a_process_is_asked_before_it_is_killed() {
    let emulated = Emulated::start();
    let polite = "trap 'echo asked; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = emulated.launch(&shell(polite)).unwrap();
    first_output(&mut running);
    running.stopper().unwrap().stop();
    let (out, _, exit) = finish(running);
    assert_eq!((out.as_str(), exit), ("asked\n", Exit::Code(5)));

    let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = emulated.launch(&shell(stubborn)).unwrap();
    first_output(&mut running);
    let began = Instant::now();
    running.stopper().unwrap().stop();
    let (_, _, exit) = finish(running);
    assert_eq!(exit, Exit::Signal(9));
    assert!(began.elapsed() >= Duration::from_secs(3), "killed after {:?}", began.elapsed());
}

#[test]
fn children_of_a_process_do_not_outlive_it() {
    let emulated = Emulated::start();
    let mut running = emulated.launch(&shell("sleep 600 & echo $!; wait")).unwrap();
    let grandchild: u32 = first_output(&mut running).parse().unwrap();
    assert!(exists(grandchild));
    drop(running);
    assert_gone_within(grandchild, Duration::from_secs(2));
}

#[test]
fn processes_end_with_a_killed_emulator() {
    let emulated = Emulated::start();
    // One that watches its channel, and one that would not notice.
    let mut watching =
        emulated.launch(&Launch { arguments: vec!["wait".into()], ..probe(Platform::Snp) }).unwrap();
    let mut unaware =
        emulated.launch(&shell("trap '' TERM HUP; echo ready; while :; do sleep 1; done")).unwrap();
    first_output(&mut watching);
    first_output(&mut unaware);
    kill("-KILL", emulated.daemon.pid());
    for running in [watching, unaware] {
        assert_gone_within(running.pid(), Duration::from_secs(2));
    }
}

#[test]
fn a_process_ends_when_its_channel_does() {
    // The attester's watcher alone, without the kernel's help: a platform that only answers, then goes.
    let (inside, mut outside) = UnixStream::pair().unwrap();
    let mut command = Command::new(testkit::example("probe"));
    command.fd_mappings(vec![FdMapping { parent_fd: inside.into(), child_fd: 3 }]).unwrap();
    let mut child = command.arg("wait").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let key = || Response::SealingKey { key: SealingKey::new(Zeroizing::new([0; 32])) };
    for answer in [
        Response::Launch { platform: Platform::Snp, configuration: vec![] },
        Response::Evidence { evidence: vec![], endorsements: vec![] },
        key(),
        key(),
    ] {
        frame::read(&mut outside).unwrap();
        frame::write(&mut outside, &frame::encode(&answer).unwrap()).unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(child.try_wait().unwrap().is_none());
    drop(outside);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(attester::emulated::EXIT_PLATFORM_GONE));
    assert!(String::from_utf8_lossy(&output.stderr).contains("the platform was switched off"));
}

#[test]
fn switching_off_ends_everything_in_order() {
    let emulated = Emulated::start();
    let polite = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = emulated.launch(&shell(polite)).unwrap();
    first_output(&mut running);
    let Emulated { daemon, directory } = emulated;
    let socket = daemon.socket();
    assert!(daemon.stop().unwrap().success());
    let (_, _, exit) = finish(running);
    assert_eq!(exit, Exit::Code(5));
    assert!(!socket.exists());
    assert!(matches!(control::launch(&socket, &shell("true")), Err(ControlError::Unreachable { .. })));
    drop(directory);
}

#[test]
fn one_directory_has_one_emulator() {
    let emulated = Emulated::start();
    let second = Command::new(testkit::binary("bailey-emulator"))
        .args(["start", "--dir"])
        .arg(emulated.directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(said.contains("another process serves"), "{said}");
    emulated.probe(&probe(Platform::Snp));
}

#[test]
fn many_processes_run_at_once() {
    let emulated = Emulated::start();
    let running: Vec<Running> =
        (0..24).map(|_| emulated.launch(&shell("echo ready; sleep 600")).unwrap()).collect();
    let pids: Vec<u32> = running.iter().map(Running::pid).collect();
    assert!(pids.iter().all(|pid| exists(*pid)));
    drop(running);
    pids.into_iter().for_each(|pid| assert_gone_within(pid, Duration::from_secs(3)));
}

#[test]
fn s43_the_control_socket_is_private() {
    let emulated = Emulated::start();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&emulated.daemon.socket()), 0o600);
}

#[test]
fn s44_the_log_has_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let platform = directory.path().join("platform");
    let file = std::fs::File::create(&log).unwrap();
    let daemon = Daemon::start(&testkit::binary("bailey-emulator"), &platform, file.into()).unwrap();
    let launch = Launch { arguments: vec!["".into(), "canary-argument".into()], ..probe(Platform::Snp) };
    let launch = Launch { configuration: b"canary-configuration".to_vec(), ..launch };
    let (out, _, _) = finish(control::launch(&daemon.socket(), &launch).unwrap());
    let seen: Value = serde_json::from_str(&out).unwrap();
    daemon.stop().unwrap();
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.contains("launched"), "{log}");
    let key = seen["sealing_key"].as_str().unwrap();
    for secret in [key, "canary-argument", "canary-configuration", &hex::encode("canary-configuration")] {
        assert!(!log.contains(secret), "{log}");
    }
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}
