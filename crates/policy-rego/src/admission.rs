//! Which policies are run at all. What is not named here is not known to be harmless, and is refused before the
//! first step: what reaches outside (functions), what has no bound (products, recursion), and what hides which of the
//! two it is (`data`, `with`, imports).
//!
//! It looks at the syntax tree as the interpreter prints it: an object with one member, whose name begins with a
//! capital, is a node of that kind.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::Fault;
use crate::functions::ALLOWED;

/// The kinds of nodes. Template texts and products are not among them: they grow without bound.
const KINDS: &[&str] = &[
    "Array",
    "ArithExpr",
    "ArrayCompr",
    "AssignExpr",
    "BinExpr",
    "Bool",
    "BoolExpr",
    "Call",
    "Compr",
    "Default",
    "Every",
    "Expr",
    "Func",
    "Membership",
    "NotExpr",
    "Null",
    "Number",
    "Object",
    "ObjectCompr",
    "RawString",
    "RefBrack",
    "RefDot",
    "Set",
    "SetCompr",
    "SomeIn",
    "SomeVars",
    "Spec",
    "String",
    "UnaryExpr",
    "Var",
];

/// The deepest nesting of brackets. The interpreter's parser tries each one as several things, so its time doubles
/// with each.
const MAX_NESTING: usize = 10;

/// Refuses a text that would keep the parser busy.
pub(crate) fn admit_text(text: &str, max_bytes: usize) -> Result<(), Fault> {
    if text.len() > max_bytes {
        return Err(Fault::Limit(format!("it has more than {max_bytes} bytes")));
    }
    if nesting(text) > MAX_NESTING {
        return Err(Fault::Limit(format!("its brackets are nested deeper than {MAX_NESTING}")));
    }
    Ok(())
}

/// The deepest nesting of brackets outside of texts and comments.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            '[' | '{' | '(' => depth += 1,
            ']' | '}' | ')' => depth = depth.saturating_sub(1),
            '#' => drop(chars.by_ref().find(|&char| char == '\n')),
            '`' => drop(chars.by_ref().find(|&char| char == '`')),
            '"' => {
                while let Some(char) = chars.next() {
                    match char {
                        '\\' => drop(chars.next()),
                        // No text goes on in the next line.
                        '"' | '\n' => break,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// What a policy is for, which decides its package's name and whether `data` is something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Package {
    /// About verdicts: `package bailey`.
    Bailey,
    /// About releases, as Trustee's resource policies: `package policy`, with [`REQUEST`] in `data`.
    Policy,
}

impl Package {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bailey => "bailey",
            Self::Policy => "policy",
        }
    }
}

/// What a policy about releases finds in `data`: nothing else is there.
const REQUEST: [&str; 3] = ["plugin", "resource-path", "query"];

/// A policy that may be run.
pub(crate) struct Admitted {
    /// The names of its rules.
    pub(crate) rules: BTreeSet<String>,
    /// Where its text says `input` or `data`, in bytes: start, end, and whether it is `data`.
    pub(crate) documents: BTreeSet<(usize, usize, bool)>,
}

/// Refuses a policy that must not be run.
pub(crate) fn admit(modules: &str, package: Package, max_nodes: usize) -> Result<Admitted, Fault> {
    // serde_json reads 128 levels, which bounds the recursion here, too.
    let modules: Value =
        serde_json::from_str(modules).map_err(|_| Fault::Limit("nested too deeply".into()))?;
    let module = &modules[0]["ast"];
    if path(&module["package"]["refr"]).as_deref() != Some(package.name()) {
        return Err(Fault::Invalid(format!("its package is not `{}`", package.name())));
    }
    for import in items(&module["imports"]) {
        let name = path(&import["refr"]).unwrap_or_default();
        if name != "rego.v1" && !name.starts_with("future.keywords") {
            return Err(Fault::Invalid(format!("it imports {name}: only rego.v1 may be imported")));
        }
    }
    let mut rules: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for rule in items(&module["rules"]) {
        rules.entry(name(rule)?).or_default().push(rule);
    }
    let names: BTreeSet<String> = rules.keys().cloned().collect();
    if let Some(name) = names.iter().find(|name| matches!(name.as_str(), "input" | "data")) {
        return Err(Fault::Invalid(format!("a rule must not be called {name}")));
    }
    let mut survey = Survey {
        names: &names,
        package,
        nodes: 0,
        max_nodes,
        used: BTreeSet::new(),
        documents: BTreeSet::new(),
    };
    let mut uses = BTreeMap::new();
    for (name, parts) in &rules {
        for rule in parts {
            survey.visit(rule)?;
        }
        uses.insert(name.clone(), std::mem::take(&mut survey.used));
    }
    acyclic(uses)?;
    let documents = survey.documents;
    Ok(Admitted { rules: names, documents })
}

/// The name of a rule, which is one word.
fn name(rule: &Value) -> Result<String, Fault> {
    let head = match (rule.get("Spec"), rule.get("Default")) {
        (Some(spec), _) => spec["head"].as_object().and_then(|head| head.values().next()),
        (_, default) => default,
    };
    head.and_then(|head| head["refr"]["Var"]["value"].as_str())
        .map(str::to_owned)
        .ok_or_else(|| Fault::Invalid("a rule's name is not one word; write `deny contains …`".into()))
}

struct Survey<'a> {
    names: &'a BTreeSet<String>,
    package: Package,
    nodes: usize,
    max_nodes: usize,
    /// The rules that the rule at hand uses.
    used: BTreeSet<String>,
    documents: BTreeSet<(usize, usize, bool)>,
}

impl Survey<'_> {
    fn visit(&mut self, value: &Value) -> Result<(), Fault> {
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.visit(item)),
            Value::Object(members) => {
                if members.get("with_mods").is_some() {
                    return Err(Fault::Invalid("`with` is not available".into()));
                }
                let head = members.contains_key("head");
                for (name, member) in members {
                    match name.chars().next() {
                        Some(first) if first.is_ascii_uppercase() => self.node(name, member)?,
                        // The name of a rule is not a use of it.
                        _ if head && name == "head" => {
                            for part in member.as_object().into_iter().flat_map(|head| head.values()) {
                                let rest = part.as_object().into_iter().flatten();
                                rest.filter(|(name, _)| *name != "refr")
                                    .try_for_each(|(_, rest)| self.visit(rest))?;
                            }
                        }
                        _ => self.visit(member)?,
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// That the text says `input` or `data` here.
    fn document(&mut self, variable: &Value, data: bool) -> Result<(), Fault> {
        let at = |end: &str| variable["span"][end].as_u64().and_then(|at| usize::try_from(at).ok());
        let place = at("start").zip(at("end"));
        let (start, end) = place.ok_or_else(|| Fault::Invalid("a variable that is nowhere".into()))?;
        self.documents.insert((start, end, data));
        Ok(())
    }

    fn node(&mut self, kind: &str, node: &Value) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > self.max_nodes {
            return Err(Fault::Limit(format!("it has more than {} nodes", self.max_nodes)));
        }
        let invalid = |text: String| Err(Fault::Invalid(text));
        match kind {
            "Var" => match node["value"].as_str().unwrap_or_default() {
                "data" => {
                    return invalid(match self.package {
                        Package::Bailey => {
                            "`data` is not available; rules are named by their own names".into()
                        }
                        Package::Policy => {
                            "`data` has plugin, resource-path and query, and nothing else; rules are \
                                            named by their own names"
                                .into()
                        }
                    });
                }
                "input" => self.document(node, false)?,
                name if self.names.contains(name) => {
                    self.used.insert(name.to_owned());
                }
                _ => {}
            },
            "RefDot" | "RefBrack" if self.package == Package::Policy && is_request(kind, node) => {
                return self.document(&node["refr"]["Var"], true);
            }
            "ArithExpr" if node["op"] == "Mul" => return invalid("products are not available".into()),
            "Call" => {
                let name = path(&node["fcn"]).unwrap_or_default();
                if !ALLOWED.contains(&name.as_str()) && !self.names.contains(&name) {
                    return invalid(format!("the function {name} is not available"));
                }
            }
            // Its `refr` is its name.
            "Default" => return self.visit(&node["value"]),
            known if KINDS.contains(&known) => {}
            other => return invalid(format!("{other} is not available")),
        }
        self.visit(node)
    }
}

/// Whether this is a member of [`REQUEST`].
fn is_request(kind: &str, node: &Value) -> bool {
    let member = match kind {
        "RefDot" => node["field"][1].as_str(),
        _ => node["index"]["String"]["value"].as_str(),
    };
    node["refr"]["Var"]["value"] == "data" && member.is_some_and(|member| REQUEST.contains(&member))
}

/// Refuses rules that use themselves, on whatever way: the interpreter would follow them without end.
fn acyclic(mut uses: BTreeMap<String, BTreeSet<String>>) -> Result<(), Fault> {
    loop {
        let done: BTreeSet<_> =
            uses.iter().filter(|(_, used)| used.is_empty()).map(|(name, _)| name.clone()).collect();
        if done.is_empty() {
            break;
        }
        uses.retain(|name, _| !done.contains(name));
        for used in uses.values_mut() {
            used.retain(|name| !done.contains(name));
        }
    }
    match uses.into_keys().next() {
        None => Ok(()),
        Some(name) => {
            Err(Fault::Invalid(format!("the rule {name} uses itself, or shares a variable's name")))
        }
    }
}

/// A reference of names and dots, such as `http.send`.
fn path(expression: &Value) -> Option<String> {
    if let Some(name) = expression["Var"]["value"].as_str() {
        return Some(name.to_owned());
    }
    let dot = expression.get("RefDot")?;
    Some(format!("{}.{}", path(&dot["refr"])?, dot["field"][1].as_str()?))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
