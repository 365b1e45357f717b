//! Why a part of the TCB has the status that it has: what it lacks, which level that would reach, which advisories
//! are open, since when, what they affect, and what mends it. Nothing here decides anything.

use std::borrow::Cow;

use super::tcb_info::{Component, SvnLevel, TcbLevel};
use crate::verdict::{Check, OpenAdvisory, Outcome, Shortfall, TcbPart, TcbTarget};
use crate::{TcbStatus, UnixTime};

/// A level of any part.
pub(super) trait Level {
    fn status(&self) -> TcbStatus;
    fn date(&self) -> UnixTime;
    fn advisories(&self) -> &[Cow<'_, str>];
}

impl Level for TcbLevel<'_> {
    fn status(&self) -> TcbStatus {
        self.tcb_status
    }

    fn date(&self) -> UnixTime {
        self.tcb_date
    }

    fn advisories(&self) -> &[Cow<'_, str>] {
        &self.advisories
    }
}

impl Level for SvnLevel<'_> {
    fn status(&self) -> TcbStatus {
        self.tcb_status
    }

    fn date(&self) -> UnixTime {
        self.tcb_date
    }

    fn advisories(&self) -> &[Cow<'_, str>] {
        &self.advisories
    }
}

/// A version that is too low, and who can raise it.
pub(super) struct Lack {
    pub(super) shortfall: Shortfall,
    pub(super) area: Area,
}

/// What a version is of, as far as it matters for whoever wants to raise it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Area {
    Bios,
    Microcode,
    Sinit,
    SeamLoader,
    TdxModule,
    Pce,
    QuotingEnclave,
    Unnamed,
}

impl Area {
    /// From Intel's words for a component (`category`, `type`), which TCB info has since version 3.
    pub(super) fn of(component: &Component<'_>) -> Self {
        match (component.kind.as_deref(), component.category.as_deref()) {
            (Some("TDX Module"), _) => Self::TdxModule,
            (Some("TXT SINIT"), _) => Self::Sinit,
            (Some("SEAMLDR ACM"), _) => Self::SeamLoader,
            (Some(kind), _) if kind.contains("Microcode") => Self::Microcode,
            (_, Some("BIOS")) => Self::Bios,
            (_, Some("ucode")) => Self::Microcode,
            _ => Self::Unnamed,
        }
    }

    const fn affected(self) -> &'static str {
        match self {
            Self::Bios => "firmware (BIOS)",
            Self::Microcode => "microcode",
            Self::Sinit => "TXT SINIT module",
            Self::SeamLoader => "TDX loader (SEAMLDR)",
            Self::TdxModule => "TDX module",
            Self::Pce => "provisioning certification enclave",
            Self::QuotingEnclave => "quoting enclave",
            Self::Unnamed => "firmware or microcode",
        }
    }

    const fn mend(self) -> &'static str {
        match self {
            Self::Bios => "a BIOS update",
            Self::Microcode => "a microcode update (by the BIOS, or late by the operating system)",
            Self::Sinit => "a newer TXT SINIT module",
            Self::SeamLoader => "a newer TDX loader (SEAMLDR)",
            Self::TdxModule => "a TDX module update",
            Self::Pce => "a newer provisioning certification enclave (DCAP)",
            Self::QuotingEnclave => "a newer quoting enclave (DCAP)",
            Self::Unnamed => "a BIOS or microcode update",
        }
    }
}

/// The part `name`, which reaches `levels[reached]`; `lacks` tells what it lacks for another level. Intel lists
/// levels from new to old.
pub(super) fn part<L: Level>(
    name: &'static str,
    levels: &[L],
    reached: usize,
    lacks: impl Fn(&L) -> Vec<Lack>,
) -> Part {
    let (newer, level) = (&levels[..reached], &levels[reached]);
    // The best status, and of the levels that have it the one that demands least.
    let target = newer.iter().rev().min_by_key(|level| level.status());
    let target = target.filter(|target| target.status() < level.status());
    let missing = target.map(&lacks).unwrap_or_default();
    let advisories = level.advisories().iter().map(|id| {
        let mended = newer.iter().rev().find(|newer| !newer.advisories().contains(id));
        OpenAdvisory {
            id: id.to_string(),
            affects: affects(id, &mended.map(&lacks).unwrap_or_default(), name),
            since: mended.map(Level::date),
        }
    });
    let tcb = TcbPart {
        name,
        status: level.status(),
        date: level.date(),
        target: target.map(|target| TcbTarget { status: target.status(), date: target.date() }),
        advisories: advisories.collect(),
        shortfalls: Vec::new(),
    };
    let areas = distinct(missing.iter().map(|lack| lack.area));
    let shortfalls = missing.into_iter().map(|lack| lack.shortfall).collect();
    Part { tcb: TcbPart { shortfalls, ..tcb }, areas }
}

/// A part, and who can raise what it lacks.
pub(super) struct Part {
    pub(super) tcb: TcbPart,
    areas: Vec<Area>,
}

fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    items.fold(Vec::new(), |mut found, item| {
        if !found.contains(&item) {
            found.push(item);
        }
        found
    })
}

/// Intel's lists do not say what an advisory affects; what must be raised to be rid of it does. Two are no
/// advisories but notices about the product.
fn affects(id: &str, lacks: &[Lack], part: &str) -> String {
    match (id, part) {
        ("INTEL-DOC-10000", _) => {
            "the product, which is past the end of its servicing: no more updates come".into()
        }
        ("INTEL-DOC-10001", _) => {
            "the product is past the end of its life: it never is up to date again".into()
        }
        (_, "tdx-module" | "tdx-module-now") => Area::TdxModule.affected().into(),
        (_, "quoting-enclave") => Area::QuotingEnclave.affected().into(),
        _ if lacks.is_empty() => {
            "the CPU: no update here ends it; see what it asks of software and settings".into()
        }
        _ => distinct(lacks.iter().map(|lack| lack.area.affected())).join(", "),
    }
}

impl Part {
    /// The part as a check that tells details of its parent's, and so has no code.
    pub(super) fn check(&self, outcome: Outcome) -> Check {
        let tcb = &self.tcb;
        let level = format!("{}, the level of {}", tcb.status, day(tcb.date));
        if tcb.status == TcbStatus::UpToDate && tcb.advisories.is_empty() {
            return Check::passed(tcb.name, level);
        }
        let text = match tcb.target {
            Some(target) => format!("{level}; {}, of {}, is within reach", target.status, day(target.date)),
            None => format!("{level}; there is no better one"),
        };
        let shortfalls = tcb.shortfalls.iter().map(|shortfall| {
            let Shortfall { component, seen, required } = shortfall;
            let short = required.saturating_sub(*seen);
            let text = format!("{component} is at {seen}, {short} below {required}");
            Check::detail("shortfall", outcome, text)
                .expected(required.to_string())
                .observed(seen.to_string())
        });
        let alike = distinct(tcb.advisories.iter().map(|own| (&own.affects, own.since)));
        let advisories = alike.into_iter().map(|(affects, since)| {
            let ids = tcb.advisories.iter().filter(|own| (&own.affects, own.since) == (affects, since));
            let ids = ids.map(|own| own.id.as_str()).collect::<Vec<_>>().join(", ");
            let text = match since {
                Some(date) => format!(
                    "{ids}: affects {affects}; open since {}, the date of the level that mends it",
                    day(date)
                ),
                None => format!("{ids}: affects {affects}"),
            };
            Check::detail("advisory", outcome, text)
        });
        let details = shortfalls.chain(advisories).collect();
        let outcome = if tcb.status == TcbStatus::UpToDate { Outcome::Passed } else { outcome };
        Check { checks: details, ..Check::detail(tcb.name, outcome, text) }
    }

    /// What mends the part, in words; none when nothing has to be.
    pub(super) fn mend(&self) -> Option<String> {
        let TcbPart { status, target, .. } = self.tcb;
        let better_settings =
            |target: TcbTarget| status.needs_configuration() && !target.status.needs_configuration();
        let settings = "other BIOS settings, such as hyperthreading off, by the advisories";
        let steps: Vec<&str> = match (status, target) {
            (TcbStatus::UpToDate, _) => return None,
            (TcbStatus::Revoked, _) => vec!["another platform: Intel revoked this level"],
            (_, Some(target)) => {
                let named = self.areas.iter().any(|area| matches!(area, Area::Bios | Area::Microcode));
                let needed = self.areas.iter().filter(|area| !named || **area != Area::Unnamed);
                let update = needed.map(|area| area.mend());
                update.chain(better_settings(target).then_some(settings)).collect()
            }
            (TcbStatus::SWHardeningNeeded, None) => vec![SOFTWARE],
            (TcbStatus::ConfigurationNeeded, None) => vec![settings],
            (TcbStatus::ConfigurationAndSWHardeningNeeded, None) => vec![settings, SOFTWARE],
            (_, None) => vec!["another platform: Intel lists no level above this one"],
        };
        let steps = steps.join(" and ");
        let after = target.map(|target| format!(", which reaches {}", target.status)).unwrap_or_default();
        Some(match (self.tcb.name, self.tcb.shortfalls.as_slice()) {
            ("platform" | "platform-now", []) => format!("the host needs {steps}"),
            ("platform" | "platform-now", _) => {
                format!("the host needs {steps}{after} once its PCK certificate is renewed")
            }
            (_, [only]) => format!("the host needs {steps}, to version {}{after}", only.required),
            (name, _) => format!("the {name} needs {steps}"),
        })
    }
}

const SOFTWARE: &str = "software that mitigates the advisories, and a policy that accepts this status for it";

/// The day of a time: levels are dated by days.
fn day(time: UnixTime) -> String {
    let text = time.to_string();
    text.split_once('T').map_or(text.clone(), |(day, _)| day.to_owned())
}
