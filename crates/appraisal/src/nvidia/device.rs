//! One device: its certificate chain, the firmware that its certificate was made for, and its signature.

use evidence::nvidia::Device;
use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::{Oid, oid};

use super::path::Path;
use crate::der::{Elements, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE};
use crate::findings::Context;
use crate::verdict::Check;
use crate::x509::{ParsedCertificate, PublicKey};
use crate::{Code, SignatureAlgorithm};

/// `CompositeDeviceID` of RIoT, as Hopper and LS10 have it: version, key, digest of the firmware.
const COMPOSITE_DEVICE_ID: Oid<'static> = oid!(2.23.133.5.4.1);
/// `DiceTcbInfo` (TCG DICE Attestation Architecture, §6.1.1), as Blackwell has it.
const DICE_TCB_INFO: Oid<'static> = oid!(2.23.133.5.4.1.1);
/// Tags of `DiceTcbInfo`: digests of the firmware, and flags.
const FWIDS: u8 = 0xa6;
const FLAGS: u8 = 0x87;
/// notSecure, recovery and debug, as the first byte of the flags has them; the bit before, notConfigured, is set on
/// production Blackwells.
const INSECURE: u8 = 0b0111_0000;

/// A family of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NvidiaArchitecture {
    /// GH100.
    Hopper,
    /// GB100 and its siblings.
    Blackwell,
    /// The switch LS10, of the third generation of NVSwitch.
    Ls10,
}

impl NvidiaArchitecture {
    fn of(chip: &str) -> Option<Self> {
        match chip {
            _ if chip.starts_with("GH1") => Some(Self::Hopper),
            _ if chip.starts_with("GB1") || chip.starts_with("GB2") => Some(Self::Blackwell),
            "LS10" => Some(Self::Ls10),
            _ => None,
        }
    }

    /// The word for it, such as `hopper`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hopper => "hopper",
            Self::Blackwell => "blackwell",
            Self::Ls10 => "ls10",
        }
    }
}

/// What a device's certificates say of it, when its report is genuine.
pub(super) struct Genuine<'p, 'c> {
    pub(super) path: Path<'p, 'c>,
    /// Such as `GH100`.
    pub(super) chip: String,
    pub(super) architecture: Option<NvidiaArchitecture>,
    /// What the device's own certificate, which NVIDIA issued, calls it.
    pub(super) serial: String,
    /// The serial number of the certificate of the key that signed: another for each firmware.
    pub(super) ueid: String,
    /// The firmware is in a state in which its secrets may be had.
    pub(super) insecure: bool,
}

/// Verifies chain, validity, firmware and signature. The checks, and what they showed if all passed.
pub(super) fn appraise<'p, 'c>(
    device: &Device,
    pool: &'p [ParsedCertificate<'c>],
    context: &'p Context<'_>,
) -> (Vec<Check>, Option<Genuine<'p, 'c>>) {
    let Some((signer, signed)) = find_signer(device, pool, context) else {
        let (code, text) = match pool {
            [] => (Code::EndorsementsMissing, "the certificate chain of the device is missing"),
            _ => (Code::ChainIncomplete, "the certificate of the key that signed is missing: all are of CAs"),
        };
        let check = Check::failed("chain", code, text)
            .mend("give the chain that NVIDIA's driver hands out beside the report");
        return (vec![check], None);
    };
    let path = match Path::build(signer, pool, context.anchors, context.crypto) {
        Ok(path) => path,
        Err(fault) => return (vec![fault.into_check("chain")], None),
    };
    let mut checks = vec![Check::passed("chain", path.describe())];
    checks.push(match path.validity("validity", Code::CertificateExpired, context.now) {
        Ok(end) => Check::passed("validity", format!("all certificates valid until {end}")),
        Err(failed) => failed,
    });
    let tcb_info = TcbInfo::read(signer);
    checks.push(firmware(device, &tcb_info));
    checks.push(signature(device, signed));
    if checks.iter().any(Check::is_failed) {
        return (checks, None);
    }
    // The device makes the signer's certificate itself; NVIDIA issued the one above it.
    let own = path.certificates.get(1).unwrap_or(&signer);
    let name = own.subject_name();
    let chip = name.split(' ').next().unwrap_or_default().replace('_', "");
    let serial = own.subject_serial_number().unwrap_or_else(|| hex::encode(own.serial()));
    let genuine = Genuine {
        architecture: NvidiaArchitecture::of(&chip),
        chip,
        serial,
        ueid: hex::encode(signer.serial()),
        insecure: matches!(&tcb_info, Ok(info) if info.flags & INSECURE != 0),
        path,
    };
    (checks, Some(genuine))
}

/// The certificate of the key that signed, or else the first that could be it; and which of both it is. Chains that
/// come with the Endorsements may be those of several devices.
fn find_signer<'p, 'c>(
    device: &Device,
    pool: &'p [ParsedCertificate<'c>],
    context: &Context<'_>,
) -> Option<(&'p ParsedCertificate<'c>, bool)> {
    let report = device.report();
    let signed = |signer: &ParsedCertificate<'_>| match signer.key() {
        PublicKey::P384(key) => {
            let algorithm = SignatureAlgorithm::EcdsaP384Sha384Fixed;
            context.crypto.verify(algorithm, key, report.signed(), report.signature()).is_ok()
        }
        _ => false,
    };
    let mut entities = pool.iter().filter(|certificate| certificate.require_end_entity().is_ok());
    let first = entities.clone().next()?;
    Some(entities.find(|signer| signed(signer)).map_or((first, false), |signer| (signer, true)))
}

fn signature(device: &Device, signed: bool) -> Check {
    const NAME: &str = "signature";
    if !signed {
        let text =
            "the report was not signed by the device of this certificate: altered, or of another device";
        return Check::failed(NAME, Code::ReportSignatureInvalid, text);
    }
    match device.report().padding() {
        0 => Check::passed(NAME, "request and response are signed by the device"),
        count => {
            let text =
                format!("request and response are signed by the device; {count} zero bytes follow unsigned");
            Check::passed(NAME, text)
        }
    }
}

fn firmware(device: &Device, tcb_info: &Result<TcbInfo<'_>, &'static str>) -> Check {
    const NAME: &str = "firmware";
    let info = match tcb_info {
        Ok(info) => info,
        Err(fault) => return Check::failed(NAME, Code::CertificateMalformed, *fault),
    };
    let Some(seen) = device.report().opaque().fwid() else {
        return Check::skipped(NAME, "the report does not name its firmware");
    };
    if info.firmware.iter().any(|digest| digest == seen) {
        let text = format!("the certificate was made for the firmware that reports, {}", hex::encode(seen));
        return Check::passed(NAME, text);
    }
    let expected: Vec<_> = info.firmware.iter().map(hex::encode).collect();
    Check::failed(
        NAME,
        Code::FwidMismatch,
        "the certificate was made for other firmware than the report names",
    )
    .expected(if expected.is_empty() { "no firmware".into() } else { expected.join(", or ") })
    .observed(hex::encode(seen))
}

/// The digests of the firmware that a device's certificate was made for; none when it is not that of a device.
pub(super) fn firmware_of<'a>(certificate: &ParsedCertificate<'a>) -> Option<Vec<&'a [u8]>> {
    let firmware = TcbInfo::read(certificate).ok()?.firmware;
    (!firmware.is_empty()).then_some(firmware)
}

/// What a certificate says of the firmware whose key it is for.
#[derive(Default)]
struct TcbInfo<'a> {
    firmware: Vec<&'a [u8]>,
    flags: u8,
}

impl<'a> TcbInfo<'a> {
    fn read(certificate: &ParsedCertificate<'a>) -> Result<Self, &'static str> {
        match (certificate.extension(&DICE_TCB_INFO), certificate.extension(&COMPOSITE_DEVICE_ID)) {
            (Some(info), None) => {
                Self::read_dice(info).ok_or("DiceTcbInfo (2.23.133.5.4.1.1) cannot be read")
            }
            (None, Some(id)) => {
                Self::read_composite(id).ok_or("CompositeDeviceID (2.23.133.5.4.1) cannot be read")
            }
            (None, None) => Ok(Self::default()),
            (Some(_), Some(_)) => Err("two descriptions of the firmware"),
        }
    }

    fn read_composite(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Elements::new(bytes);
        let mut id = outer.sequence()?;
        id.take(INTEGER)?;
        id.take(SEQUENCE)?;
        let digest = read_digest(id.take(SEQUENCE)?)?;
        (outer.is_empty() && id.is_empty()).then(|| Self { firmware: vec![digest], flags: 0 })
    }

    fn read_dice(bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Elements::new(bytes);
        let mut fields = outer.sequence()?;
        let mut info = Self::default();
        while !fields.is_empty() {
            match fields.any()? {
                (FWIDS, list) => {
                    let mut list = Elements::new(list);
                    while !list.is_empty() {
                        info.firmware.push(read_digest(list.take(SEQUENCE)?)?);
                    }
                }
                (FLAGS, [_, first, ..]) => info.flags = *first,
                (FLAGS, _) => return None,
                _ => {}
            }
        }
        // A device has a digest for each layer, and zeros where a layer is not used.
        info.firmware.retain(|digest| digest.iter().any(|&byte| byte != 0));
        outer.is_empty().then_some(info)
    }
}

/// The digest in an FWID; its algorithm is told by its length.
fn read_digest(contents: &[u8]) -> Option<&[u8]> {
    let mut fwid = Elements::new(contents);
    fwid.take(OBJECT_IDENTIFIER)?;
    let digest = fwid.take(OCTET_STRING)?;
    (fwid.is_empty() && digest.len() == 48).then_some(digest)
}
