//! Who is it? A tenant shows a client certificate whose digest the configuration names, or a bearer token whose hash
//! it names. Tokens are compared by their hashes, and those in constant time; neither is ever written anywhere.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use keep_protocol::host::{HostError, HostErrorCode as Code};

use super::bounds::{Allowance, Failures};
use crate::clock::Clock;
use crate::config::{Api, OPEN, Quota, Tenant};
use crate::names::TenantName;

/// How often an address may fail to prove itself in a minute.
const FAILURES_PER_MINUTE: u32 = 30;
/// The longest token, in bytes.
const MAX_TOKEN: usize = 512;

/// Whoever made a connection.
pub(super) struct Caller {
    address: IpAddr,
    certificate: Option<[u8; 32]>,
}

impl Caller {
    pub(super) fn new(address: IpAddr, certificate: Option<&[u8]>) -> Self {
        Self { address, certificate: certificate.map(sha256) }
    }
}

/// A tenant that has proved itself.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) tenant: TenantName,
    pub(super) quota: Quota,
}

pub(super) struct Admission {
    tenants: Vec<Tenant>,
    open: Option<Admitted>,
    clock: Arc<dyn Clock>,
    failures: Failures,
    allowances: Mutex<BTreeMap<TenantName, Allowance>>,
}

impl Admission {
    pub(super) fn new(api: &Api, clock: Arc<dyn Clock>) -> Self {
        let open = api.open.map(|quota| Admitted {
            tenant: OPEN.to_owned().try_into().unwrap_or_else(|_| unreachable!("a name")),
            quota,
        });
        Self {
            tenants: api.tenants.clone(),
            open,
            clock,
            failures: Failures::new(FAILURES_PER_MINUTE),
            allowances: Mutex::default(),
        }
    }

    /// Whether anybody is let in.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whose request it is, if it may be made now.
    pub(super) fn admit(&self, caller: &Caller, headers: &HeaderMap) -> Result<Admitted, HostError> {
        let now = self.clock.monotonic();
        self.failures
            .may_try(caller.address, now)
            .map_err(|wait| busy("this address has failed to prove itself too often", wait))?;
        let admitted = self.who(caller, headers).ok_or_else(|| {
            self.failures.failed(caller.address, now);
            let reason = "show a client certificate or a bearer token that this host knows";
            HostError::new(Code::Unauthorised, reason)
        })?;
        let mut allowances = self.allowances.lock().unwrap_or_else(PoisonError::into_inner);
        allowances
            .entry(admitted.tenant.clone())
            .or_insert_with(|| Allowance::new(admitted.quota.requests_per_minute, now))
            .take(now)
            .map_err(|wait| busy("too many requests", wait))?;
        Ok(admitted)
    }

    fn who(&self, caller: &Caller, headers: &HeaderMap) -> Option<Admitted> {
        let by_certificate = match &caller.certificate {
            None => None,
            // Who shows a proof is let in by that proof, or not at all.
            Some(shown) => Some(self.find(shown, |tenant| &tenant.certificates)?),
        };
        let by_token = match token(headers) {
            Token::None => None,
            Token::Shown(token) => Some(self.find(&sha256(token), |tenant| &tenant.tokens)?),
            Token::Malformed => return None,
        };
        match (by_certificate, by_token) {
            (Some(one), Some(other)) if one.tenant != other.tenant => None,
            (Some(tenant), _) | (None, Some(tenant)) => Some(tenant),
            (None, None) => self.open.clone(),
        }
    }

    /// Looks at every one, so that it takes the same time for each.
    fn find(&self, shown: &[u8; 32], proofs: impl Fn(&Tenant) -> &Vec<[u8; 32]>) -> Option<Admitted> {
        let mut found = None;
        for tenant in &self.tenants {
            for known in proofs(tenant) {
                if constant_time::verify_slices_are_equal(known, shown).is_ok() {
                    found = Some(tenant);
                }
            }
        }
        found.map(|tenant| Admitted { tenant: tenant.name.clone(), quota: tenant.quota })
    }
}

enum Token<'a> {
    None,
    Shown(&'a [u8]),
    Malformed,
}

fn token(headers: &HeaderMap) -> Token<'_> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => Token::None,
        (Some(value), None) => match value.as_bytes().split_at_checked(7) {
            Some((scheme, token))
                if scheme.eq_ignore_ascii_case(b"bearer ") && (1..=MAX_TOKEN).contains(&token.len()) =>
            {
                Token::Shown(token)
            }
            _ => Token::Malformed,
        },
        (Some(_), Some(_)) => Token::Malformed,
    }
}

fn busy(reason: &str, wait: Duration) -> HostError {
    let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
    HostError { retry_after_ms, ..HostError::new(Code::Busy, reason) }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::config::Keeps;

    fn tenant(name: &str, certificate: &[u8], token: &str) -> Tenant {
        Tenant {
            name: name.parse().unwrap(),
            certificates: vec![sha256(certificate)],
            tokens: vec![sha256(token.as_bytes())],
            quota: Quota { requests_per_minute: 20, ..Quota::default() },
        }
    }

    fn admission(open: Option<Quota>) -> Admission {
        let api = Api {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate: None,
            metrics: None,
            open,
            connections: 1,
            tenants: vec![tenant("acme", b"acme's", "token-a"), tenant("zeta", b"zeta's", "token-z")],
            keeps: Keeps::default(),
        };
        Admission::new(&api, Arc::new(SystemClock))
    }

    fn caller(certificate: Option<&[u8]>) -> Caller {
        Caller::new("192.0.2.1".parse().unwrap(), certificate)
    }

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_tenant_is_known_by_certificate_or_token() {
        let admission = admission(None);
        let who = |certificate: Option<&[u8]>, authorization: &[&str]| {
            let admitted = admission.admit(&caller(certificate), &headers(authorization));
            admitted.map(|admitted| admitted.tenant.as_str().to_owned()).map_err(|error| error.code)
        };
        assert_eq!(who(Some(b"acme's"), &[]), Ok("acme".to_owned()));
        assert_eq!(who(None, &["Bearer token-z"]), Ok("zeta".to_owned()));
        assert_eq!(who(None, &["bearer token-z"]), Ok("zeta".to_owned()));
        assert_eq!(who(Some(b"acme's"), &["Bearer token-a"]), Ok("acme".to_owned()));
        let refused = Err(Code::Unauthorised);
        assert_eq!(who(None, &[]), refused);
        assert_eq!(who(Some(b"nobody's"), &[]), refused);
        // A certificate that is not known is not made up for by a token, nor one tenant's by another's.
        assert_eq!(who(Some(b"nobody's"), &["Bearer token-a"]), refused);
        assert_eq!(who(Some(b"acme's"), &["Bearer token-z"]), refused);
        assert_eq!(who(Some(b"acme's"), &["Bearer nothing"]), refused);
        for malformed in
            ["token-a", "Basic token-a", "Bearer", "Bearer ", &format!("Bearer {}", "x".repeat(513))]
        {
            assert_eq!(who(None, &[malformed]), refused, "{malformed}");
        }
        assert_eq!(who(None, &["Bearer token-a", "Bearer token-a"]), refused);
        assert_eq!(who(None, &[&format!("Bearer {}", hex::encode(sha256(b"token-a")))]), refused);
    }

    #[test]
    fn an_open_api_lets_in_who_shows_nothing_and_only_them() {
        let admission = admission(Some(Quota::default()));
        let who = |values: &[&str]| admission.admit(&caller(None), &headers(values)).map(|it| it.tenant);
        assert_eq!(who(&[]).unwrap().as_str(), OPEN);
        assert_eq!(who(&["Bearer token-a"]).unwrap().as_str(), "acme");
        assert_eq!(who(&["Bearer wrong"]).unwrap_err().code, Code::Unauthorised);
    }

    #[test]
    fn a_tenant_asks_so_often_and_another_is_not_held_up() {
        let admission = admission(None);
        let ask = |token: &str| admission.admit(&caller(None), &headers(&[token]));
        let refusals: Vec<HostError> = (0..40).filter_map(|_| ask("Bearer token-a").err()).collect();
        let refused = refusals.last().unwrap();
        assert_eq!(refused.code, Code::Busy);
        assert!(refused.retry_after_ms > 0);
        ask("Bearer token-z").unwrap();
    }

    #[test]
    fn who_guesses_tokens_has_to_wait() {
        let admission = admission(None);
        let ask = |token: &str| admission.admit(&caller(None), &headers(&[token]));
        let codes: Vec<Code> = (0..40).map(|_| ask("Bearer guess").unwrap_err().code).collect();
        assert_eq!((codes[0], codes[39]), (Code::Unauthorised, Code::Busy));
        // Even a right one is not looked at then.
        assert_eq!(ask("Bearer token-a").unwrap_err().code, Code::Busy);
    }
}
