//! The log anchored in a TPM, one of software.

use database::tpm_anchor::{TpmAnchor, TpmAnchorError};
use testkit::swtpm::Swtpm;
use volume::{Anchor, AnchorError, Head};

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
