//! What is sealed, how, and for which place: AES-256-GCM with the place as associated data.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest::{Context, SHA256},
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

use super::{Head, Place, StoreError};

pub(super) const SEALING_CONTEXT: &str = "coordinator/state/1";
pub(super) const RECOVERY_CONTEXT: &[u8] = b"coordinator/recovery/1";

/// Associated data of a record: its position and everything before it.
pub(super) fn position(at: &Place) -> [u8; 48] {
    labelled(b"record/1", at)
}

/// Associated data of a snapshot: the records that it stands for.
pub(super) fn snapshot_position(at: &Place) -> [u8; 48] {
    labelled(b"states/1", at)
}

fn labelled(label: &[u8; 8], at: &Place) -> [u8; 48] {
    let mut out = [0; 48];
    out[..8].copy_from_slice(label);
    out[8..16].copy_from_slice(&at.length.to_be_bytes());
    out[16..].copy_from_slice(&at.head);
    out
}

/// Where the log ends, with one more sealed record.
pub(super) fn chain(at: &Place, sealed: &[u8]) -> Place {
    let mut context = Context::new(&SHA256);
    context.update(&position(at));
    context.update(sealed);
    let mut head: Head = [0; 32];
    head.copy_from_slice(context.finish().as_ref());
    Place { length: at.length + 1, head }
}

pub(super) fn aead_key(key: &[u8]) -> Result<LessSafeKey, StoreError> {
    Ok(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(|_| StoreError::Crypto)?))
}

/// Nonce, then ciphertext and tag. Nonces are random: a log has far fewer than 2³² records.
pub(super) fn seal(key: &LessSafeKey, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| StoreError::Crypto)?;
    let mut body = plain.to_vec();
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body)
        .map_err(|_| StoreError::Crypto)?;
    let mut sealed = nonce.to_vec();
    sealed.append(&mut body);
    Ok(sealed)
}

pub(super) fn open(key: &LessSafeKey, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, body) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = key.open_in_place(nonce, Aad::from(aad), &mut body).ok()?.len();
    body.truncate(length);
    Some(body)
}

/// A key that was sealed to this TEE under `name`; `None` where another TEE sealed it.
pub(super) fn unseal(sealing: &LessSafeKey, name: &str, sealed: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let key = open(sealing, &context(name), sealed)?;
    Some(Zeroizing::new(key.as_slice().try_into().ok()?))
}

/// Associated data of a sealed key: what it is for.
pub(super) fn context(name: &str) -> Vec<u8> {
    [SEALING_CONTEXT, "/", name].concat().into_bytes()
}

pub(super) fn random_key() -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let mut key = Zeroizing::new([0; 32]);
    SystemRandom::new().fill(key.as_mut()).map_err(|_| StoreError::Crypto)?;
    Ok(key)
}
