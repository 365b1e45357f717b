//! The program as a measured process of an emulated platform, with its broker in measured init-data.

use std::path::{Path, PathBuf};

use emulator::{
    control::{self, Event, Exit, Launch, Stream},
    launcher::Launcher,
    measure,
    socket::Stop,
    vendor,
};
use evidence::Platform;
use rcar::Content;

use crate::fake::Fake;

/// A platform that is switched on, until it is dropped.
pub struct Switched {
    stop: Stop,
    directory: tempfile::TempDir,
    serving: Option<std::thread::JoinHandle<()>>,
}

impl Switched {
    pub fn on() -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        let now = time::OffsetDateTime::now_utc();
        let platform = vendor::Platform::open(directory.path(), now).expect("a platform");
        let launcher = Launcher::open(platform, directory.path()).expect("switched on");
        let stop = Stop::new().expect("a switch");
        let switch = stop.clone();
        let serving = Some(std::thread::spawn(move || launcher.serve(&switch).expect("served")));
        Self { stop, directory, serving }
    }

    /// The same machine, for what runs in this process.
    pub fn machine(&self) -> vendor::Platform {
        vendor::Platform::open(self.directory.path(), time::OffsetDateTime::now_utc()).expect("the platform")
    }

    pub fn socket(&self) -> PathBuf {
        control::socket_path(self.directory.path())
    }

    /// What a program prints on standard output and standard error, and its end.
    pub fn run(&self, platform: Platform, configuration: &str, arguments: &[&str]) -> (String, String, Exit) {
        let launch = Launch {
            configuration: configuration.as_bytes().to_vec(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Launch::new(platform, program().to_owned())
        };
        let mut running = control::launch(&self.socket(), &launch).expect("launched");
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            match running.next_event().expect("an event") {
                Event::Output { stream: Stream::Stdout, bytes } => out.extend(bytes),
                Event::Output { bytes, .. } => err.extend(bytes),
                Event::Exited(exit) => {
                    let text = |bytes| String::from_utf8(bytes).expect("text");
                    return (text(out), text(err), exit);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

impl Drop for Switched {
    fn drop(&mut self) {
        self.stop.request();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_bailey-guest"))
}

fn init_data(fake: &Fake, algorithm: &str) -> String {
    format!(
        "version = \"0.1.0\"\nalgorithm = \"{algorithm}\"\n[data]\n\"cdh.toml\" = '''\n[kbc]\nurl = \
         \"{}\"\nkbs_cert = \"\"\"\n{}\"\"\"\n'''\n",
        fake.url(),
        fake.root_pem
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_measured_guest_attests_to_the_broker_of_its_init_data() {
    let fake = Fake::start().await;
    fake.put("default/password/db", b"open sesame");
    let host = Switched::on();
    for (platform, algorithm) in
        [(Platform::Snp, "sha256"), (Platform::Tdx, "sha384"), (Platform::Sgx, "sha512")]
    {
        let init_data = init_data(&fake, algorithm);
        let (out, err, exit) = tokio::task::block_in_place(|| {
            host.run(platform, &init_data, &["get", "kbs:///default/password/db"])
        });
        assert_eq!((out.as_str(), exit), ("open sesame", Exit::Code(0)), "{platform}: {err}");

        let attestation = fake.state(|state| state.attestations.pop().expect("an attestation"));
        let Content::Evidence(conveyed) = attestation.pieces()[0].read().expect("Evidence") else { panic!() };
        let evidence = &conveyed.evidence[0].1;
        let code = std::fs::read(program()).expect("the program");
        assert_eq!(evidence.measurement().as_ref(), Some(measure::measure(&code).of(platform)));
        let seen = attestation.init_data.expect("init-data");
        assert_eq!(seen.body(), init_data);
        assert_eq!(seen.launch_configuration(platform).as_deref(), Some(evidence.launch_configuration()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s42_the_host_cannot_send_a_measured_guest_to_another_broker() {
    let (fake, evil) = (Fake::start().await, Fake::start().await);
    evil.put("default/password/db", b"of the host's choice");
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("evil.pem");
    std::fs::write(&root, &evil.root_pem).expect("written");
    let host = Switched::on();
    let init_data = init_data(&fake, "sha256");
    let evil_url = evil.url();
    let root = root.to_str().expect("text");
    for arguments in [
        vec!["get", "kbs:///default/password/db", "--broker", &evil_url],
        vec!["get", "kbs:///default/password/db", "--broker-root", root],
        vec!["get", "kbs:///default/password/db", "--broker", &evil_url, "--broker-root", root],
    ] {
        let (out, err, exit) =
            tokio::task::block_in_place(|| host.run(Platform::Snp, &init_data, &arguments));
        assert_eq!((out.as_str(), exit), ("", Exit::Code(1)), "{err}");
        assert!(err.contains("measured init-data"), "{err}");
    }
    assert_eq!(fake.asked("/") + evil.asked("/"), 0);
}

#[test]
fn evidence_is_printed_for_people_and_brokers() {
    let host = Switched::on();
    let (out, err, exit) = host.run(Platform::Snp, "", &["evidence", "--report-data", "c0ffee"]);
    assert_eq!(exit, Exit::Code(0), "{err}");
    let conveyed = evidence::coco::read(Platform::Snp, out.as_bytes()).expect("Evidence");
    assert_eq!(conveyed.evidence[0].1.covered().as_bytes()[..4], [0xc0, 0xff, 0xee, 0]);
    let long = "00".repeat(65);
    let (_, err, exit) = host.run(Platform::Snp, "", &["evidence", "--report-data", &long]);
    assert_eq!(exit, Exit::Code(1), "{err}");
}
