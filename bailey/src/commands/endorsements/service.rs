//! The vendors' services as a person names them, and asking them so that whoever waits sees why.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use appraisal::{Needs, UnixTime, VekNeeds, needs};
use clap::Args;
use endorsements::{Cache, Client, Config, FetchError, Fetched, IntelService, Mode, PlainHttp};
use evidence::{AmdCollateral, Endorsements, Evidence};

use crate::commands::evidence::read;
use crate::failure::{Input, Outcome};

/// What takes longer is spoken of, again and again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where vendors are asked, and where their answers are kept.
#[derive(Args)]
pub struct Service {
    /// Where answers are kept, and what was seen is remembered; without one, the user's cache directory
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// A PCCS in the place of Intel's own service
    #[arg(long, value_name = "URL")]
    intel: Option<String>,
    /// Another address in the place of AMD's key distribution service
    #[arg(long, value_name = "URL")]
    amd: Option<String>,
    /// A root of the services' TLS beside those of the web, such as that of a PCCS
    #[arg(long, value_name = "FILE")]
    tls_root: Vec<PathBuf>,
    /// Allow http:// to the given addresses, not only to this machine
    #[arg(long)]
    plain_http: bool,
    /// A proxy that is asked with CONNECT
    #[arg(long, value_name = "URL", env = "HTTPS_PROXY")]
    proxy: Option<String>,
    /// Ask nobody: take only what is cached
    #[arg(long)]
    offline: bool,
}

impl Service {
    /// Whether anything was said that makes sense only for fetching.
    pub fn is_given(&self) -> bool {
        self.cache.is_some()
            || self.intel.is_some()
            || self.amd.is_some()
            || !self.tls_root.is_empty()
            || self.plain_http
            || self.offline
    }

    /// The directory of the cache: as given, or the user's.
    pub fn directory(&self) -> Option<PathBuf> {
        self.cache.clone().or_else(users_cache)
    }

    /// A client of the services.
    pub fn client(&self) -> Outcome<Client> {
        let mut tls_roots = Vec::new();
        for path in &self.tls_root {
            let roots = evidence::pem::certificates(&read(path)?);
            tls_roots.extend(roots.malformed(format!("{} is no certificate", path.display()))?);
        }
        let config = Config::default();
        let config = Config {
            intel: self.intel.as_ref().map_or(config.intel.clone(), IntelService::pccs),
            amd: self.amd.clone().unwrap_or(config.amd.clone()),
            mode: if self.offline { Mode::Offline } else { Mode::Online },
            plain_http: if self.plain_http { PlainHttp::Allowed } else { PlainHttp::LoopbackOnly },
            proxy: self.proxy.clone(),
            tls_roots,
            ..config
        };
        let cache = match self.directory() {
            Some(path) => Some(
                Cache::open(&path).with_context(|| format!("the cache {} cannot be used", path.display()))?,
            ),
            None => None,
        };
        Client::new(config, cache).malformed("the services cannot be asked like that")
    }
}

/// Fetches what Evidence needs, and speaks of it on standard error when it takes long. Of what was given, only
/// the certificate of a VLEK is kept, which no vendor gives out: the rest is asked for.
pub async fn fetch(
    client: &Client,
    evidence: &Evidence,
    given: Endorsements,
    now: UnixTime,
) -> Result<Fetched, FetchError> {
    let vlek = match needs(evidence) {
        Ok(Some(Needs::Amd(needs))) => matches!(needs.vek, VekNeeds::Vlek { .. }),
        _ => false,
    };
    let kept = given.amd.filter(|_| vlek).map(|amd| AmdCollateral { crl: None, ..amd });
    let given = Endorsements { amd: kept, ..Endorsements::default() };
    spoken_of(
        client.complete(evidence, given, now),
        &format!("the vendor's service ({})", evidence.platform()),
    )
    .await
}

async fn spoken_of<T>(work: impl Future<Output = T>, whom: &str) -> T {
    let mut work = std::pin::pin!(work);
    let mut waited = Duration::ZERO;
    loop {
        match tokio::time::timeout(PATIENCE, work.as_mut()).await {
            Ok(done) => return done,
            Err(_) => {
                waited += PATIENCE;
                eprintln!("asking {whom}: {} s so far", waited.as_secs());
            }
        }
    }
}

/// The default of the XDG Base Directory Specification.
fn users_cache() -> Option<PathBuf> {
    let named = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = named("XDG_CACHE_HOME").or_else(|| named("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("bailey"))
}
