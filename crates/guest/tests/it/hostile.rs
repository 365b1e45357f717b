//! Brokers, and those between, that want something from a guest.

use std::time::Duration;

use guest::{
    broker::{BrokerError, Mode},
    transport::{Transport, TransportError},
};
use rcar::client::ExchangeError;

use crate::{
    fake::{Fake, Fault},
    fetching::uri,
};

/// The error of fetching `default/key/1` from a broker that misbehaves once.
async fn refused(step: &'static str, fault: Fault) -> (Fake, BrokerError) {
    let fake = Fake::start().await;
    fake.put("default/key/1", b"first");
    fake.faults(step, [fault]);
    let error = fake
        .broker(Mode::Session)
        .resource(&uri("kbs:///default/key/1"))
        .await
        .err()
        .unwrap_or_else(|| panic!("nothing was refused at {step}"));
    (fake, error)
}

#[tokio::test]
async fn s38_what_is_encrypted_to_another_key_is_refused() {
    let (fake, error) = refused("resource", Fault::ForAnotherKey).await;
    assert!(matches!(error, BrokerError::Exchange(ExchangeError::Invalid(_))), "{error}");
    assert_eq!(fake.asked("resource"), 1, "it is not asked again");
}

#[tokio::test]
async fn s38_a_resource_that_is_not_encrypted_is_refused() {
    for body in ["first", "\"first\"", "{}", "[]", "{\"protected\":\"e30\",\"ciphertext\":\"Zmlyc3Q\"}", ""] {
        let (_, error) = refused("resource", Fault::Body(body.into())).await;
        assert!(matches!(error, BrokerError::Exchange(ExchangeError::Invalid(_))), "{body}: {error}");
    }
}

#[tokio::test]
async fn s30_redirections_are_not_followed() {
    let elsewhere = Fake::start().await;
    for step in ["auth", "attest", "resource"] {
        let (_, error) = refused(step, Fault::Redirect(elsewhere.address)).await;
        let expected = matches!(error, BrokerError::Transport(TransportError::Redirected { status: 307 }));
        assert!(expected, "{step}: {error}");
    }
    assert_eq!(elsewhere.asked("/"), 0);
}

#[tokio::test]
async fn s43_answers_longer_than_any_are_cut_off() {
    for step in ["auth", "attest", "resource"] {
        let (_, error) = refused(step, Fault::Endless).await;
        assert!(matches!(error, BrokerError::Transport(TransportError::TooLong { .. })), "{step}: {error}");
    }
}

#[tokio::test]
async fn s43_slow_brokers_are_not_waited_for() {
    for step in ["auth", "attest", "resource"] {
        let fake = Fake::start().await;
        fake.put("default/key/1", b"first");
        fake.faults(step, (0..100).map(|_| Fault::Silence));
        let transport = fake.transport().answering_within(Duration::from_millis(100));
        let broker = fake.broker_over(transport, Mode::Session);
        let error = broker.resource(&uri("kbs:///default/key/1")).await.expect_err("no answer");
        assert!(matches!(error, BrokerError::Transport(TransportError::Slow(_))), "{step}: {error}");
    }
}

#[tokio::test]
async fn s15_challenges_and_tokens_that_are_none_are_refused() {
    for body in ["", "{}", "{\"nonce\":\"\",\"extra-params\":\"\"}", "{\"nonce\":1,\"extra-params\":\"\"}"] {
        let (fake, error) = refused("auth", Fault::Body(body.into())).await;
        assert!(matches!(error, BrokerError::Exchange(_)), "{body}: {error}");
        assert_eq!(fake.asked("attest"), 0, "no Evidence was made for {body}");
    }
    let long = format!("{{\"nonce\":\"{}\",\"extra-params\":\"\"}}", "n".repeat(10_000));
    refused("auth", Fault::Body(long)).await;
    for token in ["", "a.b", "a.b.c\\r\\nX: y", "a.b.c.d"] {
        let (_, error) = refused("attest", Fault::Body(format!("{{\"token\":\"{token}\"}}"))).await;
        assert!(matches!(error, BrokerError::Exchange(ExchangeError::Invalid(_))), "{token}: {error}");
    }
}

/// Another session's nonce: the Evidence is over what this session was told, and this guest's own new key.
#[tokio::test]
async fn s15_evidence_over_the_nonce_of_another_session_is_the_brokers_to_refuse() {
    let fake = Fake::start().await;
    let other = rcar::Challenge::new(&[0xee; 32]).to_json().to_string();
    fake.faults("auth", [Fault::Body(other)]);
    let error = fake.broker(Mode::Session).token().await.expect_err("no session was opened");
    assert!(matches!(error, BrokerError::Exchange(ExchangeError::NoSession)), "{error}");
}

#[tokio::test]
async fn a_session_needs_its_cookie_and_a_cookie_is_no_header_of_the_brokers_choice() {
    for cookies in [vec![], vec!["other=1"], vec!["kbs-session-id="], vec!["kbs-session-id=\"a\\b\""]] {
        let (_, error) = refused("auth", Fault::Cookies(cookies.clone())).await;
        assert!(matches!(error, BrokerError::Exchange(ExchangeError::NoSession)), "{cookies:?}: {error}");
    }
}

#[tokio::test]
async fn s30_a_broker_is_known_by_the_given_root_and_its_name_only() {
    let (fake, other) = (Fake::start().await, Fake::start().await);
    let url = fake.url().parse().expect("a URL");
    let transport = Transport::new(url, std::slice::from_ref(&other.root)).expect("a root");
    let error = fake.broker_over(transport, Mode::Session).token().await.expect_err("another root");
    assert!(matches!(error, BrokerError::Transport(TransportError::Tls(_))), "{error}");
    assert!(error.remedy().contains("--broker-root"));

    let misnamed = Fake::start_with(&[&rustls::version::TLS13], "elsewhere.example").await;
    let error = misnamed.broker(Mode::Session).token().await.expect_err("another name");
    assert!(matches!(error, BrokerError::Transport(TransportError::Tls(_))), "{error}");
    assert_eq!(fake.asked("/") + misnamed.asked("/"), 0, "nothing was said to either");
}

#[tokio::test]
async fn s05_a_broker_that_speaks_tls_1_2_only_is_refused() {
    let old = Fake::start_with(&[&rustls::version::TLS12], "localhost").await;
    let error = old.broker(Mode::Session).token().await.expect_err("an old version");
    assert!(matches!(error, BrokerError::Transport(TransportError::Tls(_))), "{error}");
}

/// Nothing in an answer names the resource that is in it: a broker could send another one. It is pinned, and nobody
/// between can; whoever needs more than that seals or signs what is in the resource.
#[tokio::test]
async fn s42_another_resource_than_was_asked_for_opens_no_sealed_secret() {
    use guest::{GuestError, source::Source, unseal::UnsealError};
    use sealed_secret::{EnvelopeError, SigningKey};

    let key = SigningKey::generate().expect("a key");
    let fake = Fake::start().await;
    fake.put("default/key/sealing", key.verifying_key().to_jwk().as_bytes());
    let evil = SigningKey::generate().expect("a key");
    fake.put("evil/key/sealing", evil.verifying_key().to_jwk().as_bytes());
    fake.put("default/kek/1", &[7; 32]);
    fake.put("evil/kek/1", &[8; 32]);
    let text = sealed_secret::envelope(
        b"open sesame",
        &uri("kbs:///default/kek/1"),
        &[7; 32],
        &"kbs:///default/key/sealing".parse().expect("a key"),
        &key,
    )
    .expect("sealed");
    let source = || text.parse::<Source>().expect("sealed");
    assert_eq!(fake.guest().secret(source()).await.expect("opened").as_slice(), b"open sesame");

    fake.faults("key/sealing", [Fault::Instead("evil/key/sealing")]);
    let error = fake.guest().secret(source()).await.expect_err("another key");
    assert!(matches!(error, GuestError::Unseal(UnsealError::Sealed(_))), "{error}");
    fake.faults("kek/1", [Fault::Instead("evil/kek/1")]);
    let error = fake.guest().secret(source()).await.expect_err("another key");
    let expected = EnvelopeError::Decrypt { what: "key" };
    assert!(matches!(error, GuestError::Unseal(UnsealError::Envelope(found)) if found == expected));
}
