//! As much of MQTT 3.1.1 as the sink and the raw loop need, and of MQTT 5 as the sink needs for publishers. Written by hand, because with a general
//! codec the codec would be measured.

use anyhow::{Context as _, Result, bail, ensure};

pub const CONNECT: u8 = 1;
pub const CONNACK: u8 = 2;
pub const PUBLISH: u8 = 3;
pub const PUBACK: u8 = 4;
pub const PUBREC: u8 = 5;
pub const PUBREL: u8 = 6;
pub const PUBCOMP: u8 = 7;
pub const SUBSCRIBE: u8 = 8;
pub const SUBACK: u8 = 9;
pub const UNSUBSCRIBE: u8 = 10;
pub const PINGREQ: u8 = 12;
pub const DISCONNECT: u8 = 14;

/// One packet within a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'b> {
    /// The first byte: type and flags.
    pub first: u8,
    /// The bytes behind the fixed header.
    pub body: &'b [u8],
}

impl Packet<'_> {
    /// The packet type.
    pub fn kind(&self) -> u8 {
        self.first >> 4
    }

    /// The packet identifier at the beginning of the body.
    pub fn identifier(&self) -> Result<[u8; 2]> {
        match self.body {
            [high, low, ..] => Ok([*high, *low]),
            _ => bail!("a packet of type {} has no identifier", self.kind()),
        }
    }

    /// The window that the client identifier of a CONNECT of MQTT 5 ends in; `None` with MQTT 3.1.1.
    pub fn window5(&self) -> Result<Option<u16>> {
        if self.body.get(6) != Some(&5) {
            return Ok(None);
        }
        // A clean start, without will, user name and password: the client identifier comes last.
        let digits = self.body.rsplit(|byte| !byte.is_ascii_digit()).next();
        let window = std::str::from_utf8(digits.unwrap_or_default())?;
        let window = window.parse();
        Ok(Some(window.context(
            "a client identifier of MQTT 5 without a window",
        )?))
    }

    /// The first filter of a SUBSCRIBE.
    pub fn filter(&self) -> Result<&str> {
        let [_, _, high, low, rest @ ..] = self.body else {
            bail!("a SUBSCRIBE has no filter");
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let filter = rest
            .get(..length)
            .context("a SUBSCRIBE ends within its filter")?;
        Ok(std::str::from_utf8(filter)?)
    }

    /// The identifier of a PUBLISH, behind the topic.
    pub fn publish_identifier(&self) -> Result<[u8; 2]> {
        let [high, low, ..] = self.body else {
            bail!("a PUBLISH has no topic");
        };
        let after = 2 + usize::from(u16::from_be_bytes([*high, *low]));
        match self.body.get(after..) {
            Some([high, low, ..]) => Ok([*high, *low]),
            _ => bail!("a PUBLISH ends within its topic"),
        }
    }
}

/// The packet at the beginning of `bytes` and its length, if it is complete.
#[inline]
pub fn take(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>> {
    let Some(first) = bytes.first() else {
        return Ok(None);
    };
    let mut length = 0;
    for at in 1..5 {
        let Some(byte) = bytes.get(at) else {
            return Ok(None);
        };
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            let end = at + 1 + length;
            return Ok(bytes.get(at + 1..end).map(|body| {
                let packet = Packet {
                    first: *first,
                    body,
                };
                (packet, end)
            }));
        }
    }
    bail!("a length of more than four bytes")
}

/// CONNECT with a clean session, without user name.
pub fn connect(client_id: &str, keep_alive: u16) -> Result<Vec<u8>> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2];
    body.extend(keep_alive.to_be_bytes());
    push_string(&mut body, client_id)?;
    Ok(framed(CONNECT << 4, &body))
}

/// CONNACK of MQTT 5 with a receive maximum.
pub fn connack5(window: u16) -> [u8; 8] {
    let [high, low] = window.to_be_bytes();
    [CONNACK << 4, 6, 0, 0, 3, 0x21, high, low]
}

/// PUBLISH. A QoS 0 packet has no identifier.
pub fn publish(topic: &str, qos: u8, identifier: u16, payload: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    push_string(&mut body, topic)?;
    if qos > 0 {
        body.extend(identifier.to_be_bytes());
    }
    body.extend_from_slice(payload);
    Ok(framed(PUBLISH << 4 | qos << 1, &body))
}

/// SUBSCRIBE to one filter with QoS 1.
pub fn subscribe(filter: &str, identifier: u16) -> Result<Vec<u8>> {
    let mut body = identifier.to_be_bytes().to_vec();
    push_string(&mut body, filter)?;
    body.push(1);
    Ok(framed(SUBSCRIBE << 4 | 2, &body))
}

fn push_string(into: &mut Vec<u8>, text: &str) -> Result<()> {
    let length = u16::try_from(text.len())?;
    into.extend(length.to_be_bytes());
    into.extend_from_slice(text.as_bytes());
    Ok(())
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let low = (length & 0x7f) as u8;
        length >>= 7;
        packet.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

/// Checks that a server's first packet accepts the connection.
pub fn expect_connack(packet: &Packet<'_>) -> Result<()> {
    ensure!(
        packet.kind() == CONNACK && packet.body == [0, 0],
        "expected CONNACK, got {packet:?}"
    );
    Ok(())
}
