//! What the tests of several modules share.

use database_manifest::{Algorithm, Column, Output, SqlType, WasmForm, WasmUse};

/// Gives `region` and `n`; with a module of this form that imports nothing and is never run.
pub fn algorithm(form: Option<WasmForm>, contributors: Option<&str>) -> Algorithm {
    let column = |name: &str, sql_type| Column { name: name.into(), sql_type, round_to: None, noise: None };
    let module = |form| WasmUse { module: [].into(), digest: [0; 32], fuel: 1, memory: 1 << 16, form };
    Algorithm {
        callers: Default::default(),
        reads: Default::default(),
        arguments: Vec::new(),
        sql: "SELECT 1".into(),
        wasm: form.map(module),
        time: std::time::Duration::from_secs(60),
        output: Output {
            columns: vec![column("region", SqlType::Text), column("n", SqlType::Integer)],
            contributors: contributors.map(Into::into),
            min_contributors: 2,
            max_rows: 100,
            rate: None,
            privacy: None,
        },
    }
}
