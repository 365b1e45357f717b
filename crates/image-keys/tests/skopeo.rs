//! Real skopeo encrypts and decrypts images through the provider's gRPC service. See `testkit::oci` for what is installed.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use image_keys::{
    BackendError, Kek, KeyName, Packet, Parameter, Provider, Unwrapper, Wrapper,
    grpc::{self, Client, Input, ListenError, Listener},
};
use serde_json::{Value, json};
use testkit::oci::{Images, PACKETS, skopeo};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;
use zeroize::Zeroizing;

const KEY: &str = "kbs:///default/key/1";

/// Keys at hand. What `bound` says decides the form of packets.
#[derive(Clone)]
struct Keys {
    keys: Arc<BTreeMap<String, Kek>>,
    bound: bool,
}

impl Keys {
    fn new(keys: &[(&str, [u8; 32])]) -> Self {
        let keys = keys.iter().map(|(name, key)| ((*name).to_owned(), Kek::new(key).unwrap())).collect();
        Self { keys: Arc::new(keys), bound: false }
    }

    fn key(&self, name: &KeyName) -> Result<&Kek, BackendError> {
        self.keys.get(&name.to_string()).ok_or_else(|| BackendError::Refused("there is no such key".into()))
    }
}

#[async_trait]
impl Wrapper for Keys {
    async fn wrap(&self, parameter: &Parameter, options: &[u8]) -> Result<Packet, BackendError> {
        let Parameter::Kept(name) = parameter else {
            return Err(BackendError::Refused("keys of files are not taken here".into()));
        };
        let key = self.key(name)?;
        Ok(if self.bound { key.wrap_bound(name, None, options)? } else { key.wrap(name, options)? })
    }
}

#[async_trait]
impl Unwrapper for Keys {
    async fn unwrap(&self, packet: &Packet) -> Result<Zeroizing<Vec<u8>>, BackendError> {
        Ok(self.key(&packet.key)?.unwrap(packet)?)
    }
}

struct Served {
    target: String,
    _stop: DropGuard,
}

impl Served {
    async fn by(provider: Provider) -> Self {
        Self::at(provider, Listener::loopback("127.0.0.1:0".parse().unwrap()).await.unwrap())
    }

    fn at(provider: Provider, listener: Listener) -> Self {
        let (target, stop) = (listener.target().unwrap(), CancellationToken::new());
        tokio::spawn(grpc::serve(provider, listener, stop.clone()));
        Self { target, _stop: stop.drop_guard() }
    }

    /// ocicrypt's configuration, by the provider's name.
    fn config(&self, name: &str) -> Value {
        json!({ "key-providers": { name: { "grpc": self.target } } })
    }
}

fn both(keys: &Keys) -> Provider {
    Provider::default().wrapping(keys.clone()).unwrapping(keys.clone())
}

fn from_base64(text: &Value) -> Vec<u8> {
    BASE64.decode(text.as_str().unwrap()).unwrap()
}

const ENCRYPT: [&str; 2] = ["--encryption-key", "provider:bailey:kbs:///default/key/1"];
const DECRYPT: [&str; 2] = ["--decryption-key", "provider:bailey:any"];

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_encrypts_and_decrypts() {
    if skopeo().is_none() {
        return;
    }
    let images = Images::plain();
    for bound in [false, true] {
        let keys = Keys { bound, ..Keys::new(&[(KEY, [7; 32])]) };
        let served = Served::by(both(&keys)).await;
        let (encrypted, decrypted) = (format!("encrypted-{bound}"), format!("decrypted-{bound}"));
        images.copy(&served.config("bailey"), &ENCRYPT, "plain", &encrypted).unwrap();
        let manifest = images.manifest(&encrypted);
        for layer in manifest["layers"].as_array().unwrap() {
            assert!(layer["mediaType"].as_str().unwrap().ends_with("+encrypted"), "{layer}");
        }
        let packet = images.packet(&encrypted, 0, "bailey");
        assert_eq!(packet["kid"], KEY);
        assert_eq!(packet["provider"], if bound { "bailey" } else { "kbs" });
        assert_ne!(images.layers(&encrypted), images.layers("plain"));
        images.copy(&served.config("bailey"), &DECRYPT, &encrypted, &decrypted).unwrap();
        assert_eq!(images.layers(&decrypted), images.layers("plain"));
    }
}

/// CoCo's name for the provider, its parameter and its packet.
#[tokio::test(flavor = "multi_thread")]
async fn skopeo_encrypts_for_confidential_containers() {
    if skopeo().is_none() {
        return;
    }
    let images = Images::plain();
    let keys = Keys::new(&[(KEY, [7; 32])]);
    let served = Served::by(both(&keys)).await;
    let config = served.config("attestation-agent");
    let how =
        ["--encryption-key", "provider:attestation-agent:keyid=kbs:///default/key/1::algorithm=A256GCM"];
    images.copy(&config, &how, "plain", "encrypted").unwrap();
    assert_eq!(images.packet("encrypted", 0, "attestation-agent")["provider"], "kbs");
    let how = ["--decryption-key", "provider:attestation-agent:any"];
    images.copy(&config, &how, "encrypted", "decrypted").unwrap();
    assert_eq!(images.layers("decrypted"), images.layers("plain"));
    // Packets of version 1 and of verdictd, with the same ciphertext, open as well.
    images.repacked("encrypted", "v1", "attestation-agent", |packet| {
        for member in ["version", "provider", "provider_settings", "annotations"] {
            packet.as_object_mut().unwrap().remove(member);
        }
    });
    images.copy(&config, &how, "v1", "decrypted-v1").unwrap();
    images.repacked("encrypted", "verdictd", "attestation-agent", |packet| {
        let mut verdictd = Packet::parse(packet.to_string().as_bytes()).unwrap();
        verdictd.form = image_keys::Form::Verdictd;
        *packet = serde_json::from_slice(&verdictd.to_json()).unwrap();
        assert_eq!((&packet["kid"], &packet["algorithm"]), (&json!("1"), &json!("AES")));
    });
    images.copy(&config, &how, "verdictd", "decrypted-verdictd").unwrap();
    assert_eq!(images.layers("decrypted-verdictd"), images.layers("plain"));
}

/// A provider on a socket that only its owner can use.
#[tokio::test(flavor = "multi_thread")]
async fn skopeo_reaches_a_socket_of_the_file_system() {
    use std::os::unix::fs::PermissionsExt;
    if skopeo().is_none() {
        return;
    }
    let (images, folder) = (Images::plain(), tempfile::tempdir().unwrap());
    let path = folder.path().join("provider.sock");
    let served = Served::at(both(&Keys::new(&[(KEY, [7; 32])])), Listener::unix(&path).unwrap());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    images.copy(&served.config("bailey"), &ENCRYPT, "plain", "encrypted").unwrap();
    images.copy(&served.config("bailey"), &DECRYPT, "encrypted", "decrypted").unwrap();
    assert_eq!(images.layers("decrypted"), images.layers("plain"));
    assert!(Listener::unix(&path).is_err(), "what is there is not replaced");
}

/// Whoever holds the image changes it; skopeo and the provider refuse.
#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_image_is_refused() {
    if skopeo().is_none() {
        return;
    }
    let images = Images::plain();
    let other = "kbs:///default/key/2";
    // Two names of one key: only the binding of the packet tells them apart.
    let keys = Keys {
        bound: true,
        ..Keys::new(&[(KEY, [7; 32]), (other, [7; 32]), ("kbs:///default/key/3", [9; 32])])
    };
    let served = Served::by(both(&keys)).await;
    let config = served.config("bailey");
    images.copy(&config, &ENCRYPT, "plain", "encrypted").unwrap();
    let refused = |name: &str, words: &str| {
        let said = images.copy(&config, &DECRYPT, name, &format!("{name}-decrypted")).unwrap_err();
        assert!(said.contains(words), "{name}: {said}");
    };

    // A layer, one bit of it, under the digest that is then right.
    images.changed("encrypted", "layer", |manifest| {
        let digest = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
        let mut bytes = images.blob("layer", &digest);
        bytes[20] ^= 1;
        manifest["layers"][0]["digest"] = json!(images.put("layer", &bytes));
    });
    refused("layer", "could not properly decrypt");

    // The annotation with the layer's MAC.
    images.changed("encrypted", "mac", |manifest| {
        let options = &mut manifest["layers"][0]["annotations"]["org.opencontainers.image.enc.pubopts"];
        let mut read: Value = serde_json::from_slice(&from_base64(options)).unwrap();
        let mut mac = from_base64(&read["hmac"]);
        mac[0] ^= 1;
        read["hmac"] = json!(BASE64.encode(mac));
        *options = json!(BASE64.encode(read.to_string()));
    });
    refused("mac", "could not properly decrypt");

    // The packets of two layers, exchanged: each opens, and neither layer does.
    images.changed("encrypted", "exchanged", |manifest| {
        let name = format!("{PACKETS}bailey");
        let first = manifest["layers"][0]["annotations"][&name].take();
        let second = manifest["layers"][1]["annotations"][&name].take();
        manifest["layers"][0]["annotations"][&name] = second;
        manifest["layers"][1]["annotations"][&name] = first;
    });
    refused("exchanged", "could not properly decrypt");

    let not_opened = "does not open";
    images.repacked("encrypted", "wrapped", "bailey", |packet| {
        let text = packet["wrapped_data"].as_str().unwrap();
        let first = if text.starts_with('A') { "B" } else { "A" };
        packet["wrapped_data"] = json!(format!("{first}{}", &text[1..]));
    });
    refused("wrapped", not_opened);
    images.repacked("encrypted", "same-key", "bailey", |packet| packet["kid"] = json!(other));
    refused("same-key", not_opened);
    images
        .repacked("encrypted", "other-key", "bailey", |packet| packet["kid"] = json!("kbs:///default/key/3"));
    refused("other-key", not_opened);
    images.repacked("encrypted", "unbound", "bailey", |packet| packet["provider"] = json!("kbs"));
    refused("unbound", not_opened);
    images.repacked("encrypted", "no-key", "bailey", |packet| packet["kid"] = json!("kbs:///default/key/4"));
    refused("no-key", "there is no such key");
    images.repacked("encrypted", "traversal", "bailey", |packet| {
        packet["kid"] = json!("kbs:///../../etc/shadow")
    });
    refused("traversal", "names no key");
    images.repacked("encrypted", "ctr", "bailey", |packet| packet["wrap_type"] = json!("A256CTR"));
    refused("ctr", "authenticates nothing");
    images.repacked("encrypted", "zero", "bailey", |packet| packet["wrapped_data"] = json!([0]));
    refused("zero", "too short");
    images.repacked("encrypted", "none", "bailey", |packet| *packet = json!(null));
    refused("none", "not the JSON object");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_decrypts_nothing() {
    if skopeo().is_none() {
        return;
    }
    let images = Images::plain();
    let right = Served::by(both(&Keys::new(&[(KEY, [7; 32])]))).await;
    images.copy(&right.config("bailey"), &ENCRYPT, "plain", "encrypted").unwrap();
    let wrong = Served::by(both(&Keys::new(&[(KEY, [8; 32])]))).await;
    let said = images.copy(&wrong.config("bailey"), &DECRYPT, "encrypted", "decrypted").unwrap_err();
    assert!(said.contains("does not open"), "{said}");
}

/// Defect of verdictd: where encryption fails, the image gets a packet all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_to_wrap_fails_the_copy() {
    if skopeo().is_none() {
        return;
    }
    let images = Images::plain();
    let served = Served::by(both(&Keys::new(&[(KEY, [7; 32])]))).await;
    for (parameter, words) in [
        ("kbs:///default/key/2", "there is no such key"),
        ("kbs:///../../etc/shadow", "names no key"),
        ("my-key", "kbs:///REPOSITORY/TYPE/TAG"),
        ("sample=true", "everybody knows"),
        ("keyid=kbs:///default/key/1::algorithm=A256CTR", "authenticates nothing"),
        ("keypath=/k::keyid=kbs:///default/key/1", "not taken here"),
    ] {
        let how = ["--encryption-key", &format!("provider:bailey:{parameter}")];
        let said = images.copy(&served.config("bailey"), &how, "plain", "failed").unwrap_err();
        assert!(said.contains(words), "{parameter}: {said}");
        assert!(!images.folder("failed").join("index.json").exists(), "{parameter}");
    }
    let two = ["--encryption-key", "provider:bailey:a/b/c", "--encryption-key", "provider:bailey:d/e/f"];
    let said = images.copy(&served.config("bailey"), &two, "plain", "failed").unwrap_err();
    assert!(said.contains("several keys"), "{said}");
}

/// What callers may do is fixed by what the provider was given, and by which method they call.
#[tokio::test(flavor = "multi_thread")]
async fn the_service_refuses_what_is_not_asked_of_it() {
    let keys = Keys::new(&[(KEY, [7; 32])]);
    let served = Served::by(Provider::default().wrapping(keys)).await;
    let mut client = Client::connect(format!("http://{}", served.target)).await.unwrap();
    let input = |text: &str| Input { key_provider_key_wrap_protocol_input: text.as_bytes().to_vec() };
    let unwrap = r#"{"op":"keyunwrap","keyunwrapparams":{"annotation":"e30="}}"#;
    let wrap =
        r#"{"op":"keywrap","keywrapparams":{"ec":{"Parameters":{"other":["YS9iL2M="]}},"optsdata":"e30="}}"#;
    assert_eq!(client.un_wrap_key(input(unwrap)).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(client.wrap_key(input(unwrap)).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(client.un_wrap_key(input(wrap)).await.unwrap_err().code(), Code::InvalidArgument);
    let status = client.wrap_key(input(wrap)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("provider:bailey:kbs:///"), "{status:?}");
    for wrong in ["", "{}", "[", "null"] {
        assert_eq!(client.wrap_key(input(wrong)).await.unwrap_err().code(), Code::InvalidArgument, "{wrong}");
    }
    let long = "x".repeat(image_keys::protocol::MAX_REQUEST + 1);
    assert_eq!(client.wrap_key(input(&long)).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn a_provider_is_not_for_other_machines() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let address: SocketAddr = address.parse().unwrap();
        assert!(matches!(Listener::loopback(address).await, Err(ListenError::NotLoopback(_))));
    }
}
