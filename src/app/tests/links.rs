//! Follows what the papers and the library's page point to: paths, links, the steps of the journey.

use std::collections::BTreeSet;

use super::papers::{Paper, file, repository};

#[test]
fn every_path_that_they_mention_exists() {
    let part = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let folders = [
        ".ci/",
        "benches/",
        "certs/",
        "config/",
        "examples/",
        "scripts/",
        "src/",
        "tests/",
    ];
    let files = ["CHANGELOG.md", "deny.toml", "LICENSE-MIT", "LICENSE-APACHE"];
    let mut seen = BTreeSet::new();
    for paper in Paper::all() {
        let words = paper
            .text
            .split(|c: char| !part(c))
            .map(|word| word.trim_end_matches(['.', '-']));
        for word in words {
            let named = folders.iter().any(|folder| word.starts_with(folder));
            if named || files.contains(&word) {
                // Keys and certificates are the user's own, and so are the settings of a thing.
                let own = word.starts_with("certs/") && !word.ends_with(".md") && word != "certs/"
                    || word == "config/my-thing.toml";
                let exists = repository().join(word).exists();
                assert!(own || exists, "{}: {word} does not exist", paper.name);
                seen.insert(word.to_owned());
            }
        }
    }
    assert!(files.iter().all(|file| seen.contains(*file)));
    assert!(seen.len() > 40, "{seen:?}");
}

#[test]
fn every_path_on_the_librarys_page_exists() {
    let library = file("src/lib.rs");
    let page = library.lines().take_while(|line| line.starts_with("//!"));
    let text = page.collect::<Vec<_>>().join("\n");
    let mut seen = 0;
    for span in text.split('`').skip(1).step_by(2) {
        let is_filter = span.contains(['#', '+', '$']);
        if span.contains('/') && !span.contains(char::is_whitespace) && !is_filter {
            assert!(repository().join("src").join(span).exists(), "{span}");
            seen += 1;
        }
    }
    assert!(seen > 12, "only {seen} paths were found");
}

#[test]
fn the_numbers_of_the_journey_stand_at_the_head_of_the_files() {
    let library = file("src/lib.rs");
    let mut seen = Vec::new();
    for line in library.lines() {
        let Some((number, rest)) = line
            .strip_prefix("//! - \\[")
            .and_then(|step| step.split_once("\\] `"))
        else {
            continue;
        };
        let path = rest.split('`').next().unwrap();
        let path = match path.strip_suffix('/') {
            Some(folder) => format!("src/{folder}/mod.rs"),
            None => format!("src/{path}"),
        };
        let text = file(&path);
        let mut head = text.lines().take_while(|line| line.starts_with("//!"));
        let mark = format!("\\[{number}\\]");
        assert!(head.any(|line| line.contains(&mark)), "{path}: {mark}");
        seen.push(number.to_owned());
    }
    let all = (0..=9).map(|number| number.to_string());
    assert!(seen.into_iter().eq(all));
}

#[test]
fn every_link_leads_to_a_file_and_the_readme_to_every_paper() {
    let papers = Paper::all();
    for paper in &papers {
        for link in paper.links() {
            assert!(
                repository().join(&link).exists(),
                "{}: {link:?}",
                paper.name
            );
        }
    }
    let links = papers[0].links();
    for paper in &papers[1..] {
        assert!(
            links.iter().any(|link| link.ends_with(paper.name)),
            "{}",
            paper.name
        );
    }
}
