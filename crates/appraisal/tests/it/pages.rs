//! Each code has a page in `docs/verdicts`, and each page a code.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use appraisal::Code;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/verdicts")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text without line breaks, so that it may be wrapped anywhere.
fn flowing(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let pages: BTreeSet<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    let codes: BTreeSet<_> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(pages, codes);
}

#[test]
fn a_page_says_what_the_code_means_and_what_to_do() {
    for code in Code::ALL {
        let page = read(&format!("{code}.md"));
        assert!(page.starts_with(&format!("# {code}\n")), "{code}: heading");
        let text = flowing(&page);
        assert!(text.contains(&flowing(code.meaning())), "{code}: not what the code's documentation says");
        let parts = ["*Platforms:*", "**Why it is checked.**", "**Find out more:**", "**What mends it.**"];
        for part in parts.into_iter().chain(["**What softens it.**"]) {
            assert!(text.contains(part), "{code}: {part}");
        }
        assert!((8..=30).contains(&page.lines().count()), "{code}: {} lines", page.lines().count());
    }
}

#[test]
fn the_index_links_every_page_and_no_other() {
    let index = read("README.md");
    let linked: Vec<_> = index
        .lines()
        .filter_map(|line| line.strip_prefix("- [")?.split_once("]("))
        .map(|(code, rest)| (code.to_owned(), rest.split(')').next().unwrap().to_owned()))
        .collect();
    assert!(linked.iter().all(|(code, page)| *page == format!("{code}.md")));
    let linked: Vec<_> = linked.into_iter().map(|(code, _)| code).collect();
    let codes: BTreeSet<_> = Code::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(linked.iter().cloned().collect::<BTreeSet<_>>(), codes);
    assert_eq!(linked.len(), codes.len(), "a page is linked twice");
}
