//! The one door through which time enters: everything below takes `now` or a [`Clock`].

use std::sync::Arc;

use appraisal::UnixTime;

/// Tells the time; tests fix it.
pub type Clock = Arc<dyn Fn() -> UnixTime + Send + Sync>;

/// The machine's clock. Inside a TEE that is the host's word (S-19): it bounds validity windows, and no
/// decision becomes *more* permissive by it than a certificate's lifetime.
pub fn system() -> Clock {
    Arc::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the one door for the clock")]
        let now = std::time::SystemTime::now();
        let seconds = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
        UnixTime(i64::try_from(seconds).unwrap_or(i64::MAX))
    })
}

/// A clock that stands still.
pub fn fixed(now: UnixTime) -> Clock {
    Arc::new(move || now)
}

/// Lets rustls ask our clock.
pub(crate) struct TlsTime(pub(crate) Clock);

impl std::fmt::Debug for TlsTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsTime")
    }
}

impl rustls::time_provider::TimeProvider for TlsTime {
    fn current_time(&self) -> Option<rustls_pki_types::UnixTime> {
        let seconds = u64::try_from((self.0)().0).ok()?;
        Some(rustls_pki_types::UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
    }
}
