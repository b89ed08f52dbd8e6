//! Several inboxes want one filter, and the last one that stays does not get it: the broker is told of what the others have
//! left before. The loop's turns, over memory.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::Agent;
use super::memory::{Peer, client, connected, memory_link, turn};
use crate::client::handle::Handle;
use crate::client::inbox::Inbox;
use crate::client::outlet::WhenFull;
use crate::client::ticket::Ticket;
use crate::mqtt::packet::{Filter, QoS};
use crate::mqtt::session::LinkLoss;

struct Fixture {
    agent: Agent,
    handle: Handle,
    peer: Arc<Mutex<Peer>>,
    tickets: Vec<Ticket>,
}

impl Fixture {
    fn new() -> Self {
        let (agent, handle, _, peer) = connected(client(), 0);
        let mut t = Fixture {
            agent,
            handle,
            peer,
            tickets: Vec::new(),
        };
        t.written();
        t
    }

    fn inbox(&self) -> Inbox {
        self.handle.inbox(1, WhenFull::WaitAside)
    }

    fn subscribe(&mut self, inbox: &Inbox, names: &[&str]) {
        let filters = names
            .iter()
            .map(|name| Filter::new(*name, QoS::AtLeastOnce));
        let ticket = self.handle.subscribe(inbox, filters.collect()).unwrap();
        self.tickets.push(ticket);
        self.turn();
    }

    fn unsubscribe(&mut self, inbox: &Inbox, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        self.tickets
            .push(self.handle.unsubscribe(inbox, names).unwrap());
        self.turn();
    }

    fn turn(&mut self) {
        for _ in 0..2 {
            self.agent.take_urgent(Instant::now());
            turn(&mut self.agent);
        }
    }

    fn answers(&mut self, packet: &[u8]) {
        self.peer.lock().unwrap().to_read.push_back(packet.to_vec());
        self.turn();
    }

    fn drops(&mut self, inbox: Inbox) {
        drop(inbox);
        self.turn();
    }

    fn loses_link_and_session(&mut self) {
        let now = Instant::now();
        self.agent.link_lost(LinkLoss::PeerClosed, now);
        let (link, peer) = memory_link();
        self.agent.greet(link, now, now);
        self.peer = peer;
        self.agent.exchange(now);
        self.written();
        self.answers(&[0x20, 2, 0, 0]);
    }

    fn written(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.peer.lock().unwrap().written).concat()
    }

    #[track_caller]
    fn sends(&mut self, packets: &[&[u8]]) {
        let written = self.written();
        assert_eq!(written, packets.concat(), "{written:x?}");
    }

    #[track_caller]
    fn has_nothing(&mut self) {
        self.turn();
        self.sends(&[]);
        assert!(self.agent.subscriptions.is_empty());
        assert!(!self.agent.session.is_subscribed("x"));
        assert!(self.tickets.iter().all(|ticket| ticket.outcome().is_some()));
    }
}

/// SUBSCRIBE to the filter `x`.
fn subscribe(id: u8) -> [u8; 8] {
    [0x82, 6, 0, id, 0, 1, b'x', 1]
}

/// UNSUBSCRIBE from the filter `name`.
fn unsubscribe(id: u8, name: u8) -> [u8; 7] {
    [0xa2, 5, 0, id, 0, 1, name]
}

#[test]
fn a_filter_of_a_dropped_inbox_is_left_once_the_last_one_that_wants_it_is_refused() {
    let mut t = Fixture::new();
    let (first, second) = (t.inbox(), t.inbox());
    t.subscribe(&first, &["x"]);
    t.subscribe(&second, &["x"]);
    t.drops(second);
    t.sends(&[&subscribe(1)]);
    t.answers(&[0x90, 3, 0, 1, 0x80]);
    t.sends(&[&subscribe(2)]);
    t.answers(&[0x90, 3, 0, 2, 1]);
    t.sends(&[&unsubscribe(3, b'x')]);
    t.answers(&[0xb0, 2, 0, 3]);
    t.has_nothing();
}

#[test]
fn a_filter_is_left_if_the_last_one_is_refused_while_an_unsubscribe_without_it_is_under_way() {
    for is_dropped in [false, true] {
        let mut t = Fixture::new();
        let (first, second) = (t.inbox(), t.inbox());
        t.subscribe(&first, &["x"]);
        t.sends(&[&subscribe(1)]);
        t.answers(&[0x90, 3, 0, 1, 1]);
        t.subscribe(&second, &["x"]);
        t.sends(&[&subscribe(2)]);
        // The second one stays on `x`.
        t.unsubscribe(&first, &["x", "y"]);
        t.sends(&[&unsubscribe(3, b'y')]);
        t.answers(&[0x90, 3, 0, 2, 0x80]);
        t.sends(&[]);
        if is_dropped {
            t.drops(first);
            t.sends(&[&unsubscribe(4, b'x')]);
            t.answers(&[0xb0, 2, 0, 3]);
        } else {
            t.answers(&[0xb0, 2, 0, 3]);
            t.sends(&[&unsubscribe(4, b'x')]);
        }
        t.answers(&[0xb0, 2, 0, 4]);
        t.has_nothing();
    }
}

#[test]
fn a_filter_of_a_dropped_inbox_is_left_once_the_last_one_that_has_it_is_not_renewed() {
    let mut t = Fixture::new();
    let (first, second) = (t.inbox(), t.inbox());
    t.subscribe(&first, &["x"]);
    t.sends(&[&subscribe(1)]);
    t.answers(&[0x90, 3, 0, 1, 1]);
    t.subscribe(&second, &["x"]);
    t.sends(&[&subscribe(2)]);
    t.drops(second);
    t.loses_link_and_session();
    t.sends(&[&subscribe(3)]);
    t.answers(&[0x90, 3, 0, 3, 0x80]);
    t.sends(&[&subscribe(4)]);
    t.answers(&[0x90, 3, 0, 4, 1]);
    t.sends(&[&unsubscribe(5, b'x')]);
    t.answers(&[0xb0, 2, 0, 5]);
    t.has_nothing();
}
