//! What Windows' boot manager and loader measure: tagged values within tagged containers (Windows SDK, `wbcl.h`,
//! SIPAEVENT).

/// Container: what one part of the boot did before it handed over. Each event is one.
pub const TRUST_BOUNDARY: u32 = 0x4001_0001;
const LOADED_MODULE: u32 = 0x4001_0003;
const FILE_PATH: u32 = 0x0007_0001;
const AUTHENTICODE_HASH: u32 = 0x0007_0004;
const BOOT_DEBUGGING: u32 = 0x0004_0001;
const KERNEL_DEBUGGING: u32 = 0x0005_0001;
const CODE_INTEGRITY: u32 = 0x0005_0002;
const TEST_SIGNING: u32 = 0x0005_0003;
const SAFE_MODE: u32 = 0x0005_0005;
const WINDOWS_PE: u32 = 0x0005_0006;

/// What one such event tells; flags are None where it does not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowsEvent<'a> {
    /// A debugger may take part in booting.
    pub boot_debugging: Option<bool>,
    /// A debugger may take part in the kernel.
    pub kernel_debugging: Option<bool>,
    /// Code must be signed.
    pub code_integrity: Option<bool>,
    /// Test certificates count.
    pub test_signing: Option<bool>,
    /// Safe mode.
    pub safe_mode: Option<bool>,
    /// The installation environment.
    pub windows_pe: Option<bool>,
    /// Loaded modules that are named: path, and Authenticode digest.
    pub modules: Vec<(String, &'a [u8])>,
}

impl<'a> WindowsEvent<'a> {
    /// Reads the data below [`TRUST_BOUNDARY`]; None when it is not as the format demands.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let mut event = Self::default();
        for_each(data, |tag, value| {
            let flag = match tag {
                BOOT_DEBUGGING => &mut event.boot_debugging,
                KERNEL_DEBUGGING => &mut event.kernel_debugging,
                CODE_INTEGRITY => &mut event.code_integrity,
                TEST_SIGNING => &mut event.test_signing,
                SAFE_MODE => &mut event.safe_mode,
                WINDOWS_PE => &mut event.windows_pe,
                LOADED_MODULE => {
                    event.modules.extend(module(value)?);
                    return Some(());
                }
                _ => return Some(()),
            };
            let [value] = value else { return None };
            let bad_if = tag != CODE_INTEGRITY;
            // Told twice, the worse counts: a debugger, or no need of signatures.
            let worse = flag
                .map_or(*value != 0, |told| if bad_if { told || *value != 0 } else { told && *value != 0 });
            *flag = Some(worse);
            Some(())
        })?;
        Some(event)
    }
}

/// A module's path and digest, where it has both.
fn module(data: &[u8]) -> Option<Option<(String, &[u8])>> {
    let (mut path, mut digest) = (None, None);
    for_each(data, |tag, value| {
        match tag {
            FILE_PATH => path = Some(super::content::wide(value)?),
            AUTHENTICODE_HASH => digest = Some(value),
            _ => {}
        }
        Some(())
    })?;
    Some(path.zip(digest))
}

fn for_each<'a>(mut data: &'a [u8], mut visit: impl FnMut(u32, &'a [u8]) -> Option<()>) -> Option<()> {
    while !data.is_empty() {
        let (tag, rest) = data.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        visit(u32::from_le_bytes(*tag), value)?;
        data = rest;
    }
    Some(())
}
