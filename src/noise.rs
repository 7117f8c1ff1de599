//! `Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s`, pure: no time, no randomness, no indices.
//!
//! Four steps, one for each side of each message, over a [`Symmetric`] state. Prologue and payload
//! are parameters, so the public Noise vectors run through the very code that the protocol uses.
//! The comments name the equations of the white paper, sections 5.4.2 to 5.4.5.

use crate::crypto::aead::{AeadKey, TAG_LEN};
use crate::crypto::blake2s::{hash, kdf1, kdf2, kdf3};
use crate::crypto::secret::Secret;
use crate::crypto::x25519::Private;

/// Noise's symmetric state: the chaining key `C` and the transcript hash `H`.
#[derive(Clone, Debug)]
pub(crate) struct Symmetric {
    chaining_key: Secret<32>,
    transcript: [u8; 32],
}

impl Symmetric {
    /// The state before the first message to the holder of `responder`.
    pub(crate) fn new(prologue: &[u8], responder: &[u8; 32]) -> Self {
        // C := Hash(Construction); H := Hash(C ‖ Identifier); H := Hash(H ‖ Spub_r)
        let construction = hash(&[b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"]);
        let transcript = hash(&[&construction, prologue]);
        let mut state = Self {
            chaining_key: Secret::new(construction),
            transcript,
        };
        state.mix_hash(responder);
        state
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.transcript = hash(&[&self.transcript, data]);
    }

    fn mix_key(&mut self, input: &[u8]) {
        self.chaining_key = kdf1(self.chaining_key.expose(), input);
    }

    fn mix_key_for_cipher(&mut self, input: &[u8]) -> AeadKey {
        let (chaining_key, key) = kdf2(self.chaining_key.expose(), input);
        self.chaining_key = chaining_key;
        AeadKey::new(key)
    }

    fn mix_psk(&mut self, psk: &[u8; 32]) -> AeadKey {
        let (chaining_key, tau, key) = kdf3(self.chaining_key.expose(), psk);
        self.chaining_key = chaining_key;
        self.mix_hash(tau.expose());
        AeadKey::new(key)
    }

    /// An ephemeral key enters both states, because the handshake has a preshared key.
    fn mix_ephemeral(&mut self, ephemeral: &[u8; 32]) {
        self.mix_key(ephemeral);
        self.mix_hash(ephemeral);
    }

    /// Seals in place; the last 16 bytes of `field` are room for the tag.
    fn seal(&mut self, key: &AeadKey, field: &mut [u8]) {
        key.seal(0, &self.transcript, field);
        self.mix_hash(field);
    }

    fn open(&mut self, key: &AeadKey, field: &mut [u8]) -> Result<(), NoiseError> {
        let sealed = hash(&[&self.transcript, field]);
        key.open(0, &self.transcript, field)
            .map_err(|_| NoiseError::Forged)?;
        self.transcript = sealed;
        Ok(())
    }

    /// T1, T2 := Kdf2(C, ε): the keys from the initiator and to the initiator.
    fn split(&self) -> (Secret<32>, Secret<32>) {
        kdf2(self.chaining_key.expose(), &[])
    }

    #[cfg(test)]
    pub(crate) fn transcript(&self) -> &[u8; 32] {
        &self.transcript
    }
}

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoiseError {
    /// A tag does not verify.
    Forged,
    /// A Diffie-Hellman result is all zeros.
    LowOrder,
}

/// The keys of a session, from one side's view.
#[derive(Debug)]
pub(crate) struct TransportKeys {
    pub(crate) send: Secret<32>,
    pub(crate) receive: Secret<32>,
}

/// What the initiator knows before it writes.
#[derive(Debug)]
pub(crate) struct WriteInitiation<'a> {
    pub(crate) ephemeral: &'a Private,
    pub(crate) own_public: &'a [u8; 32],
    pub(crate) responder: &'a [u8; 32],
    pub(crate) static_static: &'a Secret<32>,
}

/// The public fields of a first message.
#[derive(Debug)]
pub(crate) struct FirstMessage {
    pub(crate) ephemeral: [u8; 32],
    pub(crate) sealed_static: [u8; 48],
}

impl WriteInitiation<'_> {
    /// First message, initiator: `e, es, s, ss`. `payload` is sealed in place, its last 16 bytes
    /// are room for the tag. Costs one fixed-base and one variable-base multiplication.
    pub(crate) fn run(
        &self,
        mut state: Symmetric,
        payload: &mut [u8],
    ) -> Result<(Symmetric, FirstMessage), NoiseError> {
        // C := Kdf1(C, Epub_i); H := Hash(H ‖ Epub_i)
        let ephemeral = self.ephemeral.public();
        state.mix_ephemeral(&ephemeral);
        // (C, k) := Kdf2(C, DH(Epriv_i, Spub_r)); static := Aead(k, 0, Spub_i, H)
        let shared = self
            .ephemeral
            .diffie_hellman(self.responder)
            .ok_or(NoiseError::LowOrder)?;
        let key = state.mix_key_for_cipher(shared.expose());
        let mut sealed_static = [0; 32 + TAG_LEN];
        if let Some(room) = sealed_static.first_chunk_mut() {
            *room = *self.own_public;
        }
        state.seal(&key, &mut sealed_static);
        // (C, k) := Kdf2(C, DH(Spriv_i, Spub_r)); timestamp := Aead(k, 0, Timestamp(), H)
        let key = state.mix_key_for_cipher(self.static_static.expose());
        state.seal(&key, payload);
        Ok((
            state,
            FirstMessage {
                ephemeral,
                sealed_static,
            },
        ))
    }
}

/// First message, responder, up to the initiator's static key: `e, es, s`.
///
/// Costs one multiplication. The key returned has proven nothing yet.
pub(crate) fn read_initiator(
    mut state: Symmetric,
    own: &Private,
    first: &FirstMessage,
) -> Result<(Symmetric, [u8; 32]), NoiseError> {
    state.mix_ephemeral(&first.ephemeral);
    let shared = own
        .diffie_hellman(&first.ephemeral)
        .ok_or(NoiseError::LowOrder)?;
    let key = state.mix_key_for_cipher(shared.expose());
    let mut field = first.sealed_static;
    state.open(&key, &mut field)?;
    let initiator = field.first_chunk().copied().unwrap_or_default();
    Ok((state, initiator))
}

/// First message, responder, the rest: `ss` and the payload, which is opened in place.
pub(crate) fn read_payload(
    mut state: Symmetric,
    static_static: &Secret<32>,
    payload: &mut [u8],
) -> Result<Symmetric, NoiseError> {
    let key = state.mix_key_for_cipher(static_static.expose());
    state.open(&key, payload)?;
    Ok(state)
}

/// What the responder knows before it answers.
#[derive(Debug)]
pub(crate) struct WriteResponse<'a> {
    pub(crate) ephemeral: &'a Private,
    pub(crate) initiator_ephemeral: &'a [u8; 32],
    pub(crate) initiator: &'a [u8; 32],
    pub(crate) psk: &'a Secret<32>,
}

impl WriteResponse<'_> {
    /// Second message, responder: `e, ee, se, psk`. `payload` as in [`WriteInitiation::run`].
    /// Costs one fixed-base and two variable-base multiplications.
    pub(crate) fn run(
        &self,
        mut state: Symmetric,
        payload: &mut [u8],
    ) -> Result<([u8; 32], Symmetric), NoiseError> {
        // C := Kdf1(C, Epub_r); H := Hash(H ‖ Epub_r)
        let ephemeral = self.ephemeral.public();
        state.mix_ephemeral(&ephemeral);
        // C := Kdf1(C, DH(Epriv_r, Epub_i)); C := Kdf1(C, DH(Epriv_r, Spub_i))
        for theirs in [self.initiator_ephemeral, self.initiator] {
            let shared = self
                .ephemeral
                .diffie_hellman(theirs)
                .ok_or(NoiseError::LowOrder)?;
            state.mix_key(shared.expose());
        }
        // (C, τ, k) := Kdf3(C, Q); H := Hash(H ‖ τ); empty := Aead(k, 0, ε, H)
        let key = state.mix_psk(self.psk.expose());
        state.seal(&key, payload);
        Ok((ephemeral, state))
    }
}

/// What the initiator knows when the answer comes.
#[derive(Debug)]
pub(crate) struct ReadResponse<'a> {
    pub(crate) ephemeral: &'a Private,
    pub(crate) own: &'a Private,
    pub(crate) responder_ephemeral: &'a [u8; 32],
    pub(crate) psk: &'a Secret<32>,
}

impl ReadResponse<'_> {
    /// Second message, initiator. `payload` is opened in place. Costs two multiplications.
    pub(crate) fn run(
        &self,
        mut state: Symmetric,
        payload: &mut [u8],
    ) -> Result<Symmetric, NoiseError> {
        state.mix_ephemeral(self.responder_ephemeral);
        for ours in [self.ephemeral, self.own] {
            let shared = ours
                .diffie_hellman(self.responder_ephemeral)
                .ok_or(NoiseError::LowOrder)?;
            state.mix_key(shared.expose());
        }
        let key = state.mix_psk(self.psk.expose());
        state.open(&key, payload)?;
        Ok(state)
    }
}

/// The initiator's transport keys.
pub(crate) fn initiator_keys(state: &Symmetric) -> TransportKeys {
    let (send, receive) = state.split();
    TransportKeys { send, receive }
}

/// The responder's transport keys.
pub(crate) fn responder_keys(state: &Symmetric) -> TransportKeys {
    let (receive, send) = state.split();
    TransportKeys { send, receive }
}

#[cfg(test)]
mod tests;
