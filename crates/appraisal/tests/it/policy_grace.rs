//! Exceptions that end: grace for a status, waivers of advisories; and the floors and lists that they do not lift.

use appraisal::{
    Code, Grace, GraceEnd, Outcome, Policy, Refused, SnpMinimum, TcbStatus, TpmPolicy, UnixTime, Verdict,
    Waiver,
};

use evidence::Platform;

use crate::lab::amd::Amd;
use crate::lab::intel::Intel;
use crate::lab::tpm::Tpm;
use crate::lab::{DAY, NOW, Presented, warned};

const OPS: &str = "ops@example.com";
const OUT_OF_DATE: [Code; 1] = [Code::TcbOutOfDate];

/// An SGX platform at a level of 2025-12-01 below the one that is up to date, with two advisories open.
fn outdated(status: &str) -> Presented {
    let level = |svn: u8, date: &str, status: &str, advisories: &str| {
        let components = vec![format!(r#"{{"svn":{svn}}}"#); 16].join(",");
        format!(
            r#"{{"tcb":{{"sgxtcbcomponents":[{components}],"pcesvn":5}},"tcbDate":"{date}T00:00:00Z","tcbStatus":"{status}","advisoryIDs":[{advisories}]}}"#
        )
    };
    let levels =
        [level(6, "2026-03-01", "UpToDate", ""), level(2, "2025-12-01", status, r#""LAB-SA-2","LAB-SA-3""#)];
    Intel { levels: Some(levels.join(",")), ..Intel::sgx() }.present()
}

fn until(days: i64) -> Grace {
    Grace {
        status: TcbStatus::OutOfDate,
        end: GraceEnd::Until(UnixTime(NOW + days * DAY)),
        tcb_date_from: None,
        advisories: [].into(),
        platforms: [].into(),
        families: [].into(),
        granted_by: OPS.into(),
        reason: Some("a BIOS was ordered".into()),
    }
}

fn waiver(id: &str, days: i64) -> Waiver {
    Waiver { id: id.into(), until: UnixTime(NOW + days * DAY), reason: None, granted_by: OPS.into() }
}

fn both(days: i64) -> Vec<Waiver> {
    vec![waiver("LAB-SA-2", days), waiver("lab-sa-3", days)]
}

#[track_caller]
fn refused(presented: &Presented, change: impl FnOnce(&mut Policy)) -> Refused {
    presented.appraise_under(&presented.policy_with(change)).unwrap_err()
}

fn exception(verdict: &Verdict) -> (Outcome, &str) {
    let check = verdict.check("tcb/status/exception").unwrap_or_else(|| panic!("{verdict}"));
    (check.outcome, check.text.as_str())
}

#[test]
fn a_grace_accepts_until_its_end_and_says_who_granted_it() {
    let presented = outdated("OutOfDate");
    for days in [0, 30] {
        let policy = presented.policy_with(|policy| policy.grace = vec![until(days)]);
        let appraised = presented.appraise_under(&policy).unwrap();
        let [warning] = appraised.verdict().warnings() else { panic!("{}", appraised.verdict()) };
        assert_eq!(warning.code, Code::TcbInGrace);
        let said = format!("{days} days left, granted by {OPS} (a BIOS was ordered)");
        assert!(warning.text.contains(&said), "{}", warning.text);
        assert!(warning.mend.as_deref().unwrap().contains("microcode update"), "{warning:?}");
        assert_eq!(appraised.verdict().tcb().status, Some(TcbStatus::OutOfDate), "grace changes no fact");
    }
}

#[test]
fn a_grace_that_ended_accepts_nothing_and_is_named() {
    let refused = refused(&outdated("OutOfDate"), |policy| policy.grace = vec![until(-1)]);
    assert_eq!(refused.codes(), OUT_OF_DATE);
    let (outcome, text) = exception(refused.verdict());
    assert_eq!(outcome, Outcome::Failed);
    assert!(text.contains("the grace that ops@example.com granted ended 1 days ago"), "{text}");
}

#[test]
fn the_grace_that_ends_last_counts() {
    let graces = vec![until(-1), until(9), until(2)];
    let presented = outdated("OutOfDate");
    let appraised = presented.appraise_under(&presented.policy_with(|policy| policy.grace = graces)).unwrap();
    assert!(appraised.verdict().warnings()[0].text.contains("9 days left"));
}

#[test]
fn a_grace_may_count_from_the_date_of_the_level() {
    // 196 and a half days lie between the level's date and now.
    let after = |days| Grace { end: GraceEnd::DaysAfterTcbDate(days), ..until(0) };
    let presented = outdated("OutOfDate");
    assert_eq!(presented.accepted_with(|policy| policy.grace = vec![after(197)]), [Code::TcbInGrace]);
    assert_eq!(presented.refused_with(|policy| policy.grace = vec![after(196)]), OUT_OF_DATE);
}

#[test]
fn a_grace_is_for_what_it_names() {
    let presented = outdated("OutOfDate");
    let date = |text: &str| Some(text.parse().unwrap());
    let fitting = [
        Grace { families: ["B0C06F000000".to_owned()].into(), ..until(9) },
        Grace { platforms: [Platform::Sgx].into(), ..until(9) },
        Grace { advisories: ["LAB-SA-2".to_owned(), "lab-sa-3".to_owned()].into(), ..until(9) },
        Grace { tcb_date_from: date("2025-12-01T00:00:00Z"), ..until(9) },
    ];
    for grace in fitting {
        assert_eq!(presented.accepted_with(|policy| policy.grace = vec![grace]), [Code::TcbInGrace]);
    }
    let others = [
        Grace { status: TcbStatus::SWHardeningNeeded, ..until(9) },
        Grace { families: ["Milan".to_owned()].into(), ..until(9) },
        Grace { platforms: [Platform::Tdx, Platform::Snp].into(), ..until(9) },
        Grace { advisories: ["LAB-SA-2".to_owned()].into(), ..until(9) },
        Grace { tcb_date_from: date("2025-12-02T00:00:00Z"), ..until(9) },
    ];
    for grace in others {
        let refused = refused(&presented, |policy| policy.grace = vec![grace]);
        assert_eq!(refused.codes(), OUT_OF_DATE);
        let (outcome, text) = exception(refused.verdict());
        assert_eq!(outcome, Outcome::Skipped);
        assert!(text.contains("whoever sets the policy \"production\" may grant grace"), "{text}");
    }
}

#[test]
fn only_those_named_may_grant() {
    let presented = outdated("OutOfDate");
    for exceptions in [(vec![until(9)], vec![]), (vec![], both(9))] {
        let under = |who: &'static str| {
            let (grace, waived) = exceptions.clone();
            move |policy: &mut Policy| {
                (policy.grace, policy.waived_advisories) = (grace, waived);
                policy.may_grant = [who.to_owned()].into();
            }
        };
        assert_eq!(presented.accepted_with(under(OPS)).len(), 1);
        let refused = refused(&presented, under("ciso@example.com"));
        assert_eq!(refused.codes(), OUT_OF_DATE);
        assert!(exception(refused.verdict()).1.contains("ciso@example.com may grant"));
    }
}

#[test]
fn revoked_has_no_grace_and_no_waiver() {
    let refused = refused(&outdated("Revoked"), |policy| {
        policy.grace = vec![Grace { status: TcbStatus::Revoked, ..until(9) }];
        policy.waived_advisories = both(9);
        policy.accepted_tcb.insert(TcbStatus::Revoked);
    });
    assert_eq!(refused.codes(), [Code::TcbRevoked]);
    assert!(exception(refused.verdict()).1.contains("no policy"));
}

#[test]
fn versions_below_every_level_have_no_grace() {
    let presented = Intel { pce_svn: 4, ..Intel::sgx() }.present();
    assert_eq!(presented.refused_with(|policy| policy.grace = vec![until(9)]), [Code::TcbLevelUnknown]);
}

#[test]
fn a_status_is_accepted_while_every_open_advisory_is_waived() {
    let presented = outdated("OutOfDate");
    let accepted = presented.accepted_with(|policy| policy.waived_advisories = both(0));
    assert_eq!(accepted, [Code::AdvisoryWaived]);
    let one = |policy: &mut Policy| policy.waived_advisories = vec![waiver("LAB-SA-2", 9)];
    assert_eq!(presented.refused_with(one), OUT_OF_DATE);
    let refused = refused(&presented, |policy| policy.waived_advisories = both(-1));
    assert_eq!(refused.codes(), OUT_OF_DATE);
    assert!(exception(refused.verdict()).1.contains("the waiver of LAB-SA-2 that ops@example.com granted"));
    // Nothing to waive is nothing waived.
    let bare = Intel { platform_status: "OutOfDate", ..Intel::sgx() }.present();
    assert_eq!(bare.refused_with(|policy| policy.waived_advisories = both(9)), OUT_OF_DATE);
}

#[test]
fn a_rejected_advisory_is_refused_whatever_the_status_and_the_exceptions() {
    let reject = |id: &'static str| {
        move |policy: &mut Policy| {
            policy.rejected_advisories = [id.to_owned()].into();
            policy.waived_advisories = both(9);
        }
    };
    for status in ["UpToDate", "OutOfDate"] {
        let presented = outdated(status);
        presented.accepted_with(reject("LAB-SA-4"));
        assert_eq!(presented.refused_with(reject("lab-sa-3")), [Code::AdvisoryRejected]);
    }
}

#[test]
fn a_level_older_than_the_floor_is_refused() {
    let presented = outdated("UpToDate");
    let floor =
        |text: &'static str| move |policy: &mut Policy| policy.minimum.tcb_date = Some(text.parse().unwrap());
    assert!(presented.accepted_with(floor("2025-12-01T00:00:00Z")).is_empty());
    assert_eq!(presented.refused_with(floor("2025-12-01T00:00:01Z")), [Code::TcbBelowMinimum]);
}

/// AMD publishes no levels: below the policy's own floor is out of date, and the same grace is for that.
#[test]
fn an_snp_platform_below_its_floor_may_have_grace() {
    let presented = Amd::genoa().present();
    let floor = vec![SnpMinimum { microcode: 85, ..SnpMinimum::default() }];
    let with = |grace: Grace| {
        let floor = floor.clone();
        move |policy: &mut Policy| (policy.minimum.snp, policy.grace) = (floor, vec![grace])
    };
    let family = |name: &str| Grace { families: [name.to_owned()].into(), ..until(3) };
    let appraised = presented.appraise_under(&presented.policy_with(with(family("Genoa")))).unwrap();
    let [warning] = appraised.verdict().warnings() else { panic!("{}", appraised.verdict()) };
    assert_eq!((warning.code, warning.check.as_str()), (Code::TcbInGrace, "tcb/grace"));
    let short = appraised.verdict().check("tcb/grace/microcode").unwrap();
    assert_eq!((short.outcome, short.observed.as_deref()), (Outcome::Warned, Some("84")));
    assert_eq!(appraised.verdict().tcb().status, Some(TcbStatus::OutOfDate));
    for other in [family("Turin"), until(-1), Grace { end: GraceEnd::DaysAfterTcbDate(999), ..until(3) }] {
        assert_eq!(presented.refused_with(with(other)), [Code::TcbBelowMinimum]);
    }
}

/// So has a TPM, whose vendors publish no levels either.
#[test]
fn a_tpm_below_its_floor_may_have_grace() {
    let presented = Tpm::good().present();
    let with = |grace| {
        let tpm = TpmPolicy { minimum_firmware: Some(u64::MAX), ..TpmPolicy::default() };
        Policy { tpm, grace: vec![grace], ..presented.policy() }
    };
    let appraised = presented.appraise_under(&with(until(3))).unwrap();
    assert_eq!(warned(&appraised), [Code::TcbInGrace]);
    assert_eq!(presented.refusal_under(&with(until(-1))), [Code::TcbBelowMinimum]);
    let elsewhere = Grace { platforms: [Platform::Snp].into(), ..until(3) };
    assert_eq!(presented.refusal_under(&with(elsewhere)), [Code::TcbBelowMinimum]);
}
