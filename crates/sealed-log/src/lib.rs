//! A log in files of a host that is not trusted: encrypted, each record bound to all before it, anchored against
//! rollback, cut at checkpoints. It knows nothing of SQL.
