//! From a quote's certification data to the PCK certificate: the chain that the quote has, the leaf that it has with
//! issuers from the Endorsements, or what it names, with the certificate from the Endorsements.

use evidence::quote::{CertificationData, PckName, Ppid};
use evidence::{CertificateDer, IntelCollateral};

use super::pck::Pck;
use crate::Code;
use crate::verdict::Check;

const NAME: &str = "certification-data";

/// The certificates among which there must be one PCK certificate.
pub(super) fn chain<'a>(
    data: &'a CertificationData,
    collateral: Option<&'a IntelCollateral>,
) -> Result<&'a [CertificateDer], Check> {
    let beside = collateral.map_or(&[][..], |own| &own.pck_chain);
    match data {
        CertificationData::PckChain(chain) => Ok(chain),
        CertificationData::PckCertificate(leaf) => Ok(std::slice::from_ref(leaf)),
        CertificationData::PckName(_) if !beside.is_empty() => Ok(beside),
        CertificationData::PckName(name) => Err(look_up(name, data.kind())),
        CertificationData::PlatformManifest(manifest) => {
            let text = "the quote has the manifest of a platform that is not registered at Intel (kind 7), and no PCK";
            Err(Check::failed(NAME, Code::CertificationDataUnsupported, text)
                .expected("kind 5: the PCK certificate chain")
                .observed(format!("kind 7: a platform manifest of {} bytes", manifest.len()))
                .mend("register the platform at Intel, fetch its PCK certificate, and make the quote again"))
        }
    }
}

/// Whether the PCK certificate is one of those that the quote names. What binds it to the quote is its signature over
/// the quoting enclave's report; this only says sooner, and more clearly, that it is another platform's.
pub(super) fn mismatch(data: &CertificationData, pck: &Pck) -> Option<Check> {
    let CertificationData::PckName(name) = data else { return None };
    let differs = |code, text, expected: &[u8], observed: &[u8]| {
        Some(
            Check::failed(NAME, code, text)
                .expected(hex::encode(expected))
                .observed(hex::encode(observed))
                .mend("give the PCK certificate of this platform with the Endorsements"),
        )
    };
    match (&name.ppid, name.pce_id) {
        (Ppid::Plain(ppid), _) if *ppid != pck.ppid => {
            differs(Code::ChipIdMismatch, "the PCK certificate is of another platform", ppid, &pck.ppid)
        }
        (_, Some(pce_id)) if pce_id != pck.pce_id => {
            let text = "the PCK certificate is of another provisioning certification enclave";
            differs(Code::PceidMismatch, text, &pce_id, &pck.pce_id)
        }
        _ => None,
    }
}

/// How well a PCK certificate fits the name, for whoever picks one: none when it cannot be it. A certificate is
/// issued for a TCB level that the platform reaches, so its versions may be lower than those of the name.
pub(crate) fn fitness(name: &PckName, pck: &Pck) -> Option<(bool, u16)> {
    let other_platform = matches!(name.ppid, Ppid::Plain(ppid) if ppid != pck.ppid);
    let other_pce = name.pce_id.is_some_and(|id| id != pck.pce_id);
    let newer = pck.pce_svn > name.pce_svn;
    (!other_platform && !other_pce && !newer).then_some((name.cpu_svn == pck.cpu_svn, pck.pce_svn))
}

/// The look-up that would give the certificate (Intel PCS API v4, "Get PCK Certificate").
fn look_up(name: &PckName, kind: u16) -> Check {
    let (means, ppid) = match &name.ppid {
        Ppid::Plain(ppid) => ("in plain text", ppid.as_slice()),
        Ppid::Encrypted(ppid) if kind == 2 => ("encrypted by RSA-2048 for Intel", ppid.as_slice()),
        Ppid::Encrypted(ppid) => ("encrypted by RSA-3072 for Intel", ppid.as_slice()),
    };
    let (ppid, cpu_svn) = (hex::encode(ppid), hex::encode(name.cpu_svn));
    let pce_id = name.pce_id.map_or("0000".into(), hex::encode);
    let pce_svn = hex::encode(name.pce_svn.to_le_bytes());
    let query = format!("cpusvn={cpu_svn}&pcesvn={pce_svn}&pceid={pce_id}");
    let fetch = match name.ppid {
        Ppid::Plain(_) => format!(
            "ask the PCCS that the platform registered with for its PCK certificate (PPID {ppid}, {query})"
        ),
        Ppid::Encrypted(_) => format!(
            "fetch https://api.trustedservices.intel.com/sgx/certification/v4/pckcert?encrypted_ppid={ppid}&{query}"
        ),
    };
    let text = format!(
        "the quote names its PCK by the platform's id {means} (kind {kind}), which needs a look-up at Intel"
    );
    Check::failed(NAME, Code::CertificationDataUnsupported, text)
        .expected("kind 5: the PCK certificate chain; or that chain with the Endorsements")
        .observed(format!("kind {kind}: CPUSVN {cpu_svn}, PCESVN {}, PCEID {pce_id}", name.pce_svn))
        .mend(format!("{fetch}, and give its chain with the Endorsements"))
}
