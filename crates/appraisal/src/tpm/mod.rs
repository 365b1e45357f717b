//! TPM 2.0: quote ← attestation key ← a CA of TPM keys, or a key that the policy enrols; PCRs ← event log.

mod event_log;
mod policy;
mod provenance;
mod quote;

use evidence::eventlog::HashAlgorithm;
use evidence::tpm::{
    ATTRIBUTE_DECRYPT, ATTRIBUTE_FIXED_PARENT, ATTRIBUTE_FIXED_TPM, ATTRIBUTE_RESTRICTED,
    ATTRIBUTE_SENSITIVE_DATA_ORIGIN, ATTRIBUTE_SIGN, Attest, AttestationKey, PublicArea, Quote,
};
use evidence::{CertificateDer, Platform, TpmCollateral, tpm};
use serde::Serialize;

use crate::acceptance;
use crate::der::{Elements, INTEGER};
use crate::findings::{Context, Findings};
use crate::policy::Standing;
use crate::verdict::{Check, PlatformIdentity, Tcb};
use crate::x509::ParsedCertificate;
use crate::{Code, TcbStatus};
pub(crate) use event_log::check as check_event_log;
pub use policy::TpmPolicy;
pub(crate) use provenance::same_key;
pub(crate) use quote::{check as check_quote, coverage};

/// What such Evidence claims, as far as it was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TpmClaims {
    /// SHA-256 of the attestation key's SubjectPublicKeyInfo, hexadecimal.
    pub attestation_key: String,
    /// The key's name to its TPM: algorithm and digest of its public area, hexadecimal. Absent where the key alone was
    /// sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
    /// How the quotes are signed, such as `RSASSA`.
    pub scheme: Option<&'static str>,
    /// The banks that are quoted.
    pub banks: Vec<HashAlgorithm>,
    /// The TPM's firmware, in its vendor's own numbering.
    pub firmware_version: u64,
    /// Milliseconds that the TPM was powered on.
    pub clock: u64,
    /// How often the TPM was reset.
    pub reset_count: u32,
    /// How often it was resumed since.
    pub restart_count: u32,
    /// The virtual machine, where the key's certificate is one of Google's cloud.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gce_instance: Option<GceInstance>,
}

/// What Google certifies of a virtual machine of its cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GceInstance {
    /// The zone.
    pub zone: String,
    /// The project by name.
    pub project: String,
    /// The project by number.
    pub project_number: u64,
    /// The instance by name.
    pub instance: String,
    /// The instance by number.
    pub instance_id: u64,
}

pub(crate) fn appraise(
    evidence: &tpm::Attestation,
    collateral: Option<&TpmCollateral>,
    context: &Context<'_>,
) -> Findings {
    let refused = |checks| {
        Findings::not_genuine(Check::group("genuine", "not shown to come from a TPM that is trusted", checks))
    };
    let quotes: Vec<&Quote> = evidence.quotes().iter().collect();
    let Some(key) = evidence.key() else { return refused(vec![no_key(evidence)]) };
    let mut checks: Vec<_> = quotes.iter().map(|quote| check_quote(quote, &key.public, context)).collect();
    checks.push(attributes(key.area.as_ref()));
    let provenance = match provenance::establish(evidence, key, collateral, context) {
        Ok(provenance) => provenance,
        Err(check) => {
            checks.push(check);
            return refused(checks);
        }
    };
    checks.extend(provenance.checks);
    if checks.iter().any(Check::is_failed) {
        return refused(checks);
    }
    let genuine = Check::group("genuine", format!("quote ← {}", provenance.path), checks);
    // Evidence without a quote cannot be made.
    let Some(first) = quotes.first() else { return Findings::not_genuine(genuine) };
    let (tcb_check, tcb) = firmware(&first.attest, context);
    let spki = context.crypto.sha256(&[&key.public.spki()]);
    let mut configuration = coverage(&quotes, context);
    configuration.push(Check::skipped(
        "memory",
        "a TPM tells what was booted, and protects no memory: whoever runs the machine can read and change it",
    ));
    let mut findings = Findings {
        checks: vec![
            genuine,
            provenance.revocation,
            tcb_check,
            Check::group("configuration", "what is quoted", configuration),
        ],
        origin: Some(provenance.origin),
        product: None,
        identity: Some(PlatformIdentity::AttestationKey(spki)),
        tcb,
        ..Findings::default()
    };
    findings.claims.tpm =
        Some(claims(evidence, key, &first.attest, provenance.certificate.as_ref(), context));
    if let Some((check, boot)) = check_event_log(evidence.event_log(), &quotes, context) {
        findings.checks.push(check);
        findings.claims.boot = boot;
    }
    findings
}

/// Evidence that names no key: nothing could verify it.
fn no_key(evidence: &tpm::Attestation) -> Check {
    let container = evidence.container().as_str();
    if evidence.quotes().iter().all(|quote| quote.signature.is_none()) {
        let text = format!("{container} has no signature: anyone could have written it");
        return Check::failed("quote", Code::QuoteSignatureMissing, text)
            .mend("send the quote with its signature, the key, and the values of the registers");
    }
    let text = format!("{container} does not have the key that signed");
    Check::failed("provenance", Code::AkNotTrusted, text)
        .mend("send the quote with the key that signed it, such as in the container bailey/tpm/1")
}

/// A key that signs what anyone gives it can be made to sign a quote that no TPM made; one that can leave its TPM is
/// no TPM's.
fn attributes(area: Option<&PublicArea>) -> Check {
    const NAME: &str = "attributes";
    const NEEDED: u32 = ATTRIBUTE_FIXED_TPM
        | ATTRIBUTE_FIXED_PARENT
        | ATTRIBUTE_SENSITIVE_DATA_ORIGIN
        | ATTRIBUTE_RESTRICTED
        | ATTRIBUTE_SIGN;
    let Some(area) = area else {
        return Check::skipped(
            NAME,
            "only the key was sent: whoever enrolled or certified it knows its attributes",
        );
    };
    if area.attributes & NEEDED == NEEDED && area.attributes & ATTRIBUTE_DECRYPT == 0 {
        return Check::passed(NAME, "the key cannot leave its TPM, and signs only what the TPM made");
    }
    let text = "the key is not one for attestation: it may leave its TPM, or sign what others give it";
    Check::failed(NAME, Code::AkAttributesWeak, text)
        .expected("fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign, and not decrypt")
        .observed(format!("{:#010x}", area.attributes))
        .mend("make the attestation key as a restricted signing key")
}

/// No vendor of TPMs says by firmware version which are good.
fn firmware(attest: &Attest, context: &Context<'_>) -> (Check, Tcb) {
    let seen = attest.firmware_version;
    let version = Some(format!("firmware {seen:#018x}"));
    let (check, status) = match context.policy.tpm.minimum_firmware {
        None => (
            Check::passed(
                "firmware",
                format!("firmware {seen:#x}; the policy names no minimum, and no vendor does"),
            ),
            None,
        ),
        Some(least) if seen >= least => (
            Check::passed("firmware", format!("firmware {seen:#x}, at least {least:#x}")),
            Some(TcbStatus::UpToDate),
        ),
        Some(least) => {
            let below = "the TPM's firmware is below the minimum";
            let failed =
                |exception| Check::failed("firmware", Code::TcbBelowMinimum, below).with([exception]);
            let status = TcbStatus::OutOfDate;
            let platform = Platform::Tpm;
            let standing = Standing { platform, status, date: None, advisories: &[], family: "" };
            let check = acceptance::granted("firmware", &standing, context).unwrap_or_else(failed);
            let check = check
                .expected(format!("{least:#x}"))
                .observed(format!("{seen:#x}"))
                .mend("update the TPM's firmware, or lower tpm.minimum_firmware in the policy");
            (check, Some(status))
        }
    };
    (Check::group("tcb", check.text.clone(), vec![check]), Tcb { status, version, ..Tcb::default() })
}

fn claims(
    evidence: &tpm::Attestation,
    key: &AttestationKey,
    attest: &Attest,
    certificate: Option<&CertificateDer>,
    context: &Context<'_>,
) -> TpmClaims {
    let signature = evidence.quotes().iter().find_map(|quote| quote.signature.as_ref());
    let banks = evidence.quotes().iter().flat_map(|quote| &quote.attest.selections);
    TpmClaims {
        attestation_key: hex::encode(context.crypto.sha256(&[&key.public.spki()])),
        key_name: key.area.as_ref().and_then(|area| key_name(area, context)),
        scheme: signature.map(|signature| signature.scheme.as_str()),
        banks: banks.map(|selection| selection.bank).collect(),
        firmware_version: attest.firmware_version,
        clock: attest.clock.clock,
        reset_count: attest.clock.reset_count,
        restart_count: attest.clock.restart_count,
        gce_instance: certificate.and_then(gce_instance),
    }
}

/// nameAlg ‖ digest of the public area (TPM 2.0 Library, part 1, §16).
fn key_name(area: &PublicArea, context: &Context<'_>) -> Option<String> {
    let digest = match area.name_algorithm {
        HashAlgorithm::Sha256 => context.crypto.sha256(&[area.bytes()]).to_vec(),
        HashAlgorithm::Sha384 => context.crypto.sha384(&[area.bytes()]).to_vec(),
        HashAlgorithm::Sha512 => context.crypto.sha512(&[area.bytes()]).to_vec(),
        _ => return None,
    };
    Some(hex::encode(area.name_algorithm.id().to_be_bytes()) + &hex::encode(digest))
}

/// Google's extension 1.3.6.1.4.1.11129.2.1.21 (go-tpm-tools, server/instance_info.go): zone, project number, project,
/// instance number, instance.
fn gce_instance(der: &CertificateDer) -> Option<GceInstance> {
    const UTF8_STRING: u8 = 0x0c;
    let oid = x509_parser::asn1_rs::oid!(1.3.6.1.4.1.11129.2.1.21);
    let certificate = ParsedCertificate::parse(der).ok()?;
    let mut fields = Elements::new(certificate.extension(&oid)?).sequence()?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let number = |bytes: &[u8]| {
        let digits = bytes.strip_prefix(&[0]).unwrap_or(bytes);
        (digits.len() <= 8).then(|| digits.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
    };
    Some(GceInstance {
        zone: text(fields.take(UTF8_STRING)?)?,
        project_number: number(fields.take(INTEGER)?)?,
        project: text(fields.take(UTF8_STRING)?)?,
        instance_id: number(fields.take(INTEGER)?)?,
        instance: text(fields.take(UTF8_STRING)?)?,
    })
}
