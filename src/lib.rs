//! Many OS threads share one TLS connection to an MQTT broker: no mutex around it, no async runtime.
//!
//! One thread owns the connection and runs a blocking command loop ([`Agent::run`]). The other threads hold a
//! [`Handle`] and push commands through a bounded queue. A [`Ticket`] tells a thread how its command ended; a
//! [`Batch`] does so for many messages together. Messages arrive in the [`Inbox`] that subscribed to them.
//!
//! ```no_run
//! use std::sync::mpsc;
//! use std::{error::Error, thread};
//!
//! use mqtt_connection_sharing::options::{Identity, Options, Security, TlsOptions};
//! use mqtt_connection_sharing::{Client, Filter, Publish, QoS, WhenFull};
//!
//! type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;
//!
//! fn main() -> Result<()> {
//!     let mut options = Options::new("broker.example", "my-client");
//!     let mut tls = TlsOptions::default();
//!     tls.identity = Some(Identity::pem("client.pem", "client.key"));
//!     options.security = Security::Tls(tls);
//!     let (agent, handle) = Client::new(options)?.open();
//!
//!     // Each thread has a handle of its own.
//!     let (subscribed, start) = mpsc::channel();
//!     let publisher = thread::spawn({
//!         let handle = handle.clone();
//!         move || -> Result<()> {
//!             start.recv()?;
//!             let message = Publish::new("rooms/1/light", QoS::AtLeastOnce, "on");
//!             handle.publish(message)?.wait().into_result()?;
//!             Ok(())
//!         }
//!     });
//!     let subscriber = thread::spawn(move || -> Result<()> {
//!         let inbox = handle.inbox(10, WhenFull::WaitAside);
//!         let filters = vec![Filter::new("rooms/+/light", QoS::AtLeastOnce)];
//!         handle.subscribe(&inbox, filters)?.wait().into_result()?;
//!         subscribed.send(())?;
//!         let message = loop {
//!             match inbox.recv() {
//!                 Err(problem) if !problem.is_end() => println!("{problem}"),
//!                 received => break received?,
//!             }
//!         };
//!         println!("received on {}: {:?}", message.topic(), message.to_payload());
//!         Ok(())
//!     });
//!
//!     // This thread owns the connection. The loop ends when the last handle is gone.
//!     agent.run().result?;
//!     for thread in [publisher, subscriber] {
//!         thread.join().map_err(|_| "a thread panicked")??;
//!     }
//!     Ok(())
//! }
//! ```
//!
//! A thread that publishes much makes one [`Topic`] for many messages and waits for them together
//! ([`Handle::publish_in`]). [`Handle::publish_then`] takes a callback in place of a ticket, and
//! [`Batch::with_callback`] one for many messages. [`Outcome`] says what is true of a command that has ended,
//! [`options::Options`] what can be set. The library logs through the crate `log`.
//!
//! [`Handle::connection`] says where the connection is, [`Handle::events`] what happens to it, and [`Handle::stats`] how
//! much was sent, waits and took how long. None of them costs a message anything, and any thread may ask. A [`recording`]
//! has the life of each command and message, with its threads.
//!
//! [`coming_from`] has the calls of rumqttc, Paho and coreMQTT-Agent, and ours beside them.
//!
//! The loop may have a thread of its own: `thread::spawn(move || agent.run())`. It hands the client back in
//! [`Ended::client`], to open the next loop.
//!
//! # Cargo features
//!
//! | feature | what it adds |
//! |---|---|
//! | `cli`, on by default | the program and its crates; a user of the library leaves it out: `default-features = false` |
//! | `local-broker` | the module `local`: a broker inside the process, for tests of applications; some 110 crates |
//! | `vendored-openssl` | OpenSSL built from source, for machines without its headers; needs perl and make |
//!
//! # In an async program
//!
//! The library needs no executor and starts none, and works with any. A [`Ticket`] is a future of its [`Outcome`], and a
//! [`Batch`] of what [`Batch::wait`] returns. [`Handle::publish_async`] and its siblings wait for room in the queue where
//! [`Handle::publish`] would block the executor's thread. [`Inbox::recv_async`] is a future of the next message, and
//! [`ConnectionEvents::recv_async`] of the next event. The loop has a thread of its own then, and wakes the tasks.
//!
//! - A future that is dropped cancels nothing that was queued. A message that still waits for room is not queued then
//!   ([`Pushing`]), and a message that was not received stays in the inbox.
//! - Threads and tasks wait for room in one line, and each has its turn.
//! - A waker that panics is logged, and the loop goes on.
//!
//! # The journey of a message
//!
//! The numbers stand at the head of the files, too. Read the files in this order.
//!
//! Out:
//!
//! - \[0\] `app/demo/`: a publisher thread, in the program or in yours, calls [`Handle::publish`].
//! - \[1\] `client/handle.rs` checks the message. A small message is encoded there (\[5\] `mqtt/outgoing.rs`).
//! - \[2\] `client/command.rs`, `client/ticket.rs`, `client/queue.rs`: the command and its completion wait in the
//!   bounded queue. The thread holds the [`Ticket`].
//! - \[3\] `client/agent/`: the loop takes the command and hands it to the session.
//! - \[4\] `mqtt/session/` reserves a packet identifier and a slot, and puts the packet into its output.
//! - \[5\] `mqtt/packet.rs`, `mqtt/v4/`, `mqtt/v5/`: packets, their checks, and their bytes in each version.
//!   `mqtt/codec.rs` has one face for both, so that the session knows neither.
//! - \[6\] `link/mod.rs`: the loop writes the output to the TLS link.
//!
//! Back:
//!
//! - \[7\] `link/readiness.rs`: the socket becomes readable, and the readiness thread wakes the loop with PROCESSLOOP.
//! - The loop \[3\] reads until the link is drained, decodes and checks each packet \[5\], and hands it to the
//!   session \[4\]. An acknowledgment completes its command: the ticket resolves \[2\].
//! - \[8\] `mqtt/subscriptions/` finds who subscribed to the topic of a PUBLISH.
//! - \[9\] `client/fanout.rs`, `client/inbox.rs`: the message goes into the inbox of each of these threads, and is
//!   acknowledged once all of them have accepted it.
//!
//! Beside the way:
//!
//! - `client/line.rs`: how threads and tasks wait for room in the queue, one after the other.
//! - `client/batch.rs`, `client/ends.rs`: how a thread or a task waits for many commands.
//! - `client/push.rs`, `client/tasks.rs`, `client/waiter.rs`: how a task brings a command into the queue, waits for a
//!   message, and is woken.
//! - `client/lane.rs`, `client/doorbell.rs`: the urgent lane ahead of the queue, and the bell that wakes the loop.
//! - `client/watch.rs`, `client/events.rs`, `client/next_event.rs`: how threads and tasks watch the connection.
//!   `link/steps.rs`, `link/tls/hello.rs`: the steps of an attempt. `client/meter.rs`: the counts that [`Handle::stats`]
//!   reads.
//! - `client/recording/`, `mqtt/session/notes.rs`: what a [`recording`] keeps.
//! - `client/handle/request.rs`, `client/response.rs`, `client/responses.rs`: requests that have a response.
//!   `mqtt/session/server.rs`: the limits that a broker of MQTT 5 states.
//! - `client/outlet.rs`: the loop's end of an inbox. `client/next_message.rs`: how a task awaits what comes into it.
//!   `client/by_hand.rs`: messages that a thread acknowledges. `client/default_inbox.rs`: messages that no inbox wants.
//! - `client/agent/prepare.rs`, `link/errand.rs`: a thread asks the provider and reads files again before each attempt.
//! - `link/resolve.rs`, `link/connect.rs`, `link/race.rs`, `link/tls/`, `link/backoff.rs`: how a link comes up, and when
//!   it is tried again.
//! - `mqtt/topic.rs`, `mqtt/limits.rs`: the names that MQTT allows, and what a broker allows of them.
//! - `mqtt/rate.rs`: how much may leave in one second, where a broker takes no more.
//! - `app/settings.rs`, `app/sources.rs`, `app/chosen.rs`, `app/resolve.rs`: the program's settings.
//! - `app/picture/`: pictures of a run, made of its recording.
//! - `app/view/`: what a terminal shows while the program runs.
//!
//! # Four rooms, one law each
//!
//! | room | its law | runs on |
//! |---|---|---|
//! | `mqtt/` | pure: no thread, socket, channel or clock; bytes in, bytes out, the time is passed in | the loop's thread; checks and small messages on any |
//! | `link/` | sockets and TLS; knows no MQTT | the loop's thread; `link/readiness.rs` and `link/errand.rs` have threads of their own |
//! | `client/` | what threads hold and what the loop's thread owns; reads the clock | `client/agent/` and `client/fanout.rs` on the loop's thread, the rest on any |
//! | `app/` | the program; uses this library's public interface and nothing else | main, and the threads that it starts |
//!
//! [`error`] uses no room and says whose fault something is. `secret.rs` keeps passwords and keys and wipes them.
//! [`options`] knows the nouns of `mqtt`. [`limits`] has what a broker allows within what MQTT allows. `local/` is the
//! embedded broker of the feature `local-broker`, for `--local` and for the tests of applications; it uses `error` and
//! `options`. The head of each `mod.rs` says what is in its room; `CONTRIBUTING.md` says how the walls are checked.
//!
//! # MQTT 5
//!
//! [`Options::protocol`](options::Options::protocol) says which version a connection speaks: MQTT 3.1.1 unless it says
//! [`Protocol::V5`]. The broker has to speak it, too. No other version is tried in its place: the error says that the broker
//! does not speak MQTT 5. [`Options::version5`](options::Options::version5) has the settings that MQTT 5 adds.
//!
//! It gives an application:
//!
//! - **Reasons.** A refused message says why: [`Outcome::answer`] has the code, such as 0x87 (not authorized), and the
//!   broker's own words. A broker that closes the connection says why, too ([`EventKind::BrokerDisconnected`]). After 0x8E,
//!   another client with the same identifier, the loop ends, because the two would throw each other out in turn.
//! - **Properties.** [`Publish::with_properties`] adds [`MessageProperties`]; [`Message::received`] has those that came. A
//!   message that expires before it could be sent ends as never sent ([`Reason::Expired`]); its time counts from the
//!   moment it is pushed.
//! - **Requests.** [`Handle::request`] publishes a message and waits for the response to it. [`Handle::start_request`] and
//!   [`Handle::request_async`] have any number of them under way; [`Message::response`] is the other side.
//!   [`NoResponse`] tells apart why there is none.
//! - **Subscriptions.** [`Filter::with_options`] says whether own messages come, and which retained ones
//!   ([`SubscribeOptions`]). A subscription that is renewed asks for retained messages only where the broker has lost it.
//! - **The broker's limits.** [`Handle::negotiated`] has them. A message or filter beyond one is not sent
//!   ([`Reason::BrokerLimit`]). The broker also says how many messages it takes at one time (receive maximum): further ones
//!   wait, and SUBSCRIBE, UNSUBSCRIBE and PING pass them.
//! - **The last will.** It may have a delay and properties. [`Handle::disconnect_with_will`] has it published, with 3.1.1 as
//!   well.
//!
//! It differs in this:
//!
//! - The first connection of a loop asks for a new session. A broker of MQTT 5 that answers with an old one would have
//!   acknowledgments of which this process knows nothing, and the client would have to close the connection
//!   [MQTT-3.2.2-4]. So messages and subscriptions of an earlier process do not come, also without `clean_session`; on the
//!   following connections of the same loop the session goes on. Where a
//!   message must outlive the process that receives it, use MQTT 3.1.1.
//! - The broker keeps the session for
//!   [`Version5::session_expiry`](options::Version5::session_expiry) after a connection, or for another time that it
//!   states. After a longer time offline the loop begins a new session without asking.
//! - How many messages the broker may send without an acknowledgment is stated in CONNECT
//!   ([`Version5::receive_maximum`](options::Version5::receive_maximum)). More are
//!   taken while there is room for them, and counted in the log; beyond that the connection ends.
//! - Several inboxes that subscribe to the same filter share one subscription at the broker, and so its options: those that
//!   were asked for last [MQTT-3.8.4-3].
//! - A broken rule of the broker is answered with DISCONNECT and its code before the link is closed.
//! - Properties and options of MQTT 5 are left out on a connection of MQTT 3.1.1, and nothing is refused because of them,
//!   unless no version could send them. A request is refused at once ([`RejectReason::NeedsVersion5`]).
//! - Enhanced authentication (AUTH) is not there. A broker that asks for it is told so and left.
//!
//! # Filters that overlap
//!
//! To the broker all threads are one client. No message of MQTT 3.1.1 says for which subscription it comes, so the loop hands
//! each one to every inbox with a filter that matches its topic, once.
//!
//! - A broker may send a message once for each filter that matches it [MQTT-3.3.5-1]. With `rooms/#` in one inbox and
//!   `rooms/+` in another one, each of them may get it twice, also with QoS 2. Mosquitto does so with MQTT 5, and sends it
//!   once with MQTT 3.1.1.
//! - An inbox with `jobs/#` also gets the messages of `$share/workers/jobs/#` on the same connection. The inbox of the
//!   shared subscription gets all that comes for `jobs/#`, also what another client of its group has. Use another client
//!   identifier, and so another loop, for one of the two.
//! - With MQTT 5 a thread can tell. Where each filter has an [`identifier`](SubscribeOptions::identifier) of its own,
//!   [`Received::subscription_identifiers`] says for which of them a message came, and a thread passes over what came for
//!   those of others.
//!
//! # Messages before their subscription
//!
//! A broker that has kept the session sends what it had stored as soon as it is connected. A subscription counts from
//! the moment at which [`Handle::subscribe`] is called, also before the loop runs, and until the broker refuses it. For
//! [`Options::unmatched_hold`](options::Options::unmatched_hold) after the first connection, messages of QoS 1 and 2
//! that match none wait for one, unacknowledged. They do so again for that time after an inbox that acknowledges by hand
//! was dropped with messages that are not done. Afterwards they go to the default inbox ([`Handle::unmatched`]).
//! There and then a message for which it has no room is acknowledged, dropped, counted and named in the log.
//! At the end of the loop those that still wait go there, too, unless the broker has kept the session and sends
//! them again.
//!
//! # A session of an earlier process
//!
//! A process that dies between PUBLISH and PUBREL of a QoS 2 message leaves it with a broker that keeps the session, under
//! a packet identifier that the next process does not know of. MQTT 3.1.1 gives no way to ask for these identifiers. So
//! identifiers begin at a random place of the circle of 65,535 ([`Client::open`]). A PUBREC for a message that is not
//! known is answered with PUBREL, and its identifier is not used before PUBCOMP has come.
//!
//! One case remains. A broker that says nothing of such a message on its own, and goes by the identifier alone, takes the
//! first QoS 2 message under that identifier for the earlier one: it drops it, and the outcome is "delivered". At most as
//! many messages can be lost like that as the earlier process had in flight
//! ([`Options::max_inflight_qos2`](options::Options::max_inflight_qos2)). QoS 1 does not have this case, nor has a
//! connection with [`Options::clean_session`](options::Options::clean_session), after which the broker holds nothing, and
//! no subscription and no stored message either.
//!
//! # A message that is too large
//!
//! A message above [`Options::max_packet_size`](options::Options::max_packet_size) costs nobody the link. It is read
//! away as it comes, acknowledged in its turn, counted and named in the log. Each inbox that it was for gets
//! [`InboxError::TooLarge`] in its place; one of QoS 0 is counted only. [`Options::on_too_large`](options::Options::on_too_large)
//! can have the link closed instead.
//!
//! # A thread that does not read its inbox
//!
//! It stops neither the loop nor other threads. With [`WhenFull::WaitAside`] a message of QoS 1 or 2 for which its
//! inbox has no room waits aside. QoS 0 is dropped and counted. The other policies drop a message instead, and count it.
//!
//! - A message is acknowledged once every matching inbox has accepted it, in the order of arrival [MQTT-4.6.0-2].
//! - An inbox that has something aside for a second is slow until nothing is aside. Its messages count as
//!   accepted at once, so they delay nobody. They are never dropped: they come also after a lost session, and
//!   [`Inbox::recv`] gives out the rest after the loop's end.
//! - All that waits is on one account, whether it is acknowledged or not. At 64 MiB, or four times `max_packet_size` if
//!   that is more, messages wait unacknowledged, other inboxes may have to wait, and the log names the fullest inbox.
//!   A quarter above that, messages are left with the broker. Publishing goes on.
//! - Once half of what waits is read, the link is made anew, and the broker sends again what was left with it. With
//!   `clean_session` it forgets it.
//! - [`Accept::OnceTaken`] has an inbox accept a message only once a thread has taken it. It says what that costs others.
//!   An inbox may also accept a message only once the work on it is done: see the next section.
//!
//! # Acknowledge when it is done
//!
//! An application that may not lose a message in a crash opens an inbox with [`Handle::inbox_by_hand`]. It gives each
//! message as an [`Unacknowledged`] one, and the loop acknowledges it (QoS 1: PUBACK, QoS 2: PUBREC) after
//! [`Unacknowledged::done`]. A process that is killed before that gets the message again, with DUP, on the next connection
//! with the same client identifier. A message that was done comes again, too, if its acknowledgment did not reach the
//! broker.
//!
//! - The broker has to keep the session, so [`Handle::subscribe`] refuses such an inbox with `clean_session`
//!   ([`RejectReason::CleanSession`]).
//! - With [MQTT 5](#mqtt-5) a new process begins a new session, and does not get them: use MQTT 3.1.1 for this.
//! - A message that is dropped undone, also by a thread that panics, is offered to the same inbox again, before those that
//!   wait aside. [`Unacknowledged::attempts`] counts. After 5 times ([`ByHand::told_after`]) an event names it
//!   ([`EventKind::DroppedUndone`]). It is offered again all the same, and at once: a thread that cannot do its work at
//!   present should wait before it drops the message.
//! - A message for several inboxes is acknowledged once all have accepted it, each in its way.
//! - QoS 0 has nothing to acknowledge. Such a message is given once.
//! - A lost link changes nothing for the threads. The broker sends the message again, the loop recognises it and does not
//!   offer it again: it is acknowledged when it is done, or at once if it was done meanwhile. This is certain as long as
//!   the broker uses no identifier anew for a message before the earlier one is acknowledged [MQTT-2.3.1-4].
//! - If the inbox is dropped, its messages that are not done wait, unacknowledged. They go to inboxes of this kind that
//!   subscribe to their topic and have not had them, such as the one of a thread that takes the place of one that
//!   panicked. Such an inbox takes the place of all that were dropped with a message. A thread that still has the message
//!   in its hands may do it until then; afterwards its word counts no more, and the work is done twice.
//! - So an inbox that is dropped undone needs another one in its place, also where other inboxes had the same messages (a
//!   pool of threads that gets smaller). To close one for good, unsubscribe, wait for the ticket, do what it still
//!   gives, and drop it then.
//! - A message that matches no subscription is nobody's work: it waits for one as the section on
//!   [messages before their subscription](#messages-before-their-subscription) says, and is acknowledged and perhaps dropped
//!   after that. So subscribe before the loop runs, or have [`Options::unmatched_hold`](options::Options::unmatched_hold)
//!   cover the time until a new process, or the thread that takes another one's place, has subscribed.
//! - When the loop ends, the broker has what was not done, and sends it again on the next connection. [`Inbox::recv`] gives
//!   out the rest all the same, and [`Unacknowledged::done`] does nothing then.
//!
//! This has a price. Acknowledgments leave in the order in which the messages came [MQTT-4.6.0-2]: one that is not done
//! holds back those behind it, also of other inboxes. A broker sends only so many messages without one (20 with Mosquitto,
//! 100 with AWS IoT Core). With so many unacknowledged nothing of QoS 1 or 2 comes any more, for any inbox. Messages that
//! are not done are also among the bytes of all that waits (see above), which they never exceed, and
//! [`Stats::waiting_messages`] counts them.
//!
//! # Certificates and tokens that change
//!
//! Files are read again before each connection attempt, so a renewed certificate counts from the next link on. Certificates,
//! keys and authorities may be in memory, too ([`options::Material`]). A [`options::Provider`] gives credentials,
//! certificates and keys for each attempt, such as a token that expires. Both happen on a thread of their own while the
//! loop goes on. A value that cannot be used is told in the log and as [`EventKind::NotRenewed`], and the last good values stay in
//! force. Passwords and keys are wiped when nobody needs them any more; [`options::Secret`] says which copies are not.
//!
//! # Retained messages
//!
//! A SUBSCRIBE makes the broker send the retained messages that match [MQTT-3.8.4-3], also if the client is subscribed
//! to that filter already. MQTT 3.1.1 does not say for which subscription they come. So when an inbox subscribes,
//! a retained message may reach the other inboxes with a matching filter again. [`Message::retain`] tells.

pub mod error;
#[cfg(feature = "local-broker")]
pub mod local;
pub mod options;

mod client;
mod link;
pub mod mqtt;
mod secret;

pub use client::agent::{Agent, Client, Ended};
pub use client::batch::Batch;
pub use client::by_hand::{InboxMessage, Unacknowledged};
pub use client::coming_from;
pub use client::command::{RejectReason, Rejected};
pub use client::default_inbox::DefaultInbox;
pub use client::events::{ConnectionEvent, ConnectionState, EventKind};
pub use client::handle::{Handle, RequestError};
pub use client::inbox::Inbox;
pub use client::inbox_error::InboxError;
pub use client::latencies::Latencies;
pub use client::next_event::NextEvent;
pub use client::next_message::{InboxIter, NextMessage};
pub use client::outlet::{Accept, ByHand, InboxPolicy, WhenFull};
pub use client::push::{Pushing, PushingIn};
pub use client::recording;
pub use client::response::{NoResponse, PendingResponse};
pub use client::stats::Stats;
pub use client::ticket::{Ticket, wait_any};
pub use client::watch::{ConnectionEvents, NoEvent, NotReached};
pub use link::steps::AttemptStep;
pub use link::tls::hello::{Cipher, TlsVersion};
pub use link::tls::{BrokerCertificate, ClientCertificate, TlsDetails};
pub use mqtt::limits;
pub use mqtt::packet::{
    Answer, BrokerDisconnect, BrokerLimit, ConnAck5, Details, MessageProperties, ReasonCode,
};
pub use mqtt::packet::{Credentials, Filter, Message, Protocol, Publish, QoS, Will};
pub use mqtt::packet::{Received, RetainHandling, SubscribeOptions, WillProperties};
pub use mqtt::session::{NotDelivered, Outcome, Reason};
pub use mqtt::topic::{InvalidName, Topic};
