//! What the manifest says, as PostgreSQL knows it: roles, tables, grants, stamps. Superuser `bailey` alone does this;
//! whatever a role may do is taken from it first and given anew, so that nothing stays of what an earlier manifest gave.

use std::{collections::BTreeSet, fmt::Write as _};

use appraisal::UnixTime;
use database_manifest::{Manifest, PartyName, Table, TableName};
use tokio_postgres::{Client, GenericClient, Transaction};

use crate::{
    Rules, algorithms,
    audit::{self, AuditError},
    gateway::shown,
};

/// Functions of PostgreSQL that no party calls: large objects, waiting, messages between sessions, settings, sizes (which
/// tell how many rows there are), SQL as text. The gateway refuses them too.
const WITHDRAWN: &str = "^(lo_.*|lowrite|loread|pg_sleep.*|pg_(try_)?advisory.*|pg_notify|set_config|\
    pg_(cancel|terminate)_backend|pg_.*_size|pg_export_snapshot|pg_logical_emit_message|.*_to_xml.*|pg_stat_get_.*|\
    pg_switch_wal|pg_current_wal.*|pg_last_.*|txid_.*|pg_current_xact_id.*|pg_snapshot.*)$";

/// Roles that are ours.
pub const OWNER: &str = "bailey_owner";
/// Runs algorithms.
pub const READER: &str = "bailey_reader";

/// The login role of a party.
#[must_use]
pub fn role(party: &PartyName) -> String {
    format!("party_{party}")
}

/// Why the manifest could not be put into effect.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// PostgreSQL refused a statement.
    #[error("PostgreSQL does not take {what}: {}", said(.source))]
    Refused {
        /// Which statement.
        what: String,
        /// What it said.
        source: tokio_postgres::Error,
    },
    /// PostgreSQL does not answer.
    #[error("the database did not answer: {}", said(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// The audit log could not be made.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// An algorithm could not run.
    #[error(transparent)]
    Algorithm(#[from] algorithms::Unusable),
    /// What the database holds is no manifest that this version reads.
    #[error("the manifest in the database cannot be read: {0}")]
    Manifest(#[from] database_manifest::Faults),
    /// There is no manifest.
    #[error("the database holds no manifest")]
    None,
}

/// PostgreSQL's own words.
fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => error.to_string(),
    }
}

/// Makes all of a new database: the system schema `bailey`, roles, the manifest's tables, grants.
///
/// # Errors
/// What PostgreSQL does not take; then nothing is changed.
pub async fn install(
    client: &mut Client,
    manifest: &Manifest,
    now: UnixTime,
) -> Result<(), InstallationError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(&system(manifest)).await?;
    transaction.batch_execute(&catalog()).await?;
    algorithms::install(&transaction).await?;
    for statement in &manifest.statements {
        run(&transaction, &statement.sql).await?;
    }
    apply(&transaction, None, manifest).await?;
    let insert =
        "INSERT INTO bailey.manifests (epoch, digest, parent, text, activated) VALUES (0, $1, NULL, $2, $3)";
    transaction.execute(insert, &[&manifest.digest.as_slice(), &&manifest.text[..], &now.0]).await?;
    audit::install(&transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// The manifest in force, as the database holds it.
///
/// # Errors
/// That there is none, or none that can be read.
pub async fn rules(client: &impl GenericClient) -> Result<Rules, InstallationError> {
    let query = "SELECT epoch, text, (SELECT digest FROM bailey.manifests WHERE epoch = 0) FROM bailey.manifests \
                 ORDER BY epoch DESC LIMIT 1";
    let row = client.query_opt(query, &[]).await?.ok_or(InstallationError::None)?;
    let (epoch, text, first): (i64, Vec<u8>, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
    Ok(Rules {
        manifest: std::sync::Arc::new(Manifest::parse(&text)?),
        epoch: epoch.unsigned_abs(),
        first: first.try_into().map_err(|_| InstallationError::None)?,
    })
}

/// Runs a statement of the schema or of a migration as the owner of the tables, who has no other rights.
pub(crate) async fn run(transaction: &Transaction<'_>, statement: &str) -> Result<(), InstallationError> {
    run_in(transaction, "public", statement).await
}

/// As that, in another schema. A prepared statement is one statement, whatever is in its text.
pub(crate) async fn run_in(
    transaction: &Transaction<'_>,
    schema: &str,
    statement: &str,
) -> Result<(), InstallationError> {
    let refused = |source| InstallationError::Refused { what: statement.chars().take(200).collect(), source };
    transaction.batch_execute(&format!("SET LOCAL ROLE {OWNER}; SET LOCAL search_path = {schema}")).await?;
    transaction.execute(statement, &[]).await.map_err(refused)?;
    transaction.batch_execute("RESET ROLE; SET LOCAL search_path = DEFAULT").await?;
    Ok(())
}

/// Puts roles, grants and stamps into effect; `old` is the manifest before.
pub(crate) async fn apply(
    transaction: &Transaction<'_>,
    old: Option<&Manifest>,
    new: &Manifest,
) -> Result<(), InstallationError> {
    transaction.batch_execute(&rights(old, new)).await?;
    Ok(algorithms::check(transaction, new).await?)
}

/// What parties see in the place of catalogs that tell how many rows there are: the same columns, and in those that tell
/// it nothing, as of a table that was never looked at.
fn catalog() -> String {
    let (schema, relations) = (shown::SCHEMA, shown::RELATIONS.join("', '"));
    format!(
        "CREATE SCHEMA {schema};
        GRANT USAGE ON SCHEMA {schema} TO PUBLIC;
        DO $view$ DECLARE it text; BEGIN
            FOREACH it IN ARRAY ARRAY['{relations}'] LOOP
                EXECUTE (
                    SELECT format('CREATE VIEW {schema}.%I AS SELECT %s%s FROM pg_catalog.%I', it, string_agg(CASE
                        WHEN it = 'pg_class' AND attname = 'reltuples' THEN '-1::real AS reltuples'
                        WHEN it = 'pg_class' AND attname IN ('relpages', 'relallvisible', 'relallfrozen')
                            THEN format('0 AS %I', attname)
                        WHEN it = 'pg_class' OR attname IN ('relid', 'schemaname', 'relname') THEN quote_ident(attname)
                        ELSE format('NULL::%s AS %I', format_type(atttypid, atttypmod), attname)
                    END, ', ' ORDER BY attnum), CASE WHEN it = 'pg_class' THEN ', tableoid, xmin' ELSE '' END, it)
                    FROM pg_catalog.pg_attribute
                    WHERE attrelid = ('pg_catalog.' || it)::regclass AND attnum > 0 AND NOT attisdropped
                );
                EXECUTE format('GRANT SELECT ON {schema}.%I TO PUBLIC', it);
            END LOOP;
        END $view$;"
    )
}

/// What is the same in every database.
fn system(manifest: &Manifest) -> String {
    let database = &manifest.name;
    format!(
        "CREATE ROLE {OWNER} NOLOGIN NOINHERIT;
        CREATE ROLE {READER} LOGIN NOINHERIT;
        ALTER ROLE {READER} SET default_transaction_read_only = on;
        ALTER ROLE {READER} SET search_path = public;
        REVOKE ALL ON DATABASE {database} FROM PUBLIC;
        GRANT CONNECT ON DATABASE {database} TO {READER};
        REVOKE ALL ON SCHEMA public FROM PUBLIC;
        ALTER SCHEMA public OWNER TO {OWNER};
        GRANT USAGE ON SCHEMA public TO {READER};
        -- How many rows a table has is estimated in these columns, for whoever plans and not for whoever asks.
        REVOKE SELECT ON pg_catalog.pg_class FROM PUBLIC;
        DO $grant$ BEGIN EXECUTE (
            SELECT format('GRANT SELECT (%s) ON pg_catalog.pg_class TO PUBLIC', string_agg(quote_ident(attname), ', '))
            FROM pg_catalog.pg_attribute WHERE attrelid = 'pg_catalog.pg_class'::regclass AND NOT attisdropped
            AND attname NOT IN ('reltuples', 'relpages', 'relallvisible', 'relallfrozen')
        ); END $grant$;
        ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} REVOKE ALL ON TYPES FROM PUBLIC;
        ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} REVOKE ALL ON FUNCTIONS FROM PUBLIC;
        CREATE SCHEMA IF NOT EXISTS bailey;
        REVOKE ALL ON SCHEMA bailey FROM PUBLIC;
        CREATE TABLE bailey.manifests (
            epoch bigint PRIMARY KEY,
            digest bytea NOT NULL,
            parent bytea,
            text bytea NOT NULL,
            activated bigint NOT NULL
        );
        -- Which rules the data that a query sees are of.
        GRANT USAGE ON SCHEMA bailey TO {READER};
        GRANT SELECT (epoch) ON bailey.manifests TO {READER};
        CREATE TABLE bailey.proposals (
            number bigint GENERATED ALWAYS AS IDENTITY,
            digest bytea PRIMARY KEY,
            base bytea NOT NULL,
            manifest text NOT NULL,
            migration text NOT NULL,
            erase text[] NOT NULL,
            restore text,
            rows text NOT NULL,
            proposer text NOT NULL,
            made bigint NOT NULL,
            expires bigint NOT NULL,
            state text NOT NULL DEFAULT 'pending',
            decided bigint
        );
        CREATE TABLE bailey.decisions (
            proposal bytea NOT NULL REFERENCES bailey.proposals,
            party text NOT NULL,
            certificate bytea NOT NULL,
            approves boolean NOT NULL,
            made bigint NOT NULL,
            PRIMARY KEY (proposal, party)
        );
        DO $$ DECLARE it regprocedure; BEGIN
            FOR it IN SELECT oid::regprocedure FROM pg_proc
                WHERE pronamespace = 'pg_catalog'::regnamespace AND proname ~ '{WITHDRAWN}'
            LOOP EXECUTE format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', it); END LOOP;
        END $$;"
    )
}

/// Takes everything from everybody and gives what the new manifest says.
fn rights(old: Option<&Manifest>, new: &Manifest) -> String {
    let mut sql = String::new();
    let before: BTreeSet<_> = old.into_iter().flat_map(|old| old.parties.keys()).collect();
    let now: BTreeSet<_> = new.parties.keys().collect();
    for party in &before {
        let role = role(party);
        let _ = write!(
            sql,
            "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role};
            REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {role};"
        );
    }
    for party in before.difference(&now) {
        let _ = write!(sql, "DROP OWNED BY {0}; DROP ROLE {0};", role(party));
    }
    for party in now.difference(&before) {
        let (role, database) = (role(party), &new.name);
        let _ = write!(
            sql,
            "CREATE ROLE {role} LOGIN NOINHERIT;
            GRANT CONNECT ON DATABASE {database} TO {role};
            GRANT USAGE ON SCHEMA public TO {role};
            ALTER ROLE {role} SET search_path = public;
            ALTER ROLE {role} SET statement_timeout = '60s';
            ALTER ROLE {role} SET lock_timeout = '10s';
            ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s';"
        );
    }
    let _ = write!(sql, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER};");
    if let Some(old) = old {
        for table in old.tables.keys().filter(|table| new.tables.contains_key(table)) {
            let _ = write!(sql, "DROP TRIGGER IF EXISTS bailey_stamp ON public.{table};");
        }
        for table in old.tables.keys() {
            let _ = write!(sql, "DROP FUNCTION IF EXISTS bailey.stamp_{table}();");
        }
    }
    for (name, table) in &new.tables {
        grants(&mut sql, name, table);
    }
    sql
}

fn grants(sql: &mut String, name: &TableName, table: &Table) {
    for writer in &table.writers {
        let _ = write!(sql, "GRANT INSERT ON public.{name} TO {};", role(writer));
    }
    for reader in &table.readers {
        let _ = write!(sql, "GRANT SELECT ON public.{name} TO {};", role(reader));
    }
    if let Some(column) = &table.stamp {
        // What we insert ourselves (imports, migrations) keeps what it says.
        let _ = write!(
            sql,
            "CREATE FUNCTION bailey.stamp_{name}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
            BEGIN
                IF session_user LIKE 'party\\_%' THEN NEW.{column} := substr(session_user, 7); END IF;
                RETURN NEW;
            END $$;
            REVOKE ALL ON FUNCTION bailey.stamp_{name}() FROM PUBLIC;
            CREATE TRIGGER bailey_stamp BEFORE INSERT ON public.{name} FOR EACH ROW
            EXECUTE FUNCTION bailey.stamp_{name}();"
        );
    }
}
