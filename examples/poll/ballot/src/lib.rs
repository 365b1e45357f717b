//! What the two services of the poll agree on: the options on the ballot, and the JSON that tally answers.
//!
//! Not here: anything about transport. The services speak plain HTTP by name.
//!
//! ```
//! let ballot = ballot::Ballot::parse("tea:Tea,coffee:Black coffee").unwrap();
//! assert_eq!(ballot.find("coffee").unwrap().label, "Black coffee");
//! assert!(ballot.find("water").is_none());
//! ```

use std::fmt;

use serde::{Deserialize, Serialize};

/// The variable that both services read the ballot from.
pub const OPTIONS_VARIABLE: &str = "POLL_OPTIONS";

const MAX_OPTIONS: usize = 20;
const MAX_ID: usize = 32;
const MAX_LABEL: usize = 80;

/// One thing that can be voted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name in URLs and counts: `a-z`, `0-9` and `-`.
    pub id: String,
    /// What people read.
    pub label: String,
}

/// The options, in the order in which they are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ballot(Vec<Choice>);

/// What is wrong with a ballot's text.
#[derive(Debug, PartialEq, Eq)]
pub enum BadBallot {
    /// No option, or more than twenty.
    Count(usize),
    /// An identifier that is empty, too long or has other characters.
    Id(String),
    /// A label that is empty or too long.
    Label(String),
    /// The same identifier twice.
    Duplicate(String),
}

impl fmt::Display for BadBallot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => write!(f, "a ballot has 1 to {MAX_OPTIONS} options, this one {n}"),
            Self::Id(id) => write!(f, "option {id:?}: 1 to {MAX_ID} of a-z, 0-9 and -"),
            Self::Label(id) => write!(f, "option {id:?}: its label has 1 to {MAX_LABEL} characters"),
            Self::Duplicate(id) => write!(f, "option {id:?} is there twice"),
        }
    }
}

impl std::error::Error for BadBallot {}

impl Ballot {
    /// Reads `id:Label,id:Label`; a missing label is the identifier.
    pub fn parse(text: &str) -> Result<Self, BadBallot> {
        let mut choices: Vec<Choice> = Vec::new();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (id, label) = entry.split_once(':').unwrap_or((entry, entry));
            let (id, label) = (id.trim(), label.trim());
            let plain = id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            if id.is_empty() || id.len() > MAX_ID || !plain {
                return Err(BadBallot::Id(id.to_owned()));
            }
            if label.is_empty() || label.chars().count() > MAX_LABEL {
                return Err(BadBallot::Label(id.to_owned()));
            }
            if choices.iter().any(|choice| choice.id == id) {
                return Err(BadBallot::Duplicate(id.to_owned()));
            }
            choices.push(Choice { id: id.to_owned(), label: label.to_owned() });
        }
        match choices.len() {
            1..=MAX_OPTIONS => Ok(Self(choices)),
            n => Err(BadBallot::Count(n)),
        }
    }

    /// The options in their order.
    pub fn choices(&self) -> &[Choice] {
        &self.0
    }

    /// The option with this identifier.
    pub fn find(&self, id: &str) -> Option<&Choice> {
        self.0.iter().find(|choice| choice.id == id)
    }
}

/// One option's count, as tally answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The option's identifier.
    pub option: String,
    /// Votes so far.
    pub votes: u64,
}

/// `GET /votes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// In the ballot's order.
    pub counts: Vec<Count>,
    /// All votes.
    pub total: u64,
}

/// `POST /votes/{option}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The option that was counted.
    pub option: String,
    /// A code that only tally can make: a keyed hash of the vote's number and option.
    pub receipt: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_would_not_survive_a_url_or_a_page() {
        assert_eq!(Ballot::parse(" , "), Err(BadBallot::Count(0)));
        assert_eq!(Ballot::parse("Tea"), Err(BadBallot::Id("Tea".into())));
        assert_eq!(Ballot::parse("a/b:x"), Err(BadBallot::Id("a/b".into())));
        assert_eq!(Ballot::parse("tea: "), Err(BadBallot::Label("tea".into())));
        assert_eq!(Ballot::parse("tea,tea:Tea"), Err(BadBallot::Duplicate("tea".into())));
    }
}
