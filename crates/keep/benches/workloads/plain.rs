//! The same modules in wasmtime alone, with its defaults, and with the least that they import.

use wasmtime::{Caller, Config, Engine, InstancePre, Linker, Module, Store};

pub struct Plain {
    engine: Engine,
    pre: InstancePre<Vec<u8>>,
}

impl Plain {
    pub fn new(text: &str) -> Self {
        let engine = Engine::new(&Config::new()).expect("an engine");
        let module = Module::new(&engine, wat::parse_str(text).expect("a module")).expect("code");
        let mut linker = Linker::new(&engine);
        linker.func_wrap("wasi_snapshot_preview1", "fd_write", write).expect("a name");
        let pre = linker.instantiate_pre(&module).expect("its imports");
        Self { engine, pre }
    }

    pub async fn run(&self) {
        let mut store = Store::new(&self.engine, Vec::new());
        let instance = self.pre.instantiate_async(&mut store).await.expect("an instance");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("an entry");
        start.call_async(&mut store, ()).await.expect("its end");
    }
}

/// One piece.
fn write(mut caller: Caller<'_, Vec<u8>>, _fd: i32, pieces: i32, _count: i32, written: i32) -> i32 {
    let memory = caller.get_export("memory").and_then(|export| export.into_memory()).expect("a memory");
    let (bytes, printed) = memory.data_and_store_mut(&mut caller);
    let word = |at: i32| {
        let at = at as usize;
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
    };
    let (start, length) = (word(pieces), word(pieces + 4));
    printed.extend_from_slice(&bytes[start..start + length]);
    let at = written as usize;
    bytes[at..at + 4].copy_from_slice(&(length as u32).to_le_bytes());
    0
}
