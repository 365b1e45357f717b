//! `bailey image encrypt`: skopeo, with a key provider of its own for as long as it runs.

use std::process::Stdio;

use anyhow::Context;
use clap::Args;
use image_keys::{
    KeyName, Provider,
    grpc::{self, Listener},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{SKOPEO, Skopeo, keys::Keys};
use crate::{
    commands::remote::{Person, Remote},
    failure::{Failure, Input, Outcome},
};

/// The provider's name in annotations: the one that guests of Confidential Containers know.
const NAME: &str = "attestation-agent";

/// Every layer is encrypted with a key of its own, which the coordinator wraps. The image's configuration stays readable.
#[derive(Args)]
pub struct Encrypt {
    /// The image as it is, as skopeo names it: oci:DIR:TAG, docker://HOST/NAME:TAG, …
    source: String,
    /// Where the encrypted image goes
    destination: String,
    /// The key, kbs:///REPOSITORY/TYPE/TAG
    #[arg(long, value_name = "KEY")]
    encryption_key: String,
    /// Read the key from the coordinator and wrap here, instead of there; for keys that you may read
    #[arg(long)]
    local: bool,
    #[command(flatten)]
    skopeo: Skopeo,
    #[command(flatten)]
    remote: Remote,
    #[command(flatten)]
    person: Person,
    /// What `skopeo copy` is to be told beside: -- --src-tls-verify=false
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Encrypt {
    pub(super) async fn run(self) -> Outcome {
        let key: KeyName = self
            .encryption_key
            .parse()
            .malformed(format!("--encryption-key {:?} names no key", self.encryption_key))?;
        let keys = Keys::new(self.remote.client(Some(&self.person))?, self.local);
        // Nobody else on this machine reaches what lies in this folder.
        let folder = tempfile::tempdir().context("no temporary folder could be made")?;
        let listener = Listener::unix(&folder.path().join("provider.sock")).map_err(anyhow::Error::from)?;
        let target = listener.target().context("the socket has no address")?;
        let configuration = folder.path().join("ocicrypt.json");
        let text = json!({ "key-providers": { NAME: { "grpc": target } } }).to_string();
        std::fs::write(&configuration, text).context("ocicrypt's configuration cannot be written")?;
        let stop = CancellationToken::new();
        let served = tokio::spawn(grpc::serve(Provider::default().wrapping(keys), listener, stop.clone()));
        let mut skopeo = tokio::process::Command::from(self.skopeo.command());
        skopeo
            .arg("copy")
            .args(&self.arguments)
            .args(["--encryption-key", &format!("provider:{NAME}:{key}")])
            .args([&self.source, &self.destination])
            .env("OCICRYPT_KEYPROVIDER_CONFIG", &configuration)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = skopeo.spawn().map_err(|error| self.skopeo.absent(error))?.wait_with_output().await;
        stop.cancel();
        let output = output.context("skopeo could not be waited for")?;
        // It ends when the socket is closed, whatever it was doing.
        drop(served);
        if output.status.success() {
            crate::say!("{} is encrypted; guests that {key} is released to can read it", self.destination);
            return Ok(());
        }
        Err(failed(&String::from_utf8_lossy(&output.stderr)))
    }
}

fn failed(said: &str) -> Failure {
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    let failure = Failure::refused(format!("skopeo did not copy the image, and said: {}", last.trim()));
    match said.contains("protocol not recognized") {
        true => failure.hint(format!("this skopeo knows no key providers: {SKOPEO}")),
        false => failure,
    }
}
