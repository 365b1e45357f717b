//! The TPM's key derivations and its encryption of a parameter, over aws-lc-rs.

use aws_lc_rs::{
    agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral},
    cipher::{AES_128, EncryptionContext, StreamingEncryptingKey, UnboundCipherKey},
    digest::{Context, SHA256},
    hmac::{self, HMAC_SHA256},
    iv::FixedLength,
    rand::SystemRandom,
};
use zeroize::Zeroizing;

use crate::TpmError;

pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

pub(crate) fn random() -> Result<[u8; 32], TpmError> {
    let mut out = [0; 32];
    aws_lc_rs::rand::fill(&mut out).map_err(|_| TpmError::Crypto)?;
    Ok(out)
}

pub(crate) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.sign().as_ref());
    out
}

/// `KDFa` of 256 bits: one block of SP 800-108 in counter mode (Part 1, §11.4.10.2).
pub(crate) fn kdfa(key: &[u8], label: &str, u: &[u8], v: &[u8]) -> Zeroizing<[u8; 32]> {
    let bits = 256_u32.to_be_bytes();
    Zeroizing::new(hmac(key, &[&1_u32.to_be_bytes(), label.as_bytes(), &[0], u, v, &bits]))
}

/// A point on P-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) x: [u8; 32],
    pub(crate) y: [u8; 32],
}

impl Point {
    fn uncompressed(&self) -> [u8; 65] {
        let mut out = [4; 65];
        out[1..33].copy_from_slice(&self.x);
        out[33..].copy_from_slice(&self.y);
        out
    }

    /// SHA-256 of the SubjectPublicKeyInfo, DER: as it is computed from an endorsement key's certificate.
    pub(crate) fn digest(&self) -> [u8; 32] {
        /// SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING } (RFC 5480 §2).
        const SPKI: [u8; 26] = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x08, 0x2A,
            0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        sha256(&[&SPKI, &self.uncompressed()])
    }
}

/// A secret that only the owner of `to` can compute too, and the point to send to it (Part 1, annex C.6.1).
pub(crate) fn agree(to: &Point) -> Result<(Zeroizing<[u8; 32]>, Point), TpmError> {
    let private =
        EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).map_err(|_| TpmError::Crypto)?;
    let public = private.compute_public_key().map_err(|_| TpmError::Crypto)?;
    let (x, y) = public.as_ref().get(1..65).and_then(|xy| xy.split_at_checked(32)).ok_or(TpmError::Crypto)?;
    let own = Point {
        x: x.try_into().map_err(|_| TpmError::Crypto)?,
        y: y.try_into().map_err(|_| TpmError::Crypto)?,
    };
    let peer = to.uncompressed();
    let peer = UnparsedPublicKey::new(&ECDH_P256, &peer[..]);
    let secret = agree_ephemeral(private, peer, TpmError::Malformed("its key is no point on P-256"), |z| {
        // KDFe: one block of SP 800-56A.
        Ok(Zeroizing::new(sha256(&[&1_u32.to_be_bytes(), z, b"SECRET\0", &own.x, &to.x])))
    })?;
    Ok((secret, own))
}

/// AES-128 in CFB mode, as a session encrypts a first parameter (Part 1, §21.3).
pub(crate) fn encrypt(key: &[u8], newer: &[u8], older: &[u8], plain: &[u8]) -> Result<Vec<u8>, TpmError> {
    let derived = kdfa(key, "CFB", newer, older);
    let (key, iv) = derived.split_at(16);
    let iv: [u8; 16] = iv.try_into().map_err(|_| TpmError::Crypto)?;
    let cipher = UnboundCipherKey::new(&AES_128, key).map_err(|_| TpmError::Crypto)?;
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    let mut cipher =
        StreamingEncryptingKey::less_safe_cfb128(cipher, context).map_err(|_| TpmError::Crypto)?;
    let mut out = vec![0; plain.len() + 16];
    let mut written = cipher.update(plain, &mut out).map_err(|_| TpmError::Crypto)?.written().len();
    let (_, last) = cipher.finish(&mut out[written..]).map_err(|_| TpmError::Crypto)?;
    written += last.written().len();
    out.truncate(written);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_agreed_with_a_point_and_with_nothing_else() {
        assert!(agree(&Point { x: [1; 32], y: [2; 32] }).is_err());
    }
}
