//! Handshakes: what is refused, what is believed, and when a session may be used.
//!
//! The peer is a puppet that can do anything an owner of the right keys can do, or two nodes.

use std::collections::BTreeSet;

use quietwire::{
    ConfigError, Control, HandshakeStep, Instant, Interface, PeerConfig, PresharedKey, PrivateKey,
    PublicKey, Rejected, SealError, Tunnel,
};

use crate::puppet::{
    ALICE, BOB, Got, NOTHING, Puppet, Rig, for_both, index_at, on_node, tai64n, to_node, to_puppet,
};
use crate::support::{Alice, Bob, Fate, Msg, Node, NodeKind, on_both, secs};
use crate::support::{SeededRng, millis};

mod keys;

/// An exact replay of an initiation, at once or later, is refused and not answered (white paper,
/// section 5.1; an implementation that took equal timestamps answered it).
#[test]
fn an_initiation_counts_once() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let (initiation, asked) = rig.initiation();
        rig.give(&initiation).unwrap();
        let reason = rig.give(&initiation).unwrap_err();
        assert_eq!(reason, Rejected::OldTimestamp, "before it was answered");
        let response = rig.only();
        rig.puppet.read_response(asked, &response);
        for pause in [0, 10, 30, 1000, 200_000] {
            rig.skip(millis(pause));
            let reason = rig.refuses("203.0.113.9:9".parse().unwrap(), &initiation);
            assert_eq!(reason, Rejected::OldTimestamp);
        }
    });
}

/// A timestamp must be greater than the greatest ever accepted, as twelve bytes.
#[test]
fn timestamps_must_grow() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let base = secs(1_700_000_000) + millis(500);
        let accepted = tai64n(base);
        let (initiation, _) = rig.puppet.initiate(accepted);
        rig.give(&initiation).unwrap();
        rig.sent();
        let mut older = Vec::new();
        for byte in 0..12 {
            let mut stamp = accepted;
            if stamp[byte] > 0 {
                stamp[byte] -= 1;
                older.push(stamp);
            }
        }
        older.extend([[0; 12], accepted, tai64n(base - secs(1)), tai64n(secs(0))]);
        for stamp in older {
            rig.skip(secs(1));
            let (initiation, _) = rig.puppet.initiate(stamp);
            let reason = rig.refuses(ALICE.addr(), &initiation);
            assert_eq!(reason, Rejected::OldTimestamp, "{stamp:02x?}");
        }
        let mut newer = accepted;
        newer[11] += 1;
        let (initiation, _) = rig.puppet.initiate(newer);
        rig.give(&initiation).unwrap();
    });
}

/// CVE-2021-46873: an initiation from a clock in the future locks the peer out until it is told to
/// forget. Only the owner of the peer's key can do that to it.
#[test]
fn a_timestamp_of_the_future_can_be_forgotten() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let (initiation, _) = rig.puppet.initiate([0x7f; 12]);
        rig.give(&initiation).unwrap();
        rig.sent();
        rig.skip(secs(1));
        let (initiation, _) = rig.initiation();
        let reason = rig.refuses(ALICE.addr(), &initiation);
        assert_eq!(reason, Rejected::OldTimestamp);
        rig.node.forget_timestamp();
        rig.give(&initiation).unwrap();
        assert_eq!(rig.only().len(), 92);
    });
    // A peer that is removed and added again has no past either.
    let mut rig = Rig::new(NodeKind::Interface);
    let (initiation, _) = rig.puppet.initiate([0x7f; 12]);
    rig.give(&initiation).unwrap();
    let Node::Interface(interface, id) = &mut rig.node else {
        unreachable!()
    };
    assert!(interface.remove_peer(*id));
    let peer = PeerConfig::new(ALICE.public_key());
    *id = interface.add_peer(rig.now, &peer).unwrap();
    let (initiation, _) = rig.initiation();
    rig.give(&initiation).unwrap();
    assert_eq!(rig.only().len(), 92);
}

/// A timestamp whose tag is wrong moves nothing, so poisoning takes the peer's private key.
#[test]
fn a_forged_timestamp_is_not_remembered() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let (mut forged, _) = rig.puppet.initiate([0x7f; 12]);
        for at in 88..116 {
            forged[at] ^= 1;
            rig.puppet.sign(&mut forged);
            // The first also makes the node compute the static-static secret, which it keeps.
            assert_eq!(rig.give(&forged), Err(Rejected::Forged));
            let reason = rig.refuses("203.0.113.9:9".parse().unwrap(), &forged);
            assert_eq!(reason, Rejected::Forged);
            forged[at] ^= 1;
        }
        rig.as_responder();
    });
}

/// The timestamps sent: TAI64 with the constant of the kernel (2^62 + 10), the low 24 bits of the
/// nanoseconds zero, strictly increasing even within a tick and while the wall clock steps back, and
/// following it when it is corrected. Some implementations read the wall clock once, or panic
/// before 1970.
#[test]
fn timestamps_sent_follow_the_wall_clock_and_grow() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut last = [0; 12];
        let clocks = [
            secs(0),
            secs(0),
            secs(1_700_000_000) + millis(999),
            secs(1_700_000_000) + millis(1000),
            secs(1_700_000_000) + millis(1001),
            secs(1_600_000_000),
            secs(0),
            secs(1_800_000_000) + millis(250),
        ];
        for clock in clocks {
            rig.unix = clock;
            rig.node.erase(rig.now);
            let initiation = rig.asks();
            let heard = rig.puppet.hear(&initiation);
            assert!(heard.stamp > last, "{clock:?}");
            assert_eq!(heard.stamp[9..], [0; 3], "whitened");
            if tai64n(clock) > last {
                assert_eq!(heard.stamp, tai64n(clock));
            }
            last = heard.stamp;
        }
        assert_eq!(last[..8], 0x4000_0000_6b49_d20a_u64.to_be_bytes());
        rig.unix = core::time::Duration::MAX;
        rig.node.erase(rig.now);
        let initiation = rig.asks();
        assert!(rig.puppet.hear(&initiation).stamp > last);
    });
}

/// Two initiations whose multiplications end in the other order: the older never wins (a race that
/// the kernel once had).
#[test]
fn the_older_of_two_initiations_never_wins() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let (older, _) = rig.initiation();
        let (newer, asked) = rig.initiation();
        let jobs = [older, newer].map(|initiation| {
            let (now, from) = (rig.now, ALICE.addr());
            match on_node!(&mut rig.node, node => node.begin_handshake(now, from, &initiation)) {
                Ok(HandshakeStep::Run(job)) => job,
                other => panic!("{other:?}"),
            }
        });
        let verdicts = jobs
            .map(|job| (rig.skip(millis(30)), job))
            .into_iter()
            .rev();
        let verdicts: Vec<_> = verdicts
            .map(|((), job)| {
                let mut step = on_node!(&mut rig.node, node => node.finish_handshake(rig.now, job));
                while let Ok(HandshakeStep::Run(job)) = step {
                    step = on_node!(&mut rig.node, node => node.finish_handshake(rig.now, job));
                }
                step.map(|_| ())
            })
            .collect();
        assert_eq!(verdicts, [Ok(()), Err(Rejected::OldTimestamp)]);
        let response = rig.only();
        rig.puppet.read_response(asked, &response);
    });
}

/// Receiver indices are random 32-bit numbers, each of one owner: they tell nothing about how many
/// peers or handshakes there were (LFSR and sequential ones did).
#[test]
fn indices_are_unique_and_look_random() {
    let now = Instant::from_nanos(0);
    let mut interface = Interface::new(Some(&BOB.private_key()), now);
    let mut rng = SeededRng::new(99);
    for n in 0..1024_u16 {
        let mut key = [7; 32];
        key[8..10].copy_from_slice(&n.to_le_bytes());
        let key = PrivateKey::from_bytes(key).public_key();
        let peer = PeerConfig::new(key).endpoint(ALICE.addr());
        let id = interface.add_peer(now, &peer).unwrap();
        interface.peer_mut(id).unwrap().initiate(now);
    }
    let mut seen = BTreeSet::new();
    let mut counts = [[0_u32; 16]; 8];
    let mut env = quietwire::Env::new(&mut rng, secs(1));
    while let Some(transmit) = interface.poll_transmit(now, &mut env) {
        let index = index_at(transmit.message.as_bytes(), 4);
        assert!(seen.insert(index), "{index:#x} twice");
        for (nibble, counts) in counts.iter_mut().enumerate() {
            counts[(index >> (4 * nibble) & 15) as usize] += 1;
        }
    }
    assert!(seen.len() > 1000);
    // 64 expected in each; six standard deviations are 46.
    assert!(
        counts.iter().flatten().all(|n| (18..=110).contains(n)),
        "{counts:?}"
    );
}

/// A responder must not send under a session before the initiator has confirmed it (white paper,
/// section 5.1: otherwise a replayed initiation would make it send into the void).
#[test]
fn a_responder_is_silent_until_confirmation() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_persistent_keepalive(rig.now, 25);
        rig.sent();
        let mut session = rig.responds();
        for _ in 0..4 {
            assert_eq!(rig.seal(&to_puppet(60)), Err(SealError::NoSession));
            assert!(!rig.node.is_established(rig.now));
            let sent = rig.pass(secs(1));
            assert!(sent.iter().all(|datagram| datagram[0] == 1), "{sent:?}");
        }
        assert!(rig.give(&session.seal(&[])).is_ok());
        assert_eq!(session.open(&rig.seal(&to_puppet(64)).unwrap()).0, 0);
    });
}

/// The same at a rekey: until the new session is confirmed, the old one sends.
#[test]
fn the_old_session_sends_until_the_new_one_is_confirmed() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let old = rig.as_responder();
        let mut new = rig.responds();
        let datagram = rig.seal(&to_puppet(64)).unwrap();
        assert_eq!(old.open(&datagram).1, to_puppet(64));
        rig.give(&new.seal(&to_node(64))).unwrap();
        let datagram = rig.seal(&to_puppet(64)).unwrap();
        assert_eq!(new.open(&datagram), (0, to_puppet(64)));
        // The old one is still good for what was on its way.
        let mut old = old;
        assert!(rig.give(&old.seal(&to_node(80))).is_ok());
    });
}

/// A hundred initiations of the real peer that it never confirms do not evict the session in use
/// (a ring of eight slots did).
#[test]
fn unconfirmed_initiations_evict_nothing() {
    for_both(|kind| {
        for initiator in [true, false] {
            let mut rig = Rig::new(kind);
            let mut live = if initiator {
                rig.as_initiator()
            } else {
                rig.as_responder()
            };
            for n in 0..100 {
                drop(rig.responds());
                assert!(rig.give(&live.seal(&to_node(64))).is_ok(), "{n} in");
                let out = rig.seal(&to_puppet(64)).unwrap();
                assert_eq!(live.open(&out).1, to_puppet(64), "{n} out");
                rig.sent();
            }
        }
    });
}

/// A response that takes almost 5 s completes the handshake (it was thrown away after 250 ms).
#[test]
fn a_slow_response_completes() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let initiation = rig.asks();
        assert!(rig.pass(millis(4_900)).is_empty());
        let heard = rig.puppet.hear(&initiation);
        let (response, session) = rig.puppet.respond(heard);
        assert_eq!(rig.give(&response), Ok(Got::Control(Control::Response)));
        assert_eq!(session.open(&rig.only()).1, NOTHING);
    });
}

/// A response counts once, and only for the initiation sent last.
#[test]
fn a_response_counts_once_and_for_the_last_initiation() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let first = rig.asks();
        let (late, _) = {
            let heard = rig.puppet.hear(&first);
            rig.puppet.respond(heard)
        };
        let second = rig.pass(secs(6)).remove(0);
        assert_ne!(first[8..40], second[8..40], "a fresh ephemeral");
        assert_ne!(first[4..8], second[4..8], "a fresh index");
        let reason = rig.refuses(ALICE.addr(), &late);
        assert_eq!(reason, Rejected::UnknownReceiver);
        let heard = rig.puppet.hear(&second);
        let (response, mut session) = rig.puppet.respond(heard);
        rig.give(&response).unwrap();
        rig.sent();
        let reason = rig.refuses("203.0.113.9:9".parse().unwrap(), &response);
        assert_eq!(reason, Rejected::UnknownReceiver);
        rig.give(&session.seal(&to_node(50))).unwrap();
        // A session of which the node is the responder has an index that answers no response.
        let mut other = rig.responds();
        rig.give(&other.seal(&[])).unwrap();
        let mut crafted = response;
        crafted[8..12].copy_from_slice(&other.remote.to_le_bytes());
        rig.puppet.sign(&mut crafted);
        let reason = rig.refuses(ALICE.addr(), &crafted);
        assert_eq!(reason, Rejected::UnknownReceiver);
    });
}

/// A wrong mac1 is the verdict whether or not the index is known, or the sender, or anything.
#[test]
fn mac1_is_judged_before_everything_else() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let asked = rig.asks();
        let heard = rig.puppet.hear(&asked);
        let (mut response, _) = rig.puppet.respond(heard);
        response[60] ^= 1;
        assert_eq!(rig.refuses(ALICE.addr(), &response), Rejected::WrongMac1);
        response[8..12].copy_from_slice(&0x1234_5678_u32.to_le_bytes());
        assert_eq!(rig.refuses(ALICE.addr(), &response), Rejected::WrongMac1);
        let (mut initiation, _) = rig.initiation();
        initiation[116] ^= 1;
        assert_eq!(rig.refuses(ALICE.addr(), &initiation), Rejected::WrongMac1);
        // Under load too, and no cookie is wasted on it.
        rig.node.set_load(quietwire::Load::UnderLoad);
        assert_eq!(rig.refuses(ALICE.addr(), &initiation), Rejected::WrongMac1);
    });
}

/// An initiation that is authentic to itself but of nobody we know.
#[test]
fn strangers_are_refused() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut stranger = Puppet::of(ALICE);
        stranger.private = [0x55; 32];
        let (initiation, _) = stranger.initiate(tai64n(rig.unix));
        let reason = rig.refuses(ALICE.addr(), &initiation);
        assert_eq!(reason, Rejected::UnknownPeer);
    });
}

/// An idle pair makes one handshake, not one at every packet of the other side (a port for small
/// devices ping-ponged).
#[test]
fn an_idle_pair_makes_one_handshake() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.send(Alice, 60);
        pair.send(Bob, 60);
        pair.run_until(secs(119));
        let initiations = [Alice, Bob].map(|side| pair.sent(side, Msg::Initiation).len());
        assert_eq!(initiations, [1, 0]);
    });
}

/// After a pause of 140 s both talk at once: only the initiator of the session renews it, so there
/// is one initiation on the wire (the kernel once had a thundering herd here).
#[test]
fn one_side_renews_after_a_pause() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        pair.send(Alice, 60);
        pair.send(Bob, 60);
        pair.run_until(secs(140));
        pair.clear_log();
        pair.on_wire(|_, _| Fate::Delay(millis(30)));
        for _ in 0..50 {
            pair.send(Bob, 60);
            pair.send(Alice, 60);
            pair.run_for(millis(7));
        }
        let initiations = [Alice, Bob].map(|side| pair.sent(side, Msg::Initiation).len());
        assert_eq!(initiations, [1, 0]);
        pair.mend();
        pair.run_for(secs(1));
        assert_eq!(pair.received.len(), 100, "and nothing is lost");
    });
}

/// At most 50 initiations a second are accepted from one peer, 20 ms apart (as the kernel; a guard
/// with its subtraction reversed never fired).
#[test]
fn a_peer_initiates_at_most_50_times_a_second() {
    for_both(|kind| {
        for (micros, accepted) in [(0, 1), (1_000, 3), (19_600, 26), (19_999, 26), (20_000, 51)] {
            let mut rig = Rig::new(kind);
            let mut answered = 0;
            for _ in 0..51 {
                let (initiation, _) = rig.initiation();
                match rig.give(&initiation) {
                    Ok(_) => answered += rig.sent().len(),
                    Err(reason) => assert_eq!(reason, Rejected::TooFrequent),
                }
                rig.skip(core::time::Duration::from_micros(micros));
            }
            assert_eq!(answered, accepted, "every {micros} us");
        }
    });
}

/// An initiation refused for its frequency is not remembered: it is good a moment later.
#[test]
fn too_frequent_leaves_no_trace() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.as_responder();
        let (initiation, _) = rig.initiation();
        assert_eq!(
            rig.refuses(ALICE.addr(), &initiation),
            Rejected::TooFrequent
        );
        rig.skip(millis(20));
        rig.give(&initiation).unwrap();
    });
}

/// Both initiate at once, whatever arrives first: both have a session in the end, and nothing that
/// was sealed under a live session is lost.
#[test]
fn crossed_handshakes_converge() {
    on_both(|setup| {
        for (alice, bob) in [(10, 10), (10, 40), (40, 10), (1, 200), (300, 300)] {
            let mut pair = setup.build();
            pair.on_wire(move |from, _| {
                Fate::Delay(millis(if from == Alice { alice } else { bob }))
            });
            pair.send(Alice, 100);
            pair.send(Bob, 100);
            for _ in 0..200 {
                pair.run_for(millis(20));
                pair.send(Alice, 60);
                pair.send(Bob, 61);
            }
            pair.run_for(secs(1));
            let now = pair.now;
            assert!(pair[Alice].is_established(now) && pair[Bob].is_established(now));
            assert_eq!(pair.rejected, [], "{alice} ms there, {bob} ms back");
            assert_eq!(pair.received.len(), 402);
        }
    });
}

/// `poll_transmit` gives `None` only when nothing is owed. A keepalive whose session ends between
/// the timer and the poll becomes a handshake, and that is sent by the same round of polling.
#[test]
fn polling_leaves_nothing_owed() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_persistent_keepalive(rig.now, 179);
        rig.sent();
        rig.pass(secs(6));
        rig.as_responder();
        rig.skip(secs(179));
        rig.node.handle_timeout(rig.now);
        rig.skip(secs(2));
        let sent = rig.sent();
        assert_eq!(sent.len(), 1, "an initiation in place of the keepalive");
        assert_eq!(sent[0][0], 1);
        assert!(rig.sent().is_empty());
    });
}
