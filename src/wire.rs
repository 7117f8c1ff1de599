//! The four datagrams of the protocol, as values.
//!
//! [`Kind::of`] looks at a datagram's type and length and nothing else; it is total and is the first
//! thing that happens to every datagram received. The structs are the fields of one message each:
//! `parse` cannot fail on the right number of bytes, and whatever can be constructed can be emitted
//! as a [`Message`]. Nothing here is authenticated or decrypted (white paper, section 5.4).

use core::fmt;

/// What a datagram claims to be, by its first four bytes and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// Handshake initiation, type 1, 148 bytes.
    Initiation,
    /// Handshake response, type 2, 92 bytes.
    Response,
    /// Cookie reply, type 3, 64 bytes.
    CookieReply,
    /// Transport data, type 4, at least 32 bytes; exactly 32 is a keepalive.
    Data,
}

impl Kind {
    /// Classifies a datagram.
    ///
    /// # Errors
    ///
    /// [`Malformed::UnknownType`] when the first four bytes, the reserved ones included, are not
    /// those of a message; [`Malformed::WrongLength`] when the length does not fit the type.
    #[inline]
    pub const fn of(datagram: &[u8]) -> Result<Self, Malformed> {
        let Some((word, _)) = datagram.split_first_chunk::<4>() else {
            return Err(Malformed::WrongLength);
        };
        let (kind, fits) = match u32::from_le_bytes(*word) {
            1 => (Self::Initiation, datagram.len() == Initiation::LEN),
            2 => (Self::Response, datagram.len() == Response::LEN),
            3 => (Self::CookieReply, datagram.len() == CookieReply::LEN),
            4 => (Self::Data, datagram.len() >= DataHeader::LEN + TAG_LEN),
            _ => return Err(Malformed::UnknownType),
        };
        if fits {
            Ok(kind)
        } else {
            Err(Malformed::WrongLength)
        }
    }

    const fn word(self) -> [u8; 4] {
        match self {
            Self::Initiation => [1, 0, 0, 0],
            Self::Response => [2, 0, 0, 0],
            Self::CookieReply => [3, 0, 0, 0],
            Self::Data => [4, 0, 0, 0],
        }
    }
}

/// Why a datagram is not a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Malformed {
    /// The first four bytes are not 1, 2, 3 or 4 as a little-endian integer.
    UnknownType,
    /// The length is not the one that the type has.
    WrongLength,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownType => "the datagram is not of a type that WireGuard has",
            Self::WrongLength => "the datagram's length does not fit its type",
        })
    }
}

impl core::error::Error for Malformed {}

/// The fields of a handshake initiation (white paper, section 5.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Initiation {
    /// The index by which the initiator wants to be answered.
    pub sender: u32,
    /// The initiator's ephemeral public key.
    pub ephemeral: [u8; 32],
    /// The initiator's static public key, sealed.
    pub sealed_static: [u8; 48],
    /// The TAI64N timestamp, sealed.
    pub sealed_timestamp: [u8; 28],
}

impl Initiation {
    /// Bytes of an initiation on the wire.
    pub const LEN: usize = 148;

    /// Reads the fields; the two macs at the end are not fields (see [`Macs`]).
    #[must_use]
    pub fn parse(datagram: &[u8; Self::LEN]) -> Self {
        let mut rest = datagram.as_slice();
        let _type: [u8; 4] = take(&mut rest);
        Self {
            sender: u32::from_le_bytes(take(&mut rest)),
            ephemeral: take(&mut rest),
            sealed_static: take(&mut rest),
            sealed_timestamp: take(&mut rest),
        }
    }

    /// The message with both macs still zero.
    #[must_use]
    pub fn emit(&self) -> Message {
        let mut message = Message::new(Kind::Initiation);
        message.push(&self.sender.to_le_bytes());
        message.push(&self.ephemeral);
        message.push(&self.sealed_static);
        message.push(&self.sealed_timestamp);
        message.push(&[0; 2 * MAC_LEN]);
        message
    }
}

/// The fields of a handshake response (white paper, section 5.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The index by which the responder wants to be addressed.
    pub sender: u32,
    /// The index of the initiation that is answered.
    pub receiver: u32,
    /// The responder's ephemeral public key.
    pub ephemeral: [u8; 32],
    /// The tag over nothing that proves the handshake.
    pub sealed_nothing: [u8; 16],
}

impl Response {
    /// Bytes of a response on the wire.
    pub const LEN: usize = 92;

    /// Reads the fields; the two macs at the end are not fields (see [`Macs`]).
    #[must_use]
    pub fn parse(datagram: &[u8; Self::LEN]) -> Self {
        let mut rest = datagram.as_slice();
        let _type: [u8; 4] = take(&mut rest);
        Self {
            sender: u32::from_le_bytes(take(&mut rest)),
            receiver: u32::from_le_bytes(take(&mut rest)),
            ephemeral: take(&mut rest),
            sealed_nothing: take(&mut rest),
        }
    }

    /// The message with both macs still zero.
    #[must_use]
    pub fn emit(&self) -> Message {
        let mut message = Message::new(Kind::Response);
        message.push(&self.sender.to_le_bytes());
        message.push(&self.receiver.to_le_bytes());
        message.push(&self.ephemeral);
        message.push(&self.sealed_nothing);
        message.push(&[0; 2 * MAC_LEN]);
        message
    }
}

/// The fields of a cookie reply (white paper, section 5.4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CookieReply {
    /// The sender index of the message that is answered.
    pub receiver: u32,
    /// The XChaCha20-Poly1305 nonce.
    pub nonce: [u8; 24],
    /// The cookie, sealed.
    pub sealed_cookie: [u8; 32],
}

impl CookieReply {
    /// Bytes of a cookie reply on the wire.
    pub const LEN: usize = 64;

    /// Reads the fields.
    #[must_use]
    pub fn parse(datagram: &[u8; Self::LEN]) -> Self {
        let mut rest = datagram.as_slice();
        let _type: [u8; 4] = take(&mut rest);
        Self {
            receiver: u32::from_le_bytes(take(&mut rest)),
            nonce: take(&mut rest),
            sealed_cookie: take(&mut rest),
        }
    }

    /// The complete message.
    #[must_use]
    pub fn emit(&self) -> Message {
        let mut message = Message::new(Kind::CookieReply);
        message.push(&self.receiver.to_le_bytes());
        message.push(&self.nonce);
        message.push(&self.sealed_cookie);
        message
    }
}

/// The 16 bytes in front of every sealed packet (white paper, section 5.4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataHeader {
    /// The receiver's index of the session.
    pub receiver: u32,
    /// The nonce counter under that session's key.
    pub counter: u64,
}

impl DataHeader {
    /// Bytes of the header on the wire.
    pub const LEN: usize = 16;

    /// Makes a header.
    #[must_use]
    pub const fn new(receiver: u32, counter: u64) -> Self {
        Self { receiver, counter }
    }

    /// Reads the header of a datagram that [`Kind::of`] found to be data.
    #[must_use]
    #[inline]
    pub fn parse(header: &[u8; Self::LEN]) -> Self {
        let mut rest = header.as_slice();
        let _type: [u8; 4] = take(&mut rest);
        Self {
            receiver: u32::from_le_bytes(take(&mut rest)),
            counter: u64::from_le_bytes(take(&mut rest)),
        }
    }

    /// The header's bytes.
    #[must_use]
    #[inline]
    pub const fn emit(&self) -> [u8; Self::LEN] {
        let [t0, t1, t2, t3] = Kind::Data.word();
        let [r0, r1, r2, r3] = self.receiver.to_le_bytes();
        let [c0, c1, c2, c3, c4, c5, c6, c7] = self.counter.to_le_bytes();
        [
            t0, t1, t2, t3, r0, r1, r2, r3, c0, c1, c2, c3, c4, c5, c6, c7,
        ]
    }
}

/// Bytes of a data datagram that are not the packet: the header and the tag.
pub const DATA_OVERHEAD: usize = DataHeader::LEN + TAG_LEN;

/// Bytes of room that a packet needs in front of it to be sealed where it lies.
pub const HEAD_ROOM: usize = DataHeader::LEN;

/// Bytes of room that are always enough behind it: up to 15 of padding, and the tag.
pub const TAIL_ROOM: usize = 15 + TAG_LEN;

const TAG_LEN: usize = 16;
pub(crate) const MAC_LEN: usize = 16;

/// The two macs that end a handshake message, and what they cover.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Macs<'a> {
    /// All bytes before mac1.
    pub before_mac1: &'a [u8],
    /// All bytes before mac2.
    pub before_mac2: &'a [u8],
    /// Proof that the sender knows the receiver's public key.
    pub mac1: [u8; MAC_LEN],
    /// Proof of the sender's address, or zeros.
    pub mac2: [u8; MAC_LEN],
}

impl<'a> Macs<'a> {
    /// Splits a handshake message; `None` when it is shorter than its macs.
    #[must_use]
    pub fn of(message: &'a [u8]) -> Option<Self> {
        let (before_mac2, mac2) = message.split_last_chunk::<MAC_LEN>()?;
        let (before_mac1, mac1) = before_mac2.split_last_chunk::<MAC_LEN>()?;
        Some(Self {
            before_mac1,
            before_mac2,
            mac1: *mac1,
            mac2: *mac2,
        })
    }
}

/// A control message, owned and inline: at most 148 bytes, never on the heap.
#[derive(Clone, Copy)]
pub struct Message {
    bytes: [u8; Initiation::LEN],
    len: usize,
    kind: Kind,
}

impl Message {
    fn new(kind: Kind) -> Self {
        let mut message = Self {
            bytes: [0; Initiation::LEN],
            len: 0,
            kind,
        };
        message.push(&kind.word());
        message
    }

    /// What the message is; a keepalive is [`Kind::Data`].
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The datagram to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// A data message around nothing, with room for the tag at the end.
    pub(crate) fn keepalive(header: DataHeader) -> Self {
        let mut message = Self {
            bytes: [0; Initiation::LEN],
            len: 0,
            kind: Kind::Data,
        };
        message.push(&header.emit());
        message.push(&[0; TAG_LEN]);
        message
    }

    /// The bytes behind a data header.
    pub(crate) fn body_mut(&mut self) -> &mut [u8] {
        self.bytes
            .get_mut(DataHeader::LEN..self.len)
            .unwrap_or_default()
    }

    /// The two macs, to be filled in: (mac1, mac2).
    pub(crate) fn set_macs(&mut self, mac1: [u8; MAC_LEN], mac2: [u8; MAC_LEN]) {
        let Some(message) = self.bytes.get_mut(..self.len) else {
            return;
        };
        let Some((rest, at2)) = message.split_last_chunk_mut::<MAC_LEN>() else {
            return;
        };
        *at2 = mac2;
        if let Some((_, at1)) = rest.split_last_chunk_mut::<MAC_LEN>() {
            *at1 = mac1;
        }
    }

    fn push(&mut self, part: &[u8]) {
        let end = self.len.saturating_add(part.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(part);
            self.len = end;
        }
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("kind", &self.kind)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Takes the next `N` bytes. The callers' sizes add up to the message (asserted below), so the
/// fallback is never reached.
#[inline]
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    match rest.split_first_chunk::<N>() {
        Some((head, tail)) => {
            *rest = tail;
            *head
        }
        None => [0; N],
    }
}

const _: () = assert!(4 + 4 + 32 + 48 + 28 + 2 * MAC_LEN == Initiation::LEN);
const _: () = assert!(4 + 4 + 4 + 32 + 16 + 2 * MAC_LEN == Response::LEN);
const _: () = assert!(4 + 4 + 24 + 32 == CookieReply::LEN);
const _: () = assert!(4 + 4 + 8 == DataHeader::LEN);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn initiation_round_trips(bytes: [u8; 32], sender: u32, last: [u8; 28]) {
            let mut sealed_static = [7; 48];
            sealed_static[16..].copy_from_slice(&bytes);
            let fields = Initiation { sender, ephemeral: bytes, sealed_static, sealed_timestamp: last };
            let message = fields.emit();
            prop_assert_eq!(Kind::of(message.as_bytes()), Ok(Kind::Initiation));
            prop_assert_eq!(Initiation::parse(message.as_bytes().try_into().unwrap()), fields);
        }

        #[test]
        fn response_and_cookie_round_trip(sender: u32, receiver: u32, ephemeral: [u8; 32], tag: [u8; 16], nonce: [u8; 24]) {
            let fields = Response { sender, receiver, ephemeral, sealed_nothing: tag };
            let message = fields.emit();
            prop_assert_eq!(Kind::of(message.as_bytes()), Ok(Kind::Response));
            prop_assert_eq!(Response::parse(message.as_bytes().try_into().unwrap()), fields);
            let fields = CookieReply { receiver, nonce, sealed_cookie: ephemeral };
            let message = fields.emit();
            prop_assert_eq!(Kind::of(message.as_bytes()), Ok(Kind::CookieReply));
            prop_assert_eq!(CookieReply::parse(message.as_bytes().try_into().unwrap()), fields);
        }

        #[test]
        fn data_header_round_trips(receiver: u32, counter: u64) {
            let header = DataHeader::new(receiver, counter);
            prop_assert_eq!(DataHeader::parse(&header.emit()), header);
        }

        #[test]
        fn kinds_are_decided_by_first_word_and_length(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), word in 0u32..6, reserved: bool) {
            if let Some(first) = bytes.first_chunk_mut::<4>() {
                *first = word.to_le_bytes();
                first[1] = u8::from(reserved);
            }
            let expected = match (bytes.len(), word, reserved) {
                (0..4, ..) => Err(Malformed::WrongLength),
                (148, 1, false) => Ok(Kind::Initiation),
                (92, 2, false) => Ok(Kind::Response),
                (64, 3, false) => Ok(Kind::CookieReply),
                (32.., 4, false) => Ok(Kind::Data),
                (_, 1..=4, false) => Err(Malformed::WrongLength),
                _ => Err(Malformed::UnknownType),
            };
            prop_assert_eq!(Kind::of(&bytes), expected);
        }
    }

    #[test]
    fn macs_cover_what_the_paper_says() {
        let mut bytes = [0u8; 92];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::try_from(i).unwrap();
        }
        let macs = Macs::of(&bytes).unwrap();
        assert_eq!(macs.before_mac1, &bytes[..60]);
        assert_eq!(macs.before_mac2, &bytes[..76]);
        assert_eq!((macs.mac1[0], macs.mac2[0]), (60, 76));
        assert!(Macs::of(&[0; 31]).is_none());
    }
}
