//! The Intel-like hierarchy: SGX Root CA → PCK Platform CA → PCK certificate, and SGX Root CA → TCB Signing,
//! with the root's and the PCK CA's CRLs (Intel SGX PCK Certificate and CRL Profile 1.5). One PCK serves SGX
//! and TDX, as on a real machine that has both.

use evidence::{CertificateDer, CrlDer};
use serde::{Deserialize, Serialize};

use super::certificate::{
    Certificate, Critical, KeyUsage, Name, RevocationList, Validity, authority_key, basic_constraints,
    certificate_hex, extension, key_usage, revocation_number, revocation_point, subject_key,
};
use super::der;
use super::error::Result;
use super::keys::{CertificateSigner, Curve, EcKey, key_identifier};
use super::sealing::random;
use super::tcb::{IntelTcb, Revoked};

const ORGANIZATION: &str = "Bailey emulated platform (not Intel)";
const ROOT_CRL: &str = "https://intel.emulated.bailey.invalid/IntelSGXRootCA.der";
const PCK_CRL: &str =
    "https://intel.emulated.bailey.invalid/sgx/certification/v4/pckcrl?ca=platform&encoding=der";

/// Family-model-stepping and custom SKU of no Intel processor.
pub(super) const FMSPC: [u8; 6] = [0xeb, 0xa1, 0x1e, 0x70, 0x00, 0x00];
/// The provisioning certification enclave's identity, as Intel's.
pub(super) const PCE_ID: [u8; 2] = [0, 0];

/// Keys and certificates.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Intel {
    root: EcKey,
    pck_ca: EcKey,
    /// Signs TCB info and QE identities.
    pub(super) tcb_signing: EcKey,
    /// Signs QE reports.
    pub(super) pck: EcKey,
    /// The SGX quoting enclave's key: signs SGX quotes.
    pub(super) sgx_attestation: EcKey,
    /// The TD quoting enclave's key: signs TDX quotes.
    pub(super) tdx_attestation: EcKey,
    /// The platform instance, in the PCK certificate and in the header of quotes.
    #[serde(with = "hex::serde")]
    pub(super) instance: [u8; 16],
    #[serde(with = "certificate_hex")]
    pub(super) root_certificate: CertificateDer,
    #[serde(with = "certificate_hex")]
    pub(super) pck_ca_certificate: CertificateDer,
    #[serde(with = "certificate_hex")]
    pub(super) tcb_signing_certificate: CertificateDer,
    #[serde(with = "certificate_hex")]
    pub(super) pck_certificate: CertificateDer,
}

impl Intel {
    pub(super) fn generate(tcb: IntelTcb, validity: Validity) -> Result<Self> {
        let key = || EcKey::generate(Curve::P256);
        let (root, pck_ca, tcb_signing, pck) = (key()?, key()?, key()?, key()?);
        let instance = random()?;
        let ppid = random()?;
        let root_public = root.public_key()?;
        let pck_ca_public = pck_ca.public_key()?;

        let authority = |subject: &str, public: &[u8], path_length| {
            let extensions = vec![
                authority_key(&root_public),
                revocation_point(ROOT_CRL),
                subject_key(public),
                key_usage(KeyUsage::CertifyAndRevoke),
                basic_constraints(Some(path_length)),
            ];
            certificate((ROOT, &root), (subject, public), validity, extensions)
        };
        let root_certificate = authority(ROOT, &root_public, 1)?;
        let pck_ca_certificate = authority(PCK_CA, &pck_ca_public, 0)?;
        let tcb_signing_certificate = certificate(
            (ROOT, &root),
            (TCB_SIGNING, &tcb_signing.public_key()?),
            validity,
            end_entity(&root_public, ROOT_CRL, &tcb_signing.public_key()?),
        )?;
        let mut pck_extensions = end_entity(&pck_ca_public, PCK_CRL, &pck.public_key()?);
        pck_extensions.push(sgx_extension(&ppid, tcb, &instance));
        let pck_certificate =
            certificate((PCK_CA, &pck_ca), (PCK, &pck.public_key()?), validity, pck_extensions)?;

        Ok(Self {
            root,
            pck_ca,
            tcb_signing,
            pck,
            sgx_attestation: key()?,
            tdx_attestation: key()?,
            instance,
            root_certificate,
            pck_ca_certificate,
            tcb_signing_certificate,
            pck_certificate,
        })
    }

    /// The CRL of the SGX root.
    pub(super) fn root_revocation_list(
        &self,
        revoked: &[Revoked],
        validity: Validity,
        number: u64,
    ) -> Result<CrlDer> {
        let mut serials = Vec::new();
        for it in revoked {
            match it {
                Revoked::PckCa => serials.push(serial(&self.pck_ca)?),
                Revoked::TcbSigning => serials.push(serial(&self.tcb_signing)?),
                Revoked::Pck | Revoked::Ask => {}
            }
        }
        revocation_list((ROOT, &self.root), &serials, validity, number)
    }

    /// The CRL of the PCK Platform CA.
    pub(super) fn pck_revocation_list(
        &self,
        revoked: &[Revoked],
        validity: Validity,
        number: u64,
    ) -> Result<CrlDer> {
        let serials = if revoked.contains(&Revoked::Pck) { vec![serial(&self.pck)?] } else { vec![] };
        revocation_list((PCK_CA, &self.pck_ca), &serials, validity, number)
    }
}

const ROOT: &str = "Bailey Emulated SGX Root CA";
const PCK_CA: &str = "Bailey Emulated SGX PCK Platform CA";
const PCK: &str = "Bailey Emulated SGX PCK Certificate";
const TCB_SIGNING: &str = "Bailey Emulated SGX TCB Signing";

fn name(common_name: &str) -> Name {
    Name::intel(common_name, ORGANIZATION)
}

/// Every certificate's serial number is its key's identifier, as with Intel's CAs.
fn serial(key: &EcKey) -> Result<Vec<u8>> {
    Ok(key_identifier(&key.public_key()?).to_vec())
}

fn certificate(
    (issuer, issuer_key): (&str, &EcKey),
    (subject, public_key): (&str, &[u8]),
    validity: Validity,
    extensions: Vec<Vec<u8>>,
) -> Result<CertificateDer> {
    Certificate {
        serial: &key_identifier(public_key),
        issuer: &name(issuer),
        subject: &name(subject),
        validity,
        public_key,
        extensions,
    }
    .sign(issuer_key)
}

fn end_entity(issuer_public: &[u8], crl: &str, public: &[u8]) -> Vec<Vec<u8>> {
    vec![
        authority_key(issuer_public),
        revocation_point(crl),
        subject_key(public),
        key_usage(KeyUsage::Sign),
        basic_constraints(None),
    ]
}

fn revocation_list(
    (issuer, key): (&str, &EcKey),
    revoked: &[Vec<u8>],
    validity: Validity,
    number: u64,
) -> Result<CrlDer> {
    RevocationList {
        issuer: &name(issuer),
        validity,
        revoked,
        extensions: vec![revocation_number(number), authority_key(&key.public_key()?)],
    }
    .sign(key)
}

/// The SGX extension of a PCK certificate (profile 1.5, §1.3.5), laid out as in certificates that Intel's
/// Platform CA signs for scalable processors.
fn sgx_extension(ppid: &[u8; 16], tcb: IntelTcb, instance: &[u8; 16]) -> Vec<u8> {
    const SGX: [u64; 7] = [1, 2, 840, 113741, 1, 13, 1];
    let pair = |arcs: &[u64], value: Vec<u8>| der::sequence([der::oid(&[&SGX, arcs].concat()), value]);

    let components =
        (1..).zip(tcb.sgx_components).map(|(number, svn)| pair(&[2, number], der::integer(&[svn])));
    let pce_svn = pair(&[2, 17], der::integer(&tcb.pce_svn.to_be_bytes()));
    let cpu_svn = pair(&[2, 18], der::octet_string(&tcb.sgx_components));
    // Dynamic platform, cached keys, SMT enabled: as any cloud machine.
    let configuration = (1..=3).map(|number| pair(&[7, number], der::boolean(true)));
    let scalable = der::enumerated(1);

    let value = der::sequence([
        pair(&[1], der::octet_string(ppid)),
        pair(&[2], der::sequence(components.chain([pce_svn, cpu_svn]))),
        pair(&[3], der::octet_string(&PCE_ID)),
        pair(&[4], der::octet_string(&FMSPC)),
        pair(&[5], scalable),
        pair(&[6], der::octet_string(instance)),
        pair(&[7], der::sequence(configuration)),
    ]);
    extension(&SGX, Critical::No, &value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The extension of the PCK certificate in tdx/dcap-qvl-tdx_quote.quote-v4-tdx-f1c850.bin (Emerald Rapids).
    const REAL: &str = "\
        30820226301e060a2a864886f84d010d01010410811dca2a26b952e85bb6448b097ba4fd30820163060a2a864886f84d\
        010d0102308201533010060b2a864886f84d010d0102010201033010060b2a864886f84d010d0102020201033010060b\
        2a864886f84d010d0102030201023010060b2a864886f84d010d0102040201023010060b2a864886f84d010d01020502\
        01043010060b2a864886f84d010d0102060201013010060b2a864886f84d010d0102070201003010060b2a864886f84d\
        010d0102080201053010060b2a864886f84d010d0102090201003010060b2a864886f84d010d01020a0201003010060b\
        2a864886f84d010d01020b0201003010060b2a864886f84d010d01020c0201003010060b2a864886f84d010d01020d02\
        01003010060b2a864886f84d010d01020e0201003010060b2a864886f84d010d01020f0201003010060b2a864886f84d\
        010d0102100201003010060b2a864886f84d010d01021102010b301f060b2a864886f84d010d01021204100303020204\
        01000500000000000000003010060a2a864886f84d010d0103040200003014060a2a864886f84d010d01040406b0c06f\
        000000300f060a2a864886f84d010d01050a0101301e060a2a864886f84d010d0106041007828474603e7019dc930775\
        ffe8cdd23044060a2a864886f84d010d010730363010060b2a864886f84d010d0107010101ff3010060b2a864886f84d\
        010d0107020101ff3010060b2a864886f84d010d0107030101ff";

    #[test]
    fn the_sgx_extension_is_intels_to_the_byte() {
        let real = hex::decode(REAL).expect("hexadecimal");
        let mut expected = real.clone();
        let fmspc = expected.windows(6).position(|it| it == [0xb0, 0xc0, 0x6f, 0, 0, 0]).expect("FMSPC");
        expected[fmspc..fmspc + 6].copy_from_slice(&FMSPC);

        let bytes = |at: usize| <[u8; 16]>::try_from(&real[at..at + 16]).expect("in bounds");
        let tcb = IntelTcb {
            sgx_components: [3, 3, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
            pce_svn: 11,
            tdx_components: [0; 16],
        };
        let ours = sgx_extension(&bytes(20), tcb, &bytes(468));
        assert!(ours.ends_with(&expected), "{}", hex::encode(ours));
    }
}
