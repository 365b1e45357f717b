//! Evidence as it travels: the hardware's bytes, the Endorsements stapled to it, and the claims that its
//! report data covers.

use std::sync::Arc;

use appraisal::{
    Appraised, Capacity, Policy, ReferenceValue, ReferenceValues, Refused, UnixTime, Verifier,
    binding::{Role, Transcript},
};
use attester::{AttesterError, Tee};
use evidence::{Endorsements, Evidence, ReportData};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{claims::MAX_CLAIMS, key::SpkiDigest};

/// No honest Evidence is larger; Intel's collateral is the bulk of it.
pub const MAX_STATEMENT: usize = 1024 * 1024;

/// Evidence, Endorsements and claims, unverified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The platform's Evidence in the vendor's format.
    pub evidence: ByteBuf,
    /// [`Endorsements`] as CBOR.
    pub endorsements: ByteBuf,
    /// The claims' exact bytes.
    pub claims: ByteBuf,
}

impl Statement {
    /// Asks the TEE for Evidence over `role`, `key`, `nonce` and `claims`. Blocking, microseconds.
    pub fn issue(
        tee: &dyn Tee,
        role: Role,
        key: &SpkiDigest,
        nonce: &[u8; 32],
        claims: Vec<u8>,
    ) -> Result<Self, AttesterError> {
        let transcript = Transcript { role, key: &key.0, nonce, claims: &claims };
        let raw = tee.evidence(&transcript.report_data(&crypto_aws_lc::AwsLc))?;
        Ok(Self {
            evidence: ByteBuf::from(raw.evidence),
            endorsements: ByteBuf::from(raw.endorsements),
            claims: ByteBuf::from(claims),
        })
    }

    /// CBOR.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        ciborium::into_writer(self, &mut out).expect("writing plain data to memory cannot fail");
        out
    }

    /// Reads a statement strictly.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StatementError> {
        if bytes.len() > MAX_STATEMENT {
            return Err(StatementError::TooLarge {
                what: "statement",
                size: bytes.len(),
                max: MAX_STATEMENT,
            });
        }
        let mut rest = bytes;
        let statement: Self =
            ciborium::from_reader(&mut rest).map_err(|error| StatementError::Cbor(error.to_string()))?;
        if !rest.is_empty() {
            return Err(StatementError::Cbor(format!("{} bytes follow it", rest.len())));
        }
        statement.within_limits()?;
        Ok(statement)
    }

    /// Whether its parts are as small as honest ones, however it was read.
    pub(crate) fn within_limits(&self) -> Result<(), StatementError> {
        match self.claims.len() {
            size if size > MAX_CLAIMS => {
                Err(StatementError::TooLarge { what: "claims", size, max: MAX_CLAIMS })
            }
            _ => Ok(()),
        }
    }

    /// The Evidence, parsed and not yet appraised.
    pub fn evidence(&self) -> Result<Evidence, StatementError> {
        Ok(Evidence::parse(&self.evidence)?)
    }

    /// Appraises the Evidence, with the report data recomputed from what this side knows: the role that it
    /// expects, the key that it saw, the nonce that it made, and the claims as received. Whoever appraises often keeps
    /// the verifier.
    pub fn appraise(
        &self,
        expected: &Expected<'_>,
        verifier: &Verifier,
    ) -> Result<Appraised, StatementError> {
        let transcript = Transcript {
            role: expected.role,
            key: &expected.key.0,
            nonce: expected.nonce,
            claims: &self.claims,
        };
        let evidence = self.evidence()?;
        let endorsements = Endorsements::from_bytes(&self.endorsements)
            .map_err(|error| StatementError::Endorsements(error.to_string()))?;
        let reference = ReferenceValues {
            report_data: transcript.report_data(&crypto_aws_lc::AwsLc).into(),
            measurements: expected.measurements.to_vec(),
        };
        verifier
            .appraise(&evidence, &endorsements, &reference, expected.policy, expected.now)
            .map_err(|refused| StatementError::Refused(Box::new(refused)))
    }

    /// Its parts, to be kept after it was appraised: what can be appraised again, and the claims.
    pub fn kept(self, role: Role, key: &SpkiDigest, nonce: &[u8; 32]) -> (Presented, Vec<u8>) {
        let transcript = Transcript { role, key: &key.0, nonce, claims: &self.claims };
        let presented = Presented {
            report_data: transcript.report_data(&crypto_aws_lc::AwsLc),
            evidence: self.evidence.into_vec(),
            endorsements: self.endorsements.into_vec().into(),
        };
        (presented, self.claims.into_vec())
    }
}

/// Evidence that was presented once, with all that it takes to appraise it again: what it had to cover on its
/// connection stays what it had to cover.
#[derive(Debug, Clone)]
pub struct Presented {
    /// The platform's Evidence in the vendor's format.
    pub evidence: Vec<u8>,
    /// [`Endorsements`] as CBOR.
    pub endorsements: Arc<[u8]>,
    /// What it had to cover.
    pub report_data: ReportData,
}

impl Presented {
    /// Appraises it again, at `now`, by these expectations. Not a proof of who is at the other end of anything: the
    /// key that it covers may be gone.
    pub fn appraise_again(
        &self,
        measurements: &[ReferenceValue],
        policy: &Policy,
        now: UnixTime,
        verifier: &Verifier,
    ) -> Result<Appraised, StatementError> {
        let evidence = Evidence::parse(&self.evidence)?;
        let endorsements = Endorsements::from_bytes(&self.endorsements)
            .map_err(|error| StatementError::Endorsements(error.to_string()))?;
        let report_data = self.report_data.into();
        let reference = ReferenceValues { report_data, measurements: measurements.to_vec() };
        verifier
            .appraise(&evidence, &endorsements, &reference, policy, now)
            .map_err(|refused| StatementError::Refused(Box::new(refused)))
    }
}

/// A verifier that remembers what vendors signed, and decides nothing otherwise than one that does not.
pub fn verifier() -> Verifier {
    Verifier::new(crypto_aws_lc::AwsLc, Capacity::default())
}

/// What the verifying side holds a [`Statement`] against.
pub struct Expected<'a> {
    /// What the peer must be.
    pub role: Role,
    /// The key that the peer proved to hold on this connection.
    pub key: SpkiDigest,
    /// The nonce of this verification.
    pub nonce: &'a [u8; 32],
    /// Code that is acceptable.
    pub measurements: &'a [ReferenceValue],
    /// Platforms that are acceptable.
    pub policy: &'a Policy,
    /// The time to verify at.
    pub now: UnixTime,
}

/// Why a statement was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum StatementError {
    /// Over a size limit.
    #[error("{what} of {size} bytes is larger than the {max} that are allowed")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Bytes seen.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not a statement.
    #[error("not a Bailey evidence statement: {0}")]
    Cbor(String),
    /// The Evidence does not parse.
    #[error("the Evidence is malformed")]
    Evidence(#[from] evidence::Malformed),
    /// The Endorsements do not parse.
    #[error("the stapled Endorsements are malformed: {0}")]
    Endorsements(String),
    /// Appraised, and refused; the verdict says why.
    #[error(transparent)]
    Refused(Box<Refused>),
}
