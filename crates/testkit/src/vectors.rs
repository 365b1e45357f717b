//! The recorded vectors of the crate `appraisal`, by the name of their file.

use std::path::{Path, PathBuf};

use appraisal::UnixTime;
use evidence::{CertificateDer, Endorsements, Evidence};

fn appraisal() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../appraisal")
}

/// Where a vector is.
pub fn path(file: &str) -> PathBuf {
    appraisal().join("tests/vectors").join(file)
}

/// A vector's bytes.
pub fn read(file: &str) -> Vec<u8> {
    let path = path(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One of the vendors' roots and intermediates that are compiled in.
pub fn root(file: &str) -> CertificateDer {
    CertificateDer(std::fs::read(appraisal().join("roots").join(file)).unwrap())
}

/// The names and bytes of AMD's recorded statements with this extension.
pub fn amd_files(extension: &str) -> impl Iterator<Item = (String, Vec<u8>)> {
    let directory = std::fs::read_dir(path("amd-collateral")).unwrap();
    let names = directory.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<_> = names.filter(|name| name.ends_with(extension)).collect();
    names.into_iter().map(|name| (name.clone(), read(&format!("amd-collateral/{name}"))))
}

/// A vector as Evidence.
pub fn evidence(file: &str) -> Evidence {
    Evidence::parse(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A vector as DCAP collateral.
pub fn dcap(file: &str) -> Endorsements {
    Endorsements::from_dcap_json(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A time in RFC 3339.
pub fn at(text: &str) -> UnixTime {
    text.parse().unwrap()
}
