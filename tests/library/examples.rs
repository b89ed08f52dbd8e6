//! The examples, run as they are, against a scripted broker or a Mosquitto.

use std::io::{self, Write};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use crate::support::acknowledger::acknowledge;
use crate::support::running::{options, security};
use crate::support::{HANG, Mosquitto, ScriptedBroker};
use mqtt_connection_sharing::options::Options;

#[path = "../../examples/async_tasks.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod async_tasks;
#[path = "../../examples/health.rs"]
#[allow(dead_code, reason = "its main asks the surroundings for the broker")]
mod health;

/// Sends on each line that is written.
struct Lines {
    line: Vec<u8>,
    sender: Sender<String>,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            match byte {
                b'\n' => {
                    let line = std::mem::take(&mut self.line);
                    let _ = self
                        .sender
                        .send(String::from_utf8_lossy(&line).into_owned());
                }
                other => self.line.push(*other),
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn health_prints_its_lines_and_the_events_between_them() {
    const LINES: u32 = 4;
    let mut broker = ScriptedBroker::bind();
    let options = options(&broker);
    let (sender, lines) = channel();
    let out = Lines {
        line: Vec::new(),
        sender,
    };
    let interval = Duration::from_millis(200);
    let running = thread::spawn(move || health::run(options, interval, LINES, out));
    // The first link is lost after a message.
    let (mut link, _) = broker.accept_client(false);
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    link.close();
    let (mut link, _) = broker.accept_client(true);
    let server = acknowledge(&mut link);
    let mut health = Vec::new();
    let mut events = Vec::new();
    while let Ok(line) = lines.recv_timeout(HANG) {
        match line.strip_prefix("    ") {
            Some(event) => events.push(event.to_owned()),
            None => health.push(line),
        }
    }
    running.join().expect("no panic").expect("a good end");
    drop(link);
    server.join().expect("no panic in the server");
    assert_eq!(health.len(), LINES as usize, "{health:?}");
    let last = &health[health.len() - 1];
    assert!(last.starts_with("online, 127.0.0.1:"), "{last}");
    assert!(
        last.contains(" acknowledged, p99 ") && last.contains(" in flight"),
        "{last}"
    );
    let has = |text: &str| events.iter().any(|event| event.contains(text));
    assert!(
        has("connected, session new") && has("connected, session resumed"),
        "{events:?}"
    );
    assert!(has("the broker closed the connection"), "{events:?}");
    assert!(has("attempt 1 begins"), "{events:?}");
}

#[test]
fn async_tasks_publish_and_receive() {
    let broker = Mosquitto::start();
    let mut options = Options::new("localhost", "async-tasks");
    options.port = broker.port();
    options.security = security(broker.certs());
    let executor = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let run = async { tokio::time::timeout(HANG, async_tasks::run(options)).await };
    let result = executor.unwrap().block_on(run);
    result.expect("an end in time").expect("no error");
}
