//! What PostgreSQL says.

use bytes::{Buf, BytesMut};

use super::{Conversation, End, IDLE, MAX_PENDING, What, calls::Hold};
use crate::gateway::{
    message::{self, HEADER, Malformed},
    statement::{Kind, Prepared},
};

/// Bytes of a message that is looked at; rows go through as they come.
const MAX_LOOKED_AT: usize = 1 << 20;

/// What becomes of a message.
enum Then {
    Passes,
    IsKept,
}

impl Conversation {
    /// Takes what can be taken.
    pub(in crate::gateway) fn hear_server(&mut self, input: &mut BytesMut) -> Result<(), End> {
        self.server_messages(input).map_err(End::Server)
    }

    fn server_messages(&mut self, input: &mut BytesMut) -> Result<(), Malformed> {
        while self.hears_server() {
            if self.server_rest > 0 {
                let part = self.server_rest.min(input.len());
                self.to_client.extend_from_slice(input.get(..part).unwrap_or_default());
                input.advance(part);
                self.server_rest -= part;
                if self.server_rest > 0 {
                    return Ok(());
                }
            }
            let Some((kind, length)) = message::header(input)? else { return Ok(()) };
            let converting = matches!(self.pending.front().map(|it| &it.what), Some(What::Convert(_)));
            if matches!(kind, b'D' | b'd') && !converting {
                self.server_rest = HEADER + length;
                continue;
            }
            if length > MAX_LOOKED_AT {
                return Err(Malformed("a message is longer than any of its type"));
            }
            if input.len() < HEADER + length {
                return Ok(());
            }
            let body = input.get(HEADER..HEADER + length).unwrap_or_default().to_vec();
            if let Then::Passes = self.answer(kind, &body)? {
                self.to_client.extend_from_slice(input.get(..HEADER + length).unwrap_or_default());
            }
            input.advance(HEADER + length);
            self.advance_call();
        }
        Ok(())
    }

    fn answer(&mut self, kind: u8, body: &[u8]) -> Result<Then, Malformed> {
        match kind {
            b'1' | b'2' | b'3' | b'n' | b'T' | b't' | b'C' | b'I' | b's' => self.completion(kind),
            b'D' => {
                self.converted(message::row(body)?);
                Ok(Then::IsKept)
            }
            b'Z' => self.ready(body),
            b'G' => {
                let waits = matches!(self.hold, Hold::Copy);
                self.hold = Hold::No;
                self.copying = waits;
                waits.then_some(Then::Passes).ok_or(Malformed("it asks for rows that nobody sends"))
            }
            b'H' | b'c' | b'S' => Ok(Then::Passes),
            b'E' => self.error(body).map(|()| Then::IsKept),
            b'N' => {
                self.notice(body)?;
                Ok(Then::IsKept)
            }
            // Nobody may LISTEN.
            b'A' => Ok(Then::IsKept),
            _ => Err(Malformed("a message of an unexpected type")),
        }
    }

    /// Something that was asked for is done.
    fn completion(&mut self, kind: u8) -> Result<Then, Malformed> {
        let unexpected = Malformed("an answer to what nobody asked");
        let front = self.pending.front().ok_or(unexpected)?;
        let then = if front.hidden { Then::IsKept } else { Then::Passes };
        match (&front.what, kind) {
            // Columns of a query, and its end, after which `ReadyForQuery` comes.
            (What::Query(_) | What::Convert(Some(_)), b'T') | (What::Convert(Some(_)), b'C') => {
                return Ok(then);
            }
            (What::Query(prepared), b'C' | b'I') => {
                let prepared = std::sync::Arc::clone(prepared);
                self.forget(&prepared);
                return Ok(then);
            }
            (What::Describe, b't') => return Ok(then),
            (What::Parse(..), b'1')
            | (What::Bind(..), b'2')
            | (What::Close(..), b'3')
            | (What::Describe, b'T' | b'n')
            | (What::Execute(_), b'C' | b'I' | b's')
            | (What::Convert(None), b'C') => {}
            _ => return Err(unexpected),
        }
        let front = self.pending.pop_front().ok_or(unexpected)?;
        self.flushed &= self.pending.len() >= MAX_PENDING;
        match front.what {
            _ if front.hidden => {}
            What::Parse(name, prepared) => drop(self.statements.insert(name, prepared)),
            What::Bind(name, bound) => drop(self.portals.insert(name, bound)),
            What::Close(true, name) => drop(self.statements.remove(&name)),
            What::Close(false, name) => drop(self.portals.remove(&name)),
            What::Execute(Some(prepared)) if kind != b's' => self.forget(&prepared),
            _ => {}
        }
        Ok(then)
    }

    fn forget(&mut self, prepared: &Prepared) {
        match &prepared.kind {
            Kind::Forget(Some(name)) => drop(self.statements.remove(name)),
            Kind::Forget(None) => self.statements.clear(),
            _ => {}
        }
    }

    fn ready(&mut self, body: &[u8]) -> Result<Then, Malformed> {
        let unexpected = Malformed("it is ready though nothing ended");
        let [status] = body else { return Err(unexpected) };
        let front = self.pending.pop_front().ok_or(unexpected)?;
        self.status = *status;
        if self.status == IDLE {
            self.portals.clear();
        }
        self.committing &= !self.pending.is_empty();
        match front.what {
            What::Sync | What::Query(_) | What::RefusedQuery(_) => Ok(Then::Passes),
            What::Convert(Some(failed)) => {
                if failed {
                    self.hold = Hold::No;
                }
                Ok(if failed { Then::Passes } else { Then::IsKept })
            }
            _ => Err(unexpected),
        }
    }
}
