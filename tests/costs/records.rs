//! The TLS records that messages and their acknowledgments share, and the calls of the system that records share.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use mqtt_connection_sharing::options::{Options, RecordingSize, Security, TlsOptions};
use mqtt_connection_sharing::recording::What;
use mqtt_connection_sharing::{Filter, Publish, QoS, Ticket, WhenFull};
use native_tls::{Identity, TlsAcceptor, TlsStream};
use rumqttc::mqttbytes::v4;

use crate::support::running::{Running, expect_delivered, message, options, told};
use crate::support::scripted::Stream;
use crate::support::{Certs, Connection, ScriptedBroker};
use crate::{WINDOW, alone, publish};

/// A stream that counts the incoming TLS records.
#[derive(Debug)]
struct Records {
    tcp: TcpStream,
    count: u64,
    /// Bytes of the record's header that came so far.
    header: Vec<u8>,
    /// Bytes of the current record that are still to come.
    body: usize,
}

impl Read for Records {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.tcp.read(buffer)?;
        for &byte in &buffer[..length] {
            if self.body > 0 {
                self.body -= 1;
                continue;
            }
            self.header.push(byte);
            if let [_, _, _, high, low] = self.header[..] {
                self.body = usize::from(u16::from_be_bytes([high, low]));
                self.header.clear();
                self.count += 1;
            }
        }
        Ok(length)
    }
}

impl Write for Records {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}

impl Stream for TlsStream<Records> {
    fn tcp(&self) -> &TcpStream {
        &self.get_ref().tcp
    }
}

/// A loop with so many messages queued, and the link with TLS on which the server expects them.
fn secured(
    message: impl Fn() -> Publish,
    change: impl FnOnce(&mut Options),
) -> (
    Connection<TlsStream<Records>>,
    Connection,
    Running,
    Vec<Ticket>,
) {
    let certs = Certs::generate();
    let pem = |file| fs::read(file).expect("a PEM file");
    let server = certs.server();
    let identity = Identity::from_pkcs8(&pem(&server.cert), &pem(&server.key));
    let acceptor = TlsAcceptor::new(identity.expect("an identity")).expect("an acceptor");
    let mut broker = ScriptedBroker::bind();
    let mut options = options(&broker);
    change(&mut options);
    let count = options.command_queue;
    let mut tls = TlsOptions::default();
    tls.ca = Some(certs.ca().into());
    options.security = Security::Tls(tls);
    let running = Running::start(options);
    let queued = (0..count)
        .map(|_| running.handle().publish(message()).expect("room"))
        .collect();
    let mut plain = broker.accept();
    let records = Records {
        tcp: plain.stream().try_clone().expect("a second end"),
        count: 0,
        header: Vec::new(),
        body: 0,
    };
    let tls = acceptor.accept(records).expect("a handshake");
    let mut link = Connection::over(tls);
    link.expect_connect();
    (link, plain, running, queued)
}

/// One write becomes one record, or one for each 16 KiB.
#[test]
fn a_thousand_messages_leave_in_a_few_records_and_so_do_their_acknowledgments() {
    /// Six records hold the messages; there are more if the loop wakes before all are queued.
    const RECORDS: u64 = 8;
    /// Six portions of messages are acknowledged if all of them are read at once.
    const ANSWERS: u64 = 8;
    let _alone = alone();
    let (mut link, plain, running, queued) = secured(publish, |options| {
        options.max_inflight = WINDOW;
        options.command_queue = usize::from(WINDOW);
    });
    let count = |link: &mut Connection<_>| -> u64 {
        let tls: &mut TlsStream<Records> = link.stream();
        tls.get_ref().count
    };
    let before = count(&mut link);
    link.send_connack(v4::ConnectReturnCode::Success, false);
    let ids: Vec<_> = (0..WINDOW).map(|_| link.expect_publish().pkid).collect();
    let records = count(&mut link) - before;
    println!("{WINDOW} messages in {records} records");
    assert!(records <= RECORDS, "{WINDOW} messages in {records} records");
    ids.into_iter().for_each(|id| link.send_puback(id));
    expect_delivered(queued);

    let inbox = running
        .handle()
        .inbox(usize::from(WINDOW), WhenFull::WaitAside);
    let filters = vec![Filter::new("costs", QoS::AtLeastOnce)];
    let ticket = running.handle().subscribe(&inbox, filters).expect("room");
    let subscribe = link.expect_subscribe();
    link.grant(&subscribe);
    assert!(told(ticket).is_delivered());
    let before = count(&mut link);
    let mut messages = BytesMut::new();
    for id in 1..=WINDOW {
        let message = message("costs", id, "x");
        message.write(&mut messages, usize::MAX).expect("a packet");
    }
    // One record, and one in the other direction for each portion.
    assert!(messages.len() <= 16 * 1024);
    link.send(&messages);
    for id in 1..=WINDOW {
        assert_eq!(link.expect_puback().pkid, id);
    }
    let records = count(&mut link) - before;
    println!("{WINDOW} acknowledgments in {records} records");
    assert!(records <= ANSWERS, "{WINDOW} acknowledgments in {records}");
    let end = running.handle().terminate(Duration::ZERO);
    link.expect_disconnect();
    link.expect_closed();
    link.close();
    plain.close();
    assert!(running.join().result.is_ok());
    assert!(told(end).is_delivered());
}

/// TLS makes a record of each 16 KiB. Several of them leave with one call of the system.
#[test]
fn large_messages_leave_with_fewer_calls_than_records() {
    const MESSAGES: usize = 32;
    /// Writes for each record. Before records were gathered it was 1.
    const WRITES: f64 = 0.5;
    let _alone = alone();
    let message = || Publish::new("costs", QoS::AtLeastOnce, vec![b'x'; 16 * 1024]);
    let (mut link, plain, running, queued) = secured(message, |options| {
        options.command_queue = MESSAGES;
        options.max_inflight = WINDOW;
        options.recording = Some(RecordingSize::default());
    });
    link.send_connack(v4::ConnectReturnCode::Success, false);
    let ids: Vec<_> = (0..MESSAGES).map(|_| link.expect_publish().pkid).collect();
    ids.into_iter().for_each(|id| link.send_puback(id));
    expect_delivered(queued);
    let reading = running.handle().recording().expect("it is on").read();
    let writes = reading.records.iter();
    let writes = writes.filter(|record| matches!(record.what, What::Write { .. }));
    let (writes, records) = (writes.count(), running.handle().stats().writes);
    println!("{records} records in {writes} writes");
    assert!(records as usize >= MESSAGES, "{records} records");
    assert!(
        writes as f64 <= WRITES * records as f64,
        "{writes} writes of {records} records"
    );
    let end = running.handle().terminate(Duration::ZERO);
    link.expect_disconnect();
    link.expect_closed();
    link.close();
    plain.close();
    assert!(running.join().result.is_ok());
    assert!(told(end).is_delivered());
}
