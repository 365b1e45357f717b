//! Recovery: a secret of which each holder has a share. Enough shares give the secret, and the secret opens the
//! state's data, on any machine; never the CA keys (S-46).

use std::collections::BTreeMap;

use aws_lc_rs::{
    digest,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
    signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use blahaj::{Share, Sharks};
use manifest::Manifest;
use serde::{Deserialize, Serialize};
use serde_bytes::{ByteArray, ByteBuf};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use zeroize::Zeroizing;

use super::{Refusal, secrets};

/// Beside the log, in the clear: who can recover the state, and by what their shares are known. The host can change
/// it; that a recovery succeeded is decided by the state that the shares open, and by the manifest in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Descriptor {
    /// How many shares it takes.
    pub threshold: usize,
    /// By name.
    pub holders: BTreeMap<String, Holder>,
}

/// Someone who has a share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// RSA, DER `SubjectPublicKeyInfo`.
    pub public_key: ByteBuf,
    /// SHA-256 of the share.
    pub share: ByteArray<32>,
}

impl Descriptor {
    /// Whether these are the holders of `manifest`, and as many of them are needed as it says.
    pub fn is_of(&self, manifest: &Manifest) -> bool {
        let keys = &manifest.settings().recovery_keys;
        self.threshold == threshold(manifest)
            && self.holders.len() == keys.len()
            && keys.iter().all(|(name, key)| {
                self.holders
                    .get(name.as_str())
                    .is_some_and(|holder| **holder.public_key == key.public_key[..])
            })
    }
}

/// The shares of a new recovery secret.
#[derive(Clone)]
pub struct Shares {
    /// By holder, encrypted to the holder's key with RSA-OAEP and SHA-256.
    pub encrypted: BTreeMap<String, Vec<u8>>,
    /// What is kept beside the log.
    pub descriptor: Descriptor,
}

/// How many shares a recovery takes: all, where the manifest says nothing.
pub fn threshold(manifest: &Manifest) -> usize {
    manifest.recovery_threshold()
}

/// A new recovery secret, where the manifest names recovery keys.
pub(super) fn secret(manifest: &Manifest) -> Result<Option<Zeroizing<[u8; 32]>>, Refusal> {
    if manifest.settings().recovery_keys.is_empty() {
        return Ok(None);
    }
    Ok(Some(Zeroizing::new(secrets::random32()?)))
}

/// Splits a recovery secret. The same secret gives other shares each time.
pub(super) fn shares(manifest: &Manifest, secret: &[u8; 32]) -> Result<Shares, Refusal> {
    let keys = &manifest.settings().recovery_keys;
    let threshold = threshold(manifest);
    let mut encrypted = BTreeMap::new();
    let mut holders = BTreeMap::new();
    let mut dealt = deal(secret, threshold, keys.len())?.into_iter();
    for (name, key) in keys {
        let share = dealt.next().ok_or_else(|| Refusal::Internal("a share is missing".into()))?;
        let public_key = ByteBuf::from(key.public_key.clone());
        holders.insert(name.to_string(), Holder { public_key, share: ByteArray::new(sha256(&share)) });
        encrypted.insert(name.to_string(), encrypt(&key.public_key, &share)?);
    }
    Ok(Shares { encrypted, descriptor: Descriptor { threshold, holders } })
}

/// One holder has the secret itself; of several, each has a point of a polynomial over GF(256) (Shamir).
fn deal(secret: &[u8; 32], threshold: usize, holders: usize) -> Result<Vec<Zeroizing<Vec<u8>>>, Refusal> {
    if holders == 1 {
        return Ok(vec![Zeroizing::new(secret.to_vec())]);
    }
    let threshold = u8::try_from(threshold).map_err(|_| Refusal::Internal("too many shares".into()))?;
    let shares = Sharks(threshold).dealer(secret).take(holders);
    Ok(shares.map(|share| Zeroizing::new(Vec::from(&share))).collect())
}

fn encrypt(public_key: &[u8], share: &[u8]) -> Result<Vec<u8>, Refusal> {
    let failed = || Refusal::Internal("a share could not be encrypted to its holder's key".into());
    let key = PublicEncryptingKey::from_der(public_key).map_err(|_| failed())?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| failed())?;
    let mut out = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, share, &mut out, None).map_err(|_| failed())?;
    Ok(out)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Shares that came in so far.
pub struct Progress {
    descriptor: Descriptor,
    given: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl Progress {
    /// Nothing has come yet.
    pub fn new(descriptor: Descriptor) -> Self {
        Self { descriptor, given: BTreeMap::new() }
    }

    /// How many shares are missing.
    pub fn remaining(&self) -> usize {
        self.descriptor.threshold.saturating_sub(self.given.len())
    }

    /// Who gave theirs.
    pub fn holders(&self) -> Vec<String> {
        self.given.keys().cloned().collect()
    }

    /// Takes a share with its holder's RSA PKCS #1 v1.5 signature over it (SHA-256). A wrong one is refused at once,
    /// and changes nothing.
    ///
    /// # Errors
    /// Says whose share it is not, or that nobody's key signed it, or that it was given before.
    pub fn upload(&mut self, share: Zeroizing<Vec<u8>>, signature: &[u8]) -> Result<(), Refusal> {
        let digest = sha256(&share);
        let signer = self.descriptor.holders.iter().find(|(_, holder)| signed(holder, &share, signature));
        let (name, holder) = match signer {
            Some(signer) => signer,
            None => {
                let owner = self.descriptor.holders.iter().find(|(_, holder)| *holder.share == digest);
                return Err(match owner {
                    Some((name, _)) => Refusal::ShareNotSigned { holder: name.clone() },
                    None => Refusal::ShareUnknown,
                });
            }
        };
        if *holder.share != digest {
            return Err(Refusal::ShareWrong { holder: name.clone() });
        }
        if self.given.contains_key(name) {
            return Err(Refusal::ShareRepeated { holder: name.clone() });
        }
        self.given.insert(name.clone(), share);
        Ok(())
    }

    /// The secret, once enough shares are there.
    pub fn secret(&self) -> Option<Zeroizing<[u8; 32]>> {
        if self.remaining() > 0 {
            return None;
        }
        let bytes = if self.descriptor.holders.len() == 1 {
            self.given.values().next()?.to_vec()
        } else {
            let shares: Vec<Share> =
                self.given.values().filter_map(|share| Share::try_from(share.as_slice()).ok()).collect();
            Sharks(u8::try_from(self.descriptor.threshold).ok()?).recover(&shares).ok()?
        };
        let bytes = Zeroizing::new(bytes);
        Some(Zeroizing::new(bytes.as_slice().try_into().ok()?))
    }
}

fn signed(holder: &Holder, share: &[u8], signature: &[u8]) -> bool {
    let Ok((_, key)) = SubjectPublicKeyInfo::from_der(&holder.public_key) else { return false };
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key.subject_public_key.data);
    key.verify(share, signature).is_ok()
}
