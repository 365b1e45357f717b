//! What is not done has an entry in the audit log too, before whoever asked for it is told.

use tokio_postgres::Transaction;

use super::{ChangeError, Changes, Event, Who};
use crate::{
    audit::{self, Refused},
    identity::Caller,
};

/// Bytes of a reason in an entry: faults of a manifest can be many.
const LONGEST: usize = 4096;

impl Changes {
    /// Records a refusal by its code; `path` says what was asked for. Where PostgreSQL does not answer, nothing was
    /// decided, and nothing can be recorded.
    pub(super) async fn recorded<T>(
        &self,
        caller: &Caller,
        path: impl FnOnce() -> String,
        result: Result<T, ChangeError>,
    ) -> Result<T, ChangeError> {
        let error = match result {
            Err(error) if error.code() != "UNAVAILABLE" => error,
            result => return result,
        };
        let event = Event::Denied {
            caller: Who::of(caller),
            what: Refused::Request { path: path() },
            code: error.code().to_owned(),
            reason: shortened(error.to_string()),
        };
        let now = self.now();
        self.within(async |transaction: &Transaction<'_>| {
            audit::append(transaction, &[event], now).await?;
            Ok(())
        })
        .await?;
        Err(error)
    }
}

fn shortened(mut reason: String) -> String {
    if reason.len() > LONGEST {
        reason.truncate(reason.floor_char_boundary(LONGEST));
        reason.push('…');
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(shortened("short".to_owned()), "short");
        let long = shortened("ä".repeat(LONGEST));
        assert_eq!(long.chars().count(), LONGEST / 2 + 1);
        assert!(long.ends_with('…'));
    }
}
