//! What a policy makes of a TCB status and of open advisories: accepted, accepted for a while, or refused. One
//! place for all platforms.

use std::collections::BTreeSet;

use crate::findings::Context;
use crate::policy::{Grace, Standing, Waiver};
use crate::verdict::Check;
use crate::{Code, TcbStatus, UnixTime};

/// Is the status one that the policy accepts, now? `Revoked` never is.
pub(crate) fn status(standing: &Standing<'_>, context: &Context<'_>) -> Check {
    const NAME: &str = "status";
    let status = standing.status;
    let Some(code) = status.code() else { return Check::passed(NAME, facts(standing)) };
    let accepted = &context.policy.accepted_tcb;
    let wanted: Vec<_> = accepted.iter().map(|status| status.as_str()).collect();
    let check = if status == TcbStatus::Revoked {
        Check::failed(NAME, code, format!("{}; no policy can accept that", facts(standing)))
    } else if accepted.contains(&status) {
        Check::warned(NAME, code, facts(standing))
    } else {
        exception(NAME, standing, context)
            .unwrap_or_else(|ended| Check::failed(NAME, code, format!("{}{ended}", facts(standing))))
    };
    check.expected(wanted.join(" or ")).observed(status.as_str())
}

/// The status, since when, and what is open.
fn facts(standing: &Standing<'_>) -> String {
    let date = match standing.date {
        Some(date) if standing.status != TcbStatus::UpToDate => format!(" (its TCB is of {date})"),
        _ => String::new(),
    };
    let open = match standing.advisories {
        [] => String::new(),
        advisories => format!("; open: {}", advisories.join(", ")),
    };
    format!("{}{date}{open}", standing.status)
}

/// A status that is accepted for a while; otherwise what is to be said of exceptions that have ended.
fn exception(name: &'static str, standing: &Standing<'_>, context: &Context<'_>) -> Result<Check, String> {
    let mut ended = match grace(standing, context) {
        Some((grace, end)) if context.now <= end => return Ok(in_grace(name, standing, grace, end, context)),
        Some((grace, end)) => format!(
            "; the grace that {} granted ended {} days ago, on {end}",
            grace.granted_by,
            end.days_until(context.now)
        ),
        None => String::new(),
    };
    let waivers: Option<Vec<&Waiver>> =
        standing.advisories.iter().map(|open| waiver(open, &context.policy.waived_advisories)).collect();
    match waivers.as_deref().unwrap_or_default() {
        [] => Err(ended),
        waivers if waivers.iter().all(|waiver| context.now <= waiver.until) => {
            let said: Vec<_> = waivers.iter().map(|waiver| granted(waiver, context.now)).collect();
            let text = format!("{}; waived: {}", facts(standing), said.join("; "));
            Ok(Check::warned(name, Code::AdvisoryWaived, text))
        }
        waivers => {
            for waiver in waivers.iter().filter(|waiver| context.now > waiver.until) {
                ended.push_str(&format!("; the waiver of {} ended on {}", waiver.id, waiver.until));
            }
            Err(ended)
        }
    }
}

/// The grace for the platform that ends last.
fn grace<'p>(standing: &Standing<'_>, context: &Context<'p>) -> Option<(&'p Grace, UnixTime)> {
    let graces = context.policy.grace.iter();
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
fn waiver<'p>(advisory: &str, waivers: &'p [Waiver]) -> Option<&'p Waiver> {
    waivers.iter().filter(|waiver| waiver.id.eq_ignore_ascii_case(advisory)).max_by_key(|waiver| waiver.until)
}

fn granted(waiver: &Waiver, now: UnixTime) -> String {
    let Waiver { id, until, granted_by, reason } = waiver;
    let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{id} until {until}, {} days left, by {granted_by}{reason}", now.days_until(*until))
}

/// Is an advisory open that the policy rejects? Intel names advisories with good statuses as well, so others say
/// nothing by themselves.
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

/// Is the TCB level of a date that the policy accepts?
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
