//! `bailey reference add|list|remove|provenance|sign`: signed statements about reference values, for a coordinator.

use std::path::{Path, PathBuf};

use appraisal::{ReferenceFile, UnixTime};
use attested_tls::clock;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use clap::{Args, ValueEnum};
use reference_statements::{ArtefactDigest, SIGNED_VALUES_TYPE, SigningKey, Values};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    commands::{
        print_json,
        remote::{Person, Remote},
        verify::read,
    },
    failure::{Failure, Input, Outcome},
};

/// A DSSE envelope, a Sigstore bundle, a JWS or a signed CoRIM.
#[derive(Args)]
pub struct Add {
    /// The statement; with --bundle or --jws, what is signed
    file: PathBuf,
    /// The Sigstore bundle that signs the file, as `cosign sign-blob --bundle` writes it
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The detached JWS that signs the file
    #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
    jws: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// Those that were added, and whether each counts now.
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

/// What it said counts no more from now on; older statements do not come back by it.
#[derive(Args)]
pub struct Remove {
    /// The statement, as `bailey reference list` names it
    id: String,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// Who signed a statement, from which source it was built, by whom, until when it holds, and where it is logged.
#[derive(Args)]
pub struct Provenance {
    /// The statement, as `bailey reference list` names it
    id: String,
    /// Write the statement's exact bytes here, so that others can verify it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// For a program
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

/// A statement, signed by a key in a file, on standard output.
#[derive(Args)]
pub struct Sign {
    /// Reference values, as `bailey measure` and `bailey reference` print them; several files are one statement
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The key, PKCS #8, PEM, on P-256 or Ed25519
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
    /// The series that it is of, as the manifest's `References` name it
    #[arg(long)]
    series: String,
    /// Its number in the series: greater than all before
    #[arg(long)]
    serial: u64,
    /// Until when it holds, such as 2027-06-01T00:00:00Z
    #[arg(long, value_name = "RFC3339")]
    expires: String,
    /// From when on it holds; from now, without it
    #[arg(long, value_name = "RFC3339")]
    not_before: Option<String>,
    /// An artefact that was measured: provenance of it will be about these values
    #[arg(long, value_name = "FILE")]
    artefact: Vec<PathBuf>,
    /// The form
    #[arg(long, value_enum, default_value_t = Form::Dsse)]
    form: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Dsse,
    Jws,
}

impl Add {
    pub async fn run(self) -> Outcome {
        let statement = statement(&read(&self.file)?, self.bundle.as_deref(), self.jws.as_deref())?;
        let client = self.remote.client(Some(&self.person))?;
        let added =
            client.post("/api/v3/references", &json!({ "statement": STANDARD.encode(statement) })).await?;
        if self.json {
            return print_json(&added);
        }
        let signers: Vec<_> = texts(&added["signers"]);
        crate::say!("{} is added, by the word of {}", text(&added, "id"), signers.join(", "));
        Ok(())
    }
}

/// What the coordinator takes: the file, or the file with what signs it.
fn statement(file: &[u8], bundle: Option<&Path>, jws: Option<&Path>) -> Outcome<Vec<u8>> {
    if let Some(path) = bundle {
        let bundle: Value = serde_json::from_slice(&read(path)?)
            .malformed(format!("{} is no Sigstore bundle", path.display()))?;
        let joined =
            json!({ "mediaType": SIGNED_VALUES_TYPE, "payload": STANDARD.encode(file), "bundle": bundle });
        return Ok(joined.to_string().into_bytes());
    }
    let Some(path) = jws else { return Ok(file.to_vec()) };
    let detached = String::from_utf8(read(path)?).malformed(format!("{} is no JWS", path.display()))?;
    match detached.trim().split('.').collect::<Vec<_>>().as_slice() {
        [header, "", signature] => {
            Ok(format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(file)).into_bytes())
        }
        _ => Err(Failure::malformed(format!("{} is no detached JWS", path.display()))
            .hint("it has two dots with nothing between them; a whole JWS is added without --jws")),
    }
}

impl List {
    pub async fn run(self) -> Outcome {
        let data = self.remote.client(Some(&self.person))?.get("/api/v3/references").await?;
        if self.json {
            return print_json(&data["references"]);
        }
        for line in data["references"].as_array().into_iter().flatten() {
            crate::say!("{}", described(line));
        }
        Ok(())
    }
}

/// One line for people, and a second one where it does not count.
fn described(line: &Value) -> String {
    let what = match line["kind"].as_str() {
        Some("values") => {
            let count = line["values"].as_array().map_or(0, Vec::len);
            let (series, expires) = (text(line, "series"), text(line, "expires"));
            format!("{series} {}, {count} values, until {expires}", line["serial"])
        }
        Some("provenance") => format!("provenance by {}", text(line, "builder")),
        _ => "a statement that nobody signed whom the manifest in force names".to_owned(),
    };
    let by = texts(&line["signers"]);
    let by = if by.is_empty() { String::new() } else { format!(", by {}", by.join(", ")) };
    let why = line["reason"].as_str().map(|reason| format!("\n    does not count: {reason}"));
    format!("{}  {what}{by}{}", text(line, "id"), why.unwrap_or_default())
}

impl Remove {
    pub async fn run(self) -> Outcome {
        let client = self.remote.client(Some(&self.person))?;
        client.delete(&format!("/api/v3/references/{}", segment(&self.id)?)).await?;
        crate::say!("{} is removed", self.id);
        Ok(())
    }
}

impl Provenance {
    pub async fn run(self) -> Outcome {
        let client = self.remote.client(Some(&self.person))?;
        let data = client.get(&format!("/api/v3/references/{}", segment(&self.id)?)).await?;
        if let Some(path) = &self.output {
            let bytes = STANDARD.decode(text(&data, "statement")).malformed("the coordinator's answer")?;
            crate::output::public_file(path, &bytes)?;
        }
        if self.json {
            return print_json(&data["reference"]);
        }
        crate::say!("{}", told(&data["reference"]));
        Ok(())
    }
}

/// A line for each thing that there is to say.
fn told(line: &Value) -> String {
    let mut lines = vec![described(line)];
    let mut say = |what: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("    {what}: {value}")));
    };
    let own = |field: &str| line[field].as_str().map(str::to_owned);
    say("form", own("form"));
    say("signed", own("signed"));
    let certified = &line["certified"];
    say(
        "identity",
        certified["identity"]
            .as_str()
            .map(|it| format!("{it}, vouched for by {}", text(certified, "issuer"))),
    );
    say("source", certified["source"].as_str().map(|it| revision(it, &certified["revision"])));
    say("log", line["log"]["log"].as_str().map(|log| format!("entry {} of log {log}", line["log"]["index"])));
    say("trust root believed until", own("trustRootExpires"));
    say("holds from", own("notBefore"));
    say("holds until", own("expires"));
    say("added", own("added").map(|at| format!("{at} by {}", text(line, "addedBy"))));
    for artefact in texts(&line["artefacts"]) {
        say("artefact", Some(artefact));
    }
    let own_build = (line["kind"] == "provenance").then_some(line);
    for build in line["built"].as_array().into_iter().flatten().chain(own_build) {
        say("built by", build["builder"].as_str().map(str::to_owned));
        say("built from", build["source"].as_str().map(|it| revision(it, &build["revision"])));
        say("built on", build["finished"].as_str().map(str::to_owned));
    }
    lines.join("\n")
}

fn revision(source: &str, revision: &Value) -> String {
    revision.as_str().map_or_else(|| source.to_owned(), |revision| format!("{source}, revision {revision}"))
}

impl Sign {
    pub fn run(self) -> Outcome {
        let now = clock::system()();
        let mut reference_values = Vec::new();
        for path in &self.files {
            let file: ReferenceFile = serde_json::from_slice(&read(path)?)
                .malformed(format!("{} holds no reference values", path.display()))?;
            reference_values.extend(file.reference_values);
        }
        let digest = |path: &PathBuf| -> Outcome<ArtefactDigest> {
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &super::artefact(path)?);
            let bytes = digest.as_ref().try_into().malformed("a digest")?;
            Ok(ArtefactDigest(bytes))
        };
        let values = Values {
            series: self.series,
            serial: self.serial,
            issued: now,
            not_before: self.not_before.as_deref().map(time).transpose()?,
            expires: time(&self.expires)?,
            subjects: self.artefact.iter().map(digest).collect::<Outcome<_>>()?,
            reference_values,
        };
        if values.expires <= now {
            return Err(
                Failure::malformed("a statement that has ended is believed by nobody").hint("--expires")
            );
        }
        let pem = Zeroizing::new(read(&self.signing_key)?);
        let unusable = || format!("{} holds no key that signs", self.signing_key.display());
        let key = SigningKey::from_pem(str::from_utf8(&pem).malformed(unusable())?).malformed(unusable())?;
        let signed = match self.form {
            Form::Dsse => key.dsse(&values),
            Form::Jws => key.jws(&values),
        };
        crate::say!("{}", String::from_utf8_lossy(&signed.malformed(unusable())?));
        Ok(())
    }
}

fn time(text: &str) -> Outcome<UnixTime> {
    text.parse().malformed(format!("{text:?} is no time in RFC 3339, such as 2027-06-01T00:00:00Z"))
}

/// What goes into a path.
fn segment(id: &str) -> Outcome<&str> {
    match id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(id),
        false => Err(Failure::malformed(format!("{id:?} names no statement")).hint("64 hexadecimal digits")),
    }
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or("?")
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_built_it_from_what_is_told() {
        let line = json!({
            "id": "ab", "holds": false, "reason": "the statement held until X", "kind": "values", "series": "guest",
            "serial": 7, "expires": "X", "values": [{}], "signers": ["release"], "addedBy": "alice", "added": "Y",
            "form": "sigstore", "log": {"log": "c0", "index": 5}, "artefacts": ["sha256:11"],
            "certified": {"identity": "workflow", "issuer": "forge", "source": "https://forge/guest", "revision": "c0ffee"},
            "built": [{"builder": "b", "source": "git+https://forge/guest", "revision": "c0ffee"}],
        });
        let told = told(&line);
        for expected in [
            "ab  guest 7, 1 values, until X, by release",
            "does not count: the statement held until X",
            "identity: workflow, vouched for by forge",
            "source: https://forge/guest, revision c0ffee",
            "log: entry 5 of log c0",
            "artefact: sha256:11",
            "built by: b",
            "built from: git+https://forge/guest, revision c0ffee",
            "added: Y by alice",
        ] {
            assert!(told.contains(expected), "{expected}: {told}");
        }
    }

    #[test]
    fn a_detached_jws_gets_its_payload() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jws");
        std::fs::write(&path, "aa..bb\n").unwrap();
        assert_eq!(statement(b"x", None, Some(&path)).unwrap(), b"aa.eA.bb");
        std::fs::write(&path, "aa.cc.bb").unwrap();
        assert_eq!(statement(b"x", None, Some(&path)).unwrap_err().exit_code(), 2);
    }
}
