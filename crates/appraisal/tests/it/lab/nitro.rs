//! A Nitro-like platform: root → region → zone → instance → leaf, lists of the CAs, documents. Encoded by `coset` and
//! `ciborium`, which the code under test does not use.

use ciborium::Value;
use coset::{CborSerializable as _, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana};
use evidence::{AwsCollateral, CertificateDer, Endorsements, Evidence};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, KeyUsagePurpose, SerialNumber,
};

use super::{Certified, Curve, DAY, Key, NOW, Presented, REPORT_DATA, Window, date, der};

pub const ZONE_SERIAL: u64 = 0x51;
pub const LEAF_SERIAL: u64 = 0x52;

/// A platform in which everything is good; tests change one thing.
#[derive(Clone)]
pub struct Nitro {
    pub tagged: bool,
    pub algorithm: iana::Algorithm,
    /// Seconds from [`NOW`] to the document's timestamp.
    pub made: i64,
    pub leaf_window: (i64, i64),
    pub zone_window: (i64, i64),
    pub zone_path_length: u8,
    pub zone_is_ca: bool,
    pub leaf_usages: Vec<KeyUsagePurpose>,
    pub skip_zone: bool,
    pub forged_root: bool,
    /// The name of a CA of the chain, below which another key of that name signs.
    pub forged: Option<&'static str>,
    pub crls: Vec<Crl>,
    pub pcr0: [u8; 48],
    pub nonce: Option<Vec<u8>>,
    pub user_data: Option<Vec<u8>>,
    pub public_key: Option<Vec<u8>>,
    pub extra: Vec<(Value, Value)>,
    pub without: Option<&'static str>,
}

#[derive(Clone)]
pub struct Crl {
    pub of: Ca,
    pub window: Window,
    pub revoked: Vec<u64>,
    pub forged: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Ca {
    Root,
    Region,
    Instance,
    Stranger,
}

pub fn crl(of: Ca, revoked: &[u64]) -> Crl {
    Crl { of, window: Window::GOOD, revoked: revoked.to_vec(), forged: false }
}

impl Nitro {
    pub fn good() -> Self {
        Self {
            tagged: false,
            algorithm: iana::Algorithm::ES384,
            made: -60,
            leaf_window: (-64, 3 * 3600),
            zone_window: (-DAY, 5 * DAY),
            zone_path_length: 1,
            zone_is_ca: true,
            leaf_usages: vec![KeyUsagePurpose::DigitalSignature],
            skip_zone: false,
            forged_root: false,
            forged: None,
            crls: vec![crl(Ca::Root, &[]), crl(Ca::Region, &[])],
            pcr0: [0xa1; 48],
            nonce: Some(REPORT_DATA.0.to_vec()),
            user_data: Some(b"user data".to_vec()),
            public_key: Some(b"public key".to_vec()),
            extra: vec![],
            without: None,
        }
    }

    pub fn present(&self) -> Presented {
        let root = ca("lab.nitro-enclaves", 1, None, true, (-1000 * DAY, 3000 * DAY), None);
        let other = ca("lab.nitro-enclaves", 1, None, true, (-1000 * DAY, 3000 * DAY), None);
        let signing_root = if self.forged_root { &other } else { &root };
        let region = ca("region", 2, Some(2), true, (-2 * DAY, 18 * DAY), Some(signing_root));
        let zone = ca(
            "zone",
            ZONE_SERIAL,
            Some(self.zone_path_length),
            self.zone_is_ca,
            self.zone_window,
            Some(self.signer("region", &region, &ca_of_name(&region))),
        );
        let other = ca_of_name(&zone);
        let zone_signer = self.signer("zone", &zone, &other);
        let instance = ca("i-0123456789abcdef0", 4, Some(0), true, (-DAY / 2, DAY / 2), Some(zone_signer));
        let leaf = leaf(
            self.leaf_window,
            &self.leaf_usages,
            self.signer("instance", &instance, &ca_of_name(&instance)),
        );
        let mut cabundle = vec![&root.der, &region.der, &zone.der, &instance.der];
        if self.skip_zone {
            cabundle.remove(2);
        }
        let crls = self.crls.iter().map(|list| {
            let issuer = match list.of {
                Ca::Root => &root,
                Ca::Region => &region,
                Ca::Instance => &instance,
                Ca::Stranger => &ca("stranger", 9, None, true, (-DAY, DAY), None),
            };
            let forger = ca_of_name(issuer);
            let issuer = if list.forged { &forger } else { issuer };
            issuer.crl(list.window, &list.revoked)
        });
        let aws = AwsCollateral { crls: crls.collect() };
        Presented {
            evidence: Evidence::parse(&self.document(&leaf, &cabundle)).unwrap(),
            endorsements: Endorsements { aws: Some(aws), ..Endorsements::default() },
            root: root.der.clone(),
        }
    }

    /// The CA, or another under its name.
    fn signer<'a>(&self, name: &str, ca: &'a Certified, other: &'a Certified) -> &'a Certified {
        if self.forged == Some(name) { other } else { ca }
    }

    /// The document alone, signed by nobody's key: for parsing.
    pub fn bytes(&self) -> Vec<u8> {
        let root = ca("lab.nitro-enclaves", 1, None, true, (-DAY, DAY), None);
        let leaf = leaf(self.leaf_window, &self.leaf_usages, &root);
        self.document(&leaf, &[&root.der])
    }

    fn document(&self, leaf: &Certified, cabundle: &[&CertificateDer]) -> Vec<u8> {
        let bytes = |der: &CertificateDer| Value::Bytes(der.0.clone());
        let optional = |value: &Option<Vec<u8>>| value.clone().map_or(Value::Null, Value::Bytes);
        let pcr = |index: u8| match index {
            0 => self.pcr0.to_vec(),
            1..=3 => vec![index; 48],
            8 => vec![8; 48],
            _ => vec![0; 48],
        };
        let pcrs = (0..16).map(|index| (Value::from(index), Value::Bytes(pcr(index)))).collect();
        let mut claims = vec![
            (Value::from("module_id"), Value::from("i-0123456789abcdef0-enc0123456789abcdef")),
            (Value::from("digest"), Value::from("SHA384")),
            (Value::from("timestamp"), Value::from((NOW + self.made) * 1000 + 999)),
            (Value::from("pcrs"), Value::Map(pcrs)),
            (Value::from("certificate"), bytes(&leaf.der)),
            (Value::from("cabundle"), Value::Array(cabundle.iter().map(|der| bytes(der)).collect())),
            (Value::from("public_key"), optional(&self.public_key)),
            (Value::from("user_data"), optional(&self.user_data)),
            (Value::from("nonce"), optional(&self.nonce)),
        ];
        claims.retain(|(key, _)| self.without.is_none_or(|name| key.as_text() != Some(name)));
        claims.extend(self.extra.iter().cloned());
        let mut payload = Vec::new();
        ciborium::into_writer(&Value::Map(claims), &mut payload).unwrap();
        let sign1 = CoseSign1Builder::new()
            .protected(HeaderBuilder::new().algorithm(self.algorithm).build())
            .payload(payload)
            .create_signature(b"", |message| leaf.key.sign(message))
            .build();
        if self.tagged { sign1.to_tagged_vec().unwrap() } else { sign1.to_vec().unwrap() }
    }
}

fn ca(
    name: &str,
    serial: u64,
    path_length: Option<u8>,
    is_ca: bool,
    window: (i64, i64),
    issuer: Option<&Certified>,
) -> Certified {
    let mut params = params(name, serial, window);
    params.is_ca = match (is_ca, path_length) {
        (false, _) => IsCa::ExplicitNoCa,
        (true, None) => IsCa::Ca(BasicConstraints::Unconstrained),
        (true, Some(most)) => IsCa::Ca(BasicConstraints::Constrained(most)),
    };
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // As with AWS, regional and zonal CAs name the list of their issuers; that of an instance does not.
    if matches!(name, "region" | "zone") {
        let address = der(0xa0, &der(0xa0, &der(0x86, b"http://crl.invalid/")));
        let points = der(0x30, &der(0x30, &address));
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 31], points)];
    }
    certify(params, issuer)
}

/// Another key under the same name.
fn ca_of_name(ca: &Certified) -> Certified {
    certify(ca.params.clone(), None)
}

fn leaf(window: (i64, i64), usages: &[KeyUsagePurpose], issuer: &Certified) -> Certified {
    let mut params = params("i-0123456789abcdef0-enc0123456789abcdef", LEAF_SERIAL, window);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = usages.to_vec();
    certify(params, Some(issuer))
}

fn params(name: &str, serial: u64, (start, end): (i64, i64)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date(NOW + start);
    params.not_after = date(NOW + end);
    params
}

fn certify(params: CertificateParams, issuer: Option<&Certified>) -> Certified {
    let key = Key::new(Curve::P384);
    let certificate = match issuer {
        None => params.self_signed(&key.pair).unwrap(),
        Some(issuer) => params.signed_by(&key.pair, &issuer.issuer()).unwrap(),
    };
    Certified { der: CertificateDer(certificate.der().to_vec()), key, params }
}
