//! Package updates: a document that says nothing but which packages need a higher security version.

use std::collections::BTreeMap;

use crate::document::Document;
use crate::fault::{Code, Collector, Faults};
use crate::manifest::Manifest;
use crate::names::PackageName;
use crate::package::isv;
use crate::path::Path;
use crate::tree::{Node, Value};
use crate::wire::Wire;

/// Security versions to which packages by signer are to be raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageUpdate(pub BTreeMap<PackageName, u16>);

impl PackageUpdate {
    /// Whether a document speaks of packages alone, which makes it a package update. What it may say is checked by
    /// [`PackageUpdate::parse`].
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        let Ok(Node { value: Value::Object(entries), .. }) = Node::parse(bytes) else { return false };
        !entries.is_empty() && entries.iter().all(|entry| entry.key.eq_ignore_ascii_case("Packages"))
    }

    /// Reads an update of packages of `current`.
    ///
    /// # Errors
    /// Every package that is unknown or not recognised by its signer, every field beside `SecurityVersion`, and
    /// every version below the one in force: a security version never falls.
    pub fn parse(bytes: &[u8], current: &Manifest) -> Result<Self, Faults> {
        let tree = Node::parse(bytes)?;
        let mut faults = Collector::new(&tree);
        let document = Document::read(&tree, &Path::Root, &mut faults);
        let at = Path::Root;
        let at = at.field("Packages");
        let mut versions = BTreeMap::new();
        let document = document.unwrap_or_default();
        for (name, wire) in &document.packages {
            let here = at.key(name);
            let Some((known, package)) = current.packages().get_key_value(name.as_str()) else {
                faults.add(&here, Code::UnknownReference, "the manifest in force has no such package");
                continue;
            };
            let beside = !wire.unique_id.is_empty()
                || !wire.signer_id.is_empty()
                || wire.product_id.is_some()
                || wire.debug
                || !wire.accepted_tcb_statuses.is_empty()
                || !wire.accepted_advisories.is_empty()
                || !wire.measurements.sgx.0.is_empty()
                || !wire.measurements.tdx.0.is_empty()
                || !wire.measurements.snp.0.is_empty();
            if beside {
                let message = "an update of packages changes nothing but `SecurityVersion`";
                faults.hint(&here, Code::NotApplicable, message, "send the whole manifest to change more");
            }
            let field = here.field("SecurityVersion");
            let Some(version) = wire.security_version else {
                faults.add(&field, Code::Missing, "the update says no security version");
                continue;
            };
            let Some(version) = isv(version, &field, &mut faults) else { continue };
            match package.security_version() {
                None => {
                    let message =
                        "the package is recognised by its measurement, which has no security version";
                    faults.add(&field, Code::NotApplicable, message);
                }
                Some(now) if version < now => {
                    let message = format!("the security version in force is {now}, and it never falls");
                    faults.add(&field, Code::Conflict, message);
                }
                Some(_) => drop(versions.insert(known.clone(), version)),
            }
        }
        if document.packages.is_empty() {
            faults.add(&at, Code::Missing, "the update names no package");
        }
        faults.into_result()?;
        Ok(Self(versions))
    }
}
