//! What bad input may cost, counted by the allocator: no change of a sample may take ten times the memory of the
//! sample itself, none may panic, and nothing that is compressed is unpacked (S-43).

#![expect(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::path::Path;

use appraisal::{EndorsementsBuilder, Examination, UnixTime};
use crypto_aws_lc::AwsLc;
use evidence::Evidence;
use evidence::eventlog::EventLog;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the counters are plain cells.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size().cast_signed() as i64);
        PEAK.set(PEAK.get().max(HELD.get()));
        // SAFETY: as promised by our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size().cast_signed() as i64);
        // SAFETY: as promised by our caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes held at once at most by `work`.
fn peak(work: impl FnOnce()) -> i64 {
    let held = HELD.get();
    PEAK.set(held);
    work();
    PEAK.get() - held
}

/// Samples of each platform, with what endorses them.
const SAMPLES: &[(&str, &[&str])] = &[
    ("negatives/sgx3-ok.quote", &["negatives/sgx3-ok.collateral.json"]),
    ("negatives/tdx4-ok.quote", &["negatives/tdx4-ok.collateral.json"]),
    ("negatives/tdx5ex-ok.quote", &["negatives/tdx5ex-ok.collateral.json"]),
    ("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin", &[]),
    ("tpm/trustee-tpm_evidence.json", &[]),
    ("tpm/go-tpm-tools-gce-cos-85-no-nonce.pb", &[]),
    ("azure/trustee-az-snp-evidence-v1.json", &[]),
    ("azure/attestation-rs-az-tdx-live-evidence.json", &[]),
    ("azure/trustee-az-snp-hcl-report.bin", &[]),
    ("nitro/dstack-nitro_attestation-5e983e.cbor", &[]),
    ("cca/rust-ccatoken-cca-token-01.cbor", &[]),
    ("nvidia/attestation-sdk-hopperAttestationReport.txt", &[]),
    ("nvidia/attestation-sdk-hopper_evidence_cert_hold.json", &[]),
];
const NOW: UnixTime = UnixTime(1_751_624_191);
/// Changed copies of each sample.
const CHANGES: usize = 80;

fn read(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn examine(file: &[u8], endorsements: &[Vec<u8>]) -> bool {
    let Ok(mut examination) = Examination::new(file) else { return false };
    for endorsement in endorsements {
        let _ = examination.endorse(endorsement);
    }
    let examined = examination.assess(NOW, &AwsLc);
    let _ = examined.render(false);
    true
}

/// A flipped bit, a length of all ones, digits of a length in text, and an end that comes too early.
fn changes(sample: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let step = (sample.len() / CHANGES).max(1);
    (0..sample.len()).step_by(step).flat_map(move |offset| {
        let mut flipped = sample.to_vec();
        flipped[offset] ^= 1 << (offset % 8);
        let mut long = sample.to_vec();
        let end = sample.len().min(offset + 4);
        long[offset..end].fill(0xff);
        let mut digits = sample.to_vec();
        digits[offset..end].fill(b'9');
        [flipped, long, digits, sample[..offset].to_vec()]
    })
}

#[test]
fn s43_no_change_of_a_sample_takes_ten_times_its_memory() {
    for (file, endorsements) in SAMPLES {
        let sample = read(file);
        let endorsements: Vec<_> = endorsements.iter().map(|file| read(file)).collect();
        let original = peak(|| assert!(examine(&sample, &endorsements), "{file}"));
        for (number, changed) in changes(&sample).enumerate() {
            let taken = peak(|| {
                let _ = examine(&changed, &endorsements);
            });
            assert!(
                taken <= 10 * original,
                "{file}, change {number}: {taken} bytes, ten times {original} at most"
            );
        }
    }
}

#[test]
fn s43_no_change_of_collateral_takes_ten_times_its_memory() {
    let sample = read("negatives/tdx4-ok.quote");
    let collateral = read("negatives/tdx4-ok.collateral.json");
    let original = peak(|| assert!(examine(&sample, std::slice::from_ref(&collateral))));
    for (number, changed) in changes(&collateral).enumerate() {
        let taken = peak(|| {
            let _ = examine(&sample, &[changed]);
        });
        assert!(taken <= 10 * original, "change {number}: {taken} bytes, ten times {original} at most");
    }
}

#[test]
fn s43_no_change_of_an_event_log_takes_ten_times_its_memory() {
    let log = read("eventlog/go-eventlog-cos-113-intel-tdx.bin");
    let original = peak(|| drop(EventLog::parse(&log).unwrap()));
    for (number, changed) in changes(&log).enumerate() {
        let taken = peak(|| drop(EventLog::parse(&changed)));
        assert!(taken <= 10 * original.max(log.len() as i64), "change {number}: {taken} bytes");
    }
}

/// The head of what gzip, zstd and zlib make. Nothing here unpacks, so a bomb is some bytes that nobody knows.
#[test]
fn s43_what_is_compressed_is_not_unpacked() {
    for head in [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0x28, 0xb5, 0x2f, 0xfd], &[0x78, 0xda]] {
        let bomb = [head, &[0; 1 << 20]].concat();
        let taken = peak(|| {
            assert!(Evidence::parse(&bomb).is_err());
            assert!(Examination::new(&bomb).is_err());
            assert!(EndorsementsBuilder::new().add_file_bytes(&bomb).is_err());
            assert!(EventLog::parse(&bomb).is_err());
        });
        assert!(taken <= 10 * (1 << 20), "{taken}");
    }
}

/// Text forms of a large nothing: base64, hexadecimal, white space, brackets, PEM.
#[test]
fn s43_large_and_empty_files_are_refused() {
    for unit in
        ["A", "0", " ", "[", "{\"a\":", "-----BEGIN CERTIFICATE-----\n", "\u{0}", "\u{ff}", "9f", "a1"]
    {
        let file = unit.repeat((1 << 20) / unit.len());
        let taken = peak(|| {
            assert!(Examination::new(file.as_bytes()).is_err(), "{unit}");
            let _ = EndorsementsBuilder::new().add_file_bytes(file.as_bytes());
        });
        assert!(taken <= 10 * (1 << 20), "{unit}: {taken}");
    }
}
