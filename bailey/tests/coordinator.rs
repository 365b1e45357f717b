//! The command line against a coordinator: in this process, over real TLS, on an emulated machine of today.

#[path = "coordinator/bench.rs"]
mod bench;
#[path = "coordinator/broker.rs"]
mod broker;
#[path = "coordinator/changes.rs"]
mod changes;
#[path = "coordinator/elsewhere.rs"]
mod elsewhere;
#[path = "coordinator/evict.rs"]
mod evict;
#[path = "coordinator/images.rs"]
mod images;
#[path = "coordinator/log.rs"]
mod log;
#[path = "coordinator/recovery.rs"]
mod recovery;
#[path = "coordinator/rollback.rs"]
mod rollback;
#[path = "coordinator/secrets.rs"]
mod secrets;
#[path = "coordinator/stores.rs"]
mod stores;
#[path = "coordinator/words.rs"]
mod words;
