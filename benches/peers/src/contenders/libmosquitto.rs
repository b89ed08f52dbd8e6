//! Mosquitto's own C library: publisher threads that share its client, and the thread that it starts itself.
//!
//! Its publish call never waits, so a publisher waits until less than a window is unacknowledged. The library has at
//! most 20 of these in flight, and queues the others: its binding for Rust has no safe way to set more.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use crossbeam_channel::{Receiver, Sender, bounded};
use mosquitto_rs::{Callbacks, ConnectionStatus, MessageId, Mosq, QoS};

use super::{Receiving, Tally, client_id, publish_from_threads, publish_one_by_one};
use crate::tls::Certs;
use crate::work::{Figures, Meter, Mode, Work};

const NAME: &str = "libmosquitto";

pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    let qos = qos(work)?;
    let tally = Arc::new(Tally::of_this_thread());
    let (connected, is_connected) = bounded(1);
    let (take_place, places) = bounded(usize::from(work.window));
    let (receiving, received) = Receiving::new(work)?;
    let events = Events {
        connected,
        places,
        tally: Arc::clone(&tally),
        receiving: Mutex::new(receiving),
    };
    let client = Mosq::with_id(events, &client_id("mosquitto"), true)?;
    client.configure_tls(
        Some(certs.file("ca.pem")),
        None::<&str>,
        Some(certs.file("client.pem")),
        Some(certs.file("client.key")),
        None,
    )?;
    let keep_alive = Duration::from_secs(60);
    client.connect("localhost", i32::from(work.port), keep_alive, None)?;
    client.start_loop_thread()?;
    let is_accepted = is_connected.recv_timeout(Duration::from_secs(20));
    ensure!(is_accepted.context("connecting")?, "it was refused");

    let client = Arc::new(client);
    let subscriber = Arc::clone(&client);
    let publish = move |topic: &str, payload: Vec<u8>| {
        take_place.send(())?;
        client.publish(topic, &payload, qos, false)?;
        Ok(())
    };
    match work.mode {
        Mode::Idle => {
            let meter = Meter::start()?;
            thread::sleep(Duration::from_secs_f64(work.seconds));
            meter.stop(NAME, work, 0, None)
        }
        Mode::Receive => {
            let (meter, messages) = received.finish(work, |filter| {
                subscriber.subscribe(&filter, qos)?;
                Ok(())
            })?;
            meter.stop(NAME, work, messages, None)
        }
        Mode::Async => {
            let (meter, messages) = publish_from_threads(work, &tally, publish)?;
            meter.stop(NAME, work, messages, None)
        }
        Mode::Sync => {
            let mut published = 0;
            let (meter, messages, latencies) = publish_one_by_one(work, |topic, payload| {
                publish(topic, payload)?;
                published += 1;
                tally.wait_for(published);
                Ok(())
            })?;
            meter.stop(NAME, work, messages, Some(latencies))
        }
    }
}

struct Events {
    connected: Sender<bool>,
    places: Receiver<()>,
    tally: Arc<Tally>,
    receiving: Mutex<Receiving<(String, Vec<u8>)>>,
}

impl Callbacks for Events {
    fn on_connect(&self, _: &mut Mosq, status: ConnectionStatus) {
        let _ = self.connected.try_send(status.is_successful());
    }

    fn on_publish(&self, _: &mut Mosq, _: MessageId) {
        let _ = self.places.try_recv();
        self.tally.add();
    }

    fn on_message(
        &self,
        _: &mut Mosq,
        _: MessageId,
        topic: String,
        payload: &[u8],
        _: QoS,
        _: bool,
    ) {
        let mut receiving = self
            .receiving
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        receiving.take((topic, payload.to_vec()), |(topic, _)| topic);
    }
}

fn qos(work: &Work) -> Result<QoS> {
    Ok(match work.qos {
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        other => anyhow::bail!("this contender does not publish with QoS {other}"),
    })
}
