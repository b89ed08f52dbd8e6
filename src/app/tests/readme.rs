//! Holds the papers to the code, so that what they show works: flags and defaults, command lines, exit status,
//! JSON, the example, messages. `links.rs` follows their paths and links, `papers.rs` reads them.
//!
//! `cargo test --bins readme`

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;

use serde_json::Value;

use super::papers::{Paper, file, repository, rows, sources};
use crate::app::bench;
use crate::app::check;
use crate::app::command_line;
use crate::app::demo::{DemoReport, Published};
use crate::app::help::command_of;
use crate::app::json::{SCHEMA, to_json};
use crate::app::settings::Task;
use crate::app::sources::defaults;
use crate::support::schema::Schema;

const PROGRAM: &str = "mqtt-connection-sharing";

const PICTURE_SCRIPT: &str = "scripts/picture.sh";

fn program_paper() -> Paper {
    Paper::read("config/README.md")
}

/// The arguments of the program in a command line that runs it.
fn program_arguments(command: &str) -> Option<Vec<&str>> {
    let words = command.split_whitespace();
    let words: Vec<&str> = words
        .take_while(|word| ![">", "|"].contains(word))
        .collect();
    let after = |word: &str| words.iter().position(|w| *w == word).map(|at| at + 1);
    if words[0] == "scripts/demo.sh" {
        let mut own = words[1..].to_vec();
        own.retain(|word| *word != "--");
        own.push("--local");
        return Some(own);
    }
    if words.contains(&"--example") || words.get(1) == Some(&"install") {
        return None;
    }
    if let Some(run) = after("run").filter(|at| *at > 1 && words[at - 2] == "cargo") {
        let dashes = words[run..].iter().position(|word| *word == "--")?;
        return Some(words[run + dashes + 1..].to_vec());
    }
    after(PROGRAM).map(|at| words[at..].to_vec())
}

#[test]
fn the_flag_tables_are_those_of_the_help() {
    let built = |task| {
        let mut command = command_of(task);
        command.build();
        command
    };
    let (demo, bench, check) = (built(Task::Demo), built(Task::Bench), built(Task::Check));
    // The tables of these leave out the settings that they share with the demo.
    let own_of = |command: &clap::Command, heading: &str| {
        let all = command.get_arguments();
        let own = all.filter(|arg| arg.get_help_heading() == Some(heading));
        own.cloned().collect::<Vec<_>>()
    };
    let (publish, subscribe) = (built(Task::Pub), built(Task::Sub));
    let own = [
        own_of(&bench, "Bench"),
        own_of(&check, "Check"),
        own_of(&publish, "Pub"),
        own_of(&subscribe, "Sub"),
    ]
    .concat();
    let mut expected = Vec::new();
    for arg in demo.get_arguments().chain(&own) {
        let Some(long) = arg.get_long().filter(|_| !arg.is_hide_set()) else {
            continue;
        };
        let help = arg.get_help().unwrap().to_string();
        let (what, default) = match help.split_once(" [default: ") {
            Some((what, default)) => (what, format!("`{}`", default.trim_end_matches(']'))),
            // The help shows none for switches, which are off.
            None if arg.is_require_equals_set() => (help.as_str(), "`false`".to_owned()),
            None => (help.as_str(), "none".to_owned()),
        };
        let values = arg.get_value_names().unwrap_or_default();
        let flag = match (arg.get_short(), values.first()) {
            (Some(short), _) => format!("`-{short}`, `--{long}`"),
            (None, Some(name)) if arg.is_require_equals_set() => format!("`--{long}[={name}]`"),
            (None, Some(name)) if arg.get_action().takes_values() => format!("`--{long} {name}`"),
            (None, _) => format!("`--{long}`"),
        };
        expected.push(format!("| {flag} | {default} | {what} |"));
    }
    let settings = program_paper().section("## Settings");
    let rows: Vec<&str> = settings
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let (mut have, mut want) = (rows.clone(), expected.clone());
    have.sort_unstable();
    want.sort_unstable();
    assert_eq!(have, want, "the rows are:\n{}", expected.join("\n"));
    assert!(have.len() > 30);
}

#[test]
fn every_command_line_parses() {
    let mut parsed = 0;
    for paper in Paper::all() {
        for command in paper.commands() {
            let Some(arguments) = program_arguments(&command) else {
                continue;
            };
            let words = [&[PROGRAM], &arguments[..]].concat();
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            if let Some(page) = command_line::page(&words) {
                assert!(page.is_ok(), "{}: {command}: {page:?}", paper.name);
                parsed += 1;
                continue;
            }
            if let Err(error) = command_line::parse_from(words) {
                assert_eq!(error.exit_code(), 0, "{}: {command}\n{error}", paper.name);
            }
            parsed += 1;
        }
    }
    assert!(parsed >= 12, "only {parsed} command lines were found");
}

/// The flags that the scripts named in a paper have, as their help shows them.
fn flags_of_scripts(paper: &Paper) -> BTreeSet<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || "-/.".contains(c);
    let words = paper.text.split(|c| !part(c));
    words
        .map(|word| word.trim_end_matches('.'))
        .filter(|word| word.starts_with("scripts/") && word.ends_with(".sh"))
        .flat_map(flags_of_script)
        .collect()
}

fn flags_of_script(script: &str) -> BTreeSet<String> {
    let text = file(script);
    let header = text.lines().take_while(|line| line.starts_with('#'));
    let words = header.flat_map(|line| line.split([' ', '[', ']', '|', ',', ':']));
    words
        .filter(|word| word.starts_with("--") && word.len() > 2)
        .map(str::to_owned)
        .collect()
}

/// The cargo features, without `default`.
fn features() -> BTreeSet<String> {
    let manifest: toml::Table = file("Cargo.toml").parse().unwrap();
    let features = manifest["features"].as_table().unwrap().keys();
    features
        .filter(|name| *name != "default")
        .cloned()
        .collect()
}

#[test]
fn every_flag_and_variable_that_they_mention_exists() {
    let mut command = command_of(Task::Demo);
    command.build();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for arg in command.get_arguments() {
        known.extend(arg.get_long().map(|long| format!("--{long}")));
        let aliases = arg.get_all_aliases().unwrap_or_default();
        known.extend(aliases.iter().map(|alias| format!("--{alias}")));
    }
    let mut seen = 0;
    for paper in Paper::all() {
        let scripts = flags_of_scripts(&paper);
        for span in paper.spans().iter().filter(|span| span.starts_with("--")) {
            let word = span.split([' ', '=', '[']).next().unwrap();
            let feature = span.strip_prefix("--features ");
            let exists = known.contains(word)
                || scripts.contains(word)
                || feature.is_some_and(|feature| features().contains(feature));
            assert!(exists, "{}: `{span}`", paper.name);
            seen += 1;
        }
    }
    let mut texts: Vec<(&str, String)> = Vec::new();
    texts.extend(Paper::all().into_iter().map(|one| (one.name, one.text)));
    texts.push((PICTURE_SCRIPT, file(PICTURE_SCRIPT)));
    for (place, text) in texts {
        for (at, _) in text.match_indices("MQTT_") {
            let end = |c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            let name = text[at + 5..].split(end).next().unwrap();
            let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
            let password = ["PASSWORD", "PKCS12_PASSWORD"].contains(&name);
            assert!(password || known.contains(&flag), "{place}: MQTT_{name}");
        }
    }
    assert!(seen > 60, "only {seen} flags were found");
    // The settings are what the help has: each has a flag.
    let settings = defaults(Task::Demo);
    assert!(settings.keys().all(|k| known.contains(&format!("--{k}"))));
}

#[test]
fn every_command_of_cargo_and_every_script_can_be_run() {
    let mut seen = 0;
    for paper in Paper::all() {
        for command in paper.commands() {
            let words: Vec<&str> = command.split_whitespace().collect();
            let place = format!("{}: {command}", paper.name);
            if words.contains(&"cargo") {
                check_cargo(&words, &place);
                seen += 1;
            }
            // The demo passes its flags on to the program.
            let script = words[0];
            if script.starts_with("scripts/") && script != "scripts/demo.sh" {
                let flags = flags_of_script(script);
                let own = words[1..].iter().take_while(|word| **word != "--");
                for flag in own.filter(|word| word.starts_with("--")) {
                    assert!(flags.contains(*flag), "{place}: {flag}");
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 25, "only {seen} commands were found");
}

/// Targets, features, variables and the names of tests in a command of cargo.
fn check_cargo(words: &[&str], place: &str) {
    let exists = |path: String| repository().join(path).exists();
    let mut tests_of = None;
    for (at, word) in words.iter().enumerate() {
        let name = words.get(at + 1).copied().unwrap_or_default();
        match *word {
            "--" => break,
            "--test" => {
                let found =
                    exists(format!("tests/{name}.rs")) || exists(format!("tests/{name}/main.rs"));
                assert!(found, "{place}: no test {name}");
                tests_of = Some((at + 2, "tests"));
            }
            "--lib" | "--bins" => tests_of = Some((at + 1, "src")),
            "--bench" => assert!(exists(format!("benches/{name}.rs")), "{place}"),
            "--example" => assert!(exists(format!("examples/{name}.rs")), "{place}"),
            "--features" => assert!(features().contains(name), "{place}"),
            _ => {}
        }
        if let Some((variable, _)) = word.split_once('=') {
            assert!(sources("tests").contains(variable), "{place}: {variable}");
        }
    }
    if let Some((at, folder)) = tests_of
        && let Some(part) = words.get(at).filter(|word| !word.starts_with("--"))
    {
        // `demo::` stands for the tests of a module.
        let part = part.trim_end_matches("::");
        let text = sources(folder);
        let mut names = text.lines().filter_map(|line| {
            let line = line.trim_start();
            line.strip_prefix("fn ").or(line.strip_prefix("mod "))
        });
        assert!(
            names.any(|name| name.contains(part)),
            "{place}: no test {part}"
        );
    }
}

#[test]
fn the_exit_status_table_is_that_of_the_help() {
    let help = command_of(Task::Demo).render_help().to_string();
    let (_, list) = help.split_once("Exit status:\n").unwrap();
    let expected: Vec<(String, String)> = list
        .lines()
        .filter_map(|line| line.trim().split_once(' '))
        .map(|(status, meaning)| (format!("`{status}`"), meaning.trim().to_owned()))
        .collect();
    let shown: Vec<(String, String)> = rows(&program_paper().section("## Exit status"))
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(shown, expected);
    assert_eq!(shown.len(), 6);
}

/// The names in a text of JSON, in their order.
fn names_in_order(json: &str) -> Vec<&str> {
    let parts: Vec<&str> = json.split('"').collect();
    let texts = (1..parts.len()).step_by(2);
    let names = texts.filter(|at| parts.get(at + 1).is_some_and(|next| next.starts_with(':')));
    names.map(|at| parts[at]).collect()
}

/// The names in the first column of a table.
fn names_of_rows(section: &str) -> Vec<String> {
    let table = rows(&program_paper().section(section));
    let cells: Vec<&str> = table.iter().map(|row| row[0].as_str()).collect();
    let cells = cells.join(" ");
    let names = cells.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

/// Holds an example to the schema that people are given.
#[track_caller]
fn expect_schema(json: &Value) {
    assert_eq!(Schema::of_the_output().offences(json), [""; 0]);
}

#[test]
fn the_json_example_is_a_real_report() {
    let shown: Value = serde_json::from_str(&program_paper().blocks("json")[0]).unwrap();
    expect_schema(&shown);
    let report: DemoReport = serde_json::from_value(shown.clone()).unwrap();
    let real = to_json(&DemoReport::new(report.runs.unwrap()));
    assert_eq!(shown, serde_json::from_str::<Value>(&real).unwrap());
    // The table has the same fields in the same order. Those of a publisher stand in its cell.
    let publisher = to_json(&Published::default());
    let of_publisher = names_in_order(&publisher);
    let (whole, run) = real.split_once("[{").unwrap();
    let mut own = 0;
    let of_run = names_in_order(run).into_iter().filter(|name| {
        own += usize::from(!of_publisher.contains(name));
        // Before the publishers come fields of the run that have the same names.
        !of_publisher.contains(name) || own < 3
    });
    let in_order: Vec<&str> = names_in_order(whole).into_iter().chain(of_run).collect();
    assert_eq!(names_of_rows("## JSON"), in_order);
    let cell = rows(&program_paper().section("## JSON"))
        .into_iter()
        .find(|row| row[0].starts_with("`sync_publisher`"));
    let cell = cell.unwrap().join(" ");
    assert!(
        of_publisher
            .iter()
            .all(|name| cell.contains(&format!("`{name}`")))
    );
}

#[test]
fn the_json_example_of_the_bench_is_a_real_report() {
    let shown = &program_paper().blocks("json")[1];
    let value: Value = serde_json::from_str(shown).unwrap();
    expect_schema(&value);
    let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{name}"));
    let float = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    let latency = |name: &str| float(&value["latency_us"][name]);
    let real = bench::BenchReport {
        schema: SCHEMA,
        mode: "async",
        threads: number("threads") as usize,
        messages: number("messages"),
        payload_bytes: number("payload_bytes") as usize,
        window: number("window") as u16,
        qos: number("qos") as u8,
        success: value["success"].as_bool().unwrap(),
        published: number("published"),
        acknowledged: number("acknowledged"),
        seconds: float(&value["seconds"]),
        messages_per_second: float(&value["messages_per_second"]),
        latency_us: Some(bench::Latency {
            p50: latency("p50"),
            p90: latency("p90"),
            p99: latency("p99"),
            p999: latency("p999"),
            max: latency("max"),
        }),
        cpu_seconds: Some(float(&value["cpu_seconds"])),
        peak_rss_bytes: Some(number("peak_rss_bytes")),
        received: Some(number("received")),
        lost: Some(number("lost")),
        dropped: Some(number("dropped")),
        duplicated: Some(number("duplicated")),
        reordered: Some(number("reordered")),
        unexpected: Some(number("unexpected")),
        reconnects: number("reconnects"),
        rate_limited_seconds: float(&value["rate_limited_seconds"]),
        shared: serde_json::from_value(value.clone()).unwrap(),
        interrupted: value["interrupted"].as_bool().unwrap(),
        error: value["error"].as_str().map(str::to_owned),
        reason_code: None,
    };
    let real = to_json(&real);
    assert_eq!(value, serde_json::from_str::<Value>(&real).unwrap());
    // The table has the same fields in the same order.
    let quantiles = ["p50", "p90", "p99", "p999", "max"];
    let mut in_order = names_in_order(&real);
    in_order.retain(|name| !quantiles.contains(name));
    assert_eq!(names_of_rows("## Bench"), in_order);
}

#[test]
fn the_json_of_the_check_has_the_fields_of_a_real_report() {
    let paper = program_paper();
    let real = to_json(&check::example());
    let names = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    };
    let shown: Value = serde_json::from_str(&paper.blocks("json")[2]).unwrap();
    expect_schema(&shown);
    let report: Value = serde_json::from_str(&real).unwrap();
    let step = |value: &Value| value["steps"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(names(&shown), names(&report));
    assert_eq!(names(&step(&shown)), names(&step(&report)));
    assert_eq!(
        names(&step(&shown)["causes"][0]),
        names(&step(&report)["causes"][0])
    );
    // The table has the same fields in the same order.
    let table = rows(&paper.section("## Check"));
    let cells: Vec<&str> = table.iter().map(|row| row[0].as_str()).collect();
    let cells = cells.join(" ");
    let told: Vec<&str> = cells.split('`').skip(1).step_by(2).collect();
    let is_field = |text: &&str| told.contains(text);
    let mut in_order: Vec<&str> = real
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(is_field)
        .collect();
    let mut seen = BTreeSet::new();
    in_order.retain(|name| seen.insert(*name));
    let mut known = BTreeSet::new();
    let first: Vec<&str> = told
        .iter()
        .copied()
        .filter(|name| known.insert(*name))
        .collect();
    assert_eq!(first, in_order);
    let all = [
        names(&report),
        names(&step(&report)),
        names(&step(&report)["causes"][0]),
    ];
    assert!(
        all.iter()
            .flatten()
            .all(|name| told.contains(&name.as_str()))
    );
}

#[test]
fn the_example_is_the_one_that_opens_the_documentation() {
    // That one is compiled as a test.
    let library = file("src/lib.rs");
    let (_, program) = library.split_once("//! ```no_run\n").unwrap();
    let (program, _) = program.split_once("//! ```\n").unwrap();
    let lines = program.lines().map(|line| {
        let line = line.strip_prefix("//!").unwrap();
        line.strip_prefix(' ').unwrap_or(line)
    });
    let program = lines.collect::<Vec<_>>().join("\n");
    let readme = Paper::read("README.md");
    assert_eq!(readme.blocks("rust")[0].trim(), program);
}

#[test]
fn each_example_says_first_how_to_run_it_and_the_list_has_them_all() {
    let mut commands = Vec::new();
    for entry in fs::read_dir(repository().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let (first, _) = source.split_once('\n').unwrap();
            commands.push(first.strip_prefix("//! ").unwrap().to_owned());
        }
    }
    let table = rows(&Paper::read("examples/README.md").section("## Programs"));
    let mut shown: Vec<String> = table.iter().map(|row| row[0].replace('`', "")).collect();
    commands.sort();
    shown.sort();
    assert_eq!(shown, commands);
    assert!(shown.len() >= 4);
}

#[test]
fn the_outcomes_are_the_librarys() {
    let source = file("src/mqtt/session/outcome.rs");
    let (_, outcomes) = source.split_once("pub enum Outcome {\n").unwrap();
    let (outcomes, _) = outcomes.split_once("\n}\n").unwrap();
    let variants: Vec<String> = outcomes
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase))
        .map(|line| format!("`{}`", line.split([' ', '(', ',']).next().unwrap()))
        .collect();
    let promises = Paper::read("README.md").section("## What it promises");
    let shown: Vec<String> = rows(&promises)
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(shown, variants);
}

#[test]
fn the_quoted_messages_are_the_programs_own() {
    // String literals may be continued on the next line.
    let sources = sources("src");
    let mut lines = sources.lines();
    let mut joined = String::new();
    while let Some(line) = lines.next() {
        joined.push_str(line.strip_suffix('\\').unwrap_or(line));
        if !line.ends_with('\\') {
            joined.push('\n');
        } else if let Some(next) = lines.next() {
            joined.push_str(next.trim_start());
            joined.push('\n');
        }
    }
    let table = rows(&program_paper().section("## Troubleshooting"));
    let mut quoted = 0;
    for row in &table {
        assert_eq!(row.len(), 3, "{row:?}");
        let spans = row[0].split('`').skip(1).step_by(2);
        for message in spans.filter(|span| span.contains(' ') && !span.contains("set_tcp")) {
            let known = joined.contains(message) || message.contains("autosave");
            assert!(known, "nowhere in src: {message:?}");
            quoted += 1;
        }
    }
    assert!(quoted > 20);
}

#[test]
fn the_readme_is_short() {
    assert!(file("README.md").lines().count() <= 200);
}

#[test]
fn the_minimum_rust_version_and_the_features_are_those_of_the_manifest() {
    let version = env!("CARGO_PKG_RUST_VERSION");
    let minimum = format!("The minimum Rust version is {version}.");
    assert!(file("CONTRIBUTING.md").contains(&minimum));
    assert!(file("README.md").contains(&format!("version {version} or later")));
    let shown: BTreeSet<String> = rows(&program_paper().section("## Installing"))
        .into_iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    assert_eq!(shown, features());
}

#[test]
fn the_workflow_runs_the_commands_of_the_readme() {
    let workflow = file(".github/workflows/checks.yml");
    let steps = workflow
        .lines()
        .filter_map(|line| line.trim().strip_prefix("run: "));
    let commands: Vec<&str> = steps.collect();
    let scripts = commands
        .iter()
        .map(|command| command.split(' ').next().unwrap());
    assert!(
        scripts.eq(["scripts/demo.sh", "scripts/test.sh"]),
        "{commands:?}"
    );
    let readme = file("README.md");
    for command in commands {
        let stands = readme.contains(&format!("\n$ {command}\n"));
        assert!(
            stands || readme.contains(&format!("`{command}`")),
            "{command}"
        );
    }
}

/// A change of the form is an addition, or raises its number.
#[test]
fn what_the_first_programs_of_this_schema_wrote_still_fits() {
    let written = include_str!("../../../tests/program/golden_files/schema_1.jsonl");
    assert_eq!(written.lines().count(), 3, "demo, bench and check");
    for line in written.lines() {
        let value: Value = serde_json::from_str(line).unwrap();
        assert_eq!(value["schema"], SCHEMA);
        assert_eq!(Schema::of_the_output().offences(&value), [""; 0], "{line}");
    }
}
