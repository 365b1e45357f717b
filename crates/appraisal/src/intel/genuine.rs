//! Quote ← attestation key ← quoting enclave's report ← PCK ← PCK CA ← root: four signatures and a digest.

use evidence::IntelCollateral;
use evidence::quote::{CertificationData, SignatureData};

use super::certification;
use super::pck::Pck;
use crate::chain::{self, Path, Shape};
use crate::findings::Context;
use crate::verdict::Check;
use crate::x509::{ParsedCertificate, PublicKey};
use crate::{Code, SignatureAlgorithm};

/// Certificates that came with the quote and its collateral, read.
pub(super) struct Certificates<'a> {
    pool: Vec<ParsedCertificate<'a>>,
    signer: usize,
}

impl<'a> Certificates<'a> {
    pub(super) fn read(
        data: &'a CertificationData,
        collateral: Option<&'a IntelCollateral>,
    ) -> Result<Self, Check> {
        let chain = certification::chain(data, collateral)?;
        let in_quote = |der: &_| chain.contains(der);
        let beside =
            collateral.into_iter().flat_map(|own| own.pck_crl_issuer_chain.iter().chain(&own.pck_chain));
        let pool: Vec<_> = chain
            .iter()
            .chain(beside.filter(|der| !in_quote(der)))
            .map(ParsedCertificate::parse)
            .collect::<Result<_, _>>()
            .map_err(|fault| Check::failed("chain", Code::CertificateMalformed, fault.to_string()))?;
        // The order of the chain differs between platforms; only the PCK certificate has the SGX extension.
        let mut signers = (0..chain.len()).filter(|&index| Pck::is_present(&pool[index]));
        match (signers.next(), signers.next()) {
            (Some(signer), None) => Ok(Self { pool, signer }),
            (None, _) => {
                Err(Check::failed("chain", Code::ChainIncomplete, "there is no PCK certificate in the quote"))
            }
            (Some(_), Some(_)) => {
                let text = "there are several PCK certificates in the quote";
                Err(Check::failed("chain", Code::CertificateMalformed, text))
            }
        }
    }

    pub(super) fn path<'p>(&'p self, context: &Context<'p>) -> Result<Path<'p, 'a>, Check> {
        let signer = &self.pool[self.signer];
        chain::build(signer, &self.pool, context.anchors, Shape::OneIssuer, context.crypto)
            .map_err(|fault| fault.into_check("chain"))
    }
}

/// The checks of signatures; all must pass before any field of the quote means anything.
pub(super) fn signatures(
    signed: &[u8],
    data: &SignatureData,
    signer: &ParsedCertificate<'_>,
    context: &Context<'_>,
) -> Vec<Check> {
    vec![
        qe_report_signature(data, signer, context),
        key_binding(data, context),
        quote_signature(signed, data, context),
    ]
}

fn qe_report_signature(data: &SignatureData, signer: &ParsedCertificate<'_>, context: &Context<'_>) -> Check {
    const NAME: &str = "qe-report-signature";
    let PublicKey::P256(key) = signer.key() else {
        return Check::failed(NAME, Code::CertificateMalformed, "the PCK is not on P-256");
    };
    let algorithm = SignatureAlgorithm::EcdsaP256Sha256Fixed;
    match context.crypto.verify_endorsement(
        algorithm,
        key,
        data.qe_report_bytes(),
        data.qe_report_signature(),
    ) {
        Ok(()) => Check::passed(NAME, "the quoting enclave's report is signed by the PCK"),
        Err(_) => {
            let text =
                "the quoting enclave's report was not signed by the PCK: altered, or another platform's";
            Check::failed(NAME, Code::QeReportSignatureInvalid, text)
        }
    }
}

/// The quoting enclave reports SHA-256(attestation key ‖ authentication data), and zeros after it.
fn key_binding(data: &SignatureData, context: &Context<'_>) -> Check {
    const NAME: &str = "attestation-key";
    let digest = context.crypto.sha256(&[data.attestation_key(), data.authentication_data()]);
    let report_data = &data.qe_report().report_data;
    if report_data[..32] == digest && report_data[32..] == [0; 32] {
        return Check::passed(NAME, "the quoting enclave's report covers the attestation key");
    }
    Check::failed(NAME, Code::AttestationKeyNotBound, "the quoting enclave did not make this attestation key")
        .expected(hex::encode(digest))
        .observed(hex::encode(report_data))
}

fn quote_signature(signed: &[u8], data: &SignatureData, context: &Context<'_>) -> Check {
    const NAME: &str = "quote-signature";
    let mut key = [4; 65];
    key[1..].copy_from_slice(data.attestation_key());
    match context.crypto.verify(SignatureAlgorithm::EcdsaP256Sha256Fixed, &key, signed, data.signature()) {
        Ok(()) => Check::passed(NAME, "the quote is signed by the attestation key"),
        Err(_) => {
            let text = "the quote was not signed by its attestation key: altered, or spliced";
            Check::failed(NAME, Code::QuoteSignatureInvalid, text)
        }
    }
}
