//! rumqttc's synchronous client for MQTT 5, used as the one for MQTT 3.1.1 (`rumqttc.rs`). It publishes only.

use std::sync::Arc;
use std::thread;

use anyhow::{Result, ensure};
use crossbeam_channel::{Sender, bounded};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Connection, Event, MqttOptions};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};

use super::{Tally, client_id5, publish_from_threads, queue};
use crate::tls::Certs;
use crate::work::{Figures, Mode, Work};

const NAME: &str = "rumqttc-5";

pub fn run(work: &Work, certs: &Certs) -> Result<Figures> {
    ensure!(
        work.mode == Mode::Async && work.qos == 1,
        "this contender only publishes, with QoS 1"
    );
    let mut options = MqttOptions::new(client_id5("rumqttc", work), "localhost", work.port);
    options.set_outgoing_inflight_upper_limit(work.window);
    let tls = TlsConfiguration::NativeConnector(certs.connector()?);
    options.set_transport(Transport::tls_with_config(tls));
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    options.set_network_options(network);
    let (client, mut connection) = Client::new(options, queue(work));
    let (connected, is_connected) = bounded(1);
    let tally = Arc::new(Tally::of_this_thread());
    let counted = Arc::clone(&tally);
    thread::spawn(move || serve(&mut connection, &connected, &counted));
    is_connected.recv()?;
    let publish = move |topic: &str, payload: Vec<u8>| {
        Ok(client.publish(topic, QoS::AtLeastOnce, false, payload)?)
    };
    let (meter, messages) = publish_from_threads(work, &tally, publish)?;
    meter.stop(NAME, work, messages, None)
}

fn serve(connection: &mut Connection, connected: &Sender<()>, tally: &Tally) {
    for event in connection.iter() {
        match event {
            Ok(Event::Incoming(Packet::PubAck(_))) => tally.add(),
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                let _ = connected.send(());
            }
            Ok(_) => {}
            Err(error) => {
                // rumqttc would reconnect, but a lost connection is not part of the measurement.
                eprintln!("{NAME}: {error}");
                std::process::exit(1);
            }
        }
    }
}
