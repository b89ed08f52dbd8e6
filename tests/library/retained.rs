//! RETAIN in both directions: a message goes out with the flag that was asked for, also when it is sent
//! again, and an incoming message says whether it was retained.

// The functions that are tests in both versions have no attribute by which clippy knows tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use crate::support::running::{Running, attempts, message, security, send_at_once, told};
use crate::support::{HANG, Mosquitto, ScriptedBroker, in_both_versions};
use mqtt_connection_sharing::WhenFull;
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{Filter, Protocol, Publish, QoS};
use rumqttc::mqttbytes::v4;

in_both_versions! {
    retain_stays_on_what_is_sent_again_and_dup_is_set_only_within_a_session,
    an_incoming_message_says_whether_it_was_retained,
}

fn retained(topic: &str, qos: QoS, payload: &str) -> Publish {
    Publish::new(topic, qos, payload.to_owned()).with_retain(true)
}

fn retain_stays_on_what_is_sent_again_and_dup_is_set_only_within_a_session(protocol: Protocol) {
    // QoS, and the first byte at first, again in the same session, and again in a new one.
    for (qos, first, resumed, anew) in [
        (QoS::AtLeastOnce, 0x33, 0x3b, Some(0x33)),
        (QoS::ExactlyOnce, 0x35, 0x3d, None),
    ] {
        let mut broker = ScriptedBroker::speaking(protocol);
        let (running, mut link) = Running::online(&mut broker);
        let ticket = running.handle().publish(retained("t", qos, "x")).unwrap();
        let publish = link.expect_publish();
        assert!(publish.retain);
        assert_eq!(link.last_raw()[0], first);
        link.close();
        let (mut link, _) = broker.accept_client(true);
        link.expect_publish();
        assert_eq!(link.last_raw()[0], resumed, "in the same session");
        let Some(anew) = anew else {
            running.terminate(link);
            assert!(!told(ticket).is_delivered());
            continue;
        };
        link.close();
        let (mut link, _) = broker.accept_client(false);
        let again = link.expect_publish();
        assert_eq!(link.last_raw()[0], anew, "in a new session");
        link.send_puback(again.pkid);
        assert_eq!(attempts(told(ticket)), 3);
        running.terminate(link);
    }
    // QoS 0 is sent once.
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let publish = retained("t", QoS::AtMostOnce, "x");
    let ticket = running.handle().publish(publish).unwrap();
    link.expect_publish();
    assert_eq!(link.last_raw()[0], 0x31);
    assert!(told(ticket).is_delivered());
    running.terminate(link);
}

fn an_incoming_message_says_whether_it_was_retained(protocol: Protocol) {
    let mut broker = ScriptedBroker::speaking(protocol);
    let (running, mut link) = Running::online(&mut broker);
    let inbox = running.handle().inbox(4, WhenFull::WaitAside);
    running.subscribe(&mut link, &inbox, "t");
    let messages = [(None, "x", true), (None, "y", false), (Some(1), "z", true)];
    let packets = messages.map(|(id, payload, retain)| {
        let v4::Packet::Publish(mut publish) = message("t", id, payload) else {
            unreachable!("a PUBLISH");
        };
        publish.retain = retain;
        v4::Packet::Publish(publish)
    });
    send_at_once(&mut link, packets);
    for (_, payload, expected) in messages {
        let message = inbox.recv_timeout(HANG).unwrap();
        assert_eq!(
            (message.payload(), message.retain()),
            (payload.as_bytes(), expected)
        );
    }
    link.expect_puback();
    running.terminate(link);
}

#[test]
fn a_real_broker_keeps_what_is_retained_and_forgets_it_with_an_empty_message() {
    let broker = Mosquitto::start();
    let mut options = Options::new("127.0.0.1", "keeper");
    options.port = broker.port();
    options.connect_interval = std::time::Duration::ZERO;
    options.security = security(broker.certs());
    let running = Running::start(options);
    let handle = running.handle();
    let publish = |publish| assert!(told(handle.publish(publish).unwrap()).is_delivered());
    let subscribe = || {
        let inbox = handle.inbox(4, WhenFull::WaitAside);
        let filters = vec![Filter::new("kept/#", QoS::AtLeastOnce)];
        assert!(told(handle.subscribe(&inbox, filters).unwrap()).is_delivered());
        inbox
    };
    publish(retained("kept/a", QoS::AtLeastOnce, "state"));
    let inbox = subscribe();
    let message = inbox.recv_timeout(HANG).unwrap();
    assert_eq!((message.payload(), message.retain()), (&b"state"[..], true));
    // To a client that is subscribed already it comes as any other message [MQTT-3.3.1-9].
    publish(retained("kept/a", QoS::AtLeastOnce, ""));
    let message = inbox.recv_timeout(HANG).unwrap();
    assert_eq!((message.payload(), message.retain()), (&b""[..], false));
    // Nothing is kept any more: the first message to come is the next one.
    let left = handle.unsubscribe(&inbox, vec!["kept/#".into()]).unwrap();
    assert!(told(left).is_delivered());
    let inbox = subscribe();
    publish(Publish::new("kept/b", QoS::AtLeastOnce, "next"));
    assert_eq!(inbox.recv_timeout(HANG).unwrap().topic(), "kept/b");
    let end = told(handle.terminate(HANG));
    assert!(end.is_delivered());
    assert!(running.join().result.is_ok());
}
