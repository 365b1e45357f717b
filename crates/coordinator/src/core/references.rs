//! Reference values that others sign: which statements are accepted, and what a package's code is by them, now. A
//! statement is verified when it is added, and again by the signers of each manifest that comes into force; whether it
//! still holds is asked at each use. Provenance endorses values whose statement names the very artefacts that were built.
//!
//! ```text
//!  prepare: bytes ──signers in force──▶ Verified ──add: not older than the newest──▶ kept
//!  values: kept ──this series, these signers, holds now, enough of them say so──▶ tuples
//! ```

mod kept;
mod lines;
mod signers;

use std::collections::BTreeSet;
use std::sync::Arc;

use appraisal::{ReferenceValue, UnixTime};
use evidence::Platform;
use manifest::{AcceptedCode, Manifest, ManifestDigest, Package, PackageName, StatedReferences, User};
use reference_statements::{Provenance, Says, Statement, StatementId, Values, Verified};
use serde_bytes::{ByteArray, ByteBuf};

pub(super) use kept::Record;
pub use kept::{Kept, References};
pub use lines::{Line, lines};
pub use signers::{signers, workload_signers};

use super::{Caller, Event, Mesh, Refusal, State, event, secrets};

/// So many statements are kept, and so many bytes of them together.
const MOST: usize = 256;
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// A statement that the signers in force signed, ready to be added.
pub struct Prepared {
    bytes: Vec<u8>,
    verified: Verified,
    manifest: ManifestDigest,
}

impl Prepared {
    /// What it is.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }
}

/// Verifies a statement by the manifest in force. Takes signatures: not to be done under a lock.
pub fn prepare(state: &State, caller: &Caller, bytes: Vec<u8>, now: UnixTime) -> Result<Prepared, Refusal> {
    let mesh = state.running()?;
    may_write(mesh, caller)?;
    let signers = signers(mesh.manifest())?;
    let verified = Statement::verify(&bytes, &signers, now).map_err(Refusal::Statement)?;
    Ok(Prepared { bytes, verified, manifest: mesh.manifest().digest() })
}

/// Adds a statement, unless one of its signers has said something newer in its series.
pub fn add(state: &State, caller: &Caller, prepared: &Prepared, now: UnixTime) -> Result<Event, Refusal> {
    let mesh = state.running()?;
    let user = may_write(mesh, caller)?;
    if mesh.manifest().digest() != prepared.manifest {
        return Err(Refusal::Overtaken { what: "the manifest".into() });
    }
    let (known, verified) = (mesh.references(), &prepared.verified);
    if known.get(&verified.id()).is_some() {
        return Err(Refusal::ReferenceKnown { id: verified.id().to_string() });
    }
    if known.len() >= MOST || known.bytes() + prepared.bytes.len() > MOST_BYTES {
        return Err(Refusal::TooManyReferences { statements: MOST, bytes: MOST_BYTES });
    }
    let series = match verified.says() {
        Says::Provenance(_) => None,
        Says::Values(values) => Some((values.series.clone(), values.serial)),
    };
    if let Some((series, serial)) = &series {
        for signer in verified.signers() {
            let newest = known.newest(series, signer);
            if let Some(newest) = newest.filter(|newest| newest > serial) {
                let (signer, series) = (signer.clone(), series.clone());
                return Err(Refusal::ReferenceRolledBack { signer, series, serial: *serial, newest });
            }
        }
    }
    Ok(Event::ReferenceAdded {
        user: user.name.to_string(),
        statement: ByteBuf::from(prepared.bytes.clone()),
        signers: verified.signers().to_vec(),
        series,
        at: event::seconds(now),
    })
}

/// Takes a statement away. What is known of its series stays: an older one does not come back by it.
pub fn remove(state: &State, caller: &Caller, id: &StatementId, now: UnixTime) -> Result<Event, Refusal> {
    let mesh = state.running()?;
    let user = may_write(mesh, caller)?;
    mesh.references().get(id).ok_or_else(|| Refusal::UnknownReference { id: id.to_string() })?;
    Ok(Event::ReferenceRemoved {
        user: user.name.to_string(),
        id: ByteArray::new(id.0),
        at: event::seconds(now),
    })
}

fn may_write<'m>(mesh: &'m Mesh, caller: &Caller) -> Result<&'m User, Refusal> {
    let user = secrets::user(mesh, caller)?;
    if user.may_write_references() {
        return Ok(user);
    }
    Err(Refusal::NotAllowed { user: user.name.to_string(), action: "WriteReference" })
}

/// The statements of a mesh as a manifest counts them at a time.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The statements.
    pub references: &'a References,
    /// Whose signers count.
    pub manifest: &'a Manifest,
    /// The time.
    pub now: UnixTime,
}

impl Mesh {
    /// The statements as the manifest in force counts them now.
    pub fn known_references(&self, now: UnixTime) -> Known<'_> {
        Known { references: self.references(), manifest: self.manifest(), now }
    }
}

impl Known<'_> {
    /// What a package's code is on a platform, by statements. Each value names the statement that it is from, and so
    /// does the verdict.
    ///
    /// # Errors
    /// [`Refusal::NoReferences`] where there is none now.
    pub fn values(
        &self,
        package: &PackageName,
        stated: &StatedReferences,
        platform: Platform,
    ) -> Result<Vec<ReferenceValue>, Refusal> {
        let holding: Vec<_> = self.references.iter().filter_map(|kept| self.holding(kept)).collect();
        let said: Vec<_> = holding.iter().filter_map(|it| self.said(it, stated)).collect();
        let endorsed: Vec<_> = said.iter().map(|said| said.endorsers(&holding, stated)).collect();
        let mut values: Vec<ReferenceValue> = Vec::new();
        for one in &said {
            for value in one.values.reference_values.iter().filter(|value| value.platform == platform) {
                let agreeing = said.iter().zip(&endorsed).filter(|(other, _)| other.says(value));
                let by: BTreeSet<_> = agreeing.flat_map(|(_, signers)| signers.iter().copied()).collect();
                if by.len() >= stated.threshold && !values.iter().any(|known| same(known, value)) {
                    let by: Vec<_> = by.into_iter().collect();
                    let label = format!(
                        "{} ({} {}, statement {:.16}, by {})",
                        value.label,
                        one.values.series,
                        one.values.serial,
                        one.id,
                        by.join(" and ")
                    );
                    values.push(ReferenceValue { label, ..value.clone() });
                }
            }
        }
        if values.is_empty() {
            let (package, series) = (package.to_string(), stated.series.clone());
            return Err(Refusal::NoReferences { package, series, platform, threshold: stated.threshold });
        }
        Ok(values)
    }

    fn holding(&self, kept: &Arc<Kept>) -> Option<Arc<Verified>> {
        let verified = kept.verified(self.manifest).ok()?;
        verified.holds(self.now).ok()?;
        Some(verified)
    }

    /// A statement of this series by signers who count, and who have said nothing newer in it.
    fn said<'v>(&self, verified: &'v Arc<Verified>, stated: &StatedReferences) -> Option<Said<'v>> {
        let Says::Values(values) = verified.says() else { return None };
        let newest = |signer: &str| self.references.newest(&values.series, signer);
        let counts = |signer: &&str| {
            stated.signers.contains(*signer) && newest(signer).is_none_or(|newest| newest <= values.serial)
        };
        let signers: BTreeSet<_> = verified.signers().iter().map(String::as_str).filter(counts).collect();
        let fits = values.series == stated.series && !signers.is_empty();
        fits.then(|| Said { id: verified.id(), values, signers })
    }
}

/// Values with those who say so.
struct Said<'v> {
    id: StatementId,
    values: &'v Values,
    signers: BTreeSet<&'v str>,
}

impl<'v> Said<'v> {
    fn says(&self, value: &ReferenceValue) -> bool {
        self.values.reference_values.iter().any(|own| same(own, value))
    }

    /// Who signed the values, and who signed how each of their artefacts was built.
    fn endorsers(&self, holding: &'v [Arc<Verified>], stated: &StatedReferences) -> BTreeSet<&'v str> {
        let mut endorsers = self.signers.clone();
        let subjects = &self.values.subjects;
        let builds = holding.iter().filter_map(|verified| match verified.says() {
            Says::Provenance(provenance) => Some((verified.signers(), provenance)),
            Says::Values(_) => None,
        });
        let builds: Vec<(&[String], &Provenance)> = builds.collect();
        for signer in stated.signers.iter() {
            let built = |subject| {
                builds.iter().any(|(signers, provenance)| {
                    signers.iter().any(|it| it == signer.as_str()) && provenance.subjects.contains(subject)
                })
            };
            if !subjects.is_empty() && subjects.iter().all(built) {
                let named = builds.iter().flat_map(|(signers, _)| signers.iter());
                endorsers.extend(named.map(String::as_str).find(|it| *it == signer.as_str()));
            }
        }
        endorsers
    }
}

/// Whether two values ask for the same, whatever they are called.
fn same(a: &ReferenceValue, b: &ReferenceValue) -> bool {
    let ReferenceValue { label: _, platform, measurement, launch_configuration, registers, minimum } = a;
    (platform, measurement, launch_configuration, registers, minimum)
        == (&b.platform, &b.measurement, &b.launch_configuration, &b.registers, &b.minimum)
}

/// Whether a package, whose code Evidence of `platform` proved at `attested`, still is what it was then: for whatever is
/// released later on that proof. Where statements were taken away or replaced since, or one has ended, the answer is no,
/// and who attests again is told more.
pub fn stands(
    mesh: &Mesh,
    package: &PackageName,
    platform: Platform,
    attested: UnixTime,
    now: UnixTime,
) -> bool {
    let accepted = mesh.manifest().packages().get(package).map(AsRef::<Package>::as_ref);
    let Some(accepted) = accepted.and_then(|package| package.accepted.get(&platform)) else { return false };
    let AcceptedCode::References(stated) = &accepted.code else { return true };
    if mesh.references().narrowed().is_some_and(|narrowed| attested.0 <= narrowed) {
        return false;
    }
    let at = |now| mesh.known_references(now).values(package, stated, platform).unwrap_or_default();
    let current = at(now);
    let before = at(attested);
    !before.is_empty() && before.iter().all(|value| current.iter().any(|it| same(it, value)))
}
