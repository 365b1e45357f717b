//! Intel's signed statements: each signed by Intel, byte for byte, under the same root as the quote; valid at
//! the time given; not older than the policy's floor; and about this kind of TEE.

use evidence::{Platform, SignedDocument};
use serde::Deserialize;

use super::pck::Pck;
use super::qe_identity::QeIdentity;
use super::tcb_info::TcbInfo;
use crate::chain::{self, Path, Shape};
use crate::currency::Statement;
use crate::findings::Context;
use crate::revocation::VerifiedCrl;
use crate::trust::Anchor;
use crate::verdict::Check;
use crate::x509::{ParsedCertificate, PublicKey};
use crate::{Code, SignatureAlgorithm, UnixTime};

/// The certificates beside a signed document, read.
pub(super) struct Signers<'a>(Vec<ParsedCertificate<'a>>);

impl<'a> Signers<'a> {
    pub(super) fn read(name: &'static str, document: &'a SignedDocument) -> Result<Self, Check> {
        let certificates =
            document.issuer_chain.iter().map(ParsedCertificate::parse).collect::<Result<_, _>>();
        certificates
            .map(Self)
            .map_err(|fault| Check::failed(name, Code::CertificateMalformed, fault.to_string()))
    }

    /// The way from the signer to `anchor`, and to no other root: what an emulated root says about a real
    /// platform, or the other way round, means nothing.
    pub(super) fn path<'p>(
        &'p self,
        name: &'static str,
        anchor: &'p Anchor,
        context: &Context<'_>,
    ) -> Result<Path<'p, 'a>, Check> {
        let mut signers = self.0.iter().filter(|certificate| !certificate.is_self_issued());
        let (Some(signer), None) = (signers.next(), signers.next()) else {
            let text = "expected the certificate of one signer, with or without the root's";
            return Err(Check::failed(name, Code::ChainIncomplete, text));
        };
        let anchors = std::slice::from_ref(anchor);
        let path = chain::build(signer, &self.0, anchors, Shape::SignerBelowRoot, context.crypto)
            .map_err(|fault| fault.into_check(name))?;
        let validity = path.validity(context);
        if validity.is_failed() { Err(Check { name, ..validity }) } else { Ok(path) }
    }
}

/// The key of a document's signer.
pub(super) fn key<'s>(name: &'static str, signer: &'s ParsedCertificate<'_>) -> Result<&'s [u8], Check> {
    match signer.key() {
        PublicKey::P256(key) => Ok(key),
        _ => Err(Check::failed(name, Code::CertificateMalformed, "the signer's key is not on P-256")),
    }
}

/// Checks the signature over the exact bytes.
pub(super) fn verify(
    name: &'static str,
    document: &SignedDocument,
    signer: &ParsedCertificate<'_>,
    context: &Context<'_>,
) -> Result<(), Check> {
    let key = key(name, signer)?;
    let algorithm = SignatureAlgorithm::EcdsaP256Sha256Fixed;
    context.crypto.verify(algorithm, key, &document.body, &document.signature).map_err(|_| {
        let text = format!("not signed by {}: altered, or re-encoded", signer.subject_name());
        Check::failed(name, Code::CollateralSignatureInvalid, text)
            .mend("fetch it again, and keep the bytes as they were sent")
    })
}

/// Reads a document whose signature has been verified.
pub(super) fn read<'a, T: Deserialize<'a>>(name: &'static str, body: &'a [u8]) -> Result<T, Check> {
    serde_json::from_slice(body)
        .map_err(|error| Check::failed(name, Code::CollateralMalformed, error.to_string()))
}

/// Is the document current, and not older than the floor? A warning when it ends soon.
pub(super) fn currency(
    name: &'static str,
    issued: UnixTime,
    next_update: UnixTime,
    evaluation: u32,
    context: &Context<'_>,
) -> Result<Option<Check>, Check> {
    let minimum = &context.policy.minimum;
    let statement = Statement {
        name,
        what: if name == "tcb-info" { "TCB info" } else { "the QE identity" },
        issued,
        next_update,
        early: Code::CollateralNotYetValid,
        expired: Code::CollateralExpired,
        fetch: "fetch the current collateral from Intel",
    };
    let warning = statement.currency(context)?;
    if let Some(floor) = minimum.tcb_evaluation_data_number.filter(|&floor| evaluation < floor) {
        return Err(rolled_back(
            name,
            format!("evaluation {floor} or later"),
            format!("evaluation {evaluation}"),
        ));
    }
    issued_after_floor(name, issued, context)?;
    Ok(warning)
}

/// S-18: what was signed once stays signed, so the host could serve the collateral of better days.
pub(super) fn issued_after_floor(
    name: &'static str,
    issued: UnixTime,
    context: &Context<'_>,
) -> Result<(), Check> {
    match context.policy.minimum.intel_collateral_issued {
        Some(floor) if issued < floor => {
            Err(rolled_back(name, format!("issued {floor} or later"), format!("issued {issued}")))
        }
        _ => Ok(()),
    }
}

/// S-18: a list that is older than one that has been seen, by its number or by its time of issue.
pub(super) fn crl_above_floor(
    name: &'static str,
    crl: &VerifiedCrl,
    floor: (Option<u64>, Option<UnixTime>),
) -> Result<(), Check> {
    let number = crl.number.unwrap_or(0);
    if let Some(least) = floor.0.filter(|&least| number < least) {
        return Err(rolled_back(name, format!("number {least} or later"), format!("number {number}")));
    }
    let issued = crl.this_update;
    match floor.1.filter(|&least| issued < least) {
        Some(least) => Err(rolled_back(name, format!("issued {least} or later"), format!("issued {issued}"))),
        None => Ok(()),
    }
}

fn rolled_back(name: &'static str, expected: String, observed: String) -> Check {
    Check::failed(
        name,
        Code::CollateralRolledBack,
        "older than what has been seen before, or the policy's floor",
    )
    .expected(expected)
    .observed(observed)
    .mend("fetch the current collateral from Intel")
}

/// Is the TCB info about this platform?
pub(super) fn tcb_info_fits(
    name: &'static str,
    info: &TcbInfo<'_>,
    platform: Platform,
    pck: &Pck,
) -> Result<(), Check> {
    let (expected, fits) = match platform {
        Platform::Tdx => ("TDX, version 3", info.version == 3 && info.id.as_deref() == Some("TDX")),
        _ => (
            "SGX, version 2 or 3",
            matches!((info.version, info.id.as_deref()), (3, Some("SGX")) | (2, None)),
        ),
    };
    if !fits || info.tcb_type != 0 {
        let id = info.id.as_deref().unwrap_or("SGX");
        let check =
            Check::failed(name, Code::CollateralMismatch, "for another kind of TEE, or of another version");
        let seen = format!("{id}, version {}, type {}", info.version, info.tcb_type);
        return Err(check.expected(expected).observed(seen));
    }
    if info.fmspc != pck.fmspc {
        return Err(Check::failed(name, Code::FmspcMismatch, "for another family of platforms (FMSPC)")
            .expected(hex::encode(pck.fmspc))
            .observed(hex::encode(info.fmspc))
            .mend("fetch the TCB info for this platform's FMSPC"));
    }
    if info.pce_id != pck.pce_id {
        return Err(Check::failed(
            name,
            Code::PceidMismatch,
            "for another provisioning certification enclave",
        )
        .expected(hex::encode(pck.pce_id))
        .observed(hex::encode(info.pce_id)));
    }
    Ok(())
}

/// Is the QE identity about the quoting enclave of this platform?
pub(super) fn qe_identity_fits(
    name: &'static str,
    identity: &QeIdentity<'_>,
    platform: Platform,
) -> Result<(), Check> {
    let expected = if platform == Platform::Tdx { "TD_QE" } else { "QE" };
    if identity.id == expected && identity.version == 2 {
        return Ok(());
    }
    Err(Check::failed(
        name,
        Code::CollateralMismatch,
        "the identity of another enclave, or of another version",
    )
    .expected(format!("{expected}, version 2"))
    .observed(format!("{}, version {}", identity.id, identity.version)))
}
