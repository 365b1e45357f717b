//! A quote of a real (software) TPM.

use attester::{
    AttesterError,
    hardware::{
        Paths,
        tpm::{self, Address, KEY},
    },
};
use evidence::Evidence;
use testkit::swtpm::Swtpm;

const OWNER: u32 = 0x4000_0001;

/// Makes a restricted P-256 signing key and puts it at [`KEY`], as whoever sets a machine up does.
fn provision(address: &Address) {
    let mut transport = address.connect().unwrap();
    let mut tell = |code: u32, handles: &[u32], rest: &[u8]| {
        let handles: Vec<_> = handles.iter().flat_map(|handle| handle.to_be_bytes()).collect();
        let password = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
        let size = u32::try_from(10 + handles.len() + password.len() + rest.len()).unwrap();
        let head = [&[0x80, 2][..], &size.to_be_bytes(), &code.to_be_bytes()].concat();
        let answer = transport.exchange(&[&head[..], &handles, &password, rest].concat()).unwrap();
        assert_eq!(answer[6..10], [0; 4], "{code:#x} failed");
        answer
    };
    // TPMT_PUBLIC: ECC, SHA-256; fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, restricted, sign; no
    // policy; no symmetric algorithm; ECDSA with SHA-256; P-256; no KDF; no point.
    let public = [
        0x00, 0x23, 0x00, 0x0B, 0x00, 0x05, 0x04, 0x72, 0, 0, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0B, 0x00, 0x03,
        0x00, 0x10, 0, 0, 0, 0,
    ];
    let sensitive = [0, 4, 0, 0, 0, 0];
    let template = [&sensitive[..], &[0, 24], &public, &[0, 0, 0, 0, 0, 0]].concat();
    let answer = tell(0x131, &[OWNER], &template);
    let made = u32::from_be_bytes(answer[10..14].try_into().unwrap());
    tell(0x120, &[OWNER, made], &KEY.to_be_bytes());
}

#[test]
fn a_quote_of_a_tpm_is_evidence_over_the_nonce() {
    let Some(swtpm) = Swtpm::start() else { return };
    let address: Address = swtpm.address().parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::below(folder.path());
    let absent = tpm::evidence(&paths, &address, KEY, &[7; 32]);
    assert!(matches!(absent, Err(AttesterError::Tpm(_))), "no key is there yet");
    provision(&address);
    let raw = tpm::evidence(&paths, &address, KEY, &[7; 32]).unwrap();
    let Evidence::Tpm(attestation) = Evidence::parse(&raw.evidence).unwrap() else { panic!("a TPM's") };
    assert_eq!(attestation.covered().as_bytes(), [7; 32]);
    let quote = &attestation.quotes()[0];
    assert!(quote.signature.is_some());
    assert_eq!(quote.values.len(), 24);
    assert!(tpm::evidence(&paths, &address, KEY, &[7; 80]).is_err(), "nothing is cut");
}
