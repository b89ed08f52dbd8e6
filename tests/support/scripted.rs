//! A broker that does exactly what the test says, for behaviour that Mosquitto cannot be made to show.
//!
//! Plain TCP on 127.0.0.1, on a port that the system chooses. Nothing happens by itself: the test, or a
//! thread that it starts with [`ScriptedBroker::in_thread`], accepts each connection and reads and sends
//! each packet. The broker records every byte it receives, for checks of the wire itself.
//!
//! Scripts are written in packets of MQTT 3.1.1. On the wire they are those of the broker's version.

use std::fmt::Debug;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use mqtt_connection_sharing::Protocol;
use native_tls::TlsStream;
use rumqttc::mqttbytes::{self, v4};

use super::translated::Translator;
use super::{HANG, look_for};

/// Larger than any packet of a test.
const MAX_PACKET: usize = 16 * 1024 * 1024;

/// Takes the next packet if it is of this kind; the panic names the packet that came instead.
macro_rules! expect_packet {
    ($connection:expr, $kind:ident) => {
        $connection.expect(stringify!($kind), |packet| match packet {
            v4::Packet::$kind(inner) => Some(inner),
            _ => None,
        })
    };
}

pub struct ScriptedBroker {
    listener: TcpListener,
    port: u16,
    protocol: Protocol,
    recordings: Vec<Recording>,
}

type Recording = Arc<Mutex<Vec<u8>>>;

impl ScriptedBroker {
    /// Listens, and speaks MQTT 3.1.1. The system keeps connections waiting until the test accepts them.
    pub fn bind() -> ScriptedBroker {
        ScriptedBroker::speaking(Protocol::V3_1_1)
    }

    /// As [`ScriptedBroker::bind`], for this version of MQTT.
    pub fn speaking(protocol: Protocol) -> ScriptedBroker {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        // Accepting has no time limit of its own, so the test polls.
        listener.set_nonblocking(true).expect("a listener to poll");
        let port = listener.local_addr().expect("its address").port();
        ScriptedBroker {
            listener,
            port,
            protocol,
            recordings: Vec::new(),
        }
    }

    /// Runs a script in a thread of its own while the test does something else. The test must join it to
    /// see its panic.
    pub fn in_thread<T: Send + 'static>(
        self,
        script: impl FnOnce(ScriptedBroker) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        thread::Builder::new()
            .name("scripted-broker".into())
            .spawn(move || script(self))
            .expect("a thread")
    }

    /// Accepts the next connection.
    ///
    /// # Panics
    /// When none comes within [`HANG`].
    #[track_caller]
    pub fn accept(&mut self) -> Connection {
        self.accept_within(HANG)
            .unwrap_or_else(|| panic!("expected a connection, none came in {HANG:?}"))
    }

    /// Accepts the next connection if it comes in time.
    pub fn accept_within(&mut self, limit: Duration) -> Option<Connection> {
        let (stream, _) = look_for(limit, || match self.listener.accept() {
            Ok(accepted) => Some(accepted),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("cannot accept: {error}"),
        })?;
        // On some systems the stream inherits the listener's mode.
        stream.set_nonblocking(false).expect("a blocking stream");
        let connection = Connection::speaking(self.protocol, stream);
        self.recordings.push(Arc::clone(&connection.received));
        Some(connection)
    }

    /// Accepts a connection, reads CONNECT and answers it: the start of most scripts.
    #[track_caller]
    pub fn accept_client(&mut self, session_present: bool) -> (Connection, v4::Connect) {
        let mut connection = self.accept();
        let connect = connection.expect_connect();
        connection.send_connack(v4::ConnectReturnCode::Success, session_present);
        (connection, connect)
    }

    /// Stops listening: connections are refused from now on. Returns the bytes received, by connection.
    pub fn shutdown(self) -> Vec<Vec<u8>> {
        self.received()
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The version of MQTT on its connections.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The `--endpoint` argument that reaches it.
    pub fn endpoint(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// All bytes received so far, one entry for each connection, in order of acceptance.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.recordings.iter().map(copy).collect()
    }
}

/// The result of a read.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A packet, and the bytes it was decoded from.
    Packet(v4::Packet, Vec<u8>),
    /// The peer closed the connection at a packet's end, or reset it.
    Closed,
    /// Nothing more came in the given time.
    Silence,
}

/// One side of a connection that speaks MQTT in packets of 3.1.1 or in bytes: the broker's side, or a
/// client's with [`super::Mosquitto::client`].
pub struct Connection<S: Stream = TcpStream> {
    stream: S,
    /// With MQTT 5.
    translator: Option<Translator>,
    pub(super) unread: BytesMut,
    last_raw: Vec<u8>,
    received: Recording,
}

impl<S: Stream> Connection<S> {
    /// Takes over a connected stream, for MQTT 3.1.1.
    pub fn over(stream: S) -> Connection<S> {
        Connection::speaking(Protocol::V3_1_1, stream)
    }

    /// As [`Connection::over`], for this version of MQTT.
    pub fn speaking(protocol: Protocol, stream: S) -> Connection<S> {
        let tcp = stream.tcp();
        tcp.set_nodelay(true).expect("TCP_NODELAY");
        tcp.set_write_timeout(Some(HANG)).expect("a write limit");
        Connection {
            stream,
            translator: (protocol == Protocol::V5).then(Translator::default),
            unread: BytesMut::new(),
            last_raw: Vec::new(),
            received: Recording::default(),
        }
    }

    /// Reads the next packet.
    ///
    /// # Panics
    /// When the connection ends first, nothing comes within [`HANG`], or it is no MQTT.
    #[track_caller]
    pub fn read_packet(&mut self) -> v4::Packet {
        self.expect("a packet", Some)
    }

    /// Reads the next packet, or returns within `limit` the event that came instead of it.
    ///
    /// # Panics
    /// When the bytes are no MQTT, or the connection ends inside a packet.
    #[track_caller]
    pub fn read_event(&mut self, limit: Duration) -> Event {
        let deadline = Instant::now() + limit;
        loop {
            if let Some((packet, raw)) = self.decode() {
                self.last_raw.clone_from(&raw);
                return Event::Packet(packet, raw);
            }
            if let Some(event) = self.receive(deadline) {
                return event;
            }
        }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        let sent = self.stream.write_all(bytes);
        if let Err(error) = sent.and_then(|()| self.stream.flush()) {
            panic!("cannot send {bytes:02x?}: {error}");
        }
    }

    #[track_caller]
    pub fn send_packet(&mut self, packet: v4::Packet) {
        let bytes = self.encoded(packet);
        self.send(&bytes);
    }

    /// The bytes of a packet on this connection.
    #[track_caller]
    pub fn encoded(&mut self, packet: v4::Packet) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        if let Err(error) = packet.write(&mut bytes, MAX_PACKET) {
            panic!("cannot encode {packet:?}: {error}");
        }
        match &mut self.translator {
            None => bytes.to_vec(),
            Some(translator) => translator.outgoing(&bytes),
        }
    }

    #[track_caller]
    pub fn send_connack(&mut self, code: v4::ConnectReturnCode, session_present: bool) {
        self.send_packet(v4::Packet::ConnAck(v4::ConnAck::new(code, session_present)));
    }

    /// Acknowledges a PUBLISH of QoS 1.
    #[track_caller]
    pub fn send_puback(&mut self, packet_identifier: u16) {
        self.send_packet(v4::Packet::PubAck(v4::PubAck::new(packet_identifier)));
    }

    /// Grants each filter of a SUBSCRIBE at the QoS it asked for.
    #[track_caller]
    pub fn grant(&mut self, subscribe: &v4::Subscribe) {
        let granted = subscribe
            .filters
            .iter()
            .map(|filter| v4::SubscribeReasonCode::Success(filter.qos))
            .collect();
        self.send_packet(v4::Packet::SubAck(v4::SubAck::new(subscribe.pkid, granted)));
    }

    /// Reads the next packet, which must be CONNECT. The methods below do the same for other packets.
    #[track_caller]
    pub fn expect_connect(&mut self) -> v4::Connect {
        expect_packet!(self, Connect)
    }

    #[track_caller]
    pub fn expect_connack(&mut self) -> v4::ConnAck {
        expect_packet!(self, ConnAck)
    }

    #[track_caller]
    pub fn expect_publish(&mut self) -> v4::Publish {
        expect_packet!(self, Publish)
    }

    #[track_caller]
    pub fn expect_puback(&mut self) -> v4::PubAck {
        expect_packet!(self, PubAck)
    }

    #[track_caller]
    pub fn expect_pubrec(&mut self) -> v4::PubRec {
        expect_packet!(self, PubRec)
    }

    #[track_caller]
    pub fn expect_pubrel(&mut self) -> v4::PubRel {
        expect_packet!(self, PubRel)
    }

    #[track_caller]
    pub fn expect_pubcomp(&mut self) -> v4::PubComp {
        expect_packet!(self, PubComp)
    }

    #[track_caller]
    pub fn expect_subscribe(&mut self) -> v4::Subscribe {
        expect_packet!(self, Subscribe)
    }

    #[track_caller]
    pub fn expect_suback(&mut self) -> v4::SubAck {
        expect_packet!(self, SubAck)
    }

    #[track_caller]
    pub fn expect_unsubscribe(&mut self) -> v4::Unsubscribe {
        expect_packet!(self, Unsubscribe)
    }

    #[track_caller]
    pub fn expect_unsuback(&mut self) -> v4::UnsubAck {
        expect_packet!(self, UnsubAck)
    }

    #[track_caller]
    pub fn expect_pingreq(&mut self) {
        self.expect("PingReq", |packet| {
            (packet == v4::Packet::PingReq).then_some(())
        });
    }

    #[track_caller]
    pub fn expect_pingresp(&mut self) {
        self.expect("PingResp", |packet| {
            (packet == v4::Packet::PingResp).then_some(())
        });
    }

    #[track_caller]
    pub fn expect_disconnect(&mut self) {
        self.expect("Disconnect", |packet| {
            (packet == v4::Packet::Disconnect).then_some(())
        });
    }

    /// Checks that the peer closes the connection next.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let event = self.read_event(HANG);
        assert_eq!(event, Event::Closed, "expected the connection to be closed");
    }

    /// Checks that the peer closes the connection; packets before that are passed over.
    #[track_caller]
    pub fn read_until_closed(&mut self) {
        loop {
            match self.read_event(HANG) {
                Event::Packet(..) => {}
                Event::Closed => return,
                Event::Silence => panic!("expected the connection to be closed"),
            }
        }
    }

    /// Checks that nothing comes for this long. For short times only: it always takes all of `time`.
    #[track_caller]
    pub fn expect_silence(&mut self, time: Duration) {
        let event = self.read_event(time);
        assert_eq!(event, Event::Silence, "expected nothing for {time:?}");
    }

    /// Reads on until `wanted` returns something for a packet; other packets are passed over.
    #[track_caller]
    pub fn read_until<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&v4::Packet) -> Option<T>,
    ) -> T {
        loop {
            match self.read_event(HANG) {
                Event::Packet(packet, _) => {
                    if let Some(found) = wanted(&packet) {
                        return found;
                    }
                }
                other => panic!("expected {what}, came: {other:?}"),
            }
        }
    }

    pub fn close(self) {
        // Fails if the peer was faster, which does not matter.
        let _ = self.stream.tcp().shutdown(Shutdown::Both);
    }

    /// The bytes of the packet read last.
    pub fn last_raw(&self) -> &[u8] {
        &self.last_raw
    }

    /// All bytes received so far (inside TLS, if there is TLS).
    pub fn received(&self) -> Vec<u8> {
        copy(&self.received)
    }

    /// Forgets them, for a test that reads more than it wants to keep.
    pub fn forget_received(&mut self) {
        lock(&self.received).clear();
    }

    /// The stream itself, for anything that this type does not do.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    #[track_caller]
    fn expect<T>(&mut self, what: &str, take: impl FnOnce(v4::Packet) -> Option<T>) -> T {
        match self.read_event(HANG) {
            Event::Packet(packet, raw) => {
                let came = format!("{packet:?} = {raw:02x?}");
                take(packet).unwrap_or_else(|| panic!("expected {what}, came: {came}"))
            }
            other => panic!("expected {what}, came: {other:?}"),
        }
    }

    #[track_caller]
    fn decode(&mut self) -> Option<(v4::Packet, Vec<u8>)> {
        let header = match mqttbytes::check(self.unread.iter(), MAX_PACKET) {
            Ok(header) => header,
            Err(mqttbytes::Error::InsufficientBytes(_)) => return None,
            Err(error) => panic!("expected MQTT, came: {error}, {:02x?}", &self.unread[..]),
        };
        let raw = self.unread.split_to(header.frame_length());
        let mut bytes = match &mut self.translator {
            None => raw.clone(),
            Some(translator) => BytesMut::from(&translator.incoming(&raw)[..]),
        };
        match v4::Packet::read(&mut bytes, MAX_PACKET) {
            Ok(packet) => Some((packet, raw.to_vec())),
            Err(error) => panic!("expected MQTT, came: {error}, {:02x?}", &raw[..]),
        }
    }

    /// Adds the next bytes to `unread`, or returns the event that came instead of them.
    #[track_caller]
    pub(super) fn receive(&mut self, deadline: Instant) -> Option<Event> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(Event::Silence);
        }
        let tcp = self.stream.tcp();
        tcp.set_read_timeout(Some(left)).expect("a read limit");
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Some(self.closed()),
            Ok(count) => {
                self.unread.extend_from_slice(&chunk[..count]);
                lock(&self.received).extend_from_slice(&chunk[..count]);
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                // A closed connection looks like this when bytes were still under way to it.
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Some(self.closed()),
                _ => panic!("cannot read: {error}"),
            },
        }
        None
    }

    #[track_caller]
    fn closed(&self) -> Event {
        let rest = &self.unread[..];
        assert!(
            rest.is_empty(),
            "closed in the middle of a packet: {rest:02x?}"
        );
        Event::Closed
    }
}

/// A stream over a TCP connection, whose time limits can be set.
pub trait Stream: Read + Write {
    fn tcp(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Stream for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }
}

fn lock(recording: &Recording) -> std::sync::MutexGuard<'_, Vec<u8>> {
    // A test that panicked while it held the lock left nothing half done.
    recording
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn copy(recording: &Recording) -> Vec<u8> {
    lock(recording).clone()
}
