//! Every row of the corpus gives the verdict that was measured independently.

use appraisal::{Code, Policy, TcbStatus, assess};
use crypto_aws_lc::AwsLc;
use evidence::{Endorsements, Evidence};

use crate::vectors::{Row, amd_certificates, at, dcap, evidence, look, read, rows};

/// Rows of a directory, and what is wrong with them, together.
fn all_rows(directory: &str, check: impl Fn(&Row) -> Result<(), String>) -> usize {
    let rows: Vec<_> = rows().into_iter().filter(|row| row.is_in(directory)).collect();
    let faults: Vec<_> = rows
        .iter()
        .filter_map(|row| check(row).err().map(|fault| format!("{} ({}): {fault}", row.file, row.source)))
        .collect();
    assert!(faults.is_empty(), "{} of {} rows:\n{}", faults.len(), rows.len(), faults.join("\n"));
    rows.len()
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, seen: T, expected: T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what}: expected {expected:?}, seen {seen:?}")) }
}

#[test]
fn every_bundle_gives_the_measured_tcb_status() {
    let count = all_rows("bundles", |row| {
        let quote = evidence(row.noted("for quote "));
        let assessment = look(&quote, &dcap(&row.file), row.at.unwrap());
        let verdict = assessment.verdict();
        let expected = row.expected.split_once("TCB=").unwrap().1.split(' ').next().unwrap();
        if expected == "NO_MATCHING_TCB_LEVEL" {
            expect("status", verdict.tcb().status, None)?;
            return expect("code", verdict.codes().collect::<Vec<_>>(), vec![Code::TcbLevelUnknown]);
        }
        let status: TcbStatus = serde_json::from_str(&format!("{expected:?}")).unwrap();
        expect("status", verdict.tcb().status, Some(status))?;
        let debug = quote_is_debug(&quote);
        let good_enough = !matches!(status, TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded);
        expect("accepted", verdict.is_accepted(), good_enough && !debug)?;
        expect("debug", verdict.codes().any(|code| code == Code::DebugEnabled), debug)
    });
    assert_eq!(count, 104);
}

fn quote_is_debug(evidence: &Evidence) -> bool {
    match evidence {
        Evidence::Sgx(quote) => quote.report().is_debug(),
        Evidence::Tdx(quote) => quote.report().is_debug(),
        Evidence::Snp(report) => report.body().is_debug(),
        _ => false,
    }
}

#[test]
fn every_bundle_expires() {
    all_rows("bundles", |row| {
        let (_, window) = row.notes.split_once("usable window ").unwrap();
        let (start, rest) = window.split_once("..").unwrap();
        let end = rest.split(';').next().unwrap();
        let quote = evidence(row.noted("for quote "));
        let endorsements = dcap(&row.file);
        let codes = |minute: &str, offset: i64| {
            let mut now = at(&format!("{minute}:00Z"));
            now.0 += offset;
            look(&quote, &endorsements, now).verdict().codes().collect::<Vec<_>>()
        };
        let stale = [Code::CollateralExpired, Code::CrlExpired, Code::CertificateExpired];
        let early = [Code::CollateralNotYetValid, Code::CrlNotYetValid, Code::CertificateNotYetValid];
        // The window is given in minutes.
        expect("expired", codes(end, 120).iter().any(|code| stale.contains(code)), true)?;
        expect("early", codes(start, -120).iter().any(|code| early.contains(code)), true)?;
        let inside = codes(start, 120);
        expect("inside", inside.iter().any(|code| stale.contains(code) || early.contains(code)), false)
    });
}

#[test]
fn every_negative_is_refused_and_every_control_accepted() {
    let count = all_rows("negatives", |row| {
        let accepted = Evidence::parse(&read(&row.file)).ok().is_some_and(|quote| {
            let endorsements = dcap(row.noted("collateral "));
            look(&quote, &endorsements, row.at.unwrap()).verdict().is_accepted()
        });
        expect("accepted", accepted, row.expected.starts_with("ACCEPT"))
    });
    assert_eq!(count, 83);
}

/// A negative is worth little when it is refused for another reason than its own.
#[test]
fn negatives_are_refused_for_their_own_reason() {
    let reasons = [
        ("body-bit", Code::QuoteSignatureInvalid),
        ("hdr-userdata", Code::QuoteSignatureInvalid),
        ("sig-bit", Code::QuoteSignatureInvalid),
        ("sig-zero", Code::QuoteSignatureInvalid),
        ("ak-bit", Code::AttestationKeyNotBound),
        ("qe-report-bit", Code::QeReportSignatureInvalid),
        ("qe-sig-bit", Code::QeReportSignatureInvalid),
        ("qe-auth-bit", Code::AttestationKeyNotBound),
        ("pck-leaf-b64", Code::ChainSignatureInvalid),
        ("tcbinfo-status", Code::CollateralSignatureInvalid),
        ("tcbinfo-ws", Code::CollateralSignatureInvalid),
        ("tcbinfo-sig0", Code::CollateralSignatureInvalid),
        ("qeid-status", Code::CollateralSignatureInvalid),
        ("tcb-wrong-issuer", Code::CertificateMalformed),
        ("crl-swap", Code::CrlIssuerMismatch),
        ("rootcrl-swap", Code::CrlIssuerMismatch),
        ("crl-bit", Code::CrlSignatureInvalid),
        ("expired", Code::CollateralExpired),
        // TCB signing was certified later than that, too.
        ("early", Code::CrlNotYetValid),
        ("fmspc-mismatch", Code::FmspcMismatch),
        ("splice-sig", Code::QuoteSignatureInvalid),
        ("x-tdx-quote-sgx-collateral", Code::CollateralMismatch),
        ("x-sgx-quote-tdx-collateral", Code::CollateralMismatch),
        ("x-qeid-sgx-for-tdx", Code::CollateralMismatch),
    ];
    let mut seen = 0;
    for row in rows().iter().filter(|row| row.is_in("negatives")) {
        let case = row.source.trim_start_matches("derived (case ").trim_end_matches(')');
        let name = case
            .trim_start_matches("tdx4-")
            .trim_start_matches("tdx5ex-")
            .trim_start_matches("sgx3-")
            .trim_start_matches("x-");
        let Some((_, code)) = reasons.iter().find(|(own, _)| *own == name || *own == case) else { continue };
        let assessment = look(&evidence(&row.file), &dcap(row.noted("collateral ")), row.at.unwrap());
        let codes: Vec<_> = assessment.verdict().codes().collect();
        // The bit that was flipped in the SGX list is one of its issuer's name.
        let code = if case == "sgx3-crl-bit" { &Code::CrlIssuerMismatch } else { code };
        assert!(codes.contains(code), "{case}: {codes:?}");
        seen += 1;
    }
    assert_eq!(seen, 62);
}

#[test]
fn every_sgx_and_tdx_quote_is_read_and_authentic_as_measured() {
    let check = |row: &Row| {
        let bytes = read(&row.file);
        let quote = Evidence::parse(&bytes).map_err(|error| error.to_string())?;
        let now = row.at.unwrap_or(at("2025-01-01T00:00:00Z"));
        let assessment = look(&quote, &Endorsements::default(), now);
        let verdict = assessment.verdict();
        let genuine = verdict.origin().is_some();
        expect("genuine", genuine, !row.expected.contains("REJECT"))?;
        expect("accepted without collateral", verdict.is_accepted(), false)?;
        expect("debug", genuine && quote_is_debug(&quote), genuine && row.expected.contains("DEBUG"))
    };
    assert_eq!(all_rows("sgx", check), 14);
    assert_eq!(all_rows("tdx", check), 21);
}

#[test]
fn certification_data_that_needs_a_look_up_says_so() {
    for file in [
        "sgx/SGX-TDX-DCAP-QuoteVerificationLibrary-quote.dat.quote-v3-sgx-8cc428.bin",
        "sgx/dcap-ql-0.4.3-quote_raw_tcb.bin.quote-v3-sgx-2f59d4.bin",
    ] {
        let assessment = look(&evidence(file), &Endorsements::default(), at("2020-05-06T11:10:42Z"));
        assert_eq!(assessment.verdict().codes().collect::<Vec<_>>(), [Code::CertificationDataUnsupported]);
    }
}

#[test]
fn a_test_root_of_intels_is_no_vendor_root() {
    let quote = evidence("tdx/SGX-TDX-DCAP-QuoteVerificationLibrary-quote.dat.quote-v4-tdx-aa2caf.bin");
    let assessment = look(&quote, &Endorsements::default(), at("2022-01-01T00:00:00Z"));
    assert_eq!(assessment.verdict().codes().collect::<Vec<_>>(), [Code::RootNotTrusted]);
}

#[test]
fn every_snp_report_verifies_as_measured() {
    let builder = amd_certificates();
    let count = all_rows("snp", |row| {
        let report = evidence(&row.file);
        let now = row.at.unwrap_or(at("2025-06-01T00:00:00Z"));
        let endorsements = builder.fit(&report, now);
        let assessment = look(&report, &endorsements, now);
        let verdict = assessment.verdict();
        let good = row.expected.starts_with("crypto OK");
        if verdict.is_accepted() != good {
            return Err(verdict.render_all(false));
        }
        if !good {
            return Ok(());
        }
        let (_, prefix) = row.expected.split_once("EK ").unwrap();
        let vek = endorsements.amd.as_ref().map(|amd| hex(&appraisal::Crypto::sha256(&AwsLc, &[&amd.vek.0])));
        expect("certificate", vek.unwrap().get(..10), prefix.get(..10))?;
        let (_, chain) = row.expected.split_once("<-ARK-").unwrap();
        expect("product", verdict.product(), chain.split(';').next())
    });
    assert_eq!(count, 24);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_vlek_is_valid_for_a_year_only() {
    let report = evidence("snp/trustee-test-vlek-report.bin.report-v3-decdab.bin");
    let builder = amd_certificates();
    for (now, code) in [
        ("2024-12-09T00:00:00Z", Some(Code::CertificateNotYetValid)),
        ("2025-06-01T00:00:00Z", None),
        ("2025-12-11T00:00:00Z", Some(Code::CertificateExpired)),
    ] {
        let endorsements = builder.fit(&report, at(now));
        let assessment = look(&report, &endorsements, at(now));
        assert_eq!(assessment.verdict().codes().next(), code, "{now}\n{}", assessment.verdict());
    }
}

/// AMD's list for Genoa of 2022-10-31 revokes the first ASK. Reports of today are under the second one.
#[test]
fn s20_an_expired_crl_of_amds_is_a_warning_or_a_refusal_by_policy() {
    let report = evidence("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin");
    let now = at("2025-08-08T17:21:41Z");
    let mut endorsements = amd_certificates().fit(&report, now);
    let amd = endorsements.amd.as_mut().unwrap();
    amd.crl = Some(evidence::CrlDer(read("amd-collateral/steward-crl-ARK-Genoa-2022-10-31.der")));
    // The VCEK is of the second ASK, so the list does not touch it, but it is old.
    let assessment = look(&report, &endorsements, now);
    let warned: Vec<_> = assessment.verdict().warnings().iter().map(|reason| reason.code).collect();
    assert!(assessment.verdict().is_accepted() && warned == [Code::CrlExpired], "{}", assessment.verdict());
    let production = assess(&report, &endorsements, None, None, &Policy::production(), now, &AwsLc);
    assert_eq!(production.verdict().codes().collect::<Vec<_>>(), [Code::CrlExpired]);
}

#[test]
fn amd_negatives_do_not_chain() {
    let reports = ["snp/trustee-test-report.bin.report-v2-7c6146.bin"];
    for row in rows().iter().filter(|row| row.is_in("amd-collateral") && row.expected.contains("INVALID")) {
        for file in reports {
            let report = evidence(file);
            let now = at("2024-01-01T00:00:00Z");
            let mut endorsements = amd_certificates().fit(&report, now);
            endorsements.amd.as_mut().unwrap().vek = evidence::CertificateDer(read(&row.file));
            let assessment = look(&report, &endorsements, now);
            let code = assessment.verdict().codes().next();
            assert_eq!(code, Some(Code::ChainSignatureInvalid), "{}: {}", row.file, assessment.verdict());
        }
    }
}

/// One report, one instant: the vendor's later judgement changes the verdict (S-18).
#[test]
fn s18_the_evaluation_floor_decides_between_collateral_of_one_instant() {
    let bundle = "bundles/quote-v3-sgx-268c0681-20250606T1230-e17.collateral.json";
    let quote = evidence("sgx/automata-dcap-attestation-sample_quotes.quote-v3-sgx-268c06.bin");
    let now = at("2025-06-20T10:55:06Z");
    let mut policy = Policy::genuine();
    assert!(assess(&quote, &dcap(bundle), None, None, &policy, now, &AwsLc).verdict().is_accepted());
    policy.minimum.tcb_evaluation_data_number = Some(18);
    let assessment = assess(&quote, &dcap(bundle), None, None, &policy, now, &AwsLc);
    assert_eq!(assessment.verdict().codes().collect::<Vec<_>>(), [Code::CollateralRolledBack]);
}

/// Each root and issuer that is compiled in has the digest that `roots/README.md` publishes for it.
#[test]
fn the_compiled_in_certificates_are_those_that_are_published() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("roots");
    let readme = std::fs::read_to_string(directory.join("README.md")).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".der") {
            let digest = hex(&appraisal::Crypto::sha256(&AwsLc, &[&std::fs::read(&path).unwrap()]));
            let row = readme.lines().find(|line| line.contains(&format!("| `{name}` |"))).unwrap();
            assert!(row.contains(&digest), "{name}: {digest}");
            count += 1;
        }
    }
    assert_eq!(count, 13);
}
