//! The messages, from outside.

mod bounds;
mod cddl;
mod messages;
mod sequence;
