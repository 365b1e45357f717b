//! Composite Evidence (RFC 9334, §3.3): several TEEs that vouch for one thing, such as a confidential VM and its
//! GPU. All of them must be accepted, and all must cover the same data: two good pieces that were made for
//! different occasions are no composite (S-12).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use evidence::{Covered, Endorsements, Evidence};
use serde::Serialize;

use crate::expectation::is_covered;
use crate::verdict::{Check, Decision, Origin, Reason, Verdict};
use crate::{
    Appraised, Code, Crypto, Narrowing, Policy, ReferenceValue, ReferenceValues, TcbStatus, UnixTime,
    appraise, assess,
};

/// One piece of composite Evidence, with the label by which verdicts show it.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Such as `cpu` or `gpu0`.
    pub label: &'a str,
    /// The Evidence.
    pub evidence: &'a Evidence,
    /// What its vendor signs about its platform.
    pub endorsements: &'a Endorsements,
}

/// Proof that every piece was accepted, and that all cover the same data. Only [`appraise_all`] makes it.
#[derive(Clone, Debug)]
pub struct AppraisedAll {
    pieces: Vec<(String, Appraised)>,
    verdict: CompositeVerdict,
}

impl AppraisedAll {
    /// The pieces, each a proof of its own.
    pub fn pieces(&self) -> &[(String, Appraised)] {
        &self.pieces
    }

    /// Whether any piece chains to the root of an emulated platform.
    pub fn emulated(&self) -> bool {
        self.pieces.iter().any(|(_, appraised)| appraised.emulated())
    }

    /// The verdict on all.
    pub fn verdict(&self) -> &CompositeVerdict {
        &self.verdict
    }
}

/// Composite Evidence was appraised and not accepted.
#[derive(Clone, Debug, thiserror::Error)]
#[error("composite Evidence refused: {}", codes(.verdict))]
pub struct RefusedAll {
    verdict: Box<CompositeVerdict>,
}

impl RefusedAll {
    /// The verdict on all.
    pub fn verdict(&self) -> &CompositeVerdict {
        &self.verdict
    }
}

fn codes(verdict: &CompositeVerdict) -> String {
    let codes: Vec<_> =
        verdict.reasons.iter().map(|reason| format!("{} ({})", reason.code, reason.check)).collect();
    codes.join(", ")
}

/// Appraises several pieces of Evidence as one: all of them accepted, each covering the expected data, each the
/// code that a reference value for its platform names.
///
/// # Errors
/// [`RefusedAll`] when any piece is refused, or when there are none.
pub fn appraise_all(
    pieces: &[Piece<'_>],
    reference: &ReferenceValues,
    policy: &Policy,
    now: UnixTime,
    crypto: &dyn Crypto,
) -> Result<AppraisedAll, RefusedAll> {
    let mut accepted = Vec::new();
    let mut verdicts = Vec::new();
    for piece in pieces {
        let label = piece.label.to_owned();
        match appraise(piece.evidence, piece.endorsements, reference, policy, now, crypto) {
            Ok(appraised) => {
                verdicts.push((label.clone(), appraised.verdict().clone()));
                accepted.push((label, appraised));
            }
            Err(refused) => verdicts.push((label, refused.verdict().clone())),
        }
    }
    let verdict = CompositeVerdict::new(verdicts, policy, now);
    match verdict.verdict {
        Decision::Accepted => Ok(AppraisedAll { pieces: accepted, verdict }),
        Decision::Refused => Err(RefusedAll { verdict: Box::new(verdict) }),
    }
}

/// Looks at several pieces with expectations that may be partial; see [`assess`]. They must cover the same data
/// also when it is not said which.
pub fn assess_all(
    pieces: &[Piece<'_>],
    report_data: Option<&Covered>,
    measurements: Option<&[ReferenceValue]>,
    policy: &Policy,
    now: UnixTime,
    crypto: &dyn Crypto,
) -> CompositeVerdict {
    assess_pieces(pieces, report_data, measurements, policy, now, crypto, None)
}

/// As [`assess_all`], with a further opinion on each piece.
pub(crate) fn assess_pieces(
    pieces: &[Piece<'_>],
    report_data: Option<&Covered>,
    measurements: Option<&[ReferenceValue]>,
    policy: &Policy,
    now: UnixTime,
    crypto: &dyn Crypto,
    narrowing: Option<&dyn Narrowing>,
) -> CompositeVerdict {
    let look = |piece: &Piece<'_>| {
        let Piece { evidence, endorsements, .. } = piece;
        let assessment = assess(evidence, endorsements, report_data, measurements, policy, now, crypto);
        let verdict = assessment.verdict().clone();
        let verdict = match narrowing {
            Some(narrowing) => verdict.narrowed(narrowing),
            None => verdict,
        };
        (piece.label.to_owned(), verdict)
    };
    CompositeVerdict::new(pieces.iter().map(look).collect(), policy, now)
}

/// The verdict on composite Evidence. Its JSON has the members of a [`Verdict`]'s, with labels before the names,
/// and the verdicts on the pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CompositeVerdict {
    verdict: Decision,
    policy: String,
    at: UnixTime,
    platform: &'static str,
    emulated: Option<bool>,
    tcb: CompositeTcb,
    measurements: BTreeMap<String, String>,
    report_data: Option<Covered>,
    reasons: Vec<Reason>,
    warnings: Vec<Reason>,
    binding: Check,
    pieces: Vec<LabelledVerdict>,
}

/// The worst status of all pieces that have one, and every open advisory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct CompositeTcb {
    status: Option<TcbStatus>,
    advisories: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct LabelledVerdict {
    label: String,
    #[serde(flatten)]
    verdict: Verdict,
}

impl CompositeVerdict {
    fn new(verdicts: Vec<(String, Verdict)>, policy: &Policy, at: UnixTime) -> Self {
        let binding = binding(&verdicts);
        let labelled = |label: &str, reason: &Reason| Reason {
            check: format!("{label}/{}", reason.check),
            ..reason.clone()
        };
        let gather = |of: fn(&Verdict) -> &[Reason]| {
            verdicts
                .iter()
                .flat_map(|(label, verdict)| of(verdict).iter().map(move |reason| labelled(label, reason)))
                .collect::<Vec<_>>()
        };
        let mut reasons = gather(Verdict::reasons);
        reasons.extend(crate::verdict::reasons(std::slice::from_ref(&binding), crate::Outcome::Failed));
        let accepted = !verdicts.is_empty()
            && verdicts.iter().all(|(_, verdict)| verdict.is_accepted())
            && !binding.is_failed();
        // None known to be emulated is not the same as all known to be real.
        let origins: Vec<_> = verdicts.iter().map(|(_, verdict)| verdict.origin()).collect();
        let emulated = if origins.iter().any(|origin| matches!(origin, Some(Origin::Emulated(_)))) {
            Some(true)
        } else {
            origins.iter().all(Option::is_some).then_some(false)
        };
        Self {
            verdict: if accepted { Decision::Accepted } else { Decision::Refused },
            policy: policy.name.clone(),
            at,
            platform: "composite",
            emulated,
            tcb: CompositeTcb {
                status: verdicts.iter().filter_map(|(_, verdict)| verdict.tcb().status).max(),
                advisories: verdicts
                    .iter()
                    .flat_map(|(_, verdict)| verdict.tcb().advisories.iter().cloned())
                    .collect(),
            },
            measurements: verdicts
                .iter()
                .flat_map(|(label, verdict)| {
                    verdict
                        .measurements()
                        .iter()
                        .map(move |(name, value)| (format!("{label}.{name}"), value.clone()))
                })
                .collect(),
            report_data: longest(&verdicts).cloned(),
            warnings: gather(Verdict::warnings),
            reasons,
            binding,
            pieces: verdicts.into_iter().map(|(label, verdict)| LabelledVerdict { label, verdict }).collect(),
        }
    }

    /// Whether all is accepted.
    pub fn is_accepted(&self) -> bool {
        self.verdict == Decision::Accepted
    }

    /// Why it was refused, each reason under its piece's label; empty when accepted.
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// The verdicts on the pieces.
    pub fn pieces(&self) -> impl Iterator<Item = (&str, &Verdict)> {
        self.pieces.iter().map(|piece| (piece.label.as_str(), &piece.verdict))
    }

    /// The verdict for people: what holds for all, then the tree of each piece.
    pub fn render(&self, color: bool) -> String {
        use fmt::Write;
        let mut text = String::new();
        let (mark, word) = match self.verdict {
            Decision::Accepted => ("✓", "accepted"),
            Decision::Refused => ("✗", "refused"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark} {word}   {} pieces of composite Evidence", self.pieces.len());
        let bound = if self.binding.is_failed() { "✗" } else { "✓" };
        let _ = writeln!(text, "{bound} bound      {}", self.binding.text);
        for piece in &self.pieces {
            let _ = writeln!(text, "\n{}:", piece.label);
            text.push_str(&piece.verdict.render(color));
        }
        text
    }
}

/// What the piece with the longest field covers, the first of equals: where others have half of it, it is the whole.
fn longest(verdicts: &[(String, Verdict)]) -> Option<&Covered> {
    verdicts
        .iter()
        .rev()
        .map(|(_, verdict)| verdict.report_data())
        .max_by_key(|covered| covered.as_bytes().len())
}

/// Do all pieces cover the same data?
fn binding(verdicts: &[(String, Verdict)]) -> Check {
    const NAME: &str = "binding";
    let Some(whole) = longest(verdicts) else {
        return Check::failed(NAME, Code::CompositeNotBound, "there is no Evidence");
    };
    let stranger = verdicts.iter().find(|(_, verdict)| !is_covered(whole, verdict.report_data()));
    match stranger {
        None => Check::passed(NAME, "all pieces cover the same data"),
        Some((label, verdict)) => {
            let text = format!("{label} covers other data than the rest: it was made for another occasion");
            Check::failed(NAME, Code::CompositeNotBound, text)
                .expected(whole.to_string())
                .observed(verdict.report_data().to_string())
                .mend("ask for all pieces with one nonce")
        }
    }
}
