//! AWS Nitro Enclaves: document ← leaf (three hours) ← CAs of instance, zone and region ← AWS Nitro Enclaves root G1.
//!
//! Source: AWS Nitro Enclaves User Guide, "Verifying the root of trust"; aws-nitro-enclaves-nsm-api,
//! docs/attestation_process.md. AWS publishes no TCB levels, and the document does not tell the hypervisor's version.

mod chain;
mod policy;
mod revocation;

use evidence::nitro::{Carrier, Document};
use evidence::{AwsCollateral, Covered};
use serde::Serialize;

use crate::claims::Claims;
use crate::findings::{CollateralSeen, Context, Findings, by_rule};
use crate::verdict::{Check, PlatformIdentity, Tcb};
use crate::x509::{ParsedCertificate, PublicKey};
use crate::{Code, Crypto, SignatureAlgorithm, UnixTime};
use chain::Path;
pub use policy::NitroPolicy;

/// What a document claims, as far as it was verified. The registers are among the verdict's measurements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NitroClaims {
    /// The name of the Nitro Secure Module: the parent instance, and the enclave on it.
    pub module_id: String,
    /// When the document was made, by the clock of the hypervisor; whole seconds.
    pub timestamp: UnixTime,
    /// Hexadecimal.
    pub nonce: Option<Covered>,
    /// Hexadecimal.
    pub user_data: Option<Covered>,
    /// Hexadecimal; in the enclave's own encoding.
    pub public_key: Option<Covered>,
    /// Whether the document covers the key of the certificate that it came in, when it came in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_key_bound: Option<bool>,
}

pub(crate) fn appraise(
    document: &Document,
    collateral: Option<&AwsCollateral>,
    context: &Context<'_>,
) -> Findings {
    let path = match Path::build(document, context) {
        Ok(path) => path,
        Err(fault) => return Findings::not_genuine(refused(vec![fault.into_check("chain")])),
    };
    let chain = Check::passed("chain", path.describe());
    let leaf = &path.certificates[0];
    let signature = signature(document, leaf, context);
    if signature.is_failed() {
        return Findings::not_genuine(refused(vec![chain, signature]));
    }
    let genuine = Check::group(
        "genuine",
        format!("document ← {}", path.describe()),
        vec![chain, path.validity(context), signature, timestamp(document, leaf, context)],
    );
    let bound = document.carrier().map(|carrier| covers_key(document, carrier, context.crypto));
    let tcb = "AWS publishes no TCB levels; the version of the Nitro hypervisor is not attested";
    Findings {
        checks: vec![
            genuine,
            revocation::check(&path, collateral, context),
            Check::passed("tcb", tcb),
            configuration(document, bound, context),
        ],
        origin: Some(path.anchor.origin.clone()),
        product: None,
        identity: Some(PlatformIdentity::Named(document.instance_id().to_owned())),
        tcb: Tcb::default(),
        claims: Claims { nitro: Some(claims(document, bound)), ..Claims::default() },
        collateral: CollateralSeen::default(),
    }
}

fn refused(checks: Vec<Check>) -> Check {
    Check::group("genuine", "not shown to come from AWS Nitro hardware", checks)
}

fn signature(document: &Document, leaf: &ParsedCertificate<'_>, context: &Context<'_>) -> Check {
    const NAME: &str = "document-signature";
    let PublicKey::P384(key) = leaf.key() else {
        return Check::failed(NAME, Code::CertificateMalformed, "the certificate's key is not on P-384");
    };
    let sign1 = document.sign1();
    let algorithm = SignatureAlgorithm::EcdsaP384Sha384Fixed;
    match context.crypto.verify(algorithm, key, &sign1.signed(), sign1.signature()) {
        Ok(()) => Check::passed(NAME, "the document is signed by the certificate's key"),
        Err(_) => {
            let text = "the document was not signed by the certificate's key: altered, or another's";
            Check::failed(NAME, Code::DocumentSignatureInvalid, text)
        }
    }
}

/// The leaf is issued for the document's enclave just before; a document cannot be from another time.
fn timestamp(document: &Document, leaf: &ParsedCertificate<'_>, context: &Context<'_>) -> Check {
    const NAME: &str = "timestamp";
    let made = made(document);
    let (not_before, not_after) = (leaf.not_before(), leaf.not_after());
    if made < not_before || made > not_after {
        let text = "the document says that it was made outside the validity of its certificate";
        return Check::failed(NAME, Code::TimestampOutsideCertificate, text)
            .expected(format!("{not_before} to {not_after}"))
            .observed(made.to_string());
    }
    if made > context.now {
        let text = "the document says that it was made later than the time of this appraisal";
        return Check::failed(NAME, Code::TimestampInFuture, text)
            .expected(format!("{} or before", context.now))
            .observed(made.to_string())
            .mend("set the clock of the verifier right");
    }
    Check::passed(NAME, format!("made at {made}, while its certificate was valid"))
}

/// Whole seconds; parsing saw to it that they fit.
fn made(document: &Document) -> UnixTime {
    UnixTime(i64::try_from(document.timestamp_ms() / 1000).unwrap_or(i64::MAX))
}

fn configuration(document: &Document, bound: Option<bool>, context: &Context<'_>) -> Check {
    let mut checks = vec![debug(document, context), age(document, context)];
    checks.extend(bound.map(|bound| certificate_key(bound, context)));
    Check::group("configuration", "how the enclave was started, and what the document is for", checks)
}

fn debug(document: &Document, context: &Context<'_>) -> Check {
    const NAME: &str = "debug";
    if !document.is_debug() {
        return Check::passed(NAME, "not in debug mode: PCR 0 to 2 are digests");
    }
    let text = "the enclave runs in debug mode: the parent instance reads its console, and PCR 0 to 2 are zero, so that \
                nothing tells which code it runs";
    by_rule(context.policy.debug, NAME, Code::DebugEnabled, text)
        .expected("PCR 0 to 2 that are not zero")
        .observed("zero")
        .mend("start the enclave without --debug-mode")
}

fn age(document: &Document, context: &Context<'_>) -> Check {
    const NAME: &str = "age";
    let Some(most) = context.policy.nitro.max_age_seconds else {
        return Check::skipped(
            NAME,
            "the policy names no maximal age: the certificate's three hours bound it",
        );
    };
    let age = context.now.0.saturating_sub(made(document).0);
    if age <= i64::try_from(most).unwrap_or(i64::MAX) {
        return Check::passed(NAME, format!("{age} s old, at most {most} s"));
    }
    Check::failed(NAME, Code::EvidenceTooOld, "the document is older than the policy allows")
        .expected(format!("at most {most} s"))
        .observed(format!("{age} s"))
        .mend("ask the enclave for a new document")
}

fn certificate_key(bound: bool, context: &Context<'_>) -> Check {
    const NAME: &str = "certificate-key";
    if bound {
        let text = "the document covers the key of the certificate that it came in; names and signature of that \
                    certificate are not looked at";
        return Check::passed(NAME, text);
    }
    let text = "the document does not cover the key of the certificate that it came in: whoever holds that key need not \
                be the enclave";
    by_rule(context.policy.nitro.unbound_certificate, NAME, Code::CertificateKeyNotBound, text)
        .expected(
            "the key (SubjectPublicKeyInfo) or its SHA-256, SHA-384 or SHA-512 as public_key or user_data",
        )
        .mend("let the enclave ask for a document over the key of its certificate")
}

fn covers_key(document: &Document, carrier: &Carrier, crypto: &dyn Crypto) -> bool {
    let key = carrier.public_key();
    [document.public_key(), document.user_data()].into_iter().flatten().any(|covered| {
        covered == key
            || covered == crypto.sha256(&[key])
            || covered == crypto.sha384(&[key])
            || covered == crypto.sha512(&[key])
    })
}

fn claims(document: &Document, certificate_key_bound: Option<bool>) -> NitroClaims {
    let covered = |bytes: Option<&[u8]>| bytes.map(Covered::new);
    NitroClaims {
        module_id: document.module_id().to_owned(),
        timestamp: made(document),
        nonce: covered(document.nonce()),
        user_data: covered(document.user_data()),
        public_key: covered(document.public_key()),
        certificate_key_bound,
    }
}
