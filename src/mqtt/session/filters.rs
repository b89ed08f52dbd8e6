//! Which filters the broker serves for this client, and which it has to be asked for again.
//!
//! A filter stays owed until the broker has granted it again, however many links are lost meanwhile. The
//! requests themselves, and the threads that wait for their answers, are not known here. Pure; the loop's thread.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::mqtt::packet::{Filter, QoS, RetainHandling};

/// A filter as it was asked for, and where it stands.
pub(super) type Served = (Filter, Standing);

/// Where a filter stands with the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    Granted,
    /// The broker may have forgotten it: it has to be subscribed again.
    Owed,
}

/// The filters, each as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Filters {
    standings: BTreeMap<String, Served>,
    /// Renewals that were sent on this link and are not answered.
    renewals: usize,
}

impl Filters {
    /// The broker answered a SUBSCRIBE, filter by filter [MQTT-3.9.3-1]. Returns those whose renewal it refused.
    pub(super) fn handle_suback(
        &mut self,
        filters: &[Filter],
        answers: &[Option<QoS>],
        renewal: bool,
    ) -> Vec<String> {
        let mut refused = Vec::new();
        if renewal {
            self.renewals = self.renewals.saturating_sub(1);
        }
        for (asked, answer) in filters.iter().zip(answers) {
            let filter = &asked.filter;
            // A SUBSCRIBE sent behind the renewal may have been answered before it.
            let owed = matches!(self.standings.get(filter), Some((_, Standing::Owed)));
            match answer {
                _ if renewal && !owed => {}
                Some(_) => {
                    // A renewal asks for retained messages in another way.
                    if let (true, Some((_, standing))) = (renewal, self.standings.get_mut(filter)) {
                        *standing = Standing::Granted;
                        continue;
                    }
                    let standing = (asked.clone(), Standing::Granted);
                    self.standings.insert(filter.clone(), standing);
                }
                // A filter that was granted before stays granted.
                None if !renewal => {}
                None => {
                    self.standings.remove(filter);
                    refused.push(filter.clone());
                }
            }
        }
        refused
    }

    /// A renewal was sent.
    pub(super) fn handle_renewal_sent(&mut self) {
        self.renewals += 1;
    }

    /// A renewal is given up. The filter is wanted no more.
    pub(super) fn handle_renewal_given_up(&mut self, filter: &str) {
        self.renewals = self.renewals.saturating_sub(1);
        self.standings.remove(filter);
    }

    /// The link is gone: renewals that were sent on it are not answered any more.
    pub(super) fn forget_renewals(&mut self) {
        self.renewals = 0;
    }

    /// The broker may have forgotten every filter.
    pub(super) fn owe_all(&mut self) {
        for (_, standing) in self.standings.values_mut() {
            *standing = Standing::Owed;
        }
    }

    /// The filter is wanted no more. Returns it if the broker serves it, or is to be asked for it again.
    pub(super) fn remove(&mut self, filter: &str) -> Option<Served> {
        self.standings.remove(filter)
    }

    /// The filter is wanted after all, unless the broker has granted it meanwhile: that is newer. Returns it as it is to
    /// be subscribed again, if it is owed.
    pub(super) fn put_back(&mut self, served: Served) -> Option<Filter> {
        let Entry::Vacant(place) = self.standings.entry(served.0.filter.clone()) else {
            return None;
        };
        let (filter, standing) = place.insert(served);
        (*standing == Standing::Owed).then(|| renewal(filter))
    }

    /// The filters that have to be subscribed again, in the order of their names.
    pub(super) fn owed(&self) -> impl Iterator<Item = Filter> {
        let all = self.standings.values();
        let owed = all.filter(|(_, standing)| *standing == Standing::Owed);
        owed.map(|(filter, _)| renewal(filter))
    }

    /// Whether the broker has granted this filter, or is to be asked for it again.
    pub(super) fn contains(&self, filter: &str) -> bool {
        self.standings.contains_key(filter)
    }

    /// Whether renewals are under way. Until they are answered nothing else is sent.
    pub(super) fn is_renewing(&self) -> bool {
        self.renewals > 0
    }
}

/// With MQTT 5, the broker is not to send retained messages of a subscription that it still has.
fn renewal(filter: &Filter) -> Filter {
    let mut renewal = filter.clone();
    if renewal.options.retain_handling == RetainHandling::Always {
        renewal.options.retain_handling = RetainHandling::IfNew;
    }
    renewal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(names: &[&str]) -> Vec<Filter> {
        let filter = |name: &&str| Filter::new(*name, QoS::AtLeastOnce);
        names.iter().map(filter).collect()
    }

    fn owed(filters: &Filters) -> Vec<String> {
        filters.owed().map(|owed| owed.filter).collect()
    }

    fn granted(names: &[&str]) -> Filters {
        let mut granted = Filters::default();
        let answers = vec![Some(QoS::AtLeastOnce); names.len()];
        let refused = granted.handle_suback(&filters(names), &answers, false);
        assert_eq!(refused, [""; 0]);
        granted
    }

    #[test]
    fn a_filter_is_served_from_the_grant_on_and_owed_until_the_next_one() {
        let mut served = granted(&["a", "b"]);
        assert!(served.contains("a") && served.contains("b"));
        assert_eq!(owed(&served), [""; 0]);
        served.owe_all();
        assert_eq!(owed(&served), ["a", "b"]);
        served.handle_renewal_sent();
        assert!(served.is_renewing());
        let refused = served.handle_suback(&filters(&["a"]), &[Some(QoS::AtMostOnce)], true);
        assert_eq!(refused, [""; 0]);
        assert!(!served.is_renewing());
        assert_eq!(owed(&served), ["b"]);
    }

    #[test]
    fn a_refused_renewal_ends_the_subscription_and_a_refused_request_does_not() {
        let mut served = granted(&["a", "b"]);
        let refused = served.handle_suback(&filters(&["a", "c"]), &[None, None], false);
        assert_eq!(refused, [""; 0]);
        assert!(served.contains("a") && !served.contains("c"));
        served.owe_all();
        let answers = [None, Some(QoS::AtLeastOnce)];
        let refused = served.handle_suback(&filters(&["a", "b"]), &answers, true);
        assert_eq!(refused, ["a"]);
        assert!(!served.contains("a") && served.contains("b"));
    }

    #[test]
    fn a_renewal_that_is_answered_late_changes_nothing() {
        let mut served = granted(&["a", "b"]);
        served.owe_all();
        served.remove("a");
        served.handle_suback(&filters(&["b"]), &[Some(QoS::AtLeastOnce)], false);
        let answers = [Some(QoS::AtLeastOnce), None];
        let refused = served.handle_suback(&filters(&["a", "b"]), &answers, true);
        assert_eq!(refused, [""; 0]);
        assert!(!served.contains("a") && served.contains("b"));
        assert_eq!(owed(&served), [""; 0]);
    }

    #[test]
    fn a_lost_link_leaves_no_renewal_under_way() {
        let mut served = granted(&["a"]);
        served.owe_all();
        served.handle_renewal_sent();
        served.forget_renewals();
        assert!(!served.is_renewing());
        assert_eq!(owed(&served), ["a"]);
    }
}
