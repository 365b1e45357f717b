//! Secrets by version, instances, and evictions, as the operator sees them.

use std::sync::Arc;

use appraisal::{Policy, binding::Role};
use attested_tls::{
    channel::{self, ClaimsRefused, Expectations, Party, PeerPolicy},
    claims::{Claims, KeepClaims},
    clock,
    key::TeeKey,
};
use evidence::{CertificateDer, Platform};
use hyper_util::rt::TokioIo;
use mesh_api::{ActivateRequest, mesh_client::MeshClient};
use serde_bytes::ByteArray;
use serde_json::{Value, json};
use testkit::tee::EmulatedTee;
use tokio::net::TcpStream;

use crate::bench::{Bench, Serving, machine};

const TALLY: [u8; 32] = [0x11; 32];

fn keep() -> Arc<EmulatedTee> {
    EmulatedTee::launch_on(machine(), Platform::Snp, b"bailey-keep", b"")
}

/// Whatever coordinator answers: whom it lets in is what is tested here.
struct Any;

impl PeerPolicy for Any {
    fn role(&self) -> Role {
        Role::Coordinator
    }

    fn expectations(&self, platform: Platform, _: &[u8]) -> Result<Expectations, ClaimsRefused> {
        let root = appraisal::EmulatedRoot::new("test", &machine().roots().intel.0).unwrap();
        let tee = EmulatedTee::launch_on(machine(), platform, b"coordinator", b"");
        let mut reference = tee.reference();
        reference.launch_configuration = None;
        Ok(Expectations {
            policy: Policy::production().trust_emulated([root]),
            measurements: vec![reference],
        })
    }
}

/// A Keep joins as `tally`.
async fn join(serving: &Serving) {
    let key = Arc::new(TeeKey::generate().unwrap());
    let verifier = Arc::new(attested_tls::statement::verifier());
    let party = Party { role: Role::Keep, key, tee: keep(), clock: clock::system(), verifier };
    let claims = KeepClaims {
        marble: "tally".into(),
        engine: "test".into(),
        workload: Some(ByteArray::new(TALLY)),
        package: None,
        configuration: ByteArray::new([0; 32]),
    };
    let stream = TcpStream::connect(serving.mesh).await.unwrap();
    let attested = channel::connect(stream, &party, claims.to_bytes(), &Any).await.unwrap();
    let mut once = Some(TokioIo::new(attested));
    let connector = tower::service_fn(move |_| {
        let stream = once.take().ok_or_else(|| std::io::Error::other("used up"));
        async move { stream }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://coordinator");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    MeshClient::new(channel).activate(ActivateRequest {}).await.unwrap();
}

fn manifest(bench: &Bench) -> Value {
    let mut text = bench.manifest();
    let root = evidence::pem::encode(&CertificateDer(machine().roots().amd.0.to_vec()));
    text["Packages"]["keep"]["Measurements"]["Snp"] = json!(keep().measurement().to_string());
    text["Platforms"]["Snp"] = json!({ "EmulatedRoots": [root] });
    text["Secrets"]["salt"] = json!({ "Type": "symmetric-key", "Size": 256, "Shared": true });
    text["Secrets"]["own"] = json!({ "Type": "symmetric-key", "Size": 256 });
    text["Marbles"]["tally"] = json!({
        "Package": "keep",
        "Workload": { "Digest": format!("sha256:{}", hex::encode(TALLY)) },
        "Parameters": { "Env": {
            "SALT": "{{ hex .Secrets.salt }}", "OWN": "{{ hex .Secrets.own }}", "WORD": "{{ string .Secrets.word }}",
        } },
    });
    text["Roles"]["rotate"] =
        json!({ "ResourceType": "Secrets", "ResourceNames": ["salt", "made"], "Actions": ["RotateSecret"] });
    text["Roles"]["operate"] = json!({
        "ResourceType": "Marbles", "ResourceNames": ["tally", "native"],
        "Actions": ["ReadInstances", "EvictInstance"],
    });
    text["Users"]["ann"]["Roles"].as_array_mut().unwrap().extend([json!("rotate"), json!("operate")]);
    text
}

async fn running(bench: &Bench) -> Serving {
    let serving = bench.serve(b"coordinator", None).await;
    let manifest = bench.write("manifest.json", manifest(bench).to_string());
    bench.act(&serving, "owner", &["manifest", "set", &manifest]).ok();
    serving
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_by_version_with_what_is_left_of_their_lives() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let ann = |arguments: &[&str]| bench.act(&serving, "ann", arguments);
    let word = bench.write("word", "hush");
    ann(&["secret", "set", "word", "--file", &word, "--expires", "30d"]).ok();
    ann(&["secret", "set", "word", "--file", &word, "--expires", "soon"]).failed(2);
    assert_eq!(ann(&["secret", "rotate", "salt"]).ok(), "salt is version 2 now\n");
    assert!(ann(&["secret", "rotate", "word"]).failed(1).contains("NOT_GRANTED"));
    let listed = ann(&["secret", "list"]).ok();
    println!("{listed}");
    for line in [
        "salt  symmetric-key, shared, version 2\n",
        // 29, or 30 within the second of the upload.
        "word  plain, user-defined, version 1, expires in ",
        "other  plain, user-defined: unset\n",
    ] {
        assert!(listed.contains(line), "{line}{listed}");
    }
    assert!(!listed.contains("hush"));
    let listed: Value = serde_json::from_str(&ann(&["secret", "list", "--json"]).ok()).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 5);
    let got: Value = serde_json::from_str(&ann(&["secret", "get", "word", "--json"]).ok()).unwrap();
    assert_eq!(got["word"]["Version"], 1);
    let past =
        ann(&["secret", "set", "word", "--file", &word, "--expires", "2020-01-01T00:00:00Z"]).failed(1);
    assert!(past.contains("SECRET_REFUSED"), "{past}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_node_is_named_and_sent_away() {
    let bench = Bench::new();
    let serving = running(&bench).await;
    let ann = |arguments: &[&str]| bench.act(&serving, "ann", arguments);
    let word = bench.write("word", "hush");
    ann(&["secret", "set", "word", "--file", &word]).ok();
    assert_eq!(ann(&["instances"]).ok(), "");
    join(&serving).await;
    join(&serving).await;
    let listed = ann(&["instances"]).ok();
    println!("{listed}");
    assert_eq!(listed.matches("has own (its own), salt v1, word v1").count(), 2, "{listed}");
    let known: Value = serde_json::from_str(&ann(&["instances", "--json"]).ok()).unwrap();
    let instance = known[0]["instance"].as_str().unwrap();
    let machine = known[0]["machine"].as_str().unwrap();

    // Without a person who says yes, it is named and nothing more.
    let named = ann(&["evict", &instance[..12]]).ok();
    println!("{named}");
    assert!(named.contains("salt v1 (symmetric-key): would be rotated to v2"), "{named}");
    assert!(named.ends_with("Nothing was done.\n"), "{named}");
    assert_eq!(ann(&["instances"]).ok(), listed);
    let done = ann(&["evict", &instance[..12], "--yes"]).ok();
    println!("{done}");
    for line in [
        "1 certificate counts no more",
        "own (symmetric-key): its own: nobody gets this value again",
        "salt v1 (symmetric-key): rotated to v2",
        "word v1 (plain): user-defined: a person must upload a new value",
    ] {
        assert!(done.contains(line), "{line}\n{done}");
    }
    assert!(ann(&["secret", "list"]).ok().contains("an evicted instance could have read it"));
    let gone = ann(&["instances", "--evicted"]).ok();
    println!("{gone}");
    assert!(gone.starts_with(instance) && gone.contains("(tally), by ann at "), "{gone}");

    let done = ann(&["evict", "--platform", machine, "--withhold", "--yes"]).ok();
    println!("{done}");
    assert!(done.contains("nothing joins from there again"), "{done}");
    assert!(done.contains("salt v1 (symmetric-key): v2 is newer: not rotated again"), "{done}");
    assert!(done.contains("delivered to nobody until then"), "{done}");
    assert_eq!(ann(&["instances"]).ok(), "");
    for (arguments, code, said) in [
        (vec!["evict", instance, "--yes"], 1, "EVICTED"),
        (vec!["evict", "--platform", "snp:00", "--yes"], 1, "MACHINE_UNKNOWN"),
        (vec!["evict", "123"], 2, "at least 8"),
        (vec!["evict", "00000000"], 1, "no instance"),
        (vec!["evict"], 2, "required"),
    ] {
        let refused = ann(&arguments).failed(code);
        assert!(refused.contains(said), "{arguments:?}: {refused}");
    }
    let refused = bench.act(&serving, "ben", &["instances"]).failed(1);
    assert!(refused.contains("NOT_GRANTED"), "{refused}");
}
