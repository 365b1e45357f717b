//! A client of etcd's version 3 API, for what the coordinator asks of it: transactions, ranges and leases
//! (`proto/etcd.proto`).
//!
//! It is not a security boundary: whatever etcd says may be forged or old, and what is sent to it can be read by whoever
//! runs it. It knows several members and asks another where one does not answer; what was sent once may so be done
//! twice, and telling whether it was is the caller's affair.
//!
//! It has a thread of its own, so that a lease goes on while the program's other threads are busy, and so that callers
//! may wait for an answer without being asynchronous.
//!
//! ```
//! let members = ["http://127.0.0.1:2379".parse().unwrap()];
//! let client = etcd::Client::new(&members, None).unwrap();
//! assert_eq!(client.members(), 1, "nothing is connected before something is asked");
//! ```

mod connection;
mod error;
mod requests;

#[expect(clippy::enum_variant_names, reason = "the names are etcd's")]
mod generated {
    tonic::include_proto!("etcdserverpb");
}

pub use self::{
    connection::{Client, Member, NotAMember, Tls},
    error::EtcdError,
    requests::{Condition, Operation, Pair, Range, Ranged, Transaction},
};
