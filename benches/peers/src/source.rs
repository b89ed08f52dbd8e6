//! The messages that the server sends to a subscriber: so many that no more than a window are unacknowledged.
//!
//! The filter that a contender subscribes to says what it wants: see [`filter`]. Messages go to all threads in turn.
//! They are made before the first one is sent, so that sending costs as little as possible. No I/O here.

use anyhow::{Context as _, Result, ensure};

use crate::packets;

/// The filter, and the topic, of one receiving thread. The server begins once there is one for each of the threads.
pub fn filter(window: u16, payload_size: usize, threads: usize, thread: usize) -> String {
    format!("source/{window}/{payload_size}/{threads}/{thread}")
}

/// The messages that one connection gets.
#[derive(Debug, Default)]
pub struct Source {
    /// The parts of the filter that all threads have in common.
    common: String,
    threads: usize,
    subscribed: usize,
    window: usize,
    /// A window of packets, and behind each of them where it ends.
    packets: Vec<u8>,
    ends: Vec<usize>,
    sent: u64,
    acknowledged: u64,
}

impl Source {
    /// A subscription. Returns whether its filter asks for messages.
    pub fn subscribe(&mut self, filter: &str) -> Result<bool> {
        let Some(wanted) = filter.strip_prefix("source/") else {
            return Ok(false);
        };
        let mut parts = wanted.split('/').map(str::parse::<usize>);
        let mut part = || parts.next().context("the filter is too short");
        let (window, size, threads) = (part()??, part()??, part()??);
        let (common, _) = filter.rsplit_once('/').context("the filter is too short")?;
        ensure!(
            self.common.is_empty() || self.common == common,
            "one connection has one source"
        );
        ensure!(
            (1..=65_535).contains(&window) && threads > 0,
            "there are no messages to {filter}"
        );
        common.clone_into(&mut self.common);
        (self.window, self.threads) = (window, threads);
        self.subscribed += 1;
        if self.has_begun() {
            self.prepare(size)?;
        }
        Ok(true)
    }

    /// One more message was acknowledged.
    pub fn acknowledge(&mut self) {
        self.acknowledged += 1;
    }

    /// The packets that may leave now, one after the other: to be written before the next call.
    pub fn take(&mut self) -> impl Iterator<Item = &[u8]> {
        let mut room = match self.has_begun() {
            true => self.window - (self.sent - self.acknowledged) as usize,
            false => 0,
        };
        let mut pieces = [0..0, 0..0];
        for piece in &mut pieces {
            let begin = self.sent.checked_rem(self.window as u64).unwrap_or(0) as usize;
            let count = room.min(self.window - begin);
            *piece = self.begin_of(begin)..self.begin_of(begin + count);
            self.sent += count as u64;
            room -= count;
        }
        pieces.into_iter().map(|piece| &self.packets[piece])
    }

    /// Whether it sends messages.
    pub fn has_begun(&self) -> bool {
        self.threads > 0 && self.subscribed >= self.threads
    }

    /// A number in the window was used before only after its acknowledgment, because acknowledgments come in order.
    fn prepare(&mut self, size: usize) -> Result<()> {
        for number in 0..self.window {
            let topic = format!("{}/{}", self.common, number % self.threads);
            let mut payload = vec![b'x'; size];
            let text = number.to_string();
            let length = text.len().min(size);
            payload[..length].copy_from_slice(&text.as_bytes()[..length]);
            let packet = packets::publish(&topic, 1, number as u16 + 1, &payload)?;
            self.packets.extend_from_slice(&packet);
            self.ends.push(self.packets.len());
        }
        Ok(())
    }

    fn begin_of(&self, number: usize) -> usize {
        match number {
            0 => 0,
            _ => self.ends[number - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(source: &mut Source) -> Vec<u16> {
        let bytes = source.take().collect::<Vec<_>>().concat();
        let mut rest = bytes.as_slice();
        let mut identifiers = Vec::new();
        while let Some((packet, length)) = packets::take(rest).unwrap() {
            identifiers.push(u16::from_be_bytes(packet.publish_identifier().unwrap()));
            rest = &rest[length..];
        }
        identifiers
    }

    #[test]
    fn it_begins_with_the_last_thread_and_keeps_to_the_window() {
        let mut source = Source::default();
        assert!(!source.subscribe("other").unwrap());
        assert!(source.subscribe(&filter(3, 1, 2, 0)).unwrap());
        assert!(sent(&mut source).is_empty());
        assert!(source.subscribe(&filter(3, 1, 2, 1)).unwrap());
        assert_eq!(sent(&mut source), [1, 2, 3]);
        assert!(sent(&mut source).is_empty());
        source.acknowledge();
        assert_eq!(sent(&mut source), [1]);
        source.acknowledge();
        source.acknowledge();
        source.acknowledge();
        assert_eq!(sent(&mut source), [2, 3, 1]);
    }
}
