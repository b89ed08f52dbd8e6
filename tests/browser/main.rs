//! Pictures of real runs in a real browser: a headless Chromium opens page and SVG, and moves mouse and keys.
//!
//! `cargo test --test browser -- --nocapture`. It needs Mosquitto and Chromium, so only `scripts/test.sh --all` runs it.
//! Screenshots are below `target/tmp/picture/`, for eyes. Times are printed and not judged: they are the machine's.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod chromium;
mod more_runs;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chromium::Browser;
use serde_json::Value;
use support::{Finished, Mosquitto, Program, Running};

const WIDTH: u32 = 1280;
const HEIGHT: u32 = 860;

/// Where pictures and screenshots go.
fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("picture");
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// The files of one run: page, SVG, trace.
struct Drawn {
    page: PathBuf,
    svg: PathBuf,
    trace: PathBuf,
    report: Value,
}

/// Runs the program against a broker, and has it draw.
#[track_caller]
fn draw(name: &str, broker: &Mosquitto, arguments: &[&str]) -> Drawn {
    let program = Program::new().args(arguments).args(broker.arguments());
    draw_run(name, program, Running::finish).expecting(0)
}

/// Has the program draw, and `run` runs it. Earlier files of this name are gone.
fn draw_run(name: &str, program: Program, run: impl FnOnce(Running) -> Finished) -> Ended {
    let at = |ending: &str| folder().join(format!("{name}.{ending}"));
    let (page, svg, trace) = (at("html"), at("svg"), at("json"));
    for file in [&page, &svg, &trace] {
        let _ = fs::remove_file(file);
    }
    let running = program
        .args(["--connect-interval", "0", "--output", "json"])
        .arg("--timeline")
        .arg(&page)
        .arg("--timeline")
        .arg(&svg)
        .arg("--trace")
        .arg(&trace)
        .spawn();
    Ended {
        done: run(running),
        page,
        svg,
        trace,
    }
}

/// A run that is over, and its files.
struct Ended {
    done: Finished,
    page: PathBuf,
    svg: PathBuf,
    trace: PathBuf,
}

impl Ended {
    /// It has this exit status, and a report if there is one.
    #[track_caller]
    fn expecting(self, code: i32) -> Drawn {
        self.done.expect_code(code);
        Drawn {
            page: self.page,
            svg: self.svg,
            trace: self.trace,
            report: serde_json::from_str(&self.done.stdout).unwrap_or(Value::Null),
        }
    }
}

/// Whether something is drawn in the lanes.
fn is_drawn(browser: &mut Browser) -> bool {
    let colours = browser.number(
        "(() => {
           const canvas = document.getElementById('canvas');
           const seen = new Set(canvas.getContext('2d').getImageData(260, 40, canvas.width - 260, 300).data);
           return seen.size;
         })()",
    );
    colours > 10.0
}

/// Lives in the page, by what they are.
fn lives(browser: &mut Browser, what: &str) -> f64 {
    browser.number(&format!(
        "picture.lives.filter(life => life.what === '{what}').length"
    ))
}

/// The middle of a life's longest interval on the screen, after the page has scrolled to it.
fn place_of(browser: &mut Browser, life: u64) -> (f64, f64) {
    let place = browser.evaluate(&format!(
        "(() => {{
           const box = document.getElementById('canvas').getBoundingClientRect();
           for (const lane of picture.lanes) for (const [r, row] of lane.rows.entries()) {{
             const i = row.life.findIndex((own, i) => own === {life} && row.to[i] > row.from[i]);
             if (i < 0 || row.isCrowd) continue;
             const x = (picture.xOf(row.from[i]) + picture.xOf(row.to[i])) / 2;
             const y = picture.AXIS + lane.y - picture.view().top + picture.PAD + (r + 0.4) * picture.row();
             return [box.left + x, box.top + y];
           }}
         }})()"
    ));
    (place[0].as_f64().expect("x"), place[1].as_f64().expect("y"))
}

fn view(browser: &mut Browser) -> (f64, f64) {
    (
        browser.number("picture.view().from"),
        browser.number("picture.view().to"),
    )
}

/// The message with the widest bar: a pointer in the middle of a narrow one may mean its neighbour.
fn widest_publish(browser: &mut Browser) -> u64 {
    let life = browser.number(
        "(() => {
           let widest = -1, most = 0;
           for (const lane of picture.lanes) for (const row of lane.rows) {
             if (!row.isCrowd) row.life.forEach((own, i) => {
               const width = row.to[i] - row.from[i];
               if (picture.lives[own]?.what === 'PUBLISH' && width > most) [widest, most] = [own, width];
             });
           }
           return widest;
         })()",
    );
    assert!(life >= 0.0, "no bar of a message");
    life as u64
}

#[track_caller]
fn expect_silent(browser: &Browser) {
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_page_of_a_demo_shows_what_the_report_says_and_answers_mouse_and_keys() {
    let broker = Mosquitto::start();
    let arguments = ["--iterations", "1", "--publish-delay", "0"];
    let drawn = draw("demo", &broker, &arguments);
    let run = &drawn.report["runs"][0];
    let mut browser = Browser::start(WIDTH, HEIGHT);
    let took = browser.open(&drawn.page);
    println!("the page of a demo: shown after {took:?}");
    expect_silent(&browser);

    assert!(is_drawn(&mut browser));

    // Counts.
    assert_eq!(
        lives(&mut browser, "PUBLISH"),
        run["published"].as_f64().expect("a number")
    );
    assert_eq!(
        lives(&mut browser, "message"),
        run["received"].as_f64().expect("a number")
    );
    let names = browser.evaluate("picture.lanes.map(lane => lane.name)");
    let expected = [
        "async-publisher",
        "subscriber",
        "sync-publisher",
        "command queue",
        "in flight",
        "loop, in main",
        "connection",
        "records out",
        "records in",
        "inbox of subscriber",
    ];
    assert_eq!(names, serde_json::json!(expected));
    let trace: Value =
        serde_json::from_slice(&fs::read(&drawn.trace).expect("a trace")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let begun = events.iter().filter(|event| event["ph"] == "b").count();
    assert_eq!(browser.number("picture.totals().lives"), begun as f64);
    browser.screenshot(&folder().join("demo-light.png"));

    // Keys: the messages, all, in, out, sideways.
    let whole = view(&mut browser);
    browser.key("m", "m");
    let close = view(&mut browser);
    let first = browser.number(
        "Math.min(...picture.lives.filter(life => life.what === 'PUBLISH').map(life => life.from))",
    );
    let last = browser.number(
        "Math.max(...picture.lives.filter(life => life.what === 'PUBLISH').map(life => life.to))",
    );
    assert!(
        close.0 <= first && close.1 >= last,
        "{whole:?}, {close:?}, {first} to {last}"
    );
    browser.screenshot(&folder().join("demo-messages.png"));
    browser.key("ArrowRight", "");
    browser.key("ArrowLeft", "");
    browser.key("+", "+");
    let closer = view(&mut browser);
    assert!(
        closer.1 - closer.0 < close.1 - close.0,
        "{close:?} and {closer:?}"
    );
    browser.key("0", "0");
    assert_eq!(view(&mut browser), whole);

    // Search.
    let life = widest_publish(&mut browser);
    let identifier = browser.number(&format!("picture.lives[{life}].identifier"));
    browser.key("/", "");
    browser.type_text(&identifier.to_string());
    browser.key("Enter", "\r");
    let found = browser.number("picture.lives[picture.chosen()].identifier");
    assert_eq!(found, identifier);
    assert!(
        browser
            .text("document.getElementById('found').textContent")
            .starts_with("1 of ")
    );
    let told = browser.text("document.getElementById('chosen').textContent");
    assert!(told.contains(&format!(" {identifier}, QoS 1")), "{told}");
    browser.screenshot(&folder().join("demo-found.png"));

    // Hover, click, wheel, drag.
    let chosen = browser.number("picture.chosen()") as u64;
    let (x, y) = place_of(&mut browser, chosen);
    browser.move_to(x, y);
    let tip = browser.text(
        "document.getElementById('tip').hidden ? '' : document.getElementById('tip').textContent",
    );
    assert!(tip.contains(&identifier.to_string()), "{tip:?} at {x}, {y}");
    browser.key("Escape", "");
    browser.evaluate("document.activeElement.blur()");
    browser.key("Escape", "");
    assert_eq!(browser.number("picture.chosen()"), -1.0);
    browser.click(x, y);
    assert_eq!(browser.number("picture.chosen()") as u64, chosen);
    let before = view(&mut browser);
    browser.wheel(x, y, -400.0);
    let after = view(&mut browser);
    assert!(
        after.1 - after.0 < before.1 - before.0,
        "{before:?} and {after:?}"
    );
    browser.press(x, y);
    browser.drag_to(x + 60.0, y);
    browser.release(x + 60.0, y);
    browser.settle();
    let dragged = view(&mut browser);
    assert!(dragged.0 < after.0, "{after:?} and {dragged:?}");
    // Another button drags nothing: a menu takes its end.
    browser.press_right(x, y);
    browser.move_to(x + 90.0, y);
    browser.settle();
    assert_eq!(view(&mut browser), dragged);
    // With nothing to search the mark stays.
    browser.evaluate("document.getElementById('identifier').value = ''");
    browser.key("n", "n");
    assert_eq!(browser.number("picture.chosen()") as u64, chosen);

    // Dark, and paper.
    let background = "getComputedStyle(document.body).backgroundColor";
    let light = browser.text(background);
    browser.set_scheme("dark");
    assert_ne!(browser.text(background), light);
    browser.key("m", "m");
    browser.screenshot(&folder().join("demo-dark.png"));
    browser.set_scheme("light");
    let paper = browser.print();
    assert!(paper.starts_with(b"%PDF"));
    fs::write(folder().join("demo.pdf"), paper).expect("a file");
    expect_silent(&browser);

    // The SVG.
    browser.open(&drawn.svg);
    expect_silent(&browser);
    let lanes = browser.number("document.querySelectorAll('g.lane').length");
    assert_eq!(lanes % expected.len() as f64, 0.0, "{lanes} lanes");
    browser.screenshot(&folder().join("demo-svg-light.png"));
    let text = "getComputedStyle(document.querySelector('text')).fill";
    let light = browser.text(text);
    browser.set_scheme("dark");
    assert_ne!(browser.text(text), light);
    browser.screenshot(&folder().join("demo-svg-dark.png"));
    expect_silent(&browser);
}

/// Draws again, and checks that it was bounded by pixels and lanes. Returns what was drawn.
#[track_caller]
fn expect_bounded(browser: &mut Browser) -> f64 {
    browser.settle();
    let drawn = browser.number("picture.frame.drawn");
    let looked = browser.number("picture.frame.looked");
    let (rows, columns) = (
        browser.number("picture.frame.rows"),
        browser.number("picture.frame.columns"),
    );
    let lanes = browser.number("picture.lanes.length");
    // A column of a row has a box for each of four things, each perhaps with a text; some lines belong to no row.
    let most = columns * rows * 5.0 + 20.0 * lanes + 200.0;
    assert!(
        drawn <= most,
        "{drawn} drawn, at most {most} for {rows} rows and {columns} columns"
    );
    assert!(looked <= most, "{looked} looked at, at most {most}");
    drawn
}

#[test]
fn a_hundred_thousand_messages_stay_quick_to_look_at() {
    let broker = Mosquitto::start_fast();
    let drawn = draw(
        "bench",
        &broker,
        &["bench", "--messages", "100000", "--receive"],
    );
    let bytes = fs::metadata(&drawn.page).expect("the page").len();
    assert!(bytes <= 20_000_000, "{bytes} bytes");
    let mut browser = Browser::start(WIDTH, HEIGHT);
    let took = browser.open(&drawn.page);
    let painted = browser.number("picture.frame.ms");
    println!(
        "100,000 messages, {bytes} bytes: shown after {took:?}, of which the first frame took {painted:.1} ms"
    );
    expect_silent(&browser);
    assert_eq!(
        lives(&mut browser, "message"),
        drawn.report["received"].as_f64().expect("a number")
    );
    assert_eq!(
        lives(&mut browser, "PUBLISH"),
        drawn.report["published"].as_f64().expect("a number")
    );
    assert!(is_drawn(&mut browser));
    browser.screenshot(&folder().join("bench-light.png"));

    let middle = f64::from(WIDTH) / 2.0;
    let y = f64::from(HEIGHT) * 0.6;
    let mut most = expect_bounded(&mut browser);
    for _ in 0..12 {
        browser.wheel(middle, y, -500.0);
        most = most.max(expect_bounded(&mut browser));
    }
    browser.screenshot(&folder().join("bench-close.png"));
    // One of the crowd, for which there is no row of its own, is found and marked as well.
    let hidden = browser.number(
        "(() => {
           const crowd = picture.lanes.find(lane => lane.kind === 'thread' && lane.crowd).rows.at(-1);
           return picture.lives[crowd.life[crowd.life.length >> 1]].identifier;
         })()",
    );
    browser.key("/", "");
    browser.type_text(&hidden.to_string());
    browser.key("Enter", "\r");
    let chosen = browser.number("picture.lives[picture.chosen()].identifier");
    assert_eq!(chosen, hidden);
    expect_bounded(&mut browser);
    browser.screenshot(&folder().join("bench-found.png"));
    browser.evaluate("document.activeElement.blur()");
    browser.key("0", "0");
    browser.wheel(middle, y, -300.0);
    // Frames while the mouse drags.
    browser.press(middle, y);
    let begin = Instant::now();
    let (mut slowest, mut sum) = (0.0_f64, 0.0);
    let first = browser.number("picture.frame.number");
    for step in 0..40 {
        browser.drag_to(middle - 8.0 * f64::from(step), y);
        browser.settle();
        let ms = browser.number("picture.frame.ms");
        slowest = slowest.max(ms);
        sum += ms;
        most = most.max(expect_bounded(&mut browser));
    }
    browser.release(middle - 320.0, y);
    let frames = browser.number("picture.frame.number") - first;
    assert!(frames >= 30.0, "{frames} frames");
    let took: Duration = begin.elapsed();
    println!(
        "panning: {frames} frames in {took:?}, {:.1} ms each on average, the slowest {slowest:.1} ms; at most {most} boxes",
        sum / 40.0
    );
    expect_silent(&browser);

    let took = browser.open(&drawn.svg);
    println!(
        "the SVG: {} bytes, shown after {took:?}",
        fs::metadata(&drawn.svg).expect("it").len()
    );
    expect_silent(&browser);
    browser.screenshot(&folder().join("bench-svg.png"));
}
