//! Whether the tables are what a manifest says. PostgreSQL itself makes the manifest's schema once more, empty and apart,
//! and both are compared as its catalogue shows them: columns, constraints, indexes, views, types. The order of columns
//! is not compared, since a migration can add them only at the end.

use std::collections::BTreeSet;

use database_manifest::Manifest;
use tokio_postgres::Transaction;

use super::ChangeError;
use crate::installation::{OWNER, run_in};

/// Where the schema is made once more.
const TRIAL: &str = "bailey_trial";

/// What is in a schema, a line for each.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape(BTreeSet<String>);

impl Shape {
    /// What is here and not there.
    pub(super) fn beyond(&self, other: &Self) -> Vec<String> {
        self.0.difference(&other.0).cloned().collect()
    }

    /// What the catalogue shows of a schema. It is the first on the path while we look, so that nothing in it is shown
    /// with its name.
    pub(super) async fn of(transaction: &Transaction<'_>, schema: &str) -> Result<Self, ChangeError> {
        transaction.batch_execute(&format!("SET LOCAL search_path = {schema}")).await?;
        let rows = transaction.query(CATALOGUE, &[&schema]).await?;
        transaction.batch_execute("SET LOCAL search_path = DEFAULT").await?;
        Ok(Self(rows.iter().map(|row| row.get(0)).collect()))
    }
}

/// The manifest's schema as the catalogue shows it.
pub(super) async fn expected(
    transaction: &Transaction<'_>,
    manifest: &Manifest,
) -> Result<Shape, ChangeError> {
    transaction.batch_execute(&format!("CREATE SCHEMA {TRIAL} AUTHORIZATION {OWNER}")).await?;
    for statement in &manifest.statements {
        run_in(transaction, TRIAL, &statement.sql).await?;
    }
    let shape = Shape::of(transaction, TRIAL).await?;
    transaction.batch_execute(&format!("DROP SCHEMA {TRIAL} CASCADE")).await?;
    Ok(shape)
}

const CATALOGUE: &str = "
    SELECT format('column %I.%I %s%s%s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END,
        coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), ''),
        CASE a.attidentity WHEN 'a' THEN ' IDENTITY ALWAYS' WHEN 'd' THEN ' IDENTITY' ELSE '' END,
        CASE a.attgenerated WHEN '' THEN '' ELSE ' GENERATED' END)
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'v', 'p', 'm', 'f')
  UNION ALL
    SELECT format('table %I %s %s', relname, relkind, relpersistence) FROM pg_class
    WHERE relnamespace = $1::text::regnamespace AND relkind IN ('r', 'v', 'p', 'm', 'f')
  UNION ALL
    SELECT format('constraint of %I %s', c.relname, pg_get_constraintdef(k.oid))
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE c.relnamespace = $1::text::regnamespace
  UNION ALL
    SELECT 'index ' || replace(pg_get_indexdef(i.indexrelid), format(' ON %s.', $1::text), ' ON ')
    FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
    WHERE c.relnamespace = $1::text::regnamespace
        AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
  UNION ALL
    SELECT format('view %I %s', relname, pg_get_viewdef(oid)) FROM pg_class
    WHERE relnamespace = $1::text::regnamespace AND relkind = 'v'
  UNION ALL
    SELECT format('type %I %s', t.typname, (SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum
        WHERE enumtypid = t.oid)) FROM pg_type t
    WHERE t.typnamespace = $1::text::regnamespace AND t.typtype = 'e'
  UNION ALL
    SELECT format('function %I', proname) FROM pg_proc WHERE pronamespace = $1::text::regnamespace";
