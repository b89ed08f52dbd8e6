//! The lines at the foot of the terminal, on standard error, and how other lines come above them.
//!
//! Any thread may call it; a lock holds the terminal while one of them writes. The cursor stands at the beginning of the
//! line below the view between two writes, and no mode of the terminal is changed: a program that ends at any moment
//! leaves a terminal that can be used. Each drawing is one write that overwrites the lines in place, so nothing flickers.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use terminal_size::{Height, Width, terminal_size_of};

/// A terminal that does not say its size.
const USUAL: (u16, u16) = (80, 24);

/// At the end of the program and in a panic nobody waits longer than this for a thread that writes.
const PATIENCE: Duration = Duration::from_millis(200);

/// The lines that stand on the terminal now.
static DRAWN: Mutex<Drawn> = Mutex::new(Drawn {
    lines: Vec::new(),
    columns: 0,
    is_over: false,
});

/// The program was stopped (Ctrl-Z) and goes on: the shell has written below the lines, which stay where they are.
static CONTINUED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

struct Drawn {
    lines: Vec<ViewLine>,
    /// Of the terminal, when they were drawn.
    columns: usize,
    /// Nothing more is drawn: the program ends, or the text of a panic stands where the lines were.
    is_over: bool,
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

/// From now on the lines are drawn anew after each stop of the program.
#[cfg(unix)]
pub(super) fn watch_stops() {
    use signal_hook::{consts::SIGCONT, flag};
    // Without it the lines are drawn over those of the shell.
    let _ = flag::register(SIGCONT, Arc::clone(&CONTINUED));
}

/// Draws these lines in place of those that are there. Each is narrower than the terminal.
pub(super) fn draw(lines: Vec<ViewLine>, columns: usize) {
    write(&lock().replaced(lines, columns));
}

/// Takes the lines away.
pub(super) fn clear() {
    write(&lock().erased(size().0));
}

/// Takes the lines away, and from now on nothing is drawn: for the end of the program and for a panic. A thread that
/// writes this very moment may finish. One that cannot, because nobody takes what it writes or because it is the one that
/// panics, is not waited for.
pub(crate) fn step_aside() {
    let begin = Instant::now();
    loop {
        let mut drawn = match DRAWN.try_lock() {
            Ok(drawn) => drawn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if begin.elapsed() < PATIENCE => {
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(TryLockError::WouldBlock) => return,
        };
        drawn.forget_if_stopped();
        write(&drawn.ended(size().0));
        return;
    }
}

/// Calls `print`, which writes whole lines to the terminal: they come above the view. It must not log.
pub(crate) fn above<T>(print: impl FnOnce() -> T) -> T {
    let mut drawn = lock();
    let lines = drawn.lines.clone();
    write(&drawn.erased(size().0));
    let result = print();
    let columns = size().0;
    // After a change of the size they may be too wide. The next drawing brings them back.
    if lines.iter().all(|line| line.width < columns) {
        write(&drawn.replaced(lines, columns));
    }
    result
}

impl Drawn {
    fn forget_if_stopped(&mut self) {
        if CONTINUED.swap(false, Ordering::Relaxed) {
            self.lines.clear();
        }
    }

    /// Replaces the lines, and returns the bytes that do so on the terminal. They are empty where nothing changes.
    fn replaced(&mut self, lines: Vec<ViewLine>, columns: usize) -> String {
        let is_same = self.lines == lines && (self.columns == columns || lines.is_empty());
        if self.is_over || is_same {
            return String::new();
        }
        let bytes = drawing(self, &lines, columns);
        (self.lines, self.columns) = (lines, columns);
        bytes
    }

    /// Takes the lines away, on a terminal that has so many columns now.
    fn erased(&mut self, columns: usize) -> String {
        self.replaced(Vec::new(), columns)
    }

    /// Takes the lines away for good.
    fn ended(&mut self, columns: usize) -> String {
        let bytes = self.erased(columns);
        self.is_over = true;
        bytes
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
    if bytes.is_empty() {
        return;
    }
    let mut out = io::stderr().lock();
    // Without a terminal nobody misses the view.
    let _ = out.write_all(bytes.as_bytes()).and_then(|()| out.flush());
}

fn lock() -> MutexGuard<'static, Drawn> {
    let mut drawn = DRAWN.lock().unwrap_or_else(|poisoned| {
        let mut drawn = poisoned.into_inner();
        // The lines were gone when a thread panicked here, and its text stands in their place.
        drawn.is_over = true;
        drawn
    });
    drawn.forget_if_stopped();
    drawn
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
            is_over: false,
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

    #[test]
    fn only_a_change_is_written_and_nothing_after_the_end() {
        let mut drawn = drawn(&[], 0);
        assert_eq!(drawn.erased(80), "");
        assert_ne!(drawn.replaced(vec![line("one")], 80), "");
        assert_eq!(drawn.replaced(vec![line("one")], 80), "");
        assert_ne!(drawn.replaced(vec![line("one")], 60), "");
        assert_eq!(drawn.ended(60), "\r\x1b[1A\x1b[J");
        // The text of a panic, or the prompt of a shell, is there now.
        assert_eq!(drawn.replaced(vec![line("two")], 60), "");
        assert_eq!((drawn.erased(80), drawn.ended(60)), Default::default());
        assert_eq!(drawn.lines, []);
    }
}
