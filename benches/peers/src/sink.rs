//! The sink: a server over mutual TLS that acknowledges everything as fast as it can and keeps nothing.
//!
//! It reads all bytes that are there, looks at the packets in place, and answers with one write. To a client of MQTT 5 it
//! states the window as its receive maximum. A subscription gets messages if its filter asks for them (`source.rs`). Each connection has a thread.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Result, bail};
use openssl::ssl::{SslAcceptor, SslStream};

use crate::packets::{self, Packet};
use crate::source::Source;
use crate::tls::{self, Buffered, Certs};

/// Answers that may collect while there is more to read.
const MOST_ANSWERS: usize = 16 * 1024;

/// Listens on a port that the system chooses, prints it, and serves until the process ends.
pub fn serve(certs: &Certs) -> Result<()> {
    let acceptor = certs.acceptor()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (socket, _) = listener.accept()?;
        let acceptor = acceptor.clone();
        thread::Builder::new().spawn(move || {
            if let Err(error) = answer(&acceptor, socket) {
                eprintln!("sink: {error:#}");
            }
        })?;
    }
}

fn answer(acceptor: &SslAcceptor, socket: TcpStream) -> Result<()> {
    let mut stream = tls::accept(acceptor, socket)?;
    let mut source = Source::default();
    match exchange(&mut stream, &mut source) {
        // A contender ends while messages are on their way to it.
        Err(_) if source.has_begun() => Ok(()),
        ended => ended,
    }
}

fn exchange(stream: &mut SslStream<Buffered>, source: &mut Source) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut filled = 0;
    let mut answers = Vec::new();
    loop {
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        let length = stream.read(&mut buffer[filled..])?;
        if length == 0 {
            return Ok(());
        }
        filled += length;
        let mut begin = 0;
        let mut goes_on = true;
        while let Some((packet, length)) = packets::take(&buffer[begin..filled])? {
            goes_on = respond(&packet, source, &mut answers)?;
            begin += length;
        }
        buffer.copy_within(begin..filled, 0);
        filled -= begin;
        let more = goes_on && tls::has_received(stream) && answers.len() < MOST_ANSWERS;
        if !more {
            stream.write_all(&answers)?;
            answers.clear();
            for packets in source.take() {
                stream.write_all(packets)?;
            }
            stream.flush()?;
        }
        if !goes_on {
            return Ok(());
        }
    }
}

/// Adds the answer to a packet. Returns whether the connection goes on.
#[inline]
fn respond(packet: &Packet<'_>, source: &mut Source, answers: &mut Vec<u8>) -> Result<bool> {
    match packet.kind() {
        packets::PUBACK => source.acknowledge(),
        packets::PUBLISH => {
            let [high, low] = match packet.first & 0b110 {
                0 => return Ok(true),
                _ => packet.publish_identifier()?,
            };
            let kind = match packet.first & 0b110 {
                0b010 => packets::PUBACK,
                _ => packets::PUBREC,
            };
            answers.extend([kind << 4, 2, high, low]);
        }
        packets::PUBREL => {
            let [high, low] = packet.identifier()?;
            answers.extend([packets::PUBCOMP << 4, 2, high, low]);
        }
        // Acknowledgments are the same in both versions. Only publishers speak MQTT 5.
        packets::CONNECT => match packet.window5()? {
            None => answers.extend([packets::CONNACK << 4, 2, 0, 0]),
            Some(window) => answers.extend(packets::connack5(window)),
        },
        packets::PINGREQ => answers.extend([0xd0, 0]),
        packets::SUBSCRIBE => {
            let [high, low] = packet.identifier()?;
            // Every contender subscribes to one filter at a time.
            let qos = packet.body.last().copied().unwrap_or_default();
            answers.extend([0x90, 3, high, low, qos]);
            source.subscribe(packet.filter()?)?;
        }
        packets::UNSUBSCRIBE => {
            let [high, low] = packet.identifier()?;
            answers.extend([0xb0, 2, high, low]);
        }
        packets::DISCONNECT => return Ok(false),
        other => bail!("a client sent a packet of type {other}"),
    }
    Ok(true)
}
