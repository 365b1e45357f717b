//! JSON text to a tree. serde_json reads; only the keeping of duplicates and the depth limit are ours.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::fault::{Code, Faults};
use crate::tree::{self, Entry, MAX_DEPTH, MAX_KEY, Node, Value};

pub(crate) fn read(text: &str) -> Result<Node, Faults> {
    let breach = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let node = Seed { depth: 0, breach: &breach }
        .deserialize(&mut deserializer)
        .and_then(|node| deserializer.end().map(|()| node))
        .map_err(|error| Faults::of_document(Code::Syntax, None, format!("not JSON: {error}"), None))?;
    match breach.get() {
        None => Ok(node),
        Some(Breach::Depth) => Err(tree::too_deep(None)),
        Some(Breach::Key) => Err(tree::key_too_long(None)),
    }
}

/// A limit that the document exceeds. Reading goes on without building, which is cheap and not recursive.
#[derive(Clone, Copy)]
enum Breach {
    Depth,
    Key,
}

#[derive(Clone, Copy)]
struct Seed<'c> {
    depth: usize,
    breach: &'c Cell<Option<Breach>>,
}

impl<'c> Seed<'c> {
    fn deeper(self) -> Self {
        Seed { depth: self.depth + 1, ..self }
    }

    fn exceeds(self, breach: Breach) -> Value {
        self.breach.set(Some(breach));
        Value::Null
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Ok(Node { line: None, value: deserializer.deserialize_any(self)? })
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "whole numbers below zero are no field's value")]
    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::OtherNumber(value as f64))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::OtherNumber(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        if self.depth == MAX_DEPTH {
            while access.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(self.exceeds(Breach::Depth));
        }
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.deeper())? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        if self.depth == MAX_DEPTH {
            while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(self.exceeds(Breach::Depth));
        }
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            let node = access.next_value_seed(self.deeper())?;
            if key.len() > MAX_KEY {
                self.exceeds(Breach::Key);
            } else {
                entries.push(Entry { key, line: None, node });
            }
        }
        Ok(Value::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_kept() {
        let Ok(Node { value: Value::Object(entries), .. }) = read(r#"{"a": 1, "a": null}"#) else {
            panic!("an object")
        };
        assert_eq!(entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["a", "a"]);
    }

    #[test]
    fn depth_is_limited_however_deep() {
        for depth in [MAX_DEPTH + 1, 127, 129, 100_000] {
            let text = "[".repeat(depth) + &"]".repeat(depth);
            assert!(read(&text).expect_err("too deep").contains(Code::TooDeep), "{depth}");
        }
        assert!(read(&("[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH))).is_ok());
    }

    #[test]
    fn trailing_text_is_refused() {
        assert!(read("{} {}").expect_err("two documents").contains(Code::Syntax));
    }
}
