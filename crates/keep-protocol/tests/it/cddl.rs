//! Every message against `docs/protocol.cddl`: what we write is in it, and what we read is in it, also after it was
//! altered.

use std::sync::LazyLock;

use cddl_cat::{cbor::validate_cbor, context::BasicContext, flatten::flatten_from_str};
use ciborium::Value;
use keep_protocol::{Message, keep::Preface};
use proptest::{prelude::*, test_runner::TestRunner};

use crate::messages;

const TEXT: &str = include_str!("../../../../docs/protocol.cddl");

static RULES: LazyLock<BasicContext> =
    LazyLock::new(|| BasicContext::new(flatten_from_str(TEXT).expect("docs/protocol.cddl is CDDL")));

fn in_cddl(rule: &str, bytes: &[u8]) -> Result<(), String> {
    let value: Value = ciborium::from_reader(bytes).map_err(|error| error.to_string())?;
    validate_cbor(&RULES.rules[rule], &value, &*RULES).map_err(|error| error.to_string())
}

/// What may happen to a message on its way: within its structure, or to its bytes.
#[derive(Debug, Clone)]
enum Change {
    Flip(usize, u8),
    Insert(usize, u8),
    Cut(usize),
    Drop(usize),
    Twice(usize),
    Replace(usize, Value),
}

fn change() -> impl Strategy<Value = Change> {
    let values = vec![
        Value::Null,
        Value::Bool(true),
        Value::Integer(0.into()),
        Value::Integer(70_000.into()),
        Value::Integer((-1).into()),
        Value::Text(String::new()),
        Value::Text("x".repeat(5000)),
        Value::Bytes(Vec::new()),
        Value::Bytes(vec![7; 33]),
        Value::Array(Vec::new()),
        Value::Map(Vec::new()),
    ];
    prop_oneof![
        (any::<usize>(), 1u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        any::<usize>().prop_map(Change::Cut),
        any::<usize>().prop_map(Change::Drop),
        any::<usize>().prop_map(Change::Twice),
        (any::<usize>(), prop::sample::select(values)).prop_map(|(at, value)| Change::Replace(at, value)),
    ]
}

fn altered(bytes: &[u8], change: &Change) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let length = bytes.len();
    match change {
        Change::Flip(at, bits) => bytes[at % length] ^= bits,
        Change::Insert(at, byte) => bytes.insert(at % (length + 1), *byte),
        Change::Cut(at) => bytes.truncate(at % length),
        change => {
            let mut value: Value = ciborium::from_reader(bytes.as_slice()).expect("it was ours");
            let mut places = nodes(&value);
            let at = match change {
                Change::Drop(at) | Change::Twice(at) | Change::Replace(at, _) => at % places,
                _ => 0,
            };
            visit(&mut value, at, &mut places, change);
            bytes.clear();
            ciborium::into_writer(&value, &mut bytes).expect("memory");
        }
    }
    bytes
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(nodes).sum(),
        Value::Map(entries) => entries.iter().map(|(_, value)| nodes(value)).sum(),
        _ => 0,
    }
}

/// Applies `change` to the node that is number `at` in depth-first order.
fn visit(value: &mut Value, at: usize, left: &mut usize, change: &Change) {
    *left = at;
    descend(value, left, change);
}

fn descend(value: &mut Value, left: &mut usize, change: &Change) -> bool {
    if *left == 0 {
        match (change, &mut *value) {
            (Change::Replace(_, with), value) => *value = with.clone(),
            (Change::Drop(_), Value::Array(items)) => drop(items.pop()),
            (Change::Drop(_), Value::Map(entries)) => drop(entries.pop()),
            (Change::Twice(_), Value::Array(items)) => items.extend(items.clone()),
            (Change::Twice(_), Value::Map(entries)) => entries.extend(entries.first().cloned()),
            _ => {}
        }
        return true;
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| descend(item, left, change)),
        Value::Map(entries) => entries.iter_mut().any(|(_, value)| descend(value, left, change)),
        _ => false,
    }
}

/// RFC 8949 §4.2.1: keys ascend by their encoded bytes.
fn keys_ascend(value: &Value) -> bool {
    let encoded = |value: &Value| {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).expect("memory");
        bytes
    };
    match value {
        Value::Array(items) => items.iter().all(keys_ascend),
        Value::Map(entries) => {
            entries.windows(2).all(|pair| encoded(&pair[0].0) < encoded(&pair[1].0))
                && entries.iter().all(|(_, value)| keys_ascend(value))
        }
        _ => true,
    }
}

fn every<M: Message + PartialEq + std::fmt::Debug>(rule: &str, messages: impl Strategy<Value = M>) {
    let mut runner = TestRunner::default();
    let cases = (messages, prop::collection::vec(change(), 24));
    runner
        .run(&cases, |(message, changes)| {
            let bytes = message.to_bytes();
            prop_assert_eq!(in_cddl(rule, &bytes), Ok(()), "written, and not in the CDDL");
            prop_assert!(keys_ascend(&ciborium::from_reader(bytes.as_slice()).unwrap()));
            let read = M::from_bytes(&bytes);
            prop_assert_eq!(read.as_ref(), Ok(&message));
            for change in &changes {
                let altered = altered(&bytes, change);
                if let Ok(read) = M::from_bytes(&altered) {
                    prop_assert_eq!(
                        in_cddl(rule, &altered),
                        Ok(()),
                        "read, and not in the CDDL: {:?}",
                        change
                    );
                    prop_assert_eq!(read.to_bytes(), altered, "two encodings of one message");
                }
            }
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn to_keep() {
    every("to-keep", messages::to_keep());
}

#[test]
fn from_keep() {
    every("from-keep", messages::from_keep());
}

#[test]
fn host_info() {
    every("host-info", messages::host_info());
}

#[test]
fn new_keep() {
    every("new-keep", messages::new_keep());
}

#[test]
fn lease() {
    every("lease", messages::lease());
}

#[test]
fn keeps() {
    every("keeps", messages::keeps());
}

#[test]
fn host_error() {
    every("host-error", messages::host_error());
    for code in messages::HOST_ERRORS {
        let error = keep_protocol::host::HostError::new(code, "");
        let Value::Map(fields) = ciborium::from_reader(error.to_bytes().as_slice()).unwrap() else {
            panic!()
        };
        assert_eq!(fields[0].1.as_text(), Some(code.as_str()));
    }
}

#[test]
fn preface() {
    every("preface", any::<u16>().prop_map(Preface::of_version));
}

/// The CDDL refuses what is not a message, so that the tests above say something.
#[test]
fn the_cddl_refuses() {
    let bytes = |value: Value| {
        let mut bytes = Vec::new();
        ciborium::into_writer(&value, &mut bytes).expect("memory");
        bytes
    };
    let one = |name: &str, value: Value| Value::Map(vec![(Value::Text(name.into()), value)]);
    assert!(in_cddl("to-keep", &bytes(one("stdin", Value::Bytes(vec![1])))).is_ok());
    for wrong in [
        one("stdin", Value::Bytes(Vec::new())),
        one("stdin", Value::Bytes(vec![0; (256 << 10) + 1])),
        one("stdin", Value::Text("x".into())),
        one("stdout", Value::Bytes(vec![1])),
        one("cancel", Value::Null),
        Value::Map(Vec::new()),
        Value::Null,
    ] {
        assert!(in_cddl("to-keep", &bytes(wrong.clone())).is_err(), "{wrong:?}");
    }
}
