//! What a client sends before there is a session: whether it wants TLS, which parameters it brings.

use super::message::{Malformed, text};
use super::settings;

/// Protocol 3.0.
pub(super) const VERSION_3: u32 = 3 << 16;
const CANCEL: u32 = 80_877_102;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// Bytes of a start-up message, as in PostgreSQL.
pub(super) const MAX_START: usize = 10_000;

/// The first message of a connection, without its length.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum First {
    /// TLS is asked for.
    Tls,
    /// GSSAPI is asked for.
    Gss,
    /// A statement of the session with this key is to be ended.
    Cancel([u8; 8]),
    /// A session.
    Start(Start),
}

/// Parameters of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The protocol's minor version that is asked for.
    pub(super) minor: u16,
    /// The database's name.
    pub(super) database: String,
    /// Options of the protocol (`_pq_.`), which are not known here.
    pub(super) unknown: Vec<String>,
    /// Settings that are let through.
    pub(super) settings: Vec<(String, String)>,
    /// A parameter that is not.
    pub(super) refused: Option<String>,
}

/// Reads one.
pub(super) fn first(body: &[u8]) -> Result<First, Malformed> {
    let (version, rest) =
        body.split_first_chunk::<4>().ok_or(Malformed("the first message has no version"))?;
    match u32::from_be_bytes(*version) {
        SSL if rest.is_empty() => Ok(First::Tls),
        GSS if rest.is_empty() => Ok(First::Gss),
        CANCEL => rest.try_into().map(First::Cancel).map_err(|_| Malformed("a cancel request has no key")),
        version if version & 0xffff_0000 == VERSION_3 => {
            start(rest, u16::try_from(version & 0xffff).unwrap_or(0)).map(First::Start)
        }
        _ => Err(Malformed("the protocol's version is not 3")),
    }
}

fn start(mut rest: &[u8], minor: u16) -> Result<Start, Malformed> {
    let (mut user, mut database) = (None, None);
    let mut start =
        Start { minor, database: String::new(), unknown: vec![], settings: vec![], refused: None };
    loop {
        let (key, after) = text(rest)?;
        if key.is_empty() {
            if !after.is_empty() {
                return Err(Malformed("there is something after the start-up parameters"));
            }
            break;
        }
        let (value, after) = text(after)?;
        rest = after;
        match key {
            "user" => user = Some(value.to_owned()),
            "database" => database = Some(value.to_owned()),
            "options" => options(value, &mut start),
            _ if key.starts_with("_pq_.") => start.unknown.push(key.to_owned()),
            _ => setting(key, value, &mut start),
        }
    }
    start.database = database.or(user).ok_or(Malformed("there is no user"))?;
    Ok(start)
}

fn setting(key: &str, value: &str, start: &mut Start) {
    match settings::at_start(key, value) {
        Some(value) => start.settings.push((key.to_ascii_lowercase(), value)),
        None => start.refused = Some(key.chars().take(64).collect()),
    }
}

/// `-c name=value`, `-cname=value` and `--name=value`, and no other option of a server's command line.
fn options(value: &str, start: &mut Start) {
    let mut words = value.split_ascii_whitespace();
    while let Some(word) = words.next() {
        let assignment = match word {
            "-c" => words.next(),
            _ => word.strip_prefix("-c").or_else(|| word.strip_prefix("--")),
        };
        match assignment.and_then(|it| it.split_once('=')) {
            Some((key, value)) if !value.contains('\\') => setting(&key.replace('-', "_"), value, start),
            _ => start.refused = Some("options".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(pairs: &str) -> Vec<u8> {
        [&VERSION_3.to_be_bytes()[..], pairs.replace('|', "\0").as_bytes(), b"\0"].concat()
    }

    fn started(pairs: &str) -> Start {
        let Ok(First::Start(start)) = first(&message(pairs)) else { panic!("{pairs}") };
        start
    }

    #[test]
    fn parameters_that_change_rights_or_durability_are_refused_at_the_start() {
        for pairs in [
            "user|a|replication|true|",
            "user|a|replication|database|",
            "user|a|options|-c synchronous_commit=off|",
            "user|a|options|--synchronous-commit=off|",
            "user|a|options|-csynchronous_commit=off|",
            "user|a|synchronous_commit|off|",
            "user|a|search_path|bailey,public|",
            "user|a|session_preload_libraries|x|",
            "user|a|role|bailey|",
            "user|a|client_encoding|SJIS|",
            "user|a|standard_conforming_strings|off|",
            "user|a|options|-c datestyle=\\\\x|",
            "user|a|options|-p 1|",
        ] {
            assert!(started(pairs).refused.is_some(), "{pairs}");
        }
        let start = started("user|a|database|d|client_encoding|utf-8|options|-c TimeZone=UTC|");
        assert_eq!((start.refused, start.database.as_str()), (None, "d"));
        assert_eq!(start.settings.last(), Some(&("timezone".to_owned(), "UTC".to_owned())));
    }

    #[test]
    fn truncated_start_up_messages_are_refused() {
        let whole = message("user|a|database|d|");
        for cut in 0..whole.len() {
            assert!(first(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(first(&[whole.as_slice(), b"x"].concat()).is_err());
        assert!(first(&[0, 2, 0, 0]).is_err());
    }
}
