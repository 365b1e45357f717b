//! What a Marble is given to run with: files, environment variables, arguments.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::document as wire;
use crate::encoding;
use crate::fault::{Code, Collector, shown, suggestion};
use crate::names::SecretName;
use crate::path::Path;
use crate::template::{self, Part, Place, Reference, RenderError, Shape, Template, Values};
use crate::wire::ParameterEntry;

/// The parameters of a Marble, as templates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parameters {
    /// Files by path. No path has a `..` segment or a NUL.
    pub files: BTreeMap<String, Template>,
    /// Environment variables by name. None changes which code is loaded, none is the mesh's own.
    pub env: BTreeMap<String, Template>,
    /// All arguments, the program's name included; without NUL. Arguments are no templates.
    pub argv: Vec<String>,
}

/// The parameters of one instance, with its secrets. `Debug` shows names only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Files by path.
    pub files: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Environment variables by name; without NUL.
    pub env: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// All arguments, the program's name included.
    pub argv: Vec<String>,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered")
            .field("files", &self.files.keys().collect::<Vec<_>>())
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("argv", &self.argv)
            .finish()
    }
}

/// A parameter that could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} `{name}` of the Marble could not be written")]
pub struct ParameterError {
    /// `file` or `environment variable`.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// Why.
    pub source: RenderError,
}

impl Parameters {
    /// Writes all templates with these values.
    ///
    /// # Errors
    /// The first parameter whose value is missing or cannot stand where it should.
    pub fn render(&self, values: &dyn Values) -> Result<Rendered, ParameterError> {
        Ok(Rendered {
            files: render_all("file", &self.files, values)?,
            env: render_all("environment variable", &self.env, values)?,
            argv: self.argv.clone(),
        })
    }

    /// Every value that rendering will ask for.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.files.values().chain(self.env.values()).flat_map(Template::references)
    }
}

fn render_all(
    kind: &'static str,
    templates: &BTreeMap<String, Template>,
    values: &dyn Values,
) -> Result<BTreeMap<String, Zeroizing<Vec<u8>>>, ParameterError> {
    let rendered = templates.iter().map(|(name, template)| match template.render(values) {
        Ok(bytes) => Ok((name.clone(), bytes)),
        Err(source) => Err(ParameterError { kind, name: name.clone(), source }),
    });
    rendered.collect()
}

type Shapes = BTreeMap<SecretName, Option<Shape>>;

pub(crate) fn resolve(
    wire: &wire::Parameters,
    secrets: &Shapes,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Parameters {
    for (i, argument) in wire.argv.iter().enumerate().filter(|(_, argument)| argument.contains('\0')) {
        let message = format!("the argument `{}` contains a NUL byte", shown(argument));
        faults.add(&at.field("Argv").index(i), Code::InvalidValue, message);
    }
    Parameters {
        files: entries(&wire.files, Place::File, secrets, &at.field("Files"), faults),
        env: entries(&wire.env, Place::Env, secrets, &at.field("Env"), faults),
        argv: wire.argv.clone(),
    }
}

fn entries(
    entries: &BTreeMap<String, ParameterEntry>,
    place: Place,
    secrets: &Shapes,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<String, Template> {
    let mut templates = BTreeMap::new();
    for (name, entry) in entries {
        if faults.is_full() {
            break;
        }
        let here = at.key(name);
        match place {
            Place::File => check_path(name, &here, faults),
            Place::Env => check_variable(name, &here, faults),
        }
        if let Some(template) = template(entry, place, secrets, &here, faults) {
            templates.insert(name.clone(), template);
        }
    }
    templates
}

fn template(
    entry: &ParameterEntry,
    place: Place,
    secrets: &Shapes,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Template> {
    let data = decode(entry, at, faults)?;
    let template = if entry.no_templates {
        Template::literal(data, place)
    } else {
        match template::parse(&data, place, secrets) {
            Ok(template) => template,
            Err(found) => {
                for fault in found {
                    let message = format!("line {}, column {}: {}", fault.line, fault.column, fault.message);
                    faults.add_with(at, fault.code, message, || fault.hint);
                }
                return None;
            }
        }
    };
    let nul = |part: &Part| matches!(part, Part::Literal(bytes) if bytes.contains(&0));
    if place == Place::Env && template.parts().iter().any(nul) {
        faults.add(at, Code::InvalidValue, "an environment variable cannot contain a NUL byte");
        return None;
    }
    Some(template)
}

fn decode(entry: &ParameterEntry, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Vec<u8>> {
    let (decoded, what) = match entry.encoding.to_ascii_lowercase().as_str() {
        "" | "string" => (Some(entry.data.clone().into_bytes()), "text"),
        "base64" => (encoding::base64(&entry.data), "standard base64 with padding"),
        "hex" => (encoding::hex(&entry.data), "hexadecimal digits in pairs"),
        _ => {
            let message = format!("`{}` is not an encoding", shown(&entry.encoding));
            faults.add_with(&at.field("Encoding"), Code::InvalidValue, message, || {
                suggestion(&entry.encoding, &["string", "base64", "hex"])
            });
            return None;
        }
    };
    if decoded.is_none() {
        faults.add(&at.field("Data"), Code::InvalidValue, format!("the data is not {what}"));
    }
    decoded
}

fn check_path(path: &str, at: &Path<'_>, faults: &mut Collector<'_>) {
    let climbs = path.split('/').any(|segment| segment == "..");
    if path.is_empty() || path.ends_with('/') || climbs || path.chars().any(char::is_control) {
        let message = "a file needs a path without `..` and control characters that does not end in `/`";
        faults.add(at, Code::InvalidName, message);
    }
}

/// Variables that decide which code a process loads or runs: whoever may set parameters would choose code
/// beside the measured one (S-24).
const DANGEROUS_PREFIXES: [&str; 3] = ["LD_", "DYLD_", "DOCKER_"];
const DANGEROUS: [&str; 14] = [
    "PATH",
    "IFS",
    "ENV",
    "BASH_ENV",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "LOCPATH",
    "NLSPATH",
    "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "PERL5OPT",
    "PYTHONSTARTUP",
    "RUBYOPT",
    "SHELLOPTS",
];

fn check_variable(name: &str, at: &Path<'_>, faults: &mut Collector<'_>) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.bytes().all(plain) || name.len() > 128 {
        let message =
            "a variable's name has ASCII letters, digits, `_`, `.` and `-`, and starts with a letter or `_`";
        faults.add(at, Code::InvalidName, message);
    }
    if DANGEROUS.contains(&name) || DANGEROUS_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        let message = "this variable decides which code is loaded beside the measured code";
        faults.hint(at, Code::DangerousEnv, message, "put what it would load into the measured workload");
    }
    if name.starts_with("MARBLE_PREDEFINED_") || name == "MARBLE_TTLS_CONFIG" {
        let message = "the mesh sets this variable itself, so this would be ignored";
        faults.hint(at, Code::ReservedEnv, message, "choose another name");
    }
}
