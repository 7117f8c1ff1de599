//! Padding, and the room that a datagram needs.

use core::ops::Range;

use super::*;

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
            (Range { start: 80, end: 16 }, SealError::BadRange),
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
