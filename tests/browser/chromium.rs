//! A headless Chromium, driven over its DevTools protocol: it opens files, has real mouse and keys, and tells what its
//! console says.
//!
//! The protocol runs over two pipes (`--remote-debugging-pipe`): JSON with a zero byte behind each message. Chromium has
//! them as its files 3 and 4; a shell makes these of its standard input and output.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A command that is not answered for so long has failed. Generous: a loaded machine paints slowly.
const HANG: Duration = Duration::from_secs(120);

/// Starts Chromium with its pipes in place. Its own messages go to the file $1.
const START: &str = "exec chromium --headless --no-sandbox --disable-gpu --remote-debugging-pipe \
                     --hide-scrollbars --no-first-run --user-data-dir=\"$0\" about:blank \
                     3<&0 4>&1 </dev/null >\"$1\" 2>&1";

pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    next: u64,
    session: String,
    /// Errors and warnings of the console, and uncaught exceptions, since the last page was opened.
    complaints: Vec<String>,
    is_loaded: bool,
    folder: TempDir,
}

impl Browser {
    /// Starts it, with one empty page of this size.
    ///
    /// # Panics
    /// When there is none: `apt-get install chromium`.
    pub fn start(width: u32, height: u32) -> Browser {
        let folder = tempfile::tempdir().expect("a folder");
        let mut child = Command::new("sh")
            .args(["-c", START])
            .arg(folder.path().join("profile"))
            .arg(folder.path().join("log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let to = child.stdin.take().expect("its input");
        let mut output = BufReader::new(child.stdout.take().expect("its output"));
        let (sender, from) = channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            // It ends with the browser.
            while output.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
                bytes.pop();
                let message = serde_json::from_slice(&bytes).expect("JSON");
                if sender.send(message).is_err() {
                    return;
                }
                bytes.clear();
            }
        });
        let mut browser = Browser {
            child,
            to,
            from,
            next: 0,
            session: String::new(),
            complaints: Vec::new(),
            is_loaded: false,
            folder,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"]
            .as_str()
            .expect("a session")
            .to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({}));
        }
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        browser.call("Emulation.setDeviceMetricsOverride", metrics);
        browser
    }

    /// Opens a file, and returns once it is loaded and has drawn. Returns how long that took.
    pub fn open(&mut self, file: &Path) -> Duration {
        self.complaints.clear();
        self.is_loaded = false;
        let begin = Instant::now();
        let answer = self.call(
            "Page.navigate",
            json!({ "url": format!("file://{}", file.display()) }),
        );
        assert!(
            answer.get("errorText").is_none(),
            "{}: {answer}",
            file.display()
        );
        while !self.is_loaded {
            let message = self.receive("the page to be loaded");
            self.note(&message);
        }
        self.settle();
        begin.elapsed()
    }

    /// Waits until the page has painted what it was asked to.
    pub fn settle(&mut self) {
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))");
    }

    /// The value of an expression in the page, once it is there.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let call = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", call);
        let thrown = answer.get("exceptionDetails");
        assert!(thrown.is_none(), "{expression}: {thrown:?}");
        answer["result"]["value"].clone()
    }

    #[track_caller]
    pub fn number(&mut self, expression: &str) -> f64 {
        let value = self.evaluate(expression);
        value
            .as_f64()
            .unwrap_or_else(|| panic!("{expression} is {value}"))
    }

    #[track_caller]
    pub fn text(&mut self, expression: &str) -> String {
        let value = self.evaluate(expression);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{expression} is {value}"))
            .to_owned()
    }

    pub fn move_to(&mut self, x: f64, y: f64) {
        self.mouse("mouseMoved", x, y, json!({}));
    }

    pub fn press(&mut self, x: f64, y: f64) {
        self.mouse(
            "mousePressed",
            x,
            y,
            json!({ "button": "left", "clickCount": 1 }),
        );
    }

    /// Presses the right button, whose end a menu takes.
    pub fn press_right(&mut self, x: f64, y: f64) {
        self.mouse(
            "mousePressed",
            x,
            y,
            json!({ "button": "right", "clickCount": 1 }),
        );
    }

    pub fn drag_to(&mut self, x: f64, y: f64) {
        self.mouse(
            "mouseMoved",
            x,
            y,
            json!({ "button": "left", "buttons": 1 }),
        );
    }

    pub fn release(&mut self, x: f64, y: f64) {
        self.mouse(
            "mouseReleased",
            x,
            y,
            json!({ "button": "left", "clickCount": 1 }),
        );
    }

    pub fn click(&mut self, x: f64, y: f64) {
        self.press(x, y);
        self.release(x, y);
        self.settle();
    }

    pub fn wheel(&mut self, x: f64, y: f64, by: f64) {
        self.mouse("mouseWheel", x, y, json!({ "deltaX": 0, "deltaY": by }));
        self.settle();
    }

    fn mouse(&mut self, kind: &str, x: f64, y: f64, mut event: Value) {
        event["type"] = kind.into();
        event["x"] = x.into();
        event["y"] = y.into();
        self.call("Input.dispatchMouseEvent", event);
    }

    /// Presses a key. `text` is what it writes, if anything.
    pub fn key(&mut self, key: &str, text: &str) {
        let mut down = json!({ "type": "keyDown", "key": key });
        if !text.is_empty() {
            down["text"] = text.into();
        }
        if key == "Enter" {
            down["windowsVirtualKeyCode"] = 13.into();
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": "keyUp", "key": key }),
        );
        self.settle();
    }

    /// Types into what has the focus.
    pub fn type_text(&mut self, text: &str) {
        for c in text.chars() {
            self.key(&c.to_string(), &c.to_string());
        }
    }

    /// Light or dark.
    pub fn set_scheme(&mut self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features);
        self.settle();
    }

    /// Writes what the page shows as a PNG.
    pub fn screenshot(&mut self, file: &Path) {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        fs::write(file, decoded(shot["data"].as_str().expect("base64"))).expect("a file");
    }

    /// The bytes of the page as it is printed.
    pub fn print(&mut self) -> Vec<u8> {
        let pdf = self.call(
            "Page.printToPDF",
            json!({ "printBackground": true, "landscape": true }),
        );
        decoded(pdf["data"].as_str().expect("base64"))
    }

    /// Errors and warnings of the console since the last page was opened.
    pub fn complaints(&self) -> &[String] {
        &self.complaints
    }

    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let mut message = json!({ "id": self.next, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let sent = writeln_zero(&mut self.to, &message);
        sent.unwrap_or_else(|error| panic!("{method}: {error}: {}", self.log()));
        loop {
            let answer = self.receive(method);
            if answer["id"] == self.next {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    #[track_caller]
    fn receive(&mut self, awaited: &str) -> Value {
        match self.from.recv_timeout(HANG) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => panic!("waited {HANG:?} in vain for {awaited}"),
            Err(RecvTimeoutError::Disconnected) => {
                panic!(
                    "chromium has ended (apt-get install chromium?): {}",
                    self.log()
                )
            }
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Page.loadEventFired") => self.is_loaded = true,
            Some("Runtime.exceptionThrown") => self.complaints.push(params.to_string()),
            Some("Runtime.consoleAPICalled")
                if params["type"] == "error" || params["type"] == "warning" =>
            {
                self.complaints.push(params.to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] != "verbose" => {
                self.complaints.push(params["entry"].to_string());
            }
            _ => {}
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn writeln_zero(to: &mut ChildStdin, message: &Value) -> std::io::Result<()> {
    to.write_all(message.to_string().as_bytes())?;
    to.write_all(&[0])?;
    to.flush()
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Chromium ends its own processes when it is asked; the kill is for one that does not answer.
        let _ = writeln_zero(&mut self.to, &json!({ "id": 0, "method": "Browser.close" }));
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bytes of a text in base64.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for sign in text.bytes().filter(|sign| *sign != b'=') {
        let value = match sign {
            b'A'..=b'Z' => sign - b'A',
            b'a'..=b'z' => sign - b'a' + 26,
            b'0'..=b'9' => sign - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
