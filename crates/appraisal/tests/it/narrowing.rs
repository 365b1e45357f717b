//! A further opinion can only narrow, wherever it is attached.

use appraisal::{
    Capacity, Code, Examination, Narrowing, Objection, Outcome, Policy, UnixTime, Verdict, Verifier, assess,
};
use crypto_aws_lc::AwsLc;

use crate::lab::NOW;
use crate::lab::intel::Intel;
use crate::vectors::{at, read};

#[derive(Clone, Debug)]
struct Opinion(Result<(), Vec<Objection>>);

impl Narrowing for Opinion {
    fn narrow(&self, accepted: &Verdict) -> Result<(), Vec<Objection>> {
        assert!(accepted.is_accepted(), "it is asked about what is accepted only");
        self.0.clone()
    }
}

fn yes() -> Opinion {
    Opinion(Ok(()))
}

fn no() -> Opinion {
    Opinion(Err(vec![Objection { code: Code::RegoDenied, text: "not today".into(), mend: None }]))
}

#[test]
fn a_proof_stays_one_only_if_nothing_is_objected() {
    let presented = Intel::tdx().present();
    assert!(presented.appraise().unwrap().narrow(&yes()).is_ok());
    let refused = presented.appraise().unwrap().narrow(&no()).unwrap_err();
    assert_eq!(refused.codes(), [Code::RegoDenied]);
    assert!(refused.to_string().contains("not today"));
    let silent = presented.appraise().unwrap().narrow(&Opinion(Err(Vec::new()))).unwrap_err();
    assert_eq!(silent.codes(), [Code::RegoDenied], "no reason is no consent");
}

#[test]
fn a_verifier_asks_each_time() {
    let presented = Intel::tdx().present();
    let (policy, reference) = (presented.policy(), presented.reference());
    let accepts = |verifier: &Verifier| {
        verifier
            .appraise(&presented.evidence, &presented.endorsements, &reference, &policy, UnixTime(NOW))
            .is_ok()
    };
    let agreeing = Verifier::new(AwsLc, Capacity::default()).narrowed_by(yes());
    let objecting = Verifier::new(AwsLc, Capacity::default()).narrowed_by(no());
    for _ in 0..2 {
        assert!(accepts(&agreeing));
        assert!(!accepts(&objecting));
    }
}

#[test]
fn a_refusal_stays_one() {
    let presented = Intel { platform_status: "OutOfDate", ..Intel::tdx() }.present();
    let look = assess(
        &presented.evidence,
        &presented.endorsements,
        None,
        None,
        &presented.policy(),
        UnixTime(NOW),
        &AwsLc,
    );
    let before: Vec<_> = look.verdict().codes().collect();
    let narrowed = look.narrow(&yes());
    assert!(!narrowed.verdict().is_accepted());
    assert_eq!(narrowed.verdict().codes().collect::<Vec<_>>(), before);
    assert_eq!(narrowed.verdict().check("narrowing").unwrap().outcome, Outcome::Skipped);
}

#[test]
fn an_examination_asks() {
    for (opinion, accepted) in [(yes(), true), (no(), false)] {
        let mut examination = Examination::new(&read("negatives/tdx4-ok.quote")).unwrap();
        examination.endorse(&read("negatives/tdx4-ok.collateral.json")).unwrap();
        examination.hold_against(Policy::genuine());
        examination.narrow_by(std::sync::Arc::new(opinion));
        let examined = examination.assess(at("2025-07-04T10:16:31Z"), &AwsLc);
        assert_eq!(examined.is_accepted(), accepted);
    }
}
