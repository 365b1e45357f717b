//! What a person writes after `provider:bailey:`, and after `provider:attestation-agent:` for CoCo's `coco_keyprovider`.

use std::path::PathBuf;

use crate::{KeyName, KeyNameError};

/// The longest text, in bytes.
const MAX_TEXT: usize = 4096;

/// Which key is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parameter {
    /// A key that the coordinator keeps.
    Kept(KeyName),
    /// A key in a file, which guests will know by this name.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its name.
        key: KeyName,
    },
}

/// Why a text is no parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// Not text, or too long, or nothing.
    #[error("the key provider's parameter is empty, not text, or longer than {MAX_TEXT} bytes")]
    Text,
    /// The key's name.
    #[error(
        "the key provider's parameter names no key: it is kbs:///REPOSITORY/TYPE/TAG, or CoCo's keypath=FILE::keyid=kbs:///REPOSITORY/TYPE/TAG::algorithm=A256GCM"
    )]
    Key(#[source] KeyNameError),
    /// Not `NAME=VALUE`.
    #[error("part {at} of the key provider's parameter is not NAME=VALUE")]
    Part {
        /// From 1.
        at: usize,
    },
    /// Unknown, or given twice.
    #[error(
        "part {at} of the key provider's parameter is neither keypath, keyid nor algorithm, or is there twice"
    )]
    Option {
        /// From 1.
        at: usize,
    },
    /// No `keyid`.
    #[error(
        "the key provider's parameter has no keyid: guests must know the key by a name, such as keyid=kbs:///default/key/1"
    )]
    NoKeyId,
    /// AES-CTR.
    #[error(
        "algorithm=A256CTR authenticates nothing, so that a layer's key could be changed unseen; use A256GCM"
    )]
    NotAuthenticated,
    /// Another one.
    #[error("the algorithm is A256GCM, and no other")]
    Algorithm,
    /// `sample=true`.
    #[error("sample=true is a key that everybody knows; name one of your own")]
    Sample,
}

impl Parameter {
    /// Reads a text.
    ///
    /// # Errors
    /// See [`ParameterError`].
    pub fn parse(text: &[u8]) -> Result<Self, ParameterError> {
        let text = std::str::from_utf8(text).ok().filter(|text| (1..=MAX_TEXT).contains(&text.len()));
        let text = text.ok_or(ParameterError::Text)?;
        match text.contains('=') {
            true => Self::of_coco(text),
            false => text.parse().map(Self::Kept).map_err(ParameterError::Key),
        }
    }

    fn of_coco(text: &str) -> Result<Self, ParameterError> {
        let (mut path, mut id, mut algorithm) = (None, None, None);
        for (index, part) in text.split("::").enumerate() {
            let at = index + 1;
            let (name, value) = part.split_once('=').ok_or(ParameterError::Part { at })?;
            let place = match name {
                "keypath" => &mut path,
                "keyid" => &mut id,
                "algorithm" => &mut algorithm,
                "sample" => return Err(ParameterError::Sample),
                _ => return Err(ParameterError::Option { at }),
            };
            if value.is_empty() {
                return Err(ParameterError::Part { at });
            }
            if place.replace(value).is_some() {
                return Err(ParameterError::Option { at });
            }
        }
        match algorithm {
            None | Some("A256GCM") => {}
            Some("A256CTR") => return Err(ParameterError::NotAuthenticated),
            Some(_) => return Err(ParameterError::Algorithm),
        }
        let key = id.ok_or(ParameterError::NoKeyId)?.parse().map_err(ParameterError::Key)?;
        Ok(match path {
            Some(path) => Self::File { path: path.into(), key },
            None => Self::Kept(key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Parameter, ParameterError> {
        Parameter::parse(text.as_bytes())
    }

    #[test]
    fn a_name_or_cocos_parts() {
        let key: KeyName = "default/key/1".parse().unwrap();
        for text in ["kbs:///default/key/1", "default/key/1", "keyid=kbs:///default/key/1"] {
            assert_eq!(parse(text), Ok(Parameter::Kept(key.clone())), "{text}");
        }
        let file = Parameter::File { path: "/k".into(), key };
        for text in [
            "keypath=/k::keyid=kbs:///default/key/1::algorithm=A256GCM",
            "algorithm=A256GCM::keyid=kbs:///default/key/1::keypath=/k",
            "keypath=/k::keyid=default/key/1",
        ] {
            assert_eq!(parse(text), Ok(file.clone()), "{text}");
        }
    }

    /// CoCo's own provider looks the algorithm up under `keypath`, so that the option has no effect.
    #[test]
    fn the_algorithm_is_heeded() {
        let with = |algorithm: &str| parse(&format!("keyid=kbs:///a/b/c::algorithm={algorithm}"));
        assert_eq!(with("A256CTR"), Err(ParameterError::NotAuthenticated));
        assert_eq!(with("A128GCM"), Err(ParameterError::Algorithm));
    }

    #[test]
    fn wrong_parameters_say_what_is_wrong() {
        assert_eq!(parse(""), Err(ParameterError::Text));
        assert_eq!(Parameter::parse(&[0xff]), Err(ParameterError::Text));
        assert_eq!(parse(&"a".repeat(4097)), Err(ParameterError::Text));
        assert!(matches!(parse("my-key"), Err(ParameterError::Key(_))));
        assert!(matches!(parse("keyid=kbs:///../../x"), Err(ParameterError::Key(_))));
        assert_eq!(parse("keypath=/k"), Err(ParameterError::NoKeyId));
        assert_eq!(parse("sample=true"), Err(ParameterError::Sample));
        assert_eq!(parse("keyid=a/b/c::keyid=a/b/c"), Err(ParameterError::Option { at: 2 }));
        assert_eq!(parse("keyid=a/b/c::colour=red"), Err(ParameterError::Option { at: 2 }));
        assert_eq!(parse("keyid=a/b/c::"), Err(ParameterError::Part { at: 2 }));
        assert_eq!(parse("keypath=::keyid=a/b/c"), Err(ParameterError::Part { at: 1 }));
    }
}
