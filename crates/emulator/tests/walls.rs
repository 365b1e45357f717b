//! Processes within walls, and processes that outlive the connection they were launched over: the real emulator,
//! and this test's own executable as the program, which tries what it may not do.

use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use emulator::control::{
    self, ControlError, Event, Exit, Handle, Isolation, Lasting, Launch, Network, Refusal, RefusalCode,
    Running,
};
use emulator::daemon::Daemon;
use evidence::Platform;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(30);
const USER: u32 = 264_200;

struct Site {
    daemon: Daemon,
    directory: TempDir,
}

impl Site {
    fn new() -> Self {
        // All tests' platforms have the same keys, which are generated once.
        static KEYS: OnceLock<Vec<u8>> = OnceLock::new();
        let start = |platform: &Path| {
            Daemon::start(Path::new(env!("CARGO_BIN_EXE_bailey-emulator")), platform, Stdio::null()).unwrap()
        };
        let keys = KEYS.get_or_init(|| {
            let first = tempfile::tempdir().unwrap();
            start(first.path());
            std::fs::read(first.path().join("platform.json")).unwrap()
        });
        let directory = tempfile::tempdir().unwrap();
        let platform = directory.path().join("platform");
        std::fs::create_dir(&platform).unwrap();
        std::fs::set_permissions(&platform, PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::write(platform.join("platform.json"), keys).unwrap();
        std::fs::set_permissions(platform.join("platform.json"), PermissionsExt::from_mode(0o600)).unwrap();
        Self { daemon: start(&platform), directory }
    }

    fn launch(&self, launch: &Launch) -> Running {
        control::launch(&self.daemon.socket(), launch).unwrap()
    }

    fn attach(&self, handle: &Handle) -> Result<Running, ControlError> {
        control::attach(&self.daemon.socket(), handle)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// One of the functions of this file that are marked `ignore`, as a program.
fn program(name: &str, words: &[&str]) -> Launch {
    let own = ["--ignored", "--exact", name, "--nocapture", "--test-threads=1"];
    Launch {
        arguments: own.iter().chain(words).map(|word| (*word).to_owned()).collect(),
        ..Launch::new(Platform::Snp, std::fs::canonicalize(std::env::current_exe().unwrap()).unwrap())
    }
}

fn shell(script: &str) -> Launch {
    Launch {
        arguments: vec!["-c".into(), script.into()],
        ..Launch::new(Platform::Snp, std::fs::canonicalize("/bin/sh").unwrap())
    }
}

fn lasting(launch: Launch, unattended_s: u32) -> (Launch, Handle) {
    let handle = Handle::generate().unwrap();
    let lasting = Lasting { handle: handle.clone(), unattended_s };
    (Launch { lasting: Some(lasting), ..launch }, handle)
}

fn isolation(user: u32) -> Isolation {
    Isolation {
        cpu_milli: Some(1000),
        memory_mib: Some(256),
        network: Network::None,
        required: true,
        user: Some(user),
        writable: Vec::new(),
    }
}

/// Whether this machine lets us test it.
fn can_isolate() -> bool {
    let root = rustix::process::geteuid().is_root();
    let namespaces = Command::new("unshare").args(["-m", "-p", "-f", "-i", "-u", "-n", "true"]).status();
    let can = root && namespaces.is_ok_and(|status| status.success());
    if !can {
        println!("NOT RUN: this machine gives us no users and namespaces (root: {root})");
    }
    can
}

fn finish(mut running: Running) -> (String, Exit) {
    let mut out = Vec::new();
    loop {
        match running.next_event().unwrap() {
            Event::Output { bytes, .. } => out.extend(bytes),
            Event::Exited(exit) => return (String::from_utf8_lossy(&out).into(), exit),
            event => panic!("{event:?}"),
        }
    }
}

/// Reads on until the process has said something.
fn hears(running: &mut Running, words: &str) -> String {
    let mut out = String::new();
    while !out.contains(words) {
        match running.next_event().unwrap() {
            Event::Output { bytes, .. } => out.push_str(&String::from_utf8_lossy(&bytes)),
            event => panic!("{event:?} after {out}"),
        }
    }
    out
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

/// A program that says that it is up, and waits.
#[test]
#[ignore = "a program for other tests"]
fn waits() {
    println!("up");
    std::thread::sleep(Duration::from_secs(600));
}

/// The program of [`s55_walls_hold`]: tries everything, and says what came of it.
#[test]
#[ignore = "a program for other tests"]
fn inside() {
    let victim: i32 = std::env::args().next_back().unwrap().parse().unwrap();
    let say = |what: &str, result: String| println!("{what}={result}");
    say("uid", rustix::process::getuid().as_raw().to_string());
    say("pid", rustix::process::getpid().as_raw_nonzero().to_string());
    say("core", format!("{:?}", rustix::process::getrlimit(rustix::process::Resource::Core).maximum));
    say("mem", std::fs::File::open(format!("/proc/{victim}/mem")).is_ok().to_string());
    let mut entries: Vec<String> = std::fs::read_dir("/")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    entries.sort();
    say("root", entries.join(","));
    say(
        "write",
        ["/x", "/usr/lib/x", "/etc/x"].iter().any(|path| std::fs::write(path, "x").is_ok()).to_string(),
    );
    say("tmp", std::fs::write("/tmp/x", "x").is_ok().to_string());
    say("shadow", Path::new("/etc/shadow").exists().to_string());
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    say("processes", format!("{:?}", processes.collect::<Vec<_>>()));
    say("thread", std::thread::spawn(|| 7).join().unwrap().to_string());
    say("tcp", std::net::TcpListener::bind("127.0.0.1:0").is_ok().to_string());
    say("outside", std::net::TcpStream::connect("127.0.0.1:1").unwrap_err().kind().to_string());
    for (name, number, arguments) in forbidden(victim) {
        #[expect(unsafe_code, reason = "calls that no wrapper makes")]
        // SAFETY: each is refused before it looks at its arguments; where a filter is missing, it acts on this
        // process alone, which has no other purpose.
        let result = unsafe { libc::syscall(number, arguments[0], arguments[1], arguments[2], 0, 0) };
        let error = std::io::Error::last_os_error().raw_os_error();
        say(name, format!("{result},{}", error.unwrap_or_default()));
    }
    println!("done");
}

type Call = (&'static str, libc::c_long, [libc::c_long; 3]);

fn forbidden(victim: i32) -> Vec<Call> {
    let namespaces = libc::c_long::from(libc::CLONE_NEWUSER);
    vec![
        ("ptrace", libc::SYS_ptrace, [libc::c_long::from(libc::PTRACE_ATTACH), victim.into(), 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [victim.into(), 0, 0]),
        ("mount", libc::SYS_mount, [0, 0, 0]),
        ("bpf", libc::SYS_bpf, [0, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0, 0, 0]),
        ("kexec", libc::SYS_kexec_load, [0, 0, 0]),
        ("module", libc::SYS_init_module, [0, 0, 0]),
        ("unshare", libc::SYS_unshare, [namespaces, 0, 0]),
        ("clone", libc::SYS_clone, [namespaces | libc::c_long::from(libc::SIGCHLD), 0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0]),
        ("io_uring", libc::SYS_io_uring_setup, [1, 0, 0]),
        ("perf", libc::SYS_perf_event_open, [0, 0, 0]),
        ("clock", libc::SYS_clock_settime, [0, 0, 0]),
        ("raw", libc::SYS_socket, [libc::AF_INET.into(), (libc::SOCK_RAW | libc::SOCK_CLOEXEC).into(), 1]),
        ("packet", libc::SYS_socket, [libc::AF_PACKET.into(), libc::SOCK_DGRAM.into(), 0]),
        ("netlink", libc::SYS_socket, [libc::AF_NETLINK.into(), libc::SOCK_DGRAM.into(), 0]),
        ("vsock", libc::SYS_socket, [libc::AF_VSOCK.into(), libc::SOCK_STREAM.into(), 0]),
    ]
}

#[test]
fn s55_walls_hold() {
    if !can_isolate() {
        return;
    }
    let site = Site::new();
    let mut victim = site.launch(&Launch { isolation: Some(isolation(USER)), ..program("waits", &[]) });
    hears(&mut victim, "up");
    let launch = program("inside", &[&victim.pid().to_string()]);
    let running = site.launch(&Launch { isolation: Some(isolation(USER + 1)), ..launch });
    let walls = running.walls().join(" ");
    for wall in ["pid", "ipc", "uts", "network", "root", "limits", "seccomp"] {
        assert!(walls.split(' ').any(|it| it == wall), "{wall} is not in {walls}");
    }
    let (said, exit) = finish(running);
    assert_eq!(exit, Exit::Code(0), "{said}");
    let value = |what: &str| {
        let line = said.lines().find_map(|line| line.split_once(&format!("{what}=")));
        line.unwrap_or_else(|| panic!("{what}: {said}")).1.to_owned()
    };
    assert_eq!(value("uid"), (USER + 1).to_string());
    assert_eq!(value("pid"), "1");
    assert_eq!(value("core"), "Some(0)");
    assert_eq!(value("mem"), "false");
    assert_eq!(value("write"), "false");
    assert_eq!(value("tmp"), "true");
    assert_eq!(value("shadow"), "false");
    assert_eq!(value("processes"), "[1]");
    assert_eq!(value("thread"), "7");
    assert_eq!(value("tcp"), "true");
    assert!(!value("root").contains("home") && !value("root").contains("root"), "{}", value("root"));
    for (call, ..) in forbidden(0) {
        assert_eq!(value(call), format!("-1,{}", libc::EPERM), "{call}");
    }

    // And where there were no namespaces, the user alone would be a wall.
    let as_another = |script: &str| {
        let status = Command::new("/bin/sh")
            .args(["-c", script])
            .uid(USER + 1)
            .gid(USER + 1)
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.unwrap().success()
    };
    let pid = victim.pid();
    assert!(as_another("true"));
    assert!(!as_another(&format!("kill -0 {pid}")));
    assert!(!as_another(&format!("head -c 1 /proc/{pid}/mem")));
    assert!(!as_another(&format!("cat /proc/{pid}/environ")));
    assert!(!as_another(&format!("ls /proc/{pid}/fd/")));
    assert!(exists(pid));
    drop(victim);
    await_gone(pid);
}

#[test]
fn the_walls_are_no_part_of_the_measurement() {
    if !can_isolate() {
        return;
    }
    let site = Site::new();
    let bare = site.launch(&shell("true"));
    let walled = site.launch(&Launch { isolation: Some(isolation(USER)), ..shell("true") });
    assert_eq!(bare.measurement(), walled.measurement());
    assert!(bare.walls().is_empty());
    assert_eq!(finish(bare).1, Exit::Code(0));
    assert_eq!(finish(walled).1, Exit::Code(0));
}

/// The program of [`s55_a_greedy_process_ends_and_others_do_not`].
#[test]
#[ignore = "a program for other tests"]
fn greedy() {
    let mut hoard = Vec::new();
    for _ in 0..1024 {
        hoard.push(vec![1u8; 1 << 20]);
    }
    println!("took {} MiB", hoard.len());
}

#[test]
fn s55_a_greedy_process_ends_and_others_do_not() {
    if !can_isolate() {
        return;
    }
    let site = Site::new();
    let mut other = site.launch(&Launch { isolation: Some(isolation(USER)), ..program("waits", &[]) });
    let limited = Isolation { memory_mib: Some(64), ..isolation(USER + 1) };
    let running = site.launch(&Launch { isolation: Some(limited), ..program("greedy", &[]) });
    let (said, exit) = finish(running);
    assert!(!said.contains("took"), "{said}");
    assert_ne!(exit, Exit::Code(0), "{said}");
    hears(&mut other, "up");
    assert!(exists(other.pid()));
}

#[test]
fn control_groups_are_removed() {
    if !can_isolate() {
        return;
    }
    let site = Site::new();
    let groups = || {
        let name = format!("{}-", site.daemon.pid());
        ["", "memory", "cpu", "pids", "bailey"]
            .iter()
            .filter_map(|part| std::fs::read_dir(Path::new("/sys/fs/cgroup").join(part)).ok())
            .flatten()
            .filter(|entry| {
                let entry = entry.as_ref().unwrap().file_name().into_string().unwrap();
                entry.starts_with(&name) || entry.starts_with(&format!("bailey-{name}"))
            })
            .count()
    };
    let mut running = site.launch(&Launch { isolation: Some(isolation(USER)), ..program("waits", &[]) });
    hears(&mut running, "up");
    let limited = running.walls().iter().any(|wall| wall.starts_with("cgroup"));
    assert_eq!(groups() > 0, limited);
    let pid = running.pid();
    drop(running);
    await_gone(pid);
    let began = Instant::now();
    while groups() > 0 {
        assert!(began.elapsed() < LONG, "control groups are left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn writable_directories_are_all_that_is_writable() {
    if !can_isolate() {
        return;
    }
    let site = Site::new();
    let directory = site.path("volumes");
    std::fs::create_dir(&directory).unwrap();
    chown(&directory, Some(USER), Some(USER)).unwrap();
    std::fs::set_permissions(site.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(site.path("secret"), "not for it").unwrap();
    let script = format!(
        "echo data > {0}/file && echo written; read x < {1} || echo hidden",
        directory.display(),
        site.path("secret").display()
    );
    let isolation = Isolation { writable: vec![directory.clone()], ..isolation(USER) };
    let (said, exit) = finish(site.launch(&Launch { isolation: Some(isolation), ..shell(&script) }));
    assert_eq!(exit, Exit::Code(0), "{said}");
    assert!(said.contains("written") && said.contains("hidden"), "{said}");
    assert_eq!(std::fs::read_to_string(directory.join("file")).unwrap(), "data\n");
}

#[test]
fn what_cannot_be_walled_in_is_refused() {
    if !can_isolate() {
        return;
    }
    let site = Site::new();
    let as_root = Isolation { user: None, required: false, ..isolation(USER) };
    let refused =
        control::launch(&site.daemon.socket(), &Launch { isolation: Some(as_root), ..shell("true") });
    let Err(ControlError::Refused(refusal)) = refused else { panic!("a walled process runs as root") };
    assert!(refusal.reason.contains("root needs a user"), "{refusal}");
    let nowhere = Isolation { writable: vec!["/no/such/directory".into()], ..isolation(USER) };
    let refused =
        control::launch(&site.daemon.socket(), &Launch { isolation: Some(nowhere), ..shell("true") });
    let Err(ControlError::Refused(refusal)) = refused else { panic!("launched without its root") };
    assert_eq!(refusal.code, RefusalCode::IsolationUnavailable, "{refusal}");
}

/// The program of [`a_process_is_given_its_listener`]: answers one connection on descriptor 4.
#[test]
#[ignore = "a program for other tests"]
fn answers() {
    #[expect(unsafe_code, reason = "the listener is known by its number")]
    // SAFETY: the emulator gives the listener as this descriptor, and nothing else here uses it.
    let listener = unsafe { UnixListener::from_raw_fd(control::LISTENER_DESCRIPTOR) };
    let (mut stream, _) = listener.accept().unwrap();
    let mut word = [0; 4];
    stream.read_exact(&mut word).unwrap();
    stream.write_all(&word).unwrap();
}

#[test]
fn a_process_is_given_its_listener() {
    let site = Site::new();
    let path = site.path("keep.sock");
    let isolation = can_isolate().then(|| isolation(USER));
    let launch = Launch { listener: Some(path.clone()), isolation, ..program("answers", &[]) };
    let running = site.launch(&launch);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"ping").unwrap();
    let mut word = [0; 4];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"ping");
    assert_eq!(finish(running).1, Exit::Code(0));
    // What is there already is not taken over.
    let Err(ControlError::Refused(refusal)) = control::launch(&site.daemon.socket(), &launch) else {
        panic!("a socket was taken over")
    };
    assert_eq!(refusal.code, RefusalCode::InvalidArguments);
}

#[test]
fn a_lasting_process_outlives_its_connection_and_is_found_by_its_handle() {
    let site = Site::new();
    let script = "trap 'exit 7' TERM; echo one; while :; do sleep 0.02; echo again; done";
    let (launch, handle) = lasting(shell(script), 600);
    let mut first = site.launch(&launch);
    let pid = first.pid();
    hears(&mut first, "one");
    first.stopper().unwrap().release();
    drop(first);

    let mut second = site.attach(&handle).unwrap();
    assert_eq!(second.pid(), pid);
    hears(&mut second, "again");
    // Another takes its place: the upgrade of an agent.
    let mut third = site.attach(&handle).unwrap();
    let closed = loop {
        match second.next_event() {
            Ok(Event::Output { .. }) => {}
            other => break other,
        }
    };
    assert!(matches!(closed, Err(ControlError::PlatformGone)), "{closed:?}");
    second.stopper().unwrap().release();
    drop(second);
    hears(&mut third, "again");
    assert!(exists(pid));

    third.stopper().unwrap().stop();
    assert_eq!(finish(third).1, Exit::Code(7));
    assert!(!exists(pid));
    let Err(ControlError::Refused(Refusal { code, .. })) = site.attach(&handle) else { panic!("found") };
    assert_eq!(code, RefusalCode::NoSuchProcess);
}

#[test]
fn the_end_of_a_process_that_nobody_listened_to_is_told_to_who_comes() {
    let site = Site::new();
    let (launch, handle) = lasting(shell("sleep 0.2; echo last words; exit 3"), 600);
    let first = site.launch(&launch);
    let pid = first.pid();
    first.stopper().unwrap().release();
    drop(first);
    await_gone(pid);
    let (said, exit) = finish(site.attach(&handle).unwrap());
    assert_eq!((said.as_str(), exit), ("last words\n", Exit::Code(3)));
}

#[test]
fn what_is_written_while_nobody_listens_is_bounded() {
    let site = Site::new();
    let script = "echo go; i=0; while [ $i -lt 60000 ]; do echo 0123456789abcdef; i=$((i+1)); done; echo end";
    let (launch, handle) = lasting(shell(script), 600);
    let first = site.launch(&launch);
    let pid = first.pid();
    first.stopper().unwrap().release();
    drop(first);
    await_gone(pid);
    let (said, exit) = finish(site.attach(&handle).unwrap());
    assert_eq!(exit, Exit::Code(0));
    assert!(said.ends_with("end\n") && said.contains("were not kept"), "{} bytes", said.len());
    assert!(said.len() < 400_000, "{} bytes", said.len());
}

#[test]
fn nobody_attaches_without_the_handle_or_to_a_process_that_does_not_last() {
    let site = Site::new();
    let (launch, handle) = lasting(shell("sleep 600"), 600);
    let running = site.launch(&launch);
    let refused = |handle: &Handle| match site.attach(handle) {
        Err(ControlError::Refused(refusal)) => refusal.code,
        other => panic!("{:?}", other.map(|running| running.pid())),
    };
    assert_eq!(refused(&Handle::generate().unwrap()), RefusalCode::NoSuchProcess);
    let mut near = *handle.as_bytes();
    near[31] ^= 1;
    assert_eq!(refused(&Handle::from_bytes(&near).unwrap()), RefusalCode::NoSuchProcess);
    // Nor can two processes have one handle.
    let Err(ControlError::Refused(refusal)) = control::launch(&site.daemon.socket(), &launch) else {
        panic!("launched twice")
    };
    assert_eq!(refusal.code, RefusalCode::HandleInUse);
    // Dropped without release, it ends.
    let pid = running.pid();
    drop(running);
    await_gone(pid);
}

#[test]
fn a_process_that_is_left_alone_for_too_long_ends() {
    let site = Site::new();
    let (launch, _) = lasting(shell("sleep 600"), 0);
    let running = site.launch(&launch);
    let pid = running.pid();
    running.stopper().unwrap().release();
    drop(running);
    await_gone(pid);
}

#[test]
fn lasting_processes_end_with_their_platform() {
    let Site { mut daemon, directory } = Site::new();
    let (launch, _) = lasting(shell("echo up; sleep 600"), 600);
    let mut running = control::launch(&daemon.socket(), &launch).unwrap();
    hears(&mut running, "up");
    let pid = running.pid();
    running.stopper().unwrap().release();
    drop(running);
    assert!(daemon.has_ended().unwrap().is_none());
    daemon.stop().unwrap();
    await_gone(pid);
    drop(directory);
}
