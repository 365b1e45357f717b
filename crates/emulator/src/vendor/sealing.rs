//! Keys that only the emulated CPU can derive: HKDF-SHA-256 (RFC 5869) from a secret of the platform. Each use
//! has its own salt, and every input is preceded by its length, so that no two uses and no two sets of inputs
//! ever meet in the same key (S-43, S-46).

use aws_lc_rs::hkdf;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::error::{PlatformError, Result};

/// What a derived key is for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// Sealing keys of launched processes.
    Sealing,
    /// REPORT_ID of SNP reports: not secret, but stable for a guest and different between guests.
    ReportId,
}

impl Purpose {
    fn salt(self) -> &'static [u8] {
        match self {
            Self::Sealing => b"bailey/emulated/sealing-key/1",
            Self::ReportId => b"bailey/emulated/snp-report-id/1",
        }
    }
}

/// The emulated CPU's fused secret.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(transparent)]
pub(super) struct FusedSecret(#[serde(with = "hex::serde")] [u8; 32]);

impl FusedSecret {
    pub(super) fn generate() -> Result<Self> {
        random().map(Self)
    }

    pub(super) fn derive(&self, purpose: Purpose, inputs: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>> {
        let lengths: Vec<[u8; 8]> = inputs.iter().map(|input| (input.len() as u64).to_be_bytes()).collect();
        let info: Vec<&[u8]> =
            lengths.iter().zip(inputs).flat_map(|(length, input)| [&length[..], input]).collect();
        let mut key = Zeroizing::new([0; 32]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, purpose.salt())
            .extract(&self.0)
            .expand(&info, hkdf::HKDF_SHA256)
            .and_then(|output| output.fill(&mut *key))
            .map_err(|_| PlatformError::Cryptography { operation: "derive a key" })?;
        Ok(key)
    }
}

/// The platform's one door to randomness besides key generation.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| PlatformError::Cryptography { operation: "gather entropy" })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derive(purpose: Purpose, inputs: &[&[u8]]) -> [u8; 32] {
        *FusedSecret([7; 32]).derive(purpose, inputs).expect("hkdf")
    }

    #[test]
    fn s46_inputs_cannot_be_moved_across_their_border() {
        assert_ne!(derive(Purpose::Sealing, &[b"ab", b"c"]), derive(Purpose::Sealing, &[b"a", b"bc"]));
        assert_ne!(derive(Purpose::Sealing, &[b"ab"]), derive(Purpose::Sealing, &[b"ab", b""]));
    }

    #[test]
    fn s46_purposes_are_apart() {
        assert_ne!(derive(Purpose::Sealing, &[b"a"]), derive(Purpose::ReportId, &[b"a"]));
    }

    #[test]
    fn s46_platforms_are_apart() {
        let other = FusedSecret([8; 32]).derive(Purpose::Sealing, &[b"a"]).expect("hkdf");
        assert_ne!(derive(Purpose::Sealing, &[b"a"]), *other);
    }
}
