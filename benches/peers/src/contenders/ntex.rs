//! ntex-mqtt's client for MQTT 3.1.1. Everything of it belongs to one runtime thread.
//!
//! Alone, it publishes on that thread, without a future for a message: a callback says what was acknowledged. Fed, it
//! gets its messages from publisher threads over a channel of tokio, which it empties many at a time. It counts
//! received messages on the runtime thread, or hands them to threads. Its TLS is OpenSSL, as that of all other contenders.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use crossbeam_channel::bounded;
use ntex::connect::openssl::SslConnector;
use ntex::rt::{DefaultRuntime, System};
use ntex::service::fn_service;
use ntex::time::Seconds;
use ntex::util::{ByteString, Bytes};
use ntex::{ServiceFactory as _, SharedCfg};
use ntex_mqtt::MqttServiceConfig;
use ntex_mqtt::v3::client::{Connect, MqttConnector, ProtocolMessage};
use ntex_mqtt::v3::{MqttSink, QoS};
use tokio::sync::{mpsc, oneshot};

use super::{
    Receiving, Tally, client_id, join, publish_from_threads, publish_one_by_one, queue, topic,
};
use crate::tls::Certs;
use crate::work::{Figures, Latencies, Meter, Mode, Quota, Work};

/// Messages that the runtime thread takes from the channel at once.
const BATCH: usize = 128;

/// A message as it is handed to a thread.
type Handed = (ByteString, Bytes);

/// On its own thread. Only messages that it receives are handed to threads, if there are several.
pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    ensure!(work.qos == 1, "this contender knows QoS 1 only");
    if work.mode == Mode::Receive {
        return receive(work, certs);
    }
    let one_thread = Work {
        threads: 1,
        ..work.clone()
    };
    let certs = certs.clone();
    in_runtime(async move {
        let (receiving, _) = Receiving::new(&one_thread)?;
        let sink = connect(&one_thread, &certs, receiving).await?;
        let (meter, messages, latencies) = match one_thread.mode {
            Mode::Async => pipelined(&sink, &one_thread).await?,
            Mode::Sync => one_by_one(&sink, &one_thread).await?,
            Mode::Idle | Mode::Receive => {
                let meter = Meter::start()?;
                ntex::time::sleep(Duration::from_secs_f64(one_thread.seconds)).await;
                (meter, 0, None)
            }
        };
        meter.stop("ntex-mqtt", &one_thread, messages, latencies)
    })
}

/// Fed by publisher threads.
pub fn run_fed(work: &Work, certs: &Certs) -> Result<Figures> {
    ensure!(work.qos == 1, "this contender knows QoS 1 only");
    let tally = Arc::new(Tally::of_this_thread());
    let (acknowledged, one_acknowledged) = bounded(1);
    let (feed, messages) = mpsc::channel(queue(work));
    let is_sync = work.mode == Mode::Sync;
    let counted = Arc::clone(&tally);
    let (receiving, _) = Receiving::new(work)?;
    start_runtime(work, certs, receiving, async move |sink| {
        sink.publish_ack_cb(move |_, _| {
            counted.add();
            if is_sync {
                let _ = acknowledged.send(());
            }
        });
        publish_fed(&sink, messages).await
    })?;

    let publish = move |topic: &str, payload: Vec<u8>| {
        let message = (ByteString::from(topic), Bytes::from(payload));
        feed.blocking_send(message).context("the runtime ended")
    };
    let (meter, messages, latencies) = match work.mode {
        Mode::Async => {
            let (meter, messages) = publish_from_threads(work, &tally, publish)?;
            (meter, messages, None)
        }
        Mode::Sync => {
            let (meter, messages, latencies) = publish_one_by_one(work, |topic, payload| {
                publish(topic, payload)?;
                Ok(one_acknowledged.recv()?)
            })?;
            (meter, messages, Some(latencies))
        }
        Mode::Idle | Mode::Receive => {
            let meter = Meter::start()?;
            thread::sleep(Duration::from_secs_f64(work.seconds));
            (meter, 0, None)
        }
    };
    meter.stop("ntex-mqtt-fed", work, messages, latencies)
}

fn receive(work: &Work, certs: &Certs) -> Result<Figures> {
    let (receiving, received) = Receiving::new(work)?;
    let (wanted, mut filters) = mpsc::channel::<String>(work.threads);
    start_runtime(work, certs, receiving, async move |sink| {
        while let Some(filter) = filters.recv().await {
            let subscribe = sink.subscribe();
            let subscribe = subscribe.topic_filter(filter.into(), QoS::AtLeastOnce);
            let granted = subscribe.send().await;
            granted.map_err(|error| anyhow!("subscribing: {error:?}"))?;
        }
        Ok(())
    })?;
    let subscribe = |filter| Ok(wanted.blocking_send(filter)?);
    let (meter, messages) = received.finish(work, subscribe)?;
    meter.stop("ntex-mqtt", work, messages, None)
}

fn in_runtime<T: 'static>(work: impl Future<Output = T> + 'static) -> T {
    System::new("peers", DefaultRuntime).block_on(work)
}

/// Starts a runtime thread that connects and does what it is told then. Waits for the connection.
fn start_runtime<F>(
    work: &Work,
    certs: &Certs,
    receiving: Receiving<Handed>,
    run: impl FnOnce(MqttSink) -> F + Send + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let (connected, is_connected) = bounded(1);
    let (work, certs) = (work.clone(), certs.clone());
    let runtime = thread::spawn(move || {
        in_runtime(async move {
            let sink = connect(&work, &certs, receiving).await?;
            connected.send(())?;
            run(sink).await
        })
    });
    match is_connected.recv() {
        Ok(()) => Ok(()),
        Err(_) => join(runtime)?,
    }
}

async fn connect(work: &Work, certs: &Certs, receiving: Receiving<Handed>) -> Result<MqttSink> {
    let mqtt = MqttServiceConfig::new()
        .set_max_send(work.window)
        .set_max_receive(work.window);
    let config: SharedCfg = SharedCfg::new("peers").add(mqtt).into();
    let service = MqttConnector::new()
        .connector(SslConnector::new(certs.openssl_connector()?))
        .pipeline(config)
        .await
        .map_err(|error| anyhow!("preparing to connect: {error:?}"))?;
    let connect = Connect::new(format!("localhost:{}", work.port))
        .client_id(client_id("ntex"))
        .clean_session()
        .keep_alive(Seconds(60));
    let client = service.call(connect).await;
    let client = client.map_err(|error| anyhow!("connecting: {error:?}"))?;
    let sink = client.sink();
    let receiving = Rc::new(RefCell::new(receiving));
    let serve = client.start(fn_service(move |message: ProtocolMessage| {
        let receiving = Rc::clone(&receiving);
        async move {
            if let ProtocolMessage::Publish(message) = &message {
                let payload = message.read_all().await.unwrap_or_default();
                let handed = (message.packet().topic.clone(), payload);
                receiving.borrow_mut().take(handed, |(topic, _)| topic);
            }
            Ok::<_, ()>(message.ack())
        }
    }));
    ntex::rt::spawn(async move {
        if let Err(error) = serve.await {
            // A lost connection is not part of the measurement.
            eprintln!("ntex-mqtt: {error:?}");
            std::process::exit(1);
        }
    });
    Ok(sink)
}

async fn pipelined(sink: &MqttSink, work: &Work) -> Result<(Meter, u64, Option<Latencies>)> {
    let topic = ByteString::from(topic(0));
    let acknowledged = Rc::new(Cell::new(0));
    // Known once the last message is sent.
    let last = Rc::new(Cell::new(None));
    let (done, is_done) = oneshot::channel();
    let done = Cell::new(Some(done));
    sink.publish_ack_cb({
        let (acknowledged, last) = (Rc::clone(&acknowledged), Rc::clone(&last));
        move |_, _| {
            acknowledged.set(acknowledged.get() + 1);
            if Some(acknowledged.get()) == last.get()
                && let Some(done) = done.take()
            {
                let _ = done.send(());
            }
        }
    });
    let (mut quota, meter) = Quota::of_this_thread(work)?;
    let mut sent = 0;
    while quota.next() {
        let payload = Bytes::from(work.payload(sent));
        publish(sink, topic.clone(), payload).await?;
        sent += 1;
    }
    last.set(Some(sent));
    if acknowledged.get() < sent {
        is_done.await.context("the connection was lost")?;
    }
    Ok((meter, sent, None))
}

async fn one_by_one(sink: &MqttSink, work: &Work) -> Result<(Meter, u64, Option<Latencies>)> {
    let topic = ByteString::from(topic(0));
    let mut latencies = Latencies::new()?;
    let mut messages = 0;
    let (mut quota, meter) = Quota::of_this_thread(work)?;
    while quota.next() {
        let begin = Instant::now();
        let payload = Bytes::from(work.payload(messages));
        let sent = sink.publish(topic.clone()).send_at_least_once(payload);
        sent.await
            .map_err(|error| anyhow!("publishing: {error:?}"))?;
        latencies.add(begin);
        messages += 1;
    }
    Ok((meter, messages, Some(latencies)))
}

async fn publish_fed(sink: &MqttSink, mut messages: mpsc::Receiver<Handed>) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    while messages.recv_many(&mut batch, BATCH).await > 0 {
        for (topic, payload) in batch.drain(..) {
            publish(sink, topic, payload).await?;
        }
    }
    // Acknowledgments are still to come. The process ends when all have.
    std::future::pending().await
}

/// Waits for a place in the window, and not for the acknowledgment.
async fn publish(sink: &MqttSink, topic: ByteString, payload: Bytes) -> Result<()> {
    while !sink.is_ready() {
        ensure!(sink.ready().await, "the connection was lost");
    }
    let sent = sink.publish(topic).send_at_least_once_no_block(payload);
    sent.map_err(|error| anyhow!("publishing: {error:?}"))
}
