//! Puts each possible fault into the sources, one in each process, and says which model notices it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use stand_in::faults::Fault;

use crate::models::Model;

/// Faults that no model notices, below their reasons (#).
const UNNOTICED: &str = include_str!("unnoticed.txt");

/// Whether each fault is noticed by a model that comes by its place, or expected to go unnoticed.
pub(crate) fn are_noticed(possible: &[(&Model, BTreeSet<Fault>)]) -> bool {
    let mut models: BTreeMap<&Fault, Vec<&Model>> = BTreeMap::new();
    for (model, faults) in possible {
        for fault in faults {
            // Waiting for ends is judged in the model of it alone.
            if fault.file != "models.rs" || model.name.starts_with("ends:") {
                models.entry(fault).or_default().push(model);
            }
        }
    }
    let lines = UNNOTICED.lines().filter(|line| !line.starts_with('#'));
    let mut expected: BTreeSet<&str> = lines.collect();
    let (mut noticed, mut unnoticed, mut unexpected) = (0, 0, 0);
    for (fault, models) in models {
        let text = text_of(fault);
        let is_expected = expected.remove(&*text);
        match models.iter().find_map(|model| said_with(fault, model)) {
            Some((name, said)) => {
                println!("noticed: {text}\n    by {name}: {said}");
                noticed += 1;
                unexpected += usize::from(is_expected);
            }
            None => {
                println!("not noticed: {text}");
                unnoticed += 1;
                unexpected += usize::from(!is_expected);
            }
        }
    }
    for line in &expected {
        println!("no such fault, or it was noticed: {line}");
    }
    println!(
        "{noticed} faults noticed, {unnoticed} not, {unexpected} other than unnoticed.txt says"
    );
    unexpected + expected.len() == 0
}

/// The model's words with this fault; `None` if it notices nothing.
fn said_with(fault: &Fault, model: &Model) -> Option<(&'static str, String)> {
    let program = std::env::current_exe().expect("the path of this program");
    let mut child = Command::new(program);
    child.args(["--with-fault", &fault.to_string(), model.name]);
    let output = child.output().expect("a process for a fault");
    if output.status.success() {
        return None;
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let mut lines = said
        .lines()
        .skip_while(|line| !line.contains("panicked at"));
    let line = lines.nth(1).unwrap_or("it ended without a panic");
    Some((model.name, line.chars().take(100).collect()))
}

/// The file and the function, what is done, and the line of the source.
fn text_of(fault: &Fault) -> String {
    let folder = match &*fault.file {
        "models.rs" => "src",
        _ => "../../src/client",
    };
    let root = env!("CARGO_MANIFEST_DIR");
    let path = format!("{root}/{folder}/{}", fault.file);
    let source = fs::read_to_string(&path).expect("a source of the library");
    let number = usize::try_from(fault.line).expect("a line number");
    let lines: Vec<&str> = source.lines().take(number).collect();
    let name = |line: &&str| {
        let (_, after) = line.split_once("fn ")?;
        after.split(['(', '<']).next().map(str::to_owned)
    };
    let function = lines.iter().rev().find_map(name).unwrap_or_default();
    let line = lines.last().map_or("", |line| line.trim());
    format!("{} {function} {}: {line}", fault.file, fault.what)
}
