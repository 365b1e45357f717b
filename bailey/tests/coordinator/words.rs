//! The table of `docs/migrating-from-marblerun.md`: each verb and flag in it is one of `bailey`'s.

use crate::bench::bailey;

#[test]
fn the_verbs_of_the_migration_page_exist() {
    let page = include_str!("../../../docs/migrating-from-marblerun.md");
    let table = page.split("## Verbs").nth(1).and_then(|rest| rest.split("| Flag |").next()).unwrap();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
    let mut checked = 0;
    for row in rows {
        let cell = row.replace("\\|", "/");
        let cell = cell.split('|').nth(2).unwrap().to_owned();
        for said in cell.split('`').skip(1).step_by(2) {
            let words: Vec<_> = said.split(' ').collect();
            let is_verb = |word: &&&str| {
                word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-')
            };
            let verbs: Vec<_> = words.iter().take_while(is_verb).copied().collect();
            if verbs.is_empty() {
                continue;
            }
            let help = bailey(&[&verbs[..], &["--help"]].concat()).ok();
            let usage = format!("bailey {}", verbs.join(" "));
            assert!(help.contains(&usage), "{said}: {help}");
            let flag = |word: &&str| word.trim_matches(['[', ']']).to_owned();
            for flag in words.iter().map(flag).filter(|word| word.starts_with('-')) {
                let known = help.lines().any(|line| line.split([' ', ',']).any(|word| word == flag));
                assert!(known, "{said}: {flag} is not in\n{help}");
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} verbs were checked");
}
