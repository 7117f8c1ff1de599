//! boringtun's `noise::Tunn`, driven as its own device loop drives it.
//!
//! It reads the clock itself. It copies from the caller's buffer into another in both directions.

use core::net::SocketAddr;
use std::sync::Arc;

use ::boringtun::noise::errors::WireGuardError;
use ::boringtun::noise::rate_limiter::RateLimiter;
use ::boringtun::noise::{Tunn, TunnResult};
use ::boringtun::x25519::{PublicKey, StaticSecret};

use crate::report::locked;
use crate::tunnel::{BUFFER, Config, Refused, Sink, Tunnel};

/// A boringtun tunnel with its output buffer.
pub struct Boringtun {
    tunn: Tunn,
    out: Box<[u8]>,
}

impl Tunnel for Boringtun {
    const NAME: &'static str = "boringtun";

    type Packet = Vec<u8>;
    type Datagram = Vec<u8>;
    type Error = Refused<WireGuardError>;

    fn new(config: &Config) -> Self {
        let public = PublicKey::from(config.public());
        let index = u32::from_le_bytes([config.seed[0], config.seed[1], config.seed[2], 0]);
        let limiter = RateLimiter::new(&public, config.load.limit());
        let tunn = Tunn::new(
            StaticSecret::from(config.private),
            PublicKey::from(config.peer),
            config.psk,
            None,
            index,
            Some(Arc::new(limiter)),
        );
        Self {
            tunn,
            out: vec![0; BUFFER].into(),
        }
    }

    fn backend() -> String {
        let [ring, dalek] = [locked("ring", ""), locked("x25519-dalek", "2.")];
        format!("ring {ring}, x25519-dalek {dalek}")
    }

    fn load_packet(&mut self, packet: &[u8]) -> Vec<u8> {
        packet.to_vec()
    }

    fn load_datagram(&mut self, datagram: &[u8]) -> Vec<u8> {
        datagram.to_vec()
    }

    fn initiate(&mut self, sink: &mut impl Sink) -> Result<(), Self::Error> {
        put_out(
            self.tunn.format_handshake_initiation(&mut self.out, true),
            sink,
        )
        .map(drop)
    }

    fn receive(
        &mut self,
        source: SocketAddr,
        datagram: &mut Vec<u8>,
        sink: &mut impl Sink,
    ) -> Result<(), Self::Error> {
        let result = self
            .tunn
            .decapsulate(Some(source.ip()), datagram, &mut self.out);
        let mut more = put_out(result, sink)?;
        while more {
            more = put_out(self.tunn.decapsulate(None, &[], &mut self.out), sink)?;
        }
        Ok(())
    }

    fn seal(&mut self, packet: &mut Vec<u8>, sink: &mut impl Sink) -> Result<(), Self::Error> {
        put_out(self.tunn.encapsulate(packet, &mut self.out), sink).map(drop)
    }

    fn timers(&mut self, sink: &mut impl Sink) -> Result<(), Self::Error> {
        put_out(self.tunn.update_timers(&mut self.out), sink).map(drop)
    }
}

/// Passes a result on; says whether queued packets may follow.
fn put_out(result: TunnResult<'_>, sink: &mut impl Sink) -> Result<bool, Refused<WireGuardError>> {
    match result {
        TunnResult::Done => return Ok(false),
        TunnResult::Err(error) => return Err(error.into()),
        TunnResult::WriteToNetwork(datagram) => sink.send(datagram),
        TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
            sink.deliver(packet);
            return Ok(false);
        }
    }
    Ok(true)
}
