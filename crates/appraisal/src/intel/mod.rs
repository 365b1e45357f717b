//! Intel SGX and TDX: quote ← attestation key ← quoting enclave ← PCK ← PCK CA ← root, and what Intel signs
//! about the platform beside it.

mod certification;
mod claims;
mod collateral;
mod configuration;
mod detail;
mod documents;
mod genuine;
mod pck;
mod policy;
mod qe_identity;
mod tcb;
mod tcb_info;

use evidence::eventlog::HashAlgorithm;
use evidence::quote::SignatureData;
use evidence::{CrlDer, IntelCollateral, Platform, sgx, tdx};

use crate::admission;
use crate::boot::{self, Layout};
use crate::chain::Path;
use crate::findings::{CollateralSeen, Context, CrlSeen, Findings};
use crate::needs::{CollateralSubject, IntelNeeds, IntelTee, PckCa};
use crate::revocation::{self, Issuer, VerifiedCrl};
use crate::verdict::{Check, PlatformIdentity};
use crate::x509::ParsedCertificate;
use crate::{Code, UnixTime};
pub(crate) use certification::fitness;
pub use claims::{
    EnclaveAttributes, ExtendedTdClaims, IntelClaims, IntelCollateralClaims, SgxClaims, TdAttributes,
    TdxClaims,
};
use collateral::Signers;
pub(crate) use documents::Documents;
use genuine::Certificates;
pub(crate) use pck::Pck;
pub use pck::SgxType;
pub use policy::IntelPolicy;
pub(crate) use qe_identity::QeIdentity;
pub(crate) use tcb_info::TcbInfo;

/// A quote of either kind of TEE.
#[derive(Clone, Copy)]
pub(crate) enum Quote<'a> {
    Sgx(&'a sgx::Quote),
    Tdx(&'a tdx::Quote),
}

impl<'a> Quote<'a> {
    fn platform(self) -> Platform {
        match self {
            Self::Sgx(_) => Platform::Sgx,
            Self::Tdx(_) => Platform::Tdx,
        }
    }

    fn signed(self) -> &'a [u8] {
        match self {
            Self::Sgx(quote) => quote.signed(),
            Self::Tdx(quote) => quote.signed(),
        }
    }

    fn signature_data(self) -> &'a SignatureData {
        match self {
            Self::Sgx(quote) => quote.signature_data(),
            Self::Tdx(quote) => quote.signature_data(),
        }
    }

    fn padding(self) -> usize {
        match self {
            Self::Sgx(quote) => quote.padding(),
            Self::Tdx(quote) => quote.padding(),
        }
    }

    fn td(self) -> Option<&'a tdx::TdReport> {
        match self {
            Self::Sgx(_) => None,
            Self::Tdx(quote) => Some(quote.report()),
        }
    }

    fn configuration(self, context: &Context<'_>) -> Check {
        match self {
            Self::Sgx(quote) => configuration::enclave(quote.report(), context),
            Self::Tdx(quote) => configuration::td(quote.report(), context),
        }
    }
}

pub(crate) fn appraise(
    quote: Quote<'_>,
    collateral: Option<&IntelCollateral>,
    context: &Context<'_>,
) -> Findings {
    let data = quote.signature_data();
    let certificates = match Certificates::read(data.certification_data(), collateral) {
        Ok(certificates) => certificates,
        Err(check) => return Findings::not_genuine(not_shown(vec![check])),
    };
    let path = match certificates.path(context) {
        Ok(path) => path,
        Err(check) => return Findings::not_genuine(not_shown(vec![check])),
    };
    let mut checks = vec![Check::passed("chain", path.describe())];
    checks.extend(genuine::signatures(quote.signed(), data, path.signer, context));
    let pck = match Pck::read(path.signer) {
        Ok(pck) => {
            checks.extend(certification::mismatch(data.certification_data(), &pck));
            pck
        }
        Err(fault) => {
            checks.push(Check::failed("certificate", Code::CertificateMalformed, fault.to_string()));
            return Findings::not_genuine(not_shown(checks));
        }
    };
    if checks.iter().any(Check::is_failed) {
        return Findings::not_genuine(not_shown(checks));
    }
    checks.push(path.validity(context));
    if quote.padding() > 0 {
        let text =
            format!("{} bytes of zeros after the quote, covered by no signature, ignored", quote.padding());
        checks.push(Check::skipped("padding", text));
    }
    let genuine = Check::group("genuine", format!("quote ← quoting enclave ← {}", path.describe()), checks);
    let mut findings = Findings {
        origin: Some(path.anchor.origin.clone()),
        product: Some(format!("FMSPC {}", hex::encode(pck.fmspc))),
        identity: Some(PlatformIdentity::Ppid(pck.ppid)),
        claims: claims::of(quote, &pck),
        ..Findings::default()
    };
    findings.checks.push(genuine);
    match collateral {
        Some(collateral) => with_collateral(quote, collateral, &path, &pck, &mut findings, context),
        None => findings.checks.extend(without_collateral(&pck)),
    }
    let family = admission::fmspc(pck.fmspc, context.policy);
    findings.checks.push(
        quote
            .configuration(context)
            .and(family.into_iter().chain(policy::checks(&pck, &context.policy.intel))),
    );
    boot(quote, &mut findings, context);
    findings
}

/// The event log of a TD against its RTMRs, where one was attached.
fn boot(quote: Quote<'_>, findings: &mut Findings, context: &Context<'_>) {
    let Quote::Tdx(quote) = quote else { return };
    let Some(log) = quote.event_log() else { return };
    let attested = (1..).zip(quote.report().rtmr.iter().map(|rtmr| rtmr.to_vec())).collect();
    let (check, claims) = boot::check(
        log,
        HashAlgorithm::Sha384,
        Layout::ConfidentialVm,
        &attested,
        &context.policy.boot,
        context.crypto,
    );
    findings.checks.push(check);
    findings.claims.boot = claims;
}

fn not_shown(checks: Vec<Check>) -> Check {
    Check::group("genuine", "not shown to come from Intel hardware", checks)
}

fn without_collateral(pck: &Pck) -> [Check; 2] {
    let text = "Intel's collateral (TCB info, QE identity, CRLs) was not given";
    let check = Check::failed("endorsements", Code::EndorsementsMissing, text).mend(format!(
        "fetch the collateral for FMSPC {} from Intel's provisioning certification service",
        hex::encode(pck.fmspc)
    ));
    [
        Check::group("revocation", "not known", vec![check]),
        Check::skipped("tcb", "not looked at, because Intel's collateral was not given"),
    ]
}

fn with_collateral(
    quote: Quote<'_>,
    collateral: &IntelCollateral,
    path: &Path<'_, '_>,
    pck: &Pck,
    findings: &mut Findings,
    context: &Context<'_>,
) {
    let signers = SignerCertificates::read(collateral);
    let statements = match &signers {
        Ok(signers) => Statements::verify(quote.platform(), collateral, signers, path, pck, context),
        Err(check) => Err(check.clone()),
    };
    let signed_by = statements.as_ref().map_or(&[][..], |statements| &statements.signers);
    let (revocation, lists) = revocation_check(collateral, path, signed_by, context);
    let oldest_crl = lists.iter().flatten().map(|crl| crl.this_update).min();
    let seen = |index: usize| {
        let crl = lists.get(index)?.as_ref()?;
        Some(CrlSeen { number: crl.number, issued: crl.this_update })
    };
    let (root_ca_crl, pck_crl) = (seen(0), seen(1));
    findings.checks.push(revocation);
    match statements {
        Ok(Statements { documents, warnings, .. }) => {
            let documents::Statements { info, identity } = documents.statements();
            let evaluation = info.tcb_evaluation_data_number;
            findings.collateral = CollateralSeen {
                tcb_evaluation_data_number: Some(evaluation.min(identity.tcb_evaluation_data_number)),
                intel_collateral_issued: root_ca_crl
                    .zip(pck_crl)
                    .map(|(root, pck)| root.issued.min(pck.issued))
                    .map(|crl| crl.min(info.issue_date).min(identity.issue_date)),
                subject: subject(quote.platform(), pck, path),
                root_ca_crl,
                pck_crl,
                ..CollateralSeen::default()
            };
            let number = |index: usize| lists.get(index)?.as_ref()?.number;
            let ends = lists.iter().flatten().map(|crl| crl.next_update);
            findings.claims.set_collateral(IntelCollateralClaims {
                tcb_evaluation_data_number: evaluation.min(identity.tcb_evaluation_data_number),
                issued: oldest_crl.unwrap_or(info.issue_date).min(info.issue_date).min(identity.issue_date),
                expires: ends.fold(info.next_update.min(identity.next_update), UnixTime::min),
                root_ca_crl_number: number(0),
                pck_crl_number: number(1),
            });
            let text = format!(
                "TCB info of {}, evaluation {evaluation}; QE identity of {}; valid until {}",
                info.issue_date,
                identity.issue_date,
                info.next_update.min(identity.next_update)
            );
            findings.checks.push(match warnings.is_empty() {
                true => Check::passed("collateral", text),
                false => Check::group("collateral", text, warnings),
            });
            let qe = quote.signature_data().qe_report();
            let (check, tcb) = tcb::evaluate(pck, quote.td(), qe, info, identity, context);
            findings.checks.push(check);
            findings.tcb = tcb;
        }
        Err(check) => {
            findings.checks.push(Check::group("collateral", "cannot be used", vec![check]));
            let reason = "not looked at, because Intel's collateral cannot be used";
            findings.checks.push(Check::skipped("tcb", reason));
        }
    }
}

fn subject(platform: Platform, pck: &Pck, path: &Path<'_, '_>) -> Option<CollateralSubject> {
    let tee = if platform == Platform::Tdx { IntelTee::Tdx } else { IntelTee::Sgx };
    let ca = PckCa::of_name(&path.issuer?.subject_name())?;
    Some(CollateralSubject::Intel(IntelNeeds { tee, fmspc: pck.fmspc, ca }))
}

/// The certificates beside TCB info and QE identity: usually the same, and then verified once.
struct SignerCertificates<'a> {
    tcb_info: Signers<'a>,
    qe_identity: Option<Signers<'a>>,
}

impl<'a> SignerCertificates<'a> {
    fn read(collateral: &'a IntelCollateral) -> Result<Self, Check> {
        let same = collateral.tcb_info.issuer_chain == collateral.qe_identity.issuer_chain;
        Ok(Self {
            tcb_info: Signers::read(TCB_INFO, &collateral.tcb_info)?,
            qe_identity: (!same).then(|| Signers::read(QE_IDENTITY, &collateral.qe_identity)).transpose()?,
        })
    }
}

const TCB_INFO: &str = "tcb-info";
const QE_IDENTITY: &str = "qe-identity";

/// Intel's statements, verified, current, and about this platform.
struct Statements<'p, 'c> {
    documents: documents::Verified<'c>,
    signers: [&'p ParsedCertificate<'c>; 2],
    /// What ends soon, or is accepted although it has ended.
    warnings: Vec<Check>,
}

impl<'p, 'c> Statements<'p, 'c> {
    fn verify(
        platform: Platform,
        collateral: &'c IntelCollateral,
        signers: &'p SignerCertificates<'c>,
        path: &Path<'p, '_>,
        pck: &Pck,
        context: &Context<'_>,
    ) -> Result<Self, Check> {
        let tcb_signer = signers.tcb_info.path(TCB_INFO, path.anchor, context)?.signer;
        let qe_signer = match &signers.qe_identity {
            None => tcb_signer,
            Some(own) => own.path(QE_IDENTITY, path.anchor, context)?.signer,
        };
        let signers = [tcb_signer, qe_signer];
        let documents = documents::Verified::documents(collateral, signers, context)?;
        let documents::Statements { info, identity } = documents.statements();
        collateral::tcb_info_fits(TCB_INFO, info, platform, pck)?;
        collateral::qe_identity_fits(QE_IDENTITY, identity, platform)?;
        let number = info.tcb_evaluation_data_number;
        let info_ends = collateral::currency(TCB_INFO, info.issue_date, info.next_update, number, context)?;
        let number = identity.tcb_evaluation_data_number;
        let (issued, next_update) = (identity.issue_date, identity.next_update);
        let identity_ends = collateral::currency(QE_IDENTITY, issued, next_update, number, context)?;
        let warnings = info_ends.into_iter().chain(identity_ends).collect();
        Ok(Self { documents, signers, warnings })
    }
}

/// The root's list covers the PCK CA and the signers of the statements, the PCK CA's list the PCK.
fn revocation_check(
    collateral: &IntelCollateral,
    path: &Path<'_, '_>,
    signers: &[&ParsedCertificate<'_>],
    context: &Context<'_>,
) -> (Check, Vec<Option<VerifiedCrl>>) {
    let minimum = &context.policy.minimum;
    let root =
        Issuer { name: path.anchor.name.clone(), subject: &path.anchor.subject, key: &path.anchor.key };
    let below_root: Vec<_> = path.issuer.into_iter().chain(signers.iter().copied()).collect();
    let floor = (minimum.root_ca_crl_number, minimum.root_ca_crl_issued);
    let mut lists =
        vec![one_list("root-ca-crl", &collateral.root_ca_crl, &root, &below_root, floor, context)];
    // A PCK path always has its CA.
    if let Some(ca) = path.issuer {
        let issuer = Issuer { name: ca.subject_name(), subject: ca.subject(), key: ca.key() };
        let floor = (minimum.pck_crl_number, minimum.pck_crl_issued);
        lists.push(one_list("pck-crl", &collateral.pck_crl, &issuer, &[path.signer], floor, context));
    }
    let end = lists.iter().filter_map(|list| list.as_ref().ok()).map(|list| list.crl.next_update).min();
    let text = match (end, lists.iter().all(Result::is_ok)) {
        (Some(end), true) => format!("nothing on the path is revoked; lists valid until {end}"),
        _ => "not shown to be free of revocation".into(),
    };
    let names = ["root-ca-crl", "pck-crl"];
    let (mut checks, mut good) = (Vec::new(), Vec::new());
    for (name, list) in names.into_iter().zip(lists) {
        let (check, list) = match list {
            Ok(OneList { crl, warning }) => {
                let text = || format!("of {}, valid until {}", crl.this_update, crl.next_update);
                (warning.unwrap_or_else(|| Check::passed(name, text())), Some(crl))
            }
            Err(check) => (check, None),
        };
        checks.push(check);
        good.push(list);
    }
    (Check::group("revocation", text, checks), good)
}

/// A list that revokes nothing on the path, and perhaps a warning that it ends.
struct OneList {
    crl: VerifiedCrl,
    warning: Option<Check>,
}

fn one_list(
    name: &'static str,
    der: &CrlDer,
    issuer: &Issuer<'_>,
    subjects: &[&ParsedCertificate<'_>],
    floor: (Option<u64>, Option<UnixTime>),
    context: &Context<'_>,
) -> Result<OneList, Check> {
    let crl = revocation::verify(name, der, issuer, subjects, context)?;
    if let Some(revoked) = crl.revocation(name) {
        return Err(revoked);
    }
    let warning = crl.currency(name, context)?;
    collateral::issued_after_floor(name, crl.this_update, context)?;
    collateral::crl_above_floor(name, &crl, floor)?;
    Ok(OneList { crl, warning })
}
