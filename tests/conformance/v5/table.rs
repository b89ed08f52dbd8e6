//! The table of statements of MQTT 5: each statement by which the standard binds a client has a test, each test names its
//! statements, and `TABLE.md` lists them.
//!
//! `UPDATE_TABLE=1 cargo test --test conformance the_table` writes `TABLE.md` anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use crate::support::Program;
use crate::table::{read, repository};

/// The folder of these tests.
const FOLDER: &str = "tests/conformance/v5";

/// The sides in the order of the table, and their headings.
const SIDES: [(&str, &str); 5] = [
    ("send", "Bytes that we send"),
    ("keep", "State that we keep"),
    ("receive", "Duties when bytes arrive"),
    ("check", "Duties of the server that we check"),
    ("server", "Duties of the server alone"),
];

/// A row of `statements.tsv`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement<'a> {
    id: &'a str,
    side: &'a str,
    in_short: &'a str,
    /// Tests in other folders, `file::function`.
    others: Vec<&'a str>,
    /// The reason why the statement does not bind this client.
    not_bound_because: Option<&'a str>,
}

/// A test, and the statements that its doc comment names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proof {
    file: String,
    function: String,
    /// The text between `[MQTT-` and `]`.
    names: Vec<String>,
}

/// The rows below the line of headings.
fn statements(text: &str) -> Vec<Statement<'_>> {
    let rows = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    let statement = |row| {
        let cells: Vec<&str> = str::split(row, '\t').collect();
        let (&[id, side, in_short], more) = cells.split_first_chunk().expect("three cells");
        let cell = |at: usize| more.get(at).copied().filter(|cell| !cell.is_empty());
        Statement {
            id,
            side,
            in_short,
            others: cell(0).map_or_else(Vec::new, |cell| cell.split(' ').collect()),
            not_bound_because: cell(1),
        }
    };
    rows.map(statement).collect()
}

/// The functions of a source text that are tests and run by default.
fn tests_in(file: &str, text: &str) -> Vec<Proof> {
    let mut found = Vec::new();
    let mut attributes: Vec<&str> = Vec::new();
    let mut doc = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.push(line);
            continue;
        }
        if let Some(more) = line.strip_prefix("///") {
            doc.push_str(more);
            continue;
        }
        if line.starts_with("//") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("fn ") {
            let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            let function = rest.split(end).next().unwrap_or_default();
            let is_off = |a: &str| a.starts_with("#[ignore") || a.starts_with("#[cfg");
            if attributes.contains(&"#[test]") && !attributes.iter().any(|a| is_off(a)) {
                found.push(Proof {
                    file: file.to_owned(),
                    function: function.to_owned(),
                    names: names_in(&doc),
                });
            }
        }
        attributes.clear();
        doc.clear();
    }
    found
}

/// The statements that a doc comment names.
fn names_in(doc: &str) -> Vec<String> {
    let parts = doc.split("[MQTT-").skip(1);
    let names = parts.filter_map(|part| part.split_once(']'));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// The table, or all that is wrong. `exists` knows the tests in other folders.
fn table(
    statements: &[Statement<'_>],
    proofs: &[Proof],
    exists: impl Fn(&str) -> bool,
) -> Result<String, Vec<String>> {
    let mut problems = Vec::new();
    let key = |statement: &Statement<'_>| (statement.id.to_owned(), statement.side.to_owned());
    let mut of: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for statement in statements {
        let Statement { id, side, .. } = statement;
        if !SIDES.iter().any(|(known, _)| known == side) {
            problems.push(format!("[MQTT-{id}]: there is no side {side}"));
        }
        if of.insert(key(statement), BTreeSet::new()).is_some() {
            problems.push(format!("[MQTT-{id}], {side}: it stands there twice"));
        }
    }
    for Proof {
        file,
        function,
        names,
    } in proofs
    {
        if names.is_empty() {
            problems.push(format!("{file}: {function} names no statement"));
        }
        for name in names {
            let (id, side) = name
                .split_once(' ')
                .map_or((name.as_str(), None), |(id, side)| (id, Some(side)));
            let rows: Vec<_> = statements.iter().filter(|row| row.id == id).collect();
            let rows = rows.into_iter();
            let mut rows = rows.filter(|row| side.is_none_or(|side| row.side == side));
            match (rows.next(), rows.next()) {
                (Some(row), None) => {
                    of.entry(key(row))
                        .or_default()
                        .insert(format!("`{file}` `{function}`"));
                }
                (None, _) => problems.push(format!(
                    "{file}: {function} names [MQTT-{name}], which is not in statements.tsv"
                )),
                (Some(_), Some(_)) => problems.push(format!(
                    "{file}: {function} names [MQTT-{name}] without its side"
                )),
            }
        }
    }
    let mut text = String::new();
    for (side, heading) in SIDES {
        let _ = writeln!(
            text,
            "\n## {heading}\n\n| statement | in short | tests |\n|---|---|---|"
        );
        for statement in statements.iter().filter(|row| row.side == side) {
            let Statement { id, in_short, .. } = statement;
            let mut tests: Vec<String> = of[&key(statement)].iter().cloned().collect();
            for other in &statement.others {
                match (exists(other), other.rsplit_once("::")) {
                    (true, Some((file, function))) => tests.push(format!("`{file}` `{function}`")),
                    _ => problems.push(format!("[MQTT-{id}], {side}: there is no test {other}")),
                }
            }
            let shown = match (tests.is_empty(), side) {
                (false, _) => tests.join("<br>"),
                (true, "server") => "none".to_owned(),
                (true, _) => {
                    problems.push(format!("[MQTT-{id}], {side}: no test names it"));
                    continue;
                }
            };
            let shown = match statement.not_bound_because {
                None => shown,
                Some(because) => format!("does not bind: {because}.<br>{shown}"),
            };
            let in_short = in_short.replace('|', "\\|");
            let _ = writeln!(text, "| MQTT-{id} | {in_short} | {shown} |");
        }
    }
    match problems.is_empty() {
        false => Err(problems),
        true => Ok(format!(
            "# MQTT 5, statement by statement\n\n\
             The statements of the standard, in short, and the tests that hold this client to them. Statements that bind the\n\
             server alone stand here so that each one is accounted for; some of them have tests of what a server's good\n\
             behaviour means to this client.\n\n\
             This table is made from `statements.tsv` and the doc comments of the tests.\n\
             `UPDATE_TABLE=1 cargo test --test conformance the_table` writes it anew.\n{text}"
        )),
    }
}

fn own_file(name: &str) -> PathBuf {
    repository().join(FOLDER).join(name)
}

/// All tests of this folder but those of this file.
fn own_tests() -> Vec<Proof> {
    let files = fs::read_dir(repository().join(FOLDER)).expect("a folder");
    let files = files.map(|entry| entry.expect("its entry").file_name());
    let files: BTreeSet<_> = files.filter_map(|name| name.into_string().ok()).collect();
    let sources = files
        .iter()
        .filter(|name| name.ends_with(".rs") && *name != "table.rs");
    sources
        .flat_map(|name| tests_in(&format!("{FOLDER}/{name}"), &read(&own_file(name))))
        .collect()
}

/// Whether this file has this test.
fn exists(test: &str) -> bool {
    let Some((file, function)) = test.rsplit_once("::") else {
        return false;
    };
    let text = fs::read_to_string(repository().join(file)).unwrap_or_default();
    tests_in(file, &text)
        .iter()
        .any(|test| test.function == function)
}

#[test]
fn the_table_is_up_to_date() {
    let text = read(&own_file("statements.tsv"));
    let statements = statements(&text);
    let count = |side| statements.iter().filter(|row| row.side == side).count();
    let counts = SIDES.map(|(side, _)| count(side));
    assert_eq!(counts, [109, 11, 33, 20, 88]);
    let made = table(&statements, &own_tests(), exists);
    let made = made.unwrap_or_else(|problems| panic!("{}", problems.join("\n")));
    if std::env::var_os("UPDATE_TABLE").is_some() {
        fs::write(own_file("TABLE.md"), &made).expect("a file to write");
    }
    assert!(
        read(&own_file("TABLE.md")) == made,
        "TABLE.md is not up to date; run: UPDATE_TABLE=1 cargo test --test conformance the_table"
    );
}

/// A test in a file that no module names, or in a module that is left out, never runs.
#[test]
fn the_table_names_only_tests_that_run() {
    let this = std::env::current_exe().expect("this program");
    let listed = Program::other(this).args(["--list"]).run();
    let lines = listed.stdout.lines();
    let listed: BTreeSet<&str> = lines
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let tests = own_tests();
    assert!(!tests.is_empty());
    for Proof { file, function, .. } in tests {
        let module = file.strip_prefix("tests/conformance/").expect("our folder");
        let path = module.replace(".rs", "::").replace('/', "::") + &function;
        assert!(listed.contains(path.as_str()), "{path} is not run");
    }
}

const SAMPLE: &str = "id\tside\tin short\tother tests\tdoes not bind because\n\
    1.5.4-1\tsend\tfirst\n\
    1.5.4-1\treceive\tsecond\t\t\n\
    3.1.0-1\tcheck\tthird\tsrc/a.rs::b\n\
    3.1.0-10\tkeep\tfourth\t\tthere is none\n\
    3.1.0-2\tserver\tfifth\n";

const GOOD: [(&str, &str); 3] = [
    ("a", "[MQTT-1.5.4-1 send]"),
    ("b", "[MQTT-1.5.4-1 receive] and [MQTT-3.1.0-1]."),
    ("c", "Both: [MQTT-3.1.0-10], [MQTT-3.1.0-1 check]."),
];

/// Source text with these tests.
fn source(tests: &[(&str, &str)]) -> String {
    let functions = tests
        .iter()
        .map(|(name, doc)| format!("/// {doc}\n#[test]\nfn {name}() {{}}\n"));
    functions.collect()
}

fn made(tests: &[(&str, &str)]) -> Result<String, Vec<String>> {
    let tests = tests_in("a.rs", &source(tests));
    table(&statements(SAMPLE), &tests, |test| test == "src/a.rs::b")
}

#[test]
fn a_good_table_has_a_row_for_each_statement() {
    let made = made(&GOOD).expect("a table");
    let rows: Vec<_> = made.lines().filter(|l| l.starts_with("| MQTT-")).collect();
    assert_eq!(
        rows,
        [
            "| MQTT-1.5.4-1 | first | `a.rs` `a` |",
            "| MQTT-3.1.0-10 | fourth | does not bind: there is none.<br>`a.rs` `c` |",
            "| MQTT-1.5.4-1 | second | `a.rs` `b` |",
            "| MQTT-3.1.0-1 | third | `a.rs` `b`<br>`a.rs` `c`<br>`src/a.rs` `b` |",
            "| MQTT-3.1.0-2 | fifth | none |",
        ]
    );
}

#[test]
fn a_statement_without_a_test_and_a_test_without_a_statement_are_noticed() {
    let problems = |tests: &[(&str, &str)]| made(tests).expect_err("problems").join("\n");
    assert_eq!(
        problems(&GOOD[1..]),
        "[MQTT-1.5.4-1], send: no test names it"
    );
    assert_eq!(
        problems(&GOOD[..2]),
        "[MQTT-3.1.0-10], keep: no test names it"
    );
    for (doc, expected) in [
        ("Nothing.", "a.rs: d names no statement"),
        (
            "[MQTT-9.9.9-9]",
            "a.rs: d names [MQTT-9.9.9-9], which is not in statements.tsv",
        ),
        (
            "[MQTT-3.1.0-10 send]",
            "a.rs: d names [MQTT-3.1.0-10 send], which is not in statements.tsv",
        ),
        (
            "[MQTT-1.5.4-1]",
            "a.rs: d names [MQTT-1.5.4-1] without its side",
        ),
    ] {
        assert_eq!(problems(&[&GOOD[..], &[("d", doc)]].concat()), expected);
    }
    let tests = tests_in("a.rs", &source(&GOOD));
    let missing = table(&statements(SAMPLE), &tests, |_| false).expect_err("problems");
    assert_eq!(
        missing,
        ["[MQTT-3.1.0-1], check: there is no test src/a.rs::b"]
    );
    let twice = SAMPLE
        .replace("3.1.0-10", "3.1.0-1")
        .replace("keep", "check");
    let twice = table(&statements(&twice), &[], |_| true).expect_err("problems");
    assert!(twice.contains(&"[MQTT-3.1.0-1], check: it stands there twice".to_owned()));
}

#[test]
fn a_test_that_is_off_is_none() {
    let good = source(&GOOD);
    assert_eq!(tests_in("a.rs", &good).len(), 3);
    for (from, to) in [
        ("#[test]\nfn a", "fn a"),
        ("#[test]\nfn a", "#[test]\n#[ignore]\nfn a"),
        ("#[test]\nfn a", "#[cfg(windows)]\n#[test]\nfn a"),
        ("#[test]\nfn a", "// #[test]\nfn a"),
        ("#[test]\nfn a", "#[test]\n// fn a"),
    ] {
        let less = tests_in("a.rs", &good.replacen(from, to, 1));
        assert_eq!(less.len(), 2, "{to}");
    }
    // The doc comment of one function is not that of the next.
    let helper = format!("/// [MQTT-1.5.4-1 send]\nfn help() {{}}\n{good}");
    assert_eq!(tests_in("a.rs", &helper), tests_in("a.rs", &good));
}
