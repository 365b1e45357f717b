//! PKCS #11 as a secret store, against Debian's SoftHSM (`apt-get install softhsm2`). The library reads its
//! configuration from the environment, and is one for the whole process: so each part runs in a process of its own, in
//! a folder of the test's.

use std::{path::Path, process::Command, sync::Arc};

use attested_tls::clock;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::{
        Mechanism, MechanismType,
        aead::GcmParams,
        rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource},
    },
    object::{Attribute, KeyType, ObjectClass},
    session::UserType,
    types::AuthPin,
};
use manifest::{Manifest, SecretSource, StoredPlace, WrapMechanism};
use secret_store::{Credential, SecretStore, StoreError, StoreKey, open};
use serde_json::{Value, json};
use testkit::tee::NOW;
use zeroize::Zeroizing;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "1234";

#[test]
fn a_token_keeps_secrets_and_opens_ciphertexts() {
    if !Path::new(MODULE).exists() {
        eprintln!("\n*** NOT RUN: {MODULE} is absent: apt-get install softhsm2 ***\n");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tokens")).unwrap();
    let configuration = folder.path().join("softhsm2.conf");
    let tokens = folder.path().join("tokens");
    std::fs::write(&configuration, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    let run = |command: &mut Command| {
        command.env("SOFTHSM2_CONF", &configuration).current_dir(folder.path());
        let output = command.output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        text
    };
    for label in ["bailey", "twin", "twin"] {
        let init = ["--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "567890"];
        run(Command::new("softhsm2-util").args(init));
    }
    std::fs::copy(MODULE, folder.path().join("library.so")).unwrap();
    for part in ["made", "values", "refusals", "other_libraries", "a_library_that_is_replaced"] {
        let text = run(Command::new(std::env::current_exe().unwrap()).args(["--exact", part, "--ignored"]));
        assert!(text.contains("1 passed"), "{text}");
    }
}

fn library_digest() -> String {
    let library = std::fs::read(MODULE).unwrap();
    format!(
        "sha256:{}",
        digest(&SHA256, &library).as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    )
}

fn manifest(library: &str, token: &str, place: Value) -> Manifest {
    let mut place = place;
    place["Name"] = json!("hsm");
    let document = json!({
        "Packages": { "app": { "UniqueID": "1a".repeat(32) } },
        "Marbles": { "web": { "Package": "app" } },
        "SecretStores": { "hsm": { "Pkcs11": { "Library": library, "Token": token, "Pin": "pin" } } },
        "Secrets": {
            "pin": { "Type": "plain", "UserDefined": true },
            "x": { "Type": "plain", "Store": place }
        }
    });
    Manifest::parse(document.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"))
}

fn place(place: Value) -> StoredPlace {
    match &manifest(&library_digest(), "bailey", place).secrets()["x"].source {
        SecretSource::Stored(at) => at.place.clone(),
        other => panic!("{other:?}"),
    }
}

fn object(label: &str) -> StoredPlace {
    place(json!({ "Object": label }))
}

fn wrapped(key: &str, mechanism: &str, ciphertext: &[u8]) -> StoredPlace {
    let ciphertext = BASE64.encode(ciphertext);
    place(json!({ "Wrapped": { "Key": key, "Mechanism": mechanism, "Ciphertext": ciphertext } }))
}

fn store_of(library: &str, token: &str, pin: &str) -> Arc<dyn SecretStore> {
    let manifest = manifest(library, token, json!({ "Object": "data" }));
    let pin = Credential::Text(Zeroizing::new(pin.as_bytes().to_vec()));
    let path = Path::new("library.so");
    open(&manifest.stores()["hsm"], pin, clock::fixed(NOW), Some(path)).unwrap()
}

fn store(pin: &str) -> Arc<dyn SecretStore> {
    store_of(&library_digest(), "bailey", pin)
}

async fn value(store: &dyn SecretStore, place: &StoredPlace) -> Result<Vec<u8>, StoreError> {
    store.fetch(place).await.map(|fetched| fetched.value.to_vec())
}

#[test]
#[ignore = "started by a_token_keeps_secrets_and_opens_ciphertexts"]
fn made() {
    let module = Pkcs11::new(MODULE).unwrap();
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slots = module.get_slots_with_initialized_token().unwrap();
    let slot =
        slots.into_iter().find(|slot| module.get_token_info(*slot).unwrap().label() == "bailey").unwrap();
    let session = module.open_rw_session(slot).unwrap();
    session.login(UserType::User, Some(&AuthPin::from(PIN.to_owned()))).unwrap();
    let name = |label: &str| Attribute::Label(label.as_bytes().to_vec());
    for label in ["data", "twice", "twice", "empty"] {
        let bytes = if label == "empty" { Vec::new() } else { b"kept in the token".to_vec() };
        let data = [
            Attribute::Class(ObjectClass::DATA),
            Attribute::Token(true),
            Attribute::Private(true),
            name(label),
            Attribute::Value(bytes),
        ];
        session.create_object(&data).unwrap();
    }
    let readable = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::GENERIC_SECRET),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
        name("readable"),
        Attribute::Value(vec![7; 32]),
    ];
    session.create_object(&readable).unwrap();
    let kept = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
        name("kept"),
    ];
    let key = session.generate_key(&Mechanism::AesKeyGen, &kept).unwrap();
    let mut nonce = [9; 12];
    let parameters = GcmParams::new(&mut nonce, &[], 128.into()).unwrap();
    let ciphertext = session.encrypt(&Mechanism::AesGcm(parameters), key, b"by AES").unwrap();
    std::fs::write("aes", [&[9; 12][..], &ciphertext].concat()).unwrap();
    let public = [
        Attribute::Token(true),
        Attribute::Encrypt(true),
        Attribute::ModulusBits(2048.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        name("rsa"),
    ];
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Decrypt(true),
        name("rsa"),
    ];
    let (public, _) = session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).unwrap();
    let oaep = PkcsOaepParams::new(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1, PkcsOaepSource::empty());
    let ciphertext = session.encrypt(&Mechanism::RsaPkcsOaep(oaep), public, b"by RSA").unwrap();
    std::fs::write("rsa", ciphertext).unwrap();
}

#[tokio::test]
#[ignore = "started by a_token_keeps_secrets_and_opens_ciphertexts"]
async fn values() {
    let store = store(&format!("{PIN}\n"));
    store.check().await.unwrap();
    assert_eq!(value(&*store, &object("data")).await.unwrap(), b"kept in the token");
    assert_eq!(value(&*store, &object("readable")).await.unwrap(), [7; 32]);
    let (aes, rsa) = (std::fs::read("aes").unwrap(), std::fs::read("rsa").unwrap());
    assert_eq!(value(&*store, &wrapped("kept", "AES-GCM", &aes)).await.unwrap(), b"by AES");
    assert_eq!(value(&*store, &wrapped("rsa", "RSA-OAEP-SHA1", &rsa)).await.unwrap(), b"by RSA");
    let key = StoreKey::Token { key: "kept".into(), mechanism: WrapMechanism::AesGcm };
    assert_eq!(store.decrypt(&key, &aes).await.unwrap().to_vec(), b"by AES");

    let rsa = StoreKey::Token { key: "rsa".into(), mechanism: WrapMechanism::RsaOaepSha1 };
    for key in [&key, &rsa] {
        let ciphertext = store.encrypt(key, b"a data key").await.unwrap();
        assert_ne!(ciphertext, store.encrypt(key, b"a data key").await.unwrap(), "no nonce twice");
        assert_eq!(store.decrypt(key, &ciphertext).await.unwrap().to_vec(), b"a data key");
    }
    let absent = StoreKey::Token { key: "absent".into(), mechanism: WrapMechanism::AesGcm };
    assert_eq!(store.encrypt(&absent, b"x").await.unwrap_err(), StoreError::Missing);
    let held = place(json!({ "Key": { "Label": "kept", "Mechanism": "AES-GCM" } }));
    assert_eq!(value(&*store, &held).await.unwrap_err(), StoreError::Denied, "it has no value for anyone");

    let mut changed = aes.clone();
    changed[20] ^= 1;
    // SoftHSM has one error for all that fails inside of it.
    assert!(store.decrypt(&key, &changed).await.is_err(), "the tag is checked");
    assert_eq!(store.decrypt(&key, &aes[..28]).await.unwrap_err(), StoreError::Rejected { status: 400 });
    store.fetch(&object("data")).await.unwrap();
}

#[tokio::test]
#[ignore = "started by a_token_keeps_secrets_and_opens_ciphertexts"]
async fn refusals() {
    let right = store(PIN);
    let refused = async |label: &str| value(&*right, &object(label)).await.unwrap_err();
    assert_eq!(refused("absent").await, StoreError::Missing);
    assert_eq!(refused("kept").await, StoreError::Denied, "the key does not leave the token");
    assert_eq!(refused("twice").await, StoreError::Ambiguous);
    let elsewhere = StoreKey::Transit { mount: "transit".into(), key: "k".into() };
    assert_eq!(right.decrypt(&elsewhere, b"x").await.unwrap_err(), StoreError::Missing);
    for token in ["nobody", "twin"] {
        let error = store_of(&library_digest(), token, PIN).check().await.unwrap_err();
        assert_eq!(error, StoreError::Unreachable("there is not one token of that label"), "{token}");
    }
    let wrong = store("9999");
    for _ in 0..20 {
        assert_eq!(wrong.check().await.unwrap_err(), StoreError::Denied);
    }
    // Tried once, so the token is not locked; although somebody was logged in, the PIN was asked for.
    store(PIN).check().await.unwrap();
    assert!(matches!(
        open(
            &manifest(&library_digest(), "bailey", json!({ "Object": "data" })).stores()["hsm"],
            Credential::Text(Zeroizing::new(PIN.as_bytes().to_vec())),
            clock::fixed(NOW),
            None
        ),
        Err(StoreError::NoLibrary)
    ));
}

#[tokio::test]
#[ignore = "started by a_token_keeps_secrets_and_opens_ciphertexts"]
async fn other_libraries() {
    let refused = async |library: &str| match store_of(library, "bailey", PIN).check().await.unwrap_err() {
        StoreError::Library(reason) => reason,
        other => panic!("{other:?}"),
    };
    let other = format!("sha256:{}", "00".repeat(32));
    assert!(refused(&other).await.contains("SHA-256"));
    std::fs::rename("library.so", "kept.so").unwrap();
    assert!(refused(&library_digest()).await.contains("no file"));
    std::os::unix::fs::symlink("kept.so", "library.so").unwrap();
    assert!(refused(&library_digest()).await.contains("a link"));
    std::fs::remove_file("library.so").unwrap();
    std::fs::write("library.so", b"no library").unwrap();
    let text = digest(&SHA256, b"no library");
    let text: String = text.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(refused(&format!("sha256:{text}")).await.contains("cannot be loaded"));
    assert!(refused(&library_digest()).await.contains("SHA-256"));
    std::fs::rename("kept.so", "library.so").unwrap();
    store(PIN).check().await.unwrap();
}

/// What was measured is what runs: the file may change behind our back, to no effect.
#[tokio::test]
#[ignore = "started by a_token_keeps_secrets_and_opens_ciphertexts"]
async fn a_library_that_is_replaced() {
    store(PIN).check().await.unwrap();
    std::fs::write("library.so", b"something else").unwrap();
    let again = store(PIN);
    assert_eq!(value(&*again, &object("data")).await.unwrap(), b"kept in the token");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    assert!(maps.contains("/memfd:pkcs11"), "it was loaded out of memory");
    assert!(!maps.contains("library.so"), "and not from the file");
}
