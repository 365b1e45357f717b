//! Where chains must end: the roots of Intel and AMD, compiled in, and those of emulated platforms that the
//! policy names. Which of them it was is the only thing that decides whether a verdict says `emulated`.

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
    none: Vec<Anchor>,
}

/// The provenance of these files is in `roots/README.md`. One that could not be read would be missing here,
/// and nothing would chain to it; a test sees to it that none is.
static VENDOR_ROOTS: LazyLock<VendorRoots> = LazyLock::new(|| {
    let read = |der: &[u8]| Anchor::new(&CertificateDer(der.to_vec()), Origin::Vendor);
    VendorRoots {
        none: Vec::new(),
        intel: read(include_bytes!("../roots/intel-sgx-root-ca.der")).into_iter().collect(),
        amd: [
            include_bytes!("../roots/ark-milan.der").as_slice(),
            include_bytes!("../roots/ark-genoa.der"),
            include_bytes!("../roots/ark-turin.der"),
        ]
        .into_iter()
        .filter_map(read)
        .collect(),
    }
});

/// The roots that Evidence of `platform` may chain to. Vendors come first.
pub(crate) fn anchors(platform: Platform, policy: &Policy) -> Vec<Anchor> {
    let vendor = match platform {
        Platform::Sgx | Platform::Tdx | Platform::AzureTdx => &VENDOR_ROOTS.intel,
        Platform::Snp | Platform::AzureSnp => &VENDOR_ROOTS.amd,
        Platform::Tpm | Platform::Nitro | Platform::Cca | Platform::Nvidia => &VENDOR_ROOTS.none,
    };
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
    }

    #[test]
    fn production_trusts_vendors_only() {
        for platform in Platform::ALL {
            let anchors = anchors(platform, &Policy::production());
            assert!(anchors.iter().all(|anchor| anchor.origin == Origin::Vendor));
        }
    }
}
