//! `bailey image`: container images whose layers only attested guests can read, and the image of the virtual machines
//! that hold Keeps.

mod build;
mod encrypt;
mod guest;
mod keys;
mod measure;
mod show;

use std::{
    io::{Read, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, Subcommand};
use image_keys::{
    Provider,
    grpc::{self, ListenError, Listener},
    protocol::MAX_REQUEST,
};
use tokio_util::sync::CancellationToken;

use self::keys::Keys;
use crate::{
    commands::remote::{Person, Remote},
    failure::{Failure, Outcome},
};

/// What is said of skopeos that cannot do it.
const SKOPEO: &str =
    "apt-get install skopeo, of Debian 13 or later: Debian 12's was built without key providers";

/// Encrypt container images for attested guests; build the image of the guest that holds a Keep.
#[derive(Subcommand)]
pub enum Command {
    /// Answer skopeo, buildah and others that ask for layer keys to be wrapped, as ocicrypt's key provider
    Keyprovider(Keyprovider),
    /// Encrypt an image with skopeo and a key that the coordinator keeps
    Encrypt(encrypt::Encrypt),
    /// Show who wrapped the layer keys of an encrypted image, and by which key
    Show(show::Show),
    /// Build the image of a virtual machine that holds one Keep
    Build(build::Build),
    /// Say what such an image measures to: reference values for TPM, SEV-SNP and TDX
    Measure(measure::Measure),
}

impl Command {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match self {
            Self::Keyprovider(provider) => provider.run().await,
            Self::Encrypt(encrypt) => encrypt.run().await,
            Self::Show(show) => show.run(),
            Self::Build(build) => build.run(),
            Self::Measure(measure) => measure.run(),
        }
    }
}

/// In ocicrypt's configuration, the file that OCICRYPT_KEYPROVIDER_CONFIG names, it is {"key-providers": {"bailey":
/// {"grpc": "127.0.0.1:50000"}}}, or {"cmd": {"path": "bailey", "args": ["image", "keyprovider", "--command", …]}}. The
/// parameter is the key's name: skopeo copy --encryption-key provider:bailey:kbs:///REPOSITORY/TYPE/TAG.
#[derive(Args)]
pub struct Keyprovider {
    /// Where to listen: an address of loopback, or unix:PATH for a socket that only you can use
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50000", conflicts_with = "command")]
    listen: String,
    /// Answer one request, from standard input on standard output
    #[arg(long)]
    command: bool,
    /// Read the key from the coordinator and wrap here, instead of there; for keys that you may read
    #[arg(long)]
    local: bool,
    /// Unwrap as well, by keys that you may read
    #[arg(long, requires = "local")]
    unwrap: bool,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
}

impl Keyprovider {
    async fn run(self) -> Outcome {
        if self.command && self.person.reads_standard_input() {
            return Err(Failure::malformed(
                "standard input is the request's, and cannot be a token or PIN too",
            )
            .hint("give the token or the PIN by a file"));
        }
        let keys = Keys::new(self.remote.client(Some(&self.person))?, self.local);
        let provider = match self.unwrap {
            true => Provider::default().wrapping(keys.clone()).unwrapping(keys),
            false => Provider::default().wrapping(keys),
        };
        if self.command {
            return command(&provider).await;
        }
        let listener = listener(&self.listen).await?;
        let target = listener.target().context("the socket has no address")?;
        crate::say!("key provider at {target}; Ctrl-C ends it");
        let stop = CancellationToken::new();
        let served = tokio::spawn(grpc::serve(provider, listener, stop.clone()));
        tokio::select! {
            _ = tokio::signal::ctrl_c() => stop.cancel(),
            () = ended() => stop.cancel(),
        }
        served.await.context("the key provider ended")?.map_err(|error| anyhow::Error::from(error).into())
    }
}

/// When whoever started us wants us to end.
async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut signal) => drop(signal.recv().await),
        Err(_) => std::future::pending().await,
    }
}

async fn listener(text: &str) -> Outcome<Listener> {
    if let Some(path) = text.strip_prefix("unix:") {
        return Listener::unix(Path::new(path)).map_err(|error| not_listening(error, text));
    }
    let address: SocketAddr = text.parse().map_err(|_| {
        Failure::malformed(format!(
            "--listen {text:?} is neither an address such as 127.0.0.1:50000 nor unix:PATH"
        ))
    })?;
    Listener::loopback(address).await.map_err(|error| not_listening(error, text))
}

fn not_listening(error: ListenError, text: &str) -> Failure {
    let hint = match &error {
        ListenError::NotLoopback(_) => "listen on 127.0.0.1, or on unix:PATH; other machines run their own",
        _ => "another program may be there already; --listen takes another address",
    };
    Failure::from(anyhow::Error::from(error).context(format!("nothing listens on {text}"))).hint(hint)
}

/// ocicrypt's command form: nothing is printed unless it is the answer.
async fn command(provider: &Provider) -> Outcome {
    let mut request = zeroize::Zeroizing::new(Vec::new());
    std::io::stdin()
        .take(MAX_REQUEST as u64 + 1)
        .read_to_end(&mut request)
        .context("standard input cannot be read")?;
    let answer = provider.answer(&request).await.map_err(anyhow::Error::from)?;
    let mut out = std::io::stdout().lock();
    out.write_all(&answer).and_then(|()| out.flush()).context("the answer cannot be written")?;
    Ok(())
}

/// Where skopeo is.
#[derive(Args)]
pub struct Skopeo {
    /// The skopeo to run
    #[arg(long, value_name = "PATH", default_value = "skopeo")]
    skopeo: PathBuf,
}

impl Skopeo {
    /// A command of it.
    fn command(&self) -> std::process::Command {
        std::process::Command::new(&self.skopeo)
    }

    /// That it could not be started.
    fn absent(&self, error: std::io::Error) -> Failure {
        let what = format!("{} cannot be started", self.skopeo.display());
        Failure::from(anyhow::Error::from(error).context(what)).hint(SKOPEO)
    }
}
