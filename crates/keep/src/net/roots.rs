//! The trust roots that a configuration names, and those of the web.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};

use super::{NetError, Store};

pub(super) struct NamedRoots {
    named: BTreeMap<String, Store>,
    web: OnceLock<Store>,
}

impl NamedRoots {
    pub(super) fn new(texts: &BTreeMap<String, String>) -> Result<Self, NetError> {
        let read = |(name, text): (&String, &String)| Ok((name.clone(), Arc::new(store(name, text)?)));
        Ok(Self { named: texts.iter().map(read).collect::<Result<_, _>>()?, web: OnceLock::new() })
    }

    pub(super) fn named(&self, name: &str) -> Result<Store, NetError> {
        self.named.get(name).cloned().ok_or_else(|| NetError::UnknownRoots(name.to_owned()))
    }

    /// Mozilla's, as of the build.
    pub(super) fn web(&self) -> Store {
        let store = || Arc::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
        Arc::clone(self.web.get_or_init(store))
    }
}

fn store(name: &str, text: &str) -> Result<RootCertStore, NetError> {
    let fault = |problem: String| NetError::Roots { name: name.to_owned(), problem };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        store.add(certificate).map_err(|error| fault(error.to_string()))?;
    }
    if store.is_empty() { Err(fault("holds no certificate".into())) } else { Ok(store) }
}
