//! Generated from `wit03/`: the interfaces of WASI 0.3 that the Keep implements itself.

#![allow(missing_docs, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "wit03",
    world: "bailey:keep/host03",
    imports: {
        // What makes streams and futures.
        "wasi:filesystem/types.[method]descriptor.append-via-stream": store | trappable,
        "wasi:filesystem/types.[method]descriptor.read-directory": store | trappable,
        "wasi:filesystem/types.[method]descriptor.read-via-stream": store | trappable,
        "wasi:filesystem/types.[method]descriptor.write-via-stream": store | trappable,
        "wasi:sockets/types.[method]tcp-socket.listen": store | trappable,
        "wasi:sockets/types.[method]tcp-socket.receive": store | trappable,
        "wasi:sockets/types.[method]tcp-socket.send": store | trappable,
        default: trappable,
    },
    require_store_data_send: true,
    with: {
        "wasi:clocks": wasmtime_wasi::p3::bindings::clocks,
        "wasi:filesystem/types.descriptor": crate::filesystem::Descriptor,
        "wasi:sockets/types.tcp-socket": crate::wasi03::sockets::tcp::TcpSocket,
        "wasi:sockets/types.udp-socket": crate::wasi03::sockets::UdpSocket,
    },
    trappable_error_type: {
        "wasi:filesystem/types.error-code" => crate::wasi03::filesystem::FsError,
        "wasi:sockets/types.error-code" => crate::wasi03::sockets::SocketError,
    },
});

pub use self::wasi::{filesystem, sockets};
