//! Attribute bits that must be set, or must not be.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Masks over the 64-bit words in which platforms tell what is on. Text form of a mask: `0x20`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttributeBits {
    /// SGX: ATTRIBUTES.FLAGS of the enclave.
    pub sgx_attributes: Bits,
    /// SGX: ATTRIBUTES.XFRM of the enclave.
    pub sgx_xfrm: Bits,
    /// SGX: MISCSELECT of the enclave.
    pub sgx_misc_select: Bits,
    /// TDX: TD attributes.
    pub tdx_attributes: Bits,
    /// TDX: XFAM.
    pub tdx_xfam: Bits,
    /// SNP: guest policy.
    pub snp_policy: Bits,
    /// SNP: platform information.
    pub snp_platform_info: Bits,
}

/// Bits of one word. No bit is in both masks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BitsText", into = "BitsText")]
pub struct Bits {
    required: u64,
    forbidden: u64,
}

/// Bits that are required and forbidden at once: nothing could be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bits {0:#x} are both required and forbidden")]
pub struct ContradictoryBits(pub u64);

impl Bits {
    /// Takes the masks.
    ///
    /// # Errors
    /// [`ContradictoryBits`] when a bit is in both.
    pub fn new(required: u64, forbidden: u64) -> Result<Self, ContradictoryBits> {
        match required & forbidden {
            0 => Ok(Self { required, forbidden }),
            both => Err(ContradictoryBits(both)),
        }
    }

    /// The bits that must be set.
    pub const fn required(self) -> u64 {
        self.required
    }

    /// The bits that must not be set.
    pub const fn forbidden(self) -> u64 {
        self.forbidden
    }
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BitsText {
    required: Mask,
    forbidden: Mask,
}

impl From<Bits> for BitsText {
    fn from(bits: Bits) -> Self {
        Self { required: Mask(bits.required), forbidden: Mask(bits.forbidden) }
    }
}

impl TryFrom<BitsText> for Bits {
    type Error = ContradictoryBits;

    fn try_from(text: BitsText) -> Result<Self, ContradictoryBits> {
        Self::new(text.required.0, text.forbidden.0)
    }
}

/// 64 bits, as `0x…` in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mask(pub u64);

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Serialize for Mask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // `from_str_radix` takes a sign, too.
        let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
        digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format!("expected a mask of 64 bits such as \"0x20\", seen {text:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_hexadecimal_and_do_not_contradict() {
        let bits: Bits = serde_json::from_str(r#"{"required":"0x20","forbidden":"0x1"}"#).unwrap();
        assert_eq!((bits.required(), bits.forbidden()), (0x20, 1));
        for wrong in [
            r#"{"required":"0x3","forbidden":"0x1"}"#,
            r#"{"required":"20"}"#,
            r#"{"required":"0x"}"#,
            r#"{"required":"0x+1"}"#,
            r#"{"required":32}"#,
            r#"{"needed":"0x1"}"#,
            r#"{"required":"0x10000000000000000"}"#,
        ] {
            assert!(serde_json::from_str::<Bits>(wrong).is_err(), "{wrong}");
        }
    }
}
