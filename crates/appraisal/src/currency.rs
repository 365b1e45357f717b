//! Is a vendor's signed statement current? Before its end a warning, after it what the policy says.

use crate::findings::Context;
use crate::verdict::Check;
use crate::{Code, UnixTime};

/// A statement with a beginning and an end.
pub(crate) struct Statement<'a> {
    pub(crate) name: &'static str,
    /// What it is, in a sentence: `the revocation list`.
    pub(crate) what: &'a str,
    pub(crate) issued: UnixTime,
    pub(crate) next_update: UnixTime,
    pub(crate) early: Code,
    pub(crate) expired: Code,
    /// What would mend it when it has ended.
    pub(crate) fetch: &'a str,
}

impl Statement<'_> {
    /// Nothing, when it is current; a warning, when it ends soon or is in its grace; the failed check otherwise.
    pub(crate) fn currency(&self, context: &Context<'_>) -> Result<Option<Check>, Check> {
        let Self { name, what, issued, next_update, early, expired, fetch } = *self;
        let (now, policy) = (context.now, &context.policy.collateral);
        let window = format!("{issued} to {next_update}");
        if now < issued {
            let check = Check::failed(name, early, format!("{what} was issued later than this appraisal"));
            return Err(check.expected(window).observed(now.to_string()));
        }
        let grace_end = next_update.plus_days(policy.grace_days);
        if now > grace_end {
            let text = format!("{what} has expired, {} days ago", next_update.days_until(now));
            return Err(Check::failed(name, expired, text)
                .expected(window)
                .observed(now.to_string())
                .mend(fetch));
        }
        if let Some(days) = policy.max_age_days.filter(|&days| now > issued.plus_days(days)) {
            let text = format!("{what} is {} days old", issued.days_until(now));
            return Err(Check::failed(name, Code::CollateralTooOld, text)
                .expected(format!("at most {days} days"))
                .observed(format!("issued {issued}"))
                .mend(fetch));
        }
        if now > next_update {
            let text = format!(
                "{what} has expired, on {next_update}; the policy's grace ends {grace_end}, {} days left",
                now.days_until(grace_end)
            );
            return Ok(Some(Check::warned(name, Code::CollateralInGrace, text).mend(fetch)));
        }
        if ends_soon(issued, next_update, context) {
            let text = format!("{what} ends {next_update}, {} days left", now.days_until(next_update));
            return Ok(Some(Check::warned(name, Code::CollateralExpiresSoon, text).mend(fetch)));
        }
        Ok(None)
    }
}

/// Whether what holds from `start` to `end` ends within the policy's days of warning. What lives no longer than a few
/// of those is always about to end, so the first half of a life gives no warning.
pub(crate) fn ends_soon(start: UnixTime, end: UnixTime, context: &Context<'_>) -> bool {
    let left = end.0.saturating_sub(context.now.0);
    let half = end.0.saturating_sub(start.0) / 2;
    left < half && left < i64::from(context.policy.collateral.warn_days).saturating_mul(86_400)
}
