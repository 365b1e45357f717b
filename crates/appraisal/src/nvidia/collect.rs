//! What of a heap of files fits the reports of devices. Choosing badly can only make an appraisal refuse.

use evidence::CertificateDer;
use evidence::nvidia::{Attestation, MAX_DEVICE_CHAIN, OpaqueData, Rim};

use super::device::firmware_of;
use crate::UnixTime;
use crate::x509::ParsedCertificate;

/// The most manifests that Endorsements carry.
const MAX_RIMS: usize = 8;

/// For each version that the devices have, the manifest whose signer was certified last. If none is for them, all that
/// there are, as long as they are few, so that the verdict can say so.
pub(crate) fn fit_rims(attestation: &Attestation, files: &[Vec<u8>], now: UnixTime) -> Vec<Vec<u8>> {
    let mut best: Vec<Candidate<'_>> = Vec::new();
    let read = files.iter().filter_map(|bytes| Some((bytes, Rim::parse(bytes).ok()?)));
    for (bytes, rim) in read.filter(|(_, rim)| is_for(rim, attestation)) {
        let candidate = Candidate::new(bytes, rim, now);
        match best.iter_mut().find(|other| other.is_same(&candidate)) {
            Some(other) if candidate.rank > other.rank => *other = candidate,
            Some(_) => {}
            None => best.push(candidate),
        }
    }
    match best.as_slice() {
        [] if files.len() <= MAX_RIMS => files.to_vec(),
        _ => best.into_iter().take(MAX_RIMS).map(|candidate| candidate.bytes.clone()).collect(),
    }
}

struct Candidate<'a> {
    bytes: &'a Vec<u8>,
    rim: Rim,
    /// Whether the signer's certificate is valid already, and since when.
    rank: (bool, UnixTime),
}

impl<'a> Candidate<'a> {
    fn new(bytes: &'a Vec<u8>, rim: Rim, now: UnixTime) -> Self {
        let signer = rim.certificates().first().and_then(|der| ParsedCertificate::parse(der).ok());
        let begins = signer.map_or(UnixTime(i64::MIN), |signer| signer.not_before());
        Self { bytes, rank: (begins <= now, begins), rim }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.rim.product() == other.rim.product() && self.rim.version() == other.rim.version()
    }
}

fn is_for(rim: &Rim, attestation: &Attestation) -> bool {
    let fits = |opaque: &OpaqueData| {
        // A switch has no driver, and a device of Hopper does not name its chip.
        let same_kind = (rim.edition() == "SWITCH") == opaque.driver().is_none();
        let same_chip = opaque.chip().is_none_or(|chip| rim.product().eq_ignore_ascii_case(chip));
        let mut versions = opaque.driver().into_iter().chain(opaque.vbios());
        same_kind && same_chip && versions.any(|version| rim.version().eq_ignore_ascii_case(version))
    };
    attestation.devices().iter().any(|device| fits(device.report().opaque()))
}

/// The chain of a report that comes without: the certificates of the keys that may have signed it, by the firmware that
/// it names, and of their issuers. If none is such, those of all devices, or all that there are as long as they are
/// few, so that the verdict can say what is wrong with them.
pub(crate) fn fit_chain(attestation: &Attestation, files: &[CertificateDer]) -> Vec<CertificateDer> {
    let Some(device) = attestation.devices().iter().find(|device| device.chain().is_empty()) else {
        return Vec::new();
    };
    let parsed: Vec<_> = files.iter().filter_map(|der| ParsedCertificate::parse(der).ok()).collect();
    let wanted = device.report().opaque().fwid();
    let made_for = |firmware: &[&[u8]]| wanted.is_none_or(|wanted| firmware.contains(&wanted.as_slice()));
    let mut chain = chains(&parsed, made_for);
    if chain.is_empty() {
        chain = chains(&parsed, |_| true);
    }
    if chain.is_empty() && parsed.len() <= 8 {
        chain.extend(&parsed);
    }
    chain.into_iter().map(|certificate| CertificateDer(certificate.der.to_vec())).collect()
}

/// The certificates of devices whose firmware is wanted, and of their issuers.
fn chains<'p, 'c>(
    parsed: &'p [ParsedCertificate<'c>],
    wanted: impl Fn(&[&[u8]]) -> bool,
) -> Vec<&'p ParsedCertificate<'c>> {
    let mut chain: Vec<&ParsedCertificate<'_>> = Vec::new();
    let may_sign = |certificate: &&ParsedCertificate<'_>| {
        firmware_of(certificate).is_some_and(|firmware| wanted(&firmware))
    };
    for signer in parsed.iter().filter(may_sign) {
        let mut last = signer;
        // Issuers of issuers, until there are none, or they are there already.
        while !chain.iter().any(|other| other.der == last.der) && chain.len() < MAX_DEVICE_CHAIN {
            chain.push(last);
            match parsed.iter().find(|other| other.subject() == last.issuer()) {
                Some(issuer) => last = issuer,
                None => break,
            }
        }
    }
    chain
}
