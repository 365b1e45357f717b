//! What a person or a program is told while a workload is deployed.

use std::{
    io::{IsTerminal, Write},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use ::deploy::{DeployError, Endpoint, Ran, Step, Watcher};
use attested_tls::channel::AttestedPeer;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use indicatif::{ProgressBar, ProgressStyle};
use keep_config::{File, KeepConfig};
use keep_protocol::{
    keep::{Accepted, Exposed, Outcome, Protection, VolumeHead, WorkloadKind},
    package::{FetchedPackage, FetchedRelease},
};
use serde_json::{Value, json};
use tokio::io::AsyncWrite;
use zeroize::Zeroizing;

use super::printable;
use crate::{
    commands::{colour, package::AtHand},
    volumes::Held,
};

/// Tells on standard error, so that standard output is the workload's; or all of it as JSON on standard output.
pub struct Teller {
    host: String,
    verbose: bool,
    json: bool,
    begun: Instant,
    last: Instant,
    volumes: Held,
    opener: Option<AtHand>,
    /// The configuration names neither standard output nor error.
    mute: bool,
    /// What is waited for, on a terminal, until the workload runs.
    waiting: ProgressBar,
}

impl Teller {
    /// The time runs from here. `opener` is what opens an encrypted package that the Keep fetches; `config` is the
    /// configuration that goes with the workload.
    pub fn new(
        endpoint: &Endpoint,
        (verbose, json): (bool, bool),
        volumes: Held,
        opener: Option<AtHand>,
        config: Option<&str>,
    ) -> Self {
        let now = Instant::now();
        let host = match endpoint.host() {
            address if address.contains(':') => format!("[{address}]"),
            name => name.to_owned(),
        };
        let waiting = if verbose || json { ProgressBar::hidden() } else { spinner() };
        waiting.set_message("asking the host");
        let mute = config.is_some_and(is_mute);
        Self { host, verbose, json, begun: now, last: now, volumes, opener, mute, waiting }
    }

    /// Says a line, beside what is waited for.
    fn tell(&self, line: &str) {
        self.waiting.suspend(|| eprintln!("{line}"));
    }

    /// Where the workload's streams go.
    pub fn streams(&self) -> (Sink, Sink) {
        (Sink { name: "stdout", json: self.json }, Sink { name: "stderr", json: self.json })
    }

    /// The package that the Keep fetched and verified.
    fn fetched(&self, package: &FetchedPackage) {
        let (digest, release) = (hex::encode(*package.digest), package.release.as_ref());
        if self.json {
            event(json!({
                "event": "package", "digest": format!("sha256:{digest}"), "fetched_by": "keep",
                "name": release.map(|release| &release.name),
                "version": release.map(|release| &release.version),
                "signer": release.map(|release| &release.signer),
            }));
            return;
        }
        let signed = release.map_or("nobody's signature was asked for".to_owned(), |release| {
            let FetchedRelease { name, version, signer } = release;
            printable(&format!("{name}, version {version}, signed by {signer}"))
        });
        self.tell(&format!("sha256:{digest}: {signed}; fetched and verified by the Keep"));
    }

    /// The end.
    pub fn ended(&self, ran: &Ran) {
        if self.json {
            event(json!({
                "event": "ended", "outcome": outcome(&ran.outcome), "wall_ms": millis(ran.wall),
                "total_ms": millis(self.begun.elapsed()),
            }));
        }
    }

    /// Why nothing ran, or not to its end.
    pub fn refused(&self, error: &DeployError) {
        self.waiting.finish_and_clear();
        let verdict = match error {
            DeployError::Keep(channel) => channel.refused().map(appraisal::Refused::verdict),
            _ => None,
        };
        if self.json {
            let faults = match error {
                DeployError::Refused(refused) => refused.faults.clone(),
                _ => Vec::new(),
            };
            event(json!({
                "event": "refused", "codes": error.codes(), "reason": error.to_string(), "faults": faults,
                "verdict": verdict,
            }));
        } else if let Some(verdict) = verdict {
            eprint!("{}", verdict.render(colour() && std::io::stderr().is_terminal()));
        }
    }
}

impl Watcher for Teller {
    fn step(&mut self, step: Step, detail: &str) {
        let (now, detail) = (Instant::now(), printable(detail));
        let took = now.duration_since(self.last);
        self.last = now;
        match awaited_after(step) {
            Some(what) => self.waiting.set_message(what),
            None => self.waiting.finish_and_clear(),
        }
        if self.json {
            event(json!({
                "event": "step", "number": step.number(), "step": step.words(), "detail": detail,
                "took_ms": millis(took), "at_ms": millis(now.duration_since(self.begun)),
            }));
        } else if self.verbose {
            let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
            eprintln!("{:>2} {:>9.3} ms  {}{detail}", step.number(), millis(took), step.words());
        }
    }

    fn verified(&mut self, keep: &AttestedPeer) {
        let appraised = &keep.appraised;
        if self.json {
            event(json!({
                "event": "verified", "emulated": appraised.emulated(), "platform": appraised.platform(),
                "verdict": appraised.verdict(),
            }));
            return;
        }
        if self.verbose {
            eprint!("{}", appraised.verdict().render(colour() && std::io::stderr().is_terminal()));
        }
        if appraised.emulated() {
            self.tell("EMULATED: this Keep is on no TEE hardware. Its host can read all of it.");
        }
    }

    fn open(&mut self, packet: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        // What the Keep asks is in the registry's package: why it does not open is for whoever has the key.
        let opened = self.opener.as_ref()?.unwrap(packet);
        opened
            .inspect_err(|reason| {
                self.tell(&format!("the package's key is not opened: {}", printable(reason)))
            })
            .ok()
    }

    fn accepted(&mut self, accepted: &Accepted) {
        if let Some(package) = &accepted.package {
            self.fetched(package);
        }
        if self.json {
            event(json!({
                "event": "accepted", "kind": accepted.kind, "load_us": accepted.load_us,
                "workload": hex::encode(*accepted.workload),
                "configuration": hex::encode(*accepted.configuration),
            }));
        } else if self.mute && accepted.kind == WorkloadKind::Command {
            self.tell("note: the configuration has no [[files]] of kind stdout or stderr: nothing that is printed comes back");
        }
    }

    fn hold(&mut self, head: &VolumeHead) -> std::io::Result<()> {
        self.volumes.hold(head)
    }

    fn exposed(&mut self, exposed: &Exposed) {
        let address = format!("{}:{}", self.host, exposed.port);
        let certificate = exposed.certificate.as_ref().map(|der| der.to_vec());
        let fingerprint = certificate.as_ref().map(|der| hex::encode(digest(&SHA256, der)));
        let pem = certificate.map(|der| evidence::pem::encode(&evidence::CertificateDer(der)));
        if self.json {
            event(json!({
                "event": "exposed", "name": exposed.name, "address": address, "port": exposed.port,
                "protection": exposed.protection, "certificate": pem, "sha256": fingerprint,
            }));
            return;
        }
        let name = printable(&exposed.name);
        match exposed.protection {
            Protection::Tls if exposed.name == "http" => eprintln!("{name}: https://{address}"),
            Protection::Tls => eprintln!("{name}: {address}, TLS"),
            Protection::Tcp => eprintln!("{name}: {address}, not protected: the host reads and changes it"),
        }
        if let (Some(fingerprint), Some(pem)) = (fingerprint, pem) {
            eprint!("its certificate, SHA-256 {fingerprint}:\n{pem}");
        }
    }
}

/// What is waited for once a step is done; nothing when the workload runs.
fn awaited_after(step: Step) -> Option<&'static str> {
    match step {
        Step::Asked | Step::Chosen => Some("waiting for a Keep; the host launches one where none is warm"),
        Step::Leased => Some("connecting to the Keep"),
        Step::Connected | Step::Secured => Some("waiting for the Keep's Evidence"),
        Step::Presented | Step::Appraised => Some("verifying the Keep"),
        Step::Taken => Some("the Keep takes the workload, and compiles it"),
        Step::Loaded | Step::Ended => None,
    }
}

/// Only to be seen on a terminal.
fn spinner() -> ProgressBar {
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} … {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// Whether what a command prints with this configuration goes nowhere. One that is none is refused elsewhere.
fn is_mute(config: &str) -> bool {
    let prints = |file: &File| matches!(file, File::Stdout { .. } | File::Stderr { .. });
    KeepConfig::parse(config).is_ok_and(|config| !config.files.iter().any(prints))
}

fn millis(time: Duration) -> f64 {
    // Whole microseconds: more would be said than was measured.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn outcome(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Exit { code } => json!({ "exit": code }),
        Outcome::Trap { code, message } => json!({ "trap": code, "reason": message }),
        Outcome::Limit { which, message } => json!({ "limit": which.code(), "reason": message }),
        Outcome::Cancelled {} => json!({ "cancelled": true }),
        Outcome::Failed { code, message } => json!({ "failed": code, "reason": message }),
    }
}

fn event(event: Value) {
    crate::output::write(format_args!("{event}\n"));
}

/// One of the workload's streams.
pub struct Sink {
    name: &'static str,
    json: bool,
}

impl AsyncWrite for Sink {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        if self.json {
            event(match std::str::from_utf8(bytes) {
                Ok(text) => json!({ "event": self.name, "text": text }),
                Err(_) => json!({ "event": self.name, "base64": STANDARD.encode(bytes) }),
            });
            return Poll::Ready(Ok(bytes.len()));
        }
        Poll::Ready(match self.name {
            "stdout" => std::io::stdout().write(bytes),
            _ => std::io::stderr().write(bytes),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(match self.name {
            "stdout" => std::io::stdout().flush(),
            _ => std::io::stderr().flush(),
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_loses_what_is_printed_is_known() {
        assert!(is_mute("[limits]\nwall = \"2s\"\n"));
        assert!(is_mute("[[files]]\nkind = \"stdin\"\n"));
        assert!(!is_mute("[[files]]\nkind = \"stderr\"\n"));
        assert!(!is_mute(keep_config::WITHOUT_A_FILE));
        assert!(!is_mute("none"));
    }

    #[test]
    fn times_have_no_more_digits_than_were_measured() {
        assert_eq!(json!(millis(Duration::from_nanos(158_257_952))).to_string(), "158.258");
    }
}
