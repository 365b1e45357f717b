//! From the first instruction to the end of the Keep.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
};

use tpm_anchor::Address;

use crate::{InitError, event_log, host, modules, mounts, network, system};

const KEEP: &str = "/bin/bailey-keep";
/// The Keep's user and group: not root's.
const USER: u32 = 1000;
const FOLDER: &str = "/run/bailey";
/// As in `attester::hardware::CONFIGURATION`.
const CONFIGURATION: &str = "/run/bailey/launch-configuration";
/// As in `attester::hardware::tpm`.
const ENDORSEMENTS: &str = "/run/bailey/endorsements";
const WORKLOAD: &str = "/run/bailey/workload";
/// As in `attester::hardware::tpm`.
const LOG: &str = "/run/bailey/event-log";
const FIRMWARE_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
const TPM: &str = "/dev/tpmrm0";
/// Says that the TPM is the witness; as in `attester::hardware::tpm`.
const MARK: &str = "/run/bailey/tpm";
/// What the Keep asks for Evidence: it is not root.
const DEVICES: [&str; 4] = [TPM, "/dev/sev-guest", "/dev/tdx_guest", "/sys/kernel/config/tsm/report"];

/// Does all of it, and gives the exit code of the Keep.
///
/// # Errors
/// [`InitError`] when the machine cannot be what it must be.
pub fn run() -> Result<i32, InitError> {
    mounts::first()?;
    entropy()?;
    modules::load()?;
    mounts::reports()?;
    let tpm = fs::exists(TPM).unwrap_or(false);
    let host = Path::new(host::FOLDER);
    fs::create_dir_all(FOLDER).map_err(InitError::system("making /run/bailey"))?;
    if let Some(configuration) = host::configuration(host)? {
        if tpm {
            measure(&configuration)?;
        }
        fs::write(CONFIGURATION, configuration).map_err(InitError::system("storing the configuration"))?;
    }
    if tpm {
        fs::write(MARK, TPM).map_err(InitError::system("naming the TPM"))?;
    }
    if let Some(endorsements) = host::endorsements(host)? {
        fs::write(ENDORSEMENTS, endorsements).map_err(InitError::system("storing the endorsements"))?;
    }
    let arguments = host::arguments(host)?;
    if let Some(disk) = host::disk() {
        host::workload(&disk, Path::new(WORKLOAD))?;
    }
    network::up()?;
    for device in DEVICES.iter().filter(|device| fs::exists(device).unwrap_or(false)) {
        chown(device, Some(USER), Some(USER)).map_err(InitError::system(format!("handing over {device}")))?;
    }
    mounts::seal()?;
    keep(&arguments)
}

/// The kernel's generator counts what the processor gives, and is told to count nothing of the firmware's (S-22).
fn entropy() -> Result<(), InitError> {
    let text = fs::read_to_string("/proc/cpuinfo").map_err(InitError::system("reading /proc/cpuinfo"))?;
    if has_entropy(&text) { Ok(()) } else { Err(InitError::NoEntropy) }
}

fn has_entropy(cpuinfo: &str) -> bool {
    let mut flags = cpuinfo.lines().filter(|line| line.starts_with("flags")).peekable();
    flags.peek().is_some()
        && flags.all(|line| line.split_whitespace().any(|flag| flag == "rdrand" || flag == "rdseed"))
}

/// Before anything that the configuration could speak to runs.
fn measure(configuration: &[u8]) -> Result<(), InitError> {
    let digest = event_log::digest(configuration);
    tpm_anchor::extend(&Address::Device(TPM.into()), event_log::REGISTER, &digest)
        .map_err(InitError::Unmeasured)?;
    // Without firmware's log there is none to add to.
    if let Ok(mut log) = fs::read(FIRMWARE_LOG) {
        log.extend(event_log::event(&digest));
        fs::write(LOG, log).map_err(InitError::system("storing the event log"))?;
    }
    Ok(())
}

fn keep(arguments: &[String]) -> Result<i32, InitError> {
    let mut command = Command::new(KEEP);
    command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null()).uid(USER).gid(USER);
    let child = command.spawn().map_err(InitError::system("starting the Keep"))?;
    while let Some((pid, status)) = system::reap().map_err(InitError::system("waiting for the Keep"))? {
        if pid == child.id() {
            return Ok(system::exit_code(status));
        }
    }
    Ok(125)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s22_a_processor_without_random_numbers_is_refused() {
        assert!(has_entropy("processor\t: 0\nflags\t\t: fpu rdrand sse\n"));
        assert!(has_entropy("flags: rdseed\nflags: rdrand\n"));
        for without in ["", "flags\t\t: fpu sse\n", "flags: rdrand\nflags: fpu\n", "bugs: rdrand\n"] {
            assert!(!has_entropy(without), "{without:?}");
        }
    }
}
