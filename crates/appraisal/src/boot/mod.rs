//! Event logs against the registers that a TEE or a TPM signed, and what the events then tell of the boot.
//!
//! A log is worth as much as the registers that it replays to. Even then digests cover neither the kind of an event
//! nor its register's role, and its data only sometimes: see [`BootClaims`] for what is claimed and what is not (and
//! Google, "Verifying TPM Boot Events and Untrusted Metadata", for what comes of believing more).

mod claims;
mod command_line;
mod layout;
mod phase;
mod policy;
mod read;
mod replay;
mod windows;

use std::collections::BTreeMap;

use evidence::eventlog::{EventLog, HashAlgorithm};

use crate::findings::by_rule;
use crate::verdict::Check;
use crate::{Code, Crypto};

pub use claims::{
    Authority, BootClaims, BootImage, Certificate, CommandLine, CommandLineSource, GceTechnology, ImageRole,
    KeyDatabase, NamedDigest, RuntimeEvent, Section, SecureBoot,
};
pub use layout::Layout;
pub use policy::BootPolicy;
pub use replay::{Unreplayable, replay};

/// Compares a log with registers, and reads what it tells of the boot. `attested` are the registers by the number that
/// the log gives them, signed by a TEE or a TPM: whoever passes other values proves nothing.
///
/// The check is named `boot`. Claims are those of registers that match, and there are none where the log cannot be
/// replayed or contradicts itself.
pub fn check(
    log: &EventLog,
    algorithm: HashAlgorithm,
    layout: Layout,
    attested: &BTreeMap<u32, Vec<u8>>,
    policy: &BootPolicy,
    crypto: &dyn Crypto,
) -> (Check, Option<BootClaims>) {
    let replayed = match replay(log, algorithm, crypto) {
        Ok(replayed) => replayed,
        Err(reason) => {
            let check = Check::failed("replay", Code::EventLogAlgorithmUnsupported, reason.to_string())
                .expected(algorithm.to_string())
                .observed(log.algorithms().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
                .mend("send a log with digests by the algorithm of the registers");
            return (Check::group("boot", "the event log cannot be replayed", vec![check]), None);
        }
    };
    let consistent = phase::consistent(log, algorithm, layout, crypto);
    if consistent.is_failed() {
        return (
            Check::group("boot", "the event log is not one that firmware makes", vec![consistent]),
            None,
        );
    }
    let mut checks = vec![consistent];
    let mut proven = Vec::new();
    let mut numbers: Vec<u32> = replayed.keys().chain(attested.keys()).copied().collect();
    numbers.sort_unstable();
    numbers.dedup();
    for register in numbers {
        let check = compare(register, layout, &replayed, attested, policy);
        if check.outcome == crate::Outcome::Passed {
            proven.push(register);
        }
        checks.push(check);
    }
    checks.extend(not_there(layout, &replayed, attested, policy));
    let (claims, complete) = read::claims(log, algorithm, layout, &proven, crypto);
    checks.push(secure_boot(&claims, policy));
    if let Some(allowed) = &policy.kernel_command_line {
        checks.push(command_line::check(allowed, &claims, complete, crypto));
    }
    let text = match proven.is_empty() {
        true => "the event log proves nothing".into(),
        false => format!("the event log replays to {}", claims.registers.join(", ")),
    };
    (Check::group("boot", text, checks), Some(claims))
}

fn compare(
    register: u32,
    layout: Layout,
    replayed: &BTreeMap<u32, Vec<u8>>,
    attested: &BTreeMap<u32, Vec<u8>>,
    policy: &BootPolicy,
) -> Check {
    let Some(name) = layout.name(register) else {
        return Check::failed(
            "register",
            Code::EventLogInconsistent,
            format!("there is no register {register}"),
        );
    };
    let named = named(name, layout, policy);
    if !layout.is_extended(register) {
        let text = "measured while the machine was built: no event log replays to it";
        return match named {
            Some(true) => Check::failed(name, Code::EventLogMismatch, text)
                .mend("leave it out of boot.registers, and name it in a reference value"),
            _ => Check::skipped(name, text),
        };
    }
    let Some(attested) = attested.get(&register) else {
        let text = "the log has events for it, but the Evidence does not cover it";
        return match named {
            Some(true) => Check::failed(name, Code::EventLogMismatch, text)
                .mend("let the quote cover this register, or leave it out of boot.registers"),
            _ => Check::skipped(name, text),
        };
    };
    let zeros = vec![0; attested.len()];
    let (replayed, text) = match (replayed.get(&register), named) {
        (Some(replayed), _) => (replayed, "the log replays to it"),
        (None, Some(true)) => (&zeros, "zeros, and the log has no events for it"),
        (None, None) if layout.is_firmwares(register) => (&zeros, "zeros, and the log has no events for it"),
        (None, _) => return Check::skipped(name, "the log has no events for it"),
    };
    if replayed == attested {
        return Check::passed(name, text);
    }
    let text = "the log replays to another value";
    let check = match named {
        Some(false) => Check::warned(name, Code::EventLogMismatch, text),
        _ => Check::failed(name, Code::EventLogMismatch, text),
    };
    check
        .expected(hex::encode(attested))
        .observed(hex::encode(replayed))
        .mend("send the log of this very boot; if a register is extended while the system runs, leave it out of boot.registers")
}

/// Whether the policy names a register; None where it names no registers, or only those of another kind of machine.
fn named(name: &str, layout: Layout, policy: &BootPolicy) -> Option<bool> {
    let names = policy.registers.as_ref()?;
    let elsewhere = !names.is_empty() && names.iter().all(|name| layout.is_of_another(name));
    (!elsewhere).then(|| names.contains(name))
}

/// Registers that the policy names, and that neither the log nor the Evidence has. Those of another kind of machine are
/// for the Evidence of such machines.
fn not_there(
    layout: Layout,
    replayed: &BTreeMap<u32, Vec<u8>>,
    attested: &BTreeMap<u32, Vec<u8>>,
    policy: &BootPolicy,
) -> Option<Check> {
    let there = |name: &str| {
        let has = |register: &u32| layout.name(*register) == Some(name);
        replayed.keys().chain(attested.keys()).any(has) || layout.is_of_another(name)
    };
    let missing = policy.registers.iter().flatten().find(|name| !there(name))?;
    let text = format!("neither the log nor the Evidence has the register {missing}, which the policy names");
    Some(
        Check::failed("registers", Code::EventLogMismatch, text)
            .mend("name registers as rtmr0 or pcr7 in boot.registers"),
    )
}

fn secure_boot(claims: &BootClaims, policy: &BootPolicy) -> Check {
    const NAME: &str = "secure-boot";
    let text = match claims.secure_boot {
        SecureBoot::Enabled => return Check::passed(NAME, "Secure Boot is on"),
        SecureBoot::Disabled => "Secure Boot is off",
        SecureBoot::NotMeasured => "the event log does not show whether Secure Boot is on",
    };
    by_rule(policy.secure_boot, NAME, Code::SecureBootNotEnabled, text)
        .expected("variable SecureBoot with value 1, measured before the operating system")
        .mend("enrol keys and turn on Secure Boot, or let boot.secure_boot be \"allow\" where code is pinned otherwise")
}
