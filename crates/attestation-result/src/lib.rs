//! Verdicts as signed EAT Attestation Results, for relying parties that speak RATS rather than Bailey.
//!
//! What it is: [`Ear`], the claims of draft-ietf-rats-ear-04 (profile `tag:ietf.org,2026:rats/ear#04`) made from a
//! verdict, and its two signed forms, JWT (RFC 7519) and CWT (RFC 8392), both ES256. What it is not: a decision. The
//! `ear_status` says what the verdict says: a refusal is `contraindicated`, an emulated platform never better than
//! `warning`.

pub mod coco;
mod read;
mod token;
mod vector;

use std::collections::BTreeMap;

use appraisal::{Decision, Examined, Origin, UnixTime, Verdict};
use serde_json::{Value as Json, json};

pub use read::Token;
pub use token::{InvalidToken, SigningKey, TokenError, VerifyingKey};
pub use vector::{Tier, Vector};

/// The profile of the claims.
pub const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";

/// Who says it, for how long, and about what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Who runs the verifier, such as `Example Ltd.`
    pub developer: String,
    /// The verifier's build, such as `bailey 0.1.0`.
    pub build: String,
    /// When it is said.
    pub issued: UnixTime,
    /// When it must no longer be believed.
    pub expires: UnixTime,
    /// The relying party's nonce: 8 to 64 bytes (RFC 9711, §4.1).
    pub nonce: Option<Vec<u8>>,
    /// SHA-256 of the Evidence as it was received.
    pub evidence_digest: [u8; 32],
    /// SHA-256 of the policy's canonical JSON.
    pub policy_digest: [u8; 32],
}

/// An EAT Attestation Result, not yet signed.
#[derive(Clone, Debug, PartialEq)]
pub struct Ear {
    issue: Issue,
    status: Tier,
    submodules: BTreeMap<String, Submodule>,
}

/// What is said of one attester.
#[derive(Clone, Debug, PartialEq)]
struct Submodule {
    status: Tier,
    vector: Vector,
    policy: String,
    attester: Json,
    verifier: Json,
}

impl Submodule {
    fn new(verdict: &Verdict, issue: &Issue) -> Self {
        let vector = Vector::of(verdict);
        let status = match verdict.decision() {
            Decision::Refused => Tier::Contraindicated,
            Decision::Accepted => vector.tier().max(Tier::Affirming),
        };
        let codes: Vec<_> = verdict.codes().map(|code| code.as_str()).collect();
        let warnings: Vec<_> = verdict.warnings().iter().map(|warning| warning.code.as_str()).collect();
        Self {
            status,
            vector,
            policy: format!("urn:bailey:policy:{}:sha256:{}", verdict.policy(), hex(&issue.policy_digest)),
            attester: json!({
                "platform": verdict.platform(),
                "measurements": verdict.measurements(),
                "report_data": verdict.report_data(),
                "claims": verdict.claims(),
            }),
            verifier: json!({
                "verdict": verdict.decision(),
                "emulated": verdict.origin().map(|origin| matches!(origin, Origin::Emulated(_))),
                "workload_checked": verdict.workload_checked(),
                "tcb": verdict.tcb(),
                "platform_identity": verdict.platform_identity(),
                "product": verdict.product(),
                "reasons": codes,
                "warnings": warnings,
                "appraised_at": verdict.at(),
                "evidence_sha256": hex(&issue.evidence_digest),
            }),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Ear {
    /// The claims that follow from an examination: a submodule for each piece of Evidence, named by its label, or by
    /// its platform where it has none.
    pub fn new(examined: &Examined, issue: Issue) -> Self {
        let labelled: Vec<(String, &Verdict)> = match examined {
            Examined::One(verdict) => vec![(verdict.platform().to_string(), verdict)],
            Examined::All(all) => all.pieces().map(|(label, verdict)| (label.to_owned(), verdict)).collect(),
        };
        let submodules: BTreeMap<_, _> =
            labelled.into_iter().map(|(label, verdict)| (label, Submodule::new(verdict, &issue))).collect();
        let worst = submodules.values().map(|submodule| submodule.status).max().unwrap_or(Tier::None);
        // Pieces that are good one by one may still be no composite.
        let status = if examined.is_accepted() { worst } else { Tier::Contraindicated };
        Self { issue, status, submodules }
    }

    /// The status of all.
    pub fn status(&self) -> Tier {
        self.status
    }

    /// The claims as JSON (EAR, §3).
    pub fn to_json(&self) -> Json {
        let submodules: serde_json::Map<_, _> = self
            .submodules
            .iter()
            .map(|(label, submodule)| {
                let vector: serde_json::Map<_, _> = submodule
                    .vector
                    .claims()
                    .map(|(name, _, value)| (name.to_owned(), Json::from(value)))
                    .collect();
                let mut claims = json!({
                    "ear_status": submodule.status,
                    "ear_appraisal_policy_ids": [submodule.policy],
                    "ear_attester_claims": submodule.attester,
                    "ear_verifier_claims": submodule.verifier,
                });
                // A vector that claims nothing may not be written.
                if !vector.is_empty() {
                    claims["ear_trustworthiness_vector"] = Json::Object(vector);
                }
                (label.clone(), claims)
            })
            .collect();
        let Issue { developer, build, issued, expires, nonce, .. } = &self.issue;
        let mut claims = json!({
            "eat_profile": PROFILE,
            "iat": issued.0,
            "exp": expires.0,
            "ear_verifier_id": { "developer": developer, "build": build },
            "ear_status": self.status,
            "submods": submodules,
        });
        if let Some(nonce) = nonce {
            use base64::Engine;
            claims["eat_nonce"] = Json::from(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(nonce));
        }
        claims
    }

    /// The claims as CBOR (EAR, §3, with the keys of its CDDL).
    pub fn to_cbor(&self) -> Vec<u8> {
        use ciborium::Value;
        let key = |number: i64| Value::from(number);
        let submodules = self
            .submodules
            .iter()
            .map(|(label, submodule)| {
                let vector: Vec<_> = submodule
                    .vector
                    .claims()
                    .map(|(_, number, value)| (Value::from(number), Value::from(value)))
                    .collect();
                let mut claims = vec![(key(1000), Value::from(submodule.status.number()))];
                if !vector.is_empty() {
                    claims.push((key(1001), Value::Map(vector)));
                }
                claims.push((key(1003), Value::Array(vec![Value::from(submodule.policy.as_str())])));
                claims.push((key(1005), cbor(&submodule.attester)));
                claims.push((key(1006), cbor(&submodule.verifier)));
                (Value::from(label.as_str()), Value::Map(claims))
            })
            .collect();
        let Issue { developer, build, issued, expires, nonce, .. } = &self.issue;
        let mut claims = vec![(key(4), Value::from(expires.0)), (key(6), Value::from(issued.0))];
        claims.extend(nonce.as_ref().map(|nonce| (key(10), Value::Bytes(nonce.clone()))));
        claims.extend([
            (key(265), Value::from(PROFILE)),
            (key(266), Value::Map(submodules)),
            (key(1000), Value::from(self.status.number())),
            (
                key(1004),
                Value::Map(vec![
                    (key(0), Value::from(developer.as_str())),
                    (key(1), Value::from(build.as_str())),
                ]),
            ),
        ]);
        let mut bytes = Vec::new();
        // Writing to a vector cannot fail, and the value holds nothing that CBOR cannot express.
        let written = ciborium::into_writer(&Value::Map(claims), &mut bytes);
        debug_assert!(written.is_ok());
        bytes
    }
}

/// JSON as CBOR, member by member.
fn cbor(json: &Json) -> ciborium::Value {
    use ciborium::Value;
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (_, Some(number)) => Value::from(number),
            _ => Value::from(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::Array(items.iter().map(cbor).collect()),
        Json::Object(members) => Value::Map(
            members.iter().map(|(name, value)| (Value::from(name.as_str()), cbor(value))).collect(),
        ),
    }
}
