//! SNP reports by their members, as the `sev` crate serialises them (versions 1 to 8 of it), and back to the exact
//! bytes that were signed.
//!
//! Bytes that AMD reserves have no member. They are zero in all real reports; where they were not, the bytes built
//! here are others than those signed, and an appraisal finds the signature wrong.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::{FORMAT, alone};
use crate::conveyed::{Conveyed, certificate_entries};
use crate::snp::{REPORT_LENGTH, Report, TcbVersion};
use crate::tpm::Blob;
use crate::{Evidence, Malformed};

/// A certificate table has the certificates of one chain, and some other entries.
const MAX_CERTIFICATES: usize = 16;

/// Whether JSON looks like a report by its members, or as an array: cheap, and no promise that it can be parsed.
pub(crate) fn recognises(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Outer<'a> {
        #[serde(borrow)]
        attestation_report: &'a RawValue,
    }
    bytes.first() == Some(&b'{')
        && serde_json::from_slice::<Outer<'_>>(bytes)
            .is_ok_and(|outer| outer.attestation_report.get().starts_with(['{', '[']))
}

pub(crate) fn read(json: &[u8]) -> Result<Conveyed, Malformed> {
    let wire: Wire<&RawValue> = super::wire(json)?;
    let report = wire.attestation_report.get().as_bytes();
    let bytes = match report.first() {
        Some(b'{') => super::wire::<Members>(report)?.bytes()?,
        _ => super::wire::<Blob>(report)?.base64("attestation_report")?,
    };
    let mut conveyed = alone(Evidence::Snp(Box::new(Report::parse(&bytes)?)));
    conveyed.stapled = wire.stapled()?;
    Ok(conveyed)
}

/// As the crate writes it today. `bytes` are those that the report came in: certificates may follow it.
pub(super) fn write(report: &Report, bytes: &[u8], endorsements: Option<Blob>) -> Result<String, Malformed> {
    let table = bytes.get(REPORT_LENGTH..).filter(|table| !table.is_empty()).and_then(certificate_entries);
    let chain = table.map(|table| {
        let entry = |(guid, data)| Certificate { cert_type: CertType::of(guid), data: Blob::Bytes(data) };
        table.into_iter().map(entry).collect()
    });
    let bytes = bytes.get(..REPORT_LENGTH).unwrap_or_default();
    let members = Members::of(report, bytes)?;
    if members.bytes()? != bytes {
        let expected = "zeros in what AMD reserves, for which the JSON has no member";
        return Err(Malformed::unsupported(FORMAT, "attestation_report", 0, expected, "others"));
    }
    super::json(&Wire { attestation_report: members, cert_chain: chain, endorsements })
}

#[derive(Serialize, Deserialize)]
struct Wire<R> {
    attestation_report: R,
    #[serde(default)]
    cert_chain: Option<Vec<Certificate>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endorsements: Option<Blob>,
}

#[derive(Serialize, Deserialize)]
struct Certificate {
    cert_type: CertType,
    data: Blob,
}

/// A name, or `{"OTHER": UUID}`, which nothing here needs.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum CertType {
    Named(String),
    Other(OtherCertificate),
}

impl CertType {
    /// By the GUIDs of the GHCB specification, table "Certificate table".
    fn of(guid: [u8; 16]) -> Self {
        const NAMES: [(&str, &str); 5] = [
            ("c0b406a4-a803-4952-9743-3fb6014cd0ae", "ARK"),
            ("4ab7b379-bbac-4fe4-a02f-05aef327c782", "ASK"),
            ("63da758d-e664-4564-adc5-f4b93be8accd", "VCEK"),
            ("a8074bc2-a25a-483e-aae6-39c045a0b8a1", "VLEK"),
            ("92f81bc3-5811-4d3d-97ff-d19f88dc67ea", "CRL"),
        ];
        let digits = hex::encode(guid);
        let at = |range| digits.get(range).unwrap_or_default();
        let guid = [at(0..8), at(8..12), at(12..16), at(16..20), at(20..32)].join("-");
        match NAMES.iter().find(|(known, _)| *known == guid) {
            Some((_, name)) => Self::Named((*name).to_owned()),
            None => Self::Other(OtherCertificate { guid }),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct OtherCertificate {
    #[serde(rename = "OTHER")]
    guid: String,
}

#[derive(Serialize, Deserialize)]
struct Members {
    version: u32,
    guest_svn: u32,
    policy: u64,
    family_id: Array<16>,
    image_id: Array<16>,
    vmpl: u32,
    sig_algo: u32,
    current_tcb: Tcb,
    plat_info: u64,
    #[serde(alias = "_author_key_en", alias = "author_key_en")]
    key_info: u32,
    report_data: Array<64>,
    measurement: Array<48>,
    host_data: Array<32>,
    id_key_digest: Array<48>,
    author_key_digest: Array<48>,
    report_id: Array<32>,
    report_id_ma: Array<32>,
    reported_tcb: Tcb,
    #[serde(default)]
    cpuid_fam_id: Option<u8>,
    #[serde(default)]
    cpuid_mod_id: Option<u8>,
    #[serde(default)]
    cpuid_step: Option<u8>,
    chip_id: Array<64>,
    committed_tcb: Tcb,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<FirmwareVersion>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    committed: Option<FirmwareVersion>,
    // Before version 5 of the crate, each number by itself.
    #[serde(default, skip_serializing)]
    current_build: Option<u8>,
    #[serde(default, skip_serializing)]
    current_minor: Option<u8>,
    #[serde(default, skip_serializing)]
    current_major: Option<u8>,
    #[serde(default, skip_serializing)]
    committed_build: Option<u8>,
    #[serde(default, skip_serializing)]
    committed_minor: Option<u8>,
    #[serde(default, skip_serializing)]
    committed_major: Option<u8>,
    launch_tcb: Tcb,
    #[serde(default)]
    launch_mit_vector: Option<u64>,
    #[serde(default)]
    current_mit_vector: Option<u64>,
    signature: Signature,
}

#[derive(Serialize, Deserialize)]
struct FirmwareVersion {
    major: u8,
    minor: u8,
    build: u8,
}

/// Only since Turin there is an `fmc`, and another order of the bytes with it.
#[derive(Serialize, Deserialize)]
struct Tcb {
    #[serde(default)]
    fmc: Option<u8>,
    bootloader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

impl Tcb {
    fn bytes(&self) -> [u8; 8] {
        let Self { fmc, bootloader, tee, snp, microcode } = *self;
        match fmc {
            None => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
            Some(fmc) => [fmc, bootloader, tee, snp, 0, 0, 0, microcode],
        }
    }

    fn of(TcbVersion(bytes): TcbVersion, is_turin: bool) -> Self {
        let [a, b, c, d, _, _, g, microcode] = bytes;
        match is_turin {
            false => Self { fmc: None, bootloader: a, tee: b, snp: g, microcode },
            true => Self { fmc: Some(a), bootloader: b, tee: c, snp: d, microcode },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Signature {
    r: Array<72>,
    s: Array<72>,
}

/// An array of exactly so many bytes.
struct Array<const N: usize>([u8; N]);

impl<const N: usize> Serialize for Array<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Array<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes<const N: usize>;
        impl<'de, const N: usize> Visitor<'de> for Bytes<N> {
            type Value = Array<N>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "an array of {N} bytes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Array<N>, A::Error> {
                let mut bytes = [0; N];
                for (at, byte) in bytes.iter_mut().enumerate() {
                    let given = access.next_element()?;
                    *byte = given.ok_or_else(|| serde::de::Error::invalid_length(at, &self))?;
                }
                // serde_json itself refuses an array that goes on.
                Ok(Array(bytes))
            }
        }
        deserializer.deserialize_seq(Bytes)
    }
}

impl<R> Wire<R> {
    fn stapled(self) -> Result<Vec<Vec<u8>>, Malformed> {
        let chain = self.cert_chain.unwrap_or_default();
        if chain.len() > MAX_CERTIFICATES {
            let seen = format!("{} entries", chain.len());
            return Err(Malformed::value(FORMAT, "cert_chain", 0, "at most 16 entries", seen));
        }
        let certificates = chain
            .into_iter()
            .filter(|certificate| matches!(&certificate.cert_type, CertType::Named(name) if name != "Empty"))
            .map(|certificate| certificate.data.base64("cert_chain"));
        let endorsements = self.endorsements.map(|endorsements| endorsements.base64("endorsements"));
        certificates.chain(endorsements).collect()
    }
}

impl Members {
    /// The report as the firmware gave it (AMD 56860, table "ATTESTATION_REPORT").
    fn bytes(&self) -> Result<Vec<u8>, Malformed> {
        let numbers = [self.current_build, self.current_minor, self.current_major];
        let current = firmware(self.current.as_ref(), numbers)?;
        let numbers = [self.committed_build, self.committed_minor, self.committed_major];
        let committed = firmware(self.committed.as_ref(), numbers)?;
        let mut bytes = Vec::with_capacity(REPORT_LENGTH);
        let mut put = |part: &[u8]| bytes.extend_from_slice(part);
        put(&self.version.to_le_bytes());
        put(&self.guest_svn.to_le_bytes());
        put(&self.policy.to_le_bytes());
        put(&self.family_id.0);
        put(&self.image_id.0);
        put(&self.vmpl.to_le_bytes());
        put(&self.sig_algo.to_le_bytes());
        put(&self.current_tcb.bytes());
        put(&self.plat_info.to_le_bytes());
        put(&self.key_info.to_le_bytes());
        put(&[0; 4]);
        put(&self.report_data.0);
        put(&self.measurement.0);
        put(&self.host_data.0);
        put(&self.id_key_digest.0);
        put(&self.author_key_digest.0);
        put(&self.report_id.0);
        put(&self.report_id_ma.0);
        put(&self.reported_tcb.bytes());
        let cpuid = [self.cpuid_fam_id, self.cpuid_mod_id, self.cpuid_step];
        put(&cpuid.map(Option::unwrap_or_default));
        put(&[0; 21]);
        put(&self.chip_id.0);
        put(&self.committed_tcb.bytes());
        put(&current);
        put(&[0]);
        put(&committed);
        put(&[0]);
        put(&self.launch_tcb.bytes());
        put(&self.launch_mit_vector.unwrap_or_default().to_le_bytes());
        put(&self.current_mit_vector.unwrap_or_default().to_le_bytes());
        put(&[0; 152]);
        put(&self.signature.r.0);
        put(&self.signature.s.0);
        put(&[0; 368]);
        Ok(bytes)
    }

    fn of(report: &Report, bytes: &[u8]) -> Result<Self, Malformed> {
        let body = report.body();
        // Family 1Ah: Turin and later (AMD 57230).
        let is_turin = body.cpuid.is_some_and(|cpuid| cpuid.family >= 0x1a);
        let version = |[build, minor, major]: [u8; 3]| FirmwareVersion { major, minor, build };
        let scalar = |at: usize| {
            let scalar = bytes.get(at..).and_then(|rest| rest.first_chunk::<72>());
            scalar
                .copied()
                .map(Array)
                .ok_or_else(|| Malformed::truncated(FORMAT, "signature", at, REPORT_LENGTH, bytes.len()))
        };
        Ok(Self {
            version: body.version,
            guest_svn: body.guest_svn,
            policy: body.policy,
            family_id: Array(body.family_id),
            image_id: Array(body.image_id),
            vmpl: body.vmpl,
            sig_algo: 1,
            current_tcb: Tcb::of(body.current_tcb, is_turin),
            plat_info: body.platform_info,
            key_info: body.flags,
            report_data: Array(body.report_data),
            measurement: Array(body.measurement),
            host_data: Array(body.host_data),
            id_key_digest: Array(body.id_key_digest),
            author_key_digest: Array(body.author_key_digest),
            report_id: Array(body.report_id),
            report_id_ma: Array(body.report_id_ma),
            reported_tcb: Tcb::of(body.reported_tcb, is_turin),
            cpuid_fam_id: body.cpuid.map(|cpuid| cpuid.family),
            cpuid_mod_id: body.cpuid.map(|cpuid| cpuid.model),
            cpuid_step: body.cpuid.map(|cpuid| cpuid.stepping),
            chip_id: Array(body.chip_id),
            committed_tcb: Tcb::of(body.committed_tcb, is_turin),
            current: Some(version(body.current_firmware)),
            committed: Some(version(body.committed_firmware)),
            current_build: None,
            current_minor: None,
            current_major: None,
            committed_build: None,
            committed_minor: None,
            committed_major: None,
            launch_tcb: Tcb::of(body.launch_tcb, is_turin),
            launch_mit_vector: body.launch_mitigations,
            current_mit_vector: body.current_mitigations,
            signature: Signature { r: scalar(0x2a0)?, s: scalar(0x2e8)? },
        })
    }
}

/// Build, minor, major, given in one of the ways.
fn firmware(version: Option<&FirmwareVersion>, numbers: [Option<u8>; 3]) -> Result<[u8; 3], Malformed> {
    match (version, numbers) {
        (Some(version), [None, None, None]) => Ok([version.build, version.minor, version.major]),
        (None, [Some(build), Some(minor), Some(major)]) => Ok([build, minor, major]),
        _ => {
            let expected = "current and committed, or their numbers";
            Err(Malformed::value(FORMAT, "current, committed", 0, expected, "neither, or both"))
        }
    }
}
