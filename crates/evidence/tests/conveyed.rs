//! Evidence in the envelopes that others use: real samples, each holding Evidence that is also in the corpus raw.

use std::path::Path;

use evidence::cmw::{Cmw, Indicator, MEDIA_TYPE_ENDORSEMENTS};
use evidence::conveyed::Conveyed;
use evidence::{Evidence, Platform};

fn read(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn envelopes_of_others_are_opened() {
    for (file, platform, stapled) in [
        ("composite/dstack-quote-report.json", Platform::Tdx, 0),
        ("composite/services-sevsnp-ratsd-token", Platform::Snp, 3),
        ("composite/services-sevsnp-tsm-report.cbor", Platform::Snp, 3),
        ("composite/services-sevsnp-tsm-report.json", Platform::Snp, 3),
        ("composite/attestation-rs-live-evidence-genoa.json", Platform::Snp, 1),
    ] {
        let conveyed = Conveyed::parse(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let platforms: Vec<_> = conveyed.evidence.iter().map(|(_, evidence)| evidence.platform()).collect();
        assert_eq!((platforms, conveyed.stapled.len()), (vec![platform], stapled), "{file}");
    }
}

#[test]
fn text_and_raw_bytes_are_the_same_evidence() {
    let raw = read("negatives/tdx4-ok.quote");
    let expected = Evidence::parse(&raw).unwrap();
    let hexadecimal = hex::encode(&raw);
    let lines: Vec<_> =
        hexadecimal.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    for text in [hexadecimal.clone(), format!("0x{hexadecimal}\n"), lines.join("\n")] {
        assert_eq!(Conveyed::parse(text.as_bytes()).unwrap().evidence, [(String::new(), expected.clone())]);
    }
    assert_eq!(Conveyed::parse(&raw).unwrap().evidence[0].1, expected);
}

#[test]
fn a_collection_keeps_labels_and_tells_endorsements_from_evidence() {
    let tdx = read("negatives/tdx4-ok.quote");
    let snp = read("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin");
    let record = |value: &[u8], indicator| Cmw::record("application/octet-stream", value.to_vec(), indicator);
    let collection = Cmw::Collection(
        [
            ("cpu".to_owned(), record(&tdx, Indicator::EVIDENCE)),
            ("peer".to_owned(), record(&snp, Indicator::default())),
            ("stapled".to_owned(), Cmw::record(MEDIA_TYPE_ENDORSEMENTS, vec![1], Indicator::ENDORSEMENTS)),
            ("result".to_owned(), record(b"x", Indicator::RESULTS)),
        ]
        .into(),
    );
    for bytes in [collection.to_json().into_bytes(), collection.to_cbor()] {
        let conveyed = Conveyed::parse(&bytes).unwrap();
        let labels: Vec<_> =
            conveyed.evidence.iter().map(|(label, evidence)| (label.as_str(), evidence.platform())).collect();
        assert_eq!(labels, [("cpu", Platform::Tdx), ("peer", Platform::Snp)]);
        assert_eq!(conveyed.stapled, [vec![1]]);
    }
}

#[test]
fn s43_an_envelope_cut_short_or_altered_never_panics() {
    let bytes = read("composite/services-sevsnp-tsm-report.cbor");
    for length in (0..bytes.len()).step_by(97) {
        let _ = Conveyed::parse(&bytes[..length]);
        let mut altered = bytes.clone();
        altered[length] ^= 0xff;
        let _ = Conveyed::parse(&altered);
    }
}
