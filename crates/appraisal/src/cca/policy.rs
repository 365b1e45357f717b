use serde::{Deserialize, Serialize};

use crate::Rule;

/// What a policy says of Arm CCA alone. The default is strict. The keys of platforms are among the policy's
/// `trust_anchors`; a state of life in which the platform can be debugged follows the policy's `debug`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CcaPolicy {
    /// The platform is in a state of its life that is neither `secured` nor one of debug.
    pub lifecycle: Rule,
    /// A token has claims that this version does not know.
    pub unknown_claims: Rule,
}

impl Default for CcaPolicy {
    fn default() -> Self {
        Self { lifecycle: Rule::Refuse, unknown_claims: Rule::Refuse }
    }
}

impl CcaPolicy {
    /// Authenticity and validity only: what is debatable is a warning. A platform that is not locked vouches for
    /// nothing, and is refused all the same.
    pub fn genuine() -> Self {
        Self { unknown_claims: Rule::Warn, ..Self::default() }
    }
}
