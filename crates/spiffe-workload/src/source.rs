//! Where SVIDs come from.

use std::future::Future;

use crate::wire::{BundleWire, JwtAnswer, X509Answer};

/// Issues SVIDs for the program that this server runs beside. Which IDs it has the source decides.
pub trait SvidSource: Send + Sync + 'static {
    /// X.509-SVIDs for the key of a certificate request (PKCS #10, DER).
    fn x509(&self, csr: &[u8]) -> impl Future<Output = Result<X509Answer, SourceError>> + Send;

    /// JWT-SVIDs for these audiences.
    fn jwt(&self, audiences: &[String]) -> impl Future<Output = Result<JwtAnswer, SourceError>> + Send;

    /// The trust domain's keys.
    fn bundle(&self) -> impl Future<Output = Result<BundleWire, SourceError>> + Send;
}

/// Why there is no SVID.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It was asked and said no: this program has no ID, or has one no more.
    #[error("no identity is issued to this program ({code})")]
    Refused {
        /// The stable code.
        code: String,
    },
    /// It could not be asked, or cannot answer now.
    #[error("the issuer of identities cannot be asked now")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl SourceError {
    /// A reason for which it could not be asked.
    pub fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(source.into())
    }
}
