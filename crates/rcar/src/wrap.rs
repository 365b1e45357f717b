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
