//! What a genuine SNP report claims beside its measurements, by name.

use evidence::snp::{self, AbiVersion, ReportBody, SigningKey, TcbVersion};
use serde::{Serialize, Serializer};

use super::vek::Vek;
use crate::policy::FirmwareVersion;

/// Claims of an SNP guest and its platform. Byte strings are hexadecimal in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnpClaims {
    /// The version of the report's format.
    pub report_version: u32,
    /// The privilege level that asked for the report; 0xffffffff when the host did.
    pub vmpl: u32,
    /// What the guest allows its host.
    pub guest_policy: GuestPolicy,
    /// How the platform is configured.
    pub platform_info: PlatformInfo,
    /// Security version of the guest, from its ID block.
    pub guest_svn: u32,
    /// Family id of the guest, from its ID block.
    #[serde(serialize_with = "hexadecimal")]
    pub family_id: [u8; 16],
    /// Image id of the guest, from its ID block.
    #[serde(serialize_with = "hexadecimal")]
    pub image_id: [u8; 16],
    /// SHA-384 of the key that signed the ID block; zero without one.
    #[serde(serialize_with = "hexadecimal")]
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the key that certified that key; zero without one.
    #[serde(serialize_with = "hexadecimal")]
    pub author_key_digest: [u8; 48],
    /// The guest, anew at each launch.
    #[serde(serialize_with = "hexadecimal")]
    pub report_id: [u8; 32],
    /// The guest's migration agent, where it has one.
    #[serde(serialize_with = "optional_hexadecimal", skip_serializing_if = "Option::is_none")]
    pub report_id_ma: Option<[u8; 32]>,
    /// Which key signed the report: `VCEK` or `VLEK`.
    pub signing_key: &'static str,
    /// The cloud provider that a VLEK was lent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The chip; none with a VLEK.
    #[serde(serialize_with = "optional_hexadecimal", skip_serializing_if = "Option::is_none")]
    pub chip_id: Option<[u8; 64]>,
    /// The four TCBs.
    pub tcb: SnpTcbs,
    /// The firmware that runs.
    pub current_firmware: FirmwareVersion,
    /// The firmware below which the platform cannot go.
    pub committed_firmware: FirmwareVersion,
    /// Mitigations at the guest's launch, which reports of version 5 tell.
    #[serde(serialize_with = "optional_bits", skip_serializing_if = "Option::is_none")]
    pub launch_mitigations: Option<u64>,
    /// Mitigations now, which reports of version 5 tell.
    #[serde(serialize_with = "optional_bits", skip_serializing_if = "Option::is_none")]
    pub current_mitigations: Option<u64>,
}

/// The versions of the platform's parts: as certified, as it runs, as it was at the launch, and as far as it could go
/// back. Only the reported one is certified; the others are the word of that firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnpTcbs {
    /// Certified: the TCB that the signing key was derived for.
    pub reported: String,
    /// What runs; may be newer than what is reported.
    pub current: String,
    /// Below which the platform cannot go back.
    pub committed: String,
    /// At the guest's launch.
    pub launch: String,
}

/// The guest policy (AMD 56860, table "Guest policy").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GuestPolicy {
    /// All bits.
    #[serde(serialize_with = "bits")]
    pub bits: u64,
    /// The lowest firmware ABI that the guest may run on.
    pub minimum_abi: AbiVersion,
    /// Hyperthreading is allowed.
    pub smt: bool,
    /// A migration agent is allowed.
    pub migrate_ma: bool,
    /// The host may debug the guest.
    pub debug: bool,
    /// One socket only.
    pub single_socket: bool,
    /// CXL memory and devices are allowed.
    pub cxl_allow: bool,
    /// Memory must be encrypted with AES-256-XTS.
    pub mem_aes_256_xts: bool,
    /// The running average power limit must be off.
    pub rapl_dis: bool,
    /// Ciphertext must be hidden from the host.
    pub ciphertext_hiding: bool,
    /// The host must not swap pages.
    pub page_swap_disable: bool,
}

impl GuestPolicy {
    fn new(body: &ReportBody) -> Self {
        let bits = body.policy;
        Self {
            bits,
            minimum_abi: body.minimum_abi(),
            smt: bits & snp::POLICY_SMT != 0,
            migrate_ma: bits & snp::POLICY_MIGRATE_MA != 0,
            debug: bits & snp::POLICY_DEBUG != 0,
            single_socket: bits & snp::POLICY_SINGLE_SOCKET != 0,
            cxl_allow: bits & snp::POLICY_CXL_ALLOW != 0,
            mem_aes_256_xts: bits & snp::POLICY_MEM_AES_256_XTS != 0,
            rapl_dis: bits & snp::POLICY_RAPL_DIS != 0,
            ciphertext_hiding: bits & snp::POLICY_CIPHERTEXT_HIDING != 0,
            page_swap_disable: bits & snp::POLICY_PAGE_SWAP_DISABLE != 0,
        }
    }
}

/// PLATFORM_INFO (AMD 56860, table "ATTESTATION_REPORT").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PlatformInfo {
    /// All bits.
    #[serde(serialize_with = "bits")]
    pub bits: u64,
    /// Hyperthreading is on.
    pub smt: bool,
    /// Transparent memory encryption is on.
    pub tsme: bool,
    /// Memory has error-correcting codes.
    pub ecc: bool,
    /// The running average power limit is off.
    pub rapl_disabled: bool,
    /// The host does not see ciphertext.
    pub ciphertext_hiding: bool,
    /// The firmware checked memory for aliasing at its last reset.
    pub alias_check_complete: bool,
    /// Trusted I/O is on.
    pub tio: bool,
    /// Bits that have no name here: Turin sets bit 6.
    #[serde(serialize_with = "bits")]
    pub unknown: u64,
}

impl PlatformInfo {
    /// Names the bits.
    pub const fn new(bits: u64) -> Self {
        Self {
            bits,
            smt: bits & snp::PLATFORM_SMT != 0,
            tsme: bits & snp::PLATFORM_TSME != 0,
            ecc: bits & snp::PLATFORM_ECC != 0,
            rapl_disabled: bits & snp::PLATFORM_RAPL_DIS != 0,
            ciphertext_hiding: bits & snp::PLATFORM_CIPHERTEXT_HIDING != 0,
            alias_check_complete: bits & snp::PLATFORM_ALIAS_CHECK_COMPLETE != 0,
            tio: bits & snp::PLATFORM_TIO != 0,
            unknown: bits & !snp::PLATFORM_KNOWN,
        }
    }

    /// All bits in words.
    pub(super) fn describe(&self) -> String {
        let word = |name: &str, on: bool| format!("{name} {}", if on { "on" } else { "off" });
        let mut words = vec![
            word("SMT", self.smt),
            word("TSME", self.tsme),
            word("ECC", self.ecc),
            word("RAPL", !self.rapl_disabled),
            word("ciphertext hiding", self.ciphertext_hiding),
            format!("alias check {}", if self.alias_check_complete { "done" } else { "not told" }),
            word("trusted I/O", self.tio),
        ];
        if self.unknown != 0 {
            words.push(format!("{:#x} not known to this version", self.unknown));
        }
        words.join(", ")
    }
}

pub(super) fn of(body: &ReportBody, vek: &Vek) -> SnpClaims {
    // What the family cannot have is shown as it is.
    let tcb = |version: TcbVersion| {
        version.components(vek.family).map_or_else(|| version.to_string(), |parts| parts.to_string())
    };
    SnpClaims {
        report_version: body.version,
        vmpl: body.vmpl,
        guest_policy: GuestPolicy::new(body),
        platform_info: PlatformInfo::new(body.platform_info),
        guest_svn: body.guest_svn,
        family_id: body.family_id,
        image_id: body.image_id,
        id_key_digest: body.id_key_digest,
        author_key_digest: body.author_key_digest,
        report_id: body.report_id,
        report_id_ma: body.has_migration_agent().then_some(body.report_id_ma),
        signing_key: match body.signing_key() {
            SigningKey::Vcek => "VCEK",
            SigningKey::Vlek => "VLEK",
            SigningKey::None | SigningKey::Reserved(_) => "none",
        },
        provider: vek.provider.clone(),
        chip_id: vek.hardware_id.is_some().then_some(body.chip_id),
        tcb: SnpTcbs {
            reported: tcb(body.reported_tcb),
            current: tcb(body.current_tcb),
            committed: tcb(body.committed_tcb),
            launch: tcb(body.launch_tcb),
        },
        current_firmware: FirmwareVersion::from_report(body.current_firmware),
        committed_firmware: FirmwareVersion::from_report(body.committed_firmware),
        launch_mitigations: body.launch_mitigations,
        current_mitigations: body.current_mitigations,
    }
}

/// Bits as `0x…`: JSON readers may not keep 64 of them as a number.
fn bits<S: Serializer>(bits: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{bits:#x}"))
}

fn optional_bits<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => bits(value, serializer),
        None => serializer.serialize_none(),
    }
}

fn hexadecimal<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex::encode(bytes))
}

fn optional_hexadecimal<S: Serializer, const N: usize>(
    bytes: &Option<[u8; N]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match bytes {
        Some(bytes) => hexadecimal(bytes, serializer),
        None => serializer.serialize_none(),
    }
}
