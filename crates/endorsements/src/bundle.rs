//! Bundles: making, naming and opening. A bundle carries Endorsements to where there is no network, or beside the
//! Evidence. It is made by anyone; whoever cares who made it names the maker's key.

use std::fmt;

use appraisal::{CrlHead, DocumentHead, Expiry, Needs, UnixTime};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use evidence::bundle::{Bundle as File, Contents, Numbers};
use evidence::{CrlDer, Endorsements, Malformed};

use crate::random;

/// DER `SubjectPublicKeyInfo` of a P-256 key (RFC 5480), up to its point.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The key of whoever makes bundles: P-256.
pub struct BundleSigner {
    key: EcdsaKeyPair,
    public: BundleKey,
}

/// The public key of whoever made a bundle.
#[derive(Clone, PartialEq, Eq)]
pub struct BundleKey {
    spki: Vec<u8>,
}

/// Why a bundle cannot be made or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The key is no P-256 key, or not in its one encoding.
    #[error("the key is not a P-256 key: {0}")]
    Key(&'static str),
    /// The system gave no randomness for the signature.
    #[error("the bundle could not be signed")]
    Signing,
    /// The Endorsements hold nothing that ends, or a part that cannot be read.
    #[error("the Endorsements cannot be bundled: {0}")]
    Incomplete(String),
    /// The bytes are no bundle.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It was made by someone else.
    #[error("the bundle was made by the holder of key {seen}, expected {expected}")]
    OtherSigner {
        /// SHA-256 of the key that was expected.
        expected: String,
        /// SHA-256 of the key that it names.
        seen: String,
    },
    /// It was altered, or not made by who it says.
    #[error("the bundle's signature does not verify: altered, or forged")]
    SignatureInvalid,
    /// What it says of its contents is not so.
    #[error("the bundle says {0} of its contents, and that is not so")]
    Inconsistent(&'static str),
}

impl BundleSigner {
    /// Takes a private key, PKCS #8.
    ///
    /// # Errors
    /// [`BundleError::Key`] when it is none of P-256.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, BundleError> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map_err(|_| BundleError::Key("not a private key of P-256 in PKCS #8"))?;
        let spki = key.public_key().as_der().map_err(|_| BundleError::Key("it has no public key"))?;
        let public = BundleKey::from_spki(spki.as_ref())?;
        Ok(Self { key, public })
    }

    /// A new key, and its encoding as PKCS #8 for its owner to keep.
    ///
    /// # Errors
    /// [`BundleError::Signing`] without randomness.
    pub fn generate() -> Result<(Self, Vec<u8>), BundleError> {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random::source())
            .map_err(|_| BundleError::Signing)?;
        Ok((Self::from_pkcs8(pkcs8.as_ref())?, pkcs8.as_ref().to_vec()))
    }

    /// The public key.
    pub fn public_key(&self) -> &BundleKey {
        &self.public
    }
}

impl BundleKey {
    /// Takes a public key, DER `SubjectPublicKeyInfo`.
    ///
    /// # Errors
    /// [`BundleError::Key`] when it is none of P-256, uncompressed.
    pub fn from_spki(spki: &[u8]) -> Result<Self, BundleError> {
        match spki.strip_prefix(&P256_PREFIX) {
            Some([4, point @ ..]) if point.len() == 64 => Ok(Self { spki: spki.to_vec() }),
            _ => Err(BundleError::Key("not the DER of an uncompressed public key of P-256")),
        }
    }

    /// The key, DER `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of it: what bundles name.
    pub fn id(&self) -> [u8; 32] {
        sha256(&self.spki)
    }

    fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let (_, point) = self.spki.split_at(P256_PREFIX.len());
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for BundleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BundleKey({})", hex::encode(self.id()))
    }
}

/// A bundle that says the truth about its contents, and whose maker was checked if one was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    file: File,
    bytes: Vec<u8>,
}

impl Bundle {
    /// Bundles what was fetched for a platform.
    ///
    /// # Errors
    /// [`BundleError::Incomplete`] for Endorsements of which a part cannot be read.
    pub fn make(
        endorsements: Endorsements,
        needs: &Needs,
        made_at: UnixTime,
        signer: &BundleSigner,
    ) -> Result<Self, BundleError> {
        let (not_before, not_after) = window(&endorsements)?;
        let contents = Contents {
            subject: needs.to_string(),
            made_at: made_at.0,
            not_before: not_before.0,
            not_after: not_after.0,
            numbers: numbers(&endorsements),
            endorsements,
        };
        let id = signer.public.id();
        let signed = signer.key.sign(&random::source(), &contents.to_be_signed(&id));
        let signed = signed.map_err(|_| BundleError::Signing)?;
        let signature = signed.as_ref().try_into().map_err(|_| BundleError::Signing)?;
        let bytes = File { contents, signer: id, signature }.to_bytes();
        // What nobody could open is not made.
        Self::open(&bytes, Some(&signer.public))
    }

    /// Opens a bundle. With `maker`, only one that the holder of that key made; without, one of anybody: what is in it
    /// is believed no more than the vendors' signatures say.
    ///
    /// # Errors
    /// [`BundleError`] says why not.
    pub fn open(bytes: &[u8], maker: Option<&BundleKey>) -> Result<Self, BundleError> {
        let file = File::from_bytes(bytes)?;
        if let Some(key) = maker {
            if file.signer != key.id() {
                let (expected, seen) = (hex::encode(key.id()), hex::encode(file.signer));
                return Err(BundleError::OtherSigner { expected, seen });
            }
            if !key.verifies(&file.contents.to_be_signed(&file.signer), &file.signature) {
                return Err(BundleError::SignatureInvalid);
            }
        }
        let contents = &file.contents;
        let (not_before, not_after) = window(&contents.endorsements)?;
        if (not_before.0, not_after.0) != (contents.not_before, contents.not_after) {
            return Err(BundleError::Inconsistent("another time"));
        }
        if numbers(&contents.endorsements) != contents.numbers {
            return Err(BundleError::Inconsistent("other numbers"));
        }
        Ok(Self { file, bytes: bytes.to_vec() })
    }

    /// What the vendor signed.
    pub fn endorsements(&self) -> &Endorsements {
        &self.file.contents.endorsements
    }

    /// The platform.
    pub fn subject(&self) -> &str {
        &self.file.contents.subject
    }

    /// When it was made, as its maker says.
    pub fn made_at(&self) -> UnixTime {
        UnixTime(self.file.contents.made_at)
    }

    /// From when to when all parts hold.
    pub fn window(&self) -> (UnixTime, UnixTime) {
        (UnixTime(self.file.contents.not_before), UnixTime(self.file.contents.not_after))
    }

    /// How new the parts are.
    pub fn numbers(&self) -> Numbers {
        self.file.contents.numbers
    }

    /// SHA-256 of the key that its maker names; verified only if one was expected.
    pub fn signer(&self) -> [u8; 32] {
        self.file.signer
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its address: SHA-256 of its bytes.
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.bytes)
    }

    /// The name under which it is kept: the platform, shortened, and the beginning of the digest.
    pub fn file_name(&self) -> String {
        let subject = self.subject();
        let platform = subject.get(..40).unwrap_or(subject).trim_end_matches('-');
        let digest = hex::encode(self.digest());
        format!("{platform}-{}.bundle", &digest[..12])
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    output.copy_from_slice(digest(&SHA256, bytes).as_ref());
    output
}

fn window(endorsements: &Endorsements) -> Result<(UnixTime, UnixTime), BundleError> {
    let expiry = Expiry::of(endorsements);
    if let Some(part) = expiry.unreadable.first() {
        return Err(BundleError::Incomplete(format!("the {part} cannot be read")));
    }
    expiry.whole().ok_or_else(|| BundleError::Incomplete("there are none".into()))
}

fn numbers(endorsements: &Endorsements) -> Numbers {
    let crl = |der: &CrlDer| CrlHead::of(der).ok().and_then(|head| head.number);
    let intel = endorsements.intel.as_ref();
    let evaluation = intel.and_then(|intel| {
        let info = DocumentHead::of_tcb_info(&intel.tcb_info.body).ok()?;
        let identity = DocumentHead::of_qe_identity(&intel.qe_identity.body).ok()?;
        Some(u64::from(info.evaluation.min(identity.evaluation)))
    });
    Numbers {
        evaluation,
        root_ca_crl: intel.and_then(|intel| crl(&intel.root_ca_crl)),
        pck_crl: intel.and_then(|intel| crl(&intel.pck_crl)),
        amd_crl: endorsements.amd.as_ref().and_then(|amd| amd.crl.as_ref()).and_then(crl),
    }
}
