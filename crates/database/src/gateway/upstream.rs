//! The way to PostgreSQL: a session as the party's role over its socket, and requests to end what runs there.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Buf, BufMut, BytesMut};
use database_manifest::PartyName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::message::{self, HEADER, Malformed};
use crate::installation::role;

/// Settings that no client changes; the time that a statement may take is measured by the gateway, which knows when an
/// interruption does no harm.
const FIXED: [(&str, &str); 4] = [
    ("search_path", "public"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "0"),
    ("synchronous_commit", "on"),
];
/// Bytes of a message of the start-up.
const MAX_MESSAGE: usize = 64 << 10;
const CANCEL: u32 = 80_877_102;

/// A session in PostgreSQL.
pub(super) struct Upstream {
    pub(super) stream: UnixStream,
    /// What PostgreSQL said of its settings: messages that the client gets.
    pub(super) parameters: BytesMut,
    /// Its own key for requests to end what runs.
    pub(super) key: [u8; 8],
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSession {
    /// The socket.
    #[error("PostgreSQL cannot be reached")]
    Io(#[from] io::Error),
    /// It said what it never says.
    #[error("PostgreSQL: {0}")]
    Malformed(#[from] Malformed),
    /// It refused: SQLSTATE and message.
    #[error("PostgreSQL refuses: {0} {1}")]
    Refused(String, String),
}

fn socket(folder: &Path) -> PathBuf {
    folder.join(".s.PGSQL.5432")
}

/// Begins a session.
pub(super) async fn begin(
    folder: &Path,
    party: &PartyName,
    database: &str,
    settings: &[(String, String)],
) -> Result<Upstream, NoSession> {
    let mut stream = UnixStream::connect(socket(folder)).await?;
    let mut start = BytesMut::new();
    start.put_i32(0);
    start.put_u32(3 << 16);
    let role = role(party);
    let own = [("user", role.as_str()), ("database", database), ("client_encoding", "UTF8")];
    let chosen = settings.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (key, value) in own.into_iter().chain(chosen).chain(FIXED) {
        message::put_text(&mut start, key);
        message::put_text(&mut start, value);
    }
    start.put_u8(0);
    let length = u32::try_from(start.len()).map_err(|_| Malformed("too many settings"))?;
    start.get_mut(..4).unwrap_or_default().copy_from_slice(&length.to_be_bytes());
    stream.write_all(&start).await?;
    started(stream).await
}

async fn started(mut stream: UnixStream) -> Result<Upstream, NoSession> {
    let (mut input, mut parameters, mut key) = (BytesMut::new(), BytesMut::new(), [0; 8]);
    loop {
        while let Some((kind, length)) = message::header(&input)? {
            if length > MAX_MESSAGE {
                return Err(Malformed("a message of the start-up is too long").into());
            }
            if input.len() < HEADER + length {
                break;
            }
            let raw = input.split_to(HEADER + length);
            let body = raw.get(HEADER..).unwrap_or_default();
            match kind {
                b'R' if body == [0, 0, 0, 0] => {}
                b'R' => return Err(Malformed("it asks for a password").into()),
                b'S' => parameters.extend_from_slice(&raw),
                b'K' => key = body.try_into().map_err(|_| Malformed("its key has another length"))?,
                b'Z' => return Ok(Upstream { stream, parameters, key }),
                b'E' => {
                    let fields = message::fields(body)?;
                    let field = |kind| fields.iter().find(|it| it.0 == kind).map_or("", |it| it.1).to_owned();
                    return Err(NoSession::Refused(field(b'C'), field(b'M')));
                }
                _ => {}
            }
        }
        input.reserve(4096);
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

/// Ends what runs in a session. When this is done, PostgreSQL has told the session, so that nothing that it is sent
/// afterwards is interrupted.
pub(super) async fn interrupt(folder: &Path, key: [u8; 8]) -> io::Result<()> {
    let work = async {
        let mut stream = UnixStream::connect(socket(folder)).await?;
        let mut request = BytesMut::new();
        request.put_u32(16);
        request.put_u32(CANCEL);
        request.put_slice(&key);
        stream.write_all(request.chunk()).await?;
        stream.read(&mut [0; 1]).await.map(drop)
    };
    tokio::time::timeout(Duration::from_secs(5), work).await?
}
