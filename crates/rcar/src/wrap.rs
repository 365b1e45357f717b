//! AES Key Wrap (RFC 3394) of content keys. aws-lc-rs has it for 128 and 256 bits, not for the 192 of ML-KEM-768; one
//! implementation over the block cipher serves both.

use aws_lc_rs::cipher::{
    AES_192, AES_256, Algorithm, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey,
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// RFC 3394, §2.2.3.1.
const INITIAL: [u8; 8] = [0xa6; 8];
const ROUNDS: u64 = 6;

fn cipher(key: &[u8]) -> Option<UnboundCipherKey> {
    let algorithm: &'static Algorithm = match key.len() {
        24 => &AES_192,
        32 => &AES_256,
        _ => return None,
    };
    UnboundCipherKey::new(algorithm, key).ok()
}

/// The key wrapped, 8 bytes longer. None when the wrapping key has not 24 or 32 bytes.
pub(crate) fn wrap(with: &[u8], key: &[u8; 32]) -> Option<Vec<u8>> {
    let cipher = EncryptingKey::ecb(cipher(with)?).ok()?;
    let mut check = INITIAL;
    let mut parts: [[u8; 8]; 4] = Default::default();
    for (part, bytes) in parts.iter_mut().zip(key.chunks_exact(8)) {
        part.copy_from_slice(bytes);
    }
    let mut step: u64 = 0;
    for _ in 0..ROUNDS {
        for part in &mut parts {
            step += 1;
            let mut block = Zeroizing::new([0; 16]);
            block[..8].copy_from_slice(&check);
            block[8..].copy_from_slice(part);
            cipher.encrypt(&mut *block).ok()?;
            check.copy_from_slice(&block[..8]);
            xor(&mut check, step);
            part.copy_from_slice(&block[8..]);
        }
    }
    Some([&check[..], &parts.concat()].concat())
}

/// The key of 32 bytes. None when it was not wrapped with this key, or was changed.
pub(crate) fn unwrap(with: &[u8], wrapped: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let wrapped: &[u8; 40] = wrapped.try_into().ok()?;
    let cipher = DecryptingKey::ecb(cipher(with)?).ok()?;
    let mut check = [0; 8];
    check.copy_from_slice(&wrapped[..8]);
    let mut key = Zeroizing::new(wrapped[8..].to_vec());
    let mut step = ROUNDS * 4;
    for _ in 0..ROUNDS {
        for part in key.chunks_exact_mut(8).rev() {
            xor(&mut check, step);
            let mut block = Zeroizing::new([0; 16]);
            block[..8].copy_from_slice(&check);
            block[8..].copy_from_slice(part);
            cipher.decrypt(&mut *block, DecryptionContext::None).ok()?;
            check.copy_from_slice(&block[..8]);
            part.copy_from_slice(&block[8..]);
            step -= 1;
        }
    }
    bool::from(check.ct_eq(&INITIAL)).then_some(key)
}

fn xor(check: &mut [u8; 8], step: u64) {
    for (byte, with) in check.iter_mut().zip(step.to_be_bytes()) {
        *byte ^= with;
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::key_wrap::{AES_256 as KEK_256, AesKek, KeyWrap as _};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_3394_section_4_6() {
        let kek: Vec<u8> = (0..32).collect();
        let key: [u8; 32] = std::array::from_fn(|at| match at {
            0..16 => at as u8 * 0x11,
            _ => at as u8 - 16,
        });
        let wrapped = wrap(&kek, &key).expect("a key");
        assert_eq!(
            hex::encode_upper(&wrapped),
            "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
        );
        assert_eq!(unwrap(&kek, &wrapped).expect("a key").as_slice(), key);
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert_eq!(wrap(&[0; 16], &[0; 32]), None);
        let wrapped = wrap(&[0; 32], &[0; 32]).expect("a key");
        assert!(unwrap(&[0; 32], &wrapped[..32]).is_none());
        assert!(unwrap(&[0; 32], &[&wrapped[..], &[0; 8]].concat()).is_none());
    }

    proptest! {
        /// The library's own, which is there for 256 bits.
        #[test]
        fn the_same_as_aws_lc(kek: [u8; 32], key: [u8; 32]) {
            let ours = wrap(&kek, &key).expect("a key");
            let mut output = [0; 40];
            let theirs = AesKek::new(&KEK_256, &kek).and_then(|kek| kek.wrap(&key, &mut output).map(|w| w.to_vec()));
            prop_assert_eq!(ours, theirs.expect("a key"));
        }

        #[test]
        fn any_change_is_found(kek: [u8; 24], key: [u8; 32], at in 0usize..40, bit in 0u8..8) {
            let mut wrapped = wrap(&kek, &key).expect("a key");
            prop_assert_eq!(unwrap(&kek, &wrapped).expect("a key").to_vec(), key);
            wrapped[at] ^= 1 << bit;
            prop_assert!(unwrap(&kek, &wrapped).is_none());
        }
    }
}
