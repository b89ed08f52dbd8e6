//! The beginning of a connection: CONNACK, and what follows from it. Pure; the loop's thread.

use std::time::Instant;

use super::event::Event;
use super::{LinkState, PacketKind, Session};
use crate::mqtt::packet::{ConnAck5, ConnectReturnCode, Incoming, ProtocolError};

impl<T> Session<T> {
    pub(super) fn handle_first_packet(
        &mut self,
        packet: Incoming,
        clean_session: bool,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        if let Incoming::ConnAck5(connack) = packet {
            return self.handle_connack5(connack, clean_session, now);
        }
        if let Incoming::Disconnect(said) = packet {
            // Nothing follows it on either side.
            self.link = LinkState::Unwelcome;
            return Err(ProtocolError::unexpected(
                "DISCONNECT",
                format!("it came where CONNACK was expected, with {said}"),
                "MQTT-3.14.0-1",
            ));
        }
        let Incoming::ConnAck {
            session_present,
            code,
        } = packet
        else {
            return Err(ProtocolError::unexpected(
                packet.name(),
                "it came where CONNACK was expected",
                "MQTT-3.2.0-1",
            ));
        };
        if code != ConnectReturnCode::Accepted {
            self.link = LinkState::Down;
            self.events.push(Event::ConnectRefused(code));
            return Ok(());
        }
        if session_present && clean_session {
            return Err(ProtocolError::unexpected(
                packet.name(),
                "session present after a clean session was asked for",
                "MQTT-3.2.2-1",
            ));
        }
        self.on_connected(session_present, now);
        Ok(())
    }

    /// CONNACK of MQTT 5. A client that has no session asks for a clean start, so that the broker cannot have one
    /// [MQTT-3.2.2-4].
    fn handle_connack5(
        &mut self,
        connack: Box<ConnAck5>,
        clean_start: bool,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        if connack.code.is_failure() {
            self.link = LinkState::Down;
            self.events.push(Event::ConnectRefused5(connack));
            return Ok(());
        }
        if connack.session_present && clean_start {
            return Err(ProtocolError::unexpected(
                "CONNACK",
                "session present after a clean start was asked for",
                "MQTT-3.2.2-2",
            ));
        }
        let session_present = connack.session_present;
        let aliases = self.server.terms().map_or(0, |terms| terms.topic_aliases);
        self.output.agree(&connack, aliases);
        self.outbound.set_quota(Some(connack.receive_maximum));
        self.server.handle_connected(connack);
        self.on_connected(session_present, now);
        Ok(())
    }

    /// With the session kept, the packets in flight are sent again. Without it, every subscription is renewed before
    /// anything else, and the packets in flight are sent as new ones.
    pub(super) fn on_connected(&mut self, session_present: bool, now: Instant) {
        self.link = LinkState::Up;
        self.outbound.handle_connected(now);
        let connack = self.server.connack();
        let keep_alive = connack.and_then(|connack| connack.server_keep_alive);
        self.liveness.handle_connected(keep_alive);
        if !session_present {
            self.inbound.handle_session_lost();
            self.filters.owe_all();
            self.outbound.handle_session_lost(&mut self.events);
        }
        let owed = self.filters.owed().collect();
        let owed = self.end_refused(owed);
        if self.outbound.begin_trials(&owed, now) {
            let begin = self.output.position();
            self.liveness.send_ping(None, &mut self.output, now);
            self.note_own(PacketKind::PingReq, 0, begin);
        }
        self.send_renewals(&owed, now);
        if session_present {
            for id in self.outbound.resume() {
                self.send(id, now);
            }
        }
        self.events.push(Event::Connected {
            session_present,
            resubscribing: owed.len(),
        });
        self.send_waiting(now);
    }
}
