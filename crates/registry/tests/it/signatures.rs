//! Signatures that must not count: of other packages, of other kinds, of nobody, and of older versions.

use package::{
    Artefact, Attached, Built, Descriptor, Digest, MANIFEST_TYPE, Referrers, Repository, SignedStatement,
    StatementError,
};
use reference_statements::{Attested, Signer, Signers, SigningKey, TrustRoot};
use registry::{Client, PackageError, Sealed, Security, Wanted, fetch};

use crate::{
    fake::{Fake, missing, ok},
    world::*,
};

/// What comes of a package that has these bundles beside it.
async fn fetched(
    built: &Built,
    bundles: &[Vec<u8>],
    wanted: &Wanted,
) -> Result<registry::Fetched, PackageError> {
    let digest = built.digest();
    let subject = Descriptor::of(MANIFEST_TYPE, &built.manifest);
    let (mut list, mut content) = (Referrers::default(), vec![built.manifest.clone()]);
    content.extend(built.blobs.iter().map(|(_, bytes)| bytes.clone()));
    for bundle in bundles {
        let (manifest, listed) = Attached::to_subject(&subject, bundle);
        list = list.with(listed);
        content.extend([manifest, bundle.clone()]);
    }
    let list = list.to_json();
    let fake = Fake::start(None, move |head| {
        let path = head.split(' ').nth(1).unwrap();
        if path.contains("/referrers/") {
            return ok(&list);
        }
        let named = content.iter().find(|bytes| path.ends_with(&Digest::of(bytes).to_string()));
        named.map_or_else(missing, |bytes| ok(bytes))
    })
    .await;
    let client = Client::new(&fake.host, Security::Plain, None).unwrap();
    fetch(&client, wanted, &pinned(&repository(&fake.host), digest), NOW, &Sealed).await
}

fn app() -> Repository {
    "registry.example/team/app".parse().unwrap()
}

fn signed(key: &SigningKey, digest: Digest, name: Option<&str>, version: Option<&str>) -> Vec<u8> {
    let name = name.map(|name| name.parse().unwrap());
    let version = version.map(|version| version.parse().unwrap());
    key.bundle(&SignedStatement { digest, name, version }.to_json()).unwrap()
}

#[tokio::test]
async fn all_kinds_of_keys_sign() {
    let built = built(&app(), "1.0.0");
    for kind in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let key = SigningKey::from_pem(&pair.serialize_pem()).unwrap();
        let wanted = wanted(&app(), "1.0.0", &key);
        let fetched = fetched(&built, &[bundle(&key, built.digest())], &wanted).await.unwrap();
        assert_eq!(fetched.release.unwrap().signer, "release");
    }
}

#[tokio::test]
async fn s38_a_signature_of_another_package_does_not_count() {
    let (key, built, other) = (key(), built(&app(), "1.0.0"), crate::world::built(&app(), "1.0.1"));
    let refused = fetched(&built, &[bundle(&key, other.digest())], &wanted(&app(), "1.0.0", &key)).await;
    assert_eq!(refused.unwrap_err().code(), "STATEMENT_OF_OTHER_PACKAGE");
}

#[tokio::test]
async fn s38_a_package_signed_under_another_name_does_not_count() {
    let (key, other) = (key(), built(&"registry.example/team/tool".parse().unwrap(), "9.0.0"));
    let wanted = wanted(&app(), "1.0.0", &key);
    let refused = fetched(&other, &[bundle(&key, other.digest())], &wanted).await;
    assert_eq!(refused.unwrap_err().code(), "WORKLOAD_NAME_MISMATCH");
    // Nor does the signer's word under this name for what says itself that it is another.
    let contradicted = signed(&key, other.digest(), Some("registry.example/team/app"), None);
    let refused = fetched(&other, &[contradicted], &wanted).await;
    assert_eq!(refused.unwrap_err().code(), "STATEMENT_CONTRADICTED");
}

#[tokio::test]
async fn s45_an_older_version_is_refused_whatever_is_said_of_it() {
    let (key, old) = (key(), built(&app(), "1.1.9"));
    let wanted = wanted(&app(), "1.2.0", &key);
    let refused = fetched(&old, &[bundle(&key, old.digest())], &wanted).await;
    assert_eq!(refused.unwrap_err().code(), "WORKLOAD_VERSION_TOO_LOW");
    let newer = signed(&key, old.digest(), None, Some("1.3.0"));
    let refused = fetched(&old, &[newer], &wanted).await;
    assert_eq!(refused.unwrap_err().code(), "STATEMENT_CONTRADICTED");
}

#[tokio::test]
async fn s38_a_statement_of_another_kind_approves_nothing() {
    let (key, built) = (key(), built(&app(), "1.0.0"));
    let statement = SignedStatement { digest: built.digest(), name: None, version: None }.to_json();
    let statement = String::from_utf8(statement).unwrap();
    let scan = statement.replace(package::PREDICATE_TYPE, "https://cosign.sigstore.dev/attestation/vuln/v1");
    let bundle = key.bundle(scan.as_bytes()).unwrap();
    let refused = fetched(&built, &[bundle], &wanted(&app(), "1.0.0", &key)).await;
    assert_eq!(refused.unwrap_err().code(), "STATEMENT_OF_OTHER_TYPE");
}

#[tokio::test]
async fn an_altered_bundle_is_nobodys() {
    let (key, built) = (key(), built(&app(), "1.0.0"));
    let wanted = wanted(&app(), "1.0.0", &key);
    let good = String::from_utf8(bundle(&key, built.digest())).unwrap();
    let read: serde_json::Value = serde_json::from_str(&good).unwrap();
    let mut no_signature = read.clone();
    no_signature["dsseEnvelope"]["signatures"] = serde_json::json!([]);
    let mut other_type = read.clone();
    other_type["dsseEnvelope"]["payloadType"] = "text/plain".into();
    let mut no_envelope = read.clone();
    no_envelope.as_object_mut().unwrap().remove("dsseEnvelope");
    let mut other_signature = read.clone();
    let signature = read["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap();
    let first = if signature.starts_with('A') { "B" } else { "A" };
    other_signature["dsseEnvelope"]["signatures"][0]["sig"] = format!("{first}{}", &signature[1..]).into();
    for bundle in [no_signature, other_type, no_envelope, other_signature, serde_json::json!({})] {
        let bundle = bundle.to_string().into_bytes();
        let refused = fetched(&built, &[bundle], &wanted).await.unwrap_err();
        assert_eq!(refused.code(), "WORKLOAD_SIGNER_UNKNOWN");
    }
    // One that counts among many that do not is enough.
    let bundles = [bundle(&crate::world::key(), built.digest()), b"{}".to_vec(), good.into_bytes()];
    assert!(fetched(&built, &bundles, &wanted).await.is_ok());
}

/// As other tools push them: what the package does not say of itself, the signer says.
#[tokio::test]
async fn a_package_without_a_name_is_named_by_its_signer() {
    let (key, named) = (key(), built(&app(), "1.0.0"));
    let mut manifest: serde_json::Value = serde_json::from_slice(&named.manifest).unwrap();
    manifest.as_object_mut().unwrap().remove("annotations");
    let plain = Built { manifest: manifest.to_string().into_bytes(), blobs: named.blobs };
    assert_eq!(Artefact::read(&plain.manifest).unwrap().name, None);
    let wanted = wanted(&app(), "1.0.0", &key);
    let refused = fetched(&plain, &[bundle(&key, plain.digest())], &wanted).await;
    assert_eq!(refused.unwrap_err().code(), "PACKAGE_UNNAMED");
    let signed = signed(&key, plain.digest(), Some("registry.example/team/app"), Some("1.4.0"));
    let release = fetched(&plain, &[signed], &wanted).await.unwrap().release.unwrap();
    assert_eq!(release.version.to_string(), "1.4.0");
}

/// A real bundle (reference-statements' `tests/vectors/README.md`) of the same form as a package's: who signed it is
/// verified, and what it says approves no workload.
#[tokio::test]
async fn a_real_bundle_of_something_else_approves_no_package() {
    let real = include_bytes!("../../../reference-statements/tests/vectors/conda-attestation.json");
    let root = include_str!("../../../reference-statements/tests/vectors/trusted_root-prod.json");
    let signer = Signer::Sigstore {
        identity:
            "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main"
                .into(),
        issuer: "https://token.actions.githubusercontent.com".into(),
        root: TrustRoot::from_json(root, NOW).unwrap(),
    };
    let signers: Signers = [("release".to_owned(), signer)].into_iter().collect();
    let subject: Digest =
        "sha256:54303491a8418fbed24344b513546182c29b43bf282ceb433af65e2299f9271f".parse().unwrap();
    let attested = Attested::verify(real, &subject.0, &signers, NOW).unwrap();
    let statement = SignedStatement::read(attested.statement());
    assert!(matches!(statement, Err(StatementError::OtherPredicate { .. })), "{statement:?}");

    let wanted = Wanted::Signed { name: app(), signers, minimum: "1.0.0".parse().unwrap() };
    let refused = fetched(&built(&app(), "1.0.0"), &[real.to_vec()], &wanted).await;
    assert_eq!(refused.unwrap_err().code(), "WORKLOAD_SIGNER_UNKNOWN");
}
