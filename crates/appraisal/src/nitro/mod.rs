//! AWS Nitro Enclaves: document ← leaf ← AWS Nitro Enclaves root G1.

mod policy;

use evidence::{AwsCollateral, CertificateDer, nitro};
use serde::Serialize;

use crate::claims::Claims;
use crate::findings::{CollateralSeen, Context, Findings, by_rule};
use crate::path::{self, LongPath};
use crate::revocation::{self, Issuer};
use crate::verdict::{Check, PlatformIdentity, Tcb};
use crate::x509::{ParsedCertificate, PublicKey};
use crate::{Code, SignatureAlgorithm, UnixTime};
pub use policy::NitroPolicy;

/// What a document claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NitroClaims {
    /// The instance and enclave.
    pub module_id: String,
    /// When it was made, milliseconds since 1970.
    pub timestamp_ms: u64,
    /// What the enclave asked to be covered, hexadecimal.
    pub public_key: Option<String>,
    /// The same.
    pub user_data: Option<String>,
    /// The asker's nonce, hexadecimal.
    pub nonce: Option<String>,
    /// Members that this version does not know.
    pub unknown_fields: Vec<String>,
}

impl NitroClaims {
    fn of(document: &nitro::Document) -> Self {
        let text = |bytes: Option<&[u8]>| bytes.map(hex::encode);
        Self {
            module_id: document.module_id().to_owned(),
            timestamp_ms: document.timestamp_ms(),
            public_key: text(document.public_key()),
            user_data: text(document.user_data()),
            nonce: text(document.nonce()),
            unknown_fields: document.unknown_fields().to_vec(),
        }
    }
}

pub(crate) fn appraise(
    document: &nitro::Document,
    collateral: Option<&AwsCollateral>,
    context: &Context<'_>,
) -> Findings {
    let refused =
        |checks| Findings::not_genuine(Check::group("genuine", "not shown to come from AWS", checks));
    let certificates = match Certificates::read(document) {
        Ok(certificates) => certificates,
        Err(check) => return refused(vec![check]),
    };
    let path = match path::build(&certificates.leaf, &certificates.pool, context.anchors, context.crypto) {
        Ok(path) => path,
        Err(fault) => return refused(vec![fault.into_check("chain")]),
    };
    let chain = Check::passed("chain", path.describe());
    let signature = signature(document, &certificates.leaf, context);
    if signature.is_failed() {
        return refused(vec![chain, signature]);
    }
    let mut checks =
        vec![chain, path.validity(context.now), signature, made_in_time(document, &path, context)];
    if document.is_in_certificate() {
        let text = "the document came inside a certificate; whether it covers that certificate's key was not looked at";
        checks.push(Check::skipped("container", text));
    }
    let genuine = Check::group("genuine", format!("document ← {}", path.describe()), checks);
    let tcb = Check::passed(
        "tcb",
        "AWS attests no version of hypervisor or firmware: that they are current is AWS's word alone",
    );
    Findings {
        checks: vec![genuine, revocation(collateral, &path, context), tcb, configuration(document, context)],
        origin: Some(path.anchor.origin.clone()),
        product: Some("AWS Nitro".into()),
        identity: Some(PlatformIdentity::Named(document.module_id().to_owned())),
        tcb: Tcb::default(),
        claims: Claims { nitro: Some(NitroClaims::of(document)), ..Claims::default() },
        collateral: CollateralSeen::default(),
    }
}

struct Certificates<'a> {
    leaf: ParsedCertificate<'a>,
    pool: Vec<ParsedCertificate<'a>>,
}

impl<'a> Certificates<'a> {
    fn read(document: &'a nitro::Document) -> Result<Self, Check> {
        let read = |der: &'a CertificateDer| {
            ParsedCertificate::parse(der)
                .map_err(|fault| Check::failed("certificate", Code::CertificateMalformed, fault.to_string()))
        };
        let leaf = read(document.certificate())?;
        let pool = document.cabundle().iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { leaf, pool })
    }
}

fn signature(document: &nitro::Document, leaf: &ParsedCertificate<'_>, context: &Context<'_>) -> Check {
    const NAME: &str = "signature";
    let PublicKey::P384(key) = leaf.key() else {
        return Check::failed(NAME, Code::CertificateMalformed, "the leaf's key is not on P-384");
    };
    let algorithm = SignatureAlgorithm::EcdsaP384Sha384Fixed;
    match context.crypto.verify(algorithm, key, document.signed(), document.signature()) {
        Ok(()) => Check::passed(NAME, "the document is signed by the enclave's certificate"),
        Err(_) => Check::failed(
            NAME,
            Code::DocumentSignatureInvalid,
            "the document was not signed by its certificate: altered, or forged",
        ),
    }
}

/// The document must have been made while its certificate was valid, and not after now.
fn made_in_time(document: &nitro::Document, path: &LongPath<'_, '_>, context: &Context<'_>) -> Check {
    const NAME: &str = "timestamp";
    let made = UnixTime(i64::try_from(document.timestamp_ms() / 1000).unwrap_or(i64::MAX));
    let leaf = path.certificates.first().map(|leaf| (leaf.not_before(), leaf.not_after()));
    let (from, until) = leaf.unwrap_or((made, made));
    if made < from || made > until {
        return Check::failed(
            NAME,
            Code::DocumentTimeInvalid,
            "made at a time at which its certificate was not valid",
        )
        .expected(format!("{from} to {until}"))
        .observed(made.to_string());
    }
    // A document is a second old at least when it arrives; its clock is the hypervisor's, ours is not.
    if made.0 > context.now.0.saturating_add(CLOCKS_DIFFER) {
        return Check::failed(NAME, Code::DocumentTimeInvalid, "made later than this appraisal")
            .expected(format!("at most {}", context.now))
            .observed(made.to_string());
    }
    let age = context.now.0.saturating_sub(made.0).max(0).unsigned_abs();
    match context.policy.nitro.max_age_seconds {
        Some(most) if age > most => {
            Check::failed(NAME, Code::EvidenceTooOld, format!("the document is {age} seconds old"))
                .expected(format!("at most {most} seconds"))
                .observed(format!("{age} seconds"))
                .mend("ask the enclave for a fresh document")
        }
        _ => Check::passed(NAME, format!("made at {made}")),
    }
}

/// Seconds by which the clocks of hypervisor and verifier may differ.
const CLOCKS_DIFFER: i64 = 300;

fn revocation(collateral: Option<&AwsCollateral>, path: &LongPath<'_, '_>, context: &Context<'_>) -> Check {
    let lists = collateral.map_or(&[][..], |collateral| collateral.crls.as_slice());
    if lists.is_empty() {
        let text = "no revocation list was given; AWS asks for none, and enclaves' certificates end after three hours";
        let check = by_rule(context.policy.nitro.missing_crl, "crl", Code::CrlMissing, text);
        // Nothing is looked at, and that is as the policy wants it.
        let accepted = Check::passed("leaf", "the enclave's certificate is short-lived");
        return Check::group("revocation", "by short life", vec![accepted, check]);
    }
    let mut checks = Vec::new();
    for der in lists {
        checks.push(one_list(der, path, context));
    }
    Check::group("revocation", "by AWS's lists", checks)
}

fn one_list(der: &evidence::CrlDer, path: &LongPath<'_, '_>, context: &Context<'_>) -> Check {
    const NAME: &str = "crl";
    let mut last = None;
    // The list is of one of the CAs on the path, or of the root.
    let issuers = path
        .certificates
        .iter()
        .skip(1)
        .map(|ca| Issuer { name: ca.subject_name(), subject: ca.subject(), key: ca.key() })
        .chain([Issuer {
            name: path.anchor.name.clone(),
            subject: &path.anchor.subject,
            key: &path.anchor.key,
        }]);
    for issuer in issuers {
        match revocation::verify(NAME, der, &issuer, &path.certificates, context) {
            Ok(list) => {
                if let Some(revoked) = list.revocation(NAME) {
                    return revoked;
                }
                return match list.currency(NAME, context.now) {
                    Ok(()) => Check::passed(
                        NAME,
                        format!("of {}, {} to {}", issuer.name, list.this_update, list.next_update),
                    ),
                    Err(check) => check,
                };
            }
            Err(check) if check.code == Some(Code::CrlIssuerMismatch) => last = Some(check),
            Err(check) => return check,
        }
    }
    last.unwrap_or_else(|| Check::failed(NAME, Code::CrlIssuerMismatch, "a list of nobody on the path"))
}

fn configuration(document: &nitro::Document, context: &Context<'_>) -> Check {
    let debug = if document.is_debug() {
        by_rule(
            context.policy.debug,
            "debug",
            Code::DebugEnabled,
            "registers 0 to 2 are zeros: the enclave runs in debug mode, and the host may read its console",
        )
        .expected("PCR 0 to 2 that are not zero")
        .observed("zeros")
        .mend("run the enclave without --debug-mode")
    } else {
        Check::passed("debug", "not debug")
    };
    let mut checks = vec![debug];
    if !document.unknown_fields().is_empty() {
        let text =
            format!("members that this version does not know: {}", document.unknown_fields().join(", "));
        checks.push(by_rule(
            context.policy.unknown_attributes,
            "known-attributes",
            Code::AttributesUnknown,
            text,
        ));
    }
    Check::group("configuration", format!("enclave {}", document.module_id()), checks)
}
