//! `wasi_unstable`, which came before preview 1 and differs in four calls: `fd_seek` numbers its origins otherwise,
//! `fd_filestat_get` and `path_filestat_get` have 32 bits for the number of links, and the clocks of `poll_oneoff` have
//! a number of their own.

use wasmtime::{Caller, Linker};
use wiggle::{GuestMemory, GuestPtr};

use super::{
    Instance,
    abi::types::{
        Clockid, Errno, Error, Fd, Filestat, Subclockflags, Subscription, SubscriptionClock,
        SubscriptionFdReadwrite, SubscriptionU, Whence,
    },
    link::{parts, settle},
    poll::MAX_SUBSCRIPTIONS,
};

type Result<T> = std::result::Result<T, Error>;

pub(super) const MODULE: &str = "wasi_unstable";
/// Bytes of a subscription.
const SUBSCRIPTION: u32 = 56;

pub(super) fn link(linker: &mut Linker<Instance>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_seek",
        |mut caller: Caller<'_, Instance>, (fd, by, from, to): (i32, i64, i32, i32)| {
            Box::new(async move {
                let (mut memory, instance) = parts(&mut caller)?;
                settle(seek(instance, &mut memory, fd, by, from, to).await)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_filestat_get",
        |mut caller: Caller<'_, Instance>, (fd, to): (i32, i32)| {
            Box::new(async move {
                let (mut memory, instance) = parts(&mut caller)?;
                let stat = instance.stat(descriptor(fd)).await;
                settle(stat.and_then(|stat| write_stat(&mut memory, to, &stat)))
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "path_filestat_get",
        |mut caller: Caller<'_, Instance>, (fd, _, path, length, to): (i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let (mut memory, instance) = parts(&mut caller)?;
                let path = GuestPtr::<str>::new((path.cast_unsigned(), length.cast_unsigned()));
                let stat = instance.stat_at(&memory, descriptor(fd), path).await;
                settle(stat.and_then(|stat| write_stat(&mut memory, to, &stat)))
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "poll_oneoff",
        |mut caller: Caller<'_, Instance>, (from, events, count, to): (i32, i32, i32, i32)| {
            Box::new(async move {
                let (mut memory, instance) = parts(&mut caller)?;
                settle(poll(instance, &mut memory, from, events, count, to).await)
            })
        },
    )?;
    Ok(())
}

fn descriptor(fd: i32) -> Fd {
    Fd::from(fd.cast_unsigned())
}

fn at<T>(address: i32) -> GuestPtr<T> {
    GuestPtr::new(address.cast_unsigned())
}

async fn seek(
    instance: &mut Instance,
    memory: &mut GuestMemory<'_>,
    fd: i32,
    by: i64,
    from: i32,
    to: i32,
) -> Result<()> {
    let from = match from {
        0 => Whence::Cur,
        1 => Whence::End,
        2 => Whence::Set,
        _ => return Err(Errno::Inval.into()),
    };
    let offset = instance.seek(descriptor(fd), by, from).await?;
    Ok(memory.write(at(to), offset)?)
}

fn write_stat(memory: &mut GuestMemory<'_>, to: i32, stat: &Filestat) -> Result<()> {
    let mut bytes = [0; 56];
    bytes[..8].copy_from_slice(&stat.dev.to_le_bytes());
    bytes[8..16].copy_from_slice(&stat.ino.to_le_bytes());
    bytes[16] = u8::from(stat.filetype);
    bytes[20..24].copy_from_slice(&u32::try_from(stat.nlink).unwrap_or(u32::MAX).to_le_bytes());
    for (place, word) in [stat.size, stat.atim, stat.mtim, stat.ctim].into_iter().enumerate() {
        bytes[24 + 8 * place..][..8].copy_from_slice(&word.to_le_bytes());
    }
    Ok(memory.copy_from_slice(&bytes, at::<u8>(to).as_array(56))?)
}

async fn poll(
    instance: &mut Instance,
    memory: &mut GuestMemory<'_>,
    from: i32,
    events: i32,
    count: i32,
    to: i32,
) -> Result<()> {
    let count = count.cast_unsigned();
    if count > MAX_SUBSCRIPTIONS {
        return Err(Errno::Inval.into());
    }
    let list = at::<u8>(from).as_array(count * SUBSCRIPTION);
    let list = memory.to_vec(list)?;
    let subscriptions = list.as_chunks().0.iter().map(subscription).collect::<Result<Vec<_>>>()?;
    let ready = instance.poll(memory, subscriptions, at(events)).await?;
    Ok(memory.write(at(to), ready)?)
}

fn subscription(bytes: &[u8; SUBSCRIPTION as usize]) -> Result<Subscription> {
    let word = |place: usize| bytes[place..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let half = |place: usize| bytes[place..].first_chunk().map_or(0, |half| u32::from_le_bytes(*half));
    let ready = || SubscriptionFdReadwrite { file_descriptor: Fd::from(half(16)) };
    let u = match bytes[8] {
        0 => SubscriptionU::Clock(SubscriptionClock {
            id: Clockid::try_from(half(24))?,
            timeout: word(32),
            precision: word(40),
            flags: Subclockflags::try_from(u16::from_le_bytes([bytes[48], bytes[49]]))?,
        }),
        1 => SubscriptionU::FdRead(ready()),
        2 => SubscriptionU::FdWrite(ready()),
        _ => return Err(Errno::Inval.into()),
    };
    Ok(Subscription { userdata: word(0), u })
}
