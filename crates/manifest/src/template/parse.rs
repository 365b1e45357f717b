//! Bytes to a template. What Go's `text/template` would also accept (pipelines, variables, `if`, `range`,
//! built-in functions, comments) is refused with its place, never passed through as text.

use std::collections::BTreeMap;

use super::{Encoding, Generation, KeyPart, Part, PemLabel, Place, Reference, SecretPart, Template};
use crate::fault::{Code, nearest, shown, suggestion};
use crate::names::SecretName;

/// What a secret looks like to a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    SymmetricKey,
    Plain,
    Certificate,
}

/// A fault within a template; line and column count characters from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TemplateFault {
    pub(crate) line: usize,
    pub(crate) column: usize,
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// A fault whose place is not known yet.
struct Refusal {
    code: Code,
    message: String,
    hint: Option<String>,
}

/// After so many faults the rest of a template is not read: finding each one's line costs a pass over it.
const MOST_FAULTS: usize = 10;
const OPEN: &[u8] = b"{{";
const CLOSE: &[u8] = b"}}";
/// The control words of Go's `text/template`.
const KEYWORDS: [&str; 10] =
    ["if", "else", "end", "range", "with", "define", "template", "block", "break", "continue"];
const SUBSET: &str = "only actions of the form `{{ function .Path.To.Value }}` are understood";

/// Parses a template; `secrets` holds the shape of each secret, `None` when the secret itself is faulty.
pub(crate) fn parse(
    data: &[u8],
    place: Place,
    secrets: &BTreeMap<SecretName, Option<Shape>>,
) -> Result<Template, Vec<TemplateFault>> {
    let mut parts = Vec::new();
    let mut faults = Vec::new();
    let mut from = 0;
    let mut trim_start = false;
    while faults.len() < MOST_FAULTS {
        let Some(open) = find(data, OPEN, from) else {
            literal(&mut parts, &data[from..], trim_start, false);
            break;
        };
        let inner = open + OPEN.len();
        let Some(close) = find(data, CLOSE, inner) else {
            let refusal = Refusal::syntax("an action that `{{` opens is not closed by `}}`");
            faults.push(refusal.at(data, open));
            break;
        };
        let (body, trims_left, trims_right) = without_trim_markers(&data[inner..close]);
        literal(&mut parts, &data[from..open], trim_start, trims_left);
        match action(body, place, secrets) {
            Ok(part) => parts.push(part),
            Err(refusal) => faults.push(refusal.at(data, open)),
        }
        trim_start = trims_right;
        from = close + CLOSE.len();
    }
    if faults.is_empty() { Ok(Template { parts, place }) } else { Err(faults) }
}

fn find(data: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    data[from..].windows(wanted.len()).position(|window| window == wanted).map(|at| from + at)
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// `{{- ` trims the white space before an action, ` -}}` that after it; the inner space is obligatory.
fn without_trim_markers(mut body: &[u8]) -> (&[u8], bool, bool) {
    let left = matches!(body, [b'-', space, ..] if is_space(space));
    if left {
        body = &body[1..];
    }
    let right = matches!(body, [.., space, b'-'] if is_space(space));
    if right {
        body = &body[..body.len() - 1];
    }
    (body, left, right)
}

fn literal(parts: &mut Vec<Part>, mut bytes: &[u8], trim_start: bool, trim_end: bool) {
    while trim_start && bytes.first().is_some_and(is_space) {
        bytes = &bytes[1..];
    }
    while trim_end && bytes.last().is_some_and(is_space) {
        bytes = &bytes[..bytes.len() - 1];
    }
    if !bytes.is_empty() {
        parts.push(Part::Literal(bytes.to_vec()));
    }
}

fn action(body: &[u8], place: Place, secrets: &BTreeMap<SecretName, Option<Shape>>) -> Result<Part, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::syntax("an action is not UTF-8"))?;
    let mut words = text.split([' ', '\t', '\r', '\n']).filter(|word| !word.is_empty());
    let (function, path) = match (words.next(), words.next(), words.next()) {
        (Some(function), Some(path), None) => (function, path),
        (Some(path), None, None) if path.starts_with('.') => {
            return Err(Refusal::syntax("a value needs a function that says how to write it"));
        }
        (Some(_), ..) => return Err(Refusal::outside_subset(text)),
        (None, ..) => return Err(Refusal::syntax("the action is empty")),
    };
    let function = Function::parse(function, place)?;
    let (reference, written) = resolve(path, secrets)?;
    Ok(Part::Value { encoding: function.encoding(&written)?, reference })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Function {
    Pem,
    Hex,
    Base64,
    Raw,
    String,
}

impl Function {
    const ALL: [(&'static str, Self); 5] = [
        ("pem", Self::Pem),
        ("hex", Self::Hex),
        ("base64", Self::Base64),
        ("raw", Self::Raw),
        ("string", Self::String),
    ];

    fn parse(word: &str, place: Place) -> Result<Self, Refusal> {
        let Some((_, function)) = Self::ALL.iter().find(|(name, _)| *name == word) else {
            if KEYWORDS.contains(&word) || !word.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return Err(Refusal::outside_subset(word));
            }
            return Err(Refusal {
                code: Code::TemplateFunction,
                message: format!("`{}` is not a function of the accepted subset", shown(word)),
                hint: suggestion(word, &Self::ALL.map(|(name, _)| name)),
            });
        };
        let elsewhere = match (function, place) {
            (Self::Raw, Place::Env) => {
                Some(("raw", "files", "use `string` for a plain secret, or `hex` or `base64`"))
            }
            (Self::String, Place::File) => Some(("string", "environment variables", "use `raw`")),
            _ => None,
        };
        match elsewhere {
            None => Ok(*function),
            Some((name, place, hint)) => Err(Refusal {
                code: Code::TemplateFunction,
                message: format!("`{name}` is allowed in {place} only"),
                hint: Some(hint.to_owned()),
            }),
        }
    }

    fn encoding(self, written: &Written) -> Result<Encoding, Refusal> {
        let refuse = |message: &str, hint: &str| {
            Err(Refusal {
                code: Code::TemplateFunction,
                message: message.to_owned(),
                hint: Some(hint.to_owned()),
            })
        };
        match self {
            Self::Hex => Ok(Encoding::Hex),
            Self::Base64 => Ok(Encoding::Base64),
            Self::Raw => Ok(Encoding::Raw),
            Self::Pem => match written.field {
                None => refuse(
                    "`pem` writes `.Cert`, `.Public` or `.Private`, not a whole value",
                    "name the part",
                ),
                Some(KeyPart::Certificate) => Ok(Encoding::Pem(PemLabel::Certificate)),
                Some(KeyPart::Public) => Ok(Encoding::Pem(PemLabel::PublicKey)),
                Some(KeyPart::Private) => Ok(Encoding::Pem(PemLabel::PrivateKey)),
            },
            Self::String if written.field.is_none() && written.may_be_plain => Ok(Encoding::String),
            Self::String => {
                refuse("`string` writes whole secrets of type plain only", "use `hex` or `base64`")
            }
        }
    }
}

/// How the author named a value: the part, if any, and whether it is a plain secret.
struct Written {
    field: Option<KeyPart>,
    may_be_plain: bool,
}

fn resolve(
    path: &str,
    secrets: &BTreeMap<SecretName, Option<Shape>>,
) -> Result<(Reference, Written), Refusal> {
    let fields: Vec<&str> = match path.strip_prefix('.') {
        Some(fields) => fields.split('.').collect(),
        None => return Err(Refusal::outside_subset(path)),
    };
    if !fields.iter().all(|field| is_identifier(field)) {
        return Err(Refusal::outside_subset(path));
    }
    match fields.as_slice() {
        ["MarbleRun", rest @ ..] => marblerun(path, rest),
        ["Secrets", rest @ ..] => secret(path, Generation::Current, rest, secrets),
        ["Previous", "Secrets", rest @ ..] => secret(path, Generation::Previous, rest, secrets),
        [first, ..] => Err(Refusal::unknown(path, suggestion(first, &["MarbleRun", "Secrets", "Previous"]))),
        [] => Err(Refusal::outside_subset(path)),
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn marblerun(path: &str, fields: &[&str]) -> Result<(Reference, Written), Refusal> {
    const KNOWN: [&str; 4] = ["RootCA", "MarbleCert", "CoordinatorRoot", "CoordinatorIntermediate"];
    let (authority, part) = match fields {
        [authority] => (*authority, None),
        [authority, part] => (*authority, Some(key_part(path, part)?)),
        _ => return Err(Refusal::unknown(path, Some(format!("known here: {}", KNOWN.join(", "))))),
    };
    let written = Written { field: part, may_be_plain: false };
    let reference = match authority {
        // MarbleRun: a whole value means its public key.
        "MarbleCert" => {
            return Ok((Reference::MarbleCertificate(part.unwrap_or(KeyPart::Public)), written));
        }
        "RootCA" => Reference::RootCa,
        "CoordinatorRoot" => Reference::CoordinatorRoot,
        "CoordinatorIntermediate" => Reference::CoordinatorIntermediate,
        other => return Err(Refusal::unknown(path, suggestion(other, &KNOWN))),
    };
    match part {
        Some(KeyPart::Certificate) => Ok((reference, written)),
        _ => Err(Refusal::unknown(path, Some(format!("a CA has only `.MarbleRun.{authority}.Cert`")))),
    }
}

fn secret(
    path: &str,
    generation: Generation,
    fields: &[&str],
    secrets: &BTreeMap<SecretName, Option<Shape>>,
) -> Result<(Reference, Written), Refusal> {
    let (name, field) = match fields {
        [name] => (*name, None),
        [name, part] => (*name, Some(key_part(path, part)?)),
        _ => {
            return Err(Refusal::unknown(
                path,
                Some("write `.Secrets.name` or `.Secrets.name.Part`".to_owned()),
            ));
        }
    };
    let Some((name, shape)) = secrets.get_key_value(name) else {
        let near = nearest(name, secrets.keys().map(SecretName::as_str));
        return Err(Refusal::unknown(path, near.map(|near| format!("did you mean `{near}`?"))));
    };
    let part = match (shape, field) {
        (Some(Shape::SymmetricKey | Shape::Plain), Some(KeyPart::Certificate)) => {
            return Err(Refusal::unknown(
                path,
                Some("only secrets of a cert type have a certificate".to_owned()),
            ));
        }
        // A key is its own public and private part in MarbleRun.
        (Some(Shape::SymmetricKey | Shape::Plain), _) => SecretPart::Value,
        (Some(Shape::Certificate) | None, field) => SecretPart::Of(field.unwrap_or(KeyPart::Public)),
    };
    let may_be_plain = matches!(shape, Some(Shape::Plain) | None);
    Ok((Reference::Secret { generation, name: name.clone(), part }, Written { field, may_be_plain }))
}

fn key_part(path: &str, field: &str) -> Result<KeyPart, Refusal> {
    KeyPart::from_field(field)
        .ok_or_else(|| Refusal::unknown(path, suggestion(field, &["Cert", "Public", "Private"])))
}

impl Refusal {
    fn syntax(message: &str) -> Self {
        Self { code: Code::TemplateSyntax, message: message.to_owned(), hint: Some(SUBSET.to_owned()) }
    }

    fn outside_subset(text: &str) -> Self {
        Self::syntax(&format!(
            "`{}` is outside the accepted subset of Go's template language",
            shown(text.trim())
        ))
    }

    fn unknown(path: &str, hint: Option<String>) -> Self {
        let message = format!("`{}` refers to nothing", shown(path));
        Self { code: Code::TemplateReference, message, hint }
    }

    fn at(self, data: &[u8], offset: usize) -> TemplateFault {
        let before = &data[..offset];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        TemplateFault {
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + String::from_utf8_lossy(&before[line_start..]).chars().count(),
            code: self.code,
            message: self.message,
            hint: self.hint,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets() -> BTreeMap<SecretName, Option<Shape>> {
        [("key", Shape::SymmetricKey), ("word", Shape::Plain), ("cert", Shape::Certificate)]
            .map(|(name, shape)| (name.parse().expect("a name"), Some(shape)))
            .into()
    }

    fn parts(text: &str, place: Place) -> Vec<Part> {
        parse(text.as_bytes(), place, &secrets()).unwrap_or_else(|faults| panic!("{text}: {faults:?}")).parts
    }

    fn fault(text: &str, place: Place) -> TemplateFault {
        parse(text.as_bytes(), place, &secrets()).expect_err(text).remove(0)
    }

    fn value(encoding: Encoding, name: &str) -> Part {
        let reference = Reference::Secret {
            generation: Generation::Current,
            name: name.parse().expect("a name"),
            part: SecretPart::Value,
        };
        Part::Value { encoding, reference }
    }

    #[test]
    fn text_and_actions_alternate() {
        assert_eq!(
            parts("a={{ hex .Secrets.key }};\n", Place::File),
            [Part::Literal(b"a=".into()), value(Encoding::Hex, "key"), Part::Literal(b";\n".into())]
        );
        assert_eq!(parts("no }} action {", Place::Env), [Part::Literal(b"no }} action {".into())]);
        assert_eq!(parts("", Place::Env), []);
    }

    #[test]
    fn trim_markers_eat_white_space() {
        let expected = [Part::Literal(b"a".into()), value(Encoding::Hex, "key"), Part::Literal(b"b".into())];
        assert_eq!(parts("a \n\t{{- hex .Secrets.key -}} \r\n b", Place::File), expected);
        assert_eq!(parts("a{{hex .Secrets.key}}b", Place::File), expected);
        assert_eq!(fault("{{-hex .Secrets.key}}", Place::File).code, Code::TemplateSyntax);
    }

    #[test]
    fn functions_have_their_places() {
        assert_eq!(fault("{{ raw .Secrets.key }}", Place::Env).code, Code::TemplateFunction);
        assert_eq!(fault("{{ string .Secrets.word }}", Place::File).code, Code::TemplateFunction);
        assert_eq!(fault("{{ string .Secrets.key }}", Place::Env).code, Code::TemplateFunction);
        assert_eq!(fault("{{ string .Secrets.word.Private }}", Place::Env).code, Code::TemplateFunction);
        assert_eq!(fault("{{ pem .Secrets.cert }}", Place::File).code, Code::TemplateFunction);
        assert_eq!(
            fault("{{ hexx .Secrets.key }}", Place::File).hint.as_deref(),
            Some("did you mean `hex`?")
        );
        assert_eq!(parts("{{ string .Secrets.word }}", Place::Env), [value(Encoding::String, "word")]);
        assert_eq!(parts("{{ raw .Secrets.word }}", Place::File), [value(Encoding::Raw, "word")]);
    }

    #[test]
    fn certificate_authorities_show_only_their_certificate() {
        for name in ["RootCA", "CoordinatorRoot", "CoordinatorIntermediate"] {
            assert_eq!(parts(&format!("{{{{ pem .MarbleRun.{name}.Cert }}}}"), Place::Env).len(), 1);
            for part in ["", ".Private", ".Public"] {
                let text = format!("{{{{ hex .MarbleRun.{name}{part} }}}}");
                assert_eq!(fault(&text, Place::Env).code, Code::TemplateReference, "{text}");
            }
        }
    }

    #[test]
    fn a_key_has_no_certificate() {
        assert_eq!(fault("{{ hex .Secrets.key.Cert }}", Place::File).code, Code::TemplateReference);
        assert_eq!(parts("{{ hex .Secrets.key.Private }}", Place::File), [value(Encoding::Hex, "key")]);
    }

    #[test]
    fn unknown_references_name_the_nearest() {
        let fault = fault("{{ hex .Secrets.kay }}", Place::File);
        assert_eq!(
            (fault.code, fault.hint.as_deref()),
            (Code::TemplateReference, Some("did you mean `key`?"))
        );
    }

    #[test]
    fn everything_else_of_go_is_refused() {
        for text in [
            "{{ .Secrets.key }}",
            "{{ }}",
            "{{/* comment */}}",
            "{{ if .Secrets.key }}x{{ end }}",
            "{{ range .Secrets }}{{ end }}",
            "{{ printf \"%x\" .Secrets.key }}",
            "{{ .Secrets.key | hex }}",
            "{{ hex (index .Secrets \"key\") }}",
            "{{ hex .Secrets.key | base64 }}",
            "{{ $x := .Secrets.key }}",
            "{{ hex $ }}",
            "{{ hex . }}",
            "{{ hex .Secrets }}",
            "{{ hex .MarbleRun }}",
            "{{ hex .Other.key }}",
            "{{ hex .Secrets.key.Private.More }}",
            "{{ hex Secrets.key }}",
            "{{ hex .Secrets.ключ }}",
            "{{ \"text\" }}",
            "{{ hex .Secrets.key",
            "{{ template \"x\" }}",
            "{{{ hex .Secrets.key }}}",
        ] {
            for place in [Place::File, Place::Env] {
                assert!(parse(text.as_bytes(), place, &secrets()).is_err(), "{text}");
            }
        }
    }

    #[test]
    fn faults_name_line_and_column_and_all_are_found() {
        let faults =
            parse("ä {{ x }}\n  {{ .y }}".as_bytes(), Place::File, &secrets()).expect_err("two faults");
        assert_eq!(
            faults.iter().map(|fault| (fault.line, fault.column)).collect::<Vec<_>>(),
            [(1, 3), (2, 3)]
        );
    }
}
