//! Keeps SVIDs fresh: a new key and new certificates at half of their life, the bundle each minute; what failed is
//! tried again, slower and slower.

use std::{sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::{
    clock::Clock,
    source::{SourceError, SvidSource},
    svid::{self, Bundle, X509Svid},
};

/// How often the bundle is asked for.
const REFRESH: Duration = Duration::from_secs(60);
/// Between two attempts, at least and at most.
const SOONEST: Duration = Duration::from_secs(1);

/// What this program holds now.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) standing: Standing,
    pub(crate) bundle: Option<Arc<Bundle>>,
}

/// Whether it has SVIDs.
#[derive(Clone, Default)]
pub(crate) enum Standing {
    /// Not yet.
    #[default]
    Waiting,
    /// It has.
    Held(Arc<Held>),
    /// The source said no.
    Refused,
    /// They ended, and no others came.
    Expired,
}

/// SVIDs, all for one key.
pub(crate) struct Held {
    pub(crate) svids: Vec<X509Svid>,
    /// PKCS #8, DER.
    pub(crate) key: Zeroizing<Vec<u8>>,
    /// When others are asked for, and when these end; seconds since 1970.
    renew: i64,
    expires: i64,
}

/// Runs for as long as anyone looks.
pub(crate) async fn keep<S: SvidSource>(source: Arc<S>, clock: Clock, view: watch::Sender<View>) {
    let mut failures = 0;
    loop {
        let outcome = round(source.as_ref(), &clock, &view).await;
        let pause = match outcome {
            Ok(pause) => {
                failures = 0;
                pause
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(error = &error as &dyn std::error::Error, failures, "no new identity was had");
                backoff(failures)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = view.closed() => return,
        }
    }
}

/// 1, 2, 4 … seconds, a minute at most.
fn backoff(failures: u32) -> Duration {
    SOONEST.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(REFRESH)
}

/// One step: asks for what is due, publishes what came, and says when to come back.
async fn round<S: SvidSource>(
    source: &S,
    clock: &Clock,
    view: &watch::Sender<View>,
) -> Result<Duration, SourceError> {
    let now = clock();
    let due = match &view.borrow().standing {
        Standing::Held(held) => now >= held.renew,
        Standing::Waiting | Standing::Refused | Standing::Expired => true,
    };
    let outcome = if due { renewed(source, now).await } else { refreshed(source).await };
    let now = clock();
    view.send_if_modified(|view| match &outcome {
        Ok((held, bundle)) => {
            let changed = held.is_some() || view.bundle.as_ref() != Some(bundle);
            if let Some(held) = held {
                view.standing = Standing::Held(held.clone());
            }
            view.bundle = Some(bundle.clone());
            changed
        }
        Err(SourceError::Refused { .. }) => {
            !matches!(std::mem::replace(&mut view.standing, Standing::Refused), Standing::Refused)
        }
        Err(SourceError::Unavailable(_)) => match &view.standing {
            Standing::Held(held) if held.expires <= now => {
                view.standing = Standing::Expired;
                true
            }
            _ => false,
        },
    });
    outcome?;
    Ok(match &view.borrow().standing {
        Standing::Held(held) => {
            let left = u64::try_from(held.renew.saturating_sub(now)).unwrap_or(0);
            Duration::from_secs(left).clamp(SOONEST, REFRESH)
        }
        _ => REFRESH,
    })
}

type Renewed = (Option<Arc<Held>>, Arc<Bundle>);

async fn renewed<S: SvidSource>(source: &S, now: i64) -> Result<Renewed, SourceError> {
    let new = NewKey::make().map_err(SourceError::unavailable)?;
    let answer = source.x509(&new.request).await?;
    let (svids, bundle) = svid::read(answer, &new.public).map_err(SourceError::unavailable)?;
    let expires = svids.iter().map(|svid| svid.expires).min().unwrap_or(now);
    let renew = now + expires.saturating_sub(now).max(0) / 2;
    Ok((Some(Arc::new(Held { svids, key: new.key, renew, expires })), Arc::new(bundle)))
}

async fn refreshed<S: SvidSource>(source: &S) -> Result<Renewed, SourceError> {
    let bundle = Bundle::try_from(source.bundle().await?).map_err(SourceError::unavailable)?;
    Ok((None, Arc::new(bundle)))
}

/// A new key, DER.
struct NewKey {
    /// PKCS #10, by the key.
    request: Vec<u8>,
    /// PKCS #8.
    key: Zeroizing<Vec<u8>>,
    /// SubjectPublicKeyInfo.
    public: Vec<u8>,
}

impl NewKey {
    fn make() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let request = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        Ok(Self { request, public: key.subject_public_key_info(), key: Zeroizing::new(key.serialize_der()) })
    }
}
