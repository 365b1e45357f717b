//! The service with a PostgreSQL of this machine.

#[path = "it/engine.rs"]
mod engine;
#[path = "it/postgres.rs"]
mod postgres;
