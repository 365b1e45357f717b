//! What can be asked: ranges, transactions, compaction, leases.

use std::time::Duration;

use tonic::transport::Channel;

use crate::{
    Client, EtcdError,
    generated::{
        self, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest,
        LeaseRevokeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, SortOrder, TxnRequest,
        compare::{CompareTarget, TargetUnion},
        kv_client::KvClient,
        lease_client::LeaseClient,
        request_op::Request,
        response_op::Response,
    },
};

/// Keys to read, in order.
#[derive(Debug, Clone, Default)]
pub struct Range {
    /// The first.
    pub from: Vec<u8>,
    /// Before this one; a single key where absent.
    pub before: Option<Vec<u8>>,
    /// So many at most; all where 0.
    pub limit: i64,
    /// As of this revision; the newest where 0, which a majority of etcd confirms (linearizable).
    pub revision: i64,
    /// The last ones first.
    pub backwards: bool,
}

impl Range {
    /// A single key.
    pub fn key(key: Vec<u8>) -> Self {
        Self { from: key, ..Self::default() }
    }

    fn to_request(&self) -> RangeRequest {
        let order = if self.backwards { SortOrder::Descend } else { SortOrder::None };
        RangeRequest {
            key: self.from.clone(),
            range_end: self.before.clone().unwrap_or_default(),
            limit: self.limit,
            revision: self.revision,
            sort_order: order.into(),
        }
    }
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// When it was last written.
    pub revision: i64,
}

/// What a range holds.
#[derive(Debug, Clone, Default)]
pub struct Ranged {
    /// In order.
    pub pairs: Vec<Pair>,
    /// Whether the limit left any out.
    pub more: bool,
    /// The revision that was read; in a transaction, that of the transaction.
    pub revision: i64,
}

impl Ranged {
    /// The value of the only pair.
    pub fn only(mut self) -> Option<Pair> {
        self.pairs.pop()
    }
}

/// What must hold for a transaction to be done.
#[derive(Debug, Clone)]
pub enum Condition {
    /// The key has no value.
    Absent(Vec<u8>),
    /// The key has this value.
    Value(Vec<u8>, Vec<u8>),
    /// The key was last written at this revision.
    Unchanged(Vec<u8>, i64),
}

/// What a transaction does.
#[derive(Debug, Clone)]
pub enum Operation {
    /// Writes a key; with a lease, for as long as that lasts.
    Put {
        /// The key.
        key: Vec<u8>,
        /// Its value.
        value: Vec<u8>,
        /// Its lease, or 0.
        lease: i64,
    },
    /// Removes keys from the first to before the second; one key where the second is absent.
    Delete(Vec<u8>, Option<Vec<u8>>),
    /// Reads.
    Read(Range),
}

/// All of it at once, or nothing.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    /// All of which must hold.
    pub when: Vec<Condition>,
    /// Done if they do.
    pub then: Vec<Operation>,
    /// Done if they do not.
    pub otherwise: Vec<Operation>,
}

impl Client {
    /// Reads a range.
    pub async fn range(&self, range: Range, patience: Duration) -> Result<Ranged, EtcdError> {
        let request = range.to_request();
        let asked = self
            .ask(patience, |channel| {
                let request = request.clone();
                async move { Ok(kv(channel).range(request).await?.into_inner()) }
            })
            .await?;
        Ok(ranged(asked))
    }

    /// Does a transaction; whether the conditions held, and what was read. Where no member answered it may have been
    /// done all the same, and where this asked twice, twice: the conditions must make that harmless.
    pub async fn transact(
        &self,
        transaction: Transaction,
        patience: Duration,
    ) -> Result<(bool, Vec<Ranged>), EtcdError> {
        let request = TxnRequest {
            compare: transaction.when.into_iter().map(compare).collect(),
            success: transaction.then.into_iter().map(operation).collect(),
            failure: transaction.otherwise.into_iter().map(operation).collect(),
        };
        let answer = self
            .ask(patience, |channel| {
                let request = request.clone();
                async move { Ok(kv(channel).txn(request).await?.into_inner()) }
            })
            .await?;
        let revision = answer.header.ok_or(EtcdError::Malformed)?.revision;
        let read = answer.responses.into_iter().filter_map(|response| match response.response {
            Some(Response::ResponseRange(range)) => Some(Ranged { revision, ..ranged(range) }),
            _ => None,
        });
        Ok((answer.succeeded, read.collect()))
    }

    /// Lets etcd forget what there was before this revision.
    pub async fn compact(&self, revision: i64, patience: Duration) -> Result<(), EtcdError> {
        self.ask(patience, |channel| async move {
            kv(channel).compact(CompactionRequest { revision }).await?;
            Ok(())
        })
        .await
    }

    /// A new lease for so many seconds.
    pub async fn grant(&self, seconds: i64, patience: Duration) -> Result<i64, EtcdError> {
        self.ask(patience, |channel| async move {
            let request = LeaseGrantRequest { ttl: seconds };
            let granted = LeaseClient::new(channel).lease_grant(request).await?.into_inner();
            if granted.id == 0 || granted.ttl < seconds { Err(EtcdError::Malformed) } else { Ok(granted.id) }
        })
        .await
    }

    /// Makes a lease last so many seconds from now on, as etcd says; 0 where it has ended.
    pub async fn keep_alive(&self, lease: i64, patience: Duration) -> Result<i64, EtcdError> {
        self.ask(patience, |channel| async move {
            let once = tokio_stream::once(LeaseKeepAliveRequest { id: lease });
            let mut answers = LeaseClient::new(channel).lease_keep_alive(once).await?.into_inner();
            let none = || EtcdError::Unreachable("the lease's stream ended".into());
            let answer = answers.message().await?.ok_or_else(none)?;
            if answer.id == lease { Ok(answer.ttl) } else { Err(EtcdError::Malformed) }
        })
        .await
    }

    /// Ends a lease, and with it the keys that were written under it.
    pub async fn revoke(&self, lease: i64, patience: Duration) -> Result<(), EtcdError> {
        self.ask(patience, |channel| async move {
            LeaseClient::new(channel).lease_revoke(LeaseRevokeRequest { id: lease }).await?;
            Ok(())
        })
        .await
    }
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(Client::LARGEST_ANSWER)
        .max_encoding_message_size(Client::LARGEST_ANSWER)
}

fn ranged(response: RangeResponse) -> Ranged {
    let pair =
        |pair: generated::KeyValue| Pair { key: pair.key, value: pair.value, revision: pair.mod_revision };
    Ranged {
        pairs: response.kvs.into_iter().map(pair).collect(),
        more: response.more,
        revision: response.header.map_or(0, |header| header.revision),
    }
}

fn compare(condition: Condition) -> generated::Compare {
    let (target, key, union) = match condition {
        Condition::Absent(key) => (CompareTarget::Create, key, TargetUnion::CreateRevision(0)),
        Condition::Value(key, value) => (CompareTarget::Value, key, TargetUnion::Value(value)),
        Condition::Unchanged(key, revision) => (CompareTarget::Mod, key, TargetUnion::ModRevision(revision)),
    };
    generated::Compare { target: target.into(), key, target_union: Some(union), ..Default::default() }
}

fn operation(operation: Operation) -> RequestOp {
    let request = match operation {
        Operation::Put { key, value, lease } => Request::RequestPut(PutRequest { key, value, lease }),
        Operation::Delete(key, before) => {
            Request::RequestDeleteRange(DeleteRangeRequest { key, range_end: before.unwrap_or_default() })
        }
        Operation::Read(range) => Request::RequestRange(range.to_request()),
    };
    RequestOp { request: Some(request) }
}
