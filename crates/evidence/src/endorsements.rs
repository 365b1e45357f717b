//! What vendors sign about their platforms, as the exact bytes that they signed, and its encoding: CBOR
//! (RFC 8949), one array of fixed shape, so that Endorsements can be stapled to Evidence.

use ciborium::Value;

use crate::Malformed;

const FORMAT: &str = "Endorsements";
const SCHEMA: &str = "bailey/endorsements/3";
/// Encoded Endorsements longer than this are refused unread; real ones have less than 40 KiB, or 200 with RIMs.
pub const MAX_ENDORSEMENTS: usize = 512 * 1024;

/// A certificate, DER, not verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateDer(pub Vec<u8>);

/// A certificate revocation list, DER, not verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CrlDer(pub Vec<u8>);

/// A JSON document that Intel signed: TCB info, or the identity of a quoting enclave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedDocument {
    /// The exact bytes of the JSON object that is signed; never to be re-encoded.
    pub body: Vec<u8>,
    /// ECDSA P-256 over SHA-256 of `body`: r and s, big-endian.
    pub signature: [u8; 64],
    /// The signer's certificate and those of its issuers, in any order.
    pub issuer_chain: Vec<CertificateDer>,
}

/// What Intel signs about a platform. The PCK certificate itself mostly travels in the quote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntelCollateral {
    /// TCB info for the platform's FMSPC: version 3, or 2 for SGX.
    pub tcb_info: SignedDocument,
    /// Identity of the quoting enclave: `QE` for SGX, `TD_QE` for TDX.
    pub qe_identity: SignedDocument,
    /// Revocations by the root CA.
    pub root_ca_crl: CrlDer,
    /// Revocations by the PCK CA.
    pub pck_crl: CrlDer,
    /// The PCK CA's certificate and those of its issuers, in any order; may be empty, as the quote has them.
    pub pck_crl_issuer_chain: Vec<CertificateDer>,
    /// The PCK certificate and those of its issuers, in any order, for quotes that only name it (certification data
    /// of kinds 1 to 3); empty otherwise.
    pub pck_chain: Vec<CertificateDer>,
}

/// What AMD signs about a platform.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AmdCollateral {
    /// The certificate of the key that signed the report: VCEK or VLEK.
    pub vek: CertificateDer,
    /// The certificates of its issuers (ASK or ASVK, and ARK), in any order.
    pub issuer_chain: Vec<CertificateDer>,
    /// Revocations by the ARK.
    pub crl: Option<CrlDer>,
}

/// What vendors sign about a TPM.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TpmCollateral {
    /// The certificates of the attestation or endorsement key and of its issuers, in any order.
    pub certificates: Vec<CertificateDer>,
    /// Revocations by those issuers.
    pub crls: Vec<CrlDer>,
}

/// What AWS signs about Nitro Enclaves beside the document.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AwsCollateral {
    /// Revocations by the issuers of the document's certificate.
    pub crls: Vec<CrlDer>,
}

/// What NVIDIA signs about its devices.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NvidiaCollateral {
    /// Reference integrity manifests of drivers and VBIOS: XML, as NVIDIA serves them.
    pub rims: Vec<Vec<u8>>,
    /// Revocations by the issuers of the device's certificate.
    pub crls: Vec<CrlDer>,
    /// The certificate of the key that signed a report and those of its issuers, for reports that come without.
    pub device_chain: Vec<CertificateDer>,
    /// Answers of NVIDIA's OCSP service (RFC 6960) about those certificates.
    pub ocsp: Vec<Vec<u8>>,
}

/// What vendors sign about a platform. See the `appraisal` crate for what each part is needed for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Endorsements {
    /// For SGX and TDX.
    pub intel: Option<IntelCollateral>,
    /// For SNP.
    pub amd: Option<AmdCollateral>,
    /// For TPMs.
    pub tpm: Option<TpmCollateral>,
    /// For Nitro Enclaves.
    pub aws: Option<AwsCollateral>,
    /// For NVIDIA devices.
    pub nvidia: Option<NvidiaCollateral>,
}

impl Endorsements {
    /// Encodes as CBOR.
    pub fn to_bytes(&self) -> Vec<u8> {
        let value = Value::Array(vec![
            Value::Text(SCHEMA.into()),
            self.intel.as_ref().map_or(Value::Null, encode_intel),
            self.amd.as_ref().map_or(Value::Null, encode_amd),
            self.tpm.as_ref().map_or(Value::Null, encode_tpm),
            self.aws.as_ref().map_or(Value::Null, |aws| Value::Array(vec![encode_crls(&aws.crls)])),
            self.nvidia.as_ref().map_or(Value::Null, encode_nvidia),
        ]);
        let mut bytes = Vec::new();
        // Writing to a vector cannot fail, and the value holds nothing that CBOR cannot express.
        let written = ciborium::into_writer(&value, &mut bytes);
        debug_assert!(written.is_ok());
        bytes
    }

    /// Decodes what [`Endorsements::to_bytes`] wrote, and nothing else: bounded, without unknown parts, and
    /// only in the one encoding that `to_bytes` gives.
    ///
    /// # Errors
    /// [`Malformed`] names the part that is not as it should be.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_ENDORSEMENTS {
            return Err(Malformed::too_long(FORMAT, "length", 0, MAX_ENDORSEMENTS, bytes.len()));
        }
        let value: Value = ciborium::de::from_reader_with_recursion_limit(bytes, 16)
            .map_err(|error| Malformed::value(FORMAT, "CBOR", 0, "one item", error.to_string()))?;
        let [schema, intel, amd, tpm, aws, nvidia] = items("document", value)?;
        if schema.as_text() != Some(SCHEMA) {
            return Err(Malformed::unsupported(FORMAT, "schema", 0, SCHEMA, format!("{schema:?}")));
        }
        let endorsements = Self {
            intel: optional(intel, decode_intel)?,
            amd: optional(amd, decode_amd)?,
            tpm: optional(tpm, decode_tpm)?,
            aws: optional(aws, decode_aws)?,
            nvidia: optional(nvidia, decode_nvidia)?,
        };
        // One meaning, one encoding: trailing bytes, indefinite lengths and padded integers end here.
        if endorsements.to_bytes() != bytes {
            return Err(Malformed::value(
                FORMAT,
                "CBOR",
                0,
                "the deterministic encoding",
                "another encoding",
            ));
        }
        Ok(endorsements)
    }
}

fn encode_intel(intel: &IntelCollateral) -> Value {
    Value::Array(vec![
        encode_document(&intel.tcb_info),
        encode_document(&intel.qe_identity),
        Value::Bytes(intel.root_ca_crl.0.clone()),
        Value::Bytes(intel.pck_crl.0.clone()),
        encode_chain(&intel.pck_crl_issuer_chain),
        encode_chain(&intel.pck_chain),
    ])
}

fn encode_document(document: &SignedDocument) -> Value {
    Value::Array(vec![
        Value::Bytes(document.body.clone()),
        Value::Bytes(document.signature.to_vec()),
        encode_chain(&document.issuer_chain),
    ])
}

fn encode_amd(amd: &AmdCollateral) -> Value {
    Value::Array(vec![
        Value::Bytes(amd.vek.0.clone()),
        encode_chain(&amd.issuer_chain),
        amd.crl.as_ref().map_or(Value::Null, |crl| Value::Bytes(crl.0.clone())),
    ])
}

fn encode_tpm(tpm: &TpmCollateral) -> Value {
    Value::Array(vec![encode_chain(&tpm.certificates), encode_crls(&tpm.crls)])
}

fn encode_nvidia(nvidia: &NvidiaCollateral) -> Value {
    let rims = nvidia.rims.iter().map(|rim| Value::Bytes(rim.clone())).collect();
    let ocsp = nvidia.ocsp.iter().map(|answer| Value::Bytes(answer.clone())).collect();
    let chain = encode_chain(&nvidia.device_chain);
    Value::Array(vec![Value::Array(rims), encode_crls(&nvidia.crls), chain, Value::Array(ocsp)])
}

fn encode_crls(crls: &[CrlDer]) -> Value {
    Value::Array(crls.iter().map(|crl| Value::Bytes(crl.0.clone())).collect())
}

fn encode_chain(chain: &[CertificateDer]) -> Value {
    Value::Array(chain.iter().map(|certificate| Value::Bytes(certificate.0.clone())).collect())
}

fn decode_intel(value: Value) -> Result<IntelCollateral, Malformed> {
    let [tcb_info, qe_identity, root_ca_crl, pck_crl, chain, pck_chain] = items("Intel collateral", value)?;
    Ok(IntelCollateral {
        tcb_info: decode_document("TCB info", tcb_info)?,
        qe_identity: decode_document("QE identity", qe_identity)?,
        root_ca_crl: CrlDer(byte_string("root CA CRL", root_ca_crl)?),
        pck_crl: CrlDer(byte_string("PCK CRL", pck_crl)?),
        pck_crl_issuer_chain: decode_chain("PCK CRL issuer chain", chain)?,
        pck_chain: decode_chain("PCK chain", pck_chain)?,
    })
}

fn decode_document(field: &'static str, value: Value) -> Result<SignedDocument, Malformed> {
    let [body, signature, chain] = items(field, value)?;
    let signature = byte_string(field, signature)?;
    let signature = <[u8; 64]>::try_from(signature.as_slice()).map_err(|_| {
        Malformed::value(FORMAT, field, 0, "a signature of 64 bytes", format!("{} bytes", signature.len()))
    })?;
    Ok(SignedDocument {
        body: byte_string(field, body)?,
        signature,
        issuer_chain: decode_chain(field, chain)?,
    })
}

fn decode_amd(value: Value) -> Result<AmdCollateral, Malformed> {
    let [vek, chain, crl] = items("AMD collateral", value)?;
    Ok(AmdCollateral {
        vek: CertificateDer(byte_string("VEK certificate", vek)?),
        issuer_chain: decode_chain("AMD issuer chain", chain)?,
        crl: optional(crl, |value| byte_string("AMD CRL", value).map(CrlDer))?,
    })
}

fn decode_tpm(value: Value) -> Result<TpmCollateral, Malformed> {
    let [certificates, crls] = items("TPM collateral", value)?;
    Ok(TpmCollateral {
        certificates: decode_chain("TPM certificates", certificates)?,
        crls: decode_crls("TPM CRLs", crls)?,
    })
}

fn decode_aws(value: Value) -> Result<AwsCollateral, Malformed> {
    let [crls] = items("AWS collateral", value)?;
    Ok(AwsCollateral { crls: decode_crls("AWS CRLs", crls)? })
}

fn decode_nvidia(value: Value) -> Result<NvidiaCollateral, Malformed> {
    let [rims, crls, chain, ocsp] = items("NVIDIA collateral", value)?;
    Ok(NvidiaCollateral {
        rims: byte_strings("NVIDIA RIMs", rims)?,
        crls: decode_crls("NVIDIA CRLs", crls)?,
        device_chain: at_most("NVIDIA device chain", chain, crate::nvidia::MAX_DEVICE_CHAIN)?
            .into_iter()
            .map(CertificateDer)
            .collect(),
        ocsp: at_most("NVIDIA OCSP responses", ocsp, crate::nvidia::MAX_DEVICE_CHAIN)?,
    })
}

fn decode_crls(field: &'static str, value: Value) -> Result<Vec<CrlDer>, Malformed> {
    Ok(byte_strings(field, value)?.into_iter().map(CrlDer).collect())
}

fn decode_chain(field: &'static str, value: Value) -> Result<Vec<CertificateDer>, Malformed> {
    Ok(byte_strings(field, value)?.into_iter().map(CertificateDer).collect())
}

/// At most 8 byte strings.
fn byte_strings(field: &'static str, value: Value) -> Result<Vec<Vec<u8>>, Malformed> {
    at_most(field, value, 8)
}

fn at_most(field: &'static str, value: Value, limit: usize) -> Result<Vec<Vec<u8>>, Malformed> {
    let Value::Array(array) = value else {
        return Err(Malformed::value(FORMAT, field, 0, "an array of byte strings", "another item"));
    };
    if array.len() > limit {
        let expected = format!("at most {limit} items");
        return Err(Malformed::value(FORMAT, field, 0, expected, array.len().to_string()));
    }
    array.into_iter().map(|item| byte_string(field, item)).collect()
}

fn items<const N: usize>(field: &'static str, value: Value) -> Result<[Value; N], Malformed> {
    let wrong = |seen: String| Malformed::value(FORMAT, field, 0, format!("an array of {N} items"), seen);
    match value {
        Value::Array(array) => {
            <[Value; N]>::try_from(array).map_err(|array| wrong(format!("{} items", array.len())))
        }
        _ => Err(wrong("another item".into())),
    }
}

fn byte_string(field: &'static str, value: Value) -> Result<Vec<u8>, Malformed> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        _ => Err(Malformed::value(FORMAT, field, 0, "a byte string", "another item")),
    }
}

fn optional<T>(
    value: Value,
    decode: impl FnOnce(Value) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    match value {
        Value::Null => Ok(None),
        value => decode(value).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Endorsements {
        let certificate = CertificateDer(vec![0x30, 0]);
        let document = SignedDocument {
            body: b"{}".to_vec(),
            signature: [1; 64],
            issuer_chain: vec![certificate.clone()],
        };
        Endorsements {
            intel: Some(IntelCollateral {
                tcb_info: document.clone(),
                qe_identity: document,
                root_ca_crl: CrlDer(vec![1]),
                pck_crl: CrlDer(vec![2]),
                pck_crl_issuer_chain: vec![],
                pck_chain: vec![certificate.clone()],
            }),
            amd: Some(AmdCollateral {
                vek: certificate.clone(),
                issuer_chain: vec![certificate.clone()],
                crl: None,
            }),
            tpm: Some(TpmCollateral { certificates: vec![certificate], crls: vec![CrlDer(vec![3])] }),
            aws: Some(AwsCollateral { crls: vec![] }),
            nvidia: Some(NvidiaCollateral { rims: vec![b"<x/>".to_vec()], ..NvidiaCollateral::default() }),
        }
    }

    #[test]
    fn endorsements_round_trip() {
        for endorsements in [sample(), Endorsements::default()] {
            assert_eq!(Endorsements::from_bytes(&endorsements.to_bytes()), Ok(endorsements));
        }
    }

    #[test]
    fn every_truncation_and_extension_is_refused() {
        let bytes = sample().to_bytes();
        for length in 0..bytes.len() {
            assert!(Endorsements::from_bytes(&bytes[..length]).is_err(), "{length}");
        }
        assert!(Endorsements::from_bytes(&[bytes, vec![0]].concat()).is_err());
    }

    #[test]
    fn a_longer_encoding_of_the_same_is_refused() {
        let bytes = Endorsements::default().to_bytes();
        // The array's header, 0x86, as an array with a length of one byte: 0x98 0x06.
        let padded = [&[0x98, 6], &bytes[1..]].concat();
        let refused = Endorsements::from_bytes(&padded);
        assert!(matches!(refused, Err(Malformed { field: "CBOR", .. })), "{refused:?}");
    }

    #[test]
    fn an_absurd_length_is_refused_without_allocating() {
        // An array of six items whose second claims to hold 2^60 of them.
        let mut bytes = vec![0x86, 0x75];
        bytes.extend_from_slice(SCHEMA.as_bytes());
        bytes.extend_from_slice(&[0x9b, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        assert!(Endorsements::from_bytes(&bytes).is_err());
        assert!(Endorsements::from_bytes(&vec![0; MAX_ENDORSEMENTS + 1]).is_err());
    }
}
