//! Data: counters, the window, what inner packets must look like, padding, and buffers.

use quietwire::{
    Instant, Interface, OpenJob, Outgoing, PeerConfig, Received, Rejected, SealError, SealJob,
    Tunnel,
};

use crate::puppet::{ALICE, BOB, Got, Rig, Session, for_both, ipv4, on_node, to_node, to_puppet};
use crate::support::{Alice, Bob, Fate, Msg, Node, NodeKind, millis, on_both, secs};

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

/// What the padding on the wire must be, straight from the rule: a multiple of 16, but not past the
/// MTU; of a packet longer than the MTU only the last piece counts (as the kernel).
fn wire_len(len: usize, mtu: usize) -> usize {
    let padded = |len: usize| len.div_ceil(16) * 16;
    let inner = match mtu {
        0 => padded(len),
        _ if len <= mtu => padded(len).min(mtu),
        _ => len - len % mtu + padded(len % mtu).min(mtu),
    };
    inner + 32
}

/// Padding on the wire for MTUs of every kind. MTU 0 once was a division by zero.
#[test]
fn padding_follows_the_mtu() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let session = rig.as_responder();
        for mtu in [0, 1, 15, 16, 20, 576, 1280, 1419, 1420, 1500, 65_535] {
            rig.node.set_mtu(mtu);
            for len in [
                20, 21, 31, 32, 33, 575, 576, 577, 1410, 1417, 1420, 1421, 1500, 9001,
            ] {
                let packet = to_puppet(len);
                let datagram = rig.seal(&packet).unwrap();
                let expected = wire_len(len, mtu.into());
                assert_eq!(datagram.len(), expected, "{len} with an MTU of {mtu}");
                let (_, plaintext) = session.open(&datagram);
                assert_eq!(plaintext[..len], packet);
                assert!(plaintext[len..].iter().all(|byte| *byte == 0));
            }
        }
    });
}

/// Padding of any length is taken off, and none is needed (some peers never pad).
#[test]
fn any_padding_is_accepted() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        for len in 20..60 {
            for padding in 0..34 {
                let padded = [to_node(len), vec![0xee; padding]].concat();
                let datagram = session.seal(&padded);
                assert_eq!(rig.give(&datagram), Ok(Got::Packet(to_node(len))));
            }
        }
    });
}

/// The longest packets there are pass, and longer ones are refused.
#[test]
fn the_longest_packets() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        let packet = to_node(65_535 - 16);
        let datagram = session.seal(&packet);
        assert_eq!(rig.give(&datagram), Ok(Got::Packet(packet)));
        let out = rig.seal(&to_puppet(65_535)).unwrap();
        assert_eq!(out.len(), wire_len(65_535, 1420));
        let mut long = to_puppet(60_000);
        long.resize(65_536, 0);
        assert_eq!(rig.seal(&long), Err(SealError::TooLong));
    });
}

/// Every refusal to seal leaves the buffer as it was, uses no counter and sends nothing.
#[test]
fn a_refused_seal_leaves_the_buffer_alone() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let session = rig.as_responder();
        let mut not_ip = to_puppet(64);
        not_ip[0] = 0x15;
        let cases = [
            (
                to_puppet(64),
                95,
                SealError::BufferTooSmall { head: 0, tail: 1 },
            ),
            (
                to_puppet(64),
                0,
                SealError::BufferTooSmall { head: 0, tail: 96 },
            ),
            (not_ip, 200, SealError::NotIp),
            (to_puppet(64)[..19].to_vec(), 200, SealError::NotIp),
            (vec![], 200, SealError::NotIp),
            (
                ipv4([10, 0, 0, 2], [10, 0, 9, 9], 64),
                200,
                SealError::NoRoute,
            ),
        ];
        let now = rig.now;
        for (packet, room, expected) in cases {
            let mut out = vec![0xc3; room];
            let error = on_node!(&mut rig.node, node => {
                node.seal_into(now, &packet, &mut out).unwrap_err()
            });
            assert_eq!(error, expected);
            assert!(out.iter().all(|byte| *byte == 0xc3), "{error:?}");
        }
        let mut buffer = [&[0xc3; 16][..], &to_puppet(64), &[0xc3; 16]].concat();
        let before = buffer.clone();
        let last = buffer.len();
        for (range, expected) in [
            (16..last + 1, SealError::BadRange),
            (last + 5..last + 9, SealError::BadRange),
            (usize::MAX - 1..usize::MAX, SealError::BadRange),
            (80..16, SealError::BadRange),
            (15..79, SealError::NotIp),
            (16..16, SealError::NotIp),
        ] {
            let error = on_node!(&mut rig.node, node => {
                node.seal(now, &mut buffer, range.clone()).unwrap_err()
            });
            assert_eq!(error, expected, "{range:?}");
            assert_eq!(buffer, before);
        }
        let (counter, _) = session.open(&rig.seal(&to_puppet(64)).unwrap());
        assert_eq!(counter, 0, "no counter was used");
        // And without a session.
        rig.node.erase(rig.now);
        let error =
            on_node!(&mut rig.node, node => node.seal(now, &mut buffer, 16..80).unwrap_err());
        assert_eq!((error, &buffer), (SealError::NoSession, &before));
    });
}

/// Neither a session nor an endpoint: the endpoint is missed first, and asked of the caller.
#[test]
fn a_peer_without_endpoint_is_told_apart() {
    let now = Instant::from_millis(1);
    let peer = PeerConfig::new(ALICE.public_key());
    let mut tunnel = Tunnel::<std::net::SocketAddr>::new(&BOB.private_key(), &peer, now).unwrap();
    let mut out = [0xc3; 200];
    let error = tunnel.seal_into(now, &to_puppet(64), &mut out).unwrap_err();
    assert_eq!(error, SealError::NoEndpoint);
    assert_eq!(out, [0xc3; 200]);
}

/// A packet at any place in any buffer: the error says exactly how much room is missing in front
/// and behind, and with exactly that much more it fits, to the last byte (an off-by-one elsewhere
/// refused packets that filled the buffer).
#[test]
fn the_missing_room_is_told_exactly() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let session = rig.as_responder();
        rig.node.set_mtu(1420);
        let now = rig.now;
        for len in [20, 31, 32, 33, 48, 1419, 1420] {
            let packet = to_puppet(len);
            let behind = wire_len(len, 1420) - 16 - len;
            for head in 0..20 {
                for tail in 0..behind + 3 {
                    let mut buffer = [&vec![0xc3; head][..], &packet, &vec![0xc3; tail]].concat();
                    let range = head..head + len;
                    let sealed = on_node!(&mut rig.node, node => {
                        node.seal(now, &mut buffer, range).map(|sealed| sealed.datagram.to_vec())
                    });
                    match sealed {
                        Ok(datagram) => {
                            assert!(head >= 16 && tail >= behind, "{len} {head} {tail}");
                            assert_eq!(datagram.len(), 16 + len + behind);
                            assert_eq!(session.open(&datagram).1[..len], packet);
                            assert!(buffer[..head - 16].iter().all(|byte| *byte == 0xc3));
                            let rest = &buffer[head + len + behind..];
                            assert!(rest.iter().all(|byte| *byte == 0xc3));
                        }
                        Err(error) => assert_eq!(
                            error,
                            SealError::BufferTooSmall {
                                head: 16_usize.saturating_sub(head),
                                tail: behind.saturating_sub(tail),
                            },
                            "{len} {head} {tail}"
                        ),
                    }
                }
            }
            let mut exact = vec![0; wire_len(len, 1420)];
            let sealed = on_node!(&mut rig.node, node => {
                node.seal_into(now, &packet, &mut exact).map(|sealed| sealed.datagram.len())
            });
            assert_eq!(sealed, Ok(wire_len(len, 1420)));
        }
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

/// The same through jobs: what was opened is only given out by `finish_open`.
#[test]
fn a_refused_job_gives_back_no_plaintext() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        let (now, from) = (rig.now, ALICE.addr());
        let datagram = session.seal(&marked());
        let mut jobs: Vec<OpenJob<Vec<u8>>> = (0..3)
            .map(|_| on_node!(&mut rig.node, node => node.begin_open(now, from, datagram.clone())))
            .map(Result::unwrap)
            .collect();
        OpenJob::run_all(&mut jobs);
        let mut verdicts = Vec::new();
        for job in jobs {
            match on_node!(&mut rig.node, node => node.finish_open(now, job)) {
                Ok(mut opened) => {
                    assert_eq!(opened.packet(), marked());
                    verdicts.push(None);
                }
                Err(refused) => {
                    assert!(!holds_mark(&refused.datagram));
                    verdicts.push(Some(refused.reason));
                }
            }
            // The session ends while the last job is under way.
            if verdicts.len() == 2 {
                rig.node.erase(now);
            }
        }
        let replayed = Some(Rejected::Replayed);
        assert_eq!(verdicts, [None, replayed, Some(Rejected::Superseded)]);
    });
}

/// A batch with a datagram twice accepts it once, in whatever places.
#[test]
fn a_duplicate_in_a_batch_is_accepted_once() {
    let mut rig = Rig::new(NodeKind::Interface);
    let mut session = rig.as_responder();
    let datagrams: Vec<_> = (0..20).map(|_| session.seal(&marked())).collect();
    let batch = datagrams.iter().chain(datagrams.iter().rev()).cloned();
    let batch: Vec<_> = batch.map(|datagram| (ALICE.addr(), datagram)).collect();
    let Node::Interface(interface, _) = &mut rig.node else {
        unreachable!()
    };
    let mut received = Vec::new();
    interface.receive_batch(rig.now, batch, &mut received);
    assert_eq!(received.len(), 40);
    for (n, result) in received.into_iter().enumerate() {
        match result {
            Ok(mut opened) => assert!(n < 20 && opened.packet() == marked()),
            Err(refused) => {
                assert!(n >= 20);
                assert_eq!(refused.reason, Rejected::Replayed);
                assert!(!holds_mark(&refused.datagram));
            }
        }
    }
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

/// Opening that begins before the session's end and finishes after it is refused.
#[test]
fn opening_across_the_end_of_a_session_is_refused() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        rig.skip(secs(179));
        let (before, from) = (rig.now, ALICE.addr());
        let datagram = session.seal(&marked());
        let job = on_node!(&mut rig.node, node => node.begin_open(before, from, datagram));
        let mut job = job.unwrap();
        job.run();
        let after = before + secs(1);
        let refused = on_node!(&mut rig.node, node => node.finish_open(after, job)).unwrap_err();
        assert_eq!(refused.reason, Rejected::SessionExpired);
        assert!(!holds_mark(&refused.datagram));
    });
}

/// Counters are reserved in the order of the calls, in whatever order the jobs run, and a job that is
/// dropped skips its own.
#[test]
fn counters_keep_the_order_of_the_calls() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let session = rig.as_responder();
        let packet = to_puppet(64);
        let mut jobs = Vec::new();
        for _ in 0..10 {
            let outgoing = Outgoing::apart(&packet, vec![0; 128]);
            let job = on_node!(&mut rig.node, node => node.begin_seal(rig.now, outgoing));
            jobs.push(Some(job.unwrap()));
        }
        drop(jobs[3].take());
        for n in [9, 0, 8, 1, 7, 2, 6, 4, 5] {
            let mut job = jobs[n].take().unwrap();
            assert!(job.datagram().is_empty(), "not before it ran");
            job.run();
            let first = job.datagram().to_vec();
            job.run();
            assert_eq!(job.datagram(), first, "the second run does nothing");
            assert_eq!(job.to(), ALICE.addr());
            assert_eq!(session.open(job.datagram()), (n as u64, packet.clone()));
        }
        assert_eq!(session.open(&rig.seal(&packet).unwrap()).0, 10);
    });
}

/// An iterator that ends for a moment and then goes on, as `Iterator` allows.
struct Faltering<I>(I, u32);

impl<I: Iterator> Iterator for Faltering<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.1 += 1;
        if self.1 % 3 == 0 { None } else { self.0.next() }
    }
}

/// Whatever iterator brings the jobs of a batch, what is shown as a sealed datagram is one, and what
/// is shown as opened was opened.
#[test]
fn batches_take_any_iterator() {
    let mut rig = Rig::new(NodeKind::Tunnel);
    let mut session = rig.as_responder();
    let packet = to_puppet(64);
    let (mut seals, mut opens) = (Vec::new(), Vec::new());
    for _ in 0..40 {
        let outgoing = Outgoing::in_place([&[0; 16], &packet[..], &[0; 16]].concat(), 16..80);
        let job = on_node!(&mut rig.node, node => node.begin_seal(rig.now, outgoing));
        seals.push(job.unwrap());
        let datagram = session.seal(&marked());
        let job = on_node!(&mut rig.node, node => node.begin_open(rig.now, ALICE.addr(), datagram));
        opens.push(job.unwrap());
    }
    SealJob::run_all(Faltering(seals.iter_mut(), 0));
    for job in &mut seals {
        if !job.datagram().is_empty() {
            assert_eq!(session.open(job.datagram()).1, packet);
        }
        job.run();
        assert_eq!(session.open(job.datagram()).1, packet);
    }
    OpenJob::run_all(Faltering(opens.iter_mut(), 0));
    for job in opens {
        let opened = on_node!(&mut rig.node, node => node.finish_open(rig.now, job));
        assert_eq!(opened.unwrap().packet(), marked());
    }
}

/// The three verbs agree: sealing in place, apart and as a job make the same datagram but for the
/// counter, and receiving in one call or by a job bring the same packet.
#[test]
fn all_ways_to_seal_and_open_agree() {
    let mut rig = Rig::new(NodeKind::Interface);
    let mut session = rig.as_responder();
    let Node::Interface(interface, id) = &mut rig.node else {
        unreachable!()
    };
    let (now, packet) = (rig.now, to_puppet(77));
    let room = |packet: &[u8]| [&[0; 16], packet, &[0; 31]].concat();
    let mut buffer = room(&packet);
    let sealed = interface.seal(now, &mut buffer, 16..93).unwrap();
    assert_eq!((sealed.peer, sealed.to), (*id, ALICE.addr()));
    assert_eq!(session.open(sealed.datagram).1[..77], packet);
    let mut jobs = Vec::new();
    let outgoing = (0..40).map(|_| Outgoing::in_place(room(&packet), 16..93));
    interface.seal_batch(now, outgoing, &mut jobs);
    for (n, job) in (1..).zip(jobs) {
        let (buffer, range) = job.unwrap().into_parts();
        let (counter, opened) = session.open(&buffer[range]);
        assert_eq!((counter, &opened[..77]), (n, &packet[..]));
    }
    let direct = interface.begin_seal_to(now, *id, Outgoing::apart(&packet, vec![0; 128]));
    let mut direct = direct.unwrap();
    direct.run();
    assert_eq!(session.open(direct.datagram()).0, 41);
    let unknown = Interface::<std::net::SocketAddr>::new(None, now)
        .begin_seal_to(now, *id, Outgoing::apart(&packet, vec![7; 128]))
        .unwrap_err();
    assert_eq!(unknown.error, SealError::UnknownPeer);
    assert_eq!(unknown.outgoing.into_buffer(), [7; 128]);
    let mut datagram = session.seal(&to_node(50));
    let (from, received) = interface.receive(now, ALICE.addr(), &mut datagram).unwrap();
    assert_eq!(from, *id);
    assert_eq!(received, Received::Packet(&mut to_node(50)));
}
