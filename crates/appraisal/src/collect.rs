//! From a heap of files to the Endorsements that fit one piece of Evidence. Files are told apart by content:
//! certificates and CRLs (DER or PEM), TCB info and QE identities as Intel serves them, DCAP collateral as
//! JSON, encoded Endorsements and bundles. Pure: the caller reads the files. Nothing is verified here; choosing
//! badly can only make an appraisal refuse.

use evidence::bundle::Bundle;
use evidence::nvidia::{self, Rim};
use evidence::quote::{CertificationData, PckName, SignatureData};
use evidence::snp::ReportBody;
use evidence::{
    AmdCollateral, AwsCollateral, CertificateDer, CrlDer, Endorsements, Evidence, IntelCollateral,
    NvidiaCollateral, Platform, SignedDocument, TpmCollateral, azure, nitro, tpm,
};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::UnixTime;
use crate::amd::{Vek, hardware_id_length};
use crate::intel::{Pck, QeIdentity, TcbInfo, fitness as pck_fitness};
use crate::nvidia as nvidia_devices;
use crate::tpm::same_key;
use crate::x509::{ParsedCertificate, ParsedCrl};

/// A file that holds nothing that endorses anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "neither a certificate, a CRL, TCB info, a QE identity, DCAP collateral, a RIM, encoded Endorsements nor a bundle"
)]
pub struct Unrecognised;

/// Gathers Endorsements from files, and picks those that fit.
#[derive(Clone, Debug, Default)]
pub struct EndorsementsBuilder {
    certificates: Vec<CertificateDer>,
    crls: Vec<CrlDer>,
    tcb_infos: Vec<Document>,
    qe_identities: Vec<Document>,
    rims: Vec<Vec<u8>>,
    ocsp: Vec<Vec<u8>>,
    whole: Vec<Endorsements>,
}

/// A signed document, and the certificates that came with it, if any did.
#[derive(Clone, Debug)]
struct Document {
    body: Vec<u8>,
    signature: [u8; 64],
}

impl EndorsementsBuilder {
    /// Nothing gathered yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the contents of one file.
    ///
    /// # Errors
    /// [`Unrecognised`], and nothing is added.
    pub fn add_file_bytes(&mut self, bytes: &[u8]) -> Result<(), Unrecognised> {
        if Rim::recognises(bytes) && Rim::parse(bytes).is_ok() {
            self.rims.push(bytes.to_vec());
            return Ok(());
        }
        if bytes.first() == Some(&b'{') {
            return self.add_json(bytes);
        }
        if let Ok(endorsements) = Endorsements::from_bytes(bytes) {
            self.add(endorsements);
            return Ok(());
        }
        // Its maker's signature is not looked at: those of the vendors inside decide.
        if let Ok(bundle) = Bundle::from_bytes(bytes) {
            self.add(bundle.contents.endorsements);
            return Ok(());
        }
        let crl = CrlDer(bytes.to_vec());
        if ParsedCrl::parse(&crl).is_ok() {
            self.crls.push(crl);
            return Ok(());
        }
        if nvidia_devices::is_ocsp_response(bytes) {
            self.ocsp.push(bytes.to_vec());
            return Ok(());
        }
        let certificates = nvidia::certificate_chain(bytes).map_err(|_| Unrecognised)?;
        if certificates.iter().any(|der| ParsedCertificate::parse(der).is_err()) {
            return Err(Unrecognised);
        }
        self.certificates.extend(certificates);
        Ok(())
    }

    /// Adds Endorsements that are whole already; those that fit are preferred to what is put together.
    pub fn add(&mut self, endorsements: Endorsements) {
        if let Some(tpm) = &endorsements.tpm {
            self.certificates.extend(tpm.certificates.iter().cloned());
            self.crls.extend(tpm.crls.iter().cloned());
        }
        if let Some(amd) = &endorsements.amd {
            self.certificates.push(amd.vek.clone());
            self.certificates.extend(amd.issuer_chain.iter().cloned());
            self.crls.extend(amd.crl.clone());
        }
        if let Some(aws) = &endorsements.aws {
            self.crls.extend(aws.crls.iter().cloned());
        }
        if let Some(nvidia) = &endorsements.nvidia {
            self.certificates.extend(nvidia.device_chain.iter().cloned());
            self.crls.extend(nvidia.crls.iter().cloned());
            self.rims.extend(nvidia.rims.iter().cloned());
            self.ocsp.extend(nvidia.ocsp.iter().cloned());
        }
        self.whole.push(endorsements);
    }

    /// As [`EndorsementsBuilder::add`], and preferred to those that were added before where both fit.
    pub fn prefer(&mut self, endorsements: Endorsements) {
        self.add(endorsements);
        self.whole.rotate_right(1);
    }

    fn add_json(&mut self, bytes: &[u8]) -> Result<(), Unrecognised> {
        if let Ok(endorsements) = Endorsements::from_dcap_json(bytes) {
            self.add(endorsements);
            return Ok(());
        }
        let served: Served<'_> = serde_json::from_slice(bytes).map_err(|_| Unrecognised)?;
        let mut signature = [0; 64];
        hex::decode_to_slice(served.signature, &mut signature).map_err(|_| Unrecognised)?;
        let document = |body: &RawValue| Document { body: body.get().as_bytes().to_vec(), signature };
        match (served.tcb_info, served.enclave_identity) {
            (Some(body), None) => self.tcb_infos.push(document(body)),
            (None, Some(body)) => self.qe_identities.push(document(body)),
            _ => return Err(Unrecognised),
        }
        Ok(())
    }

    /// The Endorsements that fit `evidence` at `now`. What is missing is absent, and the appraisal says so.
    pub fn fit(&self, evidence: &Evidence, now: UnixTime) -> Endorsements {
        match evidence {
            Evidence::Sgx(quote) => self.fit_intel(Platform::Sgx, quote.signature_data(), now),
            Evidence::Tdx(quote) => self.fit_intel(Platform::Tdx, quote.signature_data(), now),
            Evidence::Snp(report) => self.fit_amd(report.body(), now),
            Evidence::Nitro(document) => self.fit_aws(document, now),
            Evidence::Nvidia(attestation) => self.fit_nvidia(attestation, now),
            Evidence::Azure(attestation) => self.fit_azure(attestation, now),
            Evidence::Tpm(attestation) => self.fit_tpm(attestation),
            // The keys of CCA platforms are the policy's.
            Evidence::Cca(_) => Endorsements::default(),
        }
    }

    /// The current list of each issuer in the document's chain.
    fn fit_aws(&self, document: &nitro::Document, now: UnixTime) -> Endorsements {
        let chain = document.cabundle().iter().filter_map(|der| ParsedCertificate::parse(der).ok());
        let crls: Vec<_> = chain.filter_map(|ca| self.current_crl(ca.subject(), now).cloned()).collect();
        let aws = (!crls.is_empty()).then_some(AwsCollateral { crls });
        Endorsements { aws, ..Endorsements::default() }
    }

    fn fit_nvidia(&self, attestation: &nvidia::Attestation, now: UnixTime) -> Endorsements {
        let crls = self.crls.iter().filter(|der| ParsedCrl::parse(der).is_ok_and(|crl| crl.is_of("NVIDIA")));
        let nvidia = NvidiaCollateral {
            rims: nvidia_devices::fit_rims(attestation, &self.rims, now),
            crls: crls.take(8).cloned().collect(),
            device_chain: nvidia_devices::fit_chain(attestation, &self.certificates),
            ocsp: self.ocsp.iter().take(nvidia::MAX_DEVICE_CHAIN).cloned().collect(),
        };
        Endorsements { nvidia: Some(nvidia), ..Endorsements::default() }
    }

    /// As for the hardware alone. The certificates that came with the Evidence are part of the heap.
    fn fit_azure(&self, attestation: &azure::Attestation, now: UnixTime) -> Endorsements {
        match (attestation.hcl().hardware(), attestation.td_quote()) {
            (azure::Hardware::Snp(report), _) => {
                let certificates = self.certificates.iter().chain(attestation.certificates());
                let heap = Self {
                    certificates: certificates.cloned().collect(),
                    crls: self.crls.clone(),
                    ..Self::default()
                };
                heap.fit_amd(report.body(), now)
            }
            (azure::Hardware::Tdx(_), Some(quote)) => {
                self.fit_intel(Platform::Tdx, quote.signature_data(), now)
            }
            (azure::Hardware::Tdx(_), None) => Endorsements::default(),
        }
    }

    /// The certificates of the attestation key and of CAs above it, by name, and the lists of those CAs: eight of each
    /// at most.
    fn fit_tpm(&self, attestation: &tpm::Attestation) -> Endorsements {
        let parsed: Vec<_> =
            self.certificates.iter().filter_map(|der| ParsedCertificate::parse(der).ok()).collect();
        let own: Vec<_> =
            attestation.certificates().iter().filter_map(|der| ParsedCertificate::parse(der).ok()).collect();
        let of_key = |other: &&ParsedCertificate<'_>| {
            attestation.key().is_some_and(|key| same_key(other.key(), &key.public))
        };
        let mut chosen: Vec<&ParsedCertificate<'_>> = parsed.iter().filter(of_key).take(2).collect();
        let mut issuers: Vec<&[u8]> =
            own.iter().chain(chosen.iter().copied()).map(ParsedCertificate::issuer).collect();
        let mut next = 0;
        while let Some(&issuer) = issuers.get(next) {
            next += 1;
            let fits = |other: &&ParsedCertificate<'_>| {
                other.subject() == issuer && !chosen.iter().any(|kept| kept.der == other.der)
            };
            let found: Vec<_> =
                parsed.iter().filter(fits).take(8_usize.saturating_sub(chosen.len())).collect();
            issuers.extend(found.iter().map(|other| other.issuer()));
            chosen.extend(found);
        }
        let crls = self.crls.iter().filter(|der| {
            ParsedCrl::parse(der).is_ok_and(|crl| issuers.iter().any(|issuer| *issuer == crl.issuer()))
        });
        let tpm = TpmCollateral {
            certificates: chosen.iter().map(|own| CertificateDer(own.der.to_vec())).collect(),
            crls: crls.take(8).cloned().collect(),
        };
        if tpm == TpmCollateral::default() {
            return Endorsements::default();
        }
        Endorsements { tpm: Some(tpm), ..Endorsements::default() }
    }

    fn fit_amd(&self, body: &ReportBody, now: UnixTime) -> Endorsements {
        let parsed: Vec<_> =
            self.certificates.iter().filter_map(|der| ParsedCertificate::parse(der).ok()).collect();
        let veks = parsed.iter().filter_map(|certificate| Some((certificate, Vek::read(certificate).ok()?)));
        // The best fit, and the first of equals.
        let best = veks
            .map(|(certificate, vek)| (fitness(body, &vek, certificate, now), certificate))
            .first_maximum();
        let Some(signer) = best else { return Endorsements::default() };
        let issuers: Vec<_> = parsed.iter().filter(|other| other.subject() == signer.issuer()).collect();
        let roots = parsed.iter().filter(|other| {
            other.is_self_issued() && issuers.iter().any(|issuer| issuer.issuer() == other.subject())
        });
        let chain =
            issuers.iter().copied().chain(roots).map(|certificate| CertificateDer(certificate.der.to_vec()));
        let chain: Vec<_> = chain.take(8).collect();
        let crl = issuers.first().and_then(|issuer| self.current_crl(issuer.issuer(), now));
        let amd = AmdCollateral {
            vek: CertificateDer(signer.der.to_vec()),
            issuer_chain: chain,
            crl: crl.cloned(),
        };
        Endorsements { amd: Some(amd), ..Endorsements::default() }
    }

    fn fit_intel(&self, platform: Platform, data: &SignatureData, now: UnixTime) -> Endorsements {
        let named = self.pck_chain(data.certification_data(), now);
        let fmspc = fmspc(data.certification_data()).or_else(|| named.iter().find_map(pck_fmspc));
        let whole = self.whole.iter().filter_map(|whole| whole.intel.as_ref());
        let fits = |intel: &&IntelCollateral| {
            read_tcb_info(&intel.tcb_info.body).is_some_and(|info| is_for(&info, platform, fmspc))
        };
        let candidates: Vec<_> = whole.clone().filter(fits).collect();
        let chosen =
            candidates
                .iter()
                .copied()
                .find(|intel| is_current(intel, now))
                .or_else(|| candidates.first().copied())
                .cloned()
                .or_else(|| self.assemble_intel(platform, data, &named, fmspc, now))
                .or_else(|| whole.clone().next().cloned())
                .map(|own| {
                    if own.pck_chain.is_empty() { IntelCollateral { pck_chain: named, ..own } } else { own }
                });
        Endorsements { intel: chosen, ..Endorsements::default() }
    }

    /// The PCK certificate that fits best among those that certification data without one can name, and its CA's;
    /// for a certificate alone, its CA's.
    fn pck_chain(&self, data: &CertificationData, now: UnixTime) -> Vec<CertificateDer> {
        if let CertificationData::PckChain(_) | CertificationData::PlatformManifest(_) = data {
            return Vec::new();
        }
        let whole = self.whole.iter().filter_map(|whole| whole.intel.as_ref());
        let heap = whole.flat_map(|own| own.pck_chain.iter().chain(&own.pck_crl_issuer_chain));
        let parsed: Vec<_> = self
            .certificates
            .iter()
            .chain(heap)
            .filter_map(|der| ParsedCertificate::parse(der).ok())
            .collect();
        let chain = |signer: &ParsedCertificate<'_>| {
            let issuers = parsed.iter().filter(|other| other.subject() == signer.issuer());
            issuers.map(|issuer| CertificateDer(issuer.der.to_vec())).take(1).collect::<Vec<_>>()
        };
        match data {
            CertificationData::PckChain(_) | CertificationData::PlatformManifest(_) => Vec::new(),
            CertificationData::PckCertificate(leaf) => {
                ParsedCertificate::parse(leaf).map(|leaf| chain(&leaf)).unwrap_or_default()
            }
            CertificationData::PckName(name) => {
                let fits = parsed
                    .iter()
                    .filter_map(|certificate| Some((rank(name, certificate, now)?, certificate)));
                fits.first_maximum().map_or_else(Vec::new, |leaf| {
                    [vec![CertificateDer(leaf.der.to_vec())], chain(leaf)].concat()
                })
            }
        }
    }

    fn assemble_intel(
        &self,
        platform: Platform,
        data: &SignatureData,
        named: &[CertificateDer],
        fmspc: Option<[u8; 6]>,
        now: UnixTime,
    ) -> Option<IntelCollateral> {
        let tcb_info = newest(&self.tcb_infos, now, |body| {
            let info = read_tcb_info(body).filter(|info| is_for(info, platform, fmspc))?;
            Some((info.issue_date, info.next_update, info.tcb_evaluation_data_number))
        })?;
        let wanted = if platform == Platform::Tdx { "TD_QE" } else { "QE" };
        let qe_identity = newest(&self.qe_identities, now, |body| {
            let identity: QeIdentity<'_> = serde_json::from_slice(body).ok()?;
            let window = (identity.issue_date, identity.next_update, identity.tcb_evaluation_data_number);
            (identity.id == wanted).then_some(window)
        })?;
        let in_quote: Vec<_> = certificates(data.certification_data())
            .iter()
            .chain(named)
            .filter_map(|der| ParsedCertificate::parse(der).ok())
            .collect();
        let pck = in_quote.iter().find(|certificate| Pck::is_present(certificate))?;
        let ca = in_quote.iter().find(|certificate| certificate.subject() == pck.issuer())?;
        let signers = self.signer_chain(ca.issuer(), now);
        let sign = |document: &Document| SignedDocument {
            body: document.body.clone(),
            signature: document.signature,
            issuer_chain: signers.clone(),
        };
        Some(IntelCollateral {
            tcb_info: sign(tcb_info),
            qe_identity: sign(qe_identity),
            root_ca_crl: self.current_crl(ca.issuer(), now)?.clone(),
            pck_crl: self.current_crl(ca.subject(), now)?.clone(),
            pck_crl_issuer_chain: Vec::new(),
            pck_chain: Vec::new(),
        })
    }

    /// The TCB signing certificate below `root` that is valid at `now`: it is renewed with the same key.
    fn signer_chain(&self, root: &[u8], now: UnixTime) -> Vec<CertificateDer> {
        let parsed: Vec<_> =
            self.certificates.iter().filter_map(|der| ParsedCertificate::parse(der).ok()).collect();
        let fits = |certificate: &&ParsedCertificate<'_>| {
            certificate.issuer() == root
                && certificate.require_end_entity().is_ok()
                && !Pck::is_present(certificate)
                && certificate.not_before() <= now
                && now <= certificate.not_after()
        };
        parsed
            .iter()
            .filter(fits)
            .take(1)
            .map(|certificate| CertificateDer(certificate.der.to_vec()))
            .collect()
    }

    /// The list of the CA of that name that is current at `now`, or else the newest.
    fn current_crl(&self, issuer: &[u8], now: UnixTime) -> Option<&CrlDer> {
        self.crls
            .iter()
            .filter_map(|der| Some((der, ParsedCrl::parse(der).ok()?)))
            .filter(|(_, crl)| crl.issuer() == issuer)
            .max_by_key(|(_, crl)| {
                (crl.this_update() <= now && now <= crl.next_update(), crl.this_update(), crl.number())
            })
            .map(|(der, _)| der)
    }
}

/// TCB info or QE identity as Intel serves them: the signed object, and the signature beside it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Served<'a> {
    #[serde(borrow, default)]
    tcb_info: Option<&'a RawValue>,
    #[serde(borrow, default)]
    enclave_identity: Option<&'a RawValue>,
    signature: &'a str,
}

trait FirstMaximum<K, V>: Iterator<Item = (K, V)> + Sized {
    /// The value of the greatest key, and the first of equals.
    fn first_maximum(self) -> Option<V>
    where
        K: PartialOrd,
    {
        self.fold(None, |best: Option<(K, V)>, (key, value)| match best {
            Some((greatest, kept)) if key <= greatest => Some((greatest, kept)),
            _ => Some((key, value)),
        })
        .map(|(_, value)| value)
    }
}

impl<K, V, I: Iterator<Item = (K, V)>> FirstMaximum<K, V> for I {}

/// How well a certificate fits a report: same chip, same TCB, valid at the time.
fn fitness(
    body: &ReportBody,
    vek: &Vek,
    certificate: &ParsedCertificate<'_>,
    now: UnixTime,
) -> (u8, bool, bool) {
    let (own, _) = body.chip_id.split_at(hardware_id_length(vek.family));
    let same_chip = match (&vek.hardware_id, body.signing_key()) {
        (Some(id), evidence::snp::SigningKey::Vcek) => 2 * u8::from(id == own),
        (None, evidence::snp::SigningKey::Vlek) => 1,
        _ => 0,
    };
    let same_tcb = body.reported_tcb.components(vek.family) == Some(vek.tcb);
    (same_chip, same_tcb, certificate.not_before() <= now && now <= certificate.not_after())
}

fn read_tcb_info(body: &[u8]) -> Option<TcbInfo<'_>> {
    serde_json::from_slice(body).ok()
}

fn is_for(info: &TcbInfo<'_>, platform: Platform, fmspc: Option<[u8; 6]>) -> bool {
    let tdx = info.id.as_deref() == Some("TDX");
    tdx == (platform == Platform::Tdx) && fmspc == Some(info.fmspc)
}

/// Whether all four statements of a set are valid at `now`.
fn is_current(intel: &IntelCollateral, now: UnixTime) -> bool {
    let info = read_tcb_info(&intel.tcb_info.body).map(|info| (info.issue_date, info.next_update));
    let identity: Option<QeIdentity<'_>> = serde_json::from_slice(&intel.qe_identity.body).ok();
    let crl = |der| ParsedCrl::parse(der).ok().map(|crl| (crl.this_update(), crl.next_update()));
    [
        info,
        identity.map(|identity| (identity.issue_date, identity.next_update)),
        crl(&intel.root_ca_crl),
        crl(&intel.pck_crl),
    ]
    .into_iter()
    .all(|window| window.is_some_and(|(start, end)| start <= now && now <= end))
}

/// The certificates that are in the quote.
fn certificates(data: &CertificationData) -> &[CertificateDer] {
    match data {
        CertificationData::PckChain(chain) => chain,
        CertificationData::PckCertificate(leaf) => std::slice::from_ref(leaf),
        CertificationData::PckName(_) | CertificationData::PlatformManifest(_) => &[],
    }
}

fn fmspc(data: &CertificationData) -> Option<[u8; 6]> {
    certificates(data).iter().find_map(pck_fmspc)
}

fn pck_fmspc(der: &CertificateDer) -> Option<[u8; 6]> {
    Some(Pck::read(&ParsedCertificate::parse(der).ok()?).ok()?.fmspc)
}

/// How well a certificate fits what the quote names its PCK by; none when it is not of that platform.
fn rank(name: &PckName, certificate: &ParsedCertificate<'_>, now: UnixTime) -> Option<(bool, bool, u16)> {
    let (same, pce_svn) = pck_fitness(name, &Pck::read(certificate).ok()?)?;
    let valid = certificate.not_before() <= now && now <= certificate.not_after();
    Some((valid, same, pce_svn))
}

/// The document that is current at `now`, of the highest evaluation, and the newest of those.
fn newest(
    documents: &[Document],
    now: UnixTime,
    window: impl Fn(&[u8]) -> Option<(UnixTime, UnixTime, u32)>,
) -> Option<&Document> {
    documents
        .iter()
        .filter_map(|document| {
            let (issued, next_update, evaluation) = window(&document.body)?;
            Some(((issued <= now && now <= next_update, evaluation, issued), document))
        })
        .max_by_key(|(key, _)| *key)
        .map(|(_, document)| document)
}
