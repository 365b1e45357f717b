//! Why a store gave nothing. Each reason is words of ours: a server's own could repeat what it was sent, and what goes
//! into errors is read by the host (S-44).

/// Why a store gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nobody there, or no answer in time.
    #[error("the store cannot be reached: {0}")]
    Unreachable(&'static str),
    /// Somebody else is there.
    #[error("whoever answered is not the store that the manifest names: {0}")]
    Untrusted(&'static str),
    /// It is there, and cannot answer now: sealed, on standby, overloaded, behind a proxy that has lost it.
    #[error("the store cannot answer now (HTTP {status})")]
    Unavailable {
        /// Of HTTP.
        status: u16,
    },
    /// The credential is not accepted, or has no right here.
    #[error("the store denies access")]
    Denied,
    /// Nothing there.
    #[error("the store has nothing at that place")]
    Missing,
    /// The store does not take the request: a ciphertext of another key, an engine of another kind.
    #[error("the store does not accept the request (HTTP {status})")]
    Rejected {
        /// Of HTTP.
        status: u16,
    },
    /// It names another server. Nobody goes there with a credential.
    #[error("the store sends us elsewhere, which is not followed")]
    Redirected,
    /// An answer that is none.
    #[error("the store's answer is malformed: {0}")]
    Malformed(&'static str),
    /// More than we take.
    #[error("the store's answer is larger than {most} bytes")]
    TooLarge {
        /// In bytes.
        most: usize,
    },
    /// A credential that cannot be used.
    #[error("the credential for the store cannot be used: {0}")]
    Credential(&'static str),
    /// The host named no PKCS #11 library.
    #[error("the host has given no PKCS #11 library")]
    NoLibrary,
    /// The PKCS #11 library is not loaded.
    #[error("the PKCS #11 library is refused: {0}")]
    Library(&'static str),
    /// Several objects have the label.
    #[error("the store has several objects of that label")]
    Ambiguous,
}

impl StoreError {
    /// Stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "SECRET_STORE_UNREACHABLE",
            Self::Untrusted(_) => "SECRET_STORE_UNTRUSTED",
            Self::Unavailable { .. } => "SECRET_STORE_UNAVAILABLE",
            Self::Denied => "SECRET_STORE_DENIED",
            Self::Missing => "SECRET_STORE_MISSING",
            Self::Rejected { .. } => "SECRET_STORE_REJECTED",
            Self::Redirected => "SECRET_STORE_REDIRECTED",
            Self::Malformed(_) => "SECRET_STORE_MALFORMED",
            Self::TooLarge { .. } => "SECRET_STORE_TOO_LARGE",
            Self::Credential(_) => "SECRET_STORE_CREDENTIAL",
            Self::NoLibrary => "SECRET_STORE_LIBRARY_ABSENT",
            Self::Library(_) => "SECRET_STORE_LIBRARY_REFUSED",
            Self::Ambiguous => "SECRET_STORE_AMBIGUOUS",
        }
    }

    /// What would mend it.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => {
                "see that the store runs, and that the coordinator's machine reaches its address"
            }
            Self::Untrusted(_) => "compare the server's certificate with RootCA and Address of the manifest",
            Self::Unavailable { .. } => "unseal the store, or wait until it has a leader again",
            Self::Denied => {
                "upload a credential that is valid, and see that its policy allows reading this place"
            }
            Self::Missing => {
                "put the secret there, or correct Mount, Path, Field, Key or label in the manifest"
            }
            Self::Rejected { .. } => "compare Engine, Key and Ciphertext in the manifest with the store",
            Self::Redirected => "name the active node's own address, or let the store forward requests",
            Self::Malformed(_) => "see that Address, Mount, Engine and Encoding are what the store has",
            Self::TooLarge { .. } => "store less in one secret",
            Self::Credential(_) => "upload the credential anew with `bailey secret set`",
            Self::Library(_) => "compare Library in the manifest with `sha256sum` of the file on the host",
            Self::Ambiguous => "give each object of the token a label of its own",
            Self::NoLibrary => "start the coordinator with --pkcs11-library PATH",
        }
    }

    /// Whether asking again soon may help, when asking twice does no harm.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Unavailable { status } => matches!(status, 412 | 429 | 502 | 503 | 504),
            _ => false,
        }
    }
}
