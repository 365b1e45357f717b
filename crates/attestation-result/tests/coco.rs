//! Claims in Trustee's profile, from real Evidence.

use std::path::Path;

use appraisal::{Examination, Policy, Verdict, assess};
use attestation_result::coco::{AppraisedBy, Attester, Claims, InitData, PROFILE, RuntimeData, TEE_PUBKEY};
use crypto_aws_lc::AwsLc;
use evidence::{Endorsements, Evidence};
use serde_json::{Value, json};

const GOOD: &str = "2025-07-04T10:16:31Z";

fn read(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors").join(file))
        .unwrap()
}

fn appraised_by() -> AppraisedBy {
    AppraisedBy {
        developer: "Example Ltd.".into(),
        build: "bailey 0.1.0".into(),
        mesh: "aa".repeat(32),
        epoch: 3,
        manifest: "bb".repeat(32),
        emulated: false,
    }
}

fn runtime() -> RuntimeData {
    let tee_pubkey = json!({ "kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "eA", "y": "eQ" });
    RuntimeData {
        nonce: "bm9uY2U=".into(),
        tee_pubkey: tee_pubkey.as_object().unwrap().clone(),
        additional_evidence: None,
    }
}

/// What is said of Evidence that came alone: nothing is affirmed, and everything is named.
fn named(evidence: &Evidence) -> Value {
    let verdict = unendorsed(evidence);
    let cpu = Attester::Appraised { evidence, verdict: &verdict };
    Claims::new(appraised_by(), ["kata"], runtime(), cpu).to_json()
}

fn unendorsed(evidence: &Evidence) -> Verdict {
    let (endorsements, policy) = (Endorsements::default(), Policy::production());
    assess(evidence, &endorsements, None, None, &policy, GOOD.parse().unwrap(), &AwsLc).verdict().clone()
}

fn annotated(claims: &Value) -> &Value {
    &claims["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
}

fn parse(file: &str) -> Evidence {
    let conveyed = evidence::conveyed::Conveyed::parse(&read(file)).unwrap();
    conveyed.evidence[0].1.clone()
}

#[test]
fn a_good_td_is_affirmed_with_the_words_of_trustee() {
    let quote = read("negatives/tdx4-ok.quote");
    let mut examination = Examination::new(&quote).unwrap();
    examination.endorse(&read("negatives/tdx4-ok.collateral.json")).unwrap();
    let examined = examination.assess(GOOD.parse().unwrap(), &AwsLc);
    let evidence = Evidence::parse(&quote).unwrap();
    let cpu = Attester::Appraised { evidence: &evidence, verdict: examined.verdicts()[0] };
    let claims = Claims::new(appraised_by(), ["kata"], runtime(), cpu);
    assert!(!claims.emulated());
    let claims = claims.to_json();

    assert_eq!(claims["eat_profile"], PROFILE);
    assert_eq!(claims["ear.verifier-id"]["build"], "bailey 0.1.0");
    assert_eq!(claims["bailey"]["packages"], json!(["kata"]));
    assert_eq!(claims["bailey"]["emulated"], false);
    let cpu = &claims["submods"]["cpu0"];
    assert_eq!(cpu["ear.status"], "affirming");
    assert_eq!(cpu["ear.trustworthiness-vector"]["hardware"], 2);
    assert_eq!(cpu["ear.appraisal-policy-id"], format!("urn:bailey:manifest:sha256:{}", "bb".repeat(32)));
    let found = annotated(&claims);
    assert_eq!(found["tdx"]["quote"]["header"]["tee_type"], "81000000");
    assert_eq!(found["tdx"]["quote"]["header"]["version"], "0400");
    let Evidence::Tdx(quote) = &evidence else { panic!() };
    assert_eq!(found["tdx"]["quote"]["body"]["mr_td"], hex(&quote.report().mrtd));
    assert_eq!(found["tdx"]["quote"]["body"]["rtmr_3"], hex(&quote.report().rtmr[3]));
    assert_eq!(found["tdx"]["quote"]["body"]["xfam"], hex(&quote.report().xfam.to_le_bytes()));
    assert_eq!(found["tdx"]["td_attributes"]["debug"], false);
    assert_eq!(found["tdx"]["tcb_status"], "UpToDate");
    assert_eq!(found["tdx"]["advisory_ids"], json!([]));
    assert_eq!(found["report_data"], hex(&quote.report().report_data));
    assert_eq!(found["init_data"], hex(&quote.report().mrconfigid));
    assert_eq!(found["runtime_data_claims"]["nonce"], "bm9uY2U=");
    assert_eq!(claims.pointer(TEE_PUBKEY).unwrap()["crv"], "P-256");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_emulated_verifier_affirms_nothing() {
    let quote = read("negatives/tdx4-ok.quote");
    let mut examination = Examination::new(&quote).unwrap();
    examination.endorse(&read("negatives/tdx4-ok.collateral.json")).unwrap();
    let examined = examination.assess(GOOD.parse().unwrap(), &AwsLc);
    let evidence = Evidence::parse(&quote).unwrap();
    let cpu = Attester::Appraised { evidence: &evidence, verdict: examined.verdicts()[0] };
    let by = AppraisedBy { emulated: true, ..appraised_by() };
    let claims = Claims::new(by, ["kata"], runtime(), cpu).to_json();
    assert_eq!(claims["submods"]["cpu0"]["ear.status"], "warning");
    assert_eq!(claims["bailey"]["emulated"], true);
}

#[test]
fn numbers_of_snp_are_numbers_and_those_of_azure_text() {
    let evidence = parse("azure/trustee-az-snp-evidence-genoa.json");
    let claims = named(&evidence);
    assert_eq!(claims["submods"]["cpu0"]["ear.status"], "contraindicated", "nothing endorses it");
    let found = &annotated(&claims)["az-snp-vtpm"];
    assert_eq!(found["policy_debug_allowed"], "false");
    assert!(found["reported_tcb_bootloader"].is_string());
    assert_eq!(found["measurement"].as_str().unwrap().len(), 96);
    assert_eq!(found["tpm"].as_object().unwrap().len(), 24);
    assert_eq!(found["tpm"]["pcr08"].as_str().unwrap().len(), 64);
    assert_eq!(annotated(&claims)["init_data"], found["tpm"]["pcr08"]);

    let Evidence::Azure(vm) = &evidence else { panic!() };
    let evidence::azure::Hardware::Snp(report) = vm.hcl().hardware() else { panic!() };
    let claims = named(&Evidence::Snp(report.clone()));
    let found = &annotated(&claims)["snp"];
    assert_eq!(found["policy_debug_allowed"], false);
    assert!(found["reported_tcb_bootloader"].is_u64());
    assert_eq!(found["measurement"], hex(&report.body().measurement));
    assert_eq!(found["chip_id"], hex(&report.body().chip_id));
    assert_eq!(annotated(&claims)["init_data"], hex(&report.body().host_data));
}

#[test]
fn each_kind_of_tee_has_its_claims() {
    for (file, tee, claims) in [
        ("azure/trustee-az-tdx-evidence-v1.json", "az-tdx-vtpm", vec!["/tpm/pcr00", "/quote/body/mr_td"]),
        ("tpm/go-tpm-tools-gce-cos-85-nonce9009.pb", "tpm", vec!["/pcr00", "/ak_public"]),
        (
            "cca/trustee-trustee-cca-example-token.cbor",
            "cca",
            vec!["/realm/cca-realm-initial-measurement", "/platform/cca-platform-lifecycle"],
        ),
        (
            "negatives/sgx3-ok.quote",
            "sgx",
            vec!["/header/qe_svn", "/body/mr_enclave", "/body/attributes.flags"],
        ),
    ] {
        let named = named(&parse(file));
        let found = &annotated(&named)[tee];
        for claim in claims {
            assert!(found.pointer(claim).is_some_and(|value| !value.is_null()), "{file} {claim}: {found}");
        }
    }
}

#[test]
fn init_data_is_told_as_trustee_tells_it() {
    let evidence = parse("azure/trustee-az-snp-evidence-genoa.json");
    let verdict = unendorsed(&evidence);
    let cpu = Attester::Appraised { evidence: &evidence, verdict: &verdict };
    let documents = [
        ("aa.toml", "[token_configs.kbs]\nurl = \"https://kbs\"\n".to_owned()),
        ("policy.rego", "package agent_policy\npolicy_data := {\n  \"containers\": [1]\n}\n".to_owned()),
        ("broken.toml", "= no TOML".to_owned()),
    ]
    .map(|(name, text)| (name.to_owned(), text));
    let init_data = InitData { digest: vec![7; 32], documents: Some(documents.into()) };
    let claims = Claims::new(appraised_by(), ["kata"], runtime(), cpu);
    let json = claims.clone().init_data(init_data.clone()).to_json();
    let told = annotated(&json);
    assert_eq!(told["init_data"], "07".repeat(32));
    assert_eq!(told["init_data_claims"]["aa.toml"]["token_configs"]["kbs"]["url"], "https://kbs");
    assert_eq!(told["init_data_claims"]["agent_policy_claims"]["containers"], json!([1]));
    assert!(told["init_data_claims"].get("policy.rego").is_none());
    assert_eq!(told["init_data_claims"]["broken.toml"], "= no TOML");

    // More than a token can carry: the digest says which it was.
    let documents = [("long".to_owned(), "x".repeat(20_000))];
    let json = claims.init_data(InitData { documents: Some(documents.into()), ..init_data }).to_json();
    assert_eq!(annotated(&json)["init_data"], "07".repeat(32));
    assert!(annotated(&json).get("init_data_claims").is_none());
}

#[test]
fn eight_gpus_fit_into_the_head_of_a_request() {
    let evidence = parse("azure/trustee-az-snp-evidence-genoa.json");
    let gpus = parse("nvidia/attestation-sdk-hopper_evidence.json");
    let (verdict, of_gpus) = (unendorsed(&evidence), unendorsed(&gpus));
    let cpu = Attester::Appraised { evidence: &evidence, verdict: &verdict };
    let mut claims = Claims::new(appraised_by(), ["kata"], runtime(), cpu);
    for _ in 0..8 {
        claims = claims.device(Attester::Appraised { evidence: &gpus, verdict: &of_gpus });
    }
    let json = claims.to_json();
    assert!(json["submods"].get("gpu7").is_some(), "{:?}", json["submods"].as_object().unwrap().keys());
    let gpu = &json["submods"]["gpu0"]["ear.veraison.annotated-evidence"];
    assert!(gpu["nvidia"]["config"]["driver_version"].is_string());
    assert!(gpu["runtime_data_claims"].get("additional-evidence").is_none());
    let length = json.to_string().len() * 4 / 3;
    assert!(length < 32 * 1024, "{length}");
}

#[test]
fn the_sample_attester_is_never_affirmed() {
    let cpu = Attester::Sample { svn: "1", report_data: &[5; 48] };
    let claims = Claims::new(appraised_by(), Vec::<String>::new(), runtime(), cpu);
    assert!(claims.emulated());
    let json = claims.to_json();
    assert_eq!(json["submods"]["cpu0"]["ear.status"], "warning");
    assert_eq!(annotated(&json)["sample"]["svn"], "1");
    assert_eq!(annotated(&json)["report_data"], "05".repeat(48));
}
