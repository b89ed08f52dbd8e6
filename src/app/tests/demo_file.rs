//! Holds `config/demo.toml` to the code, both ways: it is the lowest layer of settings.

use std::collections::BTreeSet;
use std::path::Path;

use mqtt_connection_sharing::options::Options;

use super::resolve::{flags, to};
use crate::app::chosen::Chosen;
use crate::app::names::Names;
use crate::app::settings::{Task, keys};
use crate::app::sources::{Layer, defaults};

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
    let path = Path::new("demo.toml");
    let layers = || Layer::of_file(&text, path).unwrap();
    let given: BTreeSet<String> = layers()
        .into_iter()
        .flat_map(|layer| layer.values.into_keys())
        .collect();
    assert_eq!(given, BTreeSet::from_iter(keys()));
    for paragraph in text.split("\n\n").skip(1) {
        assert!(paragraph.starts_with("# "), "no comment above: {paragraph}");
    }
    for task in Task::ALL {
        assert!(defaults(task).len() > 20, "{task:?}");
        // Each value is judged, the commented examples too.
        let mut layers = layers();
        for layer in &mut layers {
            layer.values.remove("pkcs12");
        }
        Chosen::new(layers.into(), task).settings().unwrap();
    }
    let [_, all] = layers();
    let archive = [("pkcs12".to_owned(), all.values["pkcs12"].clone())].into();
    let archive = Layer {
        values: archive,
        ..all
    };
    Chosen::new(vec![archive], Task::Demo).settings().unwrap();
}

#[test]
fn the_bench_has_defaults_of_its_own() {
    let (demo, bench) = (defaults(Task::Demo), defaults(Task::Bench));
    let own: Vec<&String> = bench
        .keys()
        .filter(|key| bench.get(*key) != demo.get(*key))
        .collect();
    let of_bench = keys()
        .into_iter()
        .filter(|key| Task::of_setting(key) == [Task::Bench]);
    let mut expected: Vec<String> = of_bench.collect();
    expected.extend(["clean-session", "payload-size", "threads"].map(String::from));
    expected.sort();
    assert_eq!(own, Vec::from_iter(&expected));
}

#[test]
fn given_as_a_file_it_changes_nothing() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/demo.toml");
    for task in [
        &[][..],
        &["bench"],
        &["bench", "--qos=1", "--clean-session"],
    ] {
        let resolved = |args: &[&str]| {
            let mut config = flags(&[task, &["--endpoint=a"], args].concat()).unwrap();
            config.names = Names::default();
            format!("{config:?}")
        };
        assert_eq!(resolved(&["--config", path]), resolved(&[]));
    }
}
