//! Trust anchors as they come in files: told apart by content.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evidence::pem;
use serde::Deserialize;

use super::{AnchorKey, InvalidAnchor, TrustAnchor};

/// A file with more is none of ours.
const MAX_ANCHORS: usize = 1024;

impl TrustAnchor {
    /// Reads the anchors of a file: certificates (DER or PEM), a public key as PEM (RFC 7468, §13) or as a JWK on P-256, P-384 or P-521
    /// (RFC 7517), or the trust anchors of rust-ccatoken: a JSON array of objects with `pkey` (a JWK), and with
    /// `instance-id` (hexadecimal), which becomes the anchor's identity, and `implementation-id`, which the
    /// instance implies and which is not used. `name` is what verdicts will show; where a file has several anchors,
    /// their number is appended.
    ///
    /// # Errors
    /// [`InvalidAnchor`] for a file that is of no such form, or whose key is not.
    pub fn from_file_bytes(name: &str, bytes: &[u8]) -> Result<Vec<Self>, InvalidAnchor> {
        let invalid = |fault: String| InvalidAnchor { name: name.to_owned(), fault };
        let text = str::from_utf8(bytes).map(str::trim).unwrap_or_default();
        if text.starts_with('{') {
            let jwk: Jwk = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
            let key = jwk.subject_public_key_info().map_err(invalid)?;
            return Self::new(name, AnchorKey::PublicKey(key), None).map(|anchor| vec![anchor]);
        }
        if text.starts_with('[') {
            let enrolled: Vec<Enrolled> =
                serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
            return many(name, enrolled);
        }
        if let Some(key) = super::public_key(bytes) {
            return Self::new(name, AnchorKey::PublicKey(key), None).map(|anchor| vec![anchor]);
        }
        if let Ok(certificates) = pem::certificates(bytes) {
            return certificates
                .into_iter()
                .map(|certificate| Self::new(name, AnchorKey::Certificate(certificate), None))
                .collect();
        }
        Err(invalid(
            "neither a certificate, a public key (PEM, JWK) nor a JSON array of trust anchors".into(),
        ))
    }
}

fn many(name: &str, enrolled: Vec<Enrolled>) -> Result<Vec<TrustAnchor>, InvalidAnchor> {
    if enrolled.is_empty() || enrolled.len() > MAX_ANCHORS {
        let fault = format!("expected 1 to {MAX_ANCHORS} anchors, seen {}", enrolled.len());
        return Err(InvalidAnchor { name: name.to_owned(), fault });
    }
    let several = enrolled.len() > 1;
    enrolled
        .into_iter()
        .enumerate()
        .map(|(index, enrolled)| {
            let name = if several { format!("{name}#{index}") } else { name.to_owned() };
            let invalid = |fault: String| InvalidAnchor { name: name.clone(), fault };
            let decode = |text: String| hex::decode(text).map_err(|error| invalid(error.to_string()));
            enrolled.implementation_id.map(decode).transpose()?;
            let identity = enrolled.instance_id.map(decode).transpose()?;
            let key = enrolled.pkey.subject_public_key_info().map_err(invalid)?;
            TrustAnchor::new(&name, AnchorKey::PublicKey(key), identity)
        })
        .collect()
}

/// An entry of rust-ccatoken's trust anchor store.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Enrolled {
    pkey: Jwk,
    #[serde(default)]
    instance_id: Option<String>,
    #[serde(default)]
    implementation_id: Option<String>,
}

/// A public key on a curve (RFC 7518, §6.2.1). Members that do not tell the key (`use`, `kid`, …) are not read;
/// `d` would make it a private key, which belongs in no policy.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
    #[serde(default)]
    d: Option<serde::de::IgnoredAny>,
}

impl Jwk {
    fn subject_public_key_info(&self) -> Result<Vec<u8>, String> {
        if self.d.is_some() {
            return Err("a private key: give the public one alone".into());
        }
        let (curve, size): (&[u8], usize) = match (self.kty.as_str(), self.crv.as_str()) {
            ("EC", "P-256") => (&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], 32),
            ("EC", "P-384") => (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22], 48),
            ("EC", "P-521") => (&[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23], 66),
            (kty, crv) => return Err(format!("expected EC on P-256, P-384 or P-521, seen {kty} on {crv}")),
        };
        let coordinate = |text: &str| match URL_SAFE_NO_PAD.decode(text) {
            Ok(bytes) if bytes.len() == size => Ok(bytes),
            _ => Err(format!("expected coordinates of {size} bytes, base64url")),
        };
        let point = [vec![0, 4], coordinate(&self.x)?, coordinate(&self.y)?].concat();
        let algorithm = [&[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01], curve].concat();
        Ok(der(0x30, &[der(0x30, &algorithm), der(0x03, &point)].concat()))
    }
}

/// An element; contents are below 256 bytes here.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len() as u8;
    let header = if length < 0x80 { vec![tag, length] } else { vec![tag, 0x81, length] };
    [header, contents.to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"TKRFE_RwSXooI8DdatPOYg_uiKm2XrtT_uEMEvqQZrw","y":"CRx3H8NHN1lcxqKi92P0OsZBxX3VFaktllpD3SjtN7s","use":"sig"}"#;

    fn key(text: &str) -> Result<AnchorKey, InvalidAnchor> {
        TrustAnchor::from_file_bytes("x", text.as_bytes()).map(|anchors| anchors[0].key().clone())
    }

    #[test]
    fn pem_and_jwk_of_one_key_are_the_same() {
        let AnchorKey::PublicKey(der) = key(JWK).unwrap() else { panic!() };
        assert_eq!(der.len(), 91);
        let body = base64::engine::general_purpose::STANDARD.encode(&der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
        assert_eq!(key(&pem), Ok(AnchorKey::PublicKey(der)));
    }

    #[test]
    fn each_anchor_of_a_file_has_its_name_and_identity() {
        let text = format!(r#"[{{"pkey":{JWK},"instance-id":"01AA"}},{{"pkey":{JWK}}}]"#);
        let anchors = TrustAnchor::from_file_bytes("lab", text.as_bytes()).unwrap();
        let seen: Vec<_> = anchors.iter().map(|anchor| (anchor.name(), anchor.identity())).collect();
        assert_eq!(seen, [("lab#0", Some(&[1, 0xaa][..])), ("lab#1", None)]);
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            "-----BEGIN PUBLIC KEY-----",
            &JWK.replace("P-256", "P-384"),
            &JWK.replace("P-256", "secp256k1"),
            &JWK.replace("\"use\":\"sig\"", "\"d\":\"AA\""),
            &format!(r#"[{{"pkey":{JWK},"instance-id":"0x"}}]"#),
            &format!(r#"[{{"pkey":{JWK},"instance":"01"}}]"#),
        ] {
            assert!(key(text).is_err(), "{text}");
        }
    }
}
