//! A new generation: the next number and a CA of its own, so that certificates of earlier ones are told apart.

use appraisal::UnixTime;
use serde_bytes::ByteBuf;

use super::{
    IdentityKey, Refusal,
    event::{Epoch, SealedAuthority},
};
use crate::authority::Authority;

pub(super) fn below(
    root: &Authority,
    identity: &IdentityKey,
    number: u64,
    emulated: bool,
    now: UnixTime,
) -> Result<(Epoch, Authority), Refusal> {
    let intermediate = root.intermediate(number, emulated, now)?;
    let epoch = Epoch {
        number,
        marble_root: ByteBuf::from(intermediate.self_signed(now)?.to_vec()),
        intermediate: sealed(&intermediate, identity)?,
        svids: sealed(&root.svid_authority(number, emulated, now)?, identity)?,
    };
    Ok((epoch, intermediate))
}

pub(super) fn sealed(authority: &Authority, identity: &IdentityKey) -> Result<SealedAuthority, Refusal> {
    Ok(SealedAuthority {
        key: ByteBuf::from(identity.seal(authority.key()?)?),
        certificate: ByteBuf::from(authority.certificate().to_vec()),
    })
}
