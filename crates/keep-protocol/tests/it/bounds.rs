//! What is refused, by name.

use keep_protocol::{
    Message, ProtocolError, Sensitive,
    host::{HostInfo, Keeps, Lease, NewKeep, Platform, Tee},
    keep::{Brought, Deploy, FromKeep, MAX_CHUNK, Preface, Secret, ToKeep, VolumeKey, WorkloadRef},
    package::{PackageOrder, Proof, RegistryAccess, RegistryCredentials, Signed, Signer},
};
use serde_bytes::{ByteArray, ByteBuf};

fn deploy() -> Deploy {
    Deploy {
        env: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
        args: Some(vec!["x".into()]),
        config: Some("args = []".into()),
        secrets: vec![Secret { name: "key".into(), value: Sensitive::new(b"hidden".to_vec()) }],
        volumes: vec![VolumeKey { key: Sensitive::new(vec![1; 32]), head: None, name: "data".into() }],
        workload: sent(8),
    }
}

fn sent(size: u64) -> Brought {
    Brought::Sent(WorkloadRef { size, digest: ByteArray::new([2; 32]) })
}

fn order() -> PackageOrder {
    let credentials =
        RegistryCredentials { password: Sensitive::new(b"hidden".to_vec()), username: "me".into() };
    let by = |name: &str| Signer { name: name.into(), proof: Proof::Key(ByteBuf::from(*b"spki")) };
    PackageOrder {
        now: 1,
        access: RegistryAccess { plain: false, roots: vec![], credentials: Some(credentials) },
        signed: Some(Signed { name: "a/b".into(), minimum: "0.0.0".into(), signers: vec![by("a"), by("b")] }),
        reference: "a/b@sha256:".into(),
    }
}

fn refused(change: impl FnOnce(&mut Deploy)) -> &'static str {
    let mut deploy = deploy();
    change(&mut deploy);
    match ToKeep::from_bytes(&ToKeep::Deploy(Box::new(deploy)).to_bytes()) {
        Err(ProtocolError::Rule { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_of_a_deployment() {
    let whole = ToKeep::Deploy(Box::new(deploy()));
    assert_eq!(ToKeep::from_bytes(&whole.to_bytes()), Ok(whole));
    assert_eq!(refused(|deploy| deploy.env.swap(0, 1)), "env");
    assert_eq!(refused(|deploy| deploy.env[1].0 = "A".into()), "env");
    assert_eq!(refused(|deploy| deploy.env[0].0 = "A=B".into()), "env");
    assert_eq!(refused(|deploy| deploy.env[0].0 = String::new()), "env");
    assert_eq!(refused(|deploy| deploy.env[0].1 = "a\0b".into()), "env");
    assert_eq!(refused(|deploy| deploy.args = Some(vec!["a\0".into()])), "args");
    assert_eq!(refused(|deploy| deploy.args = Some(vec![String::new(); 1025])), "args");
    assert_eq!(refused(|deploy| deploy.config = Some("x".repeat((256 << 10) + 1))), "config");
    assert_eq!(refused(|deploy| deploy.config = None), "config", "what is sent has one");
    assert_eq!(refused(|deploy| deploy.secrets.push(deploy.secrets[0].clone())), "secrets");
    assert_eq!(refused(|deploy| deploy.volumes[0].key = Sensitive::new(vec![1; 31])), "volumes");
    assert_eq!(refused(|deploy| deploy.workload = sent(0)), "workload");
    assert_eq!(refused(|deploy| deploy.workload = sent((64 << 20) + 1)), "workload");
}

#[test]
fn rules_of_a_package() {
    let deploy = |order: PackageOrder| Deploy {
        config: None,
        workload: Brought::Package(Box::new(order)),
        ..deploy()
    };
    let whole = ToKeep::Deploy(Box::new(deploy(order())));
    assert_eq!(ToKeep::from_bytes(&whole.to_bytes()), Ok(whole.clone()));
    assert!(!format!("{whole:?}").contains("104, 105, 100"), "{whole:?}");
    let refused = |change: &dyn Fn(&mut PackageOrder, &mut Signed)| {
        let mut order = order();
        let mut signed = order.signed.take().unwrap();
        change(&mut order, &mut signed);
        order.signed = Some(signed);
        refused(|it| *it = deploy(order))
    };
    let large = |bytes: usize| ByteBuf::from(vec![1; bytes]);
    assert_eq!(refused(&|order, _| order.reference.clear()), "reference");
    assert_eq!(refused(&|order, _| order.access.roots = vec![large(1); 17]), "roots");
    assert_eq!(refused(&|order, _| order.access.roots = vec![large((16 << 10) + 1)]), "roots");
    assert_eq!(refused(&|_, signed| signed.signers.clear()), "signers");
    assert_eq!(refused(&|_, signed| signed.signers.swap(0, 1)), "signers");
    assert_eq!(refused(&|_, signed| signed.signers[0].name.clear()), "signers");
    assert_eq!(refused(&|_, signed| signed.signers[1].proof = Proof::Key(large(0))), "key");
    assert_eq!(refused(&|_, signed| signed.minimum.clear()), "minimum");
}

#[test]
fn chunks_are_neither_empty_nor_large() {
    let stdin = |size: usize| ToKeep::from_bytes(&ToKeep::Stdin(ByteBuf::from(vec![0; size])).to_bytes());
    let stdout =
        |size: usize| FromKeep::from_bytes(&FromKeep::Stdout(ByteBuf::from(vec![0; size])).to_bytes());
    assert!(stdin(1).is_ok() && stdin(MAX_CHUNK).is_ok() && stdout(MAX_CHUNK).is_ok());
    for size in [0, MAX_CHUNK + 1] {
        assert!(matches!(stdin(size), Err(ProtocolError::Rule { field: "stdin", .. })));
        assert!(matches!(stdout(size), Err(ProtocolError::Rule { field: "stdout", .. })));
    }
}

#[test]
fn names_of_keeps_are_no_paths() {
    let lease = |id: &str| {
        let tee = Tee { emulated: true, platform: Platform::Snp };
        let kind = keep_protocol::host::BackendKind::Process;
        Lease::from_bytes(&Lease { id: id.into(), tee, kind, warm: false, ttl_ms: 1 }.to_bytes())
    };
    assert!(lease(&"0f".repeat(16)).is_ok());
    for id in ["", "../v1/keeps", &"0F".repeat(16), &"0f".repeat(17), &"é".repeat(16)] {
        assert!(matches!(lease(id), Err(ProtocolError::Rule { field: "id", .. })), "{id}");
    }
}

#[test]
fn words_of_a_host_do_not_drive_a_terminal() {
    let info = HostInfo { agent: "x\u{1b}[2J".into(), backends: vec![], draining: false, versions: vec![1] };
    assert!(matches!(
        HostInfo::from_bytes(&info.to_bytes()),
        Err(ProtocolError::Rule { field: "agent", .. })
    ));
}

#[test]
fn a_keep_without_tee_is_wanted_by_nobody() {
    let wanted = NewKeep { tees: vec![], label: String::new(), memory: 0, volumes: false };
    assert!(matches!(
        NewKeep::from_bytes(&wanted.to_bytes()),
        Err(ProtocolError::Rule { field: "tees", .. })
    ));
}

#[test]
fn oversize_is_refused_before_it_is_read() {
    let bytes = vec![0; Keeps::MAX + 1];
    assert_eq!(Keeps::from_bytes(&bytes), Err(ProtocolError::TooLarge { what: "keeps", max: Keeps::MAX }));
}

#[test]
fn secrets_are_not_printed() {
    let mut deploy = deploy();
    deploy.env[0].1 = "hidden".into();
    deploy.args = Some(vec!["hidden".into()]);
    let printed = format!("{:?}", ToKeep::Deploy(Box::new(deploy)));
    assert!(!printed.contains("hidden") && !printed.contains("104, 105, 100"), "{printed}");
}

/// Version 1 is these bytes, for good.
#[test]
fn version_1_stays_as_it_is() {
    assert_eq!(Preface::ours().to_bytes(), b"\x82\x6bbailey-keep\x01");
    assert_eq!(ToKeep::StdinEnd {}.to_bytes(), b"\xa1\x69stdin-end\xa0");
    assert_eq!(ToKeep::Stdin(ByteBuf::from(*b"hi")).to_bytes(), b"\xa1\x65stdin\x42hi");
    assert_eq!(FromKeep::StdinWanted(64).to_bytes(), b"\xa1\x6cstdin-wanted\x18\x40");
    assert_eq!(Preface::from_bytes(b"\x82\x6bbailey-keep\x19\x01\x02").map(|peer| peer.version()), Ok(258));
    assert!(Preface::from_bytes(b"\x82\x6bbailey-kept\x01").is_err());
}
