//! What MarbleRun's manifest can say and this version cannot do yet. Such parts are read and checked like
//! all others, and then refused with the reason: the alternative would be to ignore them in silence.
//!
//! When a feature is built, its line in [`NOT_YET_SUPPORTED`] goes.

use crate::fault::{Code, Collector};
use crate::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    AzureHsmSealing,
    CurveP224,
}

pub(crate) const NOT_YET_SUPPORTED: &[(Feature, &str)] = &[
    (Feature::AzureHsmSealing, "this version cannot seal with Azure's HSM"),
    (Feature::CurveP224, "this version makes no keys on P-224"),
];

/// Refuses a feature if it is on the list.
pub(crate) fn refuse(feature: Feature, at: &Path<'_>, faults: &mut Collector<'_>) {
    if let Some((_, reason)) = NOT_YET_SUPPORTED.iter().find(|(unsupported, _)| *unsupported == feature) {
        let message = format!("{reason}, so this would be ignored");
        faults.hint(at, Code::NotYetSupported, message, "remove it");
    }
}
