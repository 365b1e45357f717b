//! Against the distribution project's registry.

use std::sync::Mutex;

use async_trait::async_trait;
use image_keys::{Kek, KeyName, Packet};
use package::{Reference, Wasm};
use registry::{Opener, PackageError, RegistryError, Sealed, Wanted, attach, encrypt, fetch, push};
use testkit::registry::{Registry, USER};
use zeroize::Zeroizing;

use crate::world::*;

#[tokio::test]
async fn a_package_is_pushed_and_pulled_by_digest() {
    let Some(registry) = Registry::open() else { return };
    let (client, repository) = (client(&registry, None), repository(&registry.host));
    let built = built(&repository, "1.2.0");
    let to: Reference = format!("{repository}:1.2.0").parse().unwrap();
    let mut sizes = Vec::new();
    let digest = push(&client, &to, &built, |size| sizes.push(size)).await.unwrap();
    assert_eq!((digest, sizes.len()), (built.digest(), 2));
    assert_eq!(client.resolve(&to).await.unwrap(), digest);

    let fetched = fetch(&client, &Wanted::Exactly, &pinned(&repository, digest), NOW, &Sealed).await.unwrap();
    assert_eq!((fetched.workload.as_slice(), fetched.release), (WASM, None));
    assert_eq!(fetched.artefact.version.unwrap().to_string(), "1.2.0");

    // Once more: nothing is sent that is there.
    assert_eq!(push(&client, &to, &built, |_| {}).await.unwrap(), digest);
    let unknown = pinned(&repository, package::Digest::of(b""));
    let unknown = fetch(&client, &Wanted::Exactly, &unknown, NOW, &Sealed).await;
    let missing = RegistryError::NotFound { what: "manifest" };
    assert_eq!(unknown.unwrap_err(), PackageError::Registry(missing));
}

#[tokio::test]
async fn a_signed_package_is_pulled_by_who_signed_it() {
    let Some(registry) = Registry::open() else { return };
    let (client, repository, key) = (client(&registry, None), repository(&registry.host), key());
    let to: Reference = repository.to_string().parse().unwrap();
    let digest = push(&client, &to, &built(&repository, "1.2.0"), |_| {}).await.unwrap();
    let (wanted, pinned) = (wanted(&repository, "1.0.0", &key), pinned(&repository, digest));

    assert_eq!(fetch(&client, &wanted, &pinned, NOW, &Sealed).await.unwrap_err(), PackageError::Unsigned);
    let other = bundle(&crate::world::key(), digest);
    attach(&client, &repository, digest, &other).await.unwrap();
    let refused = fetch(&client, &wanted, &pinned, NOW, &Sealed).await.unwrap_err();
    assert_eq!(refused.code(), "WORKLOAD_SIGNER_UNKNOWN");

    // This registry keeps no lists of referrers: the second one is joined to the first under the tag.
    attach(&client, &repository, digest, &bundle(&key, digest)).await.unwrap();
    let fetched = fetch(&client, &wanted, &pinned, NOW, &Sealed).await.unwrap();
    let release = fetched.release.unwrap();
    assert_eq!((release.signer.as_str(), release.version.to_string().as_str()), ("release", "1.2.0"));
    assert_eq!(client.referrers(&repository, digest).await.unwrap().bundles().count(), 2);
}

#[tokio::test]
async fn a_private_registry_wants_credentials_and_gets_them_over_tls_only() {
    let Some(registry) = Registry::private() else { return };
    let repository = repository(&registry.host);
    let (built, to): (_, Reference) = (built(&repository, "1.0.0"), repository.to_string().parse().unwrap());
    for (credentials, given) in [(None, false), (Some((USER.0, "wrong")), true)] {
        let refused = push(&client(&registry, credentials), &to, &built, |_| {}).await;
        assert_eq!(refused, Err(RegistryError::Unauthorised { given }));
    }
    let client = client(&registry, Some(USER));
    let digest = push(&client, &to, &built, |_| {}).await.unwrap();
    let fetched = fetch(&client, &Wanted::Exactly, &pinned(&repository, digest), NOW, &Sealed).await;
    assert_eq!(fetched.unwrap().workload, WASM);
}

/// A key at hand, that counts how often it is asked.
struct AtHand(Kek, Mutex<u32>);

#[async_trait]
impl Opener for AtHand {
    async fn open(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        *self.1.lock().unwrap() += 1;
        let packet = Packet::parse(packet).map_err(|error| error.to_string())?;
        self.0.unwrap(&packet).map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn an_encrypted_package_opens_by_its_key_and_by_no_other() {
    let Some(registry) = Registry::open() else { return };
    let (client, repository) = (client(&registry, None), repository(&registry.host));
    let (kek, name) = (Kek::generate().unwrap(), "kbs:///default/key/app".parse::<KeyName>().unwrap());
    let encrypted = encrypt(WASM).unwrap();
    assert_ne!(encrypted.ciphertext, WASM);
    let packet = kek.wrap_bound(&name, None, &encrypted.options).unwrap().to_json();
    let built = build(&repository, "1.0.0")
        .of_encrypted(Wasm::Module, encrypted.ciphertext, encrypted.hmac, ("bailey", &packet))
        .unwrap();
    let to: Reference = repository.to_string().parse().unwrap();
    let digest = push(&client, &to, &built, |_| {}).await.unwrap();
    let pinned = pinned(&repository, digest);

    let opener = AtHand(kek, Mutex::new(0));
    let fetched = fetch(&client, &Wanted::Exactly, &pinned, NOW, &opener).await.unwrap();
    assert_eq!((fetched.workload.as_slice(), *opener.1.lock().unwrap()), (WASM, 1));
    let other = AtHand(Kek::generate().unwrap(), Mutex::new(0));
    for opener in [&Sealed as &dyn Opener, &other] {
        let refused = fetch(&client, &Wanted::Exactly, &pinned, NOW, opener).await.unwrap_err();
        assert_eq!(refused.code(), "WORKLOAD_KEY_NOT_OPENED");
    }
}

#[tokio::test]
async fn a_registry_is_known_by_its_roots() {
    let Some(registry) = Registry::open() else { return };
    let security = registry::Security::web(clock()).unwrap();
    let client = registry::Client::new(&registry.host, security, None).unwrap();
    let reference = repository(&registry.host).to_string().parse().unwrap();
    assert_eq!(client.resolve(&reference).await.unwrap_err().code(), "REGISTRY_UNTRUSTED");
}
