//! What was found of each kind of TEE, under the names and in the types that Trustee gives it.

use appraisal::{NvidiaArchitecture, NvidiaDevice, TcbStatus, Verdict};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use evidence::azure::Hardware;
use evidence::eventlog::HashAlgorithm;
use evidence::{Evidence, azure, cca, nvidia, sgx, snp, tdx, tpm};
use serde_json::{Map, Value as Json, json};

use super::Attester;

/// Of a quote: what identifies Intel's quoting enclave (Intel TDX DCAP Quoting Library API, §A.3.1).
const INTEL_QE_VENDOR: &str = "939a7233f79c4ca9940a0db3957f0607";
/// The register that init-data is extended into.
const INIT_DATA_PCR: u8 = 8;

/// The claims of one submodule.
pub(super) struct Found {
    pub(super) claims: Json,
    pub(super) report_data: Vec<u8>,
    /// What the launcher configured; none where the platform has nothing of the kind.
    pub(super) init_data: Option<Vec<u8>>,
}

/// Class, name of the TEE and claims of each attester of a piece of Evidence: one, or as many as there are devices.
pub(super) fn claims(attester: &Attester<'_>, primary: bool) -> Vec<(&'static str, &'static str, Found)> {
    let class = if primary { "cpu" } else { "device" };
    match attester {
        Attester::Sample { svn, report_data } => {
            let tee = if primary { "sample" } else { "sampledevice" };
            let claims = json!({
                "svn": svn,
                "launch_digest": "abcde",
                "platform_version": { "major": 1, "minor": 4 },
                "debug": false,
                "report_data": hex::encode(report_data),
            });
            vec![(class, tee, Found { claims, report_data: report_data.to_vec(), init_data: None })]
        }
        Attester::Appraised { evidence: Evidence::Nvidia(devices), verdict } => {
            let appraised = verdict.claims().nvidia.as_ref().map_or(&[][..], |claims| &claims.devices);
            let number = |(index, device)| gpu(device, appraised.get(index));
            devices.devices().iter().enumerate().map(number).collect()
        }
        Attester::Appraised { evidence, verdict } => {
            let (tee, claims) = match evidence {
                Evidence::Sgx(quote) => ("sgx", enclave(quote)),
                Evidence::Tdx(quote) => ("tdx", td(quote, verdict)),
                Evidence::Snp(report) => ("snp", Json::Object(guest(report.body()))),
                Evidence::Azure(attestation) => azure_vm(attestation, verdict),
                Evidence::Tpm(attestation) => ("tpm", virtual_tpm(attestation)),
                Evidence::Cca(token) => ("cca", realm(token)),
                Evidence::Nitro(_) => ("nitro", json!(evidence.measured())),
                Evidence::Nvidia(_) => ("nvidia", Json::Null),
            };
            let found = Found {
                claims,
                report_data: evidence.covered().as_bytes().to_vec(),
                init_data: init_data(evidence),
            };
            vec![(class, tee, found)]
        }
    }
}

fn init_data(evidence: &Evidence) -> Option<Vec<u8>> {
    match evidence {
        Evidence::Azure(attestation) => register(attestation.quote()?, INIT_DATA_PCR),
        Evidence::Tpm(attestation) => register(attestation.quotes().first()?, INIT_DATA_PCR),
        other => Some(other.launch_configuration().to_vec()).filter(|bytes| !bytes.is_empty()),
    }
}

fn register(quote: &tpm::Quote, number: u8) -> Option<Vec<u8>> {
    quote.values.get(&(HashAlgorithm::Sha256, number)).cloned()
}

fn registers(quote: &tpm::Quote) -> Map<String, Json> {
    quote
        .values
        .iter()
        .filter(|((bank, _), _)| *bank == HashAlgorithm::Sha256)
        .map(|((_, number), value)| (format!("pcr{number:02}"), Json::from(hex::encode(value))))
        .collect()
}

/// Little-endian, as the bytes stand in a report.
fn little(value: u64, bytes: usize) -> String {
    hex::encode(&value.to_le_bytes()[..bytes])
}

fn guest(body: &snp::ReportBody) -> Map<String, Json> {
    let abi = body.minimum_abi();
    let policy = |bit: u64| Json::from(body.policy & bit != 0);
    let platform = |bit: u64| Json::from(body.platform_info & bit != 0);
    let mut claims: Map<_, _> = [
        ("policy_abi_major", Json::from(abi.major)),
        ("policy_abi_minor", Json::from(abi.minor)),
        ("policy_smt_allowed", policy(snp::POLICY_SMT)),
        ("policy_migrate_ma", policy(snp::POLICY_MIGRATE_MA)),
        ("policy_debug_allowed", policy(snp::POLICY_DEBUG)),
        ("policy_single_socket", policy(snp::POLICY_SINGLE_SOCKET)),
        ("platform_tsme_enabled", platform(snp::PLATFORM_TSME)),
        ("platform_smt_enabled", platform(snp::PLATFORM_SMT)),
        ("measurement", Json::from(hex::encode(body.measurement))),
        ("report_data", Json::from(hex::encode(body.report_data))),
        ("init_data", Json::from(hex::encode(body.host_data))),
        ("chip_id", Json::from(hex::encode(body.chip_id))),
        ("vmpl", Json::from(body.vmpl)),
        ("guest_svn", Json::from(body.guest_svn)),
        ("id_key_digest", Json::from(hex::encode(body.id_key_digest))),
        ("author_key_digest", Json::from(hex::encode(body.author_key_digest))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into_iter()
    .collect();
    // Reports of version 2 do not tell the family. Turin has another layout, so nothing is guessed for them.
    if let Some(parts) = body.family().and_then(|family| body.reported_tcb.components(family)) {
        let parts = [
            ("bootloader", parts.bootloader),
            ("tee", parts.tee),
            ("snp", parts.snp),
            ("microcode", parts.microcode),
        ];
        claims.extend(parts.map(|(name, value)| (format!("reported_tcb_{name}"), Json::from(value))));
    }
    claims
}

/// Numbers and flags as text.
fn as_text(claims: Map<String, Json>) -> Map<String, Json> {
    let text = |value: Json| match value {
        Json::String(_) => value,
        other => Json::from(other.to_string()),
    };
    claims.into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn azure_vm(attestation: &azure::Attestation, verdict: &Verdict) -> (&'static str, Json) {
    let (tee, mut claims) = match attestation.hcl().hardware() {
        Hardware::Snp(report) => ("az-snp-vtpm", as_text(guest(report.body()))),
        Hardware::Tdx(report) => {
            let claims = match attestation.td_quote() {
                Some(quote) => td(quote, verdict),
                None => json!({ "quote": { "body": td_report(report.body()) } }),
            };
            let Json::Object(claims) = claims else { return ("az-tdx-vtpm", claims) };
            ("az-tdx-vtpm", claims)
        }
    };
    let quote = attestation.quote();
    claims.insert("tpm".to_owned(), Json::Object(quote.map(registers).unwrap_or_default()));
    // The nonce of the virtual TPM, not what the paravisor made the hardware cover.
    claims.insert("report_data".to_owned(), Json::from(attestation.covered().to_string()));
    if let Some(value) = quote.and_then(|quote| register(quote, INIT_DATA_PCR)) {
        claims.insert("init_data".to_owned(), Json::from(hex::encode(value)));
    }
    (tee, Json::Object(claims))
}

fn td_report(report: &tdx::TdReport) -> Json {
    let mut body = json!({
        "tcb_svn": hex::encode(report.tee_tcb_svn),
        "mr_seam": hex::encode(report.mrseam),
        "mrsigner_seam": hex::encode(report.mrsignerseam),
        "seam_attributes": little(report.seam_attributes, 8),
        "td_attributes": little(report.td_attributes, 8),
        "xfam": little(report.xfam, 8),
        "mr_td": hex::encode(report.mrtd),
        "mr_config_id": hex::encode(report.mrconfigid),
        "mr_owner": hex::encode(report.mrowner),
        "mr_owner_config": hex::encode(report.mrownerconfig),
        "rtmr_0": hex::encode(report.rtmr[0]),
        "rtmr_1": hex::encode(report.rtmr[1]),
        "rtmr_2": hex::encode(report.rtmr[2]),
        "rtmr_3": hex::encode(report.rtmr[3]),
        "report_data": hex::encode(report.report_data),
    });
    if let Some(later) = &report.td_1_5 {
        body["tee_tcb_svn2"] = Json::from(hex::encode(later.tee_tcb_svn_2));
        body["mr_servicetd"] = Json::from(hex::encode(later.mrservicetd));
    }
    body
}

fn td(quote: &tdx::Quote, verdict: &Verdict) -> Json {
    let (header, report) = (quote.header(), quote.report());
    let attribute = |bit: u64| report.td_attributes & bit != 0;
    let tcb = verdict.tcb();
    let mut claims = json!({
        "quote": {
            "header": {
                "version": little(header.version.into(), 2),
                "att_key_type": "0200",
                "tee_type": "81000000",
                "reserved": format!("{}{}", little(header.qe_svn.into(), 2), little(header.pce_svn.into(), 2)),
                "vendor_id": INTEL_QE_VENDOR,
                "user_data": hex::encode(header.user_data),
            },
            "body": td_report(report),
        },
        "td_attributes": {
            "debug": attribute(tdx::ATTRIBUTE_DEBUG),
            "key_locker": attribute(tdx::ATTRIBUTE_KL),
            "perfmon": attribute(tdx::ATTRIBUTE_PERFMON),
            "protection_keys": attribute(tdx::ATTRIBUTE_PKS),
            "septve_disable": attribute(tdx::ATTRIBUTE_SEPT_VE_DISABLE),
        },
        "tcb_status": tcb.status.map(|status: TcbStatus| json!(status)),
        "tcb_date": tcb.date,
        "advisory_ids": tcb.advisories,
    });
    let Some(platform) = verdict.claims().tdx.as_ref().map(|claims| &claims.platform) else { return claims };
    claims["sgx_type"] = json!(platform.sgx_type);
    claims["platform_instance_id"] = json!(platform.platform_instance_id.map(hex::encode));
    claims["is_dynamic_platform"] = json!(platform.dynamic_platform);
    claims["is_cached_keys_policy"] = json!(platform.cached_keys);
    claims["is_smt_enabled"] = json!(platform.smt_enabled);
    if let Some(collateral) = platform.collateral {
        claims["tcb_eval_num"] = json!(collateral.tcb_evaluation_data_number);
        claims["earliest_issue_date"] = json!(collateral.issued);
        claims["earliest_expiration_date"] = json!(collateral.expires);
        claims["root_ca_crl_num"] = json!(collateral.root_ca_crl_number);
        claims["pck_crl_num"] = json!(collateral.pck_crl_number);
    }
    claims
}

fn enclave(quote: &sgx::Quote) -> Json {
    let (header, report) = (quote.header(), quote.report());
    json!({
        "header": {
            "version": little(header.version.into(), 2),
            "att_key_type": "0200",
            "att_key_data_0": "00000000",
            "qe_svn": little(header.qe_svn.into(), 2),
            "pce_svn": little(header.pce_svn.into(), 2),
            "vendor_id": INTEL_QE_VENDOR,
            "user_data": hex::encode(header.user_data),
        },
        "body": {
            "cpu_svn": hex::encode(report.cpu_svn),
            "misc_select": little(report.misc_select.into(), 4),
            "isv_ext_prod_id": hex::encode(report.isv_ext_prod_id),
            "attributes.flags": little(report.attributes, 8),
            "attributes.xfrm": little(report.xfrm, 8),
            "mr_enclave": hex::encode(report.mrenclave),
            "mr_signer": hex::encode(report.mrsigner),
            "config_id": hex::encode(report.config_id),
            "isv_prod_id": little(report.isv_prod_id.into(), 2),
            "isv_svn": little(report.isv_svn.into(), 2),
            "config_svn": little(report.config_svn.into(), 2),
            "isv_family_id": hex::encode(report.isv_family_id),
            "report_data": hex::encode(report.report_data),
        },
    })
}

fn virtual_tpm(attestation: &tpm::Attestation) -> Json {
    let mut claims: Map<_, _> = attestation.quotes().iter().flat_map(registers).collect();
    if let Some(key) = attestation.key() {
        claims.insert("ak_public".to_owned(), Json::from(STANDARD.encode(key.public.spki())));
    }
    Json::Object(claims)
}

/// Veraison's names, which Trustee passes on; bytes are base64 there.
fn realm(token: &cca::Token) -> Json {
    let (realm, platform) = (token.realm_claims(), token.platform_claims());
    let components: Vec<_> = platform
        .components
        .iter()
        .map(|component| {
            json!({
                "measurement-type": component.kind,
                "measurement-value": STANDARD.encode(&component.measurement),
                "version": component.version,
                "signer-id": STANDARD.encode(&component.signer_id),
                "measurement-description": component.hash_algorithm,
            })
        })
        .collect();
    let measured: Vec<_> = realm.extensible_measurements.iter().map(|value| STANDARD.encode(value)).collect();
    json!({
        "realm": {
            "cca-realm-challenge": STANDARD.encode(realm.challenge),
            "cca-realm-personalization-value": STANDARD.encode(realm.personalisation),
            "cca-realm-initial-measurement": STANDARD.encode(&realm.initial_measurement),
            "cca-realm-extensible-measurements": measured,
            "cca-realm-hash-algo-id": realm.hash_algorithm.as_str(),
            "cca-realm-public-key": STANDARD.encode(&realm.key.encoded),
            "cca-realm-public-key-hash-algo-id": realm.key_hash_algorithm.as_str(),
        },
        "platform": {
            "cca-platform-profile": platform.profile,
            "cca-platform-challenge": STANDARD.encode(&platform.challenge),
            "cca-platform-implementation-id": STANDARD.encode(platform.implementation_id),
            "cca-platform-instance-id": STANDARD.encode(platform.instance_id),
            "cca-platform-config": STANDARD.encode(&platform.configuration),
            "cca-platform-lifecycle": platform.lifecycle.0,
            "cca-platform-sw-components": components,
            "cca-platform-service-indicator": platform.verification_service,
            "cca-platform-hash-algo-id": platform.hash_algorithm.as_str(),
        },
    })
}

/// Trustee's claims of a device that it verified itself, but for the 64 measurements: what they are worth is whether
/// they are those of NVIDIA's manifests, which is told instead. A switch is one of a class of its own.
fn gpu(device: &nvidia::Device, appraised: Option<&NvidiaDevice>) -> (&'static str, &'static str, Found) {
    let report = device.report();
    let opaque = report.opaque();
    // What the device's certificate says counts more than what the sender calls it.
    let architecture = match appraised.and_then(|appraised| appraised.architecture) {
        Some(NvidiaArchitecture::Hopper) => Some("Hopper"),
        Some(NvidiaArchitecture::Blackwell) => Some("Blackwell"),
        Some(NvidiaArchitecture::Ls10) => Some("LS10"),
        None => device.architecture(),
    };
    let class = if architecture == Some("LS10") { "switch" } else { "gpu" };
    let board = opaque.board();
    let mut claims = json!({
        "arch": architecture,
        "config": {
            "board_id": opaque.board_id(),
            "chip_info": opaque.chip(),
            "chip_sku": board.map(|(_, _, chip_sku)| chip_sku),
            "project": board.map(|(project, ..)| project),
            "project_sku": board.map(|(_, project_sku, _)| project_sku),
            "driver_version": opaque.driver(),
            "vbios_version": opaque.vbios(),
            "fwid": opaque.fwid().map(hex::encode),
        },
    });
    if let Some(appraised) = appraised {
        claims["serial"] = json!(appraised.serial);
        claims["ueid"] = json!(appraised.ueid);
        claims["measurements_compared"] = json!(appraised.compared);
        claims["driver_rim"] = json!(appraised.driver_rim);
        claims["vbios_rim"] = json!(appraised.vbios_rim);
    }
    (class, "nvidia", Found { claims, report_data: report.nonce().to_vec(), init_data: None })
}
