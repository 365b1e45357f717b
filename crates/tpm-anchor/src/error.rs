//! Why there was no answer.

/// Why a TPM gave no authentic answer.
#[derive(Debug, thiserror::Error)]
pub enum TpmError {
    /// The way to it.
    #[error("the TPM at {address} cannot be reached")]
    Transport {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// An answer that is none.
    #[error("the TPM's answer is malformed: {0}")]
    Malformed(&'static str),
    /// An answer without the right HMAC: replayed, changed, or of another TPM.
    #[error(
        "an answer of the TPM does not carry the HMAC of this session: it was replayed, changed, or another TPM \
         gave it"
    )]
    Inauthentic,
    /// Another TPM.
    #[error("this is another TPM: expected endorsement key {expected}, seen {seen}")]
    OtherTpm {
        /// Pinned.
        expected: String,
        /// Here.
        seen: String,
    },
    /// The TPM refused; this word of it is not authentic.
    #[error("the TPM refused {command}: {}", words(*code))]
    Refused {
        /// What was asked.
        command: &'static str,
        /// Part 2, §6.6.
        code: u32,
    },
    /// Cryptography failed.
    #[error("a key for the TPM's session could not be made")]
    Crypto,
}

/// What a response code says, as far as a person can do something about it.
fn words(code: u32) -> String {
    // Format 1 has the number of the handle, session or parameter in bits 8 to 11, and bit 6.
    let plain = if code & 0x80 != 0 { code & 0xBF } else { code };
    let reason = match plain {
        0x08B => "a handle that it does not know: the index was deleted, or the TPM was cleared",
        0x08E | 0x0A2 => "the authorisation is wrong: the index, or the owner's hierarchy, has another one",
        0x921 => "it is locked out after wrong authorisations",
        0x920 => "it protects its memory from being written too often",
        0x903 | 0x905 | 0x902 => "it has no room for another session or key",
        0x14C => "the index exists already",
        0x14B => "its non-volatile memory is full",
        0x100 => "it was not started",
        _ => "see TPM 2.0 Library, Part 2, section 6.6",
    };
    format!("{code:#05x}, {reason}")
}
