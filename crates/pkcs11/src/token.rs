//! A token as a secret store: objects that can be read, and keys that decrypt and stay where they are.

use cryptoki::{
    context::Pkcs11,
    error::{Error, RvError},
    mechanism::{
        Mechanism, MechanismType,
        aead::GcmParams,
        rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource},
    },
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use zeroize::Zeroizing;

use crate::{TokenError, session};

/// The nonce before a ciphertext of AES-GCM, and the tag behind it, in bytes.
const GCM_NONCE: usize = 12;
const GCM_TAG: usize = 16;

/// How a ciphertext is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwrapping {
    /// RSA-OAEP, SHA-256 and MGF1 with SHA-256, no label.
    RsaOaepSha256,
    /// RSA-OAEP, SHA-1 and MGF1 with SHA-1, no label.
    RsaOaepSha1,
    /// AES-GCM: 12 bytes of nonce, the ciphertext, 16 bytes of tag.
    AesGcm,
}

/// A token in which we are logged in.
#[derive(Debug)]
pub struct Token(Session);

impl Token {
    /// Logs in with a PIN. A token counts wrong ones, and locks itself: do not try one again.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open(library: &Pkcs11, label: &str, pin: &str) -> Result<Self, TokenError> {
        let session = session(library, label)?;
        let pin = AuthPin::from(pin.to_owned());
        let log_in = || session.login(UserType::User, Some(&pin));
        match log_in() {
            // By another session of this process, perhaps with another PIN: this one has to be right as well.
            Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {
                session.logout()?;
                log_in()
            }
            other => other,
        }
        .map_err(|error| match error {
            Error::Pkcs11(
                RvError::PinIncorrect
                | RvError::PinInvalid
                | RvError::PinLenRange
                | RvError::PinLocked
                | RvError::PinExpired,
                _,
            ) => TokenError::Pin(error),
            other => TokenError::Module(other),
        })?;
        Ok(Self(session))
    }

    /// The value of the one secret key or data object of this label.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn value(&self, label: &str) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let object = self.one(label, &[ObjectClass::SECRET_KEY, ObjectClass::DATA])?;
        let attributes =
            self.0.get_attributes(object, &[AttributeType::Value]).map_err(|error| match error {
                Error::Pkcs11(RvError::AttributeSensitive, _) => TokenError::NotReadable,
                other => TokenError::Module(other),
            })?;
        match attributes.into_iter().next() {
            Some(Attribute::Value(value)) => Ok(Zeroizing::new(value)),
            _ => Err(TokenError::NotReadable),
        }
    }

    /// What the one key of this label decrypts a ciphertext to.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn decrypt(
        &self,
        label: &str,
        how: Unwrapping,
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let oaep =
            |hash, mgf| Mechanism::RsaPkcsOaep(PkcsOaepParams::new(hash, mgf, PkcsOaepSource::empty()));
        let plaintext = match how {
            Unwrapping::RsaOaepSha256 => {
                let key = self.one(label, &[ObjectClass::PRIVATE_KEY])?;
                self.0.decrypt(&oaep(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256), key, ciphertext)
            }
            Unwrapping::RsaOaepSha1 => {
                let key = self.one(label, &[ObjectClass::PRIVATE_KEY])?;
                self.0.decrypt(&oaep(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1), key, ciphertext)
            }
            Unwrapping::AesGcm => {
                let key = self.one(label, &[ObjectClass::SECRET_KEY])?;
                let (nonce, rest) = ciphertext.split_at_checked(GCM_NONCE).ok_or(TokenError::TooShort)?;
                if rest.len() <= GCM_TAG {
                    return Err(TokenError::TooShort);
                }
                let mut nonce = nonce.to_vec();
                let parameters = GcmParams::new(&mut nonce, &[], ((GCM_TAG * 8) as u64).into())?;
                self.0.decrypt(&Mechanism::AesGcm(parameters), key, rest)
            }
        }
        .map_err(|error| match error {
            Error::Pkcs11(RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange, _) => {
                TokenError::NotOpened
            }
            other => TokenError::Module(other),
        })?;
        Ok(Zeroizing::new(plaintext))
    }

    /// What the one key of this label encrypts a plaintext to, for [`Self::decrypt`]. Of RSA it is the public key, which
    /// takes no more than its modulus less the padding: for RSA-2048 with SHA-256 190 bytes.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn encrypt(&self, label: &str, how: Unwrapping, plaintext: &[u8]) -> Result<Vec<u8>, TokenError> {
        let rsa = |hash, mgf| {
            let key = self.one(label, &[ObjectClass::PUBLIC_KEY])?;
            let oaep = PkcsOaepParams::new(hash, mgf, PkcsOaepSource::empty());
            Ok(self.0.encrypt(&Mechanism::RsaPkcsOaep(oaep), key, plaintext)?)
        };
        match how {
            Unwrapping::RsaOaepSha256 => rsa(MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
            Unwrapping::RsaOaepSha1 => rsa(MechanismType::SHA1, PkcsMgfType::MGF1_SHA1),
            Unwrapping::AesGcm => {
                let key = self.one(label, &[ObjectClass::SECRET_KEY])?;
                let mut nonce = [0; GCM_NONCE];
                aws_lc_rs::rand::fill(&mut nonce).map_err(|_| TokenError::NoRandomness)?;
                // Tokens may put a nonce of their own in its place, so it is read after, not before.
                let mut used = nonce.to_vec();
                let parameters = GcmParams::new(&mut used, &[], ((GCM_TAG * 8) as u64).into())?;
                let sealed = self.0.encrypt(&Mechanism::AesGcm(parameters), key, plaintext)?;
                Ok([&used[..], &sealed].concat())
            }
        }
    }

    fn one(&self, label: &str, classes: &[ObjectClass]) -> Result<ObjectHandle, TokenError> {
        let mut found = Vec::new();
        for class in classes {
            let template = [Attribute::Class(*class), Attribute::Label(label.as_bytes().to_vec())];
            found.extend(self.0.find_objects(&template)?);
        }
        match found[..] {
            [object] => Ok(object),
            _ => Err(TokenError::Keys { label: label.to_owned(), found: found.len() }),
        }
    }
}
