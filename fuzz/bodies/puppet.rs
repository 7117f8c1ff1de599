//! A peer that says what it is told to: the protocol written a second time, from the white paper.
//!
//! It shares the primitives with the crate and nothing else. It checks nothing, remembers nothing
//! and seals whatever it is given, so a fuzzer gets past the macs and the tags.

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, KeyInit, Update};
use blake2::{Blake2s256, Blake2sMac};
use chacha20poly1305::aead::AeadInOut;
use chacha20poly1305::{ChaCha20Poly1305, XChaCha20Poly1305};
use x25519_dalek::{PublicKey, StaticSecret};

pub type Key = [u8; 32];

/// A static key pair and the public key and preshared key of the party that it talks to.
#[derive(Clone, Debug)]
pub struct Puppet {
    pub private: Key,
    pub public: Key,
    pub other: Key,
    pub psk: Key,
}

/// Chaining key and transcript hash of a handshake.
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    c: Key,
    h: Key,
}

/// An initiation that was written, or one that was read.
#[derive(Clone, Copy, Debug)]
pub struct First {
    noise: Noise,
    /// Our ephemeral private key when we wrote it, their public one when we read it.
    ephemeral: Key,
    pub sender: u32,
    pub timestamp: [u8; 12],
}

/// What a completed handshake gives.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    pub send: Key,
    pub receive: Key,
    /// The other party's index.
    pub remote: u32,
    /// The puppet's index.
    pub local: u32,
}

impl Puppet {
    pub fn new(private: Key, other: Key, psk: Key) -> Self {
        let public = public(&private);
        Self {
            private,
            public,
            other,
            psk,
        }
    }

    /// Initiation, unsigned.
    pub fn initiation(&self, ephemeral: Key, sender: u32, timestamp: [u8; 12]) -> (Vec<u8>, First) {
        let mut noise = Noise::new(&self.other);
        let ephemeral_public = public(&ephemeral);
        noise.mix_ephemeral(&ephemeral_public);
        let k = noise.mix_key2(&dh(&ephemeral, &self.other));
        let sealed_static = noise.seal(&k, &self.public);
        let k = noise.mix_key2(&dh(&self.private, &self.other));
        let sealed_timestamp = noise.seal(&k, &timestamp);
        let message = [
            &[1, 0, 0, 0][..],
            &sender.to_le_bytes(),
            &ephemeral_public,
            &sealed_static,
            &sealed_timestamp,
            &[0; 32],
        ]
        .concat();
        (
            message,
            First {
                noise,
                ephemeral,
                sender,
                timestamp,
            },
        )
    }

    /// Reads an initiation that was written for this puppet by the other party.
    pub fn read_initiation(&self, message: &[u8]) -> Option<First> {
        let mut noise = Noise::new(&self.public);
        let ephemeral: Key = array(message.get(8..40)?);
        noise.mix_ephemeral(&ephemeral);
        let k = noise.mix_key2(&dh(&self.private, &ephemeral));
        let initiator = noise.open(&k, &message[40..88])?;
        if initiator != self.other {
            return None;
        }
        let k = noise.mix_key2(&dh(&self.private, &self.other));
        let timestamp = array(&noise.open(&k, &message[88..116])?);
        let sender = u32::from_le_bytes(array(&message[4..8]));
        Some(First {
            noise,
            ephemeral,
            sender,
            timestamp,
        })
    }

    /// Response, unsigned, to an initiation that was read.
    pub fn response(&self, first: &First, ephemeral: Key, sender: u32) -> (Vec<u8>, Keys) {
        let mut noise = first.noise;
        let ephemeral_public = public(&ephemeral);
        noise.mix_ephemeral(&ephemeral_public);
        noise.mix_key(&dh(&ephemeral, &first.ephemeral));
        noise.mix_key(&dh(&ephemeral, &self.other));
        let k = noise.mix_psk(&self.psk);
        let nothing = noise.seal(&k, &[]);
        let message = [
            &[2, 0, 0, 0][..],
            &sender.to_le_bytes(),
            &first.sender.to_le_bytes(),
            &ephemeral_public,
            &nothing,
            &[0; 32],
        ]
        .concat();
        let [receive, send] = kdf(&noise.c, &[]);
        (
            message,
            Keys {
                send,
                receive,
                remote: first.sender,
                local: sender,
            },
        )
    }

    /// Reads the response to an initiation that was written.
    pub fn read_response(&self, first: &First, message: &[u8]) -> Option<Keys> {
        let mut noise = first.noise;
        let ephemeral: Key = array(message.get(12..44)?);
        noise.mix_ephemeral(&ephemeral);
        noise.mix_key(&dh(&first.ephemeral, &ephemeral));
        noise.mix_key(&dh(&self.private, &ephemeral));
        let k = noise.mix_psk(&self.psk);
        noise.open(&k, &message[44..60])?;
        let [send, receive] = kdf(&noise.c, &[]);
        let remote = u32::from_le_bytes(array(&message[4..8]));
        Some(Keys {
            send,
            receive,
            remote,
            local: first.sender,
        })
    }

    /// Writes both macs of a handshake message to the other party.
    pub fn sign(&self, message: &mut [u8], cookie: Option<[u8; 16]>) {
        let Some(at1) = message.len().checked_sub(32) else {
            return;
        };
        let at2 = at1 + 16;
        let key = hash(&[b"mac1----", &self.other]);
        let mac1 = mac(&key, &message[..at1]);
        message[at1..at2].copy_from_slice(&mac1);
        let mac2 = cookie.map_or([0; 16], |cookie| mac(&cookie, &message[..at2]));
        message[at2..].copy_from_slice(&mac2);
    }

    /// Whether mac1 of a handshake message to this puppet is right.
    pub fn mac1_is_right(&self, message: &[u8]) -> bool {
        let (covered, macs) = message.split_at(message.len() - 32);
        mac(&hash(&[b"mac1----", &self.public]), covered) == macs[..16]
    }

    /// Cookie reply to the message with `mac1` and the sender index `receiver`.
    pub fn cookie_reply(
        &self,
        receiver: u32,
        nonce: [u8; 24],
        cookie: [u8; 16],
        mac1: &[u8],
    ) -> Vec<u8> {
        let key = hash(&[b"cookie--", &self.public]);
        let mut sealed = cookie.to_vec();
        let tag = XChaCha20Poly1305::new(&key.into())
            .encrypt_inout_detached(&nonce.into(), mac1, sealed.as_mut_slice().into())
            .unwrap();
        [
            &[3, 0, 0, 0][..],
            &receiver.to_le_bytes(),
            &nonce,
            &sealed,
            &tag,
        ]
        .concat()
    }

    /// The cookie in a reply to the message of ours with `mac1`.
    pub fn read_cookie(&self, mac1: &[u8], reply: &[u8]) -> Option<[u8; 16]> {
        let key = hash(&[b"cookie--", &self.other]);
        let nonce: [u8; 24] = array(reply.get(8..32)?);
        let mut cookie: [u8; 16] = array(reply.get(32..48)?);
        let tag: [u8; 16] = array(reply.get(48..64)?);
        XChaCha20Poly1305::new(&key.into())
            .decrypt_inout_detached(
                &nonce.into(),
                mac1,
                cookie.as_mut_slice().into(),
                &tag.into(),
            )
            .ok()?;
        Some(cookie)
    }
}

impl Keys {
    /// A data message with any counter around any plaintext.
    pub fn data(&self, counter: u64, plaintext: &[u8]) -> Vec<u8> {
        let sealed = seal(&self.send, counter, &[], plaintext);
        let header = [
            &[4, 0, 0, 0][..],
            &self.remote.to_le_bytes(),
            &counter.to_le_bytes(),
        ];
        [header.concat(), sealed].concat()
    }

    /// Counter and plaintext of a data message of this session.
    pub fn open(&self, datagram: &[u8]) -> Option<(u64, Vec<u8>)> {
        let (header, sealed) = datagram.split_at_checked(16)?;
        if header[..4] != [4, 0, 0, 0] || header[4..8] != self.local.to_le_bytes() {
            return None;
        }
        let counter = u64::from_le_bytes(array(&header[8..]));
        Some((counter, open(&self.receive, counter, &[], sealed)?))
    }
}

impl Noise {
    fn new(responder: &Key) -> Self {
        let c = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
        let h = hash(&[&c, b"WireGuard v1 zx2c4 Jason@zx2c4.com"]);
        Self {
            c,
            h: hash(&[&h, responder]),
        }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.h = hash(&[&self.h, data]);
    }

    fn mix_key(&mut self, input: &Key) {
        [self.c] = kdf(&self.c, input);
    }

    fn mix_key2(&mut self, input: &Key) -> Key {
        let [c, k] = kdf(&self.c, input);
        self.c = c;
        k
    }

    fn mix_ephemeral(&mut self, ephemeral: &Key) {
        self.mix_key(ephemeral);
        self.mix_hash(ephemeral);
    }

    fn mix_psk(&mut self, psk: &Key) -> Key {
        let [c, tau, k] = kdf(&self.c, psk);
        self.c = c;
        self.mix_hash(&tau);
        k
    }

    fn seal(&mut self, key: &Key, plaintext: &[u8]) -> Vec<u8> {
        let sealed = seal(key, 0, &self.h, plaintext);
        self.mix_hash(&sealed);
        sealed
    }

    fn open(&mut self, key: &Key, sealed: &[u8]) -> Option<Vec<u8>> {
        let plaintext = open(key, 0, &self.h, sealed)?;
        self.mix_hash(sealed);
        Some(plaintext)
    }
}

pub fn public(private: &Key) -> Key {
    PublicKey::from(&StaticSecret::from(*private)).to_bytes()
}

fn dh(private: &Key, public: &Key) -> Key {
    let private = StaticSecret::from(*private);
    private.diffie_hellman(&PublicKey::from(*public)).to_bytes()
}

fn hash(parts: &[&[u8]]) -> Key {
    let mut state = Blake2s256::default();
    parts.iter().for_each(|part| state.update(part));
    state.finalize_fixed().into()
}

fn mac(key: &[u8], data: &[u8]) -> [u8; 16] {
    let mut state = Blake2sMac::<U16>::new_from_slice(key).unwrap();
    Update::update(&mut state, data);
    state.finalize_fixed().into()
}

/// RFC 2104 over BLAKE2s, for keys of 32 bytes.
fn hmac(key: &Key, data: &[u8]) -> Key {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    hash(&[&pad(0x5c), &hash(&[&pad(0x36), data])])
}

fn kdf<const N: usize>(key: &Key, input: &[u8]) -> [Key; N] {
    let root = hmac(key, input);
    let mut last = Vec::new();
    let mut counter = 0;
    [(); N].map(|()| {
        counter += 1;
        last.push(counter);
        let next = hmac(&root, &last);
        last = next.to_vec();
        next
    })
}

fn nonce(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

fn seal(key: &Key, counter: u64, aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = plaintext.to_vec();
    let tag = ChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(&nonce(counter).into(), aad, sealed.as_mut_slice().into())
        .unwrap();
    sealed.extend(tag);
    sealed
}

fn open(key: &Key, counter: u64, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (text, tag) = sealed.split_last_chunk::<16>()?;
    let mut text = text.to_vec();
    ChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(
            &nonce(counter).into(),
            aad,
            text.as_mut_slice().into(),
            tag.into(),
        )
        .ok()?;
    Some(text)
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap()
}
