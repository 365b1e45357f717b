//! `bailey host list`: a host as its operator sees it, or as it tells a client.

use std::path::{Path, PathBuf};

use clap::Args;
use deploy::Host;
use host::{Action, Reply};
use keep_protocol::host::{HostInfo, Keeps};
use serde_json::json;

use super::{
    ask, now_ms,
    show::{Row, keep_state, listing, section},
    unexpected,
};
use crate::{
    commands::{
        deploy::{AccessArgs, host_hint, printable},
        print_json,
    },
    failure::{Failure, Input, Kind, Outcome},
};

/// With --directory, what the operator of this machine sees. With --host, what another machine says of itself to a client:
/// its TEEs, and the client's Keeps.
#[derive(Args)]
pub struct List {
    /// The agent's folder
    #[arg(long, value_name = "DIR", required_unless_present = "host", conflicts_with_all = ["host", "host_ca"])]
    directory: Option<PathBuf>,
    /// Another machine's agent, such as https://localhost:7443
    #[arg(long, value_name = "URL")]
    host: Option<String>,
    #[command(flatten)]
    access: AccessArgs,
    /// For a program
    #[arg(long)]
    json: bool,
}

impl List {
    /// Runs the command.
    pub async fn run(self) -> Outcome {
        match (&self.directory, &self.host) {
            (Some(directory), _) => own(directory, self.json),
            (None, host) => self.other(host.as_deref().unwrap_or_default()).await,
        }
    }

    async fn other(&self, host: &str) -> Outcome {
        let endpoint: deploy::Endpoint = host.parse().malformed("the host's URL is none")?;
        let host = Host::new(endpoint, self.access.load()?, deploy::clock());
        let refused = |error: deploy::HostFailure| {
            let (hint, code) = (host_hint(&error), error.code());
            let error =
                anyhow::Error::new(error).context(format!("the host says nothing of itself [{code}]"));
            Failure { kind: Kind::Refused, error, hint }
        };
        let info = host.info().await.map_err(refused)?;
        let keeps = host.keeps().await.map_err(refused)?;
        if self.json {
            return print_json(&json!({ "host": info, "keeps": keeps.keeps }));
        }
        crate::output::write(format_args!("{}", offered(&host.endpoint().to_string(), &info, &keeps)));
        Ok(())
    }
}

fn own(directory: &Path, json: bool) -> Outcome {
    let Reply::Host { host } = ask(directory, &Action::Host {})? else { return unexpected() };
    let Reply::Processes { processes } = ask(directory, &Action::Status {})? else { return unexpected() };
    if json {
        return print_json(&json!({ "host": host, "processes": processes }));
    }
    crate::output::write(format_args!("{}", listing(&host, &processes, now_ms())));
    Ok(())
}

/// What a host says of itself. All of it is the host's own words.
fn offered(url: &str, info: &HostInfo, keeps: &Keeps) -> String {
    let draining = if info.draining { ", draining: it takes no new Keeps" } else { "" };
    let mut out = format!("{url} says of itself: {}{draining}\n", printable(&info.agent));
    let tee = |backend: &keep_protocol::host::Backend| -> Row {
        let emulated = if backend.tee.emulated { " (emulated)" } else { "" };
        let product = printable(&backend.product);
        let kind = if product.is_empty() {
            backend.kind.to_string()
        } else {
            format!("{}, {product}", backend.kind)
        };
        let places = format!("{} places free, {} warm", backend.free, backend.warm);
        (vec![format!("{}{emulated}", backend.tee.platform), kind, places], None)
    };
    out.push_str(&section("TEEs", info.backends.iter().map(tee).collect()));
    let keep = |keep: &keep_protocol::host::KeepSummary| -> Row {
        let label = if keep.label.is_empty() { "-".to_owned() } else { printable(&keep.label) };
        let row =
            vec![keep.id.clone(), label, keep.tee.platform.to_string(), keep_state(keep.state, keep.age_ms)];
        (row, None)
    };
    out.push_str(&section("your Keeps", keeps.keeps.iter().map(keep).collect()));
    out
}

#[cfg(test)]
mod tests {
    use keep_protocol::host::{Backend, BackendKind, KeepState, KeepSummary, Platform, Tee};

    use super::*;

    #[test]
    fn what_a_host_offers_is_told_as_its_own_words() {
        let tee = Tee { emulated: true, platform: Platform::Snp };
        let backend = Backend { tee, free: 62, kind: BackendKind::Process, warm: 1, product: String::new() };
        let other = Backend {
            tee: Tee { emulated: false, platform: Platform::Tdx },
            kind: BackendKind::Tdx,
            ..backend.clone()
        };
        let info = HostInfo {
            agent: "bailey-host/0.1.0\u{1b}[2J".to_owned(),
            backends: vec![backend, Backend { product: "Emerald Rapids".to_owned(), ..other }],
            draining: true,
            versions: vec![1],
        };
        let keep = KeepSummary {
            id: "0".repeat(32),
            tee,
            kind: BackendKind::Process,
            label: "nightly".to_owned(),
            state: KeepState::Connected,
            age_ms: 5_000,
        };
        assert_eq!(
            offered("https://h", &info, &Keeps { keeps: vec![keep] }),
            "\
https://h says of itself: bailey-host/0.1.0\u{fffd}[2J, draining: it takes no new Keeps
TEEs
  snp (emulated)  process              62 places free, 1 warm
  tdx             tdx, Emerald Rapids  62 places free, 1 warm
your Keeps
  00000000000000000000000000000000  nightly  snp  connected 5 s
"
        );
    }
}
