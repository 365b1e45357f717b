//! Artefacts that reference values are computed from: firmware, EFI programs, unified kernel images, SIGSTRUCTs.
#![no_main]

use reference::pe::Program;
use reference::sgx::Sigstruct;
use reference::tdx;
use reference::uki::{PHASES, Uki};
use reference::{Bank, boot};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = tdx::mrtd(bytes);
    let _ = Program::parse(bytes).and_then(|program| program.authenticode(Bank::Sha256));
    if let Ok(image) = Uki::parse(bytes) {
        let _ = image.pcr11(Bank::Sha384, &PHASES);
        let loaded = [image.authenticode(Bank::Sha256), image.kernel_authenticode(Bank::Sha256)];
        let loaded: Vec<_> = loaded.into_iter().flatten().collect();
        let _ = boot::pcr4(Bank::Sha256, &loaded);
    }
    if let Ok(sigstruct) = Sigstruct::parse(bytes) {
        assert_eq!(sigstruct.key().len(), 396);
        let _ = (sigstruct.mrenclave(), sigstruct.mrsigner(), sigstruct.signed(), sigstruct.signature());
    }
});
