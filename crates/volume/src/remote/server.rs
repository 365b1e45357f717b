//! The host's side: whoever asks may be anyone.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{self, ErrorKind, Read, Write},
    path::Path,
};

use super::wire::{self, MAX_FRAME, Operation, PIECE, Request};
use crate::{
    host::{Folder, Host, Lock},
    log,
    open::DATA,
};

/// A file of the largest volume with all its log is shorter.
const MAX_OFFSET: u64 = 1 << 37;

/// Answers requests for volumes below `folder` until the stream ends. Nothing outside of it is read or written, and
/// nothing in it but the files of volumes.
///
/// # Errors
/// When the stream breaks, or what comes is no request.
pub fn serve(mut stream: impl Read + Write, folder: &Path) -> io::Result<()> {
    let mut locks = BTreeMap::new();
    while let Some(frame) = wire::frame(&mut stream, MAX_FRAME)? {
        let request = Request::parse(&frame).ok_or(ErrorKind::InvalidData)?;
        let result = done(&request, folder, &mut locks);
        stream.write_all(&wire::answered(&result))?;
        stream.flush()?;
    }
    Ok(())
}

fn done(
    request: &Request<'_>,
    folder: &Path,
    locks: &mut BTreeMap<[u8; 16], Box<dyn Lock>>,
) -> io::Result<Vec<u8>> {
    let Request { operation, volume, offset, file, bytes } = *request;
    let name = volume.iter().fold(String::new(), |mut name, byte| {
        // Writing to a text does not fail.
        let _ = write!(name, "{byte:02x}");
        name
    });
    let host = Folder::new(&folder.join(name)).for_changing_users();
    let nothing = Vec::new();
    match operation {
        Operation::List => {
            return Ok(host.list()?.into_iter().map(|name| name + "\n").collect::<String>().into());
        }
        Operation::SyncNames => return host.sync_names().map(|()| nothing),
        Operation::Unlock => {
            locks.remove(&volume);
            return Ok(nothing);
        }
        Operation::Lock if locks.contains_key(&volume) => return Err(ErrorKind::WouldBlock.into()),
        Operation::Lock => {
            let lock = host.lock(offset == 1)?.ok_or(ErrorKind::WouldBlock)?;
            locks.insert(volume, lock);
            return Ok(nothing);
        }
        _ => {}
    }
    if !(file == DATA || log::is_log_name(file)) || offset > MAX_OFFSET {
        return Err(ErrorKind::PermissionDenied.into());
    }
    match operation {
        Operation::Create => host.create(file).map(|_| nothing),
        Operation::Remove => host.remove(file).map(|()| nothing),
        Operation::Length => Ok(host.open(file, true)?.length()?.to_le_bytes().to_vec()),
        Operation::Read => {
            let wanted = bytes.try_into().map(u32::from_le_bytes).map_err(|_| ErrorKind::InvalidData)?;
            let mut read = vec![0; usize::try_from(wanted).unwrap_or(PIECE).min(PIECE)];
            let length = host.open(file, true)?.read_at(offset, &mut read)?;
            read.truncate(length);
            Ok(read)
        }
        Operation::Write => host.open(file, false)?.write_at(offset, bytes).map(|()| nothing),
        Operation::SetLength => host.open(file, false)?.set_length(offset).map(|()| nothing),
        Operation::Sync => host.open(file, false)?.sync().map(|()| nothing),
        // Done above.
        Operation::List | Operation::SyncNames | Operation::Lock | Operation::Unlock => Ok(nothing),
    }
}
