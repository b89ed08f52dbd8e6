//! A command loop in a thread of its own, for tests that hold its handle on one side and play the broker
//! on the other: the real loop, real threads, real sockets, plain TCP.
//!
//! Every wait has a limit, after which the test fails, so that no test waits for a loop that hangs.
//! Tests wait on tickets with [`told`], or check them with [`all_told`] after [`Running::join`], so that
//! no ticket is open when its loop has ended.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mqtt_connection_sharing::options::{Identity, Options, Security, TlsOptions};
use mqtt_connection_sharing::{Client, Ended, Handle, Inbox, InboxMessage};
use mqtt_connection_sharing::{Filter, Protocol, Publish, QoS};
use mqtt_connection_sharing::{Outcome, ReasonCode, Stats, Ticket};
use rumqttc::mqttbytes::{self, v4};

use super::{Certs, Connection, HANG, ScriptedBroker, wait_for};

/// The name of the loop's thread.
pub const LOOP_THREAD: &str = "loop";

/// Longer than any test runs.
pub const NEVER: Duration = Duration::from_secs(1_000_000);

/// Options for this broker and its version of MQTT. The loop reconnects quickly and without end, and no other time limit of the
/// loop is over before the test has failed.
pub fn options(broker: &ScriptedBroker) -> Options {
    let mut options = Options::new("127.0.0.1", "loop");
    options.port = broker.port();
    options.protocol = broker.protocol();
    options.security = Security::Plain;
    options.connect_interval = Duration::ZERO;
    options.connect_timeout = NEVER;
    options.ack_timeout = NEVER;
    options.block_time = HANG;
    options.retry.base = Duration::from_millis(2);
    options.retry.max = Duration::from_millis(5);
    options.retry.connect_for = Duration::ZERO;
    options.retry.reconnect_for = Duration::ZERO;
    options.retry.attempts = 0;
    options
}

/// Mutual TLS with these certificates, as the client.
pub fn security(certs: &Certs) -> Security {
    let mut tls = TlsOptions::default();
    tls.ca = Some(certs.ca().into());
    tls.identity = Some(Identity::pem(
        certs.client().cert.clone(),
        certs.client().key.clone(),
    ));
    Security::Tls(tls)
}

/// A running loop.
pub struct Running {
    handle: Option<Handle>,
    /// The folder in which the system accounts for the loop's thread.
    account: PathBuf,
    ended: Receiver<Ended>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Runs a loop with these options.
    pub fn start(options: Options) -> Running {
        let (give, take) = channel();
        let (tell, ended) = channel();
        let run = move || {
            let client = Client::new(options).expect("valid options");
            let client = client.with_first_identifier(1);
            let (agent, handle) = client.open();
            let own = fs::read_link("/proc/thread-self").unwrap_or_default();
            give.send((handle, PathBuf::from("/proc").join(own)))
                .expect("the test to wait");
            let _ = tell.send(agent.run());
        };
        let thread = thread::Builder::new().name(LOOP_THREAD.into()).spawn(run);
        let (handle, account) = take.recv_timeout(HANG).expect("a handle");
        Running {
            handle: Some(handle),
            account,
            ended,
            thread: thread.expect("a thread"),
        }
    }

    /// Runs a loop for this broker and brings it online.
    pub fn online(broker: &mut ScriptedBroker) -> (Running, Connection) {
        Running::online_with(options(broker), broker)
    }

    /// As [`Running::online`], with these options.
    pub fn online_with(options: Options, broker: &mut ScriptedBroker) -> (Running, Connection) {
        let running = Running::start(options);
        let (link, _) = broker.accept_client(false);
        // CONNACK was sent; after this turn the loop has read it.
        running.take_a_turn();
        (running, link)
    }

    pub fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("a handle that is held")
    }

    /// Drops the handle. The loop ends if the test holds no other one.
    pub fn drop_handle(&mut self) {
        self.handle = None;
    }

    /// Publishes with QoS 1.
    #[track_caller]
    pub fn publish(&self, topic: &str, payload: &str) -> Ticket {
        let message = Publish::new(topic, QoS::AtLeastOnce, payload.to_owned());
        self.handle().publish(message).expect("room in the queue")
    }

    /// Subscribes with QoS 1; the broker grants it.
    #[track_caller]
    pub fn subscribe<M: InboxMessage>(
        &self,
        link: &mut Connection,
        inbox: &Inbox<M>,
        filter: &str,
    ) {
        let filters = vec![Filter::new(filter, QoS::AtLeastOnce)];
        let ticket = self.handle().subscribe(inbox, filters).expect("room");
        let subscribe = link.expect_subscribe();
        assert_eq!(subscribe.filters[0].path, filter);
        link.grant(&subscribe);
        assert!(told(ticket).is_delivered());
    }

    /// Waits for a turn of the loop that begins after this call.
    #[track_caller]
    pub fn take_a_turn(&self) {
        assert!(told(self.handle().process_loop()).is_delivered());
    }

    /// Checks that the loop ends by itself, without a panic.
    #[track_caller]
    pub fn join(self) -> Ended {
        match self.ended.recv_timeout(HANG) {
            Ok(ended) => ended,
            Err(RecvTimeoutError::Timeout) => panic!("the loop has not ended in {HANG:?}"),
            Err(RecvTimeoutError::Disconnected) => match self.thread.join() {
                Ok(()) => panic!("the loop ended without a word"),
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }

    /// Drops the handle, the only one, and checks that the loop ends soon with nothing left.
    #[track_caller]
    pub fn drop_all_and_join(self) {
        self.drop_handle_and_expect_left(0);
    }

    /// As [`Running::drop_all_and_join`], with this many commands left.
    #[track_caller]
    pub fn drop_handle_and_expect_left(mut self, left: usize) {
        self.drop_handle();
        let ended = promptly(|| self.join());
        assert!(ended.result.is_ok(), "{ended:?}");
        assert_eq!(ended.left, left);
    }

    /// The time that the loop's thread has spent on a processor; `None` once it has ended.
    pub fn processor_time(&self) -> Option<Duration> {
        let schedstat = fs::read_to_string(self.account.join("schedstat")).ok()?;
        let nanoseconds = schedstat.split(' ').next()?.parse().ok()?;
        Some(Duration::from_nanos(nanoseconds))
    }

    /// [`Running::processor_time`] at the end of the loop, which the test has brought about.
    #[track_caller]
    pub fn last_processor_time(&self) -> Duration {
        let mut last = Duration::ZERO;
        wait_for("the loop's end", HANG, || match self.processor_time() {
            Some(time) => {
                last = time;
                None
            }
            None => Some(()),
        });
        last
    }

    /// TERMINATE without grace, while the broker reads until the link is closed. Returns how many
    /// commands were left, and the loop's counts.
    #[track_caller]
    pub fn terminate(self, mut link: Connection) -> (usize, Stats) {
        let ticket = self.handle().terminate(Duration::ZERO);
        link.read_until("DISCONNECT", |packet| {
            (*packet == v4::Packet::Disconnect).then_some(())
        });
        link.expect_closed();
        link.close();
        let ended = self.join();
        assert!(told(ticket).is_delivered());
        assert!(ended.result.is_ok(), "{ended:?}");
        (ended.left, ended.stats)
    }

    /// Checks that the loop sleeps through a stretch of time: it makes no turn, not even a short one.
    ///
    /// # Panics
    /// When there is no such stretch within [`HANG`].
    #[track_caller]
    pub fn expect_asleep(&self, when: &str) {
        const STRETCH: Duration = Duration::from_millis(400);
        let account = || {
            let read = |file| fs::read_to_string(self.account.join(file)).expect("the account");
            let voluntary = read("status")
                .lines()
                .find(|line| line.starts_with("voluntary_ctxt_switches"))
                .map(str::to_owned);
            // Time on a processor, time waiting for one, number of times on one.
            (voluntary.expect("a count"), read("schedstat"))
        };
        wait_for(&format!("a loop asleep {when}"), HANG, || {
            let before = account();
            thread::sleep(STRETCH);
            (account() == before).then_some(())
        });
    }
}

/// Waits for the outcome of a command.
#[track_caller]
pub fn told(mut ticket: Ticket) -> Outcome {
    match ticket.wait_timeout(HANG) {
        Some(outcome) => outcome,
        None => panic!("a command has not ended in {HANG:?}"),
    }
}

/// Waits for each command, which must end as delivered.
#[track_caller]
pub fn expect_delivered(tickets: impl IntoIterator<Item = Ticket>) {
    for ticket in tickets {
        let outcome = told(ticket);
        assert!(outcome.is_delivered(), "{outcome:?}");
    }
}

/// The outcomes of commands whose loop has ended: they must be there.
#[track_caller]
pub fn all_told(tickets: impl IntoIterator<Item = Ticket>) -> Vec<Outcome> {
    let tell = |ticket: Ticket| ticket.outcome().expect("a command that has ended");
    tickets.into_iter().map(tell).collect()
}

/// Checks that the broker refused a SUBSCRIBE and granted this. With MQTT 5 the outcome has the first failure's code.
#[track_caller]
pub fn expect_refused(outcome: Outcome, protocol: Protocol, granted: &[Option<QoS>]) {
    let Outcome::Refused { granted: told, .. } = &outcome else {
        panic!("expected it to be refused: {outcome:?}");
    };
    assert_eq!(told, granted);
    let code = outcome.answer().map(|answer| answer.code);
    let expected = (protocol == Protocol::V5).then_some(ReasonCode::new(0x80));
    assert_eq!(code, expected);
}

/// How often a command was sent until it was acknowledged.
#[track_caller]
pub fn attempts(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Delivered { attempts, .. } => attempts,
        other => panic!("expected it to be delivered: {other:?}"),
    }
}

/// The next message of an inbox, as text.
#[track_caller]
pub fn next(inbox: &Inbox) -> String {
    let message = inbox.recv_timeout(HANG).expect("a message");
    String::from_utf8(message.payload().to_vec()).expect("text")
}

/// A message from the broker: QoS 1 with an identifier, QoS 0 without one.
pub fn message(topic: &str, id: impl Into<Option<u16>>, payload: &str) -> v4::Packet {
    let id = id.into();
    let qos = match id {
        Some(_) => mqttbytes::QoS::AtLeastOnce,
        None => mqttbytes::QoS::AtMostOnce,
    };
    let mut publish = v4::Publish::new(topic, qos, payload);
    publish.pkid = id.unwrap_or(0);
    v4::Packet::Publish(publish)
}

/// Sends packets in one piece.
#[track_caller]
pub fn send_at_once(link: &mut Connection, packets: impl IntoIterator<Item = v4::Packet>) {
    let packets = packets.into_iter().map(|packet| link.encoded(packet));
    let bytes: Vec<_> = packets.collect();
    link.send(&bytes.concat());
}

/// Answers everything as an honest broker would, until DISCONNECT; returns the packets before it.
#[track_caller]
pub fn serve(link: &mut Connection) -> Vec<v4::Packet> {
    let mut served = Vec::new();
    loop {
        let packet = link.read_packet();
        match &packet {
            v4::Packet::Publish(publish) => match publish.qos {
                mqttbytes::QoS::AtMostOnce => {}
                mqttbytes::QoS::AtLeastOnce => link.send_puback(publish.pkid),
                mqttbytes::QoS::ExactlyOnce => {
                    link.send_packet(v4::Packet::PubRec(v4::PubRec::new(publish.pkid)));
                }
            },
            v4::Packet::PubRel(release) => {
                link.send_packet(v4::Packet::PubComp(v4::PubComp::new(release.pkid)));
            }
            v4::Packet::Subscribe(subscribe) => link.grant(subscribe),
            v4::Packet::Unsubscribe(unsubscribe) => send_unsuback(link, unsubscribe.pkid),
            v4::Packet::PingReq => link.send_packet(v4::Packet::PingResp),
            v4::Packet::Disconnect => return served,
            _ => {}
        }
        served.push(packet);
    }
}

/// Acknowledges an UNSUBSCRIBE.
#[track_caller]
pub fn send_unsuback(link: &mut Connection, id: u16) {
    link.send_packet(v4::Packet::UnsubAck(v4::UnsubAck::new(id)));
}

/// Runs `what`, which must be over long before any time limit in the options.
#[track_caller]
pub fn promptly<T>(what: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = what();
    let took = start.elapsed();
    assert!(took < HANG / 2, "it took {took:?}");
    result
}
