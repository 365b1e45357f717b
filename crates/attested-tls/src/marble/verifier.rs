//! The two rustls verifiers that know Marble identities. Chain, validity and key usage are rustls-webpki's
//! work; what follows from the identity is decided in [`same_mesh`] and its two callers.

use std::{collections::BTreeSet, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Credential, MarbleIdentity, PeerRefusal, Revoked, Rollout};
use crate::config;

fn refuse(refusal: PeerRefusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// The identity in the peer's leaf, of the same epoch and manifest as ours, or of the one before or after it while the
/// newer of the two certificates says that both may speak. Both were signed below the same root.
fn same_mesh(
    ours: &MarbleIdentity,
    leaf: &CertificateDer<'_>,
    now: UnixTime,
) -> Result<MarbleIdentity, PeerRefusal> {
    let theirs = MarbleIdentity::of_certificate(leaf)?;
    if theirs.epoch == ours.epoch && theirs.manifest == ours.manifest {
        return Ok(theirs);
    }
    let (newer, older) = if theirs.epoch > ours.epoch { (&theirs, ours) } else { (ours, &theirs) };
    let (expected, seen) = (ours.epoch, theirs.epoch);
    match newer.rollout.as_ref().filter(|rollout| rollout.is_for(older)) {
        Some(rollout) if i64::try_from(now.as_secs()).is_ok_and(|now| now <= rollout.until) => Ok(theirs),
        Some(&Rollout { until, .. }) => {
            Err(PeerRefusal::RolloutOver { marble: theirs.marble, expected, seen, until })
        }
        None => Err(PeerRefusal::OtherEpoch { marble: theirs.marble, expected, seen }),
    }
}

#[derive(Debug)]
pub(super) struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    ours: MarbleIdentity,
    revoked: Revoked,
    allowed: BTreeSet<String>,
}

impl ClientVerifier {
    pub(super) fn new(credential: &Credential, allowed: BTreeSet<String>) -> Result<Arc<Self>, Error> {
        let chain =
            WebPkiClientVerifier::builder_with_provider(Arc::new(credential.roots()?), config::provider())
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let (ours, revoked) = (credential.identity.clone(), credential.revoked.clone());
        Ok(Arc::new(Self { chain, ours, revoked, allowed }))
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.revoked.check(end_entity).map_err(refuse)?;
        let theirs = same_mesh(&self.ours, end_entity, now).map_err(refuse)?;
        if !self.allowed.contains(&theirs.marble) {
            let allowed = self.allowed.iter().cloned().collect();
            return Err(refuse(PeerRefusal::NotNamed { marble: theirs.marble, allowed }));
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[derive(Debug)]
pub(super) struct ServerVerifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
    ours: MarbleIdentity,
    revoked: Revoked,
    expected: String,
}

impl ServerVerifier {
    pub(super) fn new(credential: &Credential, expected: &str) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            roots: credential.roots()?,
            provider: config::provider(),
            ours: credential.identity.clone(),
            revoked: credential.revoked.clone(),
            expected: expected.to_owned(),
        }))
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        self.revoked.check(end_entity).map_err(refuse)?;
        let theirs = same_mesh(&self.ours, end_entity, now).map_err(refuse)?;
        if theirs.marble != self.expected {
            let expected = self.expected.clone();
            return Err(refuse(PeerRefusal::WrongMarble { expected, seen: theirs.marble }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
