//! `wasi:filesystem` 0.2 over the tree of [`crate::vfs`]. There is one preopened directory, `/`.

use std::{sync::Arc, vec};

use volume::tree::{Time, Times};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use self::streams::{Position, Reader, Writer};
use crate::{
    bindings::{
        filesystem::{
            preopens,
            types::{
                self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
                Filesize, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
            },
        },
        wasi::clocks::wall_clock::Datetime,
    },
    limit::{Exceeded, Which},
    vfs::{self, Handle, Kind, Open, Stat, Vfs},
};

pub(crate) mod streams;

/// Most bytes that one call reads.
const MAX_READ: usize = 1 << 20;

/// An open file or directory.
pub struct Descriptor(pub(crate) Handle);

/// A directory being listed.
pub struct Entries(vec::IntoIter<DirectoryEntry>);

/// Why an operation fails.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The workload is told this code.
    #[error("{0}")]
    Code(ErrorCode),
    /// A handle that the workload does not hold: a trap.
    #[error(transparent)]
    Handle(#[from] ResourceTableError),
    /// The workload is ended.
    #[error(transparent)]
    Limit(Exceeded),
}

type FsResult<T> = Result<T, FsError>;

impl From<ErrorCode> for FsError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<vfs::Error> for FsError {
    fn from(error: vfs::Error) -> Self {
        match error {
            vfs::Error::TooManyOpen => Self::Limit(Exceeded(Which::OpenFiles)),
            error => Self::Code(error.into()),
        }
    }
}

/// One instance's view of the tree.
pub struct Filesystem<'a> {
    pub(crate) files: &'a Arc<Vfs>,
    pub(crate) table: &'a mut ResourceTable,
}

pub(crate) struct HasFilesystem;

impl HasData for HasFilesystem {
    type Data<'a> = Filesystem<'a>;
}

pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> Filesystem<'_>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<T, HasFilesystem>(linker, view)?;
    preopens::add_to_linker::<T, HasFilesystem>(linker, view)
}

impl Filesystem<'_> {
    fn handle(&self, descriptor: &Resource<Descriptor>) -> FsResult<Handle> {
        Ok(self.table.get(descriptor)?.0.clone())
    }

    /// Runs an operation on a descriptor.
    async fn run<T: Send + 'static>(
        &mut self,
        descriptor: &Resource<Descriptor>,
        operation: impl FnOnce(&Handle) -> Result<T, vfs::Error> + Send + 'static,
    ) -> FsResult<T> {
        Ok(self.handle(descriptor)?.run(operation).await?)
    }

    fn refuse<T>(&self, descriptor: &Resource<Descriptor>, code: ErrorCode) -> FsResult<T> {
        self.handle(descriptor)?;
        Err(code.into())
    }

    fn reader(&mut self, descriptor: &Resource<Descriptor>) -> FsResult<Handle> {
        let handle = self.handle(descriptor)?;
        handle.readable()?;
        Ok(handle)
    }

    fn writer(
        &mut self,
        descriptor: &Resource<Descriptor>,
        position: Position,
    ) -> FsResult<Resource<DynOutputStream>> {
        let handle = self.handle(descriptor)?;
        handle.writable()?;
        let stream: DynOutputStream = Box::new(Writer::new(handle, position));
        Ok(self.table.push(stream)?)
    }
}

fn kind(kind: Kind) -> DescriptorType {
    match kind {
        Kind::Directory => DescriptorType::Directory,
        Kind::File => DescriptorType::RegularFile,
    }
}

fn datetime(time: Time) -> Datetime {
    const SECOND: u64 = 1_000_000_000;
    let nanoseconds = u32::try_from(time.0 % SECOND).unwrap_or_default();
    Datetime { seconds: time.0 / SECOND, nanoseconds }
}

fn described(stat: Stat) -> DescriptorStat {
    let time = |of: fn(Times) -> Time| stat.times.map(|times| datetime(of(times)));
    DescriptorStat {
        type_: kind(stat.kind),
        link_count: 1,
        size: stat.size,
        data_access_timestamp: time(|times| times.accessed),
        data_modification_timestamp: time(|times| times.modified),
        status_change_timestamp: time(|times| times.changed),
    }
}

/// Differs for two nodes, and for one node whose content was altered in size or time.
pub(crate) fn metadata_hash(stat: Stat) -> (u64, u64) {
    let modified = stat.times.map_or(0, |times| times.modified.0);
    (stat.node << 8 | (stat.device & 0xff), modified ^ stat.size)
}

fn hash_value(stat: Stat) -> MetadataHashValue {
    let (lower, upper) = metadata_hash(stat);
    MetadataHashValue { lower, upper }
}

/// The time that is meant; `None`: as it is.
fn time(new: NewTimestamp) -> FsResult<Option<Time>> {
    match new {
        NewTimestamp::NoChange => Ok(None),
        NewTimestamp::Now => Ok(Some(vfs::now())),
        NewTimestamp::Timestamp(at) => at
            .seconds
            .checked_mul(1_000_000_000)
            .and_then(|seconds| seconds.checked_add(u64::from(at.nanoseconds)))
            .map(|nanoseconds| Some(Time(nanoseconds)))
            .ok_or(FsError::Code(ErrorCode::Overflow)),
    }
}

impl preopens::Host for Filesystem<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let root = self.files.root().map_err(|error| match FsError::from(error) {
            FsError::Limit(exceeded) => exceeded.into(),
            _ => wasmtime::Error::from(error),
        })?;
        Ok(vec![(self.table.push(Descriptor(root))?, "/".to_owned())])
    }
}

impl types::Host for Filesystem<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        match error {
            FsError::Code(code) => Ok(code),
            FsError::Handle(error) => Err(error.into()),
            FsError::Limit(exceeded) => Err(exceeded.into()),
        }
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<vfs::Error>().map(|error| (*error).into()))
    }
}

impl types::HostDirectoryEntryStream for Filesystem<'_> {
    fn read_directory_entry(&mut self, entries: Resource<Entries>) -> FsResult<Option<DirectoryEntry>> {
        Ok(self.table.get_mut(&entries)?.0.next())
    }

    fn drop(&mut self, entries: Resource<Entries>) -> wasmtime::Result<()> {
        self.table.delete(entries)?;
        Ok(())
    }
}

impl types::HostDescriptor for Filesystem<'_> {
    fn read_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(Reader::new(self.reader(&descriptor)?, offset));
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&descriptor, Position::At(offset))
    }

    fn append_via_stream(&mut self, descriptor: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&descriptor, Position::End)
    }

    async fn read(
        &mut self,
        descriptor: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(MAX_READ);
        self.run(&descriptor, move |handle| {
            let size = handle.stat()?.size;
            let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
            let mut buffer = vec![0; length.min(left)];
            let read = handle.read_at(offset, &mut buffer)?;
            buffer.truncate(read);
            Ok((buffer, read >= left))
        })
        .await
    }

    async fn write(
        &mut self,
        descriptor: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: Filesize,
    ) -> FsResult<Filesize> {
        let length = bytes.len() as u64;
        self.run(&descriptor, move |handle| handle.write_at(offset, &bytes)).await?;
        Ok(length)
    }

    async fn open_at(
        &mut self,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let open = Open {
            create: open.contains(OpenFlags::CREATE),
            exclusive: open.contains(OpenFlags::EXCLUSIVE),
            truncate: open.contains(OpenFlags::TRUNCATE),
            directory: open.contains(OpenFlags::DIRECTORY),
            read: flags.contains(DescriptorFlags::READ),
            write: flags.intersects(DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY),
        };
        let handle = self.run(&directory, move |handle| handle.open_at(&path, open)).await?;
        Ok(self.table.push(Descriptor(handle))?)
    }

    async fn read_directory(&mut self, directory: Resource<Descriptor>) -> FsResult<Resource<Entries>> {
        let entries: Vec<_> = self
            .run(&directory, Handle::entries)
            .await?
            .into_iter()
            .map(|entry| DirectoryEntry { type_: kind(entry.kind), name: entry.name })
            .collect();
        Ok(self.table.push(Entries(entries.into_iter()))?)
    }

    fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        let handle = self.handle(&descriptor)?;
        let access = handle.access();
        let read = if access.read { DescriptorFlags::READ } else { DescriptorFlags::empty() };
        Ok(match handle.kind() {
            Kind::File if access.write => read | DescriptorFlags::WRITE,
            Kind::Directory if access.write && !self.files.is_read_only() => {
                read | DescriptorFlags::MUTATE_DIRECTORY
            }
            _ => read,
        })
    }

    fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        Ok(kind(self.handle(&descriptor)?.kind()))
    }

    async fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        Ok(described(self.run(&descriptor, Handle::stat).await?))
    }

    async fn stat_at(
        &mut self,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        Ok(described(self.run(&directory, move |handle| handle.stat_at(&path)).await?))
    }

    async fn set_size(&mut self, descriptor: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        self.run(&descriptor, move |handle| handle.set_size(size)).await
    }

    async fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let (accessed, modified) = (time(accessed)?, time(modified)?);
        self.run(&descriptor, move |handle| handle.set_times(accessed, modified)).await
    }

    async fn set_times_at(
        &mut self,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let (accessed, modified) = (time(accessed)?, time(modified)?);
        self.run(&directory, move |handle| handle.set_times_at(&path, accessed, modified)).await
    }

    async fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.run(&descriptor, Handle::sync).await
    }

    async fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.run(&descriptor, Handle::sync).await
    }

    async fn create_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.run(&directory, move |handle| handle.create_directory_at(&path)).await
    }

    async fn remove_directory_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.run(&directory, move |handle| handle.remove_directory_at(&path)).await
    }

    async fn unlink_file_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.run(&directory, move |handle| handle.unlink_at(&path)).await
    }

    async fn rename_at(
        &mut self,
        directory: Resource<Descriptor>,
        path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let target = self.handle(&new_directory)?;
        self.run(&directory, move |handle| handle.rename_at(&path, &target, &new_path)).await
    }

    async fn metadata_hash(&mut self, descriptor: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        Ok(hash_value(self.run(&descriptor, Handle::stat).await?))
    }

    async fn metadata_hash_at(
        &mut self,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(hash_value(self.run(&directory, move |handle| handle.stat_at(&path)).await?))
    }

    async fn readlink_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.run(&directory, move |handle| handle.stat_at(&path)).await?;
        // What POSIX says of a name that is no link.
        Err(ErrorCode::Invalid.into())
    }

    fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&a)?.0.is_same(&self.table.get(&b)?.0))
    }

    fn advise(
        &mut self,
        descriptor: Resource<Descriptor>,
        _offset: Filesize,
        _length: Filesize,
        _advice: Advice,
    ) -> FsResult<()> {
        self.handle(&descriptor).map(drop)
    }

    fn link_at(
        &mut self,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        _old: String,
        _new_directory: Resource<Descriptor>,
        _new: String,
    ) -> FsResult<()> {
        self.refuse(&directory, ErrorCode::Unsupported)
    }

    fn symlink_at(&mut self, directory: Resource<Descriptor>, _old: String, _new: String) -> FsResult<()> {
        self.refuse(&directory, ErrorCode::Unsupported)
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.table.delete(descriptor)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
