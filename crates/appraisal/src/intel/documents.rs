//! TCB info and QE identity, verified and read: anew, or as a [`Verifier`](crate::Verifier) remembers them.

use std::sync::Arc;

use evidence::{IntelCollateral, SignedDocument};
use self_cell::self_cell;

use super::qe_identity::QeIdentity;
use super::tcb_info::{Component, TcbInfo, TcbLevel};
use super::{QE_IDENTITY, TCB_INFO, collateral};
use crate::findings::Context;
use crate::verdict::Check;
use crate::x509::ParsedCertificate;

/// Both documents, read.
pub(super) struct Statements<'a> {
    pub(super) info: TcbInfo<'a>,
    pub(super) identity: QeIdentity<'a>,
}

impl<'a> Statements<'a> {
    fn read(tcb_info: &'a [u8], qe_identity: &'a [u8]) -> Result<Self, Check> {
        let info = collateral::read(TCB_INFO, tcb_info)?;
        Ok(Self { info, identity: collateral::read(QE_IDENTITY, qe_identity)? })
    }
}

struct Bodies {
    tcb_info: Box<[u8]>,
    qe_identity: Box<[u8]>,
}

self_cell! {
    struct OwnStatements {
        owner: Bodies,

        #[covariant]
        dependent: Statements,
    }
}

/// Documents that were verified with these keys.
pub(crate) struct Documents {
    keys: [Box<[u8]>; 2],
    signatures: [[u8; 64]; 2],
    statements: OwnStatements,
}

impl Documents {
    fn are(&self, collateral: &IntelCollateral, keys: [&[u8]; 2]) -> bool {
        let own = self.statements.borrow_owner();
        let own_keys = [&*self.keys[0], &*self.keys[1]];
        own_keys == keys
            && self.signatures == [collateral.tcb_info.signature, collateral.qe_identity.signature]
            && *own.tcb_info == *collateral.tcb_info.body
            && *own.qe_identity == *collateral.qe_identity.body
    }

    /// How many bytes it takes, about: twice the text, and the levels that were read from it, each with the
    /// components of SGX and TDX.
    pub(crate) fn weight(&self) -> usize {
        let own = self.statements.borrow_owner();
        let levels = self.statements.borrow_dependent().info.tcb_levels.capacity();
        2 * (own.tcb_info.len() + own.qe_identity.len())
            + levels * (size_of::<TcbLevel<'_>>() + 2 * 16 * size_of::<Component<'_>>())
    }
}

/// Documents that were verified, and hold nothing beside what was signed.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of it in an appraisal, and it is not moved about"
)]
pub(super) enum Verified<'a> {
    Now(Statements<'a>),
    Before(Arc<Documents>),
}

impl<'a> Verified<'a> {
    /// Verifies both documents with the keys of their signers, and reads them.
    pub(super) fn documents(
        collateral: &'a IntelCollateral,
        signers: [&ParsedCertificate<'_>; 2],
        context: &Context<'_>,
    ) -> Result<Self, Check> {
        let keys = [collateral::key(TCB_INFO, signers[0])?, collateral::key(QE_IDENTITY, signers[1])?];
        let (tcb_info, qe_identity) = (&collateral.tcb_info, &collateral.qe_identity);
        let signatures = [&tcb_info.signature, &qe_identity.signature];
        let memory = context.memory;
        if let Some(documents) = memory.documents(signatures, |known| known.are(collateral, keys)) {
            return Ok(Self::Before(documents));
        }
        collateral::verify(TCB_INFO, tcb_info, signers[0], context)?;
        collateral::verify(QE_IDENTITY, qe_identity, signers[1], context)?;
        if !memory.remembers() {
            return Statements::read(&tcb_info.body, &qe_identity.body).map(Self::Now);
        }
        let copy = |document: &SignedDocument| document.body.as_slice().into();
        let bodies = Bodies { tcb_info: copy(tcb_info), qe_identity: copy(qe_identity) };
        let statements =
            OwnStatements::try_new(bodies, |own| Statements::read(&own.tcb_info, &own.qe_identity))?;
        let documents = Arc::new(Documents {
            keys: keys.map(Into::into),
            signatures: signatures.map(|own| *own),
            statements,
        });
        memory.learn_documents(signatures, Arc::clone(&documents));
        Ok(Self::Before(documents))
    }

    pub(super) fn statements(&self) -> &Statements<'_> {
        match self {
            Self::Now(statements) => statements,
            Self::Before(documents) => documents.statements.borrow_dependent(),
        }
    }
}
