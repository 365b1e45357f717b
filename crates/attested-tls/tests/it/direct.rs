//! The connection of a direct deployment between honest and less honest peers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use appraisal::binding::Role;
use attested_tls::{
    channel::{self, Attested, ChannelError, Party},
    claims::{Claims, DirectClaims, KeepClaims},
    clock,
    direct::{self, ALPN, Accepted, Client, Server},
    key::TeeKey,
    launch::DirectConfiguration,
    statement::Statement,
};
use evidence::Platform;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use testkit::tee::{EmulatedTee, NOW};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::{Requires, assert_evidence_refused, cbor, lawless_client, lawless_server, receive, send};

type Near = Result<Attested<DuplexStream>, ChannelError>;
type Far = Result<Accepted<DuplexStream>, ChannelError>;

fn tee() -> Arc<EmulatedTee> {
    EmulatedTee::launch(Platform::Snp, b"the Keep's code", &DirectConfiguration { version: 1 }.to_json())
}

fn client() -> Client {
    Client { clock: clock::fixed(NOW), verifier: Arc::new(attested_tls::statement::verifier()) }
}

fn server() -> Server {
    Server { tee: tee(), clock: clock::fixed(NOW), engine: "wasmtime/48".into() }
}

fn requires() -> Requires {
    Requires::of(Role::DirectKeep, &tee())
}

async fn meet(server: &Server, requires: &Requires, take: impl FnOnce() -> bool) -> (Near, Far) {
    let (near, far) = tokio::io::duplex(4096);
    let client = client();
    tokio::join!(direct::connect(near, &client, requires), direct::accept(far, server, take))
}

fn refused<T>(met: Result<T, ChannelError>) -> ChannelError {
    match met {
        Ok(_) => panic!("not refused"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_client_has_the_keep_that_it_verified() {
    let (near, far) = meet(&server(), &requires(), || true).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());
    let claims = DirectClaims::from_bytes(&near.peer().claims).unwrap();
    assert_eq!(*claims.client, far.client.0);
    assert_eq!(claims.engine, "wasmtime/48");
    assert!(near.peer().appraised.emulated());
    near.write_all(b"ping").await.unwrap();
    near.flush().await.unwrap();
    let mut seen = [0; 4];
    far.stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"ping");
}

#[tokio::test]
async fn s15_both_keys_are_of_one_connection() {
    let server = server();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (near, far) = meet(&server, &requires(), || true).await;
        keys.extend([near.unwrap().peer().key, far.unwrap().client]);
    }
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 4);
}

#[tokio::test]
async fn a_taken_keep_says_so() {
    let taken = AtomicBool::new(false);
    let server = server();
    let take = || !taken.swap(true, Ordering::SeqCst);
    let (first, _) = meet(&server, &requires(), take).await;
    let (second, far) = meet(&server, &requires(), take).await;
    assert!(first.is_ok());
    let second = refused(second);
    assert_eq!(second.codes(), ["KEEP_TAKEN"], "{second}");
    assert!(matches!(refused(far), ChannelError::Taken));
}

#[tokio::test]
async fn other_code_or_configuration_is_refused_and_takes_nothing() {
    let wrong = [
        (&b"changed"[..], DirectConfiguration { version: 1 }.to_json(), "MEASUREMENT_MISMATCH"),
        (b"the Keep's code", br#"{"direct":{"version":2}}"#.to_vec(), "LAUNCH_CONFIGURATION_MISMATCH"),
    ];
    for (code, configuration, expected) in wrong {
        let tee = EmulatedTee::launch(Platform::Snp, code, &configuration);
        let (near, far) = meet(&Server { tee, ..server() }, &requires(), || panic!("taken")).await;
        assert_evidence_refused(&refused(near), expected);
        assert!(matches!(refused(far), ChannelError::RefusedByPeer { codes, .. } if codes == [expected]));
    }
}

/// A Marble's Keep, even of the same code, does not serve as a direct one, nor the reverse.
#[tokio::test]
async fn s06_roles_do_not_pass_for_each_other() {
    let (near, far) = tokio::io::duplex(4096);
    let marble = Party {
        role: Role::Keep,
        key: Arc::new(TeeKey::generate().unwrap()),
        tee: tee(),
        clock: clock::fixed(NOW),
        verifier: Arc::new(attested_tls::statement::verifier()),
    };
    let (wanted, coordinator) = (requires(), Requires::a_coordinator());
    let client = client();
    let (near, far) = tokio::join!(
        direct::connect(near, &client, &wanted),
        channel::accept(far, &marble, Vec::new(), &coordinator),
    );
    assert_eq!(refused(near).codes(), ["CHANNEL_BROKEN"]);
    assert_eq!(refused(far).codes(), ["CHANNEL_BROKEN"]);

    // Whoever expects something else of a direct Keep does not get it.
    let keep = Requires::of(Role::Keep, &tee());
    let (near, _) = meet(&server(), &keep, || panic!("taken")).await;
    assert_eq!(refused(near).codes(), ["CHANNEL_WRONG_ROLE"]);
}

#[derive(Serialize, Deserialize)]
struct Opening {
    version: u8,
    nonce: ByteArray<32>,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Presented(Statement),
    Refused { codes: Vec<String>, reason: String },
}

#[derive(Serialize, Deserialize)]
enum Outcome {
    Accepted,
    Refused { codes: Vec<String>, reason: String },
}

/// A host that answers the client's opening with a statement of its own choice.
async fn forged(answer: impl FnOnce(Opening, &TeeKey) -> Statement) -> ChannelError {
    let (near, far) = tokio::io::duplex(64 << 10);
    let key = TeeKey::generate().unwrap();
    let host = async {
        let mut stream = TlsAcceptor::from(lawless_server(&key, &[ALPN])).accept(far).await.unwrap();
        let opening: Opening = ciborium::from_reader(receive(&mut stream).await.as_slice()).unwrap();
        send(&mut stream, &cbor(&Answer::Presented(answer(opening, &key)))).await;
        let _ = receive(&mut stream).await;
    };
    let (client, requires) = (client(), requires());
    let (near, ()) = tokio::join!(direct::connect(near, &client, &requires), host);
    refused(near)
}

fn claims_of(client: [u8; 32]) -> Vec<u8> {
    let (client, configuration) = (ByteArray::new(client), ByteArray::new([0; 32]));
    DirectClaims { client, engine: "x".into(), configuration }.to_bytes()
}

#[tokio::test]
async fn s01_evidence_of_another_connection_is_refused() {
    let error = forged(|_, _| {
        let other = TeeKey::generate().unwrap();
        Statement::issue(&*tee(), Role::DirectKeep, other.digest(), &[1; 32], claims_of([0; 32])).unwrap()
    })
    .await;
    assert_evidence_refused(&error, "REPORT_DATA_MISMATCH");
}

/// The TEE covers nonce and key, but not the exporter of this connection.
#[tokio::test]
async fn s05_evidence_that_is_not_bound_to_the_connection_is_refused() {
    let error = forged(|opening, key| {
        Statement::issue(&*tee(), Role::DirectKeep, key.digest(), &opening.nonce, claims_of([0; 32])).unwrap()
    })
    .await;
    assert_evidence_refused(&error, "REPORT_DATA_MISMATCH");
}

/// A man in the middle who ends TLS on both sides and forwards every byte, also with both keys leaked: the exporters
/// differ, and the client's key in the claims is not the client's.
#[tokio::test]
async fn s02_relay_is_refused() {
    let (near, middle) = tokio::io::duplex(64 << 10);
    let (elsewhere, far) = tokio::io::duplex(64 << 10);
    let (to_client, to_keep) = (TeeKey::generate().unwrap(), TeeKey::generate().unwrap());
    let man = async {
        let mut one = TlsAcceptor::from(lawless_server(&to_client, &[ALPN])).accept(middle).await.unwrap();
        let connector = TlsConnector::from(lawless_client(Some(&to_keep), &[ALPN]));
        let mut other = connector.connect(attested_tls::marble::server_name(), elsewhere).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
    };
    let (client, requires, server) = (client(), requires(), server());
    let (near, far, ()) = tokio::join!(
        direct::connect(near, &client, &requires),
        direct::accept(far, &server, || panic!("taken")),
        man,
    );
    assert_evidence_refused(&refused(near), "REPORT_DATA_MISMATCH");
    assert!(matches!(refused(far), ChannelError::RefusedByPeer { .. }));
}

/// What the client itself said comes back.
#[tokio::test]
async fn s04_reflection_is_refused() {
    let (near, far) = tokio::io::duplex(4096);
    let key = TeeKey::generate().unwrap();
    let host = async {
        let mut stream = TlsAcceptor::from(lawless_server(&key, &[ALPN])).accept(far).await.unwrap();
        let said = receive(&mut stream).await;
        send(&mut stream, &said).await;
    };
    let (client, requires) = (client(), requires());
    let (near, ()) = tokio::join!(direct::connect(near, &client, &requires), host);
    assert_eq!(refused(near).codes(), ["CHANNEL_MALFORMED"]);
}

/// A Keep of right code whose claims say something else: only a faulty Keep does that, and no client goes on with it.
#[tokio::test]
async fn claims_for_another_client_are_refused() {
    for claims in [claims_of([7; 32]), vec![0xa0], marble_claims()] {
        let (near, far) = tokio::io::duplex(64 << 10);
        let key = TeeKey::generate().unwrap();
        let keep = lawful_but_for_its_claims(far, &key, claims.clone());
        let (client, requires) = (client(), requires());
        let (near, ()) = tokio::join!(direct::connect(near, &client, &requires), keep);
        let expected = if claims == claims_of([7; 32]) { "CLIENT_KEY_MISMATCH" } else { "CLAIMS_MALFORMED" };
        assert_eq!(refused(near).codes(), [expected]);
    }
}

fn marble_claims() -> Vec<u8> {
    let zeros = ByteArray::new([0; 32]);
    KeepClaims {
        marble: "tally".into(),
        engine: "x".into(),
        workload: Some(zeros),
        package: None,
        configuration: zeros,
    }
    .to_bytes()
}

/// Computes what the protocol's description says, by hand.
async fn lawful_but_for_its_claims(far: DuplexStream, key: &TeeKey, claims: Vec<u8>) {
    let config = asking_for_certificates(key);
    let mut stream = TlsAcceptor::from(config).accept(far).await.unwrap();
    let opening: Opening = ciborium::from_reader(receive(&mut stream).await.as_slice()).unwrap();
    let connection = stream.get_ref().1;
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, b"EXPORTER-bailey-direct-1", None).unwrap();
    let client =
        attested_tls::key::SpkiDigest::of_certificate(&connection.peer_certificates().unwrap()[0]).unwrap();
    let bytes = |bytes: [u8; 32]| ByteArray::<32>::new(bytes);
    let nonce = attested_tls::key::sha256(&cbor(&(
        "bailey/channel/1",
        opening.nonce,
        bytes(exporter),
        bytes(key.digest().0),
        bytes(client.0),
        "direct-keep",
        "server to client",
    )));
    let statement = Statement::issue(&*tee(), Role::DirectKeep, key.digest(), &nonce, claims).unwrap();
    send(&mut stream, &cbor(&Answer::Presented(statement))).await;
    let outcome: Outcome = ciborium::from_reader(receive(&mut stream).await.as_slice()).unwrap();
    assert!(matches!(outcome, Outcome::Refused { .. }), "{}", matches!(outcome, Outcome::Accepted));
}

fn asking_for_certificates(key: &TeeKey) -> Arc<rustls::ServerConfig> {
    use rustls::server::danger::ClientCertVerifier;
    #[derive(Debug)]
    struct Any;
    impl ClientCertVerifier for Any {
        fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
            &[]
        }
        fn verify_client_cert(
            &self,
            _: &rustls_pki_types::CertificateDer<'_>,
            _: &[rustls_pki_types::CertificateDer<'_>],
            _: rustls_pki_types::UnixTime,
        ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
            Ok(rustls::server::danger::ClientCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls_pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            unreachable!("TLS 1.3 only")
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &rustls_pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            rustls::crypto::aws_lc_rs::default_provider()
                .signature_verification_algorithms
                .supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(Any))
        .with_single_cert(vec![key.certificate().clone()], key.private_key())
        .unwrap();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Arc::new(config)
}

/// A client of another version hears so, and one without a certificate gets no Evidence.
#[tokio::test]
async fn clients_that_speak_otherwise_are_refused() {
    let server = server();
    let key = TeeKey::generate().unwrap();
    let (near, far) = tokio::io::duplex(4096);
    let newer = async {
        let connector = TlsConnector::from(lawless_client(Some(&key), &[ALPN]));
        let mut stream = connector.connect(attested_tls::marble::server_name(), near).await.unwrap();
        send(&mut stream, &cbor(&Opening { version: 2, nonce: ByteArray::new([0; 32]) })).await;
        let answer: Answer = ciborium::from_reader(receive(&mut stream).await.as_slice()).unwrap();
        let Answer::Refused { codes, reason } = answer else { panic!("Evidence for an unknown version") };
        assert_eq!(codes, ["CHANNEL_MALFORMED"]);
        assert_eq!(reason, "this Keep speaks version 1");
    };
    let ((), far) = tokio::join!(newer, direct::accept(far, &server, || panic!("taken")));
    assert!(matches!(refused(far), ChannelError::Version { seen: 2 }));

    let (near, far) = tokio::io::duplex(4096);
    let nameless = async {
        let connector = TlsConnector::from(lawless_client(None, &[ALPN]));
        let mut stream = connector.connect(attested_tls::marble::server_name(), near).await.unwrap();
        let mut answer = [0; 1];
        assert!(stream.read_exact(&mut answer).await.is_err());
    };
    let ((), far) = tokio::join!(nameless, direct::accept(far, &server, || panic!("taken")));
    assert_eq!(refused(far).codes(), ["CHANNEL_BROKEN"]);
}

/// It waits for a silent client for as long as the channel's limit is, and is then free for another.
#[tokio::test]
async fn a_silent_client_takes_nothing() {
    let server = server();
    let (_silent, far) = tokio::io::duplex(4096);
    let error = refused(direct::accept(far, &server, || panic!("taken")).await);
    assert!(matches!(error, ChannelError::Timeout));
    let (near, far) = meet(&server, &requires(), || true).await;
    assert!(near.is_ok() && far.is_ok());
}
