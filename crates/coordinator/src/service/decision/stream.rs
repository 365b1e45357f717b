//! Where decisions go, if the host asks for them: a file, or a webhook. Between a request and either stands a queue
//! that never waits: what finds it full is counted and lost.

use std::{
    fs::OpenOptions,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    str::FromStr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http_body_util::Full;
use hyper::{Method, Request, body::Bytes, header};
use tokio::{
    fs::File,
    io::AsyncWriteExt,
    sync::mpsc::{Receiver, Sender, channel},
};
use tokio_util::sync::CancellationToken;

use crate::service::outward::{Destination, Outward};

/// Decisions that may wait to be written.
const QUEUE: usize = 1024;
/// For what still waits when the coordinator ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where the host wants decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecisionSink {
    /// A line of JSON each, appended (mode 0600).
    File(PathBuf),
    /// A POST of JSON each.
    Webhook(Destination),
}

/// Neither file nor webhook.
#[derive(Debug, thiserror::Error)]
#[error("decisions go to file:PATH or to an https:// (or http://) URL")]
pub struct NotASink;

impl FromStr for DecisionSink {
    type Err = NotASink;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("file:") {
            Some("") => Err(NotASink),
            Some(path) => Ok(Self::File(path.into())),
            None => text.parse().map(Self::Webhook).map_err(|_| NotASink),
        }
    }
}

/// An open [`DecisionSink`].
enum Writer {
    File(File),
    Webhook(Destination, Box<Outward>),
}

/// The queue, and what became of what was put into it.
pub(in crate::service) struct Stream {
    sender: Sender<Vec<u8>>,
    end: Mutex<Option<(Receiver<Vec<u8>>, Writer)>>,
    delivered: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

impl Stream {
    /// Opens the file, so that a path that cannot be written is found at the start.
    pub(in crate::service) fn open(sink: &DecisionSink, outward: &Outward) -> std::io::Result<Self> {
        let writer = match sink {
            DecisionSink::File(path) => {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
                Writer::File(File::from_std(file))
            }
            DecisionSink::Webhook(url) => Writer::Webhook(url.clone(), Box::new(outward.clone())),
        };
        let (sender, receiver) = channel(QUEUE);
        Ok(Self {
            sender,
            end: Mutex::new(Some((receiver, writer))),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        })
    }

    /// Puts a record into the queue, or counts it as dropped.
    pub(super) fn offer(&self, record: Vec<u8>) {
        if self.sender.try_send(record).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Records by what became of them.
    pub(in crate::service) fn outcomes(&self) -> [(&'static str, u64); 3] {
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        [
            ("delivered", count(&self.delivered)),
            ("dropped", count(&self.dropped)),
            ("failed", count(&self.failed)),
        ]
    }

    /// Writes what comes until `shutdown`, and then what still waits.
    pub(in crate::service) async fn write(&self, shutdown: CancellationToken) {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((mut receiver, mut writer)) = end else { return };
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(record) = receiver.recv() => self.deliver(&mut writer, record).await,
            }
        }
        receiver.close();
        let rest = async {
            while let Some(record) = receiver.recv().await {
                self.deliver(&mut writer, record).await;
            }
        };
        let _ = tokio::time::timeout(LAST_WORDS, rest).await;
    }

    async fn deliver(&self, writer: &mut Writer, mut record: Vec<u8>) {
        let delivered = match writer {
            Writer::File(file) => {
                record.push(b'\n');
                file.write_all(&record).await.is_ok() && file.flush().await.is_ok()
            }
            Writer::Webhook(url, outward) => post(url, outward, record).await,
        };
        if delivered { &self.delivered } else { &self.failed }.fetch_add(1, Relaxed);
    }
}

async fn post(url: &Destination, outward: &Outward, record: Vec<u8>) -> bool {
    let request = Request::builder()
        .method(Method::POST)
        .uri(url.uri())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(record)));
    match request {
        Ok(request) => outward.send(request).await.is_ok_and(|status| status.is_success()),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks() {
        assert_eq!("file:/a/b".parse::<DecisionSink>().unwrap(), DecisionSink::File("/a/b".into()));
        assert!(matches!("https://a.example/hook".parse(), Ok(DecisionSink::Webhook(_))));
        for wrong in ["", "file:", "/a/b", "syslog:x"] {
            assert!(wrong.parse::<DecisionSink>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_never_waits() {
        let folder = tempfile::tempdir().unwrap();
        let sink = DecisionSink::File(folder.path().join("decisions"));
        let stream = Stream::open(&sink, &Outward::new(None).unwrap()).unwrap();
        for _ in 0..QUEUE + 3 {
            stream.offer(b"{}".to_vec());
        }
        assert_eq!(stream.outcomes()[1], ("dropped", 3));
    }
}
