//! One look at a file, as `bailey evidence verify` and the page in `docs/verify` make it: take the Evidence out of
//! whatever holds it, pick the Endorsements that fit, and assess it. Pure, so that both give the same bytes.

use std::sync::Arc;

use evidence::conveyed::Conveyed;
use evidence::eventlog::EventLog;
use evidence::{Covered, Endorsements, Malformed, NoRegisters};
use serde::Serialize;

use crate::cluster::{ClusterEvidence, Parsed};
use crate::composite::{CompositeVerdict, Piece, assess_pieces};
use crate::verdict::{Reason, Verdict};
use crate::{
    Crypto, EmulatedRoot, EndorsementsBuilder, Narrowing, Policy, ReferenceValue, TrustAnchor, UnixTime,
    Unrecognised, assess, ra_tls,
};

/// A file to be looked at, and what it is to be held against.
#[derive(Clone, Debug)]
pub struct Examination {
    conveyed: Conveyed,
    endorsements: EndorsementsBuilder,
    policy: Policy,
    emulated_roots: Vec<EmulatedRoot>,
    trust_anchors: Vec<TrustAnchor>,
    references: Option<Vec<ReferenceValue>>,
    report_data: Option<Covered>,
    narrowing: Option<Arc<dyn Narrowing>>,
    cluster: Option<Parsed>,
}

/// A file that is neither the root of a vendor nor a key that can be enrolled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: neither a root certificate nor a key")]
pub struct NoRoot(String);

/// A nonce is expected of what is no cluster evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only cluster evidence names the nonce that it covers")]
pub struct NoCluster;

impl Examination {
    /// Takes the Evidence out of a file. Without a policy of its own it is held against [`Policy::genuine`].
    ///
    /// # Errors
    /// [`Malformed`] when there is none in it.
    pub fn new(file: &[u8]) -> Result<Self, Malformed> {
        let mut endorsements = EndorsementsBuilder::new();
        let (conveyed, cluster) = if ClusterEvidence::recognises(file) {
            let cluster = ClusterEvidence::parse(file)?.open()?;
            endorsements.add(cluster.endorsements.clone());
            let evidence = vec![(String::new(), cluster.evidence.clone())];
            (Conveyed { evidence, ..Conveyed::default() }, Some(cluster))
        } else {
            (Conveyed::parse(file)?, None)
        };
        for stapled in &conveyed.stapled {
            // What is stapled and not recognised is missing, and the verdict says what is missing.
            let _ = endorsements.add_file_bytes(stapled);
        }
        Ok(Self {
            conveyed,
            endorsements,
            policy: Policy::genuine(),
            emulated_roots: Vec::new(),
            trust_anchors: Vec::new(),
            references: None,
            report_data: None,
            narrowing: None,
            cluster,
        })
    }

    /// The Evidence that the file holds.
    pub fn conveyed(&self) -> &Conveyed {
        &self.conveyed
    }

    /// Adds a file of Endorsements.
    ///
    /// # Errors
    /// [`Unrecognised`] when it endorses nothing.
    pub fn endorse(&mut self, file: &[u8]) -> Result<(), Unrecognised> {
        self.endorsements.add_file_bytes(file)
    }

    /// Adds Endorsements that are whole already, such as those of a bundle.
    pub fn endorse_whole(&mut self, endorsements: Endorsements) {
        self.endorsements.add(endorsements);
    }

    /// As [`Examination::endorse_whole`], and preferred to those that were added before where both fit.
    pub fn endorse_first(&mut self, endorsements: Endorsements) {
        self.endorsements.prefer(endorsements);
    }

    /// The Endorsements that fit each piece of [`Examination::conveyed`] at a time, in its order.
    pub fn fitted(&self, now: UnixTime) -> Vec<Endorsements> {
        self.conveyed.evidence.iter().map(|(_, evidence)| self.endorsements.fit(evidence, now)).collect()
    }

    /// The policy, with the roots that were added.
    pub fn policy(&self) -> Policy {
        let mut policy = self.policy.clone();
        policy.emulated_roots.extend(self.emulated_roots.iter().cloned());
        policy.trust_anchors.extend(self.trust_anchors.iter().cloned());
        policy
    }

    /// Attaches an event log to the one piece of Evidence that the file holds.
    ///
    /// # Errors
    /// [`NoRegisters`] when it has no registers that a log could be replayed to, or there are several pieces.
    pub fn attach(&mut self, log: EventLog) -> Result<(), NoRegisters> {
        match self.conveyed.evidence.as_slice() {
            [(_, evidence)] => {
                self.conveyed.evidence[0].1 = evidence.clone().with_event_log(log)?;
                Ok(())
            }
            pieces => Err(NoRegisters { platform: pieces[0].1.platform() }),
        }
    }

    /// Holds the Evidence against this policy, beside the roots that [`Examination::trust`] adds.
    pub fn hold_against(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Asks a further opinion on each piece of Evidence that would be accepted.
    pub fn narrow_by(&mut self, narrowing: Arc<dyn Narrowing>) {
        self.narrowing = Some(narrowing);
    }

    /// Trusts a further root: a certificate, or a key.
    ///
    /// # Errors
    /// [`NoRoot`] when the file is neither.
    pub fn trust(&mut self, name: &str, file: &[u8]) -> Result<(), NoRoot> {
        let certificate = match evidence::pem::certificates(file) {
            Ok(certificates) if certificates.len() == 1 => certificates[0].0.clone(),
            _ => file.to_vec(),
        };
        // A certificate is the root of an emulated platform where vendors' roots are compiled in, and an anchor
        // where they are not.
        let root = EmulatedRoot::new(name, &certificate).ok();
        let anchors = TrustAnchor::from_file_bytes(name, file).unwrap_or_default();
        if root.is_none() && anchors.is_empty() {
            return Err(NoRoot(name.to_owned()));
        }
        self.emulated_roots.extend(root);
        self.trust_anchors.extend(anchors);
        Ok(())
    }

    /// Expects the code to be one of these.
    pub fn expect_code(&mut self, references: Vec<ReferenceValue>) {
        self.references.get_or_insert_default().extend(references);
    }

    /// Expects the Evidence to cover these bytes. Where the platform's field has 64, and 32 are given, zeros are
    /// expected after them: that is how platforms fill it.
    pub fn expect_covered(&mut self, bytes: &[u8]) {
        let longest =
            self.conveyed.evidence.iter().map(|(_, evidence)| evidence.covered().as_bytes().len()).max();
        let mut expected = bytes.to_vec();
        if (bytes.len(), longest) == (32, Some(64)) {
            expected.resize(64, 0);
        }
        self.report_data = Some(Covered::new(expected));
    }

    /// Expects cluster evidence to cover this nonce, whatever the file says.
    ///
    /// # Errors
    /// [`NoCluster`] when the file is none.
    pub fn expect_nonce(&mut self, nonce: [u8; 32]) -> Result<(), NoCluster> {
        self.cluster.as_mut().ok_or(NoCluster)?.expect_nonce(nonce);
        Ok(())
    }

    /// Assesses what the file holds, at a time.
    pub fn assess(&self, now: UnixTime, crypto: &dyn Crypto) -> Examined {
        let (covered, references) = (self.report_data.as_ref(), self.references.as_deref());
        let policy = self.policy();
        if let [(_, evidence)] = self.conveyed.evidence.as_slice() {
            let endorsements = self.endorsements.fit(evidence, now);
            let certificate = self.conveyed.certificate.as_ref();
            let own = certificate.map(|own| Covered::from(ra_tls::report_data(&own.claims, crypto)));
            let own = own.or_else(|| self.cluster.as_ref().map(|cluster| cluster.covered(crypto)));
            let covered = covered.or(own.as_ref());
            let assessment = assess(evidence, &endorsements, covered, references, &policy, now, crypto);
            let mut verdict = assessment.verdict().clone();
            if let Some(certificate) = certificate {
                verdict.add(ra_tls::check(certificate, crypto));
            }
            if let Some(cluster) = &self.cluster {
                verdict.add(cluster.says(crypto));
            }
            // Last, for it is asked about what everything else accepts.
            return Examined::One(Box::new(match &self.narrowing {
                Some(narrowing) => verdict.narrowed(&**narrowing),
                None => verdict,
            }));
        }
        let fitted = self.fitted(now);
        let pieces: Vec<_> = self
            .conveyed
            .evidence
            .iter()
            .zip(&fitted)
            .map(|((label, evidence), endorsements)| Piece { label, evidence, endorsements })
            .collect();
        Examined::All(Box::new(assess_pieces(
            &pieces,
            covered,
            references,
            &policy,
            now,
            crypto,
            self.narrowing.as_deref(),
        )))
    }
}

/// What a look at a file found. It proves nothing to a program: see [`crate::appraise`] for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Examined {
    /// The file held one piece of Evidence.
    One(Box<Verdict>),
    /// The file held several, which must all be accepted.
    All(Box<CompositeVerdict>),
}

impl Examined {
    /// Whether all is accepted.
    pub fn is_accepted(&self) -> bool {
        match self {
            Self::One(verdict) => verdict.is_accepted(),
            Self::All(verdict) => verdict.is_accepted(),
        }
    }

    /// Why not.
    pub fn reasons(&self) -> &[Reason] {
        match self {
            Self::One(verdict) => verdict.reasons(),
            Self::All(verdict) => verdict.reasons(),
        }
    }

    /// The verdicts, one for each piece.
    pub fn verdicts(&self) -> Vec<&Verdict> {
        match self {
            Self::One(verdict) => vec![verdict],
            Self::All(verdict) => verdict.pieces().map(|(_, verdict)| verdict).collect(),
        }
    }

    /// The verdict for people.
    pub fn render(&self, color: bool) -> String {
        match self {
            Self::One(verdict) => verdict.render(color),
            Self::All(verdict) => verdict.render(color),
        }
    }
}
