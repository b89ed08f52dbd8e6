//! Shared by these tests: a loop on a link whose bytes are known, packets of the broker as bytes, and
//! the log of the loop, by the broker's port.

use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use mqtt_connection_sharing::Ticket;
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Publish, QoS};

use crate::support::running::{Running, options};
use crate::support::wire::split;
use crate::support::{Connection, HANG, ScriptedBroker};

/// CONNECT with [`options`]: keep alive 60 s, client identifier `loop`, the session kept.
pub const CONNECT: &[u8] = b"\x10\x10\x00\x04MQTT\x04\x00\x00\x3c\x00\x04loop";

/// [`CONNECT`] with clean session.
pub const CLEAN_CONNECT: &[u8] = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04loop";

/// CONNACK: accepted, without a session.
pub const ACCEPTED: &[u8] = b"\x20\x02\x00\x00";

/// CONNACK: accepted, with a session.
pub const RESUMED: &[u8] = b"\x20\x02\x01\x00";

/// Accepts a connection, checks CONNECT and answers it with this CONNACK. The loop is online when this
/// returns.
#[track_caller]
pub fn greet(broker: &mut ScriptedBroker, connack: &[u8]) -> Connection {
    greet_as(CONNECT, broker, connack)
}

/// As [`greet`], with another CONNECT.
#[track_caller]
pub fn greet_as(connect: &[u8], broker: &mut ScriptedBroker, connack: &[u8]) -> Connection {
    let log = Log::of(broker);
    let mut link = broker.accept();
    link.expect_bytes(connect);
    link.send(connack);
    log.wait_until_online();
    link
}

/// A loop that is online.
#[track_caller]
pub fn online(broker: &mut ScriptedBroker) -> (Running, Connection) {
    online_with(options(broker), broker)
}

/// As [`online`], with these options, which must not change CONNECT.
#[track_caller]
pub fn online_with(options: Options, broker: &mut ScriptedBroker) -> (Running, Connection) {
    let running = Running::start(options);
    let link = greet(broker, ACCEPTED);
    (running, link)
}

/// The client leaves the link and makes a new one. Unlike a link that the broker closes, this says nothing about
/// what was in flight: commands that several lost links have in common are sent one at a time.
#[track_caller]
pub fn leave(running: &Running, mut link: Connection) {
    drop(running.handle().reconnect());
    link.read_to_end();
}

/// The bytes of CONNECT with these options, as the broker receives them.
#[track_caller]
pub fn connect_with(change: impl FnOnce(&mut Options)) -> Vec<u8> {
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    change(&mut options);
    let log = Log::of(&broker);
    let running = Running::start(options);
    let mut link = broker.accept();
    let connect = link.read_bytes();
    link.send(ACCEPTED);
    log.wait_until_online();
    assert_eq!(terminate(running, link), [b"\xe0\x00"]);
    connect
}

/// Short forms of commands to the loop.
pub trait Submit {
    /// Publishes `payload` to `topic`.
    fn send(&self, qos: QoS, topic: &str, payload: &str) -> Ticket;
}

impl Submit for Running {
    #[track_caller]
    fn send(&self, qos: QoS, topic: &str, payload: &str) -> Ticket {
        let message = Publish::new(topic, qos, payload.to_owned());
        self.handle().publish(message).expect("room in the queue")
    }
}

/// A packet with a remaining length of two bytes that holds an identifier only: PUBACK `0x40`, PUBREC
/// `0x50`, PUBREL `0x62`, PUBCOMP `0x70`, UNSUBACK `0xb0`.
pub fn ack(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

/// A short PUBLISH from the broker. `first` gives QoS and flags; the packet has the identifier above QoS
/// 0 only.
pub fn message(first: u8, topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = text(topic);
    if first & 6 != 0 {
        body.extend(id.to_be_bytes());
    }
    body.extend(payload);
    packet(first, &body)
}

/// A packet with a remaining length of at most 127 bytes.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(body.len()).expect("a short packet");
    assert!(length < 0x80, "a short packet");
    [&[first, length], body].concat()
}

/// A string with its length before it.
pub fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short string");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// The identifier of a packet shorter than 128 bytes: a PUBLISH above QoS 0, PUBREL, SUBSCRIBE or
/// UNSUBSCRIBE.
#[track_caller]
pub fn identifier(packet: &[u8]) -> u16 {
    assert!(packet[1] < 0x80, "a short packet");
    let at = match packet[0] >> 4 {
        3 => 4 + usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        _ => 2,
    };
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

/// The same PUBLISH with DUP.
#[track_caller]
pub fn with_dup(mut publish: Vec<u8>) -> Vec<u8> {
    assert_eq!(publish[0] & 0xf8, 0x30, "a PUBLISH without DUP");
    publish[0] |= 8;
    publish
}

/// All packets of each connection so far.
pub fn recorded(broker: &ScriptedBroker) -> Vec<Vec<Vec<u8>>> {
    let recordings = broker.received();
    recordings.iter().map(|bytes| split(bytes)).collect()
}

/// Sends TERMINATE and returns the packets before the end of the link, DISCONNECT included.
#[track_caller]
pub fn terminate(running: Running, mut link: Connection) -> Vec<Vec<u8>> {
    let ticket = running.handle().terminate(Duration::ZERO);
    let rest = link.read_to_end();
    link.close();
    let ended = running.join();
    assert!(ended.result.is_ok(), "{ended:?}");
    assert!(crate::support::running::told(ticket).is_delivered());
    rest
}

/// The log of all loops of this process, in order.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notified at each further line.
static MORE_LINES: Condvar = Condvar::new();

struct Keeper;

impl log::Log for Keeper {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        lines().push(record.args().to_string());
        MORE_LINES.notify_all();
    }

    fn flush(&self) {}
}

fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The log of the clients of one broker.
pub struct Log {
    port: u16,
    from: usize,
}

impl Log {
    /// Begins to collect; must be called before the loop starts.
    pub fn of(broker: &ScriptedBroker) -> Log {
        static LISTENING: Once = Once::new();
        LISTENING.call_once(|| {
            log::set_logger(&Keeper).expect("no other logger");
            log::set_max_level(log::LevelFilter::Info);
        });
        Log {
            port: broker.port(),
            from: lines().len(),
        }
    }

    /// Waits until the loop has taken a CONNACK that accepts it.
    #[track_caller]
    pub fn wait_until_online(&self) {
        let said = format!("connected to 127.0.0.1:{} as ", self.port);
        let is_offline = |all: &mut Vec<String>| {
            let mut own = all[self.from..].iter();
            !own.any(|line| line.contains(&said))
        };
        let waited = MORE_LINES.wait_timeout_while(lines(), HANG, is_offline);
        let (all, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(all);
        assert!(!timeout.timed_out(), "the loop is not online");
    }

    /// The log lines with this text, also those of other loops.
    pub fn with(&self, text: &str) -> Vec<String> {
        let all = lines();
        let own = all[self.from..].iter().filter(|line| line.contains(text));
        own.cloned().collect()
    }

    /// The log lines about connections to this broker that failed or were lost.
    pub fn failures(&self) -> Vec<String> {
        let about = format!("127.0.0.1:{}: ", self.port);
        let all = lines();
        let own = all[self.from..].iter().filter(|line| line.contains(&about));
        own.cloned().collect()
    }
}
