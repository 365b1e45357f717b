//! What an update would change, and which of the running Marbles it would refuse: decided on what is known, and
//! nothing is changed by it. Takes as long as appraising each instance's Evidence again takes; no lock is needed.

use std::collections::BTreeMap;

use appraisal::{UnixTime, Verifier};
use attested_tls::{
    key::SpkiDigest,
    statement::{Presented, StatementError},
};
use evidence::Evidence;
use manifest::{Manifest, PackageUpdate, Plan, User};
use serde::Serialize;

use super::{
    Caller, Claimed, Mesh, Refusal, State, activation, broker::policies, native, references::Known, secrets,
};

/// What an instance presented when it last activated or renewed.
#[derive(Clone)]
pub struct Recorded {
    /// Its Evidence, with what that had to cover.
    pub presented: Presented,
    /// The claims of a Keep or a database; none of a native program.
    pub claims: Option<Vec<u8>>,
}

/// An update that was asked about.
pub struct Proposed {
    /// What would be in force.
    manifest: Manifest,
    /// The number of its epoch.
    epoch: u64,
    /// What it changes.
    pub plan: Plan,
}

/// What an update would do to the Marbles that run.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fleet {
    /// How many run.
    pub running: usize,
    /// Those that would be refused, by Marble and by the codes of the refusal.
    pub refused: Vec<RefusedInstances>,
    /// Those of whose Evidence nothing is recorded here, by Marble: nothing is known of them.
    pub unrecorded: BTreeMap<String, usize>,
}

/// Instances of one Marble that are refused for one reason.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RefusedInstances {
    /// Which Marble.
    pub marble: String,
    /// Stable codes.
    pub codes: Vec<String>,
    /// How many.
    pub instances: usize,
}

/// Plans what a user who may propose it, or the owner, would propose: a whole manifest, or an update of packages.
pub fn plan(state: &State, caller: &Caller, owner: &SpkiDigest, bytes: &[u8]) -> Result<Proposed, Refusal> {
    let mesh = state.running()?;
    if !caller.is_owner(owner) {
        may_plan(secrets::user(mesh, caller)?)?;
    }
    let manifest = if PackageUpdate::is_one(bytes) {
        let PackageUpdate(versions) = PackageUpdate::parse(bytes, mesh.manifest())?;
        mesh.manifest().with_security_versions(&versions)
    } else {
        policies::parse(bytes)?
    };
    let plan = manifest::plan(mesh.manifest(), &manifest, |name| mesh.secret(name.as_str()).is_some());
    Ok(Proposed { plan, manifest, epoch: mesh.epoch() + 1 })
}

fn may_plan(user: &User) -> Result<(), Refusal> {
    let raises = |grant: &manifest::Grant| matches!(grant, manifest::Grant::Packages(_));
    if user.may_update() || user.roles.values().any(|role| raises(&role.grant)) {
        return Ok(());
    }
    Err(Refusal::NotAllowed { user: user.name.to_string(), action: "UpdateManifest" })
}

impl Proposed {
    /// Tries it on each instance that runs at `now`, by what `recorded` has of it.
    pub fn fleet(
        &self,
        mesh: &Mesh,
        recorded: impl Fn(&[u8; 32]) -> Option<Recorded>,
        verifier: &Verifier,
        now: UnixTime,
    ) -> Fleet {
        let mut fleet = Fleet::default();
        let mut refused = BTreeMap::<(String, Vec<String>), usize>::new();
        for (marble, instance) in mesh.running_instances(now) {
            fleet.running += 1;
            let Some(recorded) = recorded(instance) else {
                *fleet.unrecorded.entry(marble.to_owned()).or_default() += 1;
                continue;
            };
            if let Err(codes) = self.admits(mesh, marble, &recorded, verifier, now) {
                *refused.entry((marble.to_owned(), codes)).or_default() += 1;
            }
        }
        let of = |((marble, codes), instances)| RefusedInstances { marble, codes, instances };
        fleet.refused = refused.into_iter().map(of).collect();
        fleet
    }

    fn admits(
        &self,
        mesh: &Mesh,
        marble: &str,
        recorded: &Recorded,
        verifier: &Verifier,
        now: UnixTime,
    ) -> Result<(), Vec<String>> {
        let refusal = |refusal: Refusal| vec![refusal.code().to_owned()];
        let malformed = || vec!["EVIDENCE_MALFORMED".to_owned()];
        let platform = Evidence::parse(&recorded.presented.evidence).map_err(|_| malformed())?.platform();
        let claims = recorded.claims.as_deref().map(Claimed::read).transpose();
        let claims = claims.map_err(|error| refusal(error.into()))?;
        let known = Known { references: mesh.references(), manifest: &self.manifest, now };
        let expectations = match &claims {
            Some(_) => activation::marble(&self.manifest, marble)
                .and_then(|marble| activation::accepted(known, self.epoch, marble, platform)),
            None => native::accepted(known, self.epoch, platform, marble),
        };
        let expectations = expectations.map_err(refusal)?;
        let appraised = recorded.presented.appraise_again(
            &expectations.measurements,
            &expectations.policy,
            now,
            verifier,
        );
        let appraised = appraised.map_err(|error| match error {
            StatementError::Refused(refused) => refused.codes().iter().map(ToString::to_string).collect(),
            _ => malformed(),
        })?;
        match claims {
            Some(claims) => activation::runs(&self.manifest, claims, &appraised).map(|_| ()),
            None => native::meets(&self.manifest, marble, &appraised).map(|_| ()),
        }
        .map_err(refusal)
    }
}
