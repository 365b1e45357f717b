//! Policies in Rego, for what the typed policy cannot say.
//!
//! What it is: a [`Narrowing`] that asks a policy of package `bailey` about the JSON of a verdict that accepts. The
//! Evidence stays accepted only if `allow` is exactly `true` and `deny` is empty; everything else refuses, with
//! `REGO_DENIED`, `REGO_INVALID` or `REGO_LIMIT`. What it is not: a way to accept. It is never asked about Evidence
//! that is refused, and it sees nothing but the verdict: no network, files, clock or randomness.
//!
//! ```
//! use policy_rego::{Limits, Rego};
//!
//! let rego = Rego::new("package bailey\nallow if input.platform == \"snp\"", Limits::default());
//! assert!(rego.is_ok());
//! ```
//!
//! Limits are of steps and sizes, never of time, so that a verdict depends on its inputs alone. One thing they do not
//! bound: comparing values that a policy has nested in itself many times over. A policy is its operator's own text;
//! the limits are there for mistakes, and for operators that may write policies and nothing else.

mod admission;
mod functions;
mod release;
mod steps;
mod workers;

pub use release::{Answer, Claims, Release, Request};

use std::collections::BTreeSet;
use std::thread;

use admission::{Admitted, Package};
use appraisal::{Code, Narrowing, Objection, Verdict};
use regorus::{Engine, LimitError, Value};

/// The interpreter recurses with the policy's nesting and with its loops, each of which is a node at least. So much
/// is enough for [`Limits::nodes`] of them without optimisation; it is used only where it is needed.
const STACK: usize = 256 * 1024 * 1024;
/// The longest part of a fault of the interpreter's that is shown, in characters.
const MAX_FAULT: usize = 300;

/// What a policy may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Steps of the interpreter for each of `allow` and `deny`.
    pub steps: u64,
    /// Bytes of the policy's text.
    pub text: usize,
    /// Nodes of its syntax tree; more than 2000 may not fit the stack.
    pub nodes: usize,
    /// Bytes of the verdict's JSON.
    pub input: usize,
    /// Messages of `deny`.
    pub messages: usize,
    /// Bytes of each.
    pub message: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 100_000, text: 32 * 1024, nodes: 2000, input: 1024 * 1024, messages: 32, message: 512 }
    }
}

/// A policy that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the Rego policy cannot be run: {0}")]
pub struct InvalidRego(Fault);

/// Why a policy gives no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not one, or fails.
    #[error("{0}")]
    Invalid(String),
    /// It is larger or slower than it may be.
    #[error("{0}")]
    Limit(String),
}

/// A policy that has been admitted.
#[derive(Clone, Debug)]
pub struct Rego {
    text: String,
    limits: Limits,
}

impl Rego {
    /// Reads a policy, in Rego v1.
    ///
    /// # Errors
    /// [`InvalidRego`] when it does not parse, has no rule `allow`, or uses what is not available.
    pub fn new(text: impl Into<String>, limits: Limits) -> Result<Self, InvalidRego> {
        let rego = Self { text: text.into(), limits };
        on_large_stack(|| rego.prepare().map(drop)).map_err(InvalidRego)?;
        Ok(rego)
    }

    /// The interpreter, with the names of the rules.
    fn prepare(&self) -> Result<(Engine, BTreeSet<String>), Fault> {
        admission::admit_text(&self.text, self.limits.text)?;
        let engine = engine(&self.text, Version::One, &self.limits)?;
        Ok((engine.0, admitted(&engine.1, Package::Bailey, &self.limits)?.rules))
    }

    /// The messages of `deny`, if `allow` is true; or none, if it is not.
    fn ask(&self, input: &str) -> Result<Option<Vec<String>>, Fault> {
        let (mut engine, rules) = self.prepare()?;
        if input.len() > self.limits.input {
            return Err(Fault::Limit(format!("the verdict has more than {} bytes", self.limits.input)));
        }
        engine.set_input_json(input).map_err(|error| fault(&error))?;
        let mut eval = |rule: &str| engine.eval_rule(rule.into()).map_err(|error| fault(&error));
        let messages = match rules.contains("deny") {
            true => messages("deny", &eval("data.bailey.deny")?, &self.limits)?,
            false => Vec::new(),
        };
        match eval("data.bailey.allow")? {
            Value::Bool(true) => Ok(Some(messages)),
            Value::Bool(false) | Value::Undefined if messages.is_empty() => Ok(None),
            Value::Bool(false) | Value::Undefined => Ok(Some(messages)),
            _ => Err(Fault::Invalid("`allow` is neither true nor false".into())),
        }
    }
}

impl Narrowing for Rego {
    fn narrow(&self, accepted: &Verdict) -> Result<(), Vec<Objection>> {
        let answer = serde_json::to_string(accepted)
            .map_err(|error| Fault::Invalid(error.to_string()))
            .and_then(|input| on_large_stack(|| self.ask(&input)));
        let objection = |code, text: String| Objection { code, text, mend: None };
        match answer {
            Ok(Some(messages)) if messages.is_empty() => Ok(()),
            Ok(Some(messages)) => {
                Err(messages.into_iter().map(|text| objection(Code::RegoDenied, text)).collect())
            }
            Ok(None) => {
                Err(vec![objection(Code::RegoDenied, "the Rego policy's `allow` is not true".into())])
            }
            Err(Fault::Invalid(text)) => Err(vec![Objection {
                mend: Some("correct the policy; docs/policy-rego.md says what it may use".into()),
                ..objection(Code::RegoInvalid, format!("the Rego policy gives no answer: {text}"))
            }]),
            Err(Fault::Limit(text)) => Err(vec![Objection {
                mend: Some("write the policy with fewer combinations, or shorter".into()),
                ..objection(Code::RegoLimit, format!("the Rego policy is stopped: {text}"))
            }]),
        }
    }
}

/// Works on a stack that holds the interpreter's recursion: where there are no threads, there is no answer.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, Fault> + Send) -> Result<T, Fault> {
    thread::scope(|scope| {
        let running = thread::Builder::new().name("rego".into()).stack_size(STACK).spawn_scoped(scope, work);
        let running = running.map_err(|_| Fault::Limit("there is no thread to run it on".into()))?;
        running.join().unwrap_or_else(|_| Err(Fault::Invalid("the interpreter gave up".into())))
    })
}

/// The texts that a rule gives.
fn messages(rule: &str, said: &Value, limits: &Limits) -> Result<Vec<String>, Fault> {
    let said: Vec<&Value> = match said {
        Value::Undefined => Vec::new(),
        Value::Set(said) => said.iter().collect(),
        Value::Array(said) => said.iter().collect(),
        _ => return Err(Fault::Invalid(format!("`{rule}` is no set of messages"))),
    };
    if said.len() > limits.messages {
        return Err(Fault::Limit(format!("`{rule}` has more than {} messages", limits.messages)));
    }
    let message = |value: &Value| match value {
        Value::String(text) if text.len() <= limits.message => Ok(printable(text)),
        Value::String(_) => Err(Fault::Limit(format!("a message has more than {} bytes", limits.message))),
        _ => Err(Fault::Invalid(format!("a message of `{rule}` is no text"))),
    };
    said.into_iter().map(message).collect()
}

/// Of the language.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Zero,
    One,
}

/// An interpreter that has read this text, and the text's syntax tree.
fn engine(text: &str, version: Version, limits: &Limits) -> Result<(Engine, String), Fault> {
    let mut engine = Engine::new();
    engine.set_rego_v0(version == Version::Zero);
    engine.set_strict_builtin_errors(true);
    engine.set_execution_timer_config(steps::limit(limits.steps));
    functions::install(&mut engine)?;
    engine.add_policy("policy.rego".into(), text.to_owned()).map_err(|error| fault(&error))?;
    let tree = engine.get_ast_as_json().map_err(|error| fault(&error))?;
    Ok((engine, tree))
}

fn admitted(tree: &str, package: Package, limits: &Limits) -> Result<Admitted, Fault> {
    let admitted = admission::admit(tree, package, limits.nodes)?;
    match admitted.rules.contains("allow") {
        true => Ok(admitted),
        false => Err(Fault::Invalid("it has no rule `allow`".into())),
    }
}

/// The interpreter's fault: its limit, or the last line of what it says, which is the one that tells.
fn fault(error: &(impl AsRef<dyn std::error::Error + Send + Sync> + std::fmt::Display)) -> Fault {
    let mut sources = std::iter::successors(Some(error.as_ref() as &dyn std::error::Error), |e| e.source());
    if sources.any(|error| error.is::<LimitError>()) {
        return Fault::Limit("it takes more steps than it may".into());
    }
    let text = error.to_string();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no reason");
    Fault::Invalid(printable(last).chars().take(MAX_FAULT).collect())
}

/// Without what would move a terminal's cursor or hide the rest.
fn printable(text: &str) -> String {
    text.replace(|char: char| char.is_control(), "\u{fffd}")
}
