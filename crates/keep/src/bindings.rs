//! Generated from `wit/`: the interfaces that the Keep implements itself.

#![allow(missing_docs, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "wit",
    world: "bailey:keep/host",
    imports: { default: trappable },
    require_store_data_send: true,
    with: {
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        "wasi:filesystem/types.descriptor": crate::filesystem::Descriptor,
        "wasi:filesystem/types.directory-entry-stream": crate::filesystem::Entries,
        "wasi:keyvalue/store.bucket": crate::keyvalue::Bucket,
    },
    trappable_error_type: {
        "wasi:filesystem/types.error-code" => crate::filesystem::FsError,
        "wasi:keyvalue/store.error" => crate::keyvalue::StoreError,
    },
});

pub use self::wasi::{filesystem, keyvalue};
