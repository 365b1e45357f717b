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
    /// The platform does not say that it checked its memory for aliases.
    AliasCheckMissing = "ALIAS_CHECK_MISSING",
    /// The guest may run on a machine with hyperthreading.
    SmtAllowed = "SMT_ALLOWED",
    /// The Evidence covers other data: another key, nonce or claims.
    ReportDataMismatch = "REPORT_DATA_MISMATCH",
    /// No reference value is for this kind of TEE.
    PlatformNotExpected = "PLATFORM_NOT_EXPECTED",
    /// The code is none of those expected.
    MeasurementMismatch = "MEASUREMENT_MISMATCH",
    /// A register or the signer of the code is not as expected.
    RegisterMismatch = "REGISTER_MISMATCH",
    /// The code's own security version is below the floor.
    SecurityVersionTooLow = "SECURITY_VERSION_TOO_LOW",
    /// The code is as expected, but was launched with another configuration.
    LaunchConfigurationMismatch = "LAUNCH_CONFIGURATION_MISMATCH",
    /// The Rego policy does not allow it.
    RegoDenied = "REGO_DENIED",
    /// The Rego policy took more steps or space than it may.
    RegoLimit = "REGO_LIMIT",
    /// The Rego policy failed, or did not say yes or no.
    RegoInvalid = "REGO_INVALID",
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
