//! How the vendors' services are asked, and how their answers are read: Intel PCS and PCCS API v4, and AMD KDS
//! (57230, VCEK Certificate and KDS Interface Specification).

use appraisal::IntelTee;
use evidence::snp::TcbComponents;
use evidence::{CertificateDer, CrlDer, SignedDocument, pem};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::Response;
use crate::item::{Answer, Item};
use crate::{Cause, Config, Update};

/// The full address of an item.
pub(crate) fn address(item: &Item, config: &Config) -> String {
    let intel = config.intel.base.trim_end_matches('/');
    let amd = config.amd.trim_end_matches('/');
    let update = |update: &Update| match update {
        Update::Standard => "update=standard".to_owned(),
        Update::Early => "update=early".to_owned(),
        Update::Evaluation(number) => format!("tcbEvaluationDataNumber={number}"),
    };
    match item {
        Item::TcbInfo { tee, fmspc, update: wanted } => {
            let (tee, fmspc, update) = (tee.as_str(), hex::encode(fmspc), update(wanted));
            format!("{intel}/{tee}/certification/v4/tcb?fmspc={fmspc}&{update}")
        }
        Item::QeIdentity { tee, update: wanted } => {
            format!("{intel}/{}/certification/v4/qe/identity?{}", tee.as_str(), update(wanted))
        }
        Item::EvaluationNumbers(tee) => {
            format!("{intel}/{}/certification/v4/tcbevaluationdatanumbers", tee.as_str())
        }
        Item::PckCrl(ca) => {
            format!(
                "{intel}/{}/certification/v4/pckcrl?ca={}&encoding=der",
                IntelTee::Sgx.as_str(),
                ca.as_str()
            )
        }
        Item::RootCaCrl => config.intel.root_ca_crl.clone(),
        Item::Vcek { family, hardware_id, tcb } => {
            let TcbComponents { fmc, bootloader, tee, snp, microcode } = tcb;
            let fmc = fmc.map(|fmc| format!("fmcSPL={fmc}&")).unwrap_or_default();
            format!(
                "{amd}/vcek/v1/{family}/{}?{fmc}blSPL={bootloader}&teeSPL={tee}&snpSPL={snp}&ucodeSPL={microcode}",
                hex::encode(hardware_id)
            )
        }
        Item::AmdIssuers { family, kind } => format!("{amd}/{}/v1/{family}/cert_chain", kind.as_str()),
        Item::AmdCrl(family) => format!("{amd}/vcek/v1/{family}/crl"),
    }
}

/// Reads an answer, and checks that it is what was asked for.
pub(crate) fn read(item: &Item, response: &Response) -> Result<Answer, Cause> {
    let Response { headers, body } = response;
    let answer = match item {
        Item::TcbInfo { .. } => {
            // Version 3 of the interface had SGX- before the name; some caches still write that.
            document(body, issuers(headers, &["TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"])?)?
        }
        Item::QeIdentity { .. } => document(body, issuers(headers, &["SGX-Enclave-Identity-Issuer-Chain"])?)?,
        Item::EvaluationNumbers(_) => {
            document(body, issuers(headers, &["TCB-Evaluation-Data-Numbers-Issuer-Chain"])?)?
        }
        Item::PckCrl(_) => {
            Answer::Crl { crl: crl(body)?, issuers: issuers(headers, &["SGX-PCK-CRL-Issuer-Chain"])? }
        }
        Item::RootCaCrl | Item::AmdCrl(_) => Answer::Crl { crl: crl(body)?, issuers: Vec::new() },
        Item::Vcek { .. } | Item::AmdIssuers { .. } => Answer::Certificates(certificates(body)?),
    };
    answer.check(item)?;
    Ok(answer)
}

/// TCB info or QE identity: the signed object, of which every byte counts, and the signature beside it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Served<'a> {
    #[serde(borrow, default)]
    tcb_info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    enclave_identity: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tcb_evaluation_data_numbers: Option<&'a RawValue>,
    signature: &'a str,
}

fn document(body: &[u8], issuer_chain: Vec<CertificateDer>) -> Result<Answer, Cause> {
    let wrong = |fault: String| Cause::WrongContent(fault);
    let served: Served<'_> = serde_json::from_slice(body).map_err(|error| wrong(error.to_string()))?;
    let documents = [served.tcb_info, served.enclave_identity, served.tcb_evaluation_data_numbers];
    let mut documents = documents.into_iter().flatten();
    let (Some(signed), None) = (documents.next(), documents.next()) else {
        return Err(wrong("expected one of tcbInfo, enclaveIdentity and tcbEvaluationDataNumbers".into()));
    };
    let mut signature = [0; 64];
    hex::decode_to_slice(served.signature, &mut signature)
        .map_err(|error| wrong(format!("the signature: {error}")))?;
    Ok(Answer::Document(SignedDocument { body: signed.get().as_bytes().to_vec(), signature, issuer_chain }))
}

/// The header of one of these names: PEM, with everything that a header cannot hold written as `%XX`.
fn issuers(headers: &HeaderMap, names: &[&str]) -> Result<Vec<CertificateDer>, Cause> {
    let value = names.iter().find_map(|name| headers.get(*name));
    let value = value.ok_or_else(|| Cause::WrongContent(format!("no header {}", names[0])))?;
    let text = percent_decode(value.as_bytes())
        .ok_or_else(|| Cause::WrongContent(format!("{} has a broken escape", names[0])))?;
    certificates(&text)
}

fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let (digits, after) = rest.split_first_chunk::<2>()?;
            let mut byte = [0];
            hex::decode_to_slice(digits, &mut byte).ok()?;
            bytes.push(byte[0]);
            rest = after;
        } else {
            bytes.push(first);
        }
    }
    Some(bytes)
}

fn certificates(body: &[u8]) -> Result<Vec<CertificateDer>, Cause> {
    pem::certificates(body).map_err(|malformed| Cause::WrongContent(malformed.to_string()))
}

/// DER from Intel and AMD, DER in hexadecimal from a PCCS.
fn crl(body: &[u8]) -> Result<CrlDer, Cause> {
    match body {
        [0x30, second, ..] if !second.is_ascii_hexdigit() => Ok(CrlDer(body.to_vec())),
        _ => hex::decode(body.trim_ascii())
            .map(CrlDer)
            .map_err(|_| Cause::WrongContent("neither a DER revocation list nor one in hexadecimal".into())),
    }
}

#[cfg(test)]
mod tests {
    use appraisal::PckCa;
    use evidence::snp::ProductFamily;

    use super::*;
    use crate::IntelService;
    use crate::item::IssuerKind;

    #[test]
    fn addresses_are_those_of_the_vendors_documents() {
        let config = Config::default();
        let at = |item: Item| address(&item, &config);
        let tdx = IntelTee::Tdx;
        let fmspc = [0xb0, 0xc0, 0x6f, 0, 0, 0];
        for (item, expected) in [
            (
                Item::TcbInfo { tee: tdx, fmspc, update: Update::Early },
                "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=b0c06f000000&update=early",
            ),
            (
                Item::TcbInfo { tee: IntelTee::Sgx, fmspc, update: Update::Evaluation(18) },
                "https://api.trustedservices.intel.com/sgx/certification/v4/tcb?fmspc=b0c06f000000\
                 &tcbEvaluationDataNumber=18",
            ),
            (
                Item::QeIdentity { tee: tdx, update: Update::Standard },
                "https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity?update=standard",
            ),
            (
                Item::PckCrl(PckCa::Processor),
                "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=processor&encoding=der",
            ),
            (Item::RootCaCrl, "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"),
            (
                Item::Vcek {
                    family: ProductFamily::Turin,
                    hardware_id: vec![1, 2, 3, 4, 5, 6, 7, 0xff],
                    tcb: TcbComponents { fmc: Some(1), bootloader: 2, tee: 3, snp: 4, microcode: 71 },
                },
                "https://kdsintf.amd.com/vcek/v1/Turin/01020304050607ff?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4\
                 &ucodeSPL=71",
            ),
            (
                Item::AmdIssuers { family: ProductFamily::Milan, kind: IssuerKind::Vlek },
                "https://kdsintf.amd.com/vlek/v1/Milan/cert_chain",
            ),
            (Item::AmdCrl(ProductFamily::Genoa), "https://kdsintf.amd.com/vcek/v1/Genoa/crl"),
        ] {
            assert_eq!(at(item), expected);
        }
        let pccs = Config { intel: IntelService::pccs("https://pccs.example:8081/"), ..Config::default() };
        let expected = "https://pccs.example:8081/sgx/certification/v4/rootcacrl";
        assert_eq!(address(&Item::RootCaCrl, &pccs), expected);
    }

    #[test]
    fn escapes_are_decoded_strictly() {
        assert_eq!(percent_decode(b"a%20b%0A+").as_deref(), Some(&b"a b\n+"[..]));
        for broken in [&b"%"[..], b"%2", b"%zz"] {
            assert_eq!(percent_decode(broken), None);
        }
    }

    #[test]
    fn lists_are_der_or_hexadecimal() {
        assert_eq!(crl(&[0x30, 0x82, 1]), Ok(CrlDer(vec![0x30, 0x82, 1])));
        assert_eq!(crl(b"308201\n"), Ok(CrlDer(vec![0x30, 0x82, 1])));
        assert!(crl(b"<html>").is_err());
    }
}
