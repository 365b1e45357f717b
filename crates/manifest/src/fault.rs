//! What is wrong with a manifest, where, and what would mend it. A fault carries a stable code that a
//! program can branch on; the set of all faults of a document is the error of `Manifest::parse`.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::path::Path;
use crate::tree::Node;

/// More faults than this are counted, not kept: a hostile document must not turn one mebibyte into many.
const KEPT: usize = 100;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+) => {
        /// The stable name of a kind of fault. The text never changes its meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// Every code, for reference pages and completeness tests.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The code as programs see it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

codes! {
    /// The document is larger than one mebibyte.
    TooLarge = "MANIFEST_TOO_LARGE",
    /// The document is not UTF-8.
    NotUtf8 = "NOT_UTF8",
    /// The document is neither JSON nor the accepted part of YAML.
    Syntax = "SYNTAX",
    /// Objects and lists are nested too deeply, or YAML aliases expand to too much.
    TooDeep = "TOO_DEEP",
    /// A field that the format does not have.
    UnknownField = "UNKNOWN_FIELD",
    /// A field or name given twice in one object.
    DuplicateField = "DUPLICATE_FIELD",
    /// A value of another type than the field takes.
    WrongType = "WRONG_TYPE",
    /// Something that must be given is not.
    Missing = "MISSING",
    /// A name with characters or a length that names of its kind cannot have.
    InvalidName = "INVALID_NAME",
    /// A value that is not of the form or range that the field takes.
    InvalidValue = "INVALID_VALUE",
    /// A measurement that is not hexadecimal or not of the platform's length.
    InvalidMeasurement = "INVALID_MEASUREMENT",
    /// A certificate or public key that cannot be read, or is not of the needed kind.
    InvalidCertificate = "INVALID_CERTIFICATE",
    /// A name that refers to nothing in this manifest.
    UnknownReference = "UNKNOWN_REFERENCE",
    /// The same value where each must be different.
    DuplicateValue = "DUPLICATE_VALUE",
    /// Two statements that exclude each other.
    Conflict = "CONFLICT",
    /// A field that has no meaning where it stands, and would be ignored.
    NotApplicable = "NOT_APPLICABLE",
    /// A package has measurements for a platform that `Platforms` does not accept.
    PlatformNotListed = "PLATFORM_NOT_LISTED",
    /// A package asks for debug TEEs, whose memory the host can read.
    DebugPackage = "DEBUG_PACKAGE",
    /// A TCB status that can never be accepted.
    UnsafeTcbStatus = "UNSAFE_TCB_STATUS",
    /// An environment variable that changes which code runs.
    DangerousEnv = "DANGEROUS_ENV",
    /// An environment variable that the mesh itself sets.
    ReservedEnv = "RESERVED_ENV",
    /// Something that MarbleRun permits and that would weaken the mesh.
    Unsafe = "UNSAFE",
    /// A template outside the documented subset of the template language.
    TemplateSyntax = "TEMPLATE_SYNTAX",
    /// A template that refers to something that does not exist, or not in that part.
    TemplateReference = "TEMPLATE_REFERENCE",
    /// A template function that is not allowed there or not for that value.
    TemplateFunction = "TEMPLATE_FUNCTION",
    /// A role grants an action that its resources do not permit.
    RoleNotPermitted = "ROLE_NOT_PERMITTED",
    /// Well-formed, but not built yet; it would be ignored otherwise.
    NotYetSupported = "NOT_YET_SUPPORTED",
    /// SQL that cannot be read, or means something that the document does not say.
    InvalidSql = "INVALID_SQL",
    /// SQL beyond what a manifest may contain.
    UnsupportedSql = "UNSUPPORTED_SQL",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// One thing that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// Where, as `Marbles.tally.Parameters.Files["/etc/key"]`; empty for the document itself.
    pub path: String,
    /// The line of a YAML document. JSON documents have no lines worth naming.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What kind of fault.
    pub code: Code,
    /// One sentence, without its full stop.
    pub message: String,
    /// What would mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.path.is_empty() { "the document" } else { &self.path })?;
        if let Some(line) = self.line {
            write!(f, " (line {line})")?;
        }
        write!(f, ": {} [{}]", self.message, self.code)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n    hint: {hint}")?;
        }
        Ok(())
    }
}

/// Everything that is wrong with a manifest; never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Faults {
    faults: Vec<Fault>,
    omitted: usize,
}

impl Faults {
    /// The faults, at most 100; by line where there are lines.
    #[must_use]
    pub fn all(&self) -> &[Fault] {
        &self.faults
    }

    /// How many more faults were met than [`Faults::all`] keeps; reading may have stopped there.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Whether any fault has this code.
    #[must_use]
    pub fn contains(&self, code: Code) -> bool {
        self.faults.iter().any(|fault| fault.code == code)
    }

    /// The one fault of a document that could not be read.
    #[must_use]
    pub fn of_document(code: Code, line: Option<usize>, message: String, hint: Option<&str>) -> Self {
        let fault = Fault { path: String::new(), line, code, message, hint: hint.map(str::to_owned) };
        Self { faults: vec![fault], omitted: 0 }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.faults.len() + self.omitted {
            1 => f.write_str("the manifest has a fault:")?,
            count if self.omitted == 0 => write!(f, "the manifest has {count} faults:")?,
            _ => write!(f, "the manifest has more than {KEPT} faults:")?,
        }
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        if self.omitted > 0 {
            write!(f, "\n  and at least {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Gathers faults while a document is read and resolved.
///
/// Invariant of all code that takes one: a function that returns `None` has added a fault. So a
/// collector without faults proves that nothing was left out.
pub struct Collector<'t> {
    root: &'t Node,
    faults: Vec<Fault>,
    omitted: usize,
}

impl<'t> Collector<'t> {
    /// No fault yet of the document with this root.
    #[must_use]
    pub fn new(root: &'t Node) -> Self {
        Self { root, faults: Vec::new(), omitted: 0 }
    }

    /// Adds a fault without a hint.
    pub fn add(&mut self, at: &Path<'_>, code: Code, message: impl Into<String>) {
        self.add_with(at, code, message, || None);
    }

    /// Adds a fault with a hint.
    pub fn hint(&mut self, at: &Path<'_>, code: Code, message: impl Into<String>, hint: &str) {
        self.add_with(at, code, message, || Some(hint.to_owned()));
    }

    /// Adds a fault whose hint is worth computing only if the fault is kept.
    pub fn add_with(
        &mut self,
        at: &Path<'_>,
        code: Code,
        message: impl Into<String>,
        hint: impl FnOnce() -> Option<String>,
    ) {
        let line = if self.faults.len() < KEPT { at.line_in(self.root) } else { None };
        self.add_on_line(at, line, code, message, hint);
    }

    /// As [`Collector::add_with`], for the second of two like-named fields, whose path names the first.
    pub(crate) fn add_on_line(
        &mut self,
        at: &Path<'_>,
        line: Option<usize>,
        code: Code,
        message: impl Into<String>,
        hint: impl FnOnce() -> Option<String>,
    ) {
        if self.faults.len() < KEPT {
            self.faults.push(Fault {
                path: at.to_string(),
                line,
                code,
                message: message.into(),
                hint: hint(),
            });
        } else {
            self.omitted += 1;
        }
    }

    /// Whether further faults would only be counted. Work whose only fruit is faults may stop then.
    pub(crate) fn is_full(&self) -> bool {
        self.faults.len() == KEPT
    }

    /// Nothing, or all faults.
    ///
    /// # Errors
    /// All faults, by line.
    pub fn into_result(mut self) -> Result<(), Faults> {
        if self.faults.is_empty() {
            return Ok(());
        }
        self.faults.sort_by_key(|fault| fault.line);
        Err(Faults { faults: self.faults, omitted: self.omitted })
    }
}

/// Text from the document, safe to show: control characters escaped, long text cut visibly.
#[must_use]
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// The candidate that a person most likely meant, if any is near.
pub(crate) fn nearest<'c>(text: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    const LONGEST: usize = 64;
    const MOST: usize = 500;
    if text.len() > LONGEST {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .take(MOST)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// A hint that names the nearest candidate, or else all of them when they are few.
#[must_use]
pub fn suggestion(text: &str, candidates: &[&str]) -> Option<String> {
    if let Some(near) = nearest(text, candidates.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    (!candidates.is_empty() && candidates.len() <= 12)
        .then(|| format!("known here: {}", candidates.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_screaming_snake() {
        let texts: std::collections::BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        assert!(
            texts
                .iter()
                .all(|t| t.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'))
        );
    }

    #[test]
    fn a_suggestion_is_near_or_absent() {
        assert_eq!(nearest("UniqeID", ["UniqueID", "SignerID"]), Some("UniqueID"));
        assert_eq!(nearest("Colour", ["UniqueID", "SignerID"]), None);
    }

    #[test]
    fn shown_text_cannot_move_the_cursor() {
        assert_eq!(shown("a\u{1b}[2J"), "a\\u{1b}[2J");
    }
}
