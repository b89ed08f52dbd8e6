//! \[1\] PUBLISH: one message with a ticket, a callback or a future of its own, or one of many in a batch.
//!
//! A message that breaks a rule comes back before it is queued. Any thread.

use std::time::{Duration, Instant};

use super::Handle;
use crate::client::batch::Batch;
use crate::client::command::{RejectReason, Rejected, Request};
use crate::client::push::{Pushing, PushingIn};
use crate::client::ticket::{Completion, Ticket};
use crate::mqtt::outgoing::Outgoing;
use crate::mqtt::packet::Publish;
use crate::mqtt::session::Outcome;

impl Handle {
    /// PUBLISH. The ticket resolves when the broker has acknowledged the message (QoS 1 and 2), or
    /// when it was handed to the link (QoS 0).
    ///
    /// # Errors
    /// The message is handed back when its topic is no valid topic name, when it exceeds what MQTT or
    /// the broker allows, when the queue stays full for the block time, and when the loop has ended.
    pub fn publish(&self, publish: Publish) -> Result<Ticket, Rejected<Publish>> {
        self.publish_timeout(publish, self.block_time)
    }

    /// As [`Handle::publish`], but waits for room in the queue at most this long, whatever the block time is.
    ///
    /// # Errors
    /// As [`Handle::publish`], with `timeout` in place of the block time.
    pub fn publish_timeout(
        &self,
        publish: Publish,
        timeout: Duration,
    ) -> Result<Ticket, Rejected<Publish>> {
        let (ticket, completion) = Ticket::new();
        self.queue_publish(publish, completion, timeout)?;
        Ok(ticket)
    }

    /// As [`Handle::publish`], but never waits. Room that other threads wait for is not taken from them.
    ///
    /// # Errors
    /// As [`Handle::publish`], but [`RejectReason::QueueFull`] comes at once.
    pub fn try_publish(&self, publish: Publish) -> Result<Ticket, Rejected<Publish>> {
        self.publish_timeout(publish, Duration::ZERO)
    }

    /// As [`Handle::publish`], for a task of any executor: a future that waits for room in the queue, in the same line as
    /// the threads that wait, and then gives the ticket, which is a future of its own. The block time does not end it:
    /// see [`Pushing`] for how it ends early. Messages are queued in the order in which their futures are first awaited.
    ///
    /// ```no_run
    /// # use mqtt_connection_sharing::{Handle, Publish, QoS, Rejected};
    /// # async fn f(handle: Handle) -> Result<(), Rejected<Publish>> {
    /// let message = Publish::new("rooms/1/light", QoS::AtLeastOnce, "on");
    /// let ticket = handle.publish_async(message).await?;
    /// println!("{:?}", ticket.await);
    /// # Ok(())
    /// # }
    /// ```
    pub fn publish_async(&self, publish: Publish) -> Pushing<'_, Publish> {
        let request = self.publish_request(publish);
        Pushing::new(&self.commands, request, Request::into_publish)
            .recorded(self.recorder.as_ref())
    }

    /// PUBLISH with a callback instead of a ticket. The callback is called once, on the loop's thread. (At
    /// the moment when the loop ends, it may be called on another thread that pushes a command.) So it
    /// must be quick, and must not wait for a lock that is held while commands are pushed. Waiting for a ticket, a
    /// batch or an inbox inside it is an error at once ([`Ticket::wait`], [`InboxError::OnLoopThread`](crate::InboxError::OnLoopThread)).
    /// Inside it, a full queue rejects at once. A handle that it captures counts as one that is held: if it
    /// is the last one and DISCONNECT came before its command left the queue, no thread is left to ask for
    /// RECONNECT or TERMINATE, and the loop stays offline for ever.
    ///
    /// # Errors
    /// As [`Handle::publish`]; the callback is then dropped uncalled.
    pub fn publish_then(
        &self,
        publish: Publish,
        callback: impl FnOnce(Outcome) + Send + 'static,
    ) -> Result<(), Rejected<Publish>> {
        self.queue_publish(publish, Completion::callback(callback), self.block_time)
    }

    /// PUBLISH as one of many that the thread waits for together ([`Batch::wait`]). This costs a thread
    /// that publishes a lot the least.
    ///
    /// # Errors
    /// As [`Handle::publish`]; the message is then not part of the batch.
    pub fn publish_in(&self, publish: Publish, batch: &mut Batch) -> Result<(), Rejected<Publish>> {
        self.publish_in_timeout(publish, batch, self.block_time)
    }

    /// As [`Handle::publish_in`], but waits for room in the queue at most this long, whatever the block time is.
    ///
    /// # Errors
    /// As [`Handle::publish_timeout`]; the message is then not part of the batch.
    pub fn publish_in_timeout(
        &self,
        publish: Publish,
        batch: &mut Batch,
        timeout: Duration,
    ) -> Result<(), Rejected<Publish>> {
        self.queue_publish(publish, Completion::batch(batch), timeout)?;
        batch.was_pushed();
        Ok(())
    }

    /// As [`Handle::publish_in`], but never waits. Room that other threads wait for is not taken from them.
    ///
    /// # Errors
    /// As [`Handle::try_publish`]; the message is then not part of the batch.
    pub fn try_publish_in(
        &self,
        publish: Publish,
        batch: &mut Batch,
    ) -> Result<(), Rejected<Publish>> {
        self.publish_in_timeout(publish, batch, Duration::ZERO)
    }

    /// As [`Handle::publish_in`], for a task of any executor: a future that waits for room in the queue as
    /// [`Handle::publish_async`] does. The batch is a future, too.
    pub fn publish_in_async<'a>(&'a self, publish: Publish, batch: &'a mut Batch) -> PushingIn<'a> {
        let request = self.publish_request(publish);
        PushingIn::new(&self.commands, request, batch).recorded(self.recorder.as_ref())
    }

    fn queue_publish(
        &self,
        publish: Publish,
        completion: Completion,
        patience: Duration,
    ) -> Result<(), Rejected<Publish>> {
        let request = match self.publish_request(publish) {
            Ok(request) => request,
            Err(rejected) => {
                completion.withdraw();
                return Err(rejected);
            }
        };
        self.queue(request, completion, patience)
            .map_err(|rejected| rejected.map(Request::into_publish))
    }

    fn publish_request(&self, publish: Publish) -> Result<Request, Rejected<Publish>> {
        match self.check_publish(&publish) {
            Ok(()) => Ok(Request::Publish(outgoing(publish))),
            Err(reason) => Err(Rejected {
                command: publish,
                reason,
            }),
        }
    }

    pub(super) fn check_publish(&self, publish: &Publish) -> Result<(), RejectReason> {
        let checked = publish.properties().map_or(Ok(()), |it| it.check_fields());
        checked.map_err(|(field, problem)| RejectReason::Invalid {
            name: field.to_owned(),
            problem,
        })?;
        let name = || publish.topic().to_string();
        publish.check().map_err(|problem| RejectReason::Invalid {
            name: name(),
            problem,
        })?;
        let checked = self.limits.check_publish(publish);
        checked.map_err(|exceeded| RejectReason::Limit {
            name: name(),
            exceeded,
        })
    }
}

/// The message on its way. Its expiry, if it has one, counts from now.
fn outgoing(publish: Publish) -> Outgoing {
    let expires = publish.properties().is_some_and(|all| all.expiry.is_some());
    match expires {
        true => Outgoing::pushed(publish, Instant::now()),
        false => publish.into(),
    }
}
