//! The emulated vendors and their one machine: generated Intel-like and AMD-like hierarchies in a directory,
//! and the Evidence, Endorsements and sealing keys that follow from them.
//!
//! Formats are the vendors' to the byte, so that unchanged verifier code accepts them. What differs is the
//! trust root: it is random, it is in `roots/`, and nobody trusts it who does not name it. Names in
//! certificates say "emulated" too, but that is for people; no verifier may go by it.
//!
//! This module issues to whoever calls it. That only measured processes get anything, and only what is theirs,
//! is the launcher's doing.

mod amd;
mod certificate;
mod collateral;
mod der;
mod error;
mod intel;
mod issue;
mod keys;
mod quote;
mod report;
mod sealing;
mod store;
mod tcb;

use std::path::Path;

use evidence::{
    AmdCollateral, CertificateDer, CrlDer, Endorsements, IntelCollateral, LaunchConfiguration, Measurement,
    ReportData, SignedDocument, pem,
};
use time::{Duration, OffsetDateTime, UtcOffset};
use zeroize::Zeroizing;

use self::amd::Amd;
use self::certificate::Validity;
use self::collateral::{Collateral, Signed};
pub use self::error::PlatformError;
use self::error::Result;
use self::intel::Intel;
use self::issue::{Mode, Request};
use self::quote::{Certification, QuotingEnclave};
use self::sealing::{FusedSecret, Purpose};
use self::store::{Directory, State};
pub use self::tcb::{AmdTcb, IntelTcb, PlatformOptions, Revoked, Tcb, TcbSetting};

/// Of certificates, trust roots included.
const LIFETIME: Duration = Duration::days(3650);
/// Everything is valid from this long ago, so that a verifier whose clock is a little behind accepts it.
const BACKDATED: Duration = Duration::hours(1);

/// An emulated machine with its vendors.
pub struct Platform {
    state: State,
    sgx: Certification,
    tdx: Certification,
}

/// The trust roots that a policy must name to accept an emulated platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// SGX Root CA, for SGX and TDX: `roots/sgx-root.pem`.
    pub intel: CertificateDer,
    /// AMD Root Key, for SNP: `roots/ark.pem`.
    pub amd: CertificateDer,
}

impl Platform {
    /// Opens the platform in a directory, or creates one with the default options.
    ///
    /// What the vendors renew (TCB info, QE identities, CRLs) is issued anew here when less than a week of its
    /// 30 days is left, and only here: a machine that stays on for longer must be opened again.
    ///
    /// # Errors
    /// [`PlatformError`]; an existing platform is never replaced or repaired.
    pub fn open(directory: &Path, now: OffsetDateTime) -> Result<Self> {
        Self::open_as(directory, None, now)
    }

    /// Opens the platform in a directory, or creates one with these options.
    ///
    /// # Errors
    /// As [`Platform::open`], and [`PlatformError::OtherOptions`] for a platform that was created otherwise.
    pub fn open_with(directory: &Path, options: &PlatformOptions, now: OffsetDateTime) -> Result<Self> {
        Self::open_as(directory, Some(options), now)
    }

    fn open_as(directory: &Path, options: Option<&PlatformOptions>, now: OffsetDateTime) -> Result<Self> {
        let now = now.to_offset(UtcOffset::UTC).truncate_to_second();
        let directory = Directory::lock(directory)?;
        let state = match directory.load()? {
            Some(state) => renewed(existing(state, options, &directory)?, &directory, now)?,
            None => {
                let state = create(options.cloned().unwrap_or_default(), now)?;
                directory.store(&state)?;
                state
            }
        };
        directory.publish("sgx-root.pem", &pem::encode(&state.intel.root_certificate))?;
        directory.publish("ark.pem", &pem::encode(&state.amd.ark_certificate))?;

        let tcb = state.options.tcb.tcb().intel;
        Ok(Self {
            sgx: Certification::of(QuotingEnclave::Sgx, &state.intel, tcb)?,
            tdx: Certification::of(QuotingEnclave::Tdx, &state.intel, tcb)?,
            state,
        })
    }

    /// Evidence for code of this measurement: an SGX quote v3, a TDX quote v4 or an SNP report v3.
    ///
    /// # Errors
    /// [`PlatformError::Length`] when measurement or launch configuration are another platform's.
    pub fn issue(
        &self,
        platform: evidence::Platform,
        measurement: &Measurement,
        launch_configuration: &LaunchConfiguration,
        report_data: &ReportData,
    ) -> Result<Vec<u8>> {
        self.issue_in(Mode::Production, platform, measurement, launch_configuration, report_data)
    }

    /// As [`Platform::issue`], for a TEE that its host may look into. Verifiers must refuse it; no launched
    /// process is ever given it.
    ///
    /// # Errors
    /// As [`Platform::issue`].
    pub fn issue_debug(
        &self,
        platform: evidence::Platform,
        measurement: &Measurement,
        launch_configuration: &LaunchConfiguration,
        report_data: &ReportData,
    ) -> Result<Vec<u8>> {
        self.issue_in(Mode::Debug, platform, measurement, launch_configuration, report_data)
    }

    fn issue_in(
        &self,
        mode: Mode,
        platform: evidence::Platform,
        measurement: &Measurement,
        launch_configuration: &LaunchConfiguration,
        report_data: &ReportData,
    ) -> Result<Vec<u8>> {
        let request = Request::new(platform, measurement, launch_configuration, report_data, mode)?;
        let (State { intel, amd, secret, .. }, tcb) = (&self.state, self.tcb());
        match platform {
            evidence::Platform::Sgx => quote::sgx(intel, tcb.intel, &self.sgx, &request),
            evidence::Platform::Tdx => quote::tdx(intel, tcb.intel, &self.tdx, &request),
            evidence::Platform::Snp => {
                let guest = [request.measurement, request.launch_configuration];
                let report_id = secret.derive(Purpose::ReportId, &guest)?;
                report::report(amd, tcb.amd, &request, &report_id)
            }
            other => Err(PlatformError::NotEmulated(other)),
        }
    }

    /// What the vendors sign about this machine, for Evidence of one kind.
    pub fn endorsements(&self, platform: evidence::Platform) -> Endorsements {
        let collateral = &self.state.collateral;
        match platform {
            evidence::Platform::Sgx => self.intel(&collateral.sgx_tcb_info, &collateral.qe_identity),
            evidence::Platform::Tdx => self.intel(&collateral.tdx_tcb_info, &collateral.td_qe_identity),
            evidence::Platform::Snp => {
                let amd = &self.state.amd;
                let collateral = AmdCollateral {
                    vek: amd.vcek_certificate.clone(),
                    issuer_chain: vec![amd.ask_certificate.clone(), amd.ark_certificate.clone()],
                    crl: Some(CrlDer(collateral.ark_crl.clone())),
                };
                Endorsements { amd: Some(collateral), ..Endorsements::default() }
            }
            _ => Endorsements::default(),
        }
    }

    fn intel(&self, tcb_info: &Signed, qe_identity: &Signed) -> Endorsements {
        let (intel, collateral) = (&self.state.intel, &self.state.collateral);
        let document = |signed: &Signed| SignedDocument {
            body: signed.document.clone().into_bytes(),
            signature: signed.signature,
            issuer_chain: vec![intel.tcb_signing_certificate.clone(), intel.root_certificate.clone()],
        };
        let collateral = IntelCollateral {
            tcb_info: document(tcb_info),
            qe_identity: document(qe_identity),
            root_ca_crl: CrlDer(collateral.root_crl.clone()),
            pck_crl: CrlDer(collateral.pck_crl.clone()),
            pck_crl_issuer_chain: vec![intel.pck_ca_certificate.clone(), intel.root_certificate.clone()],
            pck_chain: Vec::new(),
        };
        Endorsements { intel: Some(collateral), ..Endorsements::default() }
    }

    /// The trust roots.
    pub fn roots(&self) -> Roots {
        Roots {
            intel: self.state.intel.root_certificate.clone(),
            amd: self.state.amd.ark_certificate.clone(),
        }
    }

    /// The firmware that Evidence shows.
    pub fn tcb(&self) -> Tcb {
        self.state.options.tcb.tcb()
    }

    /// CHIP_ID of SNP reports and hwID of the VCEK.
    pub fn chip_id(&self) -> &[u8; 64] {
        &self.state.amd.chip_id
    }

    /// A key that only code of this measurement, launched with this configuration on this machine as this
    /// kind, can have again; `context` tells its several keys apart.
    ///
    /// # Errors
    /// [`PlatformError::Cryptography`].
    pub fn sealing_key(
        &self,
        platform: evidence::Platform,
        measurement: &Measurement,
        configuration: &[u8],
        context: &str,
    ) -> Result<Zeroizing<[u8; 32]>> {
        let inputs =
            [platform.as_str().as_bytes(), measurement.as_bytes(), configuration, context.as_bytes()];
        self.state.secret.derive(Purpose::Sealing, &inputs)
    }
}

fn create(options: PlatformOptions, now: OffsetDateTime) -> Result<State> {
    let from = now - BACKDATED;
    let (validity, tcb) = (Validity { from, until: from + LIFETIME }, options.tcb.tcb());
    let intel = Intel::generate(tcb.intel, validity)?;
    let amd = Amd::generate(tcb.amd, validity)?;
    let collateral = Collateral::issue(&intel, &amd, &options.revoked, from)?;
    Ok(State::new(options, FusedSecret::generate()?, intel, amd, collateral))
}

fn existing(state: State, options: Option<&PlatformOptions>, directory: &Directory) -> Result<State> {
    match options {
        Some(options) if *options != state.options => {
            Err(PlatformError::OtherOptions { path: directory.platform(), existing: state.options })
        }
        _ => Ok(state),
    }
}

fn renewed(mut state: State, directory: &Directory, now: OffsetDateTime) -> Result<State> {
    if !state.collateral.is_fresh(now) {
        let revoked = &state.options.revoked;
        state.collateral = Collateral::issue(&state.intel, &state.amd, revoked, now - BACKDATED)?;
        directory.store(&state)?;
    }
    Ok(state)
}
