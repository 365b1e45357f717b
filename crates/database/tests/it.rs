//! The service with a PostgreSQL of this machine.

#[path = "it/algorithms.rs"]
mod algorithms;
#[path = "it/audit.rs"]
mod audit;
#[path = "it/changes.rs"]
mod changes;
#[path = "it/engine.rs"]
mod engine;
#[path = "it/gateway.rs"]
mod gateway;
#[path = "it/identity.rs"]
mod identity;
#[path = "it/installation.rs"]
mod installation;
#[path = "it/instances.rs"]
mod instances;
#[path = "it/parties.rs"]
mod parties;
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
