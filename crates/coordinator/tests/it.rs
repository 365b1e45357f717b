//! The coordinator: what it decides, what it keeps, what it serves.

#[path = "it/anchor.rs"]
mod anchor;
#[path = "it/bearer.rs"]
mod bearer;
#[path = "it/broker.rs"]
mod broker;
#[path = "it/broker_abuse.rs"]
mod broker_abuse;
#[path = "it/broker_old_clients.rs"]
mod broker_old_clients;
#[path = "it/broker_replicas.rs"]
mod broker_replicas;
#[path = "it/broker_sessions.rs"]
mod broker_sessions;
#[path = "it/certificates.rs"]
mod certificates;
#[path = "it/cluster.rs"]
mod cluster;
#[path = "it/core.rs"]
mod core;
#[path = "it/crash.rs"]
mod crash;
#[path = "it/databases.rs"]
mod databases;
#[path = "it/eviction.rs"]
mod eviction;
#[path = "it/eviction_api.rs"]
mod eviction_api;
#[path = "it/faults.rs"]
mod faults;
#[path = "it/images.rs"]
mod images;
#[path = "it/load.rs"]
mod load;
#[path = "it/log.rs"]
mod log;
#[path = "it/marblerun.rs"]
mod marblerun;
#[path = "it/observability.rs"]
mod observability;
#[path = "it/plan.rs"]
mod plan;
#[path = "it/policies.rs"]
mod policies;
#[path = "it/processes.rs"]
mod processes;
#[path = "it/recovery.rs"]
mod recovery;
#[path = "it/references.rs"]
mod references;
#[path = "it/rehearsal.rs"]
mod rehearsal;
#[path = "it/release.rs"]
mod release;
#[path = "it/replay.rs"]
mod replay;
#[path = "it/resources.rs"]
mod resources;
#[path = "it/rollback.rs"]
mod rollback;
#[path = "it/rotation.rs"]
mod rotation;
#[path = "it/running.rs"]
mod running;
#[path = "it/scale_out.rs"]
mod scale_out;
#[path = "it/secrets.rs"]
mod secrets;
#[path = "it/service.rs"]
mod service;
#[path = "it/stores.rs"]
mod stores;
#[path = "it/svid.rs"]
mod svid;
#[path = "it/svid_guests.rs"]
mod svid_guests;
#[path = "it/token.rs"]
mod token;
#[path = "it/transparency.rs"]
mod transparency;
#[path = "it/update.rs"]
mod update;
#[path = "it/volumes.rs"]
mod volumes;
#[path = "it/workloads.rs"]
mod workloads;
#[path = "it/world.rs"]
mod world;
