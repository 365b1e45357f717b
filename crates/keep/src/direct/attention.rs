//! What the client says while its workload is made ready and runs. It is read at once, whatever the workload does with
//! its input: input comes only as it was wanted, so a wish to cancel, or word of a volume, never waits behind it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use keep_protocol::{
    Sensitive,
    keep::{FromKeep, Head, MAX_CHUNK, ToKeep, VolumeHead},
};
use serde_bytes::ByteBuf;
use tokio::{
    io::{AsyncWriteExt, DuplexStream},
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinHandle},
    time::timeout,
};
use zeroize::Zeroizing;

use super::{incoming::Messages, reply::Reply};

/// Input that is under way or waits for the workload.
const INPUT_AHEAD: u32 = 64 << 10;
/// How long the client has to hold a volume's new state, or to open a packet. Longer than an emulated machine stands still on
/// a host that is busy; that a client is gone is known before, by pings.
const HOLD: Duration = Duration::from_secs(60);

/// What the client says to a packet that it was asked to open.
type Opened = oneshot::Sender<Option<Sensitive>>;

/// Listens to the client, until it is dropped.
pub(super) struct Attention {
    shared: Arc<Shared>,
    input: Option<mpsc::UnboundedReceiver<Option<ByteBuf>>>,
    feeding: Option<JoinHandle<()>>,
    reading: AbortHandle,
}

struct Shared {
    reply: Reply,
    /// Bytes of input that may still come.
    wanted: AtomicU64,
    /// The newest states that the client holds, by volume.
    kept: Mutex<BTreeMap<String, Head>>,
    /// Who waits for a packet to be opened.
    opening: Mutex<Option<Opened>>,
    heard: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// How many states of volumes the client said that it holds.
    Listening(u64),
    /// The client cancelled, broke off, or said what does not belong here.
    Over,
}

impl Drop for Attention {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl Attention {
    /// To what comes after the deployment.
    pub(super) fn to(messages: Messages, reply: &Reply) -> Self {
        let (sender, input) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            reply: reply.clone(),
            wanted: AtomicU64::new(0),
            kept: Mutex::default(),
            opening: Mutex::default(),
            heard: watch::Sender::new(State::Listening(0)),
        });
        let listening = Arc::clone(&shared).listen(messages, sender);
        let reading = tokio::spawn(listening).abort_handle();
        Self { shared, input: Some(input), feeding: None, reading }
    }

    /// Returns when the client has cancelled, or is gone.
    pub(super) async fn over(&self) {
        let mut heard = self.shared.heard.subscribe();
        tokio::select! {
            _ = heard.wait_for(|state| *state == State::Over) => {}
            () = self.shared.reply.gone() => {}
        }
    }

    /// For volumes.
    pub(super) fn holder(&self) -> Holder {
        Holder(Arc::clone(&self.shared))
    }

    /// For an encrypted package.
    pub(super) fn opening(&self) -> Opening {
        Opening(Arc::clone(&self.shared))
    }

    /// From now on input comes, and goes into `workload` as it is read there.
    pub(super) fn feed(&mut self, mut workload: DuplexStream) {
        let (Some(mut input), shared) = (self.input.take(), Arc::clone(&self.shared)) else { return };
        self.feeding = Some(tokio::spawn(async move {
            let mut room = shared.want(INPUT_AHEAD).await;
            while room && let Some(Some(bytes)) = input.recv().await {
                // A workload that reads no more is no fault of its client.
                let _ = workload.write_all(&bytes).await;
                room = shared.want(u32::try_from(bytes.len()).unwrap_or(0)).await;
            }
        }));
    }

    /// No more input is wanted: the workload has ended, and nothing is said after that.
    pub(super) async fn fed(&mut self) {
        if let Some(feeding) = self.feeding.take() {
            feeding.abort();
            // It has ended, or is cancelled.
            let _ = feeding.await;
        }
    }
}

impl Shared {
    async fn want(&self, bytes: u32) -> bool {
        self.wanted.fetch_add(bytes.into(), Ordering::AcqRel);
        self.reply.tell(&FromKeep::StdinWanted(bytes)).await.is_ok()
    }

    async fn listen(self: Arc<Self>, mut messages: Messages, input: mpsc::UnboundedSender<Option<ByteBuf>>) {
        let mut ended = false;
        loop {
            match messages.next().await {
                Ok(Some(ToKeep::Stdin(bytes))) if !ended && self.take(bytes.len()) => {
                    // Whoever would have read it has ended.
                    let _ = input.send(Some(bytes));
                }
                Ok(Some(ToKeep::StdinEnd {})) => {
                    ended = true;
                    let _ = input.send(None);
                }
                Ok(Some(ToKeep::VolumeKept(VolumeHead { head, name }))) => {
                    self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name, head);
                    self.heard.send_modify(|state| {
                        if let State::Listening(count) = state {
                            *count += 1;
                        }
                    });
                }
                Ok(Some(ToKeep::PacketOpened(options))) if self.opened(&options) => {}
                // The end of the request is the end of the input; the answer still goes out.
                Ok(None) => {
                    let _ = input.send(None);
                    return;
                }
                Ok(Some(
                    ToKeep::Stdin(_)
                    | ToKeep::Cancel {}
                    | ToKeep::Deploy(_)
                    | ToKeep::Chunk(_)
                    | ToKeep::PacketOpened(_),
                ))
                | Err(_) => {
                    let _ = input.send(None);
                    self.heard.send_replace(State::Over);
                    return;
                }
            }
        }
    }

    /// Whether somebody waited for it.
    fn opened(&self, options: &Option<Sensitive>) -> bool {
        let waiting = self.opening.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever gave up in the meantime had asked, too.
        waiting.map(|waiting| waiting.send(options.clone())).is_some()
    }

    /// Whether so much input was wanted.
    fn take(&self, bytes: usize) -> bool {
        let less = |wanted: u64| wanted.checked_sub(bytes as u64);
        self.wanted.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }
}

/// Has the client open packets of an encrypted package, one at a time.
pub(super) struct Opening(Arc<Shared>);

impl Opening {
    /// What was in the packet; otherwise why it is not known.
    pub(super) async fn open(&self, packet: &[u8]) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        if packet.is_empty() || packet.len() > MAX_CHUNK {
            return Err("the packet is longer than any may be");
        }
        let (sender, opened) = oneshot::channel();
        *self.0.opening.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let told = FromKeep::PacketWanted(ByteBuf::from(packet));
        self.0.reply.tell(&told).await.map_err(|_| "the client is gone")?;
        tokio::select! {
            opened = timeout(HOLD, opened) => match opened {
                Ok(Ok(Some(options))) => Ok(options.into_inner()),
                Ok(Ok(None)) => Err("the client has no key that opens it"),
                Ok(Err(_)) | Err(_) => Err("the client says nothing of its key"),
            },
            () = self.0.reply.gone() => Err("the client is gone"),
        }
    }
}

/// Has the client hold the newest states of volumes.
#[derive(Clone)]
pub(super) struct Holder(Arc<Shared>);

impl Holder {
    /// Returns when the client holds it; otherwise why not.
    pub(super) async fn hold(&self, name: &str, head: Head) -> Result<(), &'static str> {
        let mut heard = self.0.heard.subscribe();
        let told = FromKeep::VolumeHead(VolumeHead { head, name: name.to_owned() });
        self.0.reply.tell(&told).await.map_err(|_| "the client is gone")?;
        let holds = || {
            self.0
                .kept
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(name)
                .is_some_and(|kept| *kept == head)
        };
        let waiting = async {
            loop {
                if holds() {
                    return Ok(());
                }
                if *heard.borrow_and_update() == State::Over || heard.changed().await.is_err() {
                    return if holds() { Ok(()) } else { Err("the client has cancelled") };
                }
            }
        };
        tokio::select! {
            held = timeout(HOLD, waiting) => held.unwrap_or(Err("the client does not say that it holds it")),
            () = self.0.reply.gone() => Err("the client is gone"),
        }
    }
}
