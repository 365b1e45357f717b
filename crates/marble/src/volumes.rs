//! The coordinator as the memory of a volume: its key, and its newest commit.
//!
//! It is asked over an attested connection that stays; when that breaks, or the mesh's manifest was updated, over a new
//! one. A step whose answer was lost is asked for again: the coordinator grants one that it has taken already.
//!
//! These connections have a thread of their own ([`connections`]). Whoever waits for an anchor blocks its thread, and who
//! waits for that thread may block one of the program's runtime: were the answer carried by the same runtime, it would
//! never come.

use std::{
    future::pending,
    io,
    sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
};

use mesh_api::{
    AdvanceVolumeRequest, OpenVolumeRequest, OpenVolumeResponse, ReadVolumeHeadRequest, VolumeHead,
    mesh_client::MeshClient,
};
use tokio::runtime::{Builder, Handle};
use tonic::transport::Channel;
use volume::{Anchor, AnchorError, Head};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    error::{MeshError, refused},
    member::Member,
};

/// What an instance wants of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// To read it and follow its head. Nothing is taken from the one that writes it.
    Read,
    /// To write it: from now on nobody else may, and whoever did is refused at its next commit.
    Write,
}

/// A volume that the coordinator opened for this instance.
pub struct OpenedVolume {
    /// Its key, the same for as long as the mesh has a Marble and a volume of these names.
    pub key: Zeroizing<[u8; 32]>,
    /// Its newest commit at that moment; `None`: it was never written.
    pub head: Option<Head>,
    /// What remembers it.
    pub volume: Volume,
}

/// Why the coordinator will not move a head for this instance any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// Stable: `VOLUME_TAKEN`, `VOLUME_MOVED`, `EVICTED`.
    pub code: String,
    /// The coordinator's sentence.
    pub reason: String,
}

/// A volume's newest commit in the memory of the coordinator. Copies are the same one. All its methods but
/// [`Volume::refusal`] wait for the network: they are not for async threads.
#[derive(Clone)]
pub struct Volume(Arc<Shared>);

struct Shared {
    member: Member,
    name: String,
    connections: &'static Handle,
    refused: OnceLock<Refused>,
    state: Mutex<State>,
}

struct State {
    client: Option<MeshClient<Channel>>,
    wants: Use,
    /// Where it stood when it last said so.
    known: Option<Head>,
}

impl Member {
    /// Has a volume of this Marble opened: key and newest commit. Only for an instance that was activated.
    ///
    /// # Errors
    /// See [`MeshError`].
    pub async fn open_volume(&self, name: &str, wants: Use) -> Result<OpenedVolume, MeshError> {
        let connections = connections()?;
        let (member, volume) = (self.clone(), name.to_owned());
        let opening = connections.spawn(async move {
            let (mut client, _) = member.connect().await?;
            let (key, head) = open(&mut client, &volume, wants).await?;
            Ok::<_, MeshError>((client, key, head))
        });
        let (client, key, head) = opening.await.map_err(|error| MeshError::Internal(error.to_string()))??;
        let shared = Shared {
            member: self.clone(),
            name: name.to_owned(),
            connections,
            refused: OnceLock::new(),
            state: Mutex::new(State { client: Some(client), wants, known: head }),
        };
        Ok(OpenedVolume { key, head, volume: Volume(Arc::new(shared)) })
    }
}

/// The runtime of all volumes' connections, on a thread that does nothing else.
fn connections() -> Result<&'static Handle, MeshError> {
    static CONNECTIONS: LazyLock<io::Result<Handle>> = LazyLock::new(|| {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().name("volumes".into()).spawn(move || runtime.block_on(pending::<()>()))?;
        Ok(handle)
    });
    CONNECTIONS.as_ref().map_err(|error| MeshError::Internal(error.to_string()))
}

async fn open(
    client: &mut MeshClient<Channel>,
    name: &str,
    wants: Use,
) -> Result<(Zeroizing<[u8; 32]>, Option<Head>), MeshError> {
    let request = OpenVolumeRequest { name: name.to_owned(), read_only: wants == Use::Read };
    let mut response: OpenVolumeResponse = client.open_volume(request).await.map_err(refused)?.into_inner();
    let key = response.key.as_slice().try_into().ok().map(Zeroizing::new);
    response.key.zeroize();
    let key = key.ok_or(MeshError::Incomplete("volume's key"))?;
    Ok((key, head(response.head)?))
}

fn head(wire: Option<VolumeHead>) -> Result<Option<Head>, MeshError> {
    let head = |head: VolumeHead| {
        let hash = head.hash.try_into().map_err(|_| MeshError::Incomplete("volume's head"))?;
        Ok(Head { sequence: head.sequence, hash })
    };
    wire.map(head).transpose()
}

fn wire(head: Head) -> VolumeHead {
    VolumeHead { sequence: head.sequence, hash: head.hash.to_vec() }
}

/// The refusal that no other connection would mend.
fn last_word(error: &MeshError) -> Option<Refused> {
    match error {
        MeshError::Refused { code, reason }
            if matches!(code.as_str(), "VOLUME_MOVED" | "VOLUME_TAKEN" | "EVICTED") =>
        {
            Some(Refused { code: code.clone(), reason: reason.clone() })
        }
        _ => None,
    }
}

fn unreachable(error: &MeshError) -> AnchorError {
    AnchorError::Unreachable(format!("{error} ({})", error.codes().join(",")))
}

impl Volume {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing more is written by this instance; `None`: nothing was refused for good yet.
    pub fn refusal(&self) -> Option<&Refused> {
        self.0.refused.get()
    }

    /// Opens it to write, where it was opened to be read: from now on nobody else moves its head, so it is where the
    /// history ends. Gives that head.
    ///
    /// # Errors
    /// See [`MeshError`]; then it is open to be read, as before.
    pub fn take(&self) -> Result<Option<Head>, MeshError> {
        let mut state = self.state();
        let taking = async {
            let (mut client, _) = self.0.member.connect().await?;
            let (_, head) = open(&mut client, &self.0.name, Use::Write).await?;
            Ok::<_, MeshError>((client, head))
        };
        let (client, head) = self.0.connections.block_on(taking)?;
        *state = State { client: Some(client), wants: Use::Write, known: head };
        Ok(head)
    }

    /// Asks whether it is still this instance's to write. An instance that has nothing to commit would not hear
    /// otherwise that another one took it.
    ///
    /// # Errors
    /// [`AnchorError::Moved`]: it is not; or the coordinator does not answer, and nothing is known.
    pub fn hold(&self) -> Result<(), AnchorError> {
        let mut state = self.state();
        // Nothing is served from a volume that was never written.
        let (Use::Write, Some(known)) = (state.wants, state.known) else { return Ok(()) };
        match self.moves(&mut state, Some(known), known) {
            // A step of which the answer was lost: the volume is this instance's all the same.
            Err(MeshError::Refused { code, .. }) if code == "VOLUME_MOVED" => Ok(()),
            moved => self.told(moved),
        }
    }

    fn moves(&self, state: &mut State, from: Option<Head>, to: Head) -> Result<(), MeshError> {
        let name = self.0.name.clone();
        let request = AdvanceVolumeRequest { name, from: from.map(wire), to: Some(wire(to)) };
        let ask = async |client: &mut MeshClient<Channel>| {
            client.advance_volume(request.clone()).await.map(|_| ()).map_err(refused)
        };
        self.0.connections.block_on(self.ask(&mut state.client, ask))
    }

    fn told(&self, moved: Result<(), MeshError>) -> Result<(), AnchorError> {
        let Err(error) = moved else { return Ok(()) };
        match last_word(&error) {
            Some(refused) => {
                // Of several, the first counts.
                let _ = self.0.refused.set(refused);
                Err(AnchorError::Moved)
            }
            None => Err(unreachable(&error)),
        }
    }

    /// Over the connection that there is; where that is broken, or is of an epoch that is over, over a new one.
    async fn ask<T>(
        &self,
        client: &mut Option<MeshClient<Channel>>,
        ask: impl AsyncFn(&mut MeshClient<Channel>) -> Result<T, MeshError>,
    ) -> Result<T, MeshError> {
        if let Some(known) = client {
            match ask(known).await {
                Err(error) if last_word(&error).is_none() => *client = None,
                answered => return answered,
            }
        }
        let (mut fresh, _) = self.0.member.connect().await?;
        let answer = ask(&mut fresh).await?;
        *client = Some(fresh);
        Ok(answer)
    }
}

impl Anchor for Volume {
    /// To the one that writes, where it left it; to one that reads, where the coordinator says that it is now.
    fn current(&self) -> Result<Option<Head>, AnchorError> {
        let mut state = self.state();
        if state.wants == Use::Read {
            let request = ReadVolumeHeadRequest { name: self.0.name.clone() };
            let ask = async |client: &mut MeshClient<Channel>| {
                head(client.read_volume_head(request.clone()).await.map_err(refused)?.into_inner().head)
            };
            let asked = self.0.connections.block_on(self.ask(&mut state.client, ask));
            state.known = asked.map_err(|error| unreachable(&error))?;
        }
        Ok(state.known)
    }

    fn advance(&self, from: Option<Head>, to: Head) -> Result<(), AnchorError> {
        let mut state = self.state();
        if state.wants == Use::Read || self.0.refused.get().is_some() {
            return Err(AnchorError::Moved);
        }
        let moved = self.moves(&mut state, from, to);
        if moved.is_ok() {
            state.known = Some(to);
        }
        self.told(moved)
    }
}
