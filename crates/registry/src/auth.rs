//! Credentials, as registries ask for them: `Basic` (RFC 7617), or a token of a server that the registry names (the
//! distribution project's "Token Authentication Specification").

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::header::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::{
    Credentials, RegistryError,
    wire::{Asked, Place},
};

/// The longest challenge that is read, in bytes.
const MAX_CHALLENGE: usize = 4096;
/// The longest answer of a server of tokens, in bytes.
const MAX_TOKEN: u64 = 64 * 1024;

/// What a registry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    /// A token: of which server (`https://host/path`), for which service.
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads `WWW-Authenticate` (RFC 9110 §11.6.1), one challenge.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_CHALLENGE {
            return None;
        }
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut rest) = (None, None, rest.trim_start());
        while !rest.is_empty() {
            let (name, after) = rest.split_once("=\"")?;
            let (value, after) = after.split_once('"')?;
            match name.trim().to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = after.trim_start().strip_prefix(',').unwrap_or(after).trim_start();
            if rest.len() >= after.len() && !after.is_empty() {
                return None;
            }
        }
        Some(Self::Bearer { realm: realm?, service })
    }

    /// What the request is to carry. `scope` is what we want to do, and never what the registry would like us to ask for.
    pub(crate) async fn meet(
        &self,
        registry: &Place,
        credentials: Option<&Credentials>,
        scope: &str,
    ) -> Result<HeaderValue, RegistryError> {
        match self {
            Self::Basic => basic(credentials.ok_or(RegistryError::Unauthorised { given: false })?),
            Self::Bearer { realm, service } => {
                let (server, path) = server(realm, registry)?;
                let mark = if path.contains('?') { '&' } else { '?' };
                let mut target = format!("{path}{mark}scope={}", encoded(scope));
                if let Some(service) = service {
                    target.push_str(&format!("&service={}", encoded(service)));
                }
                let authorisation = credentials.map(basic).transpose()?;
                let answer = server.ask(&Asked::get(target), authorisation.as_ref(), MAX_TOKEN).await?;
                match answer.status.as_u16() {
                    200 => token(&answer.body),
                    401 | 403 => Err(RegistryError::Unauthorised { given: credentials.is_some() }),
                    status => Err(RegistryError::Status { status }),
                }
            }
        }
    }
}

/// With TLS wherever the registry has it: who can change where credentials go must not take them off the wire.
fn server(realm: &str, registry: &Place) -> Result<(Place, String), RegistryError> {
    let scheme = if registry.tls.is_some() { "https://" } else { "http://" };
    let rest = realm
        .strip_prefix(scheme)
        .or_else(|| realm.strip_prefix("https://").filter(|_| registry.tls.is_some()));
    let rest = rest.ok_or(RegistryError::Malformed("the server of its tokens is named without TLS"))?;
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    if !package::Repository::is_registry(authority) {
        return Err(RegistryError::Malformed("the server of its tokens has no name"));
    }
    Ok((Place { authority: authority.to_owned(), tls: registry.tls.clone() }, format!("/{path}")))
}

fn token(body: &[u8]) -> Result<HeaderValue, RegistryError> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let unusable = RegistryError::Malformed("the server of its tokens gave none");
    let answer: Answer = serde_json::from_slice(body).map_err(|_| unusable.clone())?;
    let token = answer.token.or(answer.access_token).map(Zeroizing::new).ok_or_else(|| unusable.clone())?;
    sensitive(&Zeroizing::new(format!("Bearer {}", *token))).ok_or(unusable)
}

fn basic(credentials: &Credentials) -> Result<HeaderValue, RegistryError> {
    let pair = Zeroizing::new(format!("{}:{}", credentials.username, *credentials.password));
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(pair.as_bytes())));
    sensitive(&text).ok_or(RegistryError::Malformed("credentials fit no header"))
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// For a query (RFC 3986 §2.1).
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let text = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull""#;
        let bearer = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("registry.example".into()),
        };
        assert_eq!(Challenge::parse(text), Some(bearer));
        assert_eq!(Challenge::parse(r#"Basic realm="a""#), Some(Challenge::Basic));
        for wrong in
            ["", "Negotiate", "Bearer", r#"Bearer realm"#, r#"Bearer realm="a"#, r#"Bearer service="a""#]
        {
            assert_eq!(Challenge::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tokens_are_asked_for_over_tls_only() {
        let tls = attested_tls::service::web_client(
            rustls::RootCertStore::empty(),
            attested_tls::clock::fixed(appraisal::UnixTime(0)),
        );
        let registry = Place { authority: "registry.example".into(), tls: Some(tls.unwrap()) };
        assert!(server("https://auth.example/token", &registry).is_ok());
        for wrong in ["http://auth.example/token", "ftp://a", "https://", "https://a b/", "https://a@b/"] {
            assert!(server(wrong, &registry).is_err(), "{wrong}");
        }
    }
}
