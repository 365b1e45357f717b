//! How a command fails: the exit code, one clear sentence, the causes below it, and a hint.

use std::fmt::Display;

/// What kind of failure; each has one exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something was refused, or did not work.
    Refused,
    /// The input is malformed.
    Malformed,
    /// A deployed workload ended with this code, which passes through. The sentence may be empty.
    Workload(u8),
}

/// A failed command.
#[derive(Debug)]
pub struct Failure {
    /// Its kind.
    pub kind: Kind,
    /// The sentence and its causes.
    pub error: anyhow::Error,
    /// What the person could do.
    pub hint: Option<String>,
}

/// What commands return.
pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A refusal with a sentence.
    pub fn refused(sentence: impl Display) -> Self {
        Self { kind: Kind::Refused, error: anyhow::anyhow!("{sentence}"), hint: None }
    }

    /// Malformed input with a sentence.
    pub fn malformed(sentence: impl Display) -> Self {
        Self { kind: Kind::Malformed, error: anyhow::anyhow!("{sentence}"), hint: None }
    }

    /// Adds a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Refused => 1,
            Kind::Malformed => 2,
            Kind::Workload(code) => code,
        }
    }

    /// The sentence, its causes, the hint.
    pub fn render(&self) -> String {
        if matches!(self.kind, Kind::Workload(_)) && self.error.to_string().is_empty() {
            return String::new();
        }
        let mut text = format!("error: {}\n", self.error);
        for cause in self.error.chain().skip(1) {
            text.push_str(&format!(
                "  cause: {}\n",
                cause.to_string().trim_end().replace('\n', "\n         ")
            ));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  hint:  {hint}\n"));
        }
        text
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { kind: Kind::Refused, error, hint: None }
    }
}

/// Gives errors of input their kind.
pub trait Input<T> {
    /// The error means that the input is malformed; `what` says which input.
    fn malformed(self, what: impl Display) -> Outcome<T>;
}

impl<T, E: Into<anyhow::Error>> Input<T> for Result<T, E> {
    fn malformed(self, what: impl Display) -> Outcome<T> {
        self.map_err(|error| Failure {
            kind: Kind::Malformed,
            error: error.into().context(what.to_string()),
            hint: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_causes_hint() {
        let error = std::io::Error::other("disk on fire");
        let failure =
            Err::<(), _>(error).malformed("the file cannot be read").unwrap_err().hint("put it out");
        assert_eq!(
            failure.render(),
            "error: the file cannot be read\n  cause: disk on fire\n  hint:  put it out\n"
        );
        assert_eq!(failure.exit_code(), 2);
    }
}
