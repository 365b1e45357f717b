//! What a client shows of itself, without TLS, for fuzzing.

use appraisal::UnixTime;
use database_manifest::Manifest;
use rustls::pki_types::CertificateDer;

use super::Anchors;

/// Whether these certificates, the leaf first, would let anybody in.
pub fn lets_in(manifest: &Manifest, chain: &[&[u8]], now: UnixTime) -> bool {
    let chain: Vec<_> = chain.iter().map(|it| CertificateDer::from(*it)).collect();
    Anchors::new(manifest).is_ok_and(|anchors| anchors.caller(&chain, now).is_ok())
}
