//! The four steps against a published vector of the pattern, and against themselves.

use std::vec::Vec;

use super::*;
use crate::crypto::vectors::{Vector, parse};

/// One side's fields of the vector.
struct Vectors {
    test: Vector<'static>,
}

impl Vectors {
    fn load() -> Self {
        let file = include_str!("../../tests/vectors/noise_ikpsk2.txt");
        let mut tests = parse(file);
        assert_eq!(tests.len(), 1);
        let test = tests.remove(0);
        let name = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
        assert_eq!(test.text("protocol_name"), name);
        Self { test }
    }

    fn private(&self, name: &str) -> Private {
        Private::from_bytes(self.test.array(name))
    }

    fn psk(&self, name: &str) -> Secret<32> {
        Secret::new(self.test.array(name))
    }

    /// The payload of a message with room for its tag.
    fn payload(&self, n: usize) -> Vec<u8> {
        let payload = self.test.bytes(&std::format!("msg_{n}_payload"));
        [&payload[..], &[0; TAG_LEN]].concat()
    }

    fn message(&self, n: usize) -> Vec<u8> {
        self.test.bytes(&std::format!("msg_{n}_ciphertext"))
    }

    fn initiate(&self) -> (Symmetric, FirstMessage, Vec<u8>) {
        let own = self.private("init_static");
        let responder = self.test.array("init_remote_static");
        let write = WriteInitiation {
            ephemeral: &self.private("init_ephemeral"),
            own_public: &own.public(),
            responder: &responder,
            static_static: &own.diffie_hellman(&responder).unwrap(),
        };
        let mut payload = self.payload(0);
        let state = Symmetric::new(&self.test.bytes("init_prologue"), &responder);
        let (state, first) = write.run(state, &mut payload).unwrap();
        (state, first, payload)
    }

    /// The first message, as the responder reads it.
    fn hear(&self, first: &FirstMessage, sealed: &[u8]) -> (Symmetric, [u8; 32], Vec<u8>) {
        let own = self.private("resp_static");
        let state = Symmetric::new(&self.test.bytes("resp_prologue"), &own.public());
        let (state, initiator) = read_initiator(state, &own, first).unwrap();
        let mut payload = sealed.to_vec();
        let statics = own.diffie_hellman(&initiator).unwrap();
        let state = read_payload(state, &statics, &mut payload).unwrap();
        (state, initiator, payload)
    }
}

/// Prologue, payloads, both messages, the transcript and the transport keys of the public vector.
#[test]
fn every_message_of_the_public_vector() {
    let v = Vectors::load();
    let (ours, first, sealed) = v.initiate();
    let wire = [&first.ephemeral[..], &first.sealed_static, &sealed].concat();
    assert_eq!(wire, v.message(0));

    let (theirs, initiator, payload) = v.hear(&first, &sealed);
    assert_eq!(initiator, v.private("init_static").public());
    assert_eq!(
        payload[..payload.len() - TAG_LEN],
        v.test.bytes("msg_0_payload")
    );
    assert_eq!(
        theirs.transcript(),
        ours.transcript(),
        "after the first message"
    );

    let write = WriteResponse {
        ephemeral: &v.private("resp_ephemeral"),
        initiator_ephemeral: &first.ephemeral,
        initiator: &initiator,
        psk: &v.psk("resp_psk"),
    };
    let mut sealed = v.payload(1);
    let (ephemeral, theirs) = write.run(theirs, &mut sealed).unwrap();
    assert_eq!([&ephemeral[..], &sealed].concat(), v.message(1));

    let read = ReadResponse {
        ephemeral: &v.private("init_ephemeral"),
        own: &v.private("init_static"),
        responder_ephemeral: &ephemeral,
        psk: &v.psk("init_psk"),
    };
    let ours = read.run(ours, &mut sealed).unwrap();
    assert_eq!(
        sealed[..sealed.len() - TAG_LEN],
        v.test.bytes("msg_1_payload")
    );
    for state in [&ours, &theirs] {
        assert_eq!(*state.transcript(), v.test.array("handshake_hash"));
    }
    transport(&v, &initiator_keys(&ours), &responder_keys(&theirs));
}

/// The initiator writes the messages with even numbers, the responder the others.
fn transport(v: &Vectors, initiator: &TransportKeys, responder: &TransportKeys) {
    let pairs = [(initiator, responder), (responder, initiator)];
    for n in 2..6 {
        let (from, to) = pairs[n % 2];
        let counter = u64::try_from(n / 2 - 1).unwrap();
        let mut message = v.payload(n);
        AeadKey::new(from.send.clone()).seal(counter, &[], &mut message);
        assert_eq!(message, v.message(n), "message {n}");
        let receive = AeadKey::new(to.receive.clone());
        receive.open(counter, &[], &mut message).unwrap();
        let payload = &message[..message.len() - TAG_LEN];
        assert_eq!(payload, v.test.bytes(&std::format!("msg_{n}_payload")));
    }
}

/// Whatever differs between the two sides, the message that depends on it is refused.
#[test]
fn nothing_may_differ_between_the_sides() {
    let v = Vectors::load();
    let (_, first, sealed) = v.initiate();
    let own = v.private("resp_static");
    let prologue = v.test.bytes("resp_prologue");

    let other_prologue = Symmetric::new(b"John Gald", &own.public());
    let refused = read_initiator(other_prologue, &own, &first);
    assert_eq!(refused.unwrap_err(), NoiseError::Forged);

    let other = Private::from_bytes([9; 32]);
    let not_for_us = Symmetric::new(&prologue, &other.public());
    let refused = read_initiator(not_for_us, &other, &first);
    assert_eq!(refused.unwrap_err(), NoiseError::Forged);

    let state = Symmetric::new(&prologue, &own.public());
    let (state, _) = read_initiator(state, &own, &first).unwrap();
    let impostor = own.diffie_hellman(&other.public()).unwrap();
    let refused = read_payload(state, &impostor, &mut sealed.clone());
    assert_eq!(refused.unwrap_err(), NoiseError::Forged);
}

/// The responder's answer under another psk is refused, and so is one with a bit changed.
#[test]
fn a_response_is_bound_to_the_psk_and_to_every_bit() {
    let v = Vectors::load();
    let (ours, first, sealed) = v.initiate();
    let (theirs, initiator, _) = v.hear(&first, &sealed);
    let write = WriteResponse {
        ephemeral: &v.private("resp_ephemeral"),
        initiator_ephemeral: &first.ephemeral,
        initiator: &initiator,
        psk: &v.psk("resp_psk"),
    };
    let mut sealed = v.payload(1);
    let (ephemeral, _) = write.run(theirs, &mut sealed).unwrap();
    let own = (v.private("init_ephemeral"), v.private("init_static"));
    let read = |responder: [u8; 32], psk: Secret<32>, sealed: &[u8]| {
        let read = ReadResponse {
            ephemeral: &own.0,
            own: &own.1,
            responder_ephemeral: &responder,
            psk: &psk,
        };
        read.run(ours.clone(), &mut sealed.to_vec())
    };
    assert!(read(ephemeral, v.psk("init_psk"), &sealed).is_ok());
    let no_psk = read(ephemeral, Secret::zeroed(), &sealed);
    assert_eq!(no_psk.unwrap_err(), NoiseError::Forged);
    for bit in 0..8 * sealed.len() {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let refused = read(ephemeral, v.psk("init_psk"), &changed);
        assert_eq!(refused.unwrap_err(), NoiseError::Forged, "bit {bit}");
    }
    // The top bit of a public key is not part of the point, but it is part of the transcript.
    for bit in [0, 100, 255] {
        let mut changed = ephemeral;
        changed[bit / 8] ^= 1 << (bit % 8);
        let refused = read(changed, v.psk("init_psk"), &sealed);
        assert_eq!(refused.unwrap_err(), NoiseError::Forged, "bit {bit}");
    }
}

/// A point of low order as any public key ends the step before a key depends on it.
#[test]
fn low_order_points_end_every_step() {
    let v = Vectors::load();
    let (ours, mut first, sealed) = v.initiate();
    let own = v.private("resp_static");
    let (theirs, ..) = v.hear(&first, &sealed);
    let mut one = [0; 32];
    one[0] = 1;
    for point in [[0; 32], one] {
        first.ephemeral = point;
        let state = Symmetric::new(b"", &own.public());
        let refused = read_initiator(state, &own, &first);
        assert_eq!(refused.unwrap_err(), NoiseError::LowOrder);

        let ephemeral = v.private("resp_ephemeral");
        let good = v.private("init_static").public();
        for (initiator_ephemeral, initiator) in [(point, good), (good, point)] {
            let write = WriteResponse {
                ephemeral: &ephemeral,
                initiator_ephemeral: &initiator_ephemeral,
                initiator: &initiator,
                psk: &Secret::zeroed(),
            };
            let refused = write.run(theirs.clone(), &mut [0; TAG_LEN]);
            assert_eq!(refused.unwrap_err(), NoiseError::LowOrder);
        }
        let read = ReadResponse {
            ephemeral: &ephemeral,
            own: &own,
            responder_ephemeral: &point,
            psk: &Secret::zeroed(),
        };
        let refused = read.run(ours.clone(), &mut [0; TAG_LEN]);
        assert_eq!(refused.unwrap_err(), NoiseError::LowOrder);

        let write = WriteInitiation {
            ephemeral: &ephemeral,
            own_public: &own.public(),
            responder: &point,
            static_static: &Secret::zeroed(),
        };
        let refused = write.run(Symmetric::new(b"", &point), &mut [0; TAG_LEN]);
        assert_eq!(refused.unwrap_err(), NoiseError::LowOrder);
    }
}
