//! The log anchored in a TPM, one of software.

use std::path::Path;

use database::tpm_anchor::{TpmAnchor, TpmAnchorError};
use sealed_log::{Ahead, Entry, Kind, LogKey, Writer};
use testkit::swtpm::Swtpm;
use volume::{Anchor, AnchorError, Folder, Head};

fn head(sequence: u64) -> Head {
    Head { sequence, hash: [u8::try_from(sequence).unwrap(); 32] }
}

#[test]
fn s16_what_a_tpm_anchors_is_not_turned_back() {
    let Some(tpm) = Swtpm::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let open = || TpmAnchor::open(&tpm.address().parse().unwrap(), None, folder.path(), &[4; 32]);
    let file = folder.path().join("anchor-head");

    let anchor = open().unwrap();
    assert_eq!(anchor.current(), Ok(None));
    anchor.advance(None, head(1)).unwrap();
    anchor.advance(Some(head(1)), head(2)).unwrap();
    assert_eq!(anchor.advance(Some(head(1)), head(3)), Err(AnchorError::Moved));
    drop(anchor);

    // The step that was announced, and taken, is the one that counts.
    let old = std::fs::read(&file).unwrap();
    let anchor = open().unwrap();
    assert_eq!(anchor.current(), Ok(Some(head(2))));
    anchor.advance(Some(head(2)), head(3)).unwrap();
    drop(anchor);
    let now = std::fs::read(&file).unwrap();

    // An old file, and an invented one, do not lead to the TPM's value.
    std::fs::write(&file, old).unwrap();
    assert!(matches!(open(), Err(TpmAnchorError::Elsewhere)));
    let mut invented = now.clone();
    invented[40] ^= 1;
    std::fs::write(&file, invented).unwrap();
    assert!(matches!(open(), Err(TpmAnchorError::Elsewhere)));
    std::fs::write(&file, &now[1..]).unwrap();
    assert!(matches!(open(), Err(TpmAnchorError::Altered(_))));
    std::fs::write(&file, &now).unwrap();
    assert_eq!(open().unwrap().current(), Ok(Some(head(3))));

    // Nor is the chain opened by another key, or a new one taken for it.
    let other = TpmAnchor::open(&tpm.address().parse().unwrap(), None, folder.path(), &[5; 32]);
    assert!(matches!(other, Err(TpmAnchorError::Altered(_))));
    std::fs::remove_file(folder.path().join("anchor-pin")).unwrap();
    assert_eq!(open().unwrap().current(), Ok(None), "it knows of no log, so the log is refused");
}

#[test]
fn s16_an_old_copy_of_log_and_anchors_file_together_is_refused() {
    let Some(tpm) = Swtpm::start() else { return };
    let (state, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = LogKey::new([6; 32]);
    let open = || -> Result<Writer, String> {
        let address = tpm.address().parse().unwrap();
        let anchor =
            TpmAnchor::open(&address, None, state.path(), &[4; 32]).map_err(|it| it.code().to_owned())?;
        let host = || Box::new(Folder::new(&state.path().join("log")));
        let anchored = anchor.current().unwrap().into();
        let read = sealed_log::read(&*host(), &key, anchored, Ahead::One, &mut |_, _| Ok(()));
        let contents = read.map_err(|it| it.code().to_owned())?;
        let options = sealed_log::Options::default();
        Writer::begin(host(), &key, contents, Box::new(anchor), 0, options).map_err(|it| it.code().to_owned())
    };
    let commit = |writer: &mut Writer| {
        writer.append(&[Entry { kind: Kind(1), bytes: b"spent" }]).unwrap();
        writer.anchor().unwrap();
    };
    commit(&mut open().unwrap());
    copy(state.path(), old.path());
    let mut writer = open().unwrap();
    commit(&mut writer);
    commit(&mut writer);
    drop(writer);
    drop(open().unwrap());
    // The log alone, and with the file that stood for it.
    let now = tempfile::tempdir().unwrap();
    copy(state.path(), now.path());
    std::fs::remove_dir_all(state.path().join("log")).unwrap();
    copy(&old.path().join("log"), &state.path().join("log"));
    assert_eq!(open().err().as_deref(), Some("LOG_ROLLED_BACK"));
    copy(old.path(), state.path());
    assert_eq!(open().err().as_deref(), Some("ANCHOR_ELSEWHERE"));
    // The newest copy serves.
    copy(now.path(), state.path());
    drop(open().unwrap());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn another_tpm_is_refused() {
    let (Some(tpm), Some(other)) = (Swtpm::start(), Swtpm::start()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let open = |tpm: &Swtpm, required| {
        TpmAnchor::open(&tpm.address().parse().unwrap(), required, folder.path(), &[4; 32])
    };
    drop(open(&tpm, None).unwrap());
    assert!(open(&other, None).is_err());
    let required = Some(tpm_anchor::KeyDigest([1; 32]));
    assert!(matches!(open(&tpm, required), Err(TpmAnchorError::OtherTpm { .. })));
}
