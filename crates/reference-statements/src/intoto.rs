//! In-toto statements (in-toto attestation framework, Statement v0.1 and v1) with one of three predicates: our values,
//! SLSA provenance v0.2, SLSA provenance v1. Fields that the framework does not have are passed over, as it demands.

use std::collections::{BTreeMap, BTreeSet};

use appraisal::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::refused::Refused;
use crate::statement::Says;
use crate::values::{ArtefactDigest, Values};

/// The type of the predicate that carries reference values.
pub const PREDICATE_TYPE: &str = "urn:bailey:reference-values:v1";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const SLSA_1: &str = "https://slsa.dev/provenance/v1";
const SLSA_0_2: &str = "https://slsa.dev/provenance/v0.2";
const PART: &str = "in-toto statement";
/// More subjects than this are not read.
const MOST_SUBJECTS: usize = 1024;

/// How artefacts were built, by the word of the signer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// The artefacts.
    pub subjects: BTreeSet<ArtefactDigest>,
    /// Who built.
    pub builder: String,
    /// By which recipe.
    pub build_type: String,
    /// From where, such as `git+https://github.com/…`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Which revision of it, hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// When the build ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<UnixTime>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(borrow)]
    predicate: &'a RawValue,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

/// Reads the payload of an envelope.
pub(crate) fn read(payload: &[u8]) -> Result<Says, Refused> {
    let wire: Wire<'_> = serde_json::from_slice(payload).map_err(|error| Refused::malformed(PART, error))?;
    if !STATEMENTS.contains(&wire.kind.as_str()) {
        return Err(Refused::malformed(PART, format_args!("its type is {:?}", wire.kind)));
    }
    if wire.subject.len() > MOST_SUBJECTS {
        return Err(Refused::malformed(PART, format_args!("it has more than {MOST_SUBJECTS} subjects")));
    }
    let subjects = subjects(&wire.subject)?;
    let predicate = wire.predicate.get();
    match wire.predicate_type.as_str() {
        PREDICATE_TYPE => {
            let mut values = Values::from_json(predicate.as_bytes())?;
            values.subjects.extend(subjects);
            Ok(Says::Values(values))
        }
        SLSA_1 => provenance(subjects, slsa_1(predicate)?),
        SLSA_0_2 => provenance(subjects, slsa_0_2(predicate)?),
        _ => Err(Refused::OtherPredicate { predicate: wire.predicate_type }),
    }
}

/// Digests other than SHA-256 are passed over: nothing is compared with them.
fn subjects(list: &[Subject]) -> Result<BTreeSet<ArtefactDigest>, Refused> {
    let digests = list.iter().filter_map(|subject| subject.digest.get("sha256"));
    digests
        .map(|digits| {
            let bytes = hex::decode(digits).ok().and_then(|bytes| bytes.try_into().ok());
            bytes
                .map(ArtefactDigest)
                .ok_or_else(|| Refused::malformed(PART, "a subject's SHA-256 has not 64 hexadecimal digits"))
        })
        .collect()
}

/// Provenance of nothing endorses nothing.
fn provenance(subjects: BTreeSet<ArtefactDigest>, found: Found) -> Result<Says, Refused> {
    if subjects.is_empty() {
        return Err(Refused::malformed(PART, "it has no subject with a SHA-256"));
    }
    let Found { builder, build_type, source, revision, finished } = found;
    Ok(Says::Provenance(Provenance { subjects, builder, build_type, source, revision, finished }))
}

struct Found {
    builder: String,
    build_type: String,
    source: Option<String>,
    revision: Option<String>,
    finished: Option<UnixTime>,
}

#[derive(Deserialize)]
struct Identified {
    id: String,
}

#[derive(Default, Deserialize)]
struct Source {
    #[serde(default)]
    uri: Option<String>,
    #[serde(default)]
    digest: BTreeMap<String, String>,
}

impl Source {
    fn revision(&self) -> Option<String> {
        ["gitCommit", "sha1", "sha256"].iter().find_map(|name| self.digest.get(*name)).cloned()
    }
}

/// SLSA provenance v1: the first of the resolved dependencies is the source, as its build types have it.
fn slsa_1(predicate: &str) -> Result<Found, Refused> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Predicate {
        build_definition: Definition,
        run_details: Run,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Definition {
        build_type: String,
        #[serde(default)]
        resolved_dependencies: Vec<Source>,
    }
    #[derive(Deserialize)]
    struct Run {
        builder: Identified,
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        #[serde(default)]
        finished_on: Option<UnixTime>,
    }
    let read: Predicate = serde_json::from_str(predicate).map_err(|e| Refused::malformed("provenance", e))?;
    let source = read.build_definition.resolved_dependencies.into_iter().next().unwrap_or_default();
    Ok(Found {
        builder: read.run_details.builder.id,
        build_type: read.build_definition.build_type,
        revision: source.revision(),
        source: source.uri,
        finished: read.run_details.metadata.finished_on,
    })
}

/// SLSA provenance v0.2.
fn slsa_0_2(predicate: &str) -> Result<Found, Refused> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Predicate {
        builder: Identified,
        build_type: String,
        #[serde(default)]
        invocation: Invocation,
        #[serde(default)]
        metadata: Metadata,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Invocation {
        #[serde(default)]
        config_source: Source,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        #[serde(default)]
        build_finished_on: Option<UnixTime>,
    }
    let read: Predicate = serde_json::from_str(predicate).map_err(|e| Refused::malformed("provenance", e))?;
    let source = read.invocation.config_source;
    Ok(Found {
        builder: read.builder.id,
        build_type: read.build_type,
        revision: source.revision(),
        source: source.uri,
        finished: read.metadata.build_finished_on,
    })
}
