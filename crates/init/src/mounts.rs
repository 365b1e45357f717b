//! What is mounted where. Nothing that can be written can be run, and in the end what can be run cannot be written.

use std::{ffi::CStr, fs, os::unix::fs::PermissionsExt};

use crate::{InitError, system};

const QUIET: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

fn mount(kind: &CStr, place: &CStr, flags: libc::c_ulong) -> Result<(), InitError> {
    let attempt = format!("mounting {}", place.to_string_lossy());
    system::mount(kind, place, flags).map_err(InitError::system(attempt))
}

/// What everything else needs.
pub(crate) fn first() -> Result<(), InitError> {
    mount(c"proc", c"/proc", QUIET)?;
    mount(c"sysfs", c"/sys", QUIET)?;
    mount(c"devtmpfs", c"/dev", libc::MS_NOSUID | libc::MS_NOEXEC)?;
    mount(c"tmpfs", c"/run", QUIET)?;
    mount(c"tmpfs", c"/tmp", QUIET)?;
    mount(c"securityfs", c"/sys/kernel/security", QUIET)?;
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777)).map_err(InitError::system("opening /tmp"))
}

/// Where the kernel shows reports of TEEs; its module is loaded by now.
pub(crate) fn reports() -> Result<(), InitError> {
    mount(c"configfs", c"/sys/kernel/config", QUIET)
}

/// From now on the files of the image cannot be changed.
pub(crate) fn seal() -> Result<(), InitError> {
    mount(c"rootfs", c"/", libc::MS_REMOUNT | libc::MS_RDONLY | libc::MS_NOSUID)
}
