//! Tests of batches on every backend of this machine: against another implementation
//! (`transport.txt`) and, over random lanes, against single calls of the oracle.

use proptest::collection::vec;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

use super::super::blake2s;
use super::super::secret::Secret;
use super::super::vectors::{Vector, parse};
use super::tests::{assert_no_plaintext, key};
use super::*;

const TRANSPORT: &str = include_str!("../../../tests/vectors/transport.txt");

/// A message of `transport.txt`.
struct Message {
    key: AeadKey,
    counter: u64,
    text: Vec<u8>,
    tag: Vec<u8>,
    digest: [u8; 32],
}

impl Message {
    fn all(backend: Backend) -> Vec<Self> {
        parse(TRANSPORT)
            .iter()
            .map(|vector| Self::new(vector, backend))
            .collect()
    }

    fn new(vector: &Vector<'_>, backend: Backend) -> Self {
        let length = vector.number("length");
        let text = (0..length).map(|at| u8::try_from((7 * at + length) % 251).unwrap());
        Self {
            key: key(vector, backend),
            counter: vector.number("counter"),
            text: text.collect(),
            tag: vector.bytes("tag"),
            digest: vector.array("blake2s"),
        }
    }

    fn in_place(&self) -> Vec<u8> {
        [&self.text[..], &[0xaa; TAG_LEN]].concat()
    }

    fn assert_sealed(&self, buffer: &[u8]) {
        assert_eq!(
            buffer[self.text.len()..],
            self.tag,
            "{} bytes",
            self.text.len()
        );
        assert_eq!(
            blake2s::hash(&[buffer]),
            self.digest,
            "{} bytes",
            self.text.len()
        );
    }
}

#[test]
fn another_implementation_one_by_one() {
    for backend in Backend::available() {
        for message in Message::all(backend) {
            let mut buffer = message.in_place();
            message.key.seal(message.counter, &[], &mut buffer);
            message.assert_sealed(&buffer);
            assert_eq!(message.key.open(message.counter, &[], &mut buffer), Ok(()));
            assert_eq!(buffer[..message.text.len()], message.text);
        }
    }
}

#[test]
fn another_implementation_in_batches() {
    for backend in Backend::available() {
        let messages = Message::all(backend);
        for size in [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, messages.len()] {
            for batch in messages.chunks(size) {
                check_batch(batch, false);
                check_batch(batch, true);
            }
        }
    }
}

fn check_batch(messages: &[Message], in_place: bool) {
    let mut buffers: Vec<_> = messages
        .iter()
        .map(|message| {
            if in_place {
                message.in_place()
            } else {
                vec![0xaa; message.text.len() + TAG_LEN]
            }
        })
        .collect();
    let copies = || messages.iter().map(|message| message.key.clone());
    let mut keys: Vec<_> = copies().collect();
    let lanes = messages.iter().zip(&mut keys).zip(&mut buffers);
    let lanes = lanes.map(|((message, key), buffer)| SealLane {
        key,
        counter: message.counter,
        source: (!in_place).then_some(&message.text[..]),
        buffer,
    });
    seal_batch(lanes);
    for (message, buffer) in messages.iter().zip(&buffers) {
        message.assert_sealed(buffer);
    }
    let mut keys: Vec<_> = copies().collect();
    let mut verdicts = vec![false; messages.len()];
    let lanes = messages.iter().zip(&mut keys);
    let lanes = lanes.zip(&mut buffers).zip(&mut verdicts);
    open_batch(lanes.map(|(((message, key), buffer), authentic)| OpenLane {
        key,
        counter: message.counter,
        buffer,
        authentic,
    }));
    assert!(verdicts.iter().all(|authentic| *authentic));
    for (message, buffer) in messages.iter().zip(&buffers) {
        assert_eq!(buffer[..message.text.len()], message.text);
    }
}

/// One lane of a random batch.
#[derive(Clone, Debug)]
struct Random {
    key: usize,
    backend: usize,
    counter: u64,
    text: Vec<u8>,
    padding: usize,
    in_place: bool,
    /// The bit to flip in the sealed message, modulo its length.
    tamper: Option<usize>,
}

impl Random {
    fn strategy() -> impl Strategy<Value = Self> {
        let text = prop_oneof![
            vec(any::<u8>(), 0..80),
            vec(any::<u8>(), 0..600),
            vec(any::<u8>(), 1380..1520),
        ];
        let counter = prop_oneof![any::<u64>(), 0..3_u64];
        let tamper = prop::option::weighted(0.3, any::<usize>());
        let place = (0..48_usize, any::<bool>());
        (0..4_usize, any::<usize>(), counter, text, place, tamper).prop_map(
            |(key, backend, counter, text, (padding, in_place), tamper)| Self {
                key,
                backend,
                counter,
                text,
                padding,
                in_place,
                tamper,
            },
        )
    }

    /// What the caller hands over: the padded packet, or space for it.
    fn buffer(&self) -> Vec<u8> {
        let padded = self.text.len() + self.padding;
        let mut buffer = vec![0xaa; padded + TAG_LEN];
        if self.in_place {
            buffer[..padded].copy_from_slice(&self.padded());
        }
        buffer
    }

    fn padded(&self) -> Vec<u8> {
        [&self.text[..], &vec![0; self.padding]].concat()
    }

    fn aead(&self) -> AeadKey {
        let backends: Vec<_> = Backend::available().collect();
        AeadKey::with_backend(self.secret(), backends[self.backend % backends.len()])
    }

    fn secret(&self) -> Secret<32> {
        Secret::new([u8::try_from(self.key).unwrap(); 32])
    }

    /// The sealed message as a single call makes it.
    fn sealed_alone(&self) -> Vec<u8> {
        let mut buffer = self.buffer();
        if self.in_place {
            self.aead().seal(self.counter, &[], &mut buffer);
        } else {
            self.aead()
                .seal_from(self.counter, &[], &self.text, &mut buffer);
        }
        buffer
    }

    /// The sealed message as the oracle makes it.
    fn expected(&self) -> Vec<u8> {
        let mut sealed = [&self.padded()[..], &[0; TAG_LEN]].concat();
        oracle::seal(
            self.secret().expose(),
            &nonce(self.counter),
            &[],
            &mut sealed,
        );
        sealed
    }
}

proptest! {
    #[test]
    fn a_batch_does_what_its_lanes_would_do_alone(random in vec(Random::strategy(), 0..20)) {
        let mut keys: Vec<_> = random.iter().map(Random::aead).collect();
        let mut buffers: Vec<_> = random.iter().map(Random::buffer).collect();
        let lanes = random.iter().zip(&mut keys).zip(&mut buffers);
        let lanes = lanes.map(|((lane, key), buffer)| SealLane {
            key,
            counter: lane.counter,
            source: (!lane.in_place).then_some(&lane.text[..]),
            buffer,
        });
        seal_batch(lanes);
        for (lane, buffer) in random.iter().zip(&mut buffers) {
            prop_assert_eq!(&*buffer, &lane.expected());
            prop_assert_eq!(&*buffer, &lane.sealed_alone());
            if let Some(bit) = lane.tamper {
                let bit = bit % (8 * buffer.len());
                buffer[bit / 8] ^= 1 << (bit % 8);
            }
        }

        let mut alone = buffers.clone();
        // The opposite of what they are going to be.
        let mut verdicts: Vec<_> = random.iter().map(|lane| lane.tamper.is_some()).collect();
        let mut keys: Vec<_> = random.iter().map(Random::aead).collect();
        let lanes = random.iter().zip(&mut keys);
        let lanes = lanes.zip(&mut buffers).zip(&mut verdicts);
        open_batch(lanes.map(|(((lane, key), buffer), authentic)| OpenLane {
            key,
            counter: lane.counter,
            buffer,
            authentic,
        }));
        let opened = buffers.iter().zip(&mut alone).zip(verdicts);
        for (lane, ((buffer, alone), authentic)) in random.iter().zip(opened) {
            prop_assert_eq!(authentic, lane.tamper.is_none());
            let verdict = lane.aead().open(lane.counter, &[], alone);
            prop_assert_eq!(authentic, verdict.is_ok());
            let padded = lane.padded();
            if lane.tamper.is_none() {
                prop_assert_eq!(&buffer[..padded.len()], &padded);
                prop_assert_eq!(&alone[..padded.len()], &padded);
            } else {
                assert_no_plaintext(&padded, buffer);
                assert_no_plaintext(&padded, alone);
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_and_costs_the_neighbours_nothing() {
    const LANES: usize = 9;
    for backend in Backend::available() {
        let key = AeadKey::with_backend(Secret::new([7; 32]), backend);
        for length in [0, 1, 15, 16, 17, 64, 80] {
            let text = vec![0x55; length];
            let mut sealed = vec![0; length + TAG_LEN];
            key.seal_from(5, &[], &text, &mut sealed);
            for bit in 0..8 * sealed.len() {
                let victim = bit % LANES;
                let mut buffers = vec![sealed.clone(); LANES];
                buffers[victim][bit / 8] ^= 1 << (bit % 8);
                let mut alone = buffers[victim].clone();
                let mut keys = vec![key.clone(); LANES];
                let mut verdicts = [false; LANES];
                let lanes = buffers.iter_mut().zip(&mut keys).zip(&mut verdicts);
                open_batch(lanes.map(|((buffer, key), authentic)| OpenLane {
                    key,
                    counter: 5,
                    buffer,
                    authentic,
                }));
                for (at, (buffer, authentic)) in buffers.iter().zip(verdicts).enumerate() {
                    assert_eq!(authentic, at != victim, "{backend}, bit {bit} of {length}");
                    if authentic {
                        assert_eq!(buffer[..length], text);
                    } else {
                        assert_no_plaintext(&text, buffer);
                    }
                }
                assert_eq!(key.open(5, &[], &mut alone), Err(Forged));
                assert_no_plaintext(&text, &alone);
            }
        }
    }
}

/// Who catches the panic holds messages that were taken to be sealed, and would send them.
#[test]
fn an_iterator_that_panics_leaves_no_plaintext_behind() {
    const TEXT: [u8; 40] = [0x55; 40];
    for backend in Backend::available() {
        for taken in [1, 2, 3, 17, 63, 64, 65, 130] {
            let mut keys = vec![AeadKey::with_backend(Secret::new([7; 32]), backend); taken];
            let mut buffers = vec![[&TEXT[..], &[0; TAG_LEN]].concat(); taken];
            let mut lanes = keys.iter_mut().zip(&mut buffers).zip(0..);
            let lanes = core::iter::from_fn(|| {
                let ((key, buffer), counter) = lanes.next().expect("the end");
                Some(SealLane {
                    key,
                    counter,
                    source: None,
                    buffer,
                })
            });
            let sealing = std::panic::AssertUnwindSafe(|| seal_batch(lanes));
            std::panic::catch_unwind(sealing).expect_err("it panics");
            for (buffer, counter) in buffers.iter().zip(0..) {
                let mut sealed = [&TEXT[..], &[0; TAG_LEN]].concat();
                oracle::seal(&[7; 32], &nonce(counter), &[], &mut sealed);
                let is_erased = buffer.iter().all(|byte| *byte == 0);
                assert!(
                    is_erased || *buffer == sealed,
                    "{backend}, {counter} of {taken}"
                );
            }
        }
    }
}

#[test]
fn an_iterator_that_panics_leaves_no_verdict_behind() {
    for backend in Backend::available().filter(|backend| *backend != Backend::PORTABLE) {
        for taken in [1, 2, 17] {
            let mut keys = vec![AeadKey::with_backend(Secret::new([7; 32]), backend); taken];
            let mut buffers = vec![[0x55; 56]; taken];
            let mut verdicts = vec![true; taken];
            let lanes = keys.iter_mut().zip(&mut buffers).zip(&mut verdicts);
            let mut lanes = lanes.map(|((key, buffer), authentic)| OpenLane {
                key,
                counter: 0,
                buffer,
                authentic,
            });
            let panics = core::iter::from_fn(|| Some(lanes.next().expect("the end")));
            let opening = std::panic::AssertUnwindSafe(|| open_batch(panics));
            std::panic::catch_unwind(opening).expect_err("it panics");
            assert_eq!(verdicts, vec![false; taken], "{backend}");
        }
    }
}
