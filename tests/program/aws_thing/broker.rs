//! A broker that behaves like AWS IoT Core: it demands a certificate that the stand-in for the aws command has made and
//! that is active, holds each packet to the policies of that certificate and to the service's limits, and closes the
//! connection in place of a refusal. It keeps why, for the test.
//!
//! A thread serves each connection. A message goes back to the connection that has sent it, and to no other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use bytes::BytesMut;
use openssl::hash::MessageDigest;
use openssl::ssl::{
    AlpnError, SslAcceptor, SslFiletype, SslMethod, SslStream, SslVerifyMode, select_next_proto,
};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{self, ConnectReturnCode};
use rumqttc::mqttbytes::{has_wildcards, matches};

use super::policy::Policies;
use crate::support::certs::Pair;
use crate::support::scripted::Stream;
use crate::support::wire::Bytes;
use crate::support::{Connection, Event, HANG};

/// The application protocol of port 443, with its length before it.
const ALPN: &[u8] = b"\x0ex-amzn-mqtt-ca";

impl Stream for SslStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref()
    }
}

/// Such a broker. It serves until it is dropped.
pub(super) struct AwsBroker {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Shared {
    /// The folder of the stand-in for the aws command.
    account: PathBuf,
    needs_alpn: bool,
    has_ended: AtomicBool,
    sessions: Mutex<BTreeMap<String, Session>>,
    closings: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Session {
    filters: BTreeSet<String>,
    /// The connection that has it.
    link: Option<TcpStream>,
}

impl AwsBroker {
    /// Serves on this port of 127.0.0.1, as the server of `pair`. On port 443, and with `needs_alpn`, it demands the
    /// application protocol.
    pub(super) fn start(port: u16, needs_alpn: bool, pair: &Pair, account: &Path) -> AwsBroker {
        let mut tls = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).expect("TLS");
        tls.set_certificate_chain_file(&pair.cert).expect("a file");
        tls.set_private_key_file(&pair.key, SslFiletype::PEM)
            .expect("a file");
        // AWS knows its certificates one by one; `serve` looks.
        let mode = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
        tls.set_verify_callback(mode, |_, _| true);
        tls.set_alpn_select_callback(|_, offered| {
            select_next_proto(ALPN, offered).ok_or(AlpnError::ALERT_FATAL)
        });
        let tls = tls.build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            account: account.to_owned(),
            needs_alpn,
            has_ended: AtomicBool::new(false),
            sessions: Mutex::default(),
            closings: Mutex::default(),
        });
        let ours = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            while let Ok((tcp, _)) = listener.accept() {
                if ours.has_ended.load(Ordering::SeqCst) {
                    return;
                }
                let (tls, shared) = (tls.clone(), Arc::clone(&ours));
                thread::spawn(move || {
                    tcp.set_read_timeout(Some(HANG)).expect("a read limit");
                    let served = match tls.accept(tcp) {
                        Ok(stream) => serve(stream, &shared),
                        Err(error) => Err(format!("TLS: {error}")),
                    };
                    if let Err(why) = served {
                        lock(&shared.closings).push(why);
                    }
                });
            }
        });
        AwsBroker {
            port,
            shared,
            thread: Some(thread),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Why it closed connections since the last call.
    pub(super) fn closings(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.shared.closings))
    }
}

impl Drop for AwsBroker {
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

fn hold(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}

/// Serves a connection until the client ends it.
///
/// # Errors
/// The breach on which the broker closes it.
fn serve(stream: SslStream<TcpStream>, shared: &Shared) -> Result<(), String> {
    if shared.needs_alpn {
        hold(stream.ssl().selected_alpn_protocol().is_some(), || {
            "no x-amzn-mqtt-ca in the handshake".to_owned()
        })?;
    }
    let certificate = stream.ssl().peer_certificate().ok_or("no certificate")?;
    let digest = certificate
        .digest(MessageDigest::sha256())
        .expect("a digest");
    let id: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let policies = || Policies::of(&shared.account, &id);
    let mut link = Connection::over(stream);
    let Bytes::Packet(first) = link.read_bytes_within(HANG) else {
        return Err("no CONNECT came first".to_owned());
    };
    if first.get(8) == Some(&5) {
        // This stand-in speaks MQTT 3.1.1 alone.
        link.send_connack(ConnectReturnCode::RefusedProtocolVersion, false);
        return Ok(());
    }
    let read = v4::Packet::read(&mut BytesMut::from(&first[..]), first.len());
    let Ok(v4::Packet::Connect(connect)) = read else {
        return Err("no CONNECT came first".to_owned());
    };
    let client = connect.client_id.clone();
    let mut attributes = Vec::new();
    if !connect.clean_session {
        attributes.push("PersistentConnect");
    }
    if connect.last_will.is_some() {
        attributes.push("LastWill");
    }
    hold(client.len() <= 128, || format!("{client}: too long"))?;
    policies()?.allow("iot:Connect", &format!("client/{client}"), &attributes)?;
    let mine = link
        .stream()
        .get_ref()
        .try_clone()
        .expect("the same stream");
    let found = {
        let mut sessions = lock(&shared.sessions);
        if connect.clean_session {
            sessions.remove(&client);
        }
        let found = sessions.contains_key(&client);
        let session = sessions.entry(client.clone()).or_default();
        // The older of two connections of the same name ends.
        if let Some(older) = session.link.replace(mine) {
            drop(older.shutdown(Shutdown::Both));
        }
        found
    };
    link.send_connack(ConnectReturnCode::Success, found);
    let served = packets(&mut link, &client, shared, &policies);
    // The session has a copy of the stream, which alone would keep the connection open.
    drop(link.stream().get_ref().shutdown(Shutdown::Both));
    if connect.clean_session {
        lock(&shared.sessions).remove(&client);
    }
    served
}

fn packets(
    link: &mut Connection<SslStream<TcpStream>>,
    client: &str,
    shared: &Shared,
    policies: &dyn Fn() -> Result<Policies, String>,
) -> Result<(), String> {
    let mut next = 0;
    while let Event::Packet(packet, _) = link.read_event(HANG) {
        match packet {
            v4::Packet::Subscribe(subscribe) => {
                let policies = policies()?;
                hold(subscribe.filters.len() <= 8, || {
                    format!("{} filters in one SUBSCRIBE", subscribe.filters.len())
                })?;
                for filter in &subscribe.filters {
                    fits(&filter.path)?;
                    policies.allow(
                        "iot:Subscribe",
                        &format!("topicfilter/{}", filter.path),
                        &[],
                    )?;
                }
                if subscribe
                    .filters
                    .iter()
                    .any(|filter| filter.qos == QoS::ExactlyOnce)
                {
                    continue;
                }
                let mut sessions = lock(&shared.sessions);
                let filters = &mut sessions.entry(client.to_owned()).or_default().filters;
                filters.extend(subscribe.filters.iter().map(|filter| filter.path.clone()));
                hold(filters.len() <= 50, || {
                    "more than 50 subscriptions".to_owned()
                })?;
                drop(sessions);
                link.grant(&subscribe);
            }
            v4::Packet::Unsubscribe(unsubscribe) => {
                let mut sessions = lock(&shared.sessions);
                let session = sessions.entry(client.to_owned()).or_default();
                session
                    .filters
                    .retain(|filter| !unsubscribe.topics.contains(filter));
                drop(sessions);
                link.send_packet(v4::Packet::UnsubAck(v4::UnsubAck::new(unsubscribe.pkid)));
            }
            v4::Packet::Publish(mut message) => {
                let topic = format!("topic/{}", message.topic);
                let policies = policies()?;
                fits(&message.topic)?;
                hold(
                    !message.topic.starts_with('$') && !has_wildcards(&message.topic),
                    || format!("{topic} is reserved"),
                )?;
                hold(message.payload.len() <= 128 * 1024, || {
                    format!("a payload of {} bytes", message.payload.len())
                })?;
                policies.allow("iot:Publish", &topic, &[])?;
                match message.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => link.send_puback(message.pkid),
                    // AWS does not answer these.
                    QoS::ExactlyOnce => continue,
                }
                let is_subscribed = lock(&shared.sessions).get(client).is_some_and(|session| {
                    let mut filters = session.filters.iter();
                    filters.any(|filter| matches(&message.topic, filter))
                });
                if is_subscribed && policies.allow("iot:Receive", &topic, &[]).is_ok() {
                    next = next % 1000 + 1;
                    message.pkid = next;
                    link.send_packet(v4::Packet::Publish(message));
                }
            }
            v4::Packet::PingReq => link.send_packet(v4::Packet::PingResp),
            v4::Packet::PubAck(_) => {}
            v4::Packet::Disconnect => return Ok(()),
            other => return Err(format!("unexpected: {other:?}")),
        }
    }
    Ok(())
}

/// The limits of a topic and of a filter.
fn fits(topic: &str) -> Result<(), String> {
    let slashes = topic.matches('/').count();
    hold(slashes <= 7, || format!("{topic}: {slashes} slashes"))?;
    hold(topic.len() <= 256, || format!("{topic}: too long"))
}
