use serde::{Deserialize, Serialize};

/// What a policy says of this platform alone. The default is strict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TpmPolicy {}

impl TpmPolicy {
    /// Authenticity and validity only: what is debatable is a warning.
    pub fn genuine() -> Self {
        Self::default()
    }
}
