//! What MarbleRun's manifest can say and this version cannot do yet. Such parts are read and checked like
//! all others, and then refused with the reason: the alternative would be to ignore them in silence.
//!
//! When a feature is built, its line in [`NOT_YET_SUPPORTED`] goes.

use crate::fault::{Code, Collector};
use crate::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    Infrastructures,
    RecoveryKeys,
    TlsTags,
    SealMode,
    Gates,
    UpdateThreshold,
    RecoveryThreshold,
    RotateRootSecret,
    CertificateSecrets,
    SignerPackages,
    UpdateManifest,
    UpdateSecurityVersion,
}

pub(crate) const NOT_YET_SUPPORTED: &[(Feature, &str)] = &[
    (Feature::Infrastructures, "this version does not enforce infrastructures"),
    (Feature::RecoveryKeys, "this version has no recovery with recovery keys"),
    (Feature::TlsTags, "this version has no transparent TLS by tags"),
    (Feature::SealMode, "this version always seals its state in the same way"),
    (Feature::Gates, "this version has none of the features behind gates"),
    (Feature::UpdateThreshold, "this version cannot update a manifest"),
    (Feature::RecoveryThreshold, "this version has no recovery with recovery keys"),
    (Feature::RotateRootSecret, "this version cannot update a manifest"),
    (Feature::CertificateSecrets, "this version issues no certificates as secrets"),
    (Feature::SignerPackages, "this version recognises code by its measurement only"),
    (Feature::UpdateManifest, "this version cannot update a manifest"),
    (Feature::UpdateSecurityVersion, "this version cannot update a manifest"),
];

/// Refuses a feature if it is on the list.
pub(crate) fn refuse(feature: Feature, at: &Path<'_>, faults: &mut Collector<'_>) {
    if let Some((_, reason)) = NOT_YET_SUPPORTED.iter().find(|(unsupported, _)| *unsupported == feature) {
        let message = format!("{reason}, so this would be ignored");
        faults.hint(at, Code::NotYetSupported, message, "remove it");
    }
}
