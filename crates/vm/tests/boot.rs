//! A machine that boots, attests, and ends: the image as `cargo xtask tools` and our own programs make it, QEMU without
//! hardware's help, a TPM of software, and values that were computed before the machine existed.

mod world;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use appraisal::{Policy, ReferenceValue, Rule, binding::Role};
use attested_tls::{
    channel::{Attested, ChannelError, ClaimsRefused, Expectations, PeerPolicy},
    clock,
    direct::{self, Client},
    launch::DirectConfiguration,
    statement::{StatementError, verifier},
};
use evidence::Platform;
use time::OffsetDateTime;
use tokio::net::TcpStream;
use vm::{Guest, Happened, Hardware, Launch, Machine, Protection, authority::Authority};
use vm_image::Image;

use world::{anchor, loopback, parts, stub, value, written};

const PORT: u16 = 7000;

/// What a client requires.
struct Wanted {
    policy: Policy,
    value: ReferenceValue,
}

impl PeerPolicy for Wanted {
    fn role(&self) -> Role {
        Role::DirectKeep
    }

    fn expectations(&self, _: Platform, _: &[u8]) -> Result<Expectations, ClaimsRefused> {
        Ok(Expectations { policy: self.policy.clone(), measurements: vec![self.value.clone()] })
    }
}

async fn connect(address: vm::Address, wanted: &Wanted) -> Result<Attested<TcpStream>, ChannelError> {
    let client = Client { clock: clock::system(), verifier: Arc::new(verifier()) };
    direct::connect(TcpStream::connect(address).await.expect("a connection"), &client, wanted).await
}

#[tokio::test(flavor = "multi_thread")]
async fn s31_a_virtual_machine_attests_to_what_was_computed_from_its_image_and_offers_nothing_else() {
    let Some(parts) = parts() else { return };
    let image = Image::build(&parts).expect("an image");
    assert!(image.size() < 40 * 1024 * 1024, "{} bytes", image.size());
    let folder = tempfile::tempdir().expect("a folder");
    let unified = written(&image, folder.path());
    let configuration = DirectConfiguration { version: keep_protocol::VERSION }.to_json();
    let registers = image.registers(&unified, Some(&configuration)).expect("registers");

    let guest = Guest::open(folder.path()).expect("a guest");
    let keep = folder.path().join("keep");
    std::fs::create_dir(&keep).expect("a folder");
    let now = OffsetDateTime::from_unix_timestamp(clock::system()().0).expect("a time");
    let authority = Authority::open(folder.path(), now).expect("an authority");
    let launch = Launch {
        guest: &guest,
        hardware: Hardware::default(),
        protection: Protection::Tpm,
        configuration: &configuration,
        arguments: &["--channel".into(), format!("0.0.0.0:{PORT}")],
        workload: None,
        ports: &[loopback(PORT)],
        storage: false,
        outgoing: false,
    };
    let begun = Instant::now();
    let mut machine = Machine::launch(&launch, &keep, &authority, now).expect("a machine");
    let address = machine.address(PORT).expect("an address");
    let mut console = String::new();
    while !console.contains("WAITING") {
        match machine.next_event().expect("the machine is there") {
            Happened::Console(bytes) => console.push_str(&String::from_utf8_lossy(&bytes)),
            Happened::Ended(code) => panic!("it ended with {code:?}:\n{console}"),
        }
    }
    eprintln!("waiting after {:?}", begun.elapsed());

    let mut policy = Policy::production();
    policy.boot.secure_boot = Rule::Allow;
    let untrusting = policy.clone();
    policy.trust_anchors.push(anchor(&authority));
    let wanted = Wanted { policy, value: value(registers.clone()) };
    // On a machine that is busy a handshake can take longer than it may: then the Keep waits for the next client.
    let mut attempts = 0;
    let attested = loop {
        match connect(address, &wanted).await {
            Ok(attested) => break attested,
            Err(error) if error.refused().is_none() && attempts < 20 => attempts += 1,
            Err(error) => panic!("{error:#?}\n{console}"),
        }
    };
    eprintln!("attested after {:?}", begun.elapsed());
    let peer = attested.peer().clone();
    drop(attested);

    let verdict = peer.appraised.verdict().render(false);
    assert!(verdict.contains("protects no memory"), "{verdict}");

    // The same Evidence, held against what another image or another launch measures to.
    let again = |policy: &Policy, registers: &BTreeMap<String, String>| {
        let value = value(registers.clone());
        match peer.presented.appraise_again(&[value], policy, clock::system()(), &verifier()) {
            Ok(_) => String::new(),
            Err(StatementError::Refused(refused)) => refused.verdict().render(false),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(again(&wanted.policy, &registers), "");
    let other = |change: &dyn Fn(&mut Image)| {
        let mut image = image.clone();
        change(&mut image);
        let unified = image.unified(&stub()).expect("an image");
        again(&wanted.policy, &image.registers(&unified, Some(&configuration)).expect("registers"))
    };
    let kernel = other(&|image| *image.kernel.last_mut().expect("bytes") ^= 1);
    assert!(kernel.contains("pcr4.sha256") && !kernel.contains("pcr9.sha256"), "{kernel}");
    let initrd = other(&|image| image.initrd.push(0));
    assert!(initrd.contains("pcr4.sha256") && initrd.contains("pcr9.sha256"), "{initrd}");
    let command_line = other(&|image| image.command_line.push_str(" init=/bin/sh"));
    assert!(command_line.contains("pcr9.sha256"), "{command_line}");
    let launched = image.registers(&unified, Some(br#"{"direct":{"version":2}}"#)).expect("registers");
    let launched = again(&wanted.policy, &launched);
    assert!(launched.contains("pcr12.sha256") && !launched.contains("pcr4.sha256"), "{launched}");
    // A TPM that nobody vouches for is anyone's.
    let anyones = again(&untrusting, &registers);
    assert!(
        anyones.contains("ROOT_NOT_TRUSTED")
            || anyones.contains("AK_NOT_TRUSTED")
            || anyones.contains("CHAIN_INCOMPLETE"),
        "{anyones}"
    );

    // The client is gone, and the Keep with it: it serves nobody else.
    let mut ended = None;
    while ended.is_none() {
        match machine.next_event().expect("the machine is there") {
            Happened::Console(bytes) => console.push_str(&String::from_utf8_lossy(&bytes)),
            Happened::Ended(code) => ended = Some(code),
        }
    }
    assert!(ended.flatten().is_some(), "{console}");
    // S-31: nothing but the Keep's own lines, and what firmware and the first process say.
    let lines = console.lines().filter(|line| !line.contains("BdsDxe") && !line.trim().is_empty());
    for line in lines {
        let known = line.starts_with('{') || line.starts_with("bailey-init: ");
        assert!(known || line.ends_with("reboot: Power down"), "{line}");
    }
}
