//! The verifiers that we are measured beside, on the same samples, each with its fastest cryptography.

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::verify::QuoteVerifier;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use sev::certs::snp::{Certificate, Chain, Verifiable};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

use crate::samples::{Sample, read};

/// What `sev` was built with.
pub const SEV: &str = if cfg!(feature = "openssl") {
    "sev 8, OpenSSL"
} else {
    "sev 8, RustCrypto (libssl-dev is not installed, which its faster back end needs)"
};

/// dcap-qvl with aws-lc-rs through its `Config` trait.
struct AwsLcConfig;

impl Config for AwsLcConfig {
    type X509 = dcap_qvl::x509::X509CertBackend;
    type SigEncoder = dcap_qvl::signature::DerSigEncoder;
    type Crypto = AwsLc;
}

struct AwsLc;

impl CryptoProvider for AwsLc {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        &P256
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, data);
        digest.as_ref().try_into().expect("32 bytes")
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA384, data);
        digest.as_ref().try_into().expect("48 bytes")
    }
}

#[derive(Debug)]
struct P256;

impl SignatureVerificationAlgorithm for P256 {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let algorithm = &aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1;
        aws_lc_rs::signature::UnparsedPublicKey::new(algorithm, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P256
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_SHA256
    }
}

/// A verification by dcap-qvl, collateral read before.
pub struct DcapQvl {
    verifier: QuoteVerifier<AwsLcConfig>,
    quote: Vec<u8>,
    collateral: QuoteCollateralV3,
    now: u64,
}

impl DcapQvl {
    pub fn new(sample: &Sample) -> Self {
        let json: serde_json::Value = serde_json::from_slice(&read(sample.files[1])).expect("JSON");
        let text = |name: &str| json[name].as_str().expect("a string").to_owned();
        let bytes = |name: &str| hex::decode(text(name)).expect("hexadecimal digits");
        Self {
            verifier: QuoteVerifier::new_prod().with_config(),
            quote: sample.bytes.clone(),
            collateral: QuoteCollateralV3 {
                pck_crl_issuer_chain: text("pck_crl_issuer_chain"),
                root_ca_crl: bytes("root_ca_crl"),
                pck_crl: bytes("pck_crl"),
                tcb_info_issuer_chain: text("tcb_info_issuer_chain"),
                tcb_info: text("tcb_info"),
                tcb_info_signature: bytes("tcb_info_signature"),
                qe_identity_issuer_chain: text("qe_identity_issuer_chain"),
                qe_identity: text("qe_identity"),
                qe_identity_signature: bytes("qe_identity_signature"),
                pck_certificate_chain: None,
            },
            now: u64::try_from(sample.now.0).expect("after 1970"),
        }
    }

    pub fn verify(&self) -> dcap_qvl::verify::VerifiedReport {
        self.verifier.verify(&self.quote, &self.collateral, self.now).expect("a sample that it accepts")
    }
}

/// A verification by sev: chain and report; neither validity, revocation, TCB nor chip.
pub struct Sev {
    report: Vec<u8>,
    chain: [Vec<u8>; 3],
    parsed: Chain,
}

impl Sev {
    pub fn new(sample: &Sample) -> Self {
        let chain = [1, 2, 3].map(|index| read(sample.files[index]));
        let parsed = Self::read(&chain);
        Self { report: sample.bytes.clone(), chain, parsed }
    }

    fn read([ark, ask, vek]: &[Vec<u8>; 3]) -> Chain {
        Chain::from_der(ark, ask, vek).expect("a chain that parses")
    }

    fn report(&self) -> AttestationReport {
        AttestationReport::from_bytes(&self.report).expect("a report that parses")
    }

    /// From bytes.
    pub fn cold(&self) {
        let chain = Self::read(&self.chain);
        (&chain, &self.report()).verify().expect("a sample that it accepts");
    }

    /// The chain was read and verified before: only the report's own signature.
    pub fn warm(&self) {
        let vek: &Certificate = &self.parsed.vek;
        (vek, &self.report()).verify().expect("a sample that it accepts");
    }
}
