//! Verdicts on wills. A proxy stands before the broker, to lose the link without DISCONNECT.

use crate::party::{Party, texts};
use crate::peers::Peer;
use crate::support::{HANG, Proxy};
use crate::verdicts::{compare, properties};
use mqtt_connection_sharing::{ConnectionState, QoS, Will};

const TOPIC: &str = "will/1";

/// A client behind a proxy, with a will after this many seconds, and one that waits for it.
struct Death {
    proxy: Proxy,
    mortal: Party,
    heir: Party,
}

impl Death {
    fn with_delay(peer: &Peer, delay: u32) -> Death {
        let proxy = Proxy::start(peer.port()).expect("a proxy");
        let mut options = peer.options_through(proxy.port(), "mortal");
        let mut will = Will::new(TOPIC, QoS::AtLeastOnce, "last words");
        will.properties.delay = delay;
        will.properties.message = properties();
        options.last_will = Some(will);
        let heir = Party::join(peer.options("heir"));
        heir.subscribe(TOPIC);
        Death {
            proxy,
            mortal: Party::join(options),
            heir,
        }
    }

    /// The link is lost, and there will be no other.
    fn die(&self) {
        self.proxy.refuse().expect("a proxy");
        self.proxy.cut_all().expect("a proxy");
    }

    /// The will; none comes after HANG.
    fn inherit(&self) -> String {
        match self.heir.inbox.recv_timeout(HANG) {
            Ok(will) if will.payload() == b"last words" => {
                compare(will.received().map(|received| &received.properties))
            }
            Ok(other) => texts(&[other]),
            Err(_) => "none".to_owned(),
        }
    }

    fn end(self) {
        drop(self.mortal.handle().terminate(std::time::Duration::ZERO));
        let _ = self.mortal.expect_end();
        self.heir.leave();
    }
}

pub fn whole(peer: &Peer) -> String {
    let death = Death::with_delay(peer, 0);
    death.die();
    let word = death.inherit();
    death.end();
    word
}

pub fn delayed(peer: &Peer) -> String {
    let death = Death::with_delay(peer, 2);
    death.die();
    let word = match death.inherit().as_str() {
        "none" => "none",
        _ => "published",
    };
    death.end();
    word.to_owned()
}

/// A client that is back before the delay is over has no will, and none either once it has left with DISCONNECT.
pub fn taken_back(peer: &Peer) -> String {
    let death = Death::with_delay(peer, 60);
    let events = death.mortal.handle().events();
    death.proxy.cut_all().expect("a proxy");
    let lost = events
        .into_iter()
        .any(|event| matches!(event.kind, mqtt_connection_sharing::EventKind::Lost { .. }));
    assert!(lost);
    let back = death
        .mortal
        .handle()
        .wait_for_connection(HANG, ConnectionState::is_online);
    back.expect("another connection");
    let Death {
        mortal,
        heir,
        proxy: _proxy,
    } = death;
    mortal.leave();
    let came = heir.texts_until_mark(&heir, TOPIC);
    heir.leave();
    came
}
