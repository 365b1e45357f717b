//! Several instances of one Marble: their certificates, and the network between them, which is a host's.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use attested_tls::marble::{Credential, IDENTITY_OID, MarbleIdentity, Revoked};
use database::reads::Credentials;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// A mesh that admits every Marble.
pub struct Mesh {
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

impl Mesh {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    /// What an instance of a Marble shows.
    pub fn credentials(&self, marble: &str) -> Credentials {
        let identity = MarbleIdentity {
            marble: marble.into(),
            epoch: 1,
            manifest: [1; 32],
            emulated: true,
            rollout: None,
        };
        let mut params = CertificateParams::default();
        params.custom_extensions =
            vec![CustomExtension::from_oid_content(&IDENTITY_OID, identity.to_extension())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let credential = Credential {
            chain: vec![leaf],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            root: self.root.clone(),
            identity,
            revoked: Revoked::default(),
        };
        watch::Sender::new(Arc::new(credential)).subscribe()
    }
}

/// What a network does with its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Nobody is there.
    Cut,
    /// They stay, and nothing arrives any more.
    Still,
}

/// A way to one address.
pub struct Network {
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
    connections: Arc<AtomicUsize>,
    carrying: JoinHandle<()>,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

impl Network {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, connections) = (watch::Sender::new(Weather::Fair), Arc::new(AtomicUsize::new(0)));
        let (sky, counted) = (weather.clone(), Arc::clone(&connections));
        let carrying = tokio::spawn(async move {
            loop {
                let Ok((near, _)) = listener.accept().await else { return };
                counted.fetch_add(1, SeqCst);
                tokio::spawn(carry(near, target, sky.subscribe()));
            }
        });
        Self { address, weather, connections, carrying }
    }

    pub fn turns(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

async fn carry(mut near: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    loop {
        let now = *weather.borrow_and_update();
        match now {
            Weather::Cut => return,
            Weather::Still => drop(weather.changed().await),
            Weather::Fair => tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                _ = weather.changed() => {}
            },
        }
    }
}
