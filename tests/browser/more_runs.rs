//! Runs that are not as smooth: with pauses, with an outage, without a broker, with QoS 0 and without TLS, and with more
//! threads than paper has room for.

use std::net::TcpListener;

use serde_json::json;

use crate::chromium::Browser;
use crate::support::{ClosedPort, Mosquitto, Program, Proxy, Running};
use crate::{
    Drawn, HEIGHT, WIDTH, draw, draw_run, expect_bounded, expect_silent, folder, is_drawn, lives,
};

/// Screenshots of page and SVG, light and dark, below this name. The page stays open.
fn photograph(browser: &mut Browser, drawn: &Drawn, name: &str) {
    let at = |what: &str| folder().join(format!("{name}-{what}.png"));
    browser.open(&drawn.svg);
    browser.screenshot(&at("svg-light"));
    browser.set_scheme("dark");
    browser.screenshot(&at("svg-dark"));
    browser.open(&drawn.page);
    browser.screenshot(&at("dark"));
    browser.set_scheme("light");
    browser.screenshot(&at("light"));
    expect_silent(browser);
    assert!(is_drawn(browser));
}

fn legend(browser: &mut Browser) -> String {
    browser.text("document.getElementById('legend').textContent")
}

fn facts(browser: &mut Browser) -> String {
    browser.text("document.getElementById('facts').textContent")
}

#[test]
fn pauses_are_strips_and_thousands_of_them_cost_a_frame_no_more() {
    let broker = Mosquitto::start();
    let pauses = ["--iteration-delay", "300ms", "--publish-delay", "0"];
    let drawn = draw("iterations", &broker, &pauses);
    let mut browser = Browser::start(WIDTH, HEIGHT);
    photograph(&mut browser, &drawn, "iterations");
    let runs = drawn.report["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 3);
    let published = runs
        .iter()
        .map(|run| run["published"].as_f64().expect("a number"));
    assert_eq!(lives(&mut browser, "PUBLISH"), published.sum::<f64>());
    let told = facts(&mut browser);
    assert!(
        told.contains("3 iterations") && told.contains("sync-publisher: "),
        "{told}"
    );
    let long = "picture.data.pauses.filter(([from, to, lasted]) => to - from <= lasted).length";
    assert_eq!(browser.number(long), 2.0);
    expect_bounded(&mut browser);

    // Thousands: what is drawn, looked at and made is counted.
    browser.evaluate(
        "(() => {
           const { pauses, span } = picture.data;
           const step = Math.floor(span / 5000), shown = Math.floor(step / 2), lasted = 1e9;
           pauses.length = 0;
           for (let i = 0; i < 5000; i++) {
             pauses.push([i * step, i * step + shown, lasted, i * step + i * (lasted - shown)]);
           }
           window.made = 0;
           for (const [owner, name] of [[CanvasRenderingContext2D.prototype, 'createPattern'], [document, 'createElement']]) {
             const own = owner[name];
             owner[name] = function (...given) { window.made++; return own.apply(this, given); };
           }
           const text = CanvasRenderingContext2D.prototype.measureText;
           CanvasRenderingContext2D.prototype.measureText = function (given) { window.measured++; return text.call(this, given); };
           window.measured = 0;
         })()",
    );
    let whole = browser.number("picture.frame.drawn");
    browser.key("0", "0");
    browser.settle();
    // None of them has a pixel.
    assert!(expect_bounded(&mut browser) <= whole);
    let middle = f64::from(WIDTH) / 2.0;
    for _ in 0..8 {
        browser.wheel(middle, f64::from(HEIGHT) * 0.6, -300.0);
        browser.evaluate("window.measured = 0");
        browser.key("ArrowRight", "");
        expect_bounded(&mut browser);
        let measured = browser.number("window.measured");
        let most = browser.number("picture.frame.drawn") * 8.0;
        assert!(
            measured <= most,
            "{measured} texts measured, at most {most}"
        );
    }
    let shown = "picture.data.pauses.filter(([from, to]) => to > picture.view().from && from < picture.view().to).length";
    let shown = browser.number(shown);
    assert!((1.0..5000.0).contains(&shown), "{shown} of them");
    browser.screenshot(&folder().join("thousands-of-pauses.png"));
    assert_eq!(browser.number("window.made"), 0.0, "in a frame");
    expect_silent(&browser);
}

#[test]
fn an_outage_shows_who_waited_for_what_and_why_attempts_failed() {
    let broker = Mosquitto::start_fast();
    let proxy = Proxy::start(broker.port()).expect("a proxy");
    let program = Program::new()
        .args(broker.arguments_through(&proxy.address().to_string()))
        .args([
            "--iterations",
            "1",
            "--publish-count",
            "60",
            "--publish-delay",
            "30ms",
        ])
        .args([
            "--command-queue",
            "4",
            "--retry-base",
            "100ms",
            "--retry-max",
            "300ms",
            "-v",
        ]);
    let drawn = draw_run("outage", program, |mut running: Running| {
        running.wait_for_line("received filter/sync/8");
        proxy.refuse().expect("it refuses");
        proxy.cut_all().expect("it cuts");
        for _ in 0..4 {
            running.wait_for_line("nothing listens");
        }
        proxy.listen().expect("it listens");
        running.finish()
    })
    .expecting(0);
    let mut browser = Browser::start(WIDTH, HEIGHT);
    photograph(&mut browser, &drawn, "outage");
    let run = &drawn.report["runs"][0];
    assert_eq!(
        lives(&mut browser, "PUBLISH"),
        run["published"].as_f64().expect("a number")
    );
    let told = facts(&mut browser);
    assert!(
        told.contains("attempts to connect failed, the last one: nothing listens"),
        "{told}"
    );
    let words = legend(&mut browser);
    for word in [
        "attempt failed",
        "connection lost",
        "thread waits for room in the queue",
        "TLS record",
    ] {
        assert!(words.contains(word), "{word}: {words}");
    }
    // The pointer at a failed attempt says why.
    let place = browser.evaluate(
        "(() => {
           const lane = picture.lanes.find(lane => lane.kind === 'link');
           const failed = picture.data.signs.findIndex(sign => sign.words === 'attempt failed');
           const box = document.getElementById('canvas').getBoundingClientRect();
           const at = lane.moments.at[lane.moments.sign.indexOf(failed)];
           return [box.left + picture.xOf(at), box.top + picture.AXIS + lane.y + picture.PAD + 1.4 * picture.row()];
         })()",
    );
    browser.move_to(place[0].as_f64().expect("x"), place[1].as_f64().expect("y"));
    let tip = browser.text("document.getElementById('tip').textContent");
    assert!(
        tip.contains("failed: nothing listens on that port"),
        "{tip}"
    );
    expect_bounded(&mut browser);
}

#[test]
fn a_run_that_never_connected_shows_its_attempts() {
    let port = ClosedPort::hold();
    let program = Program::new().args(["--endpoint", &port.endpoint()]).args([
        "--retry-attempts",
        "4",
        "--retry-base",
        "30ms",
        "--retry-max",
        "60ms",
    ]);
    let drawn = draw_run("no-broker", program, Running::finish).expecting(3);
    let mut browser = Browser::start(WIDTH, HEIGHT);
    photograph(&mut browser, &drawn, "no-broker");
    let told = facts(&mut browser);
    let failed = "5 attempts to connect failed, the last one: nothing listens on that port";
    assert!(
        told.contains(failed) && told.contains("no connection was made"),
        "{told}"
    );
    assert!(legend(&mut browser).contains("attempt failed"));
}

#[test]
fn qos_0_without_tls_and_more_threads_than_paper_has_room_for() {
    let mut broker = Mosquitto::start_fast();
    // Of the system, and free again.
    let port = {
        let held = TcpListener::bind("127.0.0.1:0").expect("a port");
        held.local_addr().expect("its number").port()
    };
    broker.restart_with(&format!("listener {port} 127.0.0.1"));
    let endpoint = format!("mqtt://127.0.0.1:{port}");
    let program = || Program::new().args(["--endpoint", &endpoint, "--qos", "0"]);
    let demo = program().args(["--iterations", "1", "--publish-delay", "20ms"]);
    let drawn = draw_run("qos-0", demo, Running::finish).expecting(0);
    let mut browser = Browser::start(WIDTH, HEIGHT);
    photograph(&mut browser, &drawn, "qos-0");
    let run = &drawn.report["runs"][0];
    for (what, field) in [("PUBLISH", "published"), ("message", "received")] {
        assert_eq!(
            lives(&mut browser, what),
            run[field].as_f64().expect("a number")
        );
    }
    let words = legend(&mut browser);
    assert!(
        words.contains("write or read") && !words.contains("TLS"),
        "{words}"
    );
    let names = browser.evaluate("picture.lanes.map(lane => lane.name).slice(-3, -1)");
    assert_eq!(names, json!(["writes", "reads"]));

    let bench = Program::new()
        .arg("bench")
        .args(["--endpoint", &endpoint, "--qos", "0"]);
    let bench = bench.args(["--threads", "200", "--messages", "2000"]);
    let drawn = draw_run("many-threads", bench, Running::finish).expecting(0);
    photograph(&mut browser, &drawn, "many-threads");
    expect_bounded(&mut browser);
    let cut = "picture.frame.cut";
    assert_eq!(browser.number(cut), 0.0, "a window scrolls");
    browser.evaluate("dispatchEvent(new Event('beforeprint'))");
    let missing = browser.number(cut);
    assert!(missing > 10.0, "{missing} lanes are not on paper");
    browser.screenshot(&folder().join("many-threads-paper.png"));
    browser.evaluate("dispatchEvent(new Event('afterprint'))");
    assert_eq!(browser.number(cut), 0.0);
    expect_silent(&browser);
}
