//! ntex-mqtt's client for MQTT 5, used as the one for MQTT 3.1.1 (`ntex.rs`). It publishes only. Its window is the server's
//! receive maximum.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use crossbeam_channel::bounded;
use ntex::connect::openssl::SslConnector;
use ntex::rt::{DefaultRuntime, System};
use ntex::service::fn_service;
use ntex::time::Seconds;
use ntex::util::{ByteString, Bytes};
use ntex::{ServiceFactory as _, SharedCfg};
use ntex_mqtt::MqttServiceConfig;
use ntex_mqtt::v5::MqttSink;
use ntex_mqtt::v5::client::{Connect, MqttConnector, ProtocolMessage};
use ntex_mqtt::v5::codec::Disconnect;
use tokio::sync::{mpsc, oneshot};

use super::{Tally, client_id5, join, publish_from_threads, queue, topic};
use crate::tls::Certs;
use crate::work::{Figures, Meter, Mode, Quota, Work};

/// Messages that the runtime thread takes from the channel at once.
const BATCH: usize = 128;

/// A message as it is handed over.
type Handed = (ByteString, Bytes);

/// On its own thread.
pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    check(work)?;
    let one_thread = Work {
        threads: 1,
        ..work.clone()
    };
    let certs = certs.clone();
    System::new("peers", DefaultRuntime).block_on(async move {
        let sink = connect(&one_thread, &certs).await?;
        let (meter, messages) = pipelined(&sink, &one_thread).await?;
        meter.stop("ntex-mqtt-5", &one_thread, messages, None)
    })
}

/// Fed by publisher threads.
pub fn run_fed(work: &Work, certs: &Certs) -> Result<Figures> {
    check(work)?;
    let tally = Arc::new(Tally::of_this_thread());
    let (feed, messages) = mpsc::channel(queue(work));
    let (connected, is_connected) = bounded(1);
    let (counted, own, certs) = (Arc::clone(&tally), work.clone(), certs.clone());
    let runtime = thread::spawn(move || {
        System::new("peers", DefaultRuntime).block_on(async move {
            let sink = connect(&own, &certs).await?;
            connected.send(())?;
            sink.publish_ack_cb(move |_, _| counted.add());
            publish_fed(&sink, messages).await
        })
    });
    if is_connected.recv().is_err() {
        join::<Result<()>>(runtime)??;
    }
    let publish = move |topic: &str, payload: Vec<u8>| {
        let message = (ByteString::from(topic), Bytes::from(payload));
        feed.blocking_send(message).context("the runtime ended")
    };
    let (meter, messages) = publish_from_threads(work, &tally, publish)?;
    meter.stop("ntex-mqtt-fed-5", work, messages, None)
}

fn check(work: &Work) -> Result<()> {
    ensure!(
        work.mode == Mode::Async && work.qos == 1,
        "this contender only publishes, with QoS 1"
    );
    Ok(())
}

async fn connect(work: &Work, certs: &Certs) -> Result<MqttSink> {
    let mqtt = MqttServiceConfig::new().set_max_send(work.window);
    let config: SharedCfg = SharedCfg::new("peers").add(mqtt).into();
    let service = MqttConnector::new()
        .connector(SslConnector::new(certs.openssl_connector()?))
        .pipeline(config)
        .await
        .map_err(|error| anyhow!("preparing to connect: {error:?}"))?;
    let connect = Connect::new(format!("localhost:{}", work.port))
        .client_id(client_id5("ntex", work))
        .clean_start()
        .keep_alive(Seconds(60));
    let client = service.call(connect).await;
    let client = client.map_err(|error| anyhow!("connecting: {error:?}"))?;
    let sink = client.sink();
    let serve = client.start(fn_service(|message: ProtocolMessage| async move {
        Ok::<_, ()>(message.disconnect(Disconnect::default()))
    }));
    ntex::rt::spawn(async move {
        if let Err(error) = serve.await {
            // A lost connection is not part of the measurement.
            eprintln!("ntex-mqtt-5: {error:?}");
            std::process::exit(1);
        }
    });
    Ok(sink)
}

async fn pipelined(sink: &MqttSink, work: &Work) -> Result<(Meter, u64)> {
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
        publish(sink, topic.clone(), Bytes::from(work.payload(sent))).await?;
        sent += 1;
    }
    last.set(Some(sent));
    if acknowledged.get() < sent {
        is_done.await.context("the connection was lost")?;
    }
    Ok((meter, sent))
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
