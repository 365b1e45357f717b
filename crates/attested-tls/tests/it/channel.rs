//! The attested connection between honest and less honest peers.

use std::sync::Arc;

use appraisal::{Policy, ReferenceValue, binding::Role};
use attested_tls::{
    channel::{self, ALPN, ChannelError, ClaimsRefused},
    key::{SpkiDigest, TeeKey},
};
use evidence::Platform;
use testkit::tee::EmulatedTee;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::world::{
    COORDINATOR_CLAIMS, KEEP_CLAIMS, Requires, assert_evidence_refused, cbor, coordinator, hello, keep,
    keep_tee, lawless_client, lawless_server, meet, meet_over, receive, refused, send,
};

#[tokio::test]
async fn both_sides_attest_and_bytes_pass_both_ways() {
    let (client, server) = (keep(), coordinator());
    let (near, far) = meet((&client, &Requires::a_coordinator()), (&server, &Requires::a_keep())).await;
    let (mut near, mut far) = (near.unwrap(), far.unwrap());

    assert_eq!(far.peer().claims, KEEP_CLAIMS);
    assert_eq!(far.peer().key, *client.key.digest());
    assert_eq!(far.peer().public_key, client.key.public_key_info());
    assert_eq!(far.peer().appraised.platform(), Platform::Snp);
    assert_eq!(far.peer().appraised.measurement(), Some(keep_tee().measurement()));
    assert_eq!(near.peer().claims, COORDINATOR_CLAIMS);
    assert_eq!(near.peer().key, *server.key.digest());
    assert_eq!(near.peer().appraised.platform(), Platform::Tdx);
    assert!(near.peer().appraised.emulated() && far.peer().appraised.emulated());

    near.write_all(b"ping").await.unwrap();
    near.flush().await.unwrap();
    let mut seen = [0; 4];
    far.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"ping");
    far.write_all(b"pong").await.unwrap();
    far.flush().await.unwrap();
    near.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"pong");
    far.shutdown().await.unwrap();
    assert_eq!(near.read(&mut seen).await.unwrap(), 0);
}

/// Statements may be larger than what the transport takes at once: then neither side may wait for the other.
#[tokio::test]
async fn statements_larger_than_the_transport_do_not_block() {
    let (client, server) = (keep(), coordinator());
    let (near, far) =
        meet_over(512, (&client, &Requires::a_coordinator()), (&server, &Requires::a_keep())).await;
    assert!(near.is_ok() && far.is_ok());
}

/// The peer hears codes and one sentence; the tree stays where it was made.
#[tokio::test]
async fn other_code_is_refused_and_hears_why() {
    let other = EmulatedTee::launch(Platform::Snp, b"changed", b"the Keep's configuration");
    let mut client = keep();
    client.tee = other;
    let server = coordinator();
    let (near, far) = meet((&client, &Requires::a_coordinator()), (&server, &Requires::a_keep())).await;
    let far = refused(far);
    assert_evidence_refused(&far, "MEASUREMENT_MISMATCH");
    let near = refused(near);
    let ChannelError::RefusedByPeer { codes, reason } = &near else { panic!("{near:?}") };
    assert_eq!(*codes, ["MEASUREMENT_MISMATCH"]);
    assert!(near.refused().is_none() && !reason.contains('\n'), "{reason}");
    let tree = far.refused().unwrap().verdict().render(false);
    assert!(tree.lines().count() > 5 && !reason.contains(&tree));
}

/// The server is refused as the client is.
#[tokio::test]
async fn other_coordinator_is_refused() {
    let mut server = coordinator();
    server.tee = EmulatedTee::launch(Platform::Tdx, b"changed", b"the coordinator's configuration");
    let client = keep();
    let (near, far) = meet((&client, &Requires::a_coordinator()), (&server, &Requires::a_keep())).await;
    assert_evidence_refused(&refused(near), "MEASUREMENT_MISMATCH");
    assert!(matches!(refused(far), ChannelError::RefusedByPeer { .. }));
}

#[tokio::test]
async fn s10_s40_emulated_root_that_is_not_named_is_refused() {
    let (client, server) = (keep(), coordinator());
    let strict = Requires { policy: Policy::production(), ..Requires::a_keep() };
    let (near, far) = meet((&client, &Requires::a_coordinator()), (&server, &strict)).await;
    assert_evidence_refused(&refused(far), "ROOT_NOT_TRUSTED");
    assert!(matches!(refused(near), ChannelError::RefusedByPeer { .. }));
}

#[tokio::test]
async fn other_launch_configuration_is_refused() {
    let mut client = keep();
    client.tee = EmulatedTee::launch(Platform::Snp, b"the Keep's code", b"another configuration");
    let server = coordinator();
    let (_, far) = meet((&client, &Requires::a_coordinator()), (&server, &Requires::a_keep())).await;
    assert_evidence_refused(&refused(far), "LAUNCH_CONFIGURATION_MISMATCH");
}

/// Without reference values nothing is accepted.
#[tokio::test]
async fn no_reference_values_accept_nothing() {
    let (client, server) = (keep(), coordinator());
    let nothing = Requires { measurements: Vec::<ReferenceValue>::new(), ..Requires::a_keep() };
    let (_, far) = meet((&client, &Requires::a_coordinator()), (&server, &nothing)).await;
    assert!(refused(far).refused().is_some());
}

#[tokio::test]
async fn claims_that_rule_a_peer_out_are_refused_with_their_code() {
    let (client, server) = (keep(), coordinator());
    let claims = Some(ClaimsRefused { code: "MARBLE_UNKNOWN", reason: "no such Marble".into() });
    let requires = Requires { claims, ..Requires::a_keep() };
    let (near, far) = meet((&client, &Requires::a_coordinator()), (&server, &requires)).await;
    assert!(matches!(refused(far), ChannelError::Claims(_)));
    let near = refused(near);
    assert!(matches!(near, ChannelError::RefusedByPeer { .. }));
    assert_eq!(near.codes(), ["MARBLE_UNKNOWN"]);
}

#[tokio::test]
async fn oversized_claims_are_refused() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (client, server) = (keep(), coordinator());
    let claims = vec![0; attested_tls::claims::MAX_CLAIMS + 1];
    let (coordinator, keep) = (Requires::a_coordinator(), Requires::a_keep());
    let (_, met) = tokio::join!(
        channel::connect(near, &client, claims, &coordinator),
        channel::accept(far, &server, Vec::new(), &keep),
    );
    assert_eq!(refused(met).codes(), ["EVIDENCE_MALFORMED"]);
}

#[tokio::test]
async fn wrong_role_is_refused() {
    let (client, server) = (keep(), coordinator());
    let database = Requires { role: Role::Database, ..Requires::a_keep() };
    let (near, far) = meet((&client, &Requires::a_coordinator()), (&server, &database)).await;
    let far = refused(far);
    assert!(matches!(far, ChannelError::Role { expected: Role::Database, .. }), "{far:?}");
    assert_eq!(far.codes(), ["CHANNEL_WRONG_ROLE"]);
    assert!(near.is_err());
}

/// A peer that says another role than its Evidence covers.
#[tokio::test]
async fn s04_role_is_part_of_what_evidence_covers() {
    use attested_tls::statement::{Expected, Statement};
    let (key, tee) = (TeeKey::generate().unwrap(), keep_tee());
    let nonce = [1; 32];
    let statement = Statement::issue(&*tee, Role::Keep, key.digest(), &nonce, Vec::new()).unwrap();
    let requires = Requires::a_keep();
    let expected = |role| Expected {
        role,
        key: *key.digest(),
        nonce: &nonce,
        measurements: &requires.measurements,
        policy: &requires.policy,
        now: testkit::tee::NOW,
    };
    statement.appraise(&expected(Role::Keep), &attested_tls::statement::verifier()).unwrap();
    let error = ChannelError::from(
        statement.appraise(&expected(Role::Database), &attested_tls::statement::verifier()).unwrap_err(),
    );
    assert_evidence_refused(&error, "REPORT_DATA_MISMATCH");
}

/// A TLS client that follows the handshake and then says what the test wants.
async fn lawless(
    key: Option<&TeeKey>,
    alpn: &[&[u8]],
    say: impl AsyncFnOnce(TlsStream<DuplexStream>),
) -> ChannelError {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let server = coordinator();
    let requires = Requires::a_keep();
    let client = async {
        let name = attested_tls::marble::server_name();
        if let Ok(stream) = TlsConnector::from(lawless_client(key, alpn)).connect(name, near).await {
            say(stream).await;
        }
    };
    let accept = channel::accept(far, &server, Vec::new(), &requires);
    let ((), met) = tokio::join!(client, accept);
    refused(met)
}

async fn linger(mut stream: TlsStream<DuplexStream>) {
    // Until the other side closes.
    let mut sink = Vec::new();
    let _ = stream.read_to_end(&mut sink).await;
}

#[tokio::test]
async fn s05_client_without_certificate_is_refused() {
    let error = lawless(None, &[ALPN], linger).await;
    assert!(matches!(error, ChannelError::Tls(_)), "{error:?}");
}

#[tokio::test]
async fn s05_client_without_alpn_is_refused() {
    let key = TeeKey::generate().unwrap();
    let error = lawless(Some(&key), &[], linger).await;
    assert!(matches!(error, ChannelError::NotAttestable), "{error:?}");
    assert_eq!(error.codes(), ["CHANNEL_NOT_ATTESTABLE"]);
}

#[tokio::test]
async fn s05_client_of_another_protocol_is_refused() {
    let key = TeeKey::generate().unwrap();
    let error = lawless(Some(&key), &[b"h2"], linger).await;
    assert!(matches!(error, ChannelError::Tls(_)), "{error:?}");
}

#[tokio::test]
async fn s05_server_without_alpn_is_refused() {
    let key = TeeKey::generate().unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let client = keep();
    let requires = Requires::a_coordinator();
    let server = async {
        let acceptor = tokio_rustls::TlsAcceptor::from(lawless_server(&key, &[]));
        // The client may hang up as soon as it has seen the server's choice.
        if let Ok(mut stream) = acceptor.accept(far).await {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    };
    let ((), met) = tokio::join!(server, channel::connect(near, &client, Vec::new(), &requires));
    let error = refused(met);
    assert!(matches!(error, ChannelError::NotAttestable), "{error:?}");
}

/// A TLS 1.2 ClientHello as an old client sends it: RFC 5246, §7.4.1.2, no `supported_versions`.
fn tls12_client_hello() -> Vec<u8> {
    let extensions: &[u8] = &[
        0, 10, 0, 4, 0, 2, 0, 23, // supported_groups: secp256r1
        0, 11, 0, 2, 1, 0, // ec_point_formats: uncompressed
        0, 13, 0, 4, 0, 2, 4, 3, // signature_algorithms: ecdsa_secp256r1_sha256
    ];
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0]);
    body.push(u8::try_from(extensions.len()).unwrap());
    body.extend(extensions);
    record(1, &body)
}

/// The TLS 1.2 ServerHello of a server that knows nothing newer.
fn tls12_server_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0xc0, 0x2b, 0]);
    record(2, &body)
}

fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).unwrap();
    let mut bytes = vec![22, 3, 3, 0, length + 4, kind, 0, 0, length];
    bytes.extend(body);
    bytes
}

#[tokio::test]
async fn s05_tls12_client_is_refused() {
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let (server, requires) = (coordinator(), Requires::a_keep());
    let client = async {
        near.write_all(&tls12_client_hello()).await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let (answer, met) = tokio::join!(client, channel::accept(far, &server, Vec::new(), &requires));
    assert!(matches!(refused(met), ChannelError::Tls(_)));
    // A fatal alert, protocol_version (RFC 8446, §6).
    assert_eq!(&answer[..1], [21]);
    assert_eq!(&answer[answer.len() - 2..], [2, 70]);
}

#[tokio::test]
async fn s05_tls12_server_is_refused() {
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let (client, requires) = (keep(), Requires::a_coordinator());
    let server = async {
        let mut start = [0; 5];
        far.read_exact(&mut start).await.unwrap();
        far.write_all(&tls12_server_hello()).await.unwrap();
        let _ = far.read_to_end(&mut Vec::new()).await;
    };
    let ((), met) = tokio::join!(server, channel::connect(near, &client, Vec::new(), &requires));
    let error = refused(met);
    assert!(matches!(error, ChannelError::Tls(_)), "{error:?}");
}

/// What a server answers to these bytes after the handshake.
async fn after_handshake(frames: Vec<Vec<u8>>) -> ChannelError {
    let key = TeeKey::generate().unwrap();
    lawless(Some(&key), &[ALPN], async move |mut stream| {
        for bytes in frames {
            stream.write_all(&bytes).await.unwrap();
        }
        stream.flush().await.unwrap();
        linger(stream).await;
    })
    .await
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

#[tokio::test]
async fn oversized_frames_are_refused_by_their_length() {
    let error = after_handshake(vec![u32::MAX.to_be_bytes().to_vec()]).await;
    assert!(matches!(error, ChannelError::TooLarge { max: 256, .. }), "{error:?}");
    assert_eq!(error.codes(), ["CHANNEL_MALFORMED"]);
    let huge = (attested_tls::statement::MAX_STATEMENT as u32 + 1).to_be_bytes().to_vec();
    let error = after_handshake(vec![framed(&hello("keep")), huge]).await;
    assert!(matches!(error, ChannelError::TooLarge { .. }), "{error:?}");
}

#[tokio::test]
async fn malformed_frames_are_refused() {
    let mut trailing = hello("keep");
    trailing.push(0);
    let unknown =
        cbor(&ciborium::value::Value::Map(vec![("version".into(), 1.into()), ("x".into(), 1.into())]));
    for body in [b"\xff\xff".to_vec(), Vec::new(), trailing, unknown, b"{}".to_vec()] {
        let error = after_handshake(vec![framed(&body)]).await;
        assert!(matches!(error, ChannelError::Malformed(_)), "{body:02x?}: {error:?}");
    }
    let error = after_handshake(vec![framed(&hello("keep")), framed(b"\xff garbage")]).await;
    assert!(matches!(error, ChannelError::Malformed(_)), "{error:?}");
}

#[tokio::test]
async fn other_protocol_versions_are_refused() {
    use crate::world::Hello;
    let nonce = serde_bytes::ByteArray::new([0; 32]);
    let error = after_handshake(vec![framed(&cbor(&Hello { version: 2, role: "keep".into(), nonce }))]).await;
    assert!(matches!(error, ChannelError::Version { seen: 2 }), "{error:?}");
}

/// A well-formed statement whose Evidence is no Evidence.
#[tokio::test]
async fn garbage_as_evidence_is_refused_with_a_code() {
    use attested_tls::statement::Statement;
    use serde_bytes::ByteBuf;
    let statement = Statement {
        evidence: ByteBuf::from(vec![0; 1184]),
        endorsements: ByteBuf::from(b"nonsense".to_vec()),
        claims: ByteBuf::new(),
    };
    let key = TeeKey::generate().unwrap();
    let error = lawless(Some(&key), &[ALPN], async move |mut stream| {
        send(&mut stream, &hello("keep")).await;
        receive(&mut stream).await;
        send(&mut stream, &statement.to_bytes()).await;
        receive(&mut stream).await;
        let outcome = String::from_utf8_lossy(&receive(&mut stream).await).into_owned();
        assert!(outcome.contains("EVIDENCE_MALFORMED"), "{outcome}");
    })
    .await;
    assert_eq!(error.codes(), ["EVIDENCE_MALFORMED"]);
}

/// Takes as long as the patience of the two sides, who wait at the same time.
#[tokio::test]
async fn a_silent_peer_is_not_waited_for() {
    let ((near, _far), (here, _there)) = (tokio::io::duplex(64 * 1024), tokio::io::duplex(64 * 1024));
    let (keep, coordinator) = (keep(), coordinator());
    let (as_keep, as_coordinator) = (Requires::a_coordinator(), Requires::a_keep());
    let (connected, accepted) = tokio::join!(
        channel::connect(near, &keep, Vec::new(), &as_keep),
        channel::accept(here, &coordinator, Vec::new(), &as_coordinator),
    );
    assert!(matches!(refused(connected), ChannelError::Timeout));
    assert!(matches!(refused(accepted), ChannelError::Timeout));
}

#[test]
fn keys_are_told_apart_by_their_digest() {
    let (one, other) = (TeeKey::generate().unwrap(), TeeKey::generate().unwrap());
    assert_ne!(one.digest(), other.digest());
    let mut longer = one.certificate().to_vec();
    longer.push(0);
    assert!(SpkiDigest::of_certificate(&longer).is_err());
    assert_eq!(*one.digest(), SpkiDigest::of_spki(&one.public_key_info()));
    assert!(!format!("{:?}", Arc::new(one)).contains("PRIVATE"));
}
