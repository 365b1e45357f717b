//! What the client says.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{
    Bound, Conversation, Denial, End, MAX_PENDING, MAX_PORTALS, MAX_STATEMENTS, OPEN, Refused, What,
    calls::{Hold, Job},
};
use crate::gateway::{
    message::{self, HEADER, Malformed},
    statement::{self, Kind, MAX_STATEMENT, Prepared, Refusal, Spoken},
};

/// Bytes of a message with rows or values; it goes through as it comes.
const MAX_VALUES: usize = 256 << 20;
/// Bytes of the values of a call.
const MAX_ARGUMENTS: usize = 64 << 10;
/// Bytes of the two names at the start of `Bind`.
const NAMES: usize = 2 * 129;

impl Conversation {
    /// Takes what can be taken.
    pub(in crate::gateway) fn hear_client(&mut self, input: &mut BytesMut) -> Result<(), End> {
        self.client_messages(input).map_err(|fault| fault.map_or(End::Done, End::Client))
    }

    /// The error: `None`, the client is done.
    fn client_messages(&mut self, input: &mut BytesMut) -> Result<(), Option<Malformed>> {
        while self.hears_client() {
            if self.client_rest > 0 {
                let part = input.split_to(self.client_rest.min(input.len()));
                self.client_rest -= part.len();
                if !self.dropping {
                    self.to_server.extend_from_slice(&part);
                }
                if self.client_rest > 0 {
                    return Ok(());
                }
                self.dropping = false;
                continue;
            }
            let Some((kind, length)) = message::header(input)? else { return Ok(()) };
            let limit = match kind {
                b'd' | b'B' => MAX_VALUES,
                b'Q' | b'P' => MAX_STATEMENT + 4096,
                b'D' | b'E' | b'C' | b'H' | b'S' | b'X' | b'c' | b'f' | b'F' => 4096,
                b'p' => return Err(Some(Malformed("no password is asked for"))),
                _ => return Err(Some(Malformed("a message of an unknown type"))),
            };
            if length > limit {
                return Err(Some(Malformed("a message is longer than any of its type may be")));
            }
            let passed = match kind {
                b'd' => {
                    // Rows that come after PostgreSQL refused them go nowhere, as in PostgreSQL.
                    self.through(length, !self.copying);
                    true
                }
                b'B' => self.bind(input, length)?,
                _ => self.whole(input, kind, length)?,
            };
            if !passed {
                return Ok(());
            }
        }
        if self.pending.len() >= MAX_PENDING && !self.flushed {
            self.flushed = true;
            message::put_flush(&mut self.to_server);
        }
        Ok(())
    }

    /// A message goes to PostgreSQL, or nowhere, as it comes.
    fn through(&mut self, length: usize, dropping: bool) {
        self.client_rest = HEADER + length;
        self.dropping = dropping;
    }

    fn whole(&mut self, input: &mut BytesMut, kind: u8, length: usize) -> Result<bool, Option<Malformed>> {
        if input.len() < HEADER + length {
            return Ok(false);
        }
        let raw = input.split_to(HEADER + length).freeze();
        let body = raw.slice(HEADER..);
        if kind == b'X' {
            self.to_server.extend_from_slice(&raw);
            return Err(None);
        }
        if self.copying {
            self.while_copying(kind, &raw)?;
        } else if kind == b'S' {
            self.discarding = false;
            self.to_server.extend_from_slice(&raw);
            self.expect(What::Sync);
        } else if !self.discarding {
            self.message(kind, &raw, &body)?;
        }
        Ok(true)
    }

    fn while_copying(&mut self, kind: u8, raw: &[u8]) -> Result<(), Malformed> {
        match kind {
            b'c' | b'f' => {
                self.copying = false;
                self.committing |= kind == b'c' && self.status != OPEN;
                self.to_server.extend_from_slice(raw);
            }
            // PostgreSQL ignores these then; what it does not get, it cannot answer later.
            b'H' | b'S' => {}
            _ => return Err(Malformed("this message has no place among rows of COPY")),
        }
        Ok(())
    }

    fn message(&mut self, kind: u8, raw: &[u8], body: &Bytes) -> Result<(), Malformed> {
        match kind {
            b'Q' => self.query(message::query(body)?),
            b'P' => self.parse(body)?,
            b'D' => {
                message::target(body)?;
                self.pass(raw, What::Describe)
            }
            b'C' => {
                let (statement, name) = message::target(body)?;
                self.pass(raw, What::Close(statement, name.to_owned()))
            }
            b'E' => self.execute(raw, message::execute(body)?),
            b'H' => self.to_server.extend_from_slice(raw),
            b'F' => {
                let refusal =
                    Refusal::new("FUNCTION_CALL", "function calls of the protocol are refused: use SELECT");
                self.refuse_query(Refused::from(&refusal));
                self.denied("", refusal);
            }
            // Rows that came after PostgreSQL had refused them.
            _ => {}
        }
        Ok(())
    }

    fn pass(&mut self, raw: &[u8], what: What) {
        self.to_server.extend_from_slice(raw);
        self.expect(what);
    }

    fn denied(&mut self, text: &str, refusal: Refusal) {
        self.denials.push(Denial { statement: Spoken::of(text), refusal });
    }

    fn query(&mut self, text: &str) {
        match statement::admit(text, &self.rights, &self.manifest) {
            Err(refusal) => {
                self.refuse_query(Refused::from(&refusal));
                self.denied(text, refusal);
            }
            Ok(Prepared { kind: Kind::Call(call), .. }) => {
                self.hold = Hold::Waits(Job::simple(call));
                self.advance_call();
            }
            Ok(prepared) => {
                message::put_query(&mut self.to_server, &prepared.text);
                self.passes(Some(&prepared));
                self.expect(What::Query(Arc::new(prepared)));
            }
        }
    }

    fn parse(&mut self, body: &Bytes) -> Result<(), Malformed> {
        let read = message::parse(body)?;
        let refusal = match statement::admit(read.query, &self.rights, &self.manifest) {
            Ok(_) if !read.name.is_empty() && self.statements.len() >= MAX_STATEMENTS => {
                Refusal::new("TOO_MANY_STATEMENTS", "the session has 1024 prepared statements: close some")
            }
            Ok(mut prepared) => {
                message::put_parse(&mut self.to_server, read.name, &prepared.text, read.types);
                prepared.text = String::new();
                prepared.types = Bytes::copy_from_slice(read.types);
                self.expect(What::Parse(read.name.to_owned(), Arc::new(prepared)));
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        self.refuse_parse(Refused::from(&refusal));
        self.denied(read.query, refusal);
        Ok(())
    }

    /// `false`: more must come.
    fn bind(&mut self, input: &mut BytesMut, length: usize) -> Result<bool, Malformed> {
        if self.copying {
            return Err(Malformed("this message has no place among rows of COPY"));
        }
        if input.len() < HEADER + length.min(NAMES) {
            return Ok(false);
        }
        if self.discarding {
            self.through(length, true);
            return Ok(true);
        }
        let body = input.get(HEADER..input.len().min(HEADER + length)).unwrap_or_default();
        let (portal, name, at) = message::bind(body)?;
        let (portal, prepared) = (portal.to_owned(), self.statement(name));
        if !portal.is_empty() && self.portals.len() >= MAX_PORTALS {
            return Err(Malformed("the session has 64 portals: close some"));
        }
        let call = prepared.as_ref().is_some_and(|it| matches!(it.kind, Kind::Call(_)));
        let mut values = None;
        if call {
            if length > MAX_ARGUMENTS {
                return Err(Malformed("the arguments of a call take more than 64 KiB"));
            }
            if input.len() < HEADER + length {
                return Ok(false);
            }
            let rest = Bytes::copy_from_slice(input.get(HEADER + at..HEADER + length).unwrap_or_default());
            let (parameters, formats) = message::bound(&rest)?;
            values = Some((rest.slice_ref(parameters), rest.slice_ref(formats)));
        }
        self.expect(What::Bind(portal, Arc::new(Bound { prepared, values })));
        self.through(length, false);
        Ok(true)
    }

    fn execute(&mut self, raw: &[u8], name: &str) {
        let bound = self.portal(name);
        let prepared = bound.as_ref().and_then(|it| it.prepared.clone());
        if let (Some(bound), Some(Kind::Call(call))) = (&bound, prepared.as_ref().map(|it| &it.kind)) {
            let types = prepared.as_ref().map(|it| it.types.clone()).unwrap_or_default();
            let (parameters, formats) = bound.values.clone().unwrap_or_default();
            self.hold = Hold::Waits(Job::extended(Arc::clone(call), types, parameters, formats));
            message::put_flush(&mut self.to_server);
            self.advance_call();
            return;
        }
        self.to_server.extend_from_slice(raw);
        self.passes(prepared.as_deref());
        self.expect(What::Execute(prepared));
    }

    /// The statement that this name will have when PostgreSQL reads what comes next.
    fn statement(&self, name: &str) -> Option<Arc<Prepared>> {
        for pending in self.pending.iter().rev() {
            match &pending.what {
                What::Parse(it, prepared) if it == name && !pending.hidden => {
                    return Some(Arc::clone(prepared));
                }
                What::Close(true, it) if it == name && !pending.hidden => return None,
                _ => {}
            }
        }
        self.statements.get(name).cloned()
    }

    /// As [`Self::statement`], for portals.
    fn portal(&self, name: &str) -> Option<Arc<Bound>> {
        for pending in self.pending.iter().rev() {
            match &pending.what {
                What::Bind(it, bound) if it == name && !pending.hidden => return Some(Arc::clone(bound)),
                What::Close(false, it) if it == name && !pending.hidden => return None,
                _ => {}
            }
        }
        self.portals.get(name).cloned()
    }
}
