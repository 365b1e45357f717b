//! `wasi:filesystem` 0.3: what [`crate::filesystem`] is to 0.2. Descriptors of both are the same.

use std::iter;

use volume::tree::{Time, Times, TreeError};
use wasmtime::component::{Access, Accessor, FutureReader, Resource, ResourceTableError, StreamReader};
use wasmtime_wasi::p3::bindings::clocks::system_clock::Instant;

use self::streams::{Listing, Reader, Writer};
use super::{
    End, Refusal,
    bindings::filesystem::{
        preopens,
        types::{
            self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
            Filesize, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
        },
    },
};
use crate::{
    filesystem::{Descriptor, Filesystem, HasFilesystem, metadata_hash, streams::Position},
    limit::{Exceeded, Which},
    vfs::{self, Handle, Kind, Open, Stat},
};

mod streams;

/// Why an operation fails.
pub type FsError = Refusal<ErrorCode>;

type FsResult<T> = Result<T, FsError>;
type Ended = FutureReader<Result<(), ErrorCode>>;

impl From<ErrorCode> for FsError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<vfs::Error> for FsError {
    fn from(error: vfs::Error) -> Self {
        match error {
            vfs::Error::TooManyOpen => Exceeded(Which::OpenFiles).into(),
            error => Self::Code(error.into()),
        }
    }
}

impl Filesystem<'_> {
    fn opened(&self, descriptor: &Resource<Descriptor>) -> Result<Handle, ResourceTableError> {
        Ok(self.table.get(descriptor)?.0.clone())
    }
}

fn opened<T>(
    store: &Accessor<T, HasFilesystem>,
    descriptor: &Resource<Descriptor>,
) -> Result<Handle, ResourceTableError> {
    store.with(|mut store| store.get().opened(descriptor))
}

/// Runs an operation on a descriptor.
async fn run<T, R: Send + 'static>(
    store: &Accessor<T, HasFilesystem>,
    descriptor: &Resource<Descriptor>,
    operation: impl FnOnce(&Handle) -> Result<R, vfs::Error> + Send + 'static,
) -> FsResult<R> {
    Ok(opened(store, descriptor)?.run(operation).await?)
}

/// Whether a stream of bytes can be read from it.
fn to_read(handle: &Handle) -> Result<(), vfs::Error> {
    match handle.kind() {
        Kind::Directory => Err(TreeError::IsDirectory.into()),
        Kind::File => handle.readable(),
    }
}

/// Whether a stream of bytes can be written to it.
fn to_write(handle: &Handle) -> Result<(), vfs::Error> {
    match handle.kind() {
        Kind::Directory => Err(TreeError::IsDirectory.into()),
        Kind::File => handle.writable(),
    }
}

/// Takes what the component writes to `data` into the file.
fn write<T: 'static>(
    mut store: Access<'_, T, HasFilesystem>,
    descriptor: &Resource<Descriptor>,
    mut data: StreamReader<u8>,
    position: Position,
) -> wasmtime::Result<Ended> {
    let handle = store.get().opened(descriptor)?;
    let (mut end, ended) = End::new();
    match to_write(&handle) {
        Ok(()) => data.pipe(&mut store, Writer::new(handle, position, end))?,
        Err(error) => {
            end.tell(Err(error.into()));
            data.close(&mut store)?;
        }
    }
    FutureReader::new(&mut store, ended)
}

fn kind(kind: Kind) -> DescriptorType {
    match kind {
        Kind::Directory => DescriptorType::Directory,
        Kind::File => DescriptorType::RegularFile,
    }
}

fn instant(time: Time) -> Instant {
    const SECOND: u64 = 1_000_000_000;
    let seconds = i64::try_from(time.0 / SECOND).unwrap_or(i64::MAX);
    Instant { seconds, nanoseconds: u32::try_from(time.0 % SECOND).unwrap_or_default() }
}

fn described(stat: Stat) -> DescriptorStat {
    let time = |of: fn(Times) -> Time| stat.times.map(|times| instant(of(times)));
    DescriptorStat {
        type_: kind(stat.kind),
        link_count: 1,
        size: stat.size,
        data_access_timestamp: time(|times| times.accessed),
        data_modification_timestamp: time(|times| times.modified),
        status_change_timestamp: time(|times| times.changed),
    }
}

fn hash_value(stat: Stat) -> MetadataHashValue {
    let (lower, upper) = metadata_hash(stat);
    MetadataHashValue { lower, upper }
}

/// The time that is meant; `None`: as it is. Times before 1970 are none of a file's.
fn time(new: NewTimestamp) -> FsResult<Option<Time>> {
    match new {
        NewTimestamp::NoChange => Ok(None),
        NewTimestamp::Now => Ok(Some(vfs::now())),
        NewTimestamp::Timestamp(at) => u64::try_from(at.seconds)
            .ok()
            .and_then(|seconds| seconds.checked_mul(1_000_000_000))
            .and_then(|seconds| seconds.checked_add(u64::from(at.nanoseconds)))
            .map(|nanoseconds| Some(Time(nanoseconds)))
            .ok_or(Refusal::Code(ErrorCode::Overflow)),
    }
}

impl preopens::Host for Filesystem<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let root = self.files.root().map_err(|error| match FsError::from(error) {
            Refusal::End(ending) => ending,
            Refusal::Code(_) => wasmtime::Error::from(error),
        })?;
        Ok(vec![(self.table.push(Descriptor(root))?, "/".to_owned())])
    }
}

impl types::Host for Filesystem<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.code()
    }
}

impl types::HostDescriptor for Filesystem<'_> {
    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.table.delete(descriptor)?;
        Ok(())
    }
}

impl<T: Send + 'static> types::HostDescriptorWithStore<T> for HasFilesystem {
    fn read_via_stream(
        mut store: Access<'_, T, Self>,
        descriptor: Resource<Descriptor>,
        offset: Filesize,
    ) -> wasmtime::Result<(StreamReader<u8>, Ended)> {
        let handle = store.get().opened(&descriptor)?;
        let (mut end, ended) = End::new();
        let stream = match to_read(&handle) {
            Ok(()) => StreamReader::new(&mut store, Reader::new(handle, offset, end))?,
            Err(error) => {
                end.tell(Err(error.into()));
                StreamReader::new(&mut store, iter::empty())?
            }
        };
        Ok((stream, FutureReader::new(&mut store, ended)?))
    }

    fn write_via_stream(
        store: Access<'_, T, Self>,
        descriptor: Resource<Descriptor>,
        data: StreamReader<u8>,
        offset: Filesize,
    ) -> wasmtime::Result<Ended> {
        write(store, &descriptor, data, Position::At(offset))
    }

    fn append_via_stream(
        store: Access<'_, T, Self>,
        descriptor: Resource<Descriptor>,
        data: StreamReader<u8>,
    ) -> wasmtime::Result<Ended> {
        write(store, &descriptor, data, Position::End)
    }

    fn read_directory(
        mut store: Access<'_, T, Self>,
        descriptor: Resource<Descriptor>,
    ) -> wasmtime::Result<(StreamReader<DirectoryEntry>, Ended)> {
        let handle = store.get().opened(&descriptor)?;
        let (end, ended) = End::new();
        let stream = StreamReader::new(&mut store, Listing::new(handle, end))?;
        Ok((stream, FutureReader::new(&mut store, ended)?))
    }

    async fn advise(
        store: &Accessor<T, Self>,
        descriptor: Resource<Descriptor>,
        _offset: Filesize,
        _length: Filesize,
        _advice: Advice,
    ) -> FsResult<()> {
        opened(store, &descriptor)?;
        Ok(())
    }

    async fn sync_data(store: &Accessor<T, Self>, descriptor: Resource<Descriptor>) -> FsResult<()> {
        run(store, &descriptor, Handle::sync).await
    }

    async fn sync(store: &Accessor<T, Self>, descriptor: Resource<Descriptor>) -> FsResult<()> {
        run(store, &descriptor, Handle::sync).await
    }

    async fn get_flags(
        store: &Accessor<T, Self>,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<DescriptorFlags> {
        let handle = opened(store, &descriptor)?;
        let nothing_is_written = store.with(|mut store| store.get().files.is_read_only());
        let access = handle.access();
        let read = if access.read { DescriptorFlags::READ } else { DescriptorFlags::empty() };
        Ok(match handle.kind() {
            Kind::File if access.write => read | DescriptorFlags::WRITE,
            Kind::Directory if access.write && !nothing_is_written => {
                read | DescriptorFlags::MUTATE_DIRECTORY
            }
            _ => read,
        })
    }

    async fn get_type(
        store: &Accessor<T, Self>,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<DescriptorType> {
        Ok(kind(opened(store, &descriptor)?.kind()))
    }

    async fn set_size(
        store: &Accessor<T, Self>,
        descriptor: Resource<Descriptor>,
        size: Filesize,
    ) -> FsResult<()> {
        run(store, &descriptor, move |handle| handle.set_size(size)).await
    }

    async fn set_times(
        store: &Accessor<T, Self>,
        descriptor: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let (accessed, modified) = (time(accessed)?, time(modified)?);
        run(store, &descriptor, move |handle| handle.set_times(accessed, modified)).await
    }

    async fn set_times_at(
        store: &Accessor<T, Self>,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let (accessed, modified) = (time(accessed)?, time(modified)?);
        run(store, &directory, move |handle| handle.set_times_at(&path, accessed, modified)).await
    }

    async fn stat(store: &Accessor<T, Self>, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        Ok(described(run(store, &descriptor, Handle::stat).await?))
    }

    async fn stat_at(
        store: &Accessor<T, Self>,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        Ok(described(run(store, &directory, move |handle| handle.stat_at(&path)).await?))
    }

    async fn open_at(
        store: &Accessor<T, Self>,
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
        let handle = run(store, &directory, move |handle| handle.open_at(&path, open)).await?;
        Ok(store.with(|mut store| store.get().table.push(Descriptor(handle)))?)
    }

    async fn create_directory_at(
        store: &Accessor<T, Self>,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        run(store, &directory, move |handle| handle.create_directory_at(&path)).await
    }

    async fn remove_directory_at(
        store: &Accessor<T, Self>,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        run(store, &directory, move |handle| handle.remove_directory_at(&path)).await
    }

    async fn unlink_file_at(
        store: &Accessor<T, Self>,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        run(store, &directory, move |handle| handle.unlink_at(&path)).await
    }

    async fn rename_at(
        store: &Accessor<T, Self>,
        directory: Resource<Descriptor>,
        path: String,
        new_directory: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let target = opened(store, &new_directory)?;
        run(store, &directory, move |handle| handle.rename_at(&path, &target, &new_path)).await
    }

    async fn readlink_at(
        store: &Accessor<T, Self>,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FsResult<String> {
        run(store, &directory, move |handle| handle.stat_at(&path)).await?;
        // What POSIX says of a name that is no link.
        Err(ErrorCode::Invalid.into())
    }

    async fn link_at(
        store: &Accessor<T, Self>,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        _old: String,
        _new_directory: Resource<Descriptor>,
        _new: String,
    ) -> FsResult<()> {
        opened(store, &directory)?;
        Err(ErrorCode::Unsupported.into())
    }

    async fn symlink_at(
        store: &Accessor<T, Self>,
        directory: Resource<Descriptor>,
        _old: String,
        _new: String,
    ) -> FsResult<()> {
        opened(store, &directory)?;
        Err(ErrorCode::Unsupported.into())
    }

    async fn is_same_object(
        store: &Accessor<T, Self>,
        a: Resource<Descriptor>,
        b: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        Ok(opened(store, &a)?.is_same(&opened(store, &b)?))
    }

    async fn metadata_hash(
        store: &Accessor<T, Self>,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<MetadataHashValue> {
        Ok(hash_value(run(store, &descriptor, Handle::stat).await?))
    }

    async fn metadata_hash_at(
        store: &Accessor<T, Self>,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(hash_value(run(store, &directory, move |handle| handle.stat_at(&path)).await?))
    }
}
