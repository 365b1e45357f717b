//! What the events of Windows tell together.

use evidence::eventlog::WindowsEvent;

use super::claims::{WindowsBoot, WindowsModule};

/// Adds what one event tells. Of a flag that is told more than once the worse counts, so that an event that was added
/// later, which anyone who runs in the system can do, mends nothing.
pub(super) fn add(boot: &mut WindowsBoot, told: WindowsEvent<'_>) {
    for (known, told) in [
        (&mut boot.boot_debugging, told.boot_debugging),
        (&mut boot.kernel_debugging, told.kernel_debugging),
        (&mut boot.test_signing, told.test_signing),
        (&mut boot.safe_mode, told.safe_mode),
        (&mut boot.windows_pe, told.windows_pe),
    ] {
        *known = (*known).max(told);
    }
    boot.code_integrity = match (boot.code_integrity, told.code_integrity) {
        (Some(known), Some(told)) => Some(known && told),
        (known, told) => known.or(told),
    };
    boot.modules.extend(
        told.modules
            .into_iter()
            .map(|(path, digest)| WindowsModule { path, authenticode: hex::encode(digest) }),
    );
}
