//! What is neither a query nor rows: transactions, settings of how results look, statements that are forgotten.

use sqlparser::ast::{
    ContextModifier, DiscardObject, Expr, Reset, Set, Statement, TransactionMode, UnaryOperator, Value,
};

use super::{Kind, Refusal, folded, no, parts};
use crate::gateway::settings;

pub(super) fn check(statement: &Statement) -> Result<Kind, Refusal> {
    match statement {
        Statement::StartTransaction {
            statements,
            exception: None,
            has_end_keyword: false,
            modifier: None,
            ..
        } if statements.is_empty() => Ok(Kind::Within),
        Statement::Commit { modifier: None, .. } | Statement::Rollback { savepoint: None, .. } => {
            Ok(Kind::End)
        }
        Statement::Rollback { .. } | Statement::Savepoint { .. } | Statement::ReleaseSavepoint { .. } => {
            Ok(Kind::Within)
        }
        Statement::Set(set) => setting(set).map(|()| Kind::Within),
        Statement::Reset(reset) => match &reset.reset {
            // To what the gateway set at the start.
            Reset::ALL => Ok(Kind::Within),
            Reset::ConfigurationParameter(name) => {
                let name = name.to_string();
                if settings::resettable(&name) { Ok(Kind::Within) } else { Err(no(&format!("RESET {name}"))) }
            }
            Reset::SessionAuthorization => Err(no("RESET SESSION AUTHORIZATION")),
        },
        Statement::ShowVariable { variable } => {
            let name = variable.iter().map(|it| it.value.to_ascii_lowercase()).collect::<Vec<_>>().join(" ");
            if settings::shown(&name) { Ok(Kind::Read) } else { Err(no(&format!("SHOW {name}"))) }
        }
        Statement::Deallocate { name, .. } => {
            let all = name.quote_style.is_none() && name.value.eq_ignore_ascii_case("all");
            Ok(Kind::Forget((!all).then(|| folded(name))))
        }
        Statement::Discard { object_type: DiscardObject::ALL } => Ok(Kind::Forget(None)),
        Statement::Discard { .. } => Ok(Kind::Within),
        other => Err(no(&first_words(other))),
    }
}

fn setting(set: &Set) -> Result<(), Refusal> {
    match set {
        Set::SingleAssignment { scope, hivevar: false, variable, values }
            if !matches!(scope, Some(ContextModifier::Global)) =>
        {
            let name = parts(variable).map(|it| it.join(".")).unwrap_or_default();
            let texts: Option<Vec<_>> = values.iter().map(literal).collect();
            match texts.map(|it| it.join(", ")) {
                Some(value) if value.eq_ignore_ascii_case("default") && settings::resettable(&name) => Ok(()),
                Some(value) if settings::settable(&name, &value) => Ok(()),
                _ => Err(Refusal::new("SETTING_REFUSED", format!("`{name}` cannot be set to that here"))),
            }
        }
        Set::SetTimeZone { value, .. } if literal(value).is_some() => Ok(()),
        Set::SetNames { charset_name, collation_name: None }
            if settings::settable("names", &charset_name.value) =>
        {
            Ok(())
        }
        Set::SetTransaction { snapshot: None, modes, .. } => {
            let known = |it: &TransactionMode| {
                matches!(it, TransactionMode::AccessMode(_) | TransactionMode::IsolationLevel(_))
            };
            if modes.iter().all(known) { Ok(()) } else { Err(no("such a SET TRANSACTION")) }
        }
        Set::SetRole { .. } => Err(no("SET ROLE")),
        Set::SetSessionAuthorization(_) => Err(no("SET SESSION AUTHORIZATION")),
        _ => Err(no("such a SET")),
    }
}

fn literal(value: &Expr) -> Option<String> {
    match value {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            Value::Number(text, _) => Some(text.clone()),
            Value::Boolean(value) => Some(value.to_string()),
            _ => None,
        },
        Expr::Identifier(ident) => Some(ident.value.clone()),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } => literal(expr).map(|it| format!("-{it}")),
        _ => None,
    }
}

/// What people call a statement: its first words in capitals.
fn first_words(statement: &Statement) -> String {
    let text = statement.to_string();
    let words = text.split_ascii_whitespace().take_while(|it| it.chars().all(|it| it.is_ascii_uppercase()));
    let words = words.take(3).collect::<Vec<_>>().join(" ");
    if words.is_empty() { "this statement".to_owned() } else { words }
}
