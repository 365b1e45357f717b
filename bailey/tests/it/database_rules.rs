//! Manifests of databases by the command line, without a database.

use serde_json::{Value, json};

use crate::{bailey, text};

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).expect("a file")
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.0.path().join(name), text).expect("a file");
        self.path(name)
    }
}

fn good(arguments: &[&str]) -> String {
    let output = bailey(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_partys_ca_issues_and_its_manifest_is_checked_and_planned() {
    let folder = Folder::new();
    let (north, out) = (folder.path("north"), folder.path("alice"));
    let issue = ["certificate", "issue", "alice", "--authority", &north, "--out", &out];
    let missing = bailey(&issue);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("--new-authority"), "{}", text(&missing.stderr));
    let said = good(&[&issue[..], &["--new-authority"]].concat());
    assert!(said.contains("anchor of the party"), "{said}");
    assert!(folder.read("alice/alice.pem").starts_with("-----BEGIN CERTIFICATE"));
    assert_eq!(bailey(&issue).status.code(), Some(1), "a key is not overwritten");
    assert_eq!(bailey(&["certificate", "issue", "../x", "--authority", &north]).status.code(), Some(2));

    let manifest = |readers: Value| {
        json!({
            "Name": "shared",
            "Parties": {"north": {"Anchors": [folder.read("north/ca.pem")]}},
            "Schema": "CREATE TABLE t (a text)",
            "Tables": {"t": {"Owner": "north", "Writers": ["north"], "Readers": readers}},
            "Updates": {"Approvers": ["north"], "Threshold": 1},
            "MaxSize": "1GiB"
        })
        .to_string()
    };
    let old = folder.write("old.json", &manifest(json!([])));
    let new = folder.write("new.json", &manifest(json!(["north"])));
    assert!(good(&["database", "check", &old]).starts_with("no faults; digest "));
    let first = good(&["database", "plan", &old]);
    assert!(first.contains("! north may write t\n"), "{first}");
    let plan = good(&["database", "plan", &new, "--from", &old]);
    let expected = "! north may now read every row of t\nNeeds 1 of north, among them north (owner of t).\n";
    assert_eq!(plan, expected);
    let plan: Value =
        serde_json::from_str(&good(&["database", "plan", &new, "--from", &old, "--json"])).expect("JSON");
    assert_eq!(plan["Required"], json!({"north": ["owner of t"]}));

    let bad = folder.write("bad.json", &manifest(json!(["south"])));
    let refused = bailey(&["database", "check", &bad]);
    assert_eq!(refused.status.code(), Some(2));
    let stderr = text(&refused.stderr);
    assert!(
        stderr.contains("Tables.t.Readers[0]: the manifest has no such party [UNKNOWN_REFERENCE]"),
        "{stderr}"
    );
    let migration = folder.write("m.sql", "DROP TABLE t CASCADE");
    let refused = bailey(&["database", "plan", &new, "--from", &old, "--migration", &migration]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("may not stand in a migration"), "{}", text(&refused.stderr));
}

#[test]
fn a_manifest_of_edgelessdb_and_a_dump_are_imported() {
    let folder = Folder::new();
    for (party, name) in [("c", "C"), ("owner", "Owner")] {
        good(&[
            "certificate",
            "issue",
            name,
            "--authority",
            &folder.path(party),
            "--new-authority",
            "--out",
            &folder.path(party),
        ]);
    }
    let edgeless = json!({
        "sql": ["CREATE USER reader REQUIRE ISSUER '/CN=owner CA'", "CREATE TABLE d.t (i INT)", "GRANT SELECT ON d.t TO reader"],
        "ca": folder.read("owner/ca.pem"),
    });
    let file = folder.write("edgeless.json", &edgeless.to_string());
    let (approver, out) = (format!("c={}", folder.path("c/ca.pem")), folder.path("manifest.json"));
    let said = good(&["database", "import", "edgelessdb", &file, "--approver", &approver, "--output", &out]);
    assert!(said.contains("everything was carried over"), "{said}");
    let plan = good(&["database", "plan", &out]);
    assert!(plan.contains("! reader may read every row of t\n"), "{plan}");

    let dump = folder.write("dump.sql", "CREATE TABLE public.p (a integer);\nGRANT ALL ON public.p TO x;\n");
    let out = folder.path("out");
    let said = good(&["database", "import", "dump", &dump, "--from", "postgres", "--out", &out]);
    assert!(
        said.contains("1 statements were not carried over") && said.contains("rights are the manifest's"),
        "{said}"
    );
    assert_eq!(folder.read("out/schema.sql"), "CREATE TABLE p (a INTEGER);\n");
}
