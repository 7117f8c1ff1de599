//! A handshake and a packet inside a wasm module, to prove that the library imports nothing.

use core::convert::Infallible;
use core::net::SocketAddr;
use core::time::Duration;

use quietwire::rand_core::{TryCryptoRng, TryRng};
use quietwire::{Env, Instant, PeerConfig, PrivateKey, Received, Tunnel};

/// Returns 1 when a packet came through a tunnel whose keys follow from `seed`.
#[unsafe(no_mangle)]
pub extern "C" fn tunnel_works(seed: u64) -> u32 {
    u32::from(run(seed).is_some())
}

fn run(seed: u64) -> Option<()> {
    let mut rng = Counter(seed);
    let now = Instant::from_nanos(0);
    let at = |host| SocketAddr::from(([192, 0, 2, host], 51820));
    let (a_key, b_key) = (
        PrivateKey::generate(&mut rng),
        PrivateKey::generate(&mut rng),
    );
    let to_b = PeerConfig::new(b_key.public_key()).endpoint(at(2));
    let mut a = Tunnel::new(&a_key, &to_b, now).ok()?;
    let mut b = Tunnel::new(&b_key, &PeerConfig::new(a_key.public_key()), now).ok()?;
    a.initiate(now);
    let mut env = Env::new(&mut rng, Duration::from_secs(1));
    for _ in 0..3 {
        while let Some(t) = a.poll_transmit(now, &mut env) {
            b.receive(now, at(1), &mut t.message.as_bytes().to_vec())
                .ok()?;
        }
        while let Some(t) = b.poll_transmit(now, &mut env) {
            a.receive(now, at(2), &mut t.message.as_bytes().to_vec())
                .ok()?;
        }
    }
    let mut packet = [0; 20];
    packet[0] = 0x45;
    packet[3] = 20;
    let mut room = [0; 80];
    let sealed = b.seal_into(now, &packet, &mut room).ok()?;
    let received = a.receive(now, at(2), sealed.datagram).ok()?;
    matches!(received, Received::Packet(inner) if inner == packet).then_some(())
}

/// A generator for this proof alone: it counts.
struct Counter(u64);

impl TryRng for Counter {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64()
            .map(|n| u32::try_from(n >> 32).unwrap_or(0))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = self.try_next_u64()?.to_be_bytes()[0];
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}

#[cfg(feature = "alloc")]
#[unsafe(no_mangle)]
pub extern "C" fn interface_works() -> u32 {
    let mut interface: quietwire::Interface =
        quietwire::Interface::new(None, Instant::from_nanos(0));
    interface.handle_timeout(Instant::from_nanos(1));
    u32::from(interface.peer_count() == 0)
}
