//! The whole protocol against an implementation of Noise that is not ours.

use quietwire::rand_core::{TryCryptoRng, TryRng};
use quietwire::{Control, Env};

use crate::puppet::{Got, NOTHING, Rig, for_both, mac, macs, tai64n, to_node, to_puppet};
use crate::support::{millis, secs};

const PSKS: [[u8; 32]; 2] = [[0; 32], [0xb7; 32]];

/// Randomness that is the same byte for ever, so that both implementations draw the same keys.
struct Same(u8);

impl TryRng for Same {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(u32::from_ne_bytes([self.0; 4]))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(u64::from_ne_bytes([self.0; 8]))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        out.fill(self.0);
        Ok(())
    }
}

impl TryCryptoRng for Same {}

/// Node initiates, snow responds; then data both ways, padded and unpadded (white paper, 5.4).
#[test]
fn initiator_against_snow() {
    for_both(|kind| {
        for psk in PSKS {
            let mut rig = Rig::with_psk(kind, psk);
            rig.unix = secs(1_700_000_000) + millis(123);
            let initiation = rig.asks();
            let heard = rig.puppet.hear(&initiation);
            assert_eq!(heard.stamp, tai64n(rig.unix));
            assert_eq!(macs(&initiation).2, [0; 16], "no cookie, no mac2");
            let (response, mut session) = rig.puppet.respond(heard);
            assert_eq!(rig.give(&response), Ok(Got::Control(Control::Response)));
            assert_eq!(session.open(&rig.only()), (0, NOTHING), "the confirmation");
            for (n, len) in (1..).zip([20, 28, 31, 32, 33, 1420, 9000]) {
                let packet = to_puppet(len);
                let (counter, opened) = session.open(&rig.seal(&packet).unwrap());
                assert_eq!(counter, n);
                assert_eq!(opened[..len], packet);
                assert!(opened[len..].iter().all(|byte| *byte == 0));
                let packet = to_node(len);
                let datagram = session.seal(&packet);
                assert_eq!(rig.give(&datagram), Ok(Got::Packet(packet.clone())));
                let padded = [&packet[..], &[0; 13]].concat();
                let datagram = session.seal(&padded);
                assert_eq!(rig.give(&datagram), Ok(Got::Packet(packet)));
            }
        }
    });
}

/// Snow initiates, node responds.
#[test]
fn responder_against_snow() {
    for_both(|kind| {
        for psk in PSKS {
            let mut rig = Rig::with_psk(kind, psk);
            let mut session = rig.responds();
            assert!(rig.seal(&to_puppet(100)).is_err(), "not confirmed yet");
            let packet = to_node(100);
            let datagram = session.seal(&packet);
            assert_eq!(rig.give(&datagram), Ok(Got::Packet(packet)));
            for counter in 0..5 {
                let packet = to_puppet(96);
                let datagram = rig.seal(&packet).unwrap();
                assert_eq!(session.open(&datagram), (counter, packet));
                let datagram = session.seal(&[]);
                assert_eq!(rig.give(&datagram), Ok(Got::Keepalive));
            }
        }
    });
}

/// With the same keys, index and randomness the initiation is the same 148 bytes.
#[test]
fn initiation_is_the_same_bytes_as_snows() {
    for_both(|kind| {
        for psk in PSKS {
            let mut rig = Rig::with_psk(kind, psk);
            rig.node.initiate(rig.now);
            let mut same = Same(0x42);
            let mut env = Env::new(&mut same, rig.unix);
            let ours = rig.node.poll_transmit(rig.now, &mut env).unwrap();

            // The puppet becomes Bob, whom the node plays, talking to Alice.
            let mut twin = crate::puppet::Puppet::of(crate::puppet::BOB);
            (twin.psk, twin.ephemeral) = (psk, Some([0x42; 32]));
            twin.index = 0x4242_4241;
            let (theirs, _) = twin.initiate(tai64n(rig.unix));
            assert_eq!(ours.message.as_bytes(), theirs);
        }
    });
}

/// With the same keys, index and randomness the response is the same 92 bytes, with and without psk.
#[test]
fn response_is_the_same_bytes_as_snows() {
    for_both(|kind| {
        for psk in PSKS {
            let mut rig = Rig::with_psk(kind, psk);
            let (initiation, asked) = rig.initiation();
            rig.give(&initiation).unwrap();
            let mut same = Same(0x17);
            let mut env = Env::new(&mut same, rig.unix);
            let ours = rig.node.poll_transmit(rig.now, &mut env).unwrap();

            let mut twin = crate::puppet::Puppet::of(crate::puppet::BOB);
            (twin.psk, twin.ephemeral) = (psk, Some([0x17; 32]));
            twin.index = 0x1717_1716;
            let heard = twin.hear(&initiation);
            let (theirs, mut session) = twin.respond(heard);
            assert_eq!(ours.message.as_bytes(), theirs);
            // And so are the transport keys: what the twin seals, the puppet opens.
            let ours = rig.puppet.read_response(asked, &theirs);
            assert_eq!(ours.open(&session.seal(b"hello")), (0, b"hello".to_vec()));
        }
    });
}

/// A psk on one side only: the handshake fails at its response and changes nothing.
#[test]
fn different_psks_do_not_meet() {
    for_both(|kind| {
        let mut rig = Rig::with_psk(kind, [3; 32]);
        rig.puppet.psk = [4; 32];
        let initiation = rig.asks();
        let heard = rig.puppet.hear(&initiation);
        let (response, _) = rig.puppet.respond(heard);
        let reason = rig.refuses(crate::puppet::ALICE.addr(), &response);
        assert_eq!(reason, quietwire::Rejected::Forged);
    });
}

/// The cookie of a reply, as a third implementation reads it, makes the mac2 that is believed
/// (white paper, section 5.4.7).
#[test]
fn cookies_against_blake2_and_chacha() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        rig.node.set_load(quietwire::Load::UnderLoad);
        let (initiation, _) = rig.initiation();
        let verdict = rig.give(&initiation);
        assert_eq!(verdict, Err(quietwire::Rejected::CookieRequired));
        let reply = rig.only();
        let (index, mac1) = (rig.puppet.index, macs(&initiation).1);
        rig.puppet.read_cookie(&reply, index, mac1);
        rig.as_responder();
    });
}

/// And the other way round: the node keeps the cookie that it is sent and proves it.
#[test]
fn cookies_kept_against_blake2_and_chacha() {
    for_both(|kind| {
        let mut rig = Rig::new(kind);
        let first = rig.asks();
        let index = crate::puppet::index_at(&first, 4);
        let reply = rig.puppet.cookie_reply(index, macs(&first).1, [0xc0; 16]);
        assert_eq!(rig.give(&reply), Ok(Got::Control(Control::Cookie)));
        assert!(rig.sent().is_empty(), "a cookie is not answered");
        let again = rig.pass(secs(6)).remove(0);
        let (_, _, mac2) = macs(&again);
        assert_eq!(mac2, mac(&[0xc0; 16], &again[..132]));
    });
}
