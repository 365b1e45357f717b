//! An AMD-like platform: ARK → ASK or ASVK → VCEK or VLEK, CRL, reports. The CAs have P-384 keys, since RSA-4096
//! keys take seconds to make; AMD's real RSA chains are in the corpus.

use evidence::{AmdCollateral, Endorsements, Evidence};

use super::{Certified, Curve, Presented, REPORT_DATA, Template, Window, der, der_integer};

pub const ISSUER_SERIAL: u64 = 0x20001;

/// A platform in which everything is good; tests change one thing.
#[derive(Clone)]
pub struct Amd {
    pub version: u32,
    pub family: &'static str,
    pub certified_family: &'static str,
    pub cpuid: [u8; 3],
    pub vlek: bool,
    pub signing_key: u32,
    pub policy: u64,
    pub platform_info: u64,
    pub tcb: [u8; 8],
    pub certified: [u16; 5],
    pub chip: [u8; 64],
    pub certified_chip: Vec<u8>,
    pub leaf_window: Window,
    pub issuer_window: Window,
    pub crl: Option<Window>,
    pub foreign_crl: bool,
    pub revoked: Vec<u64>,
    pub host_data: u8,
    pub vmpl: u32,
    pub report_data: [u8; 64],
    /// The name of the VCEK's or VLEK's issuer, instead of the fitting one.
    pub issuer_name: Option<&'static str>,
    /// What else the report says: offset and bytes.
    pub more: Vec<(usize, Vec<u8>)>,
}

/// Offsets in a report (AMD 56860, table "ATTESTATION_REPORT").
pub mod at {
    pub const GUEST_SVN: usize = 0x04;
    pub const FAMILY_ID: usize = 0x10;
    pub const IMAGE_ID: usize = 0x20;
    pub const CURRENT_TCB: usize = 0x38;
    pub const FLAGS: usize = 0x48;
    pub const ID_KEY: usize = 0xe0;
    pub const AUTHOR_KEY: usize = 0x110;
    pub const COMMITTED_TCB: usize = 0x1e0;
    pub const CURRENT_FIRMWARE: usize = 0x1e8;
    pub const COMMITTED_FIRMWARE: usize = 0x1ec;
    pub const LAUNCH_TCB: usize = 0x1f0;
    pub const LAUNCH_MITIGATIONS: usize = 0x1f8;
    pub const CURRENT_MITIGATIONS: usize = 0x200;
}

impl Amd {
    pub fn genoa() -> Self {
        Self {
            version: 3,
            family: "Genoa",
            certified_family: "Genoa",
            cpuid: [0x19, 0x11, 1],
            vlek: false,
            signing_key: 0,
            policy: 0x30000,
            platform_info: 0x25,
            tcb: [10, 0, 0, 0, 0, 0, 23, 84],
            certified: [10, 0, 23, 84, 0],
            chip: [0xc1; 64],
            certified_chip: vec![0xc1; 64],
            leaf_window: Window::LONG,
            issuer_window: Window::LONG,
            crl: Some(Window::GOOD),
            foreign_crl: false,
            revoked: vec![],
            host_data: 0,
            vmpl: 0,
            report_data: REPORT_DATA.0,
            issuer_name: None,
            more: vec![],
        }
    }

    pub fn milan() -> Self {
        Self { family: "Milan", certified_family: "Milan", cpuid: [0x19, 1, 1], ..Self::genoa() }
    }

    pub fn turin() -> Self {
        let mut chip = [0; 64];
        chip[..8].copy_from_slice(&[0xc2; 8]);
        Self {
            family: "Turin",
            certified_family: "Turin",
            cpuid: [0x1a, 2, 1],
            tcb: [1, 10, 0, 23, 0, 0, 0, 84],
            certified: [10, 0, 23, 84, 1],
            chip,
            certified_chip: vec![0xc2; 8],
            ..Self::genoa()
        }
    }

    pub fn present(&self) -> Presented {
        self.present_as(|report| report)
    }

    /// The report in a container of another kind of Evidence.
    pub fn present_as(&self, wrap: impl Fn(Vec<u8>) -> Vec<u8>) -> Presented {
        let ca = |name: &str, serial, window, issuer: Option<&Certified>| {
            Template { name, curve: Curve::P384, ca: true, serial, window, extensions: vec![] }.issue(issuer)
        };
        let ark_name = format!("ARK-{}", self.family);
        let ark = ca(&ark_name, 1, Window::LONG, None);
        let issuer_name =
            if self.vlek { format!("SEV-VLEK-{}", self.family) } else { format!("SEV-{}", self.family) };
        let issuer_name = self.issuer_name.map_or(issuer_name, str::to_owned);
        let issuer = ca(&issuer_name, ISSUER_SERIAL, self.issuer_window, Some(&ark));
        let vek = Template {
            name: if self.vlek { "SEV-VLEK" } else { "SEV-VCEK" },
            curve: Curve::P384,
            ca: false,
            serial: 0,
            window: self.leaf_window,
            extensions: self.extensions(),
        }
        .issue(Some(&issuer));
        let other = ca(&ark_name, 1, Window::LONG, None);
        let crl_issuer = if self.foreign_crl { &other } else { &ark };
        let amd = AmdCollateral {
            vek: vek.der.clone(),
            issuer_chain: vec![ark.der.clone(), issuer.der.clone()],
            crl: self.crl.map(|window| crl_issuer.crl(window, &self.revoked)),
        };
        Presented {
            evidence: Evidence::parse(&wrap(self.report(&vek))).unwrap(),
            endorsements: Endorsements { amd: Some(amd), ..Endorsements::default() },
            root: ark.der,
        }
    }

    fn extensions(&self) -> Vec<(&'static [u64], Vec<u8>)> {
        let [bootloader, tee, snp, microcode, fmc] = self.certified;
        let product = if self.certified_family == "Milan" { "Milan-B0" } else { self.certified_family };
        let mut extensions: Vec<(&'static [u64], Vec<u8>)> = vec![
            (&[1, 3, 6, 1, 4, 1, 3704, 1, 1], der_integer(0)),
            (&[1, 3, 6, 1, 4, 1, 3704, 1, 2], der(0x16, product.as_bytes())),
            (&[1, 3, 6, 1, 4, 1, 3704, 1, 3, 1], der_integer(bootloader)),
            (&[1, 3, 6, 1, 4, 1, 3704, 1, 3, 2], der_integer(tee)),
            (&[1, 3, 6, 1, 4, 1, 3704, 1, 3, 3], der_integer(snp)),
            (&[1, 3, 6, 1, 4, 1, 3704, 1, 3, 8], der_integer(microcode)),
        ];
        if self.certified_family == "Turin" {
            extensions.push((&[1, 3, 6, 1, 4, 1, 3704, 1, 3, 9], der_integer(fmc)));
        }
        if self.vlek {
            extensions.push((&[1, 3, 6, 1, 4, 1, 3704, 1, 5], der(0x16, b"CN=lab-cloud")));
        } else {
            extensions.push((&[1, 3, 6, 1, 4, 1, 3704, 1, 4], self.certified_chip.clone()));
        }
        extensions
    }

    fn report(&self, vek: &Certified) -> Vec<u8> {
        let mut report = vec![0; 1184];
        let mut put =
            |offset: usize, bytes: &[u8]| report[offset..offset + bytes.len()].copy_from_slice(bytes);
        put(0x00, &self.version.to_le_bytes());
        put(0x08, &self.policy.to_le_bytes());
        put(0x30, &self.vmpl.to_le_bytes());
        put(0x34, &1u32.to_le_bytes());
        put(0x38, &self.tcb);
        put(0x40, &self.platform_info.to_le_bytes());
        put(0x48, &(self.signing_key << 2).to_le_bytes());
        put(0x50, &self.report_data);
        put(0x90, &[0xa1; 48]);
        put(0xc0, &[self.host_data; 32]);
        put(0x160, &[0xff; 32]);
        put(0x180, &self.tcb);
        if self.version >= 3 {
            put(0x188, &self.cpuid);
        }
        put(0x1a0, &self.chip);
        put(0x1e0, &self.tcb);
        put(0x1f0, &self.tcb);
        for (offset, bytes) in &self.more {
            put(*offset, bytes);
        }
        let signature = vek.key.sign(&report[..0x2a0]);
        for (offset, half) in [(0x2a0, &signature[..48]), (0x2e8, &signature[48..])] {
            let little: Vec<u8> = half.iter().rev().copied().collect();
            report[offset..offset + 48].copy_from_slice(&little);
        }
        report
    }
}
