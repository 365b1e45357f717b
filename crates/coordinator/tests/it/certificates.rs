//! What the coordinator's certificates say, and that they say nothing else.

use std::sync::Arc;

use attested_tls::{
    clock,
    key::TeeKey,
    marble::{Credential, MarbleIdentity, PeerRefusal, Revoked},
};
use coordinator::{
    authority::{Authority, CLIENT_API_LIFETIME, MARBLE_LIFETIME},
    core::Activation,
};
use evidence::Platform;
use testkit::tee::NOW;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::world::{FRONTEND, TALLY, activated, attest, keep_on, peer, running};

fn parse(der: &[u8]) -> X509Certificate<'_> {
    X509Certificate::from_der(der).unwrap().1
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    names
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::URI(uri) => (*uri).to_owned(),
            GeneralName::IPAddress(bytes) => format!("{bytes:?}"),
            other => format!("{other:?}"),
        })
        .collect()
}

fn leaf(activation: &Activation) -> X509Certificate<'_> {
    parse(&activation.certified.chain[0])
}

#[test]
fn s07_marble_certificate_says_what_the_manifest_says() {
    let state = running();
    let peer = peer(&state, "frontend", FRONTEND);
    let (state, activation) = activated(state, &peer);
    let certificate = leaf(&activation);
    let spiffe = format!("spiffe://{}/marble/frontend", state.trust_domain());
    assert_eq!(names(&certificate), ["localhost", "[127, 0, 0, 1]", "poll.example.org", &spiffe]);
    assert_eq!(certificate.public_key().raw, peer.public_key, "the Keep's own key");
    assert_eq!(certificate.validity().not_after.timestamp(), NOW.0 + MARBLE_LIFETIME.whole_seconds());
    assert_eq!(MARBLE_LIFETIME.whole_hours(), 12);
    assert_eq!(activation.certified.not_after.0, certificate.validity().not_after.timestamp());
    assert!(!certificate.is_ca());
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());

    let (_, tally) = activated(state.clone(), &crate::world::peer(&state, "tally", TALLY));
    let spiffe = format!("spiffe://{}/marble/tally", state.trust_domain());
    assert_eq!(names(&leaf(&tally)), [spiffe]);
}

#[test]
fn identity_is_that_of_manifest_and_epoch() {
    let state = running();
    let (state, activation) = activated(state.clone(), &peer(&state, "tally", TALLY));
    let mesh = state.mesh().unwrap();
    let identity = MarbleIdentity::of_certificate(&activation.certified.chain[0]).unwrap();
    let manifest = mesh.manifest_digest();
    assert_eq!(
        identity,
        MarbleIdentity { marble: "tally".into(), epoch: 1, manifest, emulated: true, rollout: None }
    );
}

/// Promise 3 of design.md.
#[test]
fn emulation_is_written_into_every_certificate() {
    let state = running();
    let (state, activation) = activated(state.clone(), &peer(&state, "tally", TALLY));
    let mesh = state.mesh().unwrap();
    let api = state.root().certify_client_api(&peer_key(), &["localhost".into()], true, NOW).unwrap();
    for der in [
        &activation.certified.chain[0],
        mesh.intermediate().certificate(),
        state.root().certificate(),
        &api.certificate,
    ] {
        let subject = parse(der).subject().to_string();
        assert!(subject.ends_with("(emulated TEE)"), "{subject}");
    }
    let genuine = Authority::root(false, NOW).unwrap();
    assert!(!parse(genuine.certificate()).subject().to_string().contains("emulated"));
}

fn peer_key() -> Vec<u8> {
    TeeKey::generate().unwrap().public_key_info()
}

#[test]
fn s07_client_api_certificate_is_no_marbles() {
    let root = Authority::root(true, NOW).unwrap();
    let api = root.certify_client_api(&peer_key(), &["localhost".into()], true, NOW).unwrap();
    assert_eq!(MarbleIdentity::of_certificate(&api.certificate), Err(PeerRefusal::NotAMarble));
    let certificate = parse(&api.certificate);
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && !usage.client_auth && !usage.any);
    assert_eq!(names(&certificate), ["localhost"]);
    assert_eq!(api.not_after.0, NOW.0 + CLIENT_API_LIFETIME.whole_seconds());
}

#[test]
fn chain_is_root_intermediate_leaf() {
    let state = running();
    let (state, activation) = activated(state.clone(), &peer(&state, "tally", TALLY));
    let [leaf, intermediate] = activation.certified.chain.as_slice() else { panic!("two certificates") };
    assert_eq!(activation.certified.root, *state.root().certificate());
    let (leaf, intermediate, root) = (parse(leaf), parse(intermediate), parse(&activation.certified.root));
    assert_eq!(leaf.issuer(), intermediate.subject());
    assert_eq!(intermediate.issuer(), root.subject());
    let depth = |ca: &X509Certificate<'_>| ca.basic_constraints().unwrap().unwrap().value.path_len_constraint;
    assert_eq!((depth(&intermediate), depth(&root)), (Some(0), Some(1)));
    assert!(intermediate.key_usage().unwrap().unwrap().value.key_cert_sign());
    let serials: std::collections::BTreeSet<_> =
        [&leaf, &intermediate, &root].iter().map(|certificate| certificate.raw_serial().to_vec()).collect();
    assert_eq!(serials.len(), 3);
}

/// Two activated Marbles really speak: rustls verifies the chain.
#[tokio::test]
async fn activated_marbles_can_connect() {
    let state = running();
    let credential = |marble: &str, workload| {
        let key = TeeKey::generate().unwrap();
        let peer = attest(&state, &keep_on(Platform::Tdx), &key, marble, workload).unwrap();
        let certified = activated(state.clone(), &peer).1.certified;
        let identity = MarbleIdentity::of_certificate(&certified.chain[0]).unwrap();
        Credential {
            chain: certified.chain,
            key: key.private_key(),
            root: certified.root,
            identity,
            revoked: Revoked::default(),
        }
    };
    let (tally, frontend) = (credential("tally", TALLY), credential("frontend", FRONTEND));
    let access = attested_tls::marble::Access::Peers(["frontend".to_owned()].into());
    let server = attested_tls::marble::server_config(&tally, access, clock::fixed(NOW)).unwrap();
    let client = attested_tls::marble::client_config(&frontend, "tally", clock::fixed(NOW)).unwrap();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (served, connected) = tokio::join!(
        tokio_rustls::TlsAcceptor::from(server).accept(far),
        tokio_rustls::TlsConnector::from(Arc::clone(&client))
            .connect(attested_tls::marble::server_name(), near)
    );
    assert!(served.is_ok() && connected.is_ok());
}

#[test]
fn authorities_survive_sealing() {
    let root = Authority::root(true, NOW).unwrap();
    let again =
        Authority::from_parts(Some(root.key().unwrap().clone()), root.certificate().to_vec()).unwrap();
    assert_eq!(again.fingerprint(), root.fingerprint());
    assert!(Authority::from_parts(Some(root.key().unwrap().clone()), b"nonsense".to_vec()).is_err());
    assert!(Authority::from_parts(Some(b"nonsense".to_vec().into()), root.certificate().to_vec()).is_err());
}

#[test]
fn public_keys_that_do_not_parse_are_refused() {
    let root = Authority::root(true, NOW).unwrap();
    assert!(root.certify_client_api(b"nonsense", &["localhost".into()], true, NOW).is_err());
}
