//! Exceptions that end: a status accepted until a date, an advisory waived until a date. Each names who granted
//! it, and every verdict that rests on one says so, with the days that are left.

use std::collections::BTreeSet;

use evidence::Platform;
use evidence::snp::ProductFamily;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{TcbStatus, UnixTime};

/// A TCB status that is accepted for a while. The TCB is that of the vendor (Intel), or below the policy's own
/// floor (SNP, `OutOfDate`). `Revoked` cannot be granted grace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "GraceText", into = "GraceText")]
pub struct Grace {
    /// The status.
    pub status: TcbStatus,
    /// When the grace ends.
    pub end: GraceEnd,
    /// Only for platforms whose TCB level is at least of this date; those of unknown date are out.
    pub tcb_date_from: Option<UnixTime>,
    /// Only where each open advisory is one of these; any when empty.
    pub advisories: BTreeSet<String>,
    /// Only on this hardware, which is that below in Azure's VMs; any when empty.
    pub platforms: BTreeSet<Platform>,
    /// Only for these families: `Milan`, `Genoa`, `Turin`, or FMSPCs; any when empty.
    pub families: BTreeSet<String>,
    /// Who granted it.
    pub granted_by: String,
    /// Why.
    pub reason: Option<String>,
}

/// When a grace ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraceEnd {
    /// At this time, the same for all platforms.
    Until(UnixTime),
    /// So many days after the date of the TCB level that the platform reaches, as Intel's
    /// `platform_grace_period` counts (Intel SGX DCAP Quote Appraisal Library). Never where no date is known.
    DaysAfterTcbDate(u32),
}

/// What the platform is like that asks for grace.
pub(crate) struct Standing<'a> {
    pub(crate) platform: Platform,
    pub(crate) status: TcbStatus,
    pub(crate) date: Option<UnixTime>,
    pub(crate) advisories: &'a [String],
    pub(crate) family: &'a str,
}

impl Grace {
    /// Until when the platform is covered; none when the grace is not for it.
    pub(crate) fn covers_until(&self, standing: &Standing<'_>) -> Option<UnixTime> {
        let in_family = |family: &String| family.eq_ignore_ascii_case(standing.family);
        let named = |open: &String| self.advisories.iter().any(|named| named.eq_ignore_ascii_case(open));
        let fits = self.status == standing.status
            && (self.platforms.is_empty() || self.platforms.contains(&standing.platform))
            && (self.families.is_empty() || self.families.iter().any(in_family))
            && (self.advisories.is_empty() || standing.advisories.iter().all(named))
            && self.tcb_date_from.is_none_or(|from| standing.date.is_some_and(|date| date >= from));
        match self.end {
            _ if !fits => None,
            GraceEnd::Until(end) => Some(end),
            GraceEnd::DaysAfterTcbDate(days) => standing.date.map(|date| date.plus_days(days)),
        }
    }
}

/// An advisory that is accepted for a while although it is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// The vendor's name for it, such as `INTEL-SA-00615`.
    pub id: String,
    /// When the waiver ends.
    pub until: UnixTime,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who granted it.
    #[serde(deserialize_with = "named")]
    pub granted_by: String,
}

/// A name that is not empty.
pub(super) fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    if name.trim().is_empty() {
        return Err(serde::de::Error::custom("expected a name, seen an empty text"));
    }
    Ok(name)
}

/// A grace that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrace {
    /// `Revoked` can never be accepted, and `UpToDate` always is.
    #[error("grace: {0} can be granted none")]
    Status(TcbStatus),
    /// No end, or two.
    #[error("grace for {0}: name either `until` or `days_after_tcb_date`, so that it ends")]
    End(TcbStatus),
    /// A family that there is not: the grace would be for nothing.
    #[error("grace for {0}: {1:?} is no family; expected Milan, Genoa, Turin or an FMSPC of twelve digits")]
    Family(TcbStatus, String),
    /// Nobody granted it.
    #[error("grace for {0}: `granted_by` is empty")]
    Grantor(TcbStatus),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GraceText {
    status: TcbStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    days_after_tcb_date: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcb_date_from: Option<UnixTime>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    advisories: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    platforms: BTreeSet<Platform>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    families: BTreeSet<String>,
    granted_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<Grace> for GraceText {
    fn from(grace: Grace) -> Self {
        let Grace { status, end, tcb_date_from, advisories, platforms, families, granted_by, reason } = grace;
        let (until, days_after_tcb_date) = match end {
            GraceEnd::Until(until) => (Some(until), None),
            GraceEnd::DaysAfterTcbDate(days) => (None, Some(days)),
        };
        Self {
            status,
            until,
            days_after_tcb_date,
            tcb_date_from,
            advisories,
            platforms,
            families,
            granted_by,
            reason,
        }
    }
}

impl TryFrom<GraceText> for Grace {
    type Error = InvalidGrace;

    fn try_from(text: GraceText) -> Result<Self, InvalidGrace> {
        let GraceText {
            status,
            until,
            days_after_tcb_date,
            tcb_date_from,
            advisories,
            platforms,
            families,
            granted_by,
            reason,
        } = text;
        if matches!(status, TcbStatus::Revoked | TcbStatus::UpToDate) {
            return Err(InvalidGrace::Status(status));
        }
        let end = match (until, days_after_tcb_date) {
            (Some(until), None) => GraceEnd::Until(until),
            (None, Some(days)) => GraceEnd::DaysAfterTcbDate(days),
            _ => return Err(InvalidGrace::End(status)),
        };
        if granted_by.trim().is_empty() {
            return Err(InvalidGrace::Grantor(status));
        }
        if let Some(unknown) = families.iter().find(|family| !is_family(family)) {
            return Err(InvalidGrace::Family(status, unknown.clone()));
        }
        Ok(Self { status, end, tcb_date_from, advisories, platforms, families, granted_by, reason })
    }
}

fn is_family(text: &str) -> bool {
    let fmspc = text.len() == 12 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    fmspc || text.parse::<ProductFamily>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &str) -> Result<Grace, serde_json::Error> {
        serde_json::from_str(&format!("{{{fields}}}"))
    }

    #[test]
    fn text_round_trips() {
        let text =
            r#""status":"OutOfDate","until":"2026-12-31T00:00:00Z","families":["Milan"],"granted_by":"a""#;
        let grace = read(text).unwrap();
        assert_eq!(serde_json::to_string(&grace).unwrap(), format!("{{{text}}}"));
    }

    #[test]
    fn a_grace_ends_and_has_a_grantor() {
        let end = r#""until":"2026-12-31T00:00:00Z""#;
        for text in [
            r#""status":"OutOfDate","granted_by":"a""#.to_owned(),
            format!(r#""status":"OutOfDate",{end},"days_after_tcb_date":3,"granted_by":"a""#),
            format!(r#""status":"OutOfDate",{end},"granted_by":" ""#),
            format!(r#""status":"OutOfDate",{end}"#),
            format!(r#""status":"Revoked",{end},"granted_by":"a""#),
            format!(r#""status":"UpToDate",{end},"granted_by":"a""#),
            format!(r#""status":"OutOfDate",{end},"granted_by":"a","untill":1"#),
            format!(r#""status":"OutOfDate",{end},"granted_by":"a","families":["Millan"]"#),
        ] {
            assert!(read(&text).is_err(), "{text}");
        }
    }
}
