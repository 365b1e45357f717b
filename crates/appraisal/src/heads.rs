//! What a vendor's statement says about itself, before anyone has verified it: whose it is, and from when to
//! when it holds. For whoever fetches, keeps and warns; an appraisal reads none of this, and nothing here is
//! proof of anything.

use evidence::snp::{ProductFamily, TcbComponents};
use evidence::{CertificateDer, CrlDer};
use serde::Deserialize;

use crate::UnixTime;
use crate::amd::{Kind, Vek};
use crate::needs::IntelTee;
use crate::x509::{ParsedCertificate, ParsedCrl};

/// A statement that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {what} cannot be read: {fault}")]
pub struct Unreadable {
    what: &'static str,
    fault: String,
}

/// TCB info or QE identity. Fields that are not here are not looked at: a newer version can be kept as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentHead {
    /// The kind of TEE.
    pub tee: IntelTee,
    /// TCB info: the family of platforms. None in a QE identity.
    pub fmspc: Option<[u8; 6]>,
    /// When it was issued.
    pub issued: UnixTime,
    /// Until when it holds.
    pub next_update: UnixTime,
    /// The number of Intel's evaluation.
    pub evaluation: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    fmspc: Option<String>,
    issue_date: UnixTime,
    next_update: UnixTime,
    tcb_evaluation_data_number: u32,
}

impl DocumentHead {
    /// Reads TCB info of any version.
    ///
    /// # Errors
    /// [`Unreadable`] when it is no TCB info.
    pub fn of_tcb_info(body: &[u8]) -> Result<Self, Unreadable> {
        const WHAT: &str = "TCB info";
        let document = Document::read(WHAT, body)?;
        let tee = match document.id.as_deref() {
            // Version 2 has no id, and no TDX.
            None | Some("SGX") => IntelTee::Sgx,
            Some("TDX") => IntelTee::Tdx,
            Some(other) => return Err(unreadable(WHAT, format!("it is of {other:?}"))),
        };
        let text = document.fmspc.as_deref().ok_or_else(|| unreadable(WHAT, "it has no fmspc"))?;
        let mut fmspc = [0; 6];
        hex::decode_to_slice(text, &mut fmspc).map_err(|error| unreadable(WHAT, error))?;
        Ok(document.head(tee, Some(fmspc)))
    }

    /// Reads the identity of a quoting enclave.
    ///
    /// # Errors
    /// [`Unreadable`] when it is none.
    pub fn of_qe_identity(body: &[u8]) -> Result<Self, Unreadable> {
        const WHAT: &str = "QE identity";
        let document = Document::read(WHAT, body)?;
        let tee = match document.id.as_deref() {
            Some("QE") => IntelTee::Sgx,
            Some("TD_QE") => IntelTee::Tdx,
            other => return Err(unreadable(WHAT, format!("it is of {other:?}"))),
        };
        Ok(document.head(tee, None))
    }
}

impl Document {
    fn read(what: &'static str, body: &[u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(body).map_err(|error| unreadable(what, error))
    }

    fn head(&self, tee: IntelTee, fmspc: Option<[u8; 6]>) -> DocumentHead {
        DocumentHead {
            tee,
            fmspc,
            issued: self.issue_date,
            next_update: self.next_update,
            evaluation: self.tcb_evaluation_data_number,
        }
    }
}

/// A revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrlHead {
    /// The common name of its issuer.
    pub issuer: String,
    /// When it was issued.
    pub issued: UnixTime,
    /// Until when it holds.
    pub next_update: UnixTime,
    /// Its number. Intel's lists all have number 1, so only their time of issue tells an old one (S-18).
    pub number: Option<u64>,
}

impl CrlHead {
    /// Reads a revocation list.
    ///
    /// # Errors
    /// [`Unreadable`] when it is none.
    pub fn of(der: &CrlDer) -> Result<Self, Unreadable> {
        let crl = ParsedCrl::parse(der).map_err(|fault| unreadable("revocation list", fault))?;
        Ok(Self {
            issuer: crl.issuer_name(),
            issued: crl.this_update(),
            next_update: crl.next_update(),
            number: crl.number(),
        })
    }
}

/// A certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateHead {
    /// The common name of its subject.
    pub subject: String,
    /// The common name of its issuer.
    pub issuer: String,
    /// From when it holds.
    pub not_before: UnixTime,
    /// Until when it holds.
    pub not_after: UnixTime,
    /// What AMD says in it, when it is of a VCEK or VLEK.
    pub vek: Option<VekHead>,
}

/// What AMD says in the certificate of a VCEK or VLEK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VekHead {
    /// The product family.
    pub family: ProductFamily,
    /// The TCB that the key is for.
    pub tcb: TcbComponents,
    /// The chip, in a VCEK: 64 bytes, or 8 on Turin. None in a VLEK.
    pub hardware_id: Option<Vec<u8>>,
}

impl CertificateHead {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`Unreadable`] when it is none.
    pub fn of(der: &CertificateDer) -> Result<Self, Unreadable> {
        let certificate = ParsedCertificate::parse(der).map_err(|fault| unreadable("certificate", fault))?;
        let vek = Vek::read(&certificate).ok().map(|vek| {
            debug_assert_eq!(vek.kind == Kind::Vcek, vek.hardware_id.is_some());
            VekHead { family: vek.family, tcb: vek.tcb, hardware_id: vek.hardware_id }
        });
        Ok(Self {
            subject: certificate.subject_name(),
            issuer: certificate.issuer_name(),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
            vek,
        })
    }
}

fn unreadable(what: &'static str, fault: impl ToString) -> Unreadable {
    Unreadable { what, fault: fault.to_string() }
}
