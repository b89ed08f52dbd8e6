//! MQTT 5 with a real broker: messages with their properties, and what the broker allows.

use std::thread;
use std::time::Duration;

use crate::support::running::{Running, security, told};
use crate::support::{HANG, Mosquitto};
use mqtt_connection_sharing::options::Options;
use mqtt_connection_sharing::{
    Filter, MessageProperties, NoResponse, Outcome, Protocol, Publish, QoS, ReasonCode,
    RequestError, WhenFull,
};

fn options(broker: &Mosquitto) -> Options {
    let mut options = Options::new("127.0.0.1", "five");
    options.port = broker.port();
    options.connect_interval = Duration::ZERO;
    options.security = security(broker.certs());
    options.protocol = Protocol::V5;
    options
}

#[test]
fn messages_of_each_qos_come_with_what_their_publisher_added() {
    let broker = Mosquitto::start();
    let running = Running::start(options(&broker));
    let handle = running.handle();
    let inbox = handle.inbox(8, WhenFull::WaitAside);
    let filters = vec![Filter::new("t/+", QoS::ExactlyOnce)];
    let granted = told(handle.subscribe(&inbox, filters).unwrap());
    assert!(granted.is_delivered(), "{granted}");
    let negotiated = handle.negotiated().unwrap();
    assert!(negotiated.receive_maximum > 0 && !negotiated.session_present);
    let properties = MessageProperties {
        expiry: Some(60),
        content_type: Some("text/plain".to_owned()),
        user_properties: vec![("a".to_owned(), "b".to_owned())],
        ..MessageProperties::default()
    };
    for (level, payload) in [
        (0, "x".to_owned()),
        (1, "y".to_owned()),
        (2, "z".repeat(500)),
    ] {
        let qos = QoS::try_from(level).unwrap();
        for properties in [MessageProperties::default(), properties.clone()] {
            let message = Publish::new("t/1", qos, payload.clone());
            let message = message.with_properties(properties.clone());
            let outcome = told(handle.publish(message).unwrap());
            assert!(outcome.is_delivered(), "{outcome}");
            let came = inbox.recv_timeout(HANG).unwrap();
            assert_eq!((came.qos(), came.payload()), (qos, payload.as_bytes()));
            let received = came.received().map(|received| received.properties.clone());
            assert_eq!(
                received.unwrap_or_default().user_properties,
                properties.user_properties
            );
        }
    }
    // Nobody has subscribed to it.
    let outcome = told(
        handle
            .publish(Publish::new("u", QoS::AtLeastOnce, "x"))
            .unwrap(),
    );
    let Outcome::Delivered { answer, .. } = outcome else {
        panic!("{outcome}");
    };
    assert_eq!(
        answer.map(|answer| answer.code),
        Some(ReasonCode::new(0x10))
    );
    // The same for a request, whose response is awaited otherwise.
    let request = Publish::new("u", QoS::AtLeastOnce, "x");
    let error = handle.request(request, HANG).unwrap_err();
    let RequestError::NoResponse(NoResponse::NoSubscribers(answer)) = error else {
        panic!("{error}");
    };
    assert_eq!(answer.code, ReasonCode::NO_MATCHING_SUBSCRIBERS);
    assert!(told(handle.terminate(HANG)).is_delivered());
    assert!(running.join().result.is_ok());
}

/// Requests of several threads in flight together, answered by a client of its own.
#[test]
fn hundreds_of_requests_under_way_have_each_their_own_response() {
    const THREADS: u64 = 4;
    const EACH: u64 = 200;
    let broker = Mosquitto::start();
    let mut of_server = options(&broker);
    of_server.client_id = "server".to_owned();
    let server = Running::start(of_server);
    let requests = server.handle().inbox(1_000, WhenFull::WaitAside);
    let filters = vec![Filter::new("square", QoS::AtLeastOnce)];
    assert!(told(server.handle().subscribe(&requests, filters).unwrap()).is_delivered());
    let serving = thread::spawn({
        let handle = server.handle().clone();
        move || {
            for _ in 0..THREADS * EACH {
                let request = requests.recv_timeout(HANG).unwrap();
                let number: u64 = String::from_utf8_lossy(request.payload()).parse().unwrap();
                let response = request.response((number * number).to_string());
                drop(handle.publish(response.unwrap()).unwrap());
            }
        }
    });
    let running = Running::start(options(&broker));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let handle = running.handle().clone();
            thread::spawn(move || {
                let ask = |number: u64| {
                    let request = Publish::new("square", QoS::AtLeastOnce, number.to_string());
                    (number, handle.start_request(request, HANG).unwrap())
                };
                let open: Vec<_> = (thread * EACH..(thread + 1) * EACH).map(ask).collect();
                for (number, pending) in open {
                    let response = pending.wait().unwrap();
                    let square = (number * number).to_string();
                    assert_eq!(response.payload(), square.as_bytes());
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    serving.join().unwrap();
    assert!(told(server.handle().terminate(HANG)).is_delivered());
    assert!(server.join().result.is_ok());
    assert!(told(running.handle().terminate(HANG)).is_delivered());
    let stats = running.join().stats;
    assert_eq!(stats.responses, THREADS * EACH);
    assert_eq!((stats.late_responses, stats.unknown_responses), (0, 0));
}
