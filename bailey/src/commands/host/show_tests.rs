use evidence::Platform;
use host::{Ending, Exit, LastExit, LaunchFailure, Limits, Places, ProcessSpec, Restart};

use super::*;

const NOW: u64 = 10_000_000;

fn status(name: &str, state: State) -> Status {
    Status {
        name: name.parse().unwrap(),
        platform: Platform::Snp,
        backend: Some("emulated".parse().unwrap()),
        state,
        restarts: 0,
        measurement: None,
        walls: Vec::new(),
        reach: None,
        last_exit: None,
    }
}

fn ended(ending: Ending, ago_ms: u64) -> Option<LastExit> {
    Some(LastExit { ending, at_ms: NOW - ago_ms })
}

fn keep(number: u8, tenant: Option<&str>, state: KeepState, age_ms: u64) -> KeepView {
    KeepView {
        name: format!("k-{number:032x}").parse().unwrap(),
        platform: Platform::Snp,
        backend: "emulated".parse().unwrap(),
        tenant: tenant.map(|tenant| tenant.parse().unwrap()),
        label: String::new(),
        state,
        age_ms,
        left_ms: tenant.map(|_| 3_600_000 - age_ms),
    }
}

fn overview() -> Overview {
    let backend = BackendView {
        name: "emulated".parse().unwrap(),
        kind: host::BackendKind::Process,
        tees: vec![Platform::Snp, Platform::Tdx],
        emulated: true,
        places: Some(Places { all: 64, free: 62, warm: 1 }),
        failure: None,
    };
    Overview {
        agent: "bailey-host/0.1.0".to_owned(),
        api: true,
        draining: false,
        backends: vec![backend],
        keeps: Vec::new(),
    }
}

#[test]
fn a_list_fits_a_terminal_and_says_why_what_does_not_run_does_not() {
    let mut host = overview();
    host.keeps = vec![
        keep(1, Some("acme"), KeepState::Connected, 725_000),
        keep(2, Some("acme"), KeepState::Leased, 12_000),
        keep(3, None, KeepState::Warm, 3_000),
    ];
    let crashed = Ending::Exited(Exit::Code(3));
    let reason = crashed.to_string();
    let mut processes = vec![
        status("crashes", State::BackOff { until_ms: NOW + 4_100, reason }),
        status("k-00000000000000000000000000000003", State::Running { pid: 7, since_ms: NOW - 3_000 }),
        status("once", State::Stopped),
        status("service", State::Running { pid: 4711, since_ms: NOW - 61_000 }),
        status("tally", State::Running { pid: 4712, since_ms: NOW - 1_000 }),
    ];
    (processes[0].restarts, processes[0].last_exit) = (5, ended(crashed.clone(), 4_000));
    processes[2].last_exit = ended(Ending::Exited(Exit::Code(0)), 125_000);
    (processes[4].restarts, processes[4].last_exit) = (1, ended(crashed, 2_000));
    let list = listing(&host, &processes, NOW);
    assert_eq!(
        list,
        "\
bailey-host/0.1.0
back ends
  emulated  process  snp, tdx (emulated)  62 of 64 places free, 1 warm
Keeps
  k-00000000000000000000000000000001  acme  snp  connected 12 min 5 s
  k-00000000000000000000000000000002  acme  snp  leased 12 s, no client yet
  k-00000000000000000000000000000003  -     snp  warm 3 s
processes
  crashes  snp  to be launched in 5 s, launched again 5 times
      exit code 3
  once     snp  stopped 2 min 5 s ago
      exit code 0
  service  snp  running 1 min 1 s
  tally    snp  running 1 s, launched again once
      before that: exit code 3
"
    );
    assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
}

#[test]
fn an_empty_host_says_what_it_lacks_and_what_fails() {
    let mut host = overview();
    host.draining = true;
    host.backends[0].failure = Some(LaunchFailure {
        reason: "no emulated \u{1b}[2Jplatform answers".to_owned(),
        again_in_ms: 11_001,
    });
    assert_eq!(
        listing(&host, &[], NOW),
        "\
bailey-host/0.1.0, draining: it takes no new Keeps
back ends
  emulated  process  snp, tdx (emulated)  62 of 64 places free, 1 warm
      launches fail, the next is in 12 s: no emulated \u{fffd}[2Jplatform answers
Keeps: none
processes: none
"
    );
    let mut alone = overview();
    (alone.api, alone.backends[0].places) = (false, None);
    let list = listing(&alone, &[], NOW);
    assert!(list.contains("it has no API\n") && !list.contains("Keeps: none"), "{list}");
}

#[test]
fn an_inspection_tells_all_once() {
    let mut process =
        status("k-00000000000000000000000000000001", State::Running { pid: 7, since_ms: NOW - 9_000 });
    process.walls = vec!["seccomp".to_owned(), "user-200001".to_owned()];
    let mut view = keep(1, Some("acme"), KeepState::Connected, 5_000);
    view.label = "night\u{7} run".to_owned();
    let spec = ProcessSpec {
        name: process.name.clone(),
        platform: Platform::Snp,
        backend: None,
        executable: "/usr/bin/bailey-keep".into(),
        configuration: host::Configuration::Hex(String::new()),
        arguments: Vec::new(),
        log: host::LogDestination::Discard,
        restart: Restart::Never,
        limits: Limits::default(),
        volumes: None,
        workload: Some("/srv/shop.wasm".into()),
        ports: vec![host::Forward { host: "0.0.0.0:443".parse().unwrap(), guest: 8443 }],
    };
    let limits = Limits { memory_mib: Some(512), cpu_milli: Some(1500) };
    let mut told = Inspection {
        status: process,
        keep: Some(view),
        executable: spec.executable.clone(),
        configuration_sha256: "e3b0".to_owned(),
        limits,
        restart: spec.restart,
        log: None,
        spec,
    };
    assert_eq!(
        inspection(&told, NOW),
        "\
process        k-00000000000000000000000000000001
state          running 9 s, process 7
tenant         acme
label          night\u{fffd} run, as its tenant calls it
Keep           connected 5 s; its lease ends in 59 min 55 s
TEE            snp
back end       emulated
program        /usr/bin/bailey-keep
configuration  none
walls          seccomp, user-200001
limits         512 MiB of memory, 1.5 processors
workload       /srv/shop.wasm
port           0.0.0.0:443 leads to 8443 of the machine
log            not kept
"
    );
    let reason = "not launched: /x is a symbolic link".to_owned();
    told.status.state = State::BackOff { until_ms: NOW, reason: reason.clone() };
    told.status.last_exit = ended(Ending::NotLaunched { reason: "/x is a symbolic link".to_owned() }, 0);
    (told.keep, told.limits) = (None, Limits::default());
    let text = inspection(&told, NOW);
    assert_eq!(text.matches(&reason).count(), 1, "{text}");
    assert!(text.contains("state          to be launched at once\n               not launched: "), "{text}");
    assert!(text.contains("limits         none\n"), "{text}");
}

#[test]
fn times_and_limits_are_said_as_people_say_them() {
    assert_eq!(
        [0, 59, 61, 3600, 90_000].map(|seconds| lasted(seconds * 1000)),
        ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]
    );
    assert_eq!(
        [1000, 4000, 500, 1250].map(processors),
        ["1 processor", "4 processors", "0.5 processors", "1.25 processors"]
    );
    assert_eq!([0, 1, 1000].map(soon), ["at once", "in 1 s", "in 1 s"]);
}
