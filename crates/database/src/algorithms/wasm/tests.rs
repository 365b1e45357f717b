use super::*;

/// Counts the bytes of each call's input and gives them as one digit; `rows` gives its input back.
const GOOD: &str = r#"(module
  (memory (export "memory") 1)
  (global $sum (mut i32) (i32.const 0))
  (func (export "allocate") (param i32) (result i32) (i32.const 1024))
  (func (export "rows") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
  (func $digit (param i32) (result i64)
    (i32.store (i32.const 0) (i32.const 1))
    (i32.store8 (i32.const 4) (i32.add (i32.const 48) (local.get 0)))
    (i64.const 5))
  (func (export "scalar") (param i32 i32) (result i64) (call $digit (i32.load (local.get 0))))
  (func (export "start") (global.set $sum (i32.const 0)))
  (func (export "row") (param i32 i32) (global.set $sum (i32.add (global.get $sum) (i32.const 1))))
  (func (export "finish") (result i64) (call $digit (global.get $sum))))"#;

fn module(text: &str, form: WasmForm) -> WasmUse {
    let module: std::sync::Arc<[u8]> = wat::parse_str(text).unwrap().into();
    WasmUse { module, digest: [0; 32], fuel: 1_000_000, memory: 1 << 20, form }
}

fn row(values: &[Option<&str>]) -> Row {
    values.iter().map(|it| it.map(Into::into)).collect()
}

/// A module whose function `rows` has this body.
fn with_rows(body: &str) -> WasmUse {
    let text = format!(
        r#"(module (memory (export "memory") 1) (table 1 funcref)
            (func (export "allocate") (param i32) (result i32) (i32.const 1024))
            (func (export "rows") (param i32 i32) (result i64) {body}))"#
    );
    module(&text, WasmForm::Rows)
}

fn rows_of(wasm: &WasmUse, rows: &[Row]) -> Result<Vec<Row>, ModuleError> {
    let mut found = Vec::new();
    Running::new(wasm)?.rows(rows, |row| {
        found.push(row);
        Ok::<_, ModuleError>(())
    })?;
    Ok(found)
}

#[test]
fn rows_go_in_and_come_out() {
    let rows = [row(&[Some("ä"), None, Some("")]), row(&[])];
    assert_eq!(rows_of(&module(GOOD, WasmForm::Rows), &rows).unwrap(), rows);
}

#[test]
fn a_scalar_gets_one_row_and_an_aggregate_those_of_its_group() {
    let mut running = Running::new(&module(GOOD, WasmForm::Scalar)).unwrap();
    assert_eq!(running.scalar(&row(&[None, None, None])).unwrap().as_deref(), Some("3"));
    let rows = [row(&[None]), row(&[None])];
    assert_eq!(running.aggregate(rows.iter()).unwrap().as_deref(), Some("2"));
    assert_eq!(running.aggregate(rows[..1].iter()).unwrap().as_deref(), Some("1"), "starts anew");
}

#[test]
fn fuel_ends_and_is_for_the_whole_call() {
    assert!(matches!(rows_of(&with_rows("(loop (br 0)) (unreachable)"), &[]), Err(ModuleError::Wasm(_))));
    let mut running = Running::new(&WasmUse { fuel: 2_000, ..module(GOOD, WasmForm::Scalar) }).unwrap();
    let answered = (0..1000).take_while(|_| running.scalar(&row(&[None])).is_ok()).count();
    assert!((1..1000).contains(&answered), "{answered}");
}

#[test]
fn memory_has_a_cap() {
    let grow =
        "(if (i32.ne (memory.grow (i32.const 100)) (i32.const -1)) (then (unreachable))) (i64.const 0)";
    let refused = rows_of(&with_rows(grow), &[]).unwrap_err();
    assert!(matches!(refused, ModuleError::Encoding("it ends early")), "it could not grow: {refused}");
    let greedy = WasmUse { memory: 1 << 10, ..module(GOOD, WasmForm::Rows) };
    assert!(Running::new(&greedy).is_err(), "its first page is more than it may have");
    let tables = module(r#"(module (memory (export "memory") 1) (table 20000 funcref))"#, WasmForm::Rows);
    assert!(Running::new(&tables).is_err());
}

#[test]
fn a_module_imports_nothing() {
    let importing =
        module(r#"(module (import "env" "clock" (func)) (memory (export "memory") 1))"#, WasmForm::Rows);
    assert!(matches!(check(&importing), Err(ModuleError::Import(name)) if name == "env.clock"));
}

#[test]
fn a_module_has_the_exports_of_its_form() {
    for form in [WasmForm::Rows, WasmForm::Scalar, WasmForm::Aggregate] {
        check(&module(GOOD, form)).unwrap();
    }
    assert!(matches!(check(&module("(module)", WasmForm::Rows)), Err(ModuleError::Memory)));
    let rows_only = with_rows("(i64.const 0)");
    for form in [WasmForm::Scalar, WasmForm::Aggregate] {
        let other = WasmUse { form, ..rows_only.clone() };
        assert!(matches!(check(&other), Err(ModuleError::Export(_))), "{form:?}");
    }
    assert!(check(&WasmUse { module: b"\0asm".as_slice().into(), ..rows_only }).is_err());
}

#[test]
fn results_that_are_not_encoded_are_refused() {
    let stored = |bytes: &str, length: u32| {
        let text = format!(
            r#"(module (memory (export "memory") 1) (data (i32.const 0) "{bytes}")
                (func (export "allocate") (param i32) (result i32) (i32.const 1024))
                (func (export "rows") (param i32 i32) (result i64) (i64.const {length})))"#
        );
        rows_of(&module(&text, WasmForm::Rows), &[])
    };
    assert_eq!(stored(r"\01\00\00\00\01\00\00\00\01\00\00\00a", 13).unwrap(), [row(&[Some("a")])]);
    for (bytes, length) in [
        ("", 0),
        (r"\01\00\00\00", 4),
        (r"\ff\ff\ff\ff", 4),
        (r"\01\00\00\00\ff\ff\ff\ff", 8),
        (r"\01\00\00\00\01\00\00\00\09\00\00\00a", 13),
        (r"\01\00\00\00\01\00\00\00\01\00\00\00\ff", 13),
        (r"\00\00\00\00\00", 5),
        (r"\01\00\00\00\01\01\00\00", 8),
    ] {
        assert!(matches!(stored(bytes, length), Err(ModuleError::Encoding(_))), "{bytes} {length}");
    }
    for body in ["(i64.const -1)", "(i64.const 0xffff)  (drop) (i64.const 0xffff00000004)"] {
        assert!(matches!(rows_of(&with_rows(body), &[]), Err(ModuleError::Encoding(_))), "{body}");
    }
}

#[test]
fn an_address_outside_the_memory_is_refused() {
    let text = r#"(module (memory (export "memory") 1)
        (func (export "allocate") (param i32) (result i32) (i32.const -4))
        (func (export "rows") (param i32 i32) (result i64) (i64.const 0)))"#;
    assert!(matches!(rows_of(&module(text, WasmForm::Rows), &[]), Err(ModuleError::Encoding(_))));
}
