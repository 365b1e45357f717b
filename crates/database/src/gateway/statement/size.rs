//! How long, and how deep, a statement may be. Its tree is walked, copied and dropped by recursion, and `1 + 1 + 1 …` is
//! as deep as it is long: so depth is bounded by counting signs before there is a tree, since even one that is given up
//! half-way is dropped. What is bounded, and deeper than usual, is read on a stack of its own.

use sqlparser::{
    dialect::PostgreSqlDialect,
    keywords::Keyword,
    tokenizer::{Token, TokenWithSpan, Tokenizer},
};

use super::{Refusal, not_understood};

/// Bytes of a statement: an `INSERT` of 10,000 rows as libraries write it. More rows come by COPY or in parameters.
pub(in crate::gateway) const MAX_STATEMENT: usize = 1 << 20;
/// Words and signs of a statement: 10,000 rows of twelve values have 260,000.
const MAX_TOKENS: usize = 300_000;
/// Operators and keywords between two commas, those around the parentheses included: so many may stand within one
/// another. A thousand conditions joined by `OR` have about 3,000.
const MAX_DEPTH: usize = 4096;
/// What the stack of whoever asks is enough for, see [`depth`].
const SHALLOW: usize = 256;
/// What a parenthesis, bracket or brace counts in [`depth`]: a query within a query is several levels.
const NESTED: usize = 16;

/// A statement's words and signs, of which the tree's depth is known to be bounded.
pub(super) struct Measured {
    pub(super) tokens: Vec<TokenWithSpan>,
    /// Its tree, and whatever is made of it, wants a stack of its own.
    pub(super) deep: bool,
}

/// Splits a statement, and refuses what would become too large a tree.
pub(super) fn measured(text: &str) -> Result<Measured, Refusal> {
    if text.len() > MAX_STATEMENT {
        return Err(Refusal::new("STATEMENT_TOO_LONG", "a statement has at most 1 MiB; send rows by COPY"));
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location();
    let tokens = tokens.map_err(|error| not_understood(&error.to_string()))?;
    if tokens.iter().filter(|it| !matches!(it.token, Token::Whitespace(_))).count() > MAX_TOKENS {
        let sentence = "a statement has at most 300,000 words and signs; send rows by COPY";
        return Err(Refusal::new("STATEMENT_TOO_LONG", sentence));
    }
    let depth = depth(tokens.iter().map(|it| &it.token));
    if depth > MAX_DEPTH {
        let sentence = "a statement has at most 4096 operators and keywords between two commas; \
                        in place of many conditions, write IN (…) or = ANY ($1)";
        return Err(Refusal::new("STATEMENT_TOO_DEEP", sentence));
    }
    Ok(Measured { tokens, deep: depth > SHALLOW })
}

/// No less than how deep the tree is. Whatever the parser makes a chain of, it makes of operators and keywords; commas
/// separate what stands side by side, but for queries between `UNION` and its like.
fn depth<'a>(tokens: impl Iterator<Item = &'a Token>) -> usize {
    // Of the parentheses that are open: what those around the innermost count, and the innermost itself.
    let (mut open, mut around, mut here, mut deepest) = (Vec::new(), 0_usize, Links::default(), 0);
    for token in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                open.push((around, here));
                (around, here) = (around + here.count() + NESTED, Links::default());
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                // What stands before a parenthesis and what stands behind it may be one chain: so it counts on, and a
                // pair of parentheses (a call, a subscript) is a link of it.
                if let Some((outer, before)) = open.pop() {
                    (around, here) = (outer, Links { since_comma: before.since_comma + 1, ..before });
                }
            }
            Token::Comma => here.since_comma = 0,
            Token::Word(word) if SETS.contains(&word.keyword) => here.sets += 1,
            token if links(token) => here.since_comma += 1,
            _ => {}
        }
        deepest = deepest.max(around + here.count());
    }
    deepest
}

const SETS: [Keyword; 4] = [Keyword::UNION, Keyword::EXCEPT, Keyword::INTERSECT, Keyword::MINUS];

/// What may be a chain within one pair of parentheses.
#[derive(Default, Clone, Copy)]
struct Links {
    sets: usize,
    since_comma: usize,
}

impl Links {
    fn count(self) -> usize {
        self.sets + self.since_comma
    }
}

/// Whether it can make a tree deeper: everything but names, values, and what only separates.
fn links(token: &Token) -> bool {
    !matches!(
        token,
        Token::Whitespace(_)
            | Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::DollarQuotedString(_)
            | Token::Placeholder(_)
            | Token::Period
    ) && !matches!(token, Token::Word(word) if word.keyword == Keyword::NoKeyword)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<bool, &'static str> {
        measured(text).map(|it| it.deep).map_err(|refusal| refusal.code)
    }

    #[test]
    fn what_is_flat_is_not_deep_however_long() {
        let rows = |count: usize| vec!["(1, 'a', $1, -2.5)"; count].join(", ");
        assert_eq!(of(&format!("INSERT INTO t (a, b, c, d) VALUES {}", rows(10_000))), Ok(false));
        let numbers = |count: usize| (0..count).map(|it| it.to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(of(&format!("SELECT * FROM t WHERE id IN ({})", numbers(50_000))), Ok(false));
        assert_eq!(of(&format!("SELECT {} FROM t", numbers(1600))), Ok(false));
        assert_eq!(of("SELECT a, b FROM t WHERE a = 1 AND b IN (SELECT 1 FROM u) ORDER BY 1"), Ok(false));
    }

    #[test]
    fn chains_are_deep_up_to_a_limit() {
        let chain = |link: &str, count: usize| format!("SELECT 1{}", link.repeat(count));
        assert_eq!(of(&chain("+1", 200)), Ok(false));
        for link in [
            "+1",
            " OR a = 1",
            "::int",
            " IS NULL",
            "->'a'",
            "[1]",
            " UNION SELECT 1",
            " EXCEPT SELECT 1, 2",
            "#>'x'",
        ] {
            assert_eq!(of(&chain(link, 1000)), Ok(true), "{link}");
            assert_eq!(of(&chain(link, 5000)), Err("STATEMENT_TOO_DEEP"), "{link}");
        }
        // Where a comma ends the chain within parentheses, the one around them goes on.
        assert_eq!(of(&chain("+f(1, 1)", 5000)), Err("STATEMENT_TOO_DEEP"));
        let nested = format!("SELECT {}1{}", "(1+".repeat(300), ")".repeat(300));
        assert_eq!(of(&nested), Err("STATEMENT_TOO_DEEP"));
        let closed = format!("SELECT 1{}", ")+(1".repeat(5000));
        assert_eq!(of(&closed), Err("STATEMENT_TOO_DEEP"));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        assert_eq!(of(&format!("SELECT '{}'", "x".repeat(MAX_STATEMENT))), Err("STATEMENT_TOO_LONG"));
        assert_eq!(of(&format!("SELECT {}1", "1,".repeat(MAX_TOKENS / 2))), Err("STATEMENT_TOO_LONG"));
    }
}
