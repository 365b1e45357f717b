use super::*;

const CONFIG: &str = "/Marbles/tally/Workload/Config";

fn config(text: &str) -> Value {
    let mut document = with(keeps(), "/Marbles/tally/Limits", Value::Null);
    document["Marbles"]["tally"].as_object_mut().expect("a Marble").remove("Limits");
    with(document, CONFIG, json!(text))
}

#[test]
fn a_configuration_is_read_with_the_manifest() {
    let text = "[[volumes]]\nname = \"data\"\npath = \"/data\"\nsize = \"1GiB\"\n";
    let manifest = parse(&config(text)).expect("a manifest");
    let workload = manifest.marble("tally").and_then(|marble| marble.workload.clone()).expect("a workload");
    let config = workload.config.expect("a configuration");
    assert_eq!(config.text, text);
    assert_eq!(config.parsed.volumes[0].name, "data");
    assert!(manifest.marble("frontend").unwrap().workload.as_ref().unwrap().config.is_none());
}

#[test]
fn faults_of_a_configuration_are_told_with_their_path() {
    let at = "Marbles.tally.Workload.Config";
    let faulty = "[[volumes]]\nname = \"Data\"\npath = \"data\"\nsize = \"1XB\"\n";
    assert_eq!(faults(&config(faulty)), vec![format!("{at} INVALID_VALUE"); 3]);
    assert_eq!(faults(&config("surprise = 1")), [format!("{at} INVALID_VALUE")]);
    assert_eq!(faults(&config("peers = [\"nobody\"]")), [format!("{at} UNKNOWN_REFERENCE")]);
    let secret = "[[secrets]]\nname = \"nothing\"\nenv = \"KEY\"\n";
    assert!(faults(&config(secret)).contains(&format!("{at} UNKNOWN_REFERENCE")));
    assert_eq!(faults(&config("steward = \"https://example.org\"")), [format!("{at} NOT_APPLICABLE")]);
}

#[test]
fn nothing_is_said_twice() {
    let at = "Marbles.tally.Workload.Config CONFLICT".to_owned();
    let twice = |text: &str, field: &str, value: Value| {
        let mut document = config(text);
        document["Marbles"]["tally"][field] = value;
        faults(&document)
    };
    assert_eq!(twice("args = [\"x\"]", "Parameters", json!({"Argv": ["y"]})), std::slice::from_ref(&at));
    assert_eq!(
        twice("[env]\nA = \"1\"", "Parameters", json!({"Env": {"A": "2"}})),
        std::slice::from_ref(&at)
    );
    assert_eq!(
        twice("[limits]\nmemory = \"1MiB\"", "Limits", json!({"Memory": "2MiB"})),
        std::slice::from_ref(&at)
    );
    assert_eq!(twice("[log]\nto = \"host\"", "Log", json!("Host")), std::slice::from_ref(&at));
    let tmpfs = "[[tmpfs]]\npath = \"/tmp\"\nsize = \"1MiB\"";
    assert_eq!(twice(tmpfs, "Parameters", json!({"Files": {"/tmp/x": "1"}})), [at]);
    assert!(twice("args = [\"x\"]", "Parameters", json!({"Env": {"A": "2"}})).is_empty());
}

#[test]
fn a_secret_of_the_configuration_is_delivered_like_one_of_a_template() {
    let text = "[[secrets]]\nname = \"key\"\nfile = \"/key\"\n[[secrets]]\nname = \"word\"\nenv = \"WORD\"\n";
    let mut document = config(text);
    document["Secrets"] = json!({
        "key": {"Type": "symmetric-key", "Size": 128}, "word": {"Type": "plain", "UserDefined": true},
    });
    let manifest = parse(&document).expect("a manifest");
    let marble = manifest.marble("tally").expect("a Marble");
    assert!(marble.parameters.files.contains_key("/key") && marble.parameters.env.contains_key("WORD"));
    let read: Vec<_> = marble.readable_secrets().iter().map(ToString::to_string).collect();
    assert_eq!(read, ["key", "word"]);
}
