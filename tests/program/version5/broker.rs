//! A broker that behaves like AWS IoT Core with MQTT 5, over plain TCP: it takes QoS 0 and 1, 100 messages in flight and
//! eight topic aliases, keeps a session for seven days at most, and says why it refuses.
//!
//! Below `forbidden/` nothing may be published or subscribed to, below `readonly/` nothing published. It acknowledges so
//! many messages of a connection and refuses the rest for its quota. A message below `ends/97/`, and a filter below
//! `ended/97/`, end the connection with that code, and so does the client identifier `ended-8b` at once. The older of two connections with one client identifier is told that it is taken over.
//! A message goes back to the connection that has sent it, and to no other. A thread serves each connection.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::support::scripted5::{answers5, connack5, message5, packet5};
use crate::support::wire::Bytes;
use crate::support::{Connection, HANG};

/// Seven days.
const LONGEST_SESSION: u32 = 604_800;

/// Such a broker. It serves until it is dropped.
pub struct Aws5 {
    port: u16,
    shared: Arc<Aws5Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Aws5Shared {
    /// Messages of a connection that it takes.
    quota: usize,
    has_ended: AtomicBool,
    links: Mutex<BTreeMap<String, TcpStream>>,
    /// Messages whose topics came as an alias alone.
    aliased: Mutex<usize>,
}

impl Aws5 {
    /// Takes so many messages of each connection.
    pub fn start(quota: usize) -> Aws5 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Aws5Shared {
            quota,
            has_ended: AtomicBool::new(false),
            links: Mutex::default(),
            aliased: Mutex::default(),
        });
        let ours = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while let Ok((tcp, _)) = listener.accept() {
                if ours.has_ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&ours);
                thread::spawn(move || {
                    tcp.set_read_timeout(Some(HANG)).expect("a read limit");
                    serve(tcp, &shared);
                });
            }
        });
        Aws5 {
            port,
            shared,
            thread: Some(thread),
        }
    }

    /// The `--endpoint` argument that reaches it.
    pub fn endpoint(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Messages that came with an alias in place of their topics.
    pub fn aliased(&self) -> usize {
        *lock(&self.shared.aliased)
    }
}

impl Drop for Aws5 {
    fn drop(&mut self) {
        self.shared.has_ended.store(true, Ordering::SeqCst);
        // Wakes the thread from accepting.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        if let Some(thread) = self.thread.take() {
            // Its panic has told itself.
            drop(thread.join());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A packet, taken apart from its beginning.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn text(&mut self) -> String {
        let length = self.number().into();
        String::from_utf8(self.bytes(length).to_vec()).expect("UTF-8")
    }

    /// A variable byte integer.
    fn length(&mut self) -> usize {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return length;
            }
        }
    }

    /// The numbers of the properties that this broker looks at: session expiry (0x11) and topic alias (0x23).
    fn properties(&mut self) -> BTreeMap<u8, u32> {
        let length = self.length();
        let mut own = Reader(self.bytes(length));
        let mut found = BTreeMap::new();
        while !own.0.is_empty() {
            let id = own.byte();
            match id {
                0x01 => drop(own.byte()),
                0x02 | 0x11 | 0x27 => {
                    let [high, low] = [own.number(), own.number()].map(u32::from);
                    found.insert(id, high << 16 | low);
                }
                0x21..=0x23 => drop(found.insert(id, own.number().into())),
                0x03 | 0x08 => drop(own.text()),
                0x26 => drop((own.text(), own.text())),
                other => panic!("the property {other:#x}"),
            }
        }
        found
    }
}

/// DISCONNECT with a code.
fn disconnect(code: u8) -> [u8; 4] {
    [0xe0, 2, code, 0]
}

/// DISCONNECT with a code and the broker's words on it.
fn disconnect_saying(code: u8, words: &str) -> Vec<u8> {
    let words = reason(words);
    let length = u8::try_from(words.len()).expect("a short text");
    packet5(0xe0, &[&[code, length], &words[..]].concat())
}

/// The code that stands behind this prefix in a name.
fn code_behind(prefix: &str, name: &str) -> Option<u8> {
    let code = name.strip_prefix(prefix)?.get(..2)?;
    u8::from_str_radix(code, 16).ok()
}

/// PUBACK or SUBACK properties with a reason string.
fn reason(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&[0x1f], &length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// PUBACK with a code and the broker's words on it.
fn puback(id: u16, code: u8, words: &str) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    if code == 0 {
        return packet5(0x40, &[high, low]);
    }
    let words = reason(words);
    let length = u8::try_from(words.len()).expect("a short text");
    packet5(0x40, &[&[high, low, code, length], &words[..]].concat())
}

/// Serves a connection until one side ends it.
fn serve(tcp: TcpStream, shared: &Aws5Shared) {
    let mine = tcp.try_clone().expect("the same stream");
    let mut link = Connection::over(tcp);
    let Some(connect) = next(&mut link) else {
        return;
    };
    let mut fields = Reader(&connect[1..]);
    fields.length();
    assert_eq!(fields.text(), "MQTT");
    if fields.byte() != 5 {
        // Unacceptable protocol version, as MQTT 3.1.1 says it.
        let _ = say(&mut link, b"\x20\x02\x00\x01");
        return;
    }
    fields.bytes(3);
    let asked = fields.properties().get(&0x11).copied().unwrap_or(0);
    let client = fields.text();
    if let Some(older) = lock(&shared.links).insert(client.clone(), mine) {
        let mut older = Connection::over(older);
        // It may be gone already.
        let _ = say(&mut older, &disconnect(0x8e));
        older.close();
    }
    let mut allowed = b"\x21\x00\x64\x24\x01\x22\x00\x08\x29\x00".to_vec();
    if asked > LONGEST_SESSION {
        allowed.push(0x11);
        allowed.extend(LONGEST_SESSION.to_be_bytes());
    }
    let mut answer = connack5(false, &allowed);
    match code_behind("ended-", &client) {
        Some(code) => {
            answer.extend(disconnect_saying(code, "not now"));
            let _ = say(&mut link, &answer);
        }
        None => drop(say(&mut link, &answer).and_then(|()| packets(&mut link, shared))),
    }
    drop(link.stream().shutdown(Shutdown::Both));
}

/// Sends bytes; `None` where the connection has ended.
fn say(link: &mut Connection, bytes: &[u8]) -> Option<()> {
    link.stream().write_all(bytes).ok()
}

/// The next packet; `None` when the connection ends.
fn next(link: &mut Connection) -> Option<Vec<u8>> {
    match link.read_bytes_within(HANG) {
        Bytes::Packet(packet) => Some(packet),
        Bytes::Closed | Bytes::Silence => None,
    }
}

/// Answers packets until the connection ends.
fn packets(link: &mut Connection, shared: &Aws5Shared) -> Option<()> {
    let mut aliases: BTreeMap<u32, String> = BTreeMap::new();
    let mut filters: BTreeSet<String> = BTreeSet::new();
    let mut taken = 0;
    loop {
        let packet = next(link)?;
        let first = packet[0];
        let mut fields = Reader(&packet[1..]);
        fields.length();
        match first & 0xf0 {
            0x30 => {
                let qos = first >> 1 & 3;
                let mut topic = fields.text();
                let id = if qos > 0 { fields.number() } else { 0 };
                let alias = fields.properties().get(&0x23).copied();
                if qos > 1 {
                    return say(link, &disconnect(0x9b));
                }
                match alias {
                    Some(alias) if alias > 8 => return say(link, &disconnect(0x94)),
                    Some(alias) if topic.is_empty() => {
                        topic.clone_from(&aliases[&alias]);
                        *lock(&shared.aliased) += 1;
                    }
                    Some(alias) => drop(aliases.insert(alias, topic.clone())),
                    None => {}
                }
                if let Some(code) = code_behind("ends/", &topic) {
                    return say(link, &disconnect_saying(code, "no more of these"));
                }
                if ["forbidden/", "readonly/"]
                    .iter()
                    .any(|it| topic.starts_with(it))
                {
                    say(link, &puback(id, 0x87, "no policy allows it"))?;
                    continue;
                }
                if taken == shared.quota {
                    say(link, &puback(id, 0x97, "too many publishes"))?;
                    continue;
                }
                taken += 1;
                if qos > 0 {
                    say(link, &puback(id, 0, ""))?;
                }
                if filters.iter().any(|filter| covers(filter, &topic)) {
                    say(link, &message5(0x30, &topic, 0, b"", fields.0))?;
                }
            }
            0x80 => {
                let id = fields.number();
                fields.properties();
                let mut codes = Vec::new();
                while !fields.0.is_empty() {
                    let (filter, options) = (fields.text(), fields.byte());
                    if let Some(code) = code_behind("ended/", &filter) {
                        return say(link, &disconnect_saying(code, "no more of these"));
                    }
                    let allowed = !filter.starts_with("forbidden/");
                    codes.push(if allowed { options & 1 } else { 0x87 });
                    filters.extend(allowed.then_some(filter));
                }
                say(link, &answers5(0x90, id, &codes))?;
            }
            0xa0 => {
                let id = fields.number();
                filters.clear();
                say(link, &answers5(0xb0, id, &[0]))?;
            }
            0xc0 => say(link, b"\xd0\x00")?,
            0xe0 => return None,
            // The client acknowledges nothing: all goes to it with QoS 0.
            other => panic!("the packet {other:#x}"),
        }
    }
}

/// Whether a topic is below the first level of a filter: enough for the filters of these tests.
fn covers(filter: &str, topic: &str) -> bool {
    match filter.split_once("/+") {
        Some((start, _)) => topic.starts_with(start),
        None => filter == topic,
    }
}
