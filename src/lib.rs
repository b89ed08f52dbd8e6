//! Any number of OS threads share one TLS connection to an MQTT broker: without a mutex around it,
//! and without an async runtime.
//!
//! One thread owns the connection and runs a blocking command loop ([`Agent::run`]). Others hold a
//! [`Handle`] and push commands through a bounded channel; how each command ended they learn from a
//! [`Ticket`] (of many together, from a [`Batch`]), and what they subscribed to arrives in their [`Inbox`].
//!
//! # Use
//!
//! ```no_run
//! use std::{thread, time::Duration};
//! use mqtt_connection_sharing::options::{IdentityFiles, Options, Security, TlsOptions};
//! use mqtt_connection_sharing::{Client, Filter, Publish, QoS, WhenFull};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = Options::new("broker.example", "my-client");
//! options.security = Security::Tls(TlsOptions {
//!     identity: Some(IdentityFiles::Pem {
//!         cert: "client.pem".into(),
//!         key: "client.key".into(),
//!     }),
//!     ..TlsOptions::default()
//! });
//! let client = Client::new(options)?;
//! let (agent, handle) = client.open();
//!
//! let worker = thread::spawn(move || -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//!     let inbox = handle.inbox(10, WhenFull::WaitAside);
//!     let filters = vec![Filter::new("rooms/+/light", QoS::AtLeastOnce)];
//!     println!("subscribed: {}", handle.subscribe(&inbox, filters)?.wait());
//!     let message = Publish::new("rooms/1/light", QoS::AtLeastOnce, "on");
//!     println!("published: {}", handle.publish(message)?.wait());
//!     println!("received: {:?}", inbox.recv()?);
//!     println!("ended: {}", handle.terminate(Duration::from_secs(5)).wait());
//!     Ok(())
//! });
//! agent.run().result?; // blocks until TERMINATE
//! # worker.join().unwrap().unwrap();
//! # Ok(())
//! # }
//! ```
//!
//! # The journey of a message
//!
//! The numbers stand at the head of the files, too; read them in this order.
//!
//! Out: a publisher thread (\[0\] `app/demo/threads.rs`) calls [`Handle::publish`] (\[1\] `handle.rs`),
//! which encodes it if it is small (\[5\] `packet/outgoing.rs`) and puts a `Command` with its completion
//! (\[2\] `command.rs`, `ticket.rs`) on the bounded channel. The loop (\[3\] `agent/`) takes it and hands
//! it to the session (\[4\] `session/`), which reserves a packet identifier and a slot for it; then the
//! packet goes into the session's output, with its identifier, and the loop writes that to the link (\[6\]
//! `link.rs`).
//!
//! Back: the socket becomes readable, and the readiness thread injects PROCESSLOOP (\[7\]
//! `readiness.rs`). The loop \[3\] reads until the link is drained, decodes and checks each packet
//! \[5\] and hands it to the session \[4\]. An acknowledgment completes its command: the ticket that
//! the publisher holds resolves \[2\]. A PUBLISH goes through the subscription table (\[8\]
//! `subscriptions/`) to the inbox of each subscribed thread (\[9\] `fanout.rs`,
//! `inbox.rs`), and is acknowledged once they all have accepted it.
//!
//! # Map
//!
//! | file | what it is | runs on |
//! |---|---|---|
//! | `main.rs`, `app/` \[0\] | the program, which uses this library as any other would | main, demo and bench threads |
//! | `handle.rs` \[1\] | what threads hold | any thread |
//! | `command.rs`, `ticket.rs`, `batch.rs`, `ends.rs` \[2\] | commands, their outcomes, and how threads wait for them | any thread |
//! | `queue.rs` \[2\], `lane.rs`, `doorbell.rs` | the bounded queue to the loop; the requests that go ahead of it; the bell that wakes the loop | any |
//! | `agent/` \[3\] | the command loop; reads the clock for all of the connection | the thread that runs it |
//! | `session/` \[4\] | pure state machine: identifiers, acknowledgments, resume, timers | the loop's |
//! | [`mqtt::packet`] \[5\] | packet types, strict checks, adapter over rumqttc's codec | any (checks, small messages), the loop's |
//! | `link.rs` \[6\], `connect.rs`, `tls/` | non-blocking TLS and TCP, and how they come up | the loop's |
//! | `readiness.rs` \[7\] | watches the socket and calls back; knows nothing of MQTT | its own |
//! | `resolve.rs` | resolves the broker's name and calls back | its own |
//! | `subscriptions/` \[8\] | filters and matching | the loop's |
//! | `fanout.rs`, `outlet.rs`, `inbox.rs` \[9\] | inboxes, and the messages that wait aside for room in them | the loop's, any |
//! | `backoff.rs` | full jitter over the backoff crate | the loop's |
//! | [`options`], [`error`] | what the library needs to know; errors that assign blame | any |
//! | [`limits`] | what a broker allows within what MQTT allows | any |
//!
//! `session/`, `packet/`, `subscriptions/` and `backoff.rs` are pure: no thread, socket,
//! channel or clock; the time is passed in.

pub mod error;
#[cfg(feature = "local-broker")]
pub mod local;
pub mod options;

mod client;
mod link;
pub mod mqtt;

pub use client::agent::{Agent, Client, Ended, Stats};
pub use client::batch::Batch;
pub use client::command::{RejectReason, Rejected};
pub use client::handle::Handle;
pub use client::inbox::{Inbox, InboxError};
pub use client::outlet::WhenFull;
pub use client::ticket::Ticket;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use mqtt::fuzz;
pub use mqtt::limits;
pub use mqtt::packet::{Credentials, Filter, Message, Publish, QoS, Will};
pub use mqtt::session::{Outcome, Reason};
pub use mqtt::topic::{InvalidName, Topic};
