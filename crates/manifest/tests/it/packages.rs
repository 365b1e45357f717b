//! Packages and platforms.

use super::*;

#[test]
fn packages_identify_their_code_in_one_way() {
    let package = |value: Value| with(marblerun(), "/Packages/backend", value);
    assert_eq!(faults(&package(json!({}))), ["Packages.backend MISSING"]);
    assert_eq!(
        faults(&package(json!({"UniqueID": sgx(), "Measurements": {"Sgx": sgx()}}))),
        ["Packages.backend CONFLICT"]
    );
    assert_eq!(faults(&package(json!({"UniqueID": sgx(), "ProductID": 1}))), ["Packages.backend CONFLICT"]);
    assert_eq!(
        faults(&package(json!({"SignerID": sgx()}))),
        ["Packages.backend.ProductID MISSING", "Packages.backend.SecurityVersion MISSING",]
    );
    assert_eq!(
        faults(&package(json!({"SignerID": "zz", "ProductID": 1, "SecurityVersion": 0}))),
        ["Packages.backend.SignerID INVALID_MEASUREMENT"]
    );
    assert_eq!(faults(&package(json!({"Measurements": {"Sgx": [sgx(), "3c".repeat(32)]}}))), [""; 0]);
}

#[test]
fn measurements_are_neither_padded_nor_cut() {
    for text in [
        "",
        "11",
        &"11".repeat(31),
        &"11".repeat(48),
        &"xy".repeat(32),
        &"00".repeat(32),
        &format!(" {}", sgx()),
    ] {
        let package = json!({"Measurements": {"Sgx": [text]}});
        refused(
            marblerun(),
            "/Packages/backend",
            package,
            &["Packages.backend.Measurements.Sgx INVALID_MEASUREMENT"],
        );
    }
    refused(
        marblerun(),
        "/Packages/backend",
        json!({"Measurements": {"Sgx": [sgx(), sgx().to_uppercase()]}}),
        &["Packages.backend.Measurements.Sgx[1] DUPLICATE_VALUE"],
    );
}

#[test]
fn a_platform_that_is_not_listed_is_not_accepted() {
    refused(
        marblerun(),
        "/Packages/backend",
        json!({"Measurements": {"Sgx": sgx(), "Snp": long()}}),
        &["Packages.backend.Measurements.Snp PLATFORM_NOT_LISTED"],
    );
    refused(
        keeps(),
        "/Platforms",
        json!({"Snp": {}}),
        &["Packages.keep.Measurements.Tdx PLATFORM_NOT_LISTED"],
    );
    refused(
        keeps(),
        "/Platforms",
        json!({}),
        &[
            "Packages.keep.Measurements.Tdx PLATFORM_NOT_LISTED",
            "Packages.keep.Measurements.Snp PLATFORM_NOT_LISTED",
        ],
    );
    refused(
        keeps(),
        "/Packages/keep",
        json!({"UniqueID": sgx()}),
        &["Packages.keep.UniqueID PLATFORM_NOT_LISTED"],
    );
}

#[test]
fn s36_debug_packages_are_refused() {
    for platform in [marblerun(), keeps()] {
        let name = if platform["Packages"]["keep"].is_null() { "backend" } else { "keep" };
        let expected = format!("Packages.{name}.Debug DEBUG_PACKAGE");
        refused(platform, &format!("/Packages/{name}/Debug"), json!(true), &[&expected]);
    }
}

#[test]
fn s37_tcb_statuses_are_known_and_never_revoked() {
    for (status, code) in
        [("Revoked", "UNSAFE_TCB_STATUS"), ("Fine", "INVALID_VALUE"), ("uptodate", "INVALID_VALUE")]
    {
        let expected = format!("Packages.backend.AcceptedTCBStatuses[0] {code}");
        refused(marblerun(), "/Packages/backend/AcceptedTCBStatuses", json!([status]), &[&expected]);
        let expected = format!("Platforms.Tdx.AcceptedTCBStatuses[0] {code}");
        refused(keeps(), "/Platforms/Tdx/AcceptedTCBStatuses", json!([status]), &[&expected]);
    }
    let strict = with(marblerun(), "/Packages/backend/AcceptedTCBStatuses", json!([]));
    let manifest = parse(&strict).expect("a manifest");
    assert_eq!(manifest.packages()["backend"].accepted[&Platform::Sgx].policy.accepted_tcb_statuses.len(), 1);
    refused(
        keeps(),
        "/Packages/keep/AcceptedTCBStatuses",
        json!(["OutOfDate"]),
        &["Packages.keep.AcceptedTCBStatuses CONFLICT"],
    );
}

#[test]
fn platform_policies_fit_their_vendor() {
    for (pointer, value, expected) in [
        (
            "/Platforms/Snp/AcceptedTCBStatuses",
            json!(["UpToDate"]),
            "Platforms.Snp.AcceptedTCBStatuses NOT_APPLICABLE",
        ),
        (
            "/Platforms/Snp/AcceptedAdvisories",
            json!(["A-1"]),
            "Platforms.Snp.AcceptedAdvisories NOT_APPLICABLE",
        ),
        (
            "/Platforms/Snp/MinimumTcbEvaluationNumber",
            json!(1),
            "Platforms.Snp.MinimumTcbEvaluationNumber NOT_APPLICABLE",
        ),
        ("/Platforms/Tdx/MinimumTcb", json!({"Snp": 1}), "Platforms.Tdx.MinimumTcb NOT_APPLICABLE"),
        ("/Platforms/Tdx/DeniedFamilies", json!(["Milan"]), "Platforms.Tdx.DeniedFamilies NOT_APPLICABLE"),
        ("/Platforms/Snp/MinimumTcb/Snp", json!(256), "Platforms.Snp.MinimumTcb.Snp INVALID_VALUE"),
        ("/Platforms/Snp/DeniedFamilies", json!(["Rome"]), "Platforms.Snp.DeniedFamilies[0] INVALID_VALUE"),
        (
            "/Platforms/Tdx/AcceptedAdvisories",
            json!(["a b"]),
            "Platforms.Tdx.AcceptedAdvisories[0] INVALID_VALUE",
        ),
        (
            "/Platforms/Tdx/MinimumTcbEvaluationNumber",
            json!(4_294_967_296_u64),
            "Platforms.Tdx.MinimumTcbEvaluationNumber INVALID_VALUE",
        ),
        ("/Platforms/Cca", json!({}), "Platforms.Cca.TrustAnchors MISSING"),
        ("/Platforms/Nitro", json!({}), "Platforms.Nitro UNKNOWN_FIELD"),
    ] {
        refused(keeps(), pointer, value, &[expected]);
    }
}

#[test]
fn emulated_roots_are_self_signed_authorities() {
    let pointer = "/Platforms/Snp/EmulatedRoots";
    assert_eq!(faults(&with(keeps(), pointer, json!([ROOT, OTHER_ROOT]))), [""; 0]);
    for text in ["", "x", ALICE, RSA, &format!("{ROOT}{OTHER_ROOT}"), &ROOT.replace('M', "N")] {
        refused(keeps(), pointer, json!([text]), &["Platforms.Snp.EmulatedRoots[0] INVALID_CERTIFICATE"]);
    }
    refused(keeps(), pointer, json!([ROOT, ROOT]), &["Platforms.Snp.EmulatedRoots[1] DUPLICATE_VALUE"]);
}
