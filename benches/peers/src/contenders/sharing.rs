//! This project's library: publisher threads with a handle each, and the loop on a thread of its own.
//!
//! Asynchronous publishers hand in messages as fast as the command queue takes them, and wait for the
//! acknowledgments at the end. A receiving thread has an inbox of its own and takes its messages one by one. Except where nothing is published, another thread reads the loop's counts meanwhile.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use crossbeam_channel::{RecvTimeoutError, Sender};
use mqtt_connection_sharing::options::{Identity, Options, RecordingSize, Security, TlsOptions};
use mqtt_connection_sharing::recording::Recording;
use mqtt_connection_sharing::{Batch, Client, Filter, Handle};
use mqtt_connection_sharing::{Protocol, Publish, QoS, Topic, WhenFull};

use super::{client_id, client_id5, filters, join, queue, spawn, topic};
use crate::tls::Certs;
use crate::work::{Figures, Latencies, Meter, Mode, Quota, Work};

/// Payloads of this size are shared.
const LARGE: usize = 1024;

/// The loop's counts are read that often.
const HEALTH: Duration = Duration::from_millis(100);

pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    run_as(
        "mqtt-connection-sharing",
        work,
        certs,
        Protocol::V3_1_1,
        None,
    )
}

/// With MQTT 5.
pub fn run5(work: &Work, certs: &Certs) -> Result<Figures> {
    run_as("mqtt-connection-sharing-5", work, certs, Protocol::V5, None)
}

/// With a recording of its default size, which the thread that reads the counts reads as well.
pub fn recorded(work: &Work, certs: &Certs) -> Result<Figures> {
    let size = Some(RecordingSize::default());
    run_as("recorded", work, certs, Protocol::V3_1_1, size)
}

fn run_as(
    name: &str,
    work: &Work,
    certs: &Certs,
    protocol: Protocol,
    recording: Option<RecordingSize>,
) -> Result<Figures> {
    let client_id = match protocol {
        Protocol::V5 => client_id5("sharing", work),
        _ => client_id("sharing"),
    };
    let mut options = Options::new("localhost", client_id);
    options.protocol = protocol;
    options.port = work.port;
    let mut tls = TlsOptions::default();
    tls.ca = Some(certs.0.join("ca.pem").into());
    tls.identity = Some(Identity::pem(
        certs.0.join("client.pem"),
        certs.0.join("client.key"),
    ));
    options.security = Security::Tls(tls);
    options.clean_session = true;
    options.max_inflight = work.window;
    options.max_inflight_qos2 = work.window;
    options.command_queue = queue(work);
    options.max_packet_size = options.max_packet_size.max(work.payload_size + 1024);
    options.recording = recording;
    let client = Client::new(options)?;
    let (send_handle, handle) = crossbeam_channel::bounded(1);
    let agent = spawn_loop(client, send_handle)?;
    let Ok(handle) = handle.recv() else {
        join(agent)??;
        bail!("the loop ended before it began");
    };
    let connected = handle.ping()?.wait();
    ensure!(connected.is_delivered(), "no connection: {connected}");

    let health = match work.mode {
        Mode::Idle => None,
        Mode::Async | Mode::Sync | Mode::Receive => Some(read_health(handle.clone())?),
    };
    let mut meter = Meter::start()?;
    let mut messages = 0;
    let mut latencies = None;
    match work.mode {
        Mode::Idle => thread::sleep(Duration::from_secs_f64(work.seconds)),
        Mode::Receive => {
            let mut threads = Vec::new();
            let (shares, start) = Quota::shares(work);
            for (quota, filter) in shares.into_iter().zip(filters(work)) {
                let (handle, capacity) = (handle.clone(), queue(work));
                threads.push(spawn(move || receive(&handle, filter, capacity, quota))?);
            }
            meter = start.go()?;
            for thread in threads {
                messages += join(thread)??;
            }
        }
        Mode::Async => {
            let mut threads = Vec::new();
            let (shares, start) = Quota::shares(work);
            for (index, quota) in shares.into_iter().enumerate() {
                let (handle, work) = (handle.clone(), work.clone());
                threads.push(spawn(move || pipelined(&handle, &work, index, quota))?);
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
                let (handle, work) = (handle.clone(), work.clone());
                threads.push(spawn(move || one_by_one(&handle, &work, index, quota))?);
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
    let figures = meter.stop(name, work, messages, latencies)?;
    if let Some((stop, reader)) = health {
        drop(stop);
        join(reader)?;
    }
    drop(handle.terminate(Duration::from_secs(5)));
    drop(handle);
    join(agent)??;
    Ok(figures)
}

fn spawn_loop(client: Client, handle: Sender<Handle>) -> Result<thread::JoinHandle<Result<()>>> {
    spawn(move || {
        let (agent, own) = client.open();
        let _ = handle.send(own);
        drop(handle);
        Ok(agent.run().result?)
    })
}

/// Reads the loop's counts, and the recording if there is one, ten times a second, as an application does that watches
/// its health. Ends when the sender is dropped.
fn read_health(handle: Handle) -> Result<(Sender<()>, thread::JoinHandle<()>)> {
    let (stop, stopped) = crossbeam_channel::bounded(0);
    let mut recording = handle.recording();
    let reader = spawn(move || {
        while stopped.recv_timeout(HEALTH) == Err(RecvTimeoutError::Timeout) {
            std::hint::black_box(handle.stats());
            std::hint::black_box(recording.as_mut().map(Recording::read));
        }
    })?;
    Ok((stop, reader))
}

fn pipelined(handle: &Handle, work: &Work, index: usize, mut quota: Quota) -> Result<u64> {
    let (qos, topic) = (qos(work)?, Topic::from(topic(index)));
    let mut batch = Batch::new();
    // A large payload is made once, as the raw loop makes its packets.
    let large = (work.payload_size >= LARGE).then(|| Bytes::from(work.payload(0)));
    quota.begin();
    while quota.next() {
        let payload = match &large {
            Some(payload) => payload.clone(),
            None => Bytes::from(work.payload(batch.pushed())),
        };
        handle.publish_in(Publish::new(&topic, qos, payload), &mut batch)?;
    }
    let failed = batch.wait();
    ensure!(failed.is_empty(), "not acknowledged: {failed:?}");
    Ok(batch.pushed())
}

fn receive(handle: &Handle, filter: String, capacity: usize, mut quota: Quota) -> Result<u64> {
    let inbox = handle.inbox(capacity, WhenFull::WaitAside);
    quota.begin();
    let filters = vec![Filter::new(filter, QoS::AtLeastOnce)];
    let subscribed = handle.subscribe(&inbox, filters)?.wait();
    ensure!(subscribed.is_delivered(), "not subscribed: {subscribed}");
    let mut received = 0;
    for message in &inbox {
        std::hint::black_box(message?);
        if !quota.next() {
            break;
        }
        received += 1;
    }
    Ok(received)
}

fn one_by_one(
    handle: &Handle,
    work: &Work,
    index: usize,
    mut quota: Quota,
) -> Result<(u64, Latencies)> {
    let (qos, topic) = (qos(work)?, topic(index));
    let mut latencies = Latencies::new()?;
    let mut messages = 0;
    quota.begin();
    while quota.next() {
        let begin = Instant::now();
        let message = Publish::new(topic.as_str(), qos, work.payload(messages));
        let outcome = handle.publish(message)?.wait();
        latencies.add(begin);
        ensure!(outcome.is_delivered(), "a message {outcome}");
        messages += 1;
    }
    Ok((messages, latencies))
}

fn qos(work: &Work) -> Result<QoS> {
    QoS::try_from(work.qos).map_err(|level| anyhow::anyhow!("there is no QoS {level}"))
}
