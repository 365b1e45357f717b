//! What a source answered, read and checked before any program sees it: a source that is wrong must show here, and not
//! in the programs.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use crate::{
    id::{SpiffeId, TrustDomain},
    jwt::JwtKeys,
    wire::{BundleWire, X509Answer},
};

/// More than any program has.
const MOST_SVIDS: usize = 64;
const MOST_CERTIFICATES: usize = 16;

/// What verifies the SVIDs of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Whose.
    pub domain: TrustDomain,
    /// Certificates, DER.
    pub roots: Vec<Vec<u8>>,
    /// Keys of JWT-SVIDs.
    pub keys: JwtKeys,
}

/// An X.509-SVID, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct X509Svid {
    /// Whose.
    pub id: SpiffeId,
    /// DER, the leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The last second that it is good for, since 1970.
    pub expires: i64,
}

/// What is wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SvidFault {
    /// Not readable, or too much of it.
    #[error("an answer of the issuer of identities is malformed")]
    Malformed,
    /// Not what an X.509-SVID is (X509-SVID §§3 to 5).
    #[error("a certificate of the issuer of identities is not an X.509-SVID")]
    NotAnSvid,
    /// For another ID than the answer says, or another trust domain than the bundle's.
    #[error("a certificate of the issuer of identities is for another SPIFFE ID")]
    Id,
    /// For another key.
    #[error("a certificate of the issuer of identities is for another key")]
    Key,
}

impl TryFrom<BundleWire> for Bundle {
    type Error = SvidFault;

    fn try_from(wire: BundleWire) -> Result<Self, SvidFault> {
        let roots = certificates(&wire.x509)?;
        for root in &roots {
            X509Certificate::from_der(root).map_err(|_| SvidFault::Malformed)?;
        }
        Ok(Self {
            domain: wire.trust_domain.parse().map_err(|_| SvidFault::Malformed)?,
            roots,
            keys: JwtKeys::from_jwks(&wire.jwks).map_err(|_| SvidFault::Malformed)?,
        })
    }
}

/// The SVIDs of an answer, each for `key` (a SubjectPublicKeyInfo, DER) and below the answer's trust domain.
pub(crate) fn read(answer: X509Answer, key: &[u8]) -> Result<(Vec<X509Svid>, Bundle), SvidFault> {
    let bundle = Bundle::try_from(answer.bundle)?;
    if answer.svids.is_empty() || answer.svids.len() > MOST_SVIDS {
        return Err(SvidFault::Malformed);
    }
    let svid = |wire: crate::wire::X509Wire| {
        let id: SpiffeId = wire.id.parse().map_err(|_| SvidFault::Id)?;
        let chain = certificates(&wire.chain)?;
        let leaf = chain.first().ok_or(SvidFault::Malformed)?;
        let (seen, spki, expires) = leaf_of(leaf)?;
        if seen != id || id.trust_domain() != &bundle.domain {
            return Err(SvidFault::Id);
        }
        if spki != key {
            return Err(SvidFault::Key);
        }
        Ok(X509Svid { id, chain, expires })
    };
    let svids = answer.svids.into_iter().map(svid).collect::<Result<_, _>>()?;
    Ok((svids, bundle))
}

fn certificates(encoded: &[String]) -> Result<Vec<Vec<u8>>, SvidFault> {
    if encoded.is_empty() || encoded.len() > MOST_CERTIFICATES {
        return Err(SvidFault::Malformed);
    }
    encoded.iter().map(|text| BASE64.decode(text).map_err(|_| SvidFault::Malformed)).collect()
}

/// ID, key and end of a leaf that is what an X.509-SVID must be: one URI and no other, no CA, a key that signs and
/// signs no certificates.
fn leaf_of(der: &[u8]) -> Result<(SpiffeId, Vec<u8>, i64), SvidFault> {
    let (rest, leaf) = X509Certificate::from_der(der).map_err(|_| SvidFault::Malformed)?;
    let names = leaf.subject_alternative_name().ok().flatten().ok_or(SvidFault::NotAnSvid)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let usage = leaf.key_usage().ok().flatten().ok_or(SvidFault::NotAnSvid)?;
    let signs = usage.value.digital_signature() && !usage.value.key_cert_sign() && !usage.value.crl_sign();
    let (Some(uri), None) = (uris.next(), uris.next()) else { return Err(SvidFault::NotAnSvid) };
    if !rest.is_empty() || leaf.is_ca() || !signs || !usage.critical {
        return Err(SvidFault::NotAnSvid);
    }
    let id = uri.parse().map_err(|_| SvidFault::Id)?;
    Ok((id, leaf.public_key().raw.to_vec(), leaf.validity().not_after.timestamp()))
}
