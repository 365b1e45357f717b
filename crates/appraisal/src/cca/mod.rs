//! Arm CCA: realm token ← realm attestation key (RAK) ← platform token ← the platform's key (CPAK), which the policy
//! enrols: Arm has no root of its own.
//!
//! Source: draft-ffm-rats-cca-token; Realm Management Monitor specification (DEN0137), §A7.

pub(crate) mod key;
mod policy;

use evidence::cca::{HashAlgorithm, Token};
use serde::Serialize;

use crate::claims::Claims;
use crate::findings::{Context, Findings, by_rule};
use crate::verdict::{Check, Origin, PlatformIdentity};
use crate::{Code, Crypto, TrustAnchor};
use key::Key;
pub use policy::CcaPolicy;

/// What the tokens claim, as far as it was verified. Measurements are among the verdict's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CcaClaims {
    /// The platform token's profile.
    pub platform_profile: String,
    /// The realm token's profile; none in tokens from before there was one.
    pub realm_profile: Option<String>,
    /// The kind of hardware; hexadecimal.
    pub implementation_id: String,
    /// The platform; hexadecimal.
    pub instance_id: String,
    /// How the hardware is configured; hexadecimal.
    pub configuration: String,
    /// The state of the platform's life, in the specification's words.
    pub lifecycle: &'static str,
    /// The platform's firmware.
    pub software_components: Vec<ComponentClaims>,
    /// Where the maker says that tokens can be verified.
    pub verification_service: Option<String>,
    /// The algorithm of the realm's measurements.
    pub realm_hash_algorithm: &'static str,
    /// Claims that this version does not know, by their labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// One part of the platform's firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ComponentClaims {
    /// The name by which registers of reference values call it: `sw.NAME.measurement`.
    pub name: String,
    /// What it says that it is.
    pub kind: Option<String>,
    /// Hexadecimal.
    pub measurement: String,
    /// Hexadecimal.
    pub signer_id: String,
    /// In its maker's words.
    pub version: Option<String>,
}

pub(crate) fn appraise(token: &Token, context: &Context<'_>) -> Findings {
    let (platform, anchor) = platform_signature(token, context);
    let Some(anchor) = anchor else {
        return Findings::not_genuine(refused(vec![platform]));
    };
    let realm = vec![platform, binding(token, context.crypto), realm_signature(token, context.crypto)];
    if realm.iter().any(Check::is_failed) {
        return Findings::not_genuine(refused(realm));
    }
    let text =
        format!("realm token ← RAK ← platform token ← key {:?}, enrolled by the policy", anchor.name());
    let revocation =
        "keys of platforms are enrolled one by one: one that is taken out of the policy is revoked";
    let tcb = "no TCB levels are published; reference values can name the firmware as registers (sw.…)";
    Findings {
        checks: vec![
            Check::group("genuine", text, realm),
            Check::passed("revocation", revocation),
            Check::passed("tcb", tcb),
            configuration(token, context),
        ],
        origin: Some(Origin::Enrolled(anchor.name().to_owned())),
        identity: Some(PlatformIdentity::Named(hex::encode(token.platform_claims().instance_id))),
        claims: Claims { cca: Some(claims(token)), ..Claims::default() },
        ..Findings::default()
    }
}

fn refused(checks: Vec<Check>) -> Check {
    Check::group("genuine", "not shown to come from a CCA platform that the policy enrols", checks)
}

/// The platform's signature, and the anchor whose key made it.
fn platform_signature<'a>(token: &Token, context: &Context<'a>) -> (Check, Option<&'a TrustAnchor>) {
    const NAME: &str = "platform-signature";
    let instance = token.platform_claims().instance_id;
    let mut candidates = context
        .policy
        .trust_anchors
        .iter()
        .filter(|anchor| anchor.identity().is_none_or(|identity| identity == instance))
        .filter_map(|anchor| Some((anchor, Key::of_anchor(anchor.key())?)))
        .peekable();
    if candidates.peek().is_none() {
        let text = "the policy enrols no key for this platform, so nothing vouches for it";
        let check = Check::failed(NAME, Code::PlatformKeyNotEnrolled, text)
            .expected("a key (CPAK) among the policy's trust_anchors, for any instance or for this one")
            .observed(format!("instance {}", hex::encode(instance)))
            .mend("get the platform's public key from its maker, and enrol it");
        return (check, None);
    }
    let signer = candidates
        .find(|(_, key)| key::verify(token.platform(), key.curve, &key.point, context.crypto).is_ok());
    match signer {
        Some((anchor, _)) => {
            let algorithm = token.platform().algorithm();
            let text = format!("the platform's token is signed ({algorithm}) by the key {:?}", anchor.name());
            (Check::passed(NAME, text), Some(anchor))
        }
        None => {
            let text =
                "the platform's token was not signed by a key that the policy enrols: altered, or another's";
            let check = Check::failed(NAME, Code::PlatformTokenSignatureInvalid, text)
                .observed(format!("instance {}", hex::encode(instance)))
                .mend("enrol the key of this platform, if it is one of yours");
            (check, None)
        }
    }
}

/// The platform's challenge is the digest of the realm's key, by an algorithm that is a claim of its own.
fn binding(token: &Token, crypto: &dyn Crypto) -> Check {
    const NAME: &str = "realm-key";
    let realm = token.realm_claims();
    let encoded = realm.key.encoded.as_slice();
    let digest = match realm.key_hash_algorithm {
        HashAlgorithm::Sha256 => crypto.sha256(&[encoded]).to_vec(),
        HashAlgorithm::Sha384 => crypto.sha384(&[encoded]).to_vec(),
        HashAlgorithm::Sha512 => crypto.sha512(&[encoded]).to_vec(),
    };
    let seen = &token.platform_claims().challenge;
    let algorithm = realm.key_hash_algorithm.as_str();
    if *seen == digest {
        return Check::passed(NAME, format!("the platform's token covers the realm's key ({algorithm})"));
    }
    let text = "the platform's token was not made for this realm's key: tokens of two places put together";
    Check::failed(NAME, Code::RealmKeyNotBound, text)
        .expected(format!("{} ({algorithm} of the realm's key)", hex::encode(digest)))
        .observed(hex::encode(seen))
        .mend("take both tokens from one answer of the realm's monitor")
}

fn realm_signature(token: &Token, crypto: &dyn Crypto) -> Check {
    const NAME: &str = "realm-signature";
    let key = &token.realm_claims().key;
    match key::verify(token.realm(), key.curve, &key.point, crypto) {
        Ok(()) => {
            let algorithm = token.realm().algorithm();
            Check::passed(NAME, format!("the realm's token is signed ({algorithm}) by the realm's key"))
        }
        Err(_) => {
            let text = "the realm's token was not signed by the realm's key: altered, or another's";
            Check::failed(NAME, Code::RealmTokenSignatureInvalid, text)
        }
    }
}

fn configuration(token: &Token, context: &Context<'_>) -> Check {
    let checks = vec![lifecycle(token, context), unknown_claims(token, context)];
    Check::group("configuration", "the state of the platform", checks)
}

fn lifecycle(token: &Token, context: &Context<'_>) -> Check {
    const NAME: &str = "lifecycle";
    let state = token.platform_claims().lifecycle;
    let seen = format!("{} ({:#06x})", state.name(), state.0);
    let check = if state.is_secured() {
        return Check::passed(NAME, seen);
    } else if state.is_debug() {
        let text = "the platform can be debugged: its owner may read and change realms";
        by_rule(context.policy.debug, NAME, Code::DebugEnabled, text)
    } else {
        let text = "the platform is not in the state in which everything is locked";
        by_rule(context.policy.cca.lifecycle, NAME, Code::LifecycleNotSecured, text)
    };
    check
        .expected("secured (0x3000 to 0x30ff)")
        .observed(seen)
        .mend("use a platform that is provisioned and locked")
}

fn unknown_claims(token: &Token, context: &Context<'_>) -> Check {
    const NAME: &str = "claims";
    let unknown = unknown(token);
    if unknown.is_empty() {
        return Check::passed(NAME, "every claim is one that the profile names");
    }
    let text = format!("claims that this version does not know: {}", unknown.join(", "));
    by_rule(context.policy.cca.unknown_claims, NAME, Code::ClaimsUnknown, text)
        .mend("find out what they mean; a later version may know them")
}

fn unknown(token: &Token) -> Vec<String> {
    let of = |name: &'static str, labels: &[String]| {
        labels.iter().map(move |label| format!("{name} {label}")).collect::<Vec<_>>()
    };
    [of("platform", &token.platform_claims().unknown), of("realm", &token.realm_claims().unknown)].concat()
}

fn claims(token: &Token) -> CcaClaims {
    let (platform, realm) = (token.platform_claims(), token.realm_claims());
    let components = platform.components.iter().enumerate().map(|(index, component)| ComponentClaims {
        name: platform.name_of(index, component),
        kind: component.kind.clone(),
        measurement: hex::encode(&component.measurement),
        signer_id: hex::encode(&component.signer_id),
        version: component.version.clone(),
    });
    CcaClaims {
        platform_profile: platform.profile.clone(),
        realm_profile: realm.profile.clone(),
        implementation_id: hex::encode(platform.implementation_id),
        instance_id: hex::encode(platform.instance_id),
        configuration: hex::encode(&platform.configuration),
        lifecycle: platform.lifecycle.name(),
        software_components: components.collect(),
        verification_service: platform.verification_service.clone(),
        realm_hash_algorithm: realm.hash_algorithm.as_str(),
        unknown: unknown(token),
    }
}
