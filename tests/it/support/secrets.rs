//! Every secret of a handshake, derived again from the white paper (section 5.4), so that tests can
//! look for it where it must not be.

use blake2::{Blake2s256, Digest};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Tag};
use x25519_dalek::{PublicKey, StaticSecret};

use super::Side;

type Key = [u8; 32];

/// The secrets of one handshake. All of them, the transport keys included, are in `all`.
pub(crate) struct HandshakeSecrets {
    pub(crate) from_initiator: Key,
    pub(crate) from_responder: Key,
    /// Named, for the failure message.
    pub(crate) all: Vec<(&'static str, Key)>,
}

impl HandshakeSecrets {
    /// Derives what both sides derive, from the private keys of both.
    pub(crate) fn derive(initiator: Side, psk: Key, ephemerals: [Key; 2]) -> Self {
        let own = *initiator.private_key().expose();
        let their = *initiator.other().private_key().expose();
        let [ei, er] = ephemerals;
        let construction = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
        let es = dh(&ei, &public(&their));
        let ss = dh(&own, &public(&their));
        let ee = dh(&er, &public(&ei));
        let se = dh(&er, &public(&own));
        let [c1] = kdf(&construction, &public(&ei));
        let [c2, k1] = kdf(&c1, &es);
        let [c3, k2] = kdf(&c2, &ss);
        let [c4] = kdf(&c3, &public(&er));
        let [c5] = kdf(&c4, &ee);
        let [c6] = kdf(&c5, &se);
        let [c7, tau, k3] = kdf(&c6, &psk);
        let [from_initiator, from_responder] = kdf(&c7, b"");
        // c1 follows from what is on the wire and is no secret.
        let all = [
            ("ephemeral key of the initiator", ei),
            ("ephemeral key of the responder", er),
            ("shared secret es", es),
            ("shared secret ee", ee),
            ("shared secret se", se),
            ("chaining key after es", c2),
            ("key of the static field", k1),
            ("chaining key after ss", c3),
            ("key of the timestamp", k2),
            ("chaining key after e", c4),
            ("chaining key after ee", c5),
            ("chaining key after se", c6),
            ("chaining key after psk", c7),
            ("tau", tau),
            ("key of the empty field", k3),
            ("transport key of the initiator", from_initiator),
            ("transport key of the responder", from_responder),
        ];
        Self {
            from_initiator,
            from_responder,
            all: all.into(),
        }
    }
}

/// The secret of the two static keys.
pub(crate) fn static_static() -> Key {
    dh(
        Side::Alice.private_key().expose(),
        Side::Bob.public_key().as_bytes(),
    )
}

/// Whether this is the key of a transport datagram: the proof that secrets were derived rightly.
pub(crate) fn opens(key: &Key, datagram: &[u8]) -> bool {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&datagram[8..16]);
    let cipher = ChaCha20Poly1305::new(key.into());
    let (text, tag) = datagram[16..].split_last_chunk::<16>().unwrap();
    let (mut text, tag) = (text.to_vec(), Tag::from(*tag));
    let opened =
        cipher.decrypt_inout_detached(&nonce.into(), &[], text.as_mut_slice().into(), &tag);
    opened.is_ok()
}

fn public(private: &Key) -> Key {
    PublicKey::from(&StaticSecret::from(*private)).to_bytes()
}

fn dh(private: &Key, public: &Key) -> Key {
    let public = PublicKey::from(*public);
    StaticSecret::from(*private)
        .diffie_hellman(&public)
        .to_bytes()
}

fn hash(parts: &[&[u8]]) -> Key {
    let mut state = Blake2s256::new();
    parts.iter().for_each(|part| state.update(part));
    state.finalize().into()
}

/// HMAC as RFC 2104 writes it down.
fn hmac(key: &Key, input: &[u8]) -> Key {
    let pad = |byte: u8| {
        let mut block = [byte; 64];
        block.iter_mut().zip(key).for_each(|(b, k)| *b ^= k);
        block
    };
    let inner = hash(&[&pad(0x36), input]);
    hash(&[&pad(0x5c), &inner])
}

fn kdf<const N: usize>(key: &Key, input: &[u8]) -> [Key; N] {
    let root = hmac(key, input);
    let mut last = Vec::new();
    std::array::from_fn(|i| {
        last.push(u8::try_from(i + 1).unwrap());
        let output = hmac(&root, &last);
        last = output.to_vec();
        output
    })
}
