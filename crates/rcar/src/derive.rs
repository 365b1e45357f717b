//! From a shared secret to a key that wraps keys.

use aws_lc_rs::digest::{Context, SHA256};
use sha3::digest::{ExtendableOutput as _, Update as _, XofReader as _};
use sha3::{CShake256, CShake256Core};
use zeroize::Zeroizing;

/// The Concat KDF of RFC 7518, §4.6.2, with SHA-256: one round gives all 256 bits.
pub(crate) fn concat_kdf(
    secret: &[u8],
    algorithm: &str,
    party_u: &[u8],
    party_v: &[u8],
) -> Zeroizing<[u8; 32]> {
    derived(secret, algorithm, party_u, party_v, 256)
}

fn derived(secret: &[u8], algorithm: &str, party_u: &[u8], party_v: &[u8], bits: u32) -> Zeroizing<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    context.update(&1u32.to_be_bytes());
    context.update(secret);
    for part in [algorithm.as_bytes(), party_u, party_v] {
        context.update(&length(part));
        context.update(part);
    }
    context.update(&bits.to_be_bytes());
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(context.finish().as_ref());
    key
}

fn length(part: &[u8]) -> [u8; 4] {
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// The KDF of draft-ietf-jose-pqc-kem-05, §5.1, as CoCo writes it: KMAC256 of the algorithm's name with its length, and
/// of the length of the key in bits, keyed with the shared secret. 192 bits.
pub(crate) fn kmac_kdf(secret: &[u8], algorithm: &str) -> Zeroizing<[u8; 24]> {
    let input = [&length(algorithm.as_bytes()), algorithm.as_bytes(), &192u32.to_be_bytes()].concat();
    let mut key = Zeroizing::new([0; 24]);
    kmac256(secret, &input, b"", &mut *key);
    key
}

/// KMAC256 (NIST SP 800-185, §4.3).
fn kmac256(key: &[u8], input: &[u8], customisation: &[u8], output: &mut [u8]) {
    /// The rate of Keccak with 512 bits of capacity, in bytes.
    const RATE: usize = 136;
    let mut state = CShake256::from_core(CShake256Core::new_with_function_name(b"KMAC", customisation));
    let mut padded = Zeroizing::new([left_encode(RATE), left_encode(key.len() * 8), key.to_vec()].concat());
    let blocks = padded.len().div_ceil(RATE);
    padded.resize(blocks * RATE, 0);
    state.update(&padded);
    state.update(input);
    state.update(&right_encode(output.len() * 8));
    state.finalize_xof().read(output);
}

fn significant(number: usize) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let skipped = bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len() - 1);
    bytes[skipped..].to_vec()
}

fn left_encode(number: usize) -> Vec<u8> {
    let mut encoded = significant(number);
    encoded.insert(0, encoded.len() as u8);
    encoded
}

fn right_encode(number: usize) -> Vec<u8> {
    let mut encoded = significant(number);
    encoded.push(encoded.len() as u8);
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7518_appendix_c() {
        // Z of the example; 128 bits for A128GCM, which is the first half of the one round.
        let secret = [
            158, 86, 217, 29, 129, 113, 53, 211, 114, 131, 66, 131, 191, 132, 38, 156, 251, 49, 110, 163,
            218, 128, 106, 72, 246, 218, 167, 121, 140, 254, 144, 196,
        ];
        let key = derived(&secret, "A128GCM", b"Alice", b"Bob", 128);
        assert_eq!(crate::text::encode(&key[..16]), "VqqN6vgjbSBcIijNcacQGg");
    }

    #[test]
    fn kmac256_of_nist_samples_and_of_openssl() {
        // NIST SP 800-185, KMAC_samples.pdf, sample 4.
        let key: Vec<u8> = (0x40..=0x5f).collect();
        let mut output = [0; 64];
        kmac256(&key, &[0, 1, 2, 3], b"My Tagged Application", &mut output);
        assert_eq!(
            hex::encode_upper(output),
            "20C570C31346F703C9AC36C61C03CB64C3970D0CFC787E9B79599D273A68D2F7\
             F69D4CC3DE9D104A351689F27CF6F5951F0103F33F4F24871024D9C27773A8DD"
        );
        // openssl mac -macopt hexkey:00…1f -macopt size:24 KMAC-256, of len32‖name‖192 (OpenSSL 3.0.19).
        let secret: Vec<u8> = (0..32).collect();
        let key = kmac_kdf(&secret, "ML-KEM-768+A192KW");
        assert_eq!(hex::encode_upper(*key), "3CA895EC8C52F6C90562F607DE97F1DD01E5CB9DA6C23525");
    }
}
