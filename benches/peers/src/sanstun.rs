//! sanstun's `Interface` with one `Tunnel`.
//!
//! The caller owns the clock and the randomness. It leaves trimming to the caller, so that is done
//! here. It copies from the caller's buffer into another in both directions.

use core::net::SocketAddr;
use core::time::Duration;
use std::time::{Instant, SystemTime};

use ::sanstun::{
    Committed, Error, Event, Interface, PresharedKey, PublicKey, Received, ReceivedMessage,
    StaticSecret, TransportData, TunnelConfig,
};
use zeroize::Zeroizing;

use crate::packet::trim;
use crate::report::locked;
use crate::tunnel::{BUFFER, Config, Refused, Sink, Tunnel};

/// A sanstun interface, its only tunnel, its clock and its output buffer.
pub struct Sanstun {
    interface: Interface,
    tunnel: ::sanstun::Tunnel,
    now: Instant,
    out: Box<[u8]>,
}

impl Tunnel for Sanstun {
    const NAME: &'static str = "sanstun";

    type Packet = Vec<u8>;
    type Datagram = Vec<u8>;
    type Error = Refused<Error>;

    fn new(config: &Config) -> Self {
        let now = Instant::now();
        let unix = SystemTime::UNIX_EPOCH
            .elapsed()
            .expect("the clock is past 1970");
        let mut interface = Interface::new(Zeroizing::new(config.seed), now, unix)
            .with_static_private(StaticSecret::from(Zeroizing::new(config.private)))
            .with_handshake_limit(config.load.limit());
        let psk = config
            .psk
            .map(|psk| PresharedKey::from(Zeroizing::new(psk)));
        let options = psk
            .into_iter()
            .fold(TunnelConfig::default(), TunnelConfig::with_preshared_key);
        let tunnel = interface
            .new_tunnel(PublicKey::from(config.peer), options, now)
            .expect("the peer's key is a good point");
        Self {
            interface,
            tunnel,
            now,
            out: vec![0; BUFFER].into(),
        }
    }

    fn backend() -> String {
        let [ring, dalek] = [locked("ring", ""), locked("x25519-dalek", "3.")];
        format!("ring {ring}, x25519-dalek {dalek}")
    }

    fn advance(&mut self, by: Duration) -> bool {
        self.now += by;
        true
    }

    fn load_packet(&mut self, packet: &[u8]) -> Vec<u8> {
        packet.to_vec()
    }

    fn load_datagram(&mut self, datagram: &[u8]) -> Vec<u8> {
        datagram.to_vec()
    }

    fn initiate(&mut self, sink: &mut impl Sink) -> Result<(), Self::Error> {
        sink.send(
            &self
                .tunnel
                .restart_handshake(self.now)
                .ok_or(Refused::Silent)?,
        );
        Ok(())
    }

    fn receive(
        &mut self,
        source: SocketAddr,
        datagram: &mut Vec<u8>,
        sink: &mut impl Sink,
    ) -> Result<(), Self::Error> {
        let message = match self.interface.receive(source, datagram, self.now)? {
            Received::Message(message) => message,
            Received::SendCookieReply(reply) => {
                sink.send(&reply);
                return Ok(());
            }
        };
        match message {
            ReceivedMessage::HandshakeInitiation(initiation) => {
                sink.send(
                    &self
                        .tunnel
                        .handle_handshake_initiation(initiation, self.now)?,
                );
            }
            ReceivedMessage::HandshakeResponse(response) => {
                sink.send(&self.tunnel.handle_handshake_response(response, self.now)?);
            }
            ReceivedMessage::CookieReply(reply) => {
                self.tunnel.handle_cookie_reply(reply, self.now)?;
            }
            ReceivedMessage::TransportData(header) => self.open(header, datagram, sink)?,
        }
        Ok(())
    }

    fn seal(&mut self, packet: &mut Vec<u8>, sink: &mut impl Sink) -> Result<(), Self::Error> {
        sink.send(
            &self
                .tunnel
                .begin_encapsulate(self.now)?
                .encrypt(packet, &mut self.out)?,
        );
        Ok(())
    }

    fn timers(&mut self, sink: &mut impl Sink) -> Result<(), Self::Error> {
        self.tunnel.handle_timeout(self.now);
        while let Some(event) = self.tunnel.poll_event() {
            match event {
                Event::SendHandshakeInitiation(datagram) | Event::SendKeepalive(datagram) => {
                    sink.send(&datagram);
                }
                Event::Established { .. } => {}
                Event::ConnectionExpired => return Err(Error::ConnectionExpired.into()),
            }
        }
        Ok(())
    }
}

impl Sanstun {
    fn open(
        &mut self,
        header: TransportData,
        datagram: &[u8],
        sink: &mut impl Sink,
    ) -> Result<(), Refused<Error>> {
        let pending = self.tunnel.begin_decapsulate(header, self.now)?;
        let decrypted = pending.decrypt(datagram, &mut self.out);
        match self.tunnel.commit_decapsulate(decrypted, self.now)? {
            Committed::Keepalive => {}
            Committed::Data { buffer, len } => {
                sink.deliver(trim(&buffer[..len]).ok_or(Refused::NotIp)?);
            }
        }
        Ok(())
    }
}
