//! Why a platform has the status that it has, and what would mend it: for people in the tree, for machines in
//! `tcb.parts`. Statuses for which nobody recorded a platform are made in the lab.

use appraisal::{Code, Outcome, Policy, Shortfall, TcbPart, TcbStatus, TcbTarget, Verdict};

use crate::lab::intel::Intel;
use crate::vectors::{at, dcap, evidence, look};

/// A level of TCB info as Intel writes it since 2024, with its words for five of the components.
fn level(
    date: &str,
    status: &str,
    advisories: &[&str],
    sgx: [u8; 5],
    pce_svn: u16,
    tdx: Option<[u8; 3]>,
) -> String {
    let words = [
        r#","category":"BIOS","type":"Early Microcode Update""#,
        r#","category":"OS/VMM","type":"SGX Late Microcode Update""#,
        r#","category":"OS/VMM","type":"TXT SINIT""#,
        r#","category":"BIOS""#,
        "",
    ];
    let tdx_words = [
        r#","category":"OS/VMM","type":"TDX Module""#,
        r#","category":"OS/VMM","type":"TDX Module""#,
        r#","category":"OS/VMM","type":"TDX Late Microcode Update""#,
    ];
    let list = |named: &[u8], words: &[&str]| {
        let named = named.iter().zip(words).map(|(svn, words)| format!(r#"{{"svn":{svn}{words}}}"#));
        let rest = std::iter::repeat_n(r#"{"svn":0}"#.to_owned(), 16 - words.len());
        format!("[{}]", named.chain(rest).collect::<Vec<_>>().join(","))
    };
    let sgx = list(&sgx, &words);
    let tdx = tdx.map(|tdx| format!(r#","tdxtcbcomponents":{}"#, list(&tdx, &tdx_words))).unwrap_or_default();
    let advisories: Vec<_> = advisories.iter().map(|id| format!("{id:?}")).collect();
    let advisories = match advisories.as_slice() {
        [] => String::new(),
        ids => format!(r#","advisoryIDs":[{}]"#, ids.join(",")),
    };
    format!(
        r#"{{"tcb":{{"sgxtcbcomponents":{sgx},"pcesvn":{pce_svn}{tdx}}},"tcbDate":"{date}T00:00:00Z","tcbStatus":"{status}"{advisories}}}"#
    )
}

fn enclave(levels: &[String]) -> Intel {
    Intel { levels: Some(levels.join(",")), ..Intel::sgx() }
}

/// The verdict of a platform that production refuses for its status alone.
#[track_caller]
fn refused(platform: &Intel, code: Code) -> Verdict {
    let refused = platform.present().appraise().unwrap_err();
    assert_eq!(refused.codes(), [code], "{}", refused.verdict());
    refused.verdict().clone()
}

fn part<'v>(verdict: &'v Verdict, name: &str) -> &'v TcbPart {
    let found = verdict.tcb().parts.iter().find(|part| part.name == name);
    found.unwrap_or_else(|| panic!("no part {name} in\n{verdict}"))
}

fn mend(verdict: &Verdict) -> &str {
    verdict.reasons()[0].mend.as_deref().unwrap_or_else(|| panic!("no mend in\n{verdict}"))
}

fn short(component: &str, seen: u16, required: u16) -> Shortfall {
    Shortfall { component: component.into(), seen, required }
}

fn target(status: TcbStatus, date: &str) -> TcbTarget {
    TcbTarget { status, date: at(&format!("{date}T00:00:00Z")) }
}

#[test]
fn each_short_component_is_named_with_what_it_needs() {
    let verdict = refused(
        &enclave(&[
            level("2026-05-14", "UpToDate", &[], [7, 6, 8, 9, 6], 13, None),
            level("2025-11-12", "OutOfDate", &["SA-3"], [6, 6, 5, 5, 5], 13, None),
            level("2025-02-12", "OutOfDate", &["SA-2", "SA-3"], [6, 6, 5, 5, 5], 11, None),
            level("2024-03-13", "OutOfDate", &["SA-1", "SA-2", "SA-3"], [5, 5, 5, 5, 5], 11, None),
        ]),
        Code::TcbOutOfDate,
    );
    let platform = part(&verdict, "platform");
    assert_eq!(platform.status, TcbStatus::OutOfDate);
    assert_eq!(platform.date, at("2024-03-13T00:00:00Z"));
    assert_eq!(platform.target, Some(target(TcbStatus::UpToDate, "2026-05-14")));
    assert_eq!(
        platform.shortfalls,
        [
            short("CPU component 1 (Early Microcode Update)", 5, 7),
            short("CPU component 2 (SGX Late Microcode Update)", 5, 6),
            short("CPU component 3 (TXT SINIT)", 5, 8),
            short("CPU component 4 (BIOS)", 5, 9),
            short("CPU component 5", 5, 6),
            short("PCE", 11, 13),
        ]
    );
    let told: Vec<_> = platform
        .advisories
        .iter()
        .map(|own| (own.id.as_str(), own.affects.as_str(), own.since.unwrap()))
        .collect();
    let all = "microcode, TXT SINIT module, firmware (BIOS), firmware or microcode, provisioning certification enclave";
    assert_eq!(
        told,
        [
            ("SA-1", "microcode", at("2025-02-12T00:00:00Z")),
            ("SA-2", "microcode, provisioning certification enclave", at("2025-11-12T00:00:00Z")),
            ("SA-3", all, at("2026-05-14T00:00:00Z")),
        ]
    );
    let mend = mend(&verdict);
    for words in ["microcode update", "TXT SINIT", "BIOS update", "(DCAP)", "reaches UpToDate once its PCK"] {
        assert!(mend.contains(words), "{mend}");
    }
    let json = serde_json::to_value(&verdict).unwrap();
    let first = &json["tcb"]["parts"][0];
    assert_eq!((&first["name"], &first["status"]), (&"platform".into(), &"OutOfDate".into()));
    assert_eq!(first["shortfalls"][5], serde_json::json!({"component": "PCE", "seen": 11, "required": 13}));
    assert_eq!(first["target"]["status"], "UpToDate");
    assert_eq!(first["advisories"][0]["since"], "2025-02-12T00:00:00Z");
}

#[test]
fn settings_that_would_help_are_told_from_updates() {
    let verdict = refused(
        &enclave(&[
            level("2026-05-14", "SWHardeningNeeded", &["SA-1"], [5, 5, 5, 6, 5], 11, None),
            level("2026-05-14", "ConfigurationAndSWHardeningNeeded", &["SA-1", "SA-2"], [5; 5], 11, None),
        ]),
        Code::TcbConfigurationAndSwHardeningNeeded,
    );
    let platform = part(&verdict, "platform");
    assert_eq!(platform.target, Some(target(TcbStatus::SWHardeningNeeded, "2026-05-14")));
    assert!(mend(&verdict).contains("hyperthreading"), "{}", mend(&verdict));
    assert_eq!(platform.advisories[0].since, None);
    assert!(platform.advisories[0].affects.contains("no update here ends it"));
    for (status, code, words) in [
        ("SWHardeningNeeded", Code::TcbSwHardeningNeeded, "software that mitigates the advisories"),
        ("ConfigurationNeeded", Code::TcbConfigurationNeeded, "hyperthreading"),
        ("OutOfDate", Code::TcbOutOfDate, "another platform: Intel lists no level above this one"),
        ("Revoked", Code::TcbRevoked, "another platform: Intel revoked this level"),
    ] {
        let verdict = refused(&enclave(&[level("2026-05-14", status, &[], [5; 5], 11, None)]), code);
        assert_eq!(part(&verdict, "platform").target, None);
        assert!(mend(&verdict).contains(words), "{}", mend(&verdict));
    }
}

#[test]
fn an_outdated_platform_that_needs_settings_too_says_both() {
    let verdict = refused(
        &enclave(&[
            level("2026-05-14", "UpToDate", &[], [6; 5], 11, None),
            level("2024-05-14", "OutOfDateConfigurationNeeded", &[], [5; 5], 11, None),
        ]),
        Code::TcbOutOfDateConfigurationNeeded,
    );
    assert!(mend(&verdict).contains("microcode") && mend(&verdict).contains("hyperthreading"));
}

#[test]
fn advisories_of_platform_module_and_quoting_enclave_are_united() {
    let mut platform = Intel {
        levels: Some(
            [
                level("2026-05-14", "UpToDate", &[], [6; 5], 11, Some([0, 0, 5])),
                level("2025-05-14", "OutOfDate", &["SA-9", "LAB-SA-1"], [5; 5], 11, Some([0, 0, 4])),
            ]
            .join(","),
        ),
        qe_isv_svn: 7,
        ..Intel::tdx()
    };
    platform.tee_tcb_svn[0] = 4;
    let verdict = refused(&platform, Code::TcbOutOfDate);
    assert_eq!(verdict.tcb().advisories, ["LAB-SA-1", "SA-9"]);
    let names: Vec<_> = verdict.tcb().parts.iter().map(|part| part.name).collect();
    assert_eq!(names, ["platform", "tdx-module", "quoting-enclave"]);
    assert_eq!(part(&verdict, "tdx-module").shortfalls, [short("TDX module TDX_01", 4, 5)]);
    assert_eq!(part(&verdict, "tdx-module").advisories[0].affects, "TDX module");
    assert_eq!(part(&verdict, "quoting-enclave").shortfalls, [short("quoting enclave", 7, 8)]);
    assert!(part(&verdict, "platform").shortfalls.contains(&short(
        "TDX component 3 (TDX Late Microcode Update)",
        4,
        5
    )));
    let mend = mend(&verdict);
    assert!(mend.contains("a TDX module update, to version 5"), "{mend}");
    assert!(mend.contains("a newer quoting enclave (DCAP), to version 8"), "{mend}");
    // The oldest of the three.
    assert_eq!(verdict.tcb().date, Some(at("2024-01-01T00:00:00Z")));
}

/// A module of version 0 is one of the platform's components.
#[test]
fn a_module_of_version_0_is_short_as_a_component() {
    let mut platform = Intel {
        levels: Some(
            [
                level("2026-05-14", "UpToDate", &[], [5; 5], 11, Some([6, 0, 4])),
                level("2025-05-14", "OutOfDate", &[], [5; 5], 11, Some([5, 0, 4])),
            ]
            .join(","),
        ),
        ..Intel::tdx()
    };
    platform.tee_tcb_svn[1] = 0;
    let verdict = refused(&platform, Code::TcbOutOfDate);
    assert_eq!(part(&verdict, "platform").shortfalls, [short("TDX component 1 (TDX Module)", 5, 6)]);
    assert!(mend(&verdict).contains("a TDX module update"));
}

#[test]
fn a_td_that_only_has_to_be_launched_again_is_told_so() {
    let good = Intel::tdx().tee_tcb_svn;
    let mut old = good;
    old[0] = 4;
    let verdict = refused(
        &Intel { tee_tcb_svn: old, current_svn: Some(good), ..Intel::tdx() },
        Code::TcbTdRelaunchAdvised,
    );
    assert_eq!(verdict.tcb().status, Some(TcbStatus::TDRelaunchAdvised));
    assert_eq!(part(&verdict, "tdx-module").status, TcbStatus::OutOfDate);
    assert_eq!(part(&verdict, "tdx-module-now").status, TcbStatus::UpToDate);
    assert_eq!(mend(&verdict), "relaunch the TD: what runs now is newer than what it was launched under");
    let configured = refused(
        &Intel {
            tee_tcb_svn: old,
            current_svn: Some(good),
            platform_status: "ConfigurationNeeded",
            ..Intel::tdx()
        },
        Code::TcbTdRelaunchAdvisedConfigurationNeeded,
    );
    let mend = mend(&configured);
    assert!(mend.starts_with("relaunch the TD") && mend.contains("hyperthreading"), "{mend}");
}

#[test]
fn s37_what_is_revoked_now_is_revoked_whatever_it_was_at_the_launch() {
    let good = Intel::tdx().tee_tcb_svn;
    let mut newer = good;
    newer[0] = 6;
    let revoked = Intel { module_status: "Revoked", ..Intel::tdx() };
    refused(&Intel { current_svn: Some(newer), ..revoked }, Code::TcbRevoked);
}

/// Details have the outcome of the status that they explain: what a policy accepts, they do not refuse.
#[test]
fn details_of_an_accepted_status_are_warnings_without_a_code() {
    let presented = enclave(&[
        level("2026-05-14", "UpToDate", &[], [6; 5], 11, None),
        level("2024-05-14", "OutOfDate", &["SA-1"], [5; 5], 11, None),
    ])
    .present();
    let policy = Policy { accepted_tcb: [TcbStatus::OutOfDate].into(), ..presented.policy() };
    let appraised = presented.appraise_under(&policy).unwrap();
    let verdict = appraised.verdict();
    let warned: Vec<_> = verdict.warnings().iter().map(|reason| (reason.code, &*reason.check)).collect();
    assert_eq!(warned, [(Code::TcbOutOfDate, "tcb/status")]);
    let detail = verdict.check("tcb/status/platform/shortfall").unwrap();
    assert_eq!((detail.outcome, detail.code), (Outcome::Warned, None));
    assert!(verdict.check("tcb/status/platform/advisory").is_some());
    assert_eq!(verdict.check("tcb/status/quoting-enclave").unwrap().outcome, Outcome::Passed);
}

#[test]
fn versions_below_every_level_say_what_the_lowest_needs() {
    let verdict = refused(
        &enclave(&[
            level("2026-05-14", "UpToDate", &[], [7; 5], 13, None),
            level("2024-05-14", "OutOfDate", &[], [6, 5, 5, 5, 5], 12, None),
        ]),
        Code::TcbLevelUnknown,
    );
    let check = verdict.check("tcb/platform").unwrap();
    assert_eq!(check.expected.as_deref(), Some("CPU component 1 (Early Microcode Update) at 6, PCE at 12"));
    assert_eq!(check.observed.as_deref(), Some("CPU component 1 (Early Microcode Update) at 5, PCE at 11"));
    assert!(verdict.tcb().parts.iter().all(|part| part.name != "platform"));
}

/// The same of a real machine, one later evaluation each.
#[test]
fn a_real_quoting_enclave_that_is_out_of_date_is_named() {
    let quote = evidence("sgx/steward-icelake.signed.tcb.crl.multi.xeon.csr.quote-v3-sgx-960176.bin");
    let bundle = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/bundles")).unwrap();
    let names = bundle.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let name = names.filter(|name| name.starts_with("quote-v3-sgx-960176")).max().unwrap();
    let row = crate::vectors::rows().into_iter().find(|row| row.file.ends_with(&name)).unwrap();
    let assessment = look(&quote, &dcap(&row.file), row.at.unwrap());
    let enclave = part(assessment.verdict(), "quoting-enclave");
    assert_eq!(enclave.status, TcbStatus::OutOfDate);
    assert_eq!(enclave.shortfalls, [short("quoting enclave", 7, 8)]);
    assert!(enclave.advisories.iter().all(|own| own.affects == "quoting enclave"));
}

/// Intel's Quote Verification Library, `convergeTcbStatus` and `checkForRelaunch`, for the words that it knows of
/// each part: a TDX module or quoting enclave is up to date, out of date or revoked.
#[test]
fn statuses_merge_as_intels_library_merges_them() {
    use TcbStatus::*;
    let platforms = [
        (UpToDate, OutOfDate),
        (SWHardeningNeeded, OutOfDate),
        (ConfigurationNeeded, OutOfDateConfigurationNeeded),
        (ConfigurationAndSWHardeningNeeded, OutOfDateConfigurationNeeded),
        (OutOfDate, OutOfDate),
        (OutOfDateConfigurationNeeded, OutOfDateConfigurationNeeded),
        (Revoked, Revoked),
    ];
    for (platform, outdated) in platforms {
        assert_eq!(platform.merge(UpToDate), platform);
        assert_eq!(platform.merge(OutOfDate), outdated);
        assert_eq!(platform.merge(Revoked), Revoked);
    }
    for (launch, current, merged) in [
        (OutOfDate, UpToDate, TDRelaunchAdvised),
        (OutOfDate, SWHardeningNeeded, TDRelaunchAdvised),
        (OutOfDate, ConfigurationNeeded, TDRelaunchAdvisedConfigurationNeeded),
        (OutOfDate, ConfigurationAndSWHardeningNeeded, TDRelaunchAdvisedConfigurationNeeded),
        (OutOfDateConfigurationNeeded, UpToDate, TDRelaunchAdvisedConfigurationNeeded),
        (OutOfDateConfigurationNeeded, ConfigurationNeeded, TDRelaunchAdvisedConfigurationNeeded),
        (OutOfDate, OutOfDate, OutOfDate),
        (OutOfDateConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded),
        (UpToDate, UpToDate, UpToDate),
        (SWHardeningNeeded, UpToDate, SWHardeningNeeded),
        (ConfigurationNeeded, UpToDate, ConfigurationNeeded),
    ] {
        assert_eq!(TcbStatus::relaunch(launch, current), merged, "{launch}, now {current}");
    }
    // Stricter than Intel's, which looks at the launch alone here.
    assert_eq!(TcbStatus::relaunch(UpToDate, OutOfDate), OutOfDate);
    assert_eq!(TcbStatus::relaunch(UpToDate, Revoked), Revoked);
}
