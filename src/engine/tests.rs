//! Messages that only somebody with the crate's own Noise can write.

use core::net::SocketAddr;
use core::time::Duration;

use crate::cookie::Jar;
use crate::crypto::secret::Secret;
use crate::crypto::x25519::Private;
use crate::handshake::IDENTIFIER;
use crate::noise::{Symmetric, WriteInitiation};
use crate::wire::Initiation;
use crate::{Env, Instant, PeerConfig, PrivateKey, PublicKey, Rejected, Tunnel};

/// A peer whose configured key has low order: the secret that it shares with us is zero, so anybody
/// can write an initiation in its name. It must be refused although every tag in it is right.
#[test]
fn an_initiation_in_the_name_of_a_low_order_key_is_refused() {
    let mut one = [0; 32];
    one[0] = 1;
    for point in [[0; 32], one] {
        let key = PrivateKey::from_bytes([7; 32]);
        let peer = PeerConfig::new(PublicKey::from_bytes(point));
        let now = Instant::from_millis(1);
        let mut tunnel = Tunnel::<SocketAddr>::new(&key, &peer, now).unwrap();
        let own = tunnel.public_key();
        let write = WriteInitiation {
            ephemeral: &Private::from_bytes([3; 32]),
            own_public: &point,
            responder: own.as_bytes(),
            static_static: &Secret::zeroed(),
        };
        let mut sealed_timestamp = [0x40; 28];
        let state = Symmetric::new(IDENTIFIER, own.as_bytes());
        let (_, first) = write.run(state, &mut sealed_timestamp).unwrap();
        let mut message = Initiation {
            sender: 5,
            ephemeral: first.ephemeral,
            sealed_static: first.sealed_static,
            sealed_timestamp,
        }
        .emit();
        Jar::default().sign(now, own.as_bytes(), &mut message);

        let source: SocketAddr = "192.0.2.1:1".parse().unwrap();
        for _ in 0..3 {
            let mut datagram = message.as_bytes().to_vec();
            let verdict = tunnel.receive(now, source, &mut datagram);
            assert_eq!(verdict, Err(Rejected::LowOrderKey));
        }
        assert_eq!(tunnel.endpoint(), None);
        tunnel.initiate(now);
        let mut rng = rand_core::UnwrapErr(getrandom::SysRng);
        let mut env = Env::new(&mut rng, Duration::from_secs(1));
        assert!(tunnel.poll_transmit(now, &mut env).is_none());
    }
}

/// A tunnel is of fixed size, and what a reader of its documentation would expect: three sessions of
/// a bit more than a kilobyte each.
#[test]
fn sizes_are_bounded() {
    let size = size_of::<Tunnel>();
    assert!(size < 5 * 1024, "{size} bytes");
    let size = size_of::<crate::HandshakeJob>();
    assert!(size < 1024, "{size} bytes");
}
