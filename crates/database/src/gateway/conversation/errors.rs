//! Errors and notices. Of what PostgreSQL says, the client gets what it may know: never files and lines of its source,
//! queries inside, or, from a table that it writes blind, what is in it.

use std::sync::Arc;

use super::{Conversation, Denial, Refused, What, calls::Hold};
use crate::gateway::{
    message::{self, Malformed},
    statement::{Kind, Prepared, Refusal},
};

/// Fields that all get: severity (also untranslated), SQLSTATE, message.
const ALWAYS: &[u8] = b"SVCM";
/// Fields for who reads what the statement touches: detail, hint, names of schema, table, column, type, constraint.
const FOR_READERS: &[u8] = b"SVCMDHstcdn";
/// What a blind writer is told, whichever constraint it was.
const ROW_REFUSED: &str = "a row breaks a rule of its table";

impl Conversation {
    /// An error ends what was asked for, and in the extended protocol all up to `Sync`.
    pub(super) fn error(&mut self, body: &[u8]) -> Result<(), Malformed> {
        self.copying = false;
        self.hold = Hold::No;
        let (mut refused, mut ran, mut extended) = (None, None, true);
        match self.pending.front_mut().map(|it| &mut it.what) {
            Some(What::Query(prepared)) => (extended, ran) = (false, Some(Arc::clone(prepared))),
            Some(What::RefusedQuery(it)) => (extended, refused) = (false, Some(it.clone())),
            Some(What::Convert(Some(failed))) => {
                *failed = true;
                extended = false;
            }
            Some(What::Refused(it)) => refused = Some(it.clone()),
            Some(What::Parse(_, prepared) | What::Execute(Some(prepared))) => {
                ran = Some(Arc::clone(prepared))
            }
            Some(What::Bind(_, bound)) => ran.clone_from(&bound.prepared),
            // A commit failed: nothing is skipped.
            Some(What::Sync) | None => extended = false,
            Some(_) => {}
        }
        // At a commit, constraints are checked that were put off: of whichever statement.
        let of_one = ran.as_ref().filter(|it| it.kind != Kind::End).map(|it| it.blind);
        let some_blind = || self.rights.writes.difference(&self.rights.reads).next().is_some();
        let blind = of_one.unwrap_or_else(some_blind);
        if refused.is_none() {
            self.note(body, ran.as_deref(), blind)?;
        }
        match refused {
            Some(Refused { sqlstate, sentence }) => {
                message::put_error(&mut self.to_client, "ERROR", sqlstate, &sentence);
            }
            None => self.put_plain(b'E', body, blind)?,
        }
        if extended {
            while self.pending.front().is_some_and(|it| !matches!(it.what, What::Sync)) {
                self.pending.pop_front();
            }
            self.discarding = self.pending.is_empty();
        }
        Ok(())
    }

    /// What the audit log gets of an error of PostgreSQL's: a row of a blind writer that was refused, since who tries
    /// many learns which keys there are; and whatever its rights refuse, which passed the gateway.
    fn note(&mut self, body: &[u8], ran: Option<&Prepared>, blind: bool) -> Result<(), Malformed> {
        let Some(statement) = ran.and_then(|it| it.spoken.clone()) else { return Ok(()) };
        let fields = message::fields(body)?;
        let refusal = match fields.iter().find(|it| it.0 == b'C').map_or("", |it| it.1) {
            sqlstate if blind && sqlstate.starts_with("23") => Refusal::new("ROW_REFUSED", ROW_REFUSED),
            "42501" => Refusal::new("ENGINE_REFUSED", "the database's own rights refuse it"),
            _ => return Ok(()),
        };
        self.denials.push(Denial { statement, refusal });
        Ok(())
    }

    pub(super) fn notice(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let fields = message::fields(body)?;
        let said = fields.iter().find(|it| it.0 == b'M').map_or("", |it| it.1);
        // syncrep.c: a commit is visible here, and nobody outside has it.
        self.unsealed |= said.contains("synchronous replication");
        self.put_plain(b'N', body, true)
    }

    fn put_plain(&mut self, kind: u8, body: &[u8], blind: bool) -> Result<(), Malformed> {
        let fields = message::fields(body)?;
        let sqlstate = fields.iter().find(|it| it.0 == b'C').map_or("XX000", |it| it.1);
        let (told, replaced) = match sqlstate.get(..2) {
            Some("23") if blind => (ALWAYS, Some(("23000", ROW_REFUSED))),
            Some("XX") | None => (ALWAYS, Some(("XX000", "the database has an internal fault"))),
            _ if blind => (ALWAYS, None),
            _ => (FOR_READERS, None),
        };
        message::put(&mut self.to_client, kind, |out| {
            for (field, value) in fields.iter().filter(|it| told.contains(&it.0)) {
                let value = match (field, replaced) {
                    (b'C', Some((sqlstate, _))) => sqlstate,
                    (b'M', Some((_, sentence))) => sentence,
                    _ => value,
                };
                out.extend_from_slice(&[*field]);
                message::put_text(out, value);
            }
            out.extend_from_slice(&[0]);
        });
        Ok(())
    }
}
