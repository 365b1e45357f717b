//! Evidence for those who bring no nonce: made once for what the coordinator is, and given to all of them, so that
//! asking for it costs nothing. It covers the nonce of 32 zero bytes, and says nothing of when it was made; who needs
//! to know brings a nonce.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use appraisal::binding::Role;
use attested_tls::{claims::Claims, statement::Statement};
use axum::body::Bytes;

use super::Coordinator;
use crate::core::Refusal;

/// For so long claims that changed since are still served: a busy mesh does not ask its TEE at each commit.
const BEHIND: Duration = Duration::from_secs(1);
const NO_NONCE: [u8; 32] = [0; 32];

/// What was made last.
#[derive(Default)]
pub(super) struct Standing {
    made: Mutex<Option<Made>>,
    /// Held while the TEE is asked.
    making: Mutex<()>,
}

struct Made {
    claims: Vec<u8>,
    at: Instant,
    statement: Bytes,
}

impl Standing {
    /// What there is, if it is still what the coordinator says.
    pub(super) fn current(&self, coordinator: &Coordinator) -> Option<Bytes> {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let made = made.as_ref()?;
        (made.at.elapsed() < BEHIND || made.claims == coordinator.claims().to_bytes())
            .then(|| made.statement.clone())
    }

    /// Asks the TEE. Those who come meanwhile wait for it and are given the same.
    pub(super) fn renewed(&self, coordinator: &Coordinator) -> Result<Bytes, Refusal> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = self.current(coordinator) {
            return Ok(current);
        }
        let claims = coordinator.claims().to_bytes();
        let key = coordinator.client_key.digest();
        let tee = coordinator.tee.as_ref();
        let statement = Statement::issue(tee, Role::Coordinator, key, &NO_NONCE, claims.clone())
            .map_err(|error| Refusal::Internal(error.to_string()))?;
        let statement = Bytes::from(statement.to_bytes());
        let made = Made { claims, at: Instant::now(), statement: statement.clone() };
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        Ok(statement)
    }
}
