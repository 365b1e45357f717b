//! A new generation: the next number and a CA of its own, so that certificates of earlier ones are told apart.

use appraisal::UnixTime;
use manifest::Manifest;
use serde_bytes::ByteBuf;

use super::{
    IdentityKey, Refusal,
    event::{Epoch, SealedAuthority},
    signers,
};
use crate::authority::Authority;

pub(super) fn below(
    root: &Authority,
    identity: &IdentityKey,
    (number, manifest): (u64, &Manifest),
    emulated: bool,
    now: UnixTime,
) -> Result<(Epoch, Authority), Refusal> {
    let intermediate = root.intermediate(number, emulated, now)?;
    let signer = match manifest.broker() {
        Some(_) => {
            let (key, leaf) = intermediate.token_signer(number, emulated, now)?;
            Some(signers::sealed(&key, &leaf.certificate, identity)?)
        }
        None => None,
    };
    let epoch = Epoch {
        number,
        marble_root: ByteBuf::from(intermediate.self_signed(now)?.to_vec()),
        intermediate: sealed(&intermediate, identity)?,
        signer,
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
