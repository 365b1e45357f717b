//! What Evidence of this protocol covers, version by version, and how it is fitted to the field of each platform.
//!
//! | version | covered, before it is hashed |
//! |---|---|
//! | 0.4.0, the guest's TEE | canonical JSON of `{"additional-evidence", "nonce", "tee-pubkey"}` |
//! | 0.4.0, a device | canonical JSON of `{"nonce", "tee-pubkey"}` |
//! | 0.2.0, 0.3.0 | canonical JSON of `{"nonce", "tee-pubkey"}`, or as in 0.4.0 where Evidence has its form |
//! | 0.1.x | the same (clients since December 2023), or before, for RSA, the texts of nonce, `n` and `e` in a row |
//!
//! Whatever a version allows binds nonce and whole key, so that either may be taken.

use evidence::{Covered, Evidence, Platform};
use serde_json::{Value, json};

use crate::attestation::{Opened, RuntimeData};
use crate::json::canonical;
use crate::{HashAlgorithm, Tee, Version};

/// The digest that Evidence must cover: the one of its protocol version, or one of two where clients of a version
/// differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportDigest {
    /// Never empty.
    digests: Vec<Vec<u8>>,
}

impl ReportDigest {
    /// The digest of today's clients of the version, unpadded.
    pub fn as_bytes(&self) -> &[u8] {
        self.digests.first().map_or(&[], Vec::as_slice)
    }

    /// What an appraisal of this Evidence is to expect: the digest in the field of its platform. Where clients of the
    /// version differ, the one that the Evidence covers, if it covers any.
    pub fn expected(&self, evidence: &Evidence) -> Covered {
        let covered = evidence.covered();
        let mut candidates: Vec<_> =
            self.digests.iter().map(|digest| fitted(digest, evidence.platform())).collect();
        if evidence.platform() == Platform::Tpm {
            // Until 2025, CoCo's TPM attester filled 64 bytes.
            candidates.extend(self.digests.iter().map(|digest| fitted(digest, Platform::Snp)));
        }
        let same = candidates.iter().position(|candidate| candidate == covered.as_bytes());
        Covered::new(candidates.swap_remove(same.unwrap_or(0)))
    }

    /// Whether these are the bytes of a stand-in's report data.
    pub fn is_in_sample(&self, report_data: &[u8]) -> bool {
        self.digests
            .iter()
            .any(|digest| digest == report_data || fitted(digest, Platform::Snp) == report_data)
    }
}

/// The digest as it is in the field of a platform: after it zeros, or its first bytes.
pub fn fitted(digest: &[u8], platform: Platform) -> Vec<u8> {
    let mut field = digest.to_vec();
    match platform {
        Platform::Sgx | Platform::Tdx | Platform::Snp | Platform::Cca => field.resize(64, 0),
        Platform::Tpm | Platform::Nvidia => field.resize(32, 0),
        // The nonce of a virtual TPM's quote, or that of Nitro, is as long as what is put in.
        Platform::AzureSnp | Platform::AzureTdx | Platform::Nitro => {}
    }
    field
}

/// With what a TEE's report data is hashed.
fn algorithm(tee: Tee) -> HashAlgorithm {
    match tee {
        Tee::Se => HashAlgorithm::Sha512,
        _ => HashAlgorithm::Sha384,
    }
}

/// What the guest's own TEE covers. `additional` is the text about devices, None where the form has none.
pub(crate) fn primary(runtime: &RuntimeData, additional: Option<&str>, opened: &Opened) -> ReportDigest {
    let mut transcripts = Vec::new();
    match (opened.version, additional) {
        (Version::V0_4_0, _) => transcripts.push(composite(runtime, additional.unwrap_or_default())),
        (_, Some(additional)) => {
            transcripts.push(composite(runtime, additional));
            // Devices that the CPU does not cover are none.
            transcripts.extend(additional.is_empty().then(|| simple(runtime)));
        }
        (_, None) => transcripts.push(simple(runtime)),
    }
    if opened.version < Version::V0_2_0 {
        let members = runtime.tee_pubkey.rsa_members();
        transcripts
            .extend(members.map(|[modulus, exponent]| format!("{}{modulus}{exponent}", runtime.nonce)));
    }
    let hash = algorithm(opened.tee);
    ReportDigest { digests: transcripts.iter().map(|text| hash.digest(text.as_bytes())).collect() }
}

/// What each device covers.
pub(crate) fn device(runtime: &RuntimeData, tee: Tee) -> ReportDigest {
    ReportDigest { digests: vec![algorithm(tee).digest(simple(runtime).as_bytes())] }
}

/// As [`primary`] in version 0.4.0, with the algorithm that a broker selected.
pub(crate) fn composite_digest(runtime: &RuntimeData, additional: &str, hash: HashAlgorithm) -> Vec<u8> {
    hash.digest(composite(runtime, additional).as_bytes())
}

/// As [`device`], with the algorithm that a broker selected.
pub(crate) fn simple_digest(runtime: &RuntimeData, hash: HashAlgorithm) -> Vec<u8> {
    hash.digest(simple(runtime).as_bytes())
}

fn composite(runtime: &RuntimeData, additional: &str) -> String {
    let mut value = json(runtime);
    value["additional-evidence"] = additional.into();
    canonical(&value)
}

fn simple(runtime: &RuntimeData) -> String {
    canonical(&json(runtime))
}

fn json(runtime: &RuntimeData) -> Value {
    json!({ "nonce": runtime.nonce, "tee-pubkey": runtime.tee_pubkey.to_json() })
}
