//! The functions that a policy may call. Those that make text are ours, because theirs have no bound on what they
//! make: forty lines that double a text would fill any memory.

use regorus::{Engine, Value};

use crate::Fault;

/// The longest text that a function makes, in bytes.
const MAX_TEXT: usize = 4096;

/// All functions that may be called beside the policy's own. None reaches network, files, clock, randomness or
/// environment, and none makes more than it was given.
pub(crate) const ALLOWED: &[&str] = &[
    "abs",
    "array.reverse",
    "array.slice",
    "bits.and",
    "bits.negate",
    "bits.or",
    "bits.rsh",
    "bits.xor",
    "ceil",
    "concat",
    "contains",
    "count",
    "endswith",
    "floor",
    "indexof",
    "intersection",
    "is_array",
    "is_boolean",
    "is_null",
    "is_number",
    "is_object",
    "is_set",
    "is_string",
    "lower",
    "max",
    "min",
    "object.get",
    "object.keys",
    "round",
    "sort",
    "split",
    "sprintf",
    "startswith",
    "strings.any_prefix_match",
    "strings.any_suffix_match",
    "substring",
    "sum",
    "trim",
    "trim_left",
    "trim_prefix",
    "trim_right",
    "trim_space",
    "trim_suffix",
    "type_name",
    "union",
    "upper",
];

/// Puts ours in the place of the interpreter's.
pub(crate) fn install(engine: &mut Engine) -> Result<(), Fault> {
    let own = |result: Result<String, &'static str>| match result {
        Ok(text) => Ok(Value::from(text)),
        Err(fault) => Err(Fault::Invalid(fault.into()).into()),
    };
    let sprintf = move |args: Vec<Value>| own(sprintf(&args));
    let concat = move |args: Vec<Value>| own(concat(&args));
    engine
        .add_extension("sprintf".into(), 2, Box::new(sprintf))
        .and_then(|()| engine.add_extension("concat".into(), 2, Box::new(concat)))
        .map_err(|error| Fault::Invalid(error.to_string()))
}

/// `%s`, `%v` and `%d` take the next of the values, which are no lists or objects; `%%` is a sign for itself.
fn sprintf(args: &[Value]) -> Result<String, &'static str> {
    let [Value::String(format), Value::Array(values)] = args else {
        return Err("sprintf takes a text and an array");
    };
    let mut values = values.iter();
    let mut text = String::new();
    let mut parts = format.split('%');
    push(&mut text, parts.next().unwrap_or_default())?;
    while let Some(part) = parts.next() {
        let rest = match part.chars().next() {
            Some('s' | 'v' | 'd') => {
                push(&mut text, &scalar(values.next().ok_or("sprintf has too few values")?)?)?;
                &part[1..]
            }
            None => {
                push(&mut text, "%")?;
                parts.next().unwrap_or_default()
            }
            Some(_) => return Err("sprintf knows %s, %v, %d and %%"),
        };
        push(&mut text, rest)?;
    }
    match values.next() {
        None => Ok(text),
        Some(_) => Err("sprintf has values that its text does not use"),
    }
}

fn concat(args: &[Value]) -> Result<String, &'static str> {
    let (separator, items): (_, Vec<&Value>) = match args {
        [Value::String(separator), Value::Array(items)] => (separator, items.iter().collect()),
        [Value::String(separator), Value::Set(items)] => (separator, items.iter().collect()),
        _ => return Err("concat takes a text and an array or a set"),
    };
    let mut text = String::new();
    for (index, item) in items.into_iter().enumerate() {
        let Value::String(item) = item else { return Err("concat takes texts") };
        if index > 0 {
            push(&mut text, separator)?;
        }
        push(&mut text, item)?;
    }
    Ok(text)
}

fn scalar(value: &Value) -> Result<String, &'static str> {
    match value {
        Value::String(text) => Ok(text.to_string()),
        Value::Number(_) | Value::Bool(_) | Value::Null => Ok(value.to_string()),
        _ => Err("sprintf takes texts, numbers, true, false and null"),
    }
}

fn push(text: &mut String, more: &str) -> Result<(), &'static str> {
    if text.len() + more.len() > MAX_TEXT {
        return Err("a text is longer than 4096 bytes");
    }
    text.push_str(more);
    Ok(())
}
