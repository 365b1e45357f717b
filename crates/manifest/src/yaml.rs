//! YAML text to a tree, from the events of `granit-parser`: YAML 1.2 with its core schema, so that `yes`
//! and `no` are text. One document, no tags but `!!str`, no merge keys, aliases within a budget.

use std::collections::HashMap;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span, Tag};

use crate::fault::{Code, Faults};
use crate::tree::{self, Entry, MAX_BYTES, MAX_DEPTH, MAX_KEY, Node, Value};

/// What all aliases together may copy, counting each value as 64 bytes beside its text. Without such a
/// limit a small document expands exponentially.
const ALIAS_BUDGET: usize = 2 * MAX_BYTES;

pub(crate) fn read(text: &str) -> Result<Node, Faults> {
    let options = granit_parser::options! { emit_comments: false, flow_nesting_limit: MAX_DEPTH };
    let mut composer = Composer::default();
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| {
            let line = Some(error.marker().line());
            match error.kind() {
                ErrorKind::RecursionLimitExceeded => tree::too_deep(line),
                _ => syntax(line, format!("not YAML: {}", error.info())),
            }
        })?;
        composer.take(event, &span)?;
    }
    composer.document.ok_or_else(|| syntax(None, "the document is empty".to_owned()))
}

fn syntax(line: Option<usize>, message: String) -> Faults {
    Faults::of_document(Code::Syntax, line, message, None)
}

/// A collection that is still open.
struct Open {
    anchor: usize,
    line: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Object { entries: Vec<Entry>, key: Option<(String, usize)> },
}

#[derive(Default)]
struct Composer {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    copied: usize,
    document: Option<Node>,
}

impl Composer {
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Faults> {
        let line = span.start.line();
        match event {
            Event::DocumentStart(..) if self.document.is_some() => {
                Err(syntax(Some(line), "a second YAML document follows the first".to_owned()))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref(), line)?;
                self.place(Node { line: Some(line), value }, anchor, Some(&text))
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(anchor, line, tag.as_deref(), Content::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.begin(anchor, line, tag.as_deref(), Content::Object { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(line),
            Event::Alias(anchor) => self.alias(anchor, line),
            _ => Ok(()),
        }
    }

    fn begin(
        &mut self,
        anchor: usize,
        line: usize,
        tag: Option<&Tag>,
        content: Content,
    ) -> Result<(), Faults> {
        if let Some(tag) = tag {
            return Err(foreign_tag(tag, line));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(tree::too_deep(Some(line)));
        }
        self.open.push(Open { anchor, line, content });
        Ok(())
    }

    fn end(&mut self, line: usize) -> Result<(), Faults> {
        let open = self.open.pop().ok_or_else(|| syntax(Some(line), "an unexpected end".to_owned()))?;
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Object { entries, .. } => Value::Object(entries),
        };
        self.place(Node { line: Some(open.line), value }, open.anchor, None)
    }

    fn alias(&mut self, anchor: usize, line: usize) -> Result<(), Faults> {
        let node = self.anchors.get(&anchor).cloned();
        let node =
            node.ok_or_else(|| syntax(Some(line), "an alias stands within what it names".to_owned()))?;
        self.copied += weight(&node);
        if self.copied > ALIAS_BUDGET || self.open.len() + depth(&node) > MAX_DEPTH {
            let message = "the aliases of the document expand to too much".to_owned();
            return Err(Faults::of_document(Code::TooDeep, Some(line), message, None));
        }
        let text = match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.place(node, 0, text.as_deref())
    }

    /// Puts a complete value where it belongs; `text` is what it says if it can be a field's name.
    fn place(&mut self, node: Node, anchor: usize, text: Option<&str>) -> Result<(), Faults> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.document = Some(node);
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Object { entries, key } => match key.take() {
                Some((key, line)) => entries.push(Entry { key, line: Some(line), node }),
                None => *key = Some((name(&node, text)?, node.line.unwrap_or(open.line))),
            },
        }
        Ok(())
    }
}

fn name(node: &Node, text: Option<&str>) -> Result<String, Faults> {
    let text = text.ok_or_else(|| syntax(node.line, "a field's name is not text".to_owned()))?;
    if text == "<<" {
        return Err(syntax(node.line, "YAML merge keys are not accepted in a manifest".to_owned()));
    }
    if text.len() > MAX_KEY {
        return Err(tree::key_too_long(node.line));
    }
    Ok(text.to_owned())
}

fn foreign_tag(tag: &Tag, line: usize) -> Faults {
    syntax(
        Some(line),
        format!("the YAML tag `{}` is not accepted in a manifest", tag.original().escape_debug()),
    )
}

/// The value of a scalar in the core schema of YAML 1.2.2, §10.3.2.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, line: usize) -> Result<Value, Faults> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema_tag("str") => return Ok(Value::Text(text.to_owned())),
        Some(tag) => return Err(foreign_tag(tag, line)),
        None if style != ScalarStyle::Plain => return Ok(Value::Text(text.to_owned())),
        None => {}
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).unwrap_or_else(|| Value::Text(text.to_owned())),
    })
}

fn number(text: &str) -> Option<Value> {
    // More than 2^64 is no field's value; which number it is does not matter.
    let unsigned = |digits: &str, radix| match u64::from_str_radix(digits, radix) {
        Ok(value) => Value::Unsigned(value),
        Err(_) => Value::OtherNumber(f64::INFINITY),
    };
    let all = |digits: &str, radix| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix).filter(|digits| all(digits, radix)) {
            return Some(unsigned(digits, radix));
        }
    }
    let magnitude = text.strip_prefix(['+', '-']).unwrap_or(text);
    if all(magnitude, 10) {
        return Some(match text.starts_with('-') {
            true => Value::OtherNumber(text.parse().unwrap_or(f64::NEG_INFINITY)),
            false => unsigned(magnitude, 10),
        });
    }
    let special = matches!(magnitude, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    let starts = magnitude.strip_prefix('.').unwrap_or(magnitude).starts_with(|c: char| c.is_ascii_digit());
    let of_float =
        magnitude.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse() {
        _ if special => Some(Value::OtherNumber(f64::NAN)),
        Ok(float) if starts && of_float => Some(Value::OtherNumber(float)),
        _ => None,
    }
}

fn weight(node: &Node) -> usize {
    const EACH: usize = 64;
    EACH + match &node.value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.iter().map(weight).sum(),
        Value::Object(entries) => entries.iter().map(|entry| entry.key.len() + weight(&entry.node)).sum(),
        _ => 0,
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(entries) => 1 + entries.iter().map(|entry| depth(&entry.node)).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(text: &str) -> Value {
        match read(&format!("v: {text}\n")).expect("YAML").value {
            Value::Object(mut entries) => entries.remove(0).node.value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        for text in ["yes", "no", "on", "1e", "'12'", "!!str 12", "1_000", "0x", "a1", "12ab", "."] {
            assert!(matches!(value_of(text), Value::Text(_)), "{text}");
        }
        for (text, number) in [("12", 12), ("0x10", 16), ("0o17", 15), ("007", 7), ("+3", 3)] {
            assert_eq!(value_of(text), Value::Unsigned(number), "{text}");
        }
        for text in ["-1", "1.5", "1e3", ".5", ".inf", "-.inf", ".nan", "99999999999999999999"] {
            assert!(matches!(value_of(text), Value::OtherNumber(_)), "{text}");
        }
        assert_eq!(value_of("-1.5e2"), Value::OtherNumber(-150.0));
        assert_eq!(value_of("~"), Value::Null);
        assert_eq!(value_of("true"), Value::Bool(true));
    }

    #[test]
    fn what_yaml_could_hide_is_refused() {
        for text in [
            "a: 1\n---\nb: 2\n",
            "a: !!binary aGk=\n",
            "a: !thing {b: 1}\n",
            "base: &b {x: 1}\na:\n  <<: *b\n",
            "a: &a [*a]\n",
            "a: *nowhere\n",
            "? [a]\n: 1\n",
            "",
            "# nothing\n",
        ] {
            assert!(read(text).expect_err(text).contains(Code::Syntax), "{text}");
        }
    }

    #[test]
    fn alias_bombs_are_refused() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let previous = format!("*a{}, ", level - 1).repeat(8);
            bomb.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
        }
        assert!(read(&bomb).expect_err("a bomb").contains(Code::TooDeep));
        assert!(read("a: &a {x: 1}\nb: *a\n").is_ok());
    }

    #[test]
    fn depth_is_limited() {
        assert!(read(&"[".repeat(100_000)).expect_err("deep").contains(Code::TooDeep));
        let block: String = (0..200).map(|n| " ".repeat(n) + "a:\n").collect();
        assert!(read(&block).expect_err("deep").contains(Code::TooDeep));
    }
}
