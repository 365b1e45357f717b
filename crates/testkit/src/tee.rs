//! TEEs inside the test's own process, on one emulated machine that all tests of a binary share: making its
//! keys takes seconds. The Evidence is as real as any emulated Evidence; only the separate process is missing.

use std::sync::{Arc, OnceLock};

use appraisal::{EmulatedRoot, Policy, ReferenceValue, UnixTime};
use attester::{AttesterError, RawEvidence, SealingKey, Tee};
use emulator::{measure, vendor};
use evidence::{Measurement, Platform, ReportData};
use time::OffsetDateTime;

/// When tests happen: the machine's certificates and collateral are valid at this time.
pub const NOW: UnixTime = UnixTime(1_790_000_000);

/// The machine of this test binary.
///
/// # Panics
/// When it cannot be made: then there is nothing to test.
pub fn machine() -> Arc<vendor::Platform> {
    static MACHINE: OnceLock<Arc<vendor::Platform>> = OnceLock::new();
    MACHINE
        .get_or_init(|| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let now = OffsetDateTime::from_unix_timestamp(NOW.0).expect("a time within range");
            Arc::new(vendor::Platform::open(directory.path(), now).expect("an emulated machine"))
        })
        .clone()
}

/// The roots of [`machine`], as a policy names them.
///
/// # Panics
/// Never: the machine's roots are roots.
pub fn emulated_roots() -> Vec<EmulatedRoot> {
    let roots = machine().roots();
    let root = |name: &str, der: &[u8]| EmulatedRoot::new(name, der).expect("a root certificate");
    vec![root("test machine, Intel-like", &roots.intel.0), root("test machine, AMD-like", &roots.amd.0)]
}

/// The policy for production, and beside it this machine's roots.
pub fn policy() -> Policy {
    Policy::production().trust_emulated(emulated_roots())
}

/// A TEE on [`machine`], or on another one, that runs some code.
pub struct EmulatedTee {
    machine: Arc<vendor::Platform>,
    platform: Platform,
    measurement: Measurement,
    configuration: Vec<u8>,
}

impl EmulatedTee {
    /// Launches, so to speak, `code` with a measured configuration.
    pub fn launch(platform: Platform, code: &[u8], configuration: &[u8]) -> Arc<Self> {
        Self::launch_on(machine(), platform, code, configuration)
    }

    /// Likewise, on a machine whose Evidence is of another time, such as today's for programs that look at the clock.
    pub fn launch_on(
        machine: Arc<vendor::Platform>,
        platform: Platform,
        code: &[u8],
        configuration: &[u8],
    ) -> Arc<Self> {
        let measurement = measure::measure(code).of(platform).clone();
        Arc::new(Self { machine, platform, measurement, configuration: configuration.to_vec() })
    }

    /// What it runs, for reference values and manifests.
    pub fn measurement(&self) -> &Measurement {
        &self.measurement
    }

    /// The reference value of its code and its launch configuration.
    pub fn reference(&self) -> ReferenceValue {
        ReferenceValue::program("code under test", self.platform, self.measurement.clone())
            .launched_with(measure::launch_configuration(self.platform, &self.configuration))
    }
}

impl Tee for EmulatedTee {
    fn platform(&self) -> Platform {
        self.platform
    }

    fn emulated(&self) -> bool {
        true
    }

    fn launch_configuration(&self) -> &[u8] {
        &self.configuration
    }

    fn evidence(&self, report_data: &ReportData) -> Result<RawEvidence, AttesterError> {
        let configuration = measure::launch_configuration(self.platform, &self.configuration);
        let evidence = self
            .machine
            .issue(self.platform, &self.measurement, &configuration, report_data)
            .expect("the machine issues Evidence for what it measured");
        Ok(RawEvidence { evidence, endorsements: self.machine.endorsements(self.platform).to_bytes() })
    }

    fn sealing_key(&self, context: &str) -> Result<SealingKey, AttesterError> {
        self.machine
            .sealing_key(self.platform, &self.measurement, &self.configuration, context)
            .map(SealingKey::new)
            .map_err(|_| AttesterError::UnexpectedResponse)
    }
}
