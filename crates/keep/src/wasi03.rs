//! What the Keep implements itself of WASI 0.3: `wasi:filesystem` over the tree of [`crate::vfs`], and `wasi:sockets`
//! over [`crate::net`]. It is the world of 0.2 with other calls: the same files and descriptors, the same rules about
//! listening and connecting ([`crate::sockets`]), the same limits.
//!
//! In 0.3 a stream comes with a future that tells how it ended. [`End`] is the Keep's side of that future.

use tokio::sync::oneshot;
use wasmtime::component::{Linker, ResourceTableError};

use crate::{
    filesystem::{Filesystem, HasFilesystem},
    limit::Exceeded,
    sockets::{HasSockets, Sockets},
};

pub(crate) mod bindings;
mod filesystem;
mod sockets;

/// Links the interfaces of this module.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    files: fn(&mut T) -> Filesystem<'_>,
    sockets: fn(&mut T) -> Sockets<'_>,
) -> wasmtime::Result<()> {
    bindings::filesystem::types::add_to_linker::<T, HasFilesystem>(linker, files)?;
    bindings::filesystem::preopens::add_to_linker::<T, HasFilesystem>(linker, files)?;
    bindings::sockets::types::add_to_linker::<T, HasSockets>(linker, sockets)?;
    bindings::sockets::ip_name_lookup::add_to_linker::<T, HasSockets>(linker, sockets)
}

/// Why a call fails.
#[derive(Debug)]
pub enum Refusal<C> {
    /// The component is told this code.
    Code(C),
    /// The component is ended: it exceeded a limit, or named what it does not hold.
    End(wasmtime::Error),
}

impl<C> Refusal<C> {
    /// The code, or what ends the component.
    fn code(self) -> wasmtime::Result<C> {
        match self {
            Self::Code(code) => Ok(code),
            Self::End(error) => Err(error),
        }
    }
}

impl<C> From<ResourceTableError> for Refusal<C> {
    fn from(error: ResourceTableError) -> Self {
        Self::End(error.into())
    }
}

impl<C> From<Exceeded> for Refusal<C> {
    fn from(exceeded: Exceeded) -> Self {
        Self::End(exceeded.into())
    }
}

impl<C> From<wasmtime::Error> for Refusal<C> {
    fn from(error: wasmtime::Error) -> Self {
        Self::End(error)
    }
}

/// Tells, once, how a stream ended. One of which nothing is told before it is dropped has ended well.
struct End<C>(Option<oneshot::Sender<Result<(), C>>>);

/// What the component waits for.
type Ended<C> = oneshot::Receiver<Result<(), C>>;

impl<C> End<C> {
    fn new() -> (Self, Ended<C>) {
        let (told, ended) = oneshot::channel();
        (Self(Some(told)), ended)
    }

    fn tell(&mut self, how: Result<(), C>) {
        if let Some(told) = self.0.take() {
            // Nobody need want to know.
            let _ = told.send(how);
        }
    }
}

impl<C> Drop for End<C> {
    fn drop(&mut self) {
        self.tell(Ok(()));
    }
}
