//! The words of a broker that speaks MQTT 5, as errors: the code, its name, the broker's own reason, and what to do.
//! Pure.

use super::advice::{connecting, with_no_access, without_user_name};
use super::client::Client;
use crate::error::{Blame, Error};
use crate::mqtt::packet::{Answer, ConnAck5, ReasonCode};

const SEE_THE_LOG: &str = "see what the broker's log says of it";

/// The broker has answered CONNECT of MQTT 5 with no.
pub(super) fn refusal5(client: &Client, connack: &ConnAck5) -> Error {
    let said = Answer::new(connack.code, connack.details.clone());
    let (mut problem, advice) = match connack.is_of_3_1_1 {
        true => (
            "the broker answered as one of MQTT 3.1.1 that does not speak MQTT 5".to_owned(),
            "use MQTT 3.1.1 (`protocol`), or a broker that speaks MQTT 5",
        ),
        false => (
            format!("the broker refused with CONNACK {said}"),
            refusal_advice(client, connack.code),
        ),
    };
    match connack.code.value() {
        0x85 => problem += &format!("; the client identifier is {:?}", client.client_id()),
        0x86 if client.options.credentials.is_none() => {
            problem += "; no user name was given";
            problem += &without_user_name(client).0;
        }
        _ => {}
    }
    if let Some(server) = &connack.server_reference {
        problem += &format!("; it names another server: {server:?}");
    }
    let error = Error::new(Blame::Refused, connecting(client), problem, advice);
    // A broker of MQTT 3.1.1 gave none.
    let error = match connack.is_of_3_1_1 {
        true => error,
        false => error.with_reason_code(connack.code.value()),
    };
    match is_permanent(connack.code) {
        true => error.permanent(),
        false => error,
    }
}

/// The line that the broker keeps the session for a shorter time than was asked for, if it does.
pub(super) fn shorter_session(
    client: &Client,
    clean_session: bool,
    connack: &ConnAck5,
) -> Option<String> {
    let asked = client.options.connect_terms(clean_session)?.session_expiry;
    let kept = connack.session_expiry?;
    (kept < asked).then(|| {
        format!(
            "the broker keeps the session for {kept} s, and {asked} s were asked for: after a longer loss of the \
             connection it is a new one"
        )
    })
}

/// Whether the same CONNECT would be refused again.
fn is_permanent(code: ReasonCode) -> bool {
    matches!(
        code.value(),
        0x81..=0x87 | 0x8a | 0x8c | 0x90 | 0x95 | 0x99..=0x9b
    )
}

/// The advice where CONNECT is refused with this code [MQTT 5, 3.2.2.2].
fn refusal_advice(client: &Client, code: ReasonCode) -> &'static str {
    match code.value() {
        0x81 | 0x82 => {
            "see what the broker's log says of it: it takes this CONNECT for a broken one"
        }
        0x84 => "use MQTT 3.1.1 (`protocol`), or a broker that speaks MQTT 5",
        0x85 => "give another one with `client_id`",
        0x86 if client.options.credentials.is_none() => without_user_name(client).1,
        0x86 => "check `username` and `password`",
        0x87 => with_no_access(client),
        0x88 | 0x89 => "try again later",
        0x8a => "ask who runs the broker: it has banned this client",
        0x8c => "use a broker, or a listener of it, that does not ask for an authentication method",
        0x90 => "change the topic of the last will: the broker does not allow it",
        0x95 => "make the last will smaller, or have the broker allow larger packets",
        0x97 => "stay below the broker's quota, or have it raised",
        0x99 => {
            "state no payload format for the last will, or give it a payload that is UTF-8 text"
        }
        0x9a => "give the last will no retain flag: the broker keeps no retained messages",
        0x9b => "use a lower `last_will.qos`",
        0x9c | 0x9d => OTHER_SERVER,
        0x9f => "connect less often, also from other programs with this account",
        _ => SEE_THE_LOG,
    }
}

const OTHER_SERVER: &str =
    "give the server that the broker names as `host`, or ask who runs the broker which one to use";

/// The advice where the broker closes the connection with this code [MQTT 5, 3.14.2.1].
pub(super) fn advice(code: ReasonCode) -> &'static str {
    match code.value() {
        0x00 => "nothing has to be done: the broker ended the connection in order",
        0x81 | 0x82 => {
            "see what the broker's log says of it: it takes a packet of this client for a broken one"
        }
        0x87 => {
            "see what the broker allows this client: the last thing that was sent may not be allowed, or access was \
             withdrawn"
        }
        0x89 | 0x8b => "wait: the broker is to be back later",
        0x8d => "see why nothing came through in that time, or raise the keep alive",
        0x8e => {
            "give each program a client identifier of its own with `client_id`: another one has connected with the same"
        }
        0x8f => "change the filter that was subscribed last: the broker does not allow it",
        0x90 => "change the topic that was published to last: the broker does not allow it",
        0x93 => {
            "see what the broker's log says of it: it has counted more messages than it takes at one time"
        }
        0x94 => "use no topic aliases: the broker does not take those that it offered",
        0x95 => "make the message smaller, or have the broker allow larger packets",
        0x96 => "publish less often, or limit the rate of messages",
        0x97 => "stay below the broker's quota, or have it raised",
        0x98 => "ask who runs the broker: an administrator has closed the connection",
        0x99 => "send payloads that are UTF-8 text where a message says so, or do not say so",
        0x9a => "publish without the retain flag: the broker keeps no retained messages",
        0x9b => "use a lower `qos`",
        0x9c | 0x9d => OTHER_SERVER,
        0x9e => "subscribe without a share name: the broker has no shared subscriptions",
        0x9f => "connect less often, also from other programs with this account",
        0xa0 => "nothing has to be done: the broker allows a connection only so long",
        0xa1 => "subscribe without a subscription identifier: the broker takes none",
        0xa2 => "subscribe without wildcards: the broker takes none",
        _ => SEE_THE_LOG,
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::client_with;
    use super::*;
    use crate::mqtt::packet::Credentials;

    fn connack(code: u8) -> ConnAck5 {
        ConnAck5 {
            code: ReasonCode::new(code),
            ..ConnAck5::default()
        }
    }

    /// The codes of CONNACK but success [MQTT 5, 3.2.2.2]: whether the end is permanent, and a word of the advice.
    #[test]
    fn each_refusal_of_connect_has_its_advice_and_says_whether_to_try_again() {
        let codes = [
            (0x80, false, "log"),
            (0x81, true, "log"),
            (0x82, true, "log"),
            (0x83, true, "log"),
            (0x84, true, "3.1.1"),
            (0x85, true, "`client_id`"),
            (0x86, true, "`username`"),
            (0x87, true, "`username`"),
            (0x88, false, "later"),
            (0x89, false, "later"),
            (0x8a, true, "banned"),
            (0x8c, true, "method"),
            (0x90, true, "topic of the last will"),
            (0x95, true, "smaller"),
            (0x97, false, "quota"),
            (0x99, true, "payload format"),
            (0x9a, true, "retain flag"),
            (0x9b, true, "`last_will.qos`"),
            (0x9c, false, "`host`"),
            (0x9d, false, "`host`"),
            (0x9f, false, "less often"),
        ];
        for (code, is_permanent, word) in codes {
            let error = refusal5(&client_with(|_| {}), &connack(code));
            assert!(error.advice().contains(word), "{error}");
            assert_eq!(error.is_permanent(), is_permanent, "{error}");
            let named = format!("CONNACK {}", ReasonCode::new(code));
            assert!(error.problem().contains(&named), "{error}");
        }
    }

    /// The codes of DISCONNECT from a broker [MQTT 5, 3.14.2.1].
    #[test]
    fn each_code_of_a_disconnect_has_its_advice() {
        let codes = [
            (0x00, "nothing has to be done"),
            (0x80, "log"),
            (0x81, "broken"),
            (0x82, "broken"),
            (0x83, "log"),
            (0x87, "allows this client"),
            (0x89, "later"),
            (0x8b, "later"),
            (0x8d, "keep alive"),
            (0x8e, "`client_id`"),
            (0x8f, "filter"),
            (0x90, "topic"),
            (0x93, "at one time"),
            (0x94, "aliases"),
            (0x95, "smaller"),
            (0x96, "less often"),
            (0x97, "quota"),
            (0x98, "administrator"),
            (0x99, "UTF-8"),
            (0x9a, "retain flag"),
            (0x9b, "`qos`"),
            (0x9c, "`host`"),
            (0x9d, "`host`"),
            (0x9e, "share"),
            (0x9f, "less often"),
            (0xa0, "nothing has to be done"),
            (0xa1, "identifier"),
            (0xa2, "wildcards"),
        ];
        assert_eq!(codes.len(), 28, "as many as the standard has");
        for (code, word) in codes {
            let advice = advice(ReasonCode::new(code));
            assert!(advice.contains(word), "{code:02x}: {advice}");
        }
    }

    #[test]
    fn a_refusal_says_what_was_given_what_the_broker_said_and_which_server_it_names() {
        let mut refused = connack(0x85);
        refused.details.reason = Some("too long".to_owned());
        refused.server_reference = Some("b.example".to_owned());
        assert_eq!(
            refusal5(&client_with(|_| {}), &refused).to_string(),
            "connecting to localhost:8883: the broker refused with CONNACK 0x85 (client identifier not valid): \"too \
             long\"; the client identifier is \"exchange\"; it names another server: \"b.example\"; give another one \
             with `client_id`"
        );
        let given = |options: &mut crate::options::Options| {
            options.credentials = Some(Credentials {
                username: "me".to_owned(),
                password: "secret".into(),
            });
        };
        let with = refusal5(&client_with(given), &connack(0x86)).to_string();
        assert!(
            with.ends_with("; check `username` and `password`"),
            "{with}"
        );
        let without = refusal5(&client_with(|_| {}), &connack(0x86)).to_string();
        assert!(
            without.ends_with("; no user name was given; give `username` and `password`"),
            "{without}"
        );
        let mut old = connack(1);
        old.is_of_3_1_1 = true;
        old.code = ReasonCode::UNSUPPORTED_PROTOCOL_VERSION;
        let old = refusal5(&client_with(|_| {}), &old);
        assert!(
            old.is_permanent() && old.problem().contains("3.1.1"),
            "{old}"
        );
    }
}
