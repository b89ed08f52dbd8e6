//! Requests and commands into the session, events out of it. The loop's thread; it does not wait here.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::pending::Pending;
use super::{Agent, BATCH};
use crate::client::command::{Command, Request};
use crate::client::events::EventKind;
use crate::client::fanout::Acceptance;
use crate::client::lane::{Announcement, LinkRequest, News};
use crate::client::outlet::InboxId;
use crate::client::recording::What;
use crate::client::ticket::Completion;
use crate::error::{Blame, Error};
use crate::mqtt::packet::{Filter, Message};
use crate::mqtt::session::{DeliveryId, Event, Outcome, Reason};
use crate::mqtt::subscriptions::InterestId;
use crate::mqtt::topic::shortened;

/// How many characters of a topic or filter a line of the log shows.
const SHOWN_CHARACTERS: usize = 100;

impl Agent {
    /// Takes what goes ahead of the queue.
    pub(super) fn take_urgent(&mut self, now: Instant) -> bool {
        let injected = self.lane.take_process_loop();
        let urgent = self.lane.take();
        let asked = urgent
            .as_ref()
            .is_some_and(|it| !it.process_loops.is_empty());
        if injected || asked {
            self.record(What::ProcessLoop);
        }
        let busy = injected || urgent.is_some();
        if busy {
            // A thread that says that a message is done and then asks for TERMINATE finds it acknowledged.
            self.take_hand_ends();
        }
        if let Some(urgent) = urgent {
            self.handle_news(urgent.news, now);
            for number in urgent.withdrawn {
                self.subscriptions.end_announcement(number);
            }
            for (request, done) in urgent.link_requests {
                match request {
                    LinkRequest::Disconnect(leave) => self.disconnect(leave, done, now),
                    LinkRequest::Reconnect => self.reconnect(done, now),
                }
            }
            if let Some((end_of_grace, leave, done)) = urgent.terminate {
                self.terminate(end_of_grace, leave, done);
            }
            self.requests.process_loop(urgent.process_loops);
            if let Some(error) = urgent.watch_failure {
                self.watch_failed(error);
            }
        }
        busy
    }

    /// Opens and closes inboxes. Gives those that are there then, or are to subscribe, the messages that wait for one.
    fn handle_news(&mut self, news: News, now: Instant) {
        for outlet in news.opened.into_values() {
            self.fanout.open(outlet);
        }
        let offers_held = !news.announced.is_empty() || !news.closed.is_empty();
        for inbox in news.closed {
            self.close_inbox(inbox, now);
        }
        for Announcement {
            number,
            inbox,
            filters,
        } in news.announced
        {
            self.subscriptions.announce(number, inbox, &filters);
        }
        if offers_held {
            self.fanout.offer_held(&self.subscriptions, now);
            self.tell_acceptances();
        }
    }

    /// Hears which messages of inboxes that accept by hand are done, or were dropped undone.
    fn take_hand_ends(&mut self) {
        for end in self.lane.take_hand_ends() {
            if let Some((message, times)) = self.fanout.end_hand(end) {
                let topic = message.topic();
                log::warn!(
                    "a message on {} was dropped undone {times} times; it is offered again",
                    shortened(topic, SHOWN_CHARACTERS)
                );
                self.reporter.tell(|| EventKind::DroppedUndone {
                    topic: topic.to_owned(),
                    times,
                });
            }
        }
        self.tell_acceptances();
    }

    /// Takes note of SUBSCRIBEs that were pushed since the turn began, and of inboxes that were opened or dropped with
    /// them.
    fn take_news(&mut self, now: Instant) {
        if let Some(news) = self.lane.take_news() {
            // A message that was done before its inbox was dropped is not to go to another one.
            self.take_hand_ends();
            self.handle_news(news, now);
        }
    }

    /// Without the readiness thread the loop would wait for ever.
    fn watch_failed(&mut self, error: io::Error) {
        let told = Error::new(
            Blame::Network,
            "waiting for the socket",
            error.to_string(),
            "start the program again; the system's event queue failed",
        );
        self.failure = Some(told.with_source(error));
    }

    /// Takes commands while the session has room for them.
    pub(super) fn take_commands(&mut self, now: Instant) -> bool {
        let mut taken = 0;
        let limit = self.session.window();
        let in_flight = self.session.in_flight();
        self.pace.update_window(in_flight, limit, now);
        while (self.session.wants_commands() || self.session.wants_requests())
            && let Some(filters) = self.requests.take_abandoned()
        {
            self.session.leave(filters, Pending::Own, now);
            taken += 1;
        }
        let (before, mut messages, mut run) = (taken, 0, 0);
        while taken < BATCH && (run > 0 || self.takes_commands()) {
            if run == 0 {
                // No more than there is room for: a fetched command is to be taken, not to wait here.
                run = self.takes_messages().clamp(1, BATCH - taken);
            }
            let fetches = !self.commands.has_fetched();
            let Some(command) = self.commands.take(run, now) else {
                self.requests.queue_is_empty();
                break;
            };
            run = match &command.request {
                Request::Publish(message) if message.is_plain() => run - 1,
                _ => 0,
            };
            if taken == before {
                self.note_queued();
            }
            taken += 1;
            let is_message = matches!(command.request, Request::Publish(_) | Request::Ask(_));
            messages += u64::from(is_message);
            self.record_taken(&command, fetches);
            self.requests.command_taken();
            self.dispatch(command, now);
        }
        self.meter.messages_sent.add(messages);
        let in_flight = self.session.in_flight() as u64;
        self.meter.in_flight_most.raise(in_flight);
        self.go_offline_if_due(now);
        taken > 0
    }

    /// Takes note of how many commands were queued, the one among them that was taken just now.
    // Once for many commands: it must not make their loop larger.
    #[inline(never)]
    fn note_queued(&self) {
        let queued = self.commands.len() + 1;
        self.meter.queued_most.raise(queued as u64);
    }

    /// Handles what the session has to say. Threads see the messages among it then.
    pub(super) fn handle_events(&mut self, now: Instant) -> bool {
        let busy = self.handle_some_events(now);
        self.fanout.hand_over();
        busy
    }

    /// As [`Agent::handle_events`], but threads may see messages only after the next call, which has to follow.
    pub(super) fn handle_some_events(&mut self, now: Instant) -> bool {
        let mut busy = false;
        self.record_packets();
        while let Some(event) = self.session.poll_event() {
            busy = true;
            let is_plain_end = matches!(
                event,
                Event::Resolved {
                    token: Pending::Plain(_),
                    ..
                }
            );
            if !is_plain_end {
                self.uncounted.count();
            }
            if !matches!(event, Event::Message { .. }) {
                // A thread that learns of anything else finds the messages that came before it.
                self.fanout.hand_over();
            }
            match event {
                Event::Connected {
                    session_present,
                    resubscribing,
                } => self.connected(session_present, resubscribing, now),
                Event::ConnectRefused(code) => self.refused(code, now),
                Event::ConnectRefused5(connack) => self.refused5(&connack, now),
                Event::Close(loss) => {
                    self.handle_what_is_left(now);
                    self.link_lost(loss, now);
                }
                Event::Unread => {
                    let forgets = match self.connection.clean_session() {
                        true => ", which forgets them with its session",
                        false => "",
                    };
                    let consequence = format!(
                        "new ones are left with the broker until half of that is read{forgets}"
                    );
                    self.warn_of_the_bound(&consequence, true);
                }
                Event::Renewed { filters } => {
                    self.reporter.tell(|| EventKind::Renewed { filters });
                }
                Event::GivenUp { command, reason } => {
                    self.reporter
                        .tell(|| EventKind::CommandGivenUp { command, reason });
                }
                Event::Resolved {
                    token,
                    outcome,
                    answered,
                } => self.resolved(token, outcome, answered),
                Event::Message { message, delivery } => {
                    self.deliver_one(&message, delivery, now);
                }
                Event::SubscriptionRefused { filter } => {
                    log::warn!("the subscription to {filter:?} is not renewed");
                    self.reporter.tell(|| EventKind::SubscriptionRefused {
                        filter: filter.clone(),
                    });
                    for inbox in self.subscriptions.remove_filter(&filter) {
                        self.fanout.tell_refused(inbox, &filter, now);
                    }
                    self.abandon_unwanted(vec![filter]);
                }
            }
        }
        self.uncounted.count();
        self.record_packets();
        busy
    }

    /// Offers again what waited for room in an inbox.
    pub(super) fn offer_again(&mut self, now: Instant) {
        self.fanout.retry(now);
        self.tell_acceptances();
    }

    /// Hands a command to where it is carried out.
    // A command fills two cache lines: it must not be moved once more.
    #[inline]
    fn dispatch(&mut self, command: Command, now: Instant) {
        let Command {
            request,
            completion,
        } = command;
        match request {
            Request::Publish(publish) => {
                self.session
                    .publish(publish, Pending::Plain(completion), now);
            }
            Request::Ask(asking) => self.ask(*asking, completion, now),
            Request::Subscribe {
                number,
                inbox,
                filters,
                mark: _,
            } => {
                self.take_news(now);
                // All of these first: this SUBSCRIBE may be for one of the same filters.
                while let Some(abandoned) = self.requests.take_abandoned() {
                    self.session.leave(abandoned, Pending::Own, now);
                }
                self.subscribe(inbox, filters, completion, now);
                self.subscriptions.end_announcement(number);
            }
            Request::Unsubscribe {
                inbox,
                filters,
                mark: _,
            } => {
                self.unsubscribe(inbox, &filters, completion, now);
            }
            Request::Ping(_) => self.session.ping(Pending::Plain(completion), now),
        }
    }

    fn subscribe(
        &mut self,
        inbox: InboxId,
        filters: Vec<Filter>,
        completion: Completion,
        now: Instant,
    ) {
        if !self.fanout.is_open(inbox) {
            self.tell(completion, Outcome::NeverSent(Reason::InboxClosed));
            return;
        }
        if !self.has_room_for(&filters) {
            self.tell(completion, Outcome::NeverSent(Reason::SubscriptionLimit));
            return;
        }
        let (wanted, added) = self.subscriptions.add(inbox, &filters);
        let pending = Pending::Subscribe(Box::new((completion, added)));
        self.session.subscribe(wanted, pending, now);
    }

    /// Whether so many subscriptions are allowed.
    pub(super) fn has_room_for(&self, filters: &[Filter]) -> bool {
        if self.subscriptions.len() + filters.len() > self.client.options.max_subscriptions {
            return false;
        }
        let count = self.subscriptions.filters_with(filters);
        let checked = self.client.options.limits.check_subscriptions(count);
        if let Err(exceeded) = &checked {
            log::warn!("a SUBSCRIBE is not sent: with it there would be {exceeded}");
        }
        checked.is_ok()
    }

    fn unsubscribe(
        &mut self,
        inbox: InboxId,
        filters: &[String],
        completion: Completion,
        now: Instant,
    ) {
        let (unwanted, leaving) = self.subscriptions.leave(inbox, filters);
        if unwanted.is_empty() {
            self.subscriptions.remove(&leaving);
            self.tell(completion, Outcome::delivered(0, Duration::ZERO));
        } else {
            let pending = Pending::Unsubscribe(Box::new((completion, leaving, unwanted.clone())));
            self.session.unsubscribe(unwanted, pending, now);
        }
    }

    /// An inbox was dropped: it accepts what waited for it, unless it accepts by hand, and its subscriptions end.
    fn close_inbox(&mut self, inbox: InboxId, now: Instant) {
        let undone = self.fanout.close(inbox);
        if undone > 0 {
            log::warn!(
                "the inbox of {} was dropped and {undone} of its messages are not done: they wait unacknowledged for \
                 another such inbox that subscribes to them, and no acknowledgment overtakes them",
                self.name(inbox)
            );
            // The broker sends on until UNSUBSCRIBE has come to it, and the next inbox may not have subscribed yet.
            self.hold_unmatched(now);
        }
        self.tell_acceptances();
        let own = self.subscriptions.filters_of(inbox).map(str::to_owned);
        let own: Vec<_> = own.collect();
        let unwanted = self.subscriptions.remove_subscriber(inbox);
        if !unwanted.is_empty() {
            log::debug!("an inbox was dropped; unsubscribing from {unwanted:?}");
        }
        let left: BTreeSet<_> = unwanted.iter().cloned().collect();
        self.requests.abandon(unwanted);
        let leaving = own.into_iter().filter(|filter| !left.contains(filter));
        self.abandon_unwanted(leaving.collect());
    }

    /// From now on messages that match no subscription wait for one, as long as the options say.
    pub(super) fn hold_unmatched(&mut self, now: Instant) {
        let hold = self.client.options.unmatched_hold;
        if !hold.is_zero() {
            self.fanout.hold_unmatched(now + hold);
        }
    }

    /// A command has ended that the session never had.
    pub(super) fn tell(&self, completion: Completion, outcome: Outcome) {
        self.meter.command_ended(&outcome, false);
        self.record_end(completion.recorded().into(), &outcome, false);
        completion.tell(outcome);
    }

    fn resolved(&mut self, token: Pending, outcome: Outcome, answered: bool) {
        self.pace.command_ended();
        if !matches!(token, Pending::Own | Pending::Responses(_)) {
            self.meter.command_ended(&outcome, answered);
            self.record_end(token.recorded(), &outcome, answered);
        }
        match token {
            Pending::Plain(completion) => {
                completion.tell_uncounted(outcome, &mut self.uncounted);
            }
            Pending::Own => {}
            Pending::Subscribe(subscribed) => {
                let (completion, added) = *subscribed;
                self.take_granted(added, &outcome);
                completion.tell(outcome);
            }
            Pending::Responses(added) => {
                self.take_granted(added, &outcome);
                if !outcome.is_delivered() {
                    log::warn!("responses to requests cannot come: {outcome}");
                    self.fanout.responses().not_subscribed(&outcome);
                }
            }
            Pending::Unsubscribe(left) => {
                let (completion, leaving, filters) = *left;
                match outcome {
                    // The broker goes on sending.
                    Outcome::NeverSent(Reason::BrokerLimit(_)) => {
                        self.subscriptions.stay(&leaving);
                        // Their inbox may have been dropped meanwhile.
                        self.abandon_unwanted(filters);
                    }
                    _ => {
                        let unwanted = self.subscriptions.remove(&leaving);
                        self.abandon_unwanted(unwanted);
                    }
                }
                completion.tell(outcome);
            }
        }
    }

    /// SUBSCRIBE has ended: the broker has granted the interests that were added for it, or has not.
    fn take_granted(&mut self, added: Vec<InterestId<InboxId>>, outcome: &Outcome) {
        let (granted, refused): (Vec<_>, Vec<_>) = match outcome {
            Outcome::Delivered { .. } => (added, Vec::new()),
            Outcome::Refused { granted, .. } => {
                let answers = added.into_iter().zip(granted);
                let (yes, no): (Vec<_>, Vec<_>) = answers.partition(|(_, g)| g.is_some());
                let interest = |(interest, _)| interest;
                (
                    yes.into_iter().map(interest).collect(),
                    no.into_iter().map(interest).collect(),
                )
            }
            _ => (Vec::new(), added),
        };
        self.subscriptions.grant(&granted);
        let unwanted = self.subscriptions.remove(&refused);
        self.abandon_unwanted(unwanted);
    }

    /// The broker has to be told of those filters among these that it serves, or still will, and no inbox wants any more. An
    /// inbox may have left one of them before, without an UNSUBSCRIBE because another one stayed.
    fn abandon_unwanted(&mut self, mut filters: Vec<String>) {
        filters.retain(|filter| {
            !self.subscriptions.contains(filter) && self.session.stays_subscribed(filter)
        });
        self.requests.abandon(filters);
    }

    fn deliver_one(&mut self, message: &Arc<Message>, delivery: Option<DeliveryId>, now: Instant) {
        self.meter.messages_received.add(1);
        if let Some(size) = message.too_large() {
            self.count_too_large(message.topic(), size);
        }
        self.take_news(now);
        let subscriptions = &self.subscriptions;
        let accepted = self.fanout.deliver(subscriptions, message, delivery, now);
        if let (true, Some(delivery)) = (accepted, delivery) {
            self.session.accept(delivery);
        }
        self.tell_acceptances();
    }

    /// A message was read away.
    fn count_too_large(&mut self, topic: &str, size: usize) {
        self.meter.too_large.add(1);
        let so_far = self.meter.too_large.get();
        // Ever more rarely: a broker must not be able to flood the log.
        if so_far.is_power_of_two() {
            log::warn!(
                "a message of {size} bytes on {} is passed over, because `max_packet_size` is {} bytes \
                 ({so_far} so far)",
                shortened(topic, SHOWN_CHARACTERS),
                self.client.options.max_packet_size,
            );
            self.reporter.tell(|| EventKind::MessageTooLarge {
                topic: topic.to_owned(),
                size,
                so_far,
            });
        }
    }

    /// Tells the session which messages count as accepted.
    fn tell_acceptances(&mut self) {
        while let Some(overflow) = self.fanout.poll_overflow() {
            self.reporter.tell(|| EventKind::InboxOverflowing {
                inbox: self.name(overflow.inbox),
                waiting: overflow.waiting,
                dropped: overflow.dropped,
            });
        }
        while let Some(acceptance) = self.fanout.poll() {
            match acceptance {
                Acceptance::Complete(delivery) => self.session.accept(delivery),
                Acceptance::Early(delivery, inboxes) => {
                    if !self.session.accept_early(delivery, inboxes) {
                        self.meter.held_back.add(1);
                        // Ever more rarely: a broker must not be able to flood the log.
                        if self.meter.held_back.get().is_power_of_two() {
                            self.warn_of_the_bound(
                                "further ones wait unacknowledged, and the broker may send nothing for other \
                                 inboxes meanwhile",
                                false,
                            );
                        }
                    }
                }
            }
        }
    }

    /// So much waits for inboxes that more has consequences.
    fn warn_of_the_bound(&self, consequence: &str, left_with_broker: bool) {
        let limit = self.client.options.max_waiting_bytes();
        let (inbox, waiting) = self.fanout.fullest();
        self.reporter.tell(|| EventKind::InboxesFull {
            inbox: inbox.map(|inbox| self.name(inbox)),
            waiting,
            left_with_broker,
        });
        let waiting = match inbox.map(|inbox| self.name(inbox)) {
            Some(name) => format!("{waiting} messages wait for the inbox of {name}"),
            None => format!("{waiting} messages wait for a subscription"),
        };
        let advice = match inbox {
            Some(inbox) if self.fanout.is_by_hand(inbox) => {
                "call Unacknowledged::done for each message in time; dropping such an inbox frees nothing"
            }
            Some(_) => {
                "read every inbox in time, drop it, or open it with WhenFull::DropOldest or DropNewest"
            }
            None => "have an inbox subscribe to them",
        };
        log::warn!(
            "{waiting}, and {limit} bytes or more for all inboxes together: {consequence}; {advice}"
        );
    }

    /// An inbox as a line of the log names it: by its filters.
    fn name(&self, inbox: InboxId) -> String {
        let mut filters = self.subscriptions.filters_of(inbox);
        let Some(first) = filters.next() else {
            return "a thread without a subscription".to_owned();
        };
        let first = shortened(first, SHOWN_CHARACTERS);
        match filters.count() {
            0 => first,
            more => format!("{first} and {more} more filters"),
        }
    }
}
