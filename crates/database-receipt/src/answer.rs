//! What left, and its digest.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// An answer as it leaves over HTTPS: names of columns, their types as PostgreSQL calls them, rows in text forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub struct Table {
    /// Name and type of each column.
    pub columns: Vec<(String, String)>,
    /// The rows; `None`: NULL.
    pub rows: Vec<Vec<Option<String>>>,
}

impl Table {
    /// Its digest, as the receipt has it.
    pub fn digest(&self) -> Digest {
        let columns = self.columns.iter().map(|(name, kind)| (name.as_str(), kind.as_str()));
        answer_digest(columns, &self.rows)
    }
}

/// SHA-256 over columns and rows, each text with its length before it, so that no two answers have the same bytes.
pub fn answer_digest<'a>(
    columns: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    rows: &[Vec<Option<String>>],
) -> Digest {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(b"bailey database answer v1\0");
    context.update(&(columns.len() as u64).to_be_bytes());
    for text in columns.flat_map(|(name, kind)| [name, kind]) {
        value(&mut context, Some(text));
    }
    context.update(&(rows.len() as u64).to_be_bytes());
    for row in rows {
        context.update(&(row.len() as u64).to_be_bytes());
        for it in row {
            value(&mut context, it.as_deref());
        }
    }
    Digest::read(context.finish().as_ref())
}

fn value(context: &mut aws_lc_rs::digest::Context, text: Option<&str>) {
    match text {
        None => context.update(&[0]),
        Some(text) => {
            context.update(&[1]);
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(rows: &[&[Option<&str>]]) -> Digest {
        let rows: Vec<Vec<_>> =
            rows.iter().map(|row| row.iter().map(|it| it.map(Into::into)).collect()).collect();
        answer_digest([("a", "text")].into_iter(), &rows)
    }

    #[test]
    fn no_two_answers_have_the_same_digest() {
        let answers: [&[&[Option<&str>]]; 6] = [
            &[],
            &[&[]],
            &[&[None]],
            &[&[Some("")]],
            &[&[Some("a"), Some("b")]],
            &[&[Some("a")], &[Some("b")]],
        ];
        for (i, one) in answers.iter().enumerate() {
            for other in &answers[i + 1..] {
                assert_ne!(digest(one), digest(other), "{one:?} {other:?}");
            }
        }
        assert_ne!(digest(&[]), answer_digest([("a", "bigint")].into_iter(), &[]));
    }
}
