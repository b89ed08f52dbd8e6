//! The source files as modules: which file a path leads to.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::code::{TEST_MARKS, code, paths, tokens};

/// The source files by their paths below `src`, such as `mqtt/session/mod.rs`.
pub(super) type Tree = BTreeMap<String, String>;

/// The sources of this crate.
pub(super) fn sources() -> Tree {
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
pub(super) fn without_tests(tree: &Tree) -> Tree {
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

/// The module of a file, as segments below the crate; `lib.rs` and `main.rs` are the crate.
pub(super) fn module(file: &str) -> Vec<String> {
    let mut parts: Vec<String> = file.split('/').map(str::to_owned).collect();
    let last = parts.pop().unwrap_or_default();
    match last.as_str() {
        "mod.rs" | "lib.rs" | "main.rs" => {}
        other => parts.push(other.trim_end_matches(".rs").to_owned()),
    }
    parts
}

/// The file of a module.
pub(super) fn file_of<'t>(
    tree: &'t Tree,
    module: &[String],
    in_program: bool,
) -> Option<&'t String> {
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

pub(super) fn in_program(file: &str) -> bool {
    file == "main.rs" || file.starts_with("app/")
}

/// The target of a path in a file.
pub(super) enum Target<'t> {
    File(&'t str),
    Crate(String),
    /// A name of the file itself, of a type, or of the prelude.
    Own,
}

/// Follows a path through the modules that export it again to the file that has the item.
pub(super) fn follow<'t>(tree: &'t Tree, file: &str, path: &[String]) -> Target<'t> {
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
pub(super) fn exports(code: &str) -> String {
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
