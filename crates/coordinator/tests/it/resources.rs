//! Uploaded resources: who may do what with them, what is kept, and what is told of it.

use coordinator::core::{Event, Refusal, State, Stored, resources};
use hyper::Method;
use manifest::Use;
use serde_json::{Value, json};
use testkit::tee::NOW;
use zeroize::Zeroizing;

use crate::{
    release::{guest, kept, path, under, with_policy},
    running::{Running, logs},
    world::{caller, code, identity, people, step, update},
};

fn mesh() -> State {
    under(&with_policy(json!({"Packages": ["kata"]})))
}

fn bytes(text: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.as_bytes().to_vec())
}

fn put(state: State, at: &str, value: &str) -> State {
    let writer = caller(&people().writer);
    let (event, _) = resources::put(&state, &writer, &path(at), &bytes(value), None, NOW).unwrap();
    step(state, event)
}

fn read(state: &State, at: &str, version: Option<u64>) -> Result<String, Refusal> {
    let writer = caller(&people().writer);
    let (_, read) = resources::read(state, &writer, &path(at), version, &Stored::default(), NOW)?;
    Ok(String::from_utf8(read.value.to_vec()).unwrap())
}

fn given(state: &State, at: &str) -> Option<String> {
    let releasable =
        coordinator::core::broker::release::release(state, &guest(&kept(state)), &path(at), Use::Read, NOW);
    let value = releasable.ok()?.value(state.mesh().unwrap(), &Stored::default()).unwrap();
    Some(String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn guests_get_the_newest_and_operators_also_older_ones() {
    let state = put(put(mesh(), "default/a/b", "one"), "default/a/b", "two");
    assert_eq!(given(&state, "default/a/b").as_deref(), Some("two"));
    assert_eq!(read(&state, "default/a/b", None).unwrap(), "two");
    assert_eq!(read(&state, "default/a/b", Some(1)).unwrap(), "one");
    assert_eq!(code(read(&state, "default/a/b", Some(3))), "RESOURCE_UNKNOWN");
    assert_eq!(code(read(&state, "default/a/c", None)), "RESOURCE_UNKNOWN");
    let many = (0..9).fold(state, |state, index| put(state, "default/a/b", &index.to_string()));
    assert_eq!(code(read(&many, "default/a/b", Some(2))), "RESOURCE_UNKNOWN", "the oldest are gone");
    assert_eq!(read(&many, "default/a/b", Some(7)).unwrap(), "4");
}

#[test]
fn rights_are_by_repository_and_action() {
    let state = put(mesh(), "default/a/b", "one");
    let (reader, writer) = (caller(&people().reader), caller(&people().writer));
    let value = bytes("v");
    let stored = Stored::default();
    for at in ["default/a/b", "none/a/b"] {
        let at = path(at);
        assert_eq!(code(resources::put(&state, &reader, &at, &value, None, NOW)), "NOT_GRANTED");
        assert_eq!(code(resources::delete(&state, &reader, &at, NOW)), "NOT_GRANTED");
        assert_eq!(code(resources::read(&state, &reader, &at, None, &stored, NOW)), "NOT_GRANTED");
        assert_eq!(code(resources::list(&state, &reader, Some(at.repository()))), "NOT_GRANTED");
    }
    assert_eq!(code(resources::list(&state, &reader, None)), "NOT_GRANTED");
    assert_eq!(code(resources::put(&state, &writer, &path("none/a/b"), &value, None, NOW)), "NOT_GRANTED");
    assert_eq!(
        code(resources::put(&state, &caller(&people().stranger), &path("default/a/b"), &value, None, NOW)),
        "USER_UNKNOWN"
    );
    // Each action by itself.
    for (action, [may_read, may_write, may_delete, may_list]) in [
        ("ReadResource", [true, false, false, false]),
        ("WriteResource", [false, true, false, false]),
        ("DeleteResource", [false, false, true, false]),
        ("ListResources", [false, false, false, true]),
    ] {
        let mut manifest = with_policy(json!({"Packages": ["kata"]}));
        let before = under(&manifest);
        let before = put(before, "default/a/b", "one");
        manifest["Roles"]["resources"]["Actions"] = json!([action]);
        let bytes = manifest.to_string().into_bytes();
        let (events, _) = update(&before, &writer, bytes, [].into(), NOW).unwrap();
        let state = events.into_iter().fold(before, step);
        let at = path("default/a/b");
        let granted = |granted: bool| if granted { "accepted" } else { "NOT_GRANTED" };
        assert_eq!(code(resources::read(&state, &writer, &at, None, &stored, NOW)), granted(may_read));
        assert_eq!(code(resources::put(&state, &writer, &at, &value, None, NOW)), granted(may_write));
        assert_eq!(code(resources::delete(&state, &writer, &at, NOW)), granted(may_delete));
        assert_eq!(code(resources::list(&state, &writer, None)), granted(may_list));
    }
}

#[test]
fn what_is_declared_is_not_uploaded_and_the_rest_has_limits() {
    let state = mesh();
    let writer = caller(&people().writer);
    let refused = |at: &str, value: &Zeroizing<Vec<u8>>| {
        code(resources::put(&state, &writer, &path(at), value, None, NOW))
    };
    assert_eq!(refused("default/key/db", &bytes("v")), "RESOURCE_REFUSED");
    assert_eq!(refused("default/a/b", &bytes("")), "RESOURCE_REFUSED");
    let large = Zeroizing::new(vec![1; resources::MAX_RESOURCE + 1]);
    assert_eq!(refused("default/a/b", &large), "RESOURCE_REFUSED");
    assert_eq!(code(resources::delete(&state, &writer, &path("default/key/db"), NOW)), "RESOURCE_REFUSED");
    assert_eq!(code(resources::delete(&state, &writer, &path("default/a/b"), NOW)), "RESOURCE_UNKNOWN");
    assert_eq!(code(read(&state, "default/image/kek", None)), "RESOURCE_REFUSED", "it never leaves");
    assert_eq!(code(read(&state, "default/key/question", None)), "RESOURCE_WITHOUT_VALUE");
}

#[test]
fn two_who_write_at_once_do_not_overwrite_each_other() {
    let state = put(mesh(), "default/a/b", "one");
    let writer = caller(&people().writer);
    let put = |at: &str, follows| resources::put(&state, &writer, &path(at), &bytes("v"), Some(follows), NOW);
    assert_eq!(code(put("default/a/b", 1)), "accepted");
    assert_eq!(code(put("default/a/b", 0)), "RESOURCE_CHANGED");
    assert_eq!(code(put("default/a/b", 2)), "RESOURCE_CHANGED");
    assert_eq!(code(put("default/a/new", 0)), "accepted");
    assert_eq!(code(put("default/a/new", 1)), "RESOURCE_CHANGED");
}

#[test]
fn a_version_is_never_used_twice() {
    let state = put(mesh(), "default/a/b", "one");
    let writer = caller(&people().writer);
    let state = {
        let event = resources::delete(&state, &writer, &path("default/a/b"), NOW).unwrap();
        step(state, event)
    };
    assert!(given(&state, "default/a/b").is_none());
    let state = put(state, "default/a/b", "two");
    assert_eq!(code(read(&state, "default/a/b", Some(1))), "RESOURCE_UNKNOWN");
    assert_eq!(read(&state, "default/a/b", Some(2)).unwrap(), "two");
}

#[test]
fn a_snapshot_keeps_resources() {
    let state = put(put(mesh(), "default/a/b", "one"), "default/a/b", "two");
    let snapshot = state.to_snapshot().unwrap();
    let back = State::from_snapshot(&snapshot, identity().clone()).unwrap();
    assert_eq!(given(&back, "default/a/b").as_deref(), Some("two"));
    assert_eq!(read(&back, "default/a/b", Some(1)).unwrap(), "one");
    let state = put(back, "default/a/b", "three");
    assert_eq!(read(&state, "default/a/b", Some(3)).unwrap(), "three");
}

#[test]
fn an_update_that_leaves_no_place_takes_resources_away() {
    let mut manifest = with_policy(json!({"Packages": ["kata"]}));
    let state = put(under(&manifest), "default/a/b", "one");
    let writer = caller(&people().writer);
    let apply = |state: State, manifest: &Value| {
        let bytes = manifest.to_string().into_bytes();
        let (events, _) = update(&state, &writer, bytes, [].into(), NOW).unwrap();
        events.into_iter().fold(state, step)
    };
    manifest["Broker"]["Tokens"] = json!({"Lifetime": "1m"});
    let state = apply(state, &manifest);
    assert_eq!(given(&state, "default/a/b").as_deref(), Some("one"), "an update keeps them");
    // Declared now, and so the secret and not the upload.
    manifest["Broker"]["Repositories"]["default"]["Resources"]["a/b"] = json!({"Secret": "salt"});
    let declared = apply(state.clone(), &manifest);
    manifest["Broker"]["Repositories"]["default"]["Resources"].as_object_mut().unwrap().remove("a/b");
    let state = apply(declared, &manifest);
    assert!(given(&state, "default/a/b").is_none());
}

#[test]
fn lists_tell_all_but_values() {
    let state = put(put(mesh(), "default/a/b", "canary"), "default/a/b", "canary two");
    let lines = resources::list(&state, &caller(&people().writer), None).unwrap();
    let lines = serde_json::to_value(lines).unwrap();
    let paths: Vec<_> = lines.as_array().unwrap().iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["default/a/b", "default/image/kek", "default/key/db", "default/key/question"]);
    let uploaded = &lines[0];
    assert_eq!(
        (&uploaded["policy"], &uploaded["use"], &uploaded["secret"]),
        (&json!("tried"), &json!("read"), &Value::Null)
    );
    assert_eq!(uploaded["versions"][1]["version"], 2);
    assert_eq!(uploaded["versions"][1]["bytes"], 10);
    assert_eq!(uploaded["versions"][1]["user"], "writer");
    assert_eq!((&lines[1]["use"], &lines[1]["secret"]), (&json!("unwrap"), &json!("kek")));
    assert!(!lines.to_string().contains("canary"));
}

/// S-44: the update log is everybody's, and the transparency log has commitments.
#[test]
fn s44_logs_do_not_name_resources() {
    let state = put(mesh(), "default/canary-kind/canary-tag", "canary-value");
    let history = serde_json::to_string(&state.mesh().unwrap().history().collect::<Vec<_>>()).unwrap();
    assert!(history.contains("Resource stored") && !history.contains("canary"), "{history}");
    let writer = caller(&people().writer);
    let at = path("default/canary-kind/canary-tag");
    let read: Event = resources::read(&state, &writer, &at, None, &Stored::default(), NOW).unwrap().0;
    let (_, growth) = state.clone().step_logged(read).unwrap();
    let entry = String::from_utf8_lossy(&growth).into_owned();
    assert!(entry.contains("resources-read") && !entry.contains("canary"), "{entry}");
    // Whoever may list the repository can open it.
    let opened = coordinator::core::openings(&state, &writer, &[at.uri()]).unwrap();
    let (commitment, opening) = &opened[&at.uri()];
    assert!(entry.contains(&commitment.to_string()));
    assert_eq!(opening.commitment(&at.uri()), *commitment);
    let refused = coordinator::core::openings(&state, &caller(&people().reader), &[at.uri()]);
    assert_eq!(code(refused), "NOT_GRANTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_over_the_client_api() {
    let running = Running::start().await;
    let manifest = with_policy(json!({"Packages": ["kata"]}));
    assert_eq!(running.set_manifest(Some(&people().owner), &manifest.to_string()).await.status, 200);
    let writer = Some(&people().writer);
    let at = "/api/v3/broker/resources/default/canary-kind/canary-tag";
    let put = |at: &'static str, body: Value| {
        running.request(writer, Method::PUT, at, body.to_string().into_bytes())
    };
    let stored = put(at, json!({"value": "Y2FuYXJ5LXZhbHVl"})).await;
    assert_eq!(stored.status, 200, "{:?}", stored.json());
    assert_eq!(stored.json()["data"]["version"], 1);
    assert_eq!(stored.json()["data"]["uri"], "kbs:///default/canary-kind/canary-tag");
    assert_eq!(put(at, json!({"value": "dHdv", "follows": 1})).await.json()["data"]["version"], 2);
    assert_eq!(
        put(at, json!({"value": "dHdv", "follows": 1})).await.code(),
        (409, "RESOURCE_CHANGED".into())
    );
    assert_eq!(put(at, json!({"value": "?"})).await.code(), (400, "BODY_MALFORMED".into()));
    assert_eq!(put(at, json!({"valu": "dHdv"})).await.code(), (400, "BODY_MALFORMED".into()));
    let declared = "/api/v3/broker/resources/default/key/db";
    assert_eq!(put(declared, json!({"value": "dHdv"})).await.code(), (422, "RESOURCE_REFUSED".into()));

    let got = running.get(writer, at).await.json();
    assert_eq!((&got["data"]["value"], &got["data"]["version"]), (&json!("dHdv"), &json!(2)));
    let got = running.get(writer, &format!("{at}?version=1")).await.json();
    assert_eq!(got["data"]["value"], "Y2FuYXJ5LXZhbHVl");
    assert_eq!(
        running.get(writer, &format!("{at}?version=9")).await.code(),
        (404, "RESOURCE_UNKNOWN".into())
    );
    assert_eq!(running.get(writer, &format!("{at}?v=9")).await.code(), (400, "QUERY_MALFORMED".into()));
    assert_eq!(running.get(Some(&people().reader), at).await.code(), (403, "NOT_GRANTED".into()));
    assert_eq!(running.get(None, at).await.code(), (401, "CLIENT_CERTIFICATE_REQUIRED".into()));
    for bad in ["default/..%2f/db", "default/%2e%2e/db", "default/a%2fb/c", "default/a/b%00", "default/a/%ff"]
    {
        let answer = running.get(writer, &format!("/api/v3/broker/resources/{bad}")).await;
        assert_eq!(answer.code(), (400, "RESOURCE_PATH_MALFORMED".into()), "{bad}");
    }
    let listed = running.get(writer, "/api/v3/broker/resources?repository=default").await.json();
    assert_eq!(listed["data"]["resources"].as_array().unwrap().len(), 4);
    let status = running.get(writer, "/api/v3/broker/status").await.json();
    assert_eq!(status["data"]["repositories"][0]["uploaded"], 1);
    assert_eq!(running.get(Some(&people().reader), "/api/v3/broker/status").await.code().0, 403);

    let deleted = running.request(writer, Method::DELETE, at, Vec::new()).await;
    assert_eq!(deleted.status, 200);
    assert_eq!(running.get(writer, at).await.code(), (404, "RESOURCE_UNKNOWN".into()));
    // S-44
    let log = String::from_utf8(logs().lock().unwrap().clone()).unwrap();
    assert!(!log.contains("canary"), "{log}");
    let history = running.get(None, "/api/v2/update").await;
    assert!(!format!("{:?}", history.json()).contains("canary"));
}
