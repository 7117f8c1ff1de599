//! How long a session lives: refusal at 180 s, erasure at 540 s, and what bridges two sessions
//! (white paper, sections 5.4.6, 6.1 and 6.3). Each rule on a `Tunnel` and on an `Interface`.

use quietwire::{Event, Rejected, SealError};

use crate::support::*;

const REJECT_AFTER: u64 = 180;

/// Seals a packet without sending it.
fn sealed(pair: &mut Pair, from: Side) -> Datagram {
    let (now, at) = (pair.now, pair.elapsed());
    let (_, bytes) = pair[from].seal(now, &packet(from, 60)).unwrap();
    Datagram {
        at,
        from,
        source: from.addr(),
        bytes,
    }
}

/// A session does not send at 180 s, even if nobody has called `handle_timeout` since it began.
#[test]
fn no_session_sends_at_180_s_though_no_timer_ran() {
    on_both(|setup| {
        for side in Side::BOTH {
            let mut pair = setup.build();
            pair.establish();
            let start = pair.now;
            let late = start + secs(REJECT_AFTER);
            let last = start + (secs(REJECT_AFTER) - NANO);
            assert!(pair[side].is_established(last) && !pair[side].is_established(late));
            pair[side].seal(last, &packet(side, 60)).unwrap();
            let refused = pair[side].seal(late, &packet(side, 60));
            assert_eq!(refused.unwrap_err(), SealError::NoSession, "{side:?}");
        }
    });
}

/// Nor does it receive.
#[test]
fn no_session_receives_at_180_s_though_no_timer_ran() {
    on_both(|setup| {
        for side in Side::BOTH {
            let mut pair = setup.build();
            pair.establish();
            let start = pair.now;
            let mut first = sealed(&mut pair, side).bytes;
            let mut second = sealed(&mut pair, side).bytes;
            let other = side.other();
            let last = start + (secs(REJECT_AFTER) - NANO);
            assert!(pair[other].receive(last, side.addr(), &mut first).is_ok());
            let late = start + secs(REJECT_AFTER);
            let refused = pair[other].receive(late, side.addr(), &mut second);
            assert_eq!(refused, Err(Rejected::SessionExpired), "{side:?}");
        }
    });
}

/// The responder's session begins when it sends the response, the initiator's when it arrives: the
/// age is each side's own.
#[test]
fn each_side_counts_the_age_from_its_own_handshake_message() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|from, _| match from {
            Bob => Fate::Delay(secs(4)),
            Alice => Fate::Deliver,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.run_until(secs(4));
        let late = now + secs(180);
        assert!(pair[Alice].is_established(late) && !pair[Bob].is_established(late));
        assert!(!pair[Alice].is_established(now + secs(184)));
    });
}

/// Packets are sent up to the end of a session. Ending it early on one side lost the packets that
/// another implementation's users sent in its last ten seconds.
#[test]
fn packets_of_the_last_ten_seconds_arrive() {
    on_both(|setup| {
        for side in Side::BOTH {
            let mut pair = setup.build();
            pair.establish();
            pair.on_wire(|_, msg| match msg {
                Msg::Initiation => Fate::Lose,
                _ => Fate::Deliver,
            });
            for at in [171_000, 175_000, 179_900] {
                pair.run_until(millis(at));
                pair.send(side, 100);
            }
            assert_eq!(pair.received.len(), 3, "{side:?}");
        }
    });
}

/// A packet that comes too late for the session waits for the next one, and is not lost.
#[test]
fn a_packet_at_180_s_waits_for_the_next_session() {
    on_both(|setup| {
        for side in Side::BOTH {
            let mut pair = setup.build();
            pair.establish();
            pair.run_until(secs(REJECT_AFTER));
            pair.send(side, 100);
            assert_eq!(pair.sent(side, Msg::Initiation), [secs(180)]);
            assert_eq!(pair.received.len(), 1);
        }
    });
}

/// The end of a session that nothing replaced is an event; so is the erasure of its keys, 540 s
/// after they were made and not a nanosecond earlier.
#[test]
fn expiry_at_180_s_and_erasure_at_540_s() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(540) - NANO);
        let expired = [Alice, Bob].map(|side| (secs(180), side, Event::SessionExpired));
        assert_eq!(pair.events, expired);
        pair.clear_log();
        pair.run_until(secs(540));
        let erased = [Alice, Bob].map(|side| (secs(540), side, Event::KeysErased));
        assert_eq!(pair.events, erased);
        assert_eq!(pair.next_deadline(), None);
        assert!(pair.log.is_empty());
    });
}

/// A session that was replaced in time does not expire, and each new one puts the erasure off.
#[test]
fn a_new_session_puts_expiry_and_erasure_off() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(130));
        pair.send(Alice, 100);
        pair.run_until(secs(1000));
        for side in Side::BOTH {
            assert_eq!(pair.saw(side, Event::SessionExpired), [secs(310)]);
            assert_eq!(pair.saw(side, Event::KeysErased), [secs(670)]);
        }
    });
}

/// An attempt that nobody answers does not put the erasure off.
#[test]
fn a_vain_handshake_does_not_put_the_erasure_off() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.cut(Alice);
        pair.run_until(secs(400));
        pair.send(Alice, 100);
        pair.run_until(secs(1000));
        assert_eq!(pair.saw(Alice, Event::HandshakeGivenUp).len(), 1);
        assert_eq!(pair.saw(Alice, Event::KeysErased), [secs(540)]);
    });
}

/// A responder that is never confirmed erases its unused session as well.
#[test]
fn an_unconfirmed_session_is_erased() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|from, msg| match (from, msg) {
            (Alice, Msg::Initiation) => Fate::Deliver,
            _ => Fate::Lose,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        pair.cut(Alice);
        pair.run_until(secs(2000));
        assert!(pair.saw(Bob, Event::Established).is_empty());
        assert!(
            pair.saw(Bob, Event::SessionExpired).is_empty(),
            "it was never current"
        );
        assert_eq!(pair.saw(Bob, Event::KeysErased), [secs(540)]);
        assert!(pair.sent(Bob, Msg::Initiation).is_empty());
    });
}

/// One late call sees everything that was missed, in the order of a life: expired, then erased.
#[test]
fn one_late_poll_sees_expiry_and_erasure() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.now = pair.now + secs(4 * 180);
        let now = pair.now;
        pair[Alice].handle_timeout(now);
        pair.settle();
        let events: Vec<_> = pair.events.iter().map(|entry| entry.2).collect();
        assert_eq!(events, [Event::SessionExpired, Event::KeysErased]);
    });
}

/// The life of a session as a user sees it, each step once.
#[test]
fn events_of_a_life_come_in_order_and_once() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.send(Alice, 100);
        pair.send(Alice, 100);
        pair.send(Bob, 100);
        pair.run_until(secs(1000));
        for side in Side::BOTH {
            let of_side = |entry: &&(_, Side, _)| entry.1 == side;
            let events: Vec<_> = pair.events.iter().filter(of_side).map(|e| e.2).collect();
            let expected = [Event::Established, Event::SessionExpired, Event::KeysErased];
            assert_eq!(events, expected, "{side:?}");
        }
    });
}

/// Section 5.4.6: the responder must not send under a session before the initiator has used it.
#[test]
fn the_responder_waits_for_the_confirmation() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|_, msg| match msg {
            Msg::Keepalive => Fate::Hold,
            _ => Fate::Deliver,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        assert!(pair[Alice].is_established(now) && !pair[Bob].is_established(now));
        pair.send(Bob, 100);
        assert!(pair.sent(Bob, Msg::Data).is_empty());
        let confirmation = pair.held.pop_front().unwrap();
        pair.deliver(confirmation);
        pair.settle();
        assert_eq!(pair.received.len(), 1, "and what waited goes out");
    });
}

/// Until then the old session goes on in both directions.
#[test]
fn the_old_session_works_until_the_new_one_is_confirmed() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(130));
        pair.on_wire(|from, msg| match (from, msg) {
            (Alice, Msg::Keepalive) => Fate::Hold,
            _ => Fate::Deliver,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        assert_eq!(pair.held.len(), 1);
        pair.send(Bob, 100);
        assert_eq!(pair.received.len(), 1, "Bob sends under the old session");
        pair.send(Alice, 100);
        assert_eq!(pair.received.len(), 2, "Alice confirms with data");
        assert_eq!(pair.saw(Bob, Event::Established).len(), 1);
    });
}

/// Packets under the previous session that were overtaken by a new handshake still arrive.
#[test]
fn packets_overtaken_by_a_handshake_arrive() {
    on_both(|setup| {
        for side in Side::BOTH {
            let mut pair = setup.build();
            pair.establish();
            pair.run_until(secs(100));
            let overtaken = sealed(&mut pair, side);
            let now = pair.now;
            pair[Alice].initiate(now);
            pair.settle();
            pair.deliver(overtaken);
            assert_eq!(pair.received.len(), 1, "{side:?}");
        }
    });
}

/// With two handshakes behind it a session is gone.
#[test]
fn packets_of_the_session_before_the_previous_do_not_arrive() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        let overtaken = sealed(&mut pair, Alice);
        for at in [20, 40] {
            pair.run_until(secs(at));
            let now = pair.now;
            pair[Alice].initiate(now);
            pair.settle();
        }
        pair.deliver(overtaken);
        assert_eq!(pair.rejected.last().unwrap().2, Rejected::UnknownReceiver);
    });
}

/// A replaced session that only receives ends at 180 s like any other.
#[test]
fn the_previous_session_expires_too() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(170));
        let overtaken = [sealed(&mut pair, Alice), sealed(&mut pair, Alice)];
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        let [first, second] = overtaken;
        pair.run_until(secs(180) - NANO);
        pair.deliver(first);
        pair.run_until(secs(180));
        pair.deliver(second);
        assert_eq!(pair.received.len(), 1);
        assert_eq!(pair.rejected[0].2, Rejected::SessionExpired);
    });
}

/// Handshakes whose initiator nobody hears from again do not disturb the session in use, however
/// many there are.
#[test]
fn unconfirmed_sessions_never_replace_the_current_one() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.on_wire(|from, msg| match (from, msg) {
            (Bob, Msg::Response) => Fate::Lose,
            _ => Fate::Deliver,
        });
        for at in 0..10 {
            pair.run_until(secs(6 * (at + 1)));
            let now = pair.now;
            pair[Alice].initiate(now);
            pair.settle();
            pair.send(Alice, 100);
            pair.send(Bob, 100);
        }
        assert!(pair.sent(Bob, Msg::Response).len() >= 10);
        assert_eq!(pair.received.len(), 20);
        assert!(pair.saw(Bob, Event::Established).is_empty());
    });
}

/// Twelve sessions in a row, started by either side, lose nothing.
#[test]
fn twelve_rekeys_keep_connectivity() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|_, _| Fate::Delay(millis(40)));
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.run_until(secs(1));
        for round in 0..12 {
            let initiator = Side::BOTH[round % 2];
            let now = pair.now;
            pair[initiator].initiate(now);
            for _ in 0..20 {
                pair.send(Alice, 100);
                pair.send(Bob, 100);
                pair.run_for(millis(10));
            }
            pair.run_for(secs(6));
        }
        assert_eq!(pair.received.len(), 12 * 40);
        assert!(pair.rejected.is_empty(), "{:?}", pair.rejected);
    });
}

/// A responder whose confirmation got lost is confirmed by whatever comes first.
#[test]
fn a_lost_confirmation_is_made_good_by_data() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|_, msg| match msg {
            Msg::Keepalive => Fate::Lose,
            _ => Fate::Deliver,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.run_until(secs(30));
        pair.send(Alice, 100);
        assert_eq!(pair.saw(Bob, Event::Established), [secs(30)]);
        assert_eq!(pair.sent(Alice, Msg::Initiation).len(), 1);
    });
}
