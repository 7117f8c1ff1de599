//! Clocks that misbehave, machines that sleep, and deadlines that must mean something.

use proptest::prelude::*;
use quietwire::{Event, Instant, Interface, PeerConfig, SealError};

use crate::support::*;

fn back(now: Instant, by: std::time::Duration) -> Instant {
    Instant::from_nanos(
        now.as_nanos()
            .saturating_sub(u64::try_from(by.as_nanos()).unwrap()),
    )
}

/// A monotonic clock that is not monotonic made others panic. Here it stands still until it has
/// caught up.
#[test]
fn a_clock_that_runs_backwards_stands_still() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(50));
        let latest = pair.now;
        for side in Side::BOTH {
            pair[side].handle_timeout(latest);
        }
        for step in [NANO, secs(1), secs(49), secs(1_000_000)] {
            pair.now = back(latest, step);
            let now = pair.now;
            pair[Alice].handle_timeout(now);
            pair.send(Alice, 100);
            assert!(pair[Alice].is_established(now));
            for side in Side::BOTH {
                assert!(pair[side].poll_timeout().unwrap() >= latest);
            }
        }
        assert_eq!(pair.received.len(), 4);
        pair.now = latest;
        pair.clear_log();
        pair.run_until(secs(100));
        assert_eq!(pair.sent(Bob, Msg::Keepalive), [secs(60), secs(70)]);
    });
}

/// Nothing that is limited by time can be done twice by turning the clock back.
#[test]
fn a_clock_that_runs_backwards_frees_no_initiation() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.cut(Alice);
        pair.run_until(secs(50));
        pair.send(Alice, 100);
        let latest = pair.now;
        pair.now = back(latest, secs(20));
        pair.send(Alice, 100);
        pair.now = latest + (secs(5) - NANO);
        pair.send(Alice, 100);
        assert_eq!(pair.sent(Alice, Msg::Initiation).len(), 1);
    });
}

/// A session's age is that of the latest clock, so turning it back revives none.
#[test]
fn a_clock_that_runs_backwards_revives_no_session() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        let start = pair.now;
        pair[Alice].handle_timeout(start + secs(180));
        let refused = pair[Alice].seal(start + secs(1), &packet(Alice, 60));
        assert_eq!(refused.unwrap_err(), SealError::NoSession);
        assert!(!pair[Alice].is_established(start));
    });
}

/// A jump of any width forward: what was due happens once, and the tunnel works on.
#[test]
fn a_clock_that_jumps_forward_is_survived() {
    on_both(|setup| {
        for jump in [secs(200), secs(86_400), secs(10 * 365 * 86_400)] {
            let mut pair = Setup {
                keepalive: [25, 0],
                ..setup.clone()
            }
            .build();
            pair.settle();
            pair.send(Alice, 100);
            pair.clear_log();
            pair.now = pair.now + jump;
            let now = pair.now;
            Side::BOTH
                .into_iter()
                .for_each(|side| pair[side].handle_timeout(now));
            pair.settle();
            assert_eq!(pair.sent(Alice, Msg::Initiation).len(), 1);
            assert!(pair[Alice].is_established(now) && pair[Bob].is_established(now));
            let keepalives = Side::BOTH.map(|side| pair.sent(side, Msg::Keepalive).len());
            assert!(keepalives <= [1, 1], "a backlog: {keepalives:?}");
        }
    });
}

/// The very end of the clock: no panic, no deadline that never ends.
#[test]
fn the_end_of_time_is_survived() {
    on_both(|setup| {
        for before_end in [0, 1, 1_000_000_000, 20_000_000_000] {
            let mut pair = Setup {
                keepalive: [25, 10],
                ..setup.clone()
            }
            .build();
            pair.settle();
            pair.send(Alice, 100);
            pair.now = Instant::from_nanos(u64::MAX - before_end);
            let now = pair.now;
            for _ in 0..3 {
                Side::BOTH
                    .into_iter()
                    .for_each(|side| pair[side].handle_timeout(now));
                pair.send(Alice, 100);
                pair.send(Bob, 100);
            }
            for side in Side::BOTH {
                assert!(pair[side].poll_timeout().is_none_or(|at| at > now));
            }
        }
    });
}

/// The machine slept. Keys are erased, and a session that was alive is replaced at once, whatever
/// handshake was sent shortly before.
#[test]
fn resume_replaces_a_session_at_once() {
    on_both(|setup| {
        for sleep in [millis(20), secs(1), secs(600), secs(86_400)] {
            let mut pair = setup.build();
            pair.establish();
            pair.now = pair.now + sleep;
            let now = pair.now;
            pair[Alice].on_resume(now);
            assert!(!pair[Alice].is_established(now));
            pair.settle();
            assert_eq!(pair.sent(Alice, Msg::Initiation).len(), 1, "{sleep:?}");
            assert_eq!(pair.saw(Alice, Event::KeysErased).len(), 1);
            assert!(pair[Alice].is_established(now));
            pair.send(Alice, 100);
            assert_eq!(pair.received.len(), 1);
        }
    });
}

/// Waking up is no reason to talk to peers that there was no session with.
#[test]
fn resume_wakes_no_idle_peer() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.run_until(secs(1000));
        let now = pair.now;
        pair[Alice].on_resume(now);
        pair.settle();
        assert!(pair.log.is_empty() && pair.next_deadline().is_none());
    });
}

/// A peer with a persistent keepalive is reached at once, session or not.
#[test]
fn resume_reaches_a_persistent_peer() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [25, 0],
            ..setup
        }
        .build();
        pair.cut(Alice);
        pair.run_until(secs(2));
        pair.mend();
        pair.clear_log();
        let now = pair.now;
        pair[Alice].on_resume(now);
        pair.settle();
        assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(2)]);
    });
}

/// A handshake that was under way goes on afresh: packets wait for it.
#[test]
fn resume_continues_a_handshake_under_way() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.cut(Alice);
        pair.send(Alice, 100);
        pair.mend();
        pair.now = pair.now + secs(3600);
        let now = pair.now;
        pair[Alice].on_resume(now);
        pair.settle();
        assert_eq!(pair.sent(Alice, Msg::Initiation).len(), 2);
        assert_eq!(pair.received.len(), 1);
    });
}

/// Down and up again: the stamp of the last handshake message must not delay the next one by 5 s.
#[test]
fn erase_lifts_the_spacing_of_initiations() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.run_until(secs(1));
        let now = pair.now;
        pair[Alice].erase(now);
        pair.send(Alice, 100);
        assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(1)]);
        assert_eq!(pair.received.len(), 1);
    });
}

/// What `erase` forgets: sessions, handshakes and deadlines. What is in flight finds nothing.
#[test]
fn erase_leaves_nothing_behind() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.send(Alice, 100);
        pair.on_wire(|_, _| Fate::Hold);
        pair.send(Alice, 100);
        let now = pair.now;
        pair[Bob].erase(now);
        assert!(pair[Bob].poll_timeout().is_none_or(|at| at > now));
        let in_flight = pair.held.pop_front().unwrap();
        pair.deliver(in_flight);
        assert_eq!(pair.rejected.len(), 1);
        pair.settle();
        assert_eq!(pair.saw(Bob, Event::KeysErased).len(), 1);
        pair[Alice].erase(now);
        pair.clear_log();
        pair.run_until(secs(2000));
        assert!(pair.log.is_empty() && pair.events.len() <= 1 && pair.next_deadline().is_none());
    });
}

/// The configuration may come in any order: endpoint and keepalive first, the private key last.
/// Then the initiation goes out at once.
#[test]
fn a_private_key_that_comes_late_starts_what_was_asked_for() {
    let start = Instant::from_nanos(0);
    let mut interface: Interface = Interface::new(None, start);
    let peer = PeerConfig::new(Bob.public_key())
        .endpoint(Bob.addr())
        .persistent_keepalive(25);
    interface.add_peer(start, &peer).unwrap();
    let mut rng = SeededRng::new(1);
    let mut env = quietwire::Env::new(&mut rng, secs(1_700_000_000));
    let mut now = start;
    for _ in 0..40 {
        now = now + secs(10);
        interface.handle_timeout(now);
        assert!(interface.poll_transmit(now, &mut env).is_none());
        assert!(interface.poll_timeout().is_none_or(|at| at > now));
    }
    interface
        .set_private_key(Some(&Alice.private_key()))
        .unwrap();
    let sent = interface.poll_transmit(now, &mut env).unwrap();
    assert_eq!(Msg::of(sent.message.as_bytes()), Msg::Initiation);
    assert_eq!(sent.to, Bob.addr());
    assert!(interface.poll_transmit(now, &mut env).is_none());
}

/// Nor does it matter whether the endpoint comes last.
#[test]
fn an_endpoint_that_comes_late_starts_what_was_asked_for() {
    on_both(|setup| {
        let mut pair = Setup {
            keepalive: [25, 0],
            knows_endpoint: [false, false],
            ..setup
        }
        .build();
        pair.run_until(secs(300));
        assert!(pair.log.is_empty());
        pair[Alice].set_endpoint(Bob.addr());
        pair.settle();
        assert_eq!(pair.sent(Alice, Msg::Initiation), [secs(300)]);
        let now = pair.now;
        assert!(
            pair[Bob].is_established(now),
            "who learns the endpoint from the initiation"
        );
    });
}

/// An embedder's loop waits until the deadline, handles it and waits again. A deadline that handling
/// does not move makes it spin; the loop of the pair checks that at every step, whatever happened.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send(bool, usize),
    Initiate(bool),
    Erase(bool),
    Resume(bool),
    Keepalive(bool, u16),
    Wire(u8),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let side = any::<bool>;
    prop_oneof![
        6 => (side(), 20_usize..1400).prop_map(|(s, n)| Step::Send(s, n)),
        2 => side().prop_map(Step::Initiate),
        1 => side().prop_map(Step::Erase),
        1 => side().prop_map(Step::Resume),
        2 => (side(), 0_u16..40).prop_map(|(s, n)| Step::Keepalive(s, n)),
        2 => (0_u8..4).prop_map(Step::Wire),
        6 => (0_u64..200_000).prop_map(Step::Wait),
    ]
}

fn play(mut pair: Pair, steps: &[Step]) {
    for step in steps {
        let now = pair.now;
        let side = |is_bob: bool| Side::BOTH[usize::from(is_bob)];
        match *step {
            Step::Send(who, len) => pair.send(side(who), len),
            Step::Initiate(who) => pair[side(who)].initiate(now),
            Step::Erase(who) => pair[side(who)].erase(now),
            Step::Resume(who) => pair[side(who)].on_resume(now),
            Step::Keepalive(who, secs) => pair[side(who)].set_persistent_keepalive(now, secs),
            Step::Wire(0) => pair.cut(Alice),
            Step::Wire(1) => pair.cut(Bob),
            Step::Wire(2) => pair.on_wire(|_, _| Fate::Delay(millis(70))),
            Step::Wire(_) => pair.mend(),
            Step::Wait(time) => pair.run_for(millis(time)),
        }
        pair.settle();
    }
    // Whatever has happened, the tunnel works once the wire does. A packet may be needed to notice
    // that the other side has lost its session.
    pair.mend();
    for side in Side::BOTH {
        let now = pair.now;
        pair[side].set_persistent_keepalive(now, 0);
    }
    for _ in 0..2 {
        pair.clear_log();
        pair.run_for(secs(10));
        pair.send(Alice, 100);
        pair.run_for(secs(20));
    }
    assert!(!pair.received.is_empty(), "{:?}", pair.rejected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_handled_deadline_is_over(seed: u64, steps in proptest::collection::vec(step(), 1..60)) {
        on_both(|setup| play(Setup { seed, ..setup }.build(), &steps));
    }
}
