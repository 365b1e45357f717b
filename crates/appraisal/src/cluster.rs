//! Cluster evidence as a file: what a coordinator proved of its whole mesh, to be appraised later, elsewhere, by a
//! program or in a browser. `bailey verify --save` writes it.
//!
//! One JSON object, whose members are all required and no others allowed:
//!
//! ```json
//! {
//!   "format": "bailey/cluster-evidence/1",
//!   "key": "<64 hex digits: SHA-256 of the SubjectPublicKeyInfo of the client API's certificate>",
//!   "nonce": "<64 hex digits>",
//!   "evidence": "<base64: the platform's Evidence>",
//!   "endorsements": "<base64: Endorsements, CBOR>",
//!   "claims": "<base64: the coordinator's claims, CBOR>"
//! }
//! ```
//!
//! The Evidence covers key, nonce and claims ([`binding`](crate::binding)). That it is fresh is known only to whoever
//! made the nonce.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use claims::{Claims, CoordinatorClaims, CoordinatorMode, anchor::AnchorClaim};
use evidence::{Covered, Endorsements, Evidence, Malformed, MalformedKind};
use serde::{Deserialize, Serialize};

use crate::Crypto;
use crate::binding::{Role, Transcript};
use crate::verdict::{Check, Outcome};

const FORMAT: &str = "bailey/cluster-evidence/1";

/// What a coordinator proved, not appraised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterEvidence {
    /// SHA-256 of the SubjectPublicKeyInfo of the key that answered.
    pub key: [u8; 32],
    /// The nonce that it was asked with.
    pub nonce: [u8; 32],
    /// The platform's Evidence, in the vendor's format.
    pub evidence: Vec<u8>,
    /// What came with it: [`Endorsements`] as CBOR.
    pub endorsements: Vec<u8>,
    /// The claims' exact bytes.
    pub claims: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: String,
    #[serde(with = "hex::serde")]
    key: [u8; 32],
    #[serde(with = "hex::serde")]
    nonce: [u8; 32],
    evidence: String,
    endorsements: String,
    claims: String,
}

/// The parts, parsed.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) evidence: Evidence,
    pub(crate) endorsements: Endorsements,
    cluster: ClusterEvidence,
    claims: CoordinatorClaims,
}

impl ClusterEvidence {
    /// Whether a file says that it is one.
    pub fn recognises(file: &[u8]) -> bool {
        file.trim_ascii_start().starts_with(b"{")
            && file.windows(FORMAT.len()).any(|window| window == FORMAT.as_bytes())
    }

    /// Reads a file strictly.
    ///
    /// # Errors
    /// [`Malformed`] where it is not the object above.
    pub fn parse(file: &[u8]) -> Result<Self, Malformed> {
        let wire: Wire = serde_json::from_slice(file).map_err(|error| malformed("JSON", error))?;
        if wire.format != FORMAT {
            return Err(malformed("format", wire.format));
        }
        let decode = |field, text: &str| STANDARD.decode(text).map_err(|error| malformed(field, error));
        Ok(Self {
            key: wire.key,
            nonce: wire.nonce,
            evidence: decode("evidence", &wire.evidence)?,
            endorsements: decode("endorsements", &wire.endorsements)?,
            claims: decode("claims", &wire.claims)?,
        })
    }

    /// The file.
    pub fn to_json(&self) -> String {
        let wire = Wire {
            format: FORMAT.into(),
            key: self.key,
            nonce: self.nonce,
            evidence: STANDARD.encode(&self.evidence),
            endorsements: STANDARD.encode(&self.endorsements),
            claims: STANDARD.encode(&self.claims),
        };
        serde_json::to_string_pretty(&wire).expect("text and numbers can be written")
    }

    pub(crate) fn open(self) -> Result<Parsed, Malformed> {
        Ok(Parsed {
            evidence: Evidence::parse(&self.evidence)?,
            endorsements: Endorsements::from_bytes(&self.endorsements)
                .map_err(|error| malformed("endorsements", error))?,
            claims: CoordinatorClaims::from_bytes(&self.claims)
                .map_err(|error| malformed("claims", error))?,
            cluster: self,
        })
    }
}

impl Parsed {
    /// What the Evidence must cover.
    pub(crate) fn covered(&self, crypto: &dyn Crypto) -> Covered {
        let ClusterEvidence { key, nonce, claims, .. } = &self.cluster;
        Transcript { role: Role::Coordinator, key, nonce, claims }.report_data(crypto).into()
    }

    pub(crate) fn expect_nonce(&mut self, nonce: [u8; 32]) {
        self.cluster.nonce = nonce;
    }

    /// What the claims say. They are as good as the verdict on the Evidence that covers them.
    pub(crate) fn says(&self, crypto: &dyn Crypto) -> Check {
        let mut facts = facts(&self.claims, crypto);
        facts.push(("nonce", hex::encode(self.cluster.nonce)));
        let said: Vec<_> = facts
            .iter()
            .filter(|(name, _)| matches!(*name, "mode" | "manifest"))
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let details = facts.into_iter().map(|(name, value)| Check::detail(name, Outcome::Passed, value));
        Check::passed("says", said.join("; ")).with(details)
    }
}

/// What a coordinator's claims say, for people: a name and a value each.
pub fn facts(claims: &CoordinatorClaims, crypto: &dyn Crypto) -> Vec<(&'static str, String)> {
    let manifest = match &claims.manifest {
        Some(digest) => format!("{} (epoch {})", hex::encode(digest.as_slice()), claims.epoch),
        None => "none set yet".into(),
    };
    let mut facts = vec![("root CA", hex::encode(crypto.sha256(&[claims.root.as_slice()])))];
    if let Some(intermediate) = &claims.intermediate {
        facts.push(("intermediate", hex::encode(crypto.sha256(&[intermediate.as_slice()]))));
    }
    facts.push(("mode", mode(claims.mode).into()));
    facts.push(("manifest", manifest));
    facts.push(("owner", hex::encode(claims.owner.as_slice())));
    let head = hex::encode(claims.log_head.as_slice());
    facts.push(("state log", format!("{} records, head {head}", claims.log_length)));
    if let Some(head) = &claims.transparency {
        let (root, key) = (hex::encode(head.root.as_slice()), hex::encode(head.key.as_slice()));
        facts.push(("public log", format!("{} entries, tree head {root}, signed by key {key}", head.size)));
    }
    facts.push(("anchors", anchors(claims)));
    facts
}

/// What would notice an old copy of the coordinator's state, in words.
fn anchors(claims: &CoordinatorClaims) -> String {
    if claims.anchors.is_empty() {
        let nothing = "none: nothing outside this host would notice an old copy of the state, but those who hold its \
                       head";
        return nothing.into();
    }
    let word = |anchor: &AnchorClaim| match &anchor.key {
        Some(key) => format!("{} (key {})", anchor.kind, hex::encode(key.as_slice())),
        None => anchor.kind.to_string(),
    };
    claims.anchors.iter().map(word).collect::<Vec<_>>().join(", ")
}

fn mode(mode: CoordinatorMode) -> &'static str {
    match mode {
        CoordinatorMode::Recovering => {
            "recovering: its state is sealed to another TEE, and this root is one of the moment"
        }
        CoordinatorMode::AcceptingManifest => "accepting the owner's manifest",
        CoordinatorMode::Running => "running",
        CoordinatorMode::RolledBack => {
            "refusing service: its state is not the newest, or nothing says that it is, and this root is one of the \
             moment"
        }
    }
}

fn malformed(field: &'static str, seen: impl ToString) -> Malformed {
    Malformed {
        kind: MalformedKind::Value,
        format: "cluster evidence",
        field,
        offset: 0,
        expected: "what appraisal::cluster says".into(),
        seen: seen.to_string(),
    }
}
