//! Holds `config/demo.toml` to the code, both ways: it is the lowest layer of settings.

use std::collections::BTreeSet;
use std::path::Path;

use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::options::Options;

use super::resolve::{flags, to};
use crate::app::bench::settings::default_window;
use crate::app::names::Names;
use crate::app::settings::Task;
use crate::app::sources::{defaults, from_toml, keys};

const FILE: &str = include_str!("../../../config/demo.toml");

/// The file with its commented keys, `#key = value`, switched on; prose has a blank after the #.
fn uncommented() -> String {
    let is_key = |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase());
    let lines: Vec<&str> = FILE
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
fn the_file_has_the_library_s_defaults() {
    let config = to("broker.example", &[]).unwrap();
    let mut library = Options::new("broker.example", config.options.client_id.clone());
    // The demo's original has that few; the library's default is larger, because few commands at a time
    // are handed over one by one.
    library.command_queue = 12;
    assert_eq!(format!("{:?}", config.options), format!("{library:?}"));
}

#[test]
fn the_file_holds_every_key_and_every_key_has_a_comment() {
    let text = uncommented();
    // Each value is judged, the commented examples too.
    let all = from_toml(&text, Path::new("demo.toml")).unwrap().table;
    let given: BTreeSet<String> = all.keys().cloned().collect();
    assert_eq!(given, BTreeSet::from_iter(keys()));
    for paragraph in text.split("\n\n").skip(1) {
        assert!(paragraph.starts_with("# "), "no comment above: {paragraph}");
    }
    for task in [Task::Demo, Task::Bench] {
        assert!(defaults(task).len() > 20, "{task:?}");
    }
}

/// One key has one value in the file, so the bench's own defaults stand in its prose.
#[test]
fn the_file_says_where_the_bench_has_defaults_of_its_own() {
    let (demo, bench) = (defaults(Task::Demo), defaults(Task::Bench));
    let own: Vec<&String> = bench
        .keys()
        .filter(|key| bench[*key] != demo[*key])
        .collect();
    assert_eq!(own, ["clean-session", "payload-size"]);
    assert_eq!(bench["clean-session"].as_bool(), Some(true));
    let prose = FILE.replace("\n# ", " ");
    for text in [
        format!(
            "payload-size above and clean-session below are left out, its messages have {} bytes and its session \
             is a clean one",
            bench["payload-size"]
        ),
        format!(
            "Default: {}, with QoS 2 {}.",
            default_window(QoS::AtLeastOnce),
            default_window(QoS::ExactlyOnce)
        ),
    ] {
        assert!(prose.contains(&text), "{text}");
    }
}

#[test]
fn given_as_a_file_it_changes_nothing() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/demo.toml");
    let resolved = |args: &[&str]| {
        let mut config = flags(&[&["--endpoint=a"], args].concat()).unwrap();
        config.names = Names::default();
        format!("{config:?}")
    };
    assert_eq!(resolved(&["--config", path]), resolved(&[]));
}
