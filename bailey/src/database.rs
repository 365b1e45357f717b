//! Speaking to a database: appraise it, hold what was seen of it, and say how its clients reach it.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use appraisal::{Policy, ReferenceValue, Verdict, binding::Role};
use attested_tls::{
    claims::{Claims, DatabaseAnchor, DatabaseClaims, DatabaseMode, DatabaseState},
    clock::Clock,
    service::{self, UserIdentity},
};
use hyper::Method;
use rustls::{ClientConfig, pki_types::CertificateDer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    client::{self, Asked, Declined, Endpoint, VerifyError, appraise, exchange},
    failure::{Failure, Input, Outcome},
};

const EVIDENCE: Asked = Asked { path: "/v1/attestation", role: Role::Database };

/// What a database must be.
#[derive(Debug, Clone)]
pub struct Requirements {
    /// Acceptable platforms.
    pub policy: Policy,
    /// Acceptable code, with its launch configuration.
    pub measurements: Vec<ReferenceValue>,
    /// The first manifest, by its digest: all later ones are successors that its approvers agreed on.
    pub first: Option<[u8; 32]>,
    /// The manifest that must be in force, by its digest; `None` takes any successor.
    pub manifest: Option<[u8; 32]>,
    /// SHA-256 of the root certificate of the mesh that it must be a Marble of; `None`: of none.
    pub mesh: Option<[u8; 32]>,
}

/// A database that was appraised.
pub struct Verified {
    /// Every check that was made.
    pub verdict: Verdict,
    /// What it says of itself, covered by its Evidence.
    pub claims: DatabaseClaims,
}

/// Fetches Evidence with a fresh nonce, appraises it against the key of its connection, and checks the claims.
pub async fn verify(
    endpoint: &Endpoint,
    required: &Requirements,
    clock: &Clock,
) -> Result<Verified, VerifyError> {
    let nonce = client::fresh_nonce()?;
    let found =
        appraise(endpoint, &EVIDENCE, &required.policy, &required.measurements, &nonce, clock).await?;
    // Only now are the claims the word of code that is trusted.
    let claims = DatabaseClaims::from_bytes(&found.statement.claims)
        .map_err(|error| VerifyError::Malformed(error.into()))?;
    let seen = claims.first.into_array();
    if let Some(expected) = required.first
        && seen != expected
    {
        return Err(VerifyError::Manifest { expected, seen: Some(seen) });
    }
    let seen = claims.state.as_ref().map(|state| state.manifest.into_array());
    if let Some(expected) = required.manifest
        && seen != Some(expected)
    {
        return Err(VerifyError::Manifest { expected, seen });
    }
    is_in(required.mesh, claims.anchor)?;
    Ok(Verified { verdict: found.appraised.verdict().clone(), claims })
}

/// Whether the mesh that has a database's key is the one that is meant. Its host chose where the coordinator is.
fn is_in(expected: Option<[u8; 32]>, anchor: DatabaseAnchor) -> Result<(), VerifyError> {
    let seen = match anchor {
        DatabaseAnchor::Coordinator { root } => Some(root.into_array()),
        DatabaseAnchor::Receipts | DatabaseAnchor::TpmNv { .. } => None,
    };
    if seen == expected { Ok(()) } else { Err(VerifyError::Mesh { expected, seen }) }
}

/// A database whose root is known.
pub struct Client {
    endpoint: Endpoint,
    config: Arc<ClientConfig>,
}

impl Client {
    /// Requests are made as `identity`, to whoever has a certificate below `root`.
    pub fn new(
        endpoint: Endpoint,
        root: &CertificateDer<'static>,
        identity: Option<&UserIdentity>,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        Ok(Self { endpoint, config: service::pinned_client(root, identity, clock.clone())? })
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.request(Method::GET, path, None).await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.request(Method::POST, path, Some(serde_json::to_vec(body)?)).await
    }

    async fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> anyhow::Result<Value> {
        let answer = exchange(&self.endpoint, self.config.clone(), method, path, body, None).await?;
        let said = serde_json::from_slice::<Value>(&answer.body);
        if answer.status.is_success() {
            return said.map_err(|_| anyhow::anyhow!("{} did not answer in JSON", self.endpoint));
        }
        let said = said.unwrap_or_default();
        let word = |name: &str, none: &str| said[name].as_str().unwrap_or(none).to_owned();
        Err(Declined {
            status: answer.status,
            code: word("Code", "UNKNOWN"),
            message: word("Message", "no reason given"),
            details: Value::Null,
        }
        .into())
    }
}

/// The newest state of a database that somebody saw, in a file of theirs. A database that shows an older one later was
/// rolled back by its host; this is the anchor that every client has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Held {
    /// SHA-256 of the first manifest, hexadecimal.
    first: String,
    /// The number of the newest record of its log.
    sequence: u64,
    /// That record's hash, hexadecimal.
    head: String,
    /// How often its manifest was changed.
    epoch: u64,
}

impl Held {
    fn of(claims: &DatabaseClaims, state: &DatabaseState) -> Self {
        Self {
            first: hex::encode(claims.first.as_slice()),
            sequence: state.log_sequence,
            head: hex::encode(state.log_head.as_slice()),
            epoch: state.epoch,
        }
    }

    /// Compares what a database shows with what `file` holds, and holds the newer. Whether the one that is held is in
    /// the history of the newer one, the database says, whose Evidence was appraised.
    ///
    /// # Errors
    /// When it is older, another history, or another database; or the file cannot be read or written.
    pub async fn meet(file: &Path, claims: &DatabaseClaims, endpoint: &Endpoint, clock: &Clock) -> Outcome {
        let Some(state) = &claims.state else { return Ok(()) };
        let shown = Self::of(claims, state);
        let held = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice::<Self>(&bytes)
                .malformed(format!("{} holds no head of a database", file.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => shown.clone(),
            Err(error) => return Err(Failure::refused(format!("{}: {error}", file.display()))),
        };
        shown.continues(&held).map_err(|why| Failure::refused(why).hint(MEND))?;
        // A replica follows another one's log, and is not asked for what is older than it.
        if held.sequence < shown.sequence && claims.mode == DatabaseMode::Running {
            let root = CertificateDer::from(claims.root.to_vec());
            let client = Client::new(endpoint.clone(), &root, None, clock)?;
            let path = format!("/v1/log/{}/{}", held.sequence, held.head);
            let said = client.get(&path).await?["Held"].as_str().unwrap_or_default().to_owned();
            held.within(&said).map_err(|why| Failure::refused(why).hint(MEND))?;
        }
        let fresh = PathBuf::from(format!("{}.new", file.display()));
        let text = serde_json::to_vec_pretty(&shown).expect("plain data always serialises");
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, file))
            .map_err(|error| Failure::refused(format!("{} cannot be written: {error}", file.display())))
    }

    /// What the database says of this one.
    fn within(&self, said: &str) -> Result<(), Discontinued> {
        let seen = self.sequence;
        match said {
            "contained" => Ok(()),
            "contradicted" => Err(Discontinued::NotContained { seen }),
            _ => Err(Discontinued::Unknown { seen }),
        }
    }

    fn continues(&self, held: &Self) -> Result<(), Discontinued> {
        if self.first != held.first {
            return Err(Discontinued::Another { first: self.first.clone(), held: held.first.clone() });
        }
        if self.sequence < held.sequence || self.epoch < held.epoch {
            let (newest, seen) = ((self.sequence, self.epoch), (held.sequence, held.epoch));
            return Err(Discontinued::RolledBack { newest, seen });
        }
        if self.sequence == held.sequence && self.head != held.head {
            return Err(Discontinued::Forked { seen: held.sequence });
        }
        Ok(())
    }
}

/// Why what a database shows does not go on from the state that was seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Discontinued {
    #[error(
        "another database: it began with the manifest {first}, the one that is held with {held} [DATABASE_ANOTHER]"
    )]
    Another { first: String, held: String },
    /// Records and epochs.
    #[error(
        "the database was rolled back: record {} of epoch {} is its newest, and record {} of epoch {} was seen \
         [DATABASE_ROLLED_BACK]",
        newest.0, newest.1, seen.0, seen.1
    )]
    RolledBack { newest: (u64, u64), seen: (u64, u64) },
    #[error("the database has another record {seen} than the one that was seen [DATABASE_FORKED]")]
    Forked { seen: u64 },
    #[error("record {seen} that was seen is not in the history of this database [DATABASE_FORKED]")]
    NotContained { seen: u64 },
    #[error(
        "the database cannot tell whether record {seen} that was seen is in its history: its host has lost the file that \
         would show it [DATABASE_HEAD_UNKNOWN]"
    )]
    Unknown { seen: u64 },
}

const MEND: &str = "trust nothing that it answers; its operator must bring back the newest state";

#[cfg(test)]
mod tests {
    use super::*;

    fn held(sequence: u64, head: &str, epoch: u64) -> Held {
        Held { first: "aa".into(), sequence, head: head.into(), epoch }
    }

    #[test]
    fn a_database_is_refused_where_another_mesh_than_the_one_that_is_meant_has_its_key() {
        let marble = DatabaseAnchor::Coordinator { root: [1; 32].into() };
        assert!(is_in(Some([1; 32]), marble).is_ok() && is_in(None, DatabaseAnchor::Receipts).is_ok());
        for (expected, anchor, words) in [
            (Some([2; 32]), marble, "another mesh"),
            (None, marble, "--mesh-root"),
            (Some([1; 32]), DatabaseAnchor::Receipts, "no Marble"),
            (Some([1; 32]), DatabaseAnchor::TpmNv { key: None }, "no Marble"),
        ] {
            let refused = is_in(expected, anchor).unwrap_err().to_string();
            assert!(refused.contains(words) && refused.ends_with("[MESH_DIFFERS]"), "{refused}");
        }
    }

    #[test]
    fn s16_an_older_or_other_state_than_was_seen_is_refused() {
        let seen = held(10, "aa", 2);
        for good in [held(10, "aa", 2), held(11, "bb", 2), held(12, "cc", 3)] {
            assert_eq!(good.continues(&seen), Ok(()));
        }
        for (bad, code) in [
            (held(9, "aa", 2), "DATABASE_ROLLED_BACK"),
            (held(11, "bb", 1), "DATABASE_ROLLED_BACK"),
            (held(10, "bb", 2), "DATABASE_FORKED"),
            (Held { first: "bb".into(), ..held(11, "aa", 2) }, "DATABASE_ANOTHER"),
        ] {
            assert!(bad.continues(&seen).is_err_and(|why| why.to_string().contains(code)), "{bad:?}");
        }
        assert_eq!(seen.within("contained"), Ok(()));
        for (said, code) in [
            ("contradicted", "DATABASE_FORKED"),
            ("forgotten", "DATABASE_HEAD_UNKNOWN"),
            ("", "DATABASE_HEAD_UNKNOWN"),
        ] {
            assert!(seen.within(said).is_err_and(|why| why.to_string().contains(code)), "{said}");
        }
    }
}
