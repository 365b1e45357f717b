//! Secrets and names.

use super::*;

#[test]
fn secrets_are_what_they_can_be() {
    let at = |field: &str, code: &str| format!("Secrets.new.{field} {code}");
    for (secret, expected) in [
        (json!({}), at("Type", "INVALID_VALUE")),
        (json!({"Type": "symetric-key", "Size": 8}), at("Type", "INVALID_VALUE")),
        (json!({"Type": "symmetric-key"}), at("Size", "INVALID_VALUE")),
        (json!({"Type": "symmetric-key", "Size": 129}), at("Size", "INVALID_VALUE")),
        (json!({"Type": "symmetric-key", "Size": 65_288}), at("Size", "INVALID_VALUE")),
        (json!({"Type": "symmetric-key", "Size": 128, "ValidFor": 1}), at("ValidFor", "NOT_APPLICABLE")),
        (json!({"Type": "symmetric-key", "Size": 128, "Cert": {}}), at("Cert", "NOT_APPLICABLE")),
        (json!({"Type": "symmetric-key", "Size": 128, "Private": "aGk="}), at("Private", "UNSAFE")),
        (json!({"Type": "plain", "UserDefined": true, "Size": 8}), at("Size", "NOT_APPLICABLE")),
        (json!({"Type": "cert-ed25519", "Size": 256}), at("Size", "INVALID_VALUE")),
        (json!({"Type": "cert-rsa", "Size": 1024}), at("Size", "INVALID_VALUE")),
        (json!({"Type": "cert-ecdsa", "Size": 224}), at("Size", "NOT_YET_SUPPORTED")),
        (json!({"Type": "cert-ed25519", "ValidFor": 40_000}), at("ValidFor", "INVALID_VALUE")),
        (
            json!({"Type": "cert-ed25519", "Cert": {"SerialNumber": 1}}),
            at("Cert.SerialNumber", "NOT_APPLICABLE"),
        ),
        (json!({"Type": "cert-ed25519", "Cert": {"Issuer": {}}}), at("Cert.Issuer", "NOT_APPLICABLE")),
        (json!({"Type": "cert-ed25519", "Cert": {"KeyUsage": 512}}), at("Cert.KeyUsage", "INVALID_VALUE")),
        (
            json!({"Type": "cert-ed25519", "Cert": {"ExtKeyUsage": [7]}}),
            at("Cert.ExtKeyUsage[0]", "INVALID_VALUE"),
        ),
        (
            json!({"Type": "cert-ed25519", "Cert": {"DNSNames": ["A"]}}),
            at("Cert.DNSNames[0]", "INVALID_NAME"),
        ),
        (json!({"Type": "cert-ed25519", "Cert": {"NotAfter": "soon"}}), at("Cert.NotAfter", "INVALID_VALUE")),
    ] {
        refused(marblerun(), "/Secrets/new", secret, &[&expected]);
    }
    refused(marblerun(), "/Secrets/new", json!({"Type": "plain"}), &["Secrets.new MISSING"]);
    refused(
        marblerun(),
        "/Secrets/new",
        json!({"Type": "cert-ecdsa", "Size": 255, "ValidFor": 1, "Cert": {"NotAfter": "2030-01-01T00:00:00Z"}}),
        &["Secrets.new.Size INVALID_VALUE", "Secrets.new.ValidFor CONFLICT"],
    );
}

#[test]
fn names_can_be_shown_and_told_apart() {
    let key = json!({"Type": "symmetric-key", "Size": 128});
    for (place, value) in [
        ("Packages", marblerun()["Packages"]["backend"].clone()),
        ("Secrets", key),
        ("Users", json!({"Certificate": BOB.replace('\n', "\r\n")})),
        ("Roles", json!({"ResourceType": "Secrets"})),
    ] {
        for name in ["", " x", "a\u{1b}[2J", "\u{430}dmin"] {
            let document = with(marblerun(), "/Users", json!({}));
            let found = faults(&with(document, &format!("/{place}/{name}"), value.clone()));
            assert!(found.len() == 1 && found[0].ends_with("INVALID_NAME"), "{place} {name:?}: {found:?}");
            assert!(!found[0].contains('\u{1b}'));
        }
    }
}

#[test]
fn secrets_are_rotated_expire_and_follow_machines_where_it_means_something() {
    let mut good = marblerun();
    good["Secrets"]["own_key"]["Scope"] = json!("Platform");
    good["Secrets"]["api_key"]["MaxAge"] = json!("30d");
    good["Roles"]["rotator"] = json!({
        "ResourceType": "Secrets", "ResourceNames": ["shared_key"], "Actions": ["rotatesecret"]
    });
    good["Roles"]["operator"] = json!({
        "ResourceType": "Marbles", "ResourceNames": ["frontend"], "Actions": ["ReadInstances", "EvictInstance"]
    });
    good["Users"]["alice"]["Roles"]
        .as_array_mut()
        .expect("roles")
        .extend([json!("rotator"), json!("operator")]);
    let manifest = parse(&good).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(manifest.secrets()["own_key"].source, SecretSource::PerPlatform);
    assert_eq!(manifest.secrets()["api_key"].max_age, Some(std::time::Duration::from_secs(30 * 86_400)));
    let alice = &manifest.users()["alice"];
    let shared = "shared_key".parse().expect("a name");
    assert!(alice.may(Action::RotateSecret, &shared) && !alice.may(Action::WriteSecret, &shared));
    assert!(alice.may_on(InstanceAction::EvictInstance, "frontend"));
    assert!(!alice.may_on(InstanceAction::EvictInstance, "backend_first"));

    let (never, form) = ("NOT_APPLICABLE", "INVALID_VALUE");
    for (pointer, value, expected) in [
        ("/Secrets/own_key/Scope", json!("Machine"), format!("Secrets.own_key.Scope {form}")),
        ("/Secrets/shared_key/Scope", json!("Platform"), format!("Secrets.shared_key.Scope {never}")),
        ("/Secrets/api_key/Scope", json!("Instance"), format!("Secrets.api_key.Scope {never}")),
        ("/Secrets/shared_key/MaxAge", json!("30d"), format!("Secrets.shared_key.MaxAge {never}")),
        ("/Secrets/api_key/MaxAge", json!("soon"), format!("Secrets.api_key.MaxAge {form}")),
        ("/Roles/operator/Actions", json!(["Evict"]), format!("Roles.operator.Actions[0] {form}")),
        (
            "/Roles/operator/ResourceNames",
            json!(["nobody"]),
            "Roles.operator.ResourceNames[0] UNKNOWN_REFERENCE".to_owned(),
        ),
        (
            "/Roles/rotator/ResourceNames",
            json!(["api_key", "own_key"]),
            "Roles.rotator.ResourceNames[0] ROLE_NOT_PERMITTED".to_owned(),
        ),
    ] {
        assert_eq!(faults(&with(good.clone(), pointer, value)).first(), Some(&expected), "{pointer}");
    }
}
