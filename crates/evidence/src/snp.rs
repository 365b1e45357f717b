//! AMD SEV-SNP: attestation reports of version 2 to 5 (AMD 56860, SEV Secure Nested Paging Firmware ABI,
//! table "ATTESTATION_REPORT"), and what differs between processor families: the layout of the TCB version.

use std::collections::BTreeMap;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Malformed;
use crate::reader::Reader;

const FORMAT: &str = "SNP report";
const SIGNATURE_P384_SHA384: u32 = 1;
/// Length of a report.
pub const REPORT_LENGTH: usize = 1184;
const SIGNED_LENGTH: usize = 0x2a0;
pub(crate) const OLDEST_VERSION: u32 = 2;
pub(crate) const NEWEST_VERSION: u32 = 5;

/// Guest policy: the guest may run with hyperthreading on (AMD 56860, SEV-SNP firmware ABI 1.58, table "Guest
/// policy"). Bits 0 to 7 are the lowest minor, 8 to 15 the lowest major version of the ABI; bit 17 is one.
pub const POLICY_SMT: u64 = 1 << 16;
/// Guest policy: a migration agent may be associated with the guest.
pub const POLICY_MIGRATE_MA: u64 = 1 << 18;
/// Guest policy: the host may debug the guest.
pub const POLICY_DEBUG: u64 = 1 << 19;

/// Guest policy: the guest may run on one socket only.
pub const POLICY_SINGLE_SOCKET: u64 = 1 << 20;
/// Guest policy: CXL memory and devices may be used.
pub const POLICY_CXL_ALLOW: u64 = 1 << 21;
/// Guest policy: memory must be encrypted with AES-256-XTS.
pub const POLICY_MEM_AES_256_XTS: u64 = 1 << 22;
/// Guest policy: the running average power limit must be off.
pub const POLICY_RAPL_DIS: u64 = 1 << 23;
/// Guest policy: the host must not see ciphertext.
pub const POLICY_CIPHERTEXT_HIDING: u64 = 1 << 24;
/// Guest policy: the host must not swap, move or copy the guest's pages.
pub const POLICY_PAGE_SWAP_DISABLE: u64 = 1 << 25;

/// Platform information: hyperthreading is on.
pub const PLATFORM_SMT: u64 = 1;
/// Platform information: transparent memory encryption is on.
pub const PLATFORM_TSME: u64 = 1 << 1;
/// Platform information: memory has error-correcting codes.
pub const PLATFORM_ECC: u64 = 1 << 2;
/// Platform information: the running average power limit is off.
pub const PLATFORM_RAPL_DIS: u64 = 1 << 3;
/// Platform information: the host does not see ciphertext.
pub const PLATFORM_CIPHERTEXT_HIDING: u64 = 1 << 4;
/// Platform information: since the last reset, the firmware checked memory for aliasing (BadRAM).
pub const PLATFORM_ALIAS_CHECK_COMPLETE: u64 = 1 << 5;
/// Platform information: trusted I/O (SEV-TIO) is on.
pub const PLATFORM_TIO: u64 = 1 << 7;
/// The platform bits that have a name here. Turin sets bit 6 as well: unknown bits are shown, never refused.
pub const PLATFORM_KNOWN: u64 = 0xbf;

/// [`ReportBody::vmpl`] of a report that the host asked for instead of the guest: it covers nothing of the
/// guest's.
pub const VMPL_HOST: u32 = 0xffff_ffff;

/// An SNP attestation report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    body: ReportBody,
    signed: [u8; SIGNED_LENGTH],
    signature: [u8; 96],
}

impl Report {
    /// Parses a report of exactly [`REPORT_LENGTH`] bytes.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as the format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() != REPORT_LENGTH {
            let (kind, seen) = (FORMAT, format!("{} bytes", bytes.len()));
            return Err(if bytes.len() < REPORT_LENGTH {
                Malformed::truncated(kind, "report", 0, REPORT_LENGTH, bytes.len())
            } else {
                Malformed::value(kind, "length", 0, format!("{REPORT_LENGTH} bytes"), seen)
            });
        }
        let mut reader = Reader::new(FORMAT, bytes);
        let body = ReportBody::read(&mut reader)?;
        let mut signed = [0; SIGNED_LENGTH];
        signed.copy_from_slice(&bytes[..SIGNED_LENGTH]);
        let r = read_scalar("signature R", &mut reader)?;
        let s = read_scalar("signature S", &mut reader)?;
        reader.zeros("reserved after the signature", REPORT_LENGTH - SIGNED_LENGTH - 144)?;
        let mut signature = [0; 96];
        signature[..48].copy_from_slice(&r);
        signature[48..].copy_from_slice(&s);
        Ok(Self { body, signed, signature })
    }

    /// What the firmware reported.
    pub fn body(&self) -> &ReportBody {
        &self.body
    }

    /// The bytes that the VCEK or VLEK signed.
    pub fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// The signature: r and s, 48 bytes each, turned to big-endian.
    pub fn signature(&self) -> &[u8; 96] {
        &self.signature
    }
}

/// R and S are little-endian in 72 bytes; a P-384 scalar has 48, and the rest must be zero, otherwise one
/// signature would have many encodings.
fn read_scalar(field: &'static str, reader: &mut Reader<'_>) -> Result<[u8; 48], Malformed> {
    let mut scalar = reader.array::<48>(field)?;
    reader.zeros(field, 24)?;
    scalar.reverse();
    Ok(scalar)
}

/// Which key signed a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKey {
    /// The versioned chip endorsement key: one per chip and TCB.
    Vcek,
    /// The versioned loaded endorsement key: one per cloud provider and TCB.
    Vlek,
    /// None: the report is not signed.
    None,
    /// A value that AMD reserves.
    Reserved(u8),
}

impl SigningKey {
    fn from_flags(flags: u32) -> Self {
        match (flags >> 2) & 7 {
            0 => Self::Vcek,
            1 => Self::Vlek,
            7 => Self::None,
            other => Self::Reserved(other as u8),
        }
    }
}

/// What the firmware reports of a guest and its platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportBody {
    /// Version of the report: 2 to 5.
    pub version: u32,
    /// Security version of the guest, from its ID block.
    pub guest_svn: u32,
    /// Guest policy, see the `POLICY_` constants; bits 0 to 15 are the minimum ABI version.
    pub policy: u64,
    /// Family id of the guest, from its ID block.
    pub family_id: [u8; 16],
    /// Image id of the guest, from its ID block.
    pub image_id: [u8; 16],
    /// The privilege level that asked for the report.
    pub vmpl: u32,
    /// The TCB that runs now.
    pub current_tcb: TcbVersion,
    /// See the `PLATFORM_` constants.
    pub platform_info: u64,
    /// Author key enabled, chip key masked, signing key.
    pub flags: u32,
    /// 64 bytes that the guest chose.
    pub report_data: [u8; 64],
    /// Measurement of the guest at launch.
    pub measurement: [u8; 48],
    /// What the host configured at launch.
    pub host_data: [u8; 32],
    /// SHA-384 of the key that signed the ID block.
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the key that certified that key.
    pub author_key_digest: [u8; 48],
    /// The guest's identity.
    pub report_id: [u8; 32],
    /// The identity of the guest's migration agent; all ones when there is none.
    pub report_id_ma: [u8; 32],
    /// The TCB for which the signing key was derived.
    pub reported_tcb: TcbVersion,
    /// The processor, in reports of version 3 and later.
    pub cpuid: Option<Cpuid>,
    /// The chip; zero when it is masked.
    pub chip_id: [u8; 64],
    /// The TCB to which the platform cannot roll back.
    pub committed_tcb: TcbVersion,
    /// Firmware that runs: build, minor, major.
    pub current_firmware: [u8; 3],
    /// Firmware that is committed: build, minor, major.
    pub committed_firmware: [u8; 3],
    /// The TCB at the guest's launch.
    pub launch_tcb: TcbVersion,
    /// Mitigations that the platform had at launch, in reports of version 5.
    pub launch_mitigations: Option<u64>,
    /// Mitigations that the platform has now, in reports of version 5.
    pub current_mitigations: Option<u64>,
}

impl ReportBody {
    /// Everything measured, by the name that verdicts and reference values use.
    pub fn measured(&self) -> BTreeMap<String, String> {
        [
            ("measurement", hex::encode(self.measurement)),
            ("host_data", hex::encode(self.host_data)),
            ("id_key_digest", hex::encode(self.id_key_digest)),
            ("author_key_digest", hex::encode(self.author_key_digest)),
            ("family_id", hex::encode(self.family_id)),
            ("image_id", hex::encode(self.image_id)),
            ("report_id", hex::encode(self.report_id)),
            ("guest_svn", self.guest_svn.to_string()),
            ("vmpl", self.vmpl.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let version = reader.u32("VERSION")?;
        if !(OLDEST_VERSION..=NEWEST_VERSION).contains(&version) {
            return Err(Malformed::unsupported(FORMAT, "VERSION", 0, "2 to 5", version.to_string()));
        }
        let guest_svn = reader.u32("GUEST_SVN")?;
        let policy = reader.u64("POLICY")?;
        let family_id = reader.array("FAMILY_ID")?;
        let image_id = reader.array("IMAGE_ID")?;
        let vmpl = reader.u32("VMPL")?;
        let algorithm_offset = reader.offset();
        let algorithm = reader.u32("SIGNATURE_ALGO")?;
        if algorithm != SIGNATURE_P384_SHA384 {
            return Err(Malformed::unsupported(
                FORMAT,
                "SIGNATURE_ALGO",
                algorithm_offset,
                "1 (ECDSA P-384 with SHA-384)",
                algorithm.to_string(),
            ));
        }
        let current_tcb = TcbVersion(reader.array("CURRENT_TCB")?);
        let platform_info = reader.u64("PLATFORM_INFO")?;
        let flags = reader.u32("flags")?;
        reader.take("reserved 1", 4)?;
        let report_data = reader.array("REPORT_DATA")?;
        let measurement = reader.array("MEASUREMENT")?;
        let host_data = reader.array("HOST_DATA")?;
        let id_key_digest = reader.array("ID_KEY_DIGEST")?;
        let author_key_digest = reader.array("AUTHOR_KEY_DIGEST")?;
        let report_id = reader.array("REPORT_ID")?;
        let report_id_ma = reader.array("REPORT_ID_MA")?;
        let reported_tcb = TcbVersion(reader.array("REPORTED_TCB")?);
        let cpuid = Cpuid {
            family: reader.u8("CPUID_FAM_ID")?,
            model: reader.u8("CPUID_MOD_ID")?,
            stepping: reader.u8("CPUID_STEP")?,
        };
        reader.take("reserved 2", 21)?;
        let chip_id = reader.array("CHIP_ID")?;
        let committed_tcb = TcbVersion(reader.array("COMMITTED_TCB")?);
        let current_firmware = reader.array("CURRENT firmware")?;
        reader.take("reserved 3", 1)?;
        let committed_firmware = reader.array("COMMITTED firmware")?;
        reader.take("reserved 4", 1)?;
        let launch_tcb = TcbVersion(reader.array("LAUNCH_TCB")?);
        let launch_mitigations = reader.u64("LAUNCH_MIT_VECTOR")?;
        let current_mitigations = reader.u64("CURRENT_MIT_VECTOR")?;
        let signature_at = SIGNED_LENGTH - reader.offset();
        reader.take("reserved 5", signature_at)?;
        Ok(Self {
            version,
            guest_svn,
            policy,
            family_id,
            image_id,
            vmpl,
            current_tcb,
            platform_info,
            flags,
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            reported_tcb,
            cpuid: (version >= 3).then_some(cpuid),
            chip_id,
            committed_tcb,
            current_firmware,
            committed_firmware,
            launch_tcb,
            launch_mitigations: (version >= 5).then_some(launch_mitigations),
            current_mitigations: (version >= 5).then_some(current_mitigations),
        })
    }

    /// Which key signed the report.
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_flags(self.flags)
    }

    /// Whether the platform hides its chip id.
    pub fn is_chip_masked(&self) -> bool {
        self.chip_id == [0; 64]
    }

    /// Whether the platform does not sign with its chip's key (MASK_CHIP_KEY); the signature is zero then.
    pub fn is_chip_key_masked(&self) -> bool {
        self.flags & 2 != 0
    }

    /// Whether an author key certified the key of the ID block (AUTHOR_KEY_EN).
    pub fn has_author_key(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Whether the guest was launched with an ID block: the digest of its key is there.
    pub fn has_id_block(&self) -> bool {
        self.id_key_digest != [0; 48]
    }

    /// Whether a migration agent is bound to the guest.
    pub fn has_migration_agent(&self) -> bool {
        self.report_id_ma != [0xff; 32]
    }

    /// The lowest version of the firmware's ABI that the guest's policy allows.
    pub fn minimum_abi(&self) -> AbiVersion {
        let [minor, major, ..] = self.policy.to_le_bytes();
        AbiVersion { major, minor }
    }

    /// Whether the host may debug the guest.
    pub fn is_debug(&self) -> bool {
        self.policy & POLICY_DEBUG != 0
    }

    /// The processor family, when the report tells it.
    pub fn family(&self) -> Option<ProductFamily> {
        self.cpuid.and_then(Cpuid::product_family)
    }
}

/// A version of the firmware's ABI; text form `1.55`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbiVersion {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl From<AbiVersion> for String {
    fn from(version: AbiVersion) -> Self {
        version.to_string()
    }
}

impl TryFrom<String> for AbiVersion {
    type Error = Malformed;

    fn try_from(text: String) -> Result<Self, Malformed> {
        text.parse()
    }
}

impl FromStr for AbiVersion {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let parts = text.split_once('.').map(|(major, minor)| (major.parse(), minor.parse()));
        match parts {
            Some((Ok(major), Ok(minor))) => Ok(Self { major, minor }),
            _ => Err(Malformed::value("ABI version", "text", 0, "such as 1.55", format!("{text:?}"))),
        }
    }
}

/// Family, model and stepping of a processor, as CPUID gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// Extended family plus family.
    pub family: u8,
    /// Extended model and model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

impl Cpuid {
    /// The product family (AMD 57230, VCEK certificate and KDS interface, §"Determining the product name").
    pub fn product_family(self) -> Option<ProductFamily> {
        match (self.family, self.model) {
            (0x19, 0x00..=0x0f) => Some(ProductFamily::Milan),
            (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Some(ProductFamily::Genoa),
            (0x1a, 0x00..=0x11) => Some(ProductFamily::Turin),
            _ => None,
        }
    }
}

/// A family of processors that share a root key and a TCB layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProductFamily {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004, 97x4 (Bergamo) and 8004 (Siena).
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl ProductFamily {
    /// AMD's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }
}

impl fmt::Display for ProductFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ProductFamily {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        [Self::Milan, Self::Genoa, Self::Turin].into_iter().find(|family| family.as_str() == text).ok_or_else(
            || Malformed::value("product family", "name", 0, "Milan, Genoa or Turin", format!("{text:?}")),
        )
    }
}

/// A TCB version as the firmware writes it: eight bytes, whose meaning depends on the product family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcbVersion(pub [u8; 8]);

impl TcbVersion {
    /// The components, or `None` when bytes that the family reserves are not zero.
    pub fn components(self, family: ProductFamily) -> Option<TcbComponents> {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = self.0;
        match family {
            ProductFamily::Milan | ProductFamily::Genoa => ([b2, b3, b4, b5] == [0; 4])
                .then_some(TcbComponents { fmc: None, bootloader: b0, tee: b1, snp: b6, microcode: b7 }),
            ProductFamily::Turin => ([b4, b5, b6] == [0; 3]).then_some(TcbComponents {
                fmc: Some(b0),
                bootloader: b1,
                tee: b2,
                snp: b3,
                microcode: b7,
            }),
        }
    }
}

impl fmt::Display for TcbVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The security versions that make up a TCB version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcbComponents {
    /// First mutable code, on Turin.
    pub fmc: Option<u8>,
    /// Boot loader of the security processor.
    pub bootloader: u8,
    /// Operating system of the security processor.
    pub tee: u8,
    /// The SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl fmt::Display for TcbComponents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmc {fmc}, ")?;
        }
        let Self { bootloader, tee, snp, microcode, .. } = self;
        write!(f, "bootloader {bootloader}, tee {tee}, snp {snp}, microcode {microcode}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turin_has_another_tcb_layout() {
        let turin = TcbVersion([1, 2, 3, 4, 0, 0, 0, 7]).components(ProductFamily::Turin);
        let expected = TcbComponents { fmc: Some(1), bootloader: 2, tee: 3, snp: 4, microcode: 7 };
        assert_eq!(turin, Some(expected));
        let genoa = TcbVersion([1, 2, 0, 0, 0, 0, 6, 7]).components(ProductFamily::Genoa);
        let expected = TcbComponents { fmc: None, bootloader: 1, tee: 2, snp: 6, microcode: 7 };
        assert_eq!(genoa, Some(expected));
    }

    #[test]
    fn reserved_tcb_bytes_must_be_zero() {
        assert_eq!(TcbVersion([1, 2, 3, 4, 0, 0, 0, 7]).components(ProductFamily::Milan), None);
        assert_eq!(TcbVersion([1, 2, 3, 4, 0, 0, 6, 7]).components(ProductFamily::Turin), None);
    }

    #[test]
    fn siena_and_bergamo_are_genoa() {
        let cpuid = Cpuid { family: 0x19, model: 0xa0, stepping: 2 };
        assert_eq!(cpuid.product_family(), Some(ProductFamily::Genoa));
        assert_eq!(Cpuid { family: 0x17, model: 1, stepping: 0 }.product_family(), None);
    }
}
