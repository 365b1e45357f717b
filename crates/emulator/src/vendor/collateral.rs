//! What the vendors publish about a platform and renew: TCB info and QE identities (Intel SGX and TDX
//! Provisioning Certification Service API, version 4), and all CRLs. Documents are signed as the exact bytes
//! that are handed out.

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use super::amd::Amd;
use super::certificate::Validity;
use super::error::{PlatformError, Result};
use super::intel::{FMSPC, Intel, PCE_ID};
use super::quote::{QE_SIGNER, QuotingEnclave};
use super::tcb::{CURRENT, OUTDATED, Revoked, Tcb};

const LIFETIME: Duration = Duration::days(30);
/// Renewed when less than this is left.
const RESERVE: Duration = Duration::days(7);
const EVALUATION_DATA_NUMBER: u32 = 20;
const CURRENT_SINCE: &str = "2025-08-13T00:00:00Z";
const OUTDATED_SINCE: &str = "2024-03-13T00:00:00Z";
/// An advisory that no vendor will ever publish.
const ADVISORY: &str = "BAILEY-EMULATED-SA-00001";

/// A JSON document and its signature.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Signed {
    pub(super) document: String,
    /// ECDSA P-256 with SHA-256, r ‖ s.
    #[serde(with = "hex::serde")]
    pub(super) signature: [u8; 64],
}

/// One issue of everything that expires within weeks.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Collateral {
    /// Seconds since 1970, as is the next.
    issued: i64,
    expires: i64,
    pub(super) sgx_tcb_info: Signed,
    pub(super) tdx_tcb_info: Signed,
    pub(super) qe_identity: Signed,
    pub(super) td_qe_identity: Signed,
    #[serde(with = "hex::serde")]
    pub(super) root_crl: Vec<u8>,
    #[serde(with = "hex::serde")]
    pub(super) pck_crl: Vec<u8>,
    #[serde(with = "hex::serde")]
    pub(super) ark_crl: Vec<u8>,
}

impl Collateral {
    /// Issues everything anew, valid for 30 days from `from`.
    pub(super) fn issue(intel: &Intel, amd: &Amd, revoked: &[Revoked], from: OffsetDateTime) -> Result<Self> {
        let validity = Validity { from, until: from + LIFETIME };
        // Grows with time and needs no memory, so a verifier's protection against rollback never trips over a
        // renewal. Before 1970 there were no platforms.
        let number = u64::try_from(from.unix_timestamp()).unwrap_or(0);
        let window = Window { issue_date: rfc3339(validity.from)?, next_update: rfc3339(validity.until)? };
        let sign = |document: String| {
            let signature = intel.tcb_signing.sign_fixed(document.as_bytes())?;
            Ok(Signed { document, signature })
        };
        Ok(Self {
            issued: validity.from.unix_timestamp(),
            expires: validity.until.unix_timestamp(),
            sgx_tcb_info: sign(tcb_info(TcbType::Sgx, &window)?)?,
            tdx_tcb_info: sign(tcb_info(TcbType::Tdx, &window)?)?,
            qe_identity: sign(qe_identity(QuotingEnclave::Sgx, &window)?)?,
            td_qe_identity: sign(qe_identity(QuotingEnclave::Tdx, &window)?)?,
            root_crl: intel.root_revocation_list(revoked, validity, number)?.0,
            pck_crl: intel.pck_revocation_list(revoked, validity, number)?.0,
            ark_crl: amd.revocation_list(revoked, validity, number)?.0,
        })
    }

    /// Valid now, and for a while yet.
    pub(super) fn is_fresh(&self, now: OffsetDateTime) -> bool {
        let now = now.unix_timestamp();
        self.issued <= now && now + RESERVE.whole_seconds() <= self.expires
    }
}

struct Window {
    issue_date: String,
    next_update: String,
}

#[derive(Clone, Copy, PartialEq)]
enum TcbType {
    Sgx,
    Tdx,
}

/// TCB info, version 3. Fields in Intel's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TcbInfo<'a> {
    id: &'static str,
    version: u32,
    issue_date: &'a str,
    next_update: &'a str,
    fmspc: String,
    pce_id: String,
    tcb_type: u32,
    tcb_evaluation_data_number: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tdx_module: Option<TdxModule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tdx_module_identities: Option<[TdxModuleIdentity; 1]>,
    tcb_levels: [Level<PlatformTcb>; 2],
}

/// Intel signs its TDX modules itself, which the architecture shows as a signer of zeros.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TdxModule {
    mrsigner: String,
    attributes: String,
    attributes_mask: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TdxModuleIdentity {
    id: String,
    #[serde(flatten)]
    module: TdxModule,
    tcb_levels: [Level<IsvTcb>; 2],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Level<T> {
    tcb: T,
    tcb_date: &'static str,
    tcb_status: &'static str,
    #[serde(rename = "advisoryIDs", skip_serializing_if = "<[_]>::is_empty")]
    advisories: &'static [&'static str],
}

#[derive(Serialize)]
struct PlatformTcb {
    sgxtcbcomponents: [Component; 16],
    pcesvn: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    tdxtcbcomponents: Option<[Component; 16]>,
}

#[derive(Serialize)]
struct Component {
    svn: u8,
}

#[derive(Serialize)]
struct IsvTcb {
    isvsvn: u8,
}

/// Enclave identity, version 2. Fields in Intel's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EnclaveIdentity<'a> {
    id: &'static str,
    version: u32,
    issue_date: &'a str,
    next_update: &'a str,
    tcb_evaluation_data_number: u32,
    miscselect: &'static str,
    miscselect_mask: &'static str,
    attributes: &'static str,
    attributes_mask: &'static str,
    mrsigner: String,
    isvprodid: u16,
    tcb_levels: [Level<IsvTcb>; 1],
}

fn tcb_info(kind: TcbType, window: &Window) -> Result<String> {
    let tdx = kind == TcbType::Tdx;
    let platform = |tcb: Tcb| PlatformTcb {
        sgxtcbcomponents: tcb.intel.sgx_components.map(|svn| Component { svn }),
        pcesvn: tcb.intel.pce_svn,
        // A TD's first two components are the module's, whose level is in its identity; the platform's level
        // asks for none, as Intel's do since there are module identities.
        tdxtcbcomponents: tdx.then(|| {
            let mut components = tcb.intel.tdx_components;
            components[..2].fill(0);
            components.map(|svn| Component { svn })
        }),
    };
    let module = |tcb: Tcb| IsvTcb { isvsvn: tcb.intel.tdx_components[0] };
    json(&TcbInfo {
        id: if tdx { "TDX" } else { "SGX" },
        version: 3,
        issue_date: &window.issue_date,
        next_update: &window.next_update,
        fmspc: hex::encode_upper(FMSPC),
        pce_id: hex::encode_upper(PCE_ID),
        tcb_type: 0,
        tcb_evaluation_data_number: EVALUATION_DATA_NUMBER,
        tdx_module: tdx.then(tdx_module),
        tdx_module_identities: tdx.then(|| {
            let id = format!("TDX_{:02x}", CURRENT.intel.tdx_components[1]);
            [TdxModuleIdentity { id, module: tdx_module(), tcb_levels: levels(module) }]
        }),
        tcb_levels: levels(platform),
    })
}

fn tdx_module() -> TdxModule {
    TdxModule { mrsigner: "00".repeat(48), attributes: "00".repeat(8), attributes_mask: "FF".repeat(8) }
}

fn levels<T>(tcb: impl Fn(Tcb) -> T) -> [Level<T>; 2] {
    [
        Level { tcb: tcb(CURRENT), tcb_date: CURRENT_SINCE, tcb_status: "UpToDate", advisories: &[] },
        Level {
            tcb: tcb(OUTDATED),
            tcb_date: OUTDATED_SINCE,
            tcb_status: "OutOfDate",
            advisories: &[ADVISORY],
        },
    ]
}

fn qe_identity(enclave: QuotingEnclave, window: &Window) -> Result<String> {
    let tcb = IsvTcb { isvsvn: enclave.security_version() };
    json(&EnclaveIdentity {
        id: enclave.identity(),
        version: 2,
        issue_date: &window.issue_date,
        next_update: &window.next_update,
        tcb_evaluation_data_number: EVALUATION_DATA_NUMBER,
        miscselect: "00000000",
        miscselect_mask: "FFFFFFFF",
        attributes: "11000000000000000000000000000000",
        attributes_mask: "FBFFFFFFFFFFFFFF0000000000000000",
        mrsigner: hex::encode_upper(QE_SIGNER.digest()),
        isvprodid: enclave.product(),
        tcb_levels: [Level { tcb, tcb_date: CURRENT_SINCE, tcb_status: "UpToDate", advisories: &[] }],
    })
}

fn json(document: &impl Serialize) -> Result<String> {
    // Only maps whose keys are not text can fail, and these are structs.
    serde_json::to_string(document).map_err(|_| PlatformError::Date)
}

fn rfc3339(at: OffsetDateTime) -> Result<String> {
    at.format(&Rfc3339).map_err(|_| PlatformError::Date)
}
