//! Rows of tables become what they were: copied from the database of that time into the live one, in the caller's
//! transaction. Nothing else goes back: budgets, the audit log, rules and identities are not in these tables, and rows
//! that were deleted for good do not return.

use std::collections::{BTreeMap, BTreeSet};

use database_manifest::{Manifest, PartyName, Restoration, Rows, TableName};
use futures_util::SinkExt as _;
use tokio_postgres::{Client, GenericClient, Transaction, error::SqlState};

use super::{ChangeError, Digest, Event, State, proposal::end};
use crate::{
    engine::Engine,
    restore::{History, Past, PastError, free},
};

/// The rows of that time, to be copied.
pub(super) struct Then {
    past: Past,
    client: Client,
}

/// A column, as both databases must have it.
#[derive(Debug, PartialEq, Eq)]
struct Column {
    name: String,
    kind: String,
    /// It is computed from others, so it is not copied.
    generated: bool,
}

impl Then {
    /// Those of a point.
    pub(super) async fn open(history: &History, restoration: &Restoration) -> Result<Self, ChangeError> {
        let past = history.at(restoration).await?;
        let client = past.session().await?;
        Ok(Self { past, client })
    }

    pub(super) async fn close(self) {
        drop(self.client);
        self.past.close().await;
    }

    /// Holds it against the live database: the same columns, no row that was deleted for good, room for both. How many
    /// rows there are and were.
    pub(super) async fn compare(
        &self,
        live: &impl GenericClient,
        engine: &Engine,
        manifest: &Manifest,
        tables: &BTreeSet<TableName>,
    ) -> Result<BTreeMap<String, Rows>, ChangeError> {
        let mut rows = BTreeMap::new();
        for table in tables {
            let (now, then) = (columns(live, table).await?, columns(&self.client, table).await?);
            if now.is_empty() || now != then {
                return Err(ChangeError::Columns(table.clone()));
            }
            let counted = Rows { now: count(live, table).await?, then: count(&self.client, table).await? };
            rows.insert(table.to_string(), counted);
        }
        self.nothing_erased(live, tables).await?;
        let (now, then) = (bytes(live, tables).await?, bytes(&self.client, tables).await?);
        let all = live.query_one("SELECT pg_database_size(current_database())", &[]).await?;
        let after = all.get::<_, i64>(0).unsigned_abs().saturating_sub(now).saturating_add(then);
        if after > manifest.max_size {
            return Err(PastError::NoRoom { needed: after, free: manifest.max_size }.into());
        }
        let free = free(engine.data());
        if then > free {
            return Err(PastError::NoRoom { needed: then, free }.into());
        }
        Ok(rows)
    }

    /// A party's rows that were deleted with proof must not come back with others.
    async fn nothing_erased(
        &self,
        live: &impl GenericClient,
        tables: &BTreeSet<TableName>,
    ) -> Result<(), ChangeError> {
        let head = "SELECT sequence FROM bailey.audit_head";
        let then: i64 = self.client.query_one(head, &[]).await?.get(0);
        let later =
            "SELECT event FROM bailey.audit WHERE sequence > $1 AND event::json->>'event' = 'deleted'";
        for row in live.query(later, &[&then]).await? {
            let event = serde_json::from_str(row.get(0)).map_err(|_| ChangeError::Stored)?;
            if let Event::Deleted { party, table, .. } = event
                && tables.iter().any(|it| it.as_str() == table)
            {
                return Err(ChangeError::Erased { party, table });
            }
        }
        Ok(())
    }

    /// Puts the rows of then in the place of those of now. References between tables must hold afterwards as always:
    /// PostgreSQL checks each of them anew.
    pub(super) async fn replace(
        &self,
        transaction: &Transaction<'_>,
        (engine, manifest): (&Engine, &Manifest),
        digest: &Digest,
        restoration: &Restoration,
        now: i64,
    ) -> Result<Vec<Event>, ChangeError> {
        let tables = restoration.tables().map_err(PastError::from)?;
        let names: Vec<String> = tables.iter().map(|table| format!("public.{table}")).collect();
        let lock = format!(
            "SET LOCAL lock_timeout = '30s'; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
            names.join(", ")
        );
        transaction.batch_execute(&lock).await?;
        self.compare(transaction, engine, manifest, &tables).await?;
        let references = references(transaction, &tables).await?;
        for it in &references {
            let drop = format!("ALTER TABLE {} DROP CONSTRAINT {}", it.table, it.name);
            transaction.batch_execute(&drop).await?;
        }
        let mut events = Vec::new();
        for table in &tables {
            // Not TRUNCATE: whoever began to read before goes on with the rows of before.
            let before = transaction.execute(&format!("DELETE FROM public.{table}"), &[]).await?;
            let rows = self.copy(transaction, table).await?;
            let (table, to) = (table.to_string(), restoration.to.to_string());
            events.push(Event::Restored { proposal: digest.to_string(), table, to, before, rows });
        }
        for it in &references {
            let add = format!("ALTER TABLE {} ADD CONSTRAINT {} {}", it.table, it.name, it.definition);
            transaction.batch_execute(&add).await.map_err(|error| it.broken(error))?;
        }
        end(transaction, digest, State::Active, now).await?;
        Ok(events)
    }

    async fn copy(&self, transaction: &Transaction<'_>, table: &TableName) -> Result<u64, ChangeError> {
        let columns = columns(&self.client, table).await?;
        let names: Vec<_> = columns.iter().filter(|it| !it.generated).map(|it| it.name.as_str()).collect();
        let names = names.join(", ");
        let from = format!("COPY (SELECT {names} FROM public.{table}) TO STDOUT (FORMAT binary)");
        let to = format!("COPY public.{table} ({names}) FROM STDIN (FORMAT binary)");
        let rows = self.client.copy_out(&from).await?;
        let sink = transaction.copy_in(&to).await?;
        tokio::pin!(rows, sink);
        sink.send_all(&mut rows).await?;
        Ok(sink.as_mut().finish().await?)
    }
}

/// Which counts a party may learn: of tables that it owns or reads.
pub(super) fn shown_to(
    manifest: &Manifest,
    party: &PartyName,
    rows: BTreeMap<String, Rows>,
) -> BTreeMap<String, Rows> {
    let knows = |name: &String| {
        let table = TableName::new(name).and_then(|name| manifest.tables.get(&name));
        table.is_some_and(|table| table.owner.as_ref() == Some(party) || table.readers.contains(party))
    };
    rows.into_iter().filter(|(name, _)| knows(name)).collect()
}

async fn columns(client: &impl GenericClient, table: &TableName) -> Result<Vec<Column>, ChangeError> {
    let query = "SELECT quote_ident(a.attname), format_type(a.atttypid, a.atttypmod), a.attgenerated <> '' \
                 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
                 WHERE c.relnamespace = 'public'::regnamespace AND c.relname = $1::text AND c.relkind IN ('r', 'p') \
                 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attname";
    let column =
        |row: &tokio_postgres::Row| Column { name: row.get(0), kind: row.get(1), generated: row.get(2) };
    Ok(client.query(query, &[&table.as_str()]).await?.iter().map(column).collect())
}

async fn count(client: &impl GenericClient, table: &TableName) -> Result<u64, ChangeError> {
    let row = client.query_one(&format!("SELECT count(*) FROM public.{table}"), &[]).await?;
    Ok(row.get::<_, i64>(0).unsigned_abs())
}

async fn bytes(client: &impl GenericClient, tables: &BTreeSet<TableName>) -> Result<u64, ChangeError> {
    let mut sum = 0;
    for table in tables {
        let size = format!("SELECT pg_total_relation_size('public.{table}'::regclass)");
        sum += client.query_one(&size, &[]).await?.get::<_, i64>(0).unsigned_abs();
    }
    Ok(sum)
}

/// A foreign key from or to a table whose rows are exchanged.
struct Reference {
    table: String,
    name: String,
    definition: String,
}

impl Reference {
    fn broken(&self, error: tokio_postgres::Error) -> ChangeError {
        if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) {
            return ChangeError::Reference { table: self.table.clone(), definition: self.definition.clone() };
        }
        error.into()
    }
}

async fn references(
    transaction: &Transaction<'_>,
    tables: &BTreeSet<TableName>,
) -> Result<Vec<Reference>, ChangeError> {
    let query = "SELECT k.conrelid::regclass::text, quote_ident(k.conname), pg_get_constraintdef(k.oid) \
                 FROM pg_constraint k JOIN pg_class f ON f.oid = k.conrelid JOIN pg_class t ON t.oid = k.confrelid \
                 WHERE k.contype = 'f' AND k.conparentid = 0 AND k.connamespace = 'public'::regnamespace \
                 AND (f.relname = ANY($1) OR t.relname = ANY($1)) ORDER BY k.oid";
    let names: Vec<&str> = tables.iter().map(TableName::as_str).collect();
    let reference =
        |row: &tokio_postgres::Row| Reference { table: row.get(0), name: row.get(1), definition: row.get(2) };
    Ok(transaction.query(query, &[&names]).await?.iter().map(reference).collect())
}
