//! Evidence of real machines with what their vendors signed, and the signature checks that it needs: recorded,
//! not listed by hand, so that the yardstick is what appraisal really asks for.

use std::path::Path;
use std::sync::Mutex;

use appraisal::{
    Assessment, Crypto, EndorsementsBuilder, InvalidSignature, Policy, SignatureAlgorithm, UnixTime,
    Verifier, assess,
};
use crypto_aws_lc::AwsLc;
use evidence::{Endorsements, Evidence};

/// One platform.
pub struct Sample {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub endorsements: Endorsements,
    pub now: UnixTime,
    /// Where the peers find the same.
    pub files: Vec<&'static str>,
}

impl Sample {
    /// From bytes to verdict, nothing cached.
    pub fn cold(&self, crypto: &dyn Crypto) -> Assessment {
        let evidence = Evidence::parse(&self.bytes).expect("a sample that parses");
        assess(&evidence, &self.endorsements, None, None, &Policy::genuine(), self.now, crypto)
    }

    /// From bytes to verdict, by a verifier that may have seen the platform.
    pub fn warm(&self, verifier: &Verifier) -> Assessment {
        let evidence = Evidence::parse(&self.bytes).expect("a sample that parses");
        verifier.assess(&evidence, &self.endorsements, None, None, &Policy::genuine(), self.now)
    }

    /// The signature checks of an appraisal, Evidence's own last.
    pub fn signatures(&self) -> Vec<SignatureCheck> {
        let recorder = Recorder::default();
        let assessment = self.cold(&recorder);
        assert!(assessment.verdict().is_accepted(), "{}", assessment.verdict());
        let mut checks = recorder.0.into_inner().expect("no panic while recording");
        checks.sort_by_key(|check| !check.is_endorsement);
        checks
    }
}

/// A signature check, as appraisal asked for it.
pub struct SignatureCheck {
    algorithm: SignatureAlgorithm,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
    pub is_endorsement: bool,
}

impl SignatureCheck {
    pub fn make(&self) {
        AwsLc
            .verify(self.algorithm, &self.key, &self.message, &self.signature)
            .expect("a check that passed before");
    }
}

#[derive(Default)]
struct Recorder(Mutex<Vec<SignatureCheck>>);

impl Recorder {
    fn note(
        &self,
        algorithm: SignatureAlgorithm,
        [key, message, signature]: [&[u8]; 3],
        is_endorsement: bool,
    ) -> Result<(), InvalidSignature> {
        let check = SignatureCheck {
            algorithm,
            key: key.to_vec(),
            message: message.to_vec(),
            signature: signature.to_vec(),
            is_endorsement,
        };
        self.0.lock().expect("no panic while recording").push(check);
        AwsLc.verify(algorithm, key, message, signature)
    }
}

impl Crypto for Recorder {
    fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.note(algorithm, [key, message, signature], false)
    }

    fn verify_endorsement(
        &self,
        algorithm: SignatureAlgorithm,
        key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.note(algorithm, [key, message, signature], true)
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

/// A file of the corpus.
pub fn read(file: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/appraisal/tests/vectors").join(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn at(text: &str) -> UnixTime {
    text.parse().expect("RFC 3339")
}

fn quote(name: &'static str, files: [&'static str; 2], now: &str) -> Sample {
    Sample {
        name,
        bytes: read(files[0]),
        endorsements: Endorsements::from_dcap_json(&read(files[1])).expect("collateral that parses"),
        now: at(now),
        files: files.to_vec(),
    }
}

/// A TDX quote of version 4.
pub fn tdx() -> Sample {
    let files = ["negatives/tdx4-ok.quote", "negatives/tdx4-ok.collateral.json"];
    quote("TDX", files, "2025-07-04T10:16:31Z")
}

/// An SGX quote of version 3.
pub fn sgx() -> Sample {
    let files = ["negatives/sgx3-ok.quote", "negatives/sgx3-ok.collateral.json"];
    quote("SGX", files, "2025-07-04T10:28:44Z")
}

/// A report of version 5 from a Genoa, with AMD's CRL of 2022, expired, which the policy `genuine` only warns of.
pub fn snp() -> Sample {
    let files = vec![
        "snp/oak-genoa_oc_evidence.report-v5-6d1cef.bin",
        "amd-collateral/sev-ARK-Genoa-ARK-Genoa-4c6598d1.der",
        "amd-collateral/sev-SEV-Genoa-ARK-Genoa-5464738c.der",
        "amd-collateral/oak-SEV-VCEK-SEV-Genoa-b6563a6c.der",
    ];
    let now = at("2025-08-08T17:21:41Z");
    let bytes = read(files[0]);
    let mut builder = EndorsementsBuilder::new();
    for file in [files[2], files[3], "amd-collateral/steward-crl-ARK-Genoa-2022-10-31.der"] {
        builder.add_file_bytes(&read(file)).expect("a file that endorses");
    }
    let endorsements = builder.fit(&Evidence::parse(&bytes).expect("a report that parses"), now);
    Sample { name: "SNP", bytes, endorsements, now, files }
}
