//! quietwire's `Interface` with one peer that everything is routed to.
//!
//! The caller owns the clock. Packets are sealed and opened where they lie, so a packet is loaded
//! with room around it. What has to be sent beside data is polled after each control message and in
//! [`timers`](Tunnel::timers), as a loop does once after a batch of packets.

use core::mem;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use ::quietwire::{
    Cidr, Instant, Interface, Load, Opened, OsEnv, Outgoing, PeerConfig, PeerId, PresharedKey,
    PrivateKey, PublicKey, Received, Refused as NotOpened, Rejected, SealError, SealFailure,
    SealJob,
};

use crate::report::locked;
use crate::tunnel::{self, Config, MTU, Refused, Sink, Tunnel};

/// An interface, its only peer, its clock, and lists that batches fill.
pub struct Quietwire {
    interface: Interface,
    peer: PeerId,
    now: Instant,
    os: OsEnv,
    sealed: Vec<Result<SealJob<'static, Vec<u8>>, SealFailure<'static, Vec<u8>>>>,
    opened: Vec<Result<Opened<Vec<u8>>, NotOpened<Vec<u8>>>>,
}

/// Why quietwire refused something.
#[derive(Debug)]
pub enum Error {
    /// A packet.
    Seal(SealError),
    /// A datagram.
    Open(Rejected),
}

impl Tunnel for Quietwire {
    const NAME: &'static str = "quietwire";

    type Packet = Vec<u8>;
    type Datagram = Vec<u8>;
    type Error = Refused<Error>;

    fn new(config: &Config) -> Self {
        let now = Instant::from_nanos(0);
        let mut interface = Interface::new(Some(&PrivateKey::from_bytes(config.private)), now);
        interface.set_load(match config.load {
            tunnel::Load::Never => Load::Normal,
            tunnel::Load::Always => Load::UnderLoad,
        });
        let everything = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ]
        .map(|address| Cidr::new(address, 0).expect("0 is a length"));
        let peer = PeerConfig::new(PublicKey::from_bytes(config.peer))
            .preshared_key(psk(config.psk))
            .endpoint(config.endpoint)
            .mtu(MTU)
            .allowed_ips(&everything);
        let peer = interface
            .add_peer(now, &peer)
            .expect("the peer is somebody else");
        Self {
            interface,
            peer,
            now,
            os: OsEnv::new(),
            sealed: Vec::new(),
            opened: Vec::new(),
        }
    }

    fn backend() -> String {
        let dalek = locked("x25519-dalek", "3.");
        let backend = ::quietwire::Backend::detect();
        format!("its own backend {backend}, x25519-dalek {dalek}")
    }

    fn advance(&mut self, by: Duration) -> bool {
        self.now = self.now + by;
        true
    }

    fn set_psk(&mut self, new: Option<[u8; 32]>) -> bool {
        self.peer_mut().set_preshared_key(&psk(new));
        true
    }

    fn load_packet(&mut self, packet: &[u8]) -> Vec<u8> {
        [&[0; HEAD], packet, &[0; TAIL]].concat()
    }

    fn load_datagram(&mut self, datagram: &[u8]) -> Vec<u8> {
        datagram.to_vec()
    }

    fn initiate(&mut self, sink: &mut impl Sink) -> Result<(), Self::Error> {
        let now = self.now;
        self.peer_mut().initiate(now);
        self.drain(sink).then_some(()).ok_or(Refused::Silent)
    }

    fn receive(
        &mut self,
        source: SocketAddr,
        datagram: &mut Vec<u8>,
        sink: &mut impl Sink,
    ) -> Result<(), Self::Error> {
        match self.interface.receive(self.now, source, datagram) {
            Ok((_, Received::Packet(packet))) => sink.deliver(packet),
            Ok((_, Received::Keepalive)) => {}
            Ok(_) | Err(Rejected::CookieRequired) => {
                self.drain(sink);
            }
            Err(error) => return Err(Error::Open(error).into()),
        }
        Ok(())
    }

    fn seal(&mut self, packet: &mut Vec<u8>, sink: &mut impl Sink) -> Result<(), Self::Error> {
        let payload = HEAD..packet.len() - TAIL;
        match self.interface.seal(self.now, packet, payload) {
            Ok(sealed) => sink.send(sealed.datagram),
            Err(error) => {
                self.drain(sink);
                return Err(Error::Seal(error).into());
            }
        }
        Ok(())
    }

    fn seal_batch(
        &mut self,
        packets: &mut [Vec<u8>],
        sink: &mut impl Sink,
    ) -> Result<(), Self::Error> {
        let outgoing = packets.iter_mut().map(|packet| {
            let payload = HEAD..packet.len() - TAIL;
            Outgoing::in_place(mem::take(packet), payload)
        });
        self.interface
            .seal_batch(self.now, outgoing, &mut self.sealed);
        for (packet, sealed) in packets.iter_mut().zip(self.sealed.drain(..)) {
            let mut job = sealed.map_err(|failure| Error::Seal(failure.error))?;
            sink.send(job.datagram());
            *packet = job.into_parts().0;
        }
        Ok(())
    }

    fn receive_batch(
        &mut self,
        source: SocketAddr,
        datagrams: &mut [Vec<u8>],
        sink: &mut impl Sink,
    ) -> Result<(), Self::Error> {
        let arriving = datagrams
            .iter_mut()
            .map(|datagram| (source, mem::take(datagram)));
        self.interface
            .receive_batch(self.now, arriving, &mut self.opened);
        for (datagram, opened) in datagrams.iter_mut().zip(self.opened.drain(..)) {
            let mut opened = opened.map_err(|refused| Error::Open(refused.reason))?;
            if !opened.packet().is_empty() {
                sink.deliver(opened.packet());
            }
            *datagram = opened.into_parts().0;
        }
        Ok(())
    }

    fn timers(&mut self, sink: &mut impl Sink) -> Result<(), Self::Error> {
        self.interface.handle_timeout(self.now);
        self.drain(sink);
        Ok(())
    }
}

impl Quietwire {
    fn peer_mut(&mut self) -> ::quietwire::PeerMut<'_> {
        self.interface
            .peer_mut(self.peer)
            .expect("nobody removes it")
    }

    /// Takes what is to be taken after a batch of calls; says whether something was sent.
    fn drain(&mut self, sink: &mut impl Sink) -> bool {
        while self.interface.poll_event().is_some() {}
        let mut any = false;
        while let Some(transmit) = self.interface.poll_transmit(self.now, &mut self.os.env()) {
            sink.send(transmit.message.as_bytes());
            any = true;
        }
        any
    }
}

/// Room that sealing in place needs in front of a packet, and at most behind it.
const HEAD: usize = 16;
const TAIL: usize = 31;

/// No preshared key is a preshared key of zeros.
fn psk(psk: Option<[u8; 32]>) -> PresharedKey {
    PresharedKey::from_bytes(psk.unwrap_or_default())
}
