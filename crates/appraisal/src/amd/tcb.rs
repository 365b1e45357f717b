//! The TCB of an SNP platform against the policy's floors: AMD publishes no levels, so a status is the policy's own.
//! Floors are for the reported TCB, which the signing key certifies; for the committed one, to which the host can go
//! back; and for that of the guest's launch.

use evidence::Platform;
use evidence::snp::{ProductFamily, ReportBody, TcbComponents, TcbVersion};

use super::vek::Vek;
use crate::acceptance;
use crate::findings::Context;
use crate::policy::Standing;
use crate::verdict::{Check, Outcome, Tcb};
use crate::{Code, SnpMinimum, TcbStatus};

pub(super) fn evaluate(body: &ReportBody, vek: &Vek, context: &Context<'_>) -> (Check, Tcb) {
    let family = vek.family;
    let certified = certified(body, vek);
    let Some(seen) = body.reported_tcb.components(family).filter(|_| !certified.is_failed()) else {
        return (Check::group("tcb", "the claimed TCB is not certified", vec![certified]), Tcb::default());
    };
    let minimum = &context.policy.minimum;
    let floors = [
        ("minimum", body.reported_tcb, &minimum.snp),
        ("committed", body.committed_tcb, &minimum.snp_committed),
        ("launch", body.launch_tcb, &minimum.snp_launch),
    ];
    let compared = floors.map(|(name, seen, floors)| compare(name, seen, floors, family));
    let short = compared.iter().flatten().flatten().count();
    let status = match (compared.iter().all(Option::is_none), short) {
        (true, _) => None,
        (false, 0) => Some(TcbStatus::UpToDate),
        (false, _) => Some(TcbStatus::OutOfDate),
    };
    let mut checks = vec![certified];
    if let [None, ..] = compared {
        checks.push(Check::skipped("minimum", format!("the policy names no minimum TCB for {family}")));
    }
    if short == 0 {
        let names = floors.iter().zip(&compared).filter(|(_, short)| short.is_some());
        let passed = |name| Check::passed(name, "every component is at or above the policy's minimum");
        checks.extend(names.map(|((name, ..), _)| passed(name)));
    } else {
        checks.extend(verdict(compared, family, context));
    }
    let text = match short {
        0 => format!("{seen}, as certified"),
        count => format!("{count} of the components below the minimum: {seen}"),
    };
    let tcb = Tcb { status, version: Some(seen.to_string()), ..Tcb::default() };
    (Check::group("tcb", text, checks), tcb)
}

/// The components below their floors; none where no floor is for the family.
fn compare(
    name: &'static str,
    seen: TcbVersion,
    floors: &[SnpMinimum],
    family: ProductFamily,
) -> Option<Vec<Check>> {
    let floors: Vec<_> = floors.iter().filter(|floor| floor.applies_to(family)).collect();
    if floors.is_empty() {
        return None;
    }
    let Some(seen) = seen.components(family) else {
        let text = format!("the TCB {seen} has reserved bytes that are not zero, so it is below any minimum");
        return Some(vec![Check::failed(name, Code::TcbBelowMinimum, text)]);
    };
    let short = floors.iter().flat_map(|floor| floor.shortfalls(&seen));
    Some(short.map(|(component, seen, required)| below(name, component, seen, required)).collect())
}

/// What is short, as failures; or as the details of one warning, while a grace covers the family.
fn verdict(compared: [Option<Vec<Check>>; 3], family: ProductFamily, context: &Context<'_>) -> Vec<Check> {
    let short = compared.into_iter().flatten().flatten();
    let platform = Platform::Snp;
    let standing = Standing {
        platform,
        status: TcbStatus::OutOfDate,
        date: None,
        advisories: &[],
        family: family.as_str(),
    };
    match acceptance::granted("grace", &standing, context) {
        Err(exception) => short.chain([exception]).collect(),
        Ok(warning) => {
            let details = short.map(|check| Check { outcome: Outcome::Warned, code: None, ..check });
            vec![warning.with(details)]
        }
    }
}

/// S-35: the TCB in the report is the platform's claim; AMD certifies it by deriving another key for each.
fn certified(body: &ReportBody, vek: &Vek) -> Check {
    const NAME: &str = "certified";
    match body.reported_tcb.components(vek.family) {
        Some(reported) if reported == vek.tcb => {
            Check::passed(NAME, "the report claims the TCB that its certificate was issued for")
        }
        reported => {
            let seen = reported.map_or_else(
                || format!("{} with reserved bytes that are not zero", body.reported_tcb),
                |reported: TcbComponents| reported.to_string(),
            );
            let text = "the report claims another TCB than its certificate was issued for";
            Check::failed(NAME, Code::TcbMismatch, text)
                .expected(vek.tcb.to_string())
                .observed(seen)
                .mend("give the certificate for the reported TCB")
        }
    }
}

fn below(which: &'static str, component: &'static str, seen: u8, required: u8) -> Check {
    let source = match component {
        "microcode" => "BIOS or microcode update",
        _ => "BIOS (AGESA) or SEV firmware update",
    };
    let (name, what, then) = match which {
        "committed" => (which, format!("committed {component}"), ", then commit it (SNP_COMMIT)"),
        "launch" => (which, format!("{component} at launch"), ", then launch the guest anew"),
        _ => (component, component.to_owned(), ""),
    };
    Check::failed(name, Code::TcbBelowMinimum, format!("{what} {seen} is below {required}"))
        .expected(required.to_string())
        .observed(seen.to_string())
        .mend(format!("{source} on this host{then}, or a lower minimum in the policy"))
}
