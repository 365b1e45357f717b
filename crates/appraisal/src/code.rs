//! The stable names of what can be wrong. Programs branch on these; they are never renamed or reused.

use std::fmt;

use serde::{Serialize, Serializer};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// Why a check did not pass.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code as text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// What it means, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+),)+
                }
            }
        }
    };
}

codes! {
    /// The vendor's statements about the platform that the Evidence needs were not given.
    EndorsementsMissing = "ENDORSEMENTS_MISSING",
    /// The quote names its certificate in a way that needs a look-up at the vendor.
    CertificationDataUnsupported = "CERTIFICATION_DATA_UNSUPPORTED",
    /// A certificate cannot be read, or is not of the kind that its place in the chain demands.
    CertificateMalformed = "CERTIFICATE_MALFORMED",
    /// A certificate is past its validity.
    CertificateExpired = "CERTIFICATE_EXPIRED",
    /// A certificate's validity has not begun.
    CertificateNotYetValid = "CERTIFICATE_NOT_YET_VALID",
    /// A certificate is on its issuer's revocation list.
    CertificateRevoked = "CERTIFICATE_REVOKED",
    /// The certificate of an issuer is missing.
    ChainIncomplete = "CHAIN_INCOMPLETE",
    /// A certificate was not signed by its issuer.
    ChainSignatureInvalid = "CHAIN_SIGNATURE_INVALID",
    /// The chain ends in a root that is neither a vendor's nor named by the policy.
    RootNotTrusted = "ROOT_NOT_TRUSTED",
    /// Signed collateral cannot be read, or has a field or a status that this version does not know.
    CollateralMalformed = "COLLATERAL_MALFORMED",
    /// Collateral was not signed by its issuer, byte for byte.
    CollateralSignatureInvalid = "COLLATERAL_SIGNATURE_INVALID",
    /// Collateral is past its next update.
    CollateralExpired = "COLLATERAL_EXPIRED",
    /// Collateral was issued after the time of the appraisal.
    CollateralNotYetValid = "COLLATERAL_NOT_YET_VALID",
    /// Collateral ends soon; it is good still.
    CollateralExpiresSoon = "COLLATERAL_EXPIRES_SOON",
    /// Collateral is past its next update, and within the policy's grace.
    CollateralInGrace = "COLLATERAL_IN_GRACE",
    /// Collateral was issued longer ago than the policy allows, whatever its end.
    CollateralTooOld = "COLLATERAL_TOO_OLD",
    /// Collateral is older than the policy's floor.
    CollateralRolledBack = "COLLATERAL_ROLLED_BACK",
    /// Collateral is for another kind of TEE.
    CollateralMismatch = "COLLATERAL_MISMATCH",
    /// There is no revocation list of an issuer.
    CrlMissing = "CRL_MISSING",
    /// A revocation list cannot be read.
    CrlMalformed = "CRL_MALFORMED",
    /// A revocation list was not signed by the issuer of the certificates that it should cover.
    CrlSignatureInvalid = "CRL_SIGNATURE_INVALID",
    /// A revocation list is of another issuer.
    CrlIssuerMismatch = "CRL_ISSUER_MISMATCH",
    /// A revocation list is past its next update.
    CrlExpired = "CRL_EXPIRED",
    /// A revocation list was issued after the time of the appraisal.
    CrlNotYetValid = "CRL_NOT_YET_VALID",
    /// The quote was not signed by its attestation key.
    QuoteSignatureInvalid = "QUOTE_SIGNATURE_INVALID",
    /// The report of the quoting enclave was not signed by the platform's key.
    QeReportSignatureInvalid = "QE_REPORT_SIGNATURE_INVALID",
    /// The report of the quoting enclave does not cover the attestation key.
    AttestationKeyNotBound = "ATTESTATION_KEY_NOT_BOUND",
    /// The quoting enclave is not the one that the vendor names.
    QeIdentityMismatch = "QE_IDENTITY_MISMATCH",
    /// The report was not signed by the chip's key.
    ReportSignatureInvalid = "REPORT_SIGNATURE_INVALID",
    /// The report was signed by a key of another kind than its certificate's.
    VekKindMismatch = "VEK_KIND_MISMATCH",
    /// The certificate is of another chip than the report.
    ChipIdMismatch = "CHIP_ID_MISMATCH",
    /// The certificate is of another product family than the report or the chain.
    ProductMismatch = "PRODUCT_MISMATCH",
    /// The TCB that the report claims is not the one that its certificate was issued for.
    TcbMismatch = "TCB_MISMATCH",
    /// Collateral is for another family of platforms (FMSPC).
    FmspcMismatch = "FMSPC_MISMATCH",
    /// Collateral is for another provisioning certification enclave.
    PceidMismatch = "PCEID_MISMATCH",
    /// The platform's versions are below every level that the vendor lists.
    TcbLevelUnknown = "TCB_LEVEL_UNKNOWN",
    /// The platform needs an update.
    TcbOutOfDate = "TCB_OUT_OF_DATE",
    /// The platform needs an update and another configuration.
    TcbOutOfDateConfigurationNeeded = "TCB_OUT_OF_DATE_CONFIGURATION_NEEDED",
    /// The platform needs another configuration.
    TcbConfigurationNeeded = "TCB_CONFIGURATION_NEEDED",
    /// The attested software must mitigate known weaknesses of the platform itself.
    TcbSwHardeningNeeded = "TCB_SW_HARDENING_NEEDED",
    /// The platform needs another configuration, and the software must mitigate known weaknesses.
    TcbConfigurationAndSwHardeningNeeded = "TCB_CONFIGURATION_AND_SW_HARDENING_NEEDED",
    /// The TD was launched under an outdated TDX module, which is up to date by now.
    TcbTdRelaunchAdvised = "TCB_TD_RELAUNCH_ADVISED",
    /// As before, and the platform needs another configuration.
    TcbTdRelaunchAdvisedConfigurationNeeded = "TCB_TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED",
    /// The vendor revoked this level of the platform.
    TcbRevoked = "TCB_REVOKED",
    /// The platform's TCB status is accepted for a while, by a grace that the policy names.
    TcbInGrace = "TCB_IN_GRACE",
    /// Every advisory that is open on the platform is waived for a while.
    AdvisoryWaived = "ADVISORY_WAIVED",
    /// An advisory is open on the platform that the policy rejects.
    AdvisoryRejected = "ADVISORY_REJECTED",
    /// The platform is below the policy's floor.
    TcbBelowMinimum = "TCB_BELOW_MINIMUM",
    /// The TDX module is not one that the vendor names.
    TdxModuleMismatch = "TDX_MODULE_MISMATCH",
    /// The policy does not accept the kind of TEE.
    PlatformDenied = "PLATFORM_DENIED",
    /// The policy denies the platform instance.
    PlatformIdentityDenied = "PLATFORM_IDENTITY_DENIED",
    /// The platform instance is not on the policy's list.
    PlatformIdentityNotAllowed = "PLATFORM_IDENTITY_NOT_ALLOWED",
    /// The policy lists platform instances, and the Evidence does not tell which one it is from.
    PlatformIdentityUnknown = "PLATFORM_IDENTITY_UNKNOWN",
    /// The policy denies the product family.
    ProductFamilyDenied = "PRODUCT_FAMILY_DENIED",
    /// Reports of the product family can be forged by whoever owns such a machine.
    ProductFamilyCompromised = "PRODUCT_FAMILY_COMPROMISED",
    /// The host may read and change the TEE.
    DebugEnabled = "DEBUG_ENABLED",
    /// The TEE may be moved to another machine.
    MigrationAllowed = "MIGRATION_ALLOWED",
    /// Another TD has rights over this one.
    ServiceTdBound = "SERVICE_TD_BOUND",
    /// The TD lets the host remap its memory unseen.
    SeptVeEnabled = "SEPT_VE_ENABLED",
    /// The TD exposes performance counters to the host.
    PerfmonEnabled = "PERFMON_ENABLED",
    /// The TD has attributes that this version does not know.
    AttributesUnknown = "ATTRIBUTES_UNKNOWN",
    /// Attribute bits are clear that the policy requires.
    RequiredBitsClear = "REQUIRED_BITS_CLEAR",
    /// Attribute bits are set that the policy forbids.
    ForbiddenBitsSet = "FORBIDDEN_BITS_SET",
    /// The report was asked for at a privilege level that the policy does not accept, or by the host.
    VmplNotAllowed = "VMPL_NOT_ALLOWED",
    /// The report's format is older than the policy's floor.
    ReportVersionTooLow = "REPORT_VERSION_TOO_LOW",
    /// The guest's own policy allows older firmware than the policy's floor.
    AbiVersionTooLow = "ABI_VERSION_TOO_LOW",
    /// The firmware, running or committed, is older than the policy's floor.
    FirmwareVersionTooLow = "FIRMWARE_VERSION_TOO_LOW",
    /// The platform lacks, or does not tell, mitigations that the policy requires.
    MitigationMissing = "MITIGATION_MISSING",
    /// The guest was launched without the ID block that the policy requires.
    IdBlockMissing = "ID_BLOCK_MISSING",
    /// Whoever signed the guest's ID block is not one whom the policy names.
    SignerNotAllowed = "SIGNER_NOT_ALLOWED",
    /// The platform does not say that it checked its memory for aliases.
    AliasCheckMissing = "ALIAS_CHECK_MISSING",
    /// The guest may run on a machine with hyperthreading.
    SmtAllowed = "SMT_ALLOWED",
    /// An attestation document was not signed by the key of its certificate.
    DocumentSignatureInvalid = "DOCUMENT_SIGNATURE_INVALID",
    /// The Evidence says that it was made outside the validity of the certificate that vouches for it.
    TimestampOutsideCertificate = "TIMESTAMP_OUTSIDE_CERTIFICATE",
    /// The Evidence says that it was made later than the time of the appraisal.
    TimestampInFuture = "TIMESTAMP_IN_FUTURE",
    /// The Evidence is older than the policy allows.
    EvidenceTooOld = "EVIDENCE_TOO_OLD",
    /// The key of the certificate that carries the Evidence is not covered by it.
    CertificateKeyNotBound = "CERTIFICATE_KEY_NOT_BOUND",
    /// The policy enrols no key for the platform instance.
    PlatformKeyNotEnrolled = "PLATFORM_KEY_NOT_ENROLLED",
    /// The platform's token was not signed by the key that the policy enrols.
    PlatformTokenSignatureInvalid = "PLATFORM_TOKEN_SIGNATURE_INVALID",
    /// The realm's token was not signed by the realm's key.
    RealmTokenSignatureInvalid = "REALM_TOKEN_SIGNATURE_INVALID",
    /// The platform's token does not vouch for the realm's key.
    RealmKeyNotBound = "REALM_KEY_NOT_BOUND",
    /// The platform is not in the state of its life in which everything is locked.
    LifecycleNotSecured = "LIFECYCLE_NOT_SECURED",
    /// The Evidence has claims that this version does not know.
    ClaimsUnknown = "CLAIMS_UNKNOWN",
    /// The Evidence covers other data: another key, nonce or claims.
    ReportDataMismatch = "REPORT_DATA_MISMATCH",
    /// Pieces of composite Evidence cover different data.
    CompositeNotBound = "COMPOSITE_NOT_BOUND",
    /// No reference value is for this kind of TEE.
    PlatformNotExpected = "PLATFORM_NOT_EXPECTED",
    /// The code is none of those expected.
    MeasurementMismatch = "MEASUREMENT_MISMATCH",
    /// A register or the signer of the code is not as expected.
    RegisterMismatch = "REGISTER_MISMATCH",
    /// The code's own security version is below the floor.
    SecurityVersionTooLow = "SECURITY_VERSION_TOO_LOW",
    /// The firmware that the device's certificate was made for is not the one that its report names.
    FwidMismatch = "FWID_MISMATCH",
    /// The devices' reports were made for several nonces.
    DeviceNonceMismatch = "DEVICE_NONCE_MISMATCH",
    /// The same device is there twice.
    DeviceDuplicate = "DEVICE_DUPLICATE",
    /// Nothing shows that the device is in the machine of those who asked for its report.
    DeviceNotColocated = "DEVICE_NOT_COLOCATED",
    /// The policy does not name the device's architecture, or its sender calls it another.
    DeviceArchitectureNotExpected = "DEVICE_ARCHITECTURE_NOT_EXPECTED",
    /// The links between the GPUs are not encrypted.
    GpuLinksUnprotected = "GPU_LINKS_UNPROTECTED",
    /// A measurement of the device is none of those that its vendor's manifest names.
    GpuMeasurementMismatch = "GPU_MEASUREMENT_MISMATCH",
    /// There is no reference integrity manifest for the device's driver or firmware.
    RimMissing = "RIM_MISSING",
    /// The reference integrity manifests are for other versions or devices.
    RimMismatch = "RIM_MISMATCH",
    /// A reference integrity manifest cannot be read.
    RimMalformed = "RIM_MALFORMED",
    /// A reference integrity manifest was not signed by its signer.
    RimSignatureInvalid = "RIM_SIGNATURE_INVALID",
    /// A reference integrity manifest was altered after it was signed.
    RimDigestMismatch = "RIM_DIGEST_MISMATCH",
    /// A certificate of a reference integrity manifest has expired.
    RimExpired = "RIM_EXPIRED",
    /// Two reference integrity manifests name the same measurement.
    RimConflict = "RIM_CONFLICT",
    /// An OCSP response cannot be read.
    OcspMalformed = "OCSP_MALFORMED",
    /// An OCSP response was not signed by the issuer of the certificate, or by whom that named.
    OcspSignatureInvalid = "OCSP_SIGNATURE_INVALID",
    /// An OCSP response is not of the time of the appraisal.
    OcspExpired = "OCSP_EXPIRED",
    /// Nothing says whether the certificates of a device are revoked.
    RevocationUnknown = "REVOCATION_UNKNOWN",
    /// The code is as expected, but was launched with another configuration.
    LaunchConfigurationMismatch = "LAUNCH_CONFIGURATION_MISMATCH",
    /// An event log does not replay to a register.
    EventLogMismatch = "EVENT_LOG_MISMATCH",
    /// An event log has no digests by the algorithm of the registers, or by one that cannot be replayed.
    EventLogAlgorithmUnsupported = "EVENT_LOG_ALGORITHM_UNSUPPORTED",
    /// Events of a log contradict each other, or tell what no firmware does.
    EventLogInconsistent = "EVENT_LOG_INCONSISTENT",
    /// Secure Boot is off, or the event log does not show that it is on.
    SecureBootNotEnabled = "SECURE_BOOT_NOT_ENABLED",
    /// Packages can be added to the platform.
    DynamicPlatform = "DYNAMIC_PLATFORM",
    /// Intel keeps the platform's root keys.
    CachedKeys = "CACHED_KEYS",
    /// The platform protects memory in a way that the policy does not accept.
    SgxTypeNotAllowed = "SGX_TYPE_NOT_ALLOWED",
    /// The kernel was started with a command line that is not expected, or with one that the event log does not show.
    KernelCommandLineMismatch = "KERNEL_COMMAND_LINE_MISMATCH",
    /// The policy says how the system must have booted, and the Evidence has no event log.
    EventLogMissing = "EVENT_LOG_MISSING",
    /// Nothing says that the attestation key is in a TPM.
    AkNotTrusted = "AK_NOT_TRUSTED",
    /// The attestation key may leave its TPM, or sign what the TPM did not make.
    AkAttributesWeak = "AK_ATTRIBUTES_WEAK",
    /// The certificate of the attestation key is not one for keys of TPMs.
    AkCertificateUnfit = "AK_CERTIFICATE_UNFIT",
    /// The Evidence lacks the quote that would cover what its asker chose.
    QuoteMissing = "QUOTE_MISSING",
    /// A quote came without its signature.
    QuoteSignatureMissing = "QUOTE_SIGNATURE_MISSING",
    /// A signature is over a digest that two messages can share.
    SignatureAlgorithmWeak = "SIGNATURE_ALGORITHM_WEAK",
    /// A signature is of a kind that is not verified here.
    SignatureAlgorithmUnsupported = "SIGNATURE_ALGORITHM_UNSUPPORTED",
    /// The registers that were sent are not those that the TPM quoted.
    PcrSelectionMismatch = "PCR_SELECTION_MISMATCH",
    /// The values of the registers do not have the digest that the TPM quoted.
    PcrDigestMismatch = "PCR_DIGEST_MISMATCH",
    /// A register that the policy names is not quoted.
    PcrNotQuoted = "PCR_NOT_QUOTED",
    /// Registers are quoted in the SHA-1 bank alone.
    PcrBankWeak = "PCR_BANK_WEAK",
    /// The hardware's report does not cover the key of Azure's virtual TPM.
    AzureAkNotBound = "AZURE_AK_NOT_BOUND",
    /// The paravisor under Azure's virtual TPM is none that the policy names.
    AzureParavisorUnknown = "AZURE_PARAVISOR_UNKNOWN",
    /// A report was asked for at another privilege level than it must be.
    VmplMismatch = "VMPL_MISMATCH",
    /// A TDX quote is not of the TD report that it should vouch for.
    TdReportMismatch = "TD_REPORT_MISMATCH",
    /// The Rego policy does not allow it.
    RegoDenied = "REGO_DENIED",
    /// The Rego policy cannot be run, or answers neither yes nor no.
    RegoInvalid = "REGO_INVALID",
    /// The Rego policy takes more steps or room than it may.
    RegoLimit = "REGO_LIMIT",
}

impl Code {
    /// The page about it, relative to the repository's root.
    pub fn page(self) -> String {
        format!("docs/verdicts/{}.md", self.as_str())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_distinct_and_screaming() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for text in texts {
            assert!(text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{text}");
        }
    }
}
