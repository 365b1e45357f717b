//! ocicrypt's key provider protocol (containers/ocicrypt, docs/keyprovider.md): a JSON object in, one out.
//!
//! Go's callers write every member, absent ones as `null` or `{}`; Rust's leave them out. All of it is read.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{MAX_OPTIONS, bytes::Bytes};

/// The longest request that is read, in bytes. It may carry public keys for other ways to wrap.
pub const MAX_REQUEST: usize = 512 * 1024;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `keywrap`
    Wrap,
    /// `keyunwrap`
    Unwrap,
}

/// A request.
pub enum Request {
    /// Wrap a layer's key.
    Wrap {
        /// The texts after `provider:NAME:`, by name. Of other ways to wrap there are parameters too.
        parameters: BTreeMap<String, Vec<Vec<u8>>>,
        /// ocicrypt's private options, as they are: JSON with the layer's key.
        options: Zeroizing<Vec<u8>>,
    },
    /// Unwrap it.
    Unwrap {
        /// What stands in the annotation.
        annotation: Vec<u8>,
    },
}

/// The layer's key is not shown.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrap { .. } => f.write_str("Wrap"),
            Self::Unwrap { .. } => f.write_str("Unwrap"),
        }
    }
}

/// Why bytes are no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON, or not of this shape.
    #[error("the request is not the JSON object of ocicrypt's protocol (line {line}, column {column})")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Too long.
    #[error("the request is longer than {MAX_REQUEST} bytes")]
    TooLong,
    /// Neither `keywrap` nor `keyunwrap`, or not the one that was called.
    #[error("`op` is neither `keywrap` nor `keyunwrap`, or not what was called")]
    Operation,
    /// No layer key.
    #[error("`keywrapparams.optsdata` is missing, empty, or longer than {MAX_OPTIONS} bytes")]
    Options,
    /// No packet.
    #[error("`keyunwrapparams.annotation` is missing")]
    Annotation,
}

#[derive(Deserialize)]
struct Wire {
    op: Option<String>,
    keywrapparams: Option<WrapParameters>,
    keyunwrapparams: Option<UnwrapParameters>,
}

#[derive(Deserialize)]
struct WrapParameters {
    ec: Option<EncryptConfig>,
    optsdata: Option<Bytes>,
}

#[derive(Deserialize)]
struct EncryptConfig {
    #[serde(rename = "Parameters")]
    parameters: Option<BTreeMap<String, Option<Vec<Bytes>>>>,
}

#[derive(Deserialize)]
struct UnwrapParameters {
    annotation: Option<Bytes>,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// See [`RequestError`]. No error repeats the request, which may have a key in it.
    pub fn parse(json: &[u8]) -> Result<Self, RequestError> {
        if json.len() > MAX_REQUEST {
            return Err(RequestError::TooLong);
        }
        let wire: Wire = serde_json::from_slice(json)
            .map_err(|error| RequestError::Json { line: error.line(), column: error.column() })?;
        match wire.op.as_deref() {
            Some("keywrap") => wrap(wire.keywrapparams),
            Some("keyunwrap") => {
                let annotation = wire.keyunwrapparams.and_then(|parameters| parameters.annotation);
                let annotation = annotation.filter(|annotation| !annotation.0.is_empty());
                Ok(Self::Unwrap { annotation: annotation.ok_or(RequestError::Annotation)?.take() })
            }
            _ => Err(RequestError::Operation),
        }
    }

    /// What it asks.
    #[must_use]
    pub fn operation(&self) -> Operation {
        match self {
            Self::Wrap { .. } => Operation::Wrap,
            Self::Unwrap { .. } => Operation::Unwrap,
        }
    }
}

fn wrap(parameters: Option<WrapParameters>) -> Result<Request, RequestError> {
    let parameters = parameters.ok_or(RequestError::Options)?;
    let options = parameters.optsdata.map(|options| Zeroizing::new(options.take()));
    let options = options.filter(|options| (1..=MAX_OPTIONS).contains(&options.len()));
    let of_recipients = parameters.ec.and_then(|config| config.parameters).unwrap_or_default();
    let parameters = of_recipients
        .into_iter()
        .map(|(name, texts)| (name, texts.unwrap_or_default().into_iter().map(Bytes::take).collect()))
        .collect();
    Ok(Request::Wrap { parameters, options: options.ok_or(RequestError::Options)? })
}

#[derive(Serialize)]
struct Wrapped<'a> {
    keywrapresults: WrapResults<'a>,
}

#[derive(Serialize)]
struct WrapResults<'a> {
    annotation: &'a [u8],
}

#[derive(Serialize)]
struct Unwrapped<'a> {
    keyunwrapresults: UnwrapResults<'a>,
}

#[derive(Serialize)]
struct UnwrapResults<'a> {
    optsdata: &'a [u8],
}

/// The answer to [`Request::Wrap`].
#[must_use]
pub fn wrapped(annotation: &[u8]) -> Vec<u8> {
    // Arrays of numbers: JSON has them all.
    serde_json::to_vec(&Wrapped { keywrapresults: WrapResults { annotation } }).unwrap_or_default()
}

/// The answer to [`Request::Unwrap`].
#[must_use]
pub fn unwrapped(options: &[u8]) -> Zeroizing<Vec<u8>> {
    let answer = Unwrapped { keyunwrapresults: UnwrapResults { optsdata: options } };
    Zeroizing::new(serde_json::to_vec(&answer).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Request, RequestError> {
        Request::parse(json.as_bytes())
    }

    #[test]
    fn what_go_and_rust_write_is_read() {
        for json in [
            r#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"bailey":["a2V5"]},"DecryptConfig":{"Parameters":{}}},"optsdata":"b3B0cw=="},"keyunwrapparams":{"dc":null,"annotation":null}}"#,
            r#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"bailey":["a2V5"]},"DecryptConfig":null},"optsdata":"b3B0cw=="},"keyunwrapparams":{}}"#,
            r#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"bailey":[[107,101,121]]}},"optsdata":[111,112,116,115]}}"#,
        ] {
            let Request::Wrap { parameters, options } = parse(json).unwrap() else { panic!("{json}") };
            assert_eq!(
                (&parameters["bailey"][..], options.as_slice()),
                (&[b"key".to_vec()][..], &b"opts"[..])
            );
        }
        for json in [
            r#"{"op":"keyunwrap","keywrapparams":{"ec":null,"optsdata":null},"keyunwrapparams":{"dc":{"Parameters":{"bailey":["a2V5"]}},"annotation":"e30="}}"#,
            r#"{"op":"keyunwrap","keywrapparams":{},"keyunwrapparams":{"dc":{"Parameters":null},"annotation":"e30="}}"#,
            r#"{"op":"keyunwrap","keyunwrapparams":{"dc":{"Parameters":{}},"annotation":[123,125]}}"#,
        ] {
            let Request::Unwrap { annotation } = parse(json).unwrap() else { panic!("{json}") };
            assert_eq!(annotation, b"{}");
        }
    }

    #[test]
    fn parameters_may_be_absent() {
        for ec in ["null", "{}", r#"{"Parameters":null}"#, r#"{"Parameters":{"x":null}}"#] {
            let json = format!(r#"{{"op":"keywrap","keywrapparams":{{"ec":{ec},"optsdata":"b3B0cw=="}}}}"#);
            let Request::Wrap { parameters, .. } = parse(&json).unwrap() else { panic!("{json}") };
            assert!(parameters.values().all(Vec::is_empty));
        }
    }

    /// Defect of verdictd: it panics on missing members.
    #[test]
    fn missing_and_odd_members_are_refused() {
        for (json, error) in [
            ("{}", RequestError::Operation),
            (r#"{"op":null}"#, RequestError::Operation),
            (r#"{"op":"KeyWrap"}"#, RequestError::Operation),
            (r#"{"op":"keywrap"}"#, RequestError::Options),
            (r#"{"op":"keywrap","keywrapparams":{"optsdata":null}}"#, RequestError::Options),
            (r#"{"op":"keywrap","keywrapparams":{"optsdata":""}}"#, RequestError::Options),
            (r#"{"op":"keyunwrap"}"#, RequestError::Annotation),
            (r#"{"op":"keyunwrap","keyunwrapparams":{"annotation":[]}}"#, RequestError::Annotation),
        ] {
            assert_eq!(parse(json).unwrap_err(), error, "{json}");
        }
        let long = "A".repeat(4 * (MAX_OPTIONS / 3 + 1));
        let json = format!(r#"{{"op":"keywrap","keywrapparams":{{"optsdata":"{long}"}}}}"#);
        assert_eq!(parse(&json).unwrap_err(), RequestError::Options);
        for json in [
            "",
            "[]",
            "null",
            r#"{"op":7}"#,
            r#"{"op":"keywrap","op":"keyunwrap"}"#,
            r#"{"op":"keywrap","keywrapparams":{"optsdata":"%"}}"#,
            r#"{"op":"keywrap","keywrapparams":{"optsdata":[256]}}"#,
            r#"{"op":"keywrap","keywrapparams":{"optsdata":[-1]}}"#,
            r#"{"op":"keywrap","keywrapparams":{"optsdata":{"a":1}}}"#,
            r#"{"op":"keyunwrap","keyunwrapparams":{"annotation":"e30"}}"#,
        ] {
            assert!(matches!(parse(json).unwrap_err(), RequestError::Json { .. }), "{json}");
        }
        assert_eq!(Request::parse(&vec![b' '; MAX_REQUEST + 1]).unwrap_err(), RequestError::TooLong);
    }

    #[test]
    fn answers_are_arrays_of_numbers() {
        assert_eq!(wrapped(b"{}"), br#"{"keywrapresults":{"annotation":[123,125]}}"#);
        assert_eq!(unwrapped(b"{}").as_slice(), br#"{"keyunwrapresults":{"optsdata":[123,125]}}"#);
    }
}
