//! The database as a Marble: a coordinator gives it its key, and remembers the newest record of its log.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use appraisal::binding::Role;
use attested_tls::{
    claims::{Claims, CoordinatorClaims, DatabaseAnchor, DatabaseMarbleClaims},
    clock,
    key::{SpkiDigest, TeeKey, sha256},
    launch::{CoordinatorConfiguration, CoordinatorRequirements, KeepConfiguration},
    service::{UserIdentity, unverified_client},
    statement::{Expected, Statement, verifier},
};
use attester::Tee as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use coordinator::service::{Coordinator, HostHints, Listeners, TelemetryHints};
use database::service::ServiceError;
use evidence::{CertificateDer, Platform};
use marble::Member;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::tee::{EmulatedTee, NOW, machine, policy};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::watch,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{CODE, Served, World, answered};

const COORDINATOR: &[u8] = b"bailey-coordinator";

/// Between a database and its coordinator, until a test cuts it.
struct Cable {
    address: SocketAddr,
    /// The coordinator's end.
    target: SocketAddr,
    leads: watch::Sender<SocketAddr>,
    cut: watch::Sender<bool>,
}

impl Cable {
    async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let (leads, leading) = watch::channel(target);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (mut is_cut, target) = (is_cut.clone(), *leading.borrow());
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = is_cut.wait_for(|cut| *cut) => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    }
                });
            }
        });
        Self { address, target, leads, cut }
    }

    /// The next connection goes there.
    fn leads_to(&self, target: SocketAddr) {
        self.leads.send_replace(target);
    }
}

/// A coordinator in this process.
pub(super) struct Mesh {
    tee: Arc<EmulatedTee>,
    api: SocketAddr,
    cable: Cable,
    owner: Arc<TeeKey>,
    stop: CancellationToken,
    directory: TempDir,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Mesh {
    /// With a manifest that has the world's database as its Marble `ledger`; the world's is launched as that from now on.
    async fn of(world: &mut World) -> Self {
        let mesh = Self::start().await;
        mesh.set_manifest(&mesh.manifest(world)).await;
        world.marble = Some((mesh.launch("ledger"), mesh.cable.address.to_string()));
        mesh
    }

    pub(super) async fn start() -> Self {
        Self::start_for(Arc::new(TeeKey::generate().unwrap())).await
    }

    async fn start_for(owner: Arc<TeeKey>) -> Self {
        let configuration =
            CoordinatorConfiguration { owner: *owner.digest(), names: vec!["localhost".into()], tpm: None };
        let tee = EmulatedTee::launch(Platform::Tdx, COORDINATOR, &configuration.to_json());
        Self::on(tee, tempfile::tempdir().unwrap(), owner).await
    }

    /// In this TEE, with what is in this folder.
    async fn on(tee: Arc<EmulatedTee>, directory: TempDir, owner: Arc<TeeKey>) -> Self {
        let configuration = CoordinatorConfiguration::from_json(tee.launch_configuration()).unwrap();
        let hints = HostHints {
            state: directory.path().into(),
            endorsements: Vec::new(),
            telemetry: TelemetryHints::default(),
            etcd: None,
            tpm: None,
            pkcs11_library: None,
        };
        let coordinator = Coordinator::open(tee.clone(), configuration, &hints, clock::fixed(NOW)).unwrap();
        let client = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mesh = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (api, cable) = (client.local_addr().unwrap(), Cable::to(mesh.local_addr().unwrap()).await);
        let stop = CancellationToken::new();
        let listeners = Listeners { client, mesh, marbles: None, metrics: None, broker: None };
        tokio::spawn(coordinator.serve(listeners, stop.clone()));
        Self { tee, api, cable, owner, stop, directory }
    }

    /// The same program on a machine of another kind, which cannot open what this one sealed.
    pub(super) fn elsewhere(&self) -> Arc<EmulatedTee> {
        EmulatedTee::launch(Platform::Sgx, COORDINATOR, self.tee.launch_configuration())
    }

    /// Nobody reaches it any more, and what is on its disk now is on the other's. The cable leads there, once it is mended.
    pub(super) async fn moved(&self, tee: Arc<EmulatedTee>) -> Self {
        self.cut();
        self.stop.cancel();
        let copied = tempfile::tempdir().unwrap();
        std::fs::copy(self.directory.path().join("state.redb"), copied.path().join("state.redb")).unwrap();
        let moved = Self::on(tee, copied, Arc::clone(&self.owner)).await;
        self.cable.leads_to(moved.cable.target);
        moved
    }

    /// Where instances connect, wherever it leads.
    pub(super) fn address(&self) -> String {
        self.cable.address.to_string()
    }

    /// What fixes in a launch configuration that it is this Marble of a mesh with this coordinator.
    pub(super) fn launch(&self, marble: &str) -> KeepConfiguration {
        let coordinator =
            CoordinatorRequirements { policy: policy(), measurements: vec![self.tee.reference()] };
        KeepConfiguration { marble: marble.into(), coordinator }
    }

    async fn connected(&self) -> TlsStream<TcpStream> {
        let identity =
            UserIdentity { chain: vec![self.owner.certificate().clone()], key: self.owner.private_key() };
        let config = unverified_client(Some(&identity), clock::fixed(NOW)).unwrap();
        let stream = TcpStream::connect(self.api).await.unwrap();
        TlsConnector::from(config).connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    /// What its API answers the owner, who is its user as well.
    pub(super) async fn asked(&self, request: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = answered(self.connected().await, request, &body).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
        serde_json::from_slice::<Value>(&answer).unwrap()["data"].take()
    }

    pub(super) async fn set_manifest(&self, manifest: &Value) -> Value {
        let body = json!({ "manifest": STANDARD.encode(manifest.to_string()) });
        self.asked("POST /api/v2/manifest", &body).await
    }

    /// Another manifest comes into force, and with it a new epoch.
    pub(super) async fn update(&self, world: &World) {
        let mut manifest = self.manifest(world);
        manifest["Marbles"]["third"] = manifest["Marbles"]["other"].clone();
        let body = json!({ "manifest": STANDARD.encode(manifest.to_string()) });
        self.asked("POST /api/v2/update", &body).await;
    }

    /// The instances that it counts, oldest first.
    pub(super) async fn instances(&self) -> Vec<Value> {
        self.asked("GET /api/v3/instances", &Value::Null).await["instances"].as_array().unwrap().clone()
    }

    /// Waits until it counts so many in an epoch.
    pub(super) async fn counts(&self, count: usize, epoch: u64) -> Vec<Value> {
        let counted = async {
            loop {
                let known = self.instances().await;
                if known.len() == count && known.iter().all(|one| one["epoch"] == epoch) {
                    return known;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), counted).await.expect("it counts them")
    }

    pub(super) async fn evict(&self, instance: &Value) {
        let body = json!({ "instance": instance["instance"] });
        assert_eq!(self.asked("POST /api/v3/evictions", &body).await["evicted"], true);
    }

    /// SHA-256 of the root, of Evidence that was appraised.
    pub(super) async fn root(&self) -> [u8; 32] {
        let stream = self.connected().await;
        let key = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let nonce = [9; 32];
        let request = format!("GET /api/v3/evidence?nonce={}", hex::encode(nonce));
        let (_, body) = answered(stream, &request, "").await;
        let statement = Statement::from_bytes(&body).unwrap();
        let expected = Expected {
            role: Role::Coordinator,
            key: SpkiDigest::of_certificate(&key).unwrap(),
            nonce: &nonce,
            measurements: &[self.tee.reference()],
            policy: &policy(),
            now: NOW,
        };
        statement.appraise(&expected, &verifier()).unwrap();
        sha256(&CoordinatorClaims::from_bytes(&statement.claims).unwrap().root)
    }

    /// A manifest: the world's database, another one, and a user who may do everything.
    pub(super) fn manifest(&self, world: &World) -> Value {
        let code = EmulatedTee::launch(Platform::Tdx, CODE, b"");
        let root = evidence::pem::encode(&CertificateDer(machine().roots().intel.0.clone()));
        let user = evidence::pem::encode(&CertificateDer(self.owner.certificate().to_vec()));
        let database = |first: [u8; 32]| json!({ "Package": "database", "Database": { "Manifest": format!("sha256:{}", hex::encode(first)) } });
        json!({
            "Packages": { "database": { "Measurements": { "Tdx": code.measurement().to_string() } } },
            "Platforms": { "Tdx": { "EmulatedRoots": [root] } },
            "Marbles": { "ledger": database(sha256(&world.manifest)), "other": database([1; 32]) },
            "Users": { "ann": { "Certificate": user, "Roles": ["admin", "operate"] } },
            "Roles": {
                "admin": { "ResourceType": "Manifest", "Actions": ["UpdateManifest"] },
                "operate": {
                    "ResourceType": "Marbles", "ResourceNames": ["ledger"],
                    "Actions": ["ReadInstances", "EvictInstance"],
                },
            },
        })
    }

    pub(super) fn cut(&self) {
        self.cable.cut.send_replace(true);
    }

    pub(super) fn mend(&self) {
        self.cable.cut.send_replace(false);
    }
}

pub(super) async fn world(change: impl FnOnce(&mut Value)) -> Option<(World, Mesh)> {
    let mut world = World::with(|manifest| {
        manifest["Freshness"] = json!({ "AnchorRequired": true });
        change(manifest);
    })?;
    let mesh = Mesh::of(&mut world).await;
    Some((world, mesh))
}

pub(super) async fn note(served: &Served, world: &World, id: i64) -> Result<(), tokio_postgres::Error> {
    let bank = served.session(&world.parties.bank_b).await;
    bank.batch_execute(&format!("INSERT INTO notes VALUES ({id}, 'x')")).await
}

pub(super) async fn notes(served: &Served, world: &World) -> Vec<i64> {
    let auditor = served.session(&world.parties.auditor).await;
    let rows = auditor.query("SELECT id FROM notes ORDER BY id", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

/// In the place of the state, which goes.
fn put_back(copy_of: &Path, state: &Path) {
    std::fs::remove_dir_all(state).unwrap();
    copy(copy_of, state);
}

pub(super) async fn ended(served: Served) -> ServiceError {
    let ended = tokio::time::timeout(Duration::from_secs(120), served.ended()).await;
    ended.expect("it ends").expect_err("and says why")
}

fn newest_file(log: &Path) -> PathBuf {
    let files = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_string_lossy().contains("log-")).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_founded_as_a_marble_and_goes_on_with_the_meshs_key() {
    let Some((world, mesh)) = world(|_| {}).await else { return };
    let served = world.start().await;
    let claims = served.serving().await;
    // S-15: which mesh has its key is in its Evidence.
    assert_eq!(claims.anchor, DatabaseAnchor::Coordinator { root: mesh.root().await.into() });
    note(&served, &world, 1).await.unwrap();
    served.stopped().await;
    let state = world.hints().state;
    for file in ["key", "shares.json", "anchor-pin", "anchor-head"] {
        assert!(!state.join(file).exists(), "{file} is not for a Marble");
    }
    let served = world.start().await;
    let again = served.serving().await;
    assert_eq!(again.root, claims.root, "clients go on with the root that they pinned");
    assert_eq!(notes(&served, &world).await, [1]);
    served.stopped().await;
    // On another machine the key is the same, and the CA another one: nobody takes its place by a share (S-46).
    let elsewhere = world.state.path().join("elsewhere");
    copy(&state, &elsewhere);
    std::fs::remove_file(elsewhere.join("authority")).unwrap();
    let mut hints = world.hints();
    hints.state = elsewhere;
    let configuration = world.configuration();
    let tee = EmulatedTee::launch(Platform::Tdx, CODE, &configuration.to_json());
    let served = world.launched_as(tee, configuration, hints).await;
    let moved = served.serving().await;
    assert_ne!(moved.root, claims.root);
    assert_eq!(notes(&served, &world).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_an_old_log_is_not_served_where_the_coordinator_remembers_the_newest() {
    let Some((world, _mesh)) = world(|_| {}).await else { return };
    let served = world.start().await;
    served.serving().await;
    served.stopped().await;
    let (state, old) = (world.hints().state, world.state.path().join("old"));
    copy(&state, &old);
    let served = world.start().await;
    served.serving().await;
    note(&served, &world, 1).await.unwrap();
    let bank = served.session(&world.parties.bank_b).await;
    let before = world.state.path().join("before");
    copy(&state, &before);
    bank.batch_execute("INSERT INTO notes VALUES (2, 'spent')").await.unwrap();
    served.stopped().await;
    let newest = world.state.path().join("newest");
    copy(&state, &newest);

    put_back(&old, &state);
    assert_eq!(world.refused().await.code(), "LOG_ROLLED_BACK");
    put_back(&before, &state);
    assert_eq!(world.refused().await.code(), "LOG_ROLLED_BACK", "the last commits were cut off");
    put_back(&newest, &state);
    let file = newest_file(&world.log());
    let bytes = std::fs::read(&file).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    std::fs::write(&file, &bytes[..end - 20]).unwrap();
    assert_eq!(world.refused().await.code(), "LOG_CUT");
    std::fs::remove_dir_all(world.log()).unwrap();
    assert_eq!(world.refused().await.code(), "LOG_MISSING");

    put_back(&newest, &state);
    let served = world.start().await;
    served.serving().await;
    assert_eq!(notes(&served, &world).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_of_two_instances_of_one_log_the_older_is_fenced() {
    let Some((world, _mesh)) = world(|_| {}).await else { return };
    let older = world.start().await;
    older.serving().await;
    note(&older, &world, 1).await.unwrap();
    let mut hints = world.hints();
    hints.state = world.state.path().join("twin");
    copy(&world.hints().state, &hints.state);
    let configuration = world.configuration();
    let tee = EmulatedTee::launch(Platform::Tdx, CODE, &configuration.to_json());
    let newer = world.launched_as(tee, configuration, hints).await;
    newer.serving().await;
    // Nobody writes to it: it asks by itself.
    assert_eq!(ended(older).await.code(), "VOLUME_TAKEN");
    note(&newer, &world, 2).await.unwrap();
    assert_eq!(notes(&newer, &world).await, [1, 2]);
    // What the older one has on its disk leads nowhere.
    let code = world.refused().await.code().to_owned();
    assert!(["LOG_ROLLED_BACK", "LOG_FORKED"].contains(&code.as_str()), "{code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_commit_to_an_instance_that_was_fenced_is_not_acknowledged() {
    let Some((world, mesh)) = world(|_| {}).await else { return };
    let older = world.start().await;
    older.serving().await;
    let bank = older.session(&world.parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (1, 'x')").await.unwrap();
    let mut hints = world.hints();
    hints.state = world.state.path().join("twin");
    copy(&world.hints().state, &hints.state);
    // It cannot ask while another one is taking its place.
    mesh.cut();
    let direct = Cable::to(mesh.cable.target).await;
    hints.coordinator = Some(direct.address.to_string());
    let configuration = world.configuration();
    let tee = EmulatedTee::launch(Platform::Tdx, CODE, &configuration.to_json());
    let newer = world.launched_as(tee, configuration, hints).await;
    newer.serving().await;
    let late = bank.batch_execute("INSERT INTO notes VALUES (3, 'late')");
    tokio::pin!(late);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut late).await.is_err(), "it waits");
    mesh.mend();
    let refused = late.await.expect_err("and is refused");
    assert!(refused.as_db_error().unwrap().message().contains("(VOLUME_TAKEN)"), "{refused:?}");
    assert_eq!(ended(older).await.code(), "VOLUME_TAKEN");
    note(&newer, &world, 2).await.unwrap();
    assert_eq!(notes(&newer, &world).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_coordinator_is_away_commits_wait_and_nothing_that_was_answered_is_lost() {
    let Some((world, mesh)) = world(|_| {}).await else { return };
    let served = world.start().await;
    served.serving().await;
    let bank = served.session(&world.parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (1, 'x')").await.unwrap();
    mesh.cut();
    let waiting = bank.batch_execute("INSERT INTO notes VALUES (2, 'x')");
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_secs(2), &mut waiting).await.is_err(), "it is not answered");
    mesh.mend();
    waiting.await.expect("it is answered when the coordinator is back");
    mesh.cut();
    let waiting = bank.batch_execute("INSERT INTO notes VALUES (3, 'x')");
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut waiting).await.is_err());
    served.stopped().await;
    assert!(waiting.await.is_err(), "nobody answered it");
    assert_eq!(world.refused().await.code(), "CHANNEL_BROKEN", "without the coordinator there is no key");
    mesh.mend();
    let served = world.start().await;
    served.serving().await;
    let there = notes(&served, &world).await;
    assert!(there.starts_with(&[1, 2]), "{there:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_lag_that_was_agreed_the_coordinator_remembers_groups_of_records() {
    let lag = |manifest: &mut Value| manifest["Freshness"]["MaxLag"] = "3s".into();
    let Some((world, mesh)) = world(lag).await else { return };
    let served = world.start().await;
    served.serving().await;
    let bank = served.session(&world.parties.bank_b).await;
    mesh.cut();
    for id in 0..5 {
        bank.batch_execute(&format!("INSERT INTO notes VALUES ({id}, 'x')")).await.expect("it does not wait");
    }
    mesh.mend();
    for id in 5..60 {
        bank.batch_execute(&format!("INSERT INTO notes VALUES ({id}, 'x')")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    served.stopped().await;
    let served = world.start().await;
    served.serving().await;
    assert_eq!(notes(&served, &world).await, (0..60).collect::<Vec<_>>());
    served.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_the_manifest_does_not_admit_gets_no_key() {
    let Some((world, mesh)) = world(|_| {}).await else { return };
    let refused = async |code: &[u8], marble: &str, world: &World, mesh: &Mesh| {
        let mut configuration = world.configuration();
        configuration.marble = Some(mesh.launch(marble));
        let tee = EmulatedTee::launch(Platform::Tdx, code, &configuration.to_json());
        let served = world.launched_as(tee, configuration, world.hints()).await;
        let error = ended(served).await;
        assert!(!world.log().exists(), "nothing was founded");
        error.code().to_owned()
    };
    assert_eq!(refused(b"another program", "ledger", &world, &mesh).await, "MEASUREMENT_MISMATCH");
    assert_eq!(refused(CODE, "nobody", &world, &mesh).await, "MARBLE_UNKNOWN");
    assert_eq!(refused(CODE, "other", &world, &mesh).await, "DATABASE_MISMATCH");
    // Nor does it take one from a coordinator that is not the one that it was launched for.
    let elsewhere = Mesh::start().await;
    elsewhere.set_manifest(&elsewhere.manifest(&world)).await;
    assert_eq!(refused(CODE, "ledger", &world, &elsewhere).await, "LAUNCH_CONFIGURATION_MISMATCH");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_the_mesh_has_never_heard_of_is_not_taken_over() {
    let Some((mut world, first)) = world(|_| {}).await else { return };
    let served = world.start().await;
    served.serving().await;
    note(&served, &world, 1).await.unwrap();
    served.stopped().await;
    world.marble = Some((first.launch("ledger"), "127.0.0.1:1".into()));
    assert_eq!(world.refused().await.code(), "COORDINATOR_UNREACHABLE");
    let second = Mesh::of(&mut world).await;
    let code = world.refused().await.code().to_owned();
    assert!(code.starts_with("LOG_"), "{code}");
    world.marble = Some((first.launch("ledger"), first.cable.address.to_string()));
    let served = world.start().await;
    served.serving().await;
    assert_eq!(notes(&served, &world).await, [1], "and nothing of it is gone");
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_founding_that_did_not_end_is_begun_again() {
    let Some((world, _mesh)) = world(|_| {}).await else { return };
    for _ in 0..2 {
        let mut served = world.start().await;
        let begun = async {
            while !std::fs::read_dir(world.log()).is_ok_and(|mut files| {
                files.any(|file| file.is_ok_and(|file| file.metadata().is_ok_and(|it| it.len() > 4096)))
            }) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), begun).await.expect("it is being founded");
        let serving = served.serving.take().unwrap();
        serving.abort();
        let _ = serving.await;
    }
    let served = world.start().await;
    served.serving().await;
    note(&served, &world, 1).await.unwrap();
    served.stopped().await;
    let served = world.start().await;
    served.serving().await;
    assert_eq!(notes(&served, &world).await, [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_admitted_again_when_the_manifest_of_its_mesh_was_updated() {
    let Some((world, mesh)) = world(|_| {}).await else { return };
    let served = world.start().await;
    served.serving().await;
    note(&served, &world, 1).await.unwrap();
    let before = mesh.counts(1, 1).await;
    mesh.update(&world).await;
    let after = mesh.counts(1, 2).await;
    assert_eq!(after[0]["instance"], before[0]["instance"], "it is the same instance");
    note(&served, &world, 2).await.unwrap();
    assert_eq!(notes(&served, &world).await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn s15_a_marble_that_renews_its_certificate_is_not_led_into_another_mesh() {
    let Some((world, mesh)) = world(|_| {}).await else { return };
    // The same program with the same owner: by its Evidence alone it is the one that is asked for.
    let other = Mesh::start_for(Arc::clone(&mesh.owner)).await;
    other.set_manifest(&other.manifest(&world)).await;
    let configuration = world.configuration();
    let tee = EmulatedTee::launch(Platform::Tdx, CODE, &configuration.to_json());
    let claims = DatabaseMarbleClaims {
        marble: "ledger".into(),
        first: configuration.manifest.into(),
        engine: "PostgreSQL".into(),
        engine_digest: [0; 32].into(),
        configuration: sha256(&configuration.to_json()).into(),
    };
    let launched = configuration.marble.unwrap();
    let cable = Cable::to(mesh.cable.target).await;
    let (address, clock) = (cable.address.to_string(), clock::fixed(NOW));
    let member = Member::new(Role::Database, tee, &launched, address, clock).unwrap();
    let member = member.claiming(claims.to_bytes()).within(mesh.root().await);
    member.activate().await.unwrap();
    cable.leads_to(other.cable.target);
    let refused = member.stay().await.err().unwrap();
    assert_eq!(refused.codes(), ["MESH_DIFFERS"]);
    assert_eq!(other.instances().await, Vec::<Value>::new());
    cable.leads_to(mesh.cable.target);
    mesh.update(&world).await;
    let (credential, _) = member.stay().await.expect("where it is at home");
    assert_eq!(credential.identity.epoch, 2);
}

/// Its Evidence names the mesh that remembers its newest record, so that it is remembered in no other.
#[tokio::test(flavor = "multi_thread")]
async fn s15_a_database_that_runs_is_anchored_in_no_other_mesh_and_says_cause_and_remedy() {
    let Some((world, mesh)) = world(|_| {}).await else { return };
    let served = world.start().await;
    served.serving().await;
    let bank = served.session(&world.parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (1, 'x')").await.unwrap();
    let other = Mesh::start_for(Arc::clone(&mesh.owner)).await;
    other.set_manifest(&other.manifest(&world)).await;
    mesh.cut();
    mesh.cable.leads_to(other.cable.target);
    let late = bank.batch_execute("INSERT INTO notes VALUES (2, 'x')");
    tokio::pin!(late);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut late).await.is_err(), "it waits");
    mesh.mend();
    late.await.expect_err("it is not acknowledged there");
    let error = ended(served).await;
    assert_eq!(error.code(), "ANCHOR_UNREACHABLE");
    let said = format!("{:#}", anyhow::Error::new(error));
    for words in ["MESH_DIFFERS", "lead it back", "start this Marble again"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(other.instances().await, Vec::<Value>::new());
    mesh.cable.leads_to(mesh.cable.target);
    let served = world.start().await;
    served.serving().await;
    assert!(notes(&served, &world).await.starts_with(&[1]), "where it is at home");
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_database_that_was_evicted_acknowledges_nothing_more_and_says_why() {
    let Some((world, mesh)) = world(|_| {}).await else { return };
    let served = world.start().await;
    served.serving().await;
    let bank = served.session(&world.parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (1, 'x')").await.unwrap();
    // It cannot hear of it before a client writes.
    mesh.cut();
    mesh.evict(&mesh.counts(1, 1).await[0]).await;
    let late = bank.batch_execute("INSERT INTO notes VALUES (2, 'late')");
    tokio::pin!(late);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut late).await.is_err(), "it waits");
    mesh.mend();
    let refused = late.await.unwrap_err();
    assert_eq!(refused.code().map(|it| it.code()), Some("57P01"), "{refused:?}");
    assert!(refused.as_db_error().unwrap().message().contains("(EVICTED)"), "{refused:?}");
    assert_eq!(ended(served).await.code(), "EVICTED");
    // What was sent away is this instance: its operator may start another one.
    let served = world.start().await;
    served.serving().await;
    assert_eq!(notes(&served, &world).await[0], 1);

    // One to which nobody writes hears it from the coordinator.
    mesh.evict(&mesh.counts(1, 1).await[0]).await;
    assert_eq!(ended(served).await.code(), "EVICTED");
}

/// Whoever ends the database waits for the sealer, which anchors what is not yet: the runtime on one thread must carry the
/// answer meanwhile.
#[test]
fn a_database_that_ends_does_not_hold_up_the_anchor_that_it_waits_for() {
    let ends = || {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let lag = |manifest: &mut Value| manifest["Freshness"]["MaxLag"] = "60s".into();
            let Some((world, mesh)) = world(lag).await else { return };
            let served = world.start().await;
            served.serving().await;
            served.stopped().await;
            let before = world.state.path().join("before");
            copy(&world.log(), &before);
            let served = world.start().await;
            served.serving().await;
            note(&served, &world, 1).await.unwrap();
            served.stopped().await;
            put_back(&before, &world.log());
            assert_eq!(world.refused().await.code(), "LOG_ROLLED_BACK", "what was acknowledged is anchored");
            drop(mesh);
        });
    };
    let (ended, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        ends();
        ended.send(()).unwrap();
    });
    told.recv_timeout(Duration::from_secs(120)).expect("it ends");
}
