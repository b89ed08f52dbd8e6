//! \[1\] SUBSCRIBE and UNSUBSCRIBE: filters and the inboxes that their messages go to.
//!
//! The loop hears of a subscription before its command is queued. Filters that break a rule come back. Any thread.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Handle;
use crate::client::by_hand::InboxMessage;
use crate::client::command::{RejectReason, Rejected, Request};
use crate::client::inbox::Inbox;
use crate::client::lane::Announcement;
use crate::client::outlet::InboxId;
use crate::client::push::Pushing;
use crate::client::request_mark::RequestMark;
use crate::client::ticket::Ticket;
use crate::mqtt::limits::LimitExceeded;
use crate::mqtt::packet::Filter;
use crate::mqtt::topic::{InvalidName, check_filter};

/// SUBSCRIBEs are numbered over all loops.
static NEXT_SUBSCRIBE: AtomicU64 = AtomicU64::new(0);

impl Handle {
    /// SUBSCRIBE: messages that match one of `filters` go to `inbox` from now on, also before the ticket
    /// resolves with what was granted, filter by filter. So messages that the broker's session had stored are not
    /// lost on a loop that subscribes before it runs.
    ///
    /// The broker answers with the retained messages that match. They reach each inbox with a matching filter, also one
    /// that has them already: [`Message::retain`](crate::Message::retain) tells them from new ones. Where filters of
    /// several inboxes overlap, a message may come [more than once](crate#filters-that-overlap).
    ///
    /// # Errors
    /// The filters are handed back when one is invalid or beyond the broker's limits, when there is
    /// none or more than the broker allows, when the queue stays full for the block time, and when
    /// the loop has ended. [`RejectReason::CleanSession`] for an inbox that accepts by hand.
    pub fn subscribe<M: InboxMessage>(
        &self,
        inbox: &Inbox<M>,
        filters: Vec<Filter>,
    ) -> Result<Ticket, Rejected<Vec<Filter>>> {
        if let Err(reason) = self.check_subscribe(inbox, &filters) {
            return Err(Rejected {
                command: filters,
                reason,
            });
        }
        let (ticket, completion) = Ticket::new();
        let (request, number) = self.announce(inbox.id(), filters);
        self.queue(request, completion, self.block_time)
            .map_err(|rejected| {
                self.lane.withdraw(number);
                rejected.map(Request::into_filters)
            })?;
        Ok(ticket)
    }

    /// As [`Handle::subscribe`], for a task of any executor: a future that waits for room in the queue, and then gives the
    /// ticket. The subscription counts from this call on, and no more if the future is dropped before it is in the queue.
    pub fn subscribe_async<M: InboxMessage>(
        &self,
        inbox: &Inbox<M>,
        filters: Vec<Filter>,
    ) -> Pushing<'_, Vec<Filter>> {
        let take_back = Request::into_filters;
        if let Err(reason) = self.check_subscribe(inbox, &filters) {
            let command = filters;
            let rejected = Rejected { command, reason };
            return Pushing::new(&self.commands, Err(rejected), take_back);
        }
        let (request, number) = self.announce(inbox.id(), filters);
        Pushing::new(&self.commands, Ok(request), take_back)
            .announced(&self.lane, number)
            .recorded(self.recorder.as_ref())
    }

    /// UNSUBSCRIBE: `inbox` leaves these filters. The broker is told when no other inbox stays.
    ///
    /// # Errors
    /// As [`Handle::subscribe`], except that the broker does not limit their number.
    pub fn unsubscribe<M>(
        &self,
        inbox: &Inbox<M>,
        filters: Vec<String>,
    ) -> Result<Ticket, Rejected<Vec<String>>> {
        if let Err(reason) = self.check_unsubscribe(&filters) {
            return Err(Rejected {
                command: filters,
                reason,
            });
        }
        let (ticket, completion) = Ticket::new();
        let request = Request::Unsubscribe {
            inbox: inbox.id(),
            filters,
            mark: RequestMark::default(),
        };
        self.queue(request, completion, self.block_time)
            .map_err(|rejected| rejected.map(Request::into_names))?;
        Ok(ticket)
    }

    /// As [`Handle::unsubscribe`], for a task of any executor: a future that waits for room in the queue, and then gives
    /// the ticket.
    pub fn unsubscribe_async<M>(
        &self,
        inbox: &Inbox<M>,
        filters: Vec<String>,
    ) -> Pushing<'_, Vec<String>> {
        let request = match self.check_unsubscribe(&filters) {
            Ok(()) => Ok(Request::Unsubscribe {
                inbox: inbox.id(),
                filters,
                mark: RequestMark::default(),
            }),
            Err(reason) => Err(Rejected {
                command: filters,
                reason,
            }),
        };
        Pushing::new(&self.commands, request, Request::into_names).recorded(self.recorder.as_ref())
    }

    fn check_subscribe<M: InboxMessage>(
        &self,
        _: &Inbox<M>,
        filters: &[Filter],
    ) -> Result<(), RejectReason> {
        if M::IS_BY_HAND && !self.keeps_session {
            return Err(RejectReason::CleanSession);
        }
        check_each(filters, Filter::check)?;
        self.check_limits(filters)
    }

    fn check_unsubscribe(&self, filters: &[String]) -> Result<(), RejectReason> {
        check_each(filters, |filter| {
            check_filter(filter).map_err(|problem| (filter.as_str(), problem))
        })?;
        filters.iter().try_for_each(|name| {
            let checked = self.limits.check_filter_name(name);
            checked.map_err(|exceeded| beyond(name, exceeded))
        })
    }

    /// Has a subscription count from now on, before its SUBSCRIBE is queued. Returns that one, and its number.
    fn announce(&self, inbox: InboxId, filters: Vec<Filter>) -> (Request, u64) {
        let number = NEXT_SUBSCRIBE.fetch_add(1, Ordering::Relaxed);
        self.lane.announce(Announcement {
            number,
            inbox,
            filters: filters.clone(),
        });
        let request = Request::Subscribe {
            number,
            inbox,
            filters,
            mark: RequestMark::default(),
        };
        (request, number)
    }

    fn check_limits(&self, filters: &[Filter]) -> Result<(), RejectReason> {
        let limits = &self.limits;
        for filter in filters {
            let checked = limits.check_filter(filter);
            checked.map_err(|exceeded| beyond(&filter.filter, exceeded))?;
        }
        // The loop knows how many there are already.
        let mut names: Vec<_> = filters.iter().map(|f| f.filter.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let checked = limits.check_subscriptions(names.len());
        checked.map_err(|exceeded| beyond("SUBSCRIBE", exceeded))
    }
}

fn beyond(name: &str, exceeded: LimitExceeded) -> RejectReason {
    RejectReason::Limit {
        name: name.to_owned(),
        exceeded,
    }
}

/// Checks each filter; `check` says which text breaks which rule.
fn check_each<T>(
    filters: &[T],
    check: impl Fn(&T) -> Result<(), (&str, InvalidName)>,
) -> Result<(), RejectReason> {
    if filters.is_empty() {
        return Err(RejectReason::NoFilter);
    }
    let checked = filters.iter().try_for_each(check);
    checked.map_err(|(name, problem)| RejectReason::Invalid {
        name: name.to_owned(),
        problem,
    })
}
