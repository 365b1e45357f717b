//! A key-encrypting key at hand: AES-256-GCM under a nonce of 12 random bytes, which is safe for 2³² packets (NIST SP
//! 800-38D, §8.3).

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::{Form, KeyName, MAX_OPTIONS, Packet, packet::NONCE};

/// Its length, in bytes.
pub const LENGTH: usize = 32;

/// A key-encrypting key.
pub struct Kek(Zeroizing<[u8; LENGTH]>);

/// Why nothing was wrapped or unwrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// Not 32 bytes.
    #[error("a key for images has {LENGTH} bytes, and this one has {seen}")]
    Length {
        /// In bytes.
        seen: usize,
    },
    /// Too much, or nothing.
    #[error("what is wrapped has 1 to {MAX_OPTIONS} bytes, and this has {seen}")]
    Options {
        /// In bytes.
        seen: usize,
    },
    /// Another key, another name, or the packet was changed: one cannot be told from the other.
    #[error(
        "the packet does not open: it was wrapped with another key or for another name, or was changed since"
    )]
    NotOpened,
    /// Of the operating system.
    #[error("no random numbers could be had")]
    NoRandomness,
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(…)")
    }
}

impl Kek {
    /// A key of exactly 32 bytes.
    ///
    /// # Errors
    /// [`KekError::Length`]. Nothing is padded or cut.
    pub fn new(bytes: &[u8]) -> Result<Self, KekError> {
        let key = bytes.try_into().map_err(|_| KekError::Length { seen: bytes.len() })?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// A new key.
    ///
    /// # Errors
    /// [`KekError::NoRandomness`].
    pub fn generate() -> Result<Self, KekError> {
        let mut key = Zeroizing::new([0; LENGTH]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| KekError::NoRandomness)?;
        Ok(Self(key))
    }

    /// Its bytes, for whoever encrypts a data key.
    #[must_use]
    pub fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    /// A packet of CoCo's, version 2: for keys that guests may read.
    ///
    /// # Errors
    /// [`KekError::Options`], [`KekError::NoRandomness`].
    pub fn wrap(&self, key: &KeyName, options: &[u8]) -> Result<Packet, KekError> {
        self.seal(key, Form::CocoV2, options)
    }

    /// A packet of ours: for keys that stay where they are. `data_key`: what a store made of this key, if it is a data
    /// key.
    ///
    /// # Errors
    /// [`KekError::Options`], [`KekError::NoRandomness`].
    pub fn wrap_bound(
        &self,
        key: &KeyName,
        data_key: Option<Vec<u8>>,
        options: &[u8],
    ) -> Result<Packet, KekError> {
        self.seal(key, Form::Bailey { data_key }, options)
    }

    fn seal(&self, key: &KeyName, form: Form, options: &[u8]) -> Result<Packet, KekError> {
        if options.is_empty() || options.len() > MAX_OPTIONS {
            return Err(KekError::Options { seen: options.len() });
        }
        let mut iv = [0; NONCE];
        aws_lc_rs::rand::fill(&mut iv).map_err(|_| KekError::NoRandomness)?;
        let mut wrapped = options.to_vec();
        let aad = Aad::from(Packet::bound(key, &form));
        // The lengths are far below what AES-GCM can take, so this does not fail.
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(iv), aad, &mut wrapped)
            .map_err(|_| KekError::Options { seen: options.len() })?;
        Ok(Packet { key: key.clone(), form, iv, wrapped })
    }

    /// What is in a packet.
    ///
    /// # Errors
    /// [`KekError::NotOpened`].
    pub fn unwrap(&self, packet: &Packet) -> Result<Zeroizing<Vec<u8>>, KekError> {
        let mut wrapped = Zeroizing::new(packet.wrapped.clone());
        let aad = Aad::from(Packet::bound(&packet.key, &packet.form));
        let nonce = Nonce::assume_unique_for_key(packet.iv);
        let length =
            self.cipher()?.open_in_place(nonce, aad, &mut wrapped).map_err(|_| KekError::NotOpened)?.len();
        wrapped.truncate(length);
        Ok(wrapped)
    }

    fn cipher(&self) -> Result<LessSafeKey, KekError> {
        let key = UnboundKey::new(&AES_256_GCM, &*self.0).map_err(|_| KekError::Length { seen: LENGTH })?;
        Ok(LessSafeKey::new(key))
    }
}
