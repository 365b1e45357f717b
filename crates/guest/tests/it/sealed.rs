//! Sealed secrets, opened in a guest.

use guest::{Guest, GuestError, broker::Mode, evidence::Attester, source::Source, unseal::UnsealError};
use sealed_secret::{KeyId, SigningKey};

use crate::{
    fake::{Fake, tee},
    fetching::uri,
};

struct Sealing {
    fake: Fake,
    key: SigningKey,
    folder: tempfile::TempDir,
}

impl Sealing {
    async fn new() -> Self {
        let (fake, key) = (Fake::start().await, SigningKey::generate().expect("a key"));
        fake.put("default/password/db", b"open sesame");
        let folder = tempfile::tempdir().expect("a folder");
        Self { fake, key, folder }
    }

    fn vault(&self, kid: &str) -> Source {
        let kid: KeyId = kid.parse().expect("a key");
        let text = sealed_secret::vault(&uri("kbs:///default/password/db"), &kid, &self.key).expect("sealed");
        text.parse().expect("a source")
    }

    async fn open(&self, source: Source) -> Result<Vec<u8>, UnsealError> {
        let keys = Some(self.folder.path().to_owned());
        let guest = Guest::new(Attester::Tee(tee()), self.fake.broker(Mode::Session), keys);
        match guest.secret(source).await {
            Ok(secret) => Ok(secret.to_vec()),
            Err(GuestError::Unseal(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_vault_secret_is_opened_with_a_key_of_the_broker_or_of_a_folder() {
    let sealing = Sealing::new().await;
    let jwk = sealing.key.verifying_key().to_jwk();
    sealing.fake.put("default/key/sealing", jwk.as_bytes());
    let opened = sealing.open(sealing.vault("kbs:///default/key/sealing")).await.expect("opened");
    assert_eq!(opened, b"open sesame");

    std::fs::write(sealing.folder.path().join("sealing.jwk"), jwk).expect("written");
    let opened = sealing.open(sealing.vault("sealing.jwk")).await.expect("opened");
    assert_eq!(opened, b"open sesame");
}

#[tokio::test]
async fn nothing_is_fetched_for_a_secret_that_does_not_verify() {
    let sealing = Sealing::new().await;
    let other = SigningKey::generate().expect("a key").verifying_key().to_jwk();
    sealing.fake.put("default/key/sealing", other.as_bytes());
    let error =
        sealing.open(sealing.vault("kbs:///default/key/sealing")).await.expect_err("another's signature");
    assert!(matches!(error, UnsealError::Sealed(sealed_secret::SealedError::Signature)), "{error}");
    assert_eq!(sealing.fake.asked("password"), 0);
}

#[tokio::test]
async fn a_secret_without_its_key_stays_closed() {
    let sealing = Sealing::new().await;
    let error = sealing.open(sealing.vault("kbs:///default/key/none")).await.expect_err("no key");
    assert!(matches!(error, UnsealError::VerifyingKey(_)), "{error}");
    let error = sealing.open(sealing.vault("none.jwk")).await.expect_err("no key");
    assert!(matches!(error, UnsealError::File { .. }), "{error}");
    std::os::unix::fs::symlink("/etc/hostname", sealing.folder.path().join("link.jwk")).expect("a link");
    let error = sealing.open(sealing.vault("link.jwk")).await.expect_err("a link");
    assert!(matches!(error, UnsealError::File { .. }), "{error}");
    let guest = Guest::new(Attester::Tee(tee()), sealing.fake.broker(Mode::Session), None);
    let error = guest.secret(sealing.vault("sealing.jwk")).await.expect_err("no folder");
    assert!(matches!(error, GuestError::Unseal(UnsealError::NoFolder)), "{error}");
}
