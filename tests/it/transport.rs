//! Data: counters, the window, what inner packets must look like, padding, and buffers.

use quietwire::{
    Instant, Interface, OpenJob, Outgoing, PeerConfig, Received, Rejected, SealError, SealJob,
    Tunnel,
};

use crate::puppet::{ALICE, BOB, Got, Rig, Session, for_both, ipv4, on_node, to_node, to_puppet};
use crate::support::{Alice, Bob, Fate, Msg, Node, NodeKind, millis, on_both, secs};

mod buffers;
mod jobs;

/// An IPv6 packet from the puppet's network, with any length field.
fn ipv6(length: u16, body: usize) -> Vec<u8> {
    let mut packet = vec![0x33; 40 + body];
    packet[0] = 0x60;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[8..24].copy_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet[24..40].copy_from_slice(&[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    packet
}

/// White paper, section 6.2: a counter of 2^64 - 2^13 - 1 or more is not used. The peer's datagrams
/// are authentic; they are refused before the cipher is asked, and nothing overflows. (An
/// implementation added its window to the counter.)
#[test]
fn counters_at_the_end_are_refused() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let session = rig.as_responder();
        let limit = u64::MAX - 8192;
        // Noise itself reserves 2^64 - 1; the verdict does not depend on the content.
        let mut forged = session.seal_at(7, &to_node(64));
        for counter in [u64::MAX, u64::MAX - 1, limit + 1, limit] {
            forged[8..16].copy_from_slice(&counter.to_le_bytes());
            let reason = rig.refuses(ALICE.addr(), &forged);
            assert_eq!(reason, Rejected::SessionExpired, "{counter:#x}");
        }
        for counter in [u64::MAX - 1, u64::MAX - 8191, limit] {
            let authentic = session.seal_at(counter, &to_node(64));
            let reason = rig.refuses(ALICE.addr(), &authentic);
            assert_eq!(reason, Rejected::SessionExpired, "{counter:#x}");
        }
        assert!(rig.give(&session.seal_at(limit - 1, &to_node(64))).is_ok());
    });
}

/// A forged counter does not move the window (CVE-like bugs elsewhere moved it before the cipher).
#[test]
fn a_forged_counter_moves_nothing() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        for counter in [100, 10_000, 1 << 40, u64::MAX - 8194] {
            let mut forged = session.seal(&to_node(64));
            session.counter -= 1;
            forged[8..16].copy_from_slice(&u64::to_le_bytes(counter));
            let reason = rig.refuses("203.0.113.5:5".parse().unwrap(), &forged);
            assert_eq!(reason, Rejected::Forged);
            let datagram = session.seal(&to_node(64));
            assert!(rig.give(&datagram).is_ok(), "after {counter}");
        }
    });
}

/// The window: 8128 counters behind the greatest, whatever came, and counter 0 like any other (one
/// implementation always refused it, another took 4 for 32, a third compared 32 bits only).
#[test]
fn the_window_is_as_wide_as_the_kernels() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let session = rig.responds();
        let mut verdict = |counter| match rig.give(&session.seal_at(counter, &[])) {
            Ok(Got::Keepalive) => true,
            Err(Rejected::Replayed) => false,
            other => panic!("{counter}: {other:?}"),
        };
        assert!(verdict(0) && !verdict(0), "zero once");
        assert!(verdict(20_000) && !verdict(20_000));
        assert!(verdict(20_000 - 8128) && !verdict(20_000 - 8128));
        assert!(!verdict(20_000 - 8129));
        assert!(!verdict(0) && !verdict(1));
        for counter in (15_000..15_100).rev() {
            assert!(verdict(counter) && !verdict(counter));
        }
        let far = 1 << 32;
        assert!(verdict(20_001 + far));
        assert!(!verdict(20_001) && !verdict(20_002), "2^32 apart");
        assert!(verdict(20_000 + far), "not the same as 20000");
    });
}

/// An IPv6 payload length of 65,496 or more plus its header does not fit 16 bits; computed in 16 it
/// becomes a short length and a cut packet is delivered.
#[test]
fn ipv6_lengths_do_not_wrap() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        for length in (65_496..=65_535_u16).chain([1461, 40_000]) {
            for body in [0, 16, 1460] {
                let datagram = session.seal(&ipv6(length, body));
                let verdict = rig.give(&datagram);
                assert_eq!(verdict, Err(Rejected::BadInnerLength), "{length} in {body}");
            }
        }
        let datagram = session.seal(&ipv6(1460, 1460));
        assert_eq!(rig.give(&datagram), Ok(Got::Packet(ipv6(1460, 1460))));
        let datagram = session.seal(&ipv6(0, 8));
        assert_eq!(rig.give(&datagram), Ok(Got::Packet(ipv6(0, 0))));
    });
}

/// An IPv4 total length below the header or beyond the packet; and contents that are no IP packet.
/// They are authentic, so the session lives on, but nothing is delivered or answered.
#[test]
fn malformed_inner_packets_are_dropped_and_counted() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        let with_length = |length: u16| {
            let mut packet = to_node(64);
            packet[2..4].copy_from_slice(&length.to_be_bytes());
            packet
        };
        let mut cases = Vec::new();
        for length in [0, 1, 19, 65, 80, 65_535] {
            cases.push((with_length(length), Rejected::BadInnerLength));
        }
        for version in [0, 1, 2, 3, 5, 7, 8, 9, 10, 15] {
            let mut packet = to_node(64);
            packet[0] = version << 4 | 5;
            cases.push((packet, Rejected::NotIp));
        }
        for len in 1..20 {
            cases.push((to_node(20)[..len].to_vec(), Rejected::NotIp));
            cases.push((vec![0; len], Rejected::NotIp));
        }
        for len in 1..40 {
            cases.push((ipv6(0, 0)[..len].to_vec(), Rejected::NotIp));
        }
        for (n, (plaintext, expected)) in cases.iter().enumerate() {
            let datagram = session.seal(plaintext);
            let before = rig.node.stats();
            assert_eq!(rig.give(&datagram), Err(*expected), "{plaintext:02x?}");
            let mut after = rig.node.stats();
            after.rx_dropped -= 1;
            assert_eq!(after, before);
            assert!(rig.sent().is_empty());
            // It counted for the window.
            assert_eq!(rig.give(&datagram), Err(Rejected::Replayed));
            assert_eq!(rig.node.drops().total(), 2 * (n as u64 + 1));
            assert!(rig.node.poll_event().is_none());
        }
        assert_eq!(
            rig.give(&session.seal(&with_length(20))),
            Ok(Got::Packet(with_length(20)[..20].to_vec()))
        );
    });
}

/// A text that no accident produces.
const MARK: &[u8] = b"the quick brown fox jumps over it";

fn holds_mark(bytes: &[u8]) -> bool {
    bytes
        .windows(8)
        .any(|window| MARK.windows(8).any(|mark| mark == window))
}

fn marked() -> Vec<u8> {
    let mut packet = to_node(120);
    packet[20..20 + MARK.len()].copy_from_slice(MARK);
    packet
}

/// Whatever the reason of the refusal, the buffer holds no plaintext afterwards: one bit changed, a
/// replay, a session that ended, a packet from an address that is not the peer's.
#[test]
fn a_refused_datagram_leaves_no_plaintext() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        let (now, from) = (rig.now, ALICE.addr());
        let good = session.seal(&marked());
        for bit in 0..8 * good.len() {
            let mut forged = good.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let verdict = on_node!(&mut rig.node, node => {
                node.receive(now, from, &mut forged).map(|_| ())
            });
            assert!(verdict.is_err(), "bit {bit}");
            assert!(!holds_mark(&forged), "bit {bit}");
        }
        assert!(rig.give(&good).is_ok());
        let mut foreign = marked();
        foreign[12..16].copy_from_slice(&[10, 0, 0, 77]);
        let foreign = session.seal(&foreign);
        let mut not_ip = marked();
        not_ip[0] = 0;
        let not_ip = session.seal(&not_ip);
        for (mut datagram, expected) in [
            (good, Rejected::Replayed),
            (foreign, Rejected::ForeignSource),
            (not_ip, Rejected::NotIp),
        ] {
            let verdict = on_node!(&mut rig.node, node => {
                node.receive(now, from, &mut datagram).map(|_| ())
            });
            assert_eq!(verdict, Err(expected));
            assert!(!holds_mark(&datagram), "{expected:?}");
        }
    });
}

/// Nothing is lost over twelve renewals under constant traffic (the first packet after a renewal
/// was).
#[test]
fn nothing_is_lost_over_twelve_renewals() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.on_wire(|_, _| Fate::Delay(millis(40)));
        pair.send(Alice, 60);
        let (mut sent, step) = (1, millis(250));
        while pair.elapsed() < secs(12 * 121) {
            pair.run_for(step);
            pair.send(Alice, 60);
            pair.send(Bob, 60);
            sent += 2;
        }
        pair.run_for(secs(1));
        assert_eq!(pair.received.len(), sent);
        assert_eq!(pair.rejected, []);
        let renewals =
            pair.sent(Alice, Msg::Initiation).len() + pair.sent(Bob, Msg::Initiation).len();
        assert!((12..=13).contains(&renewals), "{renewals}");
    });
}

/// Packets near the end of a session's life arrive, after one handshake at most.
#[test]
fn packets_near_the_end_of_a_session_arrive() {
    on_both(|setup| {
        for sender in [Alice, Bob] {
            for age in [171_000, 175_000, 179_900, 180_000, 181_000] {
                let mut pair = setup.build();
                pair.establish();
                pair.run_until(millis(age));
                pair.clear_log();
                pair.send(sender, 60);
                pair.run_for(millis(10));
                assert_eq!(pair.received.len(), 1, "{sender:?} at {age} ms");
                let initiations =
                    pair.sent(Alice, Msg::Initiation).len() + pair.sent(Bob, Msg::Initiation).len();
                assert!(initiations <= 1);
            }
        }
    });
}

/// Nothing that is not authentic makes an event or counts as traffic (an event came before
/// authentication elsewhere).
#[test]
fn nothing_is_told_of_what_is_not_authentic() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut unconfirmed = rig.responds();
        let mut forged = unconfirmed.seal(&to_node(64));
        let last = forged.len() - 1;
        forged[last] ^= 1;
        let stats = rig.node.stats();
        assert_eq!(
            rig.refuses("203.0.113.5:5".parse().unwrap(), &forged),
            Rejected::Forged
        );
        let mut after = rig.node.stats();
        assert_eq!(after.rx_dropped, stats.rx_dropped + 1);
        after.rx_dropped -= 1;
        assert_eq!(after, stats);
        assert!(rig.events.is_empty());
        assert!(!rig.node.is_established(rig.now), "not a confirmation");
        assert_eq!(rig.seal(&to_puppet(64)), Err(SealError::NoSession));
    });
}

/// A session is over at 180 s, to the nanosecond and without any timer call.
#[test]
fn a_session_ends_at_180_s_without_timers() {
    for_both(|kind| {
        for initiator in [true, false] {
            let mut rig = Rig::new(kind);
            let mut session: Session = if initiator {
                rig.as_initiator()
            } else {
                rig.as_responder()
            };
            rig.skip(secs(180) - core::time::Duration::from_nanos(1));
            assert!(rig.give(&session.seal(&to_node(64))).is_ok());
            assert!(rig.seal(&to_puppet(64)).is_ok());
            rig.sent();
            rig.skip(core::time::Duration::from_nanos(1));
            let datagram = session.seal(&to_node(64));
            assert_eq!(rig.give(&datagram), Err(Rejected::SessionExpired));
            assert_eq!(rig.seal(&to_puppet(64)), Err(SealError::NoSession));
        }
    });
}
