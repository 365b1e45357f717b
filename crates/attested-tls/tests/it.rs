//! Attested connections and connections between Marbles, by their public interface only.

#[path = "it/channel.rs"]
mod channel;
#[path = "it/direct.rs"]
mod direct;
#[path = "it/interop.rs"]
mod interop;
#[path = "it/marble.rs"]
mod marble;
#[path = "it/relay.rs"]
mod relay;
#[path = "it/world.rs"]
mod world;
