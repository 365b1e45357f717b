//! The poll, end to end: frontend and tally in two Keeps, mutual TLS between them.

use std::net::SocketAddr;

use http::StatusCode;
use keep::admission::Admission;
use zeroize::Zeroizing;

use crate::{client::Client, pki::Root, running::Running, workloads};

const OPTIONS: &str = "tea:Tea,coffee:Coffee & <cream>";
const SALT: &str = "a-secret-of-the-manifest";

pub fn tally(salt: Option<&str>) -> Admission {
    let mut admission = Admission { marble: "tally".into(), ..Admission::default() };
    admission.env.insert("POLL_OPTIONS".into(), OPTIONS.into());
    admission.env.extend(salt.map(|salt| ("TALLY_SALT".to_owned(), salt.to_owned())));
    admission
}

pub fn frontend(tally: SocketAddr) -> Admission {
    let mut admission = Admission { marble: "frontend".into(), ..Admission::default() };
    admission.env.insert("POLL_OPTIONS".into(), OPTIONS.into());
    let question = Zeroizing::new(b"What do you <drink>?\n".to_vec());
    admission.files.insert("/poll/question.txt".into(), question);
    admission.peers.insert("tally".into(), tally.to_string());
    admission
}

struct Poll {
    root: Root,
    tally: Running,
    frontend: Running,
}

async fn poll() -> Poll {
    let root = Root::new();
    let identity = root.mutual("tally", &root);
    let tally = Running::start(workloads::tally(), tally(Some(SALT)), identity).await;
    let admission = frontend(tally.address);
    let frontend = Running::start(workloads::frontend(), admission, root.public("frontend")).await;
    Poll { root, tally, frontend }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_is_counted_and_shown() {
    let poll = poll().await;
    let mut person = Client::to(&poll.frontend, &poll.root).await;

    let page = person.get("/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("What do you &lt;drink&gt;?"), "{}", page.text);
    assert!(page.text.contains("Coffee &amp; &lt;cream&gt;"));
    assert!(page.text.contains("Running in a confidential Keep"));
    assert!(!page.text.contains("<script"));

    let mut receipts = Vec::new();
    for option in ["tea", "coffee", "tea"] {
        let voted = person.post("/vote", format!("option={option}")).await;
        assert_eq!(voted.status, StatusCode::SEE_OTHER, "{}", voted.text);
        let location = voted.headers["location"].to_str().unwrap().to_owned();
        let receipt =
            location.strip_prefix("/?receipt=").unwrap().strip_suffix("#result").unwrap().to_owned();
        let page = person.get(location.split('#').next().unwrap()).await;
        assert!(page.text.contains(&receipt) && page.text.contains("Your vote was counted"));
        receipts.push(receipt);
    }
    receipts.sort();
    receipts.dedup();
    assert_eq!(receipts.len(), 3, "a receipt was given twice");

    let results: serde_json::Value = serde_json::from_str(&person.get("/results.json").await.text).unwrap();
    let expected = serde_json::json!({
        "counts": [{ "option": "tea", "votes": 2 }, { "option": "coffee", "votes": 1 }],
        "total": 3,
    });
    assert_eq!(results, expected);
    let page = person.get("/").await.text;
    assert!(page.contains("data-option=\"tea\" data-votes=\"2\""), "{page}");
    assert!(page.contains("67 %"));

    poll.frontend.stop().await;
    poll.tally.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn votes_from_many_at_once_are_all_counted() {
    let poll = poll().await;
    let voters: Vec<_> = (0..8)
        .map(|_| {
            let (address, tls) = (poll.frontend.address, poll.root.client(&poll.root, &[b"h2"]));
            tokio::spawn(async move {
                let mut person = Client::connect(address, tls).await.unwrap();
                for _ in 0..5 {
                    assert_eq!(person.post("/vote", "option=tea").await.status, StatusCode::SEE_OTHER);
                }
            })
        })
        .collect();
    for voter in voters {
        voter.await.unwrap();
    }
    let mut person = Client::to(&poll.frontend, &poll.root).await;
    assert!(person.get("/results.json").await.text.contains("\"total\":40"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_vote_is_refused() {
    let poll = poll().await;
    let mut person = Client::to(&poll.frontend, &poll.root).await;
    for form in [
        "",
        "option=",
        "option=water",
        "other=tea",
        "option=tea&option=coffee",
        "option=%00",
        "option=../votes",
    ] {
        let answer = person.post("/vote", form).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{form:?}: {}", answer.text);
    }
    let long = format!("option={}", "a".repeat(4000));
    assert_eq!(person.post("/vote", long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(person.get("/vote").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(person.get("/etc/passwd").await.status, StatusCode::NOT_FOUND);
    let forged = person.get("/?receipt=%3Cscript%3Ealert(1)").await;
    assert!(!forged.text.contains("alert") && !forged.text.contains("was counted"));
    assert!(person.get("/results.json").await.text.contains("\"total\":0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tally_knows_its_ballot_and_needs_its_secret() {
    let root = Root::new();
    let (with, without) = (tally(Some(SALT)), tally(None));
    let with = Running::start(workloads::tally(), with, root.public("tally")).await;
    let mut client = Client::to(&with, &root).await;
    assert_eq!(client.post("/votes/water", "").await.status, StatusCode::NOT_FOUND);
    assert_eq!(client.post("/votes/tea", "").await.status, StatusCode::CREATED);
    assert_eq!(client.get("/votes/tea").await.status, StatusCode::METHOD_NOT_ALLOWED);

    let without = Running::start(workloads::tally(), without, root.public("tally")).await;
    let mut client = Client::to(&without, &root).await;
    let answer = client.post("/votes/tea", "").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.text.contains("TALLY_SALT is not set"), "{}", answer.text);
    assert!(client.get("/votes").await.text.contains("\"total\":0"), "an uncounted vote was counted");
}
