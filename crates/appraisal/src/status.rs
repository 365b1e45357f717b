//! The status that a vendor gives to a TCB, and how the statuses of a platform's parts merge into one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Code;

/// TCB status, in Intel's words (Intel PCS API v4, `tcbStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TcbStatus {
    /// Nothing to do.
    UpToDate,
    /// The attested software must mitigate known weaknesses.
    SWHardeningNeeded,
    /// The platform needs another configuration.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSWHardeningNeeded,
    /// The TD was launched under an outdated TDX module that is up to date by now.
    TDRelaunchAdvised,
    /// The same, and the platform needs another configuration.
    TDRelaunchAdvisedConfigurationNeeded,
    /// The platform needs an update.
    OutOfDate,
    /// The platform needs an update and another configuration.
    OutOfDateConfigurationNeeded,
    /// The vendor revoked this level. No policy can accept it.
    Revoked,
}

impl TcbStatus {
    /// The vendor's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SWHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSWHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::TDRelaunchAdvised => "TDRelaunchAdvised",
            Self::TDRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::Revoked => "Revoked",
        }
    }

    /// The code of a check that finds this status; none for [`TcbStatus::UpToDate`].
    pub const fn code(self) -> Option<Code> {
        match self {
            Self::UpToDate => None,
            Self::SWHardeningNeeded => Some(Code::TcbSwHardeningNeeded),
            Self::ConfigurationNeeded => Some(Code::TcbConfigurationNeeded),
            Self::ConfigurationAndSWHardeningNeeded => Some(Code::TcbConfigurationAndSwHardeningNeeded),
            Self::TDRelaunchAdvised => Some(Code::TcbTdRelaunchAdvised),
            Self::TDRelaunchAdvisedConfigurationNeeded => Some(Code::TcbTdRelaunchAdvisedConfigurationNeeded),
            Self::OutOfDate => Some(Code::TcbOutOfDate),
            Self::OutOfDateConfigurationNeeded => Some(Code::TcbOutOfDateConfigurationNeeded),
            Self::Revoked => Some(Code::TcbRevoked),
        }
    }

    pub(crate) const fn needs_configuration(self) -> bool {
        matches!(
            self,
            Self::ConfigurationNeeded
                | Self::ConfigurationAndSWHardeningNeeded
                | Self::TDRelaunchAdvisedConfigurationNeeded
                | Self::OutOfDateConfigurationNeeded
        )
    }

    /// The platform's status, given that of its quoting enclave or TDX module, as Intel's Quote Verification
    /// Library merges them: what is revoked stays so; a part that is out of date makes the whole so.
    #[must_use]
    pub const fn merge(self, part: Self) -> Self {
        match (self, part) {
            (Self::Revoked, _) | (_, Self::Revoked) => Self::Revoked,
            (platform, Self::OutOfDate | Self::OutOfDateConfigurationNeeded) => {
                if platform.needs_configuration() || part.needs_configuration() {
                    Self::OutOfDateConfigurationNeeded
                } else {
                    Self::OutOfDate
                }
            }
            (platform, Self::UpToDate) => platform,
            (Self::UpToDate, part) => part,
            (platform, Self::SWHardeningNeeded) => match platform {
                Self::ConfigurationNeeded => Self::ConfigurationAndSWHardeningNeeded,
                other => other,
            },
            (platform, Self::ConfigurationNeeded | Self::ConfigurationAndSWHardeningNeeded) => match platform
            {
                Self::SWHardeningNeeded => Self::ConfigurationAndSWHardeningNeeded,
                Self::ConfigurationNeeded => part,
                Self::TDRelaunchAdvised => Self::TDRelaunchAdvisedConfigurationNeeded,
                Self::OutOfDate => Self::OutOfDateConfigurationNeeded,
                other => other,
            },
            (platform, Self::TDRelaunchAdvised | Self::TDRelaunchAdvisedConfigurationNeeded) => {
                match platform {
                    Self::OutOfDate | Self::OutOfDateConfigurationNeeded => platform,
                    other if other.needs_configuration() || part.needs_configuration() => {
                        Self::TDRelaunchAdvisedConfigurationNeeded
                    }
                    _ => Self::TDRelaunchAdvised,
                }
            }
        }
    }

    /// The status of a TD of TDX 1.5, from that of the versions it was launched under and that of the
    /// versions that run now: when only the launch was out of date, launching again mends it.
    #[must_use]
    pub const fn relaunch(launch: Self, current: Self) -> Self {
        match (launch, current) {
            (Self::Revoked, _) | (_, Self::Revoked) => Self::Revoked,
            (
                Self::OutOfDate | Self::OutOfDateConfigurationNeeded,
                Self::UpToDate | Self::SWHardeningNeeded,
            ) => {
                if launch.needs_configuration() {
                    Self::TDRelaunchAdvisedConfigurationNeeded
                } else {
                    Self::TDRelaunchAdvised
                }
            }
            (
                Self::OutOfDate | Self::OutOfDateConfigurationNeeded,
                Self::ConfigurationNeeded | Self::ConfigurationAndSWHardeningNeeded,
            ) => Self::TDRelaunchAdvisedConfigurationNeeded,
            _ => launch.merge(current),
        }
    }
}

impl fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::TcbStatus::{self, *};

    const ALL: [TcbStatus; 9] = [
        UpToDate,
        SWHardeningNeeded,
        ConfigurationNeeded,
        ConfigurationAndSWHardeningNeeded,
        TDRelaunchAdvised,
        TDRelaunchAdvisedConfigurationNeeded,
        OutOfDate,
        OutOfDateConfigurationNeeded,
        Revoked,
    ];

    #[test]
    fn up_to_date_is_neutral_and_revoked_absorbs() {
        for status in ALL {
            assert_eq!(status.merge(UpToDate), status);
            assert_eq!(UpToDate.merge(status), status);
            assert_eq!(status.merge(Revoked), Revoked);
            assert_eq!(Revoked.merge(status), Revoked);
        }
    }

    #[test]
    fn an_outdated_part_makes_the_platform_outdated() {
        assert_eq!(SWHardeningNeeded.merge(OutOfDate), OutOfDate);
        assert_eq!(ConfigurationNeeded.merge(OutOfDate), OutOfDateConfigurationNeeded);
        assert_eq!(ConfigurationAndSWHardeningNeeded.merge(OutOfDate), OutOfDateConfigurationNeeded);
        assert_eq!(OutOfDateConfigurationNeeded.merge(OutOfDate), OutOfDateConfigurationNeeded);
    }

    #[test]
    fn merging_never_improves() {
        for left in ALL {
            for right in ALL {
                let merged = left.merge(right);
                assert!(merged >= left.max(right), "{left} with {right} gave {merged}");
            }
        }
    }

    #[test]
    fn relaunching_mends_only_what_is_current() {
        assert_eq!(TcbStatus::relaunch(OutOfDate, UpToDate), TDRelaunchAdvised);
        assert_eq!(TcbStatus::relaunch(OutOfDate, OutOfDate), OutOfDate);
        assert_eq!(TcbStatus::relaunch(UpToDate, OutOfDate), OutOfDate);
        assert_eq!(TcbStatus::relaunch(Revoked, UpToDate), Revoked);
        assert_eq!(
            TcbStatus::relaunch(OutOfDateConfigurationNeeded, UpToDate),
            TDRelaunchAdvisedConfigurationNeeded
        );
    }

    #[test]
    fn words_are_intels() {
        for status in ALL {
            assert_eq!(serde_json::to_string(&status).unwrap(), format!("\"{status}\""));
        }
    }
}
