//! The statements as operators are shown them.

use appraisal::{ReferenceValue, UnixTime};
use reference_statements::{ArtefactDigest, Certified, Form, LogEntry, Provenance, Says, Verified};
use serde::Serialize;

use super::{Kept, may_write};
use crate::core::{Caller, Mesh, Refusal, State};

/// A statement, and whether it counts now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// Its name.
    pub id: String,
    /// Whether it counts now.
    pub holds: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who brought it.
    pub added_by: String,
    /// When.
    pub added: UnixTime,
    /// What it is; nothing where no signer of the manifest in force signed it.
    #[serde(flatten)]
    pub statement: Option<Told>,
}

/// What a statement is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    form: Form,
    signers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<UnixTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certified: Option<Certified>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trust_root_expires: Option<UnixTime>,
    #[serde(flatten)]
    says: ToldOf,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum ToldOf {
    Values {
        series: String,
        serial: u64,
        issued: UnixTime,
        not_before: UnixTime,
        expires: UnixTime,
        artefacts: Vec<ArtefactDigest>,
        values: Vec<ReferenceValue>,
        /// Statements of how those artefacts were built.
        built: Vec<Provenance>,
    },
    Provenance(Provenance),
}

/// All statements, for who may add them.
pub fn lines(state: &State, caller: &Caller, now: UnixTime) -> Result<Vec<Line>, Refusal> {
    let mesh = state.running()?;
    may_write(mesh, caller)?;
    Ok(mesh.references().iter().map(|kept| line(mesh, kept, now)).collect())
}

fn line(mesh: &Mesh, kept: &Kept, now: UnixTime) -> Line {
    let verified = kept.verified(mesh.manifest());
    let reason = match &verified {
        Err(refusal) => Some(refusal.to_string()),
        Ok(verified) => {
            let held = verified.holds(now).err().map(|refused| refused.to_string());
            held.or_else(|| superseded(mesh, verified))
        }
    };
    Line {
        id: kept.id().to_string(),
        holds: reason.is_none(),
        reason,
        added_by: kept.user.clone(),
        added: UnixTime(kept.at),
        statement: verified.ok().map(|verified| told(mesh, &verified)),
    }
}

fn superseded(mesh: &Mesh, verified: &Verified) -> Option<String> {
    let Says::Values(values) = verified.says() else { return None };
    let newest = |signer: &String| mesh.references().newest(&values.series, signer).unwrap_or_default();
    let least = verified.signers().iter().map(newest).min()?;
    (least > values.serial).then(|| format!("its signers have said something newer: serial {least}"))
}

fn told(mesh: &Mesh, verified: &Verified) -> Told {
    let says = match verified.says() {
        Says::Provenance(provenance) => ToldOf::Provenance(provenance.clone()),
        Says::Values(values) => ToldOf::Values {
            series: values.series.clone(),
            serial: values.serial,
            issued: values.issued,
            not_before: values.starts(),
            expires: values.expires,
            artefacts: values.subjects.iter().copied().collect(),
            values: values.reference_values.clone(),
            built: built(mesh, &values.subjects),
        },
    };
    Told {
        form: verified.form(),
        signers: verified.signers().to_vec(),
        log: verified.log().cloned(),
        signed: verified.signed_at(),
        certified: verified.certified().cloned(),
        trust_root_expires: verified.root_expires(),
        says,
    }
}

fn built(mesh: &Mesh, subjects: &std::collections::BTreeSet<ArtefactDigest>) -> Vec<Provenance> {
    let verified = mesh.references().iter().filter_map(|kept| kept.verified(mesh.manifest()).ok());
    let provenance = verified.filter_map(|verified| match verified.says() {
        Says::Provenance(it) if !it.subjects.is_disjoint(subjects) => Some(it.clone()),
        _ => None,
    });
    provenance.collect()
}
