//! The guest against brokers: an honest one made of `rcar`'s types, and what attackers make of it.

#[path = "it/end_to_end.rs"]
mod end_to_end;
#[path = "it/fake.rs"]
mod fake;
#[path = "it/fetching.rs"]
mod fetching;
#[path = "it/hostile.rs"]
mod hostile;
#[path = "it/image_keys.rs"]
mod image_keys;
#[path = "it/local_api.rs"]
mod local_api;
#[path = "it/measured.rs"]
mod measured;
#[path = "it/program.rs"]
mod program;
#[path = "it/sealed.rs"]
mod sealed;
