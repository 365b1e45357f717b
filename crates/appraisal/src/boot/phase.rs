//! The pre-OS phase of each register, which a separator ends. What comes after it was measured by what was booted, and
//! may not speak for the firmware.

use std::collections::BTreeSet;

use evidence::eventlog::{Content, EventLog, HashAlgorithm, kind};

use super::layout::Layout;
use super::read::is_of_secure_boot;
use super::replay::hash;
use crate::verdict::Check;
use crate::{Code, Crypto};

/// What firmware measures as a separator: zeros, or ones; an error is told by the value 1 (TCG PC Client Platform
/// Firmware Profile, "EV_SEPARATOR").
const GOOD: [[u8; 4]; 2] = [[0; 4], [0xff; 4]];
const FIRMWARE_ERROR: [u8; 4] = [1, 0, 0, 0];

/// Registers whose pre-OS phase is over, told by digests: an event's kind is covered by nothing.
pub(super) struct Phases {
    separators: Vec<Vec<u8>>,
    over: BTreeSet<u32>,
}

impl Phases {
    pub(super) fn new(algorithm: HashAlgorithm, crypto: &dyn Crypto) -> Self {
        let separators = GOOD.iter().filter_map(|value| hash(algorithm, &[value], crypto).ok()).collect();
        Self { separators, over: BTreeSet::new() }
    }

    fn is_separator(&self, digest: &[u8]) -> bool {
        self.separators.iter().any(|separator| separator == digest)
    }

    pub(super) fn pass(&mut self, register: u32, digest: &[u8]) {
        if self.is_separator(digest) {
            self.over.insert(register);
        }
    }

    pub(super) fn is_over(&self, register: u32) -> bool {
        self.over.contains(&register)
    }
}

/// Whether the events of the firmware's registers can be what a firmware measured.
pub(super) fn consistent(
    log: &EventLog,
    algorithm: HashAlgorithm,
    layout: Layout,
    crypto: &dyn Crypto,
) -> Check {
    const NAME: &str = "events";
    let fail = |index: usize, text: &str| {
        Check::failed(NAME, Code::EventLogInconsistent, format!("event {index}: {text}")).mend(
            "take the log as the firmware left it; if it is, this machine's firmware is not to be trusted",
        )
    };
    let mut phases = Phases::new(algorithm, crypto);
    let (mut separated, mut variables) = (BTreeSet::new(), BTreeSet::new());
    for (index, event) in log.events().iter().enumerate().filter(|(_, event)| event.is_extended()) {
        if layout.name(event.register).is_none() {
            return fail(index, "there is no such register");
        }
        let Some(digest) = event.digest(algorithm).filter(|_| layout.is_firmwares(event.register)) else {
            continue;
        };
        if event.kind == kind::EV_SEPARATOR {
            let honest = hash(algorithm, &[&event.data], crypto).is_ok_and(|own| own == digest);
            if !honest {
                return fail(index, "a separator whose data is not what was measured");
            }
            if event.data == FIRMWARE_ERROR {
                return fail(index, "the firmware reports an error");
            }
            if !GOOD.iter().any(|good| event.data == good) {
                return fail(index, "a separator with a value that no firmware measures");
            }
            // Firmware that maps the PCRs of a TPM to fewer registers measures one separator for each PCR.
            if !separated.insert(event.register) && layout == Layout::Tpm {
                return fail(index, "a second separator in the same register");
            }
        } else if layout.holds(event.register, 7) && phases.is_separator(digest) {
            // Elsewhere some firmware has such digests of its own code, of which some is four bytes of zeros.
            return fail(index, "a separator that the log calls another event");
        }
        let before_os = !phases.is_over(event.register);
        if let (true, kind::EV_EFI_VARIABLE_DRIVER_CONFIG, Content::Variable(variable)) =
            (before_os, event.kind, event.content())
            && is_of_secure_boot(&variable)
            && !variables.insert(variable.name)
        {
            return fail(index, "a variable of Secure Boot for the second time");
        }
        phases.pass(event.register, digest);
    }
    Check::passed(NAME, format!("{} events, in an order that firmware makes", log.events().len()))
}
