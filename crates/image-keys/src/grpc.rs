//! The provider as ocicrypt's gRPC service, for callers on this machine only: a socket of loopback, or one of the file
//! system that only its owner may use.

use std::{
    io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, transport::Server};

use crate::{BackendError, KekError, Operation, Provider, ProviderError, protocol::MAX_REQUEST};

#[expect(missing_docs, clippy::doc_markdown, reason = "generated code")]
mod generated {
    tonic::include_proto!("keyprovider");
}

pub use generated::{
    KeyProviderKeyWrapProtocolInput as Input, KeyProviderKeyWrapProtocolOutput as Output,
    key_provider_service_client::KeyProviderServiceClient as Client,
    key_provider_service_server::KeyProviderServiceServer as Service,
};

/// For one request: the coordinator may ask a store.
const REQUEST: Duration = Duration::from_secs(60);
/// ocicrypt calls once a layer, skopeo for a few layers at a time.
const AT_ONCE: usize = 64;
/// Callers that wait to be let in.
const BACKLOG: i32 = 128;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Whoever reaches the provider gets layer keys from it.
    #[error("{0} is not an address of loopback, and a key provider is for this machine only")]
    NotLoopback(SocketAddr),
    /// The socket.
    #[error("the key provider cannot listen there")]
    Socket(#[from] io::Error),
    /// The transport.
    #[error("the key provider ended")]
    Transport(#[from] tonic::transport::Error),
}

/// Where callers find a provider.
pub enum Listener {
    /// An address of loopback. Every user of this machine can reach it.
    Tcp(TcpListener),
    /// A socket that only its owner can use; it is taken away at the end.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Listens on an address of loopback.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub async fn loopback(address: SocketAddr) -> Result<Self, ListenError> {
        if !address.ip().is_loopback() {
            return Err(ListenError::NotLoopback(address));
        }
        Ok(Self::Tcp(TcpListener::bind(address).await?))
    }

    /// Listens on a new socket of mode 0600.
    ///
    /// # Errors
    /// See [`ListenError`]. What is there already is not replaced.
    pub fn unix(path: &Path) -> Result<Self, ListenError> {
        let address = SocketAddrUnix::new(path).map_err(io::Error::from)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(io::Error::from)?;
        net::bind(&socket, &address).map_err(io::Error::from)?;
        // Nobody can connect before it listens, so it is never open to others.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        net::listen(&socket, BACKLOG).map_err(io::Error::from)?;
        Ok(Self::Unix(UnixListener::from_std(socket.into())?, path.to_owned()))
    }

    /// As ocicrypt's configuration has it under `grpc`.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn target(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Self::Unix(_, path) => Ok(format!("unix://{}", std::path::absolute(path)?.display())),
        }
    }
}

/// Serves until `shutdown`.
///
/// # Errors
/// See [`ListenError`].
pub async fn serve(
    provider: Provider,
    listener: Listener,
    shutdown: CancellationToken,
) -> Result<(), ListenError> {
    let service = Service::new(Answering(provider)).max_decoding_message_size(MAX_REQUEST);
    let server =
        Server::builder().timeout(REQUEST).concurrency_limit_per_connection(AT_ONCE).add_service(service);
    match listener {
        Listener::Tcp(listener) => {
            let incoming = TcpListenerStream::new(listener);
            server.serve_with_incoming_shutdown(incoming, shutdown.cancelled()).await?;
        }
        Listener::Unix(listener, path) => {
            let incoming = UnixListenerStream::new(listener);
            let served = server.serve_with_incoming_shutdown(incoming, shutdown.cancelled()).await;
            // Somebody else may have taken it away already.
            let _ = std::fs::remove_file(path);
            served?;
        }
    }
    Ok(())
}

struct Answering(Provider);

impl Answering {
    async fn answer(
        &self,
        operation: Operation,
        request: Request<Input>,
    ) -> Result<Response<Output>, Status> {
        let request = request.into_inner().key_provider_key_wrap_protocol_input;
        let answer = self.0.answer_to(operation, &request).await.map_err(|error| status(&error))?;
        Ok(Response::new(Output { key_provider_key_wrap_protocol_output: answer.to_vec() }))
    }
}

#[tonic::async_trait]
impl generated::key_provider_service_server::KeyProviderService for Answering {
    async fn wrap_key(&self, request: Request<Input>) -> Result<Response<Output>, Status> {
        self.answer(Operation::Wrap, request).await
    }

    async fn un_wrap_key(&self, request: Request<Input>) -> Result<Response<Output>, Status> {
        self.answer(Operation::Unwrap, request).await
    }
}

/// The one place where a failure becomes a status of gRPC. ocicrypt shows the words to whoever runs it.
fn status(error: &ProviderError) -> Status {
    let mut words = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    match error {
        ProviderError::Request(_)
        | ProviderError::Parameter(_)
        | ProviderError::NoParameter
        | ProviderError::SeveralParameters
        | ProviderError::Packet(_) => Status::invalid_argument(words),
        ProviderError::NotOffered(_) => Status::unimplemented(words),
        ProviderError::Backend(BackendError::Refused(_) | BackendError::Kek(KekError::NotOpened)) => {
            Status::permission_denied(words)
        }
        ProviderError::Backend(BackendError::Unavailable(_)) => Status::unavailable(words),
        ProviderError::Backend(BackendError::Kek(_)) => Status::failed_precondition(words),
    }
}
