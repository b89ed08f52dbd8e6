//! The application's provider: asked at each connection attempt, off the loop's thread, and never trusted to come back.

// Helpers outside of tests may panic, as the tests that call them may.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use crate::support::running::{Running, options};
use crate::support::{Connection, HANG, ScriptedBroker};
use mqtt_connection_sharing::error::Blame;
use mqtt_connection_sharing::options::{Fresh, NextAttempt, Options, Provider, Secret};
use mqtt_connection_sharing::{ConnectionEvents, Credentials, EventKind};
use rumqttc::mqttbytes::v4::ConnectReturnCode;

type Answer = Result<Fresh, Box<dyn std::error::Error + Send + Sync>>;

/// Options with a provider that is told the number of its call, from 1, and the attempt.
fn with_provider(
    broker: &ScriptedBroker,
    provide: impl Fn(u32, &NextAttempt) -> Answer + Send + Sync + 'static,
) -> (Options, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let mut options = options(broker);
    options.provider = Some(Provider::new(move |next| {
        provide(counted.fetch_add(1, Ordering::SeqCst) + 1, next)
    }));
    (options, calls)
}

fn token(username: &str, password: impl Into<Secret>) -> Answer {
    let credentials = Credentials {
        username: username.into(),
        password: password.into(),
    };
    Ok(credentials.into())
}

/// Accepts a link. Returns it with the password of its CONNECT.
#[track_caller]
fn accept(broker: &mut ScriptedBroker, code: ConnectReturnCode) -> (Connection, String) {
    let mut link = broker.accept();
    let connect = link.expect_connect();
    link.send_connack(code, false);
    (link, connect.login.unwrap().password)
}

/// Waits until new values are not taken. Returns the reason.
#[track_caller]
fn not_renewed(events: &mut ConnectionEvents) -> String {
    loop {
        let event = events.recv_timeout(HANG).unwrap();
        if let EventKind::NotRenewed { error } = &event.kind {
            let text = event.to_string();
            assert_eq!(text, format!("{error}; the last good ones stay in force"));
            return error.to_string();
        }
    }
}

#[test]
fn each_attempt_has_a_token_of_its_own_also_after_one_that_was_refused() {
    let mut broker = ScriptedBroker::bind();
    let (say, said) = channel();
    let (options, _) = with_provider(&broker, move |call, next| {
        let last = next.last_failure.as_ref().map(ToString::to_string);
        say.send((next.failures, last.unwrap_or_default())).unwrap();
        token("me", format!("token-{call}"))
    });
    let running = Running::start(options);
    let mut passwords = Vec::new();
    for code in [
        ConnectReturnCode::Success,
        ConnectReturnCode::BadUserNamePassword,
        ConnectReturnCode::NotAuthorized,
        ConnectReturnCode::Success,
    ] {
        let (link, password) = accept(&mut broker, code);
        if code == ConnectReturnCode::Success {
            running.take_a_turn();
        }
        link.close();
        passwords.push(password);
    }
    assert_eq!(passwords, ["token-1", "token-2", "token-3", "token-4"]);
    let told: Vec<_> = said.try_iter().take(4).collect();
    assert_eq!(told[0], (0, String::new()));
    for (told, words) in told[1..]
        .iter()
        .zip(["the connection", "return code 4", "return code 5"])
    {
        assert!(told.1.contains(words), "{words}: {told:?}");
    }
    assert!(told[1].0 < told[2].0 && told[2].0 < told[3].0, "{told:?}");
    let (link, _) = accept(&mut broker, ConnectReturnCode::Success);
    running.take_a_turn();
    running.terminate(link);
}

#[test]
fn a_provider_that_fails_panics_or_gives_what_cannot_be_leaves_the_last_good_token_in_force() {
    let mut broker = ScriptedBroker::bind();
    let (options, _) = with_provider(&broker, |call, _| match call {
        1 => token("me", "first"),
        2 => Err("the vault is sealed".into()),
        3 => panic!("the provider of this test panics"),
        4 => token("", "nobody's"),
        5 => token("me", "p".repeat(65_536)),
        6 => Ok(Fresh::default()),
        _ => token("me", "second"),
    });
    let (running, mut link) = Running::online_with(options, &mut broker);
    let mut events = running.handle().events();
    for (words, expected) in [
        ("the provider failed: the vault is sealed; see to", "first"),
        ("the provider panicked", "first"),
        ("a password needs a user name", "first"),
        ("the password: it is longer than 65,535 bytes", "first"),
        ("", "first"),
        ("", "second"),
    ] {
        link.close();
        let (next, password) = accept(&mut broker, ConnectReturnCode::Success);
        link = next;
        running.take_a_turn();
        assert_eq!(password, expected, "{words}");
        if !words.is_empty() {
            let reason = not_renewed(&mut events);
            assert!(reason.contains(words), "{words}: {reason}");
            assert!(
                !reason.contains("nobody's") && !reason.contains("ppp"),
                "{reason}"
            );
        }
    }
    running.terminate(link);
}

/// Without a good token yet nothing may go out: a broker may let anybody in who has none.
#[test]
fn until_a_provider_has_given_something_nothing_is_connected() {
    let mut broker = ScriptedBroker::bind();
    let (options, calls) = with_provider(&broker, |call, next| match call {
        3 => token("me", "first"),
        _ => Err(format!("the vault is sealed, {}", next.failures).into()),
    });
    let running = Running::start(options);
    let (link, password) = accept(&mut broker, ConnectReturnCode::Success);
    running.take_a_turn();
    assert_eq!(
        (password.as_str(), calls.load(Ordering::SeqCst)),
        ("first", 3)
    );
    running.terminate(link);

    let (mut options, calls) = with_provider(&broker, |_, _| Err("the vault is sealed".into()));
    options.retry.attempts = 2;
    let error = Running::start(options).join().result.unwrap_err();
    assert_eq!(
        (error.blame(), error.exit_status()),
        (Blame::Configuration, 2)
    );
    let text = error.to_string();
    assert!(
        text.starts_with("preparing a connection to 127.0.0.1:"),
        "{text}"
    );
    assert!(
        text.contains("3 attempts in ") && text.contains("the vault is sealed"),
        "{text}"
    );
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "the vault is sealed");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    assert!(broker.accept_within(Duration::ZERO).is_none());
}

/// A provider that gives a token at its first call, and hangs from the second one on until the sender is dropped.
fn hanging(broker: &ScriptedBroker) -> (Options, Arc<AtomicU32>, Sender<()>) {
    let (open, gate) = channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (options, calls) = with_provider(broker, move |call, _| match call {
        1 => token("me", "first"),
        _ => {
            let _ = gate.lock().unwrap().recv();
            token("me", format!("token-{call}"))
        }
    });
    (options, calls, open)
}

#[test]
fn a_provider_that_hangs_holds_up_neither_the_loop_nor_another_thread() {
    let mut broker = ScriptedBroker::bind();
    let (options, calls, open) = hanging(&broker);
    let (running, link) = Running::online_with(options, &mut broker);
    link.close();
    // The loop serves everything else meanwhile. Each RECONNECT gives an attempt up.
    let mut given_up: Vec<_> = (0..20)
        .map(|_| {
            let again = running.handle().reconnect();
            running.take_a_turn();
            again
        })
        .collect();
    crate::support::wait_for("the second call", HANG, || {
        (calls.load(Ordering::SeqCst) == 2).then_some(())
    });
    running.take_a_turn();
    running.expect_asleep("while a provider hangs");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    drop(open);
    let (link, password) = accept(&mut broker, ConnectReturnCode::Success);
    assert_eq!(password, "token-2");
    running.take_a_turn();
    let last = given_up.pop().unwrap();
    assert!(crate::support::running::told(last).is_delivered());
    running.terminate(link);
}

#[test]
fn an_attempt_goes_on_with_the_last_good_token_when_its_provider_is_late() {
    let mut broker = ScriptedBroker::bind();
    let (mut options, calls, open) = hanging(&broker);
    options.connect_timeout = Duration::from_millis(500);
    let running = Running::start(options);
    let mut events = running.handle().events();
    for _ in 0..3 {
        // The time limit is short: on a slow machine CONNACK may be late, and there is another link.
        let (link, password) = accept(&mut broker, ConnectReturnCode::Success);
        assert_eq!(password, "first");
        link.close();
    }
    let reason = not_renewed(&mut events);
    let expected = "the provider has not answered within 500ms; have it give up sooner, or raise `connect_timeout`";
    assert!(reason.ends_with(expected), "{reason}");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    // A stop is served at once although the call goes on.
    let ended = running.handle().terminate(Duration::ZERO);
    assert!(running.join().result.is_ok());
    assert!(ended.outcome().is_some());
    drop(open);
}

#[test]
fn a_loop_that_is_ended_while_its_provider_hangs_says_so() {
    let broker = ScriptedBroker::bind();
    let (open, gate) = channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (options, calls) = with_provider(&broker, move |_, _| {
        let _ = gate.lock().unwrap().recv();
        token("me", "late")
    });
    let running = Running::start(options);
    crate::support::wait_for("the call", HANG, || {
        (calls.load(Ordering::SeqCst) == 1).then_some(())
    });
    let ended = running.handle().terminate(Duration::ZERO);
    let text = running.join().unconnected.unwrap().to_string();
    assert!(text.contains("the provider has not answered "), "{text}");
    assert!(
        text.contains(" s after the first attempt began; have it"),
        "{text}"
    );
    assert!(ended.outcome().is_some());
    drop(open);
}

/// A loop that ends leaves a call behind, and the client's next loop waits for the same one.
#[test]
fn loops_one_after_the_other_share_the_call_of_a_provider_that_hangs() {
    let broker = ScriptedBroker::bind();
    let (open, gate) = channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let (mut options, calls) = with_provider(&broker, move |_, _| {
        let _ = gate.lock().unwrap().recv();
        token("me", "late")
    });
    options.connect_timeout = Duration::from_millis(20);
    options.retry.attempts = 1;
    let mut client = mqtt_connection_sharing::Client::new(options).unwrap();
    for _ in 0..3 {
        let (agent, handle) = client.open();
        let ended = agent.run();
        let text = ended.result.unwrap_err().to_string();
        assert!(
            text.contains("the provider has not answered within 20ms"),
            "{text}"
        );
        drop(handle);
        client = ended.client;
    }
    crate::support::wait_for("the call", HANG, || {
        (calls.load(Ordering::SeqCst) > 0).then_some(())
    });
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    drop(open);
}
