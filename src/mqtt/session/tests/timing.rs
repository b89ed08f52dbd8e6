//! Keep alive, acknowledgment time-outs, and no wake-up without a reason.

use std::time::{Duration, Instant};

use rumqttc::mqttbytes::v4;

use super::packets::{message, puback, pubcomp, pubrec, suback};
use super::{HANG, Transcript};
use crate::mqtt::packet::Incoming;

const PINGRESP: Incoming = Incoming::PingResp;

#[test]
fn row_19_an_idle_link_is_pinged_before_the_keep_alive_is_over_3_1_2_23() {
    let mut t = Transcript::connected();
    assert_eq!(t.next_timer(), Some(59_000));
    t.at(58_999).silent();
    t.at(59_000).sends("PINGREQ").silent();
    t.at(59_100).receives(PINGRESP).silent();
    t.at(118_000).sends("PINGREQ");
    t.receives(PINGRESP);
    t.at(177_000).sends("PINGREQ").finish();
}

/// The broker never waits longer than the keep alive, whatever packets are sent and received in between.
#[test]
fn mqtt_3_1_2_23_there_is_never_more_than_the_keep_alive_between_two_packets_of_ours() {
    for keep_alive in [1, 2, 10, 60, 600, 65_535] {
        let mut t = Transcript::connected_with(|o| o.keep_alive = Duration::from_secs(keep_alive));
        let limit = keep_alive * 1000;
        let (mut last_sent, mut at, mut pings) = (0, 0, 0);
        for step in 0..200 {
            // Steps of all sizes below the limit, in no order.
            at += 1 + (step * step * 7_919_003) % (limit / 3);
            while let Some(due) = t.next_timer().filter(|due| *due <= at) {
                assert!(
                    due - last_sent <= limit,
                    "{keep_alive} s: {last_sent} to {due}"
                );
                t.at(due);
                match t.sent.pop_front() {
                    None => continue,
                    Some(sent) => assert_eq!(sent, rumqttc::mqttbytes::v4::Packet::PingReq),
                }
                (last_sent, pings) = (due, pings + 1);
                t.receives(PINGRESP);
            }
            t.at(at);
            match step % 40 {
                0..10 => {}
                10..30 => {
                    t.receives(message(0, 0, "x"));
                    t.delivers("t \"x\"");
                }
                _ => {
                    let token = t.publish("a", 0, "x");
                    t.sends("PUBLISH qos=0 a \"x\"");
                    t.resolved(token, "delivered x1");
                    last_sent = at;
                }
            }
            assert!(
                at - last_sent <= limit,
                "{keep_alive} s: {last_sent} to {at}"
            );
        }
        assert!(pings > 5, "{keep_alive} s: {pings}");
        t.finish();
    }
}

#[test]
fn what_is_sent_and_received_puts_the_ping_off() {
    let mut t = Transcript::connected();
    t.at(30_000);
    let token = t.publish("a", 1, "x");
    t.sends("PUBLISH id=1 qos=1 a \"x\"");
    t.at(30_010)
        .receives(puback(1))
        .resolved(token, "delivered x1");
    t.at(88_999).silent();
    t.at(89_000).sends("PINGREQ").finish();
}

#[test]
fn a_client_that_only_receives_still_pings() {
    let mut t = Transcript::connected();
    for second in 1..59 {
        t.at(second * 1000).receives(message(0, 0, "x"));
        t.delivers("t \"x\"");
    }
    t.silent();
    t.at(59_000).sends("PINGREQ").finish();
}

#[test]
fn a_client_that_only_sends_still_asks_whether_the_broker_lives() {
    let mut t = Transcript::connected();
    for second in 1..59 {
        let token = t.at(second * 1000).publish("a", 0, "x");
        t.sends("PUBLISH qos=0 a \"x\"");
        t.resolved(token, "delivered x1");
    }
    t.silent();
    t.at(59_000).sends("PINGREQ");
    for second in 60..79 {
        let token = t.at(second * 1000).publish("a", 0, "x");
        t.sends("PUBLISH qos=0 a \"x\"");
        t.resolved(token, "delivered x1").silent();
    }
    t.at(79_000).notes("close KeepAliveExpired").finish();
}

#[test]
fn a_silent_broker_is_given_up_within_one_and_a_half_times_the_keep_alive() {
    for (keep_alive, ack_timeout) in [(60, 20), (60, 600), (10, 20), (1, 20)] {
        let mut t = Transcript::connected_with(|o| {
            o.keep_alive = Duration::from_secs(keep_alive);
            o.ack_timeout = Duration::from_secs(ack_timeout);
        });
        t.at(keep_alive * 1000 - 1).sends("PINGREQ").silent();
        t.at(keep_alive * 1500);
        t.notes("close KeepAliveExpired").finish();
    }
}

#[test]
fn a_broker_that_sends_anything_lives() {
    let mut t = Transcript::connected();
    t.at(59_000).sends("PINGREQ");
    t.at(78_000).receives(message(0, 0, "x"));
    t.delivers("t \"x\"");
    t.at(97_999).silent();
    t.at(98_000).notes("close KeepAliveExpired").finish();
}

#[test]
fn each_pingresp_answers_the_oldest_pingreq() {
    let mut t = Transcript::connected();
    t.at(59_000).sends("PINGREQ");
    let first = t.at(60_000).ping();
    let second = t.at(61_000).ping();
    t.sends_all(&["PINGREQ", "PINGREQ"]);
    t.at(62_000).receives(PINGRESP).silent();
    t.receives(PINGRESP)
        .resolved(first, "delivered x1")
        .silent();
    t.at(70_000).receives(PINGRESP);
    t.resolved(second, "delivered x1");
    // One too many.
    t.receives(PINGRESP).silent();
    // Nothing is owed any more, so nothing expires.
    t.at(119_999).silent();
    t.at(120_000).sends("PINGREQ").finish();
}

#[test]
fn a_ping_that_is_not_answered_ends_the_link_also_without_keep_alive() {
    let mut t = Transcript::connected_with(|o| o.keep_alive = Duration::ZERO);
    assert_eq!(t.next_timer(), None);
    t.at(1_000_000).silent();
    let token = t.ping();
    t.sends("PINGREQ");
    t.at(1_019_999).silent();
    t.at(1_020_000).notes("close KeepAliveExpired");
    t.loses_link().resolved(token, "perhaps LinkLost");
    assert_eq!(t.next_timer(), None);
    t.finish();
}

#[test]
fn a_missing_acknowledgment_ends_the_link_not_early_and_not_late() {
    let mut t = Transcript::connected();
    t.at(1_000).publish("a", 1, "x");
    t.sends("PUBLISH id=1 qos=1 a \"x\"");
    t.at(20_999).silent();
    t.at(21_000).sends("PINGREQ").silent();
    t.at(22_000).receives(PINGRESP);
    t.at(22_001).notes("close AckTimeout 1").silent();
    // The same where the broker does not answer PINGREQ either.
    t.reconnects(true).sends("PUBLISH id=1 qos=1 dup a \"x\"");
    t.at(42_000).silent();
    t.at(42_001).sends("PINGREQ");
    t.at(62_000).silent();
    t.at(62_001).notes("close AckTimeout 1").finish();
}

/// A link with traffic of all kinds that falls silent at any moment: the loss is told within 1.5 times
/// the keep alive, and within twice the acknowledgment time-out of the oldest thing without an answer.
#[test]
fn a_stalled_peer_is_noticed_in_time_at_whatever_moment_it_stalls() {
    let mut noticed_by = [0; 3];
    for seed in 0..400_u64 {
        let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: u64| {
            chance ^= chance << 13;
            chance ^= chance >> 7;
            chance ^= chance << 17;
            (chance >> 16) % limit
        };
        let keep_alive = 1 + below(90);
        let ack_timeout = 1 + below(90);
        let mut t = Transcript::connected_with(|o| {
            o.keep_alive = Duration::from_secs(keep_alive);
            o.ack_timeout = Duration::from_secs(ack_timeout);
        });
        let last_second = below(3 * keep_alive);
        let stall = last_second * 1000 + below(1000);
        let pause = 1 + below(2 * keep_alive);
        // Until then everything is answered within the second, and PINGREQ at once.
        let (mut now, mut id) = (0, 0);
        let answer_pings = |t: &mut Transcript| {
            while let Some(at) = t.sent.iter().position(|sent| *sent == v4::Packet::PingReq) {
                t.sent.remove(at);
                t.receives(PINGRESP);
            }
        };
        for second in 1..=last_second {
            now = second * 1000;
            t.at(now);
            answer_pings(&mut t);
            if second % pause == 0 {
                id += 1;
                t.publish("a", 1, "x");
                t.receives(puback(id));
            }
        }
        t.at(stall);
        answer_pings(&mut t);
        assert!(t.notes.is_empty(), "seed {seed}: nothing was lost so far");
        // Nothing comes any more. New publishes go out, or not even they do.
        let takes = below(2) == 0;
        if !takes {
            t.stalls_after(0);
        }
        let mut deadline = stall + keep_alive * 1500;
        let mut next = now + pause * 1000;
        while t.notes.is_empty() {
            let waits = t.next_timer().expect("a timer, or nobody would notice");
            if next < waits {
                if next > stall && t.session.wants_commands() {
                    t.at(next).publish("a", 1, "y");
                    deadline = deadline.min(next + 2 * ack_timeout * 1000);
                }
                next += pause * 1000;
            } else {
                t.at(waits);
            }
            let over = t.now > t.base + Duration::from_millis(deadline);
            assert!(
                !over,
                "seed {seed}: keep alive {keep_alive}, acknowledgment time-out {ack_timeout}, stalled at {stall}, \
                 noticed after {deadline}"
            );
        }
        let told = t.notes.pop_front();
        match told.as_deref() {
            Some("close KeepAliveExpired") => noticed_by[0] += 1,
            Some("close Stuck") => noticed_by[1] += 1,
            Some(told) if told.starts_with("close AckTimeout") => noticed_by[2] += 1,
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    assert!(noticed_by.iter().all(|times| *times > 20), "{noticed_by:?}");
}

#[test]
fn what_was_acknowledged_meanwhile_does_not_end_the_link() {
    let mut t = Transcript::connected();
    t.at(1_000).publish("a", 1, "x");
    t.at(9_000).publish("a", 1, "y");
    t.at(15_000).receives(puback(1)).resolved(0, "delivered x1");
    t.sent.clear();
    t.at(28_999).silent();
    t.at(29_000).sends("PINGREQ").receives(PINGRESP);
    t.at(29_001).notes("close AckTimeout 2").finish();
}

#[test]
fn each_step_of_qos_2_and_of_a_long_subscribe_has_its_own_time() {
    let mut t = Transcript::connected();
    t.publish("a", 2, "x");
    t.at(19_000).receives(pubrec(1));
    t.at(38_000)
        .receives(pubcomp(1))
        .resolved(0, "delivered x1");
    let filters = [("f", 1); 9];
    let token = t.subscribe(&filters);
    t.at(57_000).receives(suback(2, &[Some(1); 8]));
    t.at(76_000).receives(suback(3, &[Some(1)]));
    t.resolved(token, "delivered x1 [1 1 1 1 1 1 1 1 1]");
    t.sent.clear();
    t.finish();
}

/// Bytes leave as over TLS, where a record leaves as a whole or not at all.
#[test]
fn what_a_link_takes_late_has_its_time_from_then_on() {
    let mut t = Transcript::connected();
    t.stalled = true;
    t.publish("a", 1, "x");
    t.at(19_000).flows().sends("PUBLISH id=1 qos=1 a \"x\"");
    t.at(38_999).silent();
    t.at(39_000).sends("PINGREQ").finish();
}

#[test]
fn no_acknowledgment_is_late_while_the_link_takes_bytes() {
    let mut t = Transcript::connected_with(|o| o.keep_alive = Duration::ZERO);
    t.publish("a", 1, "x");
    t.sends("PUBLISH id=1 qos=1 a \"x\"");
    t.at(5_000).stalls_after(0);
    t.publish("big", 1, &"x".repeat(9_000));
    for second in [10, 25, 40] {
        t.at(second * 1_000).stalls_after(2_000);
    }
    t.at(55_000).flows();
    // The broker was asked at 20, when nobody could know yet that the link goes on.
    assert_eq!(t.sent.drain(..).count(), 2);
    t.receives(PINGRESP);
    // From 10 on time did not count. The first packet's went on at 55, the second one's began there.
    t.at(64_999).silent();
    t.receives(puback(1)).resolved(0, "delivered x1");
    t.at(74_999).silent();
    t.at(75_000).sends("PINGREQ").receives(PINGRESP);
    t.at(75_001).notes("close AckTimeout 2").finish();
}

#[test]
fn a_link_that_takes_too_little_is_given_up() {
    for (bytes, noticed) in [(0, 20_000), (1_000, 21_000), (2_000, 35_000)] {
        let mut t = Transcript::connected();
        t.stalls_after(0);
        t.publish("big", 1, &"x".repeat(9_000));
        t.at(1_000).stalls_after(1_000.min(bytes));
        t.at(15_000).stalls_after(bytes.saturating_sub(900));
        t.at(noticed - 1).silent();
        t.at(noticed).notes("close Stuck").finish();
    }
}

#[test]
fn no_acknowledgment_is_late_while_a_packet_comes_in() {
    let mut t = Transcript::connected_with(|o| o.keep_alive = Duration::ZERO);
    t.at(5_000).publish("a", 1, "x");
    t.sends("PUBLISH id=1 qos=1 a \"x\"");
    for second in 10..=60_u16 {
        t.at(u64::from(second) * 1_000);
        t.receives_part(usize::from(second) * 2_000);
    }
    // The clock has stood still for long: the broker is asked, and has not said no.
    t.sends("PINGREQ").silent();
    t.at(60_500).receives(message(0, 0, "x"));
    t.delivers("t \"x\"");
    t.receives(PINGRESP);
    // The five seconds before the packet and the fifteen behind it.
    t.at(75_499).silent();
    t.at(75_500).notes("close AckTimeout 1").finish();
}

#[test]
fn no_pingresp_is_late_while_a_packet_comes_in() {
    let mut t = Transcript::connected_with(|o| o.keep_alive = Duration::from_secs(10));
    t.at(9_000).sends("PINGREQ");
    for second in 10..=60_u16 {
        t.at(u64::from(second) * 1_000);
        t.receives_part(usize::from(second) * 2_000);
    }
    // The broker is to hear of us at least every ten seconds.
    t.sends_all(&["PINGREQ"; 5]).silent();
    t.at(61_000).receives(message(0, 0, "x"));
    t.delivers("t \"x\"");
    t.at(65_999).sends("PINGREQ").silent();
    t.at(66_000).notes("close KeepAliveExpired").finish();
}

#[test]
fn a_packet_that_does_not_go_on_coming_in_is_noticed() {
    let mut t = Transcript::connected_with(|o| o.keep_alive = Duration::from_secs(10));
    t.at(9_000).sends("PINGREQ");
    t.at(10_000).receives_part(2_000);
    t.at(12_000).receives_part(4_000);
    t.at(20_000).receives_part(5_000);
    t.at(31_999).sends_all(&["PINGREQ"; 2]).silent();
    t.at(32_000).notes("close KeepAliveExpired").finish();
}

#[test]
fn whole_packets_stop_no_acknowledgments_clock() {
    let mut t = Transcript::connected_with(|o| o.keep_alive = Duration::ZERO);
    t.publish("a", 1, "poison");
    t.sends("PUBLISH id=1 qos=1 a \"poison\"");
    for second in 1..20 {
        let token = t.at(second * 1_000).publish("a", 1, "x");
        t.sent.clear();
        t.receives(puback(second as u16 + 1))
            .resolved(token, "delivered x1");
    }
    t.at(20_000).sends("PINGREQ");
    // However much the broker sends before it answers, and whatever it acknowledges.
    for second in 21..90 {
        t.at(second * 1_000).receives(message(0, 0, "x"));
        t.delivers("t \"x\"");
    }
    t.receives(PINGRESP);
    t.at(89_001).notes("close AckTimeout 1").finish();
}

#[test]
fn an_acknowledgment_that_comes_right_behind_pingresp_is_not_late() {
    let mut t = Transcript::connected();
    let token = t.publish("a", 1, "x");
    t.sends("PUBLISH id=1 qos=1 a \"x\"");
    t.at(20_000).sends("PINGREQ").receives(PINGRESP);
    t.receives(puback(1)).resolved(token, "delivered x1");
    t.at(40_000).silent();
    t.finish();
}

/// A link that takes little at a time must not make each write go through all commands in flight.
#[test]
fn a_link_that_takes_a_byte_at_a_time_costs_no_more_with_many_in_flight() {
    let mut t = Transcript::connected_with(|o| {
        o.max_inflight = 60_000;
        o.keep_alive = Duration::ZERO;
        o.ack_timeout = Duration::from_secs(1_000);
    });
    for _ in 0..59_000 {
        t.publish("t", 1, "x");
    }
    t.at(1_000).stalls_after(0);
    let payload = "x".repeat(50);
    for _ in 0..1_000 {
        t.publish("t", 1, &payload);
    }
    let begin = Instant::now();
    let mut time = 1_000;
    while !t.session.output().is_empty() {
        time += 1;
        t.at(time).stalls_after(1);
    }
    assert!(begin.elapsed() < HANG, "{:?}", begin.elapsed());
    t.sent.clear();
    // It waits for its acknowledgment from the moment on when it had left.
    assert_eq!(t.next_timer(), Some(1_000_000));
    for id in 1..60_000 {
        t.session.handle_packet(puback(id), t.now).unwrap();
    }
    t.step();
    t.outcomes.clear();
    t.at(time + 999_999).silent();
    t.at(time + 1_000_000).flows().sends("PINGREQ").finish();
}

#[test]
fn a_renewal_that_is_not_answered_ends_the_link() {
    let mut t = Transcript::subscribed(&[("a", 1)]);
    t.at(5_000).reconnects(false).sends("SUBSCRIBE id=2 a:1");
    t.at(24_999).silent();
    t.at(25_000).sends("PINGREQ").receives(PINGRESP);
    t.at(25_001).notes("close AckTimeout 2").finish();
}

#[test]
fn nothing_wakes_without_a_reason() {
    let mut t = Transcript::with(|o| o.keep_alive = Duration::ZERO);
    assert_eq!(t.next_timer(), None, "no link");
    t.links_up();
    assert_eq!(
        t.next_timer(),
        None,
        "the loop has its own limit for CONNACK"
    );
    t.connack(false);
    assert_eq!(t.next_timer(), None, "nothing is pending");
    let qos_0 = t.publish("a", 0, "x");
    t.resolved(qos_0, "delivered x1");
    assert_eq!(t.next_timer(), None, "QoS 0 awaits nothing");
    t.publish("a", 1, "x");
    assert_eq!(t.next_timer(), Some(20_000));
    t.at(10).receives(puback(1));
    assert_eq!(t.next_timer(), None);
    t.subscribe(&[("a", 1)]);
    t.receives(suback(2, &[Some(1)]));
    assert_eq!(t.next_timer(), None);
    t.publish("a", 1, "y");
    t.loses_link();
    t.sent.clear();
    assert_eq!(t.next_timer(), None, "no link");
    t.links_up().connack(true);
    assert_eq!(t.next_timer(), Some(20_010));
    t.disconnect();
    assert_eq!(t.next_timer(), None, "DISCONNECT is out");
}

#[test]
fn pings_that_nobody_answers_do_not_add_up_without_end() {
    let mut t = Transcript::connected();
    let first = t.ping();
    for _ in 1..65_535 {
        t.ping();
    }
    assert!(!t.session.wants_commands(), "more would be taken");
    t.receives(PINGRESP).resolved(first, "delivered x1");
    assert!(t.session.wants_commands());
}
