//! Secret stores: what the manifest says of them, and what each rule refuses.

use manifest::{
    KvEngine, Manifest, SecretSource, StoreKind, StoredAt, StoredEncoding, StoredPlace, VaultAuth,
    WrapMechanism,
};
use serde_json::{Value, json};

use super::{ALICE, ROOT};

fn stores() -> Value {
    json!({
        "Packages": { "app": { "UniqueID": "1a".repeat(32) } },
        "Marbles": { "web": { "Package": "app", "Parameters": { "Env": {
            "DB": "{{ string .Secrets.db }}", "KEY": "{{ hex .Secrets.key }}"
        } } } },
        "SecretStores": {
            "vault": { "Vault": {
                "Address": "https://vault.example.org", "RootCA": ROOT, "Namespace": "team/a",
                "Auth": { "AppRole": { "RoleId": "r", "SecretId": "secret_id" } }
            } },
            "bao": { "Vault": {
                "Address": "https://[::1]:8300/", "RootCA": [ROOT], "Auth": { "Token": "token" }
            } },
            "certified": { "Vault": {
                "Address": "https://10.0.0.1:1", "RootCA": ROOT,
                "Auth": { "Certificate": { "Secret": "client", "Role": "mesh" } }
            } },
            "hsm": { "Pkcs11": { "Library": format!("sha256:{}", "ab".repeat(32)), "Token": "t", "Pin": "pin" } }
        },
        "Secrets": {
            "secret_id": { "Type": "plain", "UserDefined": true },
            "token": { "Type": "plain", "UserDefined": true },
            "pin": { "Type": "plain", "UserDefined": true },
            "client": { "Type": "cert-ecdsa", "Size": 256, "Shared": true, "ValidFor": 7 },
            "made": { "Type": "symmetric-key", "Size": 128, "Shared": true },
            "db": { "Type": "plain", "Store": { "Name": "vault", "KV": { "Path": "db/prod", "Field": "password" } } },
            "key": { "Type": "symmetric-key", "Size": 256, "Store": {
                "Name": "bao", "Transit": { "Key": "mesh", "Ciphertext": "vault:v1:AAAA" }
            } },
            "object": { "Type": "plain", "Store": { "Name": "hsm", "Object": "master" } },
            "wrapped": { "Type": "plain", "Store": { "Name": "hsm", "Wrapped": {
                "Key": "k", "Mechanism": "AES-GCM", "Ciphertext": "A".repeat(40)
            } } }
        },
        "Users": { "alice": { "Certificate": ALICE, "Roles": ["reader"] } },
        "Roles": { "reader": {
            "ResourceType": "Secrets", "ResourceNames": ["db"], "Actions": ["ReadSecret"]
        } }
    })
}

fn parse(document: &Value) -> Result<Manifest, Vec<String>> {
    Manifest::parse(document.to_string().as_bytes())
        .map_err(|faults| faults.all().iter().map(|fault| format!("{} {}", fault.path, fault.code)).collect())
}

#[track_caller]
fn refused(pointer: &str, value: Value, expected: &[&str]) {
    let mut document = stores();
    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).expect(pointer).as_object_mut().expect("an object");
    parent.insert(key.to_owned(), value.clone());
    let faults = parse(&document).err().unwrap_or_default();
    assert_eq!(faults, expected, "{pointer} = {value}");
}

fn stored(manifest: &Manifest, name: &str) -> StoredAt {
    match &manifest.secrets()[name].source {
        SecretSource::Stored(at) => StoredAt::clone(at),
        other => panic!("{other:?}"),
    }
}

#[test]
fn stores_and_what_lies_in_them_are_resolved() {
    let manifest = parse(&stores()).unwrap();
    let StoreKind::Vault(vault) = &manifest.stores()["vault"].kind else { panic!() };
    assert_eq!((vault.host.as_str(), vault.port), ("vault.example.org", 8200));
    assert_eq!((vault.roots.len(), vault.namespace.as_deref()), (1, Some("team/a")));
    assert!(matches!(&vault.auth, VaultAuth::AppRole { mount, .. } if mount == "approle"));
    let StoreKind::Vault(bao) = &manifest.stores()["bao"].kind else { panic!() };
    assert_eq!((bao.host.as_str(), bao.port), ("::1", 8300));
    let StoreKind::Pkcs11(hsm) = &manifest.stores()["hsm"].kind else { panic!() };
    assert_eq!((hsm.library, hsm.token.as_str()), ([0xab; 32], "t"));
    assert_eq!(manifest.stores()["certified"].credential().as_str(), "client");

    let db = stored(&manifest, "db");
    assert_eq!(db.store.as_str(), "vault");
    let expected = StoredPlace::Kv {
        mount: "secret".into(),
        path: "db/prod".into(),
        field: "password".into(),
        engine: KvEngine::Two(None),
        encoding: StoredEncoding::Text,
    };
    assert_eq!(db.place, expected);
    assert!(
        matches!(stored(&manifest, "key").place, StoredPlace::Transit { mount, .. } if mount == "transit")
    );
    assert!(matches!(
        stored(&manifest, "wrapped").place,
        StoredPlace::Wrapped { mechanism: WrapMechanism::AesGcm, .. }
    ));
}

#[test]
fn s30_a_store_is_known_by_roots_of_the_manifest_and_over_tls() {
    let at = "SecretStores.vault.Vault";
    for address in [
        "",
        "http://vault.example.org",
        "https://",
        "https://user@vault.example.org",
        "https://a:0",
        "https://a:x",
        "https://a:99999",
        "https://a/v1",
        "https://[::1",
        "https://a?b",
        "https://A.example.org",
        "https://a:+1",
    ] {
        refused(
            "/SecretStores/vault/Vault/Address",
            json!(address),
            &[&format!("{at}.Address INVALID_VALUE")],
        );
    }
    refused("/SecretStores/vault/Vault/RootCA", json!([]), &[&format!("{at}.RootCA MISSING")]);
    refused(
        "/SecretStores/vault/Vault/RootCA",
        json!("no PEM"),
        &[&format!("{at}.RootCA INVALID_CERTIFICATE")],
    );
    refused(
        "/SecretStores/vault/Vault/InsecureSkipVerify",
        json!(true),
        &[&format!("{at}.InsecureSkipVerify UNKNOWN_FIELD")],
    );
}

#[test]
fn what_authenticates_the_coordinator_comes_from_a_user() {
    let at = "SecretStores.bao.Vault.Auth";
    for secret in ["made", "db", "client", "key"] {
        refused("/SecretStores/bao/Vault/Auth/Token", json!(secret), &[&format!("{at}.Token CONFLICT")]);
    }
    refused("/SecretStores/bao/Vault/Auth/Token", json!("tokn"), &[&format!("{at}.Token UNKNOWN_REFERENCE")]);
    refused("/SecretStores/bao/Vault/Auth", json!({}), &[&format!("{at} MISSING")]);
    let both = json!({ "Token": "token", "AppRole": { "RoleId": "r", "SecretId": "secret_id" } });
    refused("/SecretStores/bao/Vault/Auth", both, &[&format!("{at} CONFLICT")]);
    let at = "SecretStores.certified.Vault.Auth.Certificate.Secret";
    refused(
        "/SecretStores/certified/Vault/Auth/Certificate/Secret",
        json!("pin"),
        &[&format!("{at} CONFLICT")],
    );
    refused("/SecretStores/hsm/Pkcs11/Pin", json!("made"), &["SecretStores.hsm.Pkcs11.Pin CONFLICT"]);
    refused(
        "/SecretStores/hsm/Pkcs11/Library",
        json!("/usr/lib/x.so"),
        &["SecretStores.hsm.Pkcs11.Library INVALID_VALUE"],
    );
    refused("/SecretStores/hsm", json!({}), &["SecretStores.hsm MISSING"]);
}

#[test]
fn a_stored_secret_is_not_also_something_else() {
    refused("/Secrets/db/UserDefined", json!(true), &["Secrets.db.UserDefined CONFLICT"]);
    refused("/Secrets/db/Shared", json!(true), &["Secrets.db.Shared CONFLICT"]);
    let certificate = json!({ "Type": "cert-ecdsa", "Size": 256, "ValidFor": 7, "Store": { "Name": "vault", "KV": {
        "Path": "a", "Field": "b"
    } } });
    refused("/Secrets/other", certificate, &["Secrets.other.Type NOT_APPLICABLE"]);
    refused("/Secrets/db/Store/Name", json!("valt"), &["Secrets.db.Store.Name UNKNOWN_REFERENCE"]);
    refused("/Secrets/db/Store/Name", json!("hsm"), &["Secrets.db.Store CONFLICT"]);
    refused("/Secrets/object/Store/Name", json!("vault"), &["Secrets.object.Store CONFLICT"]);
    refused("/Secrets/db/Store/Object", json!("x"), &["Secrets.db.Store CONFLICT"]);
    refused("/Secrets/db/Store", json!({ "Name": "vault" }), &["Secrets.db.Store MISSING"]);
    refused(
        "/Roles/reader/Actions",
        json!(["WriteSecret"]),
        &["Roles.reader.ResourceNames[0] ROLE_NOT_PERMITTED"],
    );
    refused(
        "/Marbles/web/Parameters/Env/DB",
        json!("{{ string .Previous.Secrets.db }}"),
        &["Marbles.web.Parameters TEMPLATE_REFERENCE"],
    );
}

#[test]
fn places_are_paths_that_a_server_cannot_read_otherwise() {
    let at = "Secrets.db.Store.KV";
    for path in [
        "",
        "a//b",
        "../sys/seal",
        "a/../b",
        "./a",
        "a?version=1",
        "a%2fb",
        "a b",
        "a#",
        "ä",
        "/a",
        "a/",
        "a\\b",
    ] {
        refused("/Secrets/db/Store/KV/Path", json!(path), &[&format!("{at}.Path INVALID_VALUE")]);
    }
    refused("/Secrets/db/Store/KV/Mount", json!("a/../sys"), &[&format!("{at}.Mount INVALID_VALUE")]);
    refused("/Secrets/db/Store/KV/Field", json!(""), &[&format!("{at}.Field INVALID_VALUE")]);
    refused("/Secrets/db/Store/KV/Version", json!(0), &[&format!("{at}.Version INVALID_VALUE")]);
    refused("/Secrets/db/Store/KV/Engine", json!(3), &[&format!("{at}.Engine INVALID_VALUE")]);
    refused("/Secrets/db/Store/KV/Encoding", json!("hex"), &[&format!("{at}.Encoding INVALID_VALUE")]);
    refused(
        "/SecretStores/vault/Vault/Namespace",
        json!("a\r\nX-Vault-Token: b"),
        &["SecretStores.vault.Vault.Namespace INVALID_VALUE"],
    );
    for ciphertext in
        ["", "AAAA", "vault:v0:AAAA", "vault:vx:AAAA", "vault:v1:", "vault:v1:A", "vault:v1:AAAA "]
    {
        let at = "Secrets.key.Store.Transit.Ciphertext INVALID_VALUE";
        refused("/Secrets/key/Store/Transit/Ciphertext", json!(ciphertext), &[at]);
    }
    refused(
        "/Secrets/wrapped/Store/Wrapped/Mechanism",
        json!("RSA-PKCS1"),
        &["Secrets.wrapped.Store.Wrapped.Mechanism INVALID_VALUE"],
    );
    refused(
        "/Secrets/wrapped/Store/Wrapped/Ciphertext",
        json!("AAAA"),
        &["Secrets.wrapped.Store.Wrapped.Ciphertext INVALID_VALUE"],
    );
}

/// A key that stays in its token opens packets for guests, and is given to nobody.
#[test]
fn a_key_that_stays_in_its_store_has_no_value() {
    let key = json!({ "Name": "hsm", "Key": { "Label": "kek", "Mechanism": "AES-GCM" } });
    let mut document = stores();
    document["Secrets"]["kek"] = json!({ "Type": "plain", "Store": key });
    document["Packages"]["guest"] = json!({ "UniqueID": "2b".repeat(32) });
    document["Broker"] = json!({
        "Policies": { "p": { "Packages": ["guest"] } },
        "Repositories": { "r": { "Policy": "p", "Resources": { "image/kek": { "Secret": "kek", "Use": "unwrap" } } } }
    });
    let manifest = parse(&document).unwrap();
    let place = StoredPlace::Held { label: "kek".into(), mechanism: WrapMechanism::AesGcm };
    assert_eq!(stored(&manifest, "kek").place, place);
    assert!(manifest.secrets()["kek"].is_held());

    let mut read = document.clone();
    read["Broker"]["Repositories"]["r"]["Resources"]["image/kek"]["Use"] = json!("read");
    let at = "Broker.Repositories.r.Resources[\"image/kek\"].Secret NOT_APPLICABLE";
    assert_eq!(parse(&read).unwrap_err(), [at]);
    let mut delivered = document.clone();
    delivered["Marbles"]["web"]["Parameters"]["Env"]["KEK"] = json!("{{ hex .Secrets.kek }}");
    assert_eq!(parse(&delivered).unwrap_err(), ["Marbles.web.Parameters TEMPLATE_REFERENCE"]);
    for (name, value, code) in
        [("Label", json!(""), "INVALID_VALUE"), ("Mechanism", json!("AES-ECB"), "INVALID_VALUE")]
    {
        let mut wrong = document.clone();
        wrong["Secrets"]["kek"]["Store"]["Key"][name] = value;
        assert_eq!(parse(&wrong).unwrap_err()[0], format!("Secrets.kek.Store.Key.{name} {code}"));
    }
    let mut two = document.clone();
    two["Secrets"]["kek"]["Store"]["Object"] = json!("x");
    assert!(parse(&two).unwrap_err()[0].starts_with("Secrets.kek.Store "));
}
