//! The one door through which time enters.

use std::{fmt, sync::Arc, time::Duration};

/// Tells the seconds since 1970; tests fix it.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The machine's clock.
pub fn system() -> Clock {
    Arc::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the one door for the clock")]
        let now = std::time::SystemTime::now();
        let seconds = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        i64::try_from(seconds).unwrap_or(i64::MAX)
    })
}

/// A clock that stands still.
pub fn fixed(now: i64) -> Clock {
    Arc::new(move || now)
}

/// Lets rustls ask our clock.
pub(crate) struct TlsTime(pub(crate) Clock);

impl fmt::Debug for TlsTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsTime")
    }
}

impl rustls::time_provider::TimeProvider for TlsTime {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        let seconds = u64::try_from((self.0)()).ok()?;
        Some(rustls_pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
