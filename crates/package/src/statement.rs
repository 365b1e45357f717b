//! What a signature of a package says: an in-toto statement whose subject is the package's digest, as `cosign sign`
//! writes it. Name and version stand in it as annotations of the subject, or in the package's manifest, which the digest
//! covers; where both say something, they say the same.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use crate::{Artefact, Digest, Repository, Version, annotation};

/// `cosign sign`'s. Statements of other predicates by the same signer (how it was built, what a scanner found) approve
/// nothing.
pub const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENTS: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];

/// What somebody signed of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedStatement {
    /// Of the package's manifest.
    pub digest: Digest,
    /// Which package it is.
    pub name: Option<Repository>,
    /// Which version.
    pub version: Option<Version>,
}

/// Why a statement does not say which package it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not a statement.
    #[error("what is signed is no in-toto statement about one package: {0}")]
    Malformed(String),
    /// About something else.
    #[error("what is signed is of type {seen:?}, and approves nothing")]
    OtherPredicate {
        /// Its predicate's type.
        seen: String,
    },
    /// About another package.
    #[error("what is signed is about {signed}, not {package}")]
    OtherDigest {
        /// What it is about.
        signed: Digest,
        /// What was asked.
        package: Digest,
    },
    /// The statement and the manifest do not say the same.
    #[error("what is signed and the package itself do not say the same {what}: {signed} and {package}")]
    Contradiction {
        /// Name or version.
        what: &'static str,
        /// By the statement.
        signed: String,
        /// By the manifest.
        package: String,
    },
    /// Neither says it.
    #[error("neither what is signed nor the package itself says its {what}")]
    Unnamed {
        /// Name or version.
        what: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Subject {
    digest: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, serde_json::Value>,
}

impl SignedStatement {
    /// Reads what an envelope carries.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn read(payload: &[u8]) -> Result<Self, StatementError> {
        let malformed = |error: &dyn std::fmt::Display| StatementError::Malformed(error.to_string());
        let wire: Wire = serde_json::from_slice(payload).map_err(|error| malformed(&error))?;
        if !STATEMENTS.contains(&wire.kind.as_str()) {
            return Err(malformed(&format_args!("its type is {:?}", wire.kind)));
        }
        if wire.predicate_type != PREDICATE_TYPE {
            return Err(StatementError::OtherPredicate { seen: wire.predicate_type });
        }
        let [subject] = wire.subject.as_slice() else {
            return Err(malformed(&format_args!("it has {} subjects", wire.subject.len())));
        };
        let digits = subject.digest.get("sha256").ok_or_else(|| malformed(&"its subject has no SHA-256"))?;
        let said = |name: &str| match subject.annotations.get(name) {
            None => Ok(None),
            Some(serde_json::Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(malformed(&format_args!("its annotation {name} is no text"))),
        };
        let name = said(annotation::NAME)?.map(|text| text.parse()).transpose();
        let version = said(annotation::VERSION)?.map(|text| text.parse()).transpose();
        Ok(Self {
            digest: format!("sha256:{digits}").parse().map_err(|error| malformed(&error))?,
            name: name.map_err(|error| malformed(&error))?,
            version: version.map_err(|error| malformed(&error))?,
        })
    }

    /// The statement's bytes, to be signed.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut annotations = BTreeMap::new();
        annotations.extend(self.name.as_ref().map(|it| (annotation::NAME, it.to_string())));
        annotations.extend(self.version.as_ref().map(|it| (annotation::VERSION, it.to_string())));
        let statement = json!({
            "_type": STATEMENTS[0],
            "subject": [{ "digest": { "sha256": self.digest.digits() }, "annotations": annotations }],
            "predicateType": PREDICATE_TYPE,
            "predicate": {},
        });
        statement.to_string().into_bytes()
    }

    /// Name and version of the package with this digest, if the statement is about it.
    ///
    /// # Errors
    /// [`StatementError`].
    pub fn of(&self, package: Digest, artefact: &Artefact) -> Result<(Repository, Version), StatementError> {
        if self.digest != package {
            return Err(StatementError::OtherDigest { signed: self.digest, package });
        }
        Ok((
            agreed("name", &self.name, &artefact.name)?,
            agreed("version", &self.version, &artefact.version)?,
        ))
    }
}

fn agreed<T: Clone + PartialEq + std::fmt::Display>(
    what: &'static str,
    signed: &Option<T>,
    package: &Option<T>,
) -> Result<T, StatementError> {
    match (signed, package) {
        (Some(signed), Some(package)) if signed != package => Err(StatementError::Contradiction {
            what,
            signed: signed.to_string(),
            package: package.to_string(),
        }),
        (Some(said), _) | (None, Some(said)) => Ok(said.clone()),
        (None, None) => Err(StatementError::Unnamed { what }),
    }
}
