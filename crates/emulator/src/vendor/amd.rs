//! The AMD-like hierarchy: ARK → ASK → VCEK, and the ARK's CRL, for a machine of the Genoa family (AMD 57230).
//! Names and extensions are those by which a verifier recognises the product; organisation and unit say that
//! it is emulated, and the trust root is nobody's but this platform's.

use evidence::{CertificateDer, CrlDer};
use serde::{Deserialize, Serialize};

use super::certificate::{
    Certificate, Critical, KeyUsage, Name, RevocationList, Validity, authority_key, basic_constraints,
    certificate_hex, extension, key_usage, revocation_number, revocation_point, subject_key,
};
use super::der;
use super::error::Result;
use super::keys::{CertificateSigner, Curve, EcKey, RsaKey};
use super::sealing::random;
use super::tcb::{AmdTcb, Revoked};

const UNIT: &str = "Bailey emulated platform";
const ORGANIZATION: &str = "Bailey emulated platform (not AMD)";
const CRL: &str = "https://amd.emulated.bailey.invalid/vcek/v1/Genoa/crl";
/// Serial numbers as AMD numbers its Genoa authorities; `0x20001` is the one that AMD has revoked.
const ARK_SERIAL: [u8; 3] = [0x02, 0x00, 0x00];
const ASK_SERIAL: [u8; 3] = [0x02, 0x00, 0x02];

/// Keys and certificates. The ASK's key is not kept: it signs one VCEK and is gone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Amd {
    ark: RsaKey,
    /// Signs reports.
    pub(super) vcek: EcKey,
    /// hwID in the VCEK, CHIP_ID in reports.
    #[serde(with = "hex::serde")]
    pub(super) chip_id: [u8; 64],
    #[serde(with = "certificate_hex")]
    pub(super) ark_certificate: CertificateDer,
    #[serde(with = "certificate_hex")]
    pub(super) ask_certificate: CertificateDer,
    #[serde(with = "certificate_hex")]
    pub(super) vcek_certificate: CertificateDer,
}

impl Amd {
    pub(super) fn generate(tcb: AmdTcb, validity: Validity) -> Result<Self> {
        let (ark, ask) = (RsaKey::generate()?, RsaKey::generate()?);
        let vcek = EcKey::generate(Curve::P384)?;
        let chip_id = random()?;
        let (ark_name, ask_name) = (name("ARK-Genoa"), name("SEV-Genoa"));
        let (ark_public, ask_public) = (ark.public_key()?, ask.public_key()?);

        let ark_certificate = Certificate {
            serial: &ARK_SERIAL,
            issuer: &ark_name,
            subject: &ark_name,
            validity,
            public_key: &ark_public,
            extensions: vec![
                key_usage(KeyUsage::CertifyAndRevoke),
                subject_key(&ark_public),
                basic_constraints(Some(1)),
                revocation_point(CRL),
            ],
        }
        .sign(&ark)?;
        let ask_certificate = Certificate {
            serial: &ASK_SERIAL,
            issuer: &ark_name,
            subject: &ask_name,
            validity,
            public_key: &ask_public,
            extensions: vec![
                subject_key(&ask_public),
                authority_key(&ark_public),
                basic_constraints(Some(0)),
                key_usage(KeyUsage::Certify),
                revocation_point(CRL),
            ],
        }
        .sign(&ark)?;
        let vcek_certificate = Certificate {
            serial: &[0],
            issuer: &ask_name,
            subject: &name("SEV-VCEK"),
            validity,
            public_key: &vcek.public_key()?,
            extensions: vcek_extensions(tcb, &chip_id),
        }
        .sign(&ask)?;
        Ok(Self { ark, vcek, chip_id, ark_certificate, ask_certificate, vcek_certificate })
    }

    /// The CRL of the ARK.
    pub(super) fn revocation_list(
        &self,
        revoked: &[Revoked],
        validity: Validity,
        number: u64,
    ) -> Result<CrlDer> {
        let serials: Vec<_> =
            revoked.iter().filter(|it| **it == Revoked::Ask).map(|_| ASK_SERIAL.to_vec()).collect();
        RevocationList {
            issuer: &name("ARK-Genoa"),
            validity,
            revoked: &serials,
            extensions: vec![authority_key(&self.ark.public_key()?), revocation_number(number)],
        }
        .sign(&self.ark)
    }
}

fn name(common_name: &str) -> Name {
    Name::amd(UNIT, ORGANIZATION, common_name)
}

/// The VCEK extensions (AMD 57230, table 8) in the order of real certificates. hwID's OCTET STRING holds the
/// bare bytes, with no inner type.
fn vcek_extensions(tcb: AmdTcb, chip_id: &[u8; 64]) -> Vec<Vec<u8>> {
    let amd = |arcs: &[u64], value: &[u8]| {
        extension(&[&[1, 3, 6, 1, 4, 1, 3704, 1], arcs].concat(), Critical::No, value)
    };
    let level = |number: u64, value: u8| amd(&[3, number], &der::integer(&[value]));
    vec![
        amd(&[1], &der::integer(&[0])),
        amd(&[2], &der::ia5_string("Genoa")),
        level(1, tcb.bootloader),
        level(2, tcb.tee),
        level(4, 0),
        level(5, 0),
        level(6, 0),
        level(7, 0),
        level(3, tcb.snp),
        level(8, tcb.microcode),
        amd(&[4], chip_id),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The extensions of amd-collateral/oak-SEV-VCEK-SEV-Genoa-b6563a6c.der up to the bytes of hwID.
    const REAL: &str = "\
        301006092b060104019c7801010403020100301406092b060104019c7801020407160547656e6f613011060a2b060104\
        019c78010301040302010a3011060a2b060104019c7801030204030201003011060a2b060104019c7801030404030201\
        003011060a2b060104019c7801030504030201003011060a2b060104019c7801030604030201003011060a2b06010401\
        9c7801030704030201003011060a2b060104019c7801030304030201193011060a2b060104019c780103080403020154\
        304d06092b060104019c7801040440";

    #[test]
    fn vcek_extensions_are_amds_to_the_byte() {
        let tcb = AmdTcb { bootloader: 10, tee: 0, snp: 25, microcode: 84 };
        let ours = vcek_extensions(tcb, &[0xab; 64]).concat();
        assert_eq!(hex::encode(ours), format!("{REAL}{}", "ab".repeat(64)));
    }
}
