//! What this user holds of coordinators: of each mesh root the longest state log that was seen, signed. A coordinator
//! that shows less later was rolled back; one that is shown more than it has knows so itself.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use attested_tls::{
    anchor::{AnchorKind, Position, Regressed, compare},
    claims::CoordinatorClaims,
    clock::Clock,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use clap::Args;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    client::{Client, Declined},
    failure::{Failure, Outcome},
};

/// No honest file is larger.
const MAX_FILE: usize = 4096;

/// The longest log that was seen under a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How long, and its head.
    pub position: Position,
    /// The signature of the mesh's log key over it.
    pub signature: Vec<u8>,
    /// When it was seen, RFC 3339.
    pub seen: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    format: String,
    length: u64,
    head: String,
    signature: String,
    seen: String,
}

const FORMAT: &str = "bailey-head/1";

impl Held {
    /// What a coordinator's claims give to hold; nothing, where it serves nothing.
    pub fn of(claims: &CoordinatorClaims, clock: &Clock) -> Option<Self> {
        let signature = claims.log_signature.to_vec();
        let held = Self { position: Position::of(claims), signature, seen: clock().to_string() };
        Some(held).filter(|held| !held.signature.is_empty())
    }

    /// What `/api/v3/head` gives.
    pub fn of_answer(data: &Value, clock: &Clock) -> anyhow::Result<Self> {
        let (length, head) = (data["length"].as_u64(), data["head"].as_str());
        let signature = data["signature"].as_str().and_then(|text| BASE64.decode(text).ok());
        let (Some(length), Some(head), Some(signature)) = (length, head, signature) else {
            anyhow::bail!("the coordinator's answer has no head");
        };
        Ok(Self { position: Position { length, head: digest(head)? }, signature, seen: clock().to_string() })
    }

    /// Reads a file strictly.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        anyhow::ensure!(bytes.len() <= MAX_FILE, "{} bytes are more than {MAX_FILE}", bytes.len());
        let wire: Wire = serde_json::from_slice(bytes)?;
        anyhow::ensure!(wire.format == FORMAT, "its format is {:?}, not {FORMAT:?}", wire.format);
        let signature = BASE64.decode(&wire.signature).context("its signature is not base64")?;
        Ok(Self {
            position: Position { length: wire.length, head: digest(&wire.head)? },
            signature,
            seen: wire.seen,
        })
    }

    /// The file.
    pub fn to_json(&self) -> String {
        let wire = Wire {
            format: FORMAT.into(),
            length: self.position.length,
            head: hex::encode(self.position.head),
            signature: BASE64.encode(&self.signature),
            seen: self.seen.clone(),
        };
        serde_json::to_string_pretty(&wire).expect("text and numbers can be written")
    }
}

fn digest(text: &str) -> anyhow::Result<[u8; 32]> {
    let mut out = [0; 32];
    hex::decode_to_slice(text, &mut out).context("its head is not 64 hex digits")?;
    Ok(out)
}

/// Where heads are held.
#[derive(Args, Clone, Default)]
pub struct Heads {
    /// The folder where the newest state of each coordinator is remembered, to notice an older one; your data folder
    /// unless given
    #[arg(long = "heads", value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Heads {
    /// In this folder.
    pub fn within(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    fn path(&self, root: &[u8]) -> Option<PathBuf> {
        let folder = self.folder.clone().or_else(|| data_folder().map(|data| data.join("heads")))?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, root);
        Some(folder.join(format!("{}.json", hex::encode(digest.as_ref()))))
    }

    /// What is held of the coordinator with this root, DER.
    pub fn held(&self, root: &[u8]) -> Outcome<Option<Held>> {
        let Some(path) = self.path(root) else { return Ok(None) };
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&path, error.into())),
        };
        Held::parse(&bytes).map(Some).map_err(|error| unreadable(&path, error))
    }

    /// Compares what is seen with what is held, hands the latter to the coordinator, and holds the newer of the two.
    ///
    /// # Errors
    /// The coordinator shows an older state, or another one, or says so of itself.
    pub async fn meet(&self, client: &Client, root: &CertificateDer<'_>, seen: &Held) -> Outcome {
        let held = self.held(root)?;
        if let Some(held) = &held {
            let compared = compare(&held.position, &seen.position);
            if compared.is_err() || seen.position.length > held.position.length {
                let told = tell(client, held).await;
                compared.map_err(|regressed| refused(&regressed, held))?;
                told?;
            }
        }
        if held.is_none_or(|held| held.position.length < seen.position.length) {
            self.hold(root, seen)?;
        }
        Ok(())
    }

    /// Whole or not at all; a longer one is never replaced by a shorter one.
    fn hold(&self, root: &[u8], seen: &Held) -> Outcome {
        let Some(path) = self.path(root) else {
            eprintln!(
                "note: there is no data folder (HOME), so what was seen is not remembered: give --heads DIR"
            );
            return Ok(());
        };
        let write = || -> anyhow::Result<()> {
            let folder = path.parent().context("a folder")?;
            std::fs::create_dir_all(folder)?;
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(seen.to_json().as_bytes())?;
            file.as_file().sync_all()?;
            if self.held(root).ok().flatten().is_none_or(|held| held.position.length < seen.position.length) {
                file.persist(&path)?;
            }
            Ok(())
        };
        write().with_context(|| format!("{} cannot be written", path.display())).map_err(Failure::from)
    }
}

/// Hands the coordinator a head that its own log key signed.
async fn tell(client: &Client, held: &Held) -> Outcome {
    let body = json!({
        "length": held.position.length,
        "head": hex::encode(held.position.head),
        "signature": BASE64.encode(&held.signature),
    });
    match client.post("/api/v3/head", &body).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let code = error.downcast_ref::<Declined>().map(|declined| declined.code.clone());
            let failure = Failure::from(error.context(match code.as_deref() {
                Some("STATE_ROLLED_BACK" | "STATE_FORKED") => {
                    "the coordinator learnt from what you hold that its state is not the newest"
                }
                _ => "the coordinator did not say whether it continues the state that you hold",
            }));
            Err(failure.hint(format!("you hold {} records, seen {}", held.position.length, held.seen)))
        }
    }
}

fn refused(regressed: &Regressed, held: &Held) -> Failure {
    let code = regressed.code();
    Failure::refused(format!("{regressed} (seen {}) [{code}]", held.seen)).hint(
        "an old copy was put back, or the mesh was forked: have the newer state put back, or its recovery accept the \
         loss (docs/rollback.md)",
    )
}

fn unreadable(path: &Path, error: anyhow::Error) -> Failure {
    let error = error.context(format!("{} is not what was remembered of this coordinator", path.display()));
    Failure::from(error).hint("whoever can change it can make you forget: look into it before you remove it")
}

/// Where this user's data is: the default of the XDG Base Directory Specification.
pub fn data_folder() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = named("XDG_DATA_HOME").or_else(|| named("HOME").map(|home| home.join(".local/share")))?;
    Some(base.join("bailey"))
}

/// An anchor that a coordinator must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequiredAnchor {
    /// Whichever.
    Any,
    /// Of this kind; and known by this key.
    Kind(AnchorKind, Option<[u8; 32]>),
}

impl std::str::FromStr for RequiredAnchor {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text == "any" {
            return Ok(Self::Any);
        }
        let (kind, key) = text.split_once(':').map_or((text, None), |(kind, key)| (kind, Some(key)));
        let kind = kind.parse().context("give any, tpm-nv, tpm-nv:KEY, etcd, peers or clients")?;
        let key = key.map(|key| digest(key).context("the anchor's key is not 64 hex digits")).transpose()?;
        Ok(Self::Kind(kind, key))
    }
}

impl RequiredAnchor {
    /// Whether the coordinator says that it has it.
    pub fn check(&self, claims: &CoordinatorClaims) -> Outcome {
        let fits = claims.anchors.iter().any(|anchor| match self {
            Self::Any => true,
            Self::Kind(kind, key) => {
                anchor.kind == *kind && key.is_none_or(|key| anchor.key.is_some_and(|seen| *seen == key))
            }
        });
        if fits {
            return Ok(());
        }
        let seen: Vec<_> = claims.anchors.iter().map(|anchor| anchor.kind.to_string()).collect();
        let seen = if seen.is_empty() { "none".to_owned() } else { seen.join(", ") };
        Err(Failure::refused(format!(
            "the coordinator's state is not anchored as required: expected {self}, seen {seen} [ANCHOR_MISSING]"
        ))
        .hint("an old copy of its state might not be noticed: its owner launches it with an anchor (docs/rollback.md)"))
    }
}

impl std::fmt::Display for RequiredAnchor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any anchor"),
            Self::Kind(kind, None) => kind.fmt(f),
            Self::Kind(kind, Some(key)) => write!(f, "{kind} with key {}", hex::encode(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(length: u64) -> Held {
        let position = Position { length, head: [7; 32] };
        Held { position, signature: vec![1, 2, 3], seen: "2026-01-01T00:00:00Z".into() }
    }

    #[test]
    fn a_file_is_read_as_it_was_written_and_strictly() {
        let text = held(5).to_json();
        assert_eq!(Held::parse(text.as_bytes()).unwrap(), held(5));
        for (from, to) in [
            ("bailey-head/1", "bailey-head/2"),
            ("\"length\": 5", "\"length\": -5"),
            ("\"length\": 5", "\"length\": 5, \"trust\": true"),
            ("0707", "zz07"),
            ("AQID", "?"),
        ] {
            let wrong = text.replacen(from, to, 1);
            assert_ne!(wrong, text);
            assert!(Held::parse(wrong.as_bytes()).is_err(), "{to}");
        }
        assert!(Held::parse(&vec![b' '; MAX_FILE + 1]).is_err());
    }

    #[test]
    fn the_longest_is_held_and_damage_is_no_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let heads = Heads::within(folder.path().join("deep"));
        assert_eq!(heads.held(b"root").unwrap(), None);
        for length in [5, 9, 3] {
            heads.hold(b"root", &held(length)).unwrap();
        }
        assert_eq!(heads.held(b"root").unwrap(), Some(held(9)));
        assert_eq!(heads.held(b"another").unwrap(), None);
        std::fs::write(heads.path(b"root").unwrap(), "{}").unwrap();
        assert_eq!(heads.held(b"root").unwrap_err().exit_code(), 1);
    }

    #[test]
    fn anchors_that_are_required() {
        for wrong in ["", "tpm", "tpm-nv:", "tpm-nv:00", "any:00"] {
            assert!(wrong.parse::<RequiredAnchor>().is_err(), "{wrong}");
        }
        let key = "11".repeat(32);
        assert_eq!(
            format!("tpm-nv:{key}").parse::<RequiredAnchor>().unwrap(),
            RequiredAnchor::Kind(AnchorKind::TpmNv, Some([0x11; 32]))
        );
        assert_eq!("any".parse::<RequiredAnchor>().unwrap(), RequiredAnchor::Any);
    }
}
