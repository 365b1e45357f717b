//! Where chains must end: the roots of Intel, AMD and AWS, compiled in, and those of emulated platforms that the
//! policy names. Which of them it was is the only thing that decides whether a verdict says `emulated`.

use std::borrow::Cow;
use std::sync::LazyLock;

use evidence::{CertificateDer, Platform};

use crate::verdict::Origin;
use crate::x509::{ParsedCertificate, PublicKey};
use crate::{Policy, UnixTime};

/// A root key that is trusted, with the name of its holder. Chains are matched to it by name and verified
/// with its key: the root certificate that comes with Evidence is never used for anything.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    pub(crate) origin: Origin,
    pub(crate) name: String,
    pub(crate) subject: Vec<u8>,
    pub(crate) key: PublicKey<'static>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
}

impl Anchor {
    fn new(der: &CertificateDer, origin: Origin) -> Option<Self> {
        let certificate = ParsedCertificate::parse(der).ok()?;
        certificate.require_root().ok()?;
        Some(Self {
            origin,
            name: certificate.subject_name(),
            subject: certificate.subject().to_vec(),
            key: certificate.key().clone().into_owned(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        })
    }

    /// The policy's name for it when it is emulated, and the certificate's otherwise.
    pub(crate) fn label(&self) -> String {
        match &self.origin {
            Origin::Vendor => self.name.clone(),
            Origin::Enrolled(name) => format!("{} (named {name:?} in the policy)", self.name),
            Origin::Emulated(name) => format!("{} (emulated, named {name:?} in the policy)", self.name),
        }
    }
}

struct VendorRoots {
    intel: Vec<Anchor>,
    amd: Vec<Anchor>,
    aws: Vec<Anchor>,
    nvidia_devices: Vec<Anchor>,
    nvidia_rims: Vec<Anchor>,
    none: Vec<Anchor>,
}

/// The provenance of these files is in `roots/README.md`. One that could not be read would be missing here,
/// and nothing would chain to it; a test sees to it that none is.
static VENDOR_ROOTS: LazyLock<VendorRoots> = LazyLock::new(|| {
    let read = |der: &[u8]| Anchor::new(&CertificateDer(der.to_vec()), Origin::Vendor);
    VendorRoots {
        none: Vec::new(),
        nvidia_devices: read(include_bytes!("../roots/nvidia-device-identity-ca.der")).into_iter().collect(),
        nvidia_rims: read(include_bytes!("../roots/nvidia-corim-signing-root-ca.der")).into_iter().collect(),
        intel: read(include_bytes!("../roots/intel-sgx-root-ca.der")).into_iter().collect(),
        amd: [
            include_bytes!("../roots/ark-milan.der").as_slice(),
            include_bytes!("../roots/ark-genoa.der"),
            include_bytes!("../roots/ark-turin.der"),
        ]
        .into_iter()
        .filter_map(read)
        .collect(),
        aws: read(include_bytes!("../roots/aws-nitro-enclaves-root-g1.der")).into_iter().collect(),
    }
});

/// The roots that Evidence of `platform` may chain to. Vendors come first.
pub(crate) fn anchors(platform: Platform, policy: &Policy) -> Cow<'static, [Anchor]> {
    let vendor = match platform {
        Platform::Sgx | Platform::Tdx | Platform::AzureTdx => &VENDOR_ROOTS.intel,
        Platform::Snp | Platform::AzureSnp => &VENDOR_ROOTS.amd,
        Platform::Nitro => &VENDOR_ROOTS.aws,
        Platform::Tpm | Platform::Cca => &VENDOR_ROOTS.none,
        Platform::Nvidia => &VENDOR_ROOTS.nvidia_devices,
    };
    with_emulated(vendor, policy)
}

/// The roots that NVIDIA's reference integrity manifests may chain to. NVIDIA signs them under a root of their own.
pub(crate) fn rim_anchors(policy: &Policy) -> Cow<'static, [Anchor]> {
    with_emulated(&VENDOR_ROOTS.nvidia_rims, policy)
}

fn with_emulated(vendor: &'static [Anchor], policy: &Policy) -> Cow<'static, [Anchor]> {
    if policy.emulated_roots.is_empty() {
        return Cow::Borrowed(vendor);
    }
    let emulated = policy
        .emulated_roots
        .iter()
        .filter_map(|root| Anchor::new(root.certificate(), Origin::Emulated(root.name().to_owned())));
    vendor.iter().cloned().chain(emulated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vendor_root_can_be_read() {
        let names: Vec<_> =
            VENDOR_ROOTS.intel.iter().chain(&VENDOR_ROOTS.amd).map(|anchor| anchor.name.as_str()).collect();
        assert_eq!(names, ["Intel SGX Root CA", "ARK-Milan", "ARK-Genoa", "ARK-Turin"]);
        assert_eq!(VENDOR_ROOTS.aws[0].name, "aws.nitro-enclaves");
        let nvidia = VENDOR_ROOTS.nvidia_devices.iter().chain(&VENDOR_ROOTS.nvidia_rims);
        let names: Vec<_> = nvidia.map(|anchor| anchor.name.as_str()).collect();
        assert_eq!(names, ["NVIDIA Device Identity CA", "NVIDIA CoRIM signing Root CA"]);
    }

    #[test]
    fn production_trusts_vendors_only() {
        for platform in Platform::ALL {
            let anchors = anchors(platform, &Policy::production());
            assert!(anchors.iter().all(|anchor| anchor.origin == Origin::Vendor));
        }
    }
}
