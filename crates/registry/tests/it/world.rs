//! What the tests share: a workload, keys, and packages.

use appraisal::UnixTime;
use package::{Build, Built, Digest, Pinned, Repository, SignedStatement};
use reference_statements::{Signer, Signers, SigningKey};
use registry::{Client, Credentials, Security, Wanted};
use testkit::registry::Registry;
use zeroize::Zeroizing;

pub const NOW: UnixTime = UnixTime(1_800_000_000);
pub const WASM: &[u8] = b"\0asm\x01\0\0\0\0\x04\x03abc";

pub fn clock() -> attested_tls::clock::Clock {
    attested_tls::clock::system()
}

pub fn repository(host: &str) -> Repository {
    format!("{host}/team/app").parse().unwrap()
}

pub fn build(name: &Repository, version: &str) -> Build {
    Build { name: name.clone(), version: version.parse().unwrap(), config: None }
}

pub fn built(name: &Repository, version: &str) -> Built {
    build(name, version).of(WASM).unwrap()
}

pub fn pinned(repository: &Repository, digest: Digest) -> Pinned {
    Pinned { repository: repository.clone(), digest }
}

pub fn key() -> SigningKey {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    SigningKey::from_pem(&pair.serialize_pem()).unwrap()
}

pub fn signers(key: &SigningKey) -> Signers {
    [("release".to_owned(), Signer::Key { key: key.public().unwrap(), log: None })].into_iter().collect()
}

pub fn wanted(name: &Repository, minimum: &str, key: &SigningKey) -> Wanted {
    Wanted::Signed { name: name.clone(), signers: signers(key), minimum: minimum.parse().unwrap() }
}

/// A bundle of a statement about the package as it says of itself.
pub fn bundle(key: &SigningKey, digest: Digest) -> Vec<u8> {
    key.bundle(&SignedStatement { digest, name: None, version: None }.to_json()).unwrap()
}

pub fn client(registry: &Registry, credentials: Option<(&str, &str)>) -> Client {
    let security = Security::roots([registry.root.clone()], clock()).unwrap();
    let credentials = credentials.map(|(username, password)| Credentials {
        username: username.into(),
        password: Zeroizing::new(password.into()),
    });
    Client::new(&registry.host, security, credentials).unwrap()
}
