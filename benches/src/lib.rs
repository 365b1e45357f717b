//! What the benches have in common: samples, peers, and the two instruments, a clock that counts only our own
//! processor time, and an allocator that counts bytes.

mod counting;
pub mod peers;
pub mod samples;
mod thread_time;

pub use counting::{Counting, allocated, peak};
pub use thread_time::{ThreadTime, now};
