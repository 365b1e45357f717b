//! Receipts that the database gives.

use database_receipt::{Committing, Digest, Receipt, Untrusted, verify};

use super::*;

const RECEIPT: Wishes = Wishes { receipt: true, fresh: false };

/// What an owner of rows does who has the salt from the audit log.
async fn committed(database: &Database, salt: &str, table: &str) -> Digest {
    let client = database.engine.session(SUPERUSER).await.unwrap();
    let query = format!("SELECT sha256(convert_to(t::text, 'UTF8')) FROM {table} AS t ORDER BY 1");
    let salt: [u8; 32] = hex::decode(salt).unwrap().try_into().unwrap();
    client.batch_execute("SET TimeZone = 'UTC'").await.unwrap();
    let mut committing = Committing::new(&salt, table);
    for row in client.query(&query, &[]).await.unwrap() {
        committing.row(row.get(0));
    }
    committing.finish().rows
}

async fn salts(database: &Database) -> Vec<Option<String>> {
    let salt = |event| match event {
        Event::Call { salt, .. } => salt,
        _ => None,
    };
    database.audited().await.into_iter().map(salt).collect()
}

#[tokio::test]
async fn a_receipt_says_what_was_asked_of_which_data_under_which_rules() {
    let Some(database) = database(|_| {}).await else { return };
    let answer = database.wishing("volume", &["0"], RECEIPT).await.unwrap();
    let written = answer.receipt.as_ref().unwrap().to_json().to_string();
    let verified = verify(Receipt::parse(written.as_bytes()).unwrap(), &database.root).unwrap();
    verified.is_about(&answer.table()).unwrap();
    let (statement, rules) = (verified.statement(), database.algorithms.rules());
    verified.is_under(&rules.manifest.text).unwrap();
    assert_eq!(statement.database, DATABASE);
    assert_eq!((statement.first_manifest.0, statement.epoch), (rules.first, 0));
    assert_eq!((statement.caller.as_str(), statement.algorithm.as_str()), ("analyst", "volume"));
    assert_eq!(statement.arguments, ["0"]);
    let sql = &rules.manifest.algorithms[&algorithm("volume")].sql;
    assert_eq!(statement.query, Digest::of(sql.as_bytes()));
    assert_eq!((statement.epsilon.clone(), statement.module), (None, None));
    assert!(statement.log_position.parse::<Lsn>().unwrap() > Lsn(0));
    assert_eq!(statement.time, NOW as u64);

    let salts = salts(&database).await;
    let [Some(salt)] = salts.as_slice() else { panic!("{salts:?}") };
    assert_eq!(statement.data[0].table, "payments");
    assert_eq!(statement.data[0].rows, committed(&database, salt, "payments").await);
    let client = database.engine.session(SUPERUSER).await.unwrap();
    client.batch_execute("UPDATE payments SET amount = amount + 1 WHERE id = 1").await.unwrap();
    assert_ne!(statement.data[0].rows, committed(&database, salt, "payments").await, "of other rows");
}

#[tokio::test]
async fn two_receipts_of_the_same_rows_do_not_show_that_they_are() {
    let Some(database) = database(|_| {}).await else { return };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let answer = database.wishing("volume", &["0"], RECEIPT).await.unwrap();
        seen.push(answer.receipt.unwrap().statement.data[0].rows);
    }
    assert_ne!(seen[0], seen[1]);
}

#[tokio::test]
async fn a_receipt_names_the_cost_and_is_not_another_answers() {
    let Some(database) = database(|_| {}).await else { return };
    let mut first = database.wishing("total", &[], Wishes { receipt: true, fresh: true }).await.unwrap();
    let receipt = first.receipt.take().unwrap();
    assert_eq!(receipt.statement.epsilon.as_deref(), Some("0.1"));
    let verified = verify(receipt, &database.root).unwrap();
    first.rows[0][0] = Some("1000000".into());
    assert!(matches!(verified.is_about(&first.table()), Err(Untrusted::Answer { .. })));
}

#[tokio::test]
async fn who_asks_for_no_receipt_gets_none() {
    let Some(database) = database(|_| {}).await else { return };
    assert!(database.call("volume", &["0"]).await.unwrap().receipt.is_none());
    assert_eq!(salts(&database).await, [None]);
}
