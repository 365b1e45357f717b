//! Appraisal Policy: which of the true things about a platform are good enough. Typed, small, and strict
//! where it is silent: a field that is absent from its text has the value of [`Policy::production`].

mod bits;
mod collateral;
mod grace;
mod identities;
mod snp;

use std::collections::BTreeSet;

use evidence::snp::{ProductFamily, TcbComponents};
use evidence::{CertificateDer, Platform, pem};
use serde::{Deserialize, Deserializer, Serialize};

use crate::x509::{CertificateFault, ParsedCertificate};
use crate::{
    AzurePolicy, BootPolicy, CcaPolicy, IntelPolicy, NitroPolicy, NvidiaPolicy, TcbStatus, TpmPolicy,
    TrustAnchor, UnixTime,
};

pub use bits::{AttributeBits, Bits, ContradictoryBits, Mask};
pub use collateral::CollateralPolicy;
pub(crate) use grace::Standing;
pub use grace::{Grace, GraceEnd, InvalidGrace, Waiver};
pub use identities::{AcceptedFamily, EmptyIdentity, ListedIdentity, PlatformIdentities};
pub use snp::{FirmwareVersion, IdBlock, InvalidFirmwareVersion, SnpPolicy};

/// What a policy does when it meets something that not everyone accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Refuse the Evidence.
    Refuse,
    /// Accept it, and say so in the verdict.
    Warn,
    /// Accept it; the verdict shows that the check was skipped.
    Allow,
}

/// Which platforms, in which state, are good enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// What people call the policy; every verdict shows it.
    pub name: String,
    /// Roots of emulated platforms that are accepted beside the vendors'. Verdicts that rest on one say so.
    pub emulated_roots: Vec<EmulatedRoot>,
    /// The kinds of TEE that are accepted; when empty, all that the reference values name.
    pub platforms: BTreeSet<Platform>,
    /// The TCB statuses that are accepted; those other than `UpToDate` with a warning. `Revoked` never is.
    #[serde(deserialize_with = "acceptable")]
    pub accepted_tcb: BTreeSet<TcbStatus>,
    /// Statuses beside those that are accepted for a while.
    pub grace: Vec<Grace>,
    /// Advisories that are refused while they are open, whatever the status is.
    pub rejected_advisories: BTreeSet<String>,
    /// Advisories that are accepted for a while: a status that is not accepted is, with a warning, when each open
    /// advisory is waived, save `Revoked`.
    pub waived_advisories: Vec<Waiver>,
    /// Who may grant those exceptions: others' do not count, and a refusal names whom to ask. Anybody when empty.
    pub may_grant: BTreeSet<String>,
    /// How current the vendor's statements must be.
    pub collateral: CollateralPolicy,
    /// Floors below which a platform is refused, whatever its vendor says.
    pub minimum: Minimum,
    /// Product families that are refused.
    pub denied_families: BTreeSet<ProductFamily>,
    /// Product families that are accepted; any when empty.
    pub allowed_families: BTreeSet<ProductFamily>,
    /// SGX, TDX: families of platforms (FMSPC) that are refused.
    pub denied_fmspc: BTreeSet<Fmspc>,
    /// SGX, TDX: families of platforms (FMSPC) that are accepted; any when empty.
    pub allowed_fmspc: BTreeSet<Fmspc>,
    /// SNP: the owner of a machine of this family can forge its reports (Milan, arXiv 2605.12990).
    pub compromised: Rule,
    /// Such families that are accepted with a warning all the same, each with the operator who is trusted instead.
    pub accept_compromised: Vec<AcceptedFamily>,
    /// Platform instances that are accepted, and that are not.
    pub platform_identities: PlatformIdentities,
    /// Attribute bits that must be set, or must not be.
    pub attributes: AttributeBits,
    /// The host may read and change the TEE.
    pub debug: Rule,
    /// The TEE may be moved to another machine.
    pub migration: Rule,
    /// TDX: another TD has rights over this one.
    pub service_td: Rule,
    /// TDX: the host may remap the TD's memory unseen (SEPT_VE_DISABLE is off).
    pub sept_ve: Rule,
    /// TDX: the TD exposes performance counters.
    pub perfmon: Rule,
    /// SGX, TDX, SNP: attribute, CPU state or guest policy bits that this version does not know.
    pub unknown_attributes: Rule,
    /// SNP: the platform does not say that it checked its memory for aliases (BadRAM).
    pub alias_check: Rule,
    /// SNP: the guest may run on a machine with hyperthreading.
    pub smt: Rule,
    /// SNP: there is no current revocation list of AMD's. Revocation by an old list is refused always.
    pub amd_crl: Rule,
    /// Anchors of platforms whose vendors' roots are not compiled in: roots of TPM vendors, enrolled attestation
    /// keys of TPMs, keys of CCA platforms.
    pub trust_anchors: Vec<TrustAnchor>,
    /// SGX and TDX.
    pub intel: IntelPolicy,
    /// SEV-SNP.
    pub snp: SnpPolicy,
    /// The boot, where Evidence comes with an event log.
    pub boot: BootPolicy,
    /// TPM alone, or under Azure.
    pub tpm: TpmPolicy,
    /// Azure.
    pub azure: AzurePolicy,
    /// AWS Nitro Enclaves.
    pub nitro: NitroPolicy,
    /// Arm CCA.
    pub cca: CcaPolicy,
    /// NVIDIA devices.
    pub nvidia: NvidiaPolicy,
}

/// Statuses without the one that is never accepted.
fn acceptable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<TcbStatus>, D::Error> {
    let statuses = BTreeSet::deserialize(deserializer)?;
    if statuses.contains(&TcbStatus::Revoked) {
        return Err(serde::de::Error::custom("accepted_tcb: no policy can accept Revoked"));
    }
    Ok(statuses)
}

impl Default for Policy {
    fn default() -> Self {
        Self::production()
    }
}

impl Policy {
    /// The vendors' roots only; everything strict.
    pub fn production() -> Self {
        Self {
            name: "production".into(),
            emulated_roots: Vec::new(),
            platforms: BTreeSet::new(),
            accepted_tcb: BTreeSet::from([TcbStatus::UpToDate]),
            grace: Vec::new(),
            rejected_advisories: BTreeSet::new(),
            waived_advisories: Vec::new(),
            may_grant: BTreeSet::new(),
            collateral: CollateralPolicy::default(),
            minimum: Minimum::default(),
            denied_families: BTreeSet::new(),
            allowed_families: BTreeSet::new(),
            denied_fmspc: BTreeSet::new(),
            allowed_fmspc: BTreeSet::new(),
            compromised: Rule::Warn,
            accept_compromised: Vec::new(),
            platform_identities: PlatformIdentities::default(),
            attributes: AttributeBits::default(),
            debug: Rule::Refuse,
            migration: Rule::Refuse,
            service_td: Rule::Refuse,
            sept_ve: Rule::Refuse,
            perfmon: Rule::Refuse,
            unknown_attributes: Rule::Refuse,
            alias_check: Rule::Refuse,
            smt: Rule::Allow,
            amd_crl: Rule::Refuse,
            trust_anchors: Vec::new(),
            intel: IntelPolicy::default(),
            snp: SnpPolicy::default(),
            boot: BootPolicy::default(),
            tpm: TpmPolicy::default(),
            azure: AzurePolicy::default(),
            nitro: NitroPolicy::default(),
            cca: CcaPolicy::default(),
            nvidia: NvidiaPolicy::default(),
        }
    }

    /// Authenticity, validity and TCB only, for looking at Evidence of any workload: what is debatable is a
    /// warning. Debug and what its vendor calls out of date or revoked are refused all the same.
    pub fn genuine() -> Self {
        Self {
            name: "genuine".into(),
            accepted_tcb: BTreeSet::from([
                TcbStatus::UpToDate,
                TcbStatus::SWHardeningNeeded,
                TcbStatus::ConfigurationNeeded,
                TcbStatus::ConfigurationAndSWHardeningNeeded,
            ]),
            compromised: Rule::Warn,
            migration: Rule::Warn,
            service_td: Rule::Warn,
            sept_ve: Rule::Warn,
            perfmon: Rule::Warn,
            unknown_attributes: Rule::Warn,
            alias_check: Rule::Warn,
            amd_crl: Rule::Warn,
            tpm: TpmPolicy::genuine(),
            azure: AzurePolicy::genuine(),
            nitro: NitroPolicy::genuine(),
            cca: CcaPolicy::genuine(),
            nvidia: NvidiaPolicy::genuine(),
            ..Self::production()
        }
    }

    /// Reads a policy: the words `production` and `genuine` name those, and anything else is the policy's JSON.
    ///
    /// # Errors
    /// That of JSON, which names the line and what is wrong there.
    pub fn from_text(text: &str) -> Result<Self, serde_json::Error> {
        match text.trim() {
            "production" => Ok(Self::production()),
            "genuine" => Ok(Self::genuine()),
            json => serde_json::from_str(json),
        }
    }

    /// The same policy, with roots of emulated platforms accepted.
    #[must_use]
    pub fn trust_emulated(mut self, roots: impl IntoIterator<Item = EmulatedRoot>) -> Self {
        self.emulated_roots.extend(roots);
        self
    }
}

/// Floors. All of them hold; what is absent is not checked, and the verdict shows that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Minimum {
    /// SGX, TDX: the evaluation data number of TCB info and QE identity (S-18).
    pub tcb_evaluation_data_number: Option<u32>,
    /// SGX, TDX: TCB info, QE identity and CRLs issued before this are refused (S-18).
    pub intel_collateral_issued: Option<UnixTime>,
    /// SGX, TDX: the number of the root CA's CRL (S-18). Intel gives all of its lists the number 1.
    pub root_ca_crl_number: Option<u64>,
    /// SGX, TDX: a CRL of the root CA issued before this is refused (S-18).
    pub root_ca_crl_issued: Option<UnixTime>,
    /// SGX, TDX: the number of the PCK CA's CRL (S-18).
    pub pck_crl_number: Option<u64>,
    /// SGX, TDX: a CRL of the PCK CA issued before this is refused (S-18).
    pub pck_crl_issued: Option<UnixTime>,
    /// SNP: the number of AMD's CRL (S-18).
    pub amd_crl_number: Option<u64>,
    /// SNP: a CRL of AMD's issued before this is refused (S-18).
    pub amd_crl_issued: Option<UnixTime>,
    /// SGX, TDX: each of the 16 components of the CPU's security version.
    pub intel_cpu_svn: Option<[u8; 16]>,
    /// SGX, TDX: the security version of the provisioning certification enclave.
    pub intel_pce_svn: Option<u16>,
    /// TDX: each of the 16 components of TEE_TCB_SVN.
    pub tdx_tee_tcb_svn: Option<[u8; 16]>,
    /// SGX, TDX: the date of the TCB level that the platform reaches, the oldest of its parts.
    pub tcb_date: Option<UnixTime>,
    /// SNP: the components of the reported TCB, for each family or for all.
    pub snp: Vec<SnpMinimum>,
    /// SNP: those of the committed TCB, to which the host can go back without anybody's noticing.
    pub snp_committed: Vec<SnpMinimum>,
    /// SNP: those of the TCB at the guest's launch.
    pub snp_launch: Vec<SnpMinimum>,
}

/// A family of Intel platforms: family, model, stepping, platform and custom SKU. Text form: twelve hexadecimal
/// digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fmspc(#[serde(with = "hex::serde")] pub [u8; 6]);

impl std::fmt::Display for Fmspc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A floor for the components of an SNP platform's TCB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SnpMinimum {
    /// The family that the floor is for; all when absent.
    pub family: Option<ProductFamily>,
    /// First mutable code (Turin).
    pub fmc: u8,
    /// Boot loader of the security processor.
    pub bootloader: u8,
    /// Operating system of the security processor.
    pub tee: u8,
    /// The SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl SnpMinimum {
    /// Whether the floor is for `family`.
    pub fn applies_to(&self, family: ProductFamily) -> bool {
        self.family.is_none_or(|own| own == family)
    }

    /// The components below the floor: name, seen, required.
    pub fn shortfalls(&self, seen: &TcbComponents) -> Vec<(&'static str, u8, u8)> {
        self.compare(seen).into_iter().filter(|(_, seen, required)| seen < required).collect()
    }

    /// Every component: name, seen, required. One that the family lacks is not compared.
    pub fn compare(&self, seen: &TcbComponents) -> Vec<(&'static str, u8, u8)> {
        [
            ("fmc", seen.fmc, self.fmc),
            ("bootloader", Some(seen.bootloader), self.bootloader),
            ("tee", Some(seen.tee), self.tee),
            ("snp", Some(seen.snp), self.snp),
            ("microcode", Some(seen.microcode), self.microcode),
        ]
        .into_iter()
        .filter_map(|(name, seen, required)| seen.map(|seen| (name, seen, required)))
        .collect()
    }
}

/// The root certificate of an emulated platform, with the name under which verdicts show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RootText", into = "RootText")]
pub struct EmulatedRoot {
    name: String,
    certificate: CertificateDer,
}

/// A root that no chain could end in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("emulated root {name:?}: {fault}")]
pub struct InvalidRoot {
    name: String,
    fault: String,
}

impl EmulatedRoot {
    /// Takes a self-issued CA certificate, DER.
    ///
    /// # Errors
    /// [`InvalidRoot`] when it cannot be read, or is no root.
    pub fn new(name: impl Into<String>, certificate: &[u8]) -> Result<Self, InvalidRoot> {
        let (name, certificate) = (name.into(), CertificateDer(certificate.to_vec()));
        match ParsedCertificate::parse(&certificate).and_then(|parsed| parsed.require_root()) {
            Ok(()) => Ok(Self { name, certificate }),
            Err(fault) => Err(InvalidRoot { name, fault: describe(fault) }),
        }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The certificate.
    pub fn certificate(&self) -> &CertificateDer {
        &self.certificate
    }
}

fn describe(fault: CertificateFault) -> String {
    fault.to_string()
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootText {
    name: String,
    /// PEM.
    certificate: String,
}

impl From<EmulatedRoot> for RootText {
    fn from(root: EmulatedRoot) -> Self {
        Self { name: root.name, certificate: pem::encode(&root.certificate) }
    }
}

impl TryFrom<RootText> for EmulatedRoot {
    type Error = InvalidRoot;

    fn try_from(text: RootText) -> Result<Self, InvalidRoot> {
        let chain = pem::certificates(text.certificate.as_bytes())
            .map_err(|malformed| InvalidRoot { name: text.name.clone(), fault: malformed.to_string() })?;
        match chain.as_slice() {
            [certificate] => Self::new(text.name, &certificate.0),
            _ => Err(InvalidRoot { name: text.name, fault: "expected one certificate".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_strict() {
        assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), Policy::production());
        assert_eq!(serde_json::from_str::<Policy>(r#"{"debug":"allow"}"#).unwrap().debug, Rule::Allow);
    }

    #[test]
    fn unknown_keys_and_words_are_refused() {
        assert!(serde_json::from_str::<Policy>(r#"{"deubg":"allow"}"#).is_err());
        assert!(serde_json::from_str::<Policy>(r#"{"debug":"ignore"}"#).is_err());
        assert!(serde_json::from_str::<Policy>(r#"{"accepted_tcb":["Fine"]}"#).is_err());
        assert!(serde_json::from_str::<Policy>(r#"{"minimum":{"smp":[]}}"#).is_err());
    }

    #[test]
    fn text_round_trips_with_roots() {
        let root = EmulatedRoot::new("lab", include_bytes!("../roots/ark-milan.der")).unwrap();
        let policy = Policy::genuine().trust_emulated([root]);
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
    }

    #[test]
    fn a_leaf_is_no_root() {
        assert!(EmulatedRoot::new("x", b"junk").is_err());
    }

    #[test]
    fn shortfalls_name_each_component() {
        let floor = SnpMinimum { microcode: 219, snp: 24, fmc: 9, ..SnpMinimum::default() };
        let seen = TcbComponents { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 209 };
        assert_eq!(floor.shortfalls(&seen), [("microcode", 209, 219)]);
    }
}
