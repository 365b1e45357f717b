//! What users upload for guests, by path and version: the newest is what guests get, and a few before it are kept for
//! whoever has to go back. Values are bounded one by one and all together, as each replica holds them in memory.

use std::{collections::BTreeMap, sync::Arc};

use appraisal::UnixTime;
use manifest::{DeclaredResource, RepositoryName, ResourceAction, ResourcePath, SecretName, Use, User};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    Caller, Event, Mesh, Refusal, SecretValue, State, event, secrets,
    stored::{Stored, stored_at},
};

/// Of one value, in bytes. Keys, credentials and policies are smaller; and a record of it in base64 must fit the
/// requests that etcd takes, 1.5 MiB.
pub const MAX_RESOURCE: usize = 512 * 1024;
/// Of all values, all versions of them, in bytes: each replica holds them, and each snapshot writes them.
const MAX_TOTAL: usize = 32 * 1024 * 1024;
/// Of paths.
const MAX_PATHS: usize = 10_000;
/// How many versions of a resource are kept: the newest, one to go back to, and some for those who learn late.
const KEPT: usize = 5;

/// One value of a resource.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResourceVersion {
    /// Counted over all resources, so that none is used twice.
    pub(super) number: u64,
    /// When it was uploaded, seconds.
    pub(super) at: i64,
    /// By whom.
    pub(super) user: String,
    pub(super) value: SecretValue,
}

/// All that was uploaded. A copy costs nothing.
#[derive(Clone, Default)]
pub(super) struct Resources {
    /// The newest version last; never empty.
    kept: RedBlackTreeMapSync<ResourcePath, Arc<Vec<ResourceVersion>>>,
    /// How many bytes all values have.
    bytes: usize,
    /// The last number that was given.
    last: u64,
}

impl Resources {
    pub(super) fn new(kept: Vec<(ResourcePath, Vec<ResourceVersion>)>, last: u64) -> Self {
        let bytes = kept.iter().flat_map(|(_, versions)| versions).map(length).sum();
        let kept = kept.into_iter().map(|(path, versions)| (path, Arc::new(versions))).collect();
        Self { kept, bytes, last }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ResourcePath, &[ResourceVersion])> {
        self.kept.iter().map(|(path, versions)| (path, versions.as_slice()))
    }

    /// The versions of a resource, the newest last; none where nothing was uploaded.
    pub(super) fn versions(&self, path: &ResourcePath) -> &[ResourceVersion] {
        self.kept.get(path).map_or(&[], |versions| versions.as_slice())
    }

    /// What guests get.
    pub(super) fn newest(&self, path: &ResourcePath) -> Option<&ResourceVersion> {
        self.versions(path).last()
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn len(&self) -> usize {
        self.kept.size()
    }

    /// Takes a new version, and lets go of the oldest where there are too many.
    pub(super) fn put(&mut self, path: ResourcePath, version: ResourceVersion) {
        let mut versions = self.versions(&path).to_vec();
        self.last = self.last.max(version.number);
        self.bytes += length(&version);
        versions.push(version);
        let surplus = versions.len().saturating_sub(KEPT);
        self.bytes -= versions.drain(..surplus).map(|gone| length(&gone)).sum::<usize>();
        self.kept.insert_mut(path, Arc::new(versions));
    }

    /// Lets go of all versions of a resource.
    pub(super) fn remove(&mut self, path: &ResourcePath) {
        self.bytes -= self.versions(path).iter().map(length).sum::<usize>();
        self.kept.remove_mut(path);
    }

    /// Lets go of those for which the manifest has no place, and gives them.
    pub(super) fn take_displaced(&mut self, wanted: impl Fn(&ResourcePath) -> bool) -> Self {
        let displaced: Vec<_> = self.kept.keys().filter(|path| !wanted(path)).cloned().collect();
        let taken = displaced.into_iter().map(|path| (path.clone(), self.versions(&path).to_vec()));
        let taken: Vec<_> = taken.collect();
        taken.iter().for_each(|(path, _)| self.remove(path));
        Self::new(taken, self.last)
    }

    /// Takes back what was displaced.
    pub(super) fn restore(&mut self, displaced: &Self) {
        for (path, versions) in displaced.iter() {
            versions.iter().for_each(|version| self.put(path.clone(), version.clone()));
        }
    }

    /// How many bytes all values have, and may have.
    pub(super) fn room(&self) -> (usize, usize) {
        (self.bytes, MAX_TOTAL)
    }

    /// Whether one more value of so many bytes fits.
    fn admits(&self, path: &ResourcePath, bytes: usize) -> Result<(), &'static str> {
        let versions = self.versions(path);
        let freed = if versions.len() == KEPT { versions.first().map_or(0, length) } else { 0 };
        if bytes > MAX_RESOURCE {
            return Err("it is larger than 512 KiB");
        }
        if self.bytes - freed + bytes > MAX_TOTAL {
            return Err(
                "all resources together, with the versions that are kept, would be larger than 32 MiB",
            );
        }
        if versions.is_empty() && self.len() >= MAX_PATHS {
            return Err("there are 10000 resources already");
        }
        Ok(())
    }
}

fn length(version: &ResourceVersion) -> usize {
    match &version.value {
        SecretValue::Bytes(value) => value.len(),
        SecretValue::Certificate { .. } => 0,
    }
}

/// A resource as its operator reads it.
pub struct ReadResource {
    /// Its value.
    pub value: Zeroizing<Vec<u8>>,
    /// Absent, where it is of a store outside.
    pub version: Option<u64>,
}

/// What a user sees of a resource in a list: all but its value.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLine {
    /// `repository/kind/tag`.
    pub path: ResourcePath,
    /// By which policy it is released.
    policy: String,
    /// `read` or `unwrap`.
    #[serde(rename = "use")]
    usage: &'static str,
    /// The manifest's secret that it is; null where it was uploaded.
    secret: Option<String>,
    /// The newest last; none of a secret, which has its own.
    versions: Vec<VersionLine>,
}

#[derive(Debug, Serialize)]
struct VersionLine {
    version: u64,
    /// RFC 3339.
    at: String,
    user: String,
    bytes: usize,
}

/// An upload. With `expected`, only if that is the newest version; 0 stands for none. Gives the version.
pub fn put(
    state: &State,
    caller: &Caller,
    path: &ResourcePath,
    value: &Zeroizing<Vec<u8>>,
    expected: Option<u64>,
    now: UnixTime,
) -> Result<(Event, u64), Refusal> {
    let mesh = state.running()?;
    let user = granted(mesh, caller, ResourceAction::WriteResource, path.repository())?;
    let broker = mesh.manifest().broker().ok_or(Refusal::NoBroker)?;
    let refused = |reason: &str| Refusal::ResourceRefused { reason: reason.to_owned() };
    if broker.declared(path).is_some() {
        return Err(refused("it is a secret of the manifest: upload that, or have it made anew"));
    }
    if broker.upload_policy(path).is_none() {
        return Err(refused("its repository has no policy, so nothing can be uploaded into it"));
    }
    if value.is_empty() {
        return Err(refused("it is empty"));
    }
    mesh.resources().admits(path, value.len()).map_err(refused)?;
    let newest = mesh.resources().newest(path).map_or(0, |version| version.number);
    if let Some(expected) = expected.filter(|expected| *expected != newest) {
        return Err(Refusal::ResourceChanged { expected, seen: newest });
    }
    let version = mesh.resources().last() + 1;
    let event = Event::ResourceStored {
        user: user.name.to_string(),
        path: path.clone(),
        version,
        value: SecretValue::Bytes(value.clone()),
        at: event::seconds(now),
    };
    Ok((event, version))
}

/// A deletion, of all versions.
pub fn delete(state: &State, caller: &Caller, path: &ResourcePath, now: UnixTime) -> Result<Event, Refusal> {
    let mesh = state.running()?;
    let user = granted(mesh, caller, ResourceAction::DeleteResource, path.repository())?;
    let declared = mesh.manifest().broker().and_then(|broker| broker.declared(path));
    if declared.is_some() {
        let reason = "it is a secret of the manifest: an update takes it away";
        return Err(Refusal::ResourceRefused { reason: reason.to_owned() });
    }
    mesh.resources().newest(path).ok_or(Refusal::UnknownResource)?;
    Ok(Event::ResourceDeleted { user: user.name.to_string(), path: path.clone(), at: event::seconds(now) })
}

/// The secret that lies in a store outside and that this user would read, if it is one.
pub fn stored_for_operator(
    state: &State,
    caller: &Caller,
    path: &ResourcePath,
) -> Result<Option<SecretName>, Refusal> {
    let mesh = state.running()?;
    granted(mesh, caller, ResourceAction::ReadResource, path.repository())?;
    let declared = mesh.manifest().broker().and_then(|broker| broker.declared(path));
    let secret = declared.and_then(|resource| mesh.manifest().secrets().get(&resource.secret));
    Ok(secret.filter(|secret| stored_at(secret).is_some()).map(|secret| secret.name.clone()))
}

/// A download by a user: the newest version, or an older one that is kept. It is told in the log.
pub fn read(
    state: &State,
    caller: &Caller,
    path: &ResourcePath,
    version: Option<u64>,
    stored: &Stored,
    now: UnixTime,
) -> Result<(Event, ReadResource), Refusal> {
    let mesh = state.running()?;
    let user = granted(mesh, caller, ResourceAction::ReadResource, path.repository())?;
    let read = match mesh.manifest().broker().and_then(|broker| broker.declared(path)) {
        Some(declared) => read_declared(mesh, declared, version, stored, now)?,
        None => {
            let versions = mesh.resources().versions(path);
            let found = match version {
                Some(number) => versions.iter().find(|version| version.number == number),
                None => versions.last(),
            };
            let found = found.ok_or(Refusal::UnknownResource)?;
            ReadResource { value: bytes(&found.value)?, version: Some(found.number) }
        }
    };
    let event =
        Event::ResourceRead { user: user.name.to_string(), path: path.clone(), at: event::seconds(now) };
    Ok((event, read))
}

fn read_declared(
    mesh: &Mesh,
    declared: &DeclaredResource,
    version: Option<u64>,
    stored: &Stored,
    now: UnixTime,
) -> Result<ReadResource, Refusal> {
    if declared.usage == Use::Unwrap {
        let reason = "it is a key that never leaves: it unwraps, and is given to nobody";
        return Err(Refusal::ResourceRefused { reason: reason.to_owned() });
    }
    let (value, number) = declared_value(mesh, declared, stored, now)?;
    if version.is_some_and(|wanted| number != Some(wanted)) {
        return Err(Refusal::UnknownResource);
    }
    Ok(ReadResource { value, version: number })
}

/// The value of a secret that is a resource, with its version unless it is of a store.
pub(super) fn declared_value(
    mesh: &Mesh,
    declared: &DeclaredResource,
    stored: &Stored,
    now: UnixTime,
) -> Result<(Zeroizing<Vec<u8>>, Option<u64>), Refusal> {
    let secret = mesh.manifest().secrets().get(&declared.secret).ok_or(Refusal::UnknownResource)?;
    if stored_at(secret).is_some() {
        return Ok((bytes(stored.value(mesh, secret)?)?, None));
    }
    let version = secrets::deliverable(mesh, secret, manifest::Generation::Current, now)?;
    let version = version.ok_or(Refusal::ResourceWithoutValue)?;
    let value = version.value.as_ref().ok_or(Refusal::ResourceWithoutValue)?;
    Ok((bytes(value)?, Some(version.number)))
}

pub(super) fn bytes(value: &SecretValue) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    match value {
        SecretValue::Bytes(value) => Ok(value.clone()),
        SecretValue::Certificate { .. } => Err(Refusal::Internal("a certificate is no resource".into())),
    }
}

/// All resources of the repositories that a user may list; of one of them, where it is named.
pub fn list(
    state: &State,
    caller: &Caller,
    repository: Option<&RepositoryName>,
) -> Result<Vec<ResourceLine>, Refusal> {
    let mesh = state.running()?;
    let user = secrets::user(mesh, caller)?;
    match repository {
        Some(repository) => drop(granted(mesh, caller, ResourceAction::ListResources, repository)?),
        None if user.may_in_some(ResourceAction::ListResources) => {}
        None => {
            let action = ResourceAction::ListResources.as_str();
            return Err(Refusal::NotAllowed { user: user.name.to_string(), action });
        }
    }
    let broker = mesh.manifest().broker().ok_or(Refusal::NoBroker)?;
    let seen = |name: &RepositoryName| {
        repository.is_none_or(|only| only == name) && user.may_in(ResourceAction::ListResources, name)
    };
    let mut lines = BTreeMap::new();
    for (name, repository) in broker.repositories.iter().filter(|(name, _)| seen(name)) {
        for ((kind, tag), resource) in &repository.resources {
            let path = ResourcePath::new(name.clone(), kind.clone(), tag.clone());
            lines.insert(
                path.clone(),
                ResourceLine {
                    path,
                    policy: resource.policy.name.to_string(),
                    usage: resource.usage.as_str(),
                    secret: Some(resource.secret.to_string()),
                    versions: Vec::new(),
                },
            );
        }
    }
    for (path, versions) in mesh.resources().iter().filter(|(path, _)| seen(path.repository())) {
        let Some(policy) = broker.upload_policy(path) else { continue };
        lines.insert(
            path.clone(),
            ResourceLine {
                path: path.clone(),
                policy: policy.name.to_string(),
                usage: Use::Read.as_str(),
                secret: None,
                versions: versions.iter().map(version_line).collect(),
            },
        );
    }
    Ok(lines.into_values().collect())
}

fn version_line(version: &ResourceVersion) -> VersionLine {
    VersionLine {
        version: version.number,
        at: UnixTime(version.at).to_string(),
        user: version.user.clone(),
        bytes: length(version),
    }
}

/// The user, if it may do this in this repository. Whoever has no right learns the same of a repository that exists and
/// of one that does not (S-58).
pub(super) fn granted<'m>(
    mesh: &'m Mesh,
    caller: &Caller,
    action: ResourceAction,
    repository: &RepositoryName,
) -> Result<&'m User, Refusal> {
    let user = secrets::user(mesh, caller)?;
    if user.may_in(action, repository) {
        return Ok(user);
    }
    Err(Refusal::NotGranted {
        user: user.name.to_string(),
        action: action.as_str(),
        resource: format!("repository {:?}", repository.as_str()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ResourcePath {
        text.parse().expect("a path")
    }

    fn version(number: u64, bytes: usize) -> ResourceVersion {
        let value = SecretValue::Bytes(Zeroizing::new(vec![7; bytes]));
        ResourceVersion { number, at: 0, user: "u".into(), value }
    }

    #[test]
    fn versions_before_the_newest_are_few() {
        let mut resources = Resources::default();
        for number in 1..=8 {
            resources.put(path("a/b/c"), version(number, 10));
        }
        let numbers: Vec<_> = resources.versions(&path("a/b/c")).iter().map(|it| it.number).collect();
        assert_eq!(numbers, [4, 5, 6, 7, 8]);
        assert_eq!((resources.bytes, resources.last()), (50, 8));
        resources.remove(&path("a/b/c"));
        assert_eq!((resources.bytes, resources.last(), resources.len()), (0, 8, 0), "no number twice");
    }

    #[test]
    fn what_is_uploaded_is_bounded() {
        let mut resources = Resources::default();
        assert!(resources.admits(&path("a/b/c"), MAX_RESOURCE).is_ok());
        assert!(resources.admits(&path("a/b/c"), MAX_RESOURCE + 1).is_err());
        for number in 0..64 {
            resources.put(path(&format!("a/b/{number}")), version(number, MAX_RESOURCE));
        }
        assert!(resources.admits(&path("a/b/c"), 1).is_err());
        for number in 0..KEPT as u64 {
            resources.put(path("a/b/0"), version(100 + number, 1));
        }
        assert!(resources.admits(&path("a/b/0"), 1).is_ok(), "the oldest makes room");

        let mut many = Resources::default();
        for number in 0..MAX_PATHS as u64 {
            many.put(path(&format!("a/b/{number}")), version(number, 1));
        }
        assert!(many.admits(&path("a/b/c"), 1).is_err());
        assert!(many.admits(&path("a/b/1"), 1).is_ok());
    }

    #[test]
    fn what_is_displaced_can_come_back() {
        let mut resources = Resources::default();
        resources.put(path("a/b/c"), version(1, 10));
        resources.put(path("d/e/f"), version(2, 10));
        let displaced = resources.take_displaced(|path| path.repository().as_str() == "a");
        assert_eq!((resources.len(), displaced.len(), resources.bytes), (1, 1, 10));
        resources.restore(&displaced);
        assert_eq!((resources.len(), resources.bytes, resources.last()), (2, 20, 2));
    }
}
