//! What a genuine quote of SGX or TDX claims beside its measurements, and what Intel certifies of its platform.

use evidence::quote::{Header, SignatureData};
use evidence::sgx::{self, EnclaveReport};
use evidence::tdx::{self, TdReport};
use serde::{Serialize, Serializer};

use super::Quote;
use super::pck::{Pck, SgxType};
use crate::UnixTime;
use crate::claims::Claims;

/// Claims of an SGX enclave. Byte strings are hexadecimal in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SgxClaims {
    /// The version of the quote's format.
    pub quote_version: u16,
    /// What the enclave may do, and what may be done to it.
    pub attributes: EnclaveAttributes,
    /// MISCSELECT: what the CPU saves when the enclave faults.
    pub misc_select: u32,
    /// XFRM: which extended CPU state the enclave uses.
    #[serde(serialize_with = "bits")]
    pub xfrm: u64,
    /// The signer's extended product id.
    #[serde(serialize_with = "hexadecimal")]
    pub isv_ext_prod_id: [u8; 16],
    /// The signer's product family.
    #[serde(serialize_with = "hexadecimal")]
    pub isv_family_id: [u8; 16],
    /// The security version of what the launcher configured.
    pub config_svn: u16,
    /// The platform.
    #[serde(flatten)]
    pub platform: IntelClaims,
}

/// ATTRIBUTES of an enclave (Intel SDM volume 3D, §35.7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct EnclaveAttributes {
    /// Initialised.
    pub init: bool,
    /// A debugger may read and change it.
    pub debug: bool,
    /// It runs in 64-bit mode.
    pub mode64: bool,
    /// It may derive the provisioning key.
    pub provision_key: bool,
    /// It may derive the key that launches enclaves.
    pub einittoken_key: bool,
    /// Control-flow enforcement.
    pub cet: bool,
    /// Key separation and sharing.
    pub kss: bool,
    /// It is told of asynchronous exits.
    pub aex_notify: bool,
    /// Bits that have no name here.
    #[serde(serialize_with = "bits")]
    pub unknown: u64,
}

impl EnclaveAttributes {
    /// Names the bits.
    pub const fn new(bits: u64) -> Self {
        const KNOWN: u64 = sgx::ATTRIBUTE_INIT
            | sgx::ATTRIBUTE_DEBUG
            | sgx::ATTRIBUTE_MODE64
            | sgx::ATTRIBUTE_PROVISION_KEY
            | sgx::ATTRIBUTE_EINITTOKEN_KEY
            | sgx::ATTRIBUTE_CET
            | sgx::ATTRIBUTE_KSS
            | sgx::ATTRIBUTE_AEX_NOTIFY;
        Self {
            init: bits & sgx::ATTRIBUTE_INIT != 0,
            debug: bits & sgx::ATTRIBUTE_DEBUG != 0,
            mode64: bits & sgx::ATTRIBUTE_MODE64 != 0,
            provision_key: bits & sgx::ATTRIBUTE_PROVISION_KEY != 0,
            einittoken_key: bits & sgx::ATTRIBUTE_EINITTOKEN_KEY != 0,
            cet: bits & sgx::ATTRIBUTE_CET != 0,
            kss: bits & sgx::ATTRIBUTE_KSS != 0,
            aex_notify: bits & sgx::ATTRIBUTE_AEX_NOTIFY != 0,
            unknown: bits & !KNOWN,
        }
    }
}

/// Claims of a TD. Byte strings are hexadecimal in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TdxClaims {
    /// The version of the quote's format.
    pub quote_version: u16,
    /// What the TD may do, and what may be done to it.
    pub attributes: TdAttributes,
    /// Which extended CPU state the TD uses.
    #[serde(serialize_with = "bits")]
    pub xfam: u64,
    /// Security versions at the TD's launch.
    #[serde(serialize_with = "hexadecimal")]
    pub tee_tcb_svn: [u8; 16],
    /// Security versions now, which TDX 1.5 tells.
    #[serde(serialize_with = "optional_hexadecimal", skip_serializing_if = "Option::is_none")]
    pub tee_tcb_svn_2: Option<[u8; 16]>,
    /// Signer of the TDX module; zero for Intel's.
    #[serde(serialize_with = "hexadecimal")]
    pub mrsignerseam: [u8; 48],
    /// Attributes of the TDX module.
    #[serde(serialize_with = "bits")]
    pub seam_attributes: u64,
    /// Digest of the service TDs, which TDX 1.5 tells.
    #[serde(serialize_with = "optional_hexadecimal", skip_serializing_if = "Option::is_none")]
    pub mrservicetd: Option<[u8; 48]>,
    /// What the extended report tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended: Option<ExtendedTdClaims>,
    /// The platform.
    #[serde(flatten)]
    pub platform: IntelClaims,
}

/// What the extended TD report of TDX 1.5 tells beside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExtendedTdClaims {
    /// Which partition of the TD asked for the report.
    pub vm_id: u8,
    /// The instance of the TD: another one at each launch.
    #[serde(serialize_with = "hexadecimal")]
    pub td_id: [u8; 32],
    /// Digest of what is known of attached devices.
    #[serde(serialize_with = "hexadecimal")]
    pub device_info: [u8; 48],
    /// Digest of the service TDs that were bound at the launch.
    #[serde(serialize_with = "hexadecimal")]
    pub initial_service_td: [u8; 48],
    /// Digest of the service TDs that are bound now.
    #[serde(serialize_with = "hexadecimal")]
    pub current_service_td: [u8; 48],
    /// The CPU's security version at the first launch, before any migration.
    #[serde(serialize_with = "hexadecimal")]
    pub initial_cpu_svn: [u8; 16],
    /// The security versions then.
    #[serde(serialize_with = "hexadecimal")]
    pub initial_tee_tcb_svn: [u8; 16],
}

/// TD attributes (Intel TDX Module ABI specification, table "ATTRIBUTES").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TdAttributes {
    /// The host may read and change the TD.
    pub debug: bool,
    /// The host may profile the TD.
    pub profiling: bool,
    /// A defence against single stepping.
    pub icssd: bool,
    /// The report tells of service TDs that are bound later.
    pub servtd_ext: bool,
    /// Linear address space separation.
    pub lass: bool,
    /// The host cannot remap pending pages unseen.
    pub sept_ve_disable: bool,
    /// The TD may be migrated.
    pub migratable: bool,
    /// Supervisor protection keys.
    pub pks: bool,
    /// Key Locker.
    pub kl: bool,
    /// A provisioning agent of TDX Connect.
    pub tpa: bool,
    /// Performance counters.
    pub perfmon: bool,
    /// Bits that have no name here, those of the group "TD under debug" among them.
    #[serde(serialize_with = "bits")]
    pub unknown: u64,
}

impl TdAttributes {
    /// Names the bits.
    pub const fn new(bits: u64) -> Self {
        const KNOWN: u64 = tdx::ATTRIBUTE_DEBUG
            | tdx::ATTRIBUTES_PROFILING
            | tdx::ATTRIBUTE_ICSSD
            | tdx::ATTRIBUTE_SERVTD_EXT
            | tdx::ATTRIBUTE_LASS
            | tdx::ATTRIBUTE_SEPT_VE_DISABLE
            | tdx::ATTRIBUTE_MIGRATABLE
            | tdx::ATTRIBUTE_PKS
            | tdx::ATTRIBUTE_KL
            | tdx::ATTRIBUTE_TPA
            | tdx::ATTRIBUTE_PERFMON;
        Self {
            debug: bits & tdx::ATTRIBUTE_DEBUG != 0,
            profiling: bits & tdx::ATTRIBUTES_PROFILING != 0,
            icssd: bits & tdx::ATTRIBUTE_ICSSD != 0,
            servtd_ext: bits & tdx::ATTRIBUTE_SERVTD_EXT != 0,
            lass: bits & tdx::ATTRIBUTE_LASS != 0,
            sept_ve_disable: bits & tdx::ATTRIBUTE_SEPT_VE_DISABLE != 0,
            migratable: bits & tdx::ATTRIBUTE_MIGRATABLE != 0,
            pks: bits & tdx::ATTRIBUTE_PKS != 0,
            kl: bits & tdx::ATTRIBUTE_KL != 0,
            tpa: bits & tdx::ATTRIBUTE_TPA != 0,
            perfmon: bits & tdx::ATTRIBUTE_PERFMON != 0,
            unknown: bits & !KNOWN,
        }
    }
}

/// What Intel certifies of the platform, and what its statements about it were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IntelClaims {
    /// Family, model, stepping, platform and custom SKU.
    #[serde(serialize_with = "hexadecimal")]
    pub fmspc: [u8; 6],
    /// The platform's id.
    #[serde(serialize_with = "hexadecimal")]
    pub ppid: [u8; 16],
    /// Which provisioning certification enclave.
    #[serde(serialize_with = "hexadecimal")]
    pub pce_id: [u8; 2],
    /// Its security version.
    pub pce_svn: u16,
    /// The components of the CPU's security version that Intel certified.
    #[serde(serialize_with = "hexadecimal")]
    pub cpu_svn: [u8; 16],
    /// How the platform protects memory.
    pub sgx_type: SgxType,
    /// The instance of a platform of several packages.
    #[serde(serialize_with = "optional_hexadecimal", skip_serializing_if = "Option::is_none")]
    pub platform_instance_id: Option<[u8; 16]>,
    /// Packages can be added to the platform.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dynamic_platform: Option<bool>,
    /// Intel keeps the platform's root keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_keys: Option<bool>,
    /// Hyperthreading is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smt_enabled: Option<bool>,
    /// The id of the quoting enclave on this platform: what a PCCS knows the platform by.
    #[serde(serialize_with = "hexadecimal")]
    pub qe_id: [u8; 16],
    /// Security version of the quoting enclave.
    pub qe_svn: u16,
    /// Intel's statements, when they could be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collateral: Option<IntelCollateralClaims>,
}

/// How new Intel's statements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct IntelCollateralClaims {
    /// The lower one of TCB info and QE identity.
    pub tcb_evaluation_data_number: u32,
    /// When the oldest of TCB info, QE identity and revocation lists was issued.
    pub issued: UnixTime,
    /// When the first of them ends.
    pub expires: UnixTime,
    /// The number of the root CA's revocation list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_ca_crl_number: Option<u64>,
    /// The number of the PCK CA's revocation list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pck_crl_number: Option<u64>,
}

pub(super) fn of(quote: Quote<'_>, pck: &Pck) -> Claims {
    match quote {
        Quote::Sgx(quote) => {
            let platform = platform(quote.header(), quote.signature_data(), pck);
            let claims = enclave(quote.header().version, quote.report(), platform);
            Claims { sgx: Some(claims), ..Claims::default() }
        }
        Quote::Tdx(quote) => {
            let platform = platform(quote.header(), quote.signature_data(), pck);
            let claims = td(quote.header().version, quote.report(), platform);
            Claims { tdx: Some(claims), ..Claims::default() }
        }
    }
}

impl Claims {
    pub(super) fn set_collateral(&mut self, collateral: IntelCollateralClaims) {
        let sgx = self.sgx.iter_mut().map(|claims| &mut claims.platform);
        let tdx = self.tdx.iter_mut().map(|claims| &mut claims.platform);
        sgx.chain(tdx).for_each(|platform| platform.collateral = Some(collateral));
    }
}

fn platform(header: &Header, data: &SignatureData, pck: &Pck) -> IntelClaims {
    let configuration = pck.configuration;
    let mut qe_id = [0; 16];
    qe_id.copy_from_slice(&header.user_data[..16]);
    IntelClaims {
        fmspc: pck.fmspc,
        ppid: pck.ppid,
        pce_id: pck.pce_id,
        pce_svn: pck.pce_svn,
        cpu_svn: pck.components,
        sgx_type: pck.sgx_type,
        platform_instance_id: pck.platform_instance_id,
        dynamic_platform: configuration.and_then(|own| own.dynamic_platform),
        cached_keys: configuration.and_then(|own| own.cached_keys),
        smt_enabled: configuration.and_then(|own| own.smt_enabled),
        qe_id,
        qe_svn: data.qe_report().isv_svn,
        collateral: None,
    }
}

fn enclave(quote_version: u16, report: &EnclaveReport, platform: IntelClaims) -> SgxClaims {
    SgxClaims {
        quote_version,
        attributes: EnclaveAttributes::new(report.attributes),
        misc_select: report.misc_select,
        xfrm: report.xfrm,
        isv_ext_prod_id: report.isv_ext_prod_id,
        isv_family_id: report.isv_family_id,
        config_svn: report.config_svn,
        platform,
    }
}

fn td(quote_version: u16, report: &TdReport, platform: IntelClaims) -> TdxClaims {
    let later = report.td_1_5.as_ref();
    TdxClaims {
        quote_version,
        attributes: TdAttributes::new(report.td_attributes),
        xfam: report.xfam,
        tee_tcb_svn: report.tee_tcb_svn,
        tee_tcb_svn_2: later.map(|own| own.tee_tcb_svn_2),
        mrsignerseam: report.mrsignerseam,
        seam_attributes: report.seam_attributes,
        mrservicetd: later.map(|own| own.mrservicetd),
        extended: report.extended.as_deref().map(|own| ExtendedTdClaims {
            vm_id: own.vm_id,
            td_id: own.td_id,
            device_info: own.device_info,
            initial_service_td: own.initial_service_td,
            current_service_td: own.current_service_td,
            initial_cpu_svn: own.initial_cpu_svn,
            initial_tee_tcb_svn: own.initial_tee_tcb_svn,
        }),
        platform,
    }
}

/// Bits as `0x…`: JSON readers may not keep 64 of them as a number.
fn bits<S: Serializer>(bits: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{bits:#x}"))
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
