//! SIGSTRUCT against the one of the Linux kernel's SGX self-test, as Enarx publishes it. See `vectors/README.md`.

use appraisal::{Crypto, SignatureAlgorithm};
use reference::sgx::Sigstruct;

const SIGSTRUCT: &[u8] = include_bytes!("vectors/sgx/encl.ss");

fn verifies(sigstruct: &Sigstruct) -> bool {
    crypto_aws_lc::AwsLc
        .verify(
            SignatureAlgorithm::RsaPkcs1Sha256,
            &sigstruct.key(),
            &sigstruct.signed(),
            &sigstruct.signature(),
        )
        .is_ok()
}

#[test]
fn a_published_sigstruct_is_read_and_verifies() {
    let sigstruct = Sigstruct::parse(SIGSTRUCT).unwrap();
    // The enclave's pages (`encl.bin` beside it) measure to this by ECREATE, EADD and EEXTEND.
    assert_eq!(
        hex::encode(sigstruct.mrenclave()),
        "b999536238fcf4e9d360ef6cd3e0c20ef8a684c7b93f74a9c4a4c6d517d61fc0"
    );
    assert_eq!((sigstruct.product(), sigstruct.security_version()), (0, 0));
    assert!(sigstruct.may_be_debugged());
    assert!(verifies(&sigstruct));
}

#[test]
fn s43_every_signed_byte_counts_and_what_is_not_read_is_refused() {
    let original = Sigstruct::parse(SIGSTRUCT).unwrap();
    for at in (0..SIGSTRUCT.len()).filter(|at| *at < 128 || *at >= 900 || at % 37 == 0) {
        let mut altered = SIGSTRUCT.to_vec();
        altered[at] ^= 1;
        let Ok(altered) = Sigstruct::parse(&altered) else { continue };
        // Q1 and Q2, the end, only help the processor to compute.
        let helps = at >= 1040;
        assert_eq!(verifies(&altered), helps, "{at}");
        assert_eq!(altered.mrsigner() != original.mrsigner(), (128..512).contains(&at), "{at}");
    }
    for (at, bits) in
        [(0, 1), (24, 1), (44, 1), (127, 1), (511, 0x80), (512, 1), (910, 1), (992, 1), (1039, 1)]
    {
        let mut altered = SIGSTRUCT.to_vec();
        altered[at] ^= bits;
        assert!(Sigstruct::parse(&altered).is_err(), "{at}");
    }
    for length in [0, 1807] {
        assert!(Sigstruct::parse(&SIGSTRUCT[..length]).is_err());
    }
    assert!(Sigstruct::parse(&[SIGSTRUCT, &[0]].concat()).is_err());
}

#[test]
fn debugging_is_ruled_out_only_by_mask_and_attribute() {
    for (attributes, mask, expected) in [(4, 0xff, false), (6, 0xff, true), (4, 0xfd, true)] {
        let mut altered = SIGSTRUCT.to_vec();
        (altered[928], altered[944]) = (attributes, mask);
        assert_eq!(Sigstruct::parse(&altered).unwrap().may_be_debugged(), expected);
    }
}
