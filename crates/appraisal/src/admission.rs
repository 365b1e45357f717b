//! What a policy says of a platform as a whole: its kind, its family, the very machine, and the bits that tell
//! how it is configured.

use evidence::Platform;
use evidence::snp::ProductFamily;

use crate::claims::Claims;
use crate::policy::{Bits, Fmspc, ListedIdentity};
use crate::verdict::{Check, PlatformIdentity};
use crate::{Code, Policy, Rule};

/// Is the kind of TEE accepted? No check where the policy names none.
pub(crate) fn platform(platform: Platform, policy: &Policy) -> Option<Check> {
    const NAME: &str = "platform";
    if policy.platforms.is_empty() {
        return None;
    }
    if policy.platforms.contains(&platform) {
        return Some(Check::passed(NAME, format!("{platform} is among the policy's platforms")));
    }
    let accepted: Vec<_> = policy.platforms.iter().map(|platform| platform.as_str()).collect();
    Some(
        Check::failed(NAME, Code::PlatformDenied, "the policy does not accept this kind of TEE")
            .expected(accepted.join(" or "))
            .observed(platform.as_str())
            .mend("run on a platform that the policy names, or add this one to its platforms"),
    )
}

/// Is it a machine that the policy accepts (S-49)? No check where the policy lists none.
pub(crate) fn identity(
    identity: Option<&PlatformIdentity>,
    claims: &Claims,
    policy: &Policy,
) -> Option<Check> {
    const NAME: &str = "platform-identity";
    let lists = &policy.platform_identities;
    if lists.allow.is_empty() && lists.deny.is_empty() {
        return None;
    }
    let unknown = |text: &str| {
        Some(Check::failed(NAME, Code::PlatformIdentityUnknown, text).mend(
            "use Evidence that tells the machine: on SNP a VCEK instead of a VLEK, the chip id unmasked",
        ))
    };
    let Some(identity) = identity else {
        return unknown(
            "the policy lists platform identities, and the Evidence tells none that is certified",
        );
    };
    let machines = machines(identity, claims);
    let find = |list: &'_ [ListedIdentity], machine: &[PlatformIdentity]| {
        list.iter().find(|listed| machine.iter().any(|name| listed.is(name))).cloned()
    };
    if let Some(listed) = machines.iter().find_map(|machine| find(&lists.deny, machine)) {
        let text = format!("the policy denies {}{}", identity.short(), owner(&listed));
        let check = Check::failed(NAME, Code::PlatformIdentityDenied, text).observed(identity.to_string());
        return Some(check.mend("run on another machine, or take this one off platform_identities.deny"));
    }
    let allowed: Option<Vec<_>> = machines.iter().map(|machine| find(&lists.allow, machine)).collect();
    if let Some([first, ..]) = allowed.as_deref() {
        let text = format!("{}{} is on the policy's list", identity.short(), owner(first));
        return Some(Check::passed(NAME, text));
    }
    if !lists.allow.is_empty() {
        let text = format!("{} is not on the policy's list of {}", identity.short(), lists.allow.len());
        let check = Check::failed(NAME, Code::PlatformIdentityNotAllowed, text);
        return Some(check.observed(identity.to_string()).mend(
            "find out whose machine it is, and add it to platform_identities.allow if its owner is trusted",
        ));
    }
    match identity {
        // A denied chip could hide behind its provider's key.
        PlatformIdentity::Provider(_) => {
            unknown("the policy denies machines, and a VLEK tells the provider only, not the machine")
        }
        _ => Some(Check::passed(NAME, format!("{} is not on the policy's list", identity.short()))),
    }
}

/// The machines that the Evidence is from, each by all the names that are certified for it: Intel's platforms of
/// several packages have an instance id beside the PPID, and several devices are several machines.
fn machines(identity: &PlatformIdentity, claims: &Claims) -> Vec<Vec<PlatformIdentity>> {
    match identity {
        PlatformIdentity::Ppid(_) => {
            let intel = claims.sgx.as_ref().map(|claims| &claims.platform);
            let intel = intel.or(claims.tdx.as_ref().map(|claims| &claims.platform));
            let instance = intel.and_then(|platform| platform.platform_instance_id);
            let instance = instance.map(|id| PlatformIdentity::Named(hex::encode(id)));
            vec![[identity.clone()].into_iter().chain(instance).collect()]
        }
        PlatformIdentity::Device(serials) => {
            serials.split(',').map(|serial| vec![PlatformIdentity::Device(serial.to_owned())]).collect()
        }
        _ => vec![vec![identity.clone()]],
    }
}

fn owner(listed: &ListedIdentity) -> String {
    listed.owner().map(|owner| format!(" of {owner}")).unwrap_or_default()
}

/// Is the family of Intel platforms accepted (S-48)? No check where the policy lists none.
pub(crate) fn fmspc(seen: [u8; 6], policy: &Policy) -> Option<Check> {
    if policy.denied_fmspc.is_empty() && policy.allowed_fmspc.is_empty() {
        return None;
    }
    let seen = Fmspc(seen);
    let denied = policy.denied_fmspc.contains(&seen);
    let allowed = policy.allowed_fmspc.is_empty() || policy.allowed_fmspc.contains(&seen);
    Some(family(&format!("FMSPC {seen}"), denied, allowed, ("denied_fmspc", "allowed_fmspc")))
}

/// Is the family of AMD processors accepted (S-48), and can its reports still be trusted?
pub(crate) fn product_family(seen: ProductFamily, policy: &Policy) -> Check {
    const NAME: &str = "product-family";
    let denied = policy.denied_families.contains(&seen);
    let allowed = policy.allowed_families.is_empty() || policy.allowed_families.contains(&seen);
    let check = family(seen.as_str(), denied, allowed, ("denied_families", "allowed_families"));
    if check.is_failed() || !crate::amd::is_compromised(seen) {
        return check;
    }
    let text = format!("{seen}: whoever owns such a machine can forge its reports (arXiv 2605.12990)");
    let mend = "run on another product family, or name who operates the machines under accept_compromised";
    let code = Code::ProductFamilyCompromised;
    if let Some(accepted) = policy.accept_compromised.iter().find(|accepted| accepted.family == seen) {
        let text = format!("{text}; the policy trusts its operator, {}", accepted.operator);
        return Check::warned(NAME, code, text);
    }
    match policy.compromised {
        Rule::Refuse => Check::failed(NAME, code, text).mend(mend),
        // A verdict on such a family is always worth a warning (S-48).
        Rule::Warn | Rule::Allow => {
            Check::warned(NAME, code, format!("{text}, so trust its owner")).mend(mend)
        }
    }
}

fn family(seen: &str, denied: bool, allowed: bool, lists: (&str, &str)) -> Check {
    const NAME: &str = "product-family";
    let (text, mend) = match (denied, allowed) {
        (true, _) => (format!("the policy denies {seen}"), format!("take it off the policy's {}", lists.0)),
        (false, false) => (
            format!("{seen} is not among the policy's families"),
            format!("add it to the policy's {}", lists.1),
        ),
        (false, true) => return Check::passed(NAME, format!("{seen} is not denied")),
    };
    Check::failed(NAME, Code::ProductFamilyDenied, text)
        .observed(seen)
        .mend(format!("run on another product family, or {mend}"))
}

/// Are the bits as the policy wants them? No check where it wants none.
pub(crate) fn bits(name: &'static str, what: &str, seen: u64, bits: Bits) -> Option<Check> {
    let (missing, excess) = (bits.required() & !seen, seen & bits.forbidden());
    let expected = format!("{:#x} set, {:#x} clear", bits.required(), bits.forbidden());
    let failed = |code, text: String| {
        Some(
            Check::failed(name, code, text)
                .expected(expected.clone())
                .observed(format!("{seen:#x}"))
                .mend("launch it in another way or on another machine, or change the policy's attributes"),
        )
    };
    match (bits.required() | bits.forbidden(), missing, excess) {
        (0, ..) => None,
        (_, 0, 0) => Some(Check::passed(name, format!("{what} {seen:#x}, as the policy demands"))),
        (_, 0, excess) => failed(
            Code::ForbiddenBitsSet,
            format!("{what} has bits that the policy forbids: {}", numbers(excess)),
        ),
        (_, missing, _) => failed(
            Code::RequiredBitsClear,
            format!("{what} lacks bits that the policy requires: {}", numbers(missing)),
        ),
    }
}

/// The bits of a mask by number.
pub(crate) fn numbers(mask: u64) -> String {
    let set: Vec<_> = (0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit: u32| bit.to_string()).collect();
    set.join(", ")
}
