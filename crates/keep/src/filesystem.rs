//! `wasi:filesystem` over the tree of [`crate::files`]: reading works, whatever would write is refused with
//! `read-only`. There is one preopened directory, `/`.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable, ResourceTableError};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, pipe::MemoryInputPipe};

use crate::{
    bindings::filesystem::{
        preopens,
        types::{
            self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode,
            Filesize, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
        },
    },
    files::{self, Content, Lookup, Node},
};

/// An open file or directory.
pub struct Descriptor(Arc<Node>);

/// A directory being listed.
pub struct Entries(std::vec::IntoIter<DirectoryEntry>);

/// Why an operation fails.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// The workload is told this code.
    #[error("{0}")]
    Code(ErrorCode),
    /// A handle that the workload does not hold: a trap.
    #[error(transparent)]
    Handle(#[from] ResourceTableError),
}

type FsResult<T> = Result<T, FsError>;

impl From<ErrorCode> for FsError {
    fn from(code: ErrorCode) -> Self {
        Self::Code(code)
    }
}

impl From<Lookup> for FsError {
    fn from(fault: Lookup) -> Self {
        Self::Code(match fault {
            Lookup::Absent => ErrorCode::NoEntry,
            Lookup::NotADirectory => ErrorCode::NotDirectory,
            Lookup::Outside => ErrorCode::NotPermitted,
            Lookup::Malformed => ErrorCode::Invalid,
        })
    }
}

/// One instance's view of the tree.
pub struct Filesystem<'a> {
    pub(crate) root: &'a Arc<Node>,
    pub(crate) table: &'a mut ResourceTable,
}

struct HasFilesystem;

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

impl Node {
    fn kind(&self) -> DescriptorType {
        match self.content {
            Content::Directory(_) => DescriptorType::Directory,
            Content::File(_) => DescriptorType::RegularFile,
        }
    }

    fn size(&self) -> u64 {
        match &self.content {
            Content::Directory(_) => 0,
            Content::File(bytes) => bytes.len() as u64,
        }
    }

    fn stat(&self) -> DescriptorStat {
        DescriptorStat {
            type_: self.kind(),
            link_count: 1,
            size: self.size(),
            data_access_timestamp: None,
            data_modification_timestamp: None,
            status_change_timestamp: None,
        }
    }

    fn metadata_hash(&self) -> MetadataHashValue {
        MetadataHashValue { lower: self.id, upper: self.size() }
    }
}

impl Filesystem<'_> {
    fn node(&self, descriptor: &Resource<Descriptor>) -> FsResult<Arc<Node>> {
        Ok(Arc::clone(&self.table.get(descriptor)?.0))
    }

    fn at(&self, descriptor: &Resource<Descriptor>, path: &str) -> FsResult<Arc<Node>> {
        Ok(files::resolve(&self.node(descriptor)?, path)?)
    }

    fn bytes(&self, descriptor: &Resource<Descriptor>) -> FsResult<bytes::Bytes> {
        match &self.node(descriptor)?.content {
            Content::File(bytes) => Ok(bytes.clone()),
            Content::Directory(_) => Err(ErrorCode::IsDirectory.into()),
        }
    }

    fn read_only<T>(&self, descriptor: &Resource<Descriptor>) -> FsResult<T> {
        self.node(descriptor)?;
        Err(ErrorCode::ReadOnly.into())
    }
}

impl preopens::Host for Filesystem<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let root = self.table.push(Descriptor(Arc::clone(self.root)))?;
        Ok(vec![(root, "/".to_owned())])
    }
}

impl types::Host for Filesystem<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        match error {
            FsError::Code(code) => Ok(code),
            FsError::Handle(error) => Err(error.into()),
        }
    }

    fn filesystem_error_code(
        &mut self,
        _error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(None)
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
        let bytes = self.bytes(&descriptor)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let stream: DynInputStream = Box::new(MemoryInputPipe::new(bytes.slice(from..)));
        Ok(self.table.push(stream)?)
    }

    fn read(
        &mut self,
        descriptor: Resource<Descriptor>,
        length: Filesize,
        offset: Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        let bytes = self.bytes(&descriptor)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let rest = &bytes[from..];
        let read = &rest[..usize::try_from(length).unwrap_or(usize::MAX).min(rest.len())];
        Ok((read.to_vec(), read.len() == rest.len()))
    }

    fn open_at(
        &mut self,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let writes = DescriptorFlags::WRITE | DescriptorFlags::MUTATE_DIRECTORY;
        if flags.intersects(writes) || open.intersects(OpenFlags::CREATE | OpenFlags::TRUNCATE) {
            return Err(ErrorCode::ReadOnly.into());
        }
        let node = self.at(&directory, &path)?;
        if open.contains(OpenFlags::DIRECTORY) && !matches!(node.content, Content::Directory(_)) {
            return Err(ErrorCode::NotDirectory.into());
        }
        Ok(self.table.push(Descriptor(node))?)
    }

    fn read_directory(&mut self, directory: Resource<Descriptor>) -> FsResult<Resource<Entries>> {
        let node = self.node(&directory)?;
        let Content::Directory(entries) = &node.content else {
            return Err(ErrorCode::NotDirectory.into());
        };
        let entries: Vec<_> = entries
            .iter()
            .map(|(name, node)| DirectoryEntry { type_: node.kind(), name: name.clone() })
            .collect();
        Ok(self.table.push(Entries(entries.into_iter()))?)
    }

    fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.node(&descriptor)?;
        Ok(DescriptorFlags::READ)
    }

    fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        Ok(self.node(&descriptor)?.kind())
    }

    fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        Ok(self.node(&descriptor)?.stat())
    }

    fn stat_at(
        &mut self,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        Ok(self.at(&directory, &path)?.stat())
    }

    fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        Ok(self.table.get(&a)?.0.id == self.table.get(&b)?.0.id)
    }

    fn metadata_hash(&mut self, descriptor: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        Ok(self.node(&descriptor)?.metadata_hash())
    }

    fn metadata_hash_at(
        &mut self,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(self.at(&directory, &path)?.metadata_hash())
    }

    fn advise(
        &mut self,
        descriptor: Resource<Descriptor>,
        _offset: Filesize,
        _length: Filesize,
        _advice: Advice,
    ) -> FsResult<()> {
        self.node(&descriptor).map(drop)
    }

    fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.node(&descriptor).map(drop)
    }

    fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.node(&descriptor).map(drop)
    }

    fn readlink_at(&mut self, directory: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.at(&directory, &path)?;
        Err(ErrorCode::Invalid.into())
    }

    fn write_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        _offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.read_only(&descriptor)
    }

    fn append_via_stream(&mut self, descriptor: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.read_only(&descriptor)
    }

    fn write(
        &mut self,
        descriptor: Resource<Descriptor>,
        _bytes: Vec<u8>,
        _offset: Filesize,
    ) -> FsResult<Filesize> {
        self.read_only(&descriptor)
    }

    fn set_size(&mut self, descriptor: Resource<Descriptor>, _size: Filesize) -> FsResult<()> {
        self.read_only(&descriptor)
    }

    fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        _accessed: NewTimestamp,
        _modified: NewTimestamp,
    ) -> FsResult<()> {
        self.read_only(&descriptor)
    }

    fn set_times_at(
        &mut self,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        _path: String,
        _accessed: NewTimestamp,
        _modified: NewTimestamp,
    ) -> FsResult<()> {
        self.read_only(&directory)
    }

    fn create_directory_at(&mut self, directory: Resource<Descriptor>, _path: String) -> FsResult<()> {
        self.read_only(&directory)
    }

    fn link_at(
        &mut self,
        directory: Resource<Descriptor>,
        _path_flags: PathFlags,
        _old: String,
        _new_directory: Resource<Descriptor>,
        _new: String,
    ) -> FsResult<()> {
        self.read_only(&directory)
    }

    fn symlink_at(&mut self, directory: Resource<Descriptor>, _old: String, _new: String) -> FsResult<()> {
        self.read_only(&directory)
    }

    fn rename_at(
        &mut self,
        directory: Resource<Descriptor>,
        _old: String,
        _new_directory: Resource<Descriptor>,
        _new: String,
    ) -> FsResult<()> {
        self.read_only(&directory)
    }

    fn remove_directory_at(&mut self, directory: Resource<Descriptor>, _path: String) -> FsResult<()> {
        self.read_only(&directory)
    }

    fn unlink_file_at(&mut self, directory: Resource<Descriptor>, _path: String) -> FsResult<()> {
        self.read_only(&directory)
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.table.delete(descriptor)?;
        Ok(())
    }
}
