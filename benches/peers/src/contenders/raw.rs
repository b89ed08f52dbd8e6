//! The limit that TLS sets: one thread writes ready-made packets, half a window at a time, and reads
//! acknowledgments until those of the other half have come. To receive, it looks at packets where they lie in the
//! buffer, and acknowledges with one write what one read of the socket brought.
//!
//! It has no queue, no other threads to serve and no ticket to resolve, and a lost link ends it. A
//! synchronous task writes one packet and reads one acknowledgment, blocking.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use native_tls::TlsStream;

use super::{client_id, filters, topic};
use crate::packets;
use crate::tls::{self, Buffered, Certs};
use crate::work::{Figures, Latencies, Mode, Quota, Work};

pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    ensure!(work.qos == 1, "the raw loop knows QoS 1 only");
    let mut link = Link::connect(certs, work.port)?;
    let one_thread = Work {
        threads: 1,
        ..work.clone()
    };
    let (mut quota, meter) = Quota::of_this_thread(work)?;
    let (messages, latencies) = match work.mode {
        Mode::Async => (pipelined(&mut link, work, &mut quota)?, None),
        Mode::Sync => {
            let (messages, latencies) = one_by_one(&mut link, work, &mut quota)?;
            (messages, Some(latencies))
        }
        Mode::Receive => (received(&mut link, work, &mut quota)?, None),
        Mode::Idle => {
            std::thread::sleep(Duration::from_secs_f64(work.seconds));
            (0, None)
        }
    };
    meter.stop("raw", &one_thread, messages, latencies)
}

struct Link {
    stream: TlsStream<Buffered>,
    buffer: Vec<u8>,
    filled: usize,
}

impl Link {
    fn connect(certs: &Certs, port: u16) -> Result<Self> {
        let mut link = Link {
            stream: tls::connect(certs, port)?,
            buffer: vec![0; 64 * 1024],
            filled: 0,
        };
        link.send(&packets::connect(&client_id("raw"), 60)?)?;
        while link.filled < 4 {
            let length = link.stream.read(&mut link.buffer[link.filled..])?;
            ensure!(length > 0, "the server closed the connection");
            link.filled += length;
        }
        match packets::take(&link.buffer[..link.filled])? {
            Some((packet, 4)) => packets::expect_connack(&packet)?,
            other => bail!("expected CONNACK, got {other:?}"),
        }
        link.filled = 0;
        Ok(link)
    }

    fn send(&mut self, packets: &[u8]) -> Result<()> {
        self.stream.write_all(packets)?;
        Ok(self.stream.flush()?)
    }

    /// Waits for acknowledgments; returns how many came.
    fn acknowledgments(&mut self) -> Result<u64> {
        let length = self.stream.read(&mut self.buffer[self.filled..])?;
        ensure!(length > 0, "the server closed the connection");
        let filled = self.filled + length;
        let whole = filled - filled % 4;
        for acknowledgment in self.buffer[..whole].chunks_exact(4) {
            let is_puback = acknowledgment.starts_with(&[packets::PUBACK << 4, 2]);
            ensure!(is_puback, "expected PUBACK, got {acknowledgment:?}");
        }
        self.buffer.copy_within(whole..filled, 0);
        self.filled = filled - whole;
        Ok(whole as u64 / 4)
    }
}

fn pipelined(link: &mut Link, work: &Work, quota: &mut Quota) -> Result<u64> {
    // With two halves in turn, no identifier is used again before its acknowledgment has come: the
    // servers here acknowledge in order.
    let half = (work.window / 2).max(1);
    let mut halves = [Vec::new(), Vec::new()];
    for (index, packets) in halves.iter_mut().enumerate() {
        for number in 0..half {
            let identifier = index as u16 * half + number + 1;
            let payload = work.payload(u64::from(identifier));
            packets.extend(packets::publish(&topic(0), work.qos, identifier, &payload)?);
        }
    }
    let size = halves[0].len() / usize::from(half);
    let (mut sent, mut acknowledged) = (0, 0);
    for turn in 0.. {
        let mut count = 0;
        while count < half && quota.next() {
            count += 1;
        }
        if count == 0 {
            break;
        }
        link.send(&halves[turn % 2][..size * usize::from(count)])?;
        sent += u64::from(count);
        while sent - acknowledged > u64::from(half) {
            acknowledged += link.acknowledgments()?;
        }
    }
    while acknowledged < sent {
        acknowledged += link.acknowledgments()?;
    }
    Ok(acknowledged)
}

/// Acknowledges with one write what one read brought.
fn received(link: &mut Link, work: &Work, quota: &mut Quota) -> Result<u64> {
    for (number, filter) in filters(work).enumerate() {
        link.send(&packets::subscribe(&filter, number as u16 + 1)?)?;
    }
    let mut messages = 0;
    let mut answers = Vec::new();
    loop {
        if link.filled == link.buffer.len() {
            link.buffer.resize(link.buffer.len() * 2, 0);
        }
        let length = link.stream.read(&mut link.buffer[link.filled..])?;
        ensure!(length > 0, "the server closed the connection");
        let filled = link.filled + length;
        let mut begin = 0;
        while let Some((packet, length)) = packets::take(&link.buffer[begin..filled])? {
            begin += length;
            match packet.kind() {
                packets::PUBLISH if !quota.next() => return Ok(messages),
                packets::PUBLISH => {
                    let [high, low] = packet.publish_identifier()?;
                    answers.extend([packets::PUBACK << 4, 2, high, low]);
                    messages += 1;
                }
                packets::SUBACK => {}
                other => bail!("the server sent a packet of type {other}"),
            }
        }
        link.buffer.copy_within(begin..filled, 0);
        link.filled = filled - begin;
        if !link.stream.get_ref().has_incoming() {
            link.send(&answers)?;
            answers.clear();
        }
    }
}

fn one_by_one(link: &mut Link, work: &Work, quota: &mut Quota) -> Result<(u64, Latencies)> {
    let packet = packets::publish(&topic(0), work.qos, 1, &work.payload(1))?;
    let mut latencies = Latencies::new()?;
    let mut messages = 0;
    while quota.next() {
        let begin = Instant::now();
        link.send(&packet)?;
        while link.acknowledgments()? == 0 {}
        latencies.add(begin);
        messages += 1;
    }
    Ok((messages, latencies))
}
