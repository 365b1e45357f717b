//! Making a package: the same workload, name, version and configuration always give the same bytes.

use serde_json::json;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    ArtefactError, Descriptor, Digest, ImageManifest, Repository, Version, annotation,
    artefact::{CIPHER, ENCRYPTED, MAX_CONFIG, MAX_WORKLOAD, PROVIDER, PUBLIC_OPTIONS},
};

/// The CNCF's, for all of WebAssembly ("Wasm OCI Artifact", TAG Runtime).
pub(crate) const LAYER_TYPE: &str = "application/wasm";
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";

/// What a package is to say of itself.
#[derive(Debug, Clone)]
pub struct Build {
    /// Which package it is.
    pub name: Repository,
    /// Which version.
    pub version: Version,
    /// The text of its `Keep.toml`.
    pub config: Option<String>,
}

/// A package, ready to be pushed: blobs first.
#[derive(Debug, Clone)]
pub struct Built {
    /// The manifest's exact bytes: their digest is the package's.
    pub manifest: Vec<u8>,
    /// Config and layer.
    pub blobs: Vec<(Descriptor, Vec<u8>)>,
}

/// Which kind of WebAssembly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wasm {
    /// A core module: WASI preview 1.
    Module,
    /// A component: WASI 0.2 and later.
    Component,
}

impl Wasm {
    /// By the first eight bytes (WebAssembly core specification, §5.5.16; component model, "Binary Format").
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes.get(..8)? {
            b"\0asm\x01\0\0\0" => Some(Self::Module),
            b"\0asm\x0d\0\x01\0" => Some(Self::Component),
            _ => None,
        }
    }

    fn os(self) -> &'static str {
        match self {
            Self::Module => "wasip1",
            Self::Component => "wasip2",
        }
    }
}

impl Build {
    /// The package of a workload.
    ///
    /// # Errors
    /// [`ArtefactError`], for what is no WebAssembly, or too large.
    pub fn of(&self, wasm: &[u8]) -> Result<Built, ArtefactError> {
        let kind = Wasm::of(wasm).ok_or(ArtefactError::NotWasm)?;
        self.layer(kind, Descriptor::of(LAYER_TYPE, wasm), wasm.to_vec())
    }

    /// The package of a workload that is encrypted as ocicrypt does it: `packet` is what key provider `provider` made of
    /// the layer's key, `hmac` is over `ciphertext`.
    ///
    /// # Errors
    /// [`ArtefactError`].
    pub fn of_encrypted(
        &self,
        kind: Wasm,
        ciphertext: Vec<u8>,
        hmac: [u8; 32],
        (provider, packet): (&str, &[u8]),
    ) -> Result<Built, ArtefactError> {
        let mut layer = Descriptor::of(&format!("{LAYER_TYPE}{ENCRYPTED}"), &ciphertext);
        let public = json!({ "cipher": CIPHER, "hmac": STANDARD.encode(hmac), "cipheroptions": {} });
        layer.annotations.insert(PUBLIC_OPTIONS.into(), STANDARD.encode(public.to_string()));
        layer.annotations.insert(format!("{PROVIDER}{provider}"), STANDARD.encode(packet));
        self.layer(kind, layer, ciphertext)
    }

    fn layer(&self, kind: Wasm, layer: Descriptor, bytes: Vec<u8>) -> Result<Built, ArtefactError> {
        if !(8..=MAX_WORKLOAD).contains(&layer.size) {
            return Err(ArtefactError::Size { seen: layer.size });
        }
        if let Some(seen) = self.config.as_ref().map(String::len).filter(|seen| *seen > MAX_CONFIG) {
            return Err(ArtefactError::Config { seen });
        }
        let config = json!({
            "architecture": "wasm",
            "os": kind.os(),
            "layerDigests": [layer.digest.to_string()],
        });
        let config = config.to_string().into_bytes();
        let descriptor = Descriptor::of(CONFIG_TYPE, &config);
        let mut manifest = ImageManifest::new(descriptor.clone(), vec![layer.clone()]);
        let said = &mut manifest.annotations;
        said.insert(annotation::NAME.into(), self.name.to_string());
        said.insert(annotation::VERSION.into(), self.version.to_string());
        if let Some(text) = &self.config {
            said.insert(annotation::KEEP_TOML.into(), text.clone());
        }
        Ok(Built { manifest: manifest.to_json(), blobs: vec![(descriptor, config), (layer, bytes)] })
    }
}

impl Built {
    /// The package's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}
