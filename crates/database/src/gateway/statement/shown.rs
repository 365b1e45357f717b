//! The catalog without what it tells of rows. Tools for analysis read estimates of sizes with the names of tables, and do
//! not start where that is refused: so PostgreSQL gets, in the place of what tells them, views and values that do not.
//!
//! This is for the tools. What keeps the estimates from parties is that PostgreSQL gives their roles no right to them.

use std::{collections::BTreeSet, ops::ControlFlow};

use sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, Statement, Value, VisitMut, VisitorMut};

use super::{folded, parts, query};

/// The schema of the views, which `installation` makes.
pub(crate) const SCHEMA: &str = "bailey_catalog";
/// Relations of `pg_catalog` that have such a view.
pub(crate) const RELATIONS: [&str; 3] = ["pg_class", "pg_stat_all_tables", "pg_stat_user_tables"];
/// Functions that tell sizes and uses: their answer is NULL.
const UNTOLD: [&str; 2] = ["pg_relation_size", "pg_stat_get_numscans"];

/// Whether calls of a function are answered with NULL.
pub(super) fn is_untold(name: &ObjectName) -> bool {
    match parts(name).as_deref() {
        Some([function]) => UNTOLD.contains(&function.as_str()),
        Some([schema, function]) => schema == "pg_catalog" && UNTOLD.contains(&function.as_str()),
        _ => false,
    }
}

/// Puts them there, in a statement that may run.
pub(super) fn replace(statement: &mut Statement) {
    let own = query::own_names(statement);
    // Nothing of it ends early.
    let _ = VisitMut::visit(statement, &mut Replacing { own });
}

struct Replacing {
    own: BTreeSet<String>,
}

impl VisitorMut for Replacing {
    type Break = ();

    fn post_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let parts = parts(relation);
        let name = match parts.as_deref() {
            Some([name]) if !self.own.contains(name) => name,
            Some([schema, name]) if schema == "pg_catalog" => name,
            _ => return ControlFlow::Continue(()),
        };
        if RELATIONS.contains(&name.as_str()) {
            let parts = [SCHEMA, name].map(|it| ObjectNamePart::Identifier(Ident::new(it)));
            *relation = ObjectName(parts.to_vec());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) if is_untold(&function.name) => {
                *expr = Expr::Value(Value::Null.with_empty_span());
            }
            // A column by its whole name, as SQLAlchemy writes it.
            Expr::CompoundIdentifier(parts) => {
                if let [schema, relation, _, ..] = parts.as_mut_slice()
                    && folded(schema) == "pg_catalog"
                    && RELATIONS.contains(&folded(relation).as_str())
                {
                    *schema = Ident::new(SCHEMA);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
