//! What was agreed on takes effect: all of it in the caller's transaction.

use std::{collections::BTreeSet, sync::Arc};

use database_manifest::{Manifest, Migration, PartyName, rows_of};
use tokio_postgres::Transaction;

use super::{
    ChangeError, Digest, Event, Proposal, Rules, State, erased as parties,
    proposal::{digest_of, end},
    schema::{Shape, expected},
};
use crate::installation::{apply, run};

/// What changed.
pub(super) struct Active {
    pub(super) rules: Rules,
    pub(super) events: Vec<Event>,
    /// Tables from which rows were deleted and that still exist.
    pub(super) erased: BTreeSet<String>,
}

pub(super) async fn activate(
    transaction: &Transaction<'_>,
    rules: &Rules,
    new: &Manifest,
    proposal: &Proposal,
    now: i64,
) -> Result<Active, ChangeError> {
    let old = &rules.manifest;
    let mut events = Vec::new();
    let mut erased = BTreeSet::new();
    for party in parties(proposal)? {
        for (table, rows) in erase(transaction, old, &party).await? {
            if new.tables.keys().any(|it| it.as_str() == table) {
                erased.insert(table.clone());
            }
            events.push(Event::Deleted { party: party.to_string(), table, rows });
        }
    }
    for statement in &Migration::read(&proposal.migration, old)?.statements {
        run(transaction, statement).await?;
    }
    same_schema(transaction, new).await?;
    apply(transaction, Some(old), new).await?;
    let rules = Rules { manifest: Arc::new(new.clone()), epoch: rules.epoch + 1, first: rules.first };
    let digest = proposal.digest();
    record(transaction, old, &rules, now).await?;
    end(transaction, &digest, State::Active, now).await?;
    events.push(Event::Activated {
        proposal: digest.to_string(),
        manifest: hex::encode(new.digest),
        epoch: rules.epoch,
    });
    events.extend(supersede(transaction, now).await?);
    Ok(Active { rules, events, erased })
}

/// Deletes what is known to be the party's; how many rows, by table.
async fn erase(
    transaction: &Transaction<'_>,
    manifest: &Manifest,
    party: &PartyName,
) -> Result<Vec<(String, u64)>, ChangeError> {
    let mut deleted = Vec::new();
    for (table, stamp) in rows_of(manifest, party) {
        let rows = match stamp {
            Some(column) => {
                let delete = format!("DELETE FROM public.{table} WHERE {column} = $1");
                transaction.execute(&delete, &[&party.as_str()]).await?
            }
            None => transaction.execute(&format!("DELETE FROM public.{table}"), &[]).await?,
        };
        deleted.push((table.to_string(), rows));
    }
    Ok(deleted)
}

/// The tables are now what the new manifest says.
async fn same_schema(transaction: &Transaction<'_>, new: &Manifest) -> Result<(), ChangeError> {
    let expected = expected(transaction, new).await?;
    let seen = Shape::of(transaction, "public").await?;
    let (missing, surplus) = (expected.beyond(&seen), seen.beyond(&expected));
    if missing.is_empty() && surplus.is_empty() {
        Ok(())
    } else {
        Err(ChangeError::Schema { missing, surplus })
    }
}

async fn record(
    transaction: &Transaction<'_>,
    old: &Manifest,
    rules: &Rules,
    now: i64,
) -> Result<(), ChangeError> {
    let insert =
        "INSERT INTO bailey.manifests (epoch, digest, parent, text, activated) VALUES ($1, $2, $3, $4, $5)";
    let epoch = i64::try_from(rules.epoch).map_err(|_| ChangeError::Stored)?;
    let manifest = &rules.manifest;
    let (digest, parent, text) = (manifest.digest.as_slice(), old.digest.as_slice(), &manifest.text[..]);
    transaction.execute(insert, &[&epoch, &digest, &parent, &text, &now]).await?;
    Ok(())
}

/// All others started from a manifest that is no longer in force.
async fn supersede(transaction: &Transaction<'_>, now: i64) -> Result<Vec<Event>, ChangeError> {
    let update = "UPDATE bailey.proposals SET state = 'superseded', decided = $1 WHERE state = 'pending' RETURNING digest";
    let rows = transaction.query(update, &[&now]).await?;
    let lapsed =
        |digest: Digest| Event::Lapsed { proposal: digest.to_string(), how: State::Superseded.to_string() };
    Ok(rows.iter().filter_map(|row| digest_of(row.get(0))).map(lapsed).collect())
}
