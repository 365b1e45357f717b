//! Keys of guests as PEM, the way that CoCo's attestation agent hands out its key pair beside a token.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::key::PrivateKind;
use crate::{Invalid, PrivateKey};

impl PrivateKey {
    /// PKCS #8, PEM. Whoever calls this takes the duty not to copy it about.
    ///
    /// # Errors
    /// [`Invalid::Key`] for ML-KEM, whose keys clients of the protocol do not read.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, Invalid> {
        let der: Pkcs8V1Der<'_> = match &self.kind {
            PrivateKind::Rsa(key) => key.as_der(),
            PrivateKind::Ec { key, .. } => key.as_der(),
            PrivateKind::MlKem(_) => return Err(Invalid::Key("it has no form as PEM")),
        }
        .map_err(|_| Invalid::Key("it cannot be written"))?;
        let text = Zeroizing::new(STANDARD.encode(der.as_ref()));
        let mut pem = Zeroizing::new(String::with_capacity(text.len() + 128));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(pem)
    }
}
