//! Release policies in Rego: admitted when a manifest is set or proposed, compiled once under it, and asked each time.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use manifest::{Broker, Faults, Manifest, PolicyName};
use policy_rego::Release;

/// A manifest that is to come into force: whatever else is wrong with it, also its policies in Rego can be run.
pub fn parse(bytes: &[u8]) -> Result<Manifest, Faults> {
    Manifest::parse_checking(bytes, &Release::check)
}

/// The policies in Rego of one manifest, compiled when the first is asked for. A copy costs nothing.
#[derive(Clone, Default)]
pub struct Policies(Arc<OnceLock<BTreeMap<PolicyName, Compiled>>>);

/// A policy, or why it cannot be run: by a newer version of this program than the one that admitted it, say.
pub type Compiled = Result<Release, String>;

impl Policies {
    /// The compiled policy of this name, if it has one in Rego.
    pub(super) fn of(&self, broker: &Broker, name: &PolicyName) -> Option<Compiled> {
        let compile = || {
            let texts =
                broker.policies.iter().filter_map(|(name, policy)| Some((name, policy.rego.as_deref()?)));
            texts.map(|(name, text)| (name.clone(), compile(text))).collect()
        };
        self.0.get_or_init(compile).get(name).cloned()
    }
}

/// Compiles one policy.
pub fn compile(text: &str) -> Compiled {
    Release::new(text, Release::LIMITS).map_err(|error| error.to_string())
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Policies(…)")
    }
}
