//! Composite Evidence: all or nothing, and all for one occasion.

use appraisal::{Code, EmulatedRoot, Piece, Policy, UnixTime, appraise_all, assess_all};
use crypto_aws_lc::AwsLc;

use crate::lab::amd::Amd;
use crate::lab::intel::Intel;
use crate::lab::{NOW, Presented, measurement};

fn policy(pieces: &[&Presented]) -> Policy {
    let roots = pieces.iter().map(|piece| EmulatedRoot::new("lab", &piece.root.0).unwrap());
    Policy::production().trust_emulated(roots)
}

fn piece<'a>(label: &'a str, presented: &'a Presented) -> Piece<'a> {
    Piece { label, evidence: &presented.evidence, endorsements: &presented.endorsements }
}

#[test]
fn all_pieces_are_appraised_together() {
    let (tdx, snp) = (Intel::tdx().present(), Amd::genoa().present());
    let mut reference = tdx.reference();
    reference.measurements.extend(snp.reference().measurements);
    let pieces = [piece("cpu", &tdx), piece("peer", &snp)];
    let policy = policy(&[&tdx, &snp]);
    let appraised = appraise_all(&pieces, &reference, &policy, UnixTime(NOW), &AwsLc).unwrap();
    assert_eq!(appraised.pieces().len(), 2);
    assert!(appraised.emulated());
    let json = serde_json::to_value(appraised.verdict()).unwrap();
    assert_eq!(json["platform"], "composite");
    assert_eq!(json["verdict"], "accepted");
    assert_eq!(json["emulated"], true);
    assert_eq!(json["tcb"]["status"], "UpToDate");
    assert!(
        json["measurements"]["cpu.mrtd"].is_string() && json["measurements"]["peer.measurement"].is_string()
    );

    // One piece of other code, and all is refused; its label tells which.
    let other = measurement(&[0xee; 48]);
    reference.measurements[1].measurement = Some(other);
    let refused = appraise_all(&pieces, &reference, &policy, UnixTime(NOW), &AwsLc).unwrap_err();
    let reasons = refused.verdict().reasons();
    assert_eq!(reasons.len(), 1);
    assert_eq!((reasons[0].code, reasons[0].check.as_str()), (Code::MeasurementMismatch, "peer/mine"));
}

#[test]
fn s12_pieces_of_different_occasions_are_no_composite() {
    let tdx = Intel::tdx().present();
    let mut elsewhere = Amd::genoa();
    elsewhere.report_data = [0xa5; 64];
    let snp = elsewhere.present();
    let pieces = [piece("cpu", &tdx), piece("peer", &snp)];
    let verdict = assess_all(&pieces, None, None, &policy(&[&tdx, &snp]), UnixTime(NOW), &AwsLc);
    assert!(!verdict.is_accepted());
    assert!(verdict.pieces().all(|(_, verdict)| verdict.is_accepted()));
    assert_eq!(verdict.reasons()[0].code, Code::CompositeNotBound);
    assert!(verdict.render(false).contains("peer covers other data"));
}

#[test]
fn nothing_is_not_all() {
    let verdict = assess_all(&[], None, None, &Policy::genuine(), UnixTime(NOW), &AwsLc);
    assert!(!verdict.is_accepted());
    assert_eq!(verdict.reasons()[0].code, Code::CompositeNotBound);
}
