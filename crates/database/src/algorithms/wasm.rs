//! WebAssembly modules that the parties approved, by an interpreter: fuel for the whole call, a cap of memory, nothing
//! imported, so nothing but rows goes in and nothing but values comes out. What a module gives is as hostile as a peer.
//!
//! A module exports `memory` and `allocate(length) → address` (what was allocated for an earlier call may be used again),
//! and by its form: `rows(address, length) → result`, `scalar(address, length) → result`, or `start()`,
//! `row(address, length)`, `finish() → result`. A result is `address << 32 | length`. Numbers are little-endian `u32`.
//!
//! ```text
//! rows  = number of rows, each a row       row = number of values, each a value
//! value = length in bytes, UTF-8 text in PostgreSQL's form │ FF FF FF FF: NULL
//! ```

use database_manifest::{WasmForm, WasmUse};
use thiserror::Error;
use wasmi::{
    Config, EnforcedLimits, Engine, Instance, Linker, Memory, Module, Store, StoreLimits, StoreLimitsBuilder,
    TypedFunc, WasmParams, WasmResults,
};

/// Values of a row; `None`: NULL.
pub type Row = Vec<Option<String>>;

/// A module failed, or is none of its form.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// Not WebAssembly, or a trap, or out of fuel or memory.
    #[error("{0}")]
    Wasm(#[from] wasmi::Error),
    /// It asks for something.
    #[error("it imports {0}; modules import nothing")]
    Import(String),
    /// It lacks what its form needs.
    #[error("it has no exported function {0} of the type that its form asks for")]
    Export(&'static str),
    /// It has no memory.
    #[error("it exports no memory")]
    Memory,
    /// What it returned is not the encoding.
    #[error("what it returned is not encoded as expected: {0}")]
    Encoding(&'static str),
    /// More than can be addressed.
    #[error("more rows than it can be given")]
    Input,
}

const NULL: u32 = u32::MAX;
/// A manifest names at most 200 columns; a NULL takes four bytes there and more here.
const MAX_VALUES: u32 = 256;
/// Functions of algorithms need few; a table of a million costs memory that no limit of linear memory covers.
const MAX_TABLE: usize = 10_000;

/// A module in one call: its fuel and memory are those of the call.
pub struct Running {
    store: Store<StoreLimits>,
    instance: Instance,
    memory: Memory,
    allocate: TypedFunc<i32, i32>,
}

/// Whether the module can be used as it says: no imports, the exports of its form. It is not run.
///
/// # Errors
/// [`ModuleError`].
pub fn check(wasm: &WasmUse) -> Result<(), ModuleError> {
    Running::new(wasm)?.functions(wasm.form)
}

impl Running {
    /// # Errors
    /// [`ModuleError`].
    pub fn new(wasm: &WasmUse) -> Result<Self, ModuleError> {
        let mut config = Config::default();
        config
            .consume_fuel(true)
            .enforced_limits(EnforcedLimits::strict())
            .wasm_memory64(false)
            .wasm_multi_memory(false);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, &wasm.module)?;
        if let Some(import) = module.imports().next() {
            return Err(ModuleError::Import(format!("{}.{}", import.module(), import.name())));
        }
        let memory = usize::try_from(wasm.memory).unwrap_or(usize::MAX);
        let limits = StoreLimitsBuilder::new()
            .memory_size(memory)
            .memories(1)
            .instances(1)
            .tables(1)
            .table_elements(MAX_TABLE)
            .build();
        let mut store = Store::new(&engine, limits);
        store.limiter(|limits| limits);
        store.set_fuel(wasm.fuel)?;
        let instance = Linker::new(&engine).instantiate_and_start(&mut store, &module)?;
        let memory = instance.get_memory(&store, "memory").ok_or(ModuleError::Memory)?;
        let allocate = instance
            .get_typed_func(&store, "allocate")
            .map_err(|_| ModuleError::Export("allocate(i32) -> i32"))?;
        Ok(Self { store, instance, memory, allocate })
    }

    fn functions(&self, form: WasmForm) -> Result<(), ModuleError> {
        match form {
            WasmForm::Rows => self.function::<(i32, i32), i64>("rows").map(drop),
            WasmForm::Scalar => self.function::<(i32, i32), i64>("scalar").map(drop),
            WasmForm::Aggregate => {
                self.function::<(), ()>("start")?;
                self.function::<(i32, i32), ()>("row")?;
                self.function::<(), i64>("finish").map(drop)
            }
        }
    }

    fn function<P: WasmParams, R: WasmResults>(
        &self,
        name: &'static str,
    ) -> Result<TypedFunc<P, R>, ModuleError> {
        self.instance.get_typed_func(&self.store, name).map_err(|_| ModuleError::Export(name))
    }

    /// All rows in; each row of the result goes to `take`, so that no more than one is held beside the module's memory.
    ///
    /// # Errors
    /// [`ModuleError`], and what `take` ends with.
    pub fn rows<E: From<ModuleError>>(
        &mut self,
        rows: &[Row],
        take: impl FnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let result = self.result_of(rows)?;
        read_rows(self.read(result)?.0, take)
    }

    fn result_of(&mut self, rows: &[Row]) -> Result<i64, ModuleError> {
        let mut bytes = length(rows.len())?.to_le_bytes().to_vec();
        rows.iter().try_for_each(|row| write_row(&mut bytes, row))?;
        let at = self.give(&bytes)?;
        Ok(self.function::<_, i64>("rows")?.call(&mut self.store, at)?)
    }

    /// One row in, one value out.
    ///
    /// # Errors
    /// [`ModuleError`].
    pub fn scalar(&mut self, row: &Row) -> Result<Option<String>, ModuleError> {
        let at = self.give_row(row)?;
        let result = self.function::<_, i64>("scalar")?.call(&mut self.store, at)?;
        self.value(result)
    }

    /// The rows of a group in, one value out.
    ///
    /// # Errors
    /// [`ModuleError`].
    pub fn aggregate<'a>(
        &mut self,
        rows: impl Iterator<Item = &'a Row>,
    ) -> Result<Option<String>, ModuleError> {
        self.function::<(), ()>("start")?.call(&mut self.store, ())?;
        let row_function = self.function::<_, ()>("row")?;
        for row in rows {
            let at = self.give_row(row)?;
            row_function.call(&mut self.store, at)?;
        }
        let result = self.function::<(), i64>("finish")?.call(&mut self.store, ())?;
        self.value(result)
    }

    fn give_row(&mut self, row: &Row) -> Result<(i32, i32), ModuleError> {
        let mut bytes = Vec::new();
        write_row(&mut bytes, row)?;
        self.give(&bytes)
    }

    fn give(&mut self, bytes: &[u8]) -> Result<(i32, i32), ModuleError> {
        let length = i32::try_from(bytes.len()).map_err(|_| ModuleError::Input)?;
        let address = self.allocate.call(&mut self.store, length)?;
        let at = address.cast_unsigned() as usize;
        self.memory
            .write(&mut self.store, at, bytes)
            .map_err(|_| ModuleError::Encoding("allocate returned an address outside its memory"))?;
        Ok((address, length))
    }

    fn value(&self, result: i64) -> Result<Option<String>, ModuleError> {
        let mut reader = self.read(result)?;
        let value = reader.value()?;
        reader.end().map(|()| value)
    }

    fn read(&self, result: i64) -> Result<Reader<'_>, ModuleError> {
        let result = result.cast_unsigned();
        let (start, length) = ((result >> 32) as usize, (result & 0xffff_ffff) as usize);
        let bytes = self.memory.data(&self.store).get(start..).and_then(|rest| rest.get(..length));
        bytes.map(Reader).ok_or(ModuleError::Encoding("a result outside its memory"))
    }
}

fn length(count: usize) -> Result<u32, ModuleError> {
    u32::try_from(count).ok().filter(|&it| it != NULL).ok_or(ModuleError::Input)
}

fn write_row(bytes: &mut Vec<u8>, row: &Row) -> Result<(), ModuleError> {
    bytes.extend(length(row.len())?.to_le_bytes());
    for value in row {
        match value {
            None => bytes.extend(NULL.to_le_bytes()),
            Some(text) => {
                bytes.extend(length(text.len())?.to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        }
    }
    Ok(())
}

/// Reads rows as modules encode them, one after another.
///
/// # Errors
/// [`ModuleError::Encoding`], and what `take` ends with.
pub fn read_rows<E: From<ModuleError>>(
    bytes: &[u8],
    mut take: impl FnMut(Row) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = Reader(bytes);
    for _ in 0..reader.number()? {
        take(reader.row()?)?;
    }
    Ok(reader.end()?)
}

/// Reads what a module returned.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Result<u32, ModuleError> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(ModuleError::Encoding("it ends early"))?;
        self.0 = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    fn value(&mut self) -> Result<Option<String>, ModuleError> {
        let length = self.number()?;
        if length == NULL {
            return Ok(None);
        }
        let (text, rest) =
            self.0.split_at_checked(length as usize).ok_or(ModuleError::Encoding("a value ends early"))?;
        self.0 = rest;
        let text = std::str::from_utf8(text).map_err(|_| ModuleError::Encoding("a text is not UTF-8"))?;
        Ok(Some(text.into()))
    }

    fn row(&mut self) -> Result<Row, ModuleError> {
        let count = self.number()?;
        if count > MAX_VALUES {
            return Err(ModuleError::Encoding("a row has more values than there are columns"));
        }
        (0..count).map(|_| self.value()).collect()
    }

    fn end(&self) -> Result<(), ModuleError> {
        if self.0.is_empty() { Ok(()) } else { Err(ModuleError::Encoding("more follows")) }
    }
}

#[cfg(test)]
mod tests;
