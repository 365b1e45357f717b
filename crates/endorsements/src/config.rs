//! Where the vendors' services are, and how patient we are with them. Parsed whole before anything is asked.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use evidence::CertificateDer;

/// Numbers in `[0, 1)` that spread retries of many clients: the door through which randomness enters. It guards
/// nothing.
pub type Jitter = Arc<dyn Fn() -> f64 + Send + Sync>;

/// How a [`crate::Client`] asks.
#[derive(Clone)]
pub struct Config {
    /// Intel's service, or a cache of it.
    pub intel: IntelService,
    /// Base address of AMD's key distribution service, or of a cache of it.
    pub amd: String,
    /// Whether anything is asked at all.
    pub mode: Mode,
    /// Where `http://` is allowed.
    pub plain_http: PlainHttp,
    /// A forward proxy: `http://host:port`, asked with CONNECT.
    pub proxy: Option<String>,
    /// Roots for the services' TLS beside those of the web: a PCCS often has a certificate of its own.
    pub tls_roots: Vec<CertificateDer>,
    /// Time-outs and retries.
    pub timing: Timing,
    /// When what is cached is asked for again.
    pub freshness: Freshness,
    /// Spreads retries.
    pub jitter: Jitter,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            intel: IntelService::pcs(),
            amd: "https://kdsintf.amd.com".into(),
            mode: Mode::Online,
            plain_http: PlainHttp::LoopbackOnly,
            proxy: None,
            tls_roots: Vec::new(),
            timing: Timing::default(),
            freshness: Freshness::default(),
            jitter: crate::random::jitter(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("intel", &self.intel)
            .field("amd", &self.amd)
            .field("mode", &self.mode)
            .field("plain_http", &self.plain_http)
            .field("proxy", &self.proxy)
            .field("timing", &self.timing)
            .field("freshness", &self.freshness)
            .finish_non_exhaustive()
    }
}

/// Whether anything is asked at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The vendors are asked for what is not cached, or not fresh.
    Online,
    /// Only what is cached is served, with its true dates.
    Offline,
}

/// Where `http://` is allowed. Every answer is signed by its vendor, and none is secret: whoever sits on the line can
/// withhold an answer, give an older one (which floors refuse, S-18) or learn which platform is asked about, and
/// nothing else. That is sound for a PCCS in one's own network, and a needless gift elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlainHttp {
    /// Only to this machine.
    LoopbackOnly,
    /// To any address that the configuration names.
    Allowed,
}

/// Intel's provisioning certification service (PCS), or a cache that speaks the same (PCCS).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntelService {
    /// Base address, without `/sgx/certification/v4`.
    pub base: String,
    /// Full address of the root CA's revocation list.
    pub root_ca_crl: String,
    /// Which of Intel's evaluations is wanted.
    pub update: Update,
}

impl IntelService {
    /// Intel's own.
    pub fn pcs() -> Self {
        Self {
            base: "https://api.trustedservices.intel.com".into(),
            root_ca_crl: "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der".into(),
            update: Update::Standard,
        }
    }

    /// A PCCS: it serves the root CA's list too.
    pub fn pccs(base: impl Into<String>) -> Self {
        let base = base.into();
        let base = base.trim_end_matches('/').to_owned();
        Self { root_ca_crl: format!("{base}/sgx/certification/v4/rootcacrl"), base, update: Update::Standard }
    }
}

/// Which of Intel's evaluations is wanted (Intel PCS API v4, "Get TCB Info", parameter `update`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Update {
    /// That which platforms must have reached by now.
    Standard,
    /// The newest: stricter, as platforms may not have had the time to update.
    Early,
    /// The one of that number.
    Evaluation(u32),
}

/// Time-outs and retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For one try, from connecting to the last byte.
    pub per_try: Duration,
    /// For one answer, with all tries and waits.
    pub total: Duration,
    /// For one answer, when what is cached still holds.
    pub refresh: Duration,
    /// When that was in vain, how long what is cached is served before the vendor is asked again.
    pub refresh_pause: Duration,
    /// At most so many tries.
    pub tries: u32,
    /// The wait after the first failure; it doubles each time, and is shortened at random to between a half and
    /// the whole.
    pub first_backoff: Duration,
    /// The longest wait.
    pub longest_backoff: Duration,
    /// Between two requests for VCEKs: AMD gives an address about one in ten seconds.
    pub vcek_pace: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            per_try: Duration::from_secs(15),
            total: Duration::from_secs(90),
            refresh: Duration::from_secs(10),
            refresh_pause: Duration::from_secs(60),
            tries: 5,
            first_backoff: Duration::from_millis(500),
            longest_backoff: Duration::from_secs(20),
            vcek_pace: Duration::from_secs(10),
        }
    }
}

/// When what is cached is asked for again. It is served after that too, if the vendor cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// TCB info, QE identity and revocation lists are asked for again after that long, though they hold for a
    /// month: what was revoked meanwhile is on the newer list.
    pub max_age: Duration,
    /// Warn when a part ends within so many days.
    pub warn_days: i64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(24 * 60 * 60), warn_days: 7 }
    }
}
