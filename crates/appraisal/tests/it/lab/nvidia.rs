//! An NVIDIA-like platform: root → product CA → device → key of its firmware; reports; manifests signed under the
//! same root by a CA of their own. Manifests are written in their canonical form from the start, so that nothing
//! here canonicalises anything.

use appraisal::UnixTime;
use aws_lc_rs::digest::{SHA384, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::{CertificateDer, Endorsements, Evidence, NvidiaCollateral, pem};
use rcgen::{BasicConstraints, IsCa};

use super::{Certified, Curve, Template, Window, der, der_integer};

pub const PRODUCT_CA_SERIAL: u64 = 0x11;
pub const DEVICE_SERIAL: u64 = 0x22;
pub const NONCE: [u8; 32] = [0x5a; 32];
const SHA384_OID: [u8; 11] = [6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];

/// A platform in which everything is good; tests change one thing.
#[derive(Clone)]
pub struct Nvidia {
    pub devices: Vec<Device>,
    pub leaf_window: Window,
    pub device_window: Window,
    pub crls: Option<Window>,
    pub revoked: Vec<u64>,
    pub driver: Option<Manifest>,
    pub vbios: Option<Manifest>,
    pub ocsp: Option<Ocsp>,
    /// How many CAs the product's CA may have below itself; any number when absent.
    pub path_length: Option<u8>,
}

/// Answers about the devices and everything else that lists would tell.
#[derive(Clone, Copy)]
pub struct Ocsp {
    pub window: Window,
    /// DER of `CertStatus`.
    pub status: &'static [u8],
    /// The issuer names another to answer for it, and that one may, or not.
    pub delegate: Option<bool>,
    /// The answers are about other serial numbers.
    pub others: bool,
}

impl Ocsp {
    pub const GOOD: Self = Self { window: Window::GOOD, status: &[0x80, 0], delegate: None, others: false };
}

#[derive(Clone)]
pub struct Device {
    pub nonce: [u8; 32],
    pub certified_firmware: u8,
    /// The first byte of the flags of a `DiceTcbInfo`.
    pub flags: u8,
    pub feature: u16,
    /// Which of the devices this is: the same number is the same device.
    pub number: u64,
    pub measurements: [u8; 4],
    pub called: &'static str,
}

#[derive(Clone)]
pub struct Manifest {
    pub product: &'static str,
    pub version: &'static str,
    pub window: Window,
    /// Index, whether it is active, and the alternatives.
    pub golden: Vec<(u8, bool, Vec<u8>)>,
    /// Changes the document after it was signed.
    pub spoil: fn(String) -> String,
}

impl Manifest {
    fn new(version: &'static str, golden: Vec<(u8, bool, Vec<u8>)>) -> Self {
        Self { product: "GH100", version, window: Window::GOOD, golden, spoil: |text| text }
    }

    pub fn spoilt(self, spoil: fn(String) -> String) -> Self {
        Self { spoil, ..self }
    }
}

impl Device {
    pub fn good(number: u64) -> Self {
        Self {
            nonce: NONCE,
            certified_firmware: 7,
            flags: 0x80,
            feature: 0,
            number,
            measurements: [1, 2, 3, 4],
            called: "HOPPER",
        }
    }
}

impl Nvidia {
    pub fn good() -> Self {
        Self {
            devices: vec![Device::good(0)],
            leaf_window: Window::LONG,
            device_window: Window::LONG,
            crls: Some(Window::GOOD),
            revoked: vec![],
            driver: Some(Manifest::new("580.1.02", vec![(0, true, vec![9, 1]), (1, false, vec![0])])),
            ocsp: None,
            path_length: None,
            vbios: Some(Manifest::new("96.00.5e.00.01", vec![(2, true, vec![3]), (3, true, vec![4])])),
        }
    }

    pub fn present(&self) -> Presented {
        let ca = |name: &str, serial, window, issuer: Option<&Certified>| {
            Template { name, curve: Curve::P384, ca: true, serial, window, extensions: vec![] }.issue(issuer)
        };
        let root = ca("Lab Device Identity CA", 1, Window::LONG, None);
        let mut product = ca("Lab GH100 Identity", PRODUCT_CA_SERIAL, Window::LONG, Some(&root));
        if let Some(length) = self.path_length {
            product.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(length));
            let signed = product.params.signed_by(&product.key.pair, &root.issuer()).unwrap();
            product.der = CertificateDer(signed.der().to_vec());
        }
        let rim_ca = ca("Lab Reference Values", 3, Window::LONG, Some(&root));
        let mut known: Vec<(u64, Certified)> = Vec::new();
        let mut items = Vec::new();
        for device in &self.devices {
            if known.iter().all(|(number, _)| *number != device.number) {
                let serial = DEVICE_SERIAL + device.number;
                known.push((
                    device.number,
                    ca("GH100 A01 GSP BROM", serial, self.device_window, Some(&product)),
                ));
            }
            let own = &known.iter().find(|(number, _)| *number == device.number).unwrap().1;
            let leaf = Template {
                name: "GH100 A01 GSP FMC LF",
                curve: Curve::P384,
                ca: false,
                serial: 4,
                window: self.leaf_window,
                extensions: vec![(&[2, 23, 133, 5, 4, 1, 1], tcb_info(device))],
            }
            .issue(Some(own));
            let chain: String =
                [&leaf, own, &product, &root].iter().map(|certified| pem::encode(&certified.der)).collect();
            items.push(format!(
                r#"{{"arch":"{}","nonce":"{}","evidence":"{}","certificate":"{}"}}"#,
                device.called,
                hex(&device.nonce),
                STANDARD.encode(report(device, &leaf)),
                STANDARD.encode(chain),
            ));
        }
        let evidence = format!("[{}]", items.join(","));
        let manifests = [&self.driver, &self.vbios].into_iter().flatten();
        let rims = manifests.map(|manifest| manifest.write(&rim_ca)).collect();
        let crls = self.crls.map_or_else(Vec::new, |window| {
            [&root, &product, &rim_ca].iter().map(|ca| ca.crl(window, &self.revoked)).collect()
        });
        let mut answers = Vec::new();
        if let Some(ocsp) = &self.ocsp {
            for (number, _) in &known {
                answers.push(ocsp.answer(&product, DEVICE_SERIAL + number));
            }
            answers.push(ocsp.answer(&root, PRODUCT_CA_SERIAL));
            answers.push(ocsp.answer(&root, 3));
            answers.push(ocsp.answer(&rim_ca, 5));
        }
        let nvidia = NvidiaCollateral { rims, crls, ocsp: answers, ..NvidiaCollateral::default() };
        Presented {
            evidence: Evidence::parse(evidence.as_bytes()).unwrap(),
            endorsements: Endorsements { nvidia: Some(nvidia), ..Endorsements::default() },
            root: root.der,
        }
    }
}

pub struct Presented {
    pub evidence: Evidence,
    pub endorsements: Endorsements,
    pub root: CertificateDer,
}

impl Ocsp {
    /// An answer (RFC 6960, §4.2.1) about a serial number of the issuer's.
    fn answer(&self, issuer: &Certified, serial: u64) -> Vec<u8> {
        let serial = if self.others { serial + 0x100 } else { serial };
        let sha384 = |bytes: &[u8]| der(4, digest(&SHA384, bytes).as_ref());
        let point = [vec![4], issuer.key.point()].concat();
        let id = [
            der(0x30, &SHA384_OID),
            sha384(&issuer.subject()),
            sha384(&point),
            der_integer(u16::try_from(serial).unwrap()),
        ]
        .concat();
        let (start, end) = self.window.ends();
        let time = |seconds: i64| {
            let text: String =
                UnixTime(seconds).to_string().chars().filter(|char| !"-:T".contains(*char)).collect();
            der(0x18, text.as_bytes())
        };
        let single = [der(0x30, &id), self.status.to_vec(), time(start), der(0xa0, &time(end))].concat();
        let data = [der(0xa2, &der(4, &[1; 20])), time(start), der(0x30, &der(0x30, &single))].concat();
        let data = der(0x30, &data);
        let delegate = self.delegate.map(|may| {
            // id-kp-OCSPSigning, or id-kp-serverAuth.
            let purpose: &[u8] = &[6, 8, 0x2b, 6, 1, 5, 5, 7, 3, if may { 9 } else { 1 }];
            Template {
                name: "Lab OCSP responder",
                curve: Curve::P384,
                ca: false,
                serial: 6,
                window: Window::LONG,
                extensions: vec![(&[2, 5, 29, 37], der(0x30, purpose))],
            }
            .issue(Some(issuer))
        });
        let signature = delegate.as_ref().unwrap_or(issuer).key.sign(&data);
        // The fixed form of ECDSA signatures, as DER.
        let half = |bytes: &[u8]| {
            let start = bytes.iter().position(|&byte| byte != 0).unwrap();
            let lead: &[u8] = if bytes[start] & 0x80 != 0 { &[0] } else { &[] };
            der(2, &[lead, &bytes[start..]].concat())
        };
        let signature = der(0x30, &[half(&signature[..48]), half(&signature[48..])].concat());
        let ecdsa_sha384 = der(0x30, &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3]);
        let mut basic = [data, ecdsa_sha384, der(3, &[&[0], &signature[..]].concat())].concat();
        if let Some(delegate) = delegate {
            basic.extend(der(0xa0, &der(0x30, &delegate.der.0)));
        }
        let oid = [6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
        let bytes = der(0x30, &[&oid[..], &der(4, &der(0x30, &basic))].concat());
        der(0x30, &[vec![0x0a, 1, 0], der(0xa0, &bytes)].concat())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tcb_info(device: &Device) -> Vec<u8> {
    let fwid = |byte: u8| der(0x30, &[&SHA384_OID[..], &der(4, &[byte; 48])].concat());
    let fwids = der(0xa6, &[fwid(device.certified_firmware), fwid(0)].concat());
    let flags = der(0x87, &[0, device.flags, 0, 0, 1]);
    der(0x30, &[der(0x80, b"LAB"), fwids, flags].concat())
}

fn field(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &(value.len() as u16).to_le_bytes(), value].concat()
}

fn report(device: &Device, leaf: &Certified) -> Vec<u8> {
    let mut record = Vec::new();
    for (number, value) in device.measurements.iter().enumerate() {
        record.extend([number as u8 + 1, 1, 51, 0, 1, 48, 0]);
        record.extend([*value; 48]);
    }
    let opaque = [
        field(3, b"580.1.02\0"),
        field(6, &[0, 0x5e, 0, 0x96, 1, 0, 0, 0]),
        field(20, &[7; 48]),
        field(36, &device.feature.to_le_bytes()),
    ]
    .concat();
    let length = (record.len() as u32).to_le_bytes();
    let signed = [
        &[0x11, 0xe0, 1, 0xff][..],
        &device.nonce,
        &[0, 0x11, 0x60, 0, 0, device.measurements.len() as u8],
        &length[..3],
        &record,
        &[0x77; 32],
        &(opaque.len() as u16).to_le_bytes(),
        &opaque,
    ]
    .concat();
    let signature = leaf.key.sign(&signed);
    [signed, signature].concat()
}

impl Manifest {
    fn write(&self, ca: &Certified) -> Vec<u8> {
        let signer = Template {
            name: "Lab RIM L4 Signer",
            curve: Curve::P384,
            ca: false,
            serial: 5,
            window: self.window,
            extensions: vec![],
        }
        .issue(Some(ca));
        let resources: String = self
            .golden
            .iter()
            .map(|(index, active, alternatives)| {
                let active = if *active { "True" } else { "False" };
                let hashes: String = alternatives
                    .iter()
                    .enumerate()
                    .map(|(number, byte)| format!(r#" h:Hash{number}="{}""#, hex(&[*byte; 48])))
                    .collect();
                let count = alternatives.len();
                format!(
                    "<Resource active=\"{active}\" alternatives=\"{count}\" index=\"{index}\" name=\"m{index}\" \
                     size=\"48\" type=\"Measurement\"{hashes}></Resource>\n"
                )
            })
            .collect();
        let swid = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
        let namespaces = format!(r#"xmlns="{swid}" xmlns:h="http://www.w3.org/2001/04/xmlenc#sha384""#);
        let start = format!(
            "<SoftwareIdentity {namespaces} tagId=\"lab\">\n<Meta colloquialVersion=\"{}\" edition=\"GPU\" \
             product=\"{}\"></Meta>\n<Payload>\n{resources}</Payload>\n",
            self.version, self.product
        );
        let end = "</SoftwareIdentity>";
        let content = digest(&SHA384, format!("{start}{end}").as_bytes());
        let c14n = r#"Algorithm="http://www.w3.org/2006/12/xml-c14n11""#;
        let ds = r#"xmlns:ds="http://www.w3.org/2000/09/xmldsig#""#;
        let info = format!(
            "<ds:CanonicalizationMethod {c14n}></ds:CanonicalizationMethod><ds:SignatureMethod \
             Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384\"></ds:SignatureMethod><ds:Reference \
             URI=\"\"><ds:Transforms><ds:Transform \
             Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"></ds:Transform><ds:Transform \
             {c14n}></ds:Transform></ds:Transforms><ds:DigestMethod \
             Algorithm=\"http://www.w3.org/2001/04/xmldsig-more#sha384\"></ds:DigestMethod><ds:DigestValue>{}\
             </ds:DigestValue></ds:Reference></ds:SignedInfo>",
            STANDARD.encode(content)
        );
        let [default, hash] = [namespaces.split_once(' ').unwrap().0, namespaces.split_once(' ').unwrap().1];
        let signature = signer.key.sign(format!("<ds:SignedInfo {default} {ds} {hash}>{info}").as_bytes());
        let certificates: String = [&signer.der, &ca.der]
            .iter()
            .map(|certificate| {
                format!("<ds:X509Certificate>{}</ds:X509Certificate>", STANDARD.encode(&certificate.0))
            })
            .collect();
        let text = format!(
            "{start}<ds:Signature {ds}><ds:SignedInfo>{info}<ds:SignatureValue>{}</ds:SignatureValue><ds:KeyInfo>\
             <ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>{end}",
            STANDARD.encode(signature)
        );
        (self.spoil)(text).into_bytes()
    }
}
