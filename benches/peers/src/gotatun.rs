//! gotatun's `noise::Tunn`, driven as its own device loop drives it.
//!
//! It reads the clock itself and takes owned packets, which come from its pool: filling them is
//! outside the measured time, giving them back to the pool is inside. Sealing allocates the datagram.

use core::net::SocketAddr;
use std::sync::Arc;

use ::gotatun::noise::errors::WireGuardError;
use ::gotatun::noise::index_table::IndexTable;
use ::gotatun::noise::rate_limiter::RateLimiter;
use ::gotatun::noise::{Tunn, TunnResult};
use ::gotatun::packet::{Packet, PacketBufPool, WgKind};
use ::gotatun::tun::MtuWatcher;
use ::gotatun::x25519::{PublicKey, StaticSecret};

use crate::report::locked;
use crate::tunnel::{Config, MTU, Refused, Sink, Tunnel};

/// A gotatun tunnel with the parts of a device that it needs around it.
pub struct Gotatun {
    tunn: Tunn,
    limiter: Arc<RateLimiter>,
    pool: PacketBufPool,
    mtu: MtuWatcher,
}

impl Tunnel for Gotatun {
    const NAME: &'static str = "gotatun";

    type Packet = Option<Packet>;
    type Datagram = Option<Packet>;
    type Error = Refused<WireGuardError>;

    fn new(config: &Config) -> Self {
        let public = PublicKey::from(config.public());
        let limiter = Arc::new(RateLimiter::new(&public, config.load.limit()));
        let tunn = Tunn::new(
            StaticSecret::from(config.private),
            PublicKey::from(config.peer),
            config.psk,
            None,
            IndexTable::from_os_rng(),
            Arc::clone(&limiter),
        );
        let (pool, mtu) = (PacketBufPool::new(256), MtuWatcher::new(MTU));
        Self {
            tunn,
            limiter,
            pool,
            mtu,
        }
    }

    fn backend() -> String {
        let [aws, dalek] = [locked("aws-lc-rs", ""), locked("x25519-dalek", "2.")];
        format!("aws-lc-rs {aws}, x25519-dalek {dalek}")
    }

    fn set_psk(&mut self, psk: Option<[u8; 32]>) -> bool {
        self.tunn.set_preshared_key(psk);
        true
    }

    fn load_packet(&mut self, packet: &[u8]) -> Option<Packet> {
        let mut loaded = self.pool.get();
        loaded.truncate(packet.len());
        loaded.copy_from_slice(packet);
        Some(loaded)
    }

    fn load_datagram(&mut self, datagram: &[u8]) -> Option<Packet> {
        self.load_packet(datagram)
    }

    fn initiate(&mut self, sink: &mut impl Sink) -> Result<(), Self::Error> {
        let initiation = self
            .tunn
            .format_handshake_initiation(true)
            .ok_or(Refused::Silent)?;
        send(initiation.into(), sink);
        Ok(())
    }

    fn receive(
        &mut self,
        source: SocketAddr,
        datagram: &mut Option<Packet>,
        sink: &mut impl Sink,
    ) -> Result<(), Self::Error> {
        let datagram = datagram.take().expect("a loaded datagram is passed once");
        let result = match self.limiter.verify_packet(source, datagram) {
            Ok(verified) => self.tunn.handle_incoming_packet(verified),
            Err(TunnResult::WriteToNetwork(cookie)) => {
                send(cookie, sink);
                return Ok(());
            }
            Err(refused) => refused,
        };
        match result {
            TunnResult::Done => Ok(()),
            TunnResult::Err(error) => Err(error.into()),
            TunnResult::WriteToNetwork(reply) => {
                send(reply, sink);
                self.tunn
                    .get_queued_packets(&mut self.mtu)
                    .for_each(|queued| send(queued, sink));
                Ok(())
            }
            TunnResult::WriteToTunnel(packet) => deliver(packet, sink),
        }
    }

    fn seal(
        &mut self,
        packet: &mut Option<Packet>,
        sink: &mut impl Sink,
    ) -> Result<(), Self::Error> {
        let packet = packet.take().expect("a loaded packet is passed once");
        let sealed = self
            .tunn
            .handle_outgoing_packet(packet, Some(&mut self.mtu));
        send(sealed.ok_or(Refused::Silent)?, sink);
        Ok(())
    }

    fn timers(&mut self, sink: &mut impl Sink) -> Result<(), Self::Error> {
        if let Some(due) = self.tunn.update_timers()? {
            send(due, sink);
        }
        Ok(())
    }
}

fn send(datagram: WgKind, sink: &mut impl Sink) {
    sink.send(Packet::from(datagram).as_ref());
}

/// Checks and trims an inner packet, as the device does. An empty one is a keepalive.
fn deliver(packet: Packet, sink: &mut impl Sink) -> Result<(), Refused<WireGuardError>> {
    if packet.is_empty() {
        return Ok(());
    }
    let packet = packet.try_into_ipvx().map_err(|_| Refused::NotIp)?;
    let packet = packet.either(Packet::from, Packet::from);
    sink.deliver(AsRef::<[u8]>::as_ref(&packet));
    Ok(())
}
