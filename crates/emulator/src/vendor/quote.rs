//! SGX quotes, version 3 (Intel SGX ECDSA QuoteLibReference, appendix A.4), and TDX quotes, version 4 (Intel
//! TDX DCAP Quoting Library API, appendix 3), as the emulated quoting enclaves write them.

use aws_lc_rs::digest;
use evidence::pem;

use super::error::Result;
use super::intel::Intel;
use super::issue::Request;
use super::keys::EcKey;
use super::tcb::IntelTcb;

/// QE_VENDOR_ID of Intel's quoting enclaves: it names the format of what follows.
const VENDOR: [u8; 16] = *b"\x93\x9a\x72\x33\xf7\x9c\x4c\xa9\x94\x0a\x0d\xb3\x95\x7f\x06\x07";
const ECDSA_P256: u16 = 2;
const TEE_TDX: u32 = 0x81;
const PCK_CHAIN: u16 = 5;
const QE_REPORT_CERTIFICATION: u16 = 6;
/// QE authentication data, which Intel's reference enclaves fill with 00, 01, … 1f.
const AUTHENTICATION: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

const SGX_INIT: u64 = 1 << 0;
const SGX_DEBUG: u64 = 1 << 1;
const SGX_MODE64BIT: u64 = 1 << 2;
const SGX_PROVISION_KEY: u64 = 1 << 4;
/// Key separation and sharing: the enclave has a CONFIGID.
const SGX_KSS: u64 = 1 << 7;
/// x87, SSE, AVX, AVX-512, PKRU.
const XFRM: u64 = 0x2e7;

const TD_DEBUG: u64 = 1 << 0;
const TD_SEPT_VE_DISABLE: u64 = 1 << 28;
/// [`XFRM`] and AMX.
const XFAM: u64 = 0x602e7;

/// A measurement of code that this emulator only pretends to run, by name.
pub(super) struct Pretended(&'static str);

/// MRSIGNER of the quoting enclaves.
pub(super) const QE_SIGNER: Pretended = Pretended("bailey/emulated/quoting-enclave-signer/1");
/// MRSIGNER of every launched enclave: nobody signs them, and policies go by MRENCLAVE.
const ENCLAVE_SIGNER: Pretended = Pretended("bailey/emulated/enclave-signer/1");
const TDX_MODULE: Pretended = Pretended("bailey/emulated/tdx-module/1");

impl Pretended {
    pub(super) fn digest(&self) -> Vec<u8> {
        digest::digest(&digest::SHA256, self.0.as_bytes()).as_ref().to_vec()
    }

    fn long_digest(&self) -> Vec<u8> {
        digest::digest(&digest::SHA384, self.0.as_bytes()).as_ref().to_vec()
    }
}

/// Who signs quotes.
#[derive(Clone, Copy)]
pub(super) enum QuotingEnclave {
    Sgx,
    Tdx,
}

impl QuotingEnclave {
    /// Its name in the identity document.
    pub(super) fn identity(self) -> &'static str {
        match self {
            Self::Sgx => "QE",
            Self::Tdx => "TD_QE",
        }
    }

    /// ISVPRODID.
    pub(super) fn product(self) -> u16 {
        match self {
            Self::Sgx => 1,
            Self::Tdx => 2,
        }
    }

    /// ISVSVN.
    pub(super) fn security_version(self) -> u8 {
        match self {
            Self::Sgx => 8,
            Self::Tdx => 4,
        }
    }

    fn measurement(self) -> Pretended {
        match self {
            Self::Sgx => Pretended("bailey/emulated/quoting-enclave/1"),
            Self::Tdx => Pretended("bailey/emulated/td-quoting-enclave/1"),
        }
    }

    fn attestation_key(self, intel: &Intel) -> &EcKey {
        match self {
            Self::Sgx => &intel.sgx_attestation,
            Self::Tdx => &intel.tdx_attestation,
        }
    }
}

/// What stands behind an attestation key: QE report, the PCK's signature over it, authentication data, and the
/// PCK chain. Made once per start, as a real PCE does, so that a verifier's cache of it works.
pub(super) struct Certification(Vec<u8>);

impl Certification {
    pub(super) fn of(enclave: QuotingEnclave, intel: &Intel, tcb: IntelTcb) -> Result<Self> {
        let bound = [enclave.attestation_key(intel).point(), &AUTHENTICATION].concat();
        let mut report_data = [0; 64];
        report_data[..32].copy_from_slice(digest::digest(&digest::SHA256, &bound).as_ref());
        let report = EnclaveReport {
            cpu_svn: tcb.sgx_components,
            flags: SGX_INIT | SGX_MODE64BIT | SGX_PROVISION_KEY,
            measurement: &enclave.measurement().digest(),
            signer: &QE_SIGNER.digest(),
            configuration: &[0; 64],
            product: enclave.product(),
            security_version: enclave.security_version().into(),
            report_data: &report_data,
        }
        .to_bytes();

        let chain = [&intel.pck_certificate, &intel.pck_ca_certificate, &intel.root_certificate]
            .map(pem::encode)
            .concat();
        let mut out = Writer::default();
        out.bytes(&report);
        out.bytes(&intel.pck.sign_fixed::<64>(&report)?);
        out.bytes(&(AUTHENTICATION.len() as u16).to_le_bytes());
        out.bytes(&AUTHENTICATION);
        out.bytes(&PCK_CHAIN.to_le_bytes());
        // Intel's PEM ends with a NUL, which its length counts.
        out.counted(&[chain.as_bytes(), &[0]].concat());
        Ok(Self(out.0))
    }
}

/// An SGX quote, version 3.
pub(super) fn sgx(
    intel: &Intel,
    tcb: IntelTcb,
    certification: &Certification,
    request: &Request<'_>,
) -> Result<Vec<u8>> {
    let enclave = QuotingEnclave::Sgx;
    let mut out = Writer::default();
    out.bytes(&3u16.to_le_bytes());
    out.bytes(&ECDSA_P256.to_le_bytes());
    out.bytes(&[0; 4]);
    out.bytes(&u16::from(enclave.security_version()).to_le_bytes());
    out.bytes(&tcb.pce_svn.to_le_bytes());
    out.bytes(&VENDOR);
    out.bytes(&user_data(intel));
    let debug = if request.debug() { SGX_DEBUG } else { 0 };
    let body = EnclaveReport {
        cpu_svn: tcb.sgx_components,
        flags: SGX_INIT | SGX_MODE64BIT | SGX_KSS | debug,
        measurement: request.measurement,
        signer: &ENCLAVE_SIGNER.digest(),
        configuration: request.launch_configuration,
        product: 0,
        security_version: 0,
        report_data: request.report_data,
    };
    out.bytes(&body.to_bytes());

    let key = enclave.attestation_key(intel);
    let signature: [u8; 64] = key.sign_fixed(&out.0)?;
    out.counted(&[&signature, key.point(), &certification.0].concat());
    Ok(out.0)
}

/// A TDX quote, version 4, of a TD 1.0 body.
pub(super) fn tdx(
    intel: &Intel,
    tcb: IntelTcb,
    certification: &Certification,
    request: &Request<'_>,
) -> Result<Vec<u8>> {
    let debug = if request.debug() { TD_DEBUG } else { 0 };
    let mut out = Writer::default();
    out.bytes(&4u16.to_le_bytes());
    out.bytes(&ECDSA_P256.to_le_bytes());
    out.bytes(&TEE_TDX.to_le_bytes());
    out.bytes(&[0; 4]);
    out.bytes(&VENDOR);
    out.bytes(&user_data(intel));

    out.bytes(&tcb.tdx_components); // TEE_TCB_SVN
    out.bytes(&TDX_MODULE.long_digest()); // MRSEAM
    out.bytes(&[0; 48]); // MRSIGNERSEAM
    out.bytes(&[0; 8]); // SEAMATTRIBUTES
    out.bytes(&(TD_SEPT_VE_DISABLE | debug).to_le_bytes());
    out.bytes(&XFAM.to_le_bytes());
    out.bytes(request.measurement); // MRTD
    out.bytes(request.launch_configuration); // MRCONFIGID
    out.bytes(&[0; 2 * 48]); // MROWNER, MROWNERCONFIG
    out.bytes(&[0; 4 * 48]); // RTMR0–3: nothing is measured after launch
    out.bytes(request.report_data);

    let key = QuotingEnclave::Tdx.attestation_key(intel);
    let mut signature = Writer(key.sign_fixed::<64>(&out.0)?.to_vec());
    signature.bytes(key.point());
    signature.bytes(&QE_REPORT_CERTIFICATION.to_le_bytes());
    signature.counted(&certification.0);
    out.counted(&signature.0);
    Ok(out.0)
}

/// The platform instance, then zeros.
fn user_data(intel: &Intel) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&intel.instance);
    bytes
}

struct EnclaveReport<'a> {
    cpu_svn: [u8; 16],
    flags: u64,
    measurement: &'a [u8],
    signer: &'a [u8],
    configuration: &'a [u8],
    product: u16,
    security_version: u16,
    report_data: &'a [u8; 64],
}

impl EnclaveReport<'_> {
    /// REPORTBODY (Intel SDM volume 3D, table 38-21), 384 bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.bytes(&self.cpu_svn);
        out.bytes(&[0; 4 + 12 + 16]); // MISCSELECT, reserved, ISVEXTPRODID
        out.bytes(&self.flags.to_le_bytes());
        out.bytes(&XFRM.to_le_bytes());
        out.bytes(self.measurement);
        out.bytes(&[0; 32]);
        out.bytes(self.signer);
        out.bytes(&[0; 32]);
        out.bytes(self.configuration);
        out.bytes(&self.product.to_le_bytes());
        out.bytes(&self.security_version.to_le_bytes());
        out.bytes(&[0; 2 + 42 + 16]); // CONFIGSVN, reserved, ISVFAMILYID
        out.bytes(self.report_data);
        out.0
    }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A 32-bit little-endian length, then the bytes: a few kilobytes at most.
    fn counted(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u32).to_le_bytes());
        self.bytes(bytes);
    }
}
