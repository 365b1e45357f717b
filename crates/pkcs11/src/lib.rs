//! What stays in a PKCS #11 token (smart card, HSM): a person's TLS key, for which rustls asks and the token signs; and
//! the [`Token`] of a secret store, whose library is [measured](measured_library) before it is loaded.
//!
//! The only crate that loads a vendor's shared library, so that whoever does without tokens does without it too.
//! Keys are P-256 (ECDSA with SHA-256) or RSA (PSS with SHA-256), which are the schemes of TLS 1.3 (RFC 8446 §4.2.3)
//! that tokens commonly have.

mod library;
mod token;

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex},
};

use aws_lc_rs::digest::{SHA256, digest};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsPssParams},
    },
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use rustls::{
    SignatureAlgorithm, SignatureScheme,
    pki_types::CertificateDer,
    sign::{CertifiedKey, Signer, SigningKey},
};
use x509_parser::{
    prelude::{FromDer, X509Certificate},
    public_key::PublicKey,
};

pub use library::{LibraryError, measured_library};
pub use token::{Token, Unwrapping};

/// Where a key is.
#[derive(Debug, Clone)]
pub struct Location<'a> {
    /// The vendor's library.
    pub module: &'a Path,
    /// The token's label.
    pub token: &'a str,
    /// The private key's label.
    pub key: &'a str,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The library or the token failed.
    #[error("the PKCS #11 module failed")]
    Module(#[from] cryptoki::error::Error),
    /// No token, or several.
    #[error("{found} tokens have the label {label:?}, and one should")]
    Tokens {
        /// Asked for.
        label: String,
        /// How many there are.
        found: usize,
    },
    /// The PIN.
    #[error("the token refused the PIN")]
    Pin(#[source] cryptoki::error::Error),
    /// No key, or several.
    #[error("{found} private keys of the token have the label {label:?}, and one should")]
    Keys {
        /// Asked for.
        label: String,
        /// How many there are.
        found: usize,
    },
    /// The certificate.
    #[error("the certificate is neither of a P-256 nor of an RSA key")]
    Certificate,
    /// Key and certificate.
    #[error("the token's key is not that of the certificate")]
    OtherKey,
    /// A value that the token keeps to itself.
    #[error("the token does not give the value of this object")]
    NotReadable,
    /// A ciphertext without nonce and tag.
    #[error("the ciphertext is too short")]
    TooShort,
    /// A ciphertext of another key, or one that was changed.
    #[error("the token does not open the ciphertext")]
    NotOpened,
    /// Of the operating system.
    #[error("no random numbers could be had")]
    NoRandomness,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    P256,
    Rsa,
}

impl Kind {
    fn scheme(self) -> SignatureScheme {
        match self {
            Self::P256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::Rsa => SignatureScheme::RSA_PSS_SHA256,
        }
    }
}

/// A session in which the user is logged in. Tokens do one thing at a time.
#[derive(Clone)]
struct TokenKey {
    session: Arc<Mutex<Session>>,
    key: ObjectHandle,
    kind: Kind,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenKey({:?})", self.kind)
    }
}

/// Logs in and gives the key with its certificate chain (leaf first), for rustls. The key has signed once by then, and
/// the leaf's public key has verified it.
pub fn certified_key(
    location: &Location<'_>,
    pin: String,
    chain: Vec<CertificateDer<'static>>,
) -> Result<CertifiedKey, TokenError> {
    let leaf = chain.first().ok_or(TokenError::Certificate)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| TokenError::Certificate)?;
    let (kind, public) = match leaf.public_key().parsed() {
        Ok(PublicKey::EC(point)) if point.data().len() == 65 => (Kind::P256, point.data().to_vec()),
        Ok(PublicKey::RSA(_)) => (Kind::Rsa, leaf.public_key().subject_public_key.data.to_vec()),
        _ => return Err(TokenError::Certificate),
    };
    let session = log_in(location, pin)?;
    let template =
        [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Label(location.key.as_bytes().to_vec())];
    let keys = session.find_objects(&template)?;
    let [key] = keys[..] else {
        return Err(TokenError::Keys { label: location.key.to_owned(), found: keys.len() });
    };
    let key = TokenKey { session: Arc::new(Mutex::new(session)), key, kind };
    let message = b"bailey: is this the key of the certificate?";
    let signature = key.signature(message)?;
    let algorithm: &dyn aws_lc_rs::signature::VerificationAlgorithm = match kind {
        Kind::P256 => &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1,
        Kind::Rsa => &aws_lc_rs::signature::RSA_PSS_2048_8192_SHA256,
    };
    aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, public)
        .verify(message, &signature)
        .map_err(|_| TokenError::OtherKey)?;
    Ok(CertifiedKey::new(chain, Arc::new(key)))
}

fn log_in(location: &Location<'_>, pin: String) -> Result<Session, TokenError> {
    let module = Pkcs11::new(location.module)?;
    module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let session = session(&module, location.token)?;
    session.login(UserType::User, Some(&AuthPin::from(pin))).map_err(TokenError::Pin)?;
    Ok(session)
}

/// A session with the one token of this label, in which nobody is logged in by us.
fn session(module: &Pkcs11, token: &str) -> Result<Session, TokenError> {
    let mut slots = Vec::new();
    for slot in module.get_slots_with_initialized_token()? {
        if module.get_token_info(slot)?.label() == token {
            slots.push(slot);
        }
    }
    let [slot] = slots[..] else {
        return Err(TokenError::Tokens { label: token.to_owned(), found: slots.len() });
    };
    Ok(module.open_ro_session(slot)?)
}

impl TokenKey {
    /// As TLS has it: of ECDSA, in DER.
    fn signature(&self, message: &[u8]) -> Result<Vec<u8>, cryptoki::error::Error> {
        let session = self.session.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let hash = digest(&SHA256, message);
        match self.kind {
            Kind::P256 => Ok(der(&session.sign(&Mechanism::Ecdsa, self.key, hash.as_ref())?)),
            Kind::Rsa => {
                let parameters = PkcsPssParams {
                    hash_alg: MechanismType::SHA256,
                    mgf: PkcsMgfType::MGF1_SHA256,
                    s_len: 32.into(),
                };
                session.sign(&Mechanism::RsaPkcsPss(parameters), self.key, hash.as_ref())
            }
        }
    }
}

/// `r ‖ s` as a SEQUENCE of two INTEGERs (RFC 3279 §2.2.3). Of P-256 all lengths fit into one byte.
fn der(halves: &[u8]) -> Vec<u8> {
    let (r, s) = halves.split_at(halves.len() / 2);
    let integer = |bytes: &[u8]| {
        let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len().saturating_sub(1));
        let digits = &bytes[first..];
        let sign: &[u8] = if digits.first().is_some_and(|byte| *byte >= 0x80) { &[0] } else { &[] };
        let length = u8::try_from(sign.len() + digits.len()).unwrap_or(u8::MAX);
        [&[2, length], sign, digits].concat()
    };
    let both = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(both.len()).unwrap_or(u8::MAX)][..], &both].concat()
}

impl SigningKey for TokenKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.kind.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.kind {
            Kind::P256 => SignatureAlgorithm::ECDSA,
            Kind::Rsa => SignatureAlgorithm::RSA,
        }
    }
}

impl Signer for TokenKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.signature(message)
            .map_err(|error| rustls::Error::General(format!("the token did not sign: {error}")))
    }

    fn scheme(&self) -> SignatureScheme {
        self.kind.scheme()
    }
}

#[cfg(test)]
mod tests {
    use super::der;

    #[test]
    fn halves_become_der() {
        let mut halves = [0; 64];
        (halves[31], halves[32]) = (5, 0x80);
        let expected = [&[0x30, 38, 2, 1, 5, 2, 33, 0, 0x80][..], &[0; 31]].concat();
        assert_eq!(der(&halves), expected);
        assert_eq!(der(&[0; 64]), [0x30, 6, 2, 1, 0, 2, 1, 0]);
    }
}
