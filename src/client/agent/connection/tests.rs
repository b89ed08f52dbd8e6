//! The connection's way, without a socket.

use super::*;
use crate::client::ticket::Ticket;
use crate::error::Blame;
use crate::options::{Options, Security};

fn client(change: impl FnOnce(&mut Options)) -> Client {
    let mut options = Options::new("localhost", "connection");
    options.security = Security::Plain;
    change(&mut options);
    Client::new(options).unwrap()
}

fn connection(client: &Client, now: Instant) -> Connection {
    Connection::new(client, false, Resolver::new(|| {}), now)
}

fn failure() -> Error {
    Error::new(Blame::Network, "connecting", "no answer", "")
}

#[test]
fn connects_keep_their_distance() {
    let now = Instant::now();
    let interval = Duration::from_secs(3);
    let mut client = client(|options| options.connect_interval = interval);
    let mut connection = connection(&client, now);
    assert_eq!(connection.deadline(), Some(now), "the first one");
    client.connected_at(now);
    assert_eq!(connection.wait(now, &client), now + interval);
    assert_eq!(connection.deadline(), Some(now + interval));
    let later = now + interval * 2;
    assert_eq!(connection.wait(later, &client), later);
}

#[test]
fn a_link_without_progress_counts_as_a_failed_attempt_unless_it_lasted() {
    let now = Instant::now();
    let client = client(|options| options.retry.attempts = 1);
    let mut connection = connection(&client, now);
    let mut lost = |progress, lasted| {
        let loss = LinkLoss::PeerClosed;
        connection.delay_after_loss(&loss, progress, lasted, now)
    };
    assert!(lost(false, Duration::ZERO).is_some());
    assert!(lost(true, Duration::ZERO).is_some());
    assert!(lost(false, Duration::ZERO).is_some());
    assert_eq!(lost(false, LASTING), Some(Duration::ZERO));
    assert!(lost(false, Duration::ZERO).is_some());
    assert_eq!(lost(false, Duration::ZERO), None);
}

#[test]
fn a_link_that_is_left_for_another_counts_as_no_failure() {
    let now = Instant::now();
    let client = client(|options| options.retry.attempts = 1);
    let mut connection = connection(&client, now);
    for _ in 0..3 {
        let loss = LinkLoss::LeftWithBroker;
        let delay = connection.delay_after_loss(&loss, false, Duration::ZERO, now);
        assert_eq!(delay, Some(Duration::ZERO));
    }
}

#[test]
fn a_permanent_error_leaves_no_next_attempt() {
    let now = Instant::now();
    let client = client(|options| options.retry.attempts = 0);
    let mut connection = connection(&client, now);
    let mut after = |error: Error| connection.delay_after_failure(&error, now);
    assert!(after(failure()).is_some());
    assert_eq!(after(failure().permanent()), None);
}

#[test]
fn the_last_error_says_how_often_and_how_long_it_was_tried() {
    let now = Instant::now();
    let mut client = client(|_| {});
    let readiness = Readiness::default();
    for patience in [10, 60] {
        let late = now + Duration::from_secs(patience);
        let mut connection = connection(&client, now);
        connection.advance(&mut client, &readiness, true, now);
        let before = late - Duration::from_millis(1);
        assert!(connection.delay_after_failure(&failure(), before).is_some());
        assert_eq!(connection.delay_after_failure(&failure(), late), None);
        let told = format!("2 attempts in {patience}.0 s, the last one: no answer");
        assert_eq!(connection.gave_up(failure(), late).problem(), told);
        let refused = connection.gave_up(failure().permanent(), late);
        assert_eq!(refused.problem(), "no answer", "no matter of patience");
        // The next loop knows that the broker was there.
        client.accepted(None);
    }
}

#[test]
fn a_thread_that_asks_for_a_new_link_gives_it_patience() {
    let now = Instant::now();
    let client = client(|_| {});
    let mut connection = connection(&client, now);
    assert!(connection.delay_after_failure(&failure(), now).is_some());
    connection.go_offline();
    let later = now + Duration::from_secs(3600);
    connection.start_over(later, &client);
    assert_eq!(connection.deadline(), Some(later));
    let delay = connection.delay_after_failure(&failure(), later);
    assert!(delay.is_some());
}

#[test]
fn closing_ends_when_the_broker_closes_or_after_its_time() {
    let now = Instant::now();
    let mut client = client(|_| {});
    let mut connection = connection(&client, now);
    let readiness = Readiness::default();
    let (ticket, completion) = Ticket::new();
    let mut done = Completions::default();
    done.push(completion);
    connection.close(now + Duration::from_secs(60), 0, done);
    assert!(connection.is_closing());
    let mut advance =
        |output_is_empty, now| connection.advance(&mut client, &readiness, output_is_empty, now);
    assert!(matches!(advance(false, now), NextStep::Nothing));
    assert!(matches!(advance(true, now), NextStep::Finish));
    assert!(matches!(advance(true, now), NextStep::Nothing));
    let late = now + CLOSING_TIME;
    assert!(matches!(advance(true, late), NextStep::ClosingIsLate));
    let (joined, completion) = Ticket::new();
    let mut done = Completions::default();
    done.push(completion);
    assert!(connection.join_closing(done).is_none());
    connection.closed();
    let delivered = Outcome::delivered(1, Duration::ZERO);
    for ticket in [ticket, joined] {
        assert_eq!(ticket.outcome().as_ref(), Some(&delivered));
    }
    assert!(matches!(connection.phase(), Phase::Offline));
}

#[test]
fn a_late_connack_and_a_closing_that_is_cut_short_are_noticed() {
    let now = Instant::now();
    let mut client = client(|_| {});
    let mut connection = connection(&client, now);
    let readiness = Readiness::default();
    let late = now + Duration::from_secs(1);
    connection.greet(late);
    let step = connection.advance(&mut client, &readiness, true, now);
    assert!(matches!(step, NextStep::Nothing));
    let step = connection.advance(&mut client, &readiness, true, late);
    assert!(matches!(step, NextStep::AnswerIsLate));
    connection.close(now + Duration::from_secs(60), 0, Completions::default());
    connection.close_by(late);
    assert_eq!(connection.deadline(), Some(late));
}
