//! The machine that Evidence proves: what a host cannot choose of where an instance runs. Secrets that are to stay the
//! same when an instance starts anew are derived from it, and evictions name it.

use appraisal::{Appraised, PlatformIdentity};
use attested_tls::key::sha256;

/// Names the machine: `snp:` and the chip id that the VCEK names, or `intel:` and the platform provisioning id of the
/// PCK certificate, which SGX and TDX of one machine share. An emulated machine can say to be any, so its name is never
/// that of a real one. `None` where the vendor's certificate names no machine (a VLEK names the cloud).
pub(super) fn of(appraised: &Appraised) -> Option<String> {
    name(appraised.platform_identity()?, appraised.emulated())
}

fn name(identity: &PlatformIdentity, emulated: bool) -> Option<String> {
    let name = match identity {
        PlatformIdentity::ChipId(chip) if chip.iter().any(|byte| *byte != 0) => {
            format!("snp:{}", hex::encode(chip))
        }
        PlatformIdentity::Ppid(id) => format!("intel:{}", hex::encode(id)),
        _ => return None,
    };
    Some(if emulated { format!("emulated-{name}") } else { name })
}

/// By what secrets of a Marble on a machine are derived.
pub(super) fn seat(machine: &str, marble: &str) -> [u8; 32] {
    digest(b"bailey/seat/1", &[machine, marble])
}

/// Names a machine where 32 bytes are wanted.
pub(super) fn key(machine: &str) -> [u8; 32] {
    digest(b"bailey/machine/1", &[machine])
}

/// An instance of a native program. The host chooses the UUID and may choose that of another instance: Marble and
/// machine keep what is derived for them apart. `turn` is how often the machine was evicted.
pub(super) fn native(uuid: &str, marble: &str, machine: Option<&str>, turn: u64) -> [u8; 32] {
    digest(b"bailey/uuid/2", &[uuid, marble, machine.unwrap_or_default(), &turn.to_string()])
}

/// Each part by its own digest, so that none can reach into the next.
fn digest(purpose: &[u8], parts: &[&str]) -> [u8; 32] {
    let digests = parts.iter().map(|part| sha256(part.as_bytes()));
    sha256(&digests.fold(purpose.to_vec(), |all, part| [all, part.to_vec()].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_one_machine_has_names_it() {
        let chip = PlatformIdentity::ChipId([0xc2; 64]);
        let ppid = PlatformIdentity::Ppid([1; 16]);
        assert_eq!(name(&chip, false).unwrap(), format!("snp:{}", "c2".repeat(64)));
        assert_eq!(name(&ppid, false).unwrap(), format!("intel:{}", "01".repeat(16)));
        // An emulated platform can say to be any.
        assert_ne!(name(&chip, true), name(&chip, false));
        let masked = PlatformIdentity::ChipId([0; 64]);
        let cloud = PlatformIdentity::Provider("a cloud".into());
        assert_eq!((name(&masked, false), name(&cloud, false)), (None, None));
    }

    #[test]
    fn s46_names_of_different_things_differ() {
        let names = [
            seat("a", "b"),
            seat("ab", ""),
            seat("", "ab"),
            key("a"),
            key("ab"),
            native("a", "b", None, 0),
            native("a", "b", Some("c"), 0),
            native("a", "b", Some("c"), 1),
            native("a", "c", Some("b"), 0),
            native("b", "b", Some("c"), 0),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }
}
