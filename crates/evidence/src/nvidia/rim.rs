//! Reference integrity manifests: what NVIDIA says that the measurements of a driver or a VBIOS must be. They
//! are SWID tags (ISO/IEC 19770-2:2015) in the profile of TCG's Reference Integrity Manifest Information Model,
//! with an enveloped XML signature (XMLDSIG, RFC 3275) by a certificate that they bring along.
//!
//! One shape is read, the one that NVIDIA writes: one signature, the last child of the root, with one reference
//! to the whole document (URI `""`), so that nothing but what is signed can be read (signature wrapping).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::xml::Element;
use crate::{CertificateDer, Malformed};

const FORMAT: &str = "RIM";
/// Longer ones are refused unread. Real ones have less than 30 KiB.
const MAX_RIM: usize = 128 * 1024;
const MAX_CERTIFICATES: usize = 8;

const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
/// The namespace of the attributes that hold digests, which is the name of their algorithm.
const HASH: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
/// The two differ in `xml:` attributes alone, which are refused.
const CANONICAL: [&str; 2] =
    ["http://www.w3.org/2006/12/xml-c14n11", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"];
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const ECDSA_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384";
const SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#sha384";

/// A manifest, parsed, and not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rim {
    id: String,
    product: String,
    edition: String,
    version: String,
    measurements: BTreeMap<u8, Golden>,
    canonical: Vec<u8>,
    digest: [u8; 48],
    signed_info: Vec<u8>,
    signature: [u8; 96],
    certificates: Vec<CertificateDer>,
}

/// What one measurement must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Golden {
    /// What NVIDIA calls it.
    pub name: String,
    /// Whether it is to be compared.
    pub active: bool,
    /// The values, of which one must be seen.
    pub alternatives: Vec<[u8; 48]>,
}

impl Rim {
    /// Whether bytes look like a manifest: cheap, and no promise that they can be parsed.
    pub fn recognises(bytes: &[u8]) -> bool {
        const BASE64: [&[u8]; 2] = [b"PFNvZnR3YXJlSWRlbnRpdHk", b"PD94bWw"];
        match bytes.first() {
            Some(b'<') => true,
            Some(b'{') => bytes.windows(5).any(|window| window == b"\"rim\""),
            _ => BASE64.iter().any(|start| bytes.starts_with(start)),
        }
    }

    /// Parses a manifest: XML, its base64, or the JSON in which NVIDIA's service wraps that.
    ///
    /// # Errors
    /// [`Malformed`] names the first part that is not as NVIDIA writes it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > 2 * MAX_RIM {
            return Err(Malformed::too_long(FORMAT, "length", 0, 2 * MAX_RIM, bytes.len()));
        }
        match bytes.first() {
            Some(b'<') => Self::parse_xml(bytes),
            Some(b'{') => {
                let served: Served<'_> = serde_json::from_slice(bytes)
                    .map_err(|error| fault("JSON", "an object with rim", error.to_string()))?;
                Self::parse_base64(served.rim.as_bytes())
            }
            _ => Self::parse_base64(bytes),
        }
    }

    fn parse_base64(bytes: &[u8]) -> Result<Self, Malformed> {
        let xml = STANDARD
            .decode(bytes.trim_ascii())
            .map_err(|error| fault("base64", "a manifest", error.to_string()))?;
        Self::parse_xml(&xml)
    }

    fn parse_xml(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_RIM {
            return Err(Malformed::too_long(FORMAT, "length", 0, MAX_RIM, bytes.len()));
        }
        let root = Element::parse(bytes)?;
        if !root.is(SWID, "SoftwareIdentity") {
            return Err(fault("root", "SoftwareIdentity of ISO/IEC 19770-2:2015", "another element"));
        }
        let signature = root
            .children()
            .last()
            .filter(|last| last.is(DSIG, "Signature") && root.count(DSIG, "Signature") == 1)
            .ok_or_else(|| {
                fault("signature", "one, the last child of the root", "none, several, or elsewhere")
            })?;
        let Signature { digest, signed_info, signature: value, certificates } =
            Signature::read(&root, signature)?;
        let meta = one(&root, SWID, "Meta")?;
        let text = |name: &'static str| {
            let value = meta.attribute("", name).filter(|value| !value.is_empty());
            value.map(str::to_owned).ok_or_else(|| fault("Meta", name, "none"))
        };
        let id = root.attribute("", "tagId").ok_or_else(|| fault("root", "tagId", "none"))?.to_owned();
        Ok(Self {
            id,
            product: text("product")?,
            edition: text("edition")?,
            version: text("colloquialVersion")?,
            measurements: read_payload(one(&root, SWID, "Payload")?)?,
            canonical: root.canonical_document(signature),
            digest,
            signed_info,
            signature: value,
            certificates,
        })
    }

    /// The tag's identifier.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The chip, such as `GH100` or `LS10`.
    pub fn product(&self) -> &str {
        &self.product
    }

    /// `GPU` or `SWITCH`.
    pub fn edition(&self) -> &str {
        &self.edition
    }

    /// The version of the driver or VBIOS that it is for.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What the measurements must be, by the manifest's index, from 0: one less than that of the report.
    pub fn measurements(&self) -> &BTreeMap<u8, Golden> {
        &self.measurements
    }

    /// The canonical form of the document without its signature, whose SHA-384 is [`Rim::digest`] if nothing was
    /// changed.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    /// The digest that the signature covers.
    pub fn digest(&self) -> &[u8; 48] {
        &self.digest
    }

    /// What is signed: the canonical form of `SignedInfo`.
    pub fn signed_info(&self) -> &[u8] {
        &self.signed_info
    }

    /// ECDSA P-384 over SHA-384 of [`Rim::signed_info`]: r and s, 48 bytes each, big-endian.
    pub fn signature(&self) -> &[u8; 96] {
        &self.signature
    }

    /// The signer's certificate, and then those of its issuers.
    pub fn certificates(&self) -> &[CertificateDer] {
        &self.certificates
    }
}

/// What NVIDIA's RIM service answers, as far as it matters: the rest is not signed.
#[derive(Deserialize)]
struct Served<'a> {
    #[serde(borrow)]
    rim: std::borrow::Cow<'a, str>,
}

fn fault(field: &'static str, expected: &'static str, seen: impl Into<String>) -> Malformed {
    Malformed::value(FORMAT, field, 0, expected, seen)
}

fn one<'a>(parent: &'a Element, namespace: &str, name: &'static str) -> Result<&'a Element, Malformed> {
    let mut named = parent.children().filter(|child| child.is(namespace, name));
    match (named.next(), named.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(fault(name, "one", "none, or several")),
    }
}

struct Signature {
    digest: [u8; 48],
    signed_info: Vec<u8>,
    signature: [u8; 96],
    certificates: Vec<CertificateDer>,
}

impl Signature {
    fn read(root: &Element, element: &Element) -> Result<Self, Malformed> {
        let [info, value, key] = exactly(element, ["SignedInfo", "SignatureValue", "KeyInfo"])?;
        let [canonicalization, method, reference] =
            exactly(info, ["CanonicalizationMethod", "SignatureMethod", "Reference"])?;
        algorithm(canonicalization, &CANONICAL)?;
        algorithm(method, &[ECDSA_SHA384])?;
        if reference.attribute("", "URI") != Some("") || reference.attribute_count() != 1 {
            return Err(fault("Reference", "the whole document", "another part of it"));
        }
        let [transforms, digest_method, digest] =
            exactly(reference, ["Transforms", "DigestMethod", "DigestValue"])?;
        let [enveloped, canonical] = exactly(transforms, ["Transform", "Transform"])?;
        algorithm(enveloped, &[ENVELOPED])?;
        algorithm(canonical, &CANONICAL)?;
        algorithm(digest_method, &[SHA384])?;
        let [data] = exactly(key, ["X509Data"])?;
        let listed = data.only_children().filter(|children| {
            (1..=MAX_CERTIFICATES).contains(&children.len())
                && children.iter().all(|child| child.is(DSIG, "X509Certificate"))
        });
        let listed = listed.ok_or_else(|| fault("X509Data", "1 to 8 certificates", "something else"))?;
        let certificates = listed.into_iter().map(|child| decode(child).map(CertificateDer));
        Ok(Self {
            digest: sized(digest)?,
            signed_info: info.canonical_part(&[root, element]),
            signature: sized(value)?,
            certificates: certificates.collect::<Result<_, _>>()?,
        })
    }
}

/// The children of an element of XMLDSIG, when they are these, in this order.
fn exactly<'a, const N: usize>(
    element: &'a Element,
    names: [&'static str; N],
) -> Result<[&'a Element; N], Malformed> {
    let children = element.only_children().and_then(|children| <[&Element; N]>::try_from(children).ok());
    children
        .filter(|children| children.iter().zip(names).all(|(child, name)| child.is(DSIG, name)))
        .ok_or_else(|| Malformed::value(FORMAT, "signature", 0, names.join(", "), "other elements"))
}

fn algorithm(element: &Element, expected: &[&str]) -> Result<(), Malformed> {
    let seen = element.attribute("", "Algorithm").unwrap_or_default();
    let alone = element.attribute_count() == 1 && element.children().next().is_none();
    if alone && expected.contains(&seen) {
        return Ok(());
    }
    Err(Malformed::unsupported(FORMAT, "signature algorithm", 0, expected.join(" or "), seen))
}

fn decode(element: &Element) -> Result<Vec<u8>, Malformed> {
    let text = element.only_text().ok_or_else(|| fault("signature", "text", "an element"))?;
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    STANDARD.decode(digits).map_err(|error| fault("signature", "base64", error.to_string()))
}

fn sized<const N: usize>(element: &Element) -> Result<[u8; N], Malformed> {
    let bytes = decode(element)?;
    <[u8; N]>::try_from(bytes.as_slice())
        .map_err(|_| fault("signature", "96 bytes, over a digest of 48", format!("{} bytes", bytes.len())))
}

fn read_payload(payload: &Element) -> Result<BTreeMap<u8, Golden>, Malformed> {
    let mut measurements = BTreeMap::new();
    for resource in payload.children() {
        let (index, golden) = read_resource(resource)?;
        if measurements.insert(index, golden).is_some() {
            return Err(fault("Resource", "each index once", index.to_string()));
        }
    }
    if measurements.is_empty() {
        return Err(fault("Payload", "measurements", "none"));
    }
    Ok(measurements)
}

fn read_resource(resource: &Element) -> Result<(u8, Golden), Malformed> {
    let text =
        |name: &'static str| resource.attribute("", name).ok_or_else(|| fault("Resource", name, "none"));
    if !resource.is(SWID, "Resource") || text("type")? != "Measurement" || text("size")? != "48" {
        return Err(fault("Resource", "a measurement of 48 bytes", "something else"));
    }
    let index = text("index")?.parse().map_err(|_| fault("Resource", "an index of 0 to 255", "another"))?;
    let active = match text("active")? {
        "True" => true,
        "False" => false,
        other => return Err(fault("Resource", "active True or False", other)),
    };
    let count: usize = text("alternatives")?
        .parse()
        .map_err(|_| fault("Resource", "a number of alternatives", "other text"))?;
    if count == 0 || count != resource.attribute_count_in(HASH) {
        return Err(fault("Resource", "as many digests as alternatives", count.to_string()));
    }
    let alternatives = (0..count).map(|number| {
        let digits = resource.attribute(HASH, &format!("Hash{number}")).unwrap_or_default();
        let mut digest = [0; 48];
        hex::decode_to_slice(digits, &mut digest)
            .map_err(|error| fault("Resource", "a SHA-384 digest", error.to_string()))?;
        Ok(digest)
    });
    let alternatives = alternatives.collect::<Result<_, Malformed>>()?;
    Ok((index, Golden { name: text("name")?.to_owned(), active, alternatives }))
}
