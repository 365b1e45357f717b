//! SPECIFICATION.md names a test for each promise; a name without a test is a broken promise.

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use crate::shell::root;

    fn sources(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                sources(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&fs::read_to_string(&path).expect("a source file"));
            }
        }
    }

    #[test]
    fn every_test_that_the_specification_names_exists() {
        let text = fs::read_to_string(root().join("SPECIFICATION.md")).expect("SPECIFICATION.md");
        let mut all = String::new();
        for folder in ["crates", "bailey", "demo"] {
            sources(&root().join(folder), &mut all);
        }
        let rows = text.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
        let cells = rows.filter_map(|line| line.rsplit('|').nth(1));
        let names: Vec<_> = cells
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .filter(|name| !name.contains('/') && !name.contains(' '))
            .collect();
        assert!(names.len() > 40, "only {} names were found", names.len());
        let missing: Vec<_> =
            names.into_iter().filter(|name| !all.contains(&format!("fn {name}("))).collect();
        assert_eq!(missing, [""; 0]);
    }

    #[test]
    fn every_check_that_the_specification_names_exists() {
        let text = fs::read_to_string(root().join("SPECIFICATION.md")).expect("SPECIFICATION.md");
        let story = fs::read_to_string(root().join("demo/src/story.rs")).expect("the story");
        let lists = text
            .lines()
            .filter_map(|line| line.split_once("demo: "))
            .map(|(_, rest)| rest.trim_end_matches(" |"));
        for name in lists.flat_map(|list| list.split(", ")).filter(|name| !name.contains(' ')) {
            assert!(story.contains(&format!("checks.tell(\"{name}\"")), "the demo has no check {name}");
        }
    }
}
