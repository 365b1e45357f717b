//! A guest and a broker, without a network between them.

use evidence::coco::Sample;
use rcar::client::{Exchange, ExchangeError, HttpAnswer, HttpRequest, Session};
use rcar::{
    Attestation, Challenge, ErrorBody, ErrorType, InitData, KeyAlgorithm, Opened, PrivateKey, Request,
    ResourceUri, Tee,
};
use serde_json::{Value, json};

const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln";

fn answer<'a>(status: u16, set_cookie: &'a [&'a str], body: &'a str) -> HttpAnswer<'a> {
    HttpAnswer { status, set_cookie, body: body.as_bytes() }
}

fn body(request: &HttpRequest) -> &[u8] {
    request.body.as_deref().unwrap_or_default().as_bytes()
}

fn uri() -> ResourceUri {
    "kbs:///default/key/1".parse().expect("a resource")
}

fn key() -> PrivateKey {
    PrivateKey::generate(KeyAlgorithm::default()).expect("a key")
}

#[test]
fn a_guest_gets_its_resource() {
    let toml = "version = \"0.1.0\"\nalgorithm = \"sha256\"\n";
    let exchange = Exchange::new(Tee::Sample, key(), Some(InitData::parse(toml).expect("init-data")));
    let first = exchange.request();
    assert_eq!((first.method, first.target.as_str()), ("POST", "/kbs/v0/auth"));
    // The broker.
    let request = Request::parse(body(&first)).expect("a request");
    let challenge = Challenge::new(&[3; 32]);
    let opened = Opened { version: request.version, tee: request.tee, nonce: challenge.nonce().into() };
    // The guest.
    let text = challenge.to_json().to_string();
    let cookies = ["other=1", "kbs-session-id=abc.DEF; Path=/kbs; Secure; HttpOnly"];
    let challenged = exchange.challenged(&answer(200, &cookies, &text)).expect("challenged");
    let device = Sample { svn: "2".into(), report_data: challenged.device_digest() };
    let devices = format!("{{\"sampledevice\":{}}}", device.to_json().expect("JSON"));
    let cpu = Sample { svn: "1".into(), report_data: challenged.digest(&devices) };
    let primary: Value = serde_json::from_str(&cpu.to_json().expect("JSON")).expect("JSON");
    let attesting = challenged.attest(&primary, &devices);
    let second = attesting.request();
    assert_eq!((second.method, second.target.as_str()), ("POST", "/kbs/v0/attest"));
    assert_eq!(second.cookie.as_deref(), Some("kbs-session-id=abc.DEF"));
    // The broker.
    let attestation = Attestation::parse(body(second), &opened).expect("an attestation");
    assert_eq!(attestation.init_data.as_ref().map(InitData::body), Some(toml));
    for piece in attestation.pieces() {
        let sample = Sample::parse(piece.json().as_bytes()).expect("a stand-in");
        assert!(piece.digest().is_in_sample(&sample.report_data), "{}", piece.tee());
    }
    let token = json!({ "token": TOKEN }).to_string();
    // The guest.
    let session = attesting.answered(&answer(200, &[], &token)).expect("a session");
    assert_eq!(session.token(), TOKEN);
    let third = session.request(&uri());
    assert_eq!((third.method, third.target.as_str()), ("GET", "/kbs/v0/resource/default/key/1"));
    assert_eq!(third.cookie.as_deref(), Some("kbs-session-id=abc.DEF"));
    assert_eq!((third.authorization.as_deref(), third.body.as_deref()), (None, None));
    // The broker encrypts to the key that Evidence covers.
    let jwe = attestation.runtime_data.tee_pubkey.encrypt(b"secret").expect("a JWE").to_json().to_string();
    assert_eq!(session.resource(&answer(200, &[], &jwe)).expect("a resource").as_slice(), b"secret");
}

#[test]
fn a_passport_is_shown_with_each_request() {
    let session = Session::passport(TOKEN.into(), key()).expect("a session");
    let request = session.request(&uri());
    assert_eq!(request.authorization, Some(format!("Bearer {TOKEN}")));
    assert_eq!(request.cookie, None);
    for wrong in ["", "a.b", "a.b.c.d", "a.b.c\r\nX: y", "a.b.c=", "a.b.c d", "a.b.ä"] {
        assert!(Session::passport(wrong.into(), key()).is_err(), "{wrong:?}");
    }
}

#[test]
fn refusals_are_told_apart() {
    let denied = ErrorBody::new(ErrorType::PolicyDeny, "not granted");
    let text = denied.to_json().to_string();
    let session = Session::passport(TOKEN.into(), key()).expect("a session");
    for (status, again) in [(401, true), (403, false), (404, false), (503, false)] {
        let refused = session.resource(&answer(status, &[], &text)).expect_err("refused");
        assert_eq!(refused.is_unauthenticated(), again, "{status}");
        assert_eq!(refused, ExchangeError::Refused { status, error: Some(denied.clone()) });
        assert_eq!(refused.to_string(), format!("the broker answers {status} PolicyDeny: not granted"));
    }
    let html = session.resource(&answer(502, &[], "<html>")).expect_err("refused");
    assert_eq!(html, ExchangeError::Refused { status: 502, error: None });
    assert_eq!(html.to_string(), "the broker answers 502");
}

#[test]
fn a_broker_that_does_not_keep_to_the_protocol_is_left() {
    let challenge = Challenge::new(&[3; 32]).to_json().to_string();
    let exchange = || Exchange::new(Tee::Sample, key(), None);
    for cookies in [
        &[][..],
        &["session=1"],
        &["kbs-session-id="],
        &["kbs-session-id"],
        &["kbs-session-id=a b"],
        &["kbs-session-id=a\r\nX: y"],
        &["xkbs-session-id=1"],
    ] {
        let refused = exchange().challenged(&answer(200, cookies, &challenge)).expect_err("no session");
        assert_eq!(refused, ExchangeError::NoSession, "{cookies:?}");
    }
    let cookies = ["kbs-session-id=1"];
    for wrong in ["", "{}", "{\"nonce\":\"\",\"extra-params\":\"\"}"] {
        assert!(exchange().challenged(&answer(200, &cookies, wrong)).is_err(), "{wrong}");
    }
    for wrong in ["", "{}", "{\"token\":1}", "{\"token\":\"x\"}", "{\"token\":\"a.b.c\\r\\n\"}"] {
        let challenged = exchange().challenged(&answer(200, &cookies, &challenge)).expect("challenged");
        let attesting = challenged.attest(&Value::Null, "");
        assert!(attesting.answered(&answer(200, &[], wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn s44_tokens_and_cookies_are_in_no_debug_text() {
    let session =
        Session::passport("secretheader.secretclaims.secretsignature".into(), key()).expect("a session");
    let request = session.request(&uri());
    let texts = format!("{session:?} {request:?}");
    assert!(!texts.contains("secret"), "{texts}");
    let private = format!("{:?}", key());
    assert!(private.starts_with("PrivateKey of PublicKey("), "{private}");
}
