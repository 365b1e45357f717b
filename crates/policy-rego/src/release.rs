//! Policies about the release of resources, as Trustee's are written: of package `policy`, over the claims of a token
//! as `input` and over what is asked for as `data.plugin`, `data["resource-path"]` and `data.query`. Whatever `allow` is
//! but `true` refuses.
//!
//! A policy is compiled once. For that its `input` and `data` become two members of one document, which is all that
//! changes between evaluations.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use regorus::{Engine, Value};

use crate::admission::{self, Package};
use crate::{
    Fault, InvalidRego, Limits, Version, admitted, engine, fault, messages, on_large_stack, workers,
};

/// The deepest nesting of claims.
const MAX_DEPTH: usize = 64;

/// A policy about releases that has been admitted and compiled. A copy costs nothing.
#[derive(Clone)]
pub struct Release {
    compiled: Arc<Compiled>,
}

struct Compiled {
    engine: Engine,
    /// Whether it says why it refuses.
    reasons: bool,
    limits: Limits,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who serves it: `resource`, for resources.
    pub plugin: String,
    /// The segments of its path.
    pub path: Vec<String>,
    /// The query of its URL.
    pub query: BTreeMap<String, String>,
}

impl Request {
    /// A resource by the segments of its path.
    pub fn resource<'a>(path: impl IntoIterator<Item = &'a str>) -> Self {
        let path = path.into_iter().map(str::to_owned).collect();
        Self { plugin: "resource".into(), path, query: BTreeMap::new() }
    }
}

/// The claims of a token, made ready for policies. A copy costs nothing.
#[derive(Clone, Debug)]
pub struct Claims(Value);

/// What a policy says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `allow` is true.
    Allowed,
    /// It is false, undefined, or something else.
    Denied {
        /// What the policy's rule `reasons` has, a set of texts; for operators.
        reasons: Vec<String>,
    },
}

impl Claims {
    /// Claims as a token has them.
    ///
    /// # Errors
    /// When they are larger than [`Limits::input`], or nested deeper than 64.
    pub fn new(claims: &serde_json::Value, limits: &Limits) -> Result<Self, Fault> {
        let mut left = limits.input;
        converted(claims, MAX_DEPTH, &mut left).map(Self)
    }
}

fn converted(value: &serde_json::Value, depth: usize, left: &mut usize) -> Result<Value, Fault> {
    let too_large = || Fault::Limit("the claims are larger than a policy is asked about".into());
    let mut spend = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or_else(too_large)?;
        Ok(())
    };
    let depth = depth.checked_sub(1).ok_or_else(too_large)?;
    match value {
        serde_json::Value::Null => spend(4).map(|()| Value::Null),
        serde_json::Value::Bool(value) => spend(5).map(|()| Value::from(*value)),
        serde_json::Value::Number(number) => {
            spend(8)?;
            let whole = number.as_i64().map(Value::from).or_else(|| number.as_u64().map(Value::from));
            let number = whole.or_else(|| number.as_f64().map(Value::from));
            number.ok_or_else(|| Fault::Invalid("a claim is no number".into()))
        }
        serde_json::Value::String(text) => {
            spend(text.len() + 2)?;
            Ok(Value::from(text.as_str()))
        }
        serde_json::Value::Array(items) => {
            spend(2 + items.len())?;
            let items: Result<Vec<_>, _> = items.iter().map(|item| converted(item, depth, left)).collect();
            Ok(Value::from(items?))
        }
        serde_json::Value::Object(members) => {
            let mut object = BTreeMap::new();
            for (name, member) in members {
                *left = left.checked_sub(name.len() + 4).ok_or_else(too_large)?;
                object.insert(Value::from(name.as_str()), converted(member, depth, left)?);
            }
            Ok(Value::from(object))
        }
    }
}

impl Release {
    /// What a broker's policy may cost for each answer. It is asked with each release, so it has less time than one
    /// about a verdict; the claims of a guest with eight GPUs have 170 KiB.
    pub const LIMITS: Limits =
        Limits { steps: 50_000, text: 32 * 1024, nodes: 2000, input: 512 * 1024, messages: 32, message: 512 };

    /// Why a broker would not run this policy.
    ///
    /// # Errors
    /// A sentence for its author.
    pub fn check(text: &str) -> Result<(), String> {
        Self::new(text, Self::LIMITS).map(drop).map_err(|error| error.to_string())
    }

    /// Reads a policy: in Rego v1, or where that does not parse in v0, in which older ones are written.
    ///
    /// # Errors
    /// [`InvalidRego`] when it parses as neither, has no rule `allow`, or uses what is not available.
    pub fn new(text: impl Into<String>, limits: Limits) -> Result<Self, InvalidRego> {
        let text = text.into();
        // Not on a thread of those that answer: a text can be slow to read, and answers are waited for.
        let compiled = on_large_stack(|| compile(&text, limits)).map_err(InvalidRego)?;
        Ok(Self { compiled: Arc::new(compiled) })
    }

    /// Whether a guest of these claims may have what it asks for.
    ///
    /// # Errors
    /// A [`Fault`] where the policy gives no answer, which refuses as well.
    pub fn ask(&self, claims: &Claims, request: &Request) -> Result<Answer, Fault> {
        let (compiled, input) = (Arc::clone(&self.compiled), input(claims, request));
        workers::run(move || compiled.ask(input))
    }
}

/// The one document of an evaluation.
fn input(claims: &Claims, request: &Request) -> Value {
    let text = |text: &String| Value::from(text.as_str());
    let query: BTreeMap<_, _> = request.query.iter().map(|(name, value)| (text(name), text(value))).collect();
    let path: Vec<_> = request.path.iter().map(text).collect();
    let request = BTreeMap::from([
        (Value::from("plugin"), text(&request.plugin)),
        (Value::from("resource-path"), Value::from(path)),
        (Value::from("query"), Value::from(query)),
    ]);
    let both = [(Value::from("claims"), claims.0.clone()), (Value::from("request"), Value::from(request))];
    Value::from(BTreeMap::from(both))
}

fn compile(text: &str, limits: Limits) -> Result<Compiled, Fault> {
    admission::admit_text(text, limits.text)?;
    let (version, (_, tree)) = match engine(text, Version::One, &limits) {
        Ok(read) => (Version::One, read),
        // What it is told of is the newer language, which new policies are written in.
        Err(fault) => (Version::Zero, engine(text, Version::Zero, &limits).map_err(|_| fault)?),
    };
    let admitted = admitted(&tree, Package::Policy, &limits)?;
    let (mut engine, _) = engine(&of_one_document(text, &admitted.documents)?, version, &limits)?;
    // The first evaluation orders the statements; what it says about nothing does not matter.
    engine.set_input(Value::new_object());
    let _ = engine.eval_rule("data.policy.allow".into());
    Ok(Compiled { engine, reasons: admitted.rules.contains("reasons"), limits })
}

/// The text with `input.claims` for `input`, and `input.request` for `data`.
fn of_one_document(text: &str, documents: &BTreeSet<(usize, usize, bool)>) -> Result<String, Fault> {
    let nowhere = || Fault::Invalid("a variable that is nowhere".into());
    let (mut out, mut from) = (String::with_capacity(text.len() * 2), 0);
    for (start, end, data) in documents {
        let (expected, instead) = if *data { ("data", "input.request") } else { ("input", "input.claims") };
        if text.get(*start..*end) != Some(expected) {
            return Err(nowhere());
        }
        out.push_str(text.get(from..*start).ok_or_else(nowhere)?);
        out.push_str(instead);
        from = *end;
    }
    out.push_str(&text[from..]);
    Ok(out)
}

impl Compiled {
    fn ask(&self, input: Value) -> Result<Answer, Fault> {
        let mut engine = self.engine.clone();
        engine.set_input(input);
        let mut eval = |rule: &str| engine.eval_rule(rule.into()).map_err(|error| fault(&error));
        if eval("data.policy.allow")? == Value::Bool(true) {
            return Ok(Answer::Allowed);
        }
        let reasons = match self.reasons {
            true => messages("reasons", &eval("data.policy.reasons")?, &self.limits)?,
            false => Vec::new(),
        };
        Ok(Answer::Denied { reasons })
    }
}

impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Release(…)")
    }
}
