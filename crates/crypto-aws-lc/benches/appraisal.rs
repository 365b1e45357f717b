//! Appraisal of a TDX and an SNP Evidence, from bytes to verdict with nothing cached, against the sum of the
//! signature checks that it needs, in one process and in turns. Prints medians, and their ratio.
//!
//! The signature checks are not listed by hand: a provider that records them runs once, so that the yardstick
//! is what appraisal really asks for.

use std::hint::black_box;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use appraisal::{
    Assessment, Crypto, EndorsementsBuilder, InvalidSignature, Policy, SignatureAlgorithm, UnixTime, assess,
};
use crypto_aws_lc::AwsLc;
use evidence::{Endorsements, Evidence};

const ROUNDS: usize = 2_000;

struct Case {
    name: &'static str,
    evidence: Vec<u8>,
    endorsements: Endorsements,
    now: UnixTime,
}

impl Case {
    fn appraise(&self, crypto: &dyn Crypto) -> Assessment {
        let evidence = Evidence::parse(&self.evidence).expect("a sample that parses");
        assess(&evidence, &self.endorsements, None, None, &Policy::genuine(), self.now, crypto)
    }
}

/// A signature check, as appraisal asked for it.
struct SignatureCheck {
    algorithm: SignatureAlgorithm,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

#[derive(Default)]
struct Recorder(Mutex<Vec<SignatureCheck>>);

impl Crypto for Recorder {
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let check = SignatureCheck {
            algorithm,
            key: key.to_vec(),
            message: message.to_vec(),
            signature: signature.to_vec(),
        };
        self.0.lock().expect("no panic while recording").push(check);
        AwsLc.verify(algorithm, key, message, signature)
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

fn main() {
    println!("{:5} {:>12} {:>14} {:>7} {:>7}", "", "appraisal", "signatures", "checks", "ratio");
    for case in [tdx(), sgx(), snp()] {
        measure(&case);
    }
}

fn measure(case: &Case) {
    let recorder = Recorder::default();
    let assessment = case.appraise(&recorder);
    assert!(assessment.verdict().is_accepted(), "{}", assessment.verdict());
    let checks = recorder.0.into_inner().expect("no panic while recording");

    let (mut whole, mut raw) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for _ in 0..ROUNDS {
        let start = Instant::now();
        black_box(case.appraise(&AwsLc));
        whole.push(start.elapsed());
        let start = Instant::now();
        for check in &checks {
            let SignatureCheck { algorithm, key, message, signature } = check;
            black_box(AwsLc.verify(*algorithm, key, message, signature)).expect("a check that passed before");
        }
        raw.push(start.elapsed());
    }
    let (whole, raw) = (median(whole), median(raw));
    let ratio = whole.as_secs_f64() / raw.as_secs_f64();
    println!(
        "{:5} {:>9.1} µs {:>11.1} µs {:>7} {ratio:>7.2}",
        case.name,
        micros(whole),
        micros(raw),
        checks.len()
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn read(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal/tests/vectors").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn at(text: &str) -> UnixTime {
    text.parse().expect("RFC 3339")
}

fn quote(name: &'static str, stem: &str, now: &str) -> Case {
    let collateral = read(&format!("negatives/{stem}-ok.collateral.json"));
    Case {
        name,
        evidence: read(&format!("negatives/{stem}-ok.quote")),
        endorsements: Endorsements::from_dcap_json(&collateral).expect("collateral that parses"),
        now: at(now),
    }
}

fn tdx() -> Case {
    quote("TDX", "tdx4", "2025-07-04T10:16:31Z")
}

fn sgx() -> Case {
    quote("SGX", "sgx3", "2025-07-04T10:28:44Z")
}

fn snp() -> Case {
    let evidence = read("snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin");
    let now = at("2025-08-08T17:21:41Z");
    let mut builder = EndorsementsBuilder::new();
    for file in [
        "oak-SEV-VCEK-SEV-Genoa-b6563a6c.der",
        "sev-SEV-Genoa-ARK-Genoa-5464738c.der",
        "steward-crl-ARK-Genoa-2022-10-31.der",
    ] {
        builder.add_file_bytes(&read(&format!("amd-collateral/{file}"))).expect("a file that endorses");
    }
    let endorsements = builder.fit(&Evidence::parse(&evidence).expect("a report that parses"), now);
    Case { name: "SNP", evidence, endorsements, now }
}
