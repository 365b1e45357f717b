//! What the coordinator authenticates itself with. Never shown.

use attested_tls::service::UserIdentity;
use zeroize::Zeroizing;

use crate::StoreError;

/// What the coordinator authenticates itself with.
pub enum Credential {
    /// A token, a secret ID, a PIN: as it was uploaded.
    Text(Zeroizing<Vec<u8>>),
    /// A certificate with its chain, leaf first, and its key.
    Certificate(UserIdentity),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "Credential::Text",
            Self::Certificate(_) => "Credential::Certificate",
        })
    }
}

impl Credential {
    /// The text without the end of a line, which files have: printable ASCII, and not absurdly long.
    pub(crate) fn text(&self) -> Result<Zeroizing<String>, StoreError> {
        const LONGEST: usize = 4096;
        let Self::Text(bytes) = self else {
            return Err(StoreError::Credential("it is a certificate, and text is needed"));
        };
        let bytes = bytes.trim_ascii_end();
        let printable = bytes.iter().all(u8::is_ascii_graphic);
        if bytes.is_empty() || bytes.len() > LONGEST || !printable {
            return Err(StoreError::Credential("it is not printable ASCII of at most 4096 characters"));
        }
        Ok(Zeroizing::new(String::from_utf8_lossy(bytes).into_owned()))
    }
}
