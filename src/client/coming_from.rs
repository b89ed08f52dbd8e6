//! For people who come from another client: their calls, and the calls here.
//!
//! Names on the left are those of rumqttc 0.25, of the crate paho-mqtt 0.14 (Eclipse Paho, whose C library has the same
//! calls as `MQTTAsync_…`), and of coreMQTT-Agent as of June 2026. Two things differ from all three:
//!
//! - **Every command has an outcome.** A [`Ticket`](crate::Ticket), a [`Batch`](crate::Batch) or a callback says what became
//!   of it: [delivered, never sent, perhaps delivered, refused or cancelled](crate::Outcome). An `Ok` of
//!   [`Handle::publish`](crate::Handle::publish) alone says that the message is queued.
//! - **The loop connects.** [`Agent::run`](crate::Agent::run) connects, waits between attempts, resumes the session and
//!   renews subscriptions. It returns when it is asked to, or when its patience is over
//!   ([`Options::retry`](crate::options::Options::retry)).
//!
//! This library speaks MQTT 3.1.1 and MQTT 5 over TCP and TLS. It has no WebSocket, and keeps nothing on disk. The last table
//! has the calls for MQTT 5.
//!
//! # From rumqttc
//!
//! `Client` and `Connection` are [`Handle`](crate::Handle) and [`Agent`](crate::Agent). The agent needs a thread and no
//! match over events: acknowledgments go to tickets, and messages into the inboxes that subscribed to them.
//!
//! ```no_run
//! use std::thread;
//!
//! use mqtt_connection_sharing::options::{Options, Security};
//! use mqtt_connection_sharing::{Client, Filter, Publish, QoS, WhenFull};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // MqttOptions::new("test-1", "localhost", 1883)
//! let mut options = Options::new("localhost", "test-1");
//! options.port = 1883;
//! options.security = Security::Plain;
//! // Client::new(options, 10)
//! let (agent, handle) = Client::new(options)?.open();
//! // for notification in connection.iter() { … }
//! let running = thread::spawn(move || agent.run());
//!
//! // client.subscribe("hello/+/world", QoS::AtMostOnce)
//! let inbox = handle.inbox(10, WhenFull::WaitAside);
//! let filters = vec![Filter::new("hello/+/world", QoS::AtMostOnce)];
//! handle.subscribe(&inbox, filters)?.wait().into_result()?;
//! // client.publish("hello/1/world", QoS::AtLeastOnce, true, payload)
//! let message = Publish::new("hello/1/world", QoS::AtLeastOnce, "payload").with_retain(true);
//! handle.publish(message)?.wait().into_result()?;
//! // Ok(Event::Incoming(Packet::Publish(message)))
//! let message = inbox.recv()?;
//! println!("{}: {:?}", message.topic(), message.payload());
//!
//! drop((inbox, handle));
//! running.join().map_err(|_| "the loop panicked")?.result?;
//! # Ok(())
//! # }
//! ```
//!
//! | rumqttc | here |
//! |---|---|
//! | `MqttOptions::new(id, host, port)` | [`Options::new(host, id)`](crate::options::Options::new), over TLS on port 8883 unless changed |
//! | `Transport::tls(ca, client_auth, alpn)` | [`TlsOptions`](crate::options::TlsOptions): `ca`, `identity`, `alpn`, from files or memory |
//! | `set_credentials`, `set_last_will` | [`Options::credentials`](crate::options::Options::credentials), [`Options::last_will`](crate::options::Options::last_will) |
//! | `set_keep_alive`, `set_inflight` | [`Options::keep_alive`](crate::options::Options::keep_alive), [`Options::max_inflight`](crate::options::Options::max_inflight) |
//! | `set_clean_session`, `true` unless changed | [`Options::clean_session`](crate::options::Options::clean_session), `false` unless changed |
//! | `set_max_packet_size(incoming, outgoing)` | [`Options::max_packet_size`](crate::options::Options::max_packet_size), of packets that come; a larger one costs no link |
//! | `set_request_channel_capacity`, the `cap` of `Client::new` | [`Options::command_queue`](crate::options::Options::command_queue) |
//! | `set_pending_throttle` | [`Limits::rate`](crate::limits::Limits::rate), for all messages |
//! | `NetworkOptions::set_connection_timeout` | [`Options::connect_timeout`](crate::options::Options::connect_timeout) |
//! | `Client::new`, `AsyncClient::new` | [`Client::new`](crate::Client::new) and [`Client::open`](crate::Client::open) |
//! | `for event in connection.iter()`, `eventloop.poll().await` | [`Agent::run`](crate::Agent::run) on a thread of its own |
//! | a pause of yours after an error, before the next `poll` | [`Options::retry`](crate::options::Options::retry): random delays that grow |
//! | `SUBSCRIBE` again after a `ConnAck` without session | the loop does that |
//! | requests that are dropped then | sent again, or told as perhaps delivered: [`OnSessionLost`](crate::options::OnSessionLost) |
//! | `client.publish`, `client.try_publish` | [`Handle::publish`](crate::Handle::publish), [`Handle::try_publish`](crate::Handle::try_publish) |
//! | `AsyncClient::publish(…).await` | [`Handle::publish_async`](crate::Handle::publish_async) |
//! | `Packet::PubAck(ack)`, matched by its `pkid` | [`Ticket::wait`](crate::Ticket::wait), or `.await` on the ticket |
//! | `client.subscribe`, `subscribe_many` | [`Handle::subscribe`](crate::Handle::subscribe) with an [`Inbox`](crate::Inbox); `Packet::SubAck` is its ticket |
//! | `Packet::Publish(message)`, and a `match` on its topic | [`Inbox::recv`](crate::Inbox::recv); several inboxes on one connection |
//! | `set_manual_acks(true)` and `client.ack(&publish)` | [`Handle::inbox_by_hand`](crate::Handle::inbox_by_hand) and [`Unacknowledged::done`](crate::Unacknowledged::done) |
//! | `Event::Incoming(Packet::ConnAck(…))`, `Err(ConnectionError)` | [`Handle::events`](crate::Handle::events), [`Handle::connection`](crate::Handle::connection) |
//! | `client.disconnect()` | [`Handle::terminate`](crate::Handle::terminate), or drop the last handle; [`Handle::disconnect`](crate::Handle::disconnect) stays offline |
//!
//! # From Paho
//!
//! A `DeliveryToken` is a [`Ticket`](crate::Ticket): wait for it, for a time, or await it. The library's threads are yours:
//! one runs [`Agent::run`](crate::Agent::run).
//!
//! ```no_run
//! use std::thread;
//! use std::time::Duration;
//!
//! use mqtt_connection_sharing::options::{Identity, Options, Security, TlsOptions};
//! use mqtt_connection_sharing::{Client, ConnectionState, Publish, QoS};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // SslOptionsBuilder::new().trust_store(…)?.key_store(…)?.private_key(…)?
//! let mut tls = TlsOptions::default();
//! tls.ca = Some("ca.pem".into());
//! tls.identity = Some(Identity::pem("client.pem", "client.key"));
//! // CreateOptionsBuilder::new().server_uri("ssl://localhost:8883").client_id("me")
//! let mut options = Options::new("localhost", "me");
//! options.security = Security::Tls(tls);
//! // ConnectOptionsBuilder::new().keep_alive_interval(…).automatic_reconnect(…)
//! options.keep_alive = Duration::from_secs(30);
//! options.retry.reconnect_for = Duration::ZERO;
//! let (agent, handle) = Client::new(options)?.open();
//! let running = thread::spawn(move || agent.run());
//! // client.connect(options).wait()
//! handle.wait_for_connection(Duration::from_secs(10), ConnectionState::is_online)?;
//! // client.publish(Message::new("t", "payload", 1)).wait_for(…)
//! let mut ticket = handle.publish(Publish::new("t", QoS::AtLeastOnce, "payload"))?;
//! match ticket.wait_timeout(Duration::from_secs(5)) {
//!     Some(outcome) => println!("{outcome}"),
//!     None => println!("still on its way"),
//! }
//! // client.disconnect(None).wait()
//! handle.terminate(Duration::from_secs(5)).wait();
//! running.join().map_err(|_| "the loop panicked")?.result?;
//! # Ok(())
//! # }
//! ```
//!
//! | Paho | here |
//! |---|---|
//! | `CreateOptionsBuilder::server_uri`, `client_id` | [`Options::new`](crate::options::Options::new), [`Options::port`](crate::options::Options::port), [`Options::security`](crate::options::Options::security) |
//! | `persistence`, `restore_messages` | nothing is kept on disk; the broker keeps its part of the session |
//! | `max_buffered_messages` | [`Options::command_queue`](crate::options::Options::command_queue); a full one makes callers wait, and drops nothing |
//! | `send_while_disconnected` | always: commands wait in the queue while there is no connection |
//! | `SslOptionsBuilder::trust_store`, `key_store`, `private_key`, `alpn_protos` | [`TlsOptions::ca`](crate::options::TlsOptions::ca), [`identity`](crate::options::TlsOptions::identity), [`alpn`](crate::options::TlsOptions::alpn) |
//! | `verify`, `enable_server_cert_auth` | always on; [`TlsOptions::server_name`](crate::options::TlsOptions::server_name) for another name in the certificate |
//! | `ConnectOptionsBuilder::user_name`, `password`, `will_message`, `clean_session` | [`Options::credentials`](crate::options::Options::credentials), [`last_will`](crate::options::Options::last_will), [`clean_session`](crate::options::Options::clean_session) |
//! | `max_inflight`, `connect_timeout`, `keep_alive_interval` | [`Options::max_inflight`](crate::options::Options::max_inflight), [`connect_timeout`](crate::options::Options::connect_timeout), [`keep_alive`](crate::options::Options::keep_alive) |
//! | `automatic_reconnect(min, max)` | [`Retry::base`](crate::options::Retry::base) and [`Retry::max`](crate::options::Retry::max); always on, for as long as [`Retry::reconnect_for`](crate::options::Retry::reconnect_for) says |
//! | `server_uris`, several brokers | one host; each of its addresses is tried |
//! | `AsyncClient::new`, `connect` | [`Client::new`](crate::Client::new), [`Client::open`](crate::Client::open), and a thread for [`Agent::run`](crate::Agent::run) |
//! | `connect(…).wait()`, `is_connected` | [`Handle::wait_for_connection`](crate::Handle::wait_for_connection), [`Handle::connection`](crate::Handle::connection) |
//! | `publish`, `try_publish` | [`Handle::publish`](crate::Handle::publish), [`Handle::try_publish`](crate::Handle::try_publish) |
//! | `DeliveryToken::wait`, `wait_for`, `try_wait`, `.await` | [`Ticket::wait`](crate::Ticket::wait), [`wait_timeout`](crate::Ticket::wait_timeout), [`outcome`](crate::Ticket::outcome), `.await` |
//! | a `Vec` of tokens | [`Batch`](crate::Batch) with [`Handle::publish_in`](crate::Handle::publish_in), or [`wait_any`](crate::wait_any) |
//! | `Topic::new(&client, "t", 1).publish(…)` | one [`Topic`](crate::Topic) for many messages |
//! | `subscribe`, `subscribe_many`; `ServerResponse` | [`Handle::subscribe`](crate::Handle::subscribe); what was granted is in [`Outcome::Delivered`](crate::Outcome::Delivered) |
//! | `start_consuming`, `get_stream` | [`Handle::inbox`](crate::Handle::inbox): bounded, and one for each thread; [`Inbox::recv_async`](crate::Inbox::recv_async) |
//! | `None` from the consumer at a lost connection | [`Handle::events`](crate::Handle::events); an inbox ends only with the loop |
//! | `set_message_callback` | a thread that reads an inbox |
//! | `set_connected_callback`, `set_connection_lost_callback` | a thread that reads [`Handle::events`](crate::Handle::events) |
//! | `reconnect`, `disconnect` | [`Handle::reconnect`](crate::Handle::reconnect), [`Handle::disconnect`](crate::Handle::disconnect) |
//! | `disconnect_after` | [`Handle::terminate`](crate::Handle::terminate) with its grace |
//! | the synchronous `Client` with its time-out | [`Ticket::wait`](crate::Ticket::wait) on any thread |
//!
//! # From coreMQTT-Agent
//!
//! The design is the same: one task owns the connection, others send it commands. Threads wait for a ticket where a task
//! waited for a notification from its callback, and commands own their data, so nothing has to stay in scope.
//!
//! ```no_run
//! use mqtt_connection_sharing::options::Options;
//! use mqtt_connection_sharing::{Client, Publish, QoS};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // MQTTAgent_Init( &context, &messageInterface, &buffer, &transport, … )
//! let (agent, handle) = Client::new(Options::new("broker.example", "my-thing"))?.open();
//! let task = std::thread::spawn(move || {
//!     // commandInfo.cmdCompleteCallback = callback; MQTTAgent_Publish( &context, &publishInfo, &commandInfo )
//!     let message = Publish::new("some/topic/name", QoS::AtLeastOnce, "Hello World!");
//!     handle.publish_then(message, |outcome| println!("{outcome}"))
//! });
//! // MQTTAgent_CommandLoop( &context ); it ends with the last handle, too.
//! agent.run().result?;
//! task.join().map_err(|_| "the task panicked")??;
//! # Ok(())
//! # }
//! ```
//!
//! | coreMQTT-Agent | here |
//! |---|---|
//! | `MQTTAgent_Init`, transport and message interface | [`Client::new`](crate::Client::new): sockets, TLS and queues are part of the library |
//! | `MQTTAgent_CommandLoop` | [`Agent::run`](crate::Agent::run); it goes on after a lost connection |
//! | `MQTT_Connect`, `MQTTAgent_ResumeSession` and a backoff of yours after an error | the loop does that, as [`Options::retry`](crate::options::Options::retry) says |
//! | `MQTTAgent_Connect` | [`Handle::reconnect`](crate::Handle::reconnect) |
//! | `MQTTAgent_Publish` with a callback | [`Handle::publish_then`](crate::Handle::publish_then), or [`Handle::publish`](crate::Handle::publish) with a ticket |
//! | `MQTTAgentCommandInfo_t.blockTimeMs` | [`Options::block_time`](crate::options::Options::block_time), [`Handle::publish_timeout`](crate::Handle::publish_timeout), [`Handle::try_publish`](crate::Handle::try_publish) |
//! | `MQTTAgentReturnInfo_t.returnCode` | [`Outcome`](crate::Outcome) |
//! | `pSubackCodes` | `granted` in [`Outcome::Delivered`](crate::Outcome::Delivered) and [`Outcome::Refused`](crate::Outcome::Refused) |
//! | `MQTTAgent_Subscribe`, and a subscription manager behind the callback for incoming publishes | [`Handle::subscribe`](crate::Handle::subscribe): the loop puts a message into each [`Inbox`](crate::Inbox) that subscribed to it |
//! | a publish that no subscription wants | [`Handle::unmatched`](crate::Handle::unmatched) |
//! | `MQTTAgent_Unsubscribe`, `MQTTAgent_Ping` | [`Handle::unsubscribe`](crate::Handle::unsubscribe), [`Handle::ping`](crate::Handle::ping), whose ticket waits for the PINGRESP |
//! | `MQTTAgent_ProcessLoop` | [`Handle::process_loop`](crate::Handle::process_loop), seldom needed: a thread watches the socket |
//! | `MQTTAgent_Disconnect` | [`Handle::disconnect`](crate::Handle::disconnect); the loop stays |
//! | `MQTTAgent_Terminate` | [`Handle::terminate`](crate::Handle::terminate), with a grace for what is queued and in flight |
//! | `MQTTAgent_CancelAll` | at the loop's end every command has an outcome |
//! | `MQTT_AGENT_MAX_OUTSTANDING_ACKS`, 20 | [`Options::max_inflight`](crate::options::Options::max_inflight), 100 |
//! | `MQTT_AGENT_MAX_EVENT_QUEUE_WAIT_TIME`, 1 s | none: the loop sleeps until there is something to do |
//! | a callback must not block | the same ([`Handle::publish_then`](crate::Handle::publish_then)); waiting in it is an error at once |
//!
//! # MQTT 5
//!
//! rumqttc has a module `v5` beside its other one, and Paho a property list. Here
//! [`Options::protocol`](crate::options::Options::protocol) chooses the version, and everything else stays.
//!
//! | rumqttc (`v5`), Paho | here |
//! |---|---|
//! | `v5::MqttOptions`, `CreateOptionsBuilder::mqtt_version(5)` | [`Options::protocol`](crate::options::Options::protocol), [`Protocol::V5`](crate::Protocol) |
//! | `ConnectProperties`, `PropertyCode::SessionExpiryInterval` and the like | [`Options::version5`](crate::options::Options::version5) |
//! | `set_clean_start`, `clean_start` | the first connection of a client begins a new session, the next ones go on with it |
//! | `PublishProperties`, `MessageBuilder::properties` | [`Publish::with_properties`](crate::Publish::with_properties) |
//! | `publish.properties`, `message.properties()` | [`Message::received`](crate::Message::received) |
//! | `PubAckReason`, `ReasonCode` of a token's error | [`Outcome::answer`](crate::Outcome::answer) |
//! | `ConnAckProperties`, `ServerResponse::properties` of `connect` | [`Handle::negotiated`](crate::Handle::negotiated) |
//! | `SubscribeFilter { nolocal, preserve_retain, retain_forward_rule, .. }`, `SubscribeOptions` | [`Filter::with_options`](crate::Filter::with_options) with [`SubscribeOptions`](crate::SubscribeOptions) |
//! | a response topic and correlation data of yours, and a map of open requests | [`Handle::request`](crate::Handle::request), [`Handle::start_request`](crate::Handle::start_request), [`Message::response`](crate::Message::response) |
//! | `LastWillProperties`, `WillDelayInterval` | [`Will::properties`](crate::Will) |
//! | `set_topic_alias_max` | [`Version5::topic_alias_maximum`](crate::options::Version5::topic_alias_maximum); the loop puts the topic in |
//! | `Packet::Disconnect(…)`, `set_disconnected_callback` with its reason code | [`EventKind::BrokerDisconnected`](crate::EventKind::BrokerDisconnected) |
//! | `disconnect_with_properties` with reason 0x04, `DisconnectOptionsBuilder::reason_code` | [`Handle::disconnect_with_will`](crate::Handle::disconnect_with_will), [`Handle::terminate_with_will`](crate::Handle::terminate_with_will) |
