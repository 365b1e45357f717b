//! A real handshake with a key that never leaves a token: Debian's SoftHSM (`apt-get install softhsm2`).

use std::{path::Path, process::Command, sync::Arc};

use attested_tls::{clock, key::TeeKey, service};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use pkcs11::{Location, TokenError, certified_key};
use rcgen::{CertificateParams, PublicKeyData, SignatureAlgorithm};
use rustls::pki_types::CertificateDer;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "1234";
/// 1.2.840.10045.3.1.7, P-256.
const P256: [u8; 10] = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];

#[test]
fn a_person_signs_with_a_key_in_a_token() {
    if !Path::new(MODULE).exists() {
        eprintln!("\n*** NOT RUN: {MODULE} is absent: apt-get install softhsm2 ***\n");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("tokens")).unwrap();
    let configuration = folder.path().join("softhsm2.conf");
    let tokens = folder.path().join("tokens");
    std::fs::write(&configuration, format!("directories.tokendir = {}\n", tokens.display())).unwrap();
    // The library reads its configuration from the environment, which tests share: so in a process of its own.
    let run = |command: &mut Command| {
        let output = command.env("SOFTHSM2_CONF", &configuration).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        text
    };
    let init = ["--init-token", "--free", "--label", "bailey", "--pin", PIN, "--so-pin", "567890"];
    run(Command::new("softhsm2-util").args(init));
    for part in ["handshakes", "refusals"] {
        let text = run(Command::new(std::env::current_exe().unwrap()).args(["--exact", part, "--ignored"]));
        assert!(text.contains("1 passed"), "{text}");
    }
}

fn location<'a>(token: &'a str, key: &'a str) -> Location<'a> {
    Location { module: Path::new(MODULE), token, key }
}

/// A new key pair in the token, which will not give the private one; and a certificate that it signed itself.
fn make(rsa: bool, label: &str) -> CertificateDer<'static> {
    let module = Pkcs11::new(MODULE).unwrap();
    let _ = module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK));
    let slots = module.get_slots_with_initialized_token().unwrap();
    let session = module.open_rw_session(slots[0]).unwrap();
    let _ = session.login(UserType::User, Some(&AuthPin::from(PIN.to_owned())));
    let name = Attribute::Label(label.as_bytes().to_vec());
    let (mechanism, kind) = if rsa {
        (
            Mechanism::RsaPkcsKeyPairGen,
            vec![Attribute::ModulusBits(2048.into()), Attribute::PublicExponent(vec![1, 0, 1])],
        )
    } else {
        (Mechanism::EccKeyPairGen, vec![Attribute::EcParams(P256.to_vec())])
    };
    let public = [vec![Attribute::Token(true), Attribute::Verify(true), name.clone()], kind].concat();
    let private = [
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        name,
    ];
    let (public, private) = session.generate_key_pair(&mechanism, &public, &private).unwrap();
    let bytes = |kind| match session.get_attributes(public, &[kind]).unwrap().remove(0) {
        Attribute::EcPoint(bytes) | Attribute::Modulus(bytes) => bytes,
        other => panic!("{other:?}"),
    };
    let public = if rsa {
        // RSAPublicKey (RFC 8017 §A.1.1) of 2048 bits, whose lengths are always the same.
        let modulus = bytes(AttributeType::Modulus);
        [&[0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0][..], &modulus, &[2, 3, 1, 0, 1]].concat()
    } else {
        bytes(AttributeType::EcPoint)[2..].to_vec()
    };
    let key = Made { session, private, public, rsa };
    CertificateParams::new(vec![label.into()]).unwrap().self_signed(&key).unwrap().der().clone()
}

struct Made {
    session: Session,
    private: ObjectHandle,
    public: Vec<u8>,
    rsa: bool,
}

impl PublicKeyData for Made {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        if self.rsa { &rcgen::PKCS_RSA_SHA256 } else { &rcgen::PKCS_ECDSA_P256_SHA256 }
    }
}

impl rcgen::SigningKey for Made {
    /// Nobody looks at the signature of a user's certificate: it is compared as a whole.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mechanism = if self.rsa { Mechanism::Sha256RsaPkcs } else { Mechanism::EcdsaSha256 };
        let signature = self.session.sign(&mechanism, self.private, message);
        Ok(signature.unwrap_or_else(|_| vec![0; 64]))
    }
}

/// The certificate that the server saw after a handshake of TLS 1.3.
fn seen_by_server(key: rustls::sign::CertifiedKey) -> Option<CertificateDer<'static>> {
    let now = clock::fixed(appraisal::UnixTime(1_790_000_000));
    let own = TeeKey::generate().unwrap();
    let server = service::server(vec![own.certificate().clone()], own.private_key(), now.clone()).unwrap();
    let client = service::unverified_client_with(key, now).unwrap();
    let mut client = rustls::ClientConnection::new(client, "localhost".try_into().unwrap()).unwrap();
    let mut server = rustls::ServerConnection::new(server).unwrap();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut wire = &wire[..];
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets().unwrap();
        }
        let mut back = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut back).unwrap();
        }
        let mut back = &back[..];
        while !back.is_empty() {
            client.read_tls(&mut back).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    assert!(!server.is_handshaking());
    server.peer_certificates().map(|chain| chain[0].clone())
}

#[test]
#[ignore = "started by a_person_signs_with_a_key_in_a_token"]
fn handshakes() {
    for (rsa, label) in [(false, "ec"), (true, "rsa")] {
        let certificate = make(rsa, label);
        let key = certified_key(&location("bailey", label), PIN.into(), vec![certificate.clone()]).unwrap();
        assert_eq!(seen_by_server(key), Some(certificate), "{label}");
    }
}

#[test]
#[ignore = "started by a_person_signs_with_a_key_in_a_token"]
fn refusals() {
    let certificate = make(false, "mine");
    let other = make(false, "other");
    let ask = |token: &str, key: &str, pin: &str, certificate: &CertificateDer<'static>| {
        certified_key(&location(token, key), pin.into(), vec![certificate.clone()]).unwrap_err()
    };
    assert!(matches!(ask("nobody", "mine", PIN, &certificate), TokenError::Tokens { found: 0, .. }));
    assert!(matches!(ask("bailey", "absent", PIN, &certificate), TokenError::Keys { found: 0, .. }));
    assert!(matches!(ask("bailey", "mine", PIN, &other), TokenError::OtherKey));
    assert!(matches!(
        ask("bailey", "mine", PIN, &b"no certificate".to_vec().into()),
        TokenError::Certificate
    ));
    let wrong = ask("bailey", "mine", "9999", &certificate);
    assert!(matches!(wrong, TokenError::Pin(_)), "{wrong:?}");
    let _ = make(false, "mine");
    assert!(matches!(ask("bailey", "mine", PIN, &certificate), TokenError::Keys { found: 2, .. }));
    let absent = Location { module: Path::new("/absent.so"), token: "bailey", key: "mine" };
    let absent = certified_key(&absent, PIN.into(), vec![Arc::new(certificate).as_ref().clone()]);
    assert!(matches!(absent, Err(TokenError::Module(_))));
}
