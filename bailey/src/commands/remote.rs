//! What every command that speaks to a coordinator takes: where it is, its pinned root, and who asks.

use std::{io::Read, path::PathBuf};

use attested_tls::{clock, service::UserIdentity};
use clap::Args;
use rustls::pki_types::CertificateDer;

use crate::{
    client::{Client, Endpoint},
    failure::{Failure, Input, Kind, Outcome},
    identity,
};

/// The coordinator takes none that is longer.
const LONGEST_TOKEN: u64 = 8 * 1024;

/// A coordinator whose root was pinned by `bailey verify --pin`.
#[derive(Args)]
pub struct Remote {
    /// The coordinator, such as https://localhost:4433
    #[arg(long, value_name = "URL")]
    pub coordinator: String,
    /// The coordinator's root certificate, as `bailey verify --pin` wrote it
    #[arg(long, value_name = "FILE")]
    pub root: PathBuf,
}

/// Who asks: by a certificate with its key, or by a token.
#[derive(Args)]
pub struct Person {
    /// Your certificate, PEM
    #[arg(long, value_name = "FILE", requires = "key", required_unless_present = "token")]
    pub cert: Option<PathBuf>,
    /// Your key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// The file that holds your OpenID Connect token, instead of certificate and key; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cert", "key"])]
    pub token: Option<PathBuf>,
}

impl Person {
    fn identity(&self) -> Outcome<Option<UserIdentity>> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => identity::load(cert, key).map(Some),
            _ => Ok(None),
        }
    }

    /// The token, checked as far as that it is one word: what it says, the coordinator decides.
    fn token(&self) -> Outcome<Option<String>> {
        let Some(path) = &self.token else { return Ok(None) };
        let bytes = if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            std::io::stdin().take(LONGEST_TOKEN).read_to_end(&mut bytes).map(|_| bytes)
        } else {
            std::fs::read(path)
        };
        let bytes = bytes.malformed(format!("{} cannot be read", path.display()))?;
        let token = str::from_utf8(&bytes).map(str::trim).ok().filter(|token| {
            let of_jwt = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            !token.is_empty() && token.bytes().all(of_jwt)
        });
        match token {
            Some(token) => Ok(Some(token.to_owned())),
            None => Err(Failure::malformed(format!("{} holds no token", path.display()))
                .hint("a signed JWT is expected: three parts in base64url, with dots between them")),
        }
    }
}

impl Remote {
    /// A client, as `person` where one is needed.
    pub fn client(&self, person: Option<&Person>) -> Outcome<Client> {
        let endpoint = endpoint(&self.coordinator)?;
        let root = identity::certificates(&self.root)?.swap_remove(0);
        client(endpoint, &root, person)
    }
}

fn client(endpoint: Endpoint, root: &CertificateDer<'static>, person: Option<&Person>) -> Outcome<Client> {
    let identity = person.map(Person::identity).transpose()?.flatten();
    let client = Client::new(endpoint, root, identity.as_ref(), &clock::system())
        .malformed("certificate or key cannot be used for TLS")?;
    match person.map(Person::token).transpose()?.flatten() {
        Some(token) => Ok(client.with_token(token)),
        None => Ok(client),
    }
}

/// A URL from the command line.
pub fn endpoint(text: &str) -> Outcome<Endpoint> {
    text.parse().map_err(|error| Failure { kind: Kind::Malformed, error, hint: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(path: PathBuf) -> Person {
        Person { cert: None, key: None, token: Some(path) }
    }

    #[test]
    fn a_token_is_one_word_of_base64url_and_dots() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "eyJ.eyJ-_.x9\n").unwrap();
        assert_eq!(person(path.clone()).token().unwrap().as_deref(), Some("eyJ.eyJ-_.x9"));
        for wrong in ["", "\n", "a b", "a\r\nHost: x", "ä", "{\"access_token\": \"a.b.c\"}"] {
            std::fs::write(&path, wrong).unwrap();
            assert_eq!(person(path.clone()).token().unwrap_err().exit_code(), 2, "{wrong:?}");
        }
        assert_eq!(person(folder.path().join("absent")).token().unwrap_err().exit_code(), 2);
    }

    #[derive(clap::Parser)]
    struct Whole {
        #[command(flatten)]
        person: Person,
    }

    #[test]
    fn a_person_has_certificate_and_key_or_a_token() {
        use clap::Parser;
        for right in [&["x", "--cert", "a", "--key", "b"][..], &["x", "--token", "t"]] {
            assert!(Whole::try_parse_from(right).is_ok(), "{right:?}");
        }
        for wrong in [
            &["x"][..],
            &["x", "--cert", "a"],
            &["x", "--key", "b"],
            &["x", "--token", "t", "--key", "b"],
            &["x", "--token", "t", "--cert", "a", "--key", "b"],
        ] {
            assert!(Whole::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }
}
