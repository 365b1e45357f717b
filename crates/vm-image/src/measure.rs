//! What an image measures to, computed from nothing but its bytes.

use std::collections::BTreeMap;

use reference::{Bank, Malformed, Register, boot, tdx, uki::Uki};

use crate::Image;

/// The register that the launch configuration is measured into, by `bailey-init`, before anything else runs.
pub const CONFIGURATION_REGISTER: u8 = 12;

/// Registers by their names in reference values, such as `pcr4.sha256`, in hexadecimal.
pub type Registers = BTreeMap<String, String>;

impl Image {
    /// What must be in the registers of a machine that booted [`Image::unified`] with this stub: the image and the kernel
    /// inside it in PCR 4; what the kernel was given, command line and initial RAM disk, in PCR 9; nothing in 8, 13, 14 and
    /// 15; and where it is given, the launch configuration in PCR 12.
    ///
    /// # Errors
    /// [`Malformed`] when stub or kernel is no EFI program.
    pub fn registers(&self, unified: &[u8], configuration: Option<&[u8]>) -> Result<Registers, Malformed> {
        let bank = Bank::Sha256;
        let uki = Uki::parse(unified)?;
        let loaded = [uki.authenticode(bank)?, uki.kernel_authenticode(bank)?];
        let mut given = Register::new(bank);
        given.measure(&boot::load_options(&self.command_line));
        given.measure(&self.initrd);
        let mut values = vec![(4, boot::pcr4(bank, &loaded)), (9, given)];
        values.extend([8, 13, 14, 15].map(|register| (register, Register::new(bank))));
        values.extend(configuration.map(|bytes| (CONFIGURATION_REGISTER, pcr12(bytes))));
        let named =
            |(register, value): (u8, Register)| (format!("pcr{register}.sha256"), hexadecimal(&value));
        Ok(values.into_iter().map(named).collect())
    }

    /// RTMR1 and RTMR2 of a trust domain that QEMU starts this image in, with `-kernel`.
    ///
    /// # Errors
    /// [`Malformed`] when the kernel is no EFI program.
    pub fn rtmrs(&self, hint: tdx::direct_boot::InitrdHint) -> Result<Registers, Malformed> {
        let first = tdx::direct_boot::rtmr1(&self.kernel)?;
        let second = tdx::direct_boot::rtmr2(&hint.command_line(&self.command_line), &self.initrd);
        Ok([("rtmr1".into(), hexadecimal(&first)), ("rtmr2".into(), hexadecimal(&second))].into())
    }

    /// What SEV-SNP measures beside firmware, where QEMU is told `kernel-hashes=on`.
    pub fn kernel(&self) -> reference::snp::Kernel<'_> {
        reference::snp::Kernel {
            kernel: &self.kernel,
            initrd: &self.initrd,
            command_line: &self.command_line,
        }
    }
}

/// PCR 12 after this launch configuration was measured.
pub fn pcr12(configuration: &[u8]) -> Register {
    let mut register = Register::new(Bank::Sha256);
    register.measure(configuration);
    register
}

fn hexadecimal(register: &Register) -> String {
    hex::encode(register.value())
}
