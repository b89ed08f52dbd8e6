//! The table of statements: each statement has a test, each test has its statement, and `TABLE.md` lists
//! them.
//!
//! `UPDATE_TABLE=1 cargo test --test conformance the_table` writes `TABLE.md` anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Program;

/// A row of `statements.tsv`.
struct Statement<'a> {
    id: &'a str,
    side: &'a str,
    in_short: &'a str,
    /// The reason why there is nothing to test, if that is so.
    no_test_because: Option<&'a str>,
}

/// A test that is named after a statement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    file: String,
    function: String,
}

/// The rows below the line of headings.
fn statements(text: &str) -> Vec<Statement<'_>> {
    let rows = text.lines().filter(|line| !line.starts_with('#')).skip(1);
    let statement = |row| {
        let cells: Vec<&str> = str::split(row, '\t').collect();
        let (&[id, side, in_short], more) = cells.split_first_chunk().expect("three cells");
        Statement {
            id,
            side,
            in_short,
            no_test_because: more.first().copied().filter(|cell| !cell.is_empty()),
        }
    };
    rows.map(statement).collect()
}

/// The functions of a source text that are tests, that run by default, and that are named after a
/// statement.
fn tests_in(file: &str, text: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut attributes: Vec<&str> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            attributes.push(line);
            continue;
        }
        if line.starts_with("//") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("fn mqtt_") {
            let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
            let name = rest.split(end).next().unwrap_or_default();
            let is_off = |a: &str| a.starts_with("#[ignore") || a.starts_with("#[cfg");
            if attributes.contains(&"#[test]") && !attributes.iter().any(|a| is_off(a)) {
                found.push(Named {
                    file: file.to_owned(),
                    function: format!("mqtt_{name}"),
                });
            }
        }
        attributes.clear();
    }
    found
}

/// The beginning of the names of a statement's tests. The side is left out if the statement has only
/// one.
fn beginning(statement: &Statement<'_>, statements: &[Statement<'_>]) -> String {
    let id = statement.id.replace(['.', '-'], "_");
    let sides = statements.iter().filter(|other| other.id == statement.id);
    match sides.count() {
        1 => format!("mqtt_{id}_"),
        _ => format!("mqtt_{id}_{}_", statement.side),
    }
}

/// The table, or all that is wrong.
fn table(statements: &[Statement<'_>], tests: &[Named]) -> Result<String, Vec<String>> {
    let mut problems = Vec::new();
    let mut of: BTreeMap<String, Vec<&Named>> = statements
        .iter()
        .map(|statement| (beginning(statement, statements), Vec::new()))
        .collect();
    if of.len() != statements.len() {
        problems.push("a statement stands there twice".to_owned());
    }
    let mut names = BTreeSet::new();
    for test in tests {
        let begins = |(beginning, _): &(&String, &mut Vec<&Named>)| {
            let rest = test.function.strip_prefix(beginning.as_str());
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
        };
        match of.iter_mut().find(begins) {
            Some((_, own)) => own.push(test),
            None => problems.push(format!(
                "{}: {} names no statement (or not its side) of statements.tsv",
                test.file, test.function
            )),
        }
        if !names.insert(&test.function) {
            problems.push(format!("{} stands there twice", test.function));
        }
    }
    let mut rows = String::new();
    for statement in statements {
        let Statement { id, side, .. } = statement;
        let own = &of[&beginning(statement, statements)];
        let own: Vec<_> = own
            .iter()
            .map(|test| format!("`{}` `{}`", test.file, test.function))
            .collect();
        let shown = match (own.is_empty(), statement.no_test_because) {
            (true, None) => {
                problems.push(format!("[MQTT-{id}], {side}: no test is named after it"));
                continue;
            }
            (false, Some(_)) => {
                problems.push(format!("[MQTT-{id}], {side}: it has a test, so it applies"));
                continue;
            }
            (true, Some(because)) => format!("does not apply: {because}"),
            (false, None) => own.join("<br>"),
        };
        let in_short = statement.in_short.replace('|', "\\|");
        let _ = writeln!(rows, "| MQTT-{id} | {side} | {in_short} | {shown} |");
    }
    match problems.is_empty() {
        false => Err(problems),
        true => Ok(format!(
            "# MQTT 3.1.1, statement by statement\n\n\
             The duties of a client by the standard, in short, and the tests that hold this client to them. *send* is a rule\n\
             for the bytes that it sends, *receive* a duty when bytes arrive, *keep* a state that it must keep.\n\n\
             This table is made from `statements.tsv` and the names of the tests, of which there are {}.\n\
             `UPDATE_TABLE=1 cargo test --test conformance the_table` writes it anew.\n\n\
             | statement | side | in short | tests |\n|---|---|---|---|\n{rows}",
            tests.len()
        )),
    }
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn own_file(name: &str) -> PathBuf {
    repository().join("tests/conformance").join(name)
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All tests in `src` and `tests`, in the order of their files.
fn all_tests() -> Vec<Named> {
    let mut folders = vec![repository().join("src"), repository().join("tests")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("its entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    let tests = files.iter().flat_map(|path| {
        let own = path.strip_prefix(repository()).expect("a file of ours");
        let own: Vec<_> = own.iter().map(|part| part.to_string_lossy()).collect();
        tests_in(&own.join("/"), &read(path))
    });
    tests.collect()
}

#[test]
fn the_table_is_up_to_date() {
    let text = read(&own_file("statements.tsv"));
    let statements = statements(&text);
    assert_eq!(statements.len(), 80);
    let made = table(&statements, &all_tests());
    let made = made.unwrap_or_else(|problems| panic!("{}", problems.join("\n")));
    if std::env::var_os("UPDATE_TABLE").is_some() {
        fs::write(own_file("TABLE.md"), &made).expect("a file to write");
    }
    let stands = read(&own_file("TABLE.md"));
    assert!(
        stands == made,
        "TABLE.md is not up to date; run: UPDATE_TABLE=1 cargo test --test conformance the_table"
    );
}

/// A test in a file that no module names, or in a module that is left out, never runs.
#[test]
fn the_table_names_only_tests_that_run() {
    let this = std::env::current_exe().expect("this program");
    let listed = Program::other(this).args(["--list"]).run();
    let listed: BTreeSet<&str> = listed
        .stdout
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let mut checked = 0;
    for Named { file, function } in all_tests() {
        if let Some(module) = file.strip_prefix("tests/conformance/") {
            let path = module.replace(".rs", "::").replace('/', "::") + &function;
            assert!(listed.contains(path.as_str()), "{path} is not run");
            checked += 1;
        } else {
            assert!(file.starts_with("src/"), "{file}: {function}");
        }
    }
    assert!(checked >= 80, "{checked}");
    // The library's tests run in another program, and none of them is the only test of its statement.
    let mut listed_here = all_tests();
    listed_here.retain(|test| test.file.starts_with("tests/conformance/"));
    let text = read(&own_file("statements.tsv"));
    if let Err(problems) = table(&statements(&text), &listed_here) {
        panic!(
            "not among the tests of this program: {}",
            problems.join("\n")
        );
    }
}

const SAMPLE: &str = "id\tside\tin short\tdoes not apply because\n\
    1.5.3-1\tsend\tfirst\n\
    1.5.3-1\treceive\tsecond\n\
    3.1.0-1\tsend\tthird\t\n\
    3.1.0-10\tkeep\tfourth\tthere is none\n";

/// Source text with these tests.
fn source(names: &[&str]) -> String {
    let functions = names
        .iter()
        .map(|name| format!("#[test]\nfn {name}() {{}}\n"));
    functions.collect()
}

const GOOD: [&str; 4] = [
    "mqtt_1_5_3_1_send_a",
    "mqtt_1_5_3_1_receive_a",
    "mqtt_3_1_0_1_a",
    "mqtt_3_1_0_1_b",
];

fn problems(names: &[&str]) -> Vec<String> {
    let tests = tests_in("tests/a.rs", &source(names));
    assert_eq!(tests.len(), names.len());
    table(&statements(SAMPLE), &tests).expect_err("problems")
}

#[test]
fn a_good_table_has_a_row_for_each_statement() {
    let tests = tests_in("tests/a.rs", &source(&GOOD));
    let made = table(&statements(SAMPLE), &tests).expect("a table");
    let rows: Vec<_> = made.lines().filter(|l| l.starts_with("| MQTT-")).collect();
    assert_eq!(
        rows,
        [
            "| MQTT-1.5.3-1 | send | first | `tests/a.rs` `mqtt_1_5_3_1_send_a` |",
            "| MQTT-1.5.3-1 | receive | second | `tests/a.rs` `mqtt_1_5_3_1_receive_a` |",
            "| MQTT-3.1.0-1 | send | third | `tests/a.rs` `mqtt_3_1_0_1_a`<br>`tests/a.rs` `mqtt_3_1_0_1_b` |",
            "| MQTT-3.1.0-10 | keep | fourth | does not apply: there is none |",
        ]
    );
}

#[test]
fn a_statement_that_loses_its_test_is_noticed() {
    assert_eq!(
        problems(&GOOD[1..]),
        ["[MQTT-1.5.3-1], send: no test is named after it"]
    );
    assert_eq!(
        problems(&GOOD[..2]),
        ["[MQTT-3.1.0-1], send: no test is named after it"]
    );
    // The real statements, with all tests of one statement removed: the check names that statement each
    // time.
    let text = read(&own_file("statements.tsv"));
    let statements = statements(&text);
    let all = all_tests();
    for statement in &statements {
        let beginning = beginning(statement, &statements);
        let mut rest = all.clone();
        rest.retain(|test| !test.function.starts_with(&beginning));
        if statement.no_test_because.is_none() {
            let problems = table(&statements, &rest).expect_err(statement.id);
            let Statement { id, side, .. } = statement;
            let expected = format!("[MQTT-{id}], {side}: no test is named after it");
            assert_eq!(problems, [expected]);
        }
    }
}

#[test]
fn a_test_that_is_off_is_none() {
    let good = source(&GOOD);
    let all = tests_in("tests/a.rs", &good).len();
    for (from, to) in [
        ("#[test]\nfn mqtt_1", "fn mqtt_1"),
        ("#[test]\nfn mqtt_1", "#[test]\n#[ignore]\nfn mqtt_1"),
        (
            "#[test]\nfn mqtt_1",
            "#[ignore = \"slow\"]\n#[test]\nfn mqtt_1",
        ),
        ("#[test]\nfn mqtt_1", "#[cfg(windows)]\n#[test]\nfn mqtt_1"),
        ("#[test]\nfn mqtt_1", "// #[test]\nfn mqtt_1"),
        ("#[test]\nfn mqtt_1", "#[test]\n// fn mqtt_1"),
    ] {
        let less = tests_in("tests/a.rs", &good.replacen(from, to, 1));
        assert_eq!(less.len(), all - 1, "{to}");
    }
    // Lines between the attribute and the function do not matter.
    let more = good.replace(
        "#[test]\n",
        "/// What it shows.\n#[test]\n// Why so.\n#[allow(x)]\n",
    );
    assert_eq!(tests_in("tests/a.rs", &more).len(), all);
}

#[test]
fn a_test_that_names_no_statement_is_noticed() {
    for wrong in [
        "mqtt_9_9_9_9_a",
        // The side is missing; the side is wrong; only digits differ; no word says what the test shows.
        "mqtt_1_5_3_1_a",
        "mqtt_1_5_3_1_keep_a",
        "mqtt_3_1_0_11_a",
        "mqtt_3_1_0_1_1",
        "mqtt_3_1_0_1_",
    ] {
        let problems = problems(&[&GOOD[..], &[wrong]].concat());
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(wrong), "{problems:?}");
    }
    let twice = problems(&[&GOOD[..], &GOOD[..1]].concat());
    assert_eq!(twice, ["mqtt_1_5_3_1_send_a stands there twice"]);
    let applies = problems(&[&GOOD[..], &["mqtt_3_1_0_10_a"]].concat());
    assert_eq!(
        applies,
        ["[MQTT-3.1.0-10], keep: it has a test, so it applies"]
    );
}
