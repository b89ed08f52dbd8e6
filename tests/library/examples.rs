//! The examples, run as they are, against a scripted broker or a Mosquitto.

use std::io::{self, Write};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use crate::support::acknowledger::acknowledge;
use crate::support::running::{options, security};
use crate::support::{HANG, Mosquitto, ScriptedBroker};
use mqtt_connection_sharing::options::Options;
use rumqttc::mqttbytes::v4;

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
    const WITHOUT_END: u32 = u32::MAX;
    let mut broker = ScriptedBroker::bind();
    let options = options(&broker);
    let (sender, lines) = channel();
    let out = Lines {
        line: Vec::new(),
        sender,
    };
    let interval = Duration::from_millis(50);
    let running = thread::spawn(move || health::run(options, interval, WITHOUT_END, out));
    // Lines until this one has come.
    let mut all = Vec::new();
    let read_until = |all: &mut Vec<String>, is_it: fn(&str) -> bool| {
        loop {
            let line = lines.recv_timeout(HANG).expect("a line");
            all.push(line);
            if all.last().is_some_and(|line| is_it(line)) {
                return;
            }
        }
    };
    // The first link is lost after a message.
    let (mut link, _) = broker.accept_client(false);
    let id = link.expect_publish().pkid;
    link.send_puback(id);
    link.close();
    let (mut link, _) = broker.accept_client(true);
    let server = acknowledge(&mut link);
    read_until(&mut all, |line| line.ends_with("session resumed"));
    read_until(&mut all, |line| {
        line.starts_with("online, 127.0.0.1:")
            && line.contains(" acknowledged, p99 ")
            && line.ends_with(" in flight")
            && !line.contains(" 0 acknowledged")
    });
    // A refusal is the end.
    link.close();
    server.join().expect("no panic in the server");
    let mut link = broker.accept();
    link.expect_connect();
    link.send_connack(v4::ConnectReturnCode::NotAuthorized, false);
    read_until(&mut all, |line| line.contains("the loop has ended: "));
    let error = running.join().expect("no panic").expect_err("a refusal");
    assert!(
        all.last()
            .is_some_and(|line| line.ends_with(&error.to_string()))
    );
    let has = |text: &str| {
        all.iter()
            .any(|line| line.starts_with("    ") && line.contains(text))
    };
    assert!(
        has("attempt 1 begins") && has("connected, session new"),
        "{all:?}"
    );
    assert!(has("the broker closed the connection"), "{all:?}");
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
