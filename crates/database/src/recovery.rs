//! Recovery on another machine: the master key in shares, so many of which its holders bring together again.
//!
//! Shares lie beside the log, each encrypted to its holder's RSA key; who they are and how many it takes is in the
//! manifest, which the log holds. What lies beside it the host can alter: that a recovery succeeded is decided by the
//! log, which opens with the right master key and in the right lineage only.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::{
    digest,
    rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use blahaj::{Share, Sharks};
use database_manifest::Recovery;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::keys::MasterKey;

/// No honest file of shares is longer: 255 holders with keys of 8192 bits.
pub const MAX_SHARES: usize = 1024 * 1024;
/// A point of the polynomial: its place, and 32 bytes.
const SHARE: usize = 33;

/// Who has a share, and what it is known by: `shares.json` in the host's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Shares {
    /// Names the key that they give.
    pub key: String,
    /// The key before, for whoever has this one, base64: while one takes the place of the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// How many it takes.
    pub threshold: usize,
    /// By name.
    pub holders: BTreeMap<String, Holder>,
}

/// Someone who has a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Holder {
    /// RSA, DER `SubjectPublicKeyInfo`, base64.
    pub public_key: String,
    /// The share, encrypted to that key with RSA-OAEP and SHA-256, base64.
    pub share: String,
    /// SHA-256 of the share, hex.
    pub digest: String,
}

impl Shares {
    /// Splits a master key. The same key gives other shares each time.
    ///
    /// # Errors
    /// When a holder's key is no RSA key.
    pub fn deal(recovery: &Recovery, master: &MasterKey) -> Result<Self, RecoveryError> {
        let threshold = u8::try_from(recovery.threshold).map_err(|_| RecoveryError::Holders)?;
        let dealt = Sharks(threshold).dealer(master.bytes());
        let mut holders = BTreeMap::new();
        for ((name, key), share) in recovery.holders.iter().zip(dealt) {
            let share = Zeroizing::new(Vec::from(&share));
            let holder = Holder {
                public_key: STANDARD.encode(key),
                share: STANDARD.encode(encrypt(key, &share)?),
                digest: sha256(&share),
            };
            holders.insert(name.clone(), holder);
        }
        if holders.len() != recovery.holders.len() {
            return Err(RecoveryError::Holders);
        }
        let key = master.id().map_err(|_| RecoveryError::Holders)?;
        let before = master.wrapped().map_err(|_| RecoveryError::Holders)?;
        let before = before.map(|it| STANDARD.encode(it));
        Ok(Self { key, before, threshold: recovery.threshold, holders })
    }

    /// From the host's file.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub fn from_json(bytes: &[u8]) -> Result<Self, RecoveryError> {
        if bytes.len() > MAX_SHARES {
            return Err(RecoveryError::Malformed);
        }
        let shares: Self = serde_json::from_slice(bytes).map_err(|_| RecoveryError::Malformed)?;
        if !(1..=shares.holders.len()).contains(&shares.threshold) || shares.holders.len() > 255 {
            return Err(RecoveryError::Malformed);
        }
        Ok(shares)
    }

    /// For the host's file.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("strings always serialise")
    }

    /// Whether these are the holders that the manifest names, and shares of that key.
    pub fn are_of(&self, recovery: &Recovery, master: &MasterKey) -> bool {
        let same = |(name, key): (&String, &Vec<u8>)| {
            self.holders.get(name).is_some_and(|holder| holder.public_key == STANDARD.encode(key))
        };
        master.id().is_ok_and(|id| id == self.key)
            && master.is_alone() == self.before.is_none()
            && self.threshold == recovery.threshold
            && self.holders.len() == recovery.holders.len()
            && recovery.holders.iter().all(same)
    }
}

/// To whom shares of a key were dealt, and how many of them it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownTo {
    threshold: usize,
    /// The first half of SHA-256 of each holder's key, hex.
    holders: BTreeSet<String>,
}

impl KnownTo {
    /// Those whom a manifest names.
    pub fn of(recovery: Option<&Recovery>) -> Self {
        let keys = recovery.into_iter().flat_map(|it| it.holders.values());
        let holders = keys.map(|key| sha256(key).chars().take(32).collect()).collect();
        Self { threshold: recovery.map_or(0, |it| it.threshold), holders }
    }

    /// Whether nobody of them has more than `now` gives: none has left, and it took no fewer of them.
    pub fn is_within(&self, now: &Self) -> bool {
        self.holders.is_empty() || (self.holders.is_subset(&now.holders) && self.threshold >= now.threshold)
    }
}

fn encrypt(public_key: &[u8], share: &[u8]) -> Result<Vec<u8>, RecoveryError> {
    let key = PublicEncryptingKey::from_der(public_key).map_err(|_| RecoveryError::Holders)?;
    let key = OaepPublicEncryptingKey::new(key).map_err(|_| RecoveryError::Holders)?;
    let mut out = vec![0; key.ciphertext_size()];
    key.encrypt(&OAEP_SHA256_MGF1SHA256, share, &mut out, None).map_err(|_| RecoveryError::Holders)?;
    Ok(out)
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// Shares that came in so far.
pub struct Progress {
    shares: Shares,
    given: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl Progress {
    /// Nothing has come yet.
    pub fn new(shares: Shares) -> Self {
        Self { shares, given: BTreeMap::new() }
    }

    /// Who has a share.
    pub fn shares(&self) -> &Shares {
        &self.shares
    }

    /// How many are missing.
    pub fn remaining(&self) -> usize {
        self.shares.threshold.saturating_sub(self.given.len())
    }

    /// Who gave theirs.
    pub fn holders(&self) -> Vec<String> {
        self.given.keys().cloned().collect()
    }

    /// Takes a share. A wrong one is refused and changes nothing.
    ///
    /// # Errors
    /// When it is nobody's, or was given before.
    pub fn give(&mut self, share: Zeroizing<Vec<u8>>) -> Result<(), RecoveryError> {
        let digest = sha256(&share);
        let known = |holder: &Holder| share.len() == SHARE && holder.digest == digest;
        let holder = self.shares.holders.iter().find(|(_, holder)| known(holder));
        let Some((name, _)) = holder else { return Err(RecoveryError::ShareUnknown) };
        if self.given.contains_key(name) {
            return Err(RecoveryError::ShareRepeated { holder: name.clone() });
        }
        self.given.insert(name.clone(), share);
        Ok(())
    }

    /// What they give, once there are enough; what it opens shows whether it is the master key.
    pub fn master(&self) -> Option<MasterKey> {
        if self.remaining() > 0 {
            return None;
        }
        let points: Vec<Share> =
            self.given.values().filter_map(|share| Share::try_from(share.as_slice()).ok()).collect();
        let secret = Zeroizing::new(Sharks(u8::try_from(self.shares.threshold).ok()?).recover(&points).ok()?);
        let master = MasterKey::new(Zeroizing::new(secret.as_slice().try_into().ok()?));
        match &self.shares.before {
            Some(before) => master.after(&STANDARD.decode(before).ok()?).ok(),
            None => Some(master),
        }
    }

    /// All that was given is forgotten.
    pub fn begin_again(&mut self) {
        self.given.clear();
    }
}

/// Why a share was not taken, or the state does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// Keys of holders that cannot be used.
    #[error("shares cannot be made for the holders that the manifest names")]
    Holders,
    /// The host's file of shares.
    #[error("shares.json is not as this program wrote it")]
    Malformed,
    /// Nobody's.
    #[error("this is none of the shares that are known for this state; nothing was changed")]
    ShareUnknown,
    /// It came before.
    #[error("the share of {holder:?} was given before")]
    ShareRepeated {
        /// Whose.
        holder: String,
    },
    /// The state is open.
    #[error("this database waits for no recovery")]
    NotRecovering,
    /// Nobody has shares.
    #[error("nobody has a share of this state's key: it can be opened by the TEE alone that sealed it")]
    Unrecoverable,
    /// Enough shares, and the log does not open.
    #[error(
        "the shares do not open this state as one of this database's lineage ({code}); nothing was changed"
    )]
    Refused {
        /// Why.
        code: String,
    },
}

impl RecoveryError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Holders => "RECOVERY_HOLDERS",
            Self::Malformed => "RECOVERY_SHARES_MALFORMED",
            Self::ShareUnknown => "RECOVERY_SHARE_UNKNOWN",
            Self::ShareRepeated { .. } => "RECOVERY_SHARE_REPEATED",
            Self::NotRecovering => "NOT_RECOVERING",
            Self::Unrecoverable => "UNRECOVERABLE",
            Self::Refused { .. } => "RECOVERY_REFUSED",
        }
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        encoding::AsDer,
        rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey},
    };

    use super::*;

    fn dealt(threshold: usize, holders: usize) -> (MasterKey, Recovery, Shares, Vec<Zeroizing<Vec<u8>>>) {
        let keys: Vec<_> =
            (0..holders).map(|_| PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap()).collect();
        let public = |key: &PrivateDecryptingKey| key.public_key().as_der().unwrap().as_ref().to_vec();
        let named = keys.iter().enumerate().map(|(index, key)| (format!("holder_{index}"), public(key)));
        let recovery = Recovery { holders: named.collect(), threshold };
        let master = MasterKey::generate().unwrap();
        let shares = Shares::deal(&recovery, &master).unwrap();
        let opened = keys.into_iter().enumerate().map(|(index, key)| {
            let key = OaepPrivateDecryptingKey::new(key).unwrap();
            let share = STANDARD.decode(&shares.holders[&format!("holder_{index}")].share).unwrap();
            let mut out = vec![0; key.min_output_size()];
            let out = key.decrypt(&OAEP_SHA256_MGF1SHA256, &share, &mut out, None).unwrap().to_vec();
            Zeroizing::new(out)
        });
        let opened = opened.collect();
        (master, recovery, shares, opened)
    }

    #[test]
    fn so_many_holders_have_the_key_and_fewer_have_not() {
        let (master, recovery, shares, opened) = dealt(2, 3);
        assert!(shares.are_of(&recovery, &master));
        assert!(!shares.are_of(&recovery, &MasterKey::generate().unwrap()), "of another key");
        let mut progress = Progress::new(Shares::from_json(&shares.to_json()).unwrap());
        progress.give(opened[2].clone()).unwrap();
        assert!(progress.master().is_none() && progress.remaining() == 1);
        progress.give(opened[0].clone()).unwrap();
        assert_eq!(progress.master().unwrap().bytes(), master.bytes());
        assert_eq!(progress.holders(), ["holder_0", "holder_2"]);
    }

    #[test]
    fn one_holder_alone() {
        let (master, _, shares, opened) = dealt(1, 1);
        let mut progress = Progress::new(shares);
        progress.give(opened[0].clone()).unwrap();
        assert_eq!(progress.master().unwrap().bytes(), master.bytes());
    }

    #[test]
    fn a_wrong_or_repeated_share_changes_nothing() {
        let (_, _, shares, opened) = dealt(2, 2);
        let mut progress = Progress::new(shares);
        progress.give(opened[0].clone()).unwrap();
        let mut wrong = opened[1].clone();
        wrong[5] ^= 1;
        assert_eq!(progress.give(wrong), Err(RecoveryError::ShareUnknown));
        let again = progress.give(opened[0].clone());
        assert_eq!(again, Err(RecoveryError::ShareRepeated { holder: "holder_0".into() }));
        assert_eq!(progress.remaining(), 1);
        progress.give(opened[1].clone()).unwrap();
        assert!(progress.master().is_some());
    }

    #[test]
    fn other_holders_are_noticed() {
        let (master, mut recovery, shares, _) = dealt(1, 2);
        recovery.threshold = 2;
        assert!(!shares.are_of(&recovery, &master));
        recovery.threshold = 1;
        recovery.holders.insert("holder_1".into(), vec![0]);
        assert!(!shares.are_of(&recovery, &master));
        let broken = Recovery { holders: [("x".to_owned(), vec![1, 2])].into(), threshold: 1 };
        let refused = Shares::deal(&broken, &MasterKey::generate().unwrap());
        assert_eq!(refused, Err(RecoveryError::Holders));
    }

    #[test]
    fn shares_of_a_key_that_takes_the_place_of_another_give_both() {
        let (old, recovery, _, _) = dealt(1, 1);
        let next = old.successor().unwrap();
        let shares = Shares::deal(&recovery, &next).unwrap();
        assert!(shares.are_of(&recovery, &next) && !shares.are_of(&recovery, &next.alone()));
        let wrapped = STANDARD.decode(shares.before.unwrap()).unwrap();
        let again = MasterKey::new(Zeroizing::new(*next.bytes())).after(&wrapped).unwrap();
        assert!(!again.is_alone());
        assert!(MasterKey::generate().unwrap().after(&wrapped).unwrap().is_alone(), "not with another key");
    }

    #[test]
    fn who_left_or_was_too_few_has_more_than_now() {
        let with = |names: &[u8], threshold| {
            let holders = names.iter().map(|it| (it.to_string(), vec![*it])).collect();
            KnownTo::of(Some(&Recovery { holders, threshold }))
        };
        let now = with(&[1, 2, 3], 2);
        for good in [KnownTo::of(None), now.clone(), with(&[1, 2], 2), with(&[1, 2, 3], 3)] {
            assert!(good.is_within(&now), "{good:?}");
        }
        for bad in [with(&[1, 4], 2), with(&[1, 2, 3], 1)] {
            assert!(!bad.is_within(&now), "{bad:?}");
            assert!(!bad.is_within(&KnownTo::of(None)), "{bad:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_ours_is_refused() {
        for text in ["", "{}", r#"{"Threshold":1,"Holders":{}}"#, r#"{"Threshold":0,"Holders":{},"X":1}"#] {
            assert_eq!(Shares::from_json(text.as_bytes()), Err(RecoveryError::Malformed), "{text}");
        }
    }
}
