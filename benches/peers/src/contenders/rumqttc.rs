//! rumqttc's synchronous client: publisher threads with a clone of it, and its connection on a thread of
//! its own.
//!
//! It does not tell which message was acknowledged, only that one was, so the acknowledgments are
//! counted. Its TLS is the same as that of all other contenders.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use crossbeam_channel::bounded;
use rumqttc::{
    Client, Connection, Event, MqttOptions, NetworkOptions, Packet, Publish, QoS, TlsConfiguration,
    Transport,
};

use super::{Receiving, Tally, client_id, publish_from_threads, publish_one_by_one, queue};
use crate::tls::Certs;
use crate::work::{Figures, Meter, Mode, Work};

pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    let qos = qos(work)?;
    let mut options = MqttOptions::new(client_id("rumqttc"), "localhost", work.port);
    options.set_inflight(work.window);
    let largest = work.payload_size + 1024;
    options.set_max_packet_size(largest, largest);
    let tls = TlsConfiguration::NativeConnector(certs.connector()?);
    options.set_transport(Transport::tls_with_config(tls));
    let (client, mut connection) = Client::new(options, queue(work));
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
    let publish = move |topic: &str, payload| Ok(client.publish(topic, qos, false, payload)?);
    match work.mode {
        Mode::Idle => {
            let meter = Meter::start()?;
            thread::sleep(Duration::from_secs_f64(work.seconds));
            meter.stop("rumqttc", work, 0, None)
        }
        Mode::Receive => {
            let subscribe = |filter: String| Ok(subscriber.subscribe(filter, qos)?);
            let (meter, messages) = received.finish(work, subscribe)?;
            meter.stop("rumqttc", work, messages, None)
        }
        Mode::Async => {
            let (meter, messages) = publish_from_threads(work, &tally, publish)?;
            meter.stop("rumqttc", work, messages, None)
        }
        Mode::Sync => {
            ensure!(
                work.threads == 1,
                "rumqttc cannot tell whose message was acknowledged"
            );
            let (meter, messages, latencies) = publish_one_by_one(work, |topic, payload| {
                publish(topic, payload)?;
                Ok(one_acknowledged.recv()?)
            })?;
            meter.stop("rumqttc", work, messages, Some(latencies))
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
                receiving.take(message, |message| &message.topic);
            }
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let _ = connected.send(());
            }
            Ok(_) => {}
            Err(error) => {
                // rumqttc would reconnect, but a lost connection is not part of the measurement.
                eprintln!("rumqttc: {error}");
                std::process::exit(1);
            }
        }
    }
}

fn qos(work: &Work) -> Result<QoS> {
    Ok(match work.qos {
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        other => anyhow::bail!("rumqttc does not tell when a message of QoS {other} was written"),
    })
}
