//! A further opinion on what the typed policy accepted, such as a policy in Rego. It can only narrow: it is asked
//! when everything else has passed, and nothing that it says makes a refusal good.

use std::fmt;

use crate::Code;
use crate::verdict::{Check, Decision, Outcome, Verdict, reasons};

/// Who is asked about Evidence that has been accepted so far.
pub trait Narrowing: fmt::Debug + Send + Sync {
    /// Looks at a verdict that accepts, with all that it claims.
    ///
    /// # Errors
    /// [`Objection`]s, for each of which the verdict has a reason. Without any it is an objection nevertheless.
    fn narrow(&self, accepted: &Verdict) -> Result<(), Vec<Objection>>;
}

/// Why Evidence is not accepted after all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The stable code.
    pub code: Code,
    /// What is wrong, in words.
    pub text: String,
    /// What would mend it.
    pub mend: Option<String>,
}

const NAME: &str = "narrowing";

impl Verdict {
    /// The verdict with the opinion of `by` beside it: accepted only if it was so before.
    pub(crate) fn narrowed(mut self, by: &dyn Narrowing) -> Self {
        let check = match self.verdict {
            Decision::Refused => {
                Check::skipped(NAME, "the further policy was not asked: the Evidence is refused")
            }
            Decision::Accepted => match by.narrow(&self) {
                Ok(()) => Check::passed(NAME, "the further policy has nothing against it"),
                Err(objections) => refusal(objections),
            },
        };
        if check.is_failed() {
            self.verdict = Decision::Refused;
        }
        self.checks.push(check);
        self.reasons = reasons(&self.checks, Outcome::Failed);
        self
    }
}

fn refusal(mut objections: Vec<Objection>) -> Check {
    if objections.is_empty() {
        let text = "the further policy refuses, and does not say why".into();
        objections.push(Objection { code: Code::RegoDenied, text, mend: None });
    }
    let checks = objections
        .into_iter()
        .map(|Objection { code, text, mend }| Check { mend, ..Check::failed("objection", code, text) })
        .collect();
    Check::group(NAME, "the further policy refuses", checks)
}
