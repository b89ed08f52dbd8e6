//! The papers of this repository as text: sections, tables, fenced blocks, commands, words in backticks, links.
//!
//! Reads and takes apart; `readme.rs` judges. Tests only.

use std::fs;
use std::path::{Path, PathBuf};

/// The papers, from the top of the repository.
const PAPERS: [&str; 8] = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "benches/README.md",
    "certs/README.md",
    "config/README.md",
    "examples/README.md",
    "tests/README.md",
];

pub(super) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn file(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text of every source file in a folder and below.
pub(super) fn sources(folder: &str) -> String {
    fn collect(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    collect(&repository().join(folder), &mut text);
    text
}

/// The rows of all tables in a text, without their heads, cell by cell.
pub(super) fn rows(text: &str) -> Vec<Vec<String>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_rule = |line: &str| line.starts_with("|--");
    let mut rows = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let is_head = lines.get(index + 1).is_some_and(|next| is_rule(next));
        if line.starts_with('|') && !is_rule(line) && !is_head {
            let cells = line.trim_matches('|').split(" | ");
            rows.push(cells.map(|cell| cell.trim().to_owned()).collect());
        }
    }
    rows
}

/// One paper.
pub(super) struct Paper {
    /// From the top of the repository.
    pub(super) name: &'static str,
    pub(super) text: String,
}

impl Paper {
    pub(super) fn read(name: &'static str) -> Self {
        let text = file(name);
        Paper { name, text }
    }

    pub(super) fn all() -> Vec<Self> {
        PAPERS.into_iter().map(Paper::read).collect()
    }

    /// The text below a heading up to the next heading of any level.
    pub(super) fn section(&self, heading: &str) -> String {
        let (_, after) = self
            .text
            .split_once(&format!("\n{heading}\n"))
            .unwrap_or_else(|| panic!("{} has no {heading:?}", self.name));
        let mut fenced = false;
        let own = after.lines().take_while(|line| {
            fenced ^= line.trim_start().starts_with("```");
            fenced || !line.starts_with('#')
        });
        own.collect::<Vec<_>>().join("\n")
    }

    /// The fenced blocks of one language.
    pub(super) fn blocks(&self, language: &str) -> Vec<String> {
        let mut parts = self.text.split("\n```");
        parts.next();
        parts
            .step_by(2)
            .filter_map(|block| block.strip_prefix(&format!("{language}\n")))
            .map(str::to_owned)
            .collect()
    }

    /// The words between backticks, outside of fenced blocks.
    pub(super) fn spans(&self) -> Vec<String> {
        let prose: Vec<&str> = self.text.split("\n```").step_by(2).collect();
        let prose = prose.join("\n");
        let spans = prose.split('`').skip(1).step_by(2);
        spans.map(str::to_owned).collect()
    }

    /// The commands: those in the blocks for the shell, continued lines joined, comments and prompts removed,
    /// and those between backticks.
    pub(super) fn commands(&self) -> Vec<String> {
        let shell = self.blocks("sh").join("\n").replace("\\\n", " ");
        let sessions = self.blocks("console").join("\n");
        let typed = sessions.lines().filter_map(|line| line.strip_prefix("$ "));
        shell
            .lines()
            .chain(typed)
            .map(|line| line.split(" #").next().unwrap().trim().to_owned())
            .filter(|line| !line.is_empty())
            .chain(self.spans().into_iter().filter(|span| span.contains(' ')))
            .collect()
    }

    /// The links to files, as paths from the top of the repository.
    pub(super) fn links(&self) -> Vec<PathBuf> {
        let folder = Path::new(self.name).parent().unwrap();
        let targets = self.text.split("](").skip(1);
        targets
            .map(|rest| rest.split(')').next().unwrap())
            .filter(|target| !target.starts_with("https://"))
            .map(|target| folder.join(target))
            .collect()
    }
}
