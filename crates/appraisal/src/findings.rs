//! What the part for a vendor's platforms takes and gives.

use crate::claims::Claims;
use crate::memory::Recall;
use crate::needs::CollateralSubject;
use crate::trust::Anchor;
use crate::verdict::{Check, Origin, PlatformIdentity, Tcb};
use crate::{Code, Crypto, Policy, Rule, UnixTime};

/// What every check may look at beside the Evidence and Endorsements.
pub(crate) struct Context<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) now: UnixTime,
    pub(crate) crypto: &'a dyn Crypto,
    pub(crate) anchors: &'a [Anchor],
    pub(crate) memory: &'a Recall<'a>,
}

/// What was found out about the platform.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) checks: Vec<Check>,
    pub(crate) origin: Option<Origin>,
    pub(crate) product: Option<String>,
    pub(crate) identity: Option<PlatformIdentity>,
    pub(crate) tcb: Tcb,
    pub(crate) claims: Claims,
    pub(crate) collateral: CollateralSeen,
}

impl Findings {
    /// Nothing but the first check, which failed in a way that leaves nothing to look at.
    pub(crate) fn not_genuine(genuine: Check) -> Self {
        let skipped = |name| Check::skipped(name, "not looked at, because the Evidence is not genuine");
        let checks = vec![genuine, skipped("revocation"), skipped("tcb"), skipped("configuration")];
        Self { checks, ..Self::default() }
    }
}

/// How new the vendor's statements were that an appraisal used (S-18).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollateralSeen {
    /// What the statements are about.
    pub subject: Option<CollateralSubject>,
    /// Intel: the evaluation data number of the TCB info.
    pub tcb_evaluation_data_number: Option<u32>,
    /// Intel: the oldest time of issue among TCB info, QE identity and CRLs.
    pub intel_collateral_issued: Option<UnixTime>,
    /// Intel: the root CA's list.
    pub root_ca_crl: Option<CrlSeen>,
    /// Intel: the PCK CA's list.
    pub pck_crl: Option<CrlSeen>,
    /// AMD: the number of the CRL.
    pub amd_crl_number: Option<u64>,
    /// AMD: when the CRL was issued.
    pub amd_crl_issued: Option<UnixTime>,
}

/// How new a revocation list was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrlSeen {
    /// Its number. Intel gives all of its lists the number 1.
    pub number: Option<u64>,
    /// When it was issued.
    pub issued: UnixTime,
}

/// What a policy rule makes of something that not everyone accepts.
pub(crate) fn by_rule(rule: Rule, name: &'static str, code: Code, text: impl Into<String>) -> Check {
    match rule {
        Rule::Refuse => Check::failed(name, code, text),
        Rule::Warn => Check::warned(name, code, text),
        Rule::Allow => Check::skipped(name, format!("{}; the policy allows it", text.into())),
    }
}
