//! Holds the pictures of the papers to what makes them: the two with which README.md begins, and the diagram.
//!
//! `cargo test --bins tests::pictures`

use super::papers::{Paper, file};
use crate::app::command_line;

#[test]
fn the_pictures_are_the_scripts_and_name_no_machine() {
    let readme = Paper::read("README.md");
    let images = readme.text.split("\n![").skip(1);
    let shown = images.map(|image| image.split(['(', ')']).nth(1).unwrap());
    let shown: Vec<&str> = shown.collect();
    assert_eq!(shown, ["src/app/picture/demo.svg", "src/app/view/demo.svg"]);
    let script = file("scripts/picture.sh");
    assert!(shown.iter().all(|name| script.contains(name)));
    let pictures: Vec<String> = shown.into_iter().map(file).collect();
    let bytes: usize = pictures.iter().map(String::len).sum();
    assert!(bytes < 150_000, "{bytes}");
    let marks = [
        "localhost",
        "/home",
        "/root",
        "/Users",
        "/tmp",
        "file:",
        "href",
    ];
    for picture in &pictures {
        assert!(picture.contains("prefers-color-scheme:dark"));
        for mark in marks {
            assert!(!picture.contains(mark), "{mark}");
        }
    }
    // The command that the script runs is the one in the terminal, and it parses.
    let (_, command) = script.split_once("\ndemo=(").unwrap();
    let (command, _) = command.split_once(')').unwrap();
    assert!(pictures[1].contains(&format!(">$ {command}</text>")));
    command_line::parse_from(command.split(' ')).unwrap();
    // It shows the link that is cut, and the end.
    for text in [
        "no connection, attempt ",
        "session resumed",
        ">success</text>",
    ] {
        assert!(pictures[1].contains(text), "{text}");
    }
    for text in [
        ">lost: the broker closed it<",
        ">failed: nothing listens on that port",
        ">session resumed<",
        "the connection was lost once and was away for ",
    ] {
        assert!(pictures[0].contains(text), "{text}");
    }
}

#[test]
fn the_diagram_is_straight() {
    let picture = &Paper::read("CONTRIBUTING.md").blocks("text")[0];
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
