//! The lines at the foot of the terminal, on standard error, and how other lines come above them.
//!
//! Any thread may call it; a lock holds the terminal while one of them writes. The cursor stands at the beginning of the
//! line below the view between two writes, and no mode of the terminal is changed: a program that ends at any moment
//! leaves a terminal that can be used. Each drawing is one write that overwrites the lines in place, so nothing flickers.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use terminal_size::{Height, Width, terminal_size_of};

/// A terminal that does not say its size.
const USUAL: (u16, u16) = (80, 24);

/// The lines that stand on the terminal now.
static DRAWN: Mutex<Drawn> = Mutex::new(Drawn {
    lines: Vec::new(),
    columns: 0,
});

struct Drawn {
    lines: Vec<ViewLine>,
    /// Of the terminal, when they were drawn.
    columns: usize,
}

/// A line of the view, without its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ViewLine {
    /// With colours.
    pub(super) text: String,
    /// The columns that it takes.
    pub(super) width: usize,
}

/// Whether standard error is a terminal on which lines can be overwritten.
pub(super) fn is_there() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    io::stderr().is_terminal() && !is_dumb
}

/// Columns and rows of the terminal.
pub(super) fn size() -> (usize, usize) {
    let size = terminal_size_of(io::stderr());
    let (columns, rows) = size.map_or(USUAL, |(Width(columns), Height(rows))| (columns, rows));
    (columns.into(), rows.into())
}

/// Draws these lines in place of those that are there. Each is narrower than the terminal.
pub(super) fn draw(lines: Vec<ViewLine>, columns: usize) {
    let mut drawn = lock();
    if drawn.lines != lines || drawn.columns != columns {
        write(&drawing(&drawn, &lines, columns));
        *drawn = Drawn { lines, columns };
    }
}

/// Takes the lines away.
pub(super) fn clear() {
    erase(&mut lock());
}

/// Takes the lines away unless a thread writes this very moment: for the end of the program and for a panic, which wait
/// for nobody.
pub(crate) fn step_aside() {
    match DRAWN.try_lock() {
        Ok(mut drawn) => erase(&mut drawn),
        Err(TryLockError::Poisoned(poisoned)) => erase(&mut poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => {}
    }
}

/// Calls `print`, which writes whole lines to the terminal: they come above the view. It must not log.
pub(crate) fn above<T>(print: impl FnOnce() -> T) -> T {
    let mut drawn = lock();
    if drawn.lines.is_empty() {
        return print();
    }
    let lines = drawn.lines.clone();
    erase(&mut drawn);
    let result = print();
    let columns = size().0;
    // After a change of the size they may be too wide. The next drawing brings them back.
    if lines.iter().all(|line| line.width < columns) {
        write(&drawing(&drawn, &lines, columns));
        *drawn = Drawn { lines, columns };
    }
    result
}

fn erase(drawn: &mut Drawn) {
    if !drawn.lines.is_empty() {
        let columns = size().0;
        write(&drawing(drawn, &[], columns));
        drawn.lines.clear();
    }
}

/// The bytes that replace what is drawn by `lines`, on a terminal that has so many columns now.
fn drawing(drawn: &Drawn, lines: &[ViewLine], columns: usize) -> String {
    let mut bytes = String::from("\r");
    // A terminal that became narrower has broken the longer lines.
    let height = |line: &ViewLine| line.width.div_ceil(columns.max(1)).max(1);
    let rows: usize = drawn.lines.iter().map(height).sum();
    if rows > 0 {
        bytes.push_str(&format!("\x1b[{rows}A"));
    }
    if drawn.columns != columns {
        bytes.push_str("\x1b[J");
    }
    for line in lines {
        bytes.push_str(&line.text);
        bytes.push_str("\x1b[K\r\n");
    }
    bytes.push_str("\x1b[J");
    bytes
}

fn write(bytes: &str) {
    let mut out = io::stderr().lock();
    // Without a terminal nobody misses the view.
    let _ = out.write_all(bytes.as_bytes()).and_then(|()| out.flush());
}

fn lock() -> MutexGuard<'static, Drawn> {
    DRAWN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> ViewLine {
        ViewLine {
            text: text.to_owned(),
            width: text.len(),
        }
    }

    fn drawn(texts: &[&str], columns: usize) -> Drawn {
        Drawn {
            lines: texts.iter().map(|text| line(text)).collect(),
            columns,
        }
    }

    #[test]
    fn lines_are_overwritten_in_place_and_those_below_are_erased() {
        let first = drawing(&drawn(&[], 80), &[line("one"), line("two")], 80);
        assert_eq!(first, "\rone\x1b[K\r\ntwo\x1b[K\r\n\x1b[J");
        let next = drawing(&drawn(&["one", "two"], 80), &[line("three")], 80);
        assert_eq!(next, "\r\x1b[2Athree\x1b[K\r\n\x1b[J");
        assert_eq!(drawing(&drawn(&["one"], 80), &[], 80), "\r\x1b[1A\x1b[J");
    }

    #[test]
    fn a_narrower_terminal_has_broken_the_lines_and_all_of_their_parts_go() {
        let wide = "x".repeat(70);
        let next = drawing(&drawn(&[&wide, "", "two"], 80), &[line("one")], 30);
        assert_eq!(next, "\r\x1b[5A\x1b[Jone\x1b[K\r\n\x1b[J");
        let wider = drawing(&drawn(&[&wide], 80), &[line("one")], 200);
        assert_eq!(wider, "\r\x1b[1A\x1b[Jone\x1b[K\r\n\x1b[J");
    }
}
