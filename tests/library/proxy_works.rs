//! Tests of the fault proxy and of the storm's account: if these fail, no storm can be believed.

// Clippy knows tests by their attribute only, but the helpers are test code as well.
#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::account::{Account, Last, Subscriber, all_with, qos};
use crate::support::{
    Counting, Fate, HANG, Proxy, Random, RandomFates, SpareWhenStuck, wait_for, wait_until,
    wait_until_refused,
};
use mqtt_connection_sharing::QoS;
use mqtt_connection_sharing::{Outcome, Reason};

/// A listener and a proxy in front of it.
fn proxied() -> (TcpListener, Proxy) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Proxy::start(port).unwrap())
}

/// Both ends of a connection through the proxy.
fn connect(listener: &TcpListener, proxy: &Proxy) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    let (broker, _) = listener.accept().unwrap();
    for stream in [&client, &broker] {
        stream.set_read_timeout(Some(HANG)).unwrap();
    }
    (client, broker)
}

/// All bytes that come until the connection ends, in whatever way.
fn read_to_the_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => bytes,
    }
}

#[test]
fn the_proxy_passes_everything_and_each_direction_ends_by_itself() {
    let (listener, proxy) = proxied();
    let (mut client, mut broker) = connect(&listener, &proxy);
    // More than all buffers hold, so that the proxy has to wait in between.
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n / 7) as u8).collect();
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        client.write_all(&sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    });
    assert!(read_to_the_end(&mut broker) == expected);
    broker.write_all(b"all of it").unwrap();
    drop(broker);
    assert_eq!(writer.join().unwrap(), "all of it");
    assert_eq!(proxy.counts().bytes(), 8_000_000 + 9);
    assert_eq!(proxy.counts().cuts(), 0);
}

#[test]
fn the_proxy_cuts_after_exactly_so_many_bytes_of_the_direction_that_counts() {
    let (listener, proxy) = proxied();
    for (counting, from_client) in [
        (Counting::Both, 5),
        (Counting::FromClient, 7),
        (Counting::FromBroker, 0),
    ] {
        proxy
            .decide([Fate::cut_after(7).counting(counting)])
            .unwrap();
        let (mut client, mut broker) = connect(&listener, &proxy);
        broker.write_all(b"ab").unwrap();
        let mut two = [0; 2];
        client.read_exact(&mut two).unwrap();
        if counting == Counting::FromBroker {
            broker.write_all(b"cdefghi").unwrap();
            assert_eq!(read_to_the_end(&mut client), b"cdefg");
        } else {
            client.write_all(b"123456789").unwrap();
        }
        assert_eq!(read_to_the_end(&mut broker).len(), from_client);
    }
    assert_eq!(proxy.counts().cuts(), 3);
}

#[test]
fn the_proxy_stalls_a_connection_without_closing_and_goes_on_with_others() {
    let (listener, proxy) = proxied();
    proxy
        .decide([Fate::stall_after(3), Fate::pass().one_byte_at_a_time()])
        .unwrap();
    let (mut client, mut broker) = connect(&listener, &proxy);
    client.write_all(b"12345").unwrap();
    let mut three = [0; 3];
    broker.read_exact(&mut three).unwrap();
    let (mut other, mut its_broker) = connect(&listener, &proxy);
    other.write_all(b"12345").unwrap();
    its_broker.read_exact(&mut [0; 5]).unwrap();
    proxy.stall_all().unwrap();
    assert_eq!(proxy.counts().stalls(), 2);
    for stream in [&mut broker, &mut its_broker] {
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert!(matches!(
            error.kind(),
            ErrorKind::WouldBlock | ErrorKind::TimedOut
        ));
    }
}

#[test]
fn the_proxy_refuses_drops_and_accepts_again_on_the_same_port() {
    let (listener, proxy) = proxied();
    let port = proxy.port();
    proxy.refuse().unwrap();
    wait_until_refused(port);
    proxy.listen().unwrap();
    let (mut client, _broker) = connect(&listener, &proxy);
    proxy.decide([Fate::cut_after(0)]).unwrap();
    let mut dropped = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    assert_eq!(read_to_the_end(&mut dropped), b"");
    proxy.cut_all().unwrap();
    assert_eq!(read_to_the_end(&mut client), b"");
    assert_eq!(proxy.counts().cuts(), 2);
}

/// Connects and hangs up, `times` times.
fn connect_and_close(proxy: &Proxy, times: u64) {
    for _ in 0..times {
        let before = proxy.counts().connections();
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap());
        wait_until("it to be accepted", || {
            proxy.counts().connections() > before
        });
    }
}

#[test]
fn the_proxy_spares_the_connection_after_eight_without_progress() {
    let (listener, proxy) = proxied();
    // No other connection passes more than one byte.
    let spare = SpareWhenStuck::new(|| 0);
    let spared_so_far = spare.count();
    proxy
        .decide(RandomFates::new(1, 1..2, None, spare))
        .unwrap();
    connect_and_close(&proxy, 8);
    assert_eq!(spared_so_far.load(Ordering::SeqCst), 0);
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    client.write_all(b"spared").unwrap();
    let mut spared = loop {
        let (mut broker, _) = listener.accept().unwrap();
        broker.set_read_timeout(Some(HANG)).unwrap();
        let mut first = [0; 6];
        if broker.read(&mut first).is_ok_and(|length| length > 0) {
            assert_eq!(&first, b"spared");
            break broker;
        }
    };
    // The spared connection ends as well, only later.
    spared.write_all(&[0; 1_000]).unwrap();
    assert!(read_to_the_end(&mut client).len() < 1_000);
    connect_and_close(&proxy, 8);
    assert_eq!(spared_so_far.load(Ordering::SeqCst), 1);
    connect_and_close(&proxy, 1);
    assert_eq!(spared_so_far.load(Ordering::SeqCst), 2);
}

#[test]
fn the_proxy_spares_none_while_there_is_progress() {
    let (_listener, proxy) = proxied();
    let mut progress = 0;
    let mut calls = 0;
    let now = move || {
        // Each eighth connection brings progress.
        calls += 1;
        progress += u64::from(calls % 8 == 0);
        progress
    };
    let spare = SpareWhenStuck::new(now);
    let spared_so_far = spare.count();
    proxy
        .decide(RandomFates::new(1, 1..2, None, spare))
        .unwrap();
    connect_and_close(&proxy, 100);
    assert_eq!(spared_so_far.load(Ordering::SeqCst), 0);
}

#[test]
fn a_slow_link_passes_no_more_than_its_rate_and_still_everything() {
    const RATE: u64 = 100_000;
    const SENT: usize = 30_000;
    let (listener, proxy) = proxied();
    proxy.decide([Fate::pass().at_rate(RATE)]).unwrap();
    let start = Instant::now();
    let (mut client, mut broker) = connect(&listener, &proxy);
    let sending = thread::spawn(move || {
        client.write_all(&[7; SENT]).unwrap();
        client
    });
    broker.read_exact(&mut vec![0; SENT]).unwrap();
    let least = Duration::from_secs_f64(SENT as f64 / RATE as f64);
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
    drop(sending.join().unwrap());
}

#[test]
fn a_delayed_link_passes_everything_in_order_and_no_earlier() {
    const DELAY: Duration = Duration::from_millis(40);
    let (listener, proxy) = proxied();
    proxy.decide([Fate::pass().delay(DELAY)]).unwrap();
    let (mut client, mut broker) = connect(&listener, &proxy);
    let start = Instant::now();
    client.write_all(b"ask").unwrap();
    broker.read_exact(&mut [0; 3]).unwrap();
    assert!(start.elapsed() >= DELAY, "{:?}", start.elapsed());
    broker.write_all(b"answer").unwrap();
    client.read_exact(&mut [0; 6]).unwrap();
    assert!(start.elapsed() >= 2 * DELAY, "{:?}", start.elapsed());
    // More than one direction holds. The end comes behind it, as late as the rest.
    let sent: Vec<u8> = (0..8_000_000u32).map(|n| (n / 7) as u8).collect();
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        client.write_all(&sent).unwrap();
        let end = Instant::now();
        client.shutdown(Shutdown::Write).unwrap();
        end
    });
    assert!(read_to_the_end(&mut broker) == expected);
    let end = writer.join().unwrap();
    assert!(end.elapsed() >= DELAY, "{:?}", end.elapsed());
}

/// Otherwise the proxy's memory would grow with all that the client writes.
#[test]
fn a_delayed_link_takes_no_more_than_it_may_hold() {
    // Nothing is due yet; and all is due, but nobody reads it.
    for delay in [HANG, Duration::from_millis(1)] {
        let (listener, proxy) = proxied();
        proxy.decide([Fate::pass().delay(delay)]).unwrap();
        let (mut client, _broker) = connect(&listener, &proxy);
        // Far longer than the system takes with what it holds for two sockets.
        client
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let error = client.write_all(&vec![7; 256 * 1024 * 1024]).unwrap_err();
        let kinds = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
        assert!(kinds.contains(&error.kind()), "{error}");
    }
}

#[test]
fn a_delayed_link_that_is_cut_first_passes_the_bytes_that_count() {
    let (listener, proxy) = proxied();
    let fate = Fate::cut_after(7).delay(Duration::from_millis(40));
    proxy.decide([fate.counting(Counting::FromClient)]).unwrap();
    let (mut client, mut broker) = connect(&listener, &proxy);
    client.write_all(b"123456789").unwrap();
    assert_eq!(read_to_the_end(&mut broker), b"1234567");
    assert_eq!(proxy.counts().cuts(), 1);
}

#[test]
fn a_delayed_link_that_stalls_lets_the_others_pass() {
    let (listener, proxy) = proxied();
    proxy.decide([Fate::pass().delay(HANG)]).unwrap();
    let (mut held, _broker) = connect(&listener, &proxy);
    held.write_all(b"held").unwrap();
    let (mut client, mut broker) = connect(&listener, &proxy);
    client.write_all(b"through").unwrap();
    broker.read_exact(&mut [0; 7]).unwrap();
    proxy.stall_all().unwrap();
    proxy.cut_all().unwrap();
    assert_eq!(read_to_the_end(&mut client), b"");
    assert_eq!(read_to_the_end(&mut held), b"");
}

#[test]
fn the_fates_come_in_turn_and_the_connections_behind_them_pass_everything() {
    let (listener, proxy) = proxied();
    proxy
        .decide([Fate::cut_after(1), Fate::cut_after(2)])
        .unwrap();
    for expected in [&b"1"[..], b"12", b"12345"] {
        let (mut client, mut broker) = connect(&listener, &proxy);
        client.write_all(b"12345").unwrap();
        if expected.len() == 5 {
            client.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(read_to_the_end(&mut broker), expected);
    }
}

#[test]
fn orders_fail_once_the_fates_have_panicked() {
    let (_listener, proxy) = proxied();
    let fates = std::iter::from_fn(|| panic!("a mistake in the test's fates"));
    proxy.decide(fates).unwrap();
    let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    assert_eq!(read_to_the_end(&mut client), b"");
    let error = proxy.cut_all().unwrap_err();
    assert_eq!(
        error.to_string(),
        "giving the proxy an order: its thread has ended, or does not answer; \
         see whether the fates panicked or wait"
    );
}

#[test]
fn listening_twice_is_listening_once() {
    let (listener, proxy) = proxied();
    proxy.listen().unwrap();
    let _both = connect(&listener, &proxy);
}

#[test]
fn the_proxy_says_that_its_port_was_taken() {
    let (_listener, proxy) = proxied();
    proxy.refuse().unwrap();
    // The old listener may be open in a process that another test starts.
    let taken = wait_for("the proxy's port", HANG, || {
        TcpListener::bind(proxy.address()).ok()
    });
    let error = proxy.listen().unwrap_err().to_string();
    let expected = format!("listening on {} for the proxy: ", proxy.address());
    assert!(error.starts_with(&expected), "{error}");
    // It goes on all the same.
    drop(taken);
    proxy.listen().unwrap();
}

#[test]
fn the_proxy_leaves_nothing_behind() {
    let (listener, proxy) = proxied();
    proxy.decide([Fate::stall_after(0)]).unwrap();
    let (mut stalled, _broker) = connect(&listener, &proxy);
    let (mut client, _other) = connect(&listener, &proxy);
    let (port, counts) = (proxy.port(), proxy.counts().clone());
    drop(proxy);
    assert_eq!(read_to_the_end(&mut stalled), b"");
    assert_eq!(read_to_the_end(&mut client), b"");
    wait_until_refused(port);
    // The proxy's thread held the other reference.
    wait_until("the thread's end", || {
        std::sync::Arc::strong_count(&counts) == 1
    });
}

#[test]
fn a_seed_always_gives_the_same_numbers_and_another_seed_others() {
    let numbers = |seed| {
        let mut random = Random::new(seed);
        std::array::from_fn::<u64, 20, _>(|_| random.within(&(5..1_000)))
    };
    assert_eq!(numbers(1), numbers(1));
    assert_ne!(numbers(1), numbers(2));
    assert!(numbers(3).iter().all(|number| (5..1_000).contains(number)));
}

fn delivered() -> Outcome {
    Outcome::Delivered {
        attempts: 1,
        latency: Duration::ZERO,
        granted: Vec::new(),
        answer: None,
    }
}

/// An account with one message of publisher 0, submitted, that both subscribers saw.
fn seen_by_both() -> Account {
    let account = Account::new(2, 0);
    account.begin_round(3);
    account.submit(0, 0);
    see(&account, Subscriber::Fast, 0);
    see(&account, Subscriber::Slow, 0);
    account
}

fn topic(index: u64) -> String {
    format!("storm/0/{}", qos(index) as u8)
}

fn see(account: &Account, who: Subscriber, index: u64) {
    let payload = account.payload(0, index);
    account.see(who, &topic(index), &payload, &mut Last::default());
}

#[test]
fn the_account_finds_missing_messages() {
    let account = seen_by_both();
    account.resolve(0, 0, &delivered());
    assert!(account.all_delivered_seen());
    account.submit(0, 1);
    account.resolve(0, 1, &delivered());
    see(&account, Subscriber::Fast, 1);
    assert!(!account.all_delivered_seen());
    assert_eq!(account.missing(), 1);
}

#[test]
fn the_account_finds_messages_with_no_outcome_or_two() {
    let account = seen_by_both();
    // The other fifteen messages were never handed in.
    account.end_round();
    assert_eq!(account.unresolved(), 16);
    account.resolve(0, 0, &delivered());
    assert_eq!(account.untrue(), 0);
    account.resolve(0, 0, &delivered());
    assert_eq!(account.untrue(), 1);
}

#[test]
fn the_account_finds_messages_seen_but_never_sent() {
    let account = seen_by_both();
    account.resolve(0, 0, &Outcome::Cancelled(Reason::Terminated));
    account.end_round();
    assert_eq!((account.untrue(), account.failed()), (1, 1));
    let account = seen_by_both();
    account.resolve(0, 0, &Outcome::PerhapsDelivered(Reason::Terminated));
    account.end_round();
    assert_eq!((account.untrue(), account.failed()), (0, 1));
    // Nobody submitted the first of these messages, and no publisher makes the second.
    see(&account, Subscriber::Fast, 1);
    let (fast, topic) = (Subscriber::Fast, topic(0));
    account.see(fast, &topic, b"3 0 x", &mut Last::default());
    assert_eq!(account.untrue(), 2);
}

#[test]
fn the_account_finds_repetitions_and_messages_out_of_order() {
    let account = Account::new(2, 0);
    account.begin_round(3);
    account.submit(0, 0);
    account.submit(0, 1);
    let mut last = Last::default();
    for (index, expected) in [(1, (0, 0)), (0, (1, 0)), (0, (1, 1)), (1, (1, 2))] {
        let payload = account.payload(0, index);
        account.see(Subscriber::Fast, &topic(index), &payload, &mut last);
        let repeated = account.repeated.of(QoS::AtLeastOnce);
        let found = (account.reordered(), repeated);
        assert_eq!(found, expected);
    }
}

#[test]
fn the_account_holds_each_quality_of_service_to_its_own_promise() {
    let (at_most_once, exactly_once) = (3, 7);
    assert_eq!(qos(at_most_once), QoS::AtMostOnce);
    assert_eq!(qos(exactly_once), QoS::ExactlyOnce);
    assert_eq!([8, 9, 16].map(all_with), [10, 11, 20]);
    let account = Account::new(10, 0);
    account.begin_round(3);
    for index in [at_most_once, exactly_once] {
        account.submit(0, index);
        account.resolve(0, index, &delivered());
    }
    // QoS 0 may be missing. QoS 2 may not, and the witness must see it too.
    assert_eq!(account.missing(), 1);
    see(&account, Subscriber::Fast, exactly_once);
    see(&account, Subscriber::Slow, exactly_once);
    assert_eq!(account.missing(), 1);
    see(&account, Subscriber::Witness, exactly_once);
    assert!(account.all_delivered_seen());
    // A repetition behind the cuts is the broker's doing; a repetition at the witness is ours.
    see(&account, Subscriber::Fast, exactly_once);
    assert_eq!(account.repeated.of(QoS::ExactlyOnce), 1);
    assert_eq!(account.untrue(), 0);
    see(&account, Subscriber::Witness, exactly_once);
    assert_eq!(account.untrue(), 1);
    // A QoS 0 message comes once.
    see(&account, Subscriber::Slow, at_most_once);
    assert_eq!(account.untrue(), 1);
    see(&account, Subscriber::Slow, at_most_once);
    assert_eq!(account.untrue(), 2);
    // In a later round QoS 0 may still be on its way; the witness sees nothing twice.
    let payloads = [at_most_once, exactly_once].map(|index| account.payload(0, index));
    account.begin_round(4);
    let [zero, two] = [(at_most_once, &payloads[0]), (exactly_once, &payloads[1])];
    for (who, (index, payload), untrue) in [
        (Subscriber::Fast, zero, 2),
        (Subscriber::Fast, two, 2),
        (Subscriber::Witness, two, 3),
    ] {
        account.see(who, &topic(index), payload, &mut Last::default());
        assert_eq!(account.untrue(), untrue);
    }
}
