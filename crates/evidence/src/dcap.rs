//! Intel collateral as DCAP's tools keep it: the eight strings of `sgx_ql_qve_collateral_t` as one JSON
//! object, with certificates as PEM, and CRLs and signatures as hexadecimal digits.

use serde::Deserialize;

use crate::{CrlDer, Endorsements, IntelCollateral, Malformed, SignedDocument, pem};

const FORMAT: &str = "DCAP collateral";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Collateral {
    pck_crl_issuer_chain: String,
    root_ca_crl: String,
    pck_crl: String,
    tcb_info_issuer_chain: String,
    tcb_info: String,
    tcb_info_signature: String,
    qe_identity_issuer_chain: String,
    qe_identity: String,
    qe_identity_signature: String,
    /// Newer tools keep the PCK chain beside the quote, which mostly has it already.
    #[serde(default)]
    pck_certificate_chain: Option<String>,
}

impl Endorsements {
    /// Reads DCAP quote collateral as JSON.
    ///
    /// # Errors
    /// [`Malformed`] names the field that is not as it should be; unknown and missing fields are faults.
    pub fn from_dcap_json(json: &[u8]) -> Result<Self, Malformed> {
        if json.len() > crate::endorsements::MAX_ENDORSEMENTS {
            return Err(Malformed::too_long(
                FORMAT,
                "length",
                0,
                crate::endorsements::MAX_ENDORSEMENTS,
                json.len(),
            ));
        }
        let collateral: Collateral = serde_json::from_slice(json).map_err(|error| {
            Malformed::value(
                FORMAT,
                "JSON",
                0,
                "an object with the fields of DCAP collateral",
                error.to_string(),
            )
        })?;
        let intel = IntelCollateral {
            tcb_info: SignedDocument {
                body: collateral.tcb_info.into_bytes(),
                signature: signature("tcb_info_signature", &collateral.tcb_info_signature)?,
                issuer_chain: pem::certificates(collateral.tcb_info_issuer_chain.as_bytes())?,
            },
            qe_identity: SignedDocument {
                body: collateral.qe_identity.into_bytes(),
                signature: signature("qe_identity_signature", &collateral.qe_identity_signature)?,
                issuer_chain: pem::certificates(collateral.qe_identity_issuer_chain.as_bytes())?,
            },
            root_ca_crl: CrlDer(hexadecimal("root_ca_crl", &collateral.root_ca_crl)?),
            pck_crl: CrlDer(hexadecimal("pck_crl", &collateral.pck_crl)?),
            pck_crl_issuer_chain: pem::certificates(collateral.pck_crl_issuer_chain.as_bytes())?,
            pck_chain: match collateral.pck_certificate_chain.as_deref() {
                None | Some("") => Vec::new(),
                Some(chain) => pem::certificates(chain.as_bytes())?,
            },
        };
        Ok(Self { intel: Some(intel), ..Self::default() })
    }
}

fn hexadecimal(field: &'static str, text: &str) -> Result<Vec<u8>, Malformed> {
    hex::decode(text)
        .map_err(|error| Malformed::value(FORMAT, field, 0, "hexadecimal digits", error.to_string()))
}

fn signature(field: &'static str, text: &str) -> Result<[u8; 64], Malformed> {
    let bytes = hexadecimal(field, text)?;
    <[u8; 64]>::try_from(bytes.as_slice())
        .map_err(|_| Malformed::value(FORMAT, field, 0, "64 bytes", format!("{} bytes", bytes.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_field_is_named() {
        let refused = Endorsements::from_dcap_json(b"{}").unwrap_err();
        assert!(refused.to_string().contains("missing field `pck_crl_issuer_chain`"), "{refused}");
    }

    #[test]
    fn an_unknown_field_is_named() {
        let refused = Endorsements::from_dcap_json(br#"{"tcbinfo": ""}"#).unwrap_err();
        assert!(refused.to_string().contains("unknown field `tcbinfo`"), "{refused}");
    }
}
