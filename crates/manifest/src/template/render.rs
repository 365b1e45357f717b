//! A template and values to bytes. The output is allocated once at its full size and wiped when dropped,
//! so that no copy of a secret stays behind in freed memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Encoding, Part, PemLabel, Place, Reference, Template};

/// Where rendering gets its values from.
pub trait Values {
    /// The value, in the encoding that [`Reference`] documents; `None` when there is none, for instance
    /// because a user has not uploaded it yet.
    fn value(&self, reference: &Reference) -> Option<&[u8]>;
}

/// Why a template could not be rendered. Never holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RenderError {
    /// The value does not exist or is empty.
    #[error("there is no value for {0} yet")]
    NoValue(Reference),
    /// An environment variable would contain a NUL byte.
    #[error("the value of {0} contains a NUL byte, which an environment variable cannot hold")]
    Nul(Reference),
}

/// RFC 7468 §2: base64 lines of 64 characters.
const PEM_LINE: usize = 64;

impl Template {
    /// Writes the template with these values.
    ///
    /// # Errors
    /// When a value is missing, empty, or cannot stand in an environment variable.
    pub fn render(&self, values: &dyn Values) -> Result<Zeroizing<Vec<u8>>, RenderError> {
        let mut pieces = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            pieces.push(match part {
                Part::Literal(bytes) => (Encoding::Raw, bytes.as_slice()),
                Part::Value { encoding, reference } => (*encoding, self.value(*encoding, reference, values)?),
            });
        }
        let capacity = pieces.iter().map(|(encoding, bytes)| encoding.length_of(bytes.len())).sum();
        let mut output = Zeroizing::new(Vec::with_capacity(capacity));
        for (encoding, bytes) in pieces {
            encoding.append(bytes, &mut output);
        }
        debug_assert_eq!(output.len(), capacity, "a reallocation would leave a copy behind");
        Ok(output)
    }

    fn value<'v>(
        &self,
        encoding: Encoding,
        reference: &Reference,
        values: &'v dyn Values,
    ) -> Result<&'v [u8], RenderError> {
        let bytes = values.value(reference).filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or_else(|| RenderError::NoValue(reference.clone()))?;
        let verbatim = matches!(encoding, Encoding::Raw | Encoding::String);
        if self.place == Place::Env && verbatim && bytes.contains(&0) {
            return Err(RenderError::Nul(reference.clone()));
        }
        Ok(bytes)
    }
}

impl Encoding {
    fn length_of(self, input: usize) -> usize {
        let base64 = input.div_ceil(3) * 4;
        match self {
            Self::Raw | Self::String => input,
            Self::Hex => input * 2,
            Self::Base64 => base64,
            Self::Pem(label) => {
                let fences = "-----BEGIN -----\n".len() + "-----END -----\n".len() + 2 * label.as_str().len();
                fences + base64 + base64.div_ceil(PEM_LINE)
            }
        }
    }

    fn append(self, input: &[u8], output: &mut Vec<u8>) {
        match self {
            Self::Raw | Self::String => output.extend_from_slice(input),
            Self::Hex => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                for byte in input {
                    output.push(DIGITS[usize::from(byte >> 4)]);
                    output.push(DIGITS[usize::from(byte & 15)]);
                }
            }
            Self::Base64 => output.extend_from_slice(base64(input).as_bytes()),
            Self::Pem(label) => label.append(input, output),
        }
    }
}

fn base64(input: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(input.len().div_ceil(3) * 4));
    STANDARD.encode_string(input, &mut text);
    text
}

impl PemLabel {
    /// A PEM block (RFC 7468) of this type. Wiped when dropped, for a private key may be in it.
    #[must_use]
    pub fn block(self, der: &[u8]) -> Zeroizing<String> {
        let mut output = Zeroizing::new(Vec::with_capacity(Encoding::Pem(self).length_of(der.len())));
        self.append(der, &mut output);
        let text = String::from_utf8(std::mem::take(&mut *output));
        Zeroizing::new(text.expect("base64 and labels are ASCII"))
    }

    fn append(self, der: &[u8], output: &mut Vec<u8>) {
        let label = self.as_str().as_bytes();
        let text = base64(der);
        output.extend([b"-----BEGIN ", label, b"-----\n"].concat());
        for line in text.as_bytes().chunks(PEM_LINE) {
            output.extend_from_slice(line);
            output.push(b'\n');
        }
        output.extend([b"-----END ", label, b"-----\n"].concat());
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "CERTIFICATE",
            Self::PublicKey => "PUBLIC KEY",
            Self::PrivateKey => "PRIVATE KEY",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::template::{Shape, parse};

    struct Fixed(&'static [u8]);

    impl Values for Fixed {
        fn value(&self, _: &Reference) -> Option<&[u8]> {
            Some(self.0)
        }
    }

    fn render(text: &str, place: Place, value: &'static [u8]) -> Result<Vec<u8>, RenderError> {
        let names = [("word", Shape::Plain)];
        let secrets: BTreeMap<_, _> = names.map(|(n, s)| (n.parse().expect("a name"), Some(s))).into();
        let template = parse(text.as_bytes(), place, &secrets).expect("a template");
        template.render(&Fixed(value)).map(|bytes| bytes.to_vec())
    }

    #[test]
    fn each_function_writes_its_encoding() {
        let of = |text, place| {
            render(text, place, b"\x00\xffhi").map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        assert_eq!(of("<{{ hex .Secrets.word }}>", Place::Env).as_deref(), Ok("<00ff6869>"));
        assert_eq!(of("<{{ base64 .Secrets.word }}>", Place::Env).as_deref(), Ok("<AP9oaQ==>"));
        assert_eq!(
            render("<{{ raw .Secrets.word }}>", Place::File, b"\x00\xff").as_deref(),
            Ok(&b"<\x00\xff>"[..])
        );
        assert_eq!(render("<{{ string .Secrets.word }}>", Place::Env, b"hi").as_deref(), Ok(&b"<hi>"[..]));
    }

    #[test]
    fn pem_is_rfc_7468() {
        static KEY: [u8; 50] = [0; 50];
        let text = render("{{ pem .MarbleRun.MarbleCert.Private }}", Place::Env, &KEY).expect("PEM");
        let expected =
            format!("-----BEGIN PRIVATE KEY-----\n{}\nAAA=\n-----END PRIVATE KEY-----\n", "A".repeat(64));
        assert_eq!(String::from_utf8(text).expect("text"), expected);
    }

    #[test]
    fn pem_of_every_length_is_allocated_exactly() {
        static BYTES: [u8; 200] = [7; 200];
        for length in 1..200 {
            render("{{ pem .MarbleRun.MarbleCert.Cert }}", Place::File, &BYTES[..length]).expect("PEM");
        }
    }

    #[test]
    fn nul_cannot_enter_an_environment_variable() {
        let error = render("{{ string .Secrets.word }}", Place::Env, b"a\0b").expect_err("NUL");
        assert!(matches!(error, RenderError::Nul(_)));
        assert!(!format!("{error:?}").contains("a\\0b"));
    }

    #[test]
    fn an_empty_value_is_no_value() {
        assert!(matches!(render("{{ hex .Secrets.word }}", Place::Env, b""), Err(RenderError::NoValue(_))));
    }
}
