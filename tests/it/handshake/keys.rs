//! Keys: those of low order, our own, and what a change of keys does.

use super::*;

/// The u-coordinates of low order, as every list of them has them (order 1, 2, 4, 8 and aliases).
pub(crate) const LOW_ORDER: [[u8; 32]; 7] = {
    let mut points = [[0; 32]; 7];
    points[1][0] = 1;
    points[2] = hex(b"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    points[3] = hex(b"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
    points[4] = hex(b"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157");
    points[5] = hex(b"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    points[6] = hex(b"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    points
};

const fn hex(digits: &[u8; 64]) -> [u8; 32] {
    const fn digit(c: u8) -> u8 {
        if c < b'a' { c - b'0' } else { c - b'a' + 10 }
    }
    let mut bytes = [0; 32];
    let mut at = 0;
    while at < 32 {
        bytes[at] = digit(digits[2 * at]) << 4 | digit(digits[2 * at + 1]);
        at += 1;
    }
    bytes
}

/// A static public key of low order may be configured, but nothing is ever sent to it (as the
/// kernel): the secret shared with it is known to everybody.
#[test]
fn nothing_is_sent_to_a_key_of_low_order() {
    for_both(|kind| {
        for point in LOW_ORDER {
            let peer = PeerConfig::new(PublicKey::from_bytes(point))
                .endpoint(ALICE.addr())
                .persistent_keepalive(7);
            let mut rig = Rig::new(kind);
            let start = Instant::from_nanos(0);
            rig.node = match kind {
                NodeKind::Tunnel => {
                    let tunnel = Tunnel::new(&BOB.private_key(), &peer, start).unwrap();
                    Node::Tunnel(Box::new(tunnel))
                }
                NodeKind::Interface => {
                    let mut interface = Interface::new(Some(&BOB.private_key()), start);
                    let id = interface.add_peer(start, &peer).unwrap();
                    interface.peer_mut(id).unwrap().add_allowed_ip(ALICE.cidr());
                    Node::Interface(Box::new(interface), id)
                }
            };
            rig.node.initiate(rig.now);
            assert!(rig.sent().is_empty());
            for _ in 0..20 {
                assert_eq!(rig.seal(&to_puppet(50)), Err(SealError::NoSession));
                assert!(rig.pass(secs(7)).is_empty());
            }
            let key = PrivateKey::from_bytes([3; 32]);
            rig.node.set_private_key(&key).unwrap();
            assert!(rig.pass(secs(60)).is_empty());
            assert_eq!(rig.node.stats().tx_datagrams, 0);
        }
    });
}

/// An ephemeral key of low order is refused in both messages and leaves no trace: the genuine
/// message is taken afterwards.
#[test]
fn ephemerals_of_low_order_are_refused() {
    for_both(|kind| {
        for point in LOW_ORDER {
            let mut rig = Rig::new(kind);
            let (mut initiation, _) = rig.initiation();
            initiation[8..40].copy_from_slice(&point);
            rig.puppet.sign(&mut initiation);
            let reason = rig.refuses(ALICE.addr(), &initiation);
            assert_eq!(reason, Rejected::LowOrderKey);

            let asked = rig.asks();
            let heard = rig.puppet.hear(&asked);
            let (response, _) = rig.puppet.respond(heard);
            let mut low = response.clone();
            low[12..44].copy_from_slice(&point);
            rig.puppet.sign(&mut low);
            let reason = rig.refuses("203.0.113.9:9".parse().unwrap(), &low);
            assert_eq!(reason, Rejected::LowOrderKey);
            assert_eq!(rig.give(&response), Ok(Got::Control(Control::Response)));
        }
    });
}

/// A new private key: sessions send no more, what they are sent is still read, handshakes under way
/// are void, and the next one is made with everything derived anew.
#[test]
fn a_new_private_key_ends_what_the_old_one_began() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        let (for_the_old, _) = rig.initiation();
        rig.skip(secs(6));
        let asked = rig.asks();
        let heard = rig.puppet.hear(&asked);
        let (answer_to_the_old, _) = rig.puppet.respond(heard);

        let key = PrivateKey::from_bytes([0x66; 32]);
        rig.node.set_private_key(&key).unwrap();
        assert!(rig.give(&session.seal(&to_node(50))).is_ok());
        assert_eq!(rig.seal(&to_puppet(50)), Err(SealError::NoSession));
        let fresh = rig.only();
        for old in [&for_the_old, &answer_to_the_old] {
            assert_eq!(rig.refuses(ALICE.addr(), old), Rejected::WrongMac1);
        }
        rig.puppet.remote = *key.public_key().as_bytes();
        // Even with a right mac1 it is not a response to anything outstanding.
        let mut resigned = answer_to_the_old;
        rig.puppet.sign(&mut resigned);
        assert_eq!(
            rig.refuses(ALICE.addr(), &resigned),
            Rejected::UnknownReceiver
        );
        let heard = rig.puppet.hear(&fresh);
        let (response, new) = rig.puppet.respond(heard);
        rig.give(&response).unwrap();
        assert_eq!(new.open(&rig.only()).1, NOTHING);
        rig.as_responder();
    });
}

/// Setting the key that is set already is no change: `wg setconf` and `wg syncconf` send the private
/// key every time, and the kernel keeps its sessions.
#[test]
fn the_same_private_key_again_changes_nothing() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let session = rig.as_responder();
        let before = rig.state();
        rig.node.set_private_key(&BOB.private_key()).unwrap();
        assert_eq!(rig.state(), before);
        assert_eq!(session.open(&rig.seal(&to_puppet(64)).unwrap()).0, 0);
    });
}

/// Nobody is its own peer.
#[test]
fn our_own_key_is_refused_as_a_peer() {
    let (now, key) = (Instant::from_nanos(0), BOB.private_key());
    let own = PeerConfig::new(key.public_key()).endpoint(BOB.addr());
    let alice = PeerConfig::new(ALICE.public_key()).endpoint(ALICE.addr());
    let error = ConfigError::OwnPublicKey;
    assert_eq!(Tunnel::new(&key, &own, now).unwrap_err(), error);
    let mut tunnel = Tunnel::new(&key, &alice, now).unwrap();
    assert_eq!(tunnel.set_private_key(&ALICE.private_key()), Err(error));
    assert_eq!(tunnel.public_key(), key.public_key());
    let mut interface = Interface::new(Some(&key), now);
    assert_eq!(interface.add_peer(now, &own), Err(error));
    interface.add_peer(now, &alice).unwrap();
    let result = interface.set_private_key(Some(&ALICE.private_key()));
    assert_eq!(result, Err(error));
    assert_eq!(interface.public_key(), Some(key.public_key()));
    assert_eq!(interface.peer_count(), 1);
}

/// A preshared key that is changed counts from the next handshake; the session lives on (a setter
/// once changed the configuration and not the state machine).
#[test]
fn a_new_psk_counts_from_the_next_handshake() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let mut session = rig.as_responder();
        rig.node
            .set_preshared_key(&PresharedKey::from_bytes([8; 32]));
        assert!(rig.give(&session.seal(&to_node(50))).is_ok());
        session.open(&rig.seal(&to_puppet(50)).unwrap());

        rig.skip(secs(10));
        let asked = rig.asks();
        let heard = rig.puppet.hear(&asked);
        let (response, _) = rig.puppet.respond(heard);
        assert_eq!(rig.refuses(ALICE.addr(), &response), Rejected::Forged);

        rig.puppet.psk = [8; 32];
        rig.skip(secs(10));
        let mut session = rig.as_initiator();
        assert!(rig.give(&session.seal(&to_node(50))).is_ok());
        rig.as_responder();
    });
}
