//! Evidence wrapped, shown and verified again.

use testkit::vectors::path;

use crate::{bailey, text, vector};

const AT: &str = "2025-07-04T10:16:31Z";

#[test]
fn what_is_wrapped_is_shown_and_verified_as_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let quote = path("negatives/tdx4-ok.quote").display().to_string();
    let collateral = path("negatives/tdx4-ok.collateral.json").display().to_string();
    let wrapped = folder.path().join("wrapped").display().to_string();
    let azure = vector("azure", "az-snp-evidence-v1");
    let show = |file: &str| text(&bailey(&["evidence", "show", file, "--json"]).stdout);
    for format in ["json", "cbor", "tag"] {
        for file in [&quote, &azure] {
            let output = bailey(&["evidence", "wrap", file, "--format", format, "--output", &wrapped]);
            assert!(output.status.success(), "{}", text(&output.stderr));
            assert!(evidence::cmw::Cmw::recognises(&std::fs::read(&wrapped).expect("a wrapper")));
            assert_eq!(
                show(&wrapped).replace("\"label\": \"\",", ""),
                show(file).replace("\"label\": \"\",", ""),
                "{format} {file}"
            );
        }
        // A wrapper in a wrapper is a mistake.
        assert_eq!(bailey(&["evidence", "wrap", &wrapped]).status.code(), Some(2));
    }
    // With Endorsements beside it, nothing else is needed.
    for format in ["json", "cbor"] {
        let words =
            ["evidence", "wrap", &quote, "--format", format, "--staple", &collateral, "--output", &wrapped];
        assert!(bailey(&words).status.success());
        let output = bailey(&["evidence", "verify", &wrapped, "--at", AT]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let json = bailey(&["evidence", "wrap", &quote, "--type", "application/x"]);
    assert!(text(&json.stdout).starts_with("[\"application/x\",\"") && text(&json.stdout).ends_with(",4]\n"));
    for words in [
        &["--format", "tag", "--staple", &collateral][..],
        &["--format", "tag", "--type", "application/x"],
        &["--type", "x"],
        &["--staple", &quote],
        &["--content-format", "65536"],
    ] {
        let output = bailey(&[&["evidence", "wrap", &quote][..], words].concat());
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", text(&output.stderr));
    }
    assert_eq!(bailey(&["evidence", "wrap", &collateral]).status.code(), Some(2), "no Evidence");
}
