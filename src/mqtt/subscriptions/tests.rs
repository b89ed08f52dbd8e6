//! The table of subscriptions, call by call.

use super::*;

const A: u64 = 1;
const B: u64 = 2;

fn filters(names: &[&str]) -> Vec<Filter> {
    names
        .iter()
        .map(|name| Filter::new(*name, QoS::AtLeastOnce))
        .collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn matching(table: &Subscriptions<u64>, topic: &str) -> Vec<u64> {
    // Left over, as if matching had stopped halfway through another topic.
    let mut matches = Matches {
        subscribers: vec![99],
        open: vec![(99, 99)],
    };
    table.matching(topic, &mut matches);
    matches.subscribers
}

#[test]
fn a_filter_counts_once_for_the_broker_however_many_subscribers_want_it() {
    let mut table = Subscriptions::default();
    assert_eq!(table.filters_with(&filters(&["a", "b", "a"])), 2);
    let (_, added) = table.add(A, &filters(&["a", "b"]));
    table.add(B, &filters(&["a"]));
    assert_eq!(table.len(), 3);
    assert_eq!(table.filters_with(&[]), 2);
    assert_eq!(table.filters_with(&filters(&["a", "c"])), 3);
    table.remove(&added);
    assert_eq!(table.filters_with(&[]), 1);
}

#[test]
fn each_subscriber_is_found_once_however_many_filters_match() {
    let mut table = Subscriptions::default();
    table.add(A, &filters(&["a/+", "a/b", "#"]));
    table.add(B, &filters(&["a/b"]));
    assert_eq!(matching(&table, "a/b"), [A, B]);
    assert_eq!(matching(&table, "a/c"), [A]);
    assert_eq!(table.len(), 4);
    assert!(table.filters_of(A).eq(["a/+", "a/b", "#"]));
    assert!(table.filters_of(B).eq(["a/b"]));
}

#[test]
fn a_shared_filter_matches_as_the_filter_in_it_and_only_so() {
    let mut table = Subscriptions::default();
    table.add(A, &filters(&["$share/group/a/+", "$share/g/$SYS/x"]));
    table.add(B, &filters(&["$share/group/#"]));
    assert_eq!(matching(&table, "a/b"), [A, B]);
    assert_eq!(matching(&table, "$SYS/x"), [A]);
    assert_eq!(matching(&table, "$share/group/a/b"), [0; 0]);
}

#[test]
fn a_prefix_that_a_broker_takes_off_matches_in_both_forms_and_leaves_nothing_behind() {
    for prefix in ["$queue", "$exclusive", "$q"] {
        let mut table = Subscriptions::default();
        let with = |rest: &str| format!("{prefix}/{rest}");
        let (wanted, added) = table.add(A, &filters(&[&with("x/#"), &with("y")]));
        table.add(B, &filters(&["x/1", "y"]));
        assert_eq!(
            wanted[0].filter,
            with("x/#"),
            "the broker is asked for it all"
        );
        for (topic, subscribers) in [
            ("x/1", &[A, B][..]),
            (&with("x/1"), &[A]),
            ("x", &[A]),
            ("y", &[A, B]),
            (&with("y"), &[A]),
            (&with("y/z"), &[]),
        ] {
            assert_eq!(matching(&table, topic), subscribers, "{topic}");
        }
        assert_eq!(table.remove(&added), [with("x/#"), with("y")]);
        for (topic, subscribers) in [("x/1", &[B][..]), (&with("x/1"), &[]), ("y", &[B])] {
            assert_eq!(matching(&table, topic), subscribers, "{topic}");
        }
    }
}

#[test]
fn an_application_may_say_what_a_filter_matches() {
    let mut table = Subscriptions::default();
    let asked = [Filter::new("$mine/x/+", QoS::AtLeastOnce).matching("x/+")];
    let (wanted, added) = table.add(A, &asked);
    assert_eq!(wanted[0].filter, "$mine/x/+");
    table.grant(&added);
    // Another subscriber of the same filter, which matches literally.
    let (_, literal) = table.add(B, &filters(&["$mine/x/+"]));
    table.grant(&literal);
    assert_eq!(matching(&table, "x/1"), [A]);
    assert_eq!(matching(&table, "$mine/x/1"), [B]);
    // A second SUBSCRIBE replaces the first, and what it matches.
    let asked = [Filter::new("$mine/x/+", QoS::AtLeastOnce).matching("y")];
    let (_, again) = table.add(A, &asked);
    table.grant(&again);
    assert_eq!(
        (matching(&table, "x/1"), matching(&table, "y")),
        (vec![], vec![A])
    );
    assert_eq!(table.remove_filter("$mine/x/+"), [A, B]);
    assert_eq!(matching(&table, "y"), [0; 0]);
}

#[test]
fn the_highest_quality_of_service_is_asked_for() {
    let mut table = Subscriptions::default();
    table.add(A, &[Filter::new("a", QoS::ExactlyOnce)]);
    let (wanted, _) = table.add(B, &[Filter::new("a", QoS::AtMostOnce)]);
    assert_eq!(wanted, [Filter::new("a", QoS::ExactlyOnce)]);
}

#[test]
fn an_announced_filter_counts_for_matching_and_for_nothing_else() {
    let mut table = Subscriptions::default();
    table.announce(7, A, &filters(&["a", "$queue/b"]));
    assert_eq!(
        (matching(&table, "a"), matching(&table, "b")),
        (vec![A], vec![A])
    );
    assert_eq!((table.len(), table.filters_with(&[])), (0, 0));
    // An earlier UNSUBSCRIBE does not take it away, and the broker is told.
    let (unwanted, leaving) = table.leave(A, &names(&["a"]));
    assert_eq!((unwanted, leaving.len()), (names(&["a"]), 0));
    assert_eq!(matching(&table, "a"), [A]);
    let (_, added) = table.add(A, &filters(&["a", "$queue/b"]));
    table.end_announcement(7);
    assert_eq!(matching(&table, "a"), [A]);
    table.remove(&added);
    // Withdrawn, or its subscriber gone.
    table.announce(8, A, &filters(&["a"]));
    table.announce(9, B, &filters(&["a"]));
    assert_eq!(table.remove_subscriber(A), names(&[]));
    assert_eq!(matching(&table, "a"), [B]);
    table.end_announcement(9);
    table.end_announcement(9);
    for topic in ["a", "b", "$queue/b"] {
        assert_eq!(matching(&table, topic), [0; 0]);
    }
}

#[test]
fn one_that_stays_is_wanted_again() {
    let mut table = Subscriptions::default();
    table.add(A, &filters(&["a"]));
    let (_, leaving) = table.leave(A, &names(&["a"]));
    table.stay(&leaving);
    assert_eq!(table.remove_subscriber(A), names(&["a"]));
}

#[test]
fn the_broker_is_told_when_the_last_one_leaves() {
    let mut table = Subscriptions::default();
    table.add(A, &filters(&["a"]));
    table.add(B, &filters(&["a"]));
    let (unwanted, leaving) = table.leave(A, &names(&["a"]));
    assert_eq!(unwanted, names(&[]));
    assert_eq!(matching(&table, "a"), [A, B], "until it is removed");
    table.remove(&leaving);
    assert_eq!(matching(&table, "a"), [B]);
    let (unwanted, leaving) = table.leave(B, &names(&["a", "a"]));
    assert_eq!(unwanted, names(&["a"]));
    table.remove(&leaving);
    assert_eq!(matching(&table, "a"), [0; 0]);
    assert_eq!(table.len(), 0);
}

#[test]
fn a_new_subscription_survives_the_answer_to_an_earlier_unsubscribe() {
    let mut table = Subscriptions::default();
    table.add(A, &filters(&["a"]));
    let (_, leaving) = table.leave(A, &names(&["a"]));
    table.add(A, &filters(&["a"]));
    table.remove(&leaving);
    assert_eq!(matching(&table, "a"), [A]);
}

#[test]
fn a_stale_interest_removes_no_later_one() {
    let mut table = Subscriptions::default();
    let (_, added) = table.add(A, &filters(&["a"]));
    table.remove_subscriber(A);
    table.add(B, &filters(&["b"]));
    table.remove(&added);
    assert_eq!(matching(&table, "b"), [B]);
}

#[test]
fn a_subscriber_that_goes_away_takes_its_filters_along() {
    let mut table = Subscriptions::default();
    table.add(A, &filters(&["a", "b"]));
    let (_, asked) = table.add(B, &filters(&["b"]));
    assert_eq!(table.remove_subscriber(A), names(&["a"]));
    assert_eq!(
        table.remove_filter("b"),
        [0; 0],
        "it is still to be answered"
    );
    table.grant(&asked);
    assert_eq!(table.remove_filter("b"), [B]);
    assert_eq!(table.remove_filter("b"), [0; 0]);
    assert_eq!(table.len(), 0);
}

#[test]
fn a_leaving_subscriber_does_not_keep_the_filter_of_another_one_that_goes_away() {
    let mut table = Subscriptions::default();
    table.add(A, &filters(&["a"]));
    let (_, leaving) = table.leave(A, &names(&["a"]));
    table.add(B, &filters(&["a"]));
    assert_eq!(table.remove_subscriber(B), names(&["a"]));
    assert_eq!(
        table.remove_subscriber(A),
        names(&[]),
        "the broker was told"
    );
    table.remove(&leaving);
    assert_eq!(table.len(), 0);
}

#[test]
fn subscribing_again_makes_no_second_subscription() {
    let mut table = Subscriptions::default();
    let (_, first) = table.add(A, &filters(&["a"]));
    table.grant(&first);
    let (_, other) = table.add(B, &filters(&["a"]));
    table.grant(&other);
    let (_, second) = table.add(A, &filters(&["a"]));
    assert_eq!(table.len(), 3, "until it is granted");
    table.grant(&second);
    assert_eq!(table.len(), 2);
    assert_eq!(matching(&table, "a"), [A, B]);
}

#[test]
fn a_filter_that_a_refusal_leaves_without_subscribers_is_returned() {
    let mut table = Subscriptions::default();
    let (_, first) = table.add(A, &filters(&["a"]));
    table.grant(&first);
    let (_, refused) = table.add(B, &filters(&["a"]));
    let (unwanted, leaving) = table.leave(A, &names(&["a"]));
    assert_eq!(unwanted, names(&[]), "B may still be granted it");
    assert_eq!(table.remove(&leaving), names(&[]));
    assert_eq!(table.remove(&refused), names(&["a"]));
}

#[test]
fn a_filter_unknown_here_is_still_unsubscribed_at_the_broker() {
    let mut table = Subscriptions::default();
    let (unwanted, leaving) = table.leave(A, &names(&["from/before"]));
    assert_eq!((unwanted, leaving.len()), (names(&["from/before"]), 0));
}
