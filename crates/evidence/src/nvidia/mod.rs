//! NVIDIA GPUs and switches: SPDM 1.1 measurement reports with their certificate chains, and the manifests that
//! say what the measurements must be. Hopper, Blackwell and NVSwitch (LS10) have the same form.

mod container;
mod opaque;
mod report;
mod rim;
mod xml;

use std::collections::BTreeMap;

use crate::{CertificateDer, Covered, Malformed};

pub use opaque::{MultiGpu, OpaqueData};
pub use report::{Measurement, Report};
pub use rim::{Golden, Rim};

/// The most certificates of devices' chains that Endorsements carry.
pub const MAX_DEVICE_CHAIN: usize = 32;

/// A certificate chain as NVIDIA's tools write it: PEM, DER, or base64 of one of them.
///
/// # Errors
/// [`Malformed`] for anything else than 1 to 8 certificates.
pub fn certificate_chain(bytes: &[u8]) -> Result<Vec<CertificateDer>, Malformed> {
    container::chain(bytes)
}

/// Reports of one or several devices, made for one nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attestation {
    devices: Vec<Device>,
}

/// One device: its report, and what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    report: Report,
    chain: Vec<CertificateDer>,
    architecture: Option<String>,
}

impl Device {
    /// The report.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The certificate of the key that signed the report and those of its issuers; empty when the chain travels
    /// with the Endorsements.
    pub fn chain(&self) -> &[CertificateDer] {
        &self.chain
    }

    /// What the sender calls the device: `HOPPER`, `BLACKWELL`, `LS10`. Nobody signed this.
    pub fn architecture(&self) -> Option<&str> {
        self.architecture.as_deref()
    }
}

impl Attestation {
    /// Whether bytes look like Evidence of this kind: cheap, and no promise that they can be parsed.
    pub(crate) fn recognises(bytes: &[u8]) -> bool {
        container::recognises(bytes)
    }

    /// Parses Evidence of this kind: a report as bytes or hexadecimal text, or JSON with one device or several.
    ///
    /// # Errors
    /// [`Malformed`] names the first field that is not as its format demands.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        container::parse(bytes).map(|devices| Self { devices })
    }

    /// A report and the certificate chain of its signer (PEM, DER, or base64 of one of them), which many keep in
    /// two files.
    ///
    /// # Errors
    /// [`Malformed`], for a report of several devices too.
    pub fn from_parts(report: &[u8], chain: &[u8]) -> Result<Self, Malformed> {
        let mut devices = container::parse(report)?;
        let [device] = devices.as_mut_slice() else {
            let seen = devices.len().to_string();
            return Err(Malformed::value("NVIDIA Evidence", "devices", 0, "one", seen));
        };
        device.chain = container::chain(chain)?;
        Ok(Self { devices })
    }

    /// The devices, at least one.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The nonce that all reports were made for; nothing, when they were made for several.
    pub fn covered(&self) -> Covered {
        let mut nonces = self.devices.iter().map(|device| device.report.nonce());
        match nonces.next() {
            Some(first) if nonces.all(|nonce| nonce == first) => Covered::new(*first),
            _ => Covered::new([]),
        }
    }

    /// None: the measurements tell together what runs.
    pub fn measurement(&self) -> Option<crate::Measurement> {
        None
    }

    /// Empty: nothing is fixed at launch.
    pub fn launch_configuration(&self) -> &[u8] {
        &[]
    }

    /// How many zero bytes followed the reports. They are not covered by any signature.
    pub fn padding(&self) -> usize {
        self.devices.iter().map(|device| device.report.padding()).sum()
    }

    /// Measurements by the report's index, as `measurement1`, and `driver`, `vbios` and `fwid`; with several
    /// devices after the device's number, as `gpu0.measurement1`.
    pub fn measured(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (number, device) in self.devices.iter().enumerate() {
            let prefix = if self.devices.len() == 1 { String::new() } else { format!("gpu{number}.") };
            let report = &device.report;
            for measurement in report.measurements() {
                all.insert(
                    format!("{prefix}measurement{}", measurement.index),
                    hex::encode(&measurement.value),
                );
            }
            let opaque = report.opaque();
            let named = [
                ("driver", opaque.driver().map(str::to_owned)),
                ("vbios", opaque.vbios().map(str::to_owned)),
                ("fwid", opaque.fwid().map(hex::encode)),
            ];
            for (name, value) in named {
                all.extend(value.map(|value| (format!("{prefix}{name}"), value)));
            }
        }
        all
    }
}
