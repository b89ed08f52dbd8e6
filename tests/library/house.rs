//! Checks the floor plan: which room may use which, and that no circle runs between files. The law of a
//! room stands at its door (`src/*/mod.rs`).
//!
//! The check reads the sources as text: `use` declarations and written paths alike. Comments, strings
//! and test code do not count. A `mod.rs` (or `packet.rs` beside `packet/`) and the files below it do
//! not make a circle.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

mod code;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use code::{is_word, paths, tokens};
use tree::{Target, Tree, follow, in_program, sources, without_tests};

/// The crate's name in the program's paths.
const LIBRARY: &str = "mqtt_connection_sharing";

/// A room, and the rooms, files and crates that it may use besides itself.
struct Law {
    room: &'static str,
    uses: &'static [&'static str],
    crates: &'static [&'static str],
}

const LAWS: [Law; 8] = [
    Law {
        room: "error",
        uses: &[],
        crates: &[],
    },
    Law {
        room: "secret",
        uses: &[],
        crates: &["zeroize"],
    },
    Law {
        room: "options",
        uses: &["error", "mqtt", "secret"],
        crates: &[],
    },
    Law {
        room: "mqtt",
        uses: &["error", "secret"],
        crates: &["bytes", "log", "rumqttc", "thiserror", "zeroize"],
    },
    Law {
        room: "link",
        uses: &["error", "options", "secret"],
        crates: &[
            "backoff",
            "crossbeam_channel",
            "log",
            "mio",
            "socket2",
            "native_tls",
            "openssl",
            "pem",
            "pkcs8",
            "zeroize",
        ],
    },
    Law {
        room: "client",
        uses: &["error", "link", "mqtt", "options", "secret"],
        crates: &[
            "bytes",
            "crossbeam_channel",
            "log",
            "native_tls",
            "thiserror",
        ],
    },
    Law {
        room: "local",
        uses: &["error", "options"],
        crates: &[
            "log", "mio", "mqtt5", "rcgen", "socket2", "tempfile", "tokio",
        ],
    },
    Law {
        room: "app",
        uses: &[],
        crates: &[
            LIBRARY,
            "bytes",
            "clap",
            "clap_complete",
            "clap_mangen",
            "crossbeam_channel",
            "ctrlc",
            "env_logger",
            "hdrhistogram",
            "humantime",
            "jiff",
            "log",
            "nix",
            "serde",
            "serde_json",
            "signal_hook",
            "terminal_size",
            "toml",
        ],
    },
];

/// The crates that this crate depends on, as paths name them. Any other name at a path's beginning
/// belongs to the standard library or was brought in by `use`.
fn dependencies() -> BTreeSet<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("the manifest");
    let mut names = BTreeSet::from([LIBRARY.to_owned()]);
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]") && !line.contains("dev-");
        } else if inside && let Some((name, _)) = line.split_once(" = ") {
            names.insert(name.replace('-', "_"));
        }
    }
    names
}

fn room(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    match first {
        "main.rs" => "app",
        _ => first.trim_end_matches(".rs"),
    }
}

/// Whether one file is the door of a folder that contains the other.
fn is_door(one: &str, other: &str) -> bool {
    let door = |door: &str, inside: &str| {
        let folder = match door.strip_suffix("mod.rs") {
            Some(folder) => folder.to_owned(),
            None => match door {
                "lib.rs" => return !in_program(inside),
                "main.rs" => return in_program(inside),
                other => format!("{}/", other.trim_end_matches(".rs")),
            },
        };
        inside.starts_with(&folder)
    };
    door(one, other) || door(other, one)
}

/// Every offence against the floor plan, in words.
fn offences(tree: &Tree) -> Vec<String> {
    let codes = without_tests(tree);
    let dependencies = dependencies();
    let mut offences = BTreeSet::new();
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (file, code) in &codes {
        let law = LAWS.iter().find(|law| law.room == room(file));
        for path in paths(code) {
            if path == ["crate"] {
                offences.insert(format!("{file} gives the crate's root another name"));
            }
            match follow(&codes, file, &path) {
                Target::Own => {}
                Target::Crate(name) => {
                    let names = law.map_or(&[][..], |law| law.crates);
                    let known = dependencies.contains(&name);
                    if law.is_some() && known && !names.contains(&&*name) {
                        offences.insert(format!("{file} uses the crate {name}"));
                    }
                }
                Target::File(other) => {
                    // The root shows what every room exports.
                    if other == "lib.rs" && path.last().is_some_and(|last| last == "*") {
                        offences.insert(format!("{file} uses everything at the crate's root"));
                    }
                    let (own, theirs) = (room(file), room(other));
                    if other == file || is_door(file, other) {
                        continue;
                    }
                    if let Some(law) = law
                        && own != theirs
                        && !law.uses.contains(&theirs)
                    {
                        offences.insert(format!("{file} uses {other}, which is behind a wall"));
                    }
                    edges.entry(file).or_default().insert(other);
                }
            }
        }
    }
    offences.extend(circles(&edges));
    offences.into_iter().collect()
}

/// Every circle that a walk along the edges closes, as a list of files.
fn circles(edges: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    fn visit<'a>(
        file: &'a str,
        edges: &BTreeMap<&'a str, BTreeSet<&'a str>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
        circles: &mut Vec<String>,
    ) {
        if let Some(start) = way.iter().position(|on_way| *on_way == file) {
            circles.push(format!("a circle: {} -> {file}", way[start..].join(" -> ")));
            return;
        }
        if !done.insert(file) {
            return;
        }
        way.push(file);
        for other in edges.get(file).into_iter().flatten() {
            visit(other, edges, way, done, circles);
        }
        way.pop();
    }
    let (mut done, mut circles) = (BTreeSet::new(), Vec::new());
    for file in edges.keys() {
        visit(file, edges, &mut Vec::new(), &mut done, &mut circles);
    }
    circles
}

#[test]
fn every_file_keeps_the_law_of_its_room() {
    let offences = offences(&sources());
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn the_rooms_are_all_there_is() {
    let mut entries: Vec<String> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .expect("the sources")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    entries.sort();
    let rooms = [
        "app",
        "client",
        "error.rs",
        "lib.rs",
        "link",
        "local",
        "main.rs",
        "mqtt",
        "options",
        "secret.rs",
    ];
    assert_eq!(entries, rooms);
}

/// The types that two files declare, with both files.
fn shared_names(tree: &Tree) -> Vec<String> {
    let mut declared: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, code) in without_tests(tree) {
        for words in tokens(&code).windows(2) {
            let declares = ["struct", "enum", "trait", "union"].contains(&words[0].as_str());
            // `$` stands for a name in a macro.
            if declares && words[1].starts_with(is_word) {
                declared
                    .entry(words[1].clone())
                    .or_default()
                    .push(file.clone());
            }
        }
    }
    let shared = declared.into_iter().filter(|(_, files)| files.len() > 1);
    shared
        .map(|(name, files)| format!("{name} is declared in {}", files.join(" and ")))
        .collect()
}

#[test]
fn no_two_types_share_a_name() {
    let mut sources = sources();
    assert_eq!(shared_names(&sources), [""; 0]);
    let text = sources.entry("mqtt/topic.rs".to_owned()).or_default();
    text.push_str("struct Session;");
    let found = shared_names(&sources);
    assert_eq!(
        found,
        ["Session is declared in mqtt/session/mod.rs and mqtt/topic.rs"]
    );
}

/// The check finds each kind of offence when it is added to the real sources.
#[test]
fn an_offender_is_found() {
    let sources = sources();
    let add = |file: &str, text: &str| {
        let mut tree = sources.clone();
        let own = tree.entry(file.to_owned()).or_default();
        *own = format!("{text}\n{own}");
        offences(&tree)
    };
    for (file, text, offence) in [
        (
            "mqtt/topic.rs",
            "use crate::options::Options;",
            "mqtt/topic.rs uses options/mod.rs",
        ),
        (
            "mqtt/topic.rs",
            "fn f(_: &crate::client::handle::Handle) {}",
            "mqtt/topic.rs uses client/handle.rs",
        ),
        (
            "mqtt/topic.rs",
            "use crossbeam_channel::Sender;",
            "mqtt/topic.rs uses the crate crossbeam_channel",
        ),
        (
            "mqtt/topic.rs",
            "use crate::{error, Handle};",
            "mqtt/topic.rs uses client/handle.rs",
        ),
        (
            "mqtt/topic.rs",
            "use crate::*;",
            "mqtt/topic.rs uses everything at the crate's root",
        ),
        (
            "mqtt/topic.rs",
            "use crate as root;",
            "mqtt/topic.rs gives the crate's root another name",
        ),
        (
            "mqtt/topic.rs",
            "struct T { #[cfg(test)] x: Vec<u8>, }\nfn f(_: &crate::client::handle::Handle) {}",
            "mqtt/topic.rs uses client/handle.rs",
        ),
        (
            "mqtt/topic.rs",
            "const T: &str = r\"\\\";\nfn f(_: &crate::client::handle::Handle) {}",
            "mqtt/topic.rs uses client/handle.rs",
        ),
        (
            "link/mod.rs",
            "use crate::mqtt::packet::{QoS, Will};",
            "link/mod.rs uses mqtt/packet.rs",
        ),
        (
            "error.rs",
            "use crate::options::Options;",
            "error.rs uses options/mod.rs",
        ),
        (
            "app/new.rs",
            "use rumqttc::mqttbytes;",
            "app/new.rs uses the crate rumqttc",
        ),
        ("mqtt/topic.rs", "use super::packet::QoS;", "a circle: "),
        (
            "mqtt/session/ring.rs",
            "use super::entry::Entry;\nfn f() { super::sorted::f(); }",
            "",
        ),
    ] {
        let found = add(file, text);
        match offence {
            "" => assert!(found.is_empty(), "{text}: {found:?}"),
            _ => assert!(
                found.iter().any(|found| found.starts_with(offence)),
                "{text}: {found:?}"
            ),
        }
    }
    // Uses in test code, and names in comments and strings, are allowed.
    for text in [
        "#[cfg(test)]\nmod more { use crate::client::handle::Handle; fn f() { { } } }",
        "#[cfg(test)]\nuse crate::client::handle::Handle;",
        "// use crate::client::handle::Handle;",
        "const TEXT: &str = \"crate::client::handle::Handle\";",
    ] {
        let found = add("mqtt/topic.rs", text);
        assert!(found.is_empty(), "{text}: {found:?}");
    }
}
