//! Input and callers that mean harm: every bit flipped, every length, jobs out of order, and any
//! method at any time.

use std::net::SocketAddr;

use proptest::prelude::*;
use quietwire::rand_core::{TryCryptoRng, TryRng};
use quietwire::{
    Control, Env, Event, HandshakeJob, HandshakeStep, Instant, Interface, Load, OpenJob, Outgoing,
    PeerConfig, PeerId, PresharedKey, PrivateKey, PublicKey, Received, Rejected, SealJob, Tunnel,
};

use crate::puppet::{
    ALICE, BOB, Got, Rig, Session, for_both, index_at, ipv4, on_node, to_node, to_puppet,
};
use crate::support::{Node, NodeKind, SeededRng, millis, secs};

mod chaos;
mod jobs;

const X: &str = "203.0.113.66:66";

fn x() -> SocketAddr {
    X.parse().unwrap()
}

/// One genuine message of each kind that a node would accept right now.
struct Genuine {
    rig: Rig,
    initiation: Vec<u8>,
    response: Vec<u8>,
    cookie: Vec<u8>,
    data: Vec<u8>,
    session: Session,
}

impl Genuine {
    fn new(kind: NodeKind) -> Self {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        rig.skip(secs(10));
        let asked = rig.asks();
        let heard = rig.puppet.hear(&asked);
        let (response, _) = rig.puppet.respond(heard);
        let mac1 = crate::puppet::macs(&asked).1;
        let cookie = rig.puppet.cookie_reply(index_at(&asked, 4), mac1, [5; 16]);
        let (initiation, _) = rig.initiation();
        let data = session.seal(&to_node(64));
        Self {
            rig,
            initiation,
            response,
            cookie,
            data,
            session,
        }
    }

    fn all(&self) -> [Vec<u8>; 4] {
        [
            self.initiation.clone(),
            self.response.clone(),
            self.cookie.clone(),
            self.data.clone(),
        ]
    }

    /// All four are still accepted: whatever happened before left no trace.
    fn accepts_all(&mut self) {
        self.rig.skip(secs(2));
        let session = &mut self.session;
        assert_eq!(
            self.rig.give(&self.cookie),
            Ok(Got::Control(Control::Cookie))
        );
        assert_eq!(self.rig.give(&self.data), Ok(Got::Packet(to_node(64))));
        assert_eq!(
            self.rig.give(&self.initiation),
            Ok(Got::Control(Control::Initiation))
        );
        assert!(self.rig.give(&session.seal(&[])).is_ok());
        assert_eq!(
            self.rig.give(&self.response),
            Ok(Got::Control(Control::Response))
        );
    }

    fn refuses(&mut self, datagram: &[u8]) -> Rejected {
        // Slow enough for the measure of load.
        self.rig.now = self.rig.now + millis(2);
        self.rig.refuses(x(), datagram)
    }
}

/// Any single bit of any message changed: refused, and no state changes. Only mac2 is nobody's
/// business while there is no load.
#[test]
fn every_bit_of_every_message_counts() {
    for_both(|kind| {
        let mut genuine = Genuine::new(kind);
        for (n, message) in genuine.all().iter().enumerate() {
            let judged = if n < 2 {
                message.len() - 16
            } else {
                message.len()
            };
            for bit in 0..8 * judged {
                let mut flipped = message.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let reason = genuine.refuses(&flipped);
                let expected = match (n, bit / 8) {
                    // Another type is another length or no type at all.
                    (_, 0..4) => [Rejected::UnknownType, Rejected::WrongLength].as_slice(),
                    (0 | 1, _) => &[Rejected::WrongMac1],
                    (_, 4..8) => &[Rejected::UnknownReceiver],
                    (2, _) => &[Rejected::UnexpectedCookie],
                    _ => &[Rejected::Forged],
                };
                assert!(expected.contains(&reason), "{n} {bit}: {reason:?}");
            }
        }
        genuine.accepts_all();
    });
}

/// The same by somebody who knows our public key, so that mac1 is right: all that is behind it is
/// authenticated too, but for the sender's index.
#[test]
fn every_bit_behind_mac1_counts() {
    let mut genuine = Genuine::new(NodeKind::Interface);
    // The first one makes the node remember the static-static secret.
    let [initiation, response, ..] = genuine.all();
    for (message, fields) in [(initiation, 8..116), (response, 8..60)] {
        for bit in 8 * fields.start..8 * fields.end {
            let mut flipped = message.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            genuine.rig.puppet.sign(&mut flipped);
            let reason = genuine.refuses(&flipped);
            let expected = match (message.len(), bit / 8) {
                (92, 8..12) => Rejected::UnknownReceiver,
                _ => Rejected::Forged,
            };
            assert_eq!(reason, expected, "{} {bit}", message.len());
        }
    }
    genuine.accepts_all();
}

/// Under load every bit of mac2 counts as well.
#[test]
fn every_bit_of_mac2_counts_under_load() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_load(Load::UnderLoad);
        let (initiation, _) = rig.initiation();
        assert_eq!(rig.give(&initiation), Err(Rejected::CookieRequired));
        let reply = rig.only();
        let mac1 = crate::puppet::macs(&initiation).1;
        rig.puppet
            .read_cookie(&reply, index_at(&initiation, 4), mac1);
        let (initiation, _) = rig.initiation();
        for bit in 0..128 {
            let mut flipped = initiation.clone();
            flipped[132 + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(rig.give(&flipped), Err(Rejected::CookieRequired));
            rig.sent();
        }
        assert!(rig.give(&initiation).is_ok());
    });
}

/// Every prefix of every message, and every message with more behind it.
#[test]
fn every_other_length_is_refused() {
    for_both(|kind| {
        let mut genuine = Genuine::new(kind);
        for message in genuine.all() {
            for len in 0..message.len() {
                let reason = genuine.refuses(&message[..len]);
                let expected = match (message[0], len) {
                    (4, 32..) => Rejected::Forged,
                    _ => Rejected::WrongLength,
                };
                assert_eq!(reason, expected, "type {} of {len}", message[0]);
            }
            for more in 1..80 {
                for byte in [0, 4, 0xff] {
                    let longer = [&message[..], &vec![byte; more]].concat();
                    let reason = genuine.refuses(&longer);
                    let expected = match message[0] {
                        4 => Rejected::Forged,
                        _ => Rejected::WrongLength,
                    };
                    assert_eq!(reason, expected);
                }
            }
        }
        genuine.accepts_all();
    });
}

/// Every message with every other type in front, reserved bytes included.
#[test]
fn every_other_type_is_refused() {
    for_both(|kind| {
        let mut genuine = Genuine::new(kind);
        for message in genuine.all() {
            let own = u32::from(message[0]);
            let types = (0..=300).chain([0x0100_0000 | own, 0x0001_0000 | own, 0x0100 | own]);
            for word in types.chain([u32::MAX, own << 8, own << 24]) {
                if word == own {
                    continue;
                }
                let mut changed = message.clone();
                changed[..4].copy_from_slice(&word.to_le_bytes());
                let reason = genuine.refuses(&changed);
                let expected = match word {
                    1..=3 => Rejected::WrongLength,
                    4 => Rejected::UnknownReceiver,
                    _ => Rejected::UnknownType,
                };
                assert_eq!(reason, expected, "{own} as {word:#x}");
            }
        }
        genuine.accepts_all();
    });
}

/// The longest datagram that UDP can hand over, an empty one, and all in between that are of no
/// type, at every entry point (an oversized one once killed a receiver).
#[test]
fn oversized_and_empty_input_at_every_entry() {
    for_both(|kind| {
        let mut genuine = Genuine::new(kind);
        for first in [0, 1, 2, 3, 4, 5, 255] {
            let mut long = vec![0xaa; 65_535];
            long[..4].copy_from_slice(&[first, 0, 0, 0]);
            genuine.refuses(&long);
            long[4..8].copy_from_slice(&genuine.session.remote.to_le_bytes());
            genuine.refuses(&long);
            let (node, now) = (&mut genuine.rig.node, genuine.rig.now);
            on_node!(node, node => {
                assert!(node.begin_handshake(now, x(), &long).is_err());
                assert!(node.begin_handshake(now, x(), &[]).is_err());
                match node.begin_open(now, x(), long.clone()) {
                    Ok(mut job) => {
                        job.run();
                        let refused = node.finish_open(now, job).unwrap_err();
                        assert_eq!(refused.reason, Rejected::Forged);
                        assert_eq!(refused.datagram.len(), 65_535);
                    }
                    Err(refused) => assert_eq!(refused.datagram, long),
                }
                assert!(node.begin_open(now, x(), Vec::new()).is_err());
                assert!(node.receive(now, x(), &mut []).is_err());
                assert!(node.seal_into(now, &long, &mut []).is_err());
                assert!(node.seal_into(now, &[], &mut long).is_err());
                assert!(node.seal(now, &mut [], 0..0).is_err());
                let outgoing = Outgoing::in_place(long.clone(), 0..65_535);
                assert!(node.begin_seal(now, outgoing).is_err());
                let mut own_kind = long.clone();
                own_kind[0] = 4;
                assert!(node.begin_handshake(now, x(), &own_kind[..100]).is_err());
            });
            if let Node::Interface(interface, _) = node {
                let mut results = Vec::new();
                let batch = [vec![], long.clone(), vec![4], vec![first; 32]];
                interface.receive_batch(now, batch.map(|d| (x(), d)), &mut results);
                assert!(results.iter().all(Result::is_err) && results.len() == 4);
            }
        }
        genuine.accepts_all();
    });
}

proptest! {
    /// Any bytes at every entry point.
    #[test]
    fn any_bytes(tunnel: bool, kind in 0_u8..6, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let node = if tunnel { NodeKind::Tunnel } else { NodeKind::Interface };
        let mut rig = Rig::new(node);
        rig.as_responder();
        let mut bytes = bytes;
        if let (Some(head), true) = (bytes.first_chunk_mut::<4>(), kind < 5) {
            *head = [kind, 0, 0, 0];
        }
        rig.refuses(x(), &bytes);
    }
}
