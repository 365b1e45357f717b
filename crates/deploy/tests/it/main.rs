//! Direct deployments: a client, a Keep in this process on an emulated TEE, and hosts of all kinds between them.

mod agent;
mod hostile;
mod logs;
mod modules;
mod packages;
mod protocol;
mod runs;
mod shelf;
mod volumes;
mod world;
