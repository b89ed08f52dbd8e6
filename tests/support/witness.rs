//! The witness of a storm (`storm.rs`): a client of the test itself, connected to the broker directly,
//! that sees each QoS 2 message as often as the broker passes it on. Nobody cuts its link, and its
//! session is new each time. It speaks through rumqttc's codec. A message that it sees twice was
//! therefore published twice.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rumqttc::mqttbytes::{QoS, v4};

use super::account::{Account, Last, Subscriber};
use super::{Event, HANG, Mosquitto};

/// The witness watches until the broker is killed.
pub(super) struct Witness {
    thread: JoinHandle<Last>,
}

impl Witness {
    /// Watches from the return of this call on; `last` is what the witness before it saw last.
    pub(super) fn start(broker: &Mosquitto, account: &Arc<Account>, mut last: Last) -> Witness {
        let mut client = broker.client("witness", true);
        let mut subscribe = v4::Subscribe::new("storm/+/2", QoS::AtLeastOnce);
        subscribe.pkid = 1;
        client.send_packet(v4::Packet::Subscribe(subscribe));
        client.expect_suback();
        let account = Arc::clone(account);
        let look = move || {
            loop {
                match client.read_event(HANG) {
                    Event::Packet(v4::Packet::Publish(publish), _) => {
                        let (topic, payload) = (&publish.topic, &publish.payload);
                        account.see(Subscriber::Witness, topic, payload, &mut last);
                        client.send_puback(publish.pkid);
                        client.forget_received();
                    }
                    Event::Packet(other, _) => panic!("the witness got {other:?}"),
                    Event::Silence => {}
                    Event::Closed => return last,
                }
            }
        };
        let thread = thread::Builder::new().name("witness".into()).spawn(look);
        Witness {
            thread: thread.expect("a thread"),
        }
    }

    /// Checks that the witness still watches: otherwise a message that it has not seen proves nothing.
    ///
    /// # Panics
    /// When its link has ended before the broker's.
    pub(super) fn expect_looking(&self) {
        let looks = !self.thread.is_finished();
        assert!(looks, "the broker closed the witness's link");
    }

    /// Waits for the end of the link, which the broker's kill brings. Returns what the witness saw last.
    pub(super) fn join(self) -> Last {
        self.thread.join().expect("no panic in the witness")
    }
}
