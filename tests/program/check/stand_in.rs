//! A stand-in for a broker that dislikes one thing, with TLS or without. It behaves like AWS IoT: it closes the
//! connection in place of a refusal.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use native_tls::{Identity, TlsAcceptor};
use rumqttc::mqttbytes::v4::{self, ConnectReturnCode};

use crate::support::certs::Pair;
use crate::support::scripted::Stream;
use crate::support::{Connection, Event, HANG};

/// The packet that the stand-in for a broker refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dislike {
    Nothing,
    /// Closes whatever comes.
    Everything,
    /// Answers as a web server does.
    Web,
    /// Takes everything and answers nothing.
    Silence,
    /// Refuses CONNECT with this code.
    Code(u8),
    /// Closes at such a packet, as AWS IoT does.
    Connect,
    Subscribe,
    Publish,
    /// Acknowledges and does not deliver.
    Receive,
    /// Refuses the filter.
    Filter,
    /// Keeps no session.
    Session,
}

/// A stand-in for a broker. It serves one connection at a time until it is dropped.
pub(super) struct StandIn {
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl StandIn {
    /// With TLS if it has a certificate. It demands none of the client.
    pub(super) fn start(pair: Option<&Pair>, dislike: Dislike) -> StandIn {
        let acceptor = pair.map(|Pair { cert, key }| {
            let (cert, key) = (
                fs::read(cert).expect("a file"),
                fs::read(key).expect("a file"),
            );
            let identity = Identity::from_pkcs8(&cert, &key).expect("an identity");
            TlsAcceptor::new(identity).expect("an acceptor")
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let port = listener.local_addr().expect("its address").port();
        let ended = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            let mut has_session = false;
            while let Ok((tcp, _)) = listener.accept() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                match &acceptor {
                    // A client that does not like the certificate breaks off.
                    Some(acceptor) => {
                        if let Ok(tls) = acceptor.accept(tcp) {
                            serve(tls, dislike, &mut has_session);
                        }
                    }
                    None => serve(tcp, dislike, &mut has_session),
                }
            }
        });
        StandIn {
            port,
            ended,
            thread: Some(thread),
        }
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the thread from accepting.
        drop(std::net::TcpStream::connect((
            Ipv4Addr::LOCALHOST,
            self.port,
        )));
        if let Some(thread) = self.thread.take() {
            // Its panic has told itself.
            drop(thread.join());
        }
    }
}

fn serve<S: Stream>(mut stream: S, dislike: Dislike, has_session: &mut bool) {
    stream
        .tcp()
        .set_read_timeout(Some(HANG))
        .expect("a read limit");
    let mut some = [0; 512];
    match dislike {
        Dislike::Everything => return drop(stream.read(&mut some)),
        Dislike::Silence => {
            while stream.read(&mut some).is_ok_and(|count| count > 0) {}
            return;
        }
        Dislike::Web => {
            drop(stream.read(&mut some));
            drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
            return;
        }
        _ => {}
    }
    let mut link = Connection::over(stream);
    while let Event::Packet(packet, _) = link.read_event(HANG) {
        match packet {
            v4::Packet::Connect(_) if dislike == Dislike::Connect => return,
            v4::Packet::Connect(connect) => {
                if let Dislike::Code(code) = dislike {
                    return link.send(&[0x20, 2, 0, code]);
                }
                let present = *has_session && !connect.clean_session;
                link.send_connack(ConnectReturnCode::Success, present);
                *has_session = !connect.clean_session && dislike != Dislike::Session;
            }
            v4::Packet::Subscribe(_) if dislike == Dislike::Subscribe => return,
            v4::Packet::Subscribe(subscribe) if dislike == Dislike::Filter => {
                let [high, low] = subscribe.pkid.to_be_bytes();
                link.send(&[0x90, 3, high, low, 0x80]);
            }
            v4::Packet::Subscribe(subscribe) => link.grant(&subscribe),
            v4::Packet::Publish(_) if dislike == Dislike::Publish => return,
            v4::Packet::Publish(message) => {
                link.send_puback(message.pkid);
                if dislike != Dislike::Receive {
                    link.send_packet(v4::Packet::Publish(message));
                }
            }
            v4::Packet::PingReq => link.send_packet(v4::Packet::PingResp),
            v4::Packet::Disconnect => return,
            _ => {}
        }
    }
}
