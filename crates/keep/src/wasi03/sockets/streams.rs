//! The streams of sockets: what is sent, what is received, and who comes in.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use wasmtime::{
    StoreContextMut,
    component::{Destination, Resource, Source, StreamConsumer, StreamProducer, StreamResult},
};

use super::{ErrorCode, tcp::TcpSocket};
use crate::{
    net::{Connection, Listener, Side},
    sockets::{
        Sockets,
        rules::{Family, Options},
    },
    wasi03::End,
};

/// Most bytes that are read at a time where the reader does not say how many it takes.
const MAX_READ: usize = 64 << 10;

/// What is under way is left where it is when the component wants no more of it now.
fn unless_cancelled(polled: Poll<StreamResult>, finish: bool) -> Poll<wasmtime::Result<StreamResult>> {
    match polled {
        Poll::Ready(result) => Poll::Ready(Ok(result)),
        Poll::Pending if finish => Poll::Ready(Ok(StreamResult::Cancelled)),
        Poll::Pending => Poll::Pending,
    }
}

/// The half that is written to. Its end ends the connection's write side in order.
pub(super) struct Sending {
    pub(super) connection: Arc<Connection>,
    pub(super) end: End<ErrorCode>,
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.connection.shutdown(Side::Write);
    }
}

impl<T> StreamConsumer<T> for Sending {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<T>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        if source.remaining().is_empty() {
            let ready = self.connection.poll_writable(cx);
            return unless_cancelled(ready.map(|()| StreamResult::Completed), finish);
        }
        let sent = self.connection.poll_send(cx, source.remaining());
        let result = sent.map(|sent| match sent {
            Ok(sent) => {
                source.mark_read(sent);
                StreamResult::Completed
            }
            Err(broken) => {
                self.end.tell(Err(broken.into()));
                StreamResult::Dropped
            }
        });
        unless_cancelled(result, finish)
    }
}

/// The half that is read. Who drops it wants no more.
pub(super) struct Receiving {
    pub(super) connection: Arc<Connection>,
    pub(super) end: End<ErrorCode>,
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.connection.shutdown(Side::Read);
    }
}

impl<T> StreamProducer<T> for Receiving {
    type Item = u8;
    type Buffer = Bytes;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        destination: Destination<'a, u8, Bytes>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(&mut store) == Some(0) {
            let ready = self.connection.poll_readable(cx);
            return unless_cancelled(ready.map(|()| StreamResult::Completed), finish);
        }
        let mut destination = destination.as_direct(store, MAX_READ);
        let received = self.connection.poll_receive(cx, destination.remaining());
        let result = received.map(|received| match received {
            Ok(0) => StreamResult::Dropped,
            Ok(received) => {
                destination.mark_written(received);
                StreamResult::Completed
            }
            Err(broken) => {
                self.end.tell(Err(broken.into()));
                StreamResult::Dropped
            }
        });
        unless_cancelled(result, finish)
    }
}

/// Connections that come in. It ends with the component, or when that drops it.
pub(super) struct Incoming<T: 'static> {
    listener: Arc<Listener>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    family: Family,
    options: Options,
    view: fn(&mut T) -> Sockets<'_>,
}

impl<T: 'static> Incoming<T> {
    pub(super) fn new(
        listener: Listener,
        family: Family,
        options: Options,
        view: fn(&mut T) -> Sockets<'_>,
    ) -> Self {
        Self { listener: Arc::new(listener), waiting: None, family, options, view }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let listener = &self.listener;
        let waiting = self.waiting.get_or_insert_with(|| {
            let listener = Arc::clone(listener);
            Box::pin(async move { listener.readable().await })
        });
        ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        Poll::Ready(())
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Connection> {
        loop {
            if let Some(connection) = self.listener.try_accept() {
                return Poll::Ready(connection);
            }
            ready!(self.poll_ready(cx));
        }
    }
}

impl<T: 'static> StreamProducer<T> for Incoming<T> {
    type Item = Resource<TcpSocket>;
    type Buffer = Option<Resource<TcpSocket>>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        mut destination: Destination<'a, Self::Item, Self::Buffer>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        if destination.remaining(&mut store) == Some(0) {
            let ready = self.poll_ready(cx);
            return unless_cancelled(ready.map(|()| StreamResult::Completed), finish);
        }
        let Poll::Ready(connection) = self.poll_accept(cx) else {
            return unless_cancelled(Poll::Pending, finish);
        };
        let socket = TcpSocket::accepted(connection, self.family, self.options.clone());
        let sockets = (self.view)(store.data_mut());
        destination.set_buffer(Some(sockets.table.push(socket)?));
        Poll::Ready(Ok(StreamResult::Completed))
    }
}
