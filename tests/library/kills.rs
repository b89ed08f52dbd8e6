//! A program that acknowledges by hand is killed in the middle of its work, again and again: no message that was not done
//! is lost. The example `by_hand` as a process of its own, against a Mosquitto over mutual TLS. With MQTT 5 that cannot be:
//! a process has no state of an earlier one, and begins a new session [MQTT-3.2.2-4].
//!
//! The long form: `KILLS=200 cargo test --test library kills -- --nocapture`

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::examples::build;
use crate::support::running::{security, told};
use crate::support::{HANG, Mosquitto, Random, wait_for, wait_until};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Client, Publish, QoS};
use rumqttc::mqttbytes::{self, v4};

/// Kills of the short form.
const SHORT: usize = 20;

/// Jobs that are published and not done, at least when a program starts.
const AHEAD: usize = 40;

/// The program has its job 3 fail once, which holds back the acknowledgments behind it. Here that would be at each start.
const FIRST: usize = 4;

const SEED: u64 = 5;

/// The lines that all programs have written: into a file, so that they survive a kill.
struct Work {
    file: File,
    unread: String,
    /// How many times each job was done.
    done: BTreeMap<usize, usize>,
    /// Jobs that are begun and neither done nor failed, of the program that runs.
    in_work: i64,
    begun: usize,
}

impl Work {
    /// Reads the lines that are new.
    fn read(&mut self) {
        self.file.read_to_string(&mut self.unread).expect("lines");
        while let Some((line, rest)) = self.unread.split_once('\n') {
            let mut words = line.split(' ').skip(1);
            let job = words.next().and_then(|job| job.parse().ok());
            let job = job.unwrap_or_else(|| panic!("{line:?}"));
            match words.next() {
                Some("begun") => {
                    self.begun += 1;
                    self.in_work += 1;
                }
                Some("failed") => self.in_work -= 1,
                Some("done") => {
                    self.in_work -= 1;
                    *self.done.entry(job).or_default() += 1;
                }
                _ => panic!("{line:?}"),
            }
            self.unread = rest.to_owned();
        }
    }
}

/// Ends with the test, also when that panics.
struct Worker(Child);

impl Worker {
    fn start(program: &Path, broker: &Mosquitto, out: &Path) -> Worker {
        let client = broker.certs().client();
        let out = File::options().append(true).open(out).expect("the file");
        let child = Command::new(program)
            .env("MQTT_ENDPOINT", format!("localhost:{}", broker.port()))
            .env("MQTT_CA_FILE", broker.certs().ca())
            .env("MQTT_CERT", &client.cert)
            .env("MQTT_KEY", &client.key)
            .env("JOBS", "0")
            .stdout(out)
            .stdin(Stdio::null())
            .spawn();
        Worker(child.expect("a program"))
    }
}

impl Drop for Worker {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_program_that_is_killed_in_mid_work_loses_no_message_that_was_not_done() {
    let kills = std::env::var("KILLS").map_or(SHORT, |text| text.parse().expect("a number"));
    let program = build("by_hand");
    let broker = Mosquitto::start_stock();
    // The session is there before the first job.
    let mut client = broker.client("by-hand", false);
    let subscribe = v4::Subscribe::new("jobs", mqttbytes::QoS::AtLeastOnce);
    client.send_packet(v4::Packet::Subscribe(v4::Subscribe {
        pkid: 1,
        ..subscribe
    }));
    client.expect_suback();
    client.send_packet(v4::Packet::Disconnect);
    client.expect_closed();

    let mut options = Options::new("localhost", "publisher");
    options.port = broker.port();
    options.security = security(broker.certs());
    let (agent, handle) = Client::new(options).expect("valid options").open();
    let publishing = thread::spawn(move || agent.run());
    let mut published = 0;
    let mut publish_up_to = |last: usize| {
        while published < last {
            let job = (FIRST + published).to_string();
            published += 1;
            let job = Publish::new("jobs", QoS::AtLeastOnce, job);
            assert!(told(handle.publish(job).expect("room")).is_delivered());
        }
        published
    };

    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("work");
    let mut work = Work {
        file: File::create_new(&out)
            .and_then(|_| File::open(&out))
            .expect("a file"),
        unread: String::new(),
        done: BTreeMap::new(),
        in_work: 0,
        begun: 0,
    };
    let mut random = Random::new(SEED);
    let mut in_mid_work = 0;
    for _ in 0..kills {
        publish_up_to(work.done.len() + AHEAD);
        let kill_at = work.begun + usize::try_from(random.within(&(1..12))).expect("few");
        let worker = Worker::start(&program, &broker, &out);
        wait_until("a job to be begun", || {
            work.read();
            work.begun >= kill_at
        });
        drop(worker);
        work.read();
        assert_eq!(work.unread, "", "a line is written whole");
        in_mid_work += usize::from(work.in_work > 0);
        work.in_work = 0;
    }
    let published = publish_up_to(work.done.len() + AHEAD);
    let worker = Worker::start(&program, &broker, &out);
    wait_for("all jobs to be done", 2 * HANG, || {
        work.read();
        (work.done.len() >= published).then_some(())
    });
    drop((worker, handle));
    assert!(publishing.join().expect("no panic").result.is_ok());
    let again = work.done.values().filter(|times| **times > 1).count();
    println!(
        "seed {SEED}: {kills} kills, {in_mid_work} in mid-work; {published} jobs, {again} of them done more than once"
    );
    assert!(work.done.keys().copied().eq(FIRST..FIRST + published));
    assert!(in_mid_work > kills / 2, "{in_mid_work} of {kills}");
    // Only what a kill has interrupted is done again.
    assert!(again < published, "{again} of {published}");
}
