//! `COPY`: rows in for who writes, rows out for who reads, over the connection and from nowhere else.

use std::collections::BTreeSet;

use sqlparser::ast::{CopyOption, CopySource, CopyTarget, ObjectName, Statement};

use super::{Kind, Refusal, Rights, insert, no, parts, query, relations};

/// What it is, and whether it writes blind.
pub(super) fn check(statement: &Statement, rights: &Rights) -> Result<(Kind, bool), Refusal> {
    let Statement::Copy { source, to, target, options, values, .. } = statement else {
        return Err(no("COPY"));
    };
    if !values.is_empty() {
        return Err(no("COPY with rows in the statement"));
    }
    let refused = |it: &CopyOption| matches!(it, CopyOption::Freeze(_) | CopyOption::Encoding(_));
    if options.iter().any(refused) {
        return Err(no("COPY with FREEZE or ENCODING"));
    }
    match (target, source, to) {
        (CopyTarget::Stdin, CopySource::Table { table_name, .. }, false) => {
            let table = insert::target(table_name, rights)?;
            Ok((Kind::CopyIn, !rights.reads.contains(&table)))
        }
        (CopyTarget::Stdout, CopySource::Table { table_name, .. }, true) => {
            readable(table_name, rights).map(|()| (Kind::Read, false))
        }
        (CopyTarget::Stdout, CopySource::Query(inner), true) => {
            let inner = Statement::Query(inner.clone());
            query::check(&inner, rights, None).map(|()| (Kind::Read, false))
        }
        (CopyTarget::Program { .. }, ..) => Err(no("COPY with a program")),
        (CopyTarget::File { .. }, ..) => Err(no("COPY with a file of the server")),
        _ => Err(no("such a COPY")),
    }
}

/// Tables of the manifest alone: the catalog is not copied.
fn readable(name: &ObjectName, rights: &Rights) -> Result<(), Refusal> {
    let parts = parts(name).unwrap_or_default();
    if parts.last().is_some_and(|it| relations::is_catalog(it)) {
        return Err(no("COPY of the catalog"));
    }
    relations::readable(&parts, rights, &BTreeSet::new())
}
