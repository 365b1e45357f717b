//! Certificates of a test: one root, and leaves for 127.0.0.1 under it.

use std::sync::Arc;

use attested_tls::marble::{self, Access, Credential, MarbleIdentity, Revoked};
use keep::net::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, SubjectPublicKeyInfo,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};

pub struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Root {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = key();
        let certificate = params.self_signed(&key).unwrap();
        let (pem, certificate) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), certificate, pem }
    }

    fn leaf(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        self.leaf_with(None)
    }

    fn leaf_with(
        &self,
        marble: Option<&MarbleIdentity>,
    ) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        if let Some(marble) = marble {
            let extension = CustomExtension::from_oid_content(&marble::IDENTITY_OID, marble.to_extension());
            params.custom_extensions.push(extension);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = key();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// The root itself, as `[roots]` has it.
    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    /// What a Keep shows that has a certificate under this root.
    pub fn identity(&self) -> Identity {
        let (chain, key) = self.leaf();
        Identity::of_chain(chain, key)
    }

    /// TLS of a plain server with a certificate under this root.
    pub fn server(&self) -> Arc<ServerConfig> {
        let (chain, key) = self.leaf();
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
    }

    /// A certificate for somebody's public key (DER), and this root's own: a PkiPath.
    pub fn certify(&self, public_key: &[u8]) -> Vec<u8> {
        let key = SubjectPublicKeyInfo::from_der(public_key).unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let content = [self.certificate.as_ref(), leaf.der().as_ref()].concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82], length.as_slice(), &content].concat()
    }

    /// Marble `name`, as a coordinator with this root certifies it, which lets in whom a coordinator with `callers` as
    /// its root certifies.
    pub fn credential(&self, name: &str, callers: &Self, revoked: Revoked) -> Credential {
        let identity = MarbleIdentity {
            marble: name.to_owned(),
            epoch: 1,
            manifest: [7; 32],
            emulated: true,
            rollout: None,
        };
        let (chain, key) = self.leaf_with(Some(&identity));
        Credential { chain, key, root: callers.certificate.clone(), identity, revoked }
    }

    fn store(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        store.add(self.certificate.clone()).unwrap();
        Arc::new(store)
    }

    /// Marble `name`, which anyone may call.
    pub fn public(&self, name: &str) -> Identity {
        Identity::marble(Arc::new(self.credential(name, self, Revoked::default())), Access::Public)
    }

    /// Marble `name`, which frontend and probe may call, if their certificates are under `callers`.
    pub fn mutual(&self, name: &str, callers: &Self) -> Identity {
        let access = Access::Peers(["frontend", "probe"].map(str::to_owned).into());
        Identity::marble(Arc::new(self.credential(name, callers, Revoked::default())), access)
    }

    /// A client with a certificate under this root, that accepts servers under `servers`.
    pub fn client(&self, servers: &Self, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let (chain, key) = self.leaf();
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(servers.store())
            .with_client_auth_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}
