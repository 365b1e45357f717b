use super::*;
use crate::MalformedKind;

/// The header of a crypto-agile log with these algorithms and digest sizes.
fn header(algorithms: &[(u16, u16)]) -> Vec<u8> {
    let mut spec = SIGNATURE_AGILE.to_vec();
    spec.extend([0, 0, 0, 0, 0, 2, 0, 2]);
    spec.extend((algorithms.len() as u32).to_le_bytes());
    for (id, size) in algorithms {
        spec.extend(id.to_le_bytes());
        spec.extend(size.to_le_bytes());
    }
    spec.push(0);
    legacy(0, kind::EV_NO_ACTION, &[0; 20], &spec)
}

fn legacy(register: u32, kind: u32, digest: &[u8; 20], data: &[u8]) -> Vec<u8> {
    let mut bytes = [register.to_le_bytes(), kind.to_le_bytes()].concat();
    bytes.extend(digest);
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

fn event(digests: &[(u16, &[u8])], data: &[u8]) -> Vec<u8> {
    let mut bytes = [7u32.to_le_bytes(), kind::EV_EFI_ACTION.to_le_bytes()].concat();
    bytes.extend((digests.len() as u32).to_le_bytes());
    for (id, digest) in digests {
        bytes.extend(id.to_le_bytes());
        bytes.extend(*digest);
    }
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    bytes
}

#[track_caller]
fn refused(parts: &[&[u8]], field: &str) -> Malformed {
    let refused = EventLog::parse(&parts.concat()).unwrap_err();
    assert_eq!(refused.field, field, "{refused}");
    refused
}

#[test]
fn both_forms_are_read() {
    let agile = [header(&[(4, 20), (0xb, 32)]), event(&[(4, &[1; 20]), (0xb, &[2; 32])], b"text")].concat();
    let log = EventLog::parse(&agile).unwrap();
    assert!(log.is_crypto_agile());
    assert_eq!(log.algorithms(), [HashAlgorithm::Sha1, HashAlgorithm::Sha256]);
    let event = &log.events()[1];
    assert_eq!((event.register, event.kind, &event.data[..]), (7, kind::EV_EFI_ACTION, &b"text"[..]));
    assert_eq!(event.digest(HashAlgorithm::Sha256), Some(&[2; 32][..]));
    assert_eq!(event.digest(HashAlgorithm::Sha384), None);

    let log = EventLog::parse(&legacy(0, 8, &[3; 20], b"1")).unwrap();
    assert!(!log.is_crypto_agile());
    assert_eq!(log.events()[0].digest(HashAlgorithm::Sha1), Some(&[3; 20][..]));
}

#[test]
fn an_unknown_algorithm_has_the_size_that_the_header_tells() {
    let bytes = [header(&[(0x27, 32)]), event(&[(0x27, &[9; 32])], b"")].concat();
    let log = EventLog::parse(&bytes).unwrap();
    assert_eq!(log.algorithms(), [HashAlgorithm::Other(0x27)]);
    assert_eq!(log.events()[1].digest(HashAlgorithm::Other(0x27)), Some(&[9; 32][..]));
}

#[test]
fn headers_that_contradict_themselves() {
    refused(&[&header(&[])], "algorithm count");
    refused(&[&header(&[(4, 20); 17])], "algorithm count");
    refused(&[&header(&[(4, 20), (4, 20)])], "algorithm");
    refused(&[&header(&[(4, 32)])], "digest size");
    refused(&[&header(&[(0x27, 0)])], "digest size");
    refused(&[&header(&[(0x27, 129)])], "digest size");
    let mut other_kind = header(&[(4, 20)]);
    other_kind[4] = 4;
    refused(&[&other_kind], "kind of the header");
    let mut digest = header(&[(4, 20)]);
    digest[8] = 1;
    refused(&[&digest], "digest of the header");
    let mut vendor = header(&[(4, 20)]);
    *vendor.last_mut().unwrap() = 1;
    assert_eq!(refused(&[&vendor], "vendor data").kind, MalformedKind::Truncated);
}

#[test]
fn events_that_contradict_the_header() {
    let header = header(&[(4, 20), (0xb, 32)]);
    refused(&[&header, &event(&[(0xc, &[0; 48])], b"")], "digest algorithm");
    refused(&[&header, &event(&[(4, &[0; 20]), (4, &[0; 20])], b"")], "digest algorithm");
    refused(&[&header, &event(&[(4, &[0; 20]), (0xb, &[0; 32]), (4, &[0; 20])], b"")], "digest count");
    let mut long = event(&[(4, &[0; 20])], b"");
    let end = long.len();
    long[end - 4..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(refused(&[&header, &long], "data").kind, MalformedKind::Truncated);
}

#[test]
fn a_log_does_not_begin_with_another_event_that_is_not_measured() {
    refused(&[&legacy(0, kind::EV_NO_ACTION, &[0; 20], b"StartupLocality\0\x03")], "first event");
    refused(&[b""], "register");
}

#[test]
fn padding_is_zeros_or_ones_up_to_the_end() {
    let log = [header(&[(4, 20)]), event(&[(4, &[1; 20])], b"text")].concat();
    for filler in [0, 0xff] {
        for length in [0, 1, 7, 8, 4096] {
            let padded = [&log[..], &vec![filler; length]].concat();
            let parsed = EventLog::parse(&padded).unwrap();
            assert_eq!((parsed.events().len(), parsed.padding()), (2, length));
        }
        let mut dirty = [&log[..], &[filler; 64]].concat();
        dirty[log.len() + 40] = 7;
        assert_eq!(refused(&[&dirty], "padding").offset, log.len() + 40);
    }
    refused(&[&log, &[7; 3]], "register");
}

#[test]
fn absurd_lengths_are_refused() {
    let kind = EventLog::parse(&vec![0; MAX_LENGTH + 1]).unwrap_err().kind;
    assert_eq!(kind, MalformedKind::TooLong);
    let many = event(&[], b"").repeat(MAX_EVENTS);
    refused(&[&header(&[(4, 20)]), &many], "events");
    let fewer = event(&[], b"").repeat(MAX_EVENTS - 1);
    assert!(EventLog::parse(&[header(&[(4, 20)]), fewer].concat()).is_ok());
}

#[test]
fn signature_databases_with_sizes_that_do_not_fit() {
    let list = |size: u32, header: u32, entry: u32, body: &[u8]| {
        let mut bytes = vec![0x11; 16];
        bytes.extend([size, header, entry].map(u32::to_le_bytes).concat());
        bytes.extend(body);
        bytes
    };
    assert_eq!(SignatureDatabase::parse(&[]).unwrap(), SignatureDatabase::default());
    assert_eq!(SignatureDatabase::parse(&list(28 + 40, 0, 20, &[0; 40])).unwrap().others, 2);
    for bad in [
        list(27, 0, 20, &[]),
        list(28 + 40, 0, 0, &[0; 40]),
        list(28 + 40, 0, 15, &[0; 40]),
        list(28 + 40, 0, 19, &[0; 40]),
        list(28 + 40, 41, 20, &[0; 40]),
        list(28 + 80, 0, 20, &[0; 40]),
        list(u32::MAX, u32::MAX, u32::MAX, &[]),
    ] {
        assert!(SignatureDatabase::parse(&bad).is_err(), "{bad:?}");
    }
}

/// A description goes to terminals: what a hostile log says may not control them, nor fill them.
#[test]
fn descriptions_are_short_and_clean() {
    let text = format!("grub_cmd: echo \u{1b}[2J{}\0", "a".repeat(10_000));
    let mut bytes = header(&[(4, 20)]);
    bytes.extend([8u32, kind::EV_IPL, 0, text.len() as u32].map(u32::to_le_bytes).concat());
    bytes.extend(text.as_bytes());
    let description = &EventLog::parse(&bytes).unwrap().describe()[1];
    assert!(description.description.chars().count() <= 401);
    assert!(!description.description.contains('\u{1b}'));
}

#[test]
fn device_paths_that_do_not_fit_their_length() {
    assert_eq!(device_path::text(&[]), Some(String::new()));
    assert_eq!(device_path::text(&[4, 4, 8, 0, b'a', 0, 0, 0, 0x7f, 0xff, 4, 0]), Some("a".into()));
    assert_eq!(device_path::text(&[4, 4, 3, 0]), None);
    assert_eq!(device_path::text(&[4, 4, 200, 0, 0]), None);
    assert_eq!(device_path::text(&[4, 4, 8]), None);
    assert_eq!(device_path::text(&[1, 1, 5, 0, 9]), Some("Path(1,1,09)".into()));
}
