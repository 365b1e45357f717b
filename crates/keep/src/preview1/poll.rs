//! `poll_oneoff`: waits for the first of several things. Readiness is that of the bytes that the module would get, so a
//! connection is readable when decrypted bytes are there, and not merely when the network has some.

use std::{future::Future, pin::Pin, task::Poll, time::Duration};

use wiggle::{GuestMemory, GuestPtr};

use super::{
    Instance,
    abi::types::{
        Clockid, Errno, Error, Event, EventFdReadwrite, Eventrwflags, Eventtype, Fd, Filesize, Rights, Size,
        Subclockflags, Subscription, SubscriptionClock, SubscriptionU,
    },
    clock,
    table::{File, Open},
};

type Result<T> = std::result::Result<T, Error>;
type Waiting<'a> = Pin<Box<dyn Future<Output = Event> + Send + 'a>>;

/// Most things to wait for at a time.
pub(super) const MAX_SUBSCRIPTIONS: u32 = 4096;

impl Instance {
    pub(super) async fn poll(
        &mut self,
        memory: &mut GuestMemory<'_>,
        subscriptions: Vec<Subscription>,
        events: GuestPtr<Event>,
    ) -> Result<Size> {
        if subscriptions.is_empty() {
            return Err(Errno::Inval.into());
        }
        let mut waiting: Vec<Option<Waiting<'_>>> =
            subscriptions.into_iter().map(|subscription| Some(self.subscribe(subscription))).collect();
        let ready = std::future::poll_fn(|cx| {
            let mut ready = Vec::new();
            for place in &mut waiting {
                if let Some(Poll::Ready(event)) = place.as_mut().map(|future| future.as_mut().poll(cx)) {
                    ready.push(event);
                    *place = None;
                }
            }
            if ready.is_empty() { Poll::Pending } else { Poll::Ready(ready) }
        })
        .await;
        let number = u32::try_from(ready.len()).map_err(|_| Errno::Overflow)?;
        for (event, place) in ready.into_iter().zip(events.as_array(number).iter()) {
            memory.write(place?, event)?;
        }
        Ok(number)
    }

    /// What is subscribed to, in the module's memory.
    pub(super) fn subscriptions(
        memory: &GuestMemory<'_>,
        subscriptions: GuestPtr<Subscription>,
        count: Size,
    ) -> Result<Vec<Subscription>> {
        if count > MAX_SUBSCRIPTIONS {
            return Err(Errno::Inval.into());
        }
        subscriptions.as_array(count).iter().map(|place| Ok(memory.read(place?)?)).collect()
    }

    fn subscribe(&self, subscription: Subscription) -> Waiting<'_> {
        let userdata = subscription.userdata;
        let event = move |type_, outcome: std::result::Result<(Filesize, bool), Errno>| {
            let (nbytes, hangup) = outcome.unwrap_or_default();
            let flags = if hangup { Eventrwflags::FD_READWRITE_HANGUP } else { Eventrwflags::empty() };
            let error = outcome.err().unwrap_or(Errno::Success);
            Event { userdata, error, type_, fd_readwrite: EventFdReadwrite { nbytes, flags } }
        };
        match subscription.u {
            SubscriptionU::Clock(clock) => match self.until(&clock) {
                Ok(Duration::ZERO) => Box::pin(std::future::ready(event(Eventtype::Clock, Ok((0, false))))),
                Ok(time) => Box::pin(async move {
                    tokio::time::sleep(time).await;
                    event(Eventtype::Clock, Ok((0, false)))
                }),
                Err(error) => Box::pin(std::future::ready(event(Eventtype::Clock, Err(error)))),
            },
            SubscriptionU::FdRead(read) => {
                Box::pin(async move { event(Eventtype::FdRead, self.readable(read.file_descriptor).await) })
            }
            SubscriptionU::FdWrite(write) => {
                Box::pin(async move { event(Eventtype::FdWrite, self.writable(write.file_descriptor).await) })
            }
        }
    }

    /// How long it is until then.
    fn until(&self, subscription: &SubscriptionClock) -> std::result::Result<Duration, Errno> {
        let time = Duration::from_nanos(subscription.timeout);
        let absolute = subscription.flags.contains(Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME);
        let now = match subscription.id {
            Clockid::Realtime => clock::real(),
            Clockid::Monotonic => self.begun.elapsed(),
            Clockid::ProcessCputimeId | Clockid::ThreadCputimeId => return Err(Errno::Inval),
        };
        Ok(if absolute { time.saturating_sub(now) } else { time })
    }

    /// How many bytes can be read, and whether there is an end after them.
    async fn readable(&self, fd: Fd) -> std::result::Result<(Filesize, bool), Errno> {
        let descriptor = self.table.look(fd)?;
        descriptor.needs(Rights::POLL_FD_READWRITE)?;
        match &descriptor.open {
            Open::Null => Ok((0, true)),
            Open::Stdin(pipe) => {
                let available = pipe.available().await;
                Ok((available as u64, available == 0))
            }
            Open::Listener(listener) => {
                listener.readable().await;
                Ok((1, false))
            }
            Open::Connection(connection) => {
                connection.readable().await;
                let available = connection.available();
                Ok((available as u64, available == 0))
            }
            Open::File(File { handle, offset }) => {
                let size = handle.run(|handle| handle.stat()).await.map_err(|_| Errno::Io)?.size;
                Ok((size.saturating_sub(*offset), false))
            }
            Open::Printer(_) | Open::Directory(_) => Err(Errno::Badf),
        }
    }

    async fn writable(&self, fd: Fd) -> std::result::Result<(Filesize, bool), Errno> {
        let descriptor = self.table.look(fd)?;
        descriptor.needs(Rights::POLL_FD_READWRITE)?;
        match &descriptor.open {
            Open::Null | Open::File(_) => Ok((u64::from(u16::MAX), false)),
            Open::Printer(printer) => match std::future::poll_fn(|cx| printer.poll_room(cx)).await {
                Ok(room) => Ok((room as u64, false)),
                Err(_) => Ok((0, true)),
            },
            Open::Connection(connection) => {
                connection.writable().await;
                Ok((u64::from(u16::MAX), false))
            }
            Open::Stdin(_) | Open::Listener(_) | Open::Directory(_) => Err(Errno::Badf),
        }
    }
}
