//! Holds `config/demo.toml` to the code, both ways. Tests only.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::app::names::Names;
use crate::app::resolve::*;
use crate::app::settings as cli;
use crate::app::sources as layers;

fn demo_file() -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "config", "demo.toml"]
        .iter()
        .collect();
    fs::read_to_string(path).unwrap()
}

/// The file with its commented keys, `#key = value`, switched on; prose has a blank after the #.
fn uncommented() -> String {
    let is_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    let lines = demo_file();
    let lines: Vec<&str> = lines
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| is_key(rest))
                .unwrap_or(line)
        })
        .collect();
    lines.join("\n")
}

#[test]
fn the_demo_file_holds_exactly_the_defaults() {
    let path = Path::new("demo.toml");
    let layer = layers::from_toml(&demo_file(), path).unwrap();
    assert_eq!(layer.settings, default_settings());
}

#[test]
fn the_demo_file_holds_every_key_and_every_key_has_a_comment() {
    let text = uncommented();
    let all = layers::from_toml(&text, Path::new("demo.toml")).unwrap();
    let given: BTreeSet<String> = layers::given(&all.settings).into_iter().collect();
    let known: BTreeSet<String> = layers::keys().into_iter().collect();
    assert_eq!(given, known);
    for paragraph in text.split("\n\n").skip(1) {
        assert!(paragraph.starts_with("# "), "no comment above: {paragraph}");
    }
}

#[test]
fn the_demo_file_resolves_to_the_defaults() {
    let path = format!("{}/config/demo.toml", env!("CARGO_MANIFEST_DIR"));
    let resolved = |args: &[&str]| {
        let cli = cli::parse_from([&["program", "--endpoint", "a"], args].concat()).unwrap();
        let surroundings = Surroundings {
            variable: &|_| None,
            host_name: Some("host".into()),
            process: 1,
        };
        let mut config = resolve(cli, &surroundings).unwrap();
        config.names = Names::default();
        format!("{config:?}")
    };
    assert_eq!(resolved(&["--config", &path]), resolved(&[]));
}
