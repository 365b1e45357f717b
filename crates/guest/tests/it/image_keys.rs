//! The key provider in a guest: ocicrypt's protocol on one side, a broker on the other.

use std::sync::Arc;

use ::image_keys::{Kek, KeyName, Operation, Packet, ProviderError};
use serde_json::{Value, json};

use crate::fake::{Fake, Fault};

const OPTIONS: &[u8] = br#"{"symkey":"a2V5","cipheroptions":{"nonce":"bm9uY2U="},"digest":"sha256:00"}"#;
const KEY: &str = "kbs:///default/kek/1";

fn request(packet: &Packet) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    json!({
        "op": "keyunwrap", "keywrapparams": null,
        "keyunwrapparams": {
            "dc": { "Parameters": { "attestation-agent": [STANDARD.encode("any")] } },
            "annotation": STANDARD.encode(packet.to_json()),
        },
    })
    .to_string()
    .into_bytes()
}

async fn unwrapped(fake: &Fake, packet: &Packet) -> Result<Vec<u8>, ProviderError> {
    let provider = guest::image_keys::provider(Arc::new(fake.guest()));
    let answer = provider.answer_to(Operation::Unwrap, &request(packet)).await?;
    let answer: Value = serde_json::from_slice(&answer).expect("JSON");
    let bytes = answer["keyunwrapresults"]["optsdata"].as_array().expect("an array").iter();
    Ok(bytes.map(|byte| u8::try_from(byte.as_u64().expect("a number")).expect("a byte")).collect())
}

fn wrapped() -> (Kek, Packet) {
    let kek = Kek::new(&[7; 32]).expect("a key");
    let packet = kek.wrap(&KEY.parse::<KeyName>().expect("a name"), OPTIONS).expect("wrapped");
    (kek, packet)
}

#[tokio::test]
async fn a_layer_key_is_unwrapped_with_a_key_that_the_broker_releases() {
    let fake = Fake::start().await;
    let (_, packet) = wrapped();
    fake.put("default/kek/1", &[7; 32]);
    assert_eq!(unwrapped(&fake, &packet).await.expect("unwrapped"), OPTIONS);
    assert_eq!(fake.asked("unwrap-key"), 0);

    fake.put("default/kek/1", &[8; 32]);
    assert!(unwrapped(&fake, &packet).await.is_err(), "another key");
}

#[tokio::test]
async fn a_layer_key_is_unwrapped_by_a_broker_that_keeps_the_key() {
    let fake = Fake::start().await;
    let (kek, packet) = wrapped();
    // Ours, which says so: nobody asks for the key.
    let bound = kek.wrap_bound(&KEY.parse::<KeyName>().expect("a name"), None, OPTIONS).expect("wrapped");
    fake.unwraps(OPTIONS);
    assert_eq!(unwrapped(&fake, &bound).await.expect("unwrapped"), OPTIONS);
    assert_eq!((fake.asked("resource"), fake.asked("unwrap-key")), (0, 1));
    // Of Confidential Containers: the key is denied, and the broker may yet unwrap.
    assert_eq!(unwrapped(&fake, &packet).await.expect("unwrapped"), OPTIONS);
    assert_eq!((fake.asked("resource"), fake.asked("unwrap-key")), (1, 2));
}

#[tokio::test]
async fn what_is_denied_names_nothing_and_guests_wrap_nothing() {
    let fake = Fake::start().await;
    let (_, packet) = wrapped();
    let said = unwrapped(&fake, &packet).await.expect_err("denied").to_string();
    assert!(!said.contains("kek"), "{said}");
    fake.faults("kek", (0..100).map(|_| Fault::Status(503, "Unavailable")));
    assert!(unwrapped(&fake, &packet).await.is_err());
    let provider = guest::image_keys::provider(Arc::new(fake.guest()));
    let wrap = json!({
        "op": "keywrap",
        "keywrapparams": { "ec": { "Parameters": { "attestation-agent": ["YW55"] }, "DecryptConfig": null },
                           "optsdata": "e30=" },
        "keyunwrapparams": null,
    });
    let refused = provider.answer_to(Operation::Wrap, wrap.to_string().as_bytes()).await;
    assert!(matches!(refused, Err(ProviderError::NotOffered(Operation::Wrap))), "{refused:?}");
}
