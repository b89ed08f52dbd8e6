//! The wake-ups of threads: how many messages share one, and that none comes without a reason.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::mpsc;
use std::time::Duration;
use std::{fs, thread};

use bytes::BytesMut;
use mqtt_connection_sharing::{Handle, WhenFull};
use rumqttc::mqttbytes::v4;

use crate::support::acknowledger::acknowledge;
use crate::support::running::{LOOP_THREAD, Running, message, options};
use crate::support::{HANG, ScriptedBroker, wait_for};
use crate::{COUNTED, WARM_UP, alone, online, publish_all};

/// The system's account of one thread: how often it gave up its processor because it had nothing to do,
/// and how often the system took the processor away.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Switches {
    name: String,
    voluntary: u64,
    involuntary: u64,
}

/// The accounts of all threads of this process except the calling one.
fn switches() -> BTreeMap<u32, Switches> {
    let own = fs::read_link("/proc/thread-self").expect("this thread");
    let mut threads = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/task").expect("the threads") {
        let folder = entry.expect("a thread").path();
        // The thread may have ended meanwhile.
        let (Ok(name), Ok(status)) = (
            fs::read_to_string(folder.join("comm")),
            fs::read_to_string(folder.join("status")),
        ) else {
            continue;
        };
        if folder.file_name() == own.file_name() {
            continue;
        }
        let id = folder.file_name().and_then(|id| id.to_str()?.parse().ok());
        let field = |field: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            line.and_then(|rest| rest.trim().parse().ok())
                .expect("a count of switches")
        };
        let switches = Switches {
            name: name.trim().to_owned(),
            voluntary: field("voluntary_ctxt_switches:"),
            involuntary: field("nonvoluntary_ctxt_switches:"),
        };
        threads.insert(id.expect("a number"), switches);
    }
    threads
}

/// How often the loop's thread and the readiness thread were woken so far.
fn wake_ups() -> u64 {
    wake_ups_of(LOOP_THREAD) + wake_ups_of("readiness")
}

/// How often the threads with this name were woken so far.
fn wake_ups_of(name: &str) -> u64 {
    let threads = switches();
    let of_name = threads.values().filter(|thread| thread.name == name);
    of_name.map(|thread| thread.voluntary).sum()
}

#[test]
fn many_messages_share_one_wake_up() {
    /// In practice a thousandth. With one message in flight at a time it would be a third, because the
    /// loop is awake for some messages by chance.
    const WAKE_UPS: f64 = 0.1;
    let _alone = alone();
    let (running, mut link) = online();
    let server = acknowledge(&mut link);
    let handle = running.handle();
    let ignore = |handle: &Handle, publish| drop(handle.publish(publish).expect("room"));
    publish_all(handle, WARM_UP, ignore);
    let before = wake_ups();
    assert!(before > 0, "it slept before CONNACK came, and was not seen");
    publish_all(handle, COUNTED, ignore);
    let woken = (wake_ups() - before) as f64 / COUNTED as f64;
    println!("{woken:.4} wake-ups a message");
    assert!(woken <= WAKE_UPS, "{woken} wake-ups a message");
    running.drop_all_and_join();
    drop(link);
    server.join().expect("no panic in the server");
}

/// The loop reads and hands out many messages at a time. A thread that is woken for the first finds the others.
#[test]
fn many_received_messages_share_one_wake_up() {
    const IN_FLIGHT: u16 = 500;
    /// In practice four thousandths. With a wake-up for each message it would be one, of the receiving thread alone.
    const WAKE_UPS: f64 = 0.1;
    let _alone = alone();
    let (running, mut link) = online();
    let inbox = running
        .handle()
        .inbox(usize::from(IN_FLIGHT), WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "costs/message");
    let mut messages = BytesMut::new();
    for id in 1..=IN_FLIGHT {
        let message = message("costs/message", id, "a payload that is not empty");
        message.write(&mut messages, usize::MAX).expect("a packet");
    }
    let mut stream = link.stream().try_clone().expect("a second end");
    let server = acknowledge(&mut link);
    let (all_came, have_come) = mpsc::channel();
    let receiving = thread::Builder::new().name("receiving".to_owned());
    let receiving = receiving.spawn(move || {
        for number in 1.. {
            if inbox.recv().is_err() {
                return;
            }
            if number % u64::from(IN_FLIGHT) == 0 {
                all_came.send(()).expect("the test to wait");
            }
        }
    });
    let receiving = receiving.expect("a thread");
    let mut receive = |count: u64| {
        for _ in 0..count / u64::from(IN_FLIGHT) {
            stream.write_all(&messages).expect("the client to read");
            have_come.recv_timeout(HANG).expect("all of them");
        }
    };
    let woken = || wake_ups() + wake_ups_of("receiving");
    receive(WARM_UP);
    let before = woken();
    receive(COUNTED);
    let woken = (woken() - before) as f64 / COUNTED as f64;
    println!("{woken:.4} wake-ups a received message");
    assert!(woken <= WAKE_UPS, "{woken} wake-ups a received message");
    running.drop_all_and_join();
    drop((link, stream));
    receiving.join().expect("no panic in the receiving thread");
    server.join().expect("no panic in the server");
}

#[test]
fn with_the_link_up_and_nothing_to_do_no_thread_is_woken() {
    const STRETCH: Duration = Duration::from_millis(1_500);
    let _alone = alone();
    let (running, link) = online();
    let inbox = running.handle().inbox(10, WhenFull::WaitAside);
    let reading = thread::spawn(move || inbox.recv().is_err());
    running.take_a_turn();
    // Effects of the steps above may still have to settle.
    wait_for("a stretch without a wake-up", HANG, || {
        let before = switches();
        assert!(before.values().any(|thread| thread.name == LOOP_THREAD));
        assert!(before.values().any(|thread| thread.name == "readiness"));
        thread::sleep(STRETCH);
        (switches() == before).then_some(())
    });
    running.terminate(link);
    assert!(reading.join().expect("no panic in the reader"));
}

#[test]
fn an_idle_link_wakes_the_loop_for_keep_alive_and_for_nothing_else() {
    const PINGS: u64 = 3;
    /// One for the timer, one for the answer, and one for the readiness thread that saw it; twice that,
    /// because a thread may be woken for nothing.
    const WAKE_UPS: u64 = 6;
    let _alone = alone();
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    options.keep_alive = Duration::from_secs(2);
    let (running, mut link) = Running::online_with(options, &mut broker);
    let mut ping = || {
        link.expect_pingreq();
        link.send_packet(v4::Packet::PingResp);
    };
    ping();
    let before = wake_ups();
    (0..PINGS).for_each(|_| ping());
    let woken = wake_ups() - before;
    println!("{woken} wake-ups for {PINGS} times keep alive");
    assert!(
        (PINGS..=PINGS * WAKE_UPS).contains(&woken),
        "{woken} wake-ups for {PINGS} times keep alive"
    );
    running.terminate(link);
}
