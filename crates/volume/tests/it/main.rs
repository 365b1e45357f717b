//! Volumes against a plain map, against a host that loses power at any write, and against one that lies.

mod anchor;
mod attacks;
mod crash;
mod disk;
mod model;
mod plain;
mod remote;
