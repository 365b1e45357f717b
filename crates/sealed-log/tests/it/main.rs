//! The log on hosts that lose power, fill up and lie.

mod attacks;
mod crash;
#[path = "../../../volume/tests/it/disk.rs"]
#[allow(dead_code, reason = "volumes need more of it")]
mod disk;
mod plain;
mod turning;
