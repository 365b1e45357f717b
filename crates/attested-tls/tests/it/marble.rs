//! Marbles speaking to Marbles, and who may not.

use std::{collections::BTreeSet, io, sync::Arc};

use appraisal::UnixTime;
use attested_tls::{
    clock::{self, Clock},
    key::TeeKey,
    marble::{
        Access, Credential, IDENTITY_OID, MarbleIdentity, PeerRefusal, Revoked, Rollout, client_config,
        handshake_refusal, server_config, server_name,
    },
};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::world::lawless_client;

const NOW: UnixTime = UnixTime(1_790_000_000);
const MANIFEST: [u8; 32] = [3; 32];

fn at(now: UnixTime) -> Clock {
    clock::fixed(now)
}

/// Root and intermediate of one mesh.
struct Mesh {
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn authority(path: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Mesh {
    fn new() -> Self {
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let root_params = authority(1);
        let root = root_params.self_signed(&root_key).unwrap().der().clone();
        let root_issuer = Issuer::new(root_params, root_key);
        let params = authority(0);
        let intermediate = params.signed_by(&key, &root_issuer).unwrap().der().clone();
        Self { root, intermediate, issuer: Issuer::new(params, key) }
    }

    fn leaf(
        &self,
        key: &KeyPair,
        extensions: Vec<CustomExtension>,
        days: (u8, u8),
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        // NOW is 2026-09-21.
        params.not_before = date_time_ymd(2026, 9, days.0);
        params.not_after = date_time_ymd(2026, 9, days.1);
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.custom_extensions = extensions;
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    fn credential_of(&self, extensions: Vec<CustomExtension>, days: (u8, u8)) -> Credential {
        let key = KeyPair::generate().unwrap();
        Credential {
            chain: vec![self.leaf(&key, extensions, days), self.intermediate.clone()],
            key: private(&key),
            root: self.root.clone(),
            identity: identity("unused"),
            revoked: Revoked::default(),
        }
    }

    fn admitted(&self, identity: MarbleIdentity) -> Credential {
        let extension = extension(identity.to_extension());
        Credential { identity, ..self.credential_of(vec![extension], (20, 23)) }
    }

    fn marble(&self, name: &str) -> Credential {
        self.admitted(identity(name))
    }
}

fn private(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

fn identity(marble: &str) -> MarbleIdentity {
    MarbleIdentity { marble: marble.into(), epoch: 4, manifest: MANIFEST, emulated: true, rollout: None }
}

fn extension(value: Vec<u8>) -> CustomExtension {
    CustomExtension::from_oid_content(&IDENTITY_OID, value)
}

fn peers(names: &[&str]) -> Access {
    Access::Peers(names.iter().map(ToString::to_string).collect::<BTreeSet<_>>())
}

type Served = io::Result<server::TlsStream<DuplexStream>>;
type Connected = io::Result<client::TlsStream<DuplexStream>>;

/// The handshake, and one byte from client to server, so that the server's verdict reaches the client too.
async fn handshake(server: Arc<ServerConfig>, client: Arc<ClientConfig>) -> (Served, Connected) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connect = async {
        let mut stream = TlsConnector::from(client).connect(server_name(), near).await?;
        stream.write_all(b"x").await?;
        stream.flush().await?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await?;
        Ok(stream)
    };
    let accept = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
        stream.flush().await?;
        Ok(stream)
    };
    tokio::join!(accept, connect)
}

/// `client` asks for Marble `tally` at a server that is `server` and lets in `frontend`.
async fn visit(server: &Credential, client: &Credential) -> (Served, Connected) {
    let server = server_config(server, peers(&["frontend"]), at(NOW)).unwrap();
    handshake(server, client_config(client, "tally", at(NOW)).unwrap()).await
}

fn code<T>(met: io::Result<T>) -> &'static str {
    match met {
        Ok(_) => "accepted",
        Err(error) => handshake_refusal(&error).0,
    }
}

#[tokio::test]
async fn named_peer_is_accepted() {
    let mesh = Mesh::new();
    let (served, connected) = visit(&mesh.marble("tally"), &mesh.marble("frontend")).await;
    let (served, connected) = (served.unwrap(), connected.unwrap());
    let seen = MarbleIdentity::of_certificate(&served.get_ref().1.peer_certificates().unwrap()[0]).unwrap();
    assert_eq!(seen, identity("frontend"));
    assert_eq!(connected.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(
        connected.get_ref().1.negotiated_key_exchange_group().map(|group| group.name()),
        Some(rustls::NamedGroup::X25519MLKEM768)
    );
}

#[tokio::test]
async fn unnamed_peer_is_refused() {
    let mesh = Mesh::new();
    let (served, connected) = visit(&mesh.marble("tally"), &mesh.marble("stranger")).await;
    let error = served.unwrap_err();
    let (code, reason) = handshake_refusal(&error);
    assert_eq!(code, "PEER_NOT_NAMED");
    assert!(reason.contains("stranger") && reason.contains("frontend"), "{reason}");
    assert_eq!(handshake_refusal(&connected.unwrap_err()).0, "PEER_REFUSED_US");
}

#[tokio::test]
async fn nobody_is_let_in_where_no_peer_is_named() {
    let mesh = Mesh::new();
    let server = server_config(&mesh.marble("tally"), peers(&[]), at(NOW)).unwrap();
    let client = client_config(&mesh.marble("frontend"), "tally", at(NOW)).unwrap();
    assert_eq!(code(handshake(server, client).await.0), "PEER_NOT_NAMED");
}

#[tokio::test]
async fn client_without_certificate_is_refused() {
    let mesh = Mesh::new();
    let server = server_config(&mesh.marble("tally"), peers(&["frontend"]), at(NOW)).unwrap();
    let (served, _) = handshake(server, lawless_client(None, &[b"h2"])).await;
    assert_eq!(code(served), "PEER_WITHOUT_CERTIFICATE");
}

#[tokio::test]
async fn self_signed_client_is_refused() {
    let mesh = Mesh::new();
    let key = TeeKey::generate().unwrap();
    let server = server_config(&mesh.marble("tally"), peers(&["frontend"]), at(NOW)).unwrap();
    let (served, _) = handshake(server, lawless_client(Some(&key), &[b"h2"])).await;
    assert_eq!(code(served), "PEER_CERTIFICATE_INVALID");
}

/// The same words under another root mean nothing, to either side.
#[tokio::test]
async fn s03_peer_under_another_root_is_refused() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let (_, connected) = visit(&other.marble("tally"), &mesh.marble("frontend")).await;
    assert_eq!(code(connected), "PEER_CERTIFICATE_INVALID");
    // The client accepts anyone, so that it is the server which decides.
    let server = server_config(&mesh.marble("tally"), peers(&["frontend"]), at(NOW)).unwrap();
    let mut impostor = other.marble("frontend");
    impostor.root = mesh.root.clone();
    let (served, _) = handshake(server, client_config(&impostor, "tally", at(NOW)).unwrap()).await;
    assert_eq!(code(served), "PEER_CERTIFICATE_INVALID");
}

#[tokio::test]
async fn s45_peer_of_another_epoch_or_manifest_is_refused() {
    let mesh = Mesh::new();
    let older = MarbleIdentity { epoch: 3, ..identity("frontend") };
    let newer = MarbleIdentity { epoch: 5, ..identity("frontend") };
    let elsewhere = MarbleIdentity { manifest: [4; 32], ..identity("frontend") };
    for other in [older, newer, elsewhere] {
        let visitor = mesh.admitted(other.clone());
        // Seen by the server: the client's verifier is made to agree with the server's certificate.
        let agreeing = Credential { identity: identity("frontend"), ..visitor };
        let (served, _) = visit(&mesh.marble("tally"), &agreeing).await;
        assert_eq!(code(served), "PEER_OTHER_EPOCH", "{other:?}");
        // Seen by the client.
        let tally = MarbleIdentity { marble: "tally".into(), ..other.clone() };
        let server = Credential { identity: identity("tally"), ..mesh.admitted(tally) };
        let (_, connected) = visit(&server, &mesh.marble("frontend")).await;
        assert_eq!(code(connected), "PEER_OTHER_EPOCH", "{other:?}");
    }
}

/// What each side says of a connection between an old `tally` and a new `frontend`, or the other way round, at a time.
async fn between_epochs(
    mesh: &Mesh,
    rollout: Rollout,
    new_calls: bool,
    now: i64,
) -> (&'static str, &'static str) {
    let old = |marble: &str| mesh.marble(marble);
    let new = |marble: &str| {
        let identity = MarbleIdentity {
            epoch: 5,
            manifest: [4; 32],
            rollout: Some(rollout.clone()),
            ..identity(marble)
        };
        mesh.admitted(identity)
    };
    let own = |credential: Credential| {
        let identity = MarbleIdentity::of_certificate(&credential.chain[0]).unwrap();
        Credential { identity, ..credential }
    };
    let (server, client) =
        if new_calls { (old("tally"), new("frontend")) } else { (new("tally"), old("frontend")) };
    let server = server_config(&own(server), peers(&["frontend"]), at(UnixTime(now))).unwrap();
    let client = client_config(&own(client), "tally", at(UnixTime(now))).unwrap();
    let (served, connected) = handshake(server, client).await;
    (code(served), code(connected))
}

#[tokio::test]
async fn two_epochs_speak_until_the_roll_out_window_is_over() {
    let mesh = Mesh::new();
    let rollout = Rollout { epoch: 4, manifest: MANIFEST, until: NOW.0 + 60 };
    for new_calls in [true, false] {
        for now in [NOW.0, NOW.0 + 60] {
            let met = between_epochs(&mesh, rollout.clone(), new_calls, now).await;
            assert_eq!(met, ("accepted", "accepted"), "{new_calls} {now}");
        }
        // The client is the first to see the other's certificate, and refuses it.
        let met = between_epochs(&mesh, rollout.clone(), new_calls, NOW.0 + 61).await;
        assert_eq!(met.1, "PEER_ROLLOUT_OVER");
        let earlier = Rollout { epoch: 3, ..rollout.clone() };
        let elsewhere = Rollout { manifest: [8; 32], ..rollout.clone() };
        for other in [earlier, elsewhere] {
            assert_eq!(between_epochs(&mesh, other, new_calls, NOW.0).await.1, "PEER_OTHER_EPOCH");
        }
    }
}

#[tokio::test]
async fn s45_an_old_certificate_lets_no_newer_epoch_in_and_the_server_decides_too() {
    let mesh = Mesh::new();
    let window = |epoch| Some(Rollout { epoch, manifest: MANIFEST, until: NOW.0 + 60 });
    // What an old certificate says of a newer epoch is nothing.
    let boasting = MarbleIdentity { epoch: 3, rollout: window(4), ..identity("frontend") };
    let agreeing = Credential { identity: identity("frontend"), ..mesh.admitted(boasting) };
    assert_eq!(code(visit(&mesh.marble("tally"), &agreeing).await.0), "PEER_OTHER_EPOCH");
    // The server refuses by itself when the window is over.
    let late = Some(Rollout { epoch: 4, manifest: MANIFEST, until: NOW.0 - 1 });
    let newer = MarbleIdentity { epoch: 5, rollout: late, ..identity("frontend") };
    let agreeing = Credential { identity: identity("frontend"), ..mesh.admitted(newer) };
    assert_eq!(code(visit(&mesh.marble("tally"), &agreeing).await.0), "PEER_ROLLOUT_OVER");
    // Nobody is let in by the window who is not named.
    let newer = MarbleIdentity { epoch: 5, rollout: window(4), ..identity("stranger") };
    let agreeing = Credential { identity: identity("stranger"), ..mesh.admitted(newer) };
    assert_eq!(code(visit(&mesh.marble("tally"), &agreeing).await.0), "PEER_NOT_NAMED");
}

/// Of one instance: its name, epoch and dates are all as they should be.
#[tokio::test]
async fn an_evicted_instance_is_refused_on_either_side() {
    let mesh = Mesh::new();
    let (tally, frontend) = (mesh.marble("tally"), mesh.marble("frontend"));
    let serial = |credential: &Credential| {
        x509_parser::parse_x509_certificate(&credential.chain[0]).unwrap().1.raw_serial().to_vec()
    };
    let without = |who: Credential, gone: &Credential| Credential {
        revoked: Revoked::new([vec![7; 16], serial(gone)]),
        ..who
    };
    let (served, _) = visit(&without(mesh.marble("tally"), &frontend), &frontend).await;
    assert_eq!(code(served), "PEER_REVOKED");
    let (_, connected) = visit(&tally, &without(mesh.marble("frontend"), &tally)).await;
    assert_eq!(code(connected), "PEER_REVOKED");
    // Another instance of the same Marble goes on.
    let (served, connected) = visit(&without(tally, &frontend), &mesh.marble("frontend")).await;
    assert!(served.is_ok() && connected.is_ok());
}

#[tokio::test]
async fn s03_server_that_is_another_marble_is_refused() {
    let mesh = Mesh::new();
    let (_, connected) = visit(&mesh.marble("stranger"), &mesh.marble("frontend")).await;
    let error = connected.unwrap_err();
    let (code, reason) = handshake_refusal(&error);
    assert_eq!(code, "PEER_WRONG_MARBLE");
    assert!(reason.contains("stranger") && reason.contains("tally"), "{reason}");
}

#[tokio::test]
async fn expired_and_future_certificates_are_refused() {
    let mesh = Mesh::new();
    for days in [(18, 20), (23, 25)] {
        let lapsed = |name: &str| {
            let extension = extension(identity(name).to_extension());
            Credential { identity: identity(name), ..mesh.credential_of(vec![extension], days) }
        };
        let (served, _) = visit(&mesh.marble("tally"), &lapsed("frontend")).await;
        assert_eq!(code(served), "PEER_CERTIFICATE_INVALID", "{days:?}");
        let (_, connected) = visit(&lapsed("tally"), &mesh.marble("frontend")).await;
        assert_eq!(code(connected), "PEER_CERTIFICATE_INVALID", "{days:?}");
    }
}

/// Certificates of the same root that are no Marble's, such as the client API's.
#[tokio::test]
async fn s07_certificate_without_identity_is_refused() {
    let mesh = Mesh::new();
    let nobody =
        |name: &str| Credential { identity: identity(name), ..mesh.credential_of(Vec::new(), (20, 23)) };
    let (served, _) = visit(&mesh.marble("tally"), &nobody("frontend")).await;
    assert_eq!(code(served), "PEER_NOT_A_MARBLE");
    let (_, connected) = visit(&nobody("tally"), &mesh.marble("frontend")).await;
    assert_eq!(code(connected), "PEER_NOT_A_MARBLE");
}

/// Only the first certificate identifies: whose key signed the handshake.
#[tokio::test]
async fn s07_identity_in_another_certificate_of_the_chain_is_ignored() {
    let mesh = Mesh::new();
    let mut nobody =
        Credential { identity: identity("frontend"), ..mesh.credential_of(Vec::new(), (20, 23)) };
    nobody.chain.insert(1, mesh.marble("frontend").chain[0].clone());
    let (served, _) = visit(&mesh.marble("tally"), &nobody).await;
    assert_eq!(code(served), "PEER_NOT_A_MARBLE");
    let mut stranger = mesh.marble("stranger");
    stranger.chain.insert(1, mesh.marble("frontend").chain[0].clone());
    let (served, _) = visit(&mesh.marble("tally"), &stranger).await;
    assert_eq!(code(served), "PEER_NOT_NAMED");
}

/// A stolen certificate without its key: the handshake's signature does not fit.
#[tokio::test]
async fn certificate_without_its_key_is_refused() {
    let mesh = Mesh::new();
    let mut thief = mesh.marble("frontend");
    thief.key = private(&KeyPair::generate().unwrap());
    assert!(client_config(&thief, "tally", at(NOW)).is_err(), "rustls compares them already");
}

/// A Marble cannot certify others: its certificate is no CA's.
#[tokio::test]
async fn marble_that_signs_certificates_is_refused() {
    let mesh = Mesh::new();
    let key = KeyPair::generate().unwrap();
    let stranger = mesh.leaf(&key, vec![extension(identity("stranger").to_extension())], (20, 23));
    let forger = Mesh {
        root: mesh.root.clone(),
        intermediate: stranger.clone(),
        issuer: Issuer::from_ca_cert_der(&stranger, key).unwrap(),
    };
    let mut forged = forger.marble("frontend");
    forged.chain.push(mesh.intermediate.clone());
    let (served, _) = visit(&mesh.marble("tally"), &forged).await;
    assert_eq!(code(served), "PEER_CERTIFICATE_INVALID");
}

#[tokio::test]
async fn public_access_asks_for_no_certificate() {
    let mesh = Mesh::new();
    let server = server_config(&mesh.marble("frontend"), Access::Public, at(NOW)).unwrap();
    let (served, connected) = handshake(server.clone(), lawless_client(None, &[b"http/1.1"])).await;
    assert!(connected.is_ok() && served.unwrap().get_ref().1.peer_certificates().is_none());
    // A Marble may come too, and is nobody in particular.
    let client = client_config(&mesh.marble("stranger"), "frontend", at(NOW)).unwrap();
    let (served, _) = handshake(server, client).await;
    assert!(served.unwrap().get_ref().1.peer_certificates().is_none());
}

#[tokio::test]
async fn renewed_credential_is_accepted() {
    let mesh = Mesh::new();
    let key = KeyPair::generate().unwrap();
    let renewed = |days| Credential {
        chain: vec![
            mesh.leaf(&key, vec![extension(identity("frontend").to_extension())], days),
            mesh.intermediate.clone(),
        ],
        key: private(&key),
        root: mesh.root.clone(),
        identity: identity("frontend"),
        revoked: Revoked::default(),
    };
    assert_eq!(code(visit(&mesh.marble("tally"), &renewed((19, 20))).await.0), "PEER_CERTIFICATE_INVALID");
    assert_eq!(code(visit(&mesh.marble("tally"), &renewed((20, 23))).await.0), "accepted");
}

#[test]
fn identity_round_trips_through_a_certificate() {
    let mesh = Mesh::new();
    let marble = mesh.marble("tally");
    assert_eq!(MarbleIdentity::of_certificate(&marble.chain[0]), Ok(identity("tally")));
    assert_eq!(MarbleIdentity::of_certificate(&marble.chain[1]), Err(PeerRefusal::NotAMarble));
    assert_eq!(MarbleIdentity::of_certificate(b"no certificate"), Err(PeerRefusal::NotAMarble));
}

fn octets(content: &[u8]) -> Vec<u8> {
    // DER: long form of length, two bytes.
    let length = u16::try_from(content.len()).unwrap();
    let mut der = if length < 128 {
        vec![4, u8::try_from(length).unwrap()]
    } else if length < 256 {
        vec![4, 0x81, u8::try_from(length).unwrap()]
    } else {
        vec![4, 0x82, length.to_be_bytes()[0], length.to_be_bytes()[1]]
    };
    der.extend(content);
    der
}

fn wire(change: impl FnOnce(&mut Vec<(ciborium::Value, ciborium::Value)>)) -> Vec<u8> {
    let mut fields = vec![
        ("epoch".into(), 4.into()),
        ("marble".into(), "tally".into()),
        ("emulated".into(), true.into()),
        ("manifest".into(), ciborium::Value::Bytes(MANIFEST.to_vec())),
    ];
    change(&mut fields);
    crate::world::cbor(&ciborium::Value::Map(fields))
}

#[test]
fn malformed_identities_are_refused() {
    let mesh = Mesh::new();
    let read = |extensions: Vec<Vec<u8>>| {
        let extensions = extensions.into_iter().map(extension).collect();
        MarbleIdentity::of_certificate(&mesh.credential_of(extensions, (20, 23)).chain[0])
    };
    let good = wire(|_| ());
    assert_eq!(read(vec![octets(&good)]), Ok(identity("tally")), "the vectors below differ in one thing");

    let inner_trailing = octets(&[good.as_slice(), &[0]].concat());
    let outer_trailing = [octets(&good).as_slice(), &[5, 0]].concat();
    let oversize = octets(&wire(|fields| fields[1].1 = "x".repeat(1024).into()));
    let unknown = octets(&wire(|fields| fields.push(("admin".into(), true.into()))));
    let doubled = octets(&wire(|fields| fields.push(("marble".into(), "frontend".into()))));
    let missing = octets(&wire(|fields| drop(fields.pop())));
    let short = octets(&wire(|fields| fields[3].1 = ciborium::Value::Bytes(vec![3; 31])));
    let long = octets(&wire(|fields| fields[3].1 = ciborium::Value::Bytes(vec![3; 33])));
    let negative = octets(&wire(|fields| fields[0].1 = (-1).into()));
    let cases: [(&str, Vec<Vec<u8>>); 12] = [
        ("bytes follow the map", vec![inner_trailing]),
        ("bytes follow the string", vec![outer_trailing]),
        ("over 1024 bytes", vec![oversize]),
        ("unknown field", vec![unknown]),
        ("field twice", vec![doubled]),
        ("field missing", vec![missing]),
        ("short digest", vec![short]),
        ("long digest", vec![long]),
        ("negative epoch", vec![negative]),
        ("no octet string", vec![good.clone()]),
        ("empty", vec![Vec::new()]),
        ("extension twice", vec![octets(&good), octets(&good)]),
    ];
    for (what, extensions) in cases {
        assert_eq!(read(extensions), Err(PeerRefusal::NotAMarble), "{what}");
    }
}
