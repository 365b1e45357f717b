//! A bounded stretch of memory between the workload and one of its standard streams: whoever writes waits for room,
//! whoever reads waits for bytes or for the end. The workload's side is polled inside the engine, the other side by a
//! task of the Keep, so that a caller who is slow holds up the workload and never the Keep.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Most bytes under way.
pub(crate) const ROOM: usize = 64 << 10;

/// One direction; clones are the same pipe.
#[derive(Clone, Default)]
pub(crate) struct Pipe(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    data: BytesMut,
    /// Somebody asked for bytes at least once.
    wanted: bool,
    /// No more bytes come.
    ended: bool,
    /// Nobody reads any more.
    broken: bool,
    waiting: Vec<Waker>,
}

/// Nobody reads any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

impl State {
    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }

    fn wait<T>(&mut self, cx: &Context<'_>) -> Poll<T> {
        if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes can be read now; zero is the end.
    pub(crate) fn poll_available(&self, cx: &Context<'_>) -> Poll<usize> {
        let mut state = self.state();
        if !state.wanted {
            state.wanted = true;
            state.wake();
        }
        match state.data.len() {
            0 if !state.ended => state.wait(cx),
            available => Poll::Ready(available),
        }
    }

    /// Waits as [`Self::poll_available`].
    pub(crate) async fn available(&self) -> usize {
        std::future::poll_fn(|cx| self.poll_available(cx)).await
    }

    /// At most `most` of the bytes that are here.
    pub(crate) fn take(&self, most: usize) -> Bytes {
        let mut state = self.state();
        let length = state.data.len().min(most);
        let taken = state.data.split_to(length).freeze();
        state.wake();
        taken
    }

    /// How many bytes can be written now; never zero.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<Result<usize, Broken>> {
        let mut state = self.state();
        match ROOM.saturating_sub(state.data.len()) {
            _ if state.broken => Poll::Ready(Err(Broken)),
            0 => state.wait(cx),
            room => Poll::Ready(Ok(room)),
        }
    }

    /// Writes; the caller keeps to the room that [`Self::poll_room`] told.
    pub(crate) fn push(&self, bytes: &[u8]) {
        let mut state = self.state();
        if !state.broken {
            state.data.extend_from_slice(bytes);
            state.wake();
        }
    }

    /// No more bytes come.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        state.wake();
    }

    /// Nobody reads any more.
    fn give_up(&self) {
        let mut state = self.state();
        state.broken = true;
        state.data.clear();
        state.wake();
    }

    /// Copies the pipe to `writer` until the end. A writer that fails breaks the pipe.
    pub(crate) async fn drain(self, mut writer: impl AsyncWrite + Unpin) {
        loop {
            if self.available().await == 0 {
                // Whether the last bytes arrived is the caller's to see; the workload has ended.
                let _ = writer.shutdown().await;
                return;
            }
            let bytes = self.take(ROOM);
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                return self.give_up();
            }
        }
    }

    /// Copies `reader` into the pipe, from when somebody wants it until the end. A reader that fails has ended.
    pub(crate) async fn fill(self, mut reader: impl AsyncRead + Unpin) {
        std::future::poll_fn(|cx| self.poll_wanted(cx)).await;
        let mut buffer = vec![0; ROOM];
        while let Ok(room) = std::future::poll_fn(|cx| self.poll_room(cx)).await {
            match reader.read(&mut buffer[..room.min(ROOM)]).await {
                Ok(length) if length > 0 => self.push(&buffer[..length]),
                _ => break,
            }
        }
        self.end();
    }

    fn poll_wanted(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.wanted { Poll::Ready(()) } else { state.wait(cx) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_writer_waits_for_room_and_a_reader_for_the_end() {
        let pipe = Pipe::default();
        pipe.push(&[7; ROOM]);
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(pipe.poll_room(&cx), Poll::Pending);
        assert_eq!(pipe.take(10).len(), 10);
        assert_eq!(pipe.poll_room(&cx), Poll::Ready(Ok(10)));
        pipe.end();
        assert_eq!(pipe.take(ROOM).len(), ROOM - 10);
        assert_eq!(pipe.available().await, 0);
    }

    #[tokio::test]
    async fn nothing_is_read_before_it_is_wanted() {
        let pipe = Pipe::default();
        let filling = tokio::spawn(pipe.clone().fill(&b"abc"[..]));
        tokio::task::yield_now().await;
        assert!(pipe.take(ROOM).is_empty());
        assert_eq!(pipe.available().await, 3);
        assert_eq!(&pipe.take(ROOM)[..], b"abc");
        assert_eq!(pipe.available().await, 0);
        filling.await.unwrap();
    }

    #[tokio::test]
    async fn a_writer_that_fails_breaks_the_pipe() {
        let pipe = Pipe::default();
        let (writer, reader) = tokio::io::duplex(1);
        drop(reader);
        pipe.push(b"x");
        pipe.clone().drain(writer).await;
        assert_eq!(pipe.poll_room(&Context::from_waker(Waker::noop())), Poll::Ready(Err(Broken)));
    }
}
