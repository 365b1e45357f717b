use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::pck::{Pck, SgxType};
use crate::findings::by_rule;
use crate::verdict::Check;
use crate::{Code, Rule};

/// What a policy says of SGX and TDX platforms alone: what Intel certifies of them in PCK certificates. These are the
/// knobs of Intel's own appraisal (Intel SGX DCAP Quote Appraisal Library): by default nothing is asked, for no
/// platform is worse by them in itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntelPolicy {
    /// How the platform must protect memory; any way when empty.
    pub sgx_types: BTreeSet<SgxType>,
    /// Packages can be added to the platform.
    pub dynamic_platform: Rule,
    /// Intel keeps the platform's root keys.
    pub cached_keys: Rule,
    /// Hyperthreading is on, or the certificate does not say.
    pub smt: Rule,
}

impl Default for IntelPolicy {
    fn default() -> Self {
        Self {
            sgx_types: BTreeSet::new(),
            dynamic_platform: Rule::Allow,
            cached_keys: Rule::Allow,
            smt: Rule::Allow,
        }
    }
}

/// What the policy asks of the platform. No check where it asks nothing.
pub(super) fn checks(pck: &Pck, policy: &IntelPolicy) -> impl Iterator<Item = Check> {
    let configuration = pck.configuration;
    let dynamic = configuration.and_then(|own| own.dynamic_platform);
    let cached = configuration.and_then(|own| own.cached_keys);
    // Only platforms of several packages tell; others may have it on.
    let smt = configuration.and_then(|own| own.smt_enabled).unwrap_or(true);
    let asked = |rule: Rule, name, code, seen: bool, (bad, good): (&str, &str)| match (rule, seen) {
        (Rule::Allow, _) => None,
        (_, false) => Some(Check::passed(name, good)),
        (rule, true) => {
            let mend = "run on another platform, or change the policy's rule under intel";
            Some(by_rule(rule, name, code, bad).mend(mend))
        }
    };
    [
        sgx_type(pck.sgx_type, policy),
        asked(
            policy.dynamic_platform,
            "dynamic-platform",
            Code::DynamicPlatform,
            dynamic == Some(true),
            ("packages can be added to the platform", "no packages can be added"),
        ),
        asked(
            policy.cached_keys,
            "cached-keys",
            Code::CachedKeys,
            cached == Some(true),
            ("Intel keeps the platform's root keys", "Intel keeps no root keys of the platform"),
        ),
        asked(
            policy.smt,
            "smt",
            Code::SmtAllowed,
            smt,
            ("hyperthreading is on, or the PCK certificate does not say", "no hyperthreading"),
        ),
    ]
    .into_iter()
    .flatten()
}

fn sgx_type(seen: SgxType, policy: &IntelPolicy) -> Option<Check> {
    const NAME: &str = "sgx-type";
    if policy.sgx_types.is_empty() {
        return None;
    }
    if policy.sgx_types.contains(&seen) {
        return Some(Check::passed(NAME, seen.as_str()));
    }
    let accepted: Vec<_> = policy.sgx_types.iter().map(|accepted| accepted.as_str()).collect();
    Some(
        Check::failed(
            NAME,
            Code::SgxTypeNotAllowed,
            "the platform protects memory in a way that is not accepted",
        )
        .expected(accepted.join(" or "))
        .observed(seen.as_str())
        .mend("run on a platform of a type that the policy names, or add this one to intel.sgx_types"),
    )
}
