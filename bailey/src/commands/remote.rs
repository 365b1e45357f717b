//! What every command that speaks to a coordinator takes: where it is, its pinned root, and who asks.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use attested_tls::{clock, service::UserIdentity};
use clap::Args;
use rustls::{pki_types::CertificateDer, sign::CertifiedKey};

use crate::{
    client::{Client, Endpoint},
    failure::{Failure, Input, Kind, Outcome},
    identity,
};

/// The coordinator takes no token of this length.
const LONGEST_WORD: u64 = 8 * 1024 + 2;

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

/// Who asks: by a certificate with its key, which is in a file or in a PKCS #11 token, or by an OIDC token.
#[derive(Args)]
pub struct Person {
    /// Your certificate, PEM
    #[arg(long, value_name = "FILE", required_unless_present = "token")]
    pub cert: Option<PathBuf>,
    /// Your key, PEM
    #[arg(long, value_name = "FILE", requires = "cert", required_unless_present_any = ["token", "pkcs11_module"])]
    pub key: Option<PathBuf>,
    /// The library of the PKCS #11 token that has your key, instead of a file
    #[arg(long, value_name = "PATH", requires_all = ["cert", "pkcs11_token", "pkcs11_key", "pkcs11_pin"], conflicts_with_all = ["key", "token"])]
    pub pkcs11_module: Option<PathBuf>,
    /// The label of the PKCS #11 token
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    pub pkcs11_token: Option<String>,
    /// The label of your key in it
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    pub pkcs11_key: Option<String>,
    /// The file that holds its PIN; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "pkcs11_module")]
    pub pkcs11_pin: Option<PathBuf>,
    /// The file that holds your OpenID Connect token, instead of certificate and key; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cert", "key"])]
    pub token: Option<PathBuf>,
}

impl Person {
    /// Whether a token or a PIN is read from standard input.
    pub fn reads_standard_input(&self) -> bool {
        let dash = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| path.as_os_str() == "-");
        dash(&self.token) || dash(&self.pkcs11_pin)
    }

    fn identity(&self) -> Outcome<Option<UserIdentity>> {
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => identity::load(cert, key).map(Some),
            _ => Ok(None),
        }
    }

    /// The key in a PKCS #11 token, after logging in.
    fn key_in_token(&self) -> Outcome<Option<CertifiedKey>> {
        let (Some(cert), Some(module), Some(token), Some(key), Some(pin)) =
            (&self.cert, &self.pkcs11_module, &self.pkcs11_token, &self.pkcs11_key, &self.pkcs11_pin)
        else {
            return Ok(None);
        };
        let pin = word(pin)?;
        let location = pkcs11::Location { module, token, key };
        let key = pkcs11::certified_key(&location, pin, identity::certificates(cert)?);
        key.malformed("the key in the PKCS #11 token cannot be used").map(Some)
    }

    /// The token, checked as far as that it is one word: what it says, the coordinator decides.
    fn token(&self) -> Outcome<Option<String>> {
        let Some(path) = &self.token else { return Ok(None) };
        let token = Some(word(path)?).filter(|token| {
            let of_jwt = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            token.bytes().all(of_jwt)
        });
        match token {
            Some(token) => Ok(Some(token)),
            None => Err(Failure::malformed(format!("{} holds no token", path.display()))
                .hint("a signed JWT is expected: three parts in base64url, with dots between them")),
        }
    }
}

/// What a file or standard input holds, without space around it. Not an argument: other processes could read that.
fn word(path: &Path) -> Outcome<String> {
    let mut bytes = Vec::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(LONGEST_WORD).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LONGEST_WORD).read_to_end(&mut bytes))
    };
    read.malformed(format!("{} cannot be read", path.display()))?;
    let text = String::from_utf8(bytes).malformed(format!("{} is not text", path.display()))?;
    match text.trim() {
        "" => Err(Failure::malformed(format!("{} is empty", path.display()))),
        word => Ok(word.to_owned()),
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
    if let Some(key) = person.map(Person::key_in_token).transpose()?.flatten() {
        return Client::with_key(endpoint, root, key, &clock::system())
            .malformed("the key cannot be used for TLS");
    }
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
        Person {
            cert: None,
            key: None,
            pkcs11_module: None,
            pkcs11_token: None,
            pkcs11_key: None,
            pkcs11_pin: None,
            token: Some(path),
        }
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
        let token = [
            "x",
            "--cert",
            "a",
            "--pkcs11-module",
            "m",
            "--pkcs11-token",
            "t",
            "--pkcs11-key",
            "k",
            "--pkcs11-pin",
            "p",
        ];
        for right in [&["x", "--cert", "a", "--key", "b"][..], &["x", "--token", "t"], &token] {
            assert!(Whole::try_parse_from(right).is_ok(), "{right:?}");
        }
        for length in 1..6 {
            assert!(
                Whole::try_parse_from(&token[..length * 2 - 1]).is_err(),
                "{:?}",
                &token[..length * 2 - 1]
            );
        }
        let both = [&token[..], &["--key", "b"]].concat();
        assert!(Whole::try_parse_from(both).is_err());
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
