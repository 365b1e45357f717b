//! The service with a PostgreSQL of this machine.

#[path = "it/algorithms.rs"]
mod algorithms;
#[path = "it/audit.rs"]
mod audit;
#[path = "it/engine.rs"]
mod engine;
#[path = "it/gateway.rs"]
mod gateway;
#[path = "it/identity.rs"]
mod identity;
#[path = "it/postgres.rs"]
mod postgres;
#[path = "it/replica.rs"]
mod replica;
#[path = "it/sealer.rs"]
mod sealer;
#[path = "it/service.rs"]
mod service;
#[path = "it/tpm.rs"]
mod tpm;
