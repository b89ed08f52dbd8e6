//! Holds README.md to the code, so that what it shows works: flags and defaults, command lines,
//! exit status, JSON, the example, messages, paths.
//!
//! `cargo test --bins readme`

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::app::bench;
use crate::app::command_line;
use crate::app::demo::{Report, Run};
use crate::app::help::command_of;
use crate::app::print::to_json;
use crate::app::settings::Task;
use crate::app::sources::defaults;

const PROGRAM: &str = "mqtt-connection-sharing";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn file(name: &str) -> String {
    fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn readme() -> String {
    file("README.md")
}

/// The text below a heading up to the next heading of any level.
fn section(heading: &str) -> String {
    let text = readme();
    let (_, after) = text
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("README.md has no {heading:?}"));
    let mut fenced = false;
    let own = after.lines().take_while(|line| {
        fenced ^= line.trim_start().starts_with("```");
        fenced || !line.starts_with('#')
    });
    own.collect::<Vec<_>>().join("\n")
}

/// The rows of all tables in a text, without their heads, cell by cell.
fn rows(text: &str) -> Vec<Vec<String>> {
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

/// The fenced blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let text = readme();
    let mut parts = text.split("\n```");
    parts.next();
    parts
        .step_by(2)
        .filter_map(|block| block.strip_prefix(&format!("{language}\n")))
        .map(str::to_owned)
        .collect()
}

/// The commands in the blocks for the shell, continued lines joined, comments and prompts removed.
fn commands() -> Vec<String> {
    let shell = blocks("sh").join("\n").replace("\\\n", " ");
    let sessions = blocks("console").join("\n");
    let typed = sessions.lines().filter_map(|line| line.strip_prefix("$ "));
    shell
        .lines()
        .chain(typed)
        .map(|line| line.split(" #").next().unwrap().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// What is between backticks, outside of fenced blocks.
fn code_spans() -> Vec<String> {
    let text = readme();
    let prose: Vec<&str> = text.split("\n```").step_by(2).collect();
    let prose = prose.join("\n");
    let spans = prose.split('`').skip(1).step_by(2);
    spans.map(str::to_owned).collect()
}

/// The arguments of the program in a command line that runs it.
fn program_arguments(command: &str) -> Option<Vec<&str>> {
    let words: Vec<&str> = command.split_whitespace().collect();
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
    let (demo, bench) = (built(Task::Demo), built(Task::Bench));
    // What the bench shares with the demo stands there once.
    let own = bench
        .get_arguments()
        .filter(|arg| arg.get_help_heading() == Some("Bench"));
    let mut expected = Vec::new();
    for arg in demo.get_arguments().chain(own) {
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
    let settings = section("## Settings");
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
    let spans = code_spans();
    let all = commands();
    for command in all.iter().chain(&spans) {
        if !command.contains(' ') {
            continue;
        }
        let Some(arguments) = program_arguments(command) else {
            continue;
        };
        if let Err(error) = command_line::parse_from([&[PROGRAM], &arguments[..]].concat()) {
            assert_eq!(error.exit_code(), 0, "{command}\n{error}");
        }
        parsed += 1;
    }
    assert!(parsed >= 8, "only {parsed} command lines were found");
}

#[test]
fn every_flag_and_variable_that_it_mentions_exists() {
    let mut command = command_of(Task::Demo);
    command.build();
    let mut known: BTreeSet<String> = BTreeSet::new();
    for arg in command.get_arguments() {
        known.extend(arg.get_long().map(|long| format!("--{long}")));
        let aliases = arg.get_visible_aliases().unwrap_or_default();
        known.extend(aliases.iter().map(|alias| format!("--{alias}")));
    }
    for span in code_spans() {
        let word = span.split([' ', '=', '[']).next().unwrap();
        if word.starts_with("--") && span != "--features local-broker" {
            assert!(known.contains(word), "`{span}`");
        }
    }
    let text = readme();
    for (at, _) in text.match_indices("MQTT_") {
        let end = |c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let name = text[at + 5..].split(end).next().unwrap();
        let flag = format!("--{}", name.to_lowercase().replace('_', "-"));
        let password = ["PASSWORD", "PKCS12_PASSWORD"].contains(&name);
        assert!(password || known.contains(&flag), "MQTT_{name}");
    }
    // The settings are what the help has: each has a flag.
    let settings = defaults(Task::Demo);
    assert!(settings.keys().all(|k| known.contains(&format!("--{k}"))));
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
    let shown: Vec<(String, String)> = rows(&section("## Exit status"))
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(shown, expected);
    assert_eq!(shown.len(), 6);
}

#[test]
fn the_json_example_is_a_real_report() {
    let shown: Value = serde_json::from_str(&blocks("json")[0]).unwrap();
    let run = &shown["runs"][0];
    let number = |name: &str| run[name].as_u64().unwrap_or_else(|| panic!("{name}"));
    let real = Report::new(vec![Run {
        iteration: number("iteration"),
        success: run["success"].as_bool().unwrap(),
        published: number("published"),
        acknowledged: number("acknowledged"),
        received: number("received"),
        lost: number("lost"),
        duplicated: number("duplicated"),
        unexpected: number("unexpected"),
        reordered: number("reordered"),
        reconnects: number("reconnects"),
        resumed: number("resumed"),
        resubscribed: number("resubscribed"),
        elapsed_ms: number("elapsed_ms"),
        error: run["error"].as_str().map(str::to_owned),
    }]);
    let real = to_json(&real);
    assert_eq!(shown, serde_json::from_str::<Value>(&real).unwrap());
    // The table has the same fields in the same order.
    let names: Vec<String> = rows(&section("## JSON"))
        .into_iter()
        .map(|row| row[0].trim_matches('`').to_owned())
        .collect();
    let in_order: Vec<&str> = real
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(names, in_order);
}

#[test]
fn the_json_example_of_the_bench_is_a_real_report() {
    let shown = &blocks("json")[1];
    let value: Value = serde_json::from_str(shown).unwrap();
    let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("{name}"));
    let float = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    let latency = |name: &str| float(&value["latency_us"][name]);
    let real = bench::Report {
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
        duplicated: Some(number("duplicated")),
        reordered: Some(number("reordered")),
        unexpected: Some(number("unexpected")),
        reconnects: number("reconnects"),
        interrupted: value["interrupted"].as_bool().unwrap(),
        error: value["error"].as_str().map(str::to_owned),
    };
    let real = to_json(&real);
    assert_eq!(value, serde_json::from_str::<Value>(&real).unwrap());
    // The table has the same fields in the same order.
    let table = rows(&section("## Bench"));
    let cells: Vec<&str> = table.iter().map(|row| row[0].as_str()).collect();
    let cells = cells.join(" ");
    let names: Vec<&str> = cells.split('`').skip(1).step_by(2).collect();
    let quantiles = ["p50", "p90", "p99", "p999", "max", "async"];
    let in_order: Vec<&str> = real
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|name| !quantiles.contains(name))
        .collect();
    assert_eq!(names, in_order);
}

#[test]
fn the_example_is_a_part_of_the_real_one() {
    let source = file("examples/two_threads.rs");
    let shown = &blocks("rust")[0];
    assert!(
        source.contains(shown.trim()),
        "examples/two_threads.rs does not contain what README.md shows of it"
    );
    let (first, _) = source.split_once('\n').unwrap();
    let command = first.strip_prefix("//! ").unwrap();
    assert!(
        readme().contains(&format!("`{command}`")),
        "how to run the example: {command}"
    );
}

#[test]
fn the_quoted_messages_are_the_programs_own() {
    // String literals may be continued on the next line.
    let mut sources = String::new();
    collect_sources(&repository().join("src"), &mut sources);
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
    let table = rows(&section("## Troubleshooting"));
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

fn collect_sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect_sources(&path, text);
        } else {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_path_that_it_mentions_exists() {
    let text = readme();
    let part = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let words = text
        .split(|c: char| !part(c))
        .map(|word| word.trim_end_matches(['.', '-']));
    let folders = [
        ".ci/",
        "benches/",
        "certs/",
        "config/",
        "examples/",
        "scripts/",
        "src/",
        "tests/",
    ];
    let files = ["CHANGELOG.md", "deny.toml", "LICENSE-MIT", "LICENSE-APACHE"];
    let mut seen = BTreeSet::new();
    for word in words {
        let named = folders.iter().any(|folder| word.starts_with(folder));
        if named || files.contains(&word) {
            // Keys and certificates are the user's own.
            let own = word.starts_with("certs/") && !word.ends_with(".md") && word != "certs/";
            let path: PathBuf = repository().join(word);
            assert!(own || path.exists(), "{word} does not exist");
            seen.insert(word);
        }
    }
    assert!(files.iter().all(|file| seen.contains(file)));
    assert!(seen.len() > 30, "{seen:?}");
}

#[test]
fn the_minimum_rust_version_and_the_features_are_those_of_the_manifest() {
    let text = readme();
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(text.contains(&format!("The minimum Rust version is {version}.")));
    assert!(text.contains(&format!("version {version} or later")));
    let manifest: toml::Table = file("Cargo.toml").parse().unwrap();
    let known: BTreeSet<String> = manifest["features"]
        .as_table()
        .unwrap()
        .keys()
        .filter(|name| *name != "default")
        .map(|name| format!("`{name}`"))
        .collect();
    let shown: BTreeSet<String> = rows(&section("## Development"))
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(shown, known);
}

#[test]
fn the_picture_is_straight() {
    let picture = &blocks("text")[0];
    let grid: Vec<Vec<char>> = picture.lines().map(|line| line.chars().collect()).collect();
    let at = |row: usize, column: usize| {
        let line = grid.get(row);
        *line.and_then(|line| line.get(column)).unwrap_or(&' ')
    };
    for (row, line) in grid.iter().enumerate() {
        assert!(line.len() <= 80);
        for (column, sign) in line.iter().enumerate() {
            let below = at(row + 1, column);
            let right = at(row, column + 1);
            let place = format!("line {}, column {}:\n{picture}", row + 1, column + 1);
            if "┌┐├┤┬┼".contains(*sign) {
                assert!("│└┘├┤┴┼v".contains(below), "loose below {place}");
            }
            if "┌└├┬┴┼".contains(*sign) {
                assert!("─┐┘┤┬┴┼>^".contains(right), "loose at the right {place}");
            }
        }
    }
}
