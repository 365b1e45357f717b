//! Init-data: what a guest is launched with and its Evidence shows. It is where the broker is pinned (S-42).

use attester::{AttesterError, Tee};
use evidence::{Evidence, Malformed, ReportData};
use rcar::{InitData, Invalid};

use crate::settings::{Said, SettingsError};

/// The entry that says which broker is meant: the Confidential Data Hub's configuration.
const CONFIGURATION: &str = "cdh.toml";

/// Why init-data does not count.
#[derive(Debug, thiserror::Error)]
pub enum InitDataError {
    /// It is none.
    #[error("{0} is no init-data")]
    Malformed(&'static str, #[source] Invalid),
    /// It is no text.
    #[error("{0} is no text")]
    NotText(&'static str),
    /// Something else was measured.
    #[error(
        "the init-data was not measured: its digest is {expected}, and this guest's Evidence shows {seen} (the host may \
         have put this file here after the launch)"
    )]
    NotMeasured {
        /// The digest of the file, fitted to the platform's field, in hexadecimal.
        expected: String,
        /// What is in the field.
        seen: String,
    },
    /// There is no field of the Evidence that could show it.
    #[error("the Evidence of {0} has no field that shows which init-data a guest was launched with")]
    NoField(&'static str),
    /// There is no Evidence.
    #[error("no Evidence could be had")]
    Attester(#[from] AttesterError),
    /// The platform's Evidence cannot be read.
    #[error("the Evidence of this platform cannot be read")]
    Evidence(#[from] Malformed),
    /// Its entry for the broker is malformed.
    #[error("the init-data's {CONFIGURATION} cannot be used")]
    Settings(#[source] SettingsError),
}

impl InitDataError {
    /// What mends it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Malformed(..) | Self::NotText(_) | Self::Settings(_) => {
                "init-data is TOML with version = \"0.1.0\", algorithm and [data]; see docs/guest.md"
            }
            Self::NotMeasured { .. } => "launch the guest with this init-data, or give it that of its launch",
            Self::NoField(_) => "give the broker's URL and root as arguments, in an image that is measured",
            Self::Attester(_) | Self::Evidence(_) => {
                "look at what the platform says, with `bailey-guest evidence`"
            }
        }
    }
}

/// Init-data that this TEE was launched with.
#[derive(Debug, Clone)]
pub struct Measured {
    init_data: InitData,
    broker: Said,
}

impl Measured {
    /// That which the TEE was launched with, if any: as the platform tells it, or as `given`, which then must be
    /// measured.
    ///
    /// # Errors
    /// When what is given was not measured, or what was measured is no init-data: then somebody meant something by it
    /// that would be ignored.
    pub fn of(tee: &dyn Tee, given: Option<&[u8]>) -> Result<Option<Self>, InitDataError> {
        let launched = tee.launch_configuration();
        match given {
            None if launched.is_empty() => Ok(None),
            None => Self::parse("the launch configuration", launched).map(Some),
            Some(given) => {
                let measured = Self::parse("the file of --init-data", given)?;
                if given != launched {
                    check(tee, &measured.init_data)?;
                }
                Ok(Some(measured))
            }
        }
    }

    fn parse(what: &'static str, bytes: &[u8]) -> Result<Self, InitDataError> {
        let text = str::from_utf8(bytes).map_err(|_| InitDataError::NotText(what))?;
        let init_data = InitData::parse(text).map_err(|error| InitDataError::Malformed(what, error))?;
        let broker = init_data.data().get(CONFIGURATION).map(|text| Said::from_toml(text)).transpose();
        Ok(Self { broker: broker.map_err(InitDataError::Settings)?.unwrap_or_default(), init_data })
    }

    /// The init-data, for the broker to see.
    pub fn init_data(&self) -> &InitData {
        &self.init_data
    }

    /// What it says of the broker.
    pub fn broker(&self) -> &Said {
        &self.broker
    }
}

/// Looks into Evidence, made for nothing else, for the digest.
fn check(tee: &dyn Tee, init_data: &InitData) -> Result<(), InitDataError> {
    let expected = init_data
        .launch_configuration(tee.platform())
        .ok_or(InitDataError::NoField(tee.platform().as_str()))?;
    let evidence = Evidence::parse(&tee.evidence(&ReportData([0; 64]))?.evidence)?;
    let seen = evidence.launch_configuration();
    if seen == expected {
        return Ok(());
    }
    Err(InitDataError::NotMeasured { expected: hex::encode(expected), seen: hex::encode(seen) })
}
