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
const LOG_CONTEXT: &[u8] = b"bailey/log-key/1";

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
        self.seal_as(CONTEXT, key)
    }

    /// The same for the key of the log: neither can be put in the other's place.
    pub(super) fn seal_log_key(&self, key: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.seal_as(LOG_CONTEXT, key)
    }

    fn seal_as(&self, context: &[u8], key: &[u8]) -> Result<Vec<u8>, Refusal> {
        let failed = || Refusal::Internal("a key could not be sealed".into());
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| failed())?;
        let mut body = key.to_vec();
        self.cipher()
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_append_tag(nonce, Aad::from(context), &mut body).ok()
            })
            .ok_or_else(failed)?;
        Ok([nonce.to_vec(), body].concat())
    }

    /// `None` where it was sealed by another TEE.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.open_as(CONTEXT, sealed)
    }

    /// `None` where it was sealed by another TEE.
    pub(super) fn open_log_key(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        self.open_as(LOG_CONTEXT, sealed)
    }

    fn open_as(&self, context: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
        let mut body = Zeroizing::new(body.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let length = self.cipher()?.open_in_place(nonce, Aad::from(context), &mut body).ok()?.len();
        body.truncate(length);
        Some(body)
    }

    fn cipher(&self) -> Option<LessSafeKey> {
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, self.0.as_slice()).ok()?))
    }
}
