//! Tree to wire structs: which fields exist and of which type, and nothing else.
//!
//! This is our own small counterpart of serde's derive, because serde stops at the first mistake and has
//! no word for the nearest field: here every unknown, doubled or mistyped field of the document is found
//! in one pass. Field names match without regard to case, as Go's decoder does.

use std::collections::BTreeMap;

use crate::fault::{Code, Collector, suggestion};
use crate::path::Path;
use crate::tree::{Node, Value};

/// A type that a value of the document can have. `None` means that a fault was added.
pub trait Wire: Sized + Default {
    /// Reads the value at that place.
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self>;
}

/// Declares a wire struct with the names of its fields in the document. An absent field, and `null`, take
/// the type's default, as in Go; what must not be absent is an `Option` and is checked when resolving.
#[macro_export]
#[doc(hidden)]
macro_rules! wire {
    ($($(#[$meta:meta])* struct $name:ident { $($field:ident: $type:ty = $key:literal,)* })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub(crate) struct $name { $(pub(crate) $field: $type,)* }

        impl $crate::reading::Wire for $name {
            fn read(
                node: &$crate::reading::Node,
                at: &$crate::reading::Path<'_>,
                faults: &mut $crate::reading::Collector<'_>,
            ) -> Option<Self> {
                let fields = $crate::reading::fields(node, &[$($key),*], at, faults)?;
                $(let $field = fields.read::<$type>($key, at, faults);)*
                Some(Self { $($field: $field?,)* })
            }
        }
    )+};
}
pub(crate) use wire;

/// The fields of an object that the format knows, each at most once.
pub struct Fields<'n>(BTreeMap<&'static str, &'n Node>);

impl Fields<'_> {
    /// The field of that name, or the type's default where it is absent or null.
    pub fn read<T: Wire>(&self, key: &'static str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<T> {
        match self.0.get(key) {
            None => Some(T::default()),
            Some(node) if node.value == Value::Null => Some(T::default()),
            Some(node) => T::read(node, &at.field(key), faults),
        }
    }
}

/// Takes an object apart; unknown and doubled fields are faults.
pub fn fields<'n>(
    node: &'n Node,
    known: &[&'static str],
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Fields<'n>> {
    let Value::Object(entries) = &node.value else {
        return wrong_type("an object", node, at, faults);
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let Some(name) = known.iter().find(|name| name.eq_ignore_ascii_case(&entry.key)) else {
            let hint = || suggestion(&entry.key, known);
            faults.add_with(&at.field(&entry.key), Code::UnknownField, "this field is not known here", hint);
            continue;
        };
        if found.insert(*name, &entry.node).is_some() {
            duplicate(&at.field(&entry.key), entry.line, faults);
        }
    }
    Some(Fields(found))
}

fn duplicate(at: &Path<'_>, line: Option<usize>, faults: &mut Collector<'_>) {
    faults.add_on_line(at, line, Code::DuplicateField, "this is given twice in one object", || {
        Some("keep one; names of fields are compared without regard to case".to_owned())
    });
}

fn wrong_type<T>(expected: &str, node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<T> {
    let quotable = expected == "text"
        && matches!(node.value, Value::Bool(_) | Value::Unsigned(_) | Value::OtherNumber(_));
    faults.add_with(at, Code::WrongType, format!("expected {expected}, found {}", node.value.kind()), || {
        quotable.then(|| "put the value in quotes".to_owned())
    });
    None
}

impl<T: Wire> Wire for Option<T> {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        T::read(node, at, faults).map(Some)
    }
}

impl<T: Wire> Wire for Box<T> {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        T::read(node, at, faults).map(Box::new)
    }
}

impl Wire for String {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => wrong_type("text", node, at, faults),
        }
    }
}

impl Wire for bool {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        match node.value {
            Value::Bool(value) => Some(value),
            _ => wrong_type("true or false", node, at, faults),
        }
    }
}

impl Wire for u64 {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        match node.value {
            Value::Unsigned(value) => Some(value),
            Value::OtherNumber(_) => wrong_type("a whole number from 0 to 2^64 - 1", node, at, faults),
            _ => wrong_type("a number", node, at, faults),
        }
    }
}

impl Wire for f64 {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        match node.value {
            #[expect(clippy::cast_precision_loss, reason = "a float is wanted")]
            Value::Unsigned(value) => Some(value as Self),
            Value::OtherNumber(value) if value.is_finite() => Some(value),
            _ => wrong_type("a number", node, at, faults),
        }
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return wrong_type("a list", node, at, faults);
        };
        // Every item is read, also after a mistaken one: all faults are wanted.
        let read: Vec<_> =
            items.iter().enumerate().map(|(i, item)| T::read(item, &at.index(i), faults)).collect();
        read.into_iter().collect()
    }
}

impl<T: Wire> Wire for BTreeMap<String, T> {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        let Value::Object(entries) = &node.value else {
            return wrong_type("an object", node, at, faults);
        };
        let mut map = BTreeMap::new();
        for entry in entries {
            let here = at.key(&entry.key);
            if map.insert(entry.key.clone(), T::read(&entry.node, &here, faults)).is_some() {
                duplicate(&here, entry.line, faults);
            }
        }
        map.into_iter().map(|(key, value)| Some((key, value?))).collect()
    }
}

/// One text, or a list of them.
#[derive(Debug, Default)]
pub struct OneOrMore(pub Vec<String>);

impl Wire for OneOrMore {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Self(vec![text.clone()])),
            Value::List(_) => Vec::read(node, at, faults).map(Self),
            _ => wrong_type("text or a list of texts", node, at, faults),
        }
    }
}

/// A number, or text that should be one (MarbleRun writes ports as text).
#[derive(Debug, Default)]
pub(crate) struct NumberOrText(pub(crate) String);

impl Wire for NumberOrText {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Self(text.clone())),
            Value::Unsigned(number) => Some(Self(number.to_string())),
            _ => wrong_type("a number or text", node, at, faults),
        }
    }
}

/// Bytes as Go writes them in JSON: base64 text, or a list of numbers.
#[derive(Debug, Default)]
pub(crate) struct GoBytes(pub(crate) Vec<u8>);

impl Wire for GoBytes {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        let bytes = match &node.value {
            Value::Text(text) => crate::encoding::base64(text),
            Value::List(_) => {
                let numbers = Vec::<u64>::read(node, at, faults)?;
                numbers.into_iter().map(|n| u8::try_from(n).ok()).collect()
            }
            _ => return wrong_type("base64 text or a list of bytes", node, at, faults),
        };
        if bytes.is_none() {
            faults.add(at, Code::InvalidValue, "this is neither standard base64 nor a list of bytes");
        }
        bytes.map(Self)
    }
}

/// An entry under `Files` or `Env`: text, or an object that says how it is encoded.
#[derive(Debug, Default, Clone)]
pub(crate) struct ParameterEntry {
    pub(crate) data: String,
    pub(crate) encoding: String,
    pub(crate) no_templates: bool,
}

wire! {
    struct ParameterObject {
        data: String = "Data",
        encoding: String = "Encoding",
        no_templates: bool = "NoTemplates",
    }
}

impl Wire for ParameterEntry {
    fn read(node: &Node, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Self> {
        match &node.value {
            Value::Text(text) => Some(Self { data: text.clone(), ..Self::default() }),
            Value::Object(_) => ParameterObject::read(node, at, faults).map(|object| Self {
                data: object.data,
                encoding: object.encoding,
                no_templates: object.no_templates,
            }),
            _ => wrong_type("text or an object with Data, Encoding and NoTemplates", node, at, faults),
        }
    }
}
