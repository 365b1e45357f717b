//! Generated from `wit/`: the interfaces of `wasi:sockets` 0.2 that are the Keep's own.

#![allow(missing_docs, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "wit",
    world: "bailey:keep/sockets",
    imports: { default: trappable },
    require_store_data_send: true,
    with: {
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        "wasi:sockets/network": wasmtime_wasi::p2::bindings::sockets::network,
        "wasi:sockets/udp": wasmtime_wasi::p2::bindings::sockets::udp,
        "wasi:sockets/tcp.tcp-socket": crate::sockets::tcp::TcpSocket,
        "wasi:sockets/ip-name-lookup.resolve-address-stream": crate::sockets::lookup::Addresses,
    },
    trappable_error_type: {
        "wasi:sockets/network.error-code" => wasmtime_wasi::p2::SocketError,
    },
});

pub use self::wasi::sockets::{ip_name_lookup, tcp, tcp_create_socket, udp_create_socket};
