//! Packages that the Keep fetches and verifies itself: the client says which, how its registry is known, and whose
//! signature counts.

use appraisal::UnixTime;
use attested_tls::clock;
use deploy::{Deployment, Silent, Streams, Watcher, Workload};
use image_keys::{Kek, Packet};
use keep_protocol::{
    Sensitive,
    keep::{Accepted, Outcome},
    package::{PackageOrder, Proof, RegistryAccess, RegistryCredentials, Signed, Signer},
};
use package::{Build, Built, Repository, SignedStatement, Wasm};
use reference_statements::SigningKey;
use serde_bytes::ByteBuf;
use testkit::tee::NOW;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use crate::{
    modules,
    shelf::{Registry, Shelf},
    world::{Came, Keep, run, tee, wanted},
};

const NAME: &str = "registry.example/team/job";

fn build(config: Option<&str>) -> Build {
    Build {
        name: NAME.parse().unwrap(),
        version: "1.2.0".parse().unwrap(),
        config: config.map(str::to_owned),
    }
}

fn hello() -> Built {
    build(None).of(&modules::hello()).unwrap()
}

/// What orders it, unsigned, from there.
fn order(registry: &Registry, built: &Built) -> PackageOrder {
    let repository: Repository = format!("{}/team/job", registry.host).parse().unwrap();
    PackageOrder {
        now: u64::try_from(NOW.0).unwrap(),
        access: RegistryAccess {
            plain: registry.root.is_none(),
            roots: registry.root.clone().map(ByteBuf::from).into_iter().collect(),
            credentials: None,
        },
        signed: None,
        reference: format!("{repository}@{}", built.digest()),
    }
}

fn deployment(order: PackageOrder) -> Deployment {
    Deployment { workload: Workload::Package(order), ..Deployment::default() }
}

fn codes(came: &Came) -> Vec<String> {
    assert_eq!(came.stdout, "");
    came.codes()
}

fn accepted(came: &Came) -> &Accepted {
    match &came.ran {
        Ok(ran) => &ran.accepted,
        Err(error) => panic!("{error:?}"),
    }
}

fn key() -> SigningKey {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    SigningKey::from_pem(&pair.serialize_pem()).unwrap()
}

fn by(key: &SigningKey, minimum: &str) -> Signed {
    let proof = Proof::Key(ByteBuf::from(key.public().unwrap().spki()));
    let signers = vec![Signer { name: "release".into(), proof }];
    Signed { name: NAME.into(), minimum: minimum.into(), signers }
}

fn bundle(key: &SigningKey, built: &Built) -> Vec<u8> {
    key.bundle(&SignedStatement { digest: built.digest(), name: None, version: None }.to_json()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keep_fetches_the_package_that_it_is_told() {
    let config = "args = [\"packaged\"]\n[[files]]\nkind = \"stdin\"\n[[files]]\nkind = \"stdout\"\n[[files]]\nkind = \"stderr\"\n";
    let built = build(Some(config)).of(&modules::args()).unwrap();
    let registry = Shelf::of(&built, &[]).serve().await;
    let ordered = deployment(order(&registry, &built));
    let came = run(&ordered, b"").await;
    assert_eq!(came.stdout, "main.wasm\0packaged\0", "{came:?}");
    let package = accepted(&came).package.clone().unwrap();
    assert_eq!((*package.digest, package.release), (built.digest().0, None));
    assert_eq!(*accepted(&came).workload, keep::runtime::digest(&modules::args()));
    assert!(!registry.asked.lock().unwrap().is_empty());

    // What the client says instead of the package's configuration, and beside it.
    let mut ours = ordered.clone();
    ours.config = Some(keep_config::WITHOUT_A_FILE.into());
    assert_eq!(run(&ours, b"").await.stdout, "main.wasm\0");
    ours.args = Some(vec!["given".into()]);
    assert_eq!(run(&ours, b"").await.stdout, "main.wasm\0given\0");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keep_verifies_who_signed_the_package() {
    let (built, release, stranger) = (hello(), key(), key());
    let signed = Shelf::of(&built, &[bundle(&stranger, &built), bundle(&release, &built)]).serve().await;
    let ordered = |signed| PackageOrder { signed: Some(signed), ..order_of(&built) };
    let at = |registry: &Registry, order: PackageOrder| {
        let reference = order.reference.replace("HOST", &registry.host);
        deployment(PackageOrder { reference, ..order })
    };
    let came = run(&at(&signed, ordered(by(&release, "1.2.0"))), b"").await;
    assert_eq!(came.stdout, "hello\n", "{came:?}");
    let told = accepted(&came).package.clone().unwrap().release.unwrap();
    assert_eq!((told.name.as_str(), told.version.as_str(), told.signer.as_str()), (NAME, "1.2.0", "release"));

    let unsigned = Shelf::of(&built, &[]).serve().await;
    let strangers = Shelf::of(&built, &[bundle(&stranger, &built)]).serve().await;
    let other = Signed { name: "registry.example/team/tool".into(), ..by(&release, "1.0.0") };
    for (registry, signed, code) in [
        (&unsigned, by(&release, "1.0.0"), "WORKLOAD_UNSIGNED"),
        (&strangers, by(&release, "1.0.0"), "WORKLOAD_SIGNER_UNKNOWN"),
        (&signed, by(&release, "1.2.1"), "WORKLOAD_VERSION_TOO_LOW"),
        (&signed, other, "WORKLOAD_NAME_MISMATCH"),
        (&signed, by(&release, "one"), "PACKAGE_ORDER_UNUSABLE"),
    ] {
        let came = run(&at(registry, ordered(signed)), b"").await;
        assert_eq!(codes(&came), ["PACKAGE_REFUSED", code], "{came:?}");
    }
}

/// At `HOST`, without TLS.
fn order_of(built: &Built) -> PackageOrder {
    let registry = Registry { host: "localhost:1".into(), root: None, asked: std::sync::Arc::default() };
    let order = order(&registry, built);
    PackageOrder { reference: order.reference.replace("localhost:1", "HOST"), ..order }
}

#[tokio::test(flavor = "multi_thread")]
async fn s29_what_a_registry_or_host_puts_in_the_place_of_a_package_does_not_run() {
    let built = hello();
    let mut other = modules::hello();
    *other.last_mut().unwrap() ^= 1;
    let shelf = Shelf { instead: Some(other), ..Shelf::of(&built, &[]) };
    let registry = shelf.serve().await;
    let came = run(&deployment(order(&registry, &built)), b"").await;
    assert_eq!(codes(&came), ["PACKAGE_REFUSED", "CONTENT_DIGEST_MISMATCH"]);

    // A Keep that has no network, and a registry that has no such package.
    let nowhere = TcpStream::connect(&registry.host).await.unwrap().local_addr().unwrap();
    let closed = Registry { host: format!("localhost:{}", nowhere.port()), ..registry };
    let came = run(&deployment(order(&closed, &built)), b"").await;
    assert_eq!(codes(&came), ["PACKAGE_REFUSED", "REGISTRY_UNREACHABLE"]);
    let empty = Shelf::default().serve().await;
    let came = run(&deployment(order(&empty, &built)), b"").await;
    assert_eq!(codes(&came), ["PACKAGE_REFUSED", "REGISTRY_NOT_FOUND"]);
    let tag = PackageOrder { reference: "localhost/team/job:1.2.0".into(), ..order(&empty, &built) };
    let came = run(&deployment(tag), b"").await;
    assert_eq!(codes(&came), ["PACKAGE_REFUSED", "PACKAGE_ORDER_UNUSABLE"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_registry_go_to_it_alone() {
    let built = hello();
    let registry = Shelf { private: true, ..Shelf::of(&built, &[]) }.serve_tls().await;
    let anonymous = order(&registry, &built);
    let came = run(&deployment(anonymous.clone()), b"").await;
    assert_eq!(codes(&came), ["PACKAGE_REFUSED", "REGISTRY_UNAUTHORISED"]);

    let password = Sensitive::new(b"secret".to_vec());
    let mut known = anonymous;
    known.access.credentials = Some(RegistryCredentials { password, username: "me".into() });
    let other = Shelf { private: true, ..Shelf::of(&built, &[]) }.serve_tls().await;
    let mut elsewhere = known.clone();
    elsewhere.reference = elsewhere.reference.replace(&registry.host, &other.host);
    let came = run(&deployment(elsewhere), b"").await;
    assert_eq!(codes(&came), ["PACKAGE_REFUSED", "REGISTRY_UNTRUSTED"]);
    assert!(!other.was_shown_credentials());
    let plain = RegistryAccess { plain: true, ..known.access.clone() };
    let came = run(&deployment(PackageOrder { access: plain, ..known.clone() }), b"").await;
    assert_eq!(codes(&came), ["PACKAGE_REFUSED", "CREDENTIALS_WITHOUT_TLS"]);

    assert_eq!(run(&deployment(known), b"").await.stdout, "hello\n");
    assert!(registry.was_shown_credentials());
}

/// The registry's certificate ends in 2040. The Keep's clock is its host's, and decides nothing.
#[tokio::test(flavor = "multi_thread")]
async fn s19_certificates_are_held_against_the_clients_clock() {
    let built = hello();
    let registry = Shelf::of(&built, &[]).serve_tls().await;
    let later = UnixTime(NOW.0 + 50 * 365 * 86_400);
    let keep = Keep::start_as(tee(), later, None).await;
    let good = deployment(order(&registry, &built));
    assert_eq!(crate::world::deploy_to(keep.address, &good, b"").await.stdout, "hello\n");
    let expired = PackageOrder { now: u64::try_from(later.0).unwrap(), ..order(&registry, &built) };
    let came = run(&deployment(expired), b"").await;
    assert_eq!(codes(&came), ["PACKAGE_REFUSED", "REGISTRY_UNTRUSTED"]);
}

/// Has a key, or none, and counts how often it was asked.
struct Holder(Option<Kek>, usize);

impl Watcher for Holder {
    fn step(&mut self, _: deploy::Step, _: &str) {}

    fn open(&mut self, packet: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.1 += 1;
        self.0.as_ref()?.unwrap(&Packet::parse(packet).unwrap()).ok()
    }
}

/// The key stays with the client: the Keep asks for what is in the one packet.
#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_package_is_opened_by_the_client_that_has_its_key() {
    let (kek, other) = (Kek::new(&[7; 32]).unwrap(), Kek::new(&[8; 32]).unwrap());
    let sealed = registry::encrypt(&modules::hello()).unwrap();
    let name = "kbs:///default/key/app".parse().unwrap();
    let packet = kek.wrap_bound(&name, None, &sealed.options).unwrap().to_json();
    let built =
        build(None).of_encrypted(Wasm::Module, sealed.ciphertext, sealed.hmac, ("bailey", &packet)).unwrap();
    let registry = Shelf::of(&built, &[]).serve().await;
    let ordered = deployment(order(&registry, &built));
    for (key, expected) in
        [(Some(kek), Ok(Outcome::Exit { code: 0 })), (Some(other), Err(())), (None, Err(()))]
    {
        let keep = Keep::start().await;
        let stream = TcpStream::connect(keep.address).await.unwrap();
        let verified = deploy::verify(stream, clock::fixed(NOW), &wanted(), &mut Silent).await.unwrap();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let streams = Streams { stdin: Box::new(&b""[..]), stdout: &mut stdout, stderr: &mut stderr };
        let mut holder = Holder(key, 0);
        let ran = deploy::run(verified, &ordered, streams, &mut holder, std::future::pending()).await;
        assert_eq!(holder.1, 1, "{ran:?}");
        let codes = ran.as_ref().err().map(deploy::DeployError::codes);
        assert_eq!(ran.map(|ran| ran.outcome).map_err(|_| ()), expected, "{codes:?}");
        match codes {
            Some(codes) => assert_eq!(codes, ["PACKAGE_REFUSED", "WORKLOAD_KEY_NOT_OPENED"]),
            None => assert_eq!(stdout, b"hello\n"),
        }
        keep.served.await.unwrap();
    }
}

/// A service in a package, and what of its configuration is missing, is told like that of what is sent.
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_a_package_is_checked_like_any_other() {
    for (config, code) in [
        ("argz = []", "CONFIG_INVALID"),
        ("peers = [\"tally\"]", "CONFIG_UNSUPPORTED"),
        ("[[secrets]]\nname = \"key\"\nenv = \"KEY\"\n", "SECRETS_MISMATCH"),
        ("[[volumes]]\nname = \"data\"\npath = \"/data\"\nsize = \"1MiB\"\n", "VOLUMES_MISMATCH"),
    ] {
        let built = build(Some(config)).of(&modules::hello()).unwrap();
        let registry = Shelf::of(&built, &[]).serve().await;
        let came = run(&deployment(order(&registry, &built)), b"").await;
        assert_eq!(codes(&came)[0], code, "{came:?}");
    }
}
