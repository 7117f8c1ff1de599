//! Keepalives, passive and persistent (white paper, sections 6.5 and 6.6; the rules are the Linux
//! kernel's). Each rule on a `Tunnel` and on an `Interface`.

use std::time::Duration;

use quietwire::Event;

use crate::support::*;

fn every(step: u64, last: u64) -> Vec<Duration> {
    (1..=last)
        .map(|n| secs(n * step))
        .take_while(|at| *at <= secs(last))
        .collect()
}

/// Section 6.5: data received and not answered is answered by a keepalive, 10 s after the first
/// packet and not a nanosecond earlier.
#[test]
fn unanswered_data_is_acknowledged_after_10_s() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(2));
        pair.send(Alice, 100);
        pair.run_until(secs(12) - NANO);
        assert!(pair.sent(Bob, Msg::Keepalive).is_empty());
        pair.run_until(secs(12));
        assert_eq!(pair.sent(Bob, Msg::Keepalive), [secs(12)]);
    });
}

/// A keepalive that is answered by a keepalive lets two idle peers talk for ever.
#[test]
fn keepalives_do_not_answer_each_other() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.send(Alice, 100);
        pair.run_until(secs(600));
        assert_eq!(pair.sent(Bob, Msg::Keepalive), [secs(10)]);
        assert_eq!(pair.log.len(), 2);
    });
}

/// Measured from the last packet sent, the keepalive would come at once after a long silence.
#[test]
fn after_a_long_silence_the_keepalive_still_waits_10_s() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(100));
        pair.send(Alice, 100);
        pair.run_until(secs(119));
        assert_eq!(pair.sent(Bob, Msg::Keepalive), [secs(110)]);
    });
}

/// Anything sent back is the acknowledgement.
#[test]
fn an_answer_replaces_the_keepalive() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.send(Alice, 100);
        pair.run_until(secs(10) - NANO);
        pair.send(Bob, 100);
        pair.run_until(secs(60));
        assert!(pair.sent(Bob, Msg::Keepalive).is_empty());
        assert_eq!(pair.sent(Alice, Msg::Keepalive), [secs(20) - NANO]);
    });
}

/// A handshake message is authentic too and counts as an answer.
#[test]
fn a_handshake_message_replaces_the_keepalive() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(20));
        pair.send(Alice, 100);
        pair.run_until(secs(25));
        pair.cut(Bob);
        let now = pair.now;
        pair[Bob].initiate(now);
        pair.run_until(secs(30));
        assert_eq!(pair.sent(Bob, Msg::Initiation).len(), 1);
        assert!(pair.sent(Bob, Msg::Keepalive).is_empty());
    });
}

/// A stream in one direction is acknowledged every 10 s, and so its sender never takes the other
/// side for dead.
#[test]
fn a_one_way_stream_is_acknowledged_every_10_s() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        for at in 0..60 {
            pair.run_until(secs(at));
            pair.send(Alice, 100);
        }
        pair.run_until(secs(115));
        // The last one is for the packets after the 50th second, which came while one was due.
        assert_eq!(pair.sent(Bob, Msg::Keepalive), every(10, 70));
        assert_eq!(pair.received.len(), 60);
        assert_eq!(pair.log.len(), 60 + 7, "and nothing else");
    });
}

/// The same with the roles of the handshake exchanged.
#[test]
fn a_one_way_stream_of_the_responder_is_acknowledged() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        for at in 0..60 {
            pair.run_until(secs(at));
            pair.send(Bob, 100);
        }
        pair.run_until(secs(115));
        assert_eq!(pair.sent(Alice, Msg::Keepalive), every(10, 70));
        assert_eq!(pair.log.len(), 60 + 7, "and nothing else");
    });
}

/// Kernel: that a further packet came is remembered until a keepalive timer fires, even when an
/// answer has stopped the timer in between. A peer can see it: one more keepalive.
#[test]
fn the_need_for_another_keepalive_outlives_an_answer() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        for at in [0, 1] {
            pair.run_until(secs(at));
            pair.send(Alice, 100);
        }
        pair.run_until(secs(2));
        pair.send(Bob, 100);
        pair.run_until(secs(3));
        pair.send(Alice, 100);
        pair.run_until(secs(100));
        assert_eq!(pair.sent(Bob, Msg::Keepalive), [secs(13), secs(23)]);
    });
}

/// A packet that is authentic but not for the user, such as one with a foreign source address, is
/// data all the same for the session.
#[test]
fn a_packet_that_is_dropped_after_its_tag_is_acknowledged() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        let mut foreign = packet(Alice, 100);
        foreign[12] = 99;
        let now = pair.now;
        let (_, bytes) = pair[Alice].seal(now, &foreign).unwrap();
        let (at, source) = (pair.elapsed(), Alice.addr());
        pair.deliver(Datagram {
            at,
            from: Alice,
            source,
            bytes,
        });
        assert_eq!(pair.rejected.len(), 1);
        pair.run_until(secs(60));
        assert_eq!(pair.sent(Bob, Msg::Keepalive), [secs(10)]);
    });
}

/// Section 6.6 and the kernel: a persistent keepalive goes out at once when it is switched on, and
/// then exactly after each interval of silence.
#[test]
fn persistent_keepalive_fires_at_once_and_then_at_the_interval() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(3));
        let now = pair.now;
        pair[Alice].set_persistent_keepalive(now, 25);
        pair.run_until(secs(28) - NANO);
        assert_eq!(pair.sent(Alice, Msg::Keepalive), [secs(3)]);
        pair.run_until(secs(83));
        assert_eq!(
            pair.sent(Alice, Msg::Keepalive),
            [secs(3), secs(28), secs(53), secs(78)]
        );
        assert_eq!(pair.log.len(), 4, "nobody answers them");
    });
}

/// Without a session the same starts a handshake.
#[test]
fn persistent_keepalive_starts_a_handshake_at_once() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [25, 0],
            ..setup
        }
        .build();
        pair.settle();
        let now = pair.now;
        assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(0)]);
        assert!(pair[Alice].is_established(now) && pair[Bob].is_established(now));
        pair.clear_log();
        pair.run_until(secs(80));
        assert_eq!(pair.sent(Alice, Msg::Keepalive), every(25, 80));
    });
}

/// Zero is off, at once.
#[test]
fn persistent_keepalive_can_be_switched_off() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [25, 0],
            ..setup
        }
        .build();
        pair.run_until(secs(20));
        pair.clear_log();
        let now = pair.now;
        pair[Alice].set_persistent_keepalive(now, 0);
        pair.run_until(secs(1200));
        assert!(pair.log.is_empty() && pair.next_deadline().is_none());
    });
}

/// Kernel: setting another interval while it is on sends nothing, and takes effect with the next
/// authentic packet.
#[test]
fn another_interval_holds_from_the_next_packet_on() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [25, 0],
            ..setup
        }
        .build();
        pair.run_until(secs(1));
        pair.clear_log();
        let now = pair.now;
        pair[Alice].set_persistent_keepalive(now, 10);
        pair.run_until(secs(60));
        assert_eq!(pair.sent(Alice, Msg::Keepalive), [25, 35, 45, 55].map(secs));
    });
}

/// Kernel: it measures silence. Sending it although the tunnel is busy, as a periodic timer would,
/// costs battery and shows a pattern.
#[test]
fn any_traffic_puts_the_persistent_keepalive_off() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        let now = pair.now;
        pair[Alice].set_persistent_keepalive(now, 25);
        pair.settle();
        pair.clear_log();
        // Data sent, data received (acknowledged by a keepalive at 56), a keepalive received.
        pair.run_until(secs(20));
        pair.send(Alice, 100);
        pair.run_until(secs(21));
        pair.send(Bob, 100);
        pair.run_until(secs(46));
        let now = pair.now;
        let keepalives = pair.sent(Alice, Msg::Keepalive);
        assert_eq!(keepalives, [secs(31)], "the passive one, for Bob's packet");
        pair[Bob].set_persistent_keepalive(now, 60);
        pair.run_until(secs(71) - NANO);
        assert_eq!(pair.sent(Alice, Msg::Keepalive), [secs(31)]);
        pair.run_until(secs(71));
        assert_eq!(pair.sent(Alice, Msg::Keepalive), [secs(31), secs(71)]);
    });
}

/// Handshake messages are authentic and put it off as well.
#[test]
fn a_handshake_puts_the_persistent_keepalive_off() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [0, 25],
            ..setup
        }
        .build();
        pair.settle();
        pair.run_until(secs(20));
        pair.clear_log();
        pair.on_wire(|_, msg| match msg {
            Msg::Initiation => Fate::Deliver,
            _ => Fate::Lose,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        pair.cut(Alice);
        pair.run_until(secs(46));
        assert_eq!(pair.sent(Bob, Msg::Keepalive), [secs(45)]);
    });
}

/// When both keepalives are due one of them is enough.
#[test]
fn passive_and_persistent_do_not_double() {
    on_both(|setup| {
        for interval in [3, 9, 10] {
            let mut pair = setup.build();
            pair.establish();
            let now = pair.now;
            pair[Bob].set_persistent_keepalive(now, interval);
            pair.settle();
            pair.clear_log();
            pair.send(Alice, 100);
            pair.run_until(secs(60));
            let expected = every(u64::from(interval), 60);
            assert_eq!(pair.sent(Bob, Msg::Keepalive), expected, "{interval}");
        }
    });
}

/// A handshake that was given up is tried again by the persistent keepalive, for ever. Otherwise a
/// machine behind a NAT is lost when its server was away for two minutes.
#[test]
fn persistent_keepalive_revives_after_give_up() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [25, 0],
            ..setup
        }
        .build();
        pair.cut(Alice);
        pair.run_until(secs(3600));
        let sent = pair.sent(Alice, Msg::Initiation);
        let longest = sent.windows(2).map(|two| two[1] - two[0]).max();
        assert_eq!(longest, Some(secs(25)));
        // A round is 19 repetitions of 5 s and a jitter, and a pause of 25 s.
        assert!((560..610).contains(&sent.len()), "{}", sent.len());
        pair.mend();
        pair.run_for(secs(25));
        let now = pair.now;
        assert!(pair[Alice].is_established(now));
    });
}

/// An interval shorter than the retransmission's keeps the count of attempts at the beginning, so
/// there is no give-up to revive from.
#[test]
fn a_short_persistent_keepalive_never_gives_up() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [1, 0],
            ..setup
        }
        .build();
        pair.cut(Alice);
        pair.run_until(secs(1800));
        let sent = pair.sent(Alice, Msg::Initiation);
        assert!(sent.windows(2).all(|two| two[1] - two[0] < millis(5334)));
        assert!(sent.len() > 330 && *sent.last().unwrap() > secs(1790));
    });
}

/// Erasing keys is no end of the configuration: the keepalive goes on and brings a new session.
#[test]
fn persistent_keepalive_revives_after_erase() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [25, 0],
            ..setup
        }
        .build();
        pair.run_until(secs(10));
        let now = pair.now;
        pair[Alice].erase(now);
        pair.clear_log();
        pair.run_until(secs(35) - NANO);
        assert!(pair.log.is_empty());
        pair.run_until(secs(35));
        assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(35)]);
    });
}

/// A persistent keepalive of the initiator keeps the session fresh for hours without any data.
#[test]
fn persistent_keepalive_keeps_a_session_for_hours() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [25, 0],
            ..setup
        }
        .build();
        for step in 1..=120 {
            pair.run_until(secs(60 * step));
            let now = pair.now;
            assert!(pair[Alice].is_established(now) && pair[Bob].is_established(now));
        }
        // The first keepalive after 120 s is the one at 125 s.
        assert_eq!(pair.sent(Alice, Msg::Initiation).len(), 1 + 7200 / 125);
    });
}

/// A response is an authentic message too: it takes the keepalive's place.
#[test]
fn a_response_replaces_the_keepalive() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(20));
        pair.send(Alice, 100);
        pair.run_until(secs(25));
        // Alice's confirmation of the new session is lost, so nothing but the response is due.
        pair.on_wire(|from, msg| match (from, msg) {
            (Alice, Msg::Keepalive) => Fate::Lose,
            _ => Fate::Deliver,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        pair.run_until(secs(31));
        assert_eq!(pair.sent(Bob, Msg::Response).len(), 1);
        assert!(pair.sent(Bob, Msg::Keepalive).is_empty());
    });
}

/// An initiation of the other side is a sign of life: data that was sent does not wait any more.
#[test]
fn an_initiation_received_ends_the_wait() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(20));
        pair.cut(Alice);
        pair.send(Alice, 100);
        pair.run_until(secs(29));
        let now = pair.now;
        pair[Bob].initiate(now);
        pair.settle();
        assert_eq!(pair.sent(Bob, Msg::Initiation).len(), 1);
        pair.cut(Bob);
        pair.run_until(secs(36));
        assert!(pair.sent(Alice, Msg::Initiation).is_empty());
    });
}

/// What was asked for before an erasure is not sent after it.
#[test]
fn an_erasure_forgets_what_was_asked_for() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(20));
        let now = pair.now;
        pair[Alice].initiate(now);
        pair[Alice].erase(now);
        pair.run_until(secs(40));
        assert!(pair.sent(Alice, Msg::Initiation).is_empty());
    });
}

/// After the last attempt no keepalive is due either, although data came in just before.
#[test]
fn giving_up_stops_the_keepalive() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(10));
        pair.on_wire(|_, msg| match msg {
            Msg::Initiation => Fate::Lose,
            _ => Fate::Deliver,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        while pair.sent(Alice, Msg::Initiation).len() < 20 {
            pair.advance_to_next_deadline().unwrap();
        }
        let last = pair.elapsed();
        pair.run_until(last + secs(1));
        pair.send(Bob, 100);
        pair.run_until(last + secs(6));
        assert_eq!(pair.saw(Alice, Event::HandshakeGivenUp).len(), 1);
        pair.run_until(last + secs(13));
        assert!(pair.sent(Alice, Msg::Keepalive).is_empty());
    });
}
