//! `bailey evidence wrap`: Evidence in a conceptual message wrapper, which says what it is.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, ValueEnum};
use evidence::cmw::{Cmw, ContentType, Indicator, MEDIA_TYPE_ENDORSEMENTS};

use super::against::{examination, read};
use crate::failure::{Failure, Input, Outcome};

/// CoAP content formats of RFC 7252, §12.3.
const OCTET_STREAM: u16 = 42;
const JSON: u16 = 50;

/// Put Evidence into a conceptual message wrapper (CMW).
#[derive(Args)]
pub struct Wrap {
    /// The Evidence as its platform gave it
    file: PathBuf,
    /// The wrapper's encoding: a record in JSON or CBOR, or a CBOR tag
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// The media type that the record names; without one, application/octet-stream or application/json
    #[arg(long = "type", value_name = "MEDIA-TYPE", conflicts_with = "content_format")]
    media_type: Option<String>,
    /// The CoAP content format that it names instead
    #[arg(long, value_name = "NUMBER")]
    content_format: Option<u16>,
    /// Endorsements or a bundle to go with it: then the wrapper is a collection of both
    #[arg(long, value_name = "FILE")]
    staple: Option<PathBuf>,
    /// Where to write it; without one, to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Cbor,
    Tag,
}

impl Wrap {
    pub fn run(self) -> Outcome {
        let bytes = read(&self.file)?;
        examination(&self.file)?;
        if Cmw::recognises(&bytes) {
            return Err(Failure::malformed(format!("{} is wrapped already", self.file.display())));
        }
        let cmw = self.wrapper(bytes)?;
        let wrapped = match self.format {
            Format::Json => format!("{}\n", cmw.to_json()).into_bytes(),
            Format::Cbor => cmw.to_cbor(),
            Format::Tag => cmw.to_tag().ok_or_else(|| {
                Failure::malformed("a tag stands for the content format of one message")
                    .hint("give --content-format in the place of --type, and staple nothing")
            })?,
        };
        match self.output {
            Some(path) => Ok(std::fs::write(&path, wrapped)
                .with_context(|| format!("{} cannot be written", path.display()))?),
            None => {
                let mut out = std::io::stdout().lock();
                Ok(out.write_all(&wrapped).and_then(|()| out.flush()).context("nobody takes the wrapper")?)
            }
        }
    }

    fn wrapper(&self, bytes: Vec<u8>) -> Outcome<Cmw> {
        let record = Cmw::Record {
            content_type: self.content_type(&bytes)?,
            value: bytes,
            indicator: Indicator::EVIDENCE,
        };
        let Some(path) = &self.staple else { return Ok(record) };
        let stapled = read(path)?;
        appraisal::EndorsementsBuilder::new()
            .add_file_bytes(&stapled)
            .malformed(format!("{} is no Endorsement that this version knows", path.display()))?;
        let media_type = match evidence::Endorsements::from_bytes(&stapled) {
            Ok(_) => MEDIA_TYPE_ENDORSEMENTS,
            Err(_) if evidence::bundle::Bundle::recognises(&stapled) => "application/cose",
            Err(_) => "application/octet-stream",
        };
        let stapled = Cmw::record(media_type, stapled, Indicator::ENDORSEMENTS);
        Ok(Cmw::Collection([("evidence".to_owned(), record), ("endorsements".to_owned(), stapled)].into()))
    }

    fn content_type(&self, bytes: &[u8]) -> Outcome<ContentType> {
        let is_json = bytes.first() == Some(&b'{');
        match (&self.media_type, self.content_format, self.format) {
            (Some(text), _, _) if text.contains('/') => Ok(ContentType::MediaType(text.clone())),
            (Some(text), _, _) => Err(Failure::malformed(format!("{text:?} is no media type"))),
            (None, Some(number), _) => Ok(ContentType::ContentFormat(number)),
            (None, None, Format::Tag) => {
                Ok(ContentType::ContentFormat(if is_json { JSON } else { OCTET_STREAM }))
            }
            (None, None, _) => {
                let text = if is_json { "application/json" } else { "application/octet-stream" };
                Ok(ContentType::MediaType(text.into()))
            }
        }
    }
}
