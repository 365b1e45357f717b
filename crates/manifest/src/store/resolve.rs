//! From the wire structs to stores and places: what refers to what, and that it can be meant.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evidence::CertificateDer;

use super::{
    KvEngine, Pkcs11Store, SecretStore, StoreKind, StoredAt, StoredEncoding, StoredPlace, VaultAuth,
    VaultStore, WrapMechanism,
};
use crate::document as wire;
use crate::encoding;
use crate::fault::{Code, Collector, shown};
use crate::marble::Marble;
use crate::names::{MarbleName, SecretName, StoreName, is_dns_name};
use crate::path::Path;
use crate::platform::certificate;
use crate::secret::{Secret, SecretSource};
use crate::template::{Generation, Reference};
use crate::user::exists;

/// More stores than a mesh has.
const MOST_STORES: usize = 16;
const MOST_ROOTS: usize = 16;
const LONGEST_TEXT: usize = 512;
const VAULT_PORT: u16 = 8200;

pub(crate) fn resolve(
    document: &wire::Document,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> BTreeMap<StoreName, SecretStore> {
    if document.secret_stores.len() > MOST_STORES {
        faults.add(at, Code::InvalidValue, format!("there are at most {MOST_STORES} secret stores"));
        return BTreeMap::new();
    }
    let mut stores = BTreeMap::new();
    for (name, wire) in &document.secret_stores {
        let here = at.key(name);
        let name = name
            .parse::<StoreName>()
            .map_err(|error| faults.add(&here, Code::InvalidName, error.to_string()));
        let kind = match (&wire.vault, &wire.pkcs11) {
            (Some(vault), None) => self::vault(vault, &document.secrets, &here.field("Vault"), faults)
                .map(|vault| StoreKind::Vault(Box::new(vault))),
            (None, Some(token)) => {
                pkcs11(token, &document.secrets, &here.field("Pkcs11"), faults).map(StoreKind::Pkcs11)
            }
            _ => {
                faults.add(&here, one_of(wire.vault.is_some()), "a store has either `Vault` or `Pkcs11`");
                None
            }
        };
        if let (Ok(name), Some(kind)) = (name, kind) {
            stores.insert(name.clone(), SecretStore { name, kind });
        }
    }
    stores
}

/// Too many, or none, of what excludes each other.
fn one_of(any: bool) -> Code {
    if any { Code::Conflict } else { Code::Missing }
}

fn vault(
    wire: &wire::VaultStore,
    secrets: &BTreeMap<String, wire::Secret>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<VaultStore> {
    let address = https(&wire.address).map_err(|message| {
        faults.hint(&at.field("Address"), Code::InvalidValue, message, "https://vault.example.org:8200");
    });
    let roots = roots(&wire.root_ca.0, &at.field("RootCA"), faults);
    let namespace = wire.namespace.as_deref().map(|it| route(it, &at.field("Namespace"), faults));
    let auth = auth(&wire.auth, secrets, &at.field("Auth"), faults);
    let (host, port) = address.ok()?;
    Some(VaultStore {
        host,
        port,
        roots: roots?,
        namespace: namespace.map_or(Some(None), |it| it.map(Some))?,
        auth: auth?,
    })
}

/// Host and port of an `https` URL that has nothing else.
fn https(text: &str) -> Result<(String, u16), &'static str> {
    const FORM: &str = "the address is https://HOST or https://HOST:PORT, without path or user";
    let rest = text.strip_prefix("https://").ok_or(FORM)?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(host, port)| (host, port.strip_prefix(':'))).ok_or(FORM)?,
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port {
        None => VAULT_PORT,
        Some(port) if digits(port) => port.parse().ok().filter(|port| *port != 0).ok_or(FORM)?,
        Some(_) => return Err(FORM),
    };
    if is_dns_name(host) || host.parse::<IpAddr>().is_ok() { Ok((host.to_owned(), port)) } else { Err(FORM) }
}

fn roots(texts: &[String], at: &Path<'_>, faults: &mut Collector<'_>) -> Option<Vec<CertificateDer>> {
    if texts.is_empty() || texts.len() > MOST_ROOTS {
        let message = format!("a server is known by 1 to {MOST_ROOTS} roots, never by those of the host");
        faults.hint(
            at,
            Code::Missing,
            message,
            "give the PEM of the CA that signed the server's certificate",
        );
        return None;
    }
    let read = |text: &String| {
        certificate(text).map_err(|message| faults.add(at, Code::InvalidCertificate, message)).ok()
    };
    let roots: Vec<_> = texts.iter().map(read).collect();
    roots.into_iter().collect()
}

fn auth(
    wire: &wire::VaultAuth,
    secrets: &BTreeMap<String, wire::Secret>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<VaultAuth> {
    match (&wire.token, &wire.app_role, &wire.certificate) {
        (Some(secret), None, None) => {
            let secret = uploaded(secret, secrets, &at.field("Token"), faults)?;
            Some(VaultAuth::Token { secret })
        }
        (None, Some(role), None) => {
            let here = at.field("AppRole");
            let mount = mount(role.mount.as_deref(), "approle", &here, faults);
            let role_id = text(&role.role_id, &here.field("RoleId"), faults);
            let secret_id = uploaded(&role.secret_id, secrets, &here.field("SecretId"), faults);
            Some(VaultAuth::AppRole { mount: mount?, role_id: role_id?, secret_id: secret_id? })
        }
        (None, None, Some(wire)) => {
            let here = at.field("Certificate");
            let mount = mount(wire.mount.as_deref(), "cert", &here, faults);
            let role = wire.role.as_deref().map(|role| text(role, &here.field("Role"), faults));
            let secret = certified(&wire.secret, secrets, &here.field("Secret"), faults);
            let role = role.map_or(Some(None), |role| role.map(Some))?;
            Some(VaultAuth::Certificate { mount: mount?, role, secret: secret? })
        }
        (token, role, certificate) => {
            let any = token.is_some() || role.is_some() || certificate.is_some();
            let message = "the coordinator authenticates itself in one way";
            faults.hint(at, one_of(any), message, "give one of `Token`, `AppRole` and `Certificate`");
            None
        }
    }
}

fn pkcs11(
    wire: &wire::Pkcs11Store,
    secrets: &BTreeMap<String, wire::Secret>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<Pkcs11Store> {
    let digest = wire.library.strip_prefix("sha256:").and_then(|digits| hex::decode(digits).ok());
    let library = digest.and_then(|digest| <[u8; 32]>::try_from(digest).ok());
    if library.is_none() {
        let message = "the library is named by its digest: sha256: and 64 hexadecimal digits";
        faults.hint(&at.field("Library"), Code::InvalidValue, message, "take it from `sha256sum`");
    }
    let token = text(&wire.token, &at.field("Token"), faults);
    let pin = uploaded(&wire.pin, secrets, &at.field("Pin"), faults);
    Some(Pkcs11Store { library: library?, token: token?, pin: pin? })
}

/// The name of a plain, user-defined secret: what authenticates the coordinator must come from a person, and not from
/// a store.
pub(crate) fn uploaded(
    name: &str,
    secrets: &BTreeMap<String, wire::Secret>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<SecretName> {
    if !exists(name, "secret", secrets, at, faults) {
        return None;
    }
    let fits =
        |secret: &wire::Secret| secret.kind == "plain" && secret.user_defined && secret.store.is_none();
    if !secrets.get(name).is_some_and(fits) {
        let message = format!("`{}` must be plain, user-defined, and not itself in a store", shown(name));
        faults.hint(at, Code::Conflict, message, "Type: plain, UserDefined: true");
        return None;
    }
    name.parse().ok()
}

/// The name of a certificate that the coordinator has a key for.
fn certified(
    name: &str,
    secrets: &BTreeMap<String, wire::Secret>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<SecretName> {
    if !exists(name, "secret", secrets, at, faults) {
        return None;
    }
    let fits =
        |secret: &wire::Secret| secret.kind.starts_with("cert-") && (secret.user_defined || secret.shared);
    if !secrets.get(name).is_some_and(fits) {
        let message = format!("`{}` must be a certificate, shared or user-defined", shown(name));
        faults.hint(
            at,
            Code::Conflict,
            message,
            "Type: cert-ecdsa, Shared: true is signed by the mesh's own CA",
        );
        return None;
    }
    name.parse().ok()
}

/// Where a secret that names a store lies.
pub(crate) fn place(
    wire: &wire::StoredAt,
    stores: &BTreeMap<String, wire::SecretStore>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) -> Option<StoredAt> {
    let known = exists(&wire.name, "secret store", stores, &at.field("Name"), faults);
    let (vault, place) = match (&wire.kv, &wire.transit, &wire.object, &wire.wrapped, &wire.key) {
        (Some(kv), None, None, None, None) => (true, self::kv(kv, &at.field("KV"), faults)),
        (None, Some(wire), None, None, None) => (true, transit(wire, &at.field("Transit"), faults)),
        (None, None, Some(object), None, None) => {
            let label = text(object, &at.field("Object"), faults);
            (false, label.map(|label| StoredPlace::Object { label }))
        }
        (None, None, None, Some(wire), None) => (false, wrapped(wire, &at.field("Wrapped"), faults)),
        (None, None, None, None, Some(wire)) => (false, held_key(wire, &at.field("Key"), faults)),
        (kv, transit, object, wrapped, key) => {
            let any =
                kv.is_some() || transit.is_some() || object.is_some() || wrapped.is_some() || key.is_some();
            let message = "a stored secret lies in one place";
            let hint = "give one of `KV`, `Transit`, `Object`, `Wrapped` and `Key`";
            faults.hint(at, one_of(any), message, hint);
            return None;
        }
    };
    let store = stores.get(&wire.name).filter(|_| known)?;
    let other = if vault { store.pkcs11.is_some() } else { store.vault.is_some() };
    if other {
        let message = format!("the store `{}` is of another kind", shown(&wire.name));
        let hint = "`KV` and `Transit` are Vault's, `Object`, `Wrapped` and `Key` those of PKCS #11";
        faults.hint(at, Code::Conflict, message, hint);
        return None;
    }
    Some(StoredAt { store: wire.name.parse().ok()?, place: place? })
}

fn kv(wire: &wire::Kv, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<StoredPlace> {
    let mount = mount(wire.mount.as_deref(), "secret", at, faults);
    let path = route(&wire.path, &at.field("Path"), faults);
    let field = text(&wire.field, &at.field("Field"), faults);
    let engine = match (wire.engine, wire.version) {
        (None | Some(2), Some(0)) => {
            faults.add(&at.field("Version"), Code::InvalidValue, "versions count from 1");
            None
        }
        (None | Some(2), version) => Some(KvEngine::Two(version)),
        (Some(1), None) => Some(KvEngine::One),
        (Some(1), Some(_)) => {
            faults.add(&at.field("Version"), Code::NotApplicable, "engine 1 has no versions");
            None
        }
        (Some(_), _) => {
            faults.add(&at.field("Engine"), Code::InvalidValue, "there are the engines 1 and 2");
            None
        }
    };
    let encoding = match wire.encoding.as_deref() {
        None | Some("text") => Some(StoredEncoding::Text),
        Some("base64") => Some(StoredEncoding::Base64),
        Some(_) => {
            faults.add(&at.field("Encoding"), Code::InvalidValue, "this is `text` or `base64`");
            None
        }
    };
    Some(StoredPlace::Kv { mount: mount?, path: path?, field: field?, engine: engine?, encoding: encoding? })
}

fn transit(wire: &wire::Transit, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<StoredPlace> {
    let mount = mount(wire.mount.as_deref(), "transit", at, faults);
    let key = route(&wire.key, &at.field("Key"), faults);
    let body = wire.ciphertext.strip_prefix("vault:v").and_then(|rest| rest.split_once(':'));
    let whole = body.is_some_and(|(version, body)| {
        version.bytes().all(|byte| byte.is_ascii_digit())
            && version.parse::<u32>().is_ok_and(|version| version > 0)
            && STANDARD.decode(body).is_ok_and(|body| !body.is_empty())
    });
    if !whole {
        let message = "a ciphertext of the transit engine has the form vault:v1:BASE64";
        let hint = "take it from `vault write -field=ciphertext transit/encrypt/KEY plaintext=BASE64`";
        faults.hint(&at.field("Ciphertext"), Code::InvalidValue, message, hint);
        return None;
    }
    Some(StoredPlace::Transit { mount: mount?, key: key?, ciphertext: wire.ciphertext.clone() })
}

fn held_key(wire: &wire::HeldKey, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<StoredPlace> {
    let label = text(&wire.label, &at.field("Label"), faults);
    let mechanism = mechanism(&wire.mechanism, &at.field("Mechanism"), faults);
    Some(StoredPlace::Held { label: label?, mechanism: mechanism? })
}

fn mechanism(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<WrapMechanism> {
    match text {
        "RSA-OAEP-SHA256" => Some(WrapMechanism::RsaOaepSha256),
        "RSA-OAEP-SHA1" => Some(WrapMechanism::RsaOaepSha1),
        "AES-GCM" => Some(WrapMechanism::AesGcm),
        _ => {
            let message = "this is `RSA-OAEP-SHA256`, `RSA-OAEP-SHA1` or `AES-GCM`";
            faults.add(at, Code::InvalidValue, message);
            None
        }
    }
}

fn wrapped(wire: &wire::Wrapped, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<StoredPlace> {
    let key = text(&wire.key, &at.field("Key"), faults);
    let mechanism = mechanism(&wire.mechanism, &at.field("Mechanism"), faults);
    // A nonce, a tag, and a byte between them, is the shortest of all.
    let ciphertext = encoding::base64(&wire.ciphertext).filter(|ciphertext| ciphertext.len() > 28);
    if ciphertext.is_none() {
        faults.add(
            &at.field("Ciphertext"),
            Code::InvalidValue,
            "this is standard base64 of more than 28 bytes",
        );
    }
    Some(StoredPlace::Wrapped { key: key?, mechanism: mechanism?, ciphertext: ciphertext? })
}

fn mount(given: Option<&str>, usual: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<String> {
    route(given.unwrap_or(usual), &at.field("Mount"), faults)
}

/// A path below the API: segments that a server cannot read as anything else.
fn route(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<String> {
    let segment = |segment: &str| {
        !segment.is_empty()
            && !matches!(segment, "." | "..")
            && segment.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let clean = text.len() <= LONGEST_TEXT
        && !text.contains(['%', '?', '#', '\\', '"'])
        && text.split('/').all(segment);
    if clean {
        return Some(text.to_owned());
    }
    let message = "this is a path of printable ASCII without spaces, `%`, `?`, `#`, `\\`, quotes, empty or dotted segments";
    faults.add(at, Code::InvalidValue, message);
    None
}

fn text(text: &str, at: &Path<'_>, faults: &mut Collector<'_>) -> Option<String> {
    if !text.is_empty() && text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control) {
        return Some(text.to_owned());
    }
    let message = format!("this has 1 to {LONGEST_TEXT} bytes and no control characters");
    faults.add(at, Code::InvalidValue, message);
    None
}

/// A value in a store has one present; what it was before, the coordinator does not know.
pub(crate) fn previous(
    marbles: &BTreeMap<MarbleName, Marble>,
    secrets: &BTreeMap<SecretName, Secret>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) {
    for marble in marbles.values() {
        for reference in marble.parameters.references() {
            let Reference::Secret { generation: Generation::Previous, name, .. } = reference else {
                continue;
            };
            if secrets.get(name).is_some_and(|secret| matches!(secret.source, SecretSource::Stored(_))) {
                let message = format!("{reference} has no previous value here: it lies in a store");
                let here = at.key(marble.name.as_str());
                let hint = "for an older version name it: `Store.KV.Version`";
                faults.hint(&here.field("Parameters"), Code::TemplateReference, message, hint);
            }
        }
    }
}

/// A key that stays in its store has no value that a Marble could be given.
pub(crate) fn held(
    marbles: &BTreeMap<MarbleName, Marble>,
    secrets: &BTreeMap<SecretName, Secret>,
    at: &Path<'_>,
    faults: &mut Collector<'_>,
) {
    for marble in marbles.values() {
        for reference in marble.parameters.references() {
            let Reference::Secret { name, .. } = reference else { continue };
            if secrets.get(name).is_some_and(Secret::is_held) {
                let message = format!("{reference} has no value: it is a key that stays in its store");
                let here = at.key(marble.name.as_str());
                let hint = "such a key wraps and unwraps: `Broker.Repositories.….Resources.….Use: unwrap`";
                faults.hint(&here.field("Parameters"), Code::TemplateReference, message, hint);
            }
        }
    }
}
