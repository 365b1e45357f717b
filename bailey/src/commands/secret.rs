//! `bailey secret`: upload, download, list, rotate.

mod seal;
mod stores;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use appraisal::UnixTime;
use attested_tls::clock;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::{Args, Subcommand};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Map, Value, json};

use crate::{
    client::Client,
    commands::{
        print_json,
        remote::{Person, Remote},
        verify::read,
    },
    failure::{Failure, Input, Outcome},
    output::PrivateFile,
};

/// Upload or download secrets of the manifest.
#[derive(Subcommand)]
pub enum Command {
    /// Upload secrets that the manifest lets users define, all of them or none
    Set(Set),
    /// Print a secret's value, or write values of several
    Get(Get),
    /// List the secrets that you may read, write or rotate, with their versions and without their values
    List(List),
    /// Have new values made of shared secrets; the ones before stay readable as `.Previous`
    Rotate(Rotate),
    /// Ask the coordinator whether the secret stores outside are there, and have what the manifest says
    Stores(stores::Stores),
    /// Seal a secret of Confidential Containers for guests that were attested
    #[command(subcommand)]
    Seal(seal::Seal),
}

/// What there is.
#[derive(Args)]
pub struct List {
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// Marbles that run keep the old value until they are activated again.
#[derive(Args)]
pub struct Rotate {
    /// Their names
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// Values come from files, never from arguments, which other processes could read.
#[derive(Args)]
pub struct Set {
    /// The secret's name, with --file; without it a JSON file of secrets by name: {"NAME": {"Key": BASE64}}, or
    /// {"Cert": …, "Private": …} for certificates
    what: Option<String>,
    /// The file that holds the value
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A certificate, with its private key (PKCS #8) if it is there, from a PEM file
    #[arg(long, value_name = "NAME=FILE")]
    from_pem: Vec<String>,
    /// When the values are delivered no more: a time such as 2027-01-31T12:00:00Z, or a span from now such as 90m, 12h,
    /// 30d
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// What a user may read.
#[derive(Args)]
pub struct Get {
    /// Their names. The value of a single one is written as it is, a certificate as PEM; several as JSON
    #[arg(required = true)]
    names: Vec<String>,
    /// Write it here instead, mode 0600
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// As JSON, also a single one
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Set(set) => set.run().await,
            Self::Get(get) => get.run().await,
            Self::List(list) => list.run().await,
            Self::Rotate(rotate) => rotate.run().await,
            Self::Stores(stores) => stores.run().await,
            Self::Seal(seal) => seal.run(),
        }
    }
}

impl List {
    async fn run(self) -> Outcome {
        let data = self.remote.client(Some(&self.person))?.get("/api/v3/secrets").await?;
        if self.json {
            return print_json(&data["secrets"]);
        }
        let now = (clock::system())().0;
        for line in data["secrets"].as_array().into_iter().flatten() {
            crate::say!("{}", described(line, now));
        }
        Ok(())
    }
}

/// One line for people.
fn described(line: &Value, now: i64) -> String {
    let text = |field: &str| line[field].as_str().unwrap_or("?");
    let version = line["version"].as_u64().map(|version| format!(", version {version}")).unwrap_or_default();
    let end = line["expires"].as_str().and_then(|text| text.parse::<UnixTime>().ok());
    let left = end.filter(|end| end.0 > now).map(|end| format!(", expires in {}", span(end.0 - now)));
    let state = match text("state") {
        "set" | "derived" => String::new(),
        "must-be-replaced" => ": an evicted instance could have read it, upload a new value".into(),
        "withheld" => ": withheld since an eviction, upload a new value".into(),
        "expired" => ": expired, upload a new value".into(),
        other => format!(": {other}"),
    };
    let (name, kind, scope) = (text("name"), text("kind"), text("scope"));
    format!("{name}  {kind}, {scope}{version}{}{state}", left.unwrap_or_default())
}

/// The largest unit that fits.
fn span(seconds: i64) -> String {
    match seconds {
        0..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

impl Rotate {
    async fn run(self) -> Outcome {
        let client = self.remote.client(Some(&self.person))?;
        let data = client.post("/api/v3/secrets/rotate", &json!({ "names": self.names })).await?;
        for (name, version) in data["versions"].as_object().into_iter().flatten() {
            crate::say!("{name} is version {version} now");
        }
        Ok(())
    }
}

/// RFC 3339, from that or from a span after `now`.
fn expiry(text: &str, now: i64) -> Outcome<String> {
    if let Ok(time) = text.parse::<UnixTime>() {
        return Ok(time.to_string());
    }
    let unit = |unit: char| match unit {
        'm' => Some(60),
        'h' => Some(3600),
        'd' => Some(86_400),
        _ => None,
    };
    let seconds = text.chars().last().and_then(unit).and_then(|unit| {
        let count: u32 = text.get(..text.len() - 1)?.parse().ok()?;
        i64::from(count).checked_mul(unit).filter(|seconds| *seconds > 0)
    });
    match seconds.and_then(|seconds| now.checked_add(seconds)) {
        Some(end) => Ok(UnixTime(end).to_string()),
        None => Err(Failure::malformed(format!("--expires {text:?} is neither a time nor a span"))
            .hint("2027-01-31T12:00:00Z, or 90m, 12h, 30d")),
    }
}

impl Set {
    async fn run(self) -> Outcome {
        let mut secrets = self.secrets()?;
        if let Some(text) = &self.expires {
            let expires = expiry(text, (clock::system())().0)?;
            for secret in secrets.values_mut().filter_map(Value::as_object_mut) {
                secret.insert("Expires".into(), json!(expires));
            }
        }
        let names: Vec<_> = secrets.keys().cloned().collect();
        let body = json!({ "secrets": secrets });
        self.remote.client(Some(&self.person))?.post("/api/v2/secrets", &body).await?;
        for name in names {
            crate::say!("{name} is set");
        }
        Ok(())
    }

    fn secrets(&self) -> Outcome<Map<String, Value>> {
        let mut secrets = match (&self.what, &self.file) {
            (Some(name), Some(file)) => {
                let value = json!({ "Key": BASE64.encode(read(file)?) });
                Map::from_iter([(name.clone(), value)])
            }
            (Some(file), None) => {
                let file = Path::new(file);
                let text = read(file)?;
                serde_json::from_slice(&text)
                    .malformed(format!("{} is no JSON object of secrets by name", file.display()))
                    .map_err(|failure| failure.hint("a single value: bailey secret set NAME --file FILE"))?
            }
            (None, Some(_)) => {
                return Err(Failure::malformed("say the name of the secret that --file holds"));
            }
            (None, None) => Map::new(),
        };
        for text in &self.from_pem {
            let (name, file) = text
                .split_once('=')
                .ok_or_else(|| Failure::malformed(format!("--from-pem {text:?} is not NAME=FILE")))?;
            if secrets.insert(name.to_owned(), from_pem(Path::new(file))?).is_some() {
                return Err(Failure::malformed(format!("secret {name:?} is given twice")));
            }
        }
        if secrets.is_empty() {
            return Err(Failure::malformed(
                "no secret is given: NAME --file FILE, FILE.json or --from-pem NAME=FILE",
            ));
        }
        Ok(secrets)
    }
}

/// The first certificate of a PEM file, and its key.
fn from_pem(file: &Path) -> Outcome<Value> {
    let text = read(file)?;
    let certificate = CertificateDer::from_pem_slice(&text)
        .malformed(format!("{} has no PEM block `CERTIFICATE`", file.display()))?;
    let private = match PrivateKeyDer::from_pem_slice(&text) {
        Ok(PrivateKeyDer::Pkcs8(key)) => BASE64.encode(key.secret_pkcs8_der()),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => String::new(),
        Ok(_) => {
            return Err(Failure::malformed(format!("the key in {} is not PKCS #8", file.display()))
                .hint("openssl pkcs8 -topk8 -nodes turns it into PKCS #8"));
        }
        Err(error) => return Err(error).malformed(format!("the key in {} cannot be read", file.display())),
    };
    Ok(json!({ "Cert": BASE64.encode(&certificate), "Private": private }))
}

impl Get {
    async fn run(self) -> Outcome {
        let client = self.remote.client(Some(&self.person))?;
        let place = self.output.as_deref().map(PrivateFile::create).transpose()?;
        let query: Vec<_> = self.names.iter().map(|name| format!("s={}", encode(name))).collect();
        let data = client.get(&format!("/api/v3/secrets?{}", query.join("&"))).await?;
        let value = match self.names.as_slice() {
            [name] if !self.json => value(name, &data["secrets"][name])?,
            _ => {
                let mut text = serde_json::to_vec_pretty(&data["secrets"]).map_err(anyhow::Error::from)?;
                text.push(b'\n');
                text
            }
        };
        match place {
            Some(place) => place.fill(&value)?,
            None => std::io::stdout().write_all(&value).context("the value cannot be written")?,
        }
        Ok(())
    }
}

/// The value of one secret; PEM for a certificate.
fn value(name: &str, secret: &Value) -> Outcome<Vec<u8>> {
    let bytes = |field: &str| {
        let text = secret[field].as_str();
        text.map(|text| BASE64.decode(text).malformed("the coordinator's answer is not base64")).transpose()
    };
    let unset = || Failure::refused(format!("secret {name:?} is not set yet"));
    if !secret["Type"].as_str().unwrap_or_default().starts_with("cert-") {
        return bytes("Private")?.ok_or_else(unset);
    }
    let mut text = evidence::pem::encode(&evidence::CertificateDer(bytes("Cert")?.ok_or_else(unset)?));
    if let Some(key) = bytes("Private")?.filter(|key| !key.is_empty()) {
        text.push_str(&crate::recovery::pem("PRIVATE KEY", &key));
    }
    Ok(text.into_bytes())
}

/// Uploads one secret.
pub async fn set(client: &Client, name: &str, value: &[u8]) -> Outcome {
    let body = json!({ "secrets": { name: { "Key": BASE64.encode(value) } } });
    client.post("/api/v2/secrets", &body).await?;
    Ok(())
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
fn encode(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn an_expiry_is_a_time_or_a_span() {
        let expiry = |text| super::expiry(text, 1_790_000_000).map_err(|failure| failure.exit_code());
        assert_eq!(expiry("2027-01-31T12:00:00Z").unwrap(), "2027-01-31T12:00:00Z");
        assert_eq!(expiry("90m").unwrap(), appraisal::UnixTime(1_790_005_400).to_string());
        assert_eq!(expiry("30d").unwrap(), appraisal::UnixTime(1_792_592_000).to_string());
        for wrong in
            ["", "d", "0h", "-1h", "1w", "1.5h", "tomorrow", "2027-01-31", "99999999999999999999d", "ä"]
        {
            assert_eq!(expiry(wrong), Err(2), "{wrong}");
        }
    }

    #[test]
    fn lines_say_what_to_do() {
        let line = |state: &str, expires: Option<&str>| {
            let line = json!({
                "name": "word", "kind": "plain", "scope": "user-defined", "version": 2, "state": state,
                "expires": expires,
            });
            super::described(&line, 1_790_000_000)
        };
        let end = appraisal::UnixTime(1_790_000_000 + 3 * 86_400).to_string();
        assert_eq!(line("set", Some(&end)), "word  plain, user-defined, version 2, expires in 3 days");
        assert!(line("expired", Some("2020-01-01T00:00:00Z")).ends_with(": expired, upload a new value"));
        assert!(line("withheld", None).contains("eviction"));
    }

    #[test]
    fn names_are_encoded_for_queries() {
        assert_eq!(super::encode("a b&c=ä"), "a%20b%26c%3D%C3%A4");
    }
}
