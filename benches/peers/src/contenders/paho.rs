//! Eclipse Paho for Rust: publisher threads that share its asynchronous client, and the threads of the
//! Paho C library behind it.
//!
//! Each asynchronous publisher keeps its share of delivery tokens and waits for the oldest one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use paho_mqtt::{
    AsyncClient, ConnectOptionsBuilder, CreateOptionsBuilder, DeliveryToken, Message, MqttVersion,
    PersistenceType, SslOptionsBuilder,
};

use super::{Receiving, client_id, client_id5, join, spawn, topic};
use crate::tls::Certs;
use crate::work::{Figures, Latencies, Meter, Mode, Quota, Work};

pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    let connect = ConnectOptionsBuilder::new_v3();
    run_as("paho-mqtt", client_id("paho"), connect, work, certs)
}

/// With MQTT 5.
pub fn run5(work: &Work, certs: &Certs) -> Result<Figures> {
    let connect = ConnectOptionsBuilder::new_v5();
    run_as(
        "paho-mqtt-5",
        client_id5("paho", work),
        connect,
        work,
        certs,
    )
}

fn run_as(
    name: &str,
    client_id: String,
    mut connect: ConnectOptionsBuilder,
    work: &Work,
    certs: &Certs,
) -> Result<Figures> {
    let builder = match name.ends_with('5') {
        true => CreateOptionsBuilder::new().mqtt_version(MqttVersion::V5),
        false => CreateOptionsBuilder::new_v3(),
    };
    let client = builder
        .server_uri(format!("ssl://localhost:{}", work.port))
        .client_id(client_id)
        .persistence(PersistenceType::None)
        .max_buffered_messages(i32::from(work.window) * 2 + work.threads as i32)
        .create_client()?;
    let tls = SslOptionsBuilder::new()
        .trust_store(certs.file("ca.pem"))?
        .key_store(certs.file("client.pem"))?
        .private_key(certs.file("client.key"))?
        .verify(true)
        .finalize();
    match name.ends_with('5') {
        true => connect.clean_start(true),
        false => connect.clean_session(true),
    };
    let connect = connect
        .max_inflight(i32::from(work.window))
        .keep_alive_interval(Duration::from_secs(60))
        .ssl_options(tls)
        .finalize();
    let (mut receiving, received) = Receiving::new(work)?;
    client.set_message_callback(move |_, message| {
        if let Some(message) = message {
            receiving.take(message, Message::topic);
        }
    });
    client.connect(connect).wait().context("connecting")?;
    let client = Arc::new(client);

    let mut meter = Meter::start()?;
    let mut messages = 0;
    let mut latencies = None;
    match work.mode {
        Mode::Idle => thread::sleep(Duration::from_secs_f64(work.seconds)),
        Mode::Receive => {
            (meter, messages) = received.finish(work, |filter| {
                client.subscribe(filter, i32::from(work.qos)).wait()?;
                Ok(())
            })?;
        }
        Mode::Async => {
            let mut threads = Vec::new();
            let (shares, start) = Quota::shares(work);
            for (index, quota) in shares.into_iter().enumerate() {
                let (client, work) = (Arc::clone(&client), work.clone());
                threads.push(spawn(move || pipelined(&client, &work, index, quota))?);
            }
            meter = start.go()?;
            for thread in threads {
                messages += join(thread)??;
            }
        }
        Mode::Sync => {
            let mut threads = Vec::new();
            let (shares, start) = Quota::shares(work);
            for (index, quota) in shares.into_iter().enumerate() {
                let (client, work) = (Arc::clone(&client), work.clone());
                threads.push(spawn(move || one_by_one(&client, &work, index, quota))?);
            }
            meter = start.go()?;
            let mut all = Latencies::new()?;
            for thread in threads {
                let (count, own) = join(thread)??;
                messages += count;
                all.merge(&own)?;
            }
            latencies = Some(all);
        }
    }
    meter.stop(name, work, messages, latencies)
}

fn pipelined(client: &AsyncClient, work: &Work, index: usize, mut quota: Quota) -> Result<u64> {
    let topic = topic(index);
    // More tokens would only make Paho's own lists longer, which it searches from the beginning.
    let most = usize::from(work.window).div_ceil(work.threads);
    let mut tokens: VecDeque<DeliveryToken> = VecDeque::with_capacity(most);
    let mut sent = 0;
    quota.begin();
    while quota.next() {
        if tokens.len() == most
            && let Some(oldest) = tokens.pop_front()
        {
            oldest.wait()?;
        }
        let message = Message::new(topic.as_str(), work.payload(sent), i32::from(work.qos));
        tokens.push_back(client.try_publish(message)?);
        sent += 1;
    }
    for token in tokens {
        token.wait()?;
    }
    Ok(sent)
}

fn one_by_one(
    client: &AsyncClient,
    work: &Work,
    index: usize,
    mut quota: Quota,
) -> Result<(u64, Latencies)> {
    let topic = topic(index);
    let mut latencies = Latencies::new()?;
    let mut messages = 0;
    quota.begin();
    while quota.next() {
        let begin = Instant::now();
        let message = Message::new(topic.as_str(), work.payload(messages), i32::from(work.qos));
        client.try_publish(message)?.wait()?;
        latencies.add(begin);
        messages += 1;
    }
    Ok((messages, latencies))
}
