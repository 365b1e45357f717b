//! Secret stores outside the mesh, and what of a secret lies in one: Vault or OpenBao, and PKCS #11 tokens. Whoever
//! serves a store is known by roots that stand here, a token's library by its digest; what the coordinator
//! authenticates itself with is a secret that a user uploads.

mod resolve;

use std::fmt;

use evidence::CertificateDer;

use crate::names::{SecretName, StoreName};

pub(crate) use resolve::{held, place, previous, resolve, uploaded};

/// A secret store outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecretStore {
    /// Its name in this manifest.
    pub name: StoreName,
    /// What it is, and how it is spoken to.
    pub kind: StoreKind,
}

/// What a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// A server with Vault's HTTP API.
    Vault(Box<VaultStore>),
    /// A token behind a library with PKCS #11's interface.
    Pkcs11(Pkcs11Store),
}

impl SecretStore {
    /// The secret that the coordinator authenticates itself with.
    #[must_use]
    pub fn credential(&self) -> &SecretName {
        match &self.kind {
            StoreKind::Vault(vault) => match &vault.auth {
                VaultAuth::Token { secret }
                | VaultAuth::AppRole { secret_id: secret, .. }
                | VaultAuth::Certificate { secret, .. } => secret,
            },
            StoreKind::Pkcs11(token) => &token.pin,
        }
    }
}

/// A server with Vault's HTTP API: HashiCorp Vault, OpenBao.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VaultStore {
    /// A lower-case DNS name or an IP address; the server's certificate must be for it.
    pub host: String,
    /// Of TCP.
    pub port: u16,
    /// The roots that the server is known by; at least one, and no others are.
    pub roots: Vec<CertificateDer>,
    /// Sent with every request.
    pub namespace: Option<String>,
    /// How the coordinator authenticates itself.
    pub auth: VaultAuth,
}

/// How the coordinator authenticates itself to Vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// By a token as it is.
    Token {
        /// Plain and user-defined.
        secret: SecretName,
    },
    /// By a role and its secret ID.
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// Not secret.
        role_id: String,
        /// Plain and user-defined.
        secret_id: SecretName,
    },
    /// By a certificate in the TLS handshake.
    Certificate {
        /// Where the method is mounted.
        mount: String,
        /// Any role that the certificate fits, where absent.
        role: Option<String>,
        /// A certificate, shared (of the mesh's CA) or user-defined.
        secret: SecretName,
    },
}

/// A PKCS #11 token.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pkcs11Store {
    /// SHA-256 of the library that is loaded.
    pub library: [u8; 32],
    /// The token's label.
    pub token: String,
    /// The user's PIN: plain and user-defined.
    pub pin: SecretName,
}

/// Where the value of a secret lies.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoredAt {
    /// In which store; it exists, and is of the place's kind.
    pub store: StoreName,
    /// Where in it.
    pub place: StoredPlace,
}

/// Where in a store a value lies, or what the store opens to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredPlace {
    /// A field of a secret of Vault's key-value engine.
    Kv {
        /// Where the engine is mounted.
        mount: String,
        /// The secret's path below the mount.
        path: String,
        /// The field.
        field: String,
        /// Which engine, and of version 2 which version of the secret.
        engine: KvEngine,
        /// What the field's text stands for.
        encoding: StoredEncoding,
    },
    /// What a key of Vault's transit engine decrypts this to. The ciphertext is public.
    Transit {
        /// Where the engine is mounted.
        mount: String,
        /// The key.
        key: String,
        /// `vault:v1:…`
        ciphertext: String,
    },
    /// The value of a token's secret key or data object.
    Object {
        /// Its label (`CKA_LABEL`).
        label: String,
    },
    /// What a key that stays in a token decrypts this to. The ciphertext is public.
    Wrapped {
        /// The key's label (`CKA_LABEL`).
        key: String,
        /// How it was encrypted.
        mechanism: WrapMechanism,
        /// The ciphertext; of AES-GCM the nonce of 12 bytes before it, and the tag of 16 after.
        ciphertext: Vec<u8>,
    },
    /// A key that stays in a token, and has no value for anyone: it wraps and unwraps.
    Held {
        /// Its label (`CKA_LABEL`).
        label: String,
        /// How it encrypts and decrypts.
        mechanism: WrapMechanism,
    },
}

impl fmt::Display for StoredPlace {
    /// For people: where, and nothing of a ciphertext.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kv { mount, path, field, engine: KvEngine::Two(Some(version)), .. } => {
                write!(f, "KV {mount}/{path}, field {field}, version {version}")
            }
            Self::Kv { mount, path, field, .. } => write!(f, "KV {mount}/{path}, field {field}"),
            Self::Transit { mount, key, .. } => {
                write!(f, "a ciphertext of the manifest, by key {mount}/{key}")
            }
            Self::Object { label } => write!(f, "object {label}"),
            Self::Wrapped { key, mechanism, .. } => {
                write!(f, "a ciphertext of the manifest, by key {key} ({mechanism})")
            }
            Self::Held { label, mechanism } => write!(f, "key {label} ({mechanism}), which stays there"),
        }
    }
}

impl fmt::Display for WrapMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RsaOaepSha256 => "RSA-OAEP-SHA256",
            Self::RsaOaepSha1 => "RSA-OAEP-SHA1",
            Self::AesGcm => "AES-GCM",
        })
    }
}

/// Vault's two key-value engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvEngine {
    /// Without versions.
    One,
    /// With them: this one, or the newest.
    Two(Option<u64>),
}

/// What a field's text stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredEncoding {
    /// Its UTF-8.
    Text,
    /// Bytes, in standard base64.
    Base64,
}

/// How a ciphertext was made that a token opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrapMechanism {
    /// RSA-OAEP with SHA-256, MGF1 with SHA-256, no label (RFC 8017 §7.1).
    RsaOaepSha256,
    /// RSA-OAEP with SHA-1, which many tokens have only; sound for this use (RFC 8017 §7.1).
    RsaOaepSha1,
    /// AES-GCM with a nonce of 12 bytes and a tag of 16 (NIST SP 800-38D).
    AesGcm,
}
