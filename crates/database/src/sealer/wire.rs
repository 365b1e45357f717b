//! The client's side of PostgreSQL's streaming replication protocol, over the Unix socket, without a runtime: the
//! sealer's threads wait for nothing else.
//!
//! Source: PostgreSQL 15 documentation, §55.4 (Streaming Replication Protocol).

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use postgres_protocol::message::{
    backend::{ErrorResponseBody, Message},
    frontend,
};
use tokio_postgres::fallible_iterator::FallibleIterator;

use super::error::SealerError;
use crate::lsn::Lsn;

/// The longest message that is accepted; PostgreSQL sends 128 KiB of log at once, 32 KiB of a backup.
const MAX_MESSAGE: usize = 16 << 20;
const READ: usize = 256 << 10;

/// What the server said.
#[derive(Debug)]
pub(crate) enum Event {
    Row(Vec<Option<String>>),
    /// The end of one result.
    Complete,
    Copy(Bytes),
    CopyDone,
    /// The end of all results.
    Ready,
}

/// A connection in replication mode.
pub(crate) struct Replication {
    stream: UnixStream,
    decoder: Decoder,
    scratch: Vec<u8>,
}

impl Replication {
    pub(crate) fn connect(
        socket: &Path,
        user: &str,
        database: &str,
        name: &str,
    ) -> Result<Self, SealerError> {
        let stream = UnixStream::connect(socket.join(".s.PGSQL.5432"))?;
        let mut replication = Self { stream, decoder: Decoder::default(), scratch: vec![0; READ] };
        let parameters = [
            ("user", user),
            ("database", database),
            ("application_name", name),
            ("replication", "database"),
            ("client_encoding", "UTF8"),
        ];
        let mut message = BytesMut::new();
        frontend::startup_message(parameters, &mut message)?;
        replication.stream.write_all(&message)?;
        match replication.event()? {
            Event::Ready => Ok(replication),
            _ => Err(SealerError::Protocol("an answer before the session was ready")),
        }
    }

    /// The connection, for whoever ends it.
    pub(crate) fn connection(&self) -> Result<UnixStream, SealerError> {
        Ok(self.stream.try_clone()?)
    }

    /// For whoever waits for it.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(crate) fn send(&mut self, command: &str) -> Result<(), SealerError> {
        let mut message = BytesMut::new();
        frontend::query(command, &mut message)?;
        Ok(self.stream.write_all(&message)?)
    }

    /// The rows of all results of a command.
    pub(crate) fn rows(&mut self, command: &str) -> Result<Vec<Vec<Option<String>>>, SealerError> {
        self.send(command)?;
        let mut rows = Vec::new();
        loop {
            match self.event()? {
                Event::Row(row) => rows.push(row),
                Event::Complete => {}
                Event::Ready => return Ok(rows),
                Event::Copy(_) | Event::CopyDone => {
                    return Err(SealerError::Protocol("data that was not asked for"));
                }
            }
        }
    }

    /// The one row of a command's result.
    pub(crate) fn row<const N: usize>(&mut self, command: &str) -> Result<[String; N], SealerError> {
        let row = self.rows(command)?.pop().unwrap_or_default();
        texts(row)
    }

    /// What comes next.
    pub(crate) fn event(&mut self) -> Result<Event, SealerError> {
        loop {
            match self.received()? {
                Some(event) => return Ok(event),
                None => self.receive()?,
            }
        }
    }

    /// The next of what has been received; `None`: there is nothing whole.
    pub(crate) fn received(&mut self) -> Result<Option<Event>, SealerError> {
        self.decoder.event()
    }

    /// Receives more, and waits for it.
    pub(crate) fn receive(&mut self) -> Result<(), SealerError> {
        let read = self.stream.read(&mut self.scratch)?;
        if read == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.decoder.push(&self.scratch[..read]);
        Ok(())
    }

    /// Tells the server up to where the log is safe.
    pub(crate) fn confirm(&mut self, sealed: Lsn) -> Result<(), SealerError> {
        let mut status = BytesMut::with_capacity(34);
        status.put_u8(b'r');
        // Written, flushed, applied.
        (0..3).for_each(|_| status.put_u64(sealed.0));
        // The time is only shown in `pg_stat_replication`.
        status.put_u64(0);
        status.put_u8(0);
        let mut message = BytesMut::with_capacity(40);
        frontend::CopyData::new(status)?.write(&mut message);
        Ok(self.stream.write_all(&message)?)
    }
}

/// Bytes of the server, as what they say.
#[derive(Default)]
pub(crate) struct Decoder(BytesMut);

impl Decoder {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// `None`: there is nothing whole.
    pub(crate) fn event(&mut self) -> Result<Option<Event>, SealerError> {
        while let Some(message) = self.message()? {
            return Ok(Some(match message {
                Message::AuthenticationOk
                | Message::BackendKeyData(_)
                | Message::ParameterStatus(_)
                | Message::NoticeResponse(_)
                | Message::RowDescription(_)
                | Message::EmptyQueryResponse
                | Message::CopyOutResponse(_) => continue,
                Message::DataRow(row) => {
                    let buffer = row.buffer();
                    let cell = |range: Option<std::ops::Range<usize>>| {
                        Ok(range.map(|range| String::from_utf8_lossy(&buffer[range]).into_owned()))
                    };
                    Event::Row(row.ranges().map(cell).collect().map_err(malformed)?)
                }
                Message::CopyData(data) => Event::Copy(data.into_bytes()),
                Message::CopyDone => Event::CopyDone,
                Message::CommandComplete(_) => Event::Complete,
                Message::ReadyForQuery(_) => Event::Ready,
                Message::ErrorResponse(body) => return Err(refused(&body)),
                _ => return Err(SealerError::Protocol("a message that does not belong here")),
            }));
        }
        Ok(None)
    }

    fn message(&mut self) -> Result<Option<Message>, SealerError> {
        loop {
            let Some(head) = self.0.first_chunk::<5>() else { return Ok(None) };
            let [tag, length @ ..] = *head;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if length > MAX_MESSAGE {
                return Err(SealerError::Protocol("a message that is too long"));
            }
            // CopyBothResponse is what `postgres-protocol` does not know.
            if tag != b'W' {
                return Message::parse(&mut self.0).map_err(malformed);
            }
            if self.0.len() <= length {
                return Ok(None);
            }
            self.0.advance(1 + length);
        }
    }
}

fn malformed(_: io::Error) -> SealerError {
    SealerError::Protocol("a message that cannot be understood")
}

/// A row whose cells are all there.
pub(crate) fn texts<const N: usize>(row: Vec<Option<String>>) -> Result<[String; N], SealerError> {
    let cells = row.into_iter().collect::<Option<Vec<String>>>().and_then(|row| row.try_into().ok());
    cells.ok_or(SealerError::Protocol("a row of another shape"))
}

fn refused(body: &ErrorResponseBody) -> SealerError {
    let (mut code, mut message) = (String::new(), String::new());
    let mut fields = body.fields();
    while let Ok(Some(field)) = fields.next() {
        let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = value,
            b'M' => message = value,
            _ => {}
        }
    }
    SealerError::EngineRefused { code, message }
}

/// What a message of the stream says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Streamed {
    Wal {
        start: Lsn,
        bytes: Bytes,
    },
    /// Whether an answer is wanted.
    Keepalive(bool),
}

impl Streamed {
    pub(crate) fn parse(mut message: Bytes) -> Result<Self, SealerError> {
        let malformed = SealerError::Protocol("a message of the stream that cannot be understood");
        match message.try_get_u8() {
            Ok(b'w') if message.len() > 24 => {
                let start = Lsn(message.get_u64());
                message.advance(16);
                Ok(Self::Wal { start, bytes: message })
            }
            Ok(b'k') if message.len() == 17 => Ok(Self::Keepalive(message[16] != 0)),
            _ => Err(malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_stream_are_whole_or_refused() {
        let mut wal = vec![b'w'];
        wal.extend([0; 7]);
        wal.push(9);
        wal.extend([0; 16]);
        assert!(Streamed::parse(wal.clone().into()).is_err());
        wal.push(5);
        let expected = Streamed::Wal { start: Lsn(9), bytes: Bytes::from_static(&[5]) };
        assert_eq!(Streamed::parse(wal.into()).unwrap(), expected);
        for bad in [&b""[..], b"w", b"k", &[b'k'; 17], b"x"] {
            assert!(Streamed::parse(Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }
}
