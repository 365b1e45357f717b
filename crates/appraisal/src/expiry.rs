//! From when to when Endorsements hold: which part ends first, and how many days are left. Pure, and about what
//! the parts say themselves; whether an ended part is good enough, an appraisal decides by its policy.

use evidence::{CertificateDer, CrlDer, Endorsements, SignedDocument};

use crate::UnixTime;
use crate::heads::{CertificateHead, CrlHead, DocumentHead};

/// From when to when one part holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartWindow {
    /// What people call the part.
    pub part: &'static str,
    /// From when it holds.
    pub not_before: UnixTime,
    /// Until when it holds.
    pub not_after: UnixTime,
}

/// From when to when Endorsements hold, part by part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// The parts that could be read.
    pub parts: Vec<PartWindow>,
    /// The parts that could not.
    pub unreadable: Vec<&'static str>,
}

impl Expiry {
    /// Looks at every part.
    pub fn of(endorsements: &Endorsements) -> Self {
        let mut expiry = Self::default();
        if let Some(intel) = &endorsements.intel {
            expiry.document("TCB info", &intel.tcb_info, DocumentHead::of_tcb_info);
            expiry.document("QE identity", &intel.qe_identity, DocumentHead::of_qe_identity);
            expiry.crl("root CA CRL", &intel.root_ca_crl);
            expiry.crl("PCK CRL", &intel.pck_crl);
            expiry.certificates("issuer of the PCK CRL", &intel.pck_crl_issuer_chain);
        }
        if let Some(amd) = &endorsements.amd {
            expiry.certificate("VCEK or VLEK", &amd.vek);
            expiry.certificates("issuer of the VCEK or VLEK", &amd.issuer_chain);
            amd.crl.iter().for_each(|crl| expiry.crl("AMD CRL", crl));
        }
        if let Some(tpm) = &endorsements.tpm {
            expiry.certificates("certificate of the TPM", &tpm.certificates);
            tpm.crls.iter().for_each(|crl| expiry.crl("CRL for the TPM", crl));
        }
        let aws = endorsements.aws.iter().flat_map(|aws| &aws.crls);
        aws.for_each(|crl| expiry.crl("AWS CRL", crl));
        let nvidia = endorsements.nvidia.iter().flat_map(|nvidia| &nvidia.crls);
        nvidia.for_each(|crl| expiry.crl("NVIDIA CRL", crl));
        expiry
    }

    /// The part that ends first.
    pub fn first(&self) -> Option<&PartWindow> {
        self.parts.iter().min_by_key(|window| window.not_after)
    }

    /// From when to when all parts hold together: it may be empty. None when there is nothing that ends.
    pub fn whole(&self) -> Option<(UnixTime, UnixTime)> {
        let start = self.parts.iter().map(|window| window.not_before).max()?;
        let end = self.parts.iter().map(|window| window.not_after).min()?;
        Some((start, end))
    }

    /// Whole days until the first part ends; zero on its last day and after.
    pub fn days_left(&self, now: UnixTime) -> Option<i64> {
        self.first().map(|window| now.days_until(window.not_after))
    }

    fn document<E>(
        &mut self,
        part: &'static str,
        document: &SignedDocument,
        read: impl FnOnce(&[u8]) -> Result<DocumentHead, E>,
    ) {
        self.window(part, read(&document.body).map(|head| (head.issued, head.next_update)));
        self.certificates("signer of TCB info or QE identity", &document.issuer_chain);
    }

    fn crl(&mut self, part: &'static str, der: &CrlDer) {
        self.window(part, CrlHead::of(der).map(|head| (head.issued, head.next_update)));
    }

    fn certificates(&mut self, part: &'static str, chain: &[CertificateDer]) {
        chain.iter().for_each(|der| self.certificate(part, der));
    }

    fn certificate(&mut self, part: &'static str, der: &CertificateDer) {
        self.window(part, CertificateHead::of(der).map(|head| (head.not_before, head.not_after)));
    }

    fn window<E>(&mut self, part: &'static str, window: Result<(UnixTime, UnixTime), E>) {
        match window {
            Ok((not_before, not_after)) => self.parts.push(PartWindow { part, not_before, not_after }),
            Err(_) => self.unreadable.push(part),
        }
    }
}
