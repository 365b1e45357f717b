//! The verifier as WebAssembly, for the page in `docs/verify`.
//!
//! What it is: [`answer`], a function from a request to an answer, both JSON, and three exports that carry the bytes
//! over the boundary. It makes the same [`Examination`] as `bailey evidence verify`, so the verdict has the same
//! bytes. What it is not: it has no imports, so it can reach neither network, files nor clock; the page passes the
//! time in.

mod boundary;

use appraisal::{Examination, Policy, ReferenceFile, UnixTime};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What the page asks.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    /// The file that was dropped.
    evidence: Base64,
    #[serde(default)]
    endorsements: Vec<File>,
    #[serde(default)]
    roots: Vec<File>,
    /// `genuine`, `production`, or a policy's JSON.
    policy: String,
    /// A file of reference values, JSON.
    #[serde(default)]
    reference: Option<String>,
    /// Hexadecimal.
    #[serde(default)]
    report_data: Option<String>,
    /// Seconds since 1970.
    at: i64,
}

#[derive(Deserialize)]
struct File {
    name: String,
    bytes: Base64,
}

struct Base64(Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// What the page shows.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Verdict {
        accepted: bool,
        /// The verdict's JSON, as text, so that the page passes on the very bytes.
        verdict: String,
        /// The tree for people.
        text: String,
        /// Files that were no Endorsements.
        passed_over: Vec<String>,
    },
    Malformed {
        error: String,
    },
}

/// Examines what the page asks for. Never fails: what is wrong is in the answer.
pub fn answer(request: &[u8]) -> Vec<u8> {
    let answer = examine(request).unwrap_or_else(|error| Answer::Malformed { error });
    serde_json::to_vec(&answer).unwrap_or_else(|_| br#"{"error":"the answer cannot be written"}"#.to_vec())
}

fn examine(request: &[u8]) -> Result<Answer, String> {
    let request: Request = serde_json::from_slice(request).map_err(|error| error.to_string())?;
    let mut examination = Examination::new(&request.evidence.0)
        .map_err(|malformed| format!("no Evidence that this version knows: {malformed}"))?;
    let policy = Policy::from_text(&request.policy).map_err(|error| format!("the policy: {error}"))?;
    examination.hold_against(policy);
    let mut passed_over = Vec::new();
    for File { name, bytes } in request.endorsements {
        if examination.endorse(&bytes.0).is_err() {
            passed_over.push(name);
        }
    }
    for File { name, bytes } in &request.roots {
        examination.trust(name, &bytes.0).map_err(|error| error.to_string())?;
    }
    if let Some(text) = &request.reference {
        let file: ReferenceFile =
            serde_json::from_str(text).map_err(|error| format!("the reference values: {error}"))?;
        examination.expect_code(file.reference_values);
    }
    if let Some(digits) = &request.report_data {
        let expected = digits
            .parse::<evidence::Covered>()
            .map_err(|malformed| format!("the expected report data: {malformed}"))?;
        examination.expect_covered(expected.as_bytes());
    }
    let examined = examination.assess(UnixTime(request.at), &crypto_rust::PureRust);
    Ok(Answer::Verdict {
        accepted: examined.is_accepted(),
        verdict: serde_json::to_string(&examined).map_err(|error| error.to_string())?,
        text: examined.render(false),
        passed_over,
    })
}
