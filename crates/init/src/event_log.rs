//! The event log of firmware and kernel, with the event of the launch configuration behind it (TCG PC Client Platform
//! Firmware Profile, "TCG_PCR_EVENT2"). The kernel's own log ends where firmware hands over.

use sha2::{Digest, Sha256};

/// The register of the launch configuration; `vm_image::measure` predicts it.
pub const REGISTER: u8 = 12;
/// EV_EVENT_TAG: tagged by whoever measured.
const TAGGED: u32 = 6;
/// Ours: "bly" and a number.
const TAG: u32 = 0x626c_7901;
const TEXT: &[u8] = b"bailey launch configuration";
const SHA256: u16 = 0x000B;

/// What is extended: SHA-256 of the configuration.
pub fn digest(configuration: &[u8]) -> [u8; 32] {
    Sha256::digest(configuration).into()
}

/// The event, to be put behind a crypto-agile log.
pub fn event(digest: &[u8; 32]) -> Vec<u8> {
    let size = |length: usize| u32::try_from(length).unwrap_or(0).to_le_bytes();
    let data = [&TAG.to_le_bytes()[..], &size(TEXT.len()), TEXT].concat();
    [
        &u32::from(REGISTER).to_le_bytes()[..],
        &TAGGED.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &SHA256.to_le_bytes(),
        digest,
        &size(data.len()),
        &data,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use evidence::eventlog::{EventLog, HashAlgorithm, kind};

    use super::*;

    #[test]
    fn the_event_can_be_read_behind_a_log_of_firmware() {
        // A header that names SHA-256, and nothing else.
        let mut log = [0_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
        log.extend([0; 20]);
        log.extend(33_u32.to_le_bytes());
        log.extend(b"Spec ID Event03\0");
        log.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0B, 0, 32, 0, 0]);
        log.extend(event(&digest(b"configuration")));
        let log = EventLog::parse(&log).unwrap();
        let [_, event] = log.events() else { panic!("{:?}", log.events()) };
        assert_eq!((event.register, event.kind), (12, kind::EV_EVENT_TAG));
        assert_eq!(event.digest(HashAlgorithm::Sha256).unwrap(), digest(b"configuration"));
    }
}
