//! What a policy makes of a TCB status and of open advisories: accepted, accepted for a while, or refused. One
//! place for all platforms.

use std::collections::BTreeSet;

use crate::findings::Context;
use crate::policy::{Grace, Standing, Waiver};
use crate::verdict::{Check, Outcome};
use crate::{Code, Policy, TcbStatus, UnixTime};

/// Is the status one that the policy accepts, now? `Revoked` never is.
pub(crate) fn status(standing: &Standing<'_>, context: &Context<'_>) -> Check {
    const NAME: &str = "status";
    let status = standing.status;
    let Some(code) = status.code() else { return Check::passed(NAME, status.as_str()) };
    let accepted = &context.policy.accepted_tcb;
    let wanted: Vec<_> = accepted.iter().map(|status| status.as_str()).collect();
    let failed = || Check::failed(NAME, code, facts(standing));
    let check = if status == TcbStatus::Revoked {
        failed().with([exception(Outcome::Skipped, "no policy can accept what its vendor revoked")])
    } else if accepted.contains(&status) {
        Check::warned(NAME, code, facts(standing))
    } else {
        match granted(NAME, standing, context) {
            Ok(accepted) => accepted,
            Err(none) => failed().with([none]),
        }
    };
    check.expected(wanted.join(" or ")).observed(status.as_str())
}

/// The status, and what is open.
fn facts(standing: &Standing<'_>) -> String {
    let open = match standing.advisories {
        [] => String::new(),
        advisories => format!("; open: {}", advisories.join(", ")),
    };
    format!("{}{open}", standing.status)
}

/// What accepts a status for a while, as a warning; otherwise what there is to say of exceptions, and who may grant
/// one, as a detail of the check that fails.
pub(crate) fn granted(
    name: &'static str,
    standing: &Standing<'_>,
    context: &Context<'_>,
) -> Result<Check, Check> {
    let mut ended = Vec::new();
    match grace(standing, context) {
        Some((grace, end)) if context.now <= end => return Ok(in_grace(name, standing, grace, end, context)),
        Some((grace, end)) => ended.push(format!(
            "the grace that {} granted ended {} days ago, on {end}",
            grace.granted_by,
            end.days_until(context.now)
        )),
        None => {}
    }
    let waivers: Option<Vec<&Waiver>> =
        standing.advisories.iter().map(|open| waiver(open, context.policy)).collect();
    let waivers = waivers.unwrap_or_default();
    if !waivers.is_empty() && waivers.iter().all(|waiver| context.now <= waiver.until) {
        let said: Vec<_> = waivers.iter().map(|waiver| describe(waiver, context.now)).collect();
        let text = format!("{}; waived: {}", facts(standing), said.join("; "));
        return Ok(Check::warned(name, Code::AdvisoryWaived, text));
    }
    for waiver in waivers.iter().filter(|waiver| context.now > waiver.until) {
        ended.push(format!(
            "the waiver of {} that {} granted ended on {}",
            waiver.id, waiver.granted_by, waiver.until
        ));
    }
    let who = who(context.policy);
    if ended.is_empty() {
        let waive = if standing.advisories.is_empty() { "" } else { ", or waive the advisories" };
        let text = format!("none; {who} may grant grace until a date{waive} (docs/policy.md)");
        return Err(exception(Outcome::Skipped, text));
    }
    Err(exception(Outcome::Failed, format!("{}; {who} may prolong it", ended.join("; "))))
}

fn exception(outcome: Outcome, text: impl Into<String>) -> Check {
    Check::detail("exception", outcome, text)
}

fn who(policy: &Policy) -> String {
    if policy.may_grant.is_empty() {
        return format!("whoever sets the policy {:?}", policy.name);
    }
    let names: Vec<_> = policy.may_grant.iter().map(String::as_str).collect();
    names.join(" or ")
}

/// Whether the policy lets `name` grant exceptions.
fn may_grant(name: &str, policy: &Policy) -> bool {
    policy.may_grant.is_empty() || policy.may_grant.contains(name)
}

/// The grace for the platform that ends last.
fn grace<'p>(standing: &Standing<'_>, context: &Context<'p>) -> Option<(&'p Grace, UnixTime)> {
    let graces = context.policy.grace.iter().filter(|grace| may_grant(&grace.granted_by, context.policy));
    graces.filter_map(|grace| Some((grace, grace.covers_until(standing)?))).max_by_key(|(_, end)| *end)
}

fn in_grace(
    name: &'static str,
    standing: &Standing<'_>,
    grace: &Grace,
    end: UnixTime,
    context: &Context<'_>,
) -> Check {
    let reason = grace.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let text = format!(
        "{}; accepted until {end}, {} days left, granted by {}{reason}",
        facts(standing),
        context.now.days_until(end),
        grace.granted_by
    );
    Check::warned(name, Code::TcbInGrace, text)
}

/// The waiver of an advisory that ends last.
fn waiver<'p>(advisory: &str, policy: &'p Policy) -> Option<&'p Waiver> {
    policy
        .waived_advisories
        .iter()
        .filter(|waiver| waiver.id.eq_ignore_ascii_case(advisory) && may_grant(&waiver.granted_by, policy))
        .max_by_key(|waiver| waiver.until)
}

fn describe(waiver: &Waiver, now: UnixTime) -> String {
    let Waiver { id, until, granted_by, reason } = waiver;
    let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{id} until {until}, {} days left, by {granted_by}{reason}", now.days_until(*until))
}

/// Is an advisory open that the policy rejects? Intel names advisories with good statuses as well, so others say
/// nothing by themselves. No check where the policy rejects none.
pub(crate) fn advisories(open: &[String], context: &Context<'_>) -> Option<Check> {
    const NAME: &str = "advisories";
    let rejected = &context.policy.rejected_advisories;
    if rejected.is_empty() {
        return None;
    }
    let is_rejected = |open: &&String| rejected.iter().any(|rejected| rejected.eq_ignore_ascii_case(open));
    let found: BTreeSet<&str> = open.iter().filter(is_rejected).map(String::as_str).collect();
    if found.is_empty() {
        return Some(Check::passed(NAME, "no advisory is open that the policy rejects"));
    }
    let found: Vec<_> = found.into_iter().collect();
    let text = format!("open, and rejected by the policy: {}", found.join(", "));
    let rejected: Vec<_> = rejected.iter().map(String::as_str).collect();
    Some(
        Check::failed(NAME, Code::AdvisoryRejected, text)
            .expected(format!("none of {}", rejected.join(", ")))
            .observed(open.join(", "))
            .mend("update the host until its TCB level no longer names the advisory"),
    )
}

/// Is the TCB level of a date that the policy accepts? No check where the policy has no floor.
pub(crate) fn tcb_date(date: Option<UnixTime>, context: &Context<'_>) -> Option<Check> {
    const NAME: &str = "tcb-date";
    let floor = context.policy.minimum.tcb_date?;
    if let Some(date) = date.filter(|&date| date >= floor) {
        return Some(Check::passed(NAME, format!("TCB of {date}, at least of {floor}")));
    }
    let seen = date.map_or_else(|| "no date".into(), |date| date.to_string());
    Some(
        Check::failed(NAME, Code::TcbBelowMinimum, "the TCB level is older than the policy's floor")
            .expected(format!("{floor} or later"))
            .observed(seen)
            .mend("update the host, or set an earlier minimum.tcb_date in the policy"),
    )
}
