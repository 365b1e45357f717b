//! The log that anyone can check: what it says of everything that happened, over HTTP as C2SP tlog-tiles, across
//! restarts, crashes and recovery.

use attested_tls::claims::TransparencyHead;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use coordinator::core::{self, Event, IdentityKey, State};
use redb::ReadableTable;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::tee::NOW;
use transparency::{
    AddCheckpoint, Bundle, Checkpoint, Entry, Fact, Frontier, Head, History, Note, NoteKey, Opening, Signer,
    Tiles, consistency, inclusion, leaf_hash, signed_checkpoint, verify_inclusion,
};

use crate::{
    recovery::{Holder, left_behind},
    running::{Answer, Running},
    update::updatable,
    world::{caller, founded, identity, later, manifest, peer, people, running, set, step, upload},
};

fn ed25519(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

fn note_key(claims: &TransparencyHead) -> NoteKey {
    NoteKey::new(&claims.origin, Signer::Log, *claims.key).unwrap()
}

/// The whole log of a coordinator, checked: against its Evidence, its checkpoint, and the rules.
async fn audit(running: &Running) -> (Vec<Entry>, Checkpoint) {
    let claims = running.verify([7; 32]).await.unwrap().transparency.unwrap();
    let answer = running.get(None, "/api/v3/log/checkpoint").await;
    assert_eq!(answer.status, 200);
    let checkpoint = signed_checkpoint(&answer.body, &note_key(&claims), &ed25519).unwrap();
    assert_eq!(checkpoint.head, Head { size: claims.size, root: *claims.root });
    let (mut entries, mut tree, mut history) = (Vec::new(), Frontier::default(), History::default());
    for bundle in Bundle::all(checkpoint.head.size) {
        let answer = running.get(None, &format!("/api/v3/log/tile/{bundle}")).await;
        assert_eq!(answer.status, 200, "{bundle}");
        for bytes in bundle.entries(&answer.body).unwrap() {
            tree.append(leaf_hash(bytes));
            let entry = Entry::from_bytes(bytes).unwrap();
            history.take(&entry).unwrap();
            entries.push(entry);
        }
    }
    assert_eq!(tree.head(), checkpoint.head);
    assert_eq!((history.key.unwrap().0, history.origin), (*claims.key, claims.origin));
    (entries, checkpoint)
}

fn kinds(entries: &[Entry]) -> Vec<String> {
    let kind =
        |entry: &Entry| serde_json::to_value(&entry.fact).unwrap()["kind"].as_str().unwrap().to_owned();
    entries.iter().map(kind).collect()
}

pub fn facts(state: State, event: Event) -> (State, Vec<Fact>) {
    let (state, stored) = state.step_logged(event).unwrap();
    let mut facts = Vec::new();
    let mut rest = stored.get(8..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (entry, after) = after.split_at(u16::from_be_bytes(*length).into());
        facts.push(Entry::from_bytes(entry).unwrap().fact);
        rest = after;
    }
    (state, facts)
}

fn opening(state: &State, name: &str) -> (Opening, Opening) {
    core::openings(state, &caller(&people().writer), &[name.into()]).unwrap()[name]
}

#[test]
fn a_release_names_its_secrets_to_those_who_may_know_them() {
    let state = running();
    let write =
        core::write_secrets(&state, &caller(&people().writer), upload("question", "YQ=="), NOW).unwrap();
    let (state, written) = facts(state, write);
    let (commitment, shown) = opening(&state, "question");
    assert_eq!(shown.commitment("question"), commitment);
    assert_eq!(written, [Fact::SecretsWritten { user: "writer".into(), secrets: vec![commitment] }]);
    // Each name has an opening of its own, and each mesh has others.
    assert_ne!(opening(&state, "key").1, shown);
    assert_ne!(opening(&running(), "question").1, shown);
    // Who may not read or write a secret is not told what the log calls it.
    let denied = core::openings(&state, &caller(&people().writer), &["salt".into()]);
    assert_eq!(crate::world::code(denied), "NOT_GRANTED");
    let denied = core::openings(&state, &caller(&people().stranger), &["question".into()]);
    assert_eq!(crate::world::code(denied), "USER_UNKNOWN");

    let asked = peer(&state, "asker", crate::world::ASKER);
    let admitted = crate::world::activate(&state, &asked, 1, NOW).unwrap().admit(&state, NOW).unwrap();
    let (state, released) = facts(state, admitted);
    let [Fact::Activated { marble, platform, emulated: true, epoch: 1, instance }, released] = &released[..]
    else {
        panic!("{released:?}")
    };
    assert_eq!((marble.as_str(), platform.as_str(), instance.0), ("asker", "snp", asked.key.0));
    let Fact::SecretsReleased { marble, instance, secrets, .. } = released else { panic!("{released:?}") };
    assert_eq!((marble.as_str(), instance.0, &secrets[..]), ("asker", asked.key.0, &[commitment][..]));

    let (event, values) = core::download_secrets(
        &state,
        &caller(&people().writer),
        &["question".into()],
        &core::Stored::default(),
        NOW,
    )
    .unwrap();
    assert!(values.contains_key("question"));
    let (_, read) = facts(state, event);
    assert_eq!(read, [Fact::SecretsRead { user: "writer".into(), secrets: vec![commitment] }]);
}

#[test]
fn an_update_is_told_with_who_agreed() {
    let state = founded();
    let event = set(&state, &updatable()).unwrap();
    let (state, first) = facts(state, event);
    let Fact::ManifestSet { epoch: 1, updaters, threshold: 2, .. } = &first[0] else { panic!("{first:?}") };
    assert_eq!(updaters.names, ["reader", "writer"]);
    let mut next = updatable();
    next["Config"] = json!({ "UpdateThreshold": 1 });
    let bytes = next.to_string().into_bytes();
    let downgrades = ["keep".to_owned(), "of nothing".to_owned()].into();
    let (events, _) =
        crate::world::update(&state, &caller(&people().writer), bytes.clone(), downgrades, NOW).unwrap();
    let (mut state, mut told) = (state, Vec::new());
    for event in events {
        let (after, facts) = facts(state, event);
        state = after;
        told.extend(facts);
    }
    let Fact::UpdateProposed { user, downgrades, .. } = &told[0] else { panic!("{told:?}") };
    assert_eq!((user.as_str(), &downgrades.names[..]), ("writer", &["keep".to_owned()][..]));
    let cancelled = core::cancel(&state, &caller(&people().reader), NOW).unwrap();
    let (_, off) = facts(state.clone(), cancelled);
    assert!(
        matches!(&off[..], [Fact::UpdateCancelled { user: Some(user), .. }] if user == "reader"),
        "{off:?}"
    );
    let (events, _) = crate::world::acknowledge(&state, &caller(&people().reader), &bytes, NOW).unwrap();
    for event in events {
        let (after, facts) = facts(state, event);
        state = after;
        told.extend(facts);
    }
    assert!(matches!(&told[1], Fact::UpdateAcknowledged { user, .. } if user == "reader"));
    let Fact::ManifestUpdated { epoch: 2, threshold: 1, manifest, .. } = &told[2] else { panic!("{told:?}") };
    assert_eq!(manifest.0, state.mesh().unwrap().manifest_digest());
}

/// A log of some hundred entries, and what was stored with each record.
fn grown(count: usize) -> (State, Vec<Vec<u8>>) {
    let founding = core::found(true, identity(), NOW).unwrap();
    let (state, first) = State::begin_logged(founding, identity().clone()).unwrap();
    let (mut state, second) = state.clone().step_logged(set(&state, &manifest()).unwrap()).unwrap();
    let mut stored = vec![first, second];
    let writer = caller(&people().writer);
    while state.log().head().size < count as u64 {
        let event = if stored.len() % 3 == 0 {
            // Makes no entry.
            Event::Renewed {
                instance: [1; 32].into(),
                certificate: coordinator::core::Issued { serial: [1; 16].into(), until: NOW.0 },
                at: NOW.0,
            }
        } else {
            core::write_secrets(&state, &writer, upload("question", "YQ=="), later(stored.len() as i64))
                .unwrap()
        };
        let (next, entry) = state.step_logged(event).unwrap();
        (state, stored) = (next, [stored, vec![entry]].concat());
    }
    (state, stored)
}

fn beside(state: &State, stored: &[Vec<u8>], tile: u64) -> Vec<Vec<u8>> {
    let records = state.log().records_of(tile).unwrap();
    let some = &stored[records.start as usize..records.end as usize];
    // The last record may begin the next tile, and have nothing of this one.
    let of_tile = |entry: &&Vec<u8>| {
        entry.first_chunk().is_some_and(|at| u64::from_be_bytes(*at) < (tile + 1) * transparency::TILE_WIDTH)
    };
    some.iter().filter(of_tile).cloned().collect()
}

#[test]
fn entries_that_the_host_changed_are_never_served() {
    let (state, stored) = grown(600);
    let log = state.log();
    for (tile, count) in [(0, 256), (1, 256), (2, 88)] {
        let good = beside(&state, &stored, tile);
        assert_eq!(log.entries_of(tile, &good).unwrap().len(), count);
        // The last record may be one of the next tile, whose first entry it has.
        for at in [0, good.len() / 2, good.len() - 2] {
            let mut changed = good.clone();
            *changed[at].last_mut().unwrap() ^= 1;
            let mut moved = good.clone();
            moved[at][7] ^= 1;
            let mut dropped = good.clone();
            dropped.remove(at);
            let mut swapped = good.clone();
            swapped.swap(at, (at + 7) % good.len());
            let mut repeated = good.clone();
            repeated.insert(at, good[at].clone());
            let mut cut = good.clone();
            cut[at].pop();
            for forged in
                [changed, moved, dropped, swapped, repeated, cut, vec![vec![0xff; 11]], vec![vec![1]]]
            {
                assert!(log.entries_of(tile, &forged).is_err(), "tile {tile}, record {at}");
            }
        }
    }
    assert!(log.records_of(3).is_none() && log.entries_of(3, &[]).is_err());
}

#[test]
fn a_snapshot_keeps_the_tree() {
    let (state, stored) = grown(300);
    let snapshot = state.to_snapshot().unwrap();
    let resumed = State::resume(Some(&snapshot), stored.len() as u64, &[], identity()).unwrap().unwrap();
    assert_eq!(resumed.log().checkpoint().unwrap(), state.log().checkpoint().unwrap());
    let write = core::write_secrets(
        &state,
        &caller(&people().writer),
        upload("key", "AAAAAAAAAAAAAAAAAAAAAA=="),
        NOW,
    );
    let write = write.unwrap();
    let after = step(state, write.clone());
    assert_eq!(step(resumed, write).log().head(), after.log().head());
    assert_eq!(
        after.log().records_of(1),
        Some(after.log().records_of(0).unwrap().end - 1..stored.len() as u64 + 1)
    );
}

/// S-46: another TEE has the tree, and cannot sign for it.
#[test]
fn s46_the_logs_key_stays_in_its_tee() {
    let snapshot = running().to_snapshot().unwrap();
    let elsewhere = IdentityKey::generate().unwrap();
    let state = State::resume(Some(&snapshot), 2, &[], &elsewhere).unwrap().unwrap();
    assert_eq!(crate::world::code(state.log().checkpoint()), "INTERNAL");
}

async fn story(running: &Running) {
    let writer = &people().writer;
    assert_eq!(running.write(Some(writer), "question", "a").await.status, 200);
    assert_eq!(running.get(Some(writer), "/api/v2/secrets?s=question&s=key").await.status, 200);
    assert_eq!(running.get(Some(writer), "/api/v2/secrets?s=salt").await.status, 403, "and not told");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_in_the_log_and_its_head_in_the_evidence() {
    let running = Running::with_manifest().await;
    story(&running).await;
    let (entries, checkpoint) = audit(&running).await;
    assert_eq!(kinds(&entries), ["founded", "manifest-set", "secrets-written", "secrets-read"]);
    let Fact::SecretsRead { user, secrets } = &entries[3].fact else { panic!("{:?}", entries[3]) };
    assert_eq!((user.as_str(), secrets.len()), ("writer", 2));
    let text: String = entries.iter().map(|entry| String::from_utf8(entry.to_bytes()).unwrap()).collect();
    assert!(!text.contains("question") && !text.contains("salt"), "{text}");

    // One entry's proof, made of tiles.
    let mut tiles = Tiles::new(checkpoint.head.size);
    for tile in Tiles::for_inclusion(2, checkpoint.head.size) {
        let answer = running.get(None, &format!("/api/v3/log/tile/{tile}")).await;
        tiles.insert(tile, tile.hashes(&answer.body).unwrap());
    }
    let proof = inclusion(2, checkpoint.head.size, |subtree| tiles.node(subtree)).unwrap();
    verify_inclusion(&leaf_hash(&entries[2].to_bytes()), 2, &proof, &checkpoint.head).unwrap();

    let opened = running.get(Some(&people().writer), "/api/v3/log/secrets?s=question").await.json();
    let opened = &opened["data"]["secrets"]["question"];
    let shown: Opening = opened["opening"].as_str().unwrap().parse().unwrap();
    assert_eq!(shown.commitment("question").to_string(), opened["commitment"].as_str().unwrap());
    assert!(secrets.contains(&shown.commitment("question")));
    for (who, status) in [(None, 401), (Some(&people().reader), 403)] {
        assert_eq!(running.get(who, "/api/v3/log/secrets?s=question").await.status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_are_served_as_c2sp_says_and_none_beyond_the_head() {
    let running = Running::with_manifest().await;
    for (path, length) in [("0/000.p/2", 64), ("0/000.p/1", 32)] {
        let answer = running.get(None, &format!("/api/v3/log/tile/{path}")).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, length));
        assert_eq!(answer.header("content-type"), "application/octet-stream");
        assert!(answer.header("cache-control").contains("immutable"));
    }
    let answer = running.get(None, "/api/v3/log/checkpoint").await;
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(answer.header("cache-control"), "no-cache");
    for path in [
        "0/000",
        "0/000.p/3",
        "0/001.p/1",
        "1/000.p/1",
        "entries/000",
        "entries/000.p/3",
        "0/0",
        "x",
        "",
        "entries/..%2f000",
        "0/000.p/256",
        "8/000.p/1",
    ] {
        let answer = running.get(None, &format!("/api/v3/log/tile/{path}")).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let answer: Answer = running.get(None, "/api/v3/log/tile/0/000").await;
    assert_eq!(answer.code().1, "LOG_TILE_UNKNOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_survives_restart_and_a_copied_disk() {
    let running = Running::with_manifest().await;
    story(&running).await;
    let (entries, before) = audit(&running).await;
    // As if the machine had died just now: records and entries are in one transaction.
    let again = Running::start_in(running.left()).await;
    let (same, after) = audit(&again).await;
    assert_eq!((same, after), (entries, before));
    assert_eq!(again.write(Some(&people().writer), "question", "b").await.status, 200);
    assert_eq!(audit(&again).await.0.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_is_sealed_the_log_is_in_memory() {
    let running = Running::start().await;
    let mut text = manifest();
    text["Config"] = json!({ "SealMode": "Disabled" });
    let answer = running.set_manifest(Some(&people().owner), &text.to_string()).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    story(&running).await;
    assert_eq!(audit(&running).await.0.len(), 4);
    assert!(!running.directory.path().join("state.redb").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_changed_on_the_disk_are_an_error_and_not_an_answer() {
    let running = Running::with_manifest().await;
    let left: TempDir = running.left();
    {
        const ENTRIES: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("entries");
        let database = redb::Database::open(left.path().join("state.redb")).unwrap();
        let transaction = database.begin_write().unwrap();
        {
            let mut entries = transaction.open_table(ENTRIES).unwrap();
            let mut entry = entries.get(1).unwrap().unwrap().value().to_vec();
            *entry.last_mut().unwrap() ^= 1;
            entries.insert(1, entry.as_slice()).unwrap();
        }
        transaction.commit().unwrap();
    }
    let changed = Running::start_in(left).await;
    for path in ["entries/000.p/2", "0/000.p/2"] {
        let answer = changed.get(None, &format!("/api/v3/log/tile/{path}")).await;
        assert_eq!(answer.code(), (500, "INTERNAL".into()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s46_recovery_keeps_the_tree_and_makes_a_new_key() {
    let holders = ["alice", "bob"].map(Holder::new);
    let (left, secrets, _): (TempDir, Value, _) = left_behind(&holders, 2).await;
    let before = {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(left.path().join("state.redb"), copy.path().join("state.redb")).unwrap();
        let original = Running::start_in(copy).await;
        original.verify([1; 32]).await.unwrap().transparency.unwrap()
    };
    let running = Running::start_as(b"another machine", left).await;
    assert!(running.verify([1; 32]).await.unwrap().transparency.is_none());
    assert_eq!(running.get(None, "/api/v3/log/checkpoint").await.status, 503);
    for holder in &holders {
        let share = holder.decrypt(&secrets);
        let answer = crate::recovery::upload(&running, &share, &holder.sign(&share)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
    }
    let after = running.verify([2; 32]).await.unwrap().transparency.unwrap();
    assert_eq!((&after.origin, after.size), (&before.origin, before.size + 1));
    assert_ne!(after.key, before.key);
    let (entries, _) = audit(&running).await;
    assert!(
        matches!(&entries.last().unwrap().fact, Fact::Recovered { holders, .. } if holders.names == ["alice", "bob"])
    );
    let mut older = Frontier::default();
    entries[..before.size as usize].iter().for_each(|entry| drop(older.append(leaf_hash(&entry.to_bytes()))));
    assert_eq!(older.head().root, *before.root);
}

/// A witness by C2SP tlog-witness, without its HTTP.
struct Witness {
    pair: Ed25519KeyPair,
    key: NoteKey,
    log: NoteKey,
    seen: Option<Checkpoint>,
}

impl Witness {
    fn new(name: &str, seed: u8, log: &NoteKey) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        Self { key: NoteKey::new(name, Signer::Witness, public).unwrap(), pair, log: log.clone(), seen: None }
    }

    fn key(name: &str, seed: u8) -> String {
        Self::new(name, seed, &NoteKey::new("log", Signer::Log, [0; 32]).unwrap()).key.to_string()
    }

    /// `add-checkpoint`: a signature line, or the status.
    fn add_checkpoint(&mut self, body: &[u8]) -> Result<String, u16> {
        let request = AddCheckpoint::parse(body).map_err(|_| 400_u16)?;
        let checkpoint = signed_checkpoint(&request.checkpoint, &self.log, &ed25519).map_err(|_| 403_u16)?;
        if request.old != self.seen.as_ref().map_or(0, |seen| seen.head.size) {
            return Err(409);
        }
        if let Some(seen) = &self.seen {
            seen.is_prefix_of(&checkpoint, &request.proof).map_err(|_| 422_u16)?;
        }
        let line = self.cosign(&checkpoint);
        self.seen = Some(checkpoint);
        Ok(line)
    }

    fn cosign(&self, checkpoint: &Checkpoint) -> String {
        let signature = self.pair.sign(self.key.message(&checkpoint.text(), 1_700_000_000).as_bytes());
        self.key.signature(1_700_000_000, signature.as_ref().try_into().unwrap()).to_line()
    }
}

/// Brings the newest checkpoint to a witness, with the proof from `old` on, and its cosignature back.
async fn feed(running: &Running, witness: &mut Witness, old: u64) -> Result<Answer, u16> {
    let note = running.get(None, "/api/v3/log/checkpoint").await.body;
    let checkpoint = signed_checkpoint(&note, &witness.log, &ed25519).unwrap();
    let mut tiles = Tiles::new(checkpoint.head.size);
    for tile in Tiles::for_consistency(old, checkpoint.head.size) {
        let answer = running.get(None, &format!("/api/v3/log/tile/{tile}")).await;
        tiles.insert(tile, tile.hashes(&answer.body).unwrap());
    }
    let proof = consistency(old, checkpoint.head.size, |subtree| tiles.node(subtree)).unwrap();
    let body = AddCheckpoint { old, proof, checkpoint: note.clone() }.to_bytes();
    let line = witness.add_checkpoint(&body)?;
    Ok(running.post(None, "/api/v3/log/cosignature", [note, line.into_bytes()].concat()).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn witnesses_cosign_what_they_saw_grow() {
    let running = Running::start().await;
    let mut text = manifest();
    text["Transparency"] = json!({ "Witnesses": [Witness::key("w1", 1), Witness::key("w2", 2)] });
    assert_eq!(running.set_manifest(Some(&people().owner), &text.to_string()).await.status, 200);
    let log = note_key(&running.verify([1; 32]).await.unwrap().transparency.unwrap());
    let (mut one, mut other) = (Witness::new("w1", 1, &log), Witness::new("w2", 2, &log));
    let answer = feed(&running, &mut one, 0).await.unwrap();
    assert_eq!(answer.json()["data"], json!({ "cosignatures": 1, "quorum": 2 }));
    let absent = running.get(None, "/api/v3/log/checkpoint/witnessed").await;
    assert_eq!(absent.code(), (404, "LOG_NOT_WITNESSED".into()));
    let note = Note::parse(&running.get(None, "/api/v3/log/checkpoint").await.body).unwrap();
    assert_eq!(note.verify(&one.key, &ed25519), Ok(1_700_000_000));

    assert_eq!(feed(&running, &mut other, 0).await.unwrap().json()["data"]["cosignatures"], 2);
    story(&running).await;
    // The head has no cosignature yet, and what has a quorum is still there.
    assert_eq!(
        Note::parse(&running.get(None, "/api/v3/log/checkpoint").await.body).unwrap().signatures.len(),
        1
    );
    let witnessed = running.get(None, "/api/v3/log/checkpoint/witnessed").await;
    let note = Note::parse(&witnessed.body).unwrap();
    assert!(note.verify(&one.key, &ed25519).is_ok() && note.verify(&other.key, &ed25519).is_ok());
    assert_eq!(signed_checkpoint(&witnessed.body, &log, &ed25519).unwrap().head.size, 2);
    // A witness goes on from what it saw, by a proof.
    assert_eq!(feed(&running, &mut one, 0).await.err(), Some(409));
    assert_eq!(feed(&running, &mut one, 2).await.unwrap().status, 200);
    assert_eq!(feed(&running, &mut other, 2).await.unwrap().status, 200);
    let witnessed = running.get(None, "/api/v3/log/checkpoint/witnessed").await;
    assert_eq!(signed_checkpoint(&witnessed.body, &log, &ed25519).unwrap().head.size, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_named_witnesses_cosign_and_only_this_tree() {
    let running = Running::start().await;
    let mut text = manifest();
    text["Transparency"] = json!({ "Witnesses": [Witness::key("w1", 1)] });
    assert_eq!(running.set_manifest(Some(&people().owner), &text.to_string()).await.status, 200);
    let log = note_key(&running.verify([1; 32]).await.unwrap().transparency.unwrap());
    let (named, other) = (Witness::new("w1", 1, &log), Witness::new("w1", 2, &log));
    let note = running.get(None, "/api/v3/log/checkpoint").await.body;
    let head = signed_checkpoint(&note, &log, &ed25519).unwrap();
    let below = |checkpoint: &Checkpoint, line: String| format!("{}\n{line}", checkpoint.text());
    let forked = Checkpoint { head: Head { root: [1; 32], ..head.head }, ..head.clone() };
    let future = Checkpoint { head: Head { size: 3, ..head.head }, ..head.clone() };
    let elsewhere = Checkpoint { origin: "other".into(), ..head.clone() };
    for (body, status, code) in [
        (below(&head, other.cosign(&head)), 403, "WITNESS_UNKNOWN"),
        (below(&head, named.cosign(&forked)), 422, "COSIGNATURE_WRONG"),
        (below(&forked, named.cosign(&forked)), 422, "CHECKPOINT_UNKNOWN"),
        (below(&future, named.cosign(&future)), 422, "CHECKPOINT_UNKNOWN"),
        (below(&elsewhere, named.cosign(&elsewhere)), 422, "CHECKPOINT_UNKNOWN"),
        (String::from_utf8(note.clone()).unwrap(), 403, "WITNESS_UNKNOWN"),
        ("nonsense".into(), 400, "COSIGNATURE_MALFORMED"),
    ] {
        let answer = running.post(None, "/api/v3/log/cosignature", body.clone()).await;
        assert_eq!(answer.code(), (status, code.into()), "{body}");
    }
    let answer = running.post(None, "/api/v3/log/cosignature", below(&head, named.cosign(&head))).await;
    assert_eq!(answer.status, 200);
    let nobody = Running::with_manifest().await;
    let answer = nobody.post(None, "/api/v3/log/cosignature", below(&head, named.cosign(&head))).await;
    assert_eq!(answer.code(), (409, "WITNESSES_ABSENT".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_serve_one_log_under_one_key() {
    let Some(etcd) = crate::cluster::Etcd::start(1).await else { return };
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let code = crate::scale_out::CODE;
        let replica = Running::replica(code, tempfile::tempdir().unwrap(), etcd.hints()).await;
        crate::scale_out::serves(&replica).await;
        replicas.push(replica);
    }
    let answer = replicas[0].set_manifest(Some(&people().owner), &manifest().to_string()).await;
    assert_eq!(answer.status, 200);
    for round in 0..4 {
        let answer = replicas[round % 2].write(Some(&people().writer), "question", "a").await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        assert_eq!(audit(&replicas[(round + 1) % 2]).await, audit(&replicas[round % 2]).await, "{round}");
    }
}
