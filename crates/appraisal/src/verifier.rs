//! Appraisal for those who do it often: a [`Verifier`] remembers what vendors signed, so that Evidence of a
//! platform seen before costs little more than the check of its own signature.

use std::fmt;

use evidence::{Covered, Endorsements, Evidence};

use crate::expectation::Expectations;
use crate::memory::{Capacity, Memory};
use crate::{
    Appraised, Assessment, Crypto, Narrowing, Policy, ReferenceValue, ReferenceValues, Refused, UnixTime,
    judge,
};

/// Cryptography with a bounded memory. Verdicts are those of [`appraise`](crate::appraise) and
/// [`assess`](crate::assess), byte for byte, whatever was seen before: it remembers which bytes were signed by
/// which key, and makes every other check anew, of times, revocation, TCB, policy and expectations.
///
/// May be shared between threads, which hardly ever wait for each other.
pub struct Verifier {
    crypto: Box<dyn Crypto>,
    memory: Memory,
    narrowing: Option<Box<dyn Narrowing>>,
}

impl Verifier {
    /// A verifier that remembers nothing yet.
    pub fn new(crypto: impl Crypto + 'static, capacity: Capacity) -> Self {
        Self { crypto: Box::new(crypto), memory: Memory::new(capacity), narrowing: None }
    }

    /// The same verifier, which asks a further opinion on all that it would accept.
    #[must_use]
    pub fn narrowed_by(self, narrowing: impl Narrowing + 'static) -> Self {
        Self { narrowing: Some(Box::new(narrowing)), ..self }
    }

    /// As [`appraise`](crate::appraise).
    ///
    /// # Errors
    /// As [`appraise`](crate::appraise).
    pub fn appraise(
        &self,
        evidence: &Evidence,
        endorsements: &Endorsements,
        reference: &ReferenceValues,
        policy: &Policy,
        now: UnixTime,
    ) -> Result<Appraised, Refused> {
        let expectations = Expectations {
            report_data: Some(&reference.report_data),
            measurements: Some(&reference.measurements),
        };
        Appraised::new(evidence, self.judge(evidence, endorsements, expectations, policy, now))
    }

    /// As [`assess`](crate::assess).
    pub fn assess(
        &self,
        evidence: &Evidence,
        endorsements: &Endorsements,
        report_data: Option<&Covered>,
        measurements: Option<&[ReferenceValue]>,
        policy: &Policy,
        now: UnixTime,
    ) -> Assessment {
        let expectations = Expectations { report_data, measurements };
        Assessment { verdict: self.judge(evidence, endorsements, expectations, policy, now).0 }
    }

    /// How many bytes it remembers, about; at most its capacity.
    pub fn remembered(&self) -> usize {
        self.memory.weight()
    }

    fn judge(
        &self,
        evidence: &Evidence,
        endorsements: &Endorsements,
        expectations: Expectations<'_>,
        policy: &Policy,
        now: UnixTime,
    ) -> (crate::Verdict, crate::CollateralSeen) {
        let (verdict, collateral) =
            judge(evidence, endorsements, expectations, policy, now, &*self.crypto, Some(&self.memory));
        match &self.narrowing {
            Some(narrowing) => (verdict.narrowed(&**narrowing), collateral),
            None => (verdict, collateral),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("remembered", &self.remembered()).finish_non_exhaustive()
    }
}
