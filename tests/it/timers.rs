//! When handshakes are started, repeated and given up (white paper, sections 6.1 to 6.4; the order
//! and the numbers are the Linux kernel's). Each rule on a `Tunnel` and on an `Interface`.

use std::time::Duration;

use quietwire::{Event, Rejected};

use crate::support::*;

const REKEY_TIMEOUT: Duration = secs(5);
/// A third of a second: the kernel draws from `0..HZ / 3` jiffies.
const MAX_JITTER: Duration = millis(334);
/// The first, the second, and 18 more (`MAX_TIMER_HANDSHAKES`).
const INITIATIONS: usize = 20;

fn gaps(times: &[Duration]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// At `from` or up to the jitter later.
fn is_jittered(time: Duration, from: Duration) -> bool {
    time >= from && time < from + MAX_JITTER
}

/// Section 5.4.6: the initiator confirms a session at once, with an empty packet if need be.
#[test]
fn initiator_confirms_at_once() {
    on_both(|setup| {
        let mut pair = setup.build();
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        let kinds: Vec<_> = pair.log.iter().map(|d| (d.from, d.msg())).collect();
        let expected = [
            (Alice, Msg::Initiation),
            (Bob, Msg::Response),
            (Alice, Msg::Keepalive),
        ];
        assert_eq!(kinds, expected);
        assert!(pair.elapsed().is_zero());
    });
}

/// Kernel: packets that waited are the confirmation; no keepalive goes out beside them.
#[test]
fn staged_packets_confirm_in_place_of_a_keepalive() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.send(Alice, 100);
        assert_eq!(pair.sent(Alice, Msg::Data).len(), 1);
        assert!(pair.sent(Alice, Msg::Keepalive).is_empty());
        assert_eq!(pair.received.len(), 1);
        assert_eq!(pair.saw(Bob, Event::Established), [secs(0)]);
    });
}

/// Section 6.4 and the kernel's counter: 20 initiations 5 s and a jitter apart, and then silence.
#[test]
fn twenty_initiations_then_silence() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.cut(Alice);
        pair.send(Alice, 100);
        pair.run_until(secs(3600));
        let sent = pair.sent(Alice, Msg::Initiation);
        assert_eq!((sent.len(), pair.log.len()), (INITIATIONS, INITIATIONS));
        assert_eq!(sent[0], secs(0));
        for gap in gaps(&sent) {
            assert!(is_jittered(gap, REKEY_TIMEOUT), "{gap:?}");
        }
        let given_up = pair.saw(Alice, Event::HandshakeGivenUp);
        assert_eq!(given_up.len(), 1);
        assert!(is_jittered(given_up[0] - sent[19], REKEY_TIMEOUT));
        assert_eq!(pair.events.len(), 1, "{:?}", pair.events);
        assert_eq!(pair.next_deadline(), None, "an idle peer has no deadline");
    });
}

/// Four initiations fit into the first 18 s.
#[test]
fn four_initiations_in_eighteen_seconds() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.cut(Alice);
        pair.send(Alice, 100);
        pair.run_until(secs(18));
        assert_eq!(pair.sent(Alice, Msg::Initiation).len(), 4);
    });
}

/// Nothing is terminal: after a give-up the next packet begins again, with 20 new attempts.
#[test]
fn packet_after_give_up_starts_again() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.cut(Alice);
        pair.send(Alice, 100);
        pair.run_until(secs(200));
        pair.clear_log();
        pair.send(Alice, 100);
        pair.run_until(secs(3600));
        let sent = pair.sent(Alice, Msg::Initiation);
        assert_eq!((sent[0], sent.len()), (secs(200), INITIATIONS));
        pair.mend();
        pair.send(Alice, 100);
        assert_eq!(pair.received.len(), 1);
    });
}

/// A fixed retry interval lets peers that lost each other at once stay in step.
#[test]
fn jitter_varies_and_differs_by_seed() {
    on_both(|setup| {
        let mut all = Vec::new();
        for seed in 0..8 {
            let mut pair = Setup {
                seed,
                ..setup.clone()
            }
            .build();
            pair.cut(Alice);
            pair.send(Alice, 100);
            pair.run_until(secs(120));
            all.extend(gaps(&pair.sent(Alice, Msg::Initiation)));
        }
        let (min, max) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        assert!(*min < REKEY_TIMEOUT + millis(20), "{min:?}");
        assert!(*max > REKEY_TIMEOUT + millis(310), "{max:?}");
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!((count, all.len()), (8 * 19, 8 * 19), "no two are the same");
    });
}

/// One seed decides everything, down to the bytes; another seed changes the schedule.
#[test]
fn a_seed_replays_a_run() {
    on_both(|setup| {
        let run = |seed| {
            let mut pair = Setup {
                seed,
                ..setup.clone()
            }
            .build();
            pair.send(Alice, 100);
            pair.cut(Bob);
            pair.send(Alice, 100);
            pair.run_until(secs(60));
            let log: Vec<_> = pair.log.iter().map(|d| (d.at, d.bytes.clone())).collect();
            log
        };
        let times = |log: &[(Duration, Vec<u8>)]| log.iter().map(|d| d.0).collect::<Vec<_>>();
        assert!(run(3).len() > 6);
        assert_eq!(run(3), run(3));
        assert_ne!(times(&run(3)), times(&run(4)));
    });
}

/// Kernel: a packet of the user resets the counter of attempts but does not send ahead of time.
#[test]
fn user_packet_restarts_the_count_of_attempts() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.cut(Alice);
        pair.send(Alice, 100);
        pair.run_until(secs(50));
        while pair.sent(Alice, Msg::Initiation).last() != Some(&pair.elapsed()) {
            pair.advance_to_next_deadline();
        }
        pair.run_for(secs(1));
        pair.clear_log();
        pair.send(Alice, 100);
        assert!(pair.log.is_empty());
        pair.run_until(secs(3600));
        assert_eq!(pair.sent(Alice, Msg::Initiation).len(), INITIATIONS - 1);
    });
}

/// Section 6.4: initiations are at least `REKEY_TIMEOUT` apart whoever asks for them, and may go
/// out at the very end of it.
#[test]
fn initiations_are_five_seconds_apart_whoever_asks() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.cut(Alice);
        for step in 0..=120 {
            pair.run_until(millis(100 * step));
            let now = pair.now;
            pair[Alice].initiate(now);
            pair.send(Alice, 60);
        }
        assert_eq!(
            pair.sent(Alice, Msg::Initiation),
            [secs(0), secs(5), secs(10)]
        );
    });
}

/// Kernel: `last_sent_handshake` is set by responses as well.
#[test]
fn a_response_counts_as_a_handshake_message() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|from, msg| match (from, msg) {
            (Bob, Msg::Response) => Fate::Lose,
            _ => Fate::Deliver,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        pair.cut(Alice);
        pair.run_until(secs(5) - NANO);
        pair.send(Bob, 100);
        assert!(pair.sent(Bob, Msg::Initiation).is_empty());
        pair.run_until(secs(5));
        pair.send(Bob, 100);
        assert_eq!(pair.sent(Bob, Msg::Initiation), [secs(5)]);
    });
}

/// The spacing is asked again when the message is built: between the request and the building a
/// response may have gone out.
#[test]
fn a_response_overtakes_the_initiation_asked_for() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|_, _| Fate::Hold);
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        let initiation = pair.held.pop_front().unwrap();
        pair[Bob].initiate(now);
        pair.deliver(initiation);
        assert_eq!(pair.sent(Bob, Msg::Response).len(), 1);
        assert!(pair.sent(Bob, Msg::Initiation).is_empty());
    });
}

/// A response completes the handshake as long as no newer initiation has replaced it, and stops the
/// repetition.
#[test]
fn a_late_response_completes() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|from, _| match from {
            Bob => Fate::Delay(millis(4900)),
            Alice => Fate::Deliver,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.run_until(secs(20));
        assert_eq!(pair.saw(Alice, Event::Established), [millis(4900)]);
        assert_eq!(pair.sent(Alice, Msg::Initiation).len(), 1);
    });
}

/// The answer to an initiation that was repeated since is not accepted: there is one at a time.
#[test]
fn a_response_to_a_replaced_initiation_is_dropped() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|from, _| match from {
            Bob => Fate::Hold,
            Alice => Fate::Deliver,
        });
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.run_until(secs(6));
        let stale = pair.held.pop_front().unwrap();
        pair.deliver(stale);
        assert_eq!(pair.rejected[0].2, Rejected::UnknownReceiver);
        let fresh = pair.held.pop_front().unwrap();
        pair.deliver(fresh);
        assert_eq!(pair.saw(Alice, Event::Established), [secs(6)]);
    });
}

/// Kernel: a give-up leaves the last handshake in place, so an answer that comes late is welcome.
/// It is erased 540 s later.
#[test]
fn the_last_initiation_can_be_answered_until_it_is_erased() {
    on_both(|setup| {
        for (wait, is_welcome) in [(secs(540) - NANO, true), (secs(540), false)] {
            let mut pair = setup.build();
            pair.on_wire(|from, _| match from {
                Bob => Fate::Hold,
                Alice => Fate::Deliver,
            });
            let now = pair.now;
            pair[Alice].initiate(now);
            pair.run_until(secs(200));
            let given_up = pair.saw(Alice, Event::HandshakeGivenUp)[0];
            pair.run_until(given_up + wait);
            let last = pair.held.pop_back().unwrap();
            assert_eq!(last.msg(), Msg::Response);
            pair.deliver(last);
            let now = pair.now;
            assert_eq!(pair[Alice].is_established(now), is_welcome);
        }
    });
}

/// Kernel: a retransmission falls out when a response was sent meanwhile, since the peer is about to
/// confirm that handshake.
#[test]
fn a_handshake_in_the_other_direction_ends_the_repetition() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.cut(Alice);
        pair.send(Alice, 100);
        pair.run_until(secs(2));
        pair.mend();
        let now = pair.now;
        pair[Bob].initiate(now);
        pair.settle();
        assert_eq!(pair.saw(Alice, Event::Established), [secs(2)]);
        assert_eq!(pair.received.len(), 1, "what was staged went out");
        pair.run_until(secs(100));
        assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(0)]);
    });
}

/// Ten minutes of traffic both ways, over a wire of 30 ms, after initiations that cross.
fn cross(mut pair: Pair, offset: Duration) -> usize {
    pair.on_wire(|_, _| Fate::Delay(millis(30)));
    let now = pair.now;
    pair[Alice].initiate(now);
    pair[Bob].initiate(now);
    pair.settle();
    for step in 1..=600 {
        pair.run_until(secs(step));
        pair.send(Alice, 100);
        pair.run_for(offset);
        pair.send(Bob, 100);
    }
    pair.run_for(secs(1));
    assert_eq!(pair.received.len(), 1200, "{:?}", pair.rejected);
    let initiations = Side::BOTH.map(|side| pair.sent(side, Msg::Initiation).len());
    initiations.iter().sum()
}

/// Both sides initiate at the same moment: two sessions result, and no packet is lost. Even if the
/// two go on in step for ever, there are no more than two handshakes every 120 s.
#[test]
fn crossed_initiations_lose_nothing() {
    on_both(|setup| {
        let initiations = cross(setup.build(), millis(13));
        assert!(initiations <= 2 * 5, "{initiations}");
    });
}

/// Once one side's initiation arrives before the other side asks for its own, one of them is left.
#[test]
fn crossed_initiations_fall_out_of_step() {
    on_both(|setup| {
        let initiations = cross(setup.build(), millis(100));
        assert!(initiations <= 2 + 4, "{initiations}");
    });
}

/// Section 6.2: the initiator replaces a session of 120 s when it sends, not earlier and not by
/// itself.
#[test]
fn initiator_rekeys_when_sending_at_120_s() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(120) - NANO);
        pair.send(Alice, 100);
        assert!(pair.sent(Alice, Msg::Initiation).is_empty());
        pair.run_until(secs(120));
        assert!(
            pair.sent(Alice, Msg::Initiation).is_empty(),
            "only on sending"
        );
        pair.send(Alice, 100);
        assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(120)]);
        assert_eq!(pair.received.len(), 2);
    });
}

/// The same on sending a keepalive: the rule speaks of any transport message.
#[test]
fn initiator_rekeys_when_sending_a_keepalive_after_120_s() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(125));
        pair.send(Bob, 100);
        assert!(pair.sent(Alice, Msg::Initiation).is_empty());
        pair.run_until(secs(140));
        assert_eq!(pair.sent(Alice, Msg::Keepalive)[0], secs(135));
        assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(135)]);
    });
}

/// Both sides rekeying by age is what makes handshakes cross; the responder does not.
#[test]
fn responder_never_rekeys_by_age() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(119));
        pair.send(Bob, 100);
        pair.cut(Alice);
        for at in [121, 150, 160, 164, 166, 170, 179] {
            pair.run_until(secs(at));
            pair.send(Bob, 100);
            // Something authentic comes back, so that the silence is not the reason.
            pair.mend();
            pair.on_wire(|_, msg| match msg {
                Msg::Initiation => Fate::Lose,
                _ => Fate::Deliver,
            });
            pair.send(Alice, 100);
        }
        assert!(pair.sent(Bob, Msg::Initiation).is_empty());
    });
}

/// Section 6.2: an initiator that only receives asks for a new session at 165 s, early enough for
/// the other side to go on without a gap.
#[test]
fn receiving_initiator_rekeys_at_165_s() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(165) - NANO);
        pair.send(Bob, 100);
        assert!(pair.sent(Alice, Msg::Initiation).is_empty());
        pair.run_until(secs(165));
        pair.send(Bob, 100);
        assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(165)]);
    });
}

/// Once per session: packets that go on arriving do not ask again, so retransmissions keep their
/// jitter.
#[test]
fn receiving_initiator_asks_once_per_session() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.cut(Alice);
        for step in 0..=70 {
            pair.run_until(secs(165) + millis(100 * step));
            pair.send(Bob, 100);
        }
        let sent = pair.sent(Alice, Msg::Initiation);
        assert_eq!(sent.len(), 2);
        assert!(sent[1] > secs(170) && is_jittered(sent[1], secs(170)));
    });
}

/// The next session asks again.
#[test]
fn receiving_initiator_asks_again_for_the_next_session() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        for at in [165, 330] {
            pair.run_until(secs(at));
            pair.send(Bob, 100);
        }
        let sent = pair.sent(Alice, Msg::Initiation);
        assert_eq!(sent, [secs(165), secs(330)]);
    });
}

/// A responder that only receives leaves it to the initiator.
#[test]
fn receiving_responder_does_not_rekey() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.on_wire(|_, msg| match msg {
            Msg::Initiation => Fate::Lose,
            _ => Fate::Deliver,
        });
        pair.run_until(secs(169));
        pair.send(Alice, 100);
        pair.run_until(secs(179));
        assert_eq!(pair.received.len(), 1);
        assert!(pair.sent(Bob, Msg::Initiation).is_empty());
    });
}

/// Section 6.3: data that nothing answers for 15 s (and a jitter) starts a handshake, measured from
/// the first unanswered packet. Restarting the clock with every packet would never notice a dead
/// peer while the user keeps sending.
#[test]
fn sending_into_a_void_is_noticed_15_s_after_the_first_packet() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.cut(Bob);
        for at in 3..30 {
            pair.run_until(secs(at));
            pair.send(Alice, 100);
        }
        let sent = pair.sent(Alice, Msg::Initiation);
        assert!(is_jittered(sent[0], secs(18)), "{sent:?}");
        assert!(sent[0] > secs(18), "jittered");
    });
}

/// One packet is enough.
#[test]
fn one_unanswered_packet_is_noticed() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.cut(Bob);
        pair.send(Alice, 100);
        pair.run_until(secs(19));
        let sent = pair.sent(Alice, Msg::Initiation);
        assert_eq!(sent.len(), 1);
        assert!(is_jittered(sent[0], secs(15)));
    });
}

/// Anything authentic that comes back is an answer, a keepalive too; the next packet starts anew.
#[test]
fn any_answer_ends_the_wait() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.send(Alice, 100);
        pair.run_until(secs(12));
        assert_eq!(pair.sent(Bob, Msg::Keepalive), [secs(10)]);
        pair.cut(Bob);
        pair.send(Alice, 100);
        pair.run_until(secs(28));
        let sent = pair.sent(Alice, Msg::Initiation);
        assert_eq!(sent.len(), 1);
        assert!(is_jittered(sent[0], secs(27)));
    });
}

/// Keepalives are not data: nobody answers them, so nobody waits for an answer.
#[test]
fn keepalives_are_not_waited_for() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [5, 0],
            ..setup
        }
        .build();
        pair.settle();
        pair.cut(Bob);
        pair.clear_log();
        pair.run_until(secs(119));
        assert_eq!(pair.sent(Alice, Msg::Keepalive).len(), 23);
        assert!(pair.sent(Alice, Msg::Initiation).is_empty());
    });
}

/// Measuring silence from the last packet received makes the first packet after a pause look
/// unanswered, and starts a handshake for nothing.
#[test]
fn a_packet_after_a_pause_starts_no_handshake() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.on_wire(|_, _| Fate::Delay(millis(5)));
        pair.run_until(secs(60));
        pair.send(Alice, 100);
        pair.run_for(millis(5));
        pair.send(Bob, 100);
        pair.run_until(secs(119));
        assert!(pair.sent(Alice, Msg::Initiation).is_empty());
        assert!(pair.sent(Bob, Msg::Initiation).is_empty());
    });
}

/// After a pause of 140 s and traffic in both directions at once, one side rekeys, not both.
#[test]
fn traffic_both_ways_after_a_pause_makes_one_handshake() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.on_wire(|_, _| Fate::Delay(millis(20)));
        pair.run_until(secs(140));
        pair.send(Bob, 100);
        pair.send(Alice, 100);
        pair.run_until(secs(160));
        assert_eq!(pair.sent(Alice, Msg::Initiation).len(), 1);
        assert!(pair.sent(Bob, Msg::Initiation).is_empty());
        assert_eq!(pair.received.len(), 2);
    });
}

/// An hour of traffic takes one handshake per 120 s and loses nothing.
#[test]
fn an_hour_of_traffic_takes_thirty_handshakes() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|_, _| Fate::Delay(millis(10)));
        pair.send(Alice, 100);
        let mut sent = 1;
        for step in 0..3600 {
            pair.run_until(secs(step) + millis(500));
            for (side, every) in [(Alice, 3), (Bob, 7)] {
                if step % every == 0 {
                    pair.send(side, 100);
                    sent += 1;
                }
            }
        }
        pair.run_for(secs(1));
        assert_eq!(pair.received.len(), sent);
        assert!(pair.rejected.is_empty(), "{:?}", pair.rejected);
        let initiations = pair.sent(Alice, Msg::Initiation).len();
        assert!((29..=30).contains(&initiations), "{initiations}");
        assert!(pair.sent(Bob, Msg::Initiation).is_empty());
    });
}

/// A tunnel that nobody uses says nothing at all, and its last deadline passes.
#[test]
fn an_idle_tunnel_is_silent() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.run_until(secs(7200));
        assert!(pair.log.is_empty() && pair.next_deadline().is_none());
        let now = pair.now;
        pair[Alice].initiate(now);
        pair.settle();
        pair.clear_log();
        pair.run_for(secs(7200));
        assert!(pair.log.is_empty() && pair.next_deadline().is_none());
    });
}
