//! The broker's decisions: who a guest is, what a session is worth, and what is released to whom. A guest is whoever
//! attested by RCAR (Kata and CoCo containers, confidential VMs, programs of SGX library operating systems) and is no
//! Marble.
//!
//! ```text
//!  auth ──ticket──▶ attest ──nonce claimed──▶ appraised ──▶ Guest ──release, checked each time──▶ JWE
//!                             └── a second time ──▶ refused, whatever became of the first
//! ```

pub mod admission;
pub mod attested;
pub mod check;
pub mod guest;
pub mod policies;
pub mod release;
pub mod session;
pub mod token;
pub mod unwrap;

use std::collections::BTreeSet;

use manifest::ResourceAction;

use super::{Caller, Refusal, State, secrets};

/// The repositories whose refused releases a user may see, if the user may see sessions at all.
pub fn explained(state: &State, caller: &Caller) -> Result<BTreeSet<String>, Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    if !user.may_in_some(ResourceAction::ExplainSessions) {
        let action = "a look at sessions of the broker (ExplainSessions)";
        return Err(Refusal::NotAllowed { user: user.name.to_string(), action });
    }
    let repositories = mesh.manifest().broker().into_iter().flat_map(|broker| broker.repositories.keys());
    let seen = repositories.filter(|name| user.may_in(ResourceAction::ExplainSessions, name));
    Ok(seen.map(ToString::to_string).collect())
}
