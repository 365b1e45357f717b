//! Verdicts in Trustee's profile of EAR (`tag:github.com,2024:confidential-containers/Trustee`): what guests of
//! Confidential Containers hand on as their token, what relying parties made for Trustee read, and what Rego policies
//! written for Trustee's key broker have as `input`.
//!
//! What it is: [`Claims`], a typed builder. JSON comes out of [`Claims::to_json`] and nowhere else. What it is not: the
//! Evidence. Trustee's "verbose" tokens repeat it and grow to 170 KiB with eight GPUs, which no HTTP header carries; ours
//! say what was found, and of further Evidence its digest only.
//!
//! Values have the forms that Trustee gives them since its policies compare numbers: bytes are lower-case hexadecimal,
//! SNP's numbers are numbers and its flags booleans, and both are text for VMs of Azure. (Earlier versions had base64 and
//! text throughout. `sev-snp-measure` prints hexadecimal unless told otherwise.)

mod strict;
mod tee;
mod token;
mod verifier;

use std::collections::BTreeMap;

use appraisal::{Decision, Origin, Verdict};
use evidence::Evidence;
use serde_json::{Map, Value as Json, json};

use crate::{Tier, Vector};

pub use token::{
    About, Expected, Issue, MAX_LIFETIME, MAX_TOKEN, Mesh, TEE_PUBKEY, Untrusted, Unverified, Verified, sign,
};
pub use verifier::{Emulation, InvalidTrust, PublishedKey, SIGNER_OID, Verifier, issuer_of, jwks};

/// The profile of the claims.
pub const PROFILE: &str = "tag:github.com,2024:confidential-containers/Trustee";
/// The claims of init-data that a token repeats: no more bytes than this. A head of HTTP must hold the token.
const MAX_INIT_DATA_CLAIMS: usize = 8 * 1024;

/// What the guest said beside its Evidence, and what its Evidence covers (`runtime-data` of the protocol).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeData {
    /// The nonce, as the challenge had it.
    pub nonce: String,
    /// The guest's public key, a JWK. What is released to the guest is encrypted to it.
    pub tee_pubkey: Map<String, Json>,
    /// SHA-384 of the Evidence of further devices as it was sent; none where there was none.
    pub additional_evidence: Option<[u8; 48]>,
}

/// What configured the guest at its launch, proven by its Evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitData {
    /// The digest that the Evidence proves.
    pub digest: Vec<u8>,
    /// The documents by name (`aa.toml`, `cdh.toml`, `policy.rego`); none where only the digest is known.
    pub documents: Option<BTreeMap<String, String>>,
}

/// Whose verdict it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppraisedBy {
    /// Who runs it.
    pub developer: String,
    /// The build, such as `bailey 0.1.0`.
    pub build: String,
    /// The mesh: SHA-256 of its root certificate, hexadecimal.
    pub mesh: String,
    /// The epoch whose manifest was in force.
    pub epoch: u64,
    /// That manifest's digest, hexadecimal.
    pub manifest: String,
    /// Whether the verifier itself runs in an emulated TEE: then nothing that it says is better than `warning`.
    pub emulated: bool,
}

/// One attester, and what was found of it.
#[derive(Clone, Copy, Debug)]
pub enum Attester<'a> {
    /// Evidence that was appraised.
    Appraised {
        /// The Evidence.
        evidence: &'a Evidence,
        /// What came of it.
        verdict: &'a Verdict,
    },
    /// CoCo's sample attester: no TEE at all.
    Sample {
        /// `1` for the CPU's, `2` for the device's.
        svn: &'a str,
        /// What it repeats.
        report_data: &'a [u8],
    },
}

/// The claims about a guest.
#[derive(Clone, Debug)]
pub struct Claims<'a> {
    verifier: AppraisedBy,
    packages: Vec<String>,
    runtime: RuntimeData,
    init_data: Option<InitData>,
    attesters: Vec<Attester<'a>>,
}

impl Attester<'_> {
    fn is_emulated(&self) -> bool {
        match self {
            Self::Appraised { verdict, .. } => {
                !matches!(verdict.origin(), Some(origin) if !is_emulation(origin))
            }
            Self::Sample { .. } => true,
        }
    }

    /// How far it is trusted, and the vector.
    fn status(&self, verifier: &AppraisedBy) -> (Tier, Vector) {
        let (tier, vector) = match self {
            Self::Appraised { verdict, .. } => {
                let vector = Vector::of(verdict);
                let tier = match verdict.decision() {
                    Decision::Refused => Tier::Contraindicated,
                    Decision::Accepted => vector.tier().max(Tier::Affirming),
                };
                (tier, vector)
            }
            Self::Sample { .. } => {
                (Tier::Warning, Vector { hardware: 32, runtime_opaque: 32, ..Vector::default() })
            }
        };
        let least = if verifier.emulated { Tier::Warning } else { Tier::None };
        (tier.max(least), vector)
    }
}

fn is_emulation(origin: &Origin) -> bool {
    matches!(origin, Origin::Emulated(_))
}

impl<'a> Claims<'a> {
    /// About the guest whose own Evidence `cpu` is, and that is one or several of the manifest's `packages`.
    pub fn new(
        verifier: AppraisedBy,
        packages: impl IntoIterator<Item = impl Into<String>>,
        runtime: RuntimeData,
        cpu: Attester<'a>,
    ) -> Self {
        let packages = packages.into_iter().map(Into::into).collect();
        Self { verifier, packages, runtime, init_data: None, attesters: vec![cpu] }
    }

    /// And its init-data, which `cpu` proves.
    #[must_use]
    pub fn init_data(self, init_data: InitData) -> Self {
        Self { init_data: Some(init_data), ..self }
    }

    /// And a further device.
    #[must_use]
    pub fn device(mut self, device: Attester<'a>) -> Self {
        self.attesters.push(device);
        self
    }

    /// Whether anything of it comes from an emulated TEE.
    pub fn emulated(&self) -> bool {
        self.verifier.emulated || self.attesters.iter().any(Attester::is_emulated)
    }

    /// The claims as JSON: what a token says beside who issued it, for whom and for how long.
    pub fn to_json(&self) -> Json {
        let mut submodules = Map::new();
        let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, attester) in self.attesters.iter().enumerate() {
            for (class, tee, found) in tee::claims(attester, index == 0) {
                let number = numbers.entry(class).or_default();
                let name = format!("{class}{number}");
                *number += 1;
                submodules.insert(name, self.submodule(attester, tee, found, index == 0));
            }
        }
        let AppraisedBy { developer, build, mesh, epoch, manifest, .. } = &self.verifier;
        json!({
            "eat_profile": PROFILE,
            "ear.verifier-id": { "developer": developer, "build": build },
            "submods": submodules,
            "bailey": {
                "mesh": mesh,
                "epoch": epoch,
                "manifest": manifest,
                "packages": self.packages,
                "emulated": self.emulated(),
            },
        })
    }

    fn submodule(&self, attester: &Attester<'_>, tee: &str, found: tee::Found, primary: bool) -> Json {
        let (status, vector) = attester.status(&self.verifier);
        let mut annotated = Map::new();
        annotated.insert(tee.to_owned(), found.claims);
        annotated.insert("report_data".to_owned(), Json::from(hex::encode(&found.report_data)));
        annotated.insert("runtime_data_claims".to_owned(), self.runtime_data(primary));
        if primary && let Some(init_data) = &self.init_data {
            annotated.insert("init_data".to_owned(), Json::from(hex::encode(&init_data.digest)));
            if let Some(claims) = init_data.claims() {
                annotated.insert("init_data_claims".to_owned(), claims);
            }
        } else if let Some(init_data) = found.init_data {
            annotated.insert("init_data".to_owned(), Json::from(hex::encode(init_data)));
        }
        let vector: Map<_, _> =
            vector.claims().map(|(name, _, value)| (name.to_owned(), Json::from(value))).collect();
        let mut claims = json!({
            "ear.status": status,
            "ear.appraisal-policy-id": format!("urn:bailey:manifest:sha256:{}", self.verifier.manifest),
            "ear.veraison.annotated-evidence": annotated,
            "bailey": bailey(attester),
        });
        // A vector that claims nothing may not be written.
        if !vector.is_empty() {
            claims["ear.trustworthiness-vector"] = Json::Object(vector);
        }
        claims
    }

    /// A device's Evidence does not cover that of the others.
    fn runtime_data(&self, primary: bool) -> Json {
        let RuntimeData { nonce, tee_pubkey, additional_evidence } = &self.runtime;
        let mut claims = json!({ "nonce": nonce, "tee-pubkey": tee_pubkey });
        if primary {
            let digest =
                additional_evidence.map_or_else(String::new, |it| format!("sha384:{}", hex::encode(it)));
            claims["additional-evidence"] = Json::from(digest);
        }
        claims
    }
}

impl InitData {
    /// As Trustee has it: documents in TOML as JSON, and of the agent's policy the data that it ends with.
    fn claims(&self) -> Option<Json> {
        let claims: Map<_, _> = self
            .documents
            .as_ref()?
            .iter()
            .map(|(name, text)| match name.as_str() {
                "policy.rego" => match agent_policy_data(text) {
                    Some(data) => ("agent_policy_claims".to_owned(), data),
                    None => (name.clone(), Json::from(text.as_str())),
                },
                name if name.ends_with(".toml") => {
                    let read = toml::from_str(text).unwrap_or_else(|_| Json::from(text.as_str()));
                    (name.to_owned(), read)
                }
                name => (name.to_owned(), Json::from(text.as_str())),
            })
            .collect();
        let claims = Json::Object(claims);
        (claims.to_string().len() <= MAX_INIT_DATA_CLAIMS).then_some(claims)
    }
}

/// `policy_data := {…}` up to the end of the text (CoCo's `genpolicy` writes it there).
fn agent_policy_data(policy: &str) -> Option<Json> {
    let (_, data) = policy.split_once("policy_data := {")?;
    serde_json::from_str(&format!("{{{data}")).ok()
}

/// What Trustee's profile has no words for.
fn bailey(attester: &Attester<'_>) -> Json {
    match attester {
        Attester::Appraised { verdict, .. } => {
            let codes: Vec<_> = verdict.codes().map(|code| code.as_str()).collect();
            let warnings: Vec<_> = verdict.warnings().iter().map(|warning| warning.code.as_str()).collect();
            json!({
                "platform": verdict.platform(),
                "verdict": verdict.decision(),
                "emulated": attester.is_emulated(),
                "product": verdict.product(),
                "platform_identity": verdict.platform_identity(),
                "tcb": verdict.tcb().status,
                "reasons": codes,
                "warnings": warnings,
                "appraised_at": verdict.at(),
            })
        }
        Attester::Sample { .. } => json!({ "platform": "sample", "emulated": true }),
    }
}
