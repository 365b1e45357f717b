//! What this user holds of volumes of direct deployments: keys in files of their own, and of each volume the newest
//! state that a Keep told. A host that brings an older one back is found out by it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use attested_tls::clock::{self, Clock};
use clap::Args;
use keep_config::KeepConfig;
use keep_protocol::{
    Sensitive,
    keep::{Head, VolumeHead, VolumeKey},
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use zeroize::Zeroizing;

use crate::{
    failure::{Failure, Input, Outcome},
    heads::data_folder,
    output::PrivateFile,
};

/// No honest file is larger, in bytes.
const MAX_FILE: u64 = 4096;
const FORMAT: &str = "bailey-volume-head/1";

/// Volumes, by the command line.
#[derive(Args)]
pub struct VolumeArgs {
    /// A volume of the configuration, and the file with its key, which is made if it does not exist
    #[arg(long = "volume", value_name = "NAME=FILE", value_parser = volume)]
    volumes: Vec<(String, PathBuf)>,
    /// The folder where the newest states of volumes are remembered, to notice older ones; in your data folder unless
    /// given
    #[arg(long, value_name = "DIR")]
    volume_heads: Option<PathBuf>,
}

fn volume(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("expected NAME=FILE")?;
    Ok((name.to_owned(), path.into()))
}

impl VolumeArgs {
    /// Whether those of the configuration are given, and no others. Nothing is made or opened.
    pub fn check(&self, config: &KeepConfig) -> Outcome {
        let mut given: Vec<&str> = self.volumes.iter().map(|(name, _)| name.as_str()).collect();
        for wanted in &config.volumes {
            let name = wanted.name.as_str();
            let place = given.iter().position(|given| *given == name);
            let place = place.ok_or_else(|| {
                Failure::malformed(format!(
                    "the configuration has the volume {name:?}, and no key is given for it"
                ))
                .hint(format!("give it with --volume {name}=FILE; the file is made if it does not exist"))
            })?;
            given.swap_remove(place);
        }
        match given.first() {
            Some(name) => Err(Failure::malformed(format!(
                "the volume {name:?} is given twice, or not in the configuration"
            ))),
            None => Ok(()),
        }
    }

    /// Reads or makes the keys, and reads what is remembered. As long as this is held, no other deployment of this user
    /// has the volumes.
    pub fn open(&self) -> Outcome<Held> {
        let mut volumes = Vec::new();
        for (name, path) in &self.volumes {
            let key = key(path)?;
            let id = hex::encode(::volume::VolumeKey::new(*key).id());
            let folder = self.folder()?;
            let lock = lock(&folder, &id)?;
            let place = folder.join(format!("{id}.json"));
            let head = read(&place)?;
            volumes.push(One { name: name.clone(), key, head, place, _lock: lock });
        }
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Held { volumes, clock: clock::system() })
    }

    fn folder(&self) -> Outcome<PathBuf> {
        let folder = self.volume_heads.clone().or_else(|| data_folder().map(|data| data.join("volumes")));
        folder.ok_or_else(|| {
            Failure::malformed(
                "there is no data folder (HOME), so the newest state of a volume cannot be remembered",
            )
            .hint("give --volume-heads DIR")
        })
    }
}

/// Volumes of one deployment.
pub struct Held {
    volumes: Vec<One>,
    clock: Clock,
}

struct One {
    name: String,
    key: Zeroizing<[u8; 32]>,
    head: Option<Head>,
    place: PathBuf,
    _lock: File,
}

impl Held {
    /// For the Keep; by name, ascending.
    pub fn keys(&self) -> Vec<VolumeKey> {
        let key = |one: &One| VolumeKey {
            key: Sensitive::new(one.key.to_vec()),
            head: one.head,
            name: one.name.clone(),
        };
        self.volumes.iter().map(key).collect()
    }

    /// Remembers a newer state: it is on the disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written, or is older than what is remembered.
    pub fn hold(&mut self, told: &VolumeHead) -> io::Result<()> {
        let unknown = || io::Error::new(ErrorKind::NotFound, "no such volume was given");
        let one = self.volumes.iter_mut().find(|one| one.name == told.name).ok_or_else(unknown)?;
        if one.head.is_some_and(|held| told.head.sequence < held.sequence) {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is older than what is remembered"));
        }
        write(&one.place, &told.head, (self.clock)().to_string())?;
        one.head = Some(told.head);
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: String,
    sequence: u64,
    digest: String,
    seen: String,
}

/// The key in a file, or a new one.
fn key(path: &Path) -> Outcome<Zeroizing<[u8; 32]>> {
    let what = || format!("{} is no key of a volume: 64 hexadecimal digits", path.display());
    let mut key = Zeroizing::new([0; 32]);
    match File::open(path) {
        Ok(file) => {
            let mut text = Zeroizing::new(String::new());
            file.take(100).read_to_string(&mut text).malformed(what())?;
            hex::decode_to_slice(text.trim(), &mut *key).malformed(what())?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            aws_lc_rs::rand::fill(&mut *key).ok().context("no key could be made")?;
            let text = Zeroizing::new(format!("{}\n", hex::encode(*key)));
            PrivateFile::create(path)?.fill(text.as_bytes())?;
        }
        Err(error) => return Err(error).malformed(format!("{} cannot be read", path.display())),
    }
    Ok(key)
}

/// Until the file is dropped, or this process ends.
fn lock(folder: &Path, id: &str) -> Outcome<File> {
    let failed = || format!("{} cannot be written", folder.display());
    DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(failed)?;
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let file = options.open(folder.join(format!("{id}.lock"))).with_context(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(Failure::refused("another deployment of yours has this volume open [VOLUME_IN_USE]"))
        }
        Err(fs::TryLockError::Error(error)) => Err(error).with_context(failed).map_err(Failure::from),
    }
}

fn read(place: &Path) -> Outcome<Option<Head>> {
    let damaged = |error: anyhow::Error| {
        let what = format!("{} is not what was remembered of this volume", place.display());
        Failure::from(error.context(what))
            .hint("whoever can change it can make you accept an old copy: look into it before you remove it")
    };
    let bytes = match File::open(place) {
        Ok(file) => {
            let mut bytes = Vec::new();
            file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|error| damaged(error.into()))?;
            bytes
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(error.into())),
    };
    parse(&bytes).map(Some).map_err(damaged)
}

fn parse(bytes: &[u8]) -> anyhow::Result<Head> {
    let wire: Wire = serde_json::from_slice(bytes)?;
    anyhow::ensure!(wire.format == FORMAT, "its format is {:?}, not {FORMAT:?}", wire.format);
    let mut digest = [0; 32];
    hex::decode_to_slice(&wire.digest, &mut digest).context("its digest is not 64 hex digits")?;
    Ok(Head { digest: ByteArray::new(digest), sequence: wire.sequence })
}

/// Whole or not at all, and for good.
fn write(place: &Path, head: &Head, seen: String) -> io::Result<()> {
    let digest = hex::encode(*head.digest);
    let wire = Wire { format: FORMAT.into(), sequence: head.sequence, digest, seen };
    let folder = place.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec_pretty(&wire)?)?;
    file.as_file().sync_all()?;
    file.persist(place)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sequence: u64) -> VolumeHead {
        let head = Head { digest: ByteArray::new([sequence as u8; 32]), sequence };
        VolumeHead { head, name: "data".into() }
    }

    fn arguments(folder: &Path) -> VolumeArgs {
        VolumeArgs {
            volumes: vec![("data".into(), folder.join("data.key"))],
            volume_heads: Some(folder.join("heads")),
        }
    }

    #[test]
    fn the_newest_state_is_held_and_an_older_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(folder.path());
        let mut held = arguments.open().unwrap();
        let key = held.keys().remove(0);
        assert_eq!(key.head, None);
        // One deployment at a time.
        assert_eq!(arguments.open().err().unwrap().exit_code(), 1);
        held.hold(&told(1)).unwrap();
        held.hold(&told(2)).unwrap();
        held.hold(&told(2)).unwrap();
        assert!(held.hold(&told(1)).is_err());
        assert!(held.hold(&VolumeHead { name: "other".into(), ..told(3) }).is_err());
        drop(held);
        let again = arguments.open().unwrap().keys().remove(0);
        assert_eq!((again.head, &again.key), (Some(told(2).head), &key.key));
    }

    #[test]
    fn what_was_altered_is_not_taken_for_a_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = arguments(folder.path());
        let mut held = arguments.open().unwrap();
        held.hold(&told(7)).unwrap();
        let place = held.volumes[0].place.clone();
        drop(held);
        let text = fs::read_to_string(&place).unwrap();
        for (from, to) in
            [("head/1", "head/2"), ("0707", "zz07"), ("\"sequence\": 7", "\"sequence\": -1"), ("}", "")]
        {
            fs::write(&place, text.replacen(from, to, 1)).unwrap();
            assert!(arguments.open().is_err(), "{to}");
        }
        fs::write(folder.path().join("data.key"), "short").unwrap();
        assert_eq!(arguments.open().err().unwrap().exit_code(), 2);
    }

    #[test]
    fn volumes_are_those_of_the_configuration() {
        let config = |text: &str| KeepConfig::parse(text).unwrap();
        let arguments = arguments(Path::new("/nowhere"));
        let volume =
            |name: &str| format!("[[volumes]]\nname = \"{name}\"\npath = \"/{name}\"\nsize = \"1MiB\"\n");
        assert!(arguments.check(&config(&volume("data"))).is_ok());
        for wrong in [String::new(), volume("other"), volume("data") + &volume("more")] {
            assert_eq!(arguments.check(&config(&wrong)).unwrap_err().exit_code(), 2);
        }
    }
}
