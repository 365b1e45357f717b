//! Values of secrets: wiped when they go, absent from `Debug`, written to the sealed log only.

use manifest::{KeyPart, SecretPart};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

/// The value of a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub enum SecretValue {
    /// Of a symmetric key, or what a user uploaded.
    Bytes(Zeroizing<Vec<u8>>),
    /// A key with its certificate.
    Certificate {
        /// DER.
        certificate: Vec<u8>,
        /// DER `SubjectPublicKeyInfo`.
        public: Vec<u8>,
        /// DER PKCS #8; empty where a user uploaded a certificate alone.
        private: Zeroizing<Vec<u8>>,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
enum Wire {
    Bytes(ByteBuf),
    Certificate { certificate: ByteBuf, public: ByteBuf, private: ByteBuf },
}

impl From<Wire> for SecretValue {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::Bytes(value) => Self::Bytes(Zeroizing::new(value.into_vec())),
            Wire::Certificate { certificate, public, private } => Self::Certificate {
                certificate: certificate.into_vec(),
                public: public.into_vec(),
                private: Zeroizing::new(private.into_vec()),
            },
        }
    }
}

impl From<SecretValue> for Wire {
    fn from(value: SecretValue) -> Self {
        match value {
            SecretValue::Bytes(value) => Self::Bytes(ByteBuf::from(value.to_vec())),
            SecretValue::Certificate { certificate, public, private } => Self::Certificate {
                certificate: ByteBuf::from(certificate),
                public: ByteBuf::from(public),
                private: ByteBuf::from(private.to_vec()),
            },
        }
    }
}

impl SecretValue {
    /// The part that a template asks for.
    pub fn part(&self, part: SecretPart) -> Option<&[u8]> {
        match (self, part) {
            (Self::Bytes(value), SecretPart::Value) => Some(value),
            (Self::Certificate { certificate, .. }, SecretPart::Of(KeyPart::Certificate)) => {
                Some(certificate)
            }
            (Self::Certificate { public, .. }, SecretPart::Of(KeyPart::Public) | SecretPart::Value) => {
                Some(public)
            }
            (Self::Certificate { private, .. }, SecretPart::Of(KeyPart::Private)) => Some(private),
            (Self::Bytes(_), SecretPart::Of(_)) => None,
        }
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(…)")
    }
}
