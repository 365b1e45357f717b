//! How much memory a verification takes, counted by the allocator: a bound, and what does not grow with what a
//! vendor signs. Times are measured by `cargo xtask bench verify`, and asserted nowhere.

#![expect(unsafe_code, reason = "an allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use appraisal::{
    Assessment, Capacity, Crypto, EndorsementsBuilder, InvalidSignature, Policy, SignatureAlgorithm,
    TcbStatus, UnixTime, Verifier, assess,
};
use crypto_aws_lc::AwsLc;
use evidence::{CrlDer, Endorsements, Evidence};

/// What a verification may hold at once, beside its input and what a verifier remembers.
const BOUND: i64 = 64 * 1024;

thread_local! {
    static ALLOCATED: Cell<i64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; the counters are plain cells.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let size = layout.size().cast_signed();
        ALLOCATED.set(ALLOCATED.get() + size as i64);
        HELD.set(HELD.get() + size as i64);
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

/// Bytes asked for in all, and held at once at most, by `work`; with its result.
fn count<T>(work: impl FnOnce() -> T) -> (T, i64, i64) {
    let (allocated, held) = (ALLOCATED.get(), HELD.get());
    PEAK.set(held);
    let result = work();
    (result, ALLOCATED.get() - allocated, PEAK.get() - held)
}

struct Case {
    name: &'static str,
    evidence: Vec<u8>,
    endorsements: Endorsements,
    now: UnixTime,
}

impl Case {
    fn cold(&self) -> Assessment {
        let evidence = Evidence::parse(&self.evidence).unwrap();
        assess(&evidence, &self.endorsements, None, None, &policy(), self.now, &AwsLc)
    }

    fn warm(&self, verifier: &Verifier) -> Assessment {
        let evidence = Evidence::parse(&self.evidence).unwrap();
        verifier.assess(&evidence, &self.endorsements, None, None, &policy(), self.now)
    }
}

/// Accepts what is out of date, too, as the SGX sample is: only what was accepted is remembered.
fn policy() -> Policy {
    let mut policy = Policy::genuine();
    policy.accepted_tcb.insert(TcbStatus::OutOfDate);
    policy
}

fn read(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn quote(name: &'static str, quote: &str, collateral: &str, now: &str) -> Case {
    Case {
        name,
        evidence: read(quote),
        endorsements: Endorsements::from_dcap_json(&read(collateral)).unwrap(),
        now: now.parse().unwrap(),
    }
}

fn tdx() -> Case {
    let now = "2025-07-04T10:16:31Z";
    quote("TDX", "negatives/tdx4-ok.quote", "negatives/tdx4-ok.collateral.json", now)
}

/// The quote with the longest TCB info of the corpus.
fn sgx() -> Case {
    quote(
        "SGX",
        "sgx/automata-dcap-attestation-mod.quote-v3-sgx-e8f106.bin",
        "bundles/quote-v3-sgx-e8f10643-20250606T1230-e19.collateral.json",
        "2025-06-20T10:55:09Z",
    )
}

fn snp() -> Case {
    let evidence = read("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin");
    let now = "2025-08-08T17:21:41Z".parse().unwrap();
    let mut builder = EndorsementsBuilder::new();
    for file in [
        "oak-SEV-VCEK-SEV-Genoa-b6563a6c.der",
        "sev-SEV-Genoa-ARK-Genoa-5464738c.der",
        "steward-crl-ARK-Genoa-2022-10-31.der",
    ] {
        builder.add_file_bytes(&read(&format!("amd-collateral/{file}"))).unwrap();
    }
    let endorsements = builder.fit(&Evidence::parse(&evidence).unwrap(), now);
    Case { name: "SNP", evidence, endorsements, now }
}

#[test]
fn a_verification_holds_less_than_64_kib_beyond_its_input() {
    for case in [tdx(), sgx(), snp()] {
        // What is made once for a process, the vendors' roots, is made before.
        case.cold();
        let (cold, _, held) = count(|| case.cold());
        assert!(held < BOUND, "{}, cold: {held}", case.name);
        let verifier = Verifier::new(AwsLc, Capacity::default());
        let (_, _, held) = count(|| case.warm(&verifier));
        let remembered = i64::try_from(verifier.remembered()).unwrap();
        assert!(held < BOUND + remembered, "{}, seen first: {held}, remembered {remembered}", case.name);
        let (warm, _, held) = count(|| case.warm(&verifier));
        assert!(held < BOUND / 2, "{}, warm: {held}", case.name);
        assert_eq!(warm.verdict(), cold.verdict());
    }
}

/// What the memory weighs is no less than what it takes.
#[test]
fn a_memory_knows_its_weight() {
    for case in [tdx(), sgx(), snp()] {
        let verifier = Verifier::new(AwsLc, Capacity::default());
        case.cold();
        let before = HELD.get();
        drop(case.warm(&verifier));
        let (takes, weighs) = (HELD.get() - before, i64::try_from(verifier.remembered()).unwrap());
        assert!(weighs > 0 && takes <= weighs, "{}: takes {takes}, weighs {weighs}", case.name);
    }
}

#[test]
fn warm_memory_does_not_grow_with_the_revocation_list() {
    let small = tdx();
    let mut large = tdx();
    let list = &mut large.endorsements.intel.as_mut().unwrap().pck_crl;
    let length = list.0.len();
    *list = CrlDer(with_more_entries(&list.0, 50));
    assert!(list.0.len() > 40 * length, "{} of {length}", list.0.len());
    let [small, large] = [small, large].map(|case| {
        let verifier = Verifier::new(Lenient, Capacity::default());
        let first = case.warm(&verifier);
        assert!(first.verdict().is_accepted(), "{}", first.verdict());
        let (_, allocated, held) = count(|| case.warm(&verifier));
        (allocated, held)
    });
    assert_eq!(large, small);
}

/// AWS-LC that takes any signature of an endorsement for good: nobody but Intel can sign a longer list of its own.
struct Lenient;

impl Crypto for Lenient {
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        AwsLc.verify(algorithm, key, message, signature)
    }

    fn verify_endorsement(
        &self,
        _: SignatureAlgorithm,
        _: &[u8],
        _: &[u8],
        _: &[u8],
    ) -> Result<(), InvalidSignature> {
        Ok(())
    }

    fn sha1(&self, parts: &[&[u8]]) -> [u8; 20] {
        AwsLc.sha1(parts)
    }

    fn sha256(&self, parts: &[&[u8]]) -> [u8; 32] {
        AwsLc.sha256(parts)
    }

    fn sha384(&self, parts: &[&[u8]]) -> [u8; 48] {
        AwsLc.sha384(parts)
    }

    fn sha512(&self, parts: &[&[u8]]) -> [u8; 64] {
        AwsLc.sha512(parts)
    }
}

/// The revocation list with each of its entries `times` times.
fn with_more_entries(list: &[u8], times: usize) -> Vec<u8> {
    let parts = elements(contents(list));
    let fields: Vec<_> = elements(contents(parts[0]))
        .into_iter()
        .enumerate()
        // Version, algorithm, issuer, this update, next update, entries, extensions.
        .flat_map(|(index, field)| match index {
            5 => sequence(&contents(field).repeat(times)),
            _ => field.to_vec(),
        })
        .collect();
    sequence(&[&sequence(&fields), parts[1], parts[2]].concat())
}

fn header(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        long => {
            let digits = usize::from(long & 0x7f);
            let length = der[2..2 + digits].iter().fold(0, |sum, &byte| (sum << 8) | usize::from(byte));
            (2 + digits, length)
        }
    }
}

fn contents(der: &[u8]) -> &[u8] {
    let (start, length) = header(der);
    &der[start..start + length]
}

fn elements(mut der: &[u8]) -> Vec<&[u8]> {
    let mut found = vec![];
    while !der.is_empty() {
        let (start, length) = header(der);
        let (element, rest) = der.split_at(start + length);
        found.push(element);
        der = rest;
    }
    found
}

fn sequence(contents: &[u8]) -> Vec<u8> {
    let length = u32::try_from(contents.len()).unwrap().to_be_bytes();
    let head: &[u8] = match contents.len() {
        0..=0x7f => &[0x30, length[3]],
        0x80..=0xff => &[0x30, 0x81, length[3]],
        0x100..=0xffff => &[0x30, 0x82, length[2], length[3]],
        _ => &[0x30, 0x83, length[1], length[2], length[3]],
    };
    [head, contents].concat()
}
