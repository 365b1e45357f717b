//! Evidence in other hands: replayed, relayed, reflected.

use std::sync::Arc;

use appraisal::binding::Role;
use attested_tls::{
    channel::{self, ALPN, ChannelError},
    key::{SpkiDigest, TeeKey},
    statement::{Expected, Statement},
};
use testkit::tee::NOW;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::world::{
    Met, Requires, assert_evidence_refused, coordinator, keep, keep_tee, lawless_client, lawless_server,
    receive, refused, send,
};

const NONCE: [u8; 32] = [1; 32];

fn appraise(statement: &Statement, key: SpkiDigest, nonce: &[u8; 32]) -> Result<(), ChannelError> {
    let requires = Requires::a_keep();
    let expected = Expected {
        role: Role::Keep,
        key,
        nonce,
        measurements: &requires.measurements,
        policy: &requires.policy,
        now: NOW,
    };
    statement
        .appraise(&expected, &attested_tls::statement::verifier())
        .map(|_| ())
        .map_err(ChannelError::from)
}

fn statement(key: &TeeKey) -> Statement {
    Statement::issue(&*keep_tee(), Role::Keep, key.digest(), &NONCE, b"claims".to_vec()).unwrap()
}

#[test]
fn s01_evidence_replayed_under_another_key_is_refused() {
    let (key, thief) = (TeeKey::generate().unwrap(), TeeKey::generate().unwrap());
    let statement = statement(&key);
    appraise(&statement, *key.digest(), &NONCE).unwrap();
    let error = appraise(&statement, *thief.digest(), &NONCE).unwrap_err();
    assert_evidence_refused(&error, "REPORT_DATA_MISMATCH");
}

#[test]
fn s15_evidence_over_an_old_nonce_is_refused() {
    let key = TeeKey::generate().unwrap();
    let error = appraise(&statement(&key), *key.digest(), &[2; 32]).unwrap_err();
    assert_evidence_refused(&error, "REPORT_DATA_MISMATCH");
}

#[test]
fn changed_claims_are_refused() {
    let key = TeeKey::generate().unwrap();
    let mut statement = statement(&key);
    statement.claims[0] ^= 1;
    let error = appraise(&statement, *key.digest(), &NONCE).unwrap_err();
    assert_evidence_refused(&error, "REPORT_DATA_MISMATCH");
}

/// Statements travel as strict CBOR.
#[test]
fn statements_are_read_strictly() {
    let key = TeeKey::generate().unwrap();
    let bytes = statement(&key).to_bytes();
    assert_eq!(Statement::from_bytes(&bytes).unwrap(), statement_again(&bytes));
    assert!(Statement::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
    assert!(Statement::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    assert!(Statement::from_bytes(&vec![0; attested_tls::statement::MAX_STATEMENT + 1]).is_err());
    let mut large = statement(&key);
    large.claims = vec![0; attested_tls::claims::MAX_CLAIMS + 1].into();
    assert!(Statement::from_bytes(&large.to_bytes()).is_err());
}

fn statement_again(bytes: &[u8]) -> Statement {
    ciborium::from_reader(bytes).unwrap()
}

/// A man in the middle who ends TLS on both sides and forwards every byte. Shows `to_client` and `to_server`.
async fn relay(
    client: &channel::Party,
    server: &channel::Party,
    to_client: &TeeKey,
    to_server: &TeeKey,
) -> (Met, Met) {
    let (near, middle) = tokio::io::duplex(64 * 1024);
    let (elsewhere, far) = tokio::io::duplex(64 * 1024);
    let (coordinator, keep) = (Requires::a_coordinator(), Requires::a_keep());
    let man = async {
        let acceptor = TlsAcceptor::from(lawless_server(to_client, &[ALPN]));
        let connector = TlsConnector::from(lawless_client(Some(to_server), &[ALPN]));
        let mut one = acceptor.accept(middle).await.unwrap();
        let name = attested_tls::marble::server_name();
        let mut other = connector.connect(name, elsewhere).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
    };
    let ((), near, far) = tokio::join!(
        man,
        channel::connect(near, client, Vec::new(), &coordinator),
        channel::accept(far, server, Vec::new(), &keep),
    );
    (near, far)
}

#[tokio::test]
async fn s02_relay_is_refused() {
    let (client, server) = (keep(), coordinator());
    let (one, other) = (TeeKey::generate().unwrap(), TeeKey::generate().unwrap());
    let (near, far) = relay(&client, &server, &one, &other).await;
    assert_evidence_refused(&refused(near), "REPORT_DATA_MISMATCH");
    assert_evidence_refused(&refused(far), "REPORT_DATA_MISMATCH");
}

/// With both leaf keys leaked, only the exporter tells the two connections apart.
#[tokio::test]
async fn s02_relay_with_leaked_keys_is_refused() {
    let (client, server) = (keep(), coordinator());
    let (near, far) = relay(&client, &server, &server.key, &client.key).await;
    assert_evidence_refused(&refused(near), "REPORT_DATA_MISMATCH");
    assert_evidence_refused(&refused(far), "REPORT_DATA_MISMATCH");
}

/// With the client's key only: the server would see the right key and nonce, on another connection.
#[tokio::test]
async fn s02_relay_with_one_leaked_key_is_refused() {
    let (client, server) = (keep(), coordinator());
    let (near, far) = relay(&client, &server, &TeeKey::generate().unwrap(), &client.key).await;
    assert!(near.is_err());
    assert_evidence_refused(&refused(far), "REPORT_DATA_MISMATCH");
}

/// A server that sends every frame back to where it came from.
async fn reflect(client: &channel::Party, requires: &Requires, key: &TeeKey) -> ChannelError {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let mirror = async {
        let mut stream = TlsAcceptor::from(lawless_server(key, &[ALPN])).accept(far).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    };
    let ((), met) = tokio::join!(mirror, channel::connect(near, client, Vec::new(), requires));
    refused(met)
}

#[tokio::test]
async fn s04_reflected_frames_have_the_wrong_role() {
    let error = reflect(&keep(), &Requires::a_coordinator(), &TeeKey::generate().unwrap()).await;
    assert!(matches!(error, ChannelError::Role { .. }), "{error:?}");
}

/// Between peers of one role, with the client's own key at the mirror, only the direction is left to tell a
/// reflected message from a genuine one.
#[tokio::test]
async fn s04_reflection_between_peers_of_one_role_is_refused() {
    let client = keep();
    let error = reflect(&client, &Requires::a_keep(), &client.key).await;
    assert_evidence_refused(&error, "REPORT_DATA_MISMATCH");
}

/// Two honest parties of one role do accept each other: the refusal above is not for the role.
#[tokio::test]
async fn peers_of_one_role_can_attest() {
    let (one, other) = (keep(), keep());
    let (near, far) = crate::world::meet((&one, &Requires::a_keep()), (&other, &Requires::a_keep())).await;
    assert!(near.is_ok() && far.is_ok());
}

/// A genuine statement of an earlier connection with the same keys is no good on the next one.
#[tokio::test]
async fn s15_statement_of_an_earlier_connection_is_refused() {
    let (client, server) = (keep(), coordinator());
    let leaked = Arc::clone(&client.key);
    let recorded = {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let requires = Requires::a_coordinator();
        let record = async {
            let acceptor = TlsAcceptor::from(lawless_server(&server.key, &[ALPN]));
            let mut stream = acceptor.accept(far).await.unwrap();
            send(&mut stream, &crate::world::hello("coordinator")).await;
            receive(&mut stream).await;
            receive(&mut stream).await
        };
        tokio::join!(record, channel::connect(near, &client, Vec::new(), &requires)).0
    };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let requires = Requires::a_keep();
    let thief = async {
        let connector = TlsConnector::from(lawless_client(Some(&leaked), &[ALPN]));
        let mut stream = connector.connect(attested_tls::marble::server_name(), near).await.unwrap();
        send(&mut stream, &crate::world::hello("keep")).await;
        send(&mut stream, &recorded).await;
        stream.flush().await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let server = async {
        let met = channel::accept(far, &server, Vec::new(), &requires).await;
        refused(met)
    };
    let (error, ()) = tokio::join!(server, thief);
    // The thief never says whether it accepts; what this side found comes first.
    assert_evidence_refused(&error, "REPORT_DATA_MISMATCH");
}
