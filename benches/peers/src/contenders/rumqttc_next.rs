//! A successor of rumqttc, used as rumqttc is (`rumqttc.rs`). It handles several requests at once.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use crossbeam_channel::bounded;
use rumqttc_next::{
    Client, Connection, Event, MqttOptions, NetworkOptions, Packet, Publish, PublishOptions, QoS,
    TlsConfiguration, Transport,
};

use super::{Receiving, Tally, client_id, publish_from_threads, publish_one_by_one, queue};
use crate::tls::Certs;
use crate::work::{Figures, Meter, Mode, Work};

/// Requests that it takes from its queue at once.
const BATCH: usize = 100;

pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    let qos = qos(work)?;
    let mut options = MqttOptions::new(client_id("rumqttc-next"), ("localhost", work.port));
    options.set_inflight(work.window);
    options.set_max_request_batch(BATCH);
    let largest = work.payload_size + 1024;
    options.set_max_packet_size(largest, largest);
    let tls = TlsConfiguration::NativeConnector(certs.connector()?);
    options.set_transport(Transport::tls_with_config(tls));
    let (client, mut connection) = Client::builder(options).capacity(queue(work)).try_build()?;
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    connection.eventloop.set_network_options(network);
    let (connected, is_connected) = bounded(1);
    let (acknowledged, one_acknowledged) = bounded(1);
    let tally = Arc::new(Tally::of_this_thread());
    let counted = Arc::clone(&tally);
    let is_sync = work.mode == Mode::Sync;
    let on_acknowledged = move || {
        counted.add();
        if is_sync {
            let _ = acknowledged.send(());
        }
    };
    let (receiving, received) = Receiving::new(work)?;
    thread::spawn(move || serve(&mut connection, &connected, on_acknowledged, receiving));
    is_connected.recv()?;

    let subscriber = client.clone();
    let publish = move |topic: &str, payload: Vec<u8>| {
        Ok(client.publish(topic, payload, PublishOptions::new(qos))?)
    };
    match work.mode {
        Mode::Idle => {
            let meter = Meter::start()?;
            thread::sleep(Duration::from_secs_f64(work.seconds));
            meter.stop("rumqttc-next", work, 0, None)
        }
        Mode::Receive => {
            let subscribe = |filter: String| Ok(subscriber.subscribe(filter, qos)?);
            let (meter, messages) = received.finish(work, subscribe)?;
            meter.stop("rumqttc-next", work, messages, None)
        }
        Mode::Async => {
            let (meter, messages) = publish_from_threads(work, &tally, publish)?;
            meter.stop("rumqttc-next", work, messages, None)
        }
        Mode::Sync => {
            ensure!(
                work.threads == 1,
                "rumqttc-next cannot tell whose message was acknowledged"
            );
            let (meter, messages, latencies) = publish_one_by_one(work, |topic, payload| {
                publish(topic, payload)?;
                Ok(one_acknowledged.recv()?)
            })?;
            meter.stop("rumqttc-next", work, messages, Some(latencies))
        }
    }
}

fn serve(
    connection: &mut Connection,
    connected: &crossbeam_channel::Sender<()>,
    mut on_acknowledged: impl FnMut(),
    mut receiving: Receiving<Publish>,
) {
    for event in connection.iter() {
        match event {
            Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => on_acknowledged(),
            Ok(Event::Incoming(Packet::Publish(message))) => {
                receiving.take(message, |message| {
                    std::str::from_utf8(&message.topic).unwrap_or_default()
                });
            }
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let _ = connected.send(());
            }
            Ok(_) => {}
            Err(error) => {
                // It would reconnect, but a lost connection is not part of the measurement.
                eprintln!("rumqttc-next: {error}");
                std::process::exit(1);
            }
        }
    }
}

fn qos(work: &Work) -> Result<QoS> {
    Ok(match work.qos {
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        other => {
            anyhow::bail!("rumqttc-next does not tell when a message of QoS {other} was written")
        }
    })
}
