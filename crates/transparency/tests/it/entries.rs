//! Entries, and the rules between them.

use transparency::*;

fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

fn names(names: &[&str]) -> Names {
    names.iter().copied().collect()
}

pub fn founded_with(key: Digest) -> Fact {
    let root = digest(1);
    Fact::Founded { origin: History::origin_of(&root), root, key, emulated: true }
}

fn founded() -> Fact {
    founded_with(digest(2))
}

pub fn set(updaters: &[&str], threshold: u64) -> Fact {
    Fact::ManifestSet {
        manifest: digest(3),
        epoch: 1,
        intermediate: digest(4),
        updaters: names(updaters),
        threshold,
    }
}

fn proposed(user: &str) -> Fact {
    Fact::UpdateProposed { user: user.into(), manifest: digest(5), downgrades: names(&[]), deadline: 9 }
}

fn agreed(user: &str, manifest: u8) -> Fact {
    Fact::UpdateAcknowledged { user: user.into(), manifest: digest(manifest) }
}

fn updated(manifest: u8, epoch: u64) -> Fact {
    Fact::ManifestUpdated {
        user: "ann".into(),
        manifest: digest(manifest),
        epoch,
        intermediate: digest(6),
        updaters: names(&["ann"]),
        threshold: 1,
        root_secret_rotated: false,
        recovery_changed: false,
    }
}

pub fn activated(instance: u8, epoch: u64) -> Fact {
    Fact::Activated {
        marble: "tally".into(),
        instance: digest(instance),
        platform: "tdx".into(),
        emulated: true,
        epoch,
    }
}

fn released(marble: &str, instance: u8, epoch: u64) -> Fact {
    Fact::SecretsReleased {
        marble: marble.into(),
        instance: digest(instance),
        epoch,
        secrets: vec![digest(9)],
    }
}

fn recovered(epoch: u64) -> Fact {
    Fact::Recovered {
        holders: names(&["h"]),
        root: digest(11),
        key: digest(12),
        epoch,
        intermediate: digest(13),
        emulated: true,
    }
}

fn replay(facts: &[Fact]) -> Result<History, Broken> {
    let mut history = History::default();
    facts.iter().try_for_each(|fact| history.take(&Entry::new(0, fact.clone())))?;
    Ok(history)
}

/// Which rule the last of these breaks.
fn broken(facts: &[Fact]) -> Rule {
    replay(&facts[..facts.len() - 1]).unwrap();
    let broken = replay(facts).unwrap_err();
    assert_eq!(broken.index, facts.len() as u64 - 1);
    broken.rule
}

#[test]
fn entries_have_one_spelling() {
    let entry = Entry::new(7, activated(1, 1));
    let bytes = entry.to_bytes();
    assert_eq!(Entry::from_bytes(&bytes), Ok(entry.clone()));
    let text = String::from_utf8(bytes).unwrap();
    let expected = format!(
        r#"{{"v":1,"at":7,"fact":{{"kind":"activated","marble":"tally","instance":"{}","platform":"tdx","emulated":true,"epoch":1}}}}"#,
        digest(1)
    );
    assert_eq!(text, expected);
    for bad in [
        text.replace(":7", ": 7"),
        text.replace("\"v\":1", "\"v\":2"),
        text.replace("\"epoch\":1", "\"epoch\":1,\"more\":1"),
        text.replace("activated", "actuated"),
        text.replace("\"at\":7,", ""),
        text.replace("0101", "01"),
        text.replace("tally", "t\\u0061lly"),
        text.clone() + " ",
        text.replace("tally", &"x".repeat(MAX_ENTRY)),
    ] {
        assert!(Entry::from_bytes(bad.as_bytes()).is_err(), "{bad}");
    }
    let upper = Entry::new(7, activated(0xab, 1)).to_bytes();
    let upper = String::from_utf8(upper).unwrap().replace("abab", "ABAB");
    assert!(Entry::from_bytes(upper.as_bytes()).is_err());
}

#[test]
fn no_names_make_an_entry_too_long() {
    let long: Names = (0..10_000).map(|n| format!("{n:0>120}\"\\")).collect();
    assert_eq!(long.names.len() as u64 + long.more, 10_000);
    assert!(long.more > 0 && !long.names.is_empty());
    let fact = Fact::RecoveryRehearsed { holders: long };
    assert!(Entry::new(i64::MIN, fact).to_bytes().len() <= MAX_ENTRY / 2 + 1);
    let versions: std::collections::BTreeMap<_, _> =
        (0..10_000).map(|n| (format!("{n:0>120}"), u16::MAX)).collect();
    let fact = Fact::VersionsRaised {
        user: "\"".repeat(128),
        versions: versions.iter().collect(),
        epoch: u64::MAX,
        intermediate: digest(0),
    };
    assert!(Entry::new(i64::MIN, fact).to_bytes().len() <= MAX_ENTRY);
    let fact = Fact::SecretsWritten { user: "\"".repeat(128), secrets: vec![digest(0); SECRETS_PER_ENTRY] };
    assert!(Entry::new(i64::MIN, fact).to_bytes().len() <= MAX_ENTRY);
}

#[test]
fn a_commitment_opens_for_its_name_alone() {
    let opening = digest(1);
    let commitment = opening.commitment("salt");
    assert_ne!(commitment, opening.commitment("sal"));
    assert_ne!(commitment, digest(2).commitment("salt"));
}

#[test]
fn a_whole_story_holds() {
    let facts = [
        founded(),
        set(&["ann", "ben", "eve"], 2),
        activated(1, 1),
        released("tally", 1, 1),
        proposed("ann"),
        Fact::UpdateCancelled { user: None, manifest: digest(5) },
        proposed("ben"),
        agreed("eve", 5),
        updated(5, 2),
        activated(1, 2),
        recovered(3),
        Fact::RecoveryRehearsed { holders: names(&["h"]) },
        Fact::ReplicaJoined { replica: digest(7), platform: "tdx".into(), machine: None },
        Fact::AnchorReset { holders: names(&["h"]), records: 7 },
        Fact::ReferenceAdded { user: "ann".into(), statement: digest(8), signers: names(&["release"]) },
        Fact::ReferenceRemoved { user: "ann".into(), statement: digest(8) },
    ];
    let history = replay(&facts).unwrap();
    assert_eq!((history.size, history.epoch), (16, 3));
    assert_eq!((history.key, history.root), (Some(digest(12)), Some(digest(11))));
    assert_eq!(history.manifest, Some(digest(5)));
    assert!(history.origin.ends_with(&digest(1).to_string()));
}

#[test]
fn the_beginning_is_the_founding_and_nothing_else_is() {
    assert_eq!(broken(&[set(&[], 1)]), Rule::Founding);
    assert_eq!(broken(&[founded(), founded()]), Rule::Founding);
    let Fact::Founded { root, key, emulated, .. } = founded() else { unreachable!() };
    let other = Fact::Founded { origin: "other".into(), root, key, emulated };
    assert!(matches!(broken(&[other]), Rule::Origin { .. }));
    assert_eq!(broken(&[founded(), activated(1, 0)]), Rule::Manifest);
    let joined = Fact::ReplicaJoined { replica: digest(7), platform: "tdx".into(), machine: None };
    assert!(replay(&[founded(), joined, set(&[], 0)]).is_ok(), "but for replicas");
    assert_eq!(broken(&[founded(), set(&[], 0), set(&[], 0)]), Rule::Manifest);
}

#[test]
fn epochs_rise_by_one() {
    let start = [founded(), set(&["ann"], 1)];
    for fact in [recovered(1), recovered(3)] {
        assert!(matches!(broken(&[&start[..], &[fact]].concat()), Rule::Epoch { before: 1, .. }));
    }
    let Fact::ManifestSet { manifest, intermediate, updaters, threshold, .. } = set(&[], 0) else {
        unreachable!()
    };
    let second = Fact::ManifestSet { manifest, epoch: 2, intermediate, updaters, threshold };
    assert_eq!(broken(&[founded(), second]), Rule::Epoch { before: 0, seen: 2 });
    let raised = Fact::VersionsRaised {
        user: "ann".into(),
        versions: Versions::default(),
        epoch: 3,
        intermediate: digest(0),
    };
    assert_eq!(broken(&[&start[..], &[raised]].concat()), Rule::Epoch { before: 1, seen: 3 });
    assert_eq!(broken(&[&start[..], &[activated(1, 2)]].concat()), Rule::OtherEpoch { current: 1, seen: 2 });
}

#[test]
fn an_update_needs_the_agreement_of_as_many_as_the_manifest_in_force_says() {
    let start = [founded(), set(&["ann", "ben"], 2), proposed("ann")];
    let with = |more: &[Fact]| [&start[..], more].concat();
    assert_eq!(broken(&with(&[updated(5, 2)])), Rule::Agreement { agreed: 1, threshold: 2 });
    // The same one twice, and one who has no say.
    let stuffed = with(&[agreed("ann", 5), agreed("mallory", 5), updated(5, 2)]);
    assert_eq!(broken(&stuffed), Rule::Agreement { agreed: 1, threshold: 2 });
    assert!(matches!(broken(&with(&[agreed("ben", 6)])), Rule::OtherUpdate { .. }));
    assert!(matches!(broken(&with(&[agreed("ben", 5), updated(6, 2)])), Rule::OtherUpdate { .. }));
    assert_eq!(broken(&with(&[proposed("ben")])), Rule::Pending);
    let off = Fact::UpdateCancelled { user: None, manifest: digest(5) };
    assert!(matches!(broken(&with(&[off, agreed("ben", 5)])), Rule::OtherUpdate { pending: None, .. }));
    assert!(replay(&with(&[agreed("ben", 5), updated(5, 2)])).is_ok());
}

#[test]
fn secrets_go_to_instances_of_this_epoch() {
    let start = [founded(), set(&["ann"], 1), activated(1, 1)];
    let with = |more: &[Fact]| [&start[..], more].concat();
    assert!(replay(&with(&[released("tally", 1, 1)])).is_ok());
    assert_eq!(broken(&with(&[released("tally", 2, 1)])), Rule::NotActivated);
    assert_eq!(broken(&with(&[released("other", 1, 1)])), Rule::NotActivated);
    assert_eq!(broken(&with(&[recovered(2), released("tally", 1, 2)])), Rule::NotActivated);
}

fn rolled_back(manifest: u8, epoch: u64) -> Fact {
    let (manifest, intermediate, missing) = (digest(manifest), digest(7), names(&["tally"]));
    Fact::RolledBack { manifest, epoch, intermediate, missing }
}

#[test]
fn a_roll_back_goes_to_what_was_in_force_directly_before_and_once() {
    let story = [founded(), set(&["ann"], 1), proposed("ann"), updated(5, 2)];
    let and = |facts: &[Fact]| [&story[..], facts].concat();
    let history = replay(&and(&[rolled_back(3, 3), proposed("ann"), updated(5, 4)])).unwrap();
    assert_eq!((history.epoch, history.manifest), (4, Some(digest(5))));
    let way = |seen| Rule::WayBack { seen: digest(seen) };
    assert_eq!(broken(&and(&[rolled_back(4, 3)])), way(4));
    assert_eq!(broken(&and(&[rolled_back(3, 3), rolled_back(5, 4)])), way(5));
    assert_eq!(broken(&and(&[recovered(3), rolled_back(3, 4)])), way(3));
    assert_eq!(broken(&and(&[rolled_back(3, 2)])), Rule::Epoch { before: 2, seen: 2 });
}
