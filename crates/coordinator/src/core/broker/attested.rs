//! From what a guest sent to who it is: Evidence is appraised, and the guest described in the words of Trustee's tokens,
//! which policies in Rego read.

use std::{collections::BTreeSet, sync::Arc};

use appraisal::{UnixTime, Verdict, Verifier};
use attestation_result::coco::{self, Attester, Claims, RuntimeData};
use aws_lc_rs::digest::{SHA384, digest};
use evidence::coco::Sample;
use manifest::{InitDataDigest, PackageName};
use rcar::{Attestation, HashAlgorithm, ReportDigest};
use serde_json::{Map, Value};

use super::{
    admission::{self, NotAdmitted, Piece},
    guest::{Guest, Particulars, SessionId},
    session::LIFETIME,
};
use crate::core::{Mesh, Refusal, State};

/// What a guest attests with.
pub enum Shown {
    /// Evidence of its TEE, and of its devices.
    Evidence {
        /// Of its TEE.
        primary: Piece,
        /// Of what it has beside.
        devices: Vec<Piece>,
    },
    /// CoCo's stand-ins, which prove nothing: that of the TEE first.
    Samples(Vec<(Sample, ReportDigest)>),
}

/// A guest, and the verdicts on its Evidence.
pub type Attested = (Guest, Vec<(String, Verdict)>);

/// Makes what `attestation` brought a guest of the manifest in force, if it is one. `shown` is the Evidence in it, read.
///
/// # Errors
/// [`NotAdmitted`], for the operator.
pub fn attested(
    state: &State,
    verifier: &Verifier,
    session: SessionId,
    attestation: &Attestation,
    shown: &Shown,
    now: UnixTime,
) -> Result<Attested, NotAdmitted> {
    let mesh = state.running()?;
    let tee = attestation.pieces().first().map(rcar::Piece::tee);
    let tee = tee.ok_or_else(|| NotAdmitted::new("EVIDENCE_ABSENT", "there is no Evidence"))?;
    let init_data = attestation.init_data.as_ref();
    let particulars = |packages: BTreeSet<PackageName>, claims: Value| -> Result<Particulars, NotAdmitted> {
        Ok(Particulars {
            session,
            tee,
            packages,
            init_data: init_data.map(proven).transpose()?,
            claims: Arc::new(claims),
            key: attestation.runtime_data.tee_pubkey.clone(),
            version: attestation.version(),
            epoch: mesh.epoch(),
            manifest: mesh.manifest().digest(),
            attested: now,
            expires: UnixTime(now.0.saturating_add(LIFETIME)),
        })
    };
    match shown {
        Shown::Samples(samples) => {
            let (allowed, packages) = admission::sample(state)?;
            if init_data.is_some() {
                let reason = "sample Evidence has no field that could prove init-data";
                return Err(NotAdmitted::new("INIT_DATA_MISMATCH", reason));
            }
            if !samples.iter().all(|(sample, digest)| digest.is_in_sample(&sample.report_data)) {
                let reason = "the sample covers other data: another key or nonce";
                return Err(NotAdmitted::new("REPORT_DATA_MISMATCH", reason));
            }
            let samples = samples
                .iter()
                .map(|(sample, _)| Attester::Sample { svn: &sample.svn, report_data: &sample.report_data });
            let claims = claims(state, mesh, &packages, attestation, samples)?;
            Ok((Guest::sampled(allowed, particulars(packages, claims)?), Vec::new()))
        }
        Shown::Evidence { primary, devices } => {
            let admitted = admission::admit(state, verifier, primary, devices, init_data, now)?;
            let pieces = || std::iter::once(primary).chain(devices).zip(admitted.verdicts());
            let attesters =
                pieces().map(|(piece, verdict)| Attester::Appraised { evidence: &piece.evidence, verdict });
            let claims = claims(state, mesh, &admitted.packages, attestation, attesters)?;
            let of = particulars(admitted.packages.clone(), claims)?;
            let verdicts =
                pieces().map(|(piece, verdict)| (piece.tee.to_string(), verdict.clone())).collect();
            Ok((Guest::attested(&admitted.appraised, &admitted.devices, of), verdicts))
        }
    }
}

/// The digest of init-data that the Evidence was found to prove.
fn proven(init_data: &rcar::InitData) -> Result<InitDataDigest, Refusal> {
    let algorithm = match init_data.algorithm() {
        HashAlgorithm::Sha256 => manifest::HashAlgorithm::Sha256,
        HashAlgorithm::Sha384 => manifest::HashAlgorithm::Sha384,
        HashAlgorithm::Sha512 => manifest::HashAlgorithm::Sha512,
    };
    InitDataDigest::new(algorithm, &init_data.digest())
        .map_err(|_| Refusal::Internal("a digest is not as long as its algorithm makes it".into()))
}

fn claims<'a>(
    state: &State,
    mesh: &Mesh,
    packages: &BTreeSet<PackageName>,
    attestation: &Attestation,
    attesters: impl Iterator<Item = Attester<'a>>,
) -> Result<Value, Refusal> {
    let mut attesters = attesters;
    let primary = attesters.next().ok_or_else(|| Refusal::Internal("a guest without Evidence".into()))?;
    let verifier = coco::AppraisedBy {
        developer: "https://github.com/bailey-mesh/bailey".into(),
        build: concat!("bailey ", env!("CARGO_PKG_VERSION")).into(),
        mesh: hex::encode(state.root().fingerprint()),
        epoch: mesh.epoch(),
        manifest: mesh.manifest().digest().to_string(),
        emulated: state.emulated(),
    };
    let runtime = RuntimeData {
        nonce: attestation.runtime_data.nonce.clone(),
        tee_pubkey: object(attestation.runtime_data.tee_pubkey.to_json()),
        additional_evidence: additional(attestation.additional_evidence()),
    };
    let mut claims = Claims::new(verifier, packages.iter().map(ToString::to_string), runtime, primary);
    if let Some(init_data) = &attestation.init_data {
        let documents = Some(init_data.data().clone());
        claims = claims.init_data(coco::InitData { digest: init_data.digest(), documents });
    }
    Ok(attesters.fold(claims, Claims::device).to_json())
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn additional(text: &str) -> Option<[u8; 48]> {
    let mut out = [0; 48];
    out.copy_from_slice(digest(&SHA384, text.as_bytes()).as_ref());
    (!text.is_empty()).then_some(out)
}
