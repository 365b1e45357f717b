//! Evidence, Endorsements, Reference Values, an Appraisal Policy and a time, to a verdict: a pure function.
//!
//! What it is: [`appraise`] verifies every signature from the Evidence to a vendor's root, every validity at
//! the time given, revocation, the vendor's view of the platform's TCB, and then compares the Evidence with
//! what is expected. It returns [`Appraised`], a proof that only it can make, or [`Refused`]; both carry the
//! whole tree of checks ([`Verdict`]).
//!
//! What it is not: it fetches nothing, reads no clock, and has no cryptography of its own
//! ([`Crypto`] is passed in). It does not say that code is good, only that it is the code you named.
//!
//! ```text
//! bytes ──Evidence::parse──▶ Evidence ─┐
//! vendor's signed statements ─────────▶│            ┌─▶ Appraised (proof) ─▶ whatever releases a secret
//! ReferenceValues ────────────────────▶│ appraise ──┤
//! Policy, now ────────────────────────▶│            └─▶ Refused (codes, reasons, what would mend it)
//! ```
//!
//! ```no_run
//! use appraisal::{Crypto, Policy, ReferenceValue, ReferenceValues, UnixTime, appraise};
//! use evidence::{Endorsements, Evidence, ReportData};
//!
//! fn release(quote: &[u8], stapled: &[u8], expected: Vec<ReferenceValue>, nonce: ReportData,
//!            now: UnixTime, crypto: &dyn Crypto) -> Result<(), Box<dyn std::error::Error>> {
//!     let evidence = Evidence::parse(quote)?;
//!     let endorsements = Endorsements::from_bytes(stapled)?;
//!     let reference = ReferenceValues { report_data: nonce.into(), measurements: expected };
//!     let appraised = appraise(&evidence, &endorsements, &reference, &Policy::production(), now, crypto)?;
//!     println!("{}", appraised.verdict().render(false));
//!     Ok(())
//! }
//! ```

#![expect(
    clippy::result_large_err,
    reason = "a failed check is what this crate is for, made once and moved up; boxing each would say less"
)]

mod acceptance;
mod admission;
mod amd;
mod azure;
pub mod binding;
pub mod boot;
mod cca;
mod chain;
mod claims;
pub mod cluster;
mod code;
mod collect;
mod composite;
mod crypto;
mod currency;
mod der;
mod examination;
mod expectation;
mod expiry;
mod findings;
mod heads;
mod intel;
mod memory;
mod narrowing;
mod needs;
mod nitro;
mod nvidia;
mod policy;
pub mod ra_tls;
mod reference;
mod render;
mod revocation;
mod status;
mod time;
mod tpm;
mod trust;
mod trust_anchor;
mod verdict;
mod verifier;
mod x509;

use evidence::{Covered, Endorsements, Evidence, LaunchConfiguration, Measurement, Platform};

pub use amd::{GuestPolicy, PlatformInfo, SnpClaims, SnpTcbs};
pub use azure::{AzureClaims, AzurePolicy};
pub use boot::BootPolicy;
pub use cca::{CcaClaims, CcaPolicy};
pub use claims::Claims;
pub use code::Code;
pub use collect::{EndorsementsBuilder, Unrecognised};
pub use composite::{AppraisedAll, CompositeVerdict, Piece, RefusedAll, appraise_all, assess_all};
pub use crypto::{Crypto, InvalidSignature, SignatureAlgorithm};
pub use examination::{Examination, Examined, NoCluster, NoRoot};
pub use expiry::{Expiry, PartWindow};
pub use findings::{CollateralSeen, CrlSeen};
pub use heads::{CertificateHead, CrlHead, DocumentHead, Unreadable, VekHead};
pub use intel::{
    EnclaveAttributes, ExtendedTdClaims, IntelClaims, IntelCollateralClaims, IntelPolicy, SgxClaims, SgxType,
    TdAttributes, TdxClaims,
};
pub use memory::Capacity;
pub use narrowing::{Narrowing, Objection};
pub use needs::{
    AmdNeeds, CollateralSubject, IntelNeeds, IntelTee, Needs, NeedsUnknown, PckCa, VekNeeds, hardware_id,
    needs, needs_of_quote, needs_of_report,
};
pub use nitro::{NitroClaims, NitroPolicy};
pub use nvidia::{NvidiaArchitecture, NvidiaClaims, NvidiaDevice, NvidiaPolicy};
pub use policy::{
    AcceptedFamily, AttributeBits, Bits, CollateralPolicy, ContradictoryBits, EmptyIdentity, EmulatedRoot,
    FirmwareVersion, Fmspc, Grace, GraceEnd, IdBlock, InvalidFirmwareVersion, InvalidGrace, InvalidRoot,
    ListedIdentity, Mask, Minimum, PlatformIdentities, Policy, Rule, SnpMinimum, SnpPolicy, Waiver,
};
pub use reference::{
    CorimPolicy, InvalidReference, LeftOut, ReadReferences, ReferenceFile, ReferenceValue, ReferenceValues,
    ReferencesRefused, Unsigned,
};
pub use status::TcbStatus;
pub use time::{InvalidTime, UnixTime};
pub use tpm::{TpmClaims, TpmPolicy};
pub use trust::INTEL_ROOT_CA;
pub use trust_anchor::{AnchorKey, InvalidAnchor, TrustAnchor};
pub use verdict::{
    Check, Decision, OpenAdvisory, Origin, Outcome, PlatformIdentity, Reason, Shortfall, Tcb, TcbPart,
    TcbTarget, Verdict,
};
pub use verifier::Verifier;

use expectation::Expectations;
use findings::{Context, Findings};
use memory::{Memory, Recall};

/// Appraises Evidence.
///
/// # Errors
/// [`Refused`], with the tree of checks, when any check fails or could not be made that must be.
pub fn appraise(
    evidence: &Evidence,
    endorsements: &Endorsements,
    reference: &ReferenceValues,
    policy: &Policy,
    now: UnixTime,
    crypto: &dyn Crypto,
) -> Result<Appraised, Refused> {
    let expectations = Expectations {
        report_data: Some(&reference.report_data),
        measurements: Some(&reference.measurements),
    };
    let judged = judge(evidence, endorsements, expectations, policy, now, crypto, None);
    Appraised::new(evidence, judged)
}

/// Looks at Evidence with expectations that may be partial: for people, and for reading recorded Evidence.
/// The result is no proof of anything, and nothing may be released because of it.
pub fn assess(
    evidence: &Evidence,
    endorsements: &Endorsements,
    report_data: Option<&Covered>,
    measurements: Option<&[ReferenceValue]>,
    policy: &Policy,
    now: UnixTime,
    crypto: &dyn Crypto,
) -> Assessment {
    let expectations = Expectations { report_data, measurements };
    Assessment { verdict: judge(evidence, endorsements, expectations, policy, now, crypto, None).0 }
}

/// Proof that Evidence was appraised and accepted. Only [`appraise`] and [`Verifier::appraise`] make it.
#[derive(Clone, Debug)]
pub struct Appraised {
    verdict: Verdict,
    platform: Platform,
    measurement: Option<Measurement>,
    launch_configuration: Vec<u8>,
    report_data: Covered,
    emulated: bool,
    collateral: CollateralSeen,
}

impl Appraised {
    fn new(evidence: &Evidence, judged: (Verdict, CollateralSeen)) -> Result<Self, Refused> {
        let (verdict, collateral) = judged;
        match (&verdict.verdict, &verdict.origin) {
            (Decision::Accepted, Some(origin)) => Ok(Self {
                emulated: matches!(origin, Origin::Emulated(_)),
                platform: evidence.platform(),
                measurement: evidence.measurement(),
                launch_configuration: evidence.launch_configuration().to_vec(),
                report_data: evidence.covered(),
                collateral,
                verdict,
            }),
            _ => Err(Refused { verdict: Box::new(verdict) }),
        }
    }

    /// Asks a further opinion: the proof stays one only if that has nothing against it.
    ///
    /// # Errors
    /// [`Refused`], with its objections in the tree.
    pub fn narrow(self, by: &dyn Narrowing) -> Result<Self, Refused> {
        let verdict = self.verdict.narrowed(by);
        if verdict.is_accepted() {
            Ok(Self { verdict, ..self })
        } else {
            Err(Refused { verdict: Box::new(verdict) })
        }
    }

    /// The tree of checks.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The kind of TEE.
    pub fn platform(&self) -> Platform {
        self.platform
    }

    /// The code, where the platform has one measurement for it; see [`Verdict::measurements`] for the registers.
    pub fn measurement(&self) -> Option<&Measurement> {
        self.measurement.as_ref()
    }

    /// What the launcher configured: CONFIGID, MRCONFIGID or HOST_DATA. Compared only if the reference value
    /// names one.
    pub fn launch_configuration(&self) -> &[u8] {
        &self.launch_configuration
    }

    /// Whether the Evidence chains to the root of an emulated platform.
    pub fn emulated(&self) -> bool {
        self.emulated
    }

    /// The platform instance.
    pub fn platform_identity(&self) -> Option<&PlatformIdentity> {
        self.verdict.platform_identity.as_ref()
    }

    /// What the Evidence covers; equal to the reference.
    pub fn report_data(&self) -> &Covered {
        &self.report_data
    }

    /// How new the vendor's statements were: to be remembered, and given as [`Minimum`] of later policies, so
    /// that older ones that are still signed are refused (S-18).
    pub fn collateral(&self) -> &CollateralSeen {
        &self.collateral
    }
}

/// Evidence was appraised and not accepted.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}", sentence(.verdict))]
pub struct Refused {
    verdict: Box<Verdict>,
}

impl Refused {
    /// The tree of checks.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// Why, as stable codes, in the order of the tree.
    pub fn codes(&self) -> Vec<Code> {
        self.verdict.codes().collect()
    }
}

fn sentence(verdict: &Verdict) -> String {
    let platform = verdict.platform;
    match verdict.reasons.as_slice() {
        [] => format!("{platform} Evidence refused"),
        [only] => format!("{platform} Evidence refused: {}: {}", only.code, only.text),
        [first, more @ ..] => {
            let codes: Vec<_> = more.iter().map(|reason| reason.code.as_str()).collect();
            format!("{platform} Evidence refused: {}: {}; also {}", first.code, first.text, codes.join(", "))
        }
    }
}

/// What a look at Evidence found; see [`assess`].
#[derive(Clone, Debug)]
pub struct Assessment {
    verdict: Verdict,
}

impl Assessment {
    /// Asks a further opinion, where the verdict accepts.
    #[must_use]
    pub fn narrow(self, by: &dyn Narrowing) -> Self {
        Self { verdict: self.verdict.narrowed(by) }
    }

    /// The tree of checks.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }
}

/// The checks that every verdict must have made; the other two, `covers` and `mine`, must have been made
/// where something was expected.
const MANDATORY: [&str; 4] = ["genuine", "revocation", "tcb", "configuration"];

fn judge(
    evidence: &Evidence,
    endorsements: &Endorsements,
    expectations: Expectations<'_>,
    policy: &Policy,
    now: UnixTime,
    crypto: &dyn Crypto,
    memory: Option<&Memory>,
) -> (Verdict, CollateralSeen) {
    let anchors = trust::anchors(evidence.platform(), policy);
    let recall = Recall::new(crypto, memory);
    let context = Context { policy, now, crypto: &recall, anchors: &anchors, memory: &recall };
    let Findings { mut checks, origin, product, identity, tcb, claims, collateral } = match evidence {
        Evidence::Sgx(quote) => {
            intel::appraise(intel::Quote::Sgx(quote), endorsements.intel.as_ref(), &context)
        }
        Evidence::Tdx(quote) => {
            intel::appraise(intel::Quote::Tdx(quote), endorsements.intel.as_ref(), &context)
        }
        Evidence::Snp(report) => amd::appraise(report, endorsements.amd.as_ref(), &context),
        Evidence::Azure(attestation) => azure::appraise(attestation, endorsements, &context),
        Evidence::Tpm(attestation) => tpm::appraise(attestation, endorsements.tpm.as_ref(), &context),
        Evidence::Nitro(document) => nitro::appraise(document, endorsements.aws.as_ref(), &context),
        Evidence::Cca(token) => cca::appraise(token, &context),
        Evidence::Nvidia(attestation) => {
            nvidia::appraise(attestation, endorsements.nvidia.as_ref(), &context)
        }
    };
    checks.extend(admission::platform(evidence.platform(), policy));
    // What is not genuine is refused for that, and is from nowhere.
    if origin.is_some() {
        checks.extend(admission::identity(identity.as_ref(), &claims, policy));
    }
    checks.push(expectations.covers(evidence));
    checks.push(expectations.mine(evidence));

    let made = |name: &str| {
        let outcome = checks.iter().find(|check| check.name == name).map(|check| check.outcome);
        matches!(outcome, Some(Outcome::Passed | Outcome::Warned))
    };
    let complete = MANDATORY.iter().all(|name| made(name))
        && (expectations.report_data.is_none() || made("covers"))
        && (expectations.measurements.is_none() || made("mine"));
    let failed = checks.iter().any(Check::is_failed);
    let accepted = complete && !failed && origin.is_some();
    if accepted {
        recall.keep();
    }

    let verdict = Verdict {
        verdict: if accepted { Decision::Accepted } else { Decision::Refused },
        policy: policy.name.clone(),
        at: now,
        platform: evidence.platform(),
        origin,
        product,
        platform_identity: identity,
        workload_checked: expectations.measurements.is_some(),
        tcb,
        measurements: evidence.measured(),
        report_data: evidence.covered(),
        claims,
        reasons: verdict::reasons(&checks, Outcome::Failed),
        warnings: verdict::reasons(&checks, Outcome::Warned),
        checks,
    };
    (verdict, collateral)
}

/// The launch configuration of Evidence as a value that can be compared; the lengths always fit.
fn launch_configuration(evidence: &Evidence) -> Option<LaunchConfiguration> {
    LaunchConfiguration::new(evidence.launch_configuration()).ok()
}
