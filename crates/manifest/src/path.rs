//! Where in the document we are: a path that borrows its segments and is turned into text only when a
//! fault is kept, so that a hostile document with long names costs no copies.

use std::fmt;

use crate::tree::{Node, Value};

/// A place in the document, innermost segment first.
#[derive(Clone, Copy)]
pub enum Path<'a> {
    /// The document.
    Root,
    /// A field of the format; matched without regard to case.
    Field(&'a Path<'a>, &'a str),
    /// A name that the author chose.
    Key(&'a Path<'a>, &'a str),
    /// An item of a list.
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    /// A field of what is here.
    #[must_use]
    pub fn field(&'a self, name: &'a str) -> Self {
        Self::Field(self, name)
    }

    /// What has that name here.
    #[must_use]
    pub fn key(&'a self, name: &'a str) -> Self {
        Self::Key(self, name)
    }

    /// An item of the list that is here.
    #[must_use]
    pub fn index(&'a self, index: usize) -> Self {
        Self::Index(self, index)
    }

    /// The line of the deepest existing entry on this path.
    pub(crate) fn line_in(&self, root: &Node) -> Option<usize> {
        self.find(root).1
    }

    fn find<'n>(&self, root: &'n Node) -> (Option<&'n Node>, Option<usize>) {
        let (parent, same): (_, &dyn Fn(&str) -> bool) = match self {
            Self::Root => return (Some(root), None),
            Self::Field(parent, name) => (parent, &|key| key.eq_ignore_ascii_case(name)),
            Self::Key(parent, name) => (parent, &|key| key == *name),
            Self::Index(parent, index) => {
                let (node, line) = parent.find(root);
                let item = node.and_then(|node| match &node.value {
                    Value::List(items) => items.get(*index),
                    _ => None,
                });
                return (item, item.and_then(|item| item.line).or(line));
            }
        };
        let (node, line) = parent.find(root);
        let entry = node.and_then(|node| match &node.value {
            Value::Object(entries) => entries.iter().find(|entry| same(&entry.key)),
            _ => None,
        });
        (entry.map(|entry| &entry.node), entry.and_then(|entry| entry.line).or(line))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(parent, name) | Self::Key(parent, name) => {
                write!(f, "{parent}")?;
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
                if name.is_empty() || !name.chars().all(plain) {
                    return write!(f, "[\"{}\"]", name.escape_debug());
                }
                if !matches!(parent, Self::Root) {
                    f.write_str(".")?;
                }
                f.write_str(name)
            }
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusual_names_are_quoted() {
        let marbles = Path::Root.field("Marbles");
        let marble = marbles.key("tally");
        let files = marble.field("Files");
        let file = files.key("/etc/a\nb");
        assert_eq!(file.index(2).to_string(), "Marbles.tally.Files[\"/etc/a\\nb\"][2]");
    }
}
