//! What each command does: arguments → settings → [`Guest`] → output. Errors become one sentence, its causes, and what
//! mends it.

mod failure;
mod output;
mod spiffe;

use std::{
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::image_keys::grpc;
use attester::{AttesterError, Tee};
use evidence::ReportData;
use sealed_secret::{MAX_SEALED, Sealed};
use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::{
    Guest,
    arguments::{Command, Connection, EvidenceCommand, Get, Run, Serve, TokenCommand, Unseal},
    broker::{Broker, Mode},
    commands::output::{put, say},
    evidence::{Attester, EvidenceError},
    image_keys,
    init_data::Measured,
    rest,
    run::{Invocation, Place, Signals, VariableName},
    settings::{KnownBroker, MAX_CONFIGURATION, Said, roots},
    source::Source,
    transport::Transport,
};
pub use failure::Failure;

/// The TEE that this process runs in, or why there is none: taken first thing in `main`.
pub type Detected = Result<Box<dyn Tee>, AttesterError>;

/// Runs a command, and gives the exit code.
///
/// # Errors
/// See [`Failure`].
pub async fn run(command: Command, detected: Detected) -> Result<u8, Failure> {
    match command {
        Command::Evidence(command) => print_evidence(&command, detected).await?,
        Command::Token(command) => print_token(command, detected).await?,
        Command::Get(command) => get(command, detected).await?,
        Command::Unseal(command) => unseal(command, detected).await?,
        Command::Serve(command) => serve(command, detected).await?,
        Command::Run(command) => return run_command(command, detected).await,
        Command::Spiffe(command) => spiffe::run(command, detected).await?,
    }
    Ok(0)
}

async fn print_evidence(command: &EvidenceCommand, detected: Detected) -> Result<(), Failure> {
    let tee: Arc<dyn Tee> = Arc::from(detected.map_err(Failure::no_tee)?);
    let HexBytes { data, padded } = padded(&command.report_data.0)?;
    if command.raw {
        let raw = tee.evidence(&padded).map_err(|error| Failure::of(EvidenceError::Attester(error)))?;
        return put(&raw.evidence);
    }
    let evidence = Attester::Tee(tee).evidence(&data).await.map_err(Failure::of)?;
    say(&evidence)
}

struct HexBytes {
    data: Vec<u8>,
    padded: ReportData,
}

fn padded(data: &[u8]) -> Result<HexBytes, Failure> {
    let mut padded = [0; 64];
    let too_long = || Failure::of(EvidenceError::TooLong { length: data.len() });
    padded.get_mut(..data.len()).ok_or_else(too_long)?.copy_from_slice(data);
    Ok(HexBytes { data: data.to_vec(), padded: ReportData(padded) })
}

async fn print_token(command: TokenCommand, detected: Detected) -> Result<(), Failure> {
    let guest = guest(command.connection, detected)?;
    let token = guest.broker().token().await.map_err(Failure::of)?;
    if command.with_key { say(&token.to_json()) } else { say(&token.jwt()) }
}

async fn get(command: Get, detected: Detected) -> Result<(), Failure> {
    let guest = guest(command.connection, detected)?;
    let value = guest.broker().resource(&command.resource).await.map_err(Failure::of)?;
    output::give(&value, command.output.as_deref())
}

async fn unseal(command: Unseal, detected: Detected) -> Result<(), Failure> {
    let text = match command.sealed.as_str() {
        text if text.starts_with("sealed.") => text.to_owned(),
        "-" => read_text("standard input", std::io::stdin(), MAX_SEALED)?,
        path => read_file(Path::new(path), MAX_SEALED)?,
    };
    let sealed =
        Sealed::parse(&text).map_err(|error| Failure::of(crate::GuestError::Unseal(error.into())))?;
    let guest = guest(command.connection, detected)?;
    let value = guest.secret(Source::Sealed(Box::new(sealed))).await.map_err(Failure::of)?;
    output::give(&value, command.output.as_deref())
}

async fn serve(command: Serve, detected: Detected) -> Result<(), Failure> {
    let listener = listen(command.listen).await?;
    let address = listener.local_addr().map_err(|error| Failure::system("asking for the address", error))?;
    let keys = match command.key_provider {
        None => None,
        Some(address) => Some(grpc::Listener::loopback(address).await.map_err(Failure::key_provider)?),
    };
    let at = keys.as_ref().map(grpc::Listener::target).transpose();
    let at = at.map_err(|error| Failure::system("asking for the key provider's address", error))?;
    let guest = Arc::new(guest(command.connection, detected)?);
    let (mut terminate, mut interrupt) =
        (listener_for(SignalKind::terminate())?, listener_for(SignalKind::interrupt())?);
    if command.json {
        say(
            &json!({ "event": "ready", "api": address.to_string(), "key_provider": at, "pid": std::process::id() }),
        )?;
    } else {
        say(&format!("ready: the local API is http://{address}"))?;
        if let Some(at) = at {
            say(&format!("ready: the key provider of ocicrypt is {at} (grpc)"))?;
        }
    }
    let provider = image_keys::provider(Arc::clone(&guest));
    let serving_keys = async {
        match keys {
            Some(listener) => grpc::serve(provider, listener, CancellationToken::new()).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = rest::serve(listener, guest, command.offer) => {}
        ended = serving_keys => ended.map_err(Failure::key_provider)?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn listener_for(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::system("listening for signals", error))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    if !address.ip().is_loopback() {
        return Err(Failure::not_loopback(address));
    }
    TcpListener::bind(address).await.map_err(|error| Failure::system("listening on the address", error))
}

async fn run_command(command: Run, detected: Detected) -> Result<u8, Failure> {
    let unstarted = |failure: Failure| failure.exiting_with(125);
    let mut signals = Signals::listen().map_err(Failure::run)?;
    let guest = guest(command.connection, detected).map_err(unstarted)?;
    // What was written is taken away on every way out of here.
    let prepared = tokio::select! {
        prepared = prepare(&guest, command.files, command.variables) => prepared.map_err(unstarted)?,
        code = signals.end() => return Ok(code),
    };
    let invocation = Invocation { command: command.command, secrets: prepared.variables, kept: command.kept };
    invocation.run(prepared.place.as_ref(), &mut signals).await.map_err(Failure::run)
}

/// Secrets where a command is to find them.
struct Prepared {
    place: Option<Place>,
    variables: Vec<(VariableName, Zeroizing<Vec<u8>>)>,
}

async fn prepare(
    guest: &Guest,
    files: Vec<(PathBuf, Source)>,
    assigned: Vec<(VariableName, Source)>,
) -> Result<Prepared, Failure> {
    let mut place = if files.is_empty() { None } else { Some(Place::create().map_err(Failure::place)?) };
    for (path, source) in files {
        let secret = guest.secret(source).await.map_err(Failure::of)?;
        if let Some(place) = &mut place {
            place.write(&path, &secret).map_err(Failure::place)?;
        }
    }
    let mut variables = Vec::new();
    for (name, source) in assigned {
        variables.push((name, guest.secret(source).await.map_err(Failure::of)?));
    }
    Ok(Prepared { place, variables })
}

/// The guest, with the broker that measured init-data, the configuration and the arguments settle on.
fn guest(connection: Connection, detected: Detected) -> Result<Guest, Failure> {
    let (attester, measured) = if connection.sample {
        (Attester::Sample, None)
    } else {
        let tee: Arc<dyn Tee> = Arc::from(detected.map_err(Failure::no_tee)?);
        let given = connection.init_data.as_deref().map(|path| read_bytes(path, rcar::MAX_INIT_DATA));
        let measured = Measured::of(&*tee, given.transpose()?.as_deref()).map_err(Failure::of)?;
        (Attester::Tee(tee), measured)
    };
    let file = match &connection.config {
        Some(path) => Said::from_toml(&read_file(path, MAX_CONFIGURATION)?).map_err(Failure::of)?,
        None => Said::default(),
    };
    let root =
        connection.broker_root.as_deref().map(|path| read_bytes(path, MAX_CONFIGURATION)).transpose()?;
    let roots = root.as_deref().map(roots).transpose().map_err(Failure::of)?;
    let arguments = Said { url: connection.broker, roots };
    let pinned = measured.as_ref().map(|measured| measured.broker().clone()).unwrap_or_default();
    let known = KnownBroker::settle(&pinned, &file, &arguments).map_err(Failure::of)?;
    let transport = Transport::new(known.url, &known.roots)
        .map_err(|error| Failure::of(crate::broker::BrokerError::from(error)))?;
    let init_data = measured.map(|measured| measured.init_data().clone());
    let mode = if connection.passport { Mode::Passport } else { Mode::Session };
    let broker = Broker::new(transport, attester.clone(), init_data, mode);
    Ok(Guest::new(attester, broker, connection.sealing_keys))
}

fn read_bytes(path: &Path, limit: usize) -> Result<Vec<u8>, Failure> {
    let file = std::fs::File::open(path).map_err(|error| Failure::file(path, error))?;
    let mut bytes = Vec::new();
    let count =
        file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|error| Failure::file(path, error))?;
    if count > limit { Err(Failure::too_long(path, limit)) } else { Ok(bytes) }
}

fn read_file(path: &Path, limit: usize) -> Result<String, Failure> {
    String::from_utf8(read_bytes(path, limit)?).map_err(|_| Failure::no_text(path))
}

fn read_text(what: &str, reader: impl Read, limit: usize) -> Result<String, Failure> {
    let mut text = String::new();
    reader
        .take(limit as u64 + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::file(Path::new(what), error))?;
    if text.len() > limit { Err(Failure::too_long(Path::new(what), limit)) } else { Ok(text) }
}
