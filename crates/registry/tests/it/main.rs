//! The client against the distribution project's registry, and against one that lies.

mod fake;
mod hostile;
mod real;
mod signatures;
mod world;
