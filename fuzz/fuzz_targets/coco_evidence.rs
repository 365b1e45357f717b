//! Evidence in the JSON of CoCo's attesters. What can be written again is the same Evidence.
#![no_main]

use evidence::{Platform, coco};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for platform in Platform::ALL {
        if let Ok(conveyed) = coco::read(platform, bytes) {
            assert!(conveyed.evidence.iter().all(|(_, evidence)| evidence.platform() == platform));
        }
    }
    let _ = coco::Sample::parse(bytes);
    if let Ok(json) = coco::write(bytes, &[]) {
        let platform = evidence::conveyed::Conveyed::parse(bytes).unwrap().evidence[0].1.platform();
        assert!(coco::read(platform, json.as_bytes()).is_ok());
    }
});
