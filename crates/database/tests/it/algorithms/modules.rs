//! WebAssembly between the query and what leaves.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;

/// `scalar` gives the number of values of a row, `row` counts rows, `rows` gives its input back.
const MODULE: &str = r#"(module
  (memory (export "memory") 2)
  (global $count (mut i32) (i32.const 0))
  (func (export "allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "rows") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  (func $two_digits (param i32) (result i64)
    (i32.store (i32.const 0) (i32.const 2))
    (i32.store8 (i32.const 4) (i32.add (i32.const 48) (i32.div_u (local.get 0) (i32.const 10))))
    (i32.store8 (i32.const 5) (i32.add (i32.const 48) (i32.rem_u (local.get 0) (i32.const 10))))
    (i64.const 6))
  (func (export "scalar") (param i32 i32) (result i64) (call $two_digits (i32.load (local.get 0))))
  (func (export "start") (global.set $count (i32.const 0)))
  (func (export "row") (param i32 i32) (global.set $count (i32.add (global.get $count) (i32.const 1))))
  (func (export "finish") (result i64) (call $two_digits (global.get $count))))"#;

fn with_module(form: &str, sql: &str, text: &str) -> impl FnOnce(&mut Value) {
    let module = STANDARD.encode(wat::parse_str(text).unwrap());
    let (form, sql) = (form.to_owned(), sql.to_owned());
    move |document| {
        let volume = &mut document["Algorithms"]["volume"];
        volume["Arguments"] = json!([]);
        volume["Sql"] = json!(sql);
        volume["Wasm"] = json!({"Module": module, "Form": form, "Fuel": 100_000, "Memory": "1MiB"});
    }
}

fn rows(answer: &Answer) -> Vec<[&str; 2]> {
    answer.rows.iter().map(|row| [0, 1].map(|i| row[i].as_deref().unwrap_or("NULL"))).collect()
}

#[tokio::test]
async fn a_module_gets_rows_and_gives_rows_with_their_contributors() {
    let sql = "SELECT city, sum(amount) AS total, count(DISTINCT account) AS counted FROM payments \
               GROUP BY city ORDER BY city";
    let Some(database) = database(with_module("rows", sql, MODULE)).await else { return };
    assert_eq!(rows(&database.call("volume", &[]).await.unwrap()), [["ten", "550"]], "nine do not leave");
}

#[tokio::test]
async fn a_scalar_function_computes_one_column() {
    let sql =
        "SELECT 'x' AS other, city, count(DISTINCT account) AS contributors FROM payments GROUP BY city";
    let Some(database) = database(with_module("scalar", sql, MODULE)).await else { return };
    assert_eq!(rows(&database.call("volume", &[]).await.unwrap()), [["ten", "2"]]);
}

#[tokio::test]
async fn an_aggregate_function_gets_groups_and_we_count_who_is_in_them() {
    let sql = "SELECT amount, account AS contributors, city FROM payments";
    let Some(database) = database(with_module("aggregate", sql, MODULE)).await else { return };
    assert_eq!(rows(&database.call("volume", &[]).await.unwrap()), [["ten", "10"]]);
    let client = database.engine.session(SUPERUSER).await.unwrap();
    let again = "INSERT INTO payments (account, city, amount) SELECT account, city, amount FROM payments";
    client.batch_execute(again).await.unwrap();
    let answer = database.call("volume", &[]).await.unwrap();
    assert_eq!(rows(&answer), [["ten", "20"]], "nine accounts with eighteen payments are nine");
}

#[tokio::test]
async fn a_module_that_fails_tells_the_caller_nothing() {
    let hungry = MODULE.replace("(call $two_digits (i32.load (local.get 0)))", "(loop (br 0)) (unreachable)");
    let sql = "SELECT city, count(DISTINCT account) AS contributors FROM payments GROUP BY city";
    let Some(database) = database(with_module("scalar", sql, &hungry)).await else { return };
    let denied = database.call("volume", &[]).await.unwrap_err();
    assert_eq!((denied.code(), denied.public_code()), ("MODULE", "NOT_ANSWERED"));
}

#[tokio::test]
async fn a_module_that_imports_is_not_installed() {
    let Some((settings, _folder)) = prepared() else { return };
    let engine = Engine::start(&settings).await.unwrap();
    let mut document = Parties::new().manifest();
    document["Name"] = json!(DATABASE);
    let importing = r#"(module (import "env" "send" (func)) (memory (export "memory") 1))"#;
    with_module("rows", "SELECT city, 1 AS total, 1 AS contributors FROM payments", importing)(&mut document);
    let manifest =
        Manifest::parse(document.to_string().as_bytes()).unwrap_or_else(|faults| panic!("{faults}"));
    let mut client = engine.session(SUPERUSER).await.unwrap();
    let refused = installation::install(&mut client, &manifest, UnixTime(NOW)).await.unwrap_err().to_string();
    assert!(refused.contains("algorithm volume") && refused.contains("env.send"), "{refused}");
}
