//! The view as text: what was seen at one moment, and a width, become lines.
//!
//! Pure; the view's thread calls it. Nothing is told by colour alone, and no line reaches the terminal's last column.

use std::fmt;
use std::time::Duration;

use super::screen::ViewLine;
use crate::app::lines::Seconds;

/// All that the view shows of one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Snapshot {
    /// The work: `iteration 2 of 3`.
    pub(super) title: String,
    pub(super) link: LinkNow,
    pub(super) rows: Vec<Row>,
    /// Commands in the queue, and places that it has.
    pub(super) queue: (u64, u64),
    /// Commands that await their acknowledgment, and how many may.
    pub(super) window: (u64, u64),
    /// Remarks below, one line each.
    pub(super) notes: Vec<String>,
}

/// The one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkNow {
    /// The loop does not run yet, or a thread asked for DISCONNECT.
    Offline,
    /// An attempt is under way.
    Connecting { attempt: u32 },
    /// The first attempt begins after this time.
    Soon { left: Duration },
    /// There is none until the next attempt, after this time.
    Waiting { attempt: u32, left: Duration },
    /// The broker has accepted it.
    Up {
        tls: bool,
        since: Duration,
        resumed: bool,
    },
    /// The loop has ended.
    Closed,
}

/// One thread, or several that do the same.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) now: String,
    /// Columns for that, so that the next ones stay where they are.
    pub(super) room: usize,
    /// The same for a narrow terminal, without the number of a message.
    pub(super) short: String,
    pub(super) short_room: usize,
    /// Whether it has ended: well, or not.
    pub(super) ended: Option<bool>,
    pub(super) done: u64,
    pub(super) total: u64,
    /// One more figure: its name and its value.
    pub(super) last: Option<(&'static str, String)>,
}

/// Wider lines are hard to read.
const WIDEST: usize = 119;
/// Columns of a bar.
const SHORTEST_BAR: usize = 4;
const LONGEST_BAR: usize = 40;
const LONGEST_GAUGE: usize = 16;

/// The colours of the terminal that the view uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Bold,
    Good,
    Bad,
    Care,
    Bar,
}

/// The lines for a terminal with so many columns.
pub(super) fn lines(seen: &Snapshot, columns: usize, colours: bool) -> Vec<ViewLine> {
    let width = columns.saturating_sub(1).min(WIDEST);
    let mut lines = vec![header(seen, width)];
    lines.extend(rows(&seen.rows, width));
    if seen.queue.1 > 0 {
        lines.push(gauges(seen, width));
    }
    lines.extend(seen.notes.iter().map(|note| {
        let mut line = PaintedLine::default();
        line.push(&format!(" {note}"));
        line
    }));
    let lines = lines.into_iter();
    lines.map(|line| line.finish(width, colours)).collect()
}

/// The same in one line without an end, for a log.
pub(super) fn in_one_line(seen: &Snapshot) -> String {
    let mut text = format!("{}: {}", seen.title, seen.link.short());
    for row in &seen.rows {
        let Row { name, now, .. } = row;
        text.push_str(&format!("; {name}: {}", row.count(true).trim_start()));
        if !now.is_empty() {
            text.push_str(&format!(", {now}"));
        }
    }
    if seen.queue.1 > 0 {
        let (queued, in_flight) = (Number(seen.queue.0), Number(seen.window.0));
        text.push_str(&format!("; {queued} queued, {in_flight} in flight"));
    }
    for note in &seen.notes {
        text.push_str(&format!("; {note}"));
    }
    text
}

fn header(seen: &Snapshot, width: usize) -> PaintedLine {
    let mut line = PaintedLine::default();
    line.paint(Colour::Bold, &seen.title);
    let title = line.width();
    let fits = |text: &&String| title + 2 + text.len() <= width;
    let long = Some(seen.link.to_string());
    let link = long.as_ref().filter(fits).cloned();
    let link = link.unwrap_or_else(|| seen.link.short());
    let gap = width.saturating_sub(title + link.len()).max(2);
    line.push(&" ".repeat(gap));
    let colour = match seen.link {
        LinkNow::Up { .. } => Some(Colour::Good),
        LinkNow::Waiting { .. } => Some(Colour::Care),
        LinkNow::Connecting { attempt } if attempt > 1 => Some(Colour::Care),
        _ => None,
    };
    match colour {
        Some(colour) => line.paint(colour, &link),
        None => line.push(&link),
    }
    line
}

/// One line for each thread, in columns. A terminal that is too narrow gives up the numbers of messages, then the totals,
/// and then the last column, for no figure stands without its name. Bars take the room that is left. Where all this is too
/// wide, too, the count comes first.
fn rows(rows: &[Row], width: usize) -> Vec<PaintedLine> {
    let widest = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let name = widest(&|row| row.name.len());
    let columns = |short: bool, totals: bool| {
        let now = widest(&|row| {
            let (now, room) = row.now(short);
            now.len().max(room)
        });
        let count = widest(&|row| row.widest_count(totals));
        // Latencies of one digit and of four.
        let tail = 2 + widest(&|row| row.tail(totals).len()).max(13);
        (now, count, 1 + name + 1 + now + 2 + count, tail)
    };
    let forms = [(false, true), (true, true), (true, false)];
    let whole = forms.into_iter().find(|(short, totals)| {
        let (_, _, fixed, tail) = columns(*short, *totals);
        fixed + tail <= width
    });
    let has_tail = whole.is_some();
    let (short, totals) = whole.unwrap_or((true, true));
    let (now, count, fixed, tail) = columns(short, totals);
    let room = width.saturating_sub(fixed + 1 + if has_tail { tail } else { 0 });
    let bar = (room >= SHORTEST_BAR).then_some(room.min(LONGEST_BAR));
    let line = |row: &Row| {
        let mut line = PaintedLine::default();
        line.push(&format!(" {:name$} ", row.name));
        let colour = row
            .ended
            .map(|well| if well { Colour::Good } else { Colour::Bad });
        let say = |line: &mut PaintedLine| {
            let text = format!("{:now$}", row.now(short).0);
            match colour {
                Some(colour) => line.paint(colour, &text),
                None => line.push(&text),
            }
        };
        if fixed > width {
            line.push(&format!("{:count$}  ", row.count(totals)));
            say(&mut line);
            return line;
        }
        say(&mut line);
        line.push("  ");
        if let Some(bar) = bar {
            push_bar(&mut line, row.done, row.total, bar);
            line.push(" ");
        }
        line.push(&match totals {
            true => format!("{:count$}", row.count(totals)),
            false => format!("{:>count$}", row.count(totals)),
        });
        if has_tail {
            line.push(&format!("  {}", row.tail(totals)));
        }
        line
    };
    rows.iter().map(line).collect()
}

fn gauges(seen: &Snapshot, width: usize) -> PaintedLine {
    let names = ["command queue", "in flight"];
    let counts = [seen.queue, seen.window].map(|(now, most)| {
        let most = Number(most).to_string();
        format!(
            "{:1$}",
            format!("{} of {most}", Number(now)),
            4 + 2 * most.len()
        )
    });
    let fixed: usize = names
        .iter()
        .chain(&counts.each_ref().map(|count| count.as_str()))
        .map(|text| text.len())
        .sum();
    // Around the bars, and between both gauges.
    let blanks = 1 + 3 + 2 * 4;
    let bar = (width.saturating_sub(fixed + blanks) / 2).min(LONGEST_GAUGE);
    let mut line = PaintedLine::default();
    for (place, (now, most)) in [seen.queue, seen.window].into_iter().enumerate() {
        line.push(if place == 0 { " " } else { "   " });
        line.push(names[place]);
        line.push("  ");
        if bar >= SHORTEST_BAR - 1 {
            push_bar(&mut line, now, most, bar);
            line.push("  ");
        }
        line.push(&counts[place]);
    }
    line
}

/// A bar is full only if all is there, and empty only if nothing is.
fn push_bar(line: &mut PaintedLine, now: u64, most: u64, width: usize) {
    let share = (now.min(most) as f64) / (most.max(1) as f64) * width as f64;
    let filled = match now {
        0 => 0,
        _ if now >= most => width,
        _ => (share as usize).clamp(1, width.saturating_sub(1)),
    };
    line.paint(Colour::Bar, &"#".repeat(filled));
    line.push(&".".repeat(width - filled));
}

impl Row {
    /// The work of the thread, and the columns for it.
    fn now(&self, short: bool) -> (&str, usize) {
        match short {
            true => (&self.short, self.short_room),
            false => (&self.now, self.room),
        }
    }

    fn count(&self, totals: bool) -> String {
        let total = Number(self.total).to_string();
        match totals {
            true => format!("{:>1$} of {total}", Number(self.done), total.len()),
            false => Number(self.done).to_string(),
        }
    }

    /// As wide as it will ever be.
    fn widest_count(&self, totals: bool) -> usize {
        let total = Number(self.total).to_string().len();
        if totals { 4 + 2 * total } else { total }
    }

    fn tail(&self, totals: bool) -> String {
        let Some((name, value)) = &self.last else {
            return String::new();
        };
        let done = value.split_once(" of ").map(|(done, _)| done);
        let value = done.filter(|_| !totals).unwrap_or(value);
        format!("{name} {value}")
    }
}

impl LinkNow {
    /// For a terminal that has not enough columns for the whole text.
    fn short(self) -> String {
        match self {
            LinkNow::Up {
                tls,
                since,
                resumed,
            } => format!(
                "{} up {}, session {}",
                if tls { "TLS" } else { "TCP" },
                Seconds(since),
                if resumed { "resumed" } else { "new" },
            ),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for LinkNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            LinkNow::Offline => f.write_str("not connected"),
            LinkNow::Connecting { attempt: ..=1 } => f.write_str("connecting"),
            LinkNow::Soon { left } => write!(f, "connecting in {}", Countdown(left)),
            LinkNow::Connecting { attempt } => write!(f, "connecting, attempt {attempt}"),
            LinkNow::Waiting { attempt, left } => {
                write!(f, "no connection, attempt {attempt} in {}", Countdown(left))
            }
            LinkNow::Up {
                tls,
                since,
                resumed,
            } => write!(
                f,
                "one {} connection, up {}, session {}",
                if tls { "TLS" } else { "TCP" },
                Seconds(since),
                if resumed { "resumed" } else { "new" },
            ),
            LinkNow::Closed => f.write_str("connection closed"),
        }
    }
}

/// A number with commas between its thousands.
pub(super) struct Number(pub(super) u64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::new();
        for (place, digit) in digits.chars().enumerate() {
            if place > 0 && (digits.len() - place).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// The time until something happens: in tenths of a second while it is short.
pub(super) struct Countdown(pub(super) Duration);

impl fmt::Display for Countdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            left if left < Duration::from_millis(9_950) => write!(f, "{:.1} s", left.as_secs_f64()),
            left => Seconds(left.max(Duration::from_secs(10))).fmt(f),
        }
    }
}

/// How long a message took.
pub(super) struct LatencyText(pub(super) Duration);

impl fmt::Display for LatencyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64() {
            seconds @ 0.9995.. => write!(f, "{seconds:.2} s"),
            seconds @ 0.099_995.. => write!(f, "{:.0} ms", seconds * 1e3),
            seconds => write!(f, "{:.2} ms", seconds * 1e3),
        }
    }
}

/// A line that is being made, in pieces of one colour each.
#[derive(Default)]
struct PaintedLine {
    pieces: Vec<(Option<Colour>, String)>,
}

impl PaintedLine {
    fn push(&mut self, text: &str) {
        self.pieces.push((None, text.to_owned()));
    }

    fn paint(&mut self, colour: Colour, text: &str) {
        self.pieces.push((Some(colour), text.to_owned()));
    }

    fn width(&self) -> usize {
        self.pieces
            .iter()
            .map(|(_, text)| text.chars().count())
            .sum()
    }

    /// The line, without blanks at its end. Three dots say that it was too wide.
    fn finish(self, width: usize, colours: bool) -> ViewLine {
        let whole: String = self.pieces.iter().map(|(_, text)| text.as_str()).collect();
        let whole = whole.trim_end().chars().count();
        let dots = if whole > width {
            &"..."[..width.min(3)]
        } else {
            ""
        };
        let mut left = whole.min(width) - dots.len();
        let mut line = ViewLine {
            text: String::new(),
            width: whole.min(width),
        };
        for (colour, text) in self.pieces {
            let text: String = text.chars().take(left).map(printable).collect();
            left -= text.chars().count();
            match colour.filter(|_| colours && !text.is_empty()) {
                Some(colour) => {
                    line.text
                        .push_str(&format!("\x1b[{}m{text}\x1b[0m", colour.code()));
                }
                None => line.text.push_str(&text),
            }
        }
        line.text.push_str(dots);
        line
    }
}

/// Each character takes one column: texts of brokers and settings can have others.
fn printable(c: char) -> char {
    match c {
        ' '..='~' => c,
        _ => '?',
    }
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Colour::Bold => "1",
            Colour::Good => "32",
            Colour::Bad => "1;31",
            Colour::Care => "33",
            Colour::Bar => "36",
        }
    }
}
