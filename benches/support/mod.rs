//! What the benches share: two interfaces with a session between them, and packets.

#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod baseline;

use core::hint::black_box;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use quietwire::rand_core::UnwrapErr;
use quietwire::{
    Cidr, Env, Instant, Interface, Opened, Outgoing, PeerConfig, PeerId, PrivateKey, Refused,
    SealFailure, SealJob, Transmit,
};

/// Packets in a batch, as many as the cipher takes at once.
pub(crate) const BATCH: usize = 16;

/// Room that sealing in place needs in front of a packet, and at most behind it.
pub(crate) const HEAD: usize = 16;
pub(crate) const TAIL: usize = 31;

pub(crate) const FIRST: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 51820);
pub(crate) const SECOND: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 51820);

type Sealed = Result<SealJob<'static, Vec<u8>>, SealFailure<'static, Vec<u8>>>;
type Received = Result<Opened<Vec<u8>>, Refused<Vec<u8>>>;

/// Two interfaces that know each other, with one clock. Buffers are owned vectors, so that the
/// lists of a batch can be used again.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) first: Interface,
    pub(crate) second: Interface,
    /// The second, as the first knows it.
    pub(crate) peer: PeerId,
    pub(crate) now: Instant,
    sealed: Vec<Sealed>,
    opened: Vec<Received>,
}

impl Pair {
    /// Both ends; each routes everything to the other.
    pub(crate) fn new() -> Self {
        let mut rng = UnwrapErr(getrandom::SysRng);
        let keys = [(); 2].map(|()| PrivateKey::generate(&mut rng));
        let now = Instant::from_nanos(0);
        let [mut first, mut second] = keys.each_ref().map(|key| Interface::new(Some(key), now));
        let [first_key, second_key] = keys.each_ref().map(PrivateKey::public_key);
        let everything = [Cidr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).unwrap()];
        let config = PeerConfig::new(second_key)
            .endpoint(SECOND)
            .allowed_ips(&everything);
        let peer = first.add_peer(now, &config).unwrap();
        let config = PeerConfig::new(first_key)
            .endpoint(FIRST)
            .allowed_ips(&everything);
        second.add_peer(now, &config).unwrap();
        Self {
            first,
            second,
            peer,
            now,
            sealed: Vec::new(),
            opened: Vec::new(),
        }
    }

    /// The same with a session that both have confirmed.
    pub(crate) fn established() -> Self {
        let mut pair = Self::new();
        pair.handshake();
        pair
    }

    /// Initiation, response, keepalive.
    pub(crate) fn handshake(&mut self) {
        let initiation = self.initiate();
        self.second
            .receive(self.now, FIRST, &mut bytes(&initiation))
            .unwrap();
        let response = poll(&mut self.second, self.now).unwrap();
        self.first
            .receive(self.now, SECOND, &mut bytes(&response))
            .unwrap();
        let keepalive = poll(&mut self.first, self.now).unwrap();
        self.second
            .receive(self.now, FIRST, &mut bytes(&keepalive))
            .unwrap();
    }

    /// Asks for a handshake once it is allowed again, and returns its first message.
    pub(crate) fn initiate(&mut self) -> Transmit {
        self.now = self.now + Duration::from_secs(6);
        self.first.peer_mut(self.peer).unwrap().initiate(self.now);
        poll(&mut self.first, self.now).unwrap()
    }

    /// Seals what lies in `buffers` between [`HEAD`] and [`TAIL`], in batches of `at_once`.
    pub(crate) fn seal_all(&mut self, buffers: &mut [Vec<u8>], at_once: usize) {
        for batch in buffers.chunks_mut(at_once) {
            let outgoing = batch.iter_mut().map(|buffer| {
                let payload = HEAD..buffer.len() - TAIL;
                Outgoing::in_place(core::mem::take(buffer), payload)
            });
            self.first.seal_batch(self.now, outgoing, &mut self.sealed);
            for (buffer, sealed) in batch.iter_mut().zip(self.sealed.drain(..)) {
                let mut job = sealed.unwrap();
                black_box(job.datagram());
                *buffer = job.into_parts().0;
            }
        }
    }

    /// The same, one call a packet.
    pub(crate) fn seal_each(&mut self, buffers: &mut [Vec<u8>]) {
        for buffer in buffers {
            let payload = HEAD..buffer.len() - TAIL;
            black_box(self.first.seal(self.now, buffer, payload).unwrap());
        }
    }

    /// Receives datagrams in batches of `at_once`.
    pub(crate) fn receive_all(&mut self, datagrams: &mut [Vec<u8>], at_once: usize) {
        for batch in datagrams.chunks_mut(at_once) {
            let arriving = batch
                .iter_mut()
                .map(|buffer| (FIRST, core::mem::take(buffer)));
            self.second
                .receive_batch(self.now, arriving, &mut self.opened);
            for (buffer, opened) in batch.iter_mut().zip(self.opened.drain(..)) {
                let mut opened = opened.unwrap();
                assert!(!black_box(opened.packet()).is_empty());
                *buffer = opened.into_parts().0;
            }
        }
    }

    /// The same, one call a datagram.
    pub(crate) fn receive_each(&mut self, datagrams: &mut [Vec<u8>]) {
        for datagram in datagrams {
            black_box(self.second.receive(self.now, FIRST, datagram).unwrap());
        }
    }

    /// Datagrams that the second has not seen.
    pub(crate) fn datagrams(&mut self, length: usize, count: usize) -> Vec<Vec<u8>> {
        let mut buffers = buffers(length, count);
        for buffer in &mut buffers {
            let sealed = self.first.seal(self.now, buffer, HEAD..HEAD + length);
            let length = sealed.unwrap().datagram.len();
            buffer.truncate(length);
        }
        buffers
    }
}

/// Polls once, with the system's randomness.
pub(crate) fn poll(interface: &mut Interface, now: Instant) -> Option<Transmit> {
    let mut rng = UnwrapErr(getrandom::SysRng);
    while interface.poll_event().is_some() {}
    interface.poll_transmit(
        now,
        &mut Env::new(&mut rng, Duration::from_secs(1_700_000_000)),
    )
}

/// A control message in a buffer of its own.
pub(crate) fn bytes(transmit: &Transmit) -> Vec<u8> {
    transmit.message.as_bytes().to_vec()
}

/// Packets of `length` bytes with room around them.
pub(crate) fn buffers(length: usize, count: usize) -> Vec<Vec<u8>> {
    vec![[&[0; HEAD][..], &ipv4(length), &[0; TAIL]].concat(); count]
}

/// An IPv4 packet from 10.0.0.1 to 10.0.0.2, without a checksum.
pub(crate) fn ipv4(length: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; length];
    let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
    packet[..20].copy_from_slice(&[
        0x45, 0, high, low, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    packet
}

/// A yardstick: the `chacha20poly1305` crate, with a cipher made for each message, of a key that is
/// kept as bytes, as jobs keep theirs.
pub(crate) mod bare {
    use core::hint::black_box;

    use chacha20poly1305::ChaCha20Poly1305;
    use chacha20poly1305::aead::{AeadInOut, KeyInit};

    pub(crate) struct Bare {
        key: [u8; 32],
        counter: u64,
    }

    impl Bare {
        pub(crate) fn new() -> Self {
            Self {
                key: [7; 32],
                counter: 0,
            }
        }

        /// Seals in place; the last 16 bytes are the tag's.
        pub(crate) fn seal(&mut self, buffer: &mut [u8]) {
            let nonce = nonce(self.counter);
            self.counter += 1;
            let (text, tag) = buffer.split_last_chunk_mut::<16>().unwrap();
            *tag = self
                .cipher()
                .encrypt_inout_detached(&nonce.into(), &[], text.into())
                .unwrap()
                .into();
        }

        /// Opens in place what was sealed under this counter.
        pub(crate) fn open(&self, counter: u64, buffer: &mut [u8]) {
            let (text, tag) = buffer.split_last_chunk_mut::<16>().unwrap();
            self.cipher()
                .decrypt_inout_detached(&nonce(counter).into(), &[], text.into(), (&*tag).into())
                .unwrap();
        }

        fn cipher(&self) -> ChaCha20Poly1305 {
            ChaCha20Poly1305::new(black_box(&self.key).into())
        }

        /// The counter of the next seal.
        pub(crate) fn counter(&self) -> u64 {
            self.counter
        }
    }

    fn nonce(counter: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        nonce
    }
}
