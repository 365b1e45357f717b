//! An old state put back, as the command line sees it.

use std::{path::PathBuf, time::Duration};

use crate::{
    bench::{Bench, Said, Serving},
    recovery::{recover, recoverable},
};

/// What lies on the disk now.
fn kept(bench: &Bench, serving: &Serving, name: &str) -> PathBuf {
    let folder = PathBuf::from(bench.path(name));
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(serving.state.join("state.redb"), folder.join("state.redb")).unwrap();
    folder
}

/// As somebody who remembers in this folder.
fn verify(bench: &Bench, serving: &Serving, heads: &str, more: &[&str]) -> Said {
    let heads = bench.path(heads);
    let arguments = ["verify", &serving.url, "--heads", &heads];
    bench.appraise(&serving.url, &[&arguments[..], more].concat())
}

fn set(bench: &Bench, serving: &Serving, value: &str) -> Said {
    let file = bench.write("word", value);
    bench.act(serving, "ann", &["secret", "set", "word", "--file", &file])
}

/// The same code on another state, once nobody has the old one open.
async fn again(bench: &Bench, before: Serving, state: &std::path::Path) -> Serving {
    drop(before);
    tokio::time::sleep(Duration::from_secs(2)).await;
    bench.serve(b"coordinator", Some(state)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn s16_a_user_who_saw_more_refuses_and_the_coordinator_learns_it() {
    let bench = Bench::new();
    let serving = recoverable(&bench).await;
    set(&bench, &serving, "yesterday").ok();
    let said = verify(&bench, &serving, "ann", &[]).ok();
    assert!(said.contains("anchors      none: nothing outside this host would notice an old copy"), "{said}");
    let yesterday = kept(&bench, &serving, "yesterday");
    set(&bench, &serving, "today").ok();
    let said = bench.ask(&serving, &["status", "--heads", &bench.path("ann")]).ok();
    assert!(said.contains("state log: ") && said.contains("anchors: none: nothing outside"), "{said}");
    // Again, with as much as was seen, and by somebody who saw less.
    verify(&bench, &serving, "ann", &[]).ok();
    verify(&bench, &serving, "ben", &[]).ok();

    let serving = again(&bench, serving, &yesterday).await;
    let newcomer = verify(&bench, &serving, "newcomer", &[]).ok();
    assert!(newcomer.contains("running"), "who never looked before cannot know: {newcomer}");
    let said = verify(&bench, &serving, "ann", &[]).failed(1);
    assert!(
        said.contains("STATE_ROLLED_BACK") && said.contains("it had") && said.contains("(seen 20"),
        "{said}"
    );
    // It was handed what ann holds: from now on nobody is served.
    let root = bench.path("root.pem");
    let said = verify(&bench, &serving, "another", &["--pin", &root]).ok();
    assert!(said.contains("refusing service"), "{said}");
    let said = bench.ask(&serving, &["status"]).ok();
    assert!(said.starts_with("serving nothing: an older copy of the state was put back"), "{said}");
    let records = said.split("--accept-loss ").nth(1).unwrap().trim().to_owned();
    set(&bench, &serving, "never").failed(1);

    // Holders go on with what there is, and say so.
    let said = recover(&bench, &serving, "alice", &[]).failed(1);
    assert!(said.contains("LOSS_NOT_ACCEPTED") && said.contains(&records), "{said}");
    recover(&bench, &serving, "alice", &["--accept-loss", &records]).ok();
    let said = recover(&bench, &serving, "bob", &["--accept-loss", &records]).ok();
    assert!(said.contains("new root"), "{said}");
    verify(&bench, &serving, "ann", &["--pin", &root]).ok();
    let said = bench.ask(&serving, &["status"]).ok();
    assert!(said.starts_with("running: "), "{said}");
    assert_eq!(bench.act(&serving, "ann", &["secret", "get", "word"]).ok(), "yesterday");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_that_is_required_and_not_there_is_refused() {
    let bench = Bench::new();
    let serving = bench.serve(b"coordinator", None).await;
    for required in ["any", "tpm-nv", "etcd", "clients"] {
        let said = verify(&bench, &serving, "ann", &["--require-anchor", required]).failed(1);
        assert!(said.contains("ANCHOR_MISSING") && said.contains("seen none"), "{said}");
    }
    let said = verify(&bench, &serving, "ann", &["--require-anchor", "tpm"]).failed(2);
    assert!(said.contains("tpm-nv:KEY"), "{said}");
}
