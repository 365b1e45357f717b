//! A TPM with an attestation key on P-256, certified by CA and root: quotes, in which one thing at a time can be wrong.

use appraisal::{
    AnchorKey, Appraised, Code, Crypto as _, Policy, ReferenceValue, ReferenceValues, Refused, TrustAnchor,
    UnixTime,
};
use crypto_aws_lc::AwsLc;
use evidence::eventlog::HashAlgorithm;
use evidence::tpm::{Parts, QuoteParts};
use evidence::{CertificateDer, Covered, CrlDer, Endorsements, Evidence, Platform, TpmCollateral};

use super::{Certified, Curve, Key, NOW, Template, Window, der};

pub const NONCE: [u8; 32] = [0x4e; 32];
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign.
pub const ATTRIBUTES: u32 = 0x0005_0072;
pub const AIK_USAGE: &[u8] = &[0x67, 0x81, 5, 8, 3];

/// Bank and registers.
pub type Selection = Vec<(HashAlgorithm, Vec<u8>)>;

/// Evidence in which everything is good; tests change one thing.
#[derive(Clone)]
pub struct Tpm {
    pub attributes: u32,
    pub kind: u16,
    pub scheme_hash: u16,
    pub firmware: u64,
    pub selection: Selection,
    /// What is sent, where it is other than what is selected.
    pub sent: Option<Vec<(HashAlgorithm, u8, Vec<u8>)>>,
    pub event_log: Option<Vec<u8>>,
    pub certified: bool,
    pub usage: Option<&'static [u8]>,
    pub leaf_window: Window,
    pub issuer_window: Window,
    pub crls: Option<Window>,
    pub revoked: Vec<u64>,
    pub issuer_is_ca: bool,
    pub foreign_key: bool,
}

/// A value of a register that depends on its name.
pub fn value(bank: HashAlgorithm, register: u8) -> Vec<u8> {
    vec![0x10 + register; bank.size().unwrap()]
}

pub const KEY_SERIAL: u64 = 77;

pub struct PresentedTpm {
    pub parts: Parts,
    pub endorsements: Endorsements,
    pub root: CertificateDer,
}

impl Tpm {
    pub fn good() -> Self {
        Self {
            attributes: ATTRIBUTES,
            kind: 0x8018,
            scheme_hash: 0x000b,
            firmware: 0x0007_0002,
            selection: vec![(HashAlgorithm::Sha256, (0..16).collect())],
            sent: None,
            event_log: None,
            certified: true,
            usage: Some(AIK_USAGE),
            leaf_window: Window::LONG,
            issuer_window: Window::LONG,
            crls: Some(Window::GOOD),
            revoked: vec![],
            issuer_is_ca: true,
            foreign_key: false,
        }
    }

    pub fn present(&self) -> PresentedTpm {
        let template = |name, ca, serial, window| Template {
            name,
            curve: Curve::P256,
            ca,
            serial,
            window,
            extensions: vec![],
        };
        let root = template("Lab TPM root", true, 1, Window::LONG).issue(None);
        let issuer = template("Lab TPM CA", self.issuer_is_ca, 2, self.issuer_window).issue(Some(&root));
        let usage = self.usage.map(|usage| (&[2, 5, 29, 37][..], der(0x30, &der(6, usage))));
        let leaf = Template {
            extensions: usage.into_iter().collect(),
            ..template("Lab attestation key", false, KEY_SERIAL, self.leaf_window)
        }
        .issue(Some(&issuer));
        let other = Key::new(Curve::P256);
        let key = if self.foreign_key { &other } else { &leaf.key };
        let parts = Parts {
            public: self.public(&leaf.key),
            quotes: vec![self.quote(key)],
            event_log: self.event_log.clone(),
            certificates: if self.certified { vec![leaf.der.clone()] } else { vec![] },
        };
        let tpm = TpmCollateral { certificates: vec![issuer.der.clone()], crls: self.lists(&root, &issuer) };
        PresentedTpm {
            parts,
            endorsements: Endorsements { tpm: Some(tpm), ..Endorsements::default() },
            root: root.der,
        }
    }

    fn lists(&self, root: &Certified, issuer: &Certified) -> Vec<CrlDer> {
        let Some(window) = self.crls else { return vec![] };
        if !self.issuer_is_ca {
            return vec![];
        }
        vec![root.crl(window, &self.revoked), issuer.crl(window, &self.revoked)]
    }

    fn public(&self, key: &Key) -> Vec<u8> {
        let mut public = [0, 0x23, 0, 0x0b].to_vec();
        public.extend(self.attributes.to_be_bytes());
        public.extend([0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10]);
        for half in key.point().chunks(32) {
            public.extend(sized(half));
        }
        public
    }

    fn quote(&self, key: &Key) -> QuoteParts {
        let selected: Vec<_> = self
            .selection
            .iter()
            .flat_map(|(bank, registers)| {
                registers.iter().map(|register| (*bank, *register, value(*bank, *register)))
            })
            .collect();
        let all: Vec<u8> = selected.iter().flat_map(|(_, _, value)| value.clone()).collect();
        let message = self.attest(&AwsLc.sha256(&[&all]));
        let rs = key.sign(&message);
        let mut signature = [0, 0x18].to_vec();
        signature.extend(self.scheme_hash.to_be_bytes());
        signature.extend([sized(&rs[..32]), sized(&rs[32..])].concat());
        QuoteParts { message, signature, values: self.sent.clone().unwrap_or(selected) }
    }

    fn attest(&self, digest: &[u8]) -> Vec<u8> {
        let mut attest = b"\xffTCG".to_vec();
        attest.extend(self.kind.to_be_bytes());
        attest.extend(sized(&[&[0, 0x0b][..], &[9; 32]].concat()));
        attest.extend(sized(&NONCE));
        attest.extend([0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 1, 1]);
        attest.extend(self.firmware.to_be_bytes());
        attest.extend((self.selection.len() as u32).to_be_bytes());
        for (bank, registers) in &self.selection {
            let bits = registers.iter().fold(0_u32, |bits, register| bits | 1 << register);
            attest.extend(bank.id().to_be_bytes());
            attest.push(3);
            attest.extend(&bits.to_le_bytes()[..3]);
        }
        attest.extend(sized(digest));
        attest
    }
}

pub fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

impl PresentedTpm {
    pub fn evidence(&self) -> Evidence {
        Evidence::parse(&self.parts.to_bytes()).unwrap()
    }

    /// Production, with the lab's root named.
    pub fn policy(&self) -> Policy {
        let anchor = TrustAnchor::new("lab", AnchorKey::Certificate(self.root.clone()), None).unwrap();
        Policy { trust_anchors: vec![anchor], ..Policy::production() }
    }

    pub fn appraise_under(&self, policy: &Policy) -> Result<Appraised, Refused> {
        let mut value = ReferenceValue {
            label: "lab".into(),
            platform: Platform::Tpm,
            measurement: None,
            launch_configuration: None,
            registers: Default::default(),
            minimum: Default::default(),
        };
        value.registers.insert("pcr7.sha256".into(), "17".repeat(32));
        let reference = ReferenceValues { report_data: Covered::new(NONCE), measurements: vec![value] };
        appraisal::appraise(&self.evidence(), &self.endorsements, &reference, policy, UnixTime(NOW), &AwsLc)
    }

    #[track_caller]
    pub fn refusal_under(&self, policy: &Policy) -> Vec<Code> {
        self.appraise_under(policy).map(|ok| panic!("accepted:\n{}", ok.verdict())).unwrap_err().codes()
    }

    #[track_caller]
    pub fn refusal(&self) -> Vec<Code> {
        self.refusal_under(&self.policy())
    }
}
