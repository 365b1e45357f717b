//! A manifest's exact bytes are its identity, and some of them (measurements of programs, digests of
//! workloads, roots, certificates) are known only once things are built. `bailey up` fills them in where the
//! manifest says `${name}`; the result is an ordinary manifest and is shown with its digest.

use std::collections::BTreeMap;

use crate::failure::{Failure, Outcome};

/// What `${…}` can stand for.
#[derive(Debug, Clone, Default)]
pub struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Adds a fact. Line breaks and quotes are escaped as in JSON, so it belongs between double quotes.
    pub fn insert(&mut self, name: impl Into<String>, value: &str) {
        let quoted = serde_json::Value::from(value).to_string();
        self.0.insert(name.into(), quoted[1..quoted.len() - 1].to_owned());
    }

    /// Replaces every `${name}`.
    pub fn fill(&self, template: &str) -> Outcome<String> {
        let mut filled = String::with_capacity(template.len());
        let mut rest = template;
        while let Some((before, after)) = rest.split_once("${") {
            filled.push_str(before);
            let Some((name, after)) = after.split_once('}') else {
                return Err(Failure::malformed("the manifest has a `${` without its `}`"));
            };
            let Some(value) = self.0.get(name) else {
                let known: Vec<_> = self.0.keys().map(String::as_str).collect();
                return Err(Failure::malformed(format!(
                    "the manifest asks for ${{{name}}}, which is not known here"
                ))
                .hint(format!("known: {}", known.join(", "))));
            };
            filled.push_str(value);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_and_refuses() {
        let mut facts = Facts::default();
        facts.insert("root", "a\n\"b\"");
        assert_eq!(facts.fill(r#"x: "${root}" y"#).unwrap(), r#"x: "a\n\"b\"" y"#);
        assert_eq!(facts.fill("${rot}").unwrap_err().exit_code(), 2);
        assert_eq!(facts.fill("${root").unwrap_err().exit_code(), 2);
        assert_eq!(facts.fill("no $ {here}").unwrap(), "no $ {here}");
    }
}
