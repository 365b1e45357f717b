//! The one place where decisions are told: who asked, what was decided, by which codes, on which verdict. Each goes to
//! the log, the counters, the trace and, where the host asked for it, to a [`stream`] of JSON objects.
//!
//! The host reads all of it. So names are the manifest's, which is public, and never a caller's; codes and routes are
//! ours; a verdict is about Evidence; and of a request's body there is nothing (S-44).

pub(super) mod stream;

use appraisal::Verdict;
use attested_tls::channel::ChannelError;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Coordinator, telemetry::Traced};
use crate::core::{self, Caller, Refusal};

/// A verdict is some kilobytes. A record that would be longer than this goes without it.
const LONGEST_RECORD: usize = 64 * 1024;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// To become an instance of a Marble.
    Activation,
    /// Where the workload of a Marble is, or what opens it.
    Location,
    /// A new certificate for an instance.
    Renewal,
    /// The key of a volume.
    Volume,
    /// Something of the client API.
    ClientRequest,
    /// To be a guest of the broker.
    Guest,
    /// A resource of the broker.
    Release,
}

/// Who asked: by a name of the manifest, or nobody that it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Subject {
    /// A Marble. Of a refused activation: the one that the peer claimed to be.
    Marble(String),
    /// A user.
    User(String),
    /// The owner of the measured launch configuration.
    Owner,
    #[default]
    /// Neither.
    Unknown,
}

/// What was decided. Without codes it was granted.
pub(super) struct Decision<'a> {
    pub(super) kind: Kind,
    pub(super) subject: Subject,
    /// Method and route of a client request; routes have no variable parts.
    pub(super) route: Option<&'a str>,
    /// Why not; empty where the request was granted.
    pub(super) codes: Vec<String>,
    /// Of the Evidence, where there was any.
    pub(super) verdict: Option<&'a Verdict>,
    /// In words, where the operator has to do something outside.
    pub(super) reason: Option<String>,
}

impl<'a> Decision<'a> {
    pub(super) fn granted(kind: Kind, subject: Subject) -> Self {
        Self { kind, subject, route: None, codes: Vec::new(), verdict: None, reason: None }
    }

    /// Refused; where the cause lies outside, with what it is and what would mend it.
    pub(super) fn because(kind: Kind, subject: Subject, refusal: &Refusal) -> Self {
        let reason = matches!(refusal, Refusal::SecretStore { .. }).then(|| refusal.to_string());
        Self { reason, ..Self::refused(kind, subject, refusal.code()) }
    }

    pub(super) fn refused(kind: Kind, subject: Subject, code: &str) -> Self {
        Self { codes: vec![code.to_owned()], ..Self::granted(kind, subject) }
    }

    /// A peer that could not attest itself.
    pub(super) fn not_admitted(subject: Subject, error: &'a ChannelError) -> Self {
        let verdict = error.refused().map(appraisal::Refused::verdict);
        Self { codes: error.codes(), verdict, ..Self::granted(Kind::Activation, subject) }
    }

    pub(super) fn on(self, verdict: &'a Verdict) -> Self {
        Self { verdict: Some(verdict), ..self }
    }

    fn outcome(&self) -> &'static str {
        match (self.codes.is_empty(), self.kind) {
            (false, _) => "refused",
            (true, Kind::ClientRequest) => "granted",
            (true, _) => "admitted",
        }
    }

    fn record(&self, time: &str) -> Vec<u8> {
        let record = |verdict: Value| {
            let mut record = json!({
                "time": time,
                "kind": self.kind,
                "subject": self.subject,
                "request": self.route,
                "decision": self.outcome(),
                "codes": self.codes,
                "verdict": verdict,
            });
            if let Some(reason) = &self.reason {
                record["reason"] = json!(reason);
            }
            record.to_string().into_bytes()
        };
        let whole = record(self.verdict.map_or(Value::Null, |verdict| json!(verdict)));
        if whole.len() <= LONGEST_RECORD { whole } else { record(Value::Null) }
    }

    fn log(&self) {
        let (decision, codes) = (self.outcome(), self.codes.join(","));
        let name = match &self.subject {
            Subject::Marble(name) | Subject::User(name) => Some(name.as_str()),
            Subject::Owner => Some("owner"),
            Subject::Unknown => None,
        };
        let verdict = self.verdict.map(|verdict| verdict.render(false));
        let verdict = verdict.as_deref();
        let reason = self.reason.as_deref();
        match (self.kind, self.codes.is_empty()) {
            (Kind::Activation, true) => {
                tracing::info!(decision, marble = name, verdict, "a Marble was activated");
            }
            (Kind::Activation, false) => {
                tracing::warn!(decision, codes, reason, marble = name, verdict, "a Marble was refused");
            }
            (Kind::Renewal, true) => tracing::debug!(decision, marble = name, "a certificate was renewed"),
            (Kind::Renewal, false) => {
                tracing::warn!(decision, codes, marble = name, "a certificate was not renewed");
            }
            (Kind::Location, true) => tracing::debug!(decision, marble = name, "a workload was located"),
            (Kind::Location, false) => {
                tracing::warn!(decision, codes, reason, marble = name, "a workload was not located");
            }
            (Kind::Volume, true) => tracing::info!(decision, marble = name, "a volume was opened"),
            (Kind::Volume, false) => {
                tracing::warn!(decision, codes, marble = name, "a volume was not opened");
            }
            (Kind::Guest, true) => tracing::info!(decision, verdict, "a guest attested"),
            (Kind::Guest, false) => {
                tracing::warn!(decision, codes, reason, verdict, "a guest was refused");
            }
            (Kind::Release, true) => tracing::debug!(decision, "a resource was released"),
            (Kind::Release, false) => {
                tracing::warn!(decision, codes, reason, "a resource was not released");
            }
            (Kind::ClientRequest, true) => {
                tracing::info!(decision, user = name, request = self.route, "a client request was granted");
            }
            (Kind::ClientRequest, false) => {
                tracing::warn!(
                    decision,
                    codes,
                    user = name,
                    request = self.route,
                    "a client request was refused"
                );
            }
        }
    }
}

impl Coordinator {
    /// Tells of a decision. Never waits, and never fails.
    pub(super) fn decided(&self, decision: &Decision<'_>, traced: Traced) {
        decision.log();
        if decision.kind == Kind::Activation {
            self.metrics.activation(decision.codes.is_empty());
        }
        match decision.kind {
            Kind::Guest => self.metrics.guest(decision.codes.is_empty()),
            Kind::Release => self.metrics.release(decision.codes.is_empty()),
            Kind::Activation | Kind::Location | Kind::Renewal | Kind::Volume | Kind::ClientRequest => {}
        }
        if let Some(stream) = &self.decisions {
            stream.offer(decision.record(&(self.clock)().to_string()));
        }
        traced.end(decision.outcome(), &decision.codes.join(","), &decision.subject);
    }

    /// A Marble of the manifest in force; whatever else a peer claims to be is not repeated.
    pub(super) fn marble(&self, claimed: &str) -> Subject {
        let snapshot = self.snapshot().ok();
        let mesh = snapshot.as_ref().and_then(|snapshot| snapshot.state.mesh());
        match mesh.and_then(|mesh| mesh.manifest().marble(claimed)) {
            Some(marble) => Subject::Marble(marble.name.to_string()),
            None => Subject::Unknown,
        }
    }

    /// Who calls the client API.
    pub(super) fn subject(&self, caller: &Caller) -> Subject {
        let snapshot = self.snapshot().ok();
        let mesh = snapshot.as_ref().and_then(|snapshot| snapshot.state.mesh());
        if let Some(user) = mesh.and_then(|mesh| core::user_name(mesh, caller)) {
            return Subject::User(user);
        }
        if caller.is_owner(&self.configuration.owner) { Subject::Owner } else { Subject::Unknown }
    }
}

/// What a guest learns when a store outside does not give what it needs: code and sentence.
pub(super) const UNAVAILABLE: (&str, &str) = (
    "PARAMETERS_UNAVAILABLE",
    "a parameter is not available now: try again, and see the coordinator's decisions",
);

/// Why an answer of the client API is not success, for whoever tells of it.
#[derive(Clone)]
pub(super) struct RefusedWith(pub(super) String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_no_more_than_it_should() {
        let subject = Subject::User("writer".into());
        let refused = Decision {
            route: Some("POST /api/v2/secrets"),
            ..Decision::refused(Kind::ClientRequest, subject, "NOT_GRANTED")
        };
        let record: Value = serde_json::from_slice(&refused.record("2026-11-21T00:00:00Z")).unwrap();
        let expected = json!({
            "time": "2026-11-21T00:00:00Z", "kind": "client-request", "subject": { "user": "writer" },
            "request": "POST /api/v2/secrets", "decision": "refused", "codes": ["NOT_GRANTED"], "verdict": null,
        });
        assert_eq!(record, expected);
        let granted = Decision::granted(Kind::Activation, Subject::default());
        let record: Value = serde_json::from_slice(&granted.record("now")).unwrap();
        assert_eq!((&record["subject"], &record["decision"]), (&json!("unknown"), &json!("admitted")));
    }
}
