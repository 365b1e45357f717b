//! Approved computations: who calls one with which arguments, what it reads, what of the result leaves, what that costs.
//!
//! ```text
//!  call ─▶ caller? arguments? ─▶ rate, budget (locked) ─▶ query as bailey_reader ─▶ module ─▶ output rules ─▶ noise
//!                                                                                                             │
//!          answer leaves ◀─ receipt ◀─ sealed up to here ◀─ charge and answer committed as one ◀──────────────┘
//! ```

mod answer;

pub use answer::{Answer, Denied, Reason, type_name};
