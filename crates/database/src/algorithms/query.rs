//! Runs an algorithm's query as the reading role, in a read-only transaction of its own, and feeds rows to what computes
//! with them.

use std::{error::Error, time::Duration};

use bytes::BytesMut;
use database_manifest::{Algorithm, SqlType};
use database_receipt::Commitment;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;
use tokio_postgres::{
    Client, GenericClient, Row, Statement,
    types::{Format, IsNull, ToSql, Type, to_sql_checked},
};

use super::{
    Reason,
    compute::{Cells, compute},
    plan::Plan,
};

/// Names without a schema mean PostgreSQL's own things first, then the manifest's.
pub const SEARCH_PATH: &str = "pg_catalog, public, pg_temp";
/// No answer waits longer for its seal.
pub const TIME: Duration = Duration::from_secs(60);
/// What PostgreSQL is given beyond it to say so itself.
const GRACE: Duration = Duration::from_secs(5);
/// Rows that wait between PostgreSQL and what computes with them.
const WAITING: usize = 256;

/// What a query gave, after the output rules, noise and rounding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What may leave.
    pub rows: Vec<Vec<Option<String>>>,
    /// What each table held that was read, where a salt was given.
    pub data: Vec<Commitment>,
}

/// Runs it on data of the epoch that it is approved in. `reader` is a fresh session of the reading role.
///
/// # Errors
/// Of the engine, the module, the output rules; [`Reason::Time`]; [`Reason::Changed`].
pub async fn run(
    reader: &mut Client,
    epoch: u64,
    algorithm: &Algorithm,
    arguments: &[String],
    salt: Option<&[u8; 32]>,
) -> Result<Found, Reason> {
    let running = in_transaction(reader, epoch, algorithm, arguments, salt);
    let limit = algorithm.time + GRACE;
    tokio::time::timeout(limit, running).await.map_err(|_| Reason::Time(algorithm.time.as_secs()))?
}

async fn in_transaction(
    reader: &mut Client,
    epoch: u64,
    algorithm: &Algorithm,
    arguments: &[String],
    salt: Option<&[u8; 32]>,
) -> Result<Found, Reason> {
    // One snapshot for the answer and the commitments; one text for every value; no name but from where it is expected.
    let settings = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
         SET LOCAL statement_timeout = {}; SET LOCAL search_path = {SEARCH_PATH};
         SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; SET LOCAL extra_float_digits = 1;
         SET LOCAL bytea_output = 'hex'; SET LOCAL IntervalStyle = 'iso_8601'",
        algorithm.time.as_millis()
    );
    reader.batch_execute(&settings).await.map_err(Reason::Engine)?;
    // Whoever changes the rules may change the data with them, and a replica may show the change before we know of it.
    let in_force = "SELECT max(epoch) FROM bailey.manifests";
    let row = reader.query_one(in_force, &[]).await.map_err(Reason::Engine)?;
    if row.try_get::<_, Option<i64>>(0).map_err(Reason::Engine)?.map(i64::unsigned_abs) != Some(epoch) {
        return Err(Reason::Changed);
    }
    let rows = rows(reader, algorithm, arguments).await?;
    let data = match salt {
        None => Vec::new(),
        Some(salt) => commitments(reader, algorithm, salt).await?,
    };
    reader.batch_execute("ROLLBACK").await.map_err(Reason::Engine)?;
    Ok(Found { rows, data })
}

/// The statement that runs, from the approved query: nothing is read yet.
///
/// # Errors
/// [`Reason::Engine`]: PostgreSQL does not take it; [`Reason::Result`]: it does not give what the manifest says.
pub async fn prepare(
    client: &impl GenericClient,
    algorithm: &Algorithm,
) -> Result<(Plan, Statement), Reason> {
    let types: Vec<Type> = algorithm.arguments.iter().map(|it| parameter(it.sql_type)).collect();
    let query = algorithm.sql.trim_end().trim_end_matches(';');
    let approved = client.prepare_typed(query, &types).await.map_err(Reason::Engine)?;
    let names: Vec<&str> = approved.columns().iter().map(|it| it.name()).collect();
    let plan = Plan::new(algorithm, &names)?;
    // The line break ends a comment that the query may end with.
    let (select, order) = (plan.select(), plan.order());
    let wrapped = format!("SELECT {select} FROM (\n{query}\n) AS bailey_result{order}");
    let statement = client.prepare_typed(&wrapped, &types).await.map_err(Reason::Engine)?;
    Ok((plan, statement))
}

async fn rows(
    reader: &Client,
    algorithm: &Algorithm,
    arguments: &[String],
) -> Result<Vec<Vec<Option<String>>>, Reason> {
    let (plan, statement) = prepare(reader, algorithm).await?;
    let parameters = arguments.iter().map(|it| TextForm(it));
    let stream = reader.query_raw(&statement, parameters).await.map_err(Reason::Engine)?;

    let (sender, receiver) = mpsc::channel(WAITING);
    let algorithm = algorithm.clone();
    let computing = tokio::task::spawn_blocking(move || compute(&algorithm, &plan, receiver));
    let fed = feed(stream, sender).await;
    let computed =
        computing.await.map_err(|_| Reason::Result("what computes with the rows failed".into()))?;
    fed.and(computed)
}

/// Ends when the stream does, or when nobody wants more.
async fn feed(stream: tokio_postgres::RowStream, sender: mpsc::Sender<Cells>) -> Result<(), Reason> {
    futures_util::pin_mut!(stream);
    while let Some(row) = stream.try_next().await.map_err(Reason::Engine)? {
        if sender.send(cells(&row)?).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn cells(row: &Row) -> Result<Cells, Reason> {
    (0..row.len())
        .map(|i| row.try_get::<_, Option<String>>(i))
        .collect::<Result<_, _>>()
        .map_err(Reason::Engine)
}

async fn commitments(
    reader: &Client,
    algorithm: &Algorithm,
    salt: &[u8; 32],
) -> Result<Vec<Commitment>, Reason> {
    let mut commitments = Vec::new();
    for table in &algorithm.reads {
        let query = format!("SELECT sha256(convert_to(t::text, 'UTF8')) FROM public.{table} AS t ORDER BY 1");
        let rows = reader.query_raw::<_, &str, _>(&query, []).await.map_err(Reason::Engine)?;
        let mut context = database_receipt::Committing::new(salt, table.as_str());
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.next().await {
            let digest = row.and_then(|row| row.try_get::<_, Vec<u8>>(0)).map_err(Reason::Engine)?;
            context.row(&digest);
        }
        commitments.push(context.finish());
    }
    Ok(commitments)
}

fn parameter(kind: SqlType) -> Type {
    match kind {
        SqlType::Boolean => Type::BOOL,
        SqlType::Integer => Type::INT8,
        SqlType::Float => Type::FLOAT8,
        SqlType::Numeric => Type::NUMERIC,
        SqlType::Text => Type::TEXT,
        SqlType::Date => Type::DATE,
        SqlType::Timestamp => Type::TIMESTAMPTZ,
    }
}

/// An argument that PostgreSQL parses by its type; it is no part of any statement.
#[derive(Debug)]
struct TextForm<'a>(&'a str);

impl ToSql for TextForm<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}
