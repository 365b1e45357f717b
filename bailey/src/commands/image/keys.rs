//! Keys of the person who encrypts: kept by the coordinator, wrapped there or here; or in a file of the person's own.

use std::{collections::BTreeMap, fs::File, io::Read, os::unix::fs::MetadataExt, path::Path, sync::Arc};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use image_keys::{BackendError, Kek, KeyName, Packet, Parameter, Unwrapper, Wrapper, kek};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::client::{Client, Declined};

/// A coordinator's keys, by what a person may do with them.
#[derive(Clone)]
pub(super) struct Keys {
    client: Arc<Client>,
    /// Whether keys are read and used here.
    local: bool,
    /// What was read, once for all layers.
    read: Arc<Mutex<BTreeMap<KeyName, Arc<Kek>>>>,
}

impl Keys {
    pub(super) fn new(client: Client, local: bool) -> Self {
        Self { client: Arc::new(client), local, read: Arc::default() }
    }

    /// Wrapped by the coordinator, which gives the key to nobody for that.
    async fn wrapped(&self, key: &KeyName, options: &[u8]) -> Result<Packet, BackendError> {
        let body = json!({ "key": key.to_string(), "data": BASE64.encode(options) });
        let data = self.client.post("/api/v3/broker/wrap", &body).await.map_err(declined)?;
        let packet = Packet::parse(data["packet"].to_string().as_bytes()).ok();
        packet.filter(|packet| packet.key == *key).ok_or_else(|| {
            BackendError::Unavailable("the coordinator's answer is no packet of this key".into())
        })
    }

    async fn here(&self, key: &KeyName) -> Result<Arc<Kek>, BackendError> {
        let mut read = self.read.lock().await;
        if let Some(kek) = read.get(key) {
            return Ok(kek.clone());
        }
        let path = format!("/api/v3/broker/resources/{}", key.path());
        let data: Value = self.client.get(&path).await.map_err(declined)?;
        let value = data["value"].as_str().and_then(|text| BASE64.decode(text).ok()).map(Zeroizing::new);
        let value =
            value.ok_or_else(|| BackendError::Unavailable("the coordinator's answer has no key".into()))?;
        let kek = Arc::new(Kek::new(&value)?);
        read.insert(key.clone(), kek.clone());
        Ok(kek)
    }
}

#[async_trait]
impl Wrapper for Keys {
    async fn wrap(&self, parameter: &Parameter, options: &[u8]) -> Result<Packet, BackendError> {
        match parameter {
            Parameter::File { path, key } => Ok(from_file(path)?.wrap(key, options)?),
            Parameter::Kept(key) if self.local => Ok(self.here(key).await?.wrap(key, options)?),
            Parameter::Kept(key) => self.wrapped(key, options).await,
        }
    }
}

#[async_trait]
impl Unwrapper for Keys {
    async fn unwrap(&self, packet: &Packet) -> Result<Zeroizing<Vec<u8>>, BackendError> {
        Ok(self.here(&packet.key).await?.unwrap(packet)?)
    }
}

fn declined(error: anyhow::Error) -> BackendError {
    match error.downcast_ref::<Declined>() {
        Some(declined) => BackendError::Refused(declined.to_string()),
        None => BackendError::Unavailable(format!("the coordinator could not be asked: {error:#}")),
    }
}

/// A key of 32 bytes that only its owner may read.
fn from_file(path: &Path) -> Result<Kek, BackendError> {
    let shown = path.display();
    let unreadable = |error| BackendError::Refused(format!("the key file {shown} cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let words =
            format!("the key file {shown} has mode {mode:04o}, and others could read it: chmod 600 {shown}");
        return Err(BackendError::Refused(words));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(kek::LENGTH as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Kek::new(&bytes)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_file_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, [7; 32]).unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o644, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(from_file(&path).is_ok(), good, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for length in [31, 33] {
            std::fs::write(&path, vec![7; length]).unwrap();
            assert!(matches!(from_file(&path), Err(BackendError::Kek(_))), "{length}");
        }
        assert!(from_file(&folder.path().join("absent")).unwrap_err().to_string().contains("cannot be read"));
    }
}
