//! An Intel-like platform: root → PCK CA → PCK, TCB signer, CRLs, TCB info, QE identity, quotes.

use appraisal::Crypto;
use crypto_aws_lc::AwsLc;
use evidence::{Endorsements, Evidence, IntelCollateral, SignedDocument, pem};

use super::{Certified, Curve, Key, Presented, REPORT_DATA, Template, Window, der, der_integer};

const SGX_EXTENSION: &[u64] = &[1, 2, 840, 113741, 1, 13, 1];
const FMSPC: [u8; 6] = [0xb0, 0xc0, 0x6f, 0, 0, 0];

/// A platform in which everything is good; tests change one thing.
#[derive(Clone)]
pub struct Intel {
    pub tdx: bool,
    pub ca_window: Window,
    pub pck_window: Window,
    pub signer_window: Window,
    pub root_crl_window: Window,
    pub pck_crl_window: Window,
    pub info_window: Window,
    pub identity_window: Window,
    pub revoked_by_root: Vec<u64>,
    pub revoked_by_ca: Vec<u64>,
    pub cpu_components: [u8; 16],
    pub pce_svn: u16,
    pub platform_status: &'static str,
    pub module_status: &'static str,
    pub module_id: &'static str,
    pub qe_status: &'static str,
    pub qe_isv_svn: u16,
    pub qe_prod_id: u16,
    pub qe_attributes: u64,
    pub info_extra: &'static str,
    pub info_pce_id: &'static str,
    pub info_fmspc: &'static str,
    pub evaluation: u32,
    pub tee_tcb_svn: [u8; 16],
    pub current_svn: Option<[u8; 16]>,
    pub mrservicetd: [u8; 48],
    pub seam_attributes: u64,
    pub td_attributes: u64,
    pub sgx_attributes: u64,
    pub config: u8,
    pub rtmr: [[u8; 48]; 4],
    pub foreign_collateral: bool,
    pub foreign_pck_crl: bool,
    pub other_signer: bool,
    pub extra_report_data: u8,
    /// 3 or 4 for SGX; 4 or 5 for TDX, by its body, when absent.
    pub quote_version: Option<u16>,
    /// The extended report of TDX 1.5, with the digest of a service TD bound later.
    pub later_service_td: Option<[u8; 48]>,
    pub xfam: u64,
    pub certification_kind: u16,
    /// The PCK certificate and its CA's lie with the Endorsements.
    pub pck_beside: bool,
    /// The PCK CA's certificate lies with its revocation list.
    pub ca_beside: bool,
    /// Another platform's id in certification data of kind 1.
    pub named_ppid: [u8; 16],
    /// Entries of the SGX extension beside the usual ones.
    pub pck_entries: Vec<u8>,
    /// The SGX extension twice.
    pub pck_extension_twice: bool,
    /// The TCB levels, instead of the usual ones.
    pub levels: Option<String>,
}

pub const CA_SERIAL: u64 = 11;
pub const PCK_SERIAL: u64 = 0x0080_0001;
pub const SIGNER_SERIAL: u64 = 13;

impl Intel {
    pub fn sgx() -> Self {
        Self { tdx: false, ..Self::tdx() }
    }

    pub fn tdx() -> Self {
        Self {
            tdx: true,
            ca_window: Window::LONG,
            pck_window: Window::LONG,
            signer_window: Window::LONG,
            root_crl_window: Window::GOOD,
            pck_crl_window: Window::GOOD,
            info_window: Window::GOOD,
            identity_window: Window::GOOD,
            revoked_by_root: vec![],
            revoked_by_ca: vec![],
            cpu_components: [5; 16],
            pce_svn: 11,
            platform_status: "UpToDate",
            module_status: "UpToDate",
            module_id: "TDX_01",
            qe_status: "UpToDate",
            qe_isv_svn: 8,
            qe_prod_id: 2,
            qe_attributes: 0x11,
            info_extra: "",
            info_pce_id: "0000",
            info_fmspc: "B0C06F000000",
            evaluation: 20,
            tee_tcb_svn: [5, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            current_svn: None,
            mrservicetd: [0; 48],
            seam_attributes: 0,
            td_attributes: 1 << 28,
            sgx_attributes: 5,
            config: 0,
            rtmr: [[0; 48]; 4],
            foreign_collateral: false,
            foreign_pck_crl: false,
            other_signer: false,
            extra_report_data: 0,
            quote_version: None,
            later_service_td: None,
            xfam: 0xe7,
            certification_kind: 5,
            pck_beside: false,
            ca_beside: false,
            named_ppid: [0xab; 16],
            pck_entries: vec![],
            pck_extension_twice: false,
            levels: None,
        }
    }

    pub fn present(&self) -> Presented {
        self.present_then(&[]).0
    }

    /// The same platform, and what its vendor says about it later, in the same hierarchy.
    pub fn present_then(&self, later: &[Self]) -> (Presented, Vec<Endorsements>) {
        let ca_template = |name, serial, window| Template {
            name,
            curve: Curve::P256,
            ca: true,
            serial,
            window,
            extensions: vec![],
        };
        let root = ca_template("Lab SGX Root CA", 10, Window::LONG).issue(None);
        let ca = ca_template("Lab PCK CA", CA_SERIAL, self.ca_window).issue(Some(&root));
        let pck = Template {
            name: "Lab PCK",
            curve: Curve::P256,
            ca: false,
            serial: PCK_SERIAL,
            window: self.pck_window,
            extensions: vec![
                (SGX_EXTENSION, self.sgx_extension());
                1 + usize::from(self.pck_extension_twice)
            ],
        }
        .issue(Some(&ca));
        let other_root = ca_template("Lab SGX Root CA", 10, Window::LONG).issue(None);
        let signing_root = if self.foreign_collateral { &other_root } else { &root };
        let [signer, other_signer] = [(), ()].map(|()| {
            Template {
                name: "Lab TCB Signing",
                curve: Curve::P256,
                ca: false,
                serial: SIGNER_SERIAL,
                window: self.signer_window,
                extensions: vec![],
            }
            .issue(Some(signing_root))
        });
        let other_ca = ca_template("Lab PCK CA", CA_SERIAL, self.ca_window).issue(Some(&root));
        let crl_issuer = if self.foreign_pck_crl { &other_ca } else { &ca };
        let document = |says: &Self, body: String| SignedDocument {
            signature: signer.key.sign(body.as_bytes()).try_into().unwrap(),
            body: body.into_bytes(),
            issuer_chain: vec![
                if says.other_signer { other_signer.der.clone() } else { signer.der.clone() },
                signing_root.der.clone(),
            ],
        };
        let endorsements = |says: &Self| {
            let intel = IntelCollateral {
                tcb_info: document(says, says.tcb_info()),
                qe_identity: document(says, says.qe_identity()),
                root_ca_crl: root.crl(says.root_crl_window, &says.revoked_by_root),
                pck_crl: crl_issuer.crl(says.pck_crl_window, &says.revoked_by_ca),
                pck_crl_issuer_chain: if says.ca_beside {
                    vec![root.der.clone(), ca.der.clone()]
                } else {
                    vec![]
                },
                pck_chain: if says.pck_beside { vec![ca.der.clone(), pck.der.clone()] } else { vec![] },
            };
            Endorsements { intel: Some(intel), ..Endorsements::default() }
        };
        let quote = self.quote(&pck, &[&root, &pck, &ca]);
        let (now, later) = (endorsements(self), later.iter().map(endorsements).collect());
        let evidence = Evidence::parse(&quote).unwrap();
        (Presented { evidence, endorsements: now, root: root.der }, later)
    }

    /// Intel SGX PCK Certificate and CRL Profile, §1.3.5.
    fn sgx_extension(&self) -> Vec<u8> {
        let oid = |tail: &[u8]| der(6, &[&[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1], tail].concat());
        let pair = |tail: &[u8], value: Vec<u8>| der(0x30, &[oid(tail), value].concat());
        let mut tcb: Vec<_> = (1u8..)
            .zip(self.cpu_components)
            .flat_map(|(number, svn)| pair(&[2, number], der_integer(u16::from(svn))))
            .collect();
        tcb.extend(pair(&[2, 17], der_integer(self.pce_svn)));
        tcb.extend(pair(&[2, 18], der(4, &self.cpu_components)));
        let entries = [
            pair(&[1], der(4, &[0xab; 16])),
            pair(&[2], der(0x30, &tcb)),
            pair(&[3], der(4, &[0, 0])),
            pair(&[4], der(4, &FMSPC)),
            pair(&[5], der(10, &[1])),
        ];
        der(0x30, &[entries.concat(), self.pck_entries.clone()].concat())
    }

    fn tcb_info(&self) -> String {
        let components = |svn: u8| {
            let list: Vec<_> = (0..16).map(|_| format!(r#"{{"svn":{svn}}}"#)).collect();
            format!("[{}]", list.join(","))
        };
        let tdx_components = |svn: [u8; 3]| {
            let all = svn.into_iter().chain(std::iter::repeat_n(0, 13));
            let list: Vec<_> = all.map(|svn| format!(r#"{{"svn":{svn}}}"#)).collect();
            format!(r#","tdxtcbcomponents":[{}]"#, list.join(","))
        };
        let level = |svn, pce, tdx: [u8; 3], status: &str| {
            let tdx = if self.tdx { tdx_components(tdx) } else { String::new() };
            format!(
                r#"{{"tcb":{{"sgxtcbcomponents":{},"pcesvn":{pce}{tdx}}},"tcbDate":"2026-01-01T00:00:00Z","tcbStatus":"{status}"}}"#,
                components(svn)
            )
        };
        let levels = self.levels.clone().unwrap_or_else(|| {
            [level(5, 11, [5, 0, 4], self.platform_status), level(2, 5, [0, 0, 2], "OutOfDate")].join(",")
        });
        let module = if self.tdx {
            let zeros = "0".repeat(96);
            let identity = format!(
                r#""mrsigner":"{zeros}","attributes":"0000000000000000","attributesMask":"FFFFFFFFFFFFFFFF""#
            );
            format!(
                r#""tdxModule":{{{identity}}},"tdxModuleIdentities":[{{"id":"{}",{identity},"tcbLevels":[{{"tcb":{{"isvsvn":5}},"tcbDate":"2026-01-01T00:00:00Z","tcbStatus":"{}"}},{{"tcb":{{"isvsvn":3}},"tcbDate":"2025-01-01T00:00:00Z","tcbStatus":"OutOfDate","advisoryIDs":["LAB-SA-1"]}}]}}],"#,
                self.module_id, self.module_status
            )
        } else {
            String::new()
        };
        format!(
            r#"{{"id":"{}","version":3,{},"fmspc":"{}","pceId":"{}","tcbType":0,"tcbEvaluationDataNumber":{},{module}{}"tcbLevels":[{levels}]}}"#,
            if self.tdx { "TDX" } else { "SGX" },
            self.info_window.json(),
            self.info_fmspc,
            self.info_pce_id,
            self.evaluation,
            self.info_extra,
        )
    }

    fn qe_identity(&self) -> String {
        format!(
            r#"{{"id":"{}","version":2,{},"tcbEvaluationDataNumber":{},"miscselect":"00000000","miscselectMask":"FFFFFFFF","attributes":"11000000000000000000000000000000","attributesMask":"FBFFFFFFFFFFFFFF0000000000000000","mrsigner":"{}","isvprodid":2,"tcbLevels":[{{"tcb":{{"isvsvn":8}},"tcbDate":"2026-01-01T00:00:00Z","tcbStatus":"{}"}},{{"tcb":{{"isvsvn":6}},"tcbDate":"2024-01-01T00:00:00Z","tcbStatus":"OutOfDate"}}]}}"#,
            if self.tdx { "TD_QE" } else { "QE" },
            self.identity_window.json(),
            self.evaluation,
            "dc".repeat(32),
            self.qe_status,
        )
    }

    fn quote(&self, pck: &Certified, chain: &[&Certified]) -> Vec<u8> {
        let version: u16 = self.quote_version.unwrap_or(match (self.tdx, self.current_svn) {
            (false, _) => 3,
            (true, None) => 4,
            (true, Some(_)) => 5,
        });
        let mut signed = [version.to_le_bytes(), 2u16.to_le_bytes()].concat();
        signed.extend(if self.tdx { 0x81u32 } else { 0 }.to_le_bytes());
        signed.extend([0; 4]);
        signed.extend(evidence::quote::INTEL_QE_VENDOR_ID);
        signed.extend([7; 20]);
        if version == 5 {
            let (kind, length): (u16, u32) = match (self.tdx, self.current_svn, self.later_service_td) {
                (false, ..) => (1, 384),
                (true, None, _) => (2, 584),
                (true, Some(_), None) => (3, 648),
                (true, Some(_), Some(_)) => (4, 885),
            };
            signed.extend(kind.to_le_bytes());
            signed.extend(length.to_le_bytes());
        }
        signed.extend(if self.tdx { self.td_report() } else { self.enclave() });

        let key = Key::new(Curve::P256);
        let authentication = [9u8; 32];
        let mut bound = [0; 64];
        bound[..32].copy_from_slice(&AwsLc.sha256(&[&key.point(), &authentication]));
        bound[63] = self.extra_report_data;
        let qe_report = enclave_report(
            self.qe_attributes,
            [0x11; 32],
            [0xdc; 32],
            self.qe_prod_id,
            self.qe_isv_svn,
            0,
            bound,
        );
        let pems: String = chain.iter().map(|certificate| pem::encode(&certificate.der)).collect();
        let mut qe = [qe_report.clone(), pck.key.sign(&qe_report)].concat();
        qe.extend(32u16.to_le_bytes());
        qe.extend(authentication);
        let name = |ppid: &[u8]| [ppid, &self.cpu_components, &self.pce_svn.to_le_bytes(), &[0, 0]].concat();
        let certification = match self.certification_kind {
            1 => name(&self.named_ppid),
            2 => name(&[0xcc; 256]),
            3 => name(&[0xcc; 384]),
            4 => pem::encode(&pck.der).into_bytes(),
            7 => vec![0x7a; 100],
            _ => pems.into_bytes(),
        };
        qe.extend(self.certification_kind.to_le_bytes());
        qe.extend((certification.len() as u32).to_le_bytes());
        qe.extend(certification);
        let mut data = [key.sign(&signed), key.point()].concat();
        if version > 3 {
            data.extend(6u16.to_le_bytes());
            data.extend((qe.len() as u32).to_le_bytes());
        }
        data.extend(qe);
        signed.extend((data.len() as u32).to_le_bytes());
        [signed, data].concat()
    }

    fn enclave(&self) -> Vec<u8> {
        enclave_report(self.sgx_attributes, [0xe1; 32], [0xe2; 32], 1, 1, self.config, REPORT_DATA.0)
    }

    fn td_report(&self) -> Vec<u8> {
        let mut report = self.tee_tcb_svn.to_vec();
        report.extend([0x33; 48]);
        report.extend([0; 48]);
        report.extend(self.seam_attributes.to_le_bytes());
        report.extend(self.td_attributes.to_le_bytes());
        report.extend(self.xfam.to_le_bytes());
        report.extend([0xd1; 48]);
        report.extend([self.config; 48]);
        report.extend([0; 48 * 2]);
        report.extend(self.rtmr.concat());
        report.extend(REPORT_DATA.0);
        if let Some(current) = self.current_svn {
            report.extend(current);
            report.extend(self.mrservicetd);
        }
        if let Some(later) = self.later_service_td {
            report.extend([0; 1 + 32 + 48 + 48 + 8 + 16 + 16 + 12]);
            report.extend(later);
            report.extend([0; 8]);
        }
        report
    }
}

fn enclave_report(
    attributes: u64,
    mrenclave: [u8; 32],
    mrsigner: [u8; 32],
    product: u16,
    svn: u16,
    config: u8,
    report_data: [u8; 64],
) -> Vec<u8> {
    let mut report = vec![0; 384];
    report[48..56].copy_from_slice(&attributes.to_le_bytes());
    report[56..64].copy_from_slice(&0xe7u64.to_le_bytes());
    report[64..96].copy_from_slice(&mrenclave);
    report[128..160].copy_from_slice(&mrsigner);
    report[192..256].copy_from_slice(&[config; 64]);
    report[256..258].copy_from_slice(&product.to_le_bytes());
    report[258..260].copy_from_slice(&svn.to_le_bytes());
    report[320..].copy_from_slice(&report_data);
    report
}
