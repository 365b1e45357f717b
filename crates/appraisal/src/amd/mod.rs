//! AMD SEV-SNP: report ← VCEK or VLEK ← ASK or ASVK ← ARK. The signature alone says little: the certificate
//! must be of the same chip, of the TCB that the report claims (S-35), of the right kind and product, valid
//! now, and its issuer not revoked.

mod claims;
mod configuration;
mod demands;
mod tcb;
mod vek;

use std::sync::LazyLock;

use evidence::snp::{ProductFamily, ReportBody, SigningKey, TcbComponents};
use evidence::{AmdCollateral, CertificateDer, snp};

use crate::chain::{self, Path, Shape};
use crate::claims::Claims;
use crate::findings::{CollateralSeen, Context, CrlSeen, Findings, by_rule};
use crate::needs::CollateralSubject;
use crate::revocation::{self, Issuer};
use crate::verdict::{Check, PlatformIdentity};
use crate::x509::{ParsedCertificate, PublicKey};
use crate::{Code, Rule, SignatureAlgorithm};
pub use claims::{GuestPolicy, PlatformInfo, SnpClaims, SnpTcbs};
pub(crate) use vek::{Kind, Vek, hardware_id_length};

pub(crate) fn appraise(
    report: &snp::Report,
    collateral: Option<&AmdCollateral>,
    context: &Context<'_>,
) -> Findings {
    let body = report.body();
    let Some(collateral) = collateral else { return Findings::not_genuine(missing(body)) };
    let certificates = match read_certificates(collateral) {
        Ok(certificates) => certificates,
        Err(check) => return Findings::not_genuine(refused(vec![check])),
    };
    let (signer, pool) = (&certificates.signer, certificates.pool.as_slice());
    let path = match chain::build(signer, pool, context.anchors, Shape::OneIssuer, context.crypto) {
        Ok(path) => path,
        Err(fault) => return Findings::not_genuine(refused(vec![fault.into_check("chain")])),
    };
    let chain = Check::passed("chain", path.describe());
    let signature = report_signature(report, signer, context);
    let vek = match Vek::read(signer) {
        Ok(vek) => vek,
        Err(fault) => {
            let certificate = Check::failed("certificate", Code::CertificateMalformed, fault.to_string());
            return Findings::not_genuine(refused(vec![chain, certificate, signature]));
        }
    };
    if signature.is_failed() {
        return Findings::not_genuine(refused(vec![chain, signature]));
    }
    let genuine = Check::group(
        "genuine",
        format!("report ← {}", path.describe()),
        vec![
            chain,
            path.validity(context),
            signature,
            signing_key(body, &vek),
            product(body, &vek),
            chip(body, &vek),
        ],
    );
    let (revocation, crl_seen) = revocation(collateral, &path, context);
    let (tcb_check, tcb) = tcb::evaluate(body, &vek, context);
    Findings {
        checks: vec![genuine, revocation, tcb_check, configuration::check(body, vek.family, context)],
        origin: Some(path.anchor.origin.clone()),
        product: Some(vek.family.to_string()),
        identity: Some(identity(body, &vek)),
        tcb,
        claims: Claims { snp: Some(claims::of(body, &vek)), ..Claims::default() },
        collateral: CollateralSeen {
            subject: Some(CollateralSubject::Amd(vek.family)),
            amd_crl_number: crl_seen.and_then(|crl| crl.number),
            amd_crl_issued: crl_seen.map(|crl| crl.issued),
            ..CollateralSeen::default()
        },
    }
}

fn refused(checks: Vec<Check>) -> Check {
    Check::group("genuine", "not shown to come from AMD hardware", checks)
}

fn missing(body: &ReportBody) -> Check {
    let text = "the certificate of the key that signed the report was not given";
    let check = Check::failed("endorsements", Code::EndorsementsMissing, text)
        .expected("a VCEK or VLEK certificate with its issuers'")
        .mend(where_to_fetch(body));
    refused(vec![check])
}

/// The address of the certificate at AMD's key distribution service (57230, §4.1).
fn where_to_fetch(body: &ReportBody) -> String {
    let general = "fetch the VCEK for this chip and TCB from AMD's key distribution service";
    let Some(family) = body.family() else { return general.into() };
    let Some(tcb) = body.reported_tcb.components(family) else { return general.into() };
    if body.signing_key() == SigningKey::Vlek {
        return "ask the cloud provider for the VLEK certificate of this TCB".into();
    }
    let chip = hex::encode(&body.chip_id[..hardware_id_length(family)]);
    let TcbComponents { fmc, bootloader, tee, snp, microcode } = tcb;
    let fmc = fmc.map(|fmc| format!("fmcSPL={fmc}&")).unwrap_or_default();
    format!(
        "fetch https://kdsintf.amd.com/vcek/v1/{family}/{chip}?{fmc}blSPL={bootloader}&teeSPL={tee}\
         &snpSPL={snp}&ucodeSPL={microcode}"
    )
}

struct Certificates<'a> {
    signer: ParsedCertificate<'a>,
    pool: Vec<ParsedCertificate<'a>>,
}

fn read_certificates(collateral: &AmdCollateral) -> Result<Certificates<'_>, Check> {
    let read = |name: &str, der| {
        ParsedCertificate::parse(der).map_err(|fault| {
            Check::failed("certificate", Code::CertificateMalformed, format!("{name}: {fault}"))
        })
    };
    let signer = read("VCEK or VLEK", &collateral.vek)?;
    let mut pool: Vec<_> = collateral
        .issuer_chain
        .iter()
        .map(|der| read("issuer of the VCEK or VLEK", der))
        .collect::<Result<_, _>>()?;
    if !pool.iter().any(|other| other.subject() == signer.issuer()) {
        pool.extend(KNOWN_ISSUERS.iter().filter_map(|der| ParsedCertificate::parse(der).ok()));
    }
    Ok(Certificates { signer, pool })
}

/// AMD's ASKs and ASVKs, for Endorsements that come without. They are verified like any other certificate:
/// having them here trusts nothing.
static KNOWN_ISSUERS: LazyLock<Vec<CertificateDer>> = LazyLock::new(|| {
    [
        include_bytes!("../../roots/ask-milan.der").as_slice(),
        include_bytes!("../../roots/asvk-milan.der"),
        include_bytes!("../../roots/ask-genoa.der"),
        include_bytes!("../../roots/asvk-genoa.der"),
        include_bytes!("../../roots/ask-turin.der"),
        include_bytes!("../../roots/asvk-turin.der"),
    ]
    .map(|der| CertificateDer(der.to_vec()))
    .into()
});

fn report_signature(report: &snp::Report, signer: &ParsedCertificate<'_>, context: &Context<'_>) -> Check {
    const NAME: &str = "report-signature";
    let PublicKey::P384(key) = signer.key() else {
        return Check::failed(NAME, Code::CertificateMalformed, "the certificate's key is not on P-384");
    };
    let algorithm = SignatureAlgorithm::EcdsaP384Sha384Fixed;
    match context.crypto.verify(algorithm, key, report.signed(), report.signature()) {
        Ok(()) => Check::passed(NAME, "the report is signed by the certificate's key"),
        Err(_) => {
            let text = "the report was not signed by the certificate's key: altered, or another chip's";
            Check::failed(NAME, Code::ReportSignatureInvalid, text)
        }
    }
}

fn signing_key(body: &ReportBody, vek: &Vek) -> Check {
    const NAME: &str = "signing-key";
    let kind = vek.kind.as_str();
    match (body.signing_key(), vek.kind) {
        (SigningKey::Vcek, Kind::Vcek) | (SigningKey::Vlek, Kind::Vlek) => {
            Check::passed(NAME, format!("report and certificate name a {kind}"))
        }
        (seen, _) => {
            let text = "the report says that another kind of key signed it than its certificate does";
            Check::failed(NAME, Code::VekKindMismatch, text).expected(kind).observed(format!("{seen:?}"))
        }
    }
}

fn product(body: &ReportBody, vek: &Vek) -> Check {
    const NAME: &str = "product";
    match (body.cpuid, body.family()) {
        (None, _) => {
            Check::passed(NAME, format!("{}, by the certificate (report v2 does not say)", vek.family))
        }
        (Some(_), Some(family)) if family == vek.family => Check::passed(NAME, family.as_str()),
        (Some(cpuid), family) => {
            let seen = family.map_or("an unknown product".into(), |family| family.to_string());
            let text = "the report is from another product than the certificate";
            Check::failed(NAME, Code::ProductMismatch, text)
                .expected(vek.family.as_str())
                .observed(format!("{seen} (CPUID family {:#x}, model {:#x})", cpuid.family, cpuid.model))
        }
    }
}

fn chip(body: &ReportBody, vek: &Vek) -> Check {
    const NAME: &str = "chip";
    let Some(certified) = &vek.hardware_id else {
        return Check::skipped(NAME, "a VLEK is of a cloud provider, not of a chip");
    };
    let (own, rest) = body.chip_id.split_at(hardware_id_length(vek.family));
    if own == certified.as_slice() && rest.iter().all(|&byte| byte == 0) {
        return Check::passed(NAME, "report and certificate name the same chip");
    }
    let mend = match body.is_chip_masked() {
        true => "let the firmware tell the chip id (MASK_CHIP_ID is on), or use a VLEK",
        false => "give the VCEK certificate of the chip that made the report",
    };
    Check::failed(NAME, Code::ChipIdMismatch, "the report is from another chip than the certificate")
        .expected(hex::encode(certified))
        .observed(hex::encode(body.chip_id))
        .mend(mend)
}

fn identity(body: &ReportBody, vek: &Vek) -> PlatformIdentity {
    match &vek.provider {
        Some(provider) => PlatformIdentity::Provider(provider.clone()),
        None => PlatformIdentity::ChipId(body.chip_id),
    }
}

fn revocation(
    collateral: &AmdCollateral,
    path: &Path<'_, '_>,
    context: &Context<'_>,
) -> (Check, Option<CrlSeen>) {
    const NAME: &str = "amd-crl";
    let one = |check: Check| Check::group("revocation", check.text.clone(), vec![check]);
    // A verdict without revocation is always worth a warning.
    let rule = match context.policy.amd_crl {
        Rule::Refuse => Rule::Refuse,
        Rule::Warn | Rule::Allow => Rule::Warn,
    };
    let Some(crl) = &collateral.crl else {
        let text = "no revocation list of AMD's was given: a revoked issuer would not be noticed";
        let check = by_rule(rule, NAME, Code::CrlMissing, text);
        return (one(check.mend("give AMD's CRL for the product with the Endorsements")), None);
    };
    let issuer =
        Issuer { name: path.anchor.name.clone(), subject: &path.anchor.subject, key: &path.anchor.key };
    let subjects: Vec<_> = path.issuer.into_iter().collect();
    let verified = match revocation::verify(NAME, crl, &issuer, &subjects, context) {
        Ok(verified) => verified,
        Err(check) => return (one(check), None),
    };
    let seen = Some(CrlSeen { number: verified.number, issued: verified.this_update });
    if let Some(check) = verified.revocation(NAME) {
        return (one(check), seen);
    }
    let check = match verified.currency(NAME, context) {
        Ok(warning) => rolled_back(&verified, context).or(warning).unwrap_or_else(|| {
            let text = format!("AMD CRL of {}, valid until {}", verified.this_update, verified.next_update);
            Check::passed(NAME, text)
        }),
        // An expired list is like none.
        Err(stale) if stale.code == Some(Code::CrlExpired) && rule != Rule::Refuse => {
            let text = format!("{} on {}", stale.text, verified.next_update);
            Check::warned(NAME, Code::CrlExpired, text).mend("fetch the current list from AMD")
        }
        Err(check) => check,
    };
    (one(check), seen)
}

fn rolled_back(crl: &revocation::VerifiedCrl, context: &Context<'_>) -> Option<Check> {
    let minimum = &context.policy.minimum;
    let (number, issued) = (crl.number.unwrap_or(0), crl.this_update);
    let by_number = minimum.amd_crl_number.filter(|&floor| number < floor);
    let by_issue = minimum.amd_crl_issued.filter(|&floor| issued < floor);
    let (expected, observed) = match (by_number, by_issue) {
        (Some(floor), _) => (format!("number {floor} or later"), format!("number {number}")),
        (None, Some(floor)) => (format!("issued {floor} or later"), format!("issued {issued}")),
        (None, None) => return None,
    };
    Some(
        Check::failed("amd-crl", Code::CollateralRolledBack, "a newer revocation list has been seen before")
            .expected(expected)
            .observed(observed)
            .mend("fetch the current list from AMD"),
    )
}

/// Milan's root seed was extracted by software alone (MilanLaunchy and BadFuse, arXiv 2605.12990), so the
/// owner of such a machine can forge a report of any TCB.
pub(crate) fn is_compromised(family: ProductFamily) -> bool {
    family == ProductFamily::Milan
}
