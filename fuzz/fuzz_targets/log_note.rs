#![no_main]
//! The bytes are a signed note, and its text a checkpoint.

use transparency::{AddCheckpoint, Checkpoint, Note, NoteKey, NoteSignature};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = AddCheckpoint::parse(bytes).map(|request| assert_eq!(request.to_bytes(), bytes));
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = NoteSignature::parse_lines(text);
    let _ = NoteKey::parse(text).map(|key| assert_eq!(NoteKey::parse(&key.to_string()), Ok(key)));
    if let Ok(note) = Note::parse(bytes) {
        assert_eq!(Note::parse(note.to_text().as_bytes()).as_ref(), Ok(&note));
        let _ = Checkpoint::parse(&note.text).map(|checkpoint| assert_eq!(checkpoint.text(), note.text));
    }
});
