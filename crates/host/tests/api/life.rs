//! Keeps from their launch to their end, through the end of their agent.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use host::{Action, Inspection, Reply, Status};
use keep_protocol::host::{HostErrorCode as Code, HostInfo, KeepState, Keeps};
use serde_json::json;

use crate::client::{SNP, ping};
use crate::site::{LONG, Site, TOKENS, await_gone, exists};

fn warm(processes: &[Status]) -> bool {
    !processes.is_empty() && processes.iter().all(|process| process.pid().is_some())
}

fn pid_of(site: &Site, id: &str) -> u32 {
    let name = format!("k-{id}");
    site.processes().iter().find(|process| process.name.as_str() == name).and_then(Status::pid).unwrap()
}

#[test]
fn a_client_gets_a_keep_talks_to_it_and_it_ends() {
    let site = Site::start(|_| {});
    site.await_processes(warm);
    let client = site.client(Some(TOKENS[0]));
    let info: HostInfo = client.get("/v1");
    assert_eq!((info.draining, info.backends.len()), (false, 2));
    assert_eq!((info.backends[0].tee, info.backends[0].free), (SNP, 6));

    let lease = client.lease().unwrap();
    assert!(lease.warm);
    let pid = pid_of(&site, &lease.id);
    let mut channel = client.channel(&lease.id).unwrap();
    ping(&mut channel, b"hello");
    ping(&mut channel, &vec![7; 3000]);
    let Keeps { keeps } = client.get("/v1/keeps");
    assert_eq!((keeps.len(), keeps[0].state, keeps[0].label.as_str()), (1, KeepState::Connected, "a label"));
    // Another is warm by then or soon; the first is taken.
    assert_eq!(client.channel(&lease.id).err().unwrap().code, Code::KeepTaken);

    // A half-close is passed on; the Keep then ends, and with it the channel.
    channel.conn.send_close_notify();
    channel.flush().unwrap();
    let mut rest = Vec::new();
    let _ = channel.read_to_end(&mut rest);
    assert!(rest.is_empty());
    await_gone(pid);
    let name = format!("k-{}", lease.id);
    site.await_processes(|processes| processes.iter().all(|process| process.name.as_str() != name));
    assert_eq!(client.channel(&lease.id).err().unwrap().code, Code::NoSuchKeep);
    assert!(!site.host().join("sites").join(&name).exists());

    // What a workload prints is in no file of the host's.
    let logs = std::fs::read_dir(site.host().join("logs")).unwrap().count();
    assert_eq!(logs, 0);
}

#[test]
fn keeps_of_several_tenants_have_users_of_their_own() {
    let site = Site::start(|config| config["keeps"]["warm"] = json!(0));
    let (acme, zeta) = (site.client(Some(TOKENS[0])), site.client(Some(TOKENS[1])));
    let [one, two] = [acme.lease().unwrap(), zeta.lease().unwrap()];
    assert!(!one.warm && !two.warm);
    if !rustix::process::geteuid().is_root() {
        println!("NOT RUN: only root can give users");
        return;
    }
    let user = |id: &str| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid_of(&site, id))).unwrap();
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        assert!(line("NoNewPrivs").ends_with('1') && line("Seccomp:").ends_with('2'), "{status}");
        assert!(line("CapEff").ends_with("0000000000000000"));
        line("Uid:")
    };
    let (first, second) = (user(&one.id), user(&two.id));
    assert!(first.contains("2650") && second.contains("2650") && first != second, "{first} {second}");
    // A Keep that ends gives its user back.
    let taken = || std::fs::read_dir(site.host().join("users")).unwrap().count();
    assert_eq!(taken(), 2);
    assert_eq!(acme.request("DELETE", &format!("/v1/keeps/{}", one.id), &[]).status, 204);
    site.await_processes(|processes| processes.len() == 1);
    assert_eq!(taken(), 1);
}

/// In the place of a Keep: stores a line, and says what else is around it. Within its walls a shell has nothing but itself.
const STORES: &str = r#"umask 0; echo kept >> "$1/data"
    for at in "${1%/*}"/*; do echo "${at##*/}"; done > "$1/around"; while :; do :; done"#;

#[test]
fn s55_what_a_tenant_stores_is_there_for_its_next_keep_and_for_nobody_elses() {
    let site = Site::start(|config| {
        config["keeps"]["warm"] = json!(0);
        config["tenants"][0]["quota"]["storage_mib"] = json!(1);
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        config["backends"][0]["process"]["keep"] =
            json!({ "executable": shell, "arguments": ["-c", STORES] });
    });
    let volumes = site.host().join("volumes");
    let stored = |tenant: &str, expected: &str| {
        let (began, path) = (Instant::now(), volumes.join(tenant).join("data"));
        while std::fs::read_to_string(&path).unwrap_or_default() != expected {
            assert!(began.elapsed() < LONG, "{tenant}: {:?}", std::fs::read_to_string(&path));
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let (acme, zeta) = (site.client(Some(TOKENS[0])), site.client(Some(TOKENS[1])));
    for expected in ["kept\n", "kept\nkept\n"] {
        let lease = acme.lease_with_volumes().unwrap();
        stored("acme", expected);
        acme.request("DELETE", &format!("/v1/keeps/{}", lease.id), &[]);
        site.await_processes(<[Status]>::is_empty);
    }
    zeta.lease_with_volumes().unwrap();
    stored("zeta", "kept\n");
    if rustix::process::geteuid().is_root() {
        let around = volumes.join("zeta/around");
        let began = Instant::now();
        while std::fs::read_to_string(&around).unwrap_or_default() != "zeta\n" {
            assert!(began.elapsed() < LONG, "{:?}", std::fs::read_to_string(&around));
            std::thread::sleep(Duration::from_millis(10));
        }
    } else {
        println!("NOT RUN: only root can build the wall around a tenant's storage");
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&volumes).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "nobody but the agent's user comes to it on the host");

    std::fs::create_dir(volumes.join("acme/v")).unwrap();
    std::fs::write(volumes.join("acme/v/much"), vec![7; 2 << 20]).unwrap();
    assert_eq!(acme.lease_with_volumes().unwrap_err().code, Code::QuotaExceeded);
    acme.lease().unwrap();
}

/// `processes[].volumes`: the folder is made, told by `--volumes`, within the walls, and the same at the next launch, which
/// may have another user.
#[test]
fn s55_what_a_process_of_the_configuration_stores_is_there_at_its_next_launch() {
    const STORES_ONCE: &str = r#"umask 0; echo kept >> "$1/data"
        for at in "${1%/*}"/*; do echo "${at##*/}"; done > "$1/around"; echo "$0" > "$1/told""#;
    let site = Site::start(|config| {
        let shell = std::fs::canonicalize("/bin/sh").unwrap();
        config["keeps"]["warm"] = json!(0);
        config["processes"] = json!([
            { "name": "job", "platform": "snp", "executable": shell, "arguments": ["-c", STORES_ONCE], "volumes": "of/job" },
            { "name": "other", "platform": "snp", "executable": shell, "arguments": ["-c", STORES_ONCE], "volumes": "of/other" },
        ]);
    });
    let folder = site.directory.path().join("of");
    let stored = |path: &str, is_there: &dyn Fn(&str) -> bool| {
        let began = Instant::now();
        while !is_there(&std::fs::read_to_string(folder.join(path)).unwrap_or_default()) {
            assert!(began.elapsed() < LONG, "{path}: {:?}", site.processes());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    for process in ["job", "other"] {
        stored(&format!("{process}/data"), &|text| text.starts_with("kept\nkept\n"));
        stored(&format!("{process}/told"), &|text| text == "--volumes\n");
        if rustix::process::geteuid().is_root() {
            stored(&format!("{process}/around"), &|text| text == format!("{process}\n"));
        } else {
            println!("NOT RUN: only root can build the wall around a process's storage");
        }
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o700, "each launch may have another user: the folder above keeps the others out");
}

#[test]
fn running_keeps_survive_the_death_of_their_agent_and_are_adopted() {
    let mut site = Site::start(|_| {});
    site.await_processes(warm);
    let lease = site.client(Some(TOKENS[0])).lease().unwrap();
    let before = site.await_processes(|processes| processes.len() == 2 && warm(processes));
    let pid = pid_of(&site, &lease.id);
    // Nobody but the agent's user can read the handles.
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = site.host().join("sites").join(format!("k-{}", lease.id)).join(path);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("."), mode("handle")), (0o700, 0o600));

    site.kill_agent();
    std::thread::sleep(Duration::from_millis(200));
    assert!(before.iter().filter_map(Status::pid).all(exists));

    site.start_agent(&[]);
    let after = site.await_processes(|processes| processes.len() == 2 && warm(processes));
    let pids =
        |processes: &[Status]| processes.iter().map(|it| (it.name.clone(), it.pid())).collect::<Vec<_>>();
    assert_eq!(pids(&after), pids(&before));
    let client = site.client(Some(TOKENS[0]));
    let Keeps { keeps } = client.get("/v1/keeps");
    assert_eq!((keeps.len(), keeps[0].state), (1, KeepState::Leased));
    let Keeps { keeps } = site.client(Some(TOKENS[1])).get("/v1/keeps");
    assert!(keeps.is_empty());
    let mut channel = client.channel(&lease.id).unwrap();
    ping(&mut channel, b"still there");
    assert_eq!(pid_of(&site, &lease.id), pid);
    // And the quota still counts it.
    client.lease().unwrap();
    assert_eq!(client.lease().unwrap_err().code, Code::QuotaExceeded);
    ping(&mut channel, b"still there");
}

#[test]
fn an_agent_that_is_stopped_leaves_its_keeps_to_the_next() {
    let mut site = Site::start(|_| {});
    let pid = site.await_processes(warm)[0].pid().unwrap();
    assert_eq!(site.ask(&Action::Leave {}), Reply::Done {});
    assert!(site.agent(0).wait().unwrap().success());
    assert!(exists(pid));
    site.start_agent(&[]);
    assert_eq!(site.await_processes(warm)[0].pid(), Some(pid));
    assert_eq!(site.ask(&Action::Shutdown {}), Reply::Done {});
    assert!(site.agent(1).wait().unwrap().success());
    await_gone(pid);
    assert_eq!(std::fs::read_dir(site.host().join("keeps")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(site.host().join("users")).unwrap().count(), 0);
}

#[test]
fn an_upgrade_loses_no_keep_and_no_connection() {
    let mut site = Site::start(|_| {});
    site.await_processes(warm);
    let client = site.client(Some(TOKENS[0]));
    let lease = client.lease().unwrap();
    let mut channel = client.channel(&lease.id).unwrap();
    ping(&mut channel, b"before");
    let before = site.await_processes(|processes| processes.len() == 2 && warm(processes));

    // The port stays the same: the socket itself is handed over.
    let port = client.port;
    site.start_agent(&["take-over", &port.to_string()]);
    let again = site.client(Some(TOKENS[0]));
    assert_eq!(again.port, port);
    let after = site.await_processes(|processes| processes.len() == 2 && warm(processes));
    let pids =
        |processes: &[Status]| processes.iter().map(|it| (it.name.clone(), it.pid())).collect::<Vec<_>>();
    assert_eq!(pids(&after), pids(&before));

    // What was connected still is, through the old agent, which waits for it; new requests are the new one's.
    assert!(site.agent(0).try_wait().unwrap().is_none());
    ping(&mut channel, b"during");
    let Keeps { keeps } = again.get("/v1/keeps");
    assert_eq!((keeps.len(), keeps[0].state), (1, KeepState::Connected));
    let other = again.lease().unwrap();
    ping(&mut again.channel(&other.id).unwrap(), b"new");
    ping(&mut channel, b"after");
    drop(channel);
    let began = Instant::now();
    while site.agent(0).try_wait().unwrap().is_none() {
        assert!(began.elapsed() < LONG, "the old agent does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_drained_host_takes_no_keeps_and_ends_when_told() {
    let site = Site::start(|_| {});
    site.await_processes(warm);
    let client = site.client(Some(TOKENS[0]));
    let lease = client.lease().unwrap();
    let mut channel = client.channel(&lease.id).unwrap();
    ping(&mut channel, b"before");
    assert_eq!(site.ask(&Action::Drain { now: false }), Reply::Done {});
    let error = client.lease().unwrap_err();
    assert_eq!(error.code, Code::Draining);
    assert!(client.get::<HostInfo>("/v1").draining);
    // Idle ones end; the tenant's goes on.
    let left = site.await_processes(|processes| processes.len() == 1);
    assert_eq!(left[0].name.as_str(), format!("k-{}", lease.id));
    ping(&mut channel, b"after");
    assert_eq!(site.ask(&Action::Draining {}), Reply::Drain { draining: true, keeps: 1 });
    assert_eq!(site.ask(&Action::Drain { now: true }), Reply::Done {});
    site.await_processes(<[Status]>::is_empty);
    let began = Instant::now();
    while site.ask(&Action::Draining {}) != (Reply::Drain { draining: true, keeps: 0 }) {
        assert!(began.elapsed() < LONG, "Keeps are left");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(channel.read(&mut [0; 8]).map_or(true, |count| count == 0));
}

#[test]
fn a_keep_whose_client_does_not_come_ends() {
    let site = Site::start(|config| config["keeps"]["idle_s"] = json!(1));
    let lease = site.client(Some(TOKENS[0])).lease().unwrap();
    assert_eq!(lease.ttl_ms, 1000);
    let name = format!("k-{}", lease.id);
    site.await_processes(|processes| processes.iter().all(|process| process.name.as_str() != name));
}

#[test]
fn a_silent_connection_ends() {
    let site = Site::start(|config| config["keeps"]["silence_s"] = json!(1));
    let client = site.client(Some(TOKENS[0]));
    let lease = client.lease().unwrap();
    let mut channel = client.channel(&lease.id).unwrap();
    ping(&mut channel, b"x");
    assert!(channel.read(&mut [0; 8]).map_or(true, |count| count == 0));
}

#[test]
fn a_keep_that_ends_is_replaced_and_the_others_are_unharmed() {
    let site = Site::start(|config| config["keeps"]["warm"] = json!(2));
    let before = site.await_processes(|processes| processes.len() == 2 && warm(processes));
    let (dead, alive) = (before[0].pid().unwrap(), before[1].pid().unwrap());
    let killed = std::process::Command::new("kill").args(["-KILL", &dead.to_string()]).status();
    assert!(killed.unwrap().success());
    let after = site.await_processes(|processes| {
        processes.len() == 2 && warm(processes) && processes.iter().all(|process| process.pid() != Some(dead))
    });
    assert!(after.iter().any(|process| process.pid() == Some(alive)));
}

#[test]
fn an_inspection_tells_whose_and_what_but_no_secret() {
    let site = Site::start(|_| {});
    let lease = site.client(Some(TOKENS[0])).lease().unwrap();
    let name = format!("k-{}", lease.id).parse().unwrap();
    let Reply::Process { process } = site.ask(&Action::Inspect { name }) else { panic!("no inspection") };
    let Inspection { status, keep, limits, log, .. } = *process;
    assert_eq!(keep.unwrap().tenant.unwrap().as_str(), "acme");
    assert_eq!((limits.memory_mib, log), (Some(256), None));
    if rustix::process::geteuid().is_root() {
        assert!(status.walls.iter().any(|wall| wall == "seccomp"), "{:?}", status.walls);
    }
}

#[test]
fn named_processes_survive_their_agent_too_and_their_logs_go_on() {
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    let script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done";
    let process = json!({
        "name": "service", "platform": "snp", "backend": "plain", "executable": shell, "arguments": ["-c", script],
    });
    let mut site = Site::start(|config| {
        config["keeps"]["warm"] = json!(0);
        let platform = config["backends"][0]["process"]["platform"].clone();
        let plain = json!({"process": {"name": "plain", "platform": platform, "isolation": "none"}});
        config["backends"].as_array_mut().unwrap().push(plain);
        config["processes"] = json!([process.clone()]);
    });
    // One of the configuration, and one that was asked for over the socket.
    let mut other = process;
    other["name"] = json!("asked-for");
    let launch = json!({"action": "launch", "process": other}).to_string();
    assert_eq!(site.ask(&Action::parse(launch.as_bytes()).unwrap()), Reply::Done {});
    let both = |processes: &[Status]| processes.len() == 2 && warm(processes);
    let pids = |processes: &[Status]| processes.iter().map(Status::pid).collect::<Vec<_>>();
    let before = site.await_processes(both);
    site.kill_agent();
    std::thread::sleep(Duration::from_millis(500));
    site.start_agent(&[]);
    assert_eq!(pids(&site.await_processes(both)), pids(&before));
    let log = || std::fs::read_to_string(site.host().join("logs/service.log")).unwrap();
    let began = Instant::now();
    while !log().contains("line 20\n") {
        assert!(began.elapsed() < LONG, "{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(log().contains("bailey host: adopted as process"), "{}", log());
    // Nothing that was printed while there was no agent is missing, though a line may be cut where it died.
    let text = log();
    let lines = (0..20).filter(|number| text.contains(&format!("line {number}\n"))).count();
    assert!(lines >= 19, "{text}");

    // What a person stops is not launched by the next agent.
    assert_eq!(site.ask(&Action::Stop { name: "asked-for".parse().unwrap() }), Reply::Done {});
    site.kill_agent();
    site.start_agent(&[]);
    let left = site.await_processes(warm);
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn keeps_that_cannot_be_launched_are_tried_again_with_pauses() {
    let site = Site::start(|config| {
        config["keeps"]["log"] = json!("file");
        config["backends"][0]["process"]["keep"]["executable"] = json!("/no/such/program");
    });
    std::thread::sleep(Duration::from_secs(3));
    let tried = || std::fs::read_dir(site.host().join("logs")).unwrap().count();
    // 250 ms, 500 ms, 1 s, 2 s: without pauses there would be hundreds.
    assert!((1..=8).contains(&tried()), "{} launches", tried());
    assert_eq!(site.client(Some(TOKENS[0])).lease().unwrap_err().code, Code::LaunchFailed);
}

/// What the operator sees: places, whose Keeps, and why there are none.
#[test]
fn an_overview_tells_whose_keeps_there_are_and_why_launches_fail() {
    let site = Site::start(|config| {
        config["keeps"]["warm"] = json!(0);
        let (mut broken, works) = (config["backends"][0].clone(), config["backends"][0].clone());
        broken["process"]["name"] = json!("broken");
        broken["process"]["tees"] = json!(["tdx"]);
        broken["process"]["keep"]["executable"] = json!("/no/such/program");
        config["backends"] = json!([works, broken]);
        config["backends"][0]["process"]["tees"] = json!(["snp"]);
    });
    let overview = || match site.ask(&Action::Host {}) {
        Reply::Host { host } => host,
        reply => panic!("{reply:?}"),
    };
    let client = site.client(Some(TOKENS[0]));
    let lease = client.lease().unwrap();
    let tdx = keep_protocol::host::Tee { platform: keep_protocol::host::Platform::Tdx, ..SNP };
    assert_eq!(client.lease_of(&[tdx]).unwrap_err().code, Code::LaunchFailed);
    let seen = overview();
    assert!(seen.api && !seen.draining);
    let places =
        |index: usize| seen.backends[index].places.map(|places| (places.all, places.free, places.warm));
    assert_eq!((places(0), places(1)), (Some((6, 5, 0)), Some((6, 6, 0))));
    assert_eq!(seen.backends[0].failure, None);
    let reason = &seen.backends[1].failure.as_ref().unwrap().reason;
    assert!(reason.contains("EXECUTABLE_UNREADABLE") && reason.contains("/no/such/program"), "{reason}");
    let [keep] = &seen.keeps[..] else { panic!("{seen:?}") };
    assert_eq!((keep.name.as_str(), keep.state), (format!("k-{}", lease.id).as_str(), KeepState::Leased));
    assert_eq!((keep.tenant.as_ref().unwrap().as_str(), keep.label.as_str()), ("acme", "a label"));
    assert!(keep.left_ms.is_some_and(|left| left > 0));
    let mut channel = client.channel(&lease.id).unwrap();
    ping(&mut channel, b"x");
    assert_eq!(overview().keeps[0].state, KeepState::Connected);
}

/// As of a disk that is full: nothing can be written down, so nothing new is launched, and what runs goes on.
#[test]
fn a_disk_that_takes_nothing_refuses_new_keeps_and_harms_none_that_run() {
    let site = Site::start(|config| config["keeps"]["warm"] = json!(0));
    let client = site.client(Some(TOKENS[0]));
    let lease = client.lease().unwrap();
    let mut channel = client.channel(&lease.id).unwrap();
    let (records, aside) = (site.host().join("keeps"), site.host().join("aside"));
    std::fs::rename(&records, &aside).unwrap();
    std::fs::write(&records, "not a folder").unwrap();
    for _ in 0..3 {
        assert_eq!(client.lease().unwrap_err().code, Code::LaunchFailed);
    }
    ping(&mut channel, b"still there");
    assert_eq!(site.processes().len(), 1, "nothing was left of what could not be written down");

    std::fs::remove_file(&records).unwrap();
    std::fs::rename(&aside, &records).unwrap();
    let next = client.lease().unwrap();
    ping(&mut client.channel(&next.id).unwrap(), b"again");
    ping(&mut channel, b"still there");
}
