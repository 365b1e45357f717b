//! Notes and checkpoints, with real keys.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use transparency::*;

/// The example in the documentation of golang.org/x/mod/sumdb/note: its signature is verified below, so that a slip
/// in copying would show.
const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

pub fn ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

pub struct Pair {
    pair: Ed25519KeyPair,
    pub key: NoteKey,
}

impl Pair {
    pub fn new(name: &str, signer: Signer, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        Self { pair, key: NoteKey::new(name, signer, public).unwrap() }
    }

    pub fn line(&self, text: &str, time: u64) -> NoteSignature {
        let signature = self.pair.sign(self.key.message(text, time).as_bytes());
        self.key.signature(time, signature.as_ref().try_into().unwrap())
    }

    pub fn note(&self, text: &str) -> Vec<u8> {
        let note = Note { text: text.into(), signatures: vec![self.line(text, 0)] };
        note.to_text().into_bytes()
    }
}

pub fn checkpoint(size: u64) -> Checkpoint {
    Checkpoint { origin: "mesh".into(), head: Head { size, root: [3; 32] } }
}

#[test]
fn gos_note_is_signed_by_gos_key() {
    let (key, note) = (NoteKey::parse(KEY).unwrap(), Note::parse(NOTE.as_bytes()).unwrap());
    assert_eq!(
        (note.verify(&key, &ed25519), key.to_string(), note.to_text()),
        (Ok(0), KEY.into(), NOTE.into())
    );
    let changed = Note::parse(NOTE.replace("answer", "Answer").as_bytes()).unwrap();
    assert!(matches!(changed.verify(&key, &ed25519), Err(NoteError::Signature(_))));
    let other = NoteKey::new("PeterNeumann", Signer::Log, [7; 32]).unwrap();
    assert!(matches!(note.verify(&other, &ed25519), Err(NoteError::Unsigned(_))));
    assert!(NoteKey::parse(&KEY.replace("c74f", "c74e")).is_err());
    assert!(NoteKey::parse(&KEY.replace("+ARpc", "+AxXc")).is_err());
}

#[test]
fn a_log_and_its_witnesses_sign_one_checkpoint() {
    let log = Pair::new("mesh", Signer::Log, 1);
    let witness = Pair::new("witness.example/w1", Signer::Witness, 2);
    let text = checkpoint(7).text();
    let signatures = vec![log.line(&text, 0), witness.line(&text, 1_679_315_147)];
    let note = Note::parse(Note { text: text.clone(), signatures }.to_text().as_bytes()).unwrap();
    assert_eq!(note.verify(&log.key, &ed25519), Ok(0));
    assert_eq!(note.verify(&witness.key, &ed25519), Ok(1_679_315_147));
    assert_eq!(signed_checkpoint(note.to_text().as_bytes(), &log.key, &ed25519), Ok(checkpoint(7)));
    // The same key for another purpose is another key, and a time is signed too.
    let as_log = NoteKey::new("witness.example/w1", Signer::Log, *witness.key.key()).unwrap();
    assert!(matches!(note.verify(&as_log, &ed25519), Err(NoteError::Unsigned(_))));
    let mut later = witness.line(&text, 5);
    later.signature[7] ^= 1;
    let note = Note { text: text.clone(), signatures: vec![later] };
    assert!(matches!(note.verify(&witness.key, &ed25519), Err(NoteError::Signature(_))));
    // One line of a key may not hide that another one of it is wrong.
    let mut wrong = log.line(&text, 0);
    wrong.signature[0] ^= 1;
    let note = Note { text, signatures: vec![log.line(&checkpoint(7).text(), 0), wrong] };
    assert!(matches!(note.verify(&log.key, &ed25519), Err(NoteError::Signature(_))));
}

#[test]
fn a_checkpoint_of_another_log_is_refused_though_its_key_signed() {
    let log = Pair::new("mesh", Signer::Log, 1);
    let other = Checkpoint { origin: "other".into(), ..checkpoint(7) };
    let refused = signed_checkpoint(&log.note(&other.text()), &log.key, &ed25519);
    assert!(matches!(refused, Err(HeadError::Origin { .. })));
    assert!(matches!(other.is_prefix_of(&checkpoint(7), &[]), Err(HeadError::Origin { .. })));
    assert_eq!(checkpoint(7).is_prefix_of(&checkpoint(7), &[]), Ok(()));
}

#[test]
fn checkpoints_have_three_lines_and_one_spelling() {
    let head = checkpoint(7);
    assert_eq!(Checkpoint::parse(&head.text()).unwrap(), head);
    let text = head.text();
    for bad in [
        text.replace("\n7\n", "\n07\n"),
        text.replace("\n7\n", "\n+7\n"),
        text.replace("\n7\n", "\n\n"),
        text.replace("mesh", ""),
        text.replace("=\n", "\n"),
        text.clone() + "x\n",
        text.trim().into(),
    ] {
        assert!(Checkpoint::parse(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn notes_have_one_form() {
    for bad in [
        NOTE.replace("— ", "- "),
        NOTE.replace('\n', "\r\n"),
        NOTE.trim_end().to_owned(),
        NOTE.replace("x08go", "x08g"),
        NOTE.replace("— PeterNeumann", "— Peter+Neumann"),
        NOTE.replace("\n\n", "\n"),
        "text\n\n".into(),
        NOTE.replace("is.\n\n", "is.\u{1}\n\n"),
        format!("{NOTE}{}", "— x AAAAAAA=\n".repeat(MAX_SIGNATURES)),
        format!("{}{NOTE}", " ".repeat(MAX_NOTE)),
    ] {
        assert!(Note::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(Note::parse(&[0xff]).is_err());
    let lines = format!("{NOTE}{}", "— x AAAAAAA=\n".repeat(MAX_SIGNATURES - 1));
    assert!(Note::parse(lines.as_bytes()).is_ok(), "so many are read");
    for name in ["", "a b", "a+b", "a\u{a0}b", "a\nb"] {
        assert!(NoteKey::new(name, Signer::Log, [0; 32]).is_err(), "{name:?}");
    }
}
