//! Workloads that are known by their package or by who signed it: what is told, what is admitted, and the whole way from
//! the distribution project's registry, with the steps of a Keep done here (crate keep, module packages).

use ::transparency::{Fact, Release};
use appraisal::binding::Role;
use async_trait::async_trait;
use attested_tls::{
    claims::{Claims, KeepClaims, PackageClaim, ReleaseClaim},
    clock,
    key::TeeKey,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use coordinator::core::{self, Refusal, State, Stored};
use evidence::Platform;
use image_keys::Kek;
use mesh_api::{
    ActivateRequest, LocateRequest, UnwrapWorkloadKeyRequest, locate_response::Workload as Located,
    mesh_client::MeshClient, workload_signer::Proof,
};
use package::{Build, Built, Pinned, Repository, SignedStatement, Wasm};
use reference_statements::{PublicKey, Signer, SigningKey};
use registry::{Client, Credentials, Opener, Security, Wanted, attach, encrypt, fetch, push};
use serde_bytes::ByteArray;
use serde_json::{Value, json};
use testkit::{
    registry::{Registry, USER},
    tee::NOW,
};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::{
    broker::{brokered, under},
    running::Running,
    service::attest,
    world::{
        FRONTEND, TALLY, activate, attest_with, caller, claims_of, code, founded, identity, keep_on,
        manifest, people, set, step, upload,
    },
};

const REPOSITORY: &str = "registry.example/team/tally";
const WASM: &[u8] = b"\0asm\x01\0\0\0\0\x04\x03abc";

fn signing_key() -> SigningKey {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    SigningKey::from_pem(&pair.serialize_pem()).unwrap()
}

fn public_pem(key: &SigningKey) -> String {
    let key = STANDARD.encode(key.public().unwrap().spki());
    format!("-----BEGIN PUBLIC KEY-----\n{key}\n-----END PUBLIC KEY-----\n")
}

/// A mesh whose `tally` is signed, in version 1.2.0 or later.
fn signed(change: impl Fn(&mut Value)) -> State {
    let mut manifest = manifest();
    manifest["WorkloadSigners"] = json!({ "release": { "Key": public_pem(&signing_key()) } });
    let workload = json!({ "Repository": REPOSITORY, "Signers": ["release"], "MinimumVersion": "1.2.0" });
    manifest["Marbles"]["tally"]["Workload"] = workload;
    change(&mut manifest);
    let state = founded();
    let event = set(&state, &manifest).unwrap();
    step(state, event)
}

fn release(name: &str, version: &str, signer: &str) -> Option<PackageClaim> {
    let release = ReleaseClaim { name: name.into(), version: version.into(), signer: signer.into() };
    Some(PackageClaim { digest: ByteArray::new([7; 32]), release: Some(release) })
}

/// What comes of a Keep with such a package, on the newest state.
fn admitted(state: &State, package: Option<PackageClaim>) -> Result<core::Event, Refusal> {
    let claims = KeepClaims { package, ..claims_of("tally", Some(TALLY)) };
    let peer = attest_with(state, &keep_on(Platform::Snp), &TeeKey::generate().unwrap(), &claims)?;
    activate(state, &peer, 1, NOW)?.admit(state, NOW)
}

#[test]
fn a_signed_workload_is_admitted_by_signer_name_and_version() {
    let state = signed(|_| {});
    assert_eq!(code(admitted(&state, release(REPOSITORY, "1.2.0", "release"))), "accepted");
    assert_eq!(code(admitted(&state, release(REPOSITORY, "2.0.0", "release"))), "accepted");
    for (package, expected) in [
        (None, "WORKLOAD_UNSIGNED"),
        (Some(PackageClaim { digest: ByteArray::new([7; 32]), release: None }), "WORKLOAD_UNSIGNED"),
        (release(REPOSITORY, "1.2.0", "somebody"), "WORKLOAD_SIGNER_UNKNOWN"),
        (release("registry.example/team/other", "1.2.0", "release"), "WORKLOAD_NAME_MISMATCH"),
        (release(REPOSITORY, "1.1.9", "release"), "WORKLOAD_VERSION_TOO_LOW"),
        (release(REPOSITORY, "1.2.0-rc.1", "release"), "WORKLOAD_VERSION_TOO_LOW"),
        (release(REPOSITORY, "newest", "release"), "WORKLOAD_VERSION_TOO_LOW"),
    ] {
        assert_eq!(code(admitted(&state, package)), expected);
    }
}

#[test]
fn s29_a_package_is_admitted_by_its_digest() {
    let digest = hex::encode([7; 32]);
    let state = signed(|manifest| {
        manifest["Marbles"]["tally"]["Workload"] =
            json!({ "Package": format!("{REPOSITORY}@sha256:{digest}") });
    });
    assert_eq!(code(admitted(&state, release(REPOSITORY, "1.0.0", "release"))), "accepted");
    let other = Some(PackageClaim { digest: ByteArray::new([8; 32]), release: None });
    for package in [None, other] {
        assert_eq!(code(admitted(&state, package)), "PACKAGE_MISMATCH");
    }
}

/// Anyone who reads the log learns which package an instance runs, and who signed it.
#[test]
fn the_log_tells_which_package_runs() {
    let told = |state: State, package: Option<PackageClaim>| {
        let event = admitted(&state, package).unwrap();
        let (_, facts) = crate::transparency::facts(state, event);
        let [
            Fact::Activated { instance, .. },
            Fact::PackageRun { marble, instance: ran, package, release, .. },
        ] = &facts[..2]
        else {
            panic!("{facts:?}")
        };
        assert_eq!((marble.as_str(), ran, package.0), ("tally", instance, [7; 32]));
        release.clone()
    };
    let signed_as = told(signed(|_| {}), release(REPOSITORY, "1.2.0", "release"));
    let expected = Release { name: REPOSITORY.into(), version: "1.2.0".into(), signer: "release".into() };
    assert_eq!(signed_as, Some(expected));
    // What nobody asked to be signed, nobody vouches for.
    let by_digest = signed(|manifest| {
        let package = format!("{REPOSITORY}@sha256:{}", hex::encode([7; 32]));
        manifest["Marbles"]["tally"]["Workload"] = json!({ "Package": package });
    });
    assert_eq!(told(by_digest, release(REPOSITORY, "1.0.0", "somebody")), None);
}

#[test]
fn s45_versions_that_ran_do_not_fall() {
    let state = signed(|_| {});
    let old = release(REPOSITORY, "1.2.0", "release");
    let before = admitted(&state, old.clone()).unwrap();
    let state = step(state, before);
    let state = {
        let newer = admitted(&state, release(REPOSITORY, "1.10.0", "release")).unwrap();
        step(state, newer)
    };
    assert_eq!(code(admitted(&state, old.clone())), "WORKLOAD_VERSION_ROLLED_BACK");
    // A snapshot does not forget it.
    let state = State::from_snapshot(&state.to_snapshot().unwrap(), identity().clone()).unwrap();
    assert_eq!(code(admitted(&state, old)), "WORKLOAD_VERSION_ROLLED_BACK");
    assert_eq!(code(admitted(&state, release(REPOSITORY, "1.10.0", "release"))), "accepted");
}

#[test]
fn older_versions_run_again_where_the_manifest_says_so() {
    let state = signed(|manifest| {
        manifest["Marbles"]["tally"]["Workload"]["OlderVersions"] = json!(true);
    });
    let newer = admitted(&state, release(REPOSITORY, "1.3.0", "release")).unwrap();
    let state = step(state, newer);
    assert_eq!(code(admitted(&state, release(REPOSITORY, "1.2.0", "release"))), "accepted");
    assert_eq!(code(admitted(&state, release(REPOSITORY, "1.1.0", "release"))), "WORKLOAD_VERSION_TOO_LOW");
}

#[test]
fn a_keep_without_a_workload_is_told_where_it_is_and_gets_nothing_else() {
    let state = signed(|_| {});
    let of = |marble: &str| {
        let claims = claims_of(marble, None);
        attest_with(&state, &keep_on(Platform::Snp), &TeeKey::generate().unwrap(), &claims).unwrap()
    };
    let tally = of("tally");
    let Some(Located::Signed(located)) = core::locate(&state, &tally, 1).unwrap().workload else { panic!() };
    assert_eq!((located.repository.as_str(), located.name.as_str()), (REPOSITORY, REPOSITORY));
    assert_eq!((located.minimum_version.as_str(), located.signers.len()), ("1.2.0", 1));
    assert_eq!(code(activate(&state, &tally, 1, NOW)), "WORKLOAD_NOT_LOADED");
    assert_eq!(code(core::renew(&state, &tally, 1, NOW)), "WORKLOAD_NOT_LOADED");
    let located = core::locate(&state, &of("frontend"), 1).unwrap().workload;
    assert_eq!(located, Some(Located::Digest(FRONTEND.to_vec())));
    assert_eq!(code(core::locate(&state, &of("native"), 1)), "PARAMETERS_INCOMPLETE");
    assert_eq!(code(core::locate(&state, &tally, 2)), "APPRAISAL_STALE");
}

#[test]
fn the_password_for_a_registry_must_have_been_uploaded() {
    let state = signed(|manifest| {
        manifest["Registries"] =
            json!({ "registry.example": { "Username": "mesh", "Password": "question" } });
    });
    let claims = claims_of("tally", None);
    let tally = attest_with(&state, &keep_on(Platform::Snp), &TeeKey::generate().unwrap(), &claims).unwrap();
    assert_eq!(code(core::locate(&state, &tally, 1)), "REGISTRY_PASSWORD_MISSING");
    let upload = upload("question", &STANDARD.encode("pass"));
    let event = core::write_secrets(&state, &caller(&people().writer), upload, NOW).unwrap();
    let state = step(state, event);
    let registry = core::locate(&state, &tally, 1).unwrap().registry.unwrap();
    assert_eq!((registry.username.as_str(), registry.password.as_str()), ("mesh", "pass"));
    let packet = Kek::generate().unwrap().wrap_bound(&"kbs:///a/b/c".parse().unwrap(), None, b"x").unwrap();
    let unwrapped = core::unwrap_workload_key(&state, (&tally, 1), &packet, &Stored::default(), NOW);
    assert_eq!(code(unwrapped), "WORKLOAD_KEY_NOT_GRANTED");
    assert_eq!(code(core::workload_packet(&tally, b"{}")), "PACKET_MALFORMED");
}

/// The whole way: a mesh whose `tally` is in a private registry, signed and encrypted.
struct World {
    running: Running,
    client: Client,
    repository: Repository,
    key: SigningKey,
    kek: Kek,
}

impl World {
    async fn new(registry: &Registry) -> Self {
        let repository: Repository = format!("{}/team/tally", registry.host).parse().unwrap();
        let (key, kek) = (signing_key(), Kek::new(&[b'k'; 32]).unwrap());
        let mut manifest = brokered();
        manifest["Secrets"]["app-kek"] = json!({ "Type": "symmetric-key", "Size": 256, "UserDefined": true });
        manifest["Secrets"]["password"] = json!({ "Type": "plain", "UserDefined": true });
        manifest["Roles"]["write"]["ResourceNames"] = json!(["question", "key", "db", "app-kek", "password"]);
        manifest["Broker"]["Repositories"]["default"]["Resources"]["image/app"] =
            json!({ "Secret": "app-kek", "Policy": "pods", "Use": "unwrap" });
        manifest["WorkloadSigners"] = json!({ "release": { "Key": public_pem(&key) } });
        manifest["Registries"][&registry.host] =
            json!({ "Username": USER.0, "Password": "password", "RootCA": registry.root_pem });
        manifest["Marbles"]["tally"]["Workload"] = json!({
            "Repository": repository.to_string(),
            "Signers": ["release"],
            "MinimumVersion": "1.0.0",
            "Keys": ["default/image/app"],
        });
        let running = under(&manifest).await;
        for (name, value) in [("app-kek", "k".repeat(32)), ("password", USER.1.to_owned())] {
            assert_eq!(running.write(Some(&people().writer), name, &value).await.status, 200);
        }
        let security = Security::roots([registry.root.clone()], clock::fixed(NOW)).unwrap();
        let password = Zeroizing::new(USER.1.to_owned());
        let credentials = Credentials { username: USER.0.into(), password };
        let client = Client::new(&registry.host, security, Some(credentials)).unwrap();
        Self { running, client, repository, key, kek }
    }

    fn build(&self, version: &str) -> Build {
        Build { name: self.repository.clone(), version: version.parse().unwrap(), config: None }
    }

    async fn pushed(&self, built: &Built) -> Pinned {
        let to = self.repository.to_string().parse().unwrap();
        let digest = push(&self.client, &to, built, |_| {}).await.unwrap();
        Pinned { repository: self.repository.clone(), digest }
    }

    async fn sign(&self, package: &Pinned) {
        let statement = SignedStatement { digest: package.digest, name: None, version: None };
        let bundle = self.key.bundle(&statement.to_json()).unwrap();
        attach(&self.client, &self.repository, package.digest, &bundle).await.unwrap();
    }

    /// A Keep's attested connection, with these claims.
    async fn join(&self, claims: &KeepClaims) -> MeshClient<Channel> {
        let tee = keep_on(Platform::Snp);
        MeshClient::new(attest(&self.running, tee, Role::Keep, claims.to_bytes()).await.unwrap())
    }

    /// The code that a Keep ends with, which the host tells to take this package; none where it serves.
    async fn started(&self, hint: &Pinned) -> Result<(), String> {
        let claims = claims_of("tally", None);
        let mesh = self.join(&claims).await;
        let located = mesh.clone().locate(LocateRequest {}).await.unwrap().into_inner();
        let registry = located.registry.unwrap();
        let Some(Located::Signed(signed)) = located.workload else { panic!() };
        assert_eq!(signed.repository, hint.repository.to_string());
        let Some(Proof::Key(key)) = signed.signers[0].proof.clone() else { panic!() };
        let signer = Signer::Key { key: PublicKey::from_spki(&key.key).unwrap(), log: None };
        let wanted = Wanted::Signed {
            name: signed.name.parse().unwrap(),
            signers: [(signed.signers[0].name.clone(), signer)].into_iter().collect(),
            minimum: signed.minimum_version.parse().unwrap(),
        };
        let security = Security::roots(registry.roots, clock::fixed(NOW)).unwrap();
        let password = Zeroizing::new(registry.password);
        let credentials = Credentials { username: registry.username, password };
        let client = Client::new(hint.repository.registry(), security, Some(credentials)).unwrap();
        let opener = Coordinator(mesh);
        let fetched =
            fetch(&client, &wanted, hint, NOW, &opener).await.map_err(|error| error.code().to_owned())?;
        assert_eq!(fetched.workload, WASM);
        let digest = package::Digest::of(&fetched.workload).0;
        let release = fetched.release.map(|it| ReleaseClaim {
            name: it.name.to_string(),
            version: it.version.to_string(),
            signer: it.signer,
        });
        let package = Some(PackageClaim { digest: ByteArray::new(fetched.digest.0), release });
        let claims = KeepClaims { package, ..claims_of("tally", Some(digest)) };
        let activated = self.join(&claims).await.activate(ActivateRequest {}).await;
        let activated = activated.map_err(|status| String::from_utf8(status.details().to_vec()).unwrap())?;
        assert_eq!(activated.into_inner().workload_digest, digest);
        Ok(())
    }
}

/// Has the coordinator unwrap.
struct Coordinator(MeshClient<Channel>);

#[async_trait]
impl Opener for Coordinator {
    async fn open(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let request = UnwrapWorkloadKeyRequest { packet: packet.to_vec() };
        let answer = self.0.clone().unwrap_workload_key(request).await;
        let code = |status: tonic::Status| String::from_utf8(status.details().to_vec()).unwrap();
        answer.map(|answer| Zeroizing::new(answer.into_inner().options)).map_err(code)
    }
}

fn refused(code: &str) -> Result<(), String> {
    Err(code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keep_attests_first_and_fetches_a_signed_encrypted_workload_after() {
    let Some(registry) = Registry::private() else { return };
    let world = World::new(&registry).await;
    let sealed = encrypt(WASM).unwrap();
    let name = "kbs:///default/image/app".parse().unwrap();
    let packet = world.kek.wrap_bound(&name, None, &sealed.options).unwrap().to_json();
    let built =
        world.build("1.2.0").of_encrypted(Wasm::Module, sealed.ciphertext, sealed.hmac, ("bailey", &packet));
    let package = world.pushed(&built.unwrap()).await;
    assert_eq!(world.started(&package).await, refused("WORKLOAD_UNSIGNED"));
    world.sign(&package).await;
    assert_eq!(world.started(&package).await, Ok(()));

    // Signed and new enough for the manifest, and older than what ran (S-45).
    let older = world.pushed(&world.build("1.1.0").of(WASM).unwrap()).await;
    world.sign(&older).await;
    assert_eq!(world.started(&older).await, refused("WORKLOAD_VERSION_ROLLED_BACK"));
    let too_old = world.pushed(&world.build("0.9.0").of(WASM).unwrap()).await;
    world.sign(&too_old).await;
    assert_eq!(world.started(&too_old).await, refused("WORKLOAD_VERSION_TOO_LOW"));

    // A key that the manifest does not give to this workload.
    let sealed = encrypt(WASM).unwrap();
    let name = "kbs:///default/image/other".parse().unwrap();
    let packet = world.kek.wrap_bound(&name, None, &sealed.options).unwrap().to_json();
    let built =
        world.build("1.3.0").of_encrypted(Wasm::Module, sealed.ciphertext, sealed.hmac, ("bailey", &packet));
    let package = world.pushed(&built.unwrap()).await;
    world.sign(&package).await;
    assert_eq!(world.started(&package).await, refused("WORKLOAD_KEY_NOT_OPENED"));
}
