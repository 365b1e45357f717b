//! The log's tie to a chain in a TPM: see [`crate::core::anchor`] for the order of a commit.

use attested_tls::launch::RequiredTpm;
use serde_bytes::ByteArray;
use tpm_anchor::{Address, Index, KeyDigest, Opened, Tpm, TpmError};
use zeroize::Zeroizing;

use crate::{
    core::{
        Event,
        anchor::{self, Chain, Standing, Superseded, TpmPin, Unfit, Value},
    },
    service::StartError,
    store::Head,
};

/// Each chain begins with it.
const FIRST: &[u8; 32] = b"bailey/coordinator/state-log/1\0\0";
/// Moves a chain to where no log is.
const RETIRED: &[u8; 32] = b"bailey/coordinator/retired/1\0\0\0\0";
/// So often the same step is tried, where the TPM says that it was not taken.
const TRIES: usize = 3;

/// A chain that goes with the log.
pub(in crate::service) struct Tether {
    opened: Opened,
    /// Where the chain is.
    value: Value,
    /// The chain is new: the log does not name it yet.
    new: bool,
}

/// Why a chain could not go with the log.
#[derive(Debug, thiserror::Error)]
pub(in crate::service) enum AnchorFault {
    /// Somebody else moved it.
    #[error("another copy of this state is being served somewhere: it moved the chain in the TPM")]
    Moved,
    /// No authentic answer.
    #[error(transparent)]
    Tpm(#[from] TpmError),
}

impl Tether {
    /// A new chain, in the TPM that is required.
    pub(in crate::service) fn found(
        required: &RequiredTpm,
        address: Option<&Address>,
    ) -> Result<Self, StartError> {
        let tpm = connect(address)?;
        if let Some(expected) = required.key.map(KeyDigest).filter(|expected| *expected != tpm.key()) {
            let (expected, seen) = (expected.to_string(), tpm.key().to_string());
            return Err(TpmError::OtherTpm { expected, seen }.into());
        }
        let mut opened = tpm.define(FIRST)?;
        let value = opened.read()?;
        Ok(Self { opened, value, new: true })
    }

    /// The chain of a log that is `length` records long and has this head, if it stands where the log is. A batch that
    /// was in flight lands.
    pub(in crate::service) fn resume(
        chain: &Chain,
        (length, head): (u64, &Head),
        address: Option<&Address>,
    ) -> Result<Result<Self, Unfit>, StartError> {
        let opened =
            connect(address)?.open(index_of(chain)).and_then(|mut opened| Ok((opened.read()?, opened)));
        let (seen, opened) = match opened {
            Ok(opened) => opened,
            // The way to the TPM is for the operator to mend; the rest is not.
            Err(error @ TpmError::Transport { .. }) => return Err(error.into()),
            Err(error) => return Ok(Err(Unfit::Unknowable { length, reason: error.to_string() })),
        };
        let mut tether = Self { opened, value: seen, new: false };
        match anchor::standing(&chain.before, head, &seen) {
            Ok(Standing::Current) => Ok(Ok(tether)),
            Ok(Standing::InFlight) => match tether.advance(head) {
                Ok(()) => Ok(Ok(tether)),
                Err(AnchorFault::Moved) => Ok(Err(Unfit::Superseded { length })),
                Err(AnchorFault::Tpm(error)) => Err(error.into()),
            },
            Err(Superseded) => Ok(Err(Unfit::Superseded { length })),
        }
    }

    /// A chain that is given up is moved and removed, if it can be reached: no copy of a state that is tied to it is
    /// served any more.
    pub(in crate::service) fn retire(chain: &Chain, address: Option<&Address>) -> Result<(), StartError> {
        let moved = connect(address)?.open(index_of(chain)).and_then(|mut opened| {
            opened.extend(RETIRED)?;
            Ok(opened)
        });
        match moved {
            // To remove it takes the owner's hierarchy, which may have a password by now.
            Ok(opened) => {
                let _ = opened.remove();
                Ok(())
            }
            // In another TPM, or gone: then nobody can reach it here.
            Err(TpmError::OtherTpm { .. } | TpmError::Refused { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What goes into the log as the last record of the next batch.
    pub(in crate::service) fn announcement(&self) -> Event {
        let index = self.opened.index();
        let pin = TpmPin {
            key: ByteArray::new(index.key.0),
            index: index.handle,
            auth: ByteArray::new(*index.auth),
        };
        Event::Anchored { pin: self.new.then_some(pin), before: ByteArray::new(self.value) }
    }

    /// The batch is durable and the log's head is this: one step. A step of which the answer was lost is not taken
    /// twice: the chain is read first.
    pub(in crate::service) fn advance(&mut self, head: &Head) -> Result<(), AnchorFault> {
        let after = anchor::next(&self.value, head);
        for attempt in 1.. {
            let extended = self.opened.extend(head);
            match self.opened.read()? {
                seen if seen == after => break,
                seen if seen != self.value => return Err(AnchorFault::Moved),
                _ if attempt < TRIES => {}
                _ => return Err(extended.err().map_or(AnchorFault::Moved, AnchorFault::Tpm)),
            }
        }
        (self.value, self.new) = (after, false);
        Ok(())
    }

    /// Whether the log does not name it yet.
    pub(in crate::service) fn is_new(&self) -> bool {
        self.new
    }

    /// Whether the chain is where it was left.
    pub(in crate::service) fn check(&mut self) -> Result<(), AnchorFault> {
        if self.opened.read()? == self.value { Ok(()) } else { Err(AnchorFault::Moved) }
    }
}

fn index_of(chain: &Chain) -> Index {
    let TpmPin { key, index, auth } = &chain.pin;
    Index { key: KeyDigest(**key), handle: *index, auth: Zeroizing::new(**auth) }
}

fn connect(address: Option<&Address>) -> Result<Tpm, StartError> {
    Ok(Tpm::connect(address.ok_or(StartError::NoTpm)?)?)
}
