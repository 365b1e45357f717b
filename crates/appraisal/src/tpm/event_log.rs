//! The event log beside quotes: it must replay to the registers of every bank that is quoted.

use std::collections::BTreeMap;

use evidence::eventlog::{EventLog, HashAlgorithm};
use evidence::tpm::Quote;

use crate::boot::{self, BootClaims, Layout};
use crate::findings::Context;
use crate::verdict::Check;
use crate::{Code, Rule};

/// The check `boot` over all banks, and what the best of them proves. None where there is no log, and the policy asks
/// nothing that only a log tells.
pub(crate) fn check(
    log: Option<&EventLog>,
    quotes: &[&Quote],
    context: &Context<'_>,
) -> Option<(Check, Option<BootClaims>)> {
    let Some(log) = log else { return missing(context).map(|check| (check, None)) };
    let mut banks: BTreeMap<HashAlgorithm, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
    for ((bank, register), value) in quotes.iter().flat_map(|quote| &quote.values) {
        banks.entry(*bank).or_default().insert(u32::from(*register), value.clone());
    }
    let (mut checks, mut claims) = (Vec::new(), None);
    // Ascending, with SHA-1 first: the claims that stay are those by the best digest.
    for (bank, attested) in &banks {
        let (mut check, own) =
            boot::check(log, *bank, Layout::Tpm, attested, &context.policy.boot, context.crypto);
        check.name = name(*bank);
        checks.push(check);
        claims = own.or(claims);
    }
    if checks.is_empty() {
        return Some((Check::failed("boot", Code::EventLogMismatch, "an event log, and no registers"), None));
    }
    let text = match checks.iter().any(Check::is_failed) {
        true => "the event log is not that of the quoted registers",
        false => "the event log replays to the quoted registers of every bank",
    };
    let group = Check::group("boot", text, checks);
    let claims = claims.filter(|_| !group.is_failed());
    Some((group, claims))
}

/// Whoever leaves the log out must not escape what the policy says of it.
fn missing(context: &Context<'_>) -> Option<Check> {
    let policy = &context.policy.boot;
    let registers = policy.registers.iter().flatten().any(|name| name.starts_with("pcr"));
    if !registers && policy.secure_boot != Rule::Refuse && policy.kernel_command_line.is_none() {
        return None;
    }
    let text = "the policy says how the system must have booted, and there is no event log that tells";
    Some(Check::failed("boot", Code::EventLogMissing, text).mend(
        "send the event log with the quote (binary_bios_measurements), or pin registers in reference values",
    ))
}

fn name(bank: HashAlgorithm) -> &'static str {
    match bank {
        HashAlgorithm::Sha1 => "sha1",
        HashAlgorithm::Sha256 => "sha256",
        HashAlgorithm::Sha384 => "sha384",
        HashAlgorithm::Sha512 => "sha512",
        HashAlgorithm::Sm3 => "sm3",
        HashAlgorithm::Other(_) => "bank",
    }
}
