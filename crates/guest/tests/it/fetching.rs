//! What a guest does with a broker that keeps the protocol.

use std::{sync::Arc, time::Duration};

use guest::{
    broker::{ATTEMPTS, Broker, BrokerError, Mode, NEW_HANDSHAKES},
    evidence::Attester,
    init_data::{InitDataError, Measured},
    settings::SettingsError,
};
use rcar::{InitData, ResourceUri};
use testkit::tee::EmulatedTee;

use crate::fake::{Fake, Fault, tee};

pub fn uri(text: &str) -> ResourceUri {
    text.parse().expect("a resource")
}

#[tokio::test]
async fn one_handshake_serves_many_resources() {
    let fake = Fake::start().await;
    fake.put("default/key/1", b"first");
    fake.put("default/key/2", b"second");
    let broker = fake.broker(Mode::Session);
    assert_eq!(broker.resource(&uri("kbs:///default/key/1")).await.expect("released").as_slice(), b"first");
    assert_eq!(broker.resource(&uri("kbs:///default/key/2")).await.expect("released").as_slice(), b"second");
    assert_eq!((fake.asked("auth"), fake.asked("attest"), fake.asked("resource")), (1, 1, 2));
}

#[tokio::test]
async fn those_who_ask_at_once_wait_for_one_handshake() {
    let fake = Fake::start().await;
    fake.put("default/key/1", b"first");
    let broker = Arc::new(fake.broker(Mode::Session));
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let broker = Arc::clone(&broker);
            tokio::spawn(
                async move { broker.resource(&uri("kbs:///default/key/1")).await.expect("released") },
            )
        })
        .collect();
    for one in asking {
        assert_eq!(one.await.expect("no panic").as_slice(), b"first");
    }
    assert_eq!((fake.asked("attest"), fake.asked("resource")), (1, 8));
}

#[tokio::test]
async fn a_passport_is_shown_instead_of_the_cookie() {
    let fake = Fake::start().await;
    fake.put("default/key/1", b"first");
    let broker = fake.broker(Mode::Passport);
    assert_eq!(broker.resource(&uri("kbs:///default/key/1")).await.expect("released").as_slice(), b"first");
    let headers = fake.state(|state| state.headers.last().cloned().expect("a request"));
    assert!(headers.get("cookie").is_none());
    assert!(headers["authorization"].to_str().expect("text").starts_with("Bearer head."));
}

#[tokio::test]
async fn an_ended_session_is_followed_by_another_with_another_key() {
    let fake = Fake::start().await;
    fake.put("default/key/1", b"first");
    let broker = fake.broker(Mode::Session);
    broker.resource(&uri("kbs:///default/key/1")).await.expect("released");
    fake.forget();
    broker.resource(&uri("kbs:///default/key/1")).await.expect("released");
    let keys = fake.state(|state| {
        let key = |at: usize| state.attestations[at].runtime_data.tee_pubkey.clone();
        assert_eq!(state.attestations.len(), 2);
        (key(0), key(1))
    });
    assert_ne!(keys.0, keys.1, "what was encrypted to the first key is worth nothing in the second session");
}

#[tokio::test]
async fn what_is_refused_again_and_again_is_not_asked_for_ever() {
    let fake = Fake::start().await;
    fake.faults("resource", (0..100).map(|_| Fault::Status(401, "PolicyDeny")));
    let error = fake.broker(Mode::Session).resource(&uri("kbs:///a/b/c")).await.expect_err("denied");
    assert!(error.denied(), "{error}");
    let handshakes = NEW_HANDSHAKES as usize + 1;
    assert_eq!((fake.asked("attest"), fake.asked("resource")), (handshakes, handshakes));
}

#[tokio::test]
async fn what_policy_denies_is_asked_once() {
    let fake = Fake::start().await;
    let broker = fake.broker(Mode::Session);
    for status in [400, 403, 404, 409, 413] {
        fake.faults("resource", [Fault::Status(status, "PolicyDeny")]);
        let before = fake.asked("resource");
        let error = broker.resource(&uri("kbs:///secret-repository/b/c")).await.expect_err("denied");
        assert_eq!(fake.asked("resource") - before, 1, "{status}");
        assert!(!error.to_string().contains("secret-repository"), "{error}");
    }
    assert_eq!(fake.asked("attest"), 1);
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_end() {
    let fake = Fake::start().await;
    fake.put("default/key/1", b"first");
    fake.faults("auth", [Fault::Status(503, "Unavailable"), Fault::HangUp]);
    fake.faults("attest", [Fault::Status(429, "TooManyRequests")]);
    fake.faults("resource", [Fault::Status(502, "PluginInternalError"), Fault::HangUp]);
    let broker = fake.broker(Mode::Session);
    assert_eq!(broker.resource(&uri("kbs:///default/key/1")).await.expect("released").as_slice(), b"first");
    assert_eq!((fake.asked("auth"), fake.asked("attest"), fake.asked("resource")), (4, 2, 3));

    fake.faults("key/2", (0..100).map(|_| Fault::Status(503, "Unavailable")));
    let before = fake.asked("key/2");
    broker.resource(&uri("kbs:///default/key/2")).await.expect_err("it stays so");
    assert_eq!(fake.asked("key/2") - before, ATTEMPTS as usize);
}

#[tokio::test]
async fn a_broker_that_is_not_set_up_is_not_waited_for() {
    let fake = Fake::start().await;
    fake.faults("auth", (0..100).map(|_| Fault::Status(503, "BrokerNotConfigured")));
    fake.broker(Mode::Session).token().await.expect_err("no broker");
    assert_eq!(fake.asked("auth"), 1);
}

#[tokio::test]
async fn a_token_comes_with_the_key_that_it_confirms() {
    let fake = Fake::start().await;
    let broker = fake.broker(Mode::Session);
    let first = broker.token().await.expect("attested").to_json();
    let second = broker.token().await.expect("attested").to_json();
    assert_ne!(first["token"], second["token"], "each is new");
    assert_ne!(first["tee_keypair"], second["tee_keypair"]);
    let pem = first["tee_keypair"].as_str().expect("PEM");
    let key = rcgen::KeyPair::from_pem(pem).expect("PKCS #8");
    let point = key.public_key_raw();
    let jwk = fake.state(|state| state.attestations[0].runtime_data.tee_pubkey.to_json().clone());
    let decode = |member: &str| {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        URL_SAFE_NO_PAD.decode(jwk[member].as_str().expect("text")).expect("base64")
    };
    assert_eq!(point, [&[4][..], &decode("x"), &decode("y")].concat(), "the key that the Evidence covers");
}

#[tokio::test]
async fn the_stand_in_is_sent_only_where_somebody_wants_it() {
    let fake = Fake::start().await;
    fake.put("default/key/1", b"first");
    let broker = Broker::new(fake.transport(), Attester::Sample, None, Mode::Session);
    broker.resource(&uri("kbs:///default/key/1")).await.expect("released");
    assert_eq!(fake.state(|state| state.attestations[0].pieces()[0].tee()), rcar::Tee::Sample);
    fake.broker(Mode::Session).token().await.expect("attested");
    assert_eq!(fake.state(|state| state.attestations[1].pieces()[0].tee()), rcar::Tee::Snp);
}

fn init_data(fake: &Fake) -> String {
    format!(
        "version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"cdh.toml\" = '''\n[kbc]\nname = \"cc_kbc\"\nurl = \
         \"{}\"\nkbs_cert = \"\"\"\n{}\"\"\"\n'''\n",
        fake.url(),
        fake.root_pem
    )
}

#[tokio::test]
async fn s42_init_data_counts_when_it_was_measured() {
    let fake = Fake::start().await;
    let text = init_data(&fake);
    let tee = EmulatedTee::launch(evidence::Platform::Snp, b"a guest", text.as_bytes());

    let measured = Measured::of(&*tee, None).expect("init-data").expect("measured");
    assert_eq!(measured.broker().url.as_ref().map(ToString::to_string), Some(fake.url()));
    assert!(Measured::of(&*tee, Some(text.as_bytes())).is_ok(), "the same, given as a file");

    let other = text.replace("localhost", "evil.example");
    let refused = Measured::of(&*tee, Some(other.as_bytes())).expect_err("not measured");
    assert!(matches!(&refused, InitDataError::NotMeasured { .. }), "{refused}");
    let none = Measured::of(&*self::tee(), None).expect("nothing was measured");
    assert!(none.is_none());
    let refused = Measured::of(&*self::tee(), Some(text.as_bytes())).expect_err("nothing was measured");
    assert!(matches!(refused, InitDataError::NotMeasured { .. }));

    let broker =
        Broker::new(fake.transport(), Attester::Tee(tee), Some(measured.init_data().clone()), Mode::Session);
    broker.token().await.expect("attested");
    let seen = fake.state(|state| state.attestations[0].init_data.clone().expect("it came along"));
    assert_eq!(seen, InitData::parse(&text).expect("init-data"));
}

#[test]
fn s42_a_launch_configuration_that_is_no_init_data_is_not_ignored() {
    let measured = |text: &str| {
        Measured::of(&*EmulatedTee::launch(evidence::Platform::Snp, b"a guest", text.as_bytes()), None)
    };
    assert!(matches!(measured("{\"Broker\":\"https://x\"}"), Err(InitDataError::Malformed(..))));
    let unknown =
        "version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"cdh.toml\" = '[kbc]\ninsecure = true'\n";
    let unknown = unknown.replace("'[kbc]\ninsecure = true'", "\"[kbc]\\ninsecure = true\"");
    assert!(matches!(measured(&unknown), Err(InitDataError::Settings(SettingsError::Toml(_)))));
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_given_up_in_the_end() {
    let fake = Fake::start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let url = format!("https://localhost:{port}").parse().expect("a URL");
    let transport = guest::transport::Transport::new(url, std::slice::from_ref(&fake.root)).expect("a root");
    let broker = Broker::new(transport, Attester::Tee(tee()), None, Mode::Session);
    let error = broker.waiting(Duration::from_millis(1)).token().await.expect_err("nobody is there");
    assert!(matches!(error, BrokerError::Transport(_)));
    assert!(error.remedy().contains("can be reached"));
}
