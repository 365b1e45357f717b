#![no_main]
//! The bytes are the data of a file and of a variable, in a manifest with a secret of each type.

use std::fmt::Write as _;

use manifest::{Manifest, Reference, Values};

struct Fixed;

impl Values for Fixed {
    fn value(&self, _: &Reference) -> Option<&[u8]> {
        Some(b"value")
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut hex = String::new();
    bytes.iter().for_each(|byte| write!(hex, "{byte:02x}").expect("a String takes all"));
    let id = "11".repeat(32);
    let text = format!(
        r#"{{"Packages":{{"p":{{"UniqueID":"{id}"}}}},
            "Marbles":{{"m":{{"Package":"p","Parameters":{{
                "Files":{{"f":{{"Encoding":"hex","Data":"{hex}"}}}},
                "Env":{{"E":{{"Encoding":"hex","Data":"{hex}"}}}}}}}}}},
            "Secrets":{{"k":{{"Type":"symmetric-key","Size":128}},"w":{{"Type":"plain","UserDefined":true}}}}}}"#
    );
    if let Ok(manifest) = Manifest::parse(text.as_bytes()) {
        for marble in manifest.marbles().values() {
            marble.parameters.render(&Fixed).expect("every value exists and none has a NUL");
        }
    }
});
