//! One quote: the signature of its key, and the values of exactly the registers that it covers.

use std::collections::BTreeSet;

use evidence::eventlog::HashAlgorithm;
use evidence::tpm::{PublicKey, Quote, Scheme, Signature};

use crate::findings::{Context, by_rule};
use crate::verdict::Check;
use crate::{Code, Crypto, SignatureAlgorithm};

/// Signature and registers of a quote by `key`.
pub(crate) fn check(quote: &Quote, key: &PublicKey, context: &Context<'_>) -> Check {
    let checks = match &quote.signature {
        None => {
            let text = "the attestation structure came without a signature: anyone could have written it";
            let check = Check::failed("signature", Code::QuoteSignatureMissing, text);
            vec![check.mend("send the quote with the signature that the TPM made over it")]
        }
        Some(own) => vec![signature(quote, own, key, context), registers(quote, own.hash, context.crypto)],
    };
    Check::group("quote", describe(quote), checks)
}

/// The registers in words, such as `24 registers of sha256`.
fn describe(quote: &Quote) -> String {
    let banks = quote.attest.selections.iter();
    let texts: Vec<_> =
        banks.map(|own| format!("{} registers of {}", own.registers.len(), own.bank)).collect();
    if texts.is_empty() { "no registers".into() } else { texts.join(", ") }
}

fn signature(quote: &Quote, own: &Signature, key: &PublicKey, context: &Context<'_>) -> Check {
    const NAME: &str = "signature";
    let scheme = own.scheme.as_str();
    if own.hash == HashAlgorithm::Sha1 {
        let text = "the quote is signed over SHA-1, by which two messages can have one digest";
        return Check::failed(NAME, Code::SignatureAlgorithmWeak, text)
            .expected("SHA-256 or better")
            .observed(format!("{scheme} with sha1"))
            .mend("make an attestation key whose scheme has SHA-256, and quote with it");
    }
    let chosen = match (own.scheme, own.hash, key) {
        (Scheme::RsaSsa, HashAlgorithm::Sha256, PublicKey::Rsa(key)) => {
            (SignatureAlgorithm::RsaPkcs1Sha256, key, 0)
        }
        (Scheme::RsaSsa, HashAlgorithm::Sha384, PublicKey::Rsa(key)) => {
            (SignatureAlgorithm::RsaPkcs1Sha384, key, 0)
        }
        (Scheme::RsaSsa, HashAlgorithm::Sha512, PublicKey::Rsa(key)) => {
            (SignatureAlgorithm::RsaPkcs1Sha512, key, 0)
        }
        (Scheme::RsaPss, HashAlgorithm::Sha256, PublicKey::Rsa(key)) => {
            (SignatureAlgorithm::RsaPssSha256, key, 0)
        }
        (Scheme::RsaPss, HashAlgorithm::Sha384, PublicKey::Rsa(key)) => {
            (SignatureAlgorithm::RsaPssSha384, key, 0)
        }
        (Scheme::Ecdsa, HashAlgorithm::Sha256, PublicKey::P256(key)) => {
            (SignatureAlgorithm::EcdsaP256Sha256Fixed, key, 32)
        }
        (Scheme::Ecdsa, HashAlgorithm::Sha384, PublicKey::P384(key)) => {
            (SignatureAlgorithm::EcdsaP384Sha384Fixed, key, 48)
        }
        _ => {
            let text = "the quote is signed in a way that is not verified here, or not one of its key";
            return Check::failed(NAME, Code::SignatureAlgorithmUnsupported, text)
                .expected("RSASSA, RSAPSS or ECDSA with the digest that fits the key")
                .observed(format!("{scheme} with {} by a key of {}", own.hash, key.kind()));
        }
    };
    let (algorithm, key, scalar) = chosen;
    let verified = own.fixed(scalar).is_some_and(|signature| {
        context.crypto.verify(algorithm, key, quote.attest.signed(), &signature).is_ok()
    });
    if verified {
        return Check::passed(NAME, format!("{scheme} with {} by the attestation key", own.hash));
    }
    let text = "the quote was not signed by the attestation key: altered, or another TPM's";
    Check::failed(NAME, Code::QuoteSignatureInvalid, text)
}

/// The digest that is signed is one of bytes without names: 24 values of 32 bytes digest like 16 of 48. So what they
/// are is taken from what is signed: the banks and registers of the selection.
fn registers(quote: &Quote, algorithm: HashAlgorithm, crypto: &dyn Crypto) -> Check {
    const NAME: &str = "registers";
    let selected: Vec<_> = quote.attest.selected().collect();
    let wanted: BTreeSet<_> = selected.iter().copied().collect();
    let sent: BTreeSet<_> = quote.values.keys().copied().collect();
    if sent != wanted {
        let text = match sent.is_empty() {
            true => "the values of the quoted registers were not sent",
            false => "the values that were sent are not those of the quoted registers",
        };
        return Check::failed(NAME, Code::PcrSelectionMismatch, text)
            .expected(names(&wanted))
            .observed(names(&sent))
            .mend("send the value of each register that the quote selects, and no other");
    }
    let values: Vec<&[u8]> =
        selected.iter().filter_map(|name| quote.values.get(name)).map(Vec::as_slice).collect();
    let digest = match algorithm {
        HashAlgorithm::Sha256 => crypto.sha256(&values).to_vec(),
        HashAlgorithm::Sha384 => crypto.sha384(&values).to_vec(),
        HashAlgorithm::Sha512 => crypto.sha512(&values).to_vec(),
        other => {
            let text = format!("the digest of the registers is by {other}");
            return Check::failed(NAME, Code::SignatureAlgorithmUnsupported, text);
        }
    };
    if digest == quote.attest.pcr_digest {
        return Check::passed(NAME, "the values are those that the TPM quoted");
    }
    let text = "the values of the registers are not those that the TPM quoted";
    Check::failed(NAME, Code::PcrDigestMismatch, text)
        .expected(hex::encode(&quote.attest.pcr_digest))
        .observed(hex::encode(digest))
        .mend("read the registers in the same moment as the quote: one of them was extended in between")
}

fn names(registers: &BTreeSet<(HashAlgorithm, u8)>) -> String {
    let names: Vec<_> = registers.iter().map(|(bank, register)| format!("pcr{register}.{bank}")).collect();
    if names.is_empty() { "none".into() } else { names.join(" ") }
}

/// Whether the quotes cover the registers that the policy wants, in a bank that is worth something.
pub(crate) fn coverage(quotes: &[&Quote], context: &Context<'_>) -> Vec<Check> {
    let policy = &context.policy.tpm;
    let quoted = || quotes.iter().flat_map(|quote| quote.attest.selected());
    let strong: BTreeSet<u8> =
        quoted().filter(|(bank, _)| *bank != HashAlgorithm::Sha1).map(|(_, register)| register).collect();
    let missing: Vec<_> =
        policy.registers.difference(&strong).map(|register| format!("pcr{register}")).collect();
    let coverage = match missing.is_empty() {
        true => Check::passed("coverage", "the quotes cover the registers that the policy names"),
        false => Check::failed(
            "coverage",
            Code::PcrNotQuoted,
            "registers that the policy names are not quoted, or in the SHA-1 bank only",
        )
        .expected(missing.join(" "))
        .mend("let the attester quote these registers too, in the SHA-256 bank"),
    };
    let bank = match strong.is_empty() && quoted().next().is_some() {
        true => by_rule(policy.sha1, "bank", Code::PcrBankWeak, "the quotes are of the SHA-1 bank alone")
            .mend("let the attester quote the SHA-256 bank"),
        false => Check::passed("bank", "a bank other than that of SHA-1"),
    };
    vec![coverage, bank]
}
