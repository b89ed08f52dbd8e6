//! rumqttc's synchronous client: publisher threads with a clone of it, and its connection on a thread of
//! its own.
//!
//! It does not tell which message was acknowledged, only that one was, so the acknowledgments are
//! counted. Its TLS is the same as that of all other contenders.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use crossbeam_channel::{Receiver, bounded};
use rumqttc::{
    Client, Connection, Event, MqttOptions, NetworkOptions, Packet, QoS, TlsConfiguration,
    Transport,
};

use super::{QUEUE, Tally, client_id, join, spawn, topic};
use crate::tls::Certs;
use crate::work::{Figures, Latencies, Meter, Mode, Quota, Work};

pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    let qos = qos(work)?;
    let mut options = MqttOptions::new(client_id("rumqttc"), "localhost", work.port);
    options.set_inflight(work.window);
    let largest = work.payload_size + 1024;
    options.set_max_packet_size(largest, largest);
    let tls = TlsConfiguration::NativeConnector(certs.connector()?);
    options.set_transport(Transport::tls_with_config(tls));
    let (client, mut connection) = Client::new(options, QUEUE);
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    connection.eventloop.set_network_options(network);
    let (connected, is_connected) = bounded(1);
    let (acknowledged, one_acknowledged) = bounded(1);
    let tally = Arc::new(Tally::of_this_thread());
    let counted = Arc::clone(&tally);
    let is_sync = work.mode == Mode::Sync;
    thread::spawn(move || {
        serve(&mut connection, &connected, || {
            counted.add();
            if is_sync {
                let _ = acknowledged.send(());
            }
        });
    });
    is_connected.recv()?;

    let mut meter = Meter::start()?;
    let mut messages = 0;
    let mut latencies = None;
    match work.mode {
        Mode::Idle => thread::sleep(Duration::from_secs_f64(work.seconds)),
        Mode::Async => {
            let mut threads = Vec::new();
            let (shares, start) = Quota::shares(work);
            for (index, mut quota) in shares.into_iter().enumerate() {
                let (client, work) = (client.clone(), work.clone());
                let run = move || -> Result<u64> {
                    let topic = topic(index);
                    let mut sent = 0;
                    quota.begin();
                    while quota.next() {
                        client.publish(topic.as_str(), qos, false, work.payload(sent))?;
                        sent += 1;
                    }
                    Ok(sent)
                };
                threads.push(spawn(run)?);
            }
            meter = start.go()?;
            for thread in threads {
                messages += join(thread)??;
            }
            tally.wait_for(messages);
        }
        Mode::Sync => {
            ensure!(
                work.threads == 1,
                "rumqttc cannot tell whose message was acknowledged"
            );
            let (quota, begun) = Quota::of_this_thread(work)?;
            meter = begun;
            let (count, own) = one_by_one(&client, work, qos, quota, &one_acknowledged)?;
            messages = count;
            latencies = Some(own);
        }
    }
    meter.stop("rumqttc", work, messages, latencies)
}

fn serve(
    connection: &mut Connection,
    connected: &crossbeam_channel::Sender<()>,
    mut on_acknowledged: impl FnMut(),
) {
    for event in connection.iter() {
        match event {
            Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => on_acknowledged(),
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

fn one_by_one(
    client: &Client,
    work: &Work,
    qos: QoS,
    mut quota: Quota,
    acknowledged: &Receiver<()>,
) -> Result<(u64, Latencies)> {
    let topic = topic(0);
    let mut latencies = Latencies::new()?;
    let mut messages = 0;
    while quota.next() {
        let begin = Instant::now();
        client.publish(topic.as_str(), qos, false, work.payload(messages))?;
        acknowledged.recv()?;
        latencies.add(begin);
        messages += 1;
    }
    Ok((messages, latencies))
}

fn qos(work: &Work) -> Result<QoS> {
    Ok(match work.qos {
        1 => QoS::AtLeastOnce,
        2 => QoS::ExactlyOnce,
        other => anyhow::bail!("rumqttc does not tell when a message of QoS {other} was written"),
    })
}
