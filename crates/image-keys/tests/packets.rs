//! Packets: what others wrote is read, what we write is what others read, and what was changed is refused.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use image_keys::{Form, Kek, KekError, KeyName, Packet, PacketError};
use proptest::prelude::*;
use serde_json::{Value, json};

const KEK: [u8; 32] = *b"0123456789abcdef0123456789abcdef";
const OPTIONS: &[u8] = br#"{"symkey":"AAAA","cipheroptions":{"nonce":"AAAA"},"digest":"sha256:00"}"#;

fn kek() -> Kek {
    Kek::new(&KEK).unwrap()
}

fn key() -> KeyName {
    "kbs:///default/key/1".parse().unwrap()
}

fn value(packet: &Packet) -> Value {
    serde_json::from_slice(&packet.to_json()).unwrap()
}

fn read(value: &Value) -> Result<Packet, PacketError> {
    Packet::parse(value.to_string().as_bytes())
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

/// Ciphertext and tag under [`KEK`], by none of our code.
fn sealed(iv: [u8; 12]) -> Vec<u8> {
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEK).unwrap());
    let mut wrapped = OPTIONS.to_vec();
    cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), Aad::empty(), &mut wrapped).unwrap();
    wrapped
}

fn coco() -> Value {
    json!({ "kid": "kbs:///default/key/1", "wrapped_data": base64(&sealed([7; 12])), "iv": base64(&[7; 12]), "wrap_type": "A256GCM" })
}

fn of_verdictd() -> Value {
    json!({ "kid": "3f2b0c1e-9a50-4f4b-8c63-1f4d9a0b7c11", "wrapped_data": sealed([9; 12]), "iv": vec![9; 12], "algorithm": "AES", "key_length": 256 })
}

/// As made by another implementation: Python's `cryptography` 48.0.0, `AESGCM(b"0123456789abcdef" * 2).encrypt(bytes(12),
/// b"layer key", None)`.
#[test]
fn a_packet_of_another_implementation_opens() {
    let packet = read(&json!({
        "kid": "kbs:///default/key/1", "iv": "AAAAAAAAAAAAAAAA", "wrap_type": "A256GCM",
        "wrapped_data": "ohLYZGAjND2WK65Mcs0rqpbST+xJu/LV1Q==",
    }))
    .unwrap();
    assert_eq!(kek().unwrap(&packet).unwrap().as_slice(), b"layer key");
}

#[test]
fn cocos_first_version_is_read() {
    let packet = read(&coco()).unwrap();
    assert_eq!((&packet.form, &packet.key), (&Form::CocoV1, &key()));
    assert_eq!(kek().unwrap(&packet).unwrap().as_slice(), OPTIONS);
    assert_eq!(value(&packet), coco());
}

#[test]
fn cocos_second_version_is_read_and_written() {
    let mut packet = coco();
    packet["version"] = json!("0.1.0");
    packet["provider"] = json!("kbs");
    packet["provider_settings"] = json!({});
    packet["annotations"] = json!({ "of": "others" });
    let read_back = read(&packet).unwrap();
    assert_eq!(read_back.form, Form::CocoV2);
    assert_eq!(kek().unwrap(&read_back).unwrap().as_slice(), OPTIONS);
    packet["annotations"] = json!({});
    assert_eq!(value(&read_back), packet);
    // Members that have defaults may be missing.
    for member in ["version", "provider", "provider_settings", "annotations"] {
        let mut without = packet.clone();
        without.as_object_mut().unwrap().remove(member);
        assert_eq!(read(&without).unwrap().form, Form::CocoV2, "{member}");
    }
}

#[test]
fn verdictds_form_is_read() {
    let packet = read(&of_verdictd()).unwrap();
    assert_eq!(packet.form, Form::Verdictd);
    assert_eq!(packet.key.path(), "default/key/3f2b0c1e-9a50-4f4b-8c63-1f4d9a0b7c11");
    assert_eq!(kek().unwrap(&packet).unwrap().as_slice(), OPTIONS);
    assert_eq!(value(&packet), of_verdictd());
}

/// What guests in the field do with what we write: kbs is the provider, nothing is authenticated beside the ciphertext.
#[test]
fn what_is_written_for_guests_that_read_the_key_is_cocos() {
    let packet = value(&kek().wrap(&key(), OPTIONS).unwrap());
    assert_eq!((&packet["version"], &packet["provider"]), (&json!("0.1.0"), &json!("kbs")));
    assert_eq!((&packet["kid"], &packet["wrap_type"]), (&json!("kbs:///default/key/1"), &json!("A256GCM")));
    assert!(packet["provider_settings"].is_object() && packet["annotations"].is_object());
    use base64::{Engine, engine::general_purpose::STANDARD};
    let bytes = |member: &str| STANDARD.decode(packet[member].as_str().unwrap()).unwrap();
    let (iv, mut wrapped) = (bytes("iv"), bytes("wrapped_data"));
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &KEK).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(&iv).unwrap();
    assert_eq!(cipher.open_in_place(nonce, Aad::empty(), &mut wrapped).unwrap(), OPTIONS);
}

#[test]
fn nonces_are_not_repeated() {
    let iv = || value(&kek().wrap(&key(), OPTIONS).unwrap())["iv"].clone();
    assert_ne!(iv(), iv());
}

/// Ours authenticates the name: a packet cannot be moved to another name of the same key, whose policy may be another.
#[test]
fn a_packet_that_the_broker_unwraps_is_bound_to_its_name() {
    let packet = kek().wrap_bound(&key(), None, OPTIONS).unwrap();
    assert_eq!(kek().unwrap(&read(&value(&packet)).unwrap()).unwrap().as_slice(), OPTIONS);
    let mut moved = value(&packet);
    moved["kid"] = json!("kbs:///default/key/2");
    assert_eq!(kek().unwrap(&read(&moved).unwrap()).unwrap_err(), KekError::NotOpened);
    // Nor can it be made into one that is not bound.
    let mut unbound = value(&packet);
    unbound["provider"] = json!("kbs");
    assert_eq!(kek().unwrap(&read(&unbound).unwrap()).unwrap_err(), KekError::NotOpened);
    let mut bound = coco();
    bound["provider"] = json!("bailey");
    assert_eq!(kek().unwrap(&read(&bound).unwrap()).unwrap_err(), KekError::NotOpened);
}

#[test]
fn the_data_key_of_a_store_is_bound_too() {
    let packet = kek().wrap_bound(&key(), Some(b"as the store made it".to_vec()), OPTIONS).unwrap();
    let whole = read(&value(&packet)).unwrap();
    assert_eq!(whole, packet);
    assert_eq!(kek().unwrap(&whole).unwrap().as_slice(), OPTIONS);
    for settings in [json!({}), json!({ "data_key": base64(b"another") })] {
        let mut changed = value(&packet);
        changed["provider_settings"] = settings;
        assert_eq!(kek().unwrap(&read(&changed).unwrap()).unwrap_err(), KekError::NotOpened);
    }
    for settings in [json!({ "data_key": 1 }), json!({ "data_key": "" }), json!({ "data_key": "%" })] {
        let mut changed = value(&packet);
        changed["provider_settings"] = settings;
        assert!(matches!(read(&changed), Err(PacketError::Member { member: "provider_settings", .. })));
    }
}

#[test]
fn another_key_opens_nothing() {
    let other = Kek::new(&[1; 32]).unwrap();
    for packet in [coco(), of_verdictd()] {
        assert_eq!(other.unwrap(&read(&packet).unwrap()).unwrap_err(), KekError::NotOpened);
    }
    for length in [0, 16, 31, 33, 64] {
        assert_eq!(Kek::new(&vec![1; length]).unwrap_err(), KekError::Length { seen: length });
    }
}

/// CoCo writes it on request. Nothing in it would tell that the layer's key was changed.
#[test]
fn ctr_is_refused_with_the_reason() {
    let mut packet = coco();
    packet["wrap_type"] = json!("A256CTR");
    packet["iv"] = json!(base64(&[7; 16]));
    assert_eq!(read(&packet), Err(PacketError::NotAuthenticated));
    assert!(PacketError::NotAuthenticated.to_string().contains("authenticates nothing"));
}

/// Defect of verdictd: where encryption fails it answers a packet that holds `[0]`.
#[test]
fn a_packet_that_says_nothing_is_refused() {
    for nothing in [json!([0]), json!([]), json!(""), json!(base64(&[0; 16]))] {
        for mut packet in [coco(), of_verdictd()] {
            packet["wrapped_data"] = nothing.clone();
            assert!(matches!(read(&packet), Err(PacketError::Member { member: "wrapped_data", .. })));
        }
    }
    assert_eq!(kek().wrap(&key(), b"").unwrap_err(), KekError::Options { seen: 0 });
    assert_eq!(kek().wrap(&key(), &[0; 4097]).unwrap_err(), KekError::Options { seen: 4097 });
}

/// Defect of verdictd: the name of a key is joined to a folder's path.
#[test]
fn traversal_in_a_packets_key_is_refused() {
    for kid in
        ["../../etc/shadow", "kbs:///../../etc", "kbs:///a/b/../c", "/etc/shadow", "a/%2e%2e/c", "a\0b"]
    {
        for mut packet in [coco(), of_verdictd()] {
            packet["kid"] = json!(kid);
            assert!(matches!(read(&packet), Err(PacketError::Key(_))), "{kid:?}");
        }
    }
}

#[test]
fn members_that_are_missing_or_odd_are_refused() {
    for member in ["kid", "wrapped_data", "iv", "wrap_type"] {
        for other in [Value::Null, json!({}), json!(7), json!("%")] {
            let mut packet = coco();
            packet[member] = other.clone();
            assert!(read(&packet).is_err(), "{member} {other}");
        }
    }
    for (member, other) in
        [("algorithm", json!("RSA")), ("key_length", json!(128)), ("iv", json!(vec![9; 16]))]
    {
        let mut packet = of_verdictd();
        packet[member] = other;
        assert!(read(&packet).is_err(), "{member}");
    }
    let with = |base: Value, member: &str, other: Value| {
        let mut packet = base;
        packet[member] = other;
        read(&packet).unwrap_err()
    };
    assert!(matches!(with(coco(), "version", json!("0.2.0")), PacketError::Member { member: "version", .. }));
    assert_eq!(with(coco(), "provider", json!("aliyun")), PacketError::Provider);
    assert_eq!(with(coco(), "wrap_type", json!("A128GCM")), PacketError::Algorithm);
    assert!(matches!(with(of_verdictd(), "wrap_type", json!("A256GCM")), PacketError::Member { .. }));
    assert!(Packet::parse(br#"{"kid":"kbs:///a/b/c","kid":"kbs:///d/e/f"}"#).is_err());
    assert_eq!(Packet::parse(&vec![b' '; image_keys::packet::MAX_PACKET + 1]), Err(PacketError::TooLong));
}

proptest! {
    #[test]
    fn whatever_is_wrapped_is_unwrapped(options in prop::collection::vec(any::<u8>(), 1..=4096), bound: bool) {
        let packet = match bound {
            true => kek().wrap_bound(&key(), None, &options),
            false => kek().wrap(&key(), &options),
        };
        let read = Packet::parse(&packet.unwrap().to_json()).unwrap();
        let unwrapped = kek().unwrap(&read).unwrap();
        prop_assert_eq!(unwrapped.as_slice(), options.as_slice());
    }

    /// Each bit of what was wrapped, and of the nonce.
    #[test]
    fn a_changed_bit_is_refused(at in 0..8 * (12 + OPTIONS.len() + 16)) {
        let (mut iv, mut wrapped) = ([7; 12], sealed([7; 12]));
        let bit = 1 << (at % 8);
        match at / 8 {
            byte @ 0..12 => iv[byte] ^= bit,
            byte => wrapped[byte - 12] ^= bit,
        }
        let mut packet = coco();
        packet["iv"] = json!(base64(&iv));
        packet["wrapped_data"] = json!(base64(&wrapped));
        prop_assert_eq!(kek().unwrap(&read(&packet).unwrap()).unwrap_err(), KekError::NotOpened);
    }
}
