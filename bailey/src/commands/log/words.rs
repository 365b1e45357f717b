//! Entries as people read them.

use appraisal::UnixTime;
use transparency::{Commitment, Digest, Entry, Fact, Names, Release, Versions};

/// An entry on one line.
pub(super) fn line(index: u64, entry: &Entry) -> String {
    format!("{index:>6}  {}  {}", UnixTime(entry.at), sentence(&entry.fact))
}

fn sentence(fact: &Fact) -> String {
    match fact {
        Fact::Founded { root, emulated, .. } => {
            format!("the mesh was founded{}, root {}", on_emulation(*emulated), short(root))
        }
        Fact::ManifestSet { manifest, epoch, updaters, threshold, .. } => format!(
            "epoch {epoch}: the first manifest {}; {threshold} of {} must agree to an update",
            short(manifest),
            names(updaters)
        ),
        Fact::VersionsRaised { user, versions, epoch, .. } => {
            format!("epoch {epoch}: {user} raised security versions: {}", raised(versions))
        }
        Fact::UpdateProposed { user, manifest, downgrades, .. } => {
            let falls = match downgrades.names.is_empty() {
                true => String::new(),
                false => format!("; security versions may fall: {}", names(downgrades)),
            };
            format!("{user} proposed manifest {}{falls}", short(manifest))
        }
        Fact::UpdateAcknowledged { user, manifest } => {
            format!("{user} agreed to manifest {}", short(manifest))
        }
        Fact::UpdateCancelled { user: Some(user), manifest } => {
            format!("{user} took back manifest {}", short(manifest))
        }
        Fact::UpdateCancelled { user: None, manifest } => {
            format!("the deadline of manifest {} passed", short(manifest))
        }
        Fact::ManifestUpdated { user, manifest, epoch, root_secret_rotated, recovery_changed, .. } => {
            let rotated = if *root_secret_rotated { "; a new root secret" } else { "" };
            let recovery = if *recovery_changed { "; new recovery secrets" } else { "" };
            format!("epoch {epoch}: manifest {} by {user}{rotated}{recovery}", short(manifest))
        }
        Fact::SecretsWritten { user, secrets } => format!("{user} uploaded {}", hidden(secrets)),
        Fact::SecretsRead { user, secrets } => format!("{user} downloaded {}", hidden(secrets)),
        Fact::Activated { marble, instance, platform, emulated, epoch } => {
            let on = on_emulation(*emulated);
            format!("epoch {epoch}: {marble} {} was activated on {platform}{on}", short(instance))
        }
        Fact::PackageRun { marble, instance, package, release, .. } => {
            let signed = release.as_ref().map_or_else(String::new, |Release { name, version, signer }| {
                format!(", {name} {version} signed by {signer}")
            });
            format!("{marble} {} runs package {}{signed}", short(instance), short(package))
        }
        Fact::SecretsReleased { marble, instance, secrets, .. } => {
            format!("{marble} {} was given {}", short(instance), hidden(secrets))
        }
        Fact::Recovered { holders, root, epoch, emulated, .. } => format!(
            "epoch {epoch}: {} recovered the state{}, root {}",
            names(holders),
            on_emulation(*emulated),
            short(root)
        ),
        Fact::RecoveryRehearsed { holders } => format!("{} rehearsed recovery", names(holders)),
        Fact::RolledBack { manifest, epoch, missing, .. } => format!(
            "epoch {epoch}: back to manifest {}, for {} did not run again",
            short(manifest),
            names(missing)
        ),
        Fact::ReplicaJoined { replica, platform, .. } => {
            format!("another coordinator joined on {platform}, key {}", short(replica))
        }
        Fact::SecretsRotated { user, secrets } => {
            format!("{user} had new values made of {}", hidden(secrets))
        }
        Fact::SecretsExpired { secrets } => format!("{} expired and were wiped", hidden(secrets)),
        Fact::Evicted { user, machine, instances } => {
            let instances: Vec<_> = instances.iter().map(short).collect();
            let machine = machine.as_ref().map(|machine| format!(" with machine {}", short(machine)));
            format!("{user} evicted instances [{}]{}", instances.join(", "), machine.unwrap_or_default())
        }
        Fact::SecretsExposed { secrets, withheld } => {
            let until = if *withheld { "; delivered to nobody until then" } else { "" };
            format!("{} must be replaced by their users{until}", hidden(secrets))
        }
        Fact::AnchorReset { holders, records } => format!(
            "{} accepted the state as it is after {records} records, and the loss of any that came after",
            names(holders)
        ),
        Fact::ResourcesWritten { user, resources } => {
            format!("{user} uploaded {}", counted(resources, "resource"))
        }
        Fact::ResourcesDeleted { user, resources } => {
            format!("{user} deleted {}", counted(resources, "resource"))
        }
        Fact::ResourcesRead { user, resources } => {
            format!("{user} downloaded {}", counted(resources, "resource"))
        }
        Fact::ReferenceAdded { user, statement, signers } => {
            format!(
                "{user} added statement {} about reference values, by {}",
                short(statement),
                names(signers)
            )
        }
        Fact::ReferenceRemoved { user, statement } => {
            format!("{user} removed statement {} about reference values", short(statement))
        }
    }
}

fn on_emulation(emulated: bool) -> &'static str {
    if emulated { " (emulated)" } else { "" }
}

fn short(digest: &Digest) -> String {
    digest.to_string()[..16].to_owned()
}

fn names(names: &Names) -> String {
    let some = names.names.join(", ");
    match (some.is_empty(), names.more) {
        (true, _) => "nobody".into(),
        (false, 0) => some,
        (false, more) => format!("{some} and {more} more"),
    }
}

fn raised(versions: &Versions) -> String {
    let some: Vec<_> =
        versions.versions.iter().map(|(package, version)| format!("{package} to {version}")).collect();
    match versions.more {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}

fn hidden(secrets: &[Commitment]) -> String {
    counted(secrets, "secret")
}

fn counted(named: &[Commitment], what: &str) -> String {
    let some: Vec<_> = named.iter().take(3).map(short).collect();
    let several = if named.len() == 1 { "" } else { "s" };
    let rest = if named.len() > 3 { ", …" } else { "" };
    format!("{} {what}{several} ({}{rest})", named.len(), some.join(", "))
}
