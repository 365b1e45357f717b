//! The Keep from outside: real components, real TLS, real sockets on this machine.

mod calls;
mod client;
mod commands;
mod examples;
mod fuzzed;
mod hostile;
mod hostile_modules;
mod isolation;
mod languages;
mod limits;
mod logs;
mod net;
mod net_connect;
mod net_connection;
mod net_listener;
mod peers;
mod pki;
mod poll;
mod preview1;
mod run;
mod running;
mod tls;
mod volumes;
mod workloads;
