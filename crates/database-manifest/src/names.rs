//! Names of the manifest. Each kind has its own type, so that none stands in another's place; each is an SQL identifier
//! that needs no quotes: a lower-case letter, then lower-case letters, digits and `_`, at most 40 characters.

macro_rules! names {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// `None`: that is no name.
            pub fn new(text: &str) -> Option<Self> {
                is_name(text).then(|| Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

names! {
    /// A party.
    PartyName,
    /// A table of the schema, in the schema `public`.
    TableName,
    /// An algorithm, in the schema `algorithm`.
    AlgorithmName,
}

fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next().is_some_and(|first| first.is_ascii_lowercase());
    let rest = characters.all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_');
    first && rest && text.len() <= 40
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_an_identifier_that_needs_no_quotes() {
        for good in ["a", "bank_a", "t2"] {
            assert!(PartyName::new(good).is_some(), "{good}");
        }
        for bad in ["", "A", "2t", "_a", "a-b", "a b", "a\"", "ä", &"a".repeat(41)] {
            assert!(PartyName::new(bad).is_none(), "{bad}");
        }
    }
}
