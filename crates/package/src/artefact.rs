//! A package as its manifest describes it: which workload, of which name and version, encrypted or not.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{
    Descriptor, ImageError, ImageManifest, ReferenceError, Repository, Version, VersionError, annotation,
};

/// The largest workload that is packed or fetched, in bytes.
pub const MAX_WORKLOAD: u64 = 64 << 20;
/// The longest `Keep.toml`, in bytes.
pub(crate) const MAX_CONFIG: usize = 64 * 1024;
/// More packets than this are not read.
const MOST_PACKETS: usize = 16;
/// Layers that are WebAssembly: the CNCF's, and those before it, of wasm-to-oci and of the Bytecode Alliance.
const LAYER_TYPES: [&str; 3] = [
    crate::build::LAYER_TYPE,
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];
/// What ocicrypt adds to the type of a layer that it encrypted.
pub(crate) const ENCRYPTED: &str = "+encrypted";
/// Where ocicrypt puts what a key provider made of a layer's key; the provider's name follows.
pub(crate) const PROVIDER: &str = "org.opencontainers.image.enc.keys.provider.";
/// What anybody may know of the encryption: base64 of JSON.
pub(crate) const PUBLIC_OPTIONS: &str = "org.opencontainers.image.enc.pubopts";
/// ocicrypt's only cipher.
pub(crate) const CIPHER: &str = "AES_256_CTR_HMAC_SHA256";

/// What a manifest says of a package. The digest of the manifest covers all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// Which package it says that it is.
    pub name: Option<Repository>,
    /// Which version of it.
    pub version: Option<Version>,
    /// The text of its `Keep.toml`; not parsed.
    pub config: Option<String>,
    /// The workload.
    pub layer: Layer,
}

/// The layer that is the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest and size as the registry has it.
    pub descriptor: Descriptor,
    /// Where it is encrypted.
    pub encryption: Option<Encryption>,
}

/// How a layer is encrypted (ocicrypt, `spec.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// What key providers made of the layer's key: any of them opens it. Not parsed.
    pub packets: Vec<Vec<u8>>,
    /// HMAC-SHA256 over the ciphertext.
    pub hmac: [u8; 32],
}

/// Why a manifest describes no workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArtefactError {
    /// It is no manifest.
    #[error("the package has no manifest that can be read")]
    Image(#[from] ImageError),
    /// None, or more than one.
    #[error("a package has one layer, the workload, and this has {seen}")]
    Layers {
        /// How many.
        seen: usize,
    },
    /// Something else than WebAssembly.
    #[error("its layer is {seen:?}, not application/wasm")]
    LayerType {
        /// Its media type.
        seen: String,
    },
    /// Over [`MAX_WORKLOAD`], or empty.
    #[error("its workload has {seen} bytes; 8 to {MAX_WORKLOAD} are loaded")]
    Size {
        /// In bytes.
        seen: u64,
    },
    /// Bytes that are not WebAssembly.
    #[error("this is neither a WebAssembly module nor a component")]
    NotWasm,
    /// Its name is none.
    #[error("its annotation {} is no name of a package", annotation::NAME)]
    Name(#[source] ReferenceError),
    /// Its version is none.
    #[error("its annotation {} is no version", annotation::VERSION)]
    Version(#[source] VersionError),
    /// Its `Keep.toml` is too long.
    #[error("its Keep.toml has {seen} bytes; {MAX_CONFIG} are read")]
    Config {
        /// In bytes.
        seen: usize,
    },
    /// What is said of the encryption cannot be used.
    #[error("its layer is encrypted, and {0}")]
    Encryption(&'static str),
}

impl Artefact {
    /// Reads a manifest's bytes.
    ///
    /// # Errors
    /// [`ArtefactError`].
    pub fn read(manifest: &[u8]) -> Result<Self, ArtefactError> {
        Self::of(ImageManifest::read(manifest)?)
    }

    fn of(manifest: ImageManifest) -> Result<Self, ArtefactError> {
        let said = |name: &str| manifest.annotations.get(name).map(String::as_str);
        let name = said(annotation::NAME).map(str::parse).transpose().map_err(ArtefactError::Name)?;
        let version =
            said(annotation::VERSION).map(str::parse).transpose().map_err(ArtefactError::Version)?;
        let config = said(annotation::KEEP_TOML).map(str::to_owned);
        if let Some(seen) = config.as_ref().map(String::len).filter(|seen| *seen > MAX_CONFIG) {
            return Err(ArtefactError::Config { seen });
        }
        let mut layers = manifest.layers;
        let (1, Some(layer)) = (layers.len(), layers.pop()) else {
            return Err(ArtefactError::Layers { seen: layers.len() });
        };
        Ok(Self { name, version, config, layer: Layer::of(layer)? })
    }
}

impl Layer {
    fn of(descriptor: Descriptor) -> Result<Self, ArtefactError> {
        let (kind, encrypted) = match descriptor.media_type.strip_suffix(ENCRYPTED) {
            Some(kind) => (kind, true),
            None => (descriptor.media_type.as_str(), false),
        };
        if !LAYER_TYPES.contains(&kind) {
            return Err(ArtefactError::LayerType { seen: descriptor.media_type });
        }
        if !(8..=MAX_WORKLOAD).contains(&descriptor.size) {
            return Err(ArtefactError::Size { seen: descriptor.size });
        }
        let encryption = encrypted.then(|| Encryption::of(&descriptor)).transpose()?;
        Ok(Self { descriptor, encryption })
    }
}

impl Encryption {
    fn of(descriptor: &Descriptor) -> Result<Self, ArtefactError> {
        #[derive(Deserialize)]
        struct Public {
            cipher: String,
            hmac: String,
        }
        let fault = ArtefactError::Encryption;
        let public = descriptor.annotations.get(PUBLIC_OPTIONS).ok_or(fault("its options are missing"))?;
        let public = STANDARD.decode(public).map_err(|_| fault("its options are not base64"))?;
        let public: Public =
            serde_json::from_slice(&public).map_err(|_| fault("its options are not those of ocicrypt"))?;
        if public.cipher != CIPHER {
            return Err(fault("not by AES-256-CTR with HMAC-SHA256"));
        }
        let hmac = STANDARD.decode(public.hmac).ok().and_then(|bytes| bytes.try_into().ok());
        let hmac = hmac.ok_or(fault("its options have no HMAC of 32 bytes"))?;
        let named = descriptor.annotations.iter().filter(|(name, _)| name.starts_with(PROVIDER));
        let packets: Vec<_> =
            named.flat_map(|(_, packets)| packets.split(',')).take(MOST_PACKETS + 1).collect();
        if packets.is_empty() || packets.len() > MOST_PACKETS {
            return Err(fault("no key provider, or too many, wrapped its key"));
        }
        let packets = packets.into_iter().map(|packet| STANDARD.decode(packet)).collect::<Result<_, _>>();
        Ok(Self { packets: packets.map_err(|_| fault("a wrapped key is not base64"))?, hmac })
    }
}
