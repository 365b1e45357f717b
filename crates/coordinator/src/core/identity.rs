//! CA keys in the log are sealed once more, under a key that only this TEE has: whoever recovers the state with
//! shares gets the mesh's data, and never the keys by which it identifies itself (S-46).

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use zeroize::Zeroizing;

use super::Refusal;

/// The key that seals CA keys.
#[derive(Clone)]
pub struct IdentityKey(Zeroizing<[u8; 32]>);

const CONTEXT: &[u8] = b"bailey/ca-key/1";

impl IdentityKey {
    /// Takes 32 secret bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// A fresh one.
    pub fn generate() -> Result<Self, Refusal> {
        Ok(Self(Zeroizing::new(super::secrets::random32()?)))
    }

    /// The bytes, to be sealed by the TEE.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Nonce, ciphertext, tag.
    pub(super) fn seal(&self, key: &[u8]) -> Result<Vec<u8>, Refusal> {
        let failed = || Refusal::Internal("a CA key could not be sealed".into());
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| failed())?;
        let mut body = key.to_vec();
        self.cipher()
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_append_tag(nonce, Aad::from(CONTEXT), &mut body).ok()
            })
            .ok_or_else(failed)?;
        Ok([nonce.to_vec(), body].concat())
    }

    /// `None` where it was sealed by another TEE.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = self.cipher()?.open_in_place(nonce, Aad::from(CONTEXT), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.0.as_slice()).ok()?))
    }
}
