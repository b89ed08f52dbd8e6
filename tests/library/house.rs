//! Checks the floor plan: which room may use which, and that no circle runs between files. The law of a
//! room stands at its door (`src/*/mod.rs`).
//!
//! The check reads the sources as text: `use` declarations and written paths alike. Comments, strings
//! and test code do not count. A `mod.rs` (or `packet.rs` beside `packet/`) and the files below it do
//! not make a circle.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The crate's name in the program's paths.
const LIBRARY: &str = "mqtt_connection_sharing";

/// A room, and the rooms, files and crates that it may use besides itself.
struct Law {
    room: &'static str,
    uses: &'static [&'static str],
    crates: &'static [&'static str],
}

const LAWS: [Law; 7] = [
    Law {
        room: "error",
        uses: &[],
        crates: &[],
    },
    Law {
        room: "options",
        uses: &["error", "mqtt"],
        crates: &[],
    },
    Law {
        room: "mqtt",
        uses: &["error"],
        crates: &["bytes", "log", "rumqttc", "slab", "thiserror"],
    },
    Law {
        room: "link",
        uses: &["error", "options"],
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
        ],
    },
    Law {
        room: "client",
        uses: &["error", "link", "mqtt", "options"],
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
        uses: &["error"],
        crates: &["log", "mqtt5", "rcgen", "tempfile", "tokio"],
    },
    Law {
        room: "app",
        uses: &[],
        crates: &[
            LIBRARY,
            "bytes",
            "clap",
            "crossbeam_channel",
            "ctrlc",
            "env_logger",
            "hdrhistogram",
            "humantime",
            "indicatif",
            "log",
            "nix",
            "serde",
            "serde_json",
            "signal_hook",
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

/// Items behind these attributes are compiled for tests only.
const TEST_MARKS: [&str; 2] = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];

/// The source files by their paths below `src`, such as `mqtt/session/mod.rs`.
type Tree = BTreeMap<String, String>;

/// The sources of this crate.
fn sources() -> Tree {
    fn read(folder: &Path, below: &str, tree: &mut Tree) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{below}{name}");
            if path.is_dir() {
                read(&path, &format!("{name}/"), tree);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                tree.insert(name, text);
            }
        }
    }
    let mut tree = Tree::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read(&root, "", &mut tree);
    tree
}

/// The sources without the modules that are compiled for tests only, and without the files below these.
fn without_tests(tree: &Tree) -> Tree {
    let mut tests = BTreeSet::new();
    for (file, text) in tree {
        for mark in TEST_MARKS {
            for behind in text.split(mark).skip(1) {
                let words: Vec<String> = tokens(behind.split(';').next().unwrap_or_default());
                if let [.., keyword, name] = &words[..]
                    && keyword == "mod"
                {
                    tests.insert([&module(file)[..], std::slice::from_ref(name)].concat());
                }
            }
        }
    }
    let is_test = |file: &str| tests.iter().any(|test| module(file).starts_with(test));
    let kept = tree.iter().filter(|(file, _)| !is_test(file));
    kept.map(|(file, text)| (file.clone(), code(text)))
        .collect()
}

/// The text without comments, literals and items behind [`TEST_MARKS`].
fn code(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        match rest {
            ['/', '/', ..] => {
                at += rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
            }
            ['r', '#', '"', ..] if !code.ends_with(is_word) => {
                let end = rest.windows(2).skip(3).position(|w| w == ['"', '#']);
                at += end.map_or(rest.len(), |end| end + 5);
                code.push_str("\"\"");
            }
            ['r', '"', ..] if !code.ends_with(is_word) => {
                let end = rest.iter().skip(2).position(|c| *c == '"');
                at += end.map_or(rest.len(), |end| end + 3);
                code.push_str("\"\"");
            }
            ['"', ..] => {
                at += 1;
                while at < bytes.len() && bytes[at] != '"' {
                    at += if bytes[at] == '\\' { 2 } else { 1 };
                }
                at += 1;
                code.push_str("\"\"");
            }
            ['\'', '\\', _, ..] => {
                at += 3;
                at += bytes[at..].iter().position(|c| *c == '\'').unwrap_or(0) + 1;
            }
            ['\'', _, '\'', ..] => at += 3,
            [c, ..] => {
                code.push(*c);
                at += 1;
            }
            [] => {}
        }
    }
    without_test_items(&code)
}

/// Removes each item behind one of [`TEST_MARKS`].
fn without_test_items(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    loop {
        let marks = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"];
        let next = marks
            .iter()
            .filter_map(|mark| Some((rest.find(mark)?, *mark)));
        let Some((start, mark)) = next.min() else {
            kept.push_str(rest);
            return kept;
        };
        kept.push_str(&rest[..start]);
        let item = &rest[start + mark.len()..];
        let length = length_of(item);
        rest = &item[length..];
    }
}

/// How long the item, field or variant at the head of the code is: up to the bracket that closes it, or to the
/// sign behind it.
fn length_of(item: &str) -> usize {
    const ITEMS: [&str; 11] = [
        "const", "enum", "extern", "fn", "impl", "mod", "static", "struct", "trait", "type", "use",
    ];
    let words = tokens(item.split(['{', ';']).next().unwrap_or_default());
    let is_item = words.iter().any(|word| ITEMS.contains(&word.as_str()));
    let mut depth = 0;
    for (at, c) in item.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' if depth == 0 => return at,
            '}' if depth == 1 => return at + 1,
            '}' | ')' | ']' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            ',' if depth == 0 && !is_item => return at + 1,
            _ => {}
        }
    }
    item.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Every path in the code, as its segments: `use a::{b, c::d}` is two paths. A path includes the item's
/// name, also where the item is renamed or exported.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let tokens = tokens(code);
    let mut at = 0;
    while at < tokens.len() {
        // Not `use<T>`, which a return type may have.
        if tokens[at] == "use" && tokens.get(at + 1).is_some_and(|next| next != "<") {
            at += 1;
            at = tree_of(&tokens, at, &mut Vec::new(), &mut paths);
        } else if tokens[at].starts_with(is_word) && tokens.get(at + 1).is_some_and(|t| t == "::") {
            let mut path = vec![tokens[at].clone()];
            at += 1;
            while tokens.get(at).is_some_and(|t| t == "::")
                && tokens.get(at + 1).is_some_and(|t| t.starts_with(is_word))
            {
                path.push(tokens[at + 1].clone());
                at += 2;
            }
            paths.push(path);
        } else {
            at += 1;
        }
    }
    paths
}

/// Words, `::` and single signs.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        if is_word(c) {
            let mut word = c.to_string();
            while let Some(next) = chars.next_if(|c| is_word(*c)) {
                word.push(next);
            }
            tokens.push(word);
        } else if c == ':' && chars.next_if_eq(&':').is_some() {
            tokens.push("::".to_owned());
        } else if !c.is_whitespace() {
            tokens.push(c.to_string());
        }
    }
    tokens
}

/// Reads the tree behind `use` from this token on; returns the place after it.
fn tree_of(
    tokens: &[String],
    mut at: usize,
    before: &mut Vec<String>,
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let depth = before.len();
    let mut whole = false;
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            ";" | "," | "}" => break,
            "{" => {
                whole = true;
                at += 1;
                while tokens.get(at).is_some_and(|t| t != "}") {
                    at = tree_of(tokens, at, before, paths);
                    if tokens.get(at).is_some_and(|t| t == ",") {
                        at += 1;
                    }
                }
            }
            "as" => at += 1,
            "::" => {}
            "self" if before.len() > depth || depth > 0 => {}
            word => before.push(word.to_owned()),
        }
        at += 1;
    }
    if !whole {
        paths.push(before.clone());
    }
    before.truncate(depth);
    at
}

/// The module of a file, as segments below the crate; `lib.rs` and `main.rs` are the crate.
fn module(file: &str) -> Vec<String> {
    let mut parts: Vec<String> = file.split('/').map(str::to_owned).collect();
    let last = parts.pop().unwrap_or_default();
    match last.as_str() {
        "mod.rs" | "lib.rs" | "main.rs" => {}
        other => parts.push(other.trim_end_matches(".rs").to_owned()),
    }
    parts
}

/// The file of a module.
fn file_of<'t>(tree: &'t Tree, module: &[String], in_program: bool) -> Option<&'t String> {
    // Library and program are two crates with one folder of sources.
    if module
        .first()
        .is_some_and(|first| (first == "app") != in_program)
    {
        return None;
    }
    let names = match module {
        [] => vec![if in_program { "main.rs" } else { "lib.rs" }.to_owned()],
        _ => vec![
            format!("{}.rs", module.join("/")),
            format!("{}/mod.rs", module.join("/")),
        ],
    };
    names
        .iter()
        .find_map(|name| tree.get_key_value(name))
        .map(|(name, _)| name)
}

fn in_program(file: &str) -> bool {
    file == "main.rs" || file.starts_with("app/")
}

/// The target of a path in a file.
enum Target<'t> {
    File(&'t str),
    Crate(String),
    /// A name of the file itself, of a type, or of the prelude.
    Own,
}

/// Follows a path through the modules that export it again to the file that has the item.
fn follow<'t>(tree: &'t Tree, file: &str, path: &[String]) -> Target<'t> {
    let here = module(file);
    let mut names = path.iter();
    let mut at: Vec<String> = match path.first().map(String::as_str) {
        Some("crate") => {
            names.next();
            Vec::new()
        }
        Some("self") => {
            names.next();
            here.clone()
        }
        Some("super") => {
            let mut at = here.clone();
            while names.clone().next().is_some_and(|name| name == "super") {
                names.next();
                at.pop();
            }
            at
        }
        Some(first) => {
            let child = [&here[..], &[first.to_owned()]].concat();
            if file_of(tree, &child, in_program(file)).is_none() {
                return match path.len() > 1 && first.starts_with(|c: char| c.is_lowercase()) {
                    true => Target::Crate(first.to_owned()),
                    false => Target::Own,
                };
            }
            here.clone()
        }
        None => return Target::Own,
    };
    let mut names: Vec<String> = names.cloned().collect();
    while let Some(name) = names.first().cloned() {
        let child = [&at[..], std::slice::from_ref(&name)].concat();
        if file_of(tree, &child, in_program(file)).is_some() {
            at = child;
            names.remove(0);
            continue;
        }
        // Perhaps the module only exports the name again.
        let Some(holder) = file_of(tree, &at, in_program(file)) else {
            return Target::Own;
        };
        let exported = paths(&exports(&tree[holder]));
        match exported
            .iter()
            .find(|exported| exported.last() == Some(&name))
        {
            Some(exported) if holder != file => return follow(tree, holder, exported),
            _ => break,
        }
    }
    match file_of(tree, &at, in_program(file)) {
        Some(found) => Target::File(found),
        None => Target::Own,
    }
}

/// The `pub use` declarations of a file.
fn exports(code: &str) -> String {
    let is_export = |text: &&str| {
        let text = text.trim_start();
        let rest = text.strip_prefix("pub");
        rest.is_some_and(|rest| {
            rest.trim_start_matches(|c| c != ' ')
                .trim_start()
                .starts_with("use ")
        })
    };
    let declarations = code.split_inclusive(';').map(|text| {
        let start = text.find("pub").unwrap_or(0);
        &text[start..]
    });
    declarations.filter(is_export).collect()
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
        "options.rs",
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
            "mqtt/topic.rs uses options.rs",
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
            "error.rs uses options.rs",
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
