//! Container images in OCI layout, made by umoci and copied by skopeo: Debian's programs, which `cargo xtask tools` puts
//! there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::programs::repository;

/// The annotation that a provider's packets are in, before the provider's name.
pub const PACKETS: &str = "org.opencontainers.image.enc.keys.provider.";

/// A skopeo that knows key providers; `None`, told loudly, where there is none, or no umoci.
pub fn skopeo() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let unpacked = repository().join("target/tools/skopeo/skopeo");
        [unpacked, PathBuf::from("skopeo")].into_iter().find(|path| knows_providers(path))
    });
    let umoci = Command::new("umoci").arg("--version").output().is_ok();
    if found.is_none() || !umoci {
        eprintln!(
            "\n*** NOT RUN: there is no umoci, or no skopeo that knows key providers (Debian 12's does not): cargo xtask tools ***\n"
        );
        return None;
    }
    found.as_deref()
}

fn knows_providers(program: &Path) -> bool {
    let nothing = "oci:/nonexistent:x";
    let probe = ["copy", "--insecure-policy", "--encryption-key", "provider:probe:x", nothing, nothing];
    let output = Command::new(program).args(probe).stdin(Stdio::null()).output();
    output.is_ok_and(|output| !String::from_utf8_lossy(&output.stderr).contains("protocol not recognized"))
}

/// Images of one test, each an OCI layout by a name, with the tag `app`.
pub struct Images(TempDir);

impl Images {
    /// An image `plain` of two layers, made by umoci.
    ///
    /// # Panics
    /// When umoci does not make it.
    #[must_use]
    pub fn plain() -> Self {
        let images = Self(tempfile::tempdir().expect("a temporary folder"));
        let (layout, file) = (images.folder("plain"), images.folder("file"));
        let layout = layout.to_str().expect("UTF-8");
        let image = format!("{layout}:app");
        umoci(&["init", "--layout", layout]);
        umoci(&["new", "--image", &image]);
        for path in ["/etc/first", "/etc/second"] {
            fs::write(&file, path.repeat(1000)).expect("the file can be written");
            umoci(&["insert", "--image", &image, file.to_str().expect("UTF-8"), path]);
        }
        images
    }

    /// Where one lies.
    #[must_use]
    pub fn folder(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As skopeo takes it.
    #[must_use]
    pub fn reference(&self, name: &str) -> String {
        format!("oci:{}:app", self.folder(name).display())
    }

    /// Copies one by skopeo, with these arguments and this `ocicrypt_keyprovider` configuration; what it said when it did
    /// not.
    ///
    /// # Errors
    /// The words of skopeo.
    ///
    /// # Panics
    /// When there is no skopeo.
    pub fn copy(&self, providers: &Value, how: &[&str], from: &str, to: &str) -> Result<(), String> {
        let configuration = self.0.path().join(format!("{to}.json"));
        fs::write(&configuration, providers.to_string()).expect("the file can be written");
        let output = Command::new(skopeo().expect("asked before"))
            .args(["copy", "--insecure-policy"])
            .args(how)
            .args([self.reference(from), self.reference(to)])
            .env("OCICRYPT_KEYPROVIDER_CONFIG", configuration)
            .stdin(Stdio::null())
            .output()
            .expect("skopeo runs");
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The manifest of one.
    #[must_use]
    pub fn manifest(&self, name: &str) -> Value {
        let digest = self.index(name)["manifests"][0]["digest"].as_str().expect("a digest").to_owned();
        serde_json::from_slice(&self.blob(name, &digest)).expect("a manifest")
    }

    /// A blob of one, by `sha256:…`.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn blob(&self, name: &str, digest: &str) -> Vec<u8> {
        fs::read(self.blob_path(name, digest)).expect("the blob is there")
    }

    /// The digests of its layers.
    #[must_use]
    pub fn layers(&self, name: &str) -> Vec<String> {
        let manifest = self.manifest(name);
        let layers = manifest["layers"].as_array().expect("layers").iter();
        layers.map(|layer| layer["digest"].as_str().expect("a digest").to_owned()).collect()
    }

    /// The annotation of a provider on a layer of one, decoded once.
    #[must_use]
    pub fn packet(&self, name: &str, layer: usize, provider: &str) -> Value {
        let manifest = self.manifest(name);
        let text = manifest["layers"][layer]["annotations"][format!("{PACKETS}{provider}")].as_str();
        serde_json::from_slice(&from_base64(text.expect("the annotation"))).expect("a packet")
    }

    /// A copy of one whose manifest was changed, as whoever holds the image can.
    pub fn changed(&self, from: &str, to: &str, change: impl FnOnce(&mut Value)) {
        copy(&self.folder(from), &self.folder(to));
        let mut manifest = self.manifest(to);
        change(&mut manifest);
        let text = manifest.to_string().into_bytes();
        let mut index = self.index(to);
        index["manifests"][0]["digest"] = json!(self.put(to, &text));
        index["manifests"][0]["size"] = json!(text.len());
        fs::write(self.folder(to).join("index.json"), index.to_string()).expect("the index can be written");
    }

    /// Adds a blob to one; its digest.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn put(&self, name: &str, bytes: &[u8]) -> String {
        let digest = format!("sha256:{}", sha256(bytes));
        fs::write(self.blob_path(name, &digest), bytes).expect("the blob can be written");
        digest
    }

    /// A copy of one in which the packet of a layer was changed.
    pub fn repacked(&self, from: &str, to: &str, provider: &str, change: impl FnOnce(&mut Value)) {
        let mut packet = self.packet(from, 0, provider);
        change(&mut packet);
        self.changed(from, to, |manifest| {
            manifest["layers"][0]["annotations"][format!("{PACKETS}{provider}")] =
                json!(to_base64(packet.to_string().as_bytes()));
        });
    }

    fn index(&self, name: &str) -> Value {
        let text = fs::read(self.folder(name).join("index.json")).expect("an index");
        serde_json::from_slice(&text).expect("an index")
    }

    fn blob_path(&self, name: &str, digest: &str) -> PathBuf {
        self.folder(name).join("blobs").join(digest.replace(':', "/"))
    }
}

fn umoci(arguments: &[&str]) {
    let output = Command::new("umoci").args(arguments).output().expect("umoci runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-r").args([from, to]).status().expect("cp runs");
    assert!(done.success(), "{} could not be copied", from.display());
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(bytes))
}

fn to_base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}

fn from_base64(text: &str) -> Vec<u8> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.decode(text).expect("base64")
}
