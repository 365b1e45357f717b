//! A mesh whose coordinator's machine is gone: holders of recovery keys bring its state back elsewhere, with another root.

use attested_tls::claims::DatabaseAnchor;
use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
    signature::{KeyPair as _, RSA_PKCS1_SHA256},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    World,
    mesh::{Mesh, ended, note, notes},
};

/// The one holder of a recovery key, who has the whole secret.
struct Holder(KeyPair);

impl Holder {
    fn pem(&self) -> String {
        let public: PublicKeyX509Der<'_> = self.0.public_key().as_der().unwrap();
        let body = STANDARD.encode(public.as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n")
    }

    /// What is uploaded, of what was given when the manifest was set.
    fn uploads(&self, given: &Value) -> Value {
        let encrypted = STANDARD.decode(given["RecoverySecrets"]["alice"].as_str().unwrap()).unwrap();
        let der: Pkcs8V1Der<'_> = self.0.as_der().unwrap();
        let key = PrivateDecryptingKey::from_pkcs8(der.as_ref()).unwrap();
        let key = OaepPrivateDecryptingKey::new(key).unwrap();
        let mut secret = vec![0; key.min_output_size()];
        let secret = key.decrypt(&OAEP_SHA256_MGF1SHA256, &encrypted, &mut secret, None).unwrap();
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), secret, &mut signature).unwrap();
        json!({
            "recoverySecret": STANDARD.encode(secret),
            "recoverySecretSignature": STANDARD.encode(signature),
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_goes_on_in_a_mesh_that_was_recovered_when_it_is_started_again() {
    let anchored = |manifest: &mut Value| manifest["Freshness"] = json!({ "AnchorRequired": true });
    let Some(mut world) = World::with(anchored) else { return };
    let mesh = Mesh::start().await;
    let holder = Holder(KeyPair::generate(KeySize::Rsa2048).unwrap());
    let mut manifest = mesh.manifest(&world);
    manifest["RecoveryKeys"] = json!({ "alice": holder.pem() });
    let given = mesh.set_manifest(&manifest).await;
    // Where the coordinator may run is measured: here and there.
    let (mut launched, elsewhere) = (mesh.launch("ledger"), mesh.elsewhere());
    launched.coordinator.measurements.push(elsewhere.reference());
    world.marble = Some((launched, mesh.address()));
    let served = world.start().await;
    let before = served.serving().await;
    let bank = served.session(&world.parties.bank_b).await;
    bank.batch_execute("INSERT INTO notes VALUES (1, 'x')").await.unwrap();

    let recovered = mesh.moved(elsewhere).await;
    let answer = recovered.asked("POST /api/v2/recover", &holder.uploads(&given)).await;
    assert_eq!(answer["remaining"], 0, "{answer}");
    mesh.mend();
    // The one that runs anchors nothing there: its Evidence names the mesh of before.
    bank.batch_execute("INSERT INTO notes VALUES (2, 'x')").await.expect_err("it is not acknowledged");
    let said = format!("{:#}", anyhow::Error::new(ended(served).await));
    assert!(said.contains("MESH_DIFFERS") && said.contains("start this Marble again"), "{said}");

    let served = world.start().await;
    let after = served.serving().await;
    let root = recovered.root().await;
    assert_eq!(after.anchor, DatabaseAnchor::Coordinator { root: root.into() });
    assert_ne!(after.anchor, before.anchor, "whoever verifies sees that it is another mesh");
    assert_eq!(after.root, before.root);
    note(&served, &world, 3).await.unwrap();
    let there = notes(&served, &world).await;
    assert!(there.first() == Some(&1) && there.last() == Some(&3), "{there:?}");
}
