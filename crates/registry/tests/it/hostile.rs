//! A registry that lies, one lie at a time. It can withhold and delay; it can make nothing run that was not asked for.

use package::{Built, Descriptor};
use registry::{Client, Credentials, PackageError, RegistryError, Sealed, Security, Wanted, fetch};
use zeroize::Zeroizing;

use crate::{
    fake::{Certified, Fake, answer, missing, ok},
    world::*,
};

fn name() -> package::Repository {
    repository("registry.example")
}

/// An honest registry of one package.
fn honest(built: &Built, head: &str) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap();
    if path.ends_with(&built.digest().to_string()) && path.contains("/manifests/") {
        return ok(&built.manifest);
    }
    let blob = built.blobs.iter().find(|(descriptor, _)| path.ends_with(&descriptor.digest.to_string()));
    blob.map_or_else(missing, |(_, bytes)| ok(bytes))
}

/// What comes of a package when this registry has it.
async fn fetched(
    built: Built,
    answers: impl Fn(&Built, &str) -> Vec<u8> + Send + Sync + 'static,
) -> Result<Vec<u8>, PackageError> {
    let digest = built.digest();
    let fake = Fake::start(None, move |head| answers(&built, head)).await;
    let client = Client::new(&fake.host, Security::Plain, None).unwrap();
    let package = pinned(&repository(&fake.host), digest);
    Ok(fetch(&client, &Wanted::Exactly, &package, NOW, &Sealed).await?.workload)
}

#[tokio::test]
async fn what_the_tests_change_is_what_would_be_taken() {
    assert_eq!(fetched(built(&name(), "1.0.0"), honest).await.unwrap(), WASM);
}

#[tokio::test]
async fn s29_a_swapped_manifest_is_refused() {
    let other = built(&name(), "2.0.0");
    let refused = fetched(built(&name(), "1.0.0"), move |built, head| {
        if head.contains("/manifests/") { ok(&other.manifest) } else { honest(built, head) }
    });
    assert_eq!(refused.await.unwrap_err().code(), "CONTENT_DIGEST_MISMATCH");
}

#[tokio::test]
async fn s29_a_swapped_blob_is_refused() {
    let refused = fetched(built(&name(), "1.0.0"), |built, head| {
        let mut other = WASM.to_vec();
        *other.last_mut().unwrap() ^= 1;
        if head.contains("/blobs/") { ok(&other) } else { honest(built, head) }
    });
    assert_eq!(refused.await.unwrap_err().code(), "CONTENT_DIGEST_MISMATCH");
}

#[tokio::test]
async fn a_blob_of_another_size_is_refused() {
    for other in [&WASM[..WASM.len() - 1], &[WASM, b"\0"].concat()] {
        let other = other.to_vec();
        let refused = fetched(built(&name(), "1.0.0"), move |built, head| {
            if head.contains("/blobs/") { ok(&other) } else { honest(built, head) }
        });
        assert_eq!(refused.await.unwrap_err().code(), "CONTENT_SIZE_MISMATCH");
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    for what in ["/manifests/", "/blobs/"] {
        let refused = fetched(built(&name(), "1.0.0"), move |built, head| {
            if head.contains(what) {
                let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
                (0..64).for_each(|_| {
                    endless.extend([b"10000\r\n".as_slice(), &[b' '; 0x1_0000], b"\r\n"].concat())
                });
                endless
            } else {
                honest(built, head)
            }
        });
        assert_eq!(refused.await.unwrap_err().code(), "REGISTRY_ANSWER_TOO_LARGE", "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_early_is_no_answer() {
    let refused = fetched(built(&name(), "1.0.0"), |built, head| {
        let mut whole = honest(built, head);
        if head.contains("/blobs/") {
            whole.truncate(whole.len() - 3);
        }
        whole
    });
    assert_eq!(refused.await.unwrap_err().code(), "REGISTRY_UNREACHABLE");
}

#[tokio::test]
async fn what_is_no_http_is_no_answer() {
    let refused = fetched(built(&name(), "1.0.0"), |_, _| b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()).await;
    assert_eq!(refused.unwrap_err().code(), "REGISTRY_ANSWER_UNUSABLE");
}

#[tokio::test]
async fn a_layer_announced_larger_than_any_workload_is_not_fetched() {
    let honest_one = built(&name(), "1.0.0");
    let mut manifest: serde_json::Value = serde_json::from_slice(&honest_one.manifest).unwrap();
    manifest["layers"][0]["size"] = (1_u64 << 40).into();
    let built = Built { manifest: manifest.to_string().into_bytes(), blobs: honest_one.blobs };
    let refused = fetched(built, |built, head| {
        assert!(!head.contains("/blobs/"));
        honest(built, head)
    });
    assert_eq!(refused.await.unwrap_err().code(), "PACKAGE_MALFORMED");
}

#[tokio::test]
async fn other_manifests_are_no_packages() {
    let honest_one = built(&name(), "1.0.0");
    let read: serde_json::Value = serde_json::from_slice(&honest_one.manifest).unwrap();
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut manifest = read.clone();
        change(&mut manifest);
        manifest.to_string().into_bytes()
    };
    for manifest in [
        changed(&|it| it["mediaType"] = "application/vnd.oci.image.index.v1+json".into()),
        changed(&|it| it["schemaVersion"] = 1.into()),
        changed(&|it| it["layers"] = serde_json::json!([])),
        changed(&|it| {
            let layer = it["layers"][0].clone();
            it["layers"].as_array_mut().unwrap().push(layer);
        }),
        changed(&|it| it["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into()),
        changed(&|it| it["layers"][0]["mediaType"] = "application/wasm+encrypted".into()),
        changed(&|it| it["annotations"]["org.opencontainers.image.version"] = "latest".into()),
        changed(&|it| it["annotations"]["dev.bailey.package.name"] = "../app".into()),
        b"[".repeat(100_000),
    ] {
        let refused = fetched(Built { manifest, blobs: honest_one.blobs.clone() }, honest).await;
        assert_eq!(refused.unwrap_err().code(), "PACKAGE_MALFORMED");
    }
}

#[tokio::test]
async fn a_layer_that_is_no_webassembly_is_refused() {
    let bytes = b"#!/bin/sh\necho hello\n".to_vec();
    let mut manifest: serde_json::Value = serde_json::from_slice(&built(&name(), "1.0.0").manifest).unwrap();
    let layer = Descriptor::of("application/wasm", &bytes);
    manifest["layers"][0] = serde_json::to_value(&layer).unwrap();
    let built = Built { manifest: manifest.to_string().into_bytes(), blobs: vec![(layer, bytes)] };
    assert_eq!(fetched(built, honest).await.unwrap_err().code(), "PACKAGE_MALFORMED");
}

fn credentials() -> Option<Credentials> {
    Some(Credentials { username: "tester".into(), password: Zeroizing::new("secret".into()) })
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_server() {
    let certified = Certified::new();
    let built = built(&name(), "1.0.0");
    let digest = built.digest();
    let of_storage = built.clone();
    let storage = Fake::start(Some(&certified), move |head| honest(&of_storage, head)).await;
    let elsewhere = storage.host.clone();
    let registry = Fake::start(Some(&certified), move |head| {
        if !head.to_ascii_lowercase().contains("authorization: basic") {
            return answer("401 Unauthorized", "www-authenticate: Basic realm=\"r\"\r\n", b"");
        }
        let path = head.split(' ').nth(1).unwrap();
        match path.contains("/blobs/") {
            true => {
                answer("307 Temporary Redirect", &format!("location: https://{elsewhere}{path}\r\n"), b"")
            }
            false => honest(&built, head),
        }
    })
    .await;
    let client = Client::new(&registry.host, certified.security(), credentials()).unwrap();
    let package = pinned(&repository(&registry.host), digest);
    assert_eq!(fetch(&client, &Wanted::Exactly, &package, NOW, &Sealed).await.unwrap().workload, WASM);
    assert!(registry.was_given_credentials());
    assert!(!storage.was_given_credentials());
    assert!(!storage.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_is_sent_from_tls_to_no_tls() {
    let certified = Certified::new();
    for location in
        ["http://localhost:1/x", "ftp://localhost/x", "//localhost/x", "https://user@localhost/x", ""]
    {
        let header = format!("location: {location}\r\n");
        let registry = Fake::start(Some(&certified), move |_| answer("302 Found", &header, b"")).await;
        let client = Client::new(&registry.host, certified.security(), None).unwrap();
        let package = pinned(&repository(&registry.host), package::Digest::of(b""));
        let refused = fetch(&client, &Wanted::Exactly, &package, NOW, &Sealed).await.unwrap_err();
        assert_eq!(refused.code(), "REGISTRY_REDIRECT_REFUSED", "{location}");
    }
}

#[tokio::test]
async fn redirects_end() {
    let refused = fetched(built(&name(), "1.0.0"), |_, head| {
        let path = head.split(' ').nth(1).unwrap();
        answer("302 Found", &format!("location: {path}\r\n"), b"")
    });
    assert_eq!(refused.await.unwrap_err().code(), "REGISTRY_REDIRECT_REFUSED");
}

#[tokio::test]
async fn tokens_are_asked_for_what_we_want_and_of_nobody_without_tls() {
    let certified = Certified::new();
    let built = built(&name(), "1.0.0");
    let digest = built.digest();
    let tokens = Fake::start(Some(&certified), |_| ok(br#"{"token": "t0ken"}"#)).await;
    let realm = format!("https://{}/token", tokens.host);
    for (realm, works) in [(realm, true), ("http://localhost:1/token".to_owned(), false)] {
        let built = built.clone();
        let registry = Fake::start(Some(&certified), move |head| {
            if head.to_ascii_lowercase().contains("authorization: bearer t0ken") {
                return honest(&built, head);
            }
            let challenge = format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"registry:catalog:*\"");
            answer("401 Unauthorized", &format!("www-authenticate: {challenge}\r\n"), b"")
        })
        .await;
        let client = Client::new(&registry.host, certified.security(), credentials()).unwrap();
        let package = pinned(&repository(&registry.host), digest);
        let fetched = fetch(&client, &Wanted::Exactly, &package, NOW, &Sealed).await;
        match works {
            true => assert_eq!(fetched.unwrap().workload, WASM),
            false => assert_eq!(fetched.unwrap_err().code(), "REGISTRY_ANSWER_UNUSABLE"),
        }
    }
    let asked = tokens.asked.lock().unwrap();
    let [head] = asked.as_slice() else { panic!("{asked:?}") };
    assert!(head.starts_with("GET /token?scope=repository%3Ateam%2Fapp%3Apull&service=s "), "{head}");
}

#[tokio::test]
async fn credentials_are_never_sent_without_tls() {
    let refused = Client::new("localhost:1", Security::Plain, credentials());
    assert_eq!(refused.err(), Some(RegistryError::PlainCredentials));
}

#[tokio::test]
async fn a_registry_that_asks_for_credentials_for_ever_is_left() {
    let certified = Certified::new();
    let challenge = "www-authenticate: Basic realm=\"r\"\r\n";
    let registry = Fake::start(Some(&certified), move |_| answer("401 Unauthorized", challenge, b"")).await;
    let client = Client::new(&registry.host, certified.security(), credentials()).unwrap();
    let package = pinned(&repository(&registry.host), package::Digest::of(b""));
    let refused = fetch(&client, &Wanted::Exactly, &package, NOW, &Sealed).await.unwrap_err();
    assert_eq!(refused, PackageError::Registry(RegistryError::Unauthorised { given: true }));
    assert_eq!(registry.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_and_then_left() {
    let asked = std::sync::atomic::AtomicU32::new(0);
    let busy = move |until: u32| {
        let count = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (count < until).then(|| answer("429 Too Many Requests", "retry-after: 0\r\n", b""))
    };
    let works =
        fetched(built(&name(), "1.0.0"), move |built, head| busy(2).unwrap_or_else(|| honest(built, head)));
    assert_eq!(works.await.unwrap(), WASM);
    let always = |_: &Built, _: &str| answer("429 Too Many Requests", "retry-after: 0\r\n", b"");
    assert_eq!(fetched(built(&name(), "1.0.0"), always).await.unwrap_err().code(), "REGISTRY_BUSY");
}
