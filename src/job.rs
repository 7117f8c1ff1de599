//! The expensive middle of sealing and opening, as values that can run on any thread.
//!
//! A packet passes three steps: `begin` (on the state machine: route, check, reserve a counter), `run`
//! (here: the cipher, owned and `Send`, many packets at once), and for packets received `finish` (on
//! the state machine: replay check, timers, roaming). A job carries its own copy of one key, which is
//! wiped when the job has run or is dropped; a job in flight therefore outlives the erasure of its
//! session, but what it opened is refused by `finish`.
//!
//! The buffer of a job is the caller's: anything that lends `&mut [u8]`, so `&mut [u8]` itself,
//! `Vec<u8>` or a pooled type. There is no way to the plaintext of an [`OpenJob`] but through
//! `finish_open`.

use core::fmt;
use core::net::SocketAddr;
use core::ops::Range;

use crate::crypto::aead::{AeadKey, OpenLane, SealLane, TAG_LEN, open_batch, seal_batch};
use crate::error::{Rejected, SealError};
use crate::event::PeerId;
use crate::ip;
use crate::session::Session;
use crate::wire::{DATA_OVERHEAD, DataHeader};

/// A packet to seal: where it lies, and where its datagram goes.
#[derive(Debug)]
pub struct Outgoing<'p, B> {
    buffer: B,
    payload: Payload<'p>,
}

#[derive(Clone, Debug)]
enum Payload<'p> {
    Inside(Range<usize>),
    Apart(&'p [u8]),
}

impl<B: AsMut<[u8]>> Outgoing<'static, B> {
    /// A packet at `payload` inside `buffer`, to be sealed where it lies.
    ///
    /// It needs 16 bytes of room in front and up to 31 behind (15 of padding, 16 of tag).
    pub const fn in_place(buffer: B, payload: Range<usize>) -> Self {
        Self {
            buffer,
            payload: Payload::Inside(payload),
        }
    }
}

impl<'p, B: AsMut<[u8]>> Outgoing<'p, B> {
    /// A packet that lies elsewhere, to be sealed into the front of `buffer`, as for a train of
    /// datagrams back to back. It needs up to 47 bytes more than the packet.
    pub const fn apart(packet: &'p [u8], buffer: B) -> Self {
        Self {
            buffer,
            payload: Payload::Apart(packet),
        }
    }

    /// The packet, and how it lies.
    #[inline]
    pub(crate) fn look(&mut self) -> Result<(Place, &[u8]), SealError> {
        let buffer = self.buffer.as_mut();
        let room = buffer.len();
        let (start, packet) = match &self.payload {
            Payload::Inside(range) => {
                let packet = buffer.get(range.clone()).ok_or(SealError::BadRange)?;
                (range.start, packet)
            }
            Payload::Apart(packet) => (DataHeader::LEN, *packet),
        };
        let len = u16::try_from(packet.len()).map_err(|_| SealError::TooLong)?;
        Ok((Place { start, len, room }, packet))
    }
}

/// Where a packet begins in its buffer, or will begin; its length, and the buffer's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    start: usize,
    /// No IP packet is longer than this can say.
    len: u16,
    room: usize,
}

impl Place {
    /// Makes sure that the datagram has room, once the packet is padded for this MTU.
    #[inline]
    pub(crate) fn draft(self, mtu: u16) -> Result<Draft, SealError> {
        let len = usize::from(self.len);
        let padding = ip::padded_len(len, usize::from(mtu)).saturating_sub(len);
        let end = self.start.saturating_add(len).saturating_add(padding);
        let head = DataHeader::LEN.saturating_sub(self.start);
        let tail = end.saturating_add(TAG_LEN).saturating_sub(self.room);
        match u8::try_from(padding) {
            Ok(padding) if head == 0 && tail == 0 => Ok(Draft {
                counter: 0,
                receiver: 0,
                len: self.len,
                padding,
                is_sealed: false,
            }),
            _ => Err(SealError::BufferTooSmall { head, tail }),
        }
    }
}

/// A packet with its counter reserved, to be sealed by [`run`](Self::run).
///
/// Dropping it loses the packet and skips its counter, which harms nothing.
// It is moved several times on its way, which is cheap up to 128 bytes: those it has with a `Vec`.
#[must_use = "a packet is sealed by running its job"]
pub struct SealJob<'p, B, E = SocketAddr> {
    /// Erased when the job has run, so that a job taken out of a collection leaves no key there.
    key: AeadKey,
    draft: Draft,
    buffer: B,
    source: Source<'p>,
    peer: PeerId,
    to: E,
}

/// What there is to know of a datagram before it is sealed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    pub(crate) counter: u64,
    pub(crate) receiver: u32,
    /// The packet's length, and how many zeros follow it.
    len: u16,
    padding: u8,
    is_sealed: bool,
}

impl Draft {
    #[inline]
    pub(crate) fn datagram_len(self) -> usize {
        self.body_len().saturating_add(DATA_OVERHEAD)
    }

    /// The packet's length with its padding.
    #[inline]
    fn body_len(self) -> usize {
        usize::from(self.len).saturating_add(usize::from(self.padding))
    }
}

/// Where a packet comes from.
#[derive(Clone, Copy, Debug)]
enum Source<'p> {
    /// It lies in the buffer, in a datagram that begins here.
    Inside(usize),
    /// It lies elsewhere, and its datagram is at the front of the buffer.
    Apart(&'p [u8]),
}

impl<'p, B: AsMut<[u8]>, E: Copy> SealJob<'p, B, E> {
    #[inline]
    pub(crate) fn new(
        key: &AeadKey,
        draft: Draft,
        outgoing: Outgoing<'p, B>,
        peer: PeerId,
        to: E,
    ) -> Self {
        let source = match outgoing.payload {
            Payload::Inside(range) => Source::Inside(range.start.saturating_sub(DataHeader::LEN)),
            Payload::Apart(packet) => Source::Apart(packet),
        };
        Self {
            key: key.clone(),
            draft,
            buffer: outgoing.buffer,
            source,
            peer,
            to,
        }
    }

    /// The peer that the packet goes to. Meaningless for a `Tunnel`.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Where the datagram goes to.
    #[must_use]
    pub const fn to(&self) -> E {
        self.to
    }

    /// Seals the packet. Does nothing the second time. Costs one pass of the cipher.
    pub fn run(&mut self) {
        seal_batch(self.lane());
    }

    /// Seals many packets, of any peers and sizes, at once.
    ///
    /// `jobs` is a `&mut [SealJob]`, a `&mut Vec<SealJob>` or any iterator over `&mut SealJob`.
    pub fn run_all<'j>(jobs: impl IntoIterator<Item = &'j mut Self>)
    where
        Self: 'j,
    {
        seal_batch(jobs.into_iter().filter_map(Self::lane));
    }

    /// The sealed datagram; empty before [`run`](Self::run).
    pub fn datagram(&mut self) -> &mut [u8] {
        let range = self.sealed_range();
        self.buffer.as_mut().get_mut(range).unwrap_or_default()
    }

    /// The caller's buffer and where in it the sealed datagram lies (nowhere before `run`).
    pub fn into_parts(self) -> (B, Range<usize>) {
        let range = self.sealed_range();
        (self.buffer, range)
    }

    #[inline]
    fn sealed_range(&self) -> Range<usize> {
        if self.draft.is_sealed {
            self.range()
        } else {
            0..0
        }
    }

    #[inline]
    fn range(&self) -> Range<usize> {
        let start = match self.source {
            Source::Inside(start) => start,
            Source::Apart(_) => 0,
        };
        start..start.saturating_add(self.draft.datagram_len())
    }

    /// Writes the header and the padding, and hands the rest to the cipher, which cannot fail.
    fn lane(&mut self) -> Option<SealLane<'_>> {
        let range = self.range();
        let Draft {
            receiver,
            counter,
            is_sealed,
            ..
        } = self.draft;
        if is_sealed {
            return None;
        }
        let datagram = self.buffer.as_mut().get_mut(range)?;
        let (header, body) = datagram.split_first_chunk_mut::<{ DataHeader::LEN }>()?;
        self.draft.is_sealed = true;
        *header = DataHeader::new(receiver, counter).emit();
        let source = match self.source {
            Source::Apart(packet) => Some(packet),
            Source::Inside(_) => {
                if self.draft.padding > 0 {
                    let padding = usize::from(self.draft.len)..self.draft.body_len();
                    body.get_mut(padding)?.fill(0);
                }
                None
            }
        };
        Some(SealLane {
            key: &mut self.key,
            counter,
            source,
            buffer: body,
        })
    }
}

const _: () = assert!(size_of::<SealJob<'static, &'static mut [u8]>>() <= 128);
const _: () = assert!(size_of::<OpenJob<&'static mut [u8]>>() <= 128);

impl<B, E: fmt::Debug> fmt::Debug for SealJob<'_, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealJob")
            .field("peer", &self.peer)
            .field("draft", &self.draft)
            .finish_non_exhaustive()
    }
}

/// A sealed packet on its way: the result of the one-call methods.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sealed<'b, E = SocketAddr> {
    /// The peer that it is for. Meaningless for a `Tunnel`.
    pub peer: PeerId,
    /// Where to send it.
    pub to: E,
    /// The datagram, inside the caller's buffer.
    pub datagram: &'b mut [u8],
}

impl<'b, E: Copy> Sealed<'b, E> {
    /// Runs the job to its end.
    pub(crate) fn from_job(mut job: SealJob<'_, &'b mut [u8], E>) -> Self {
        job.run();
        let (peer, to) = (job.peer, job.to);
        let (buffer, range) = job.into_parts();
        Self {
            peer,
            to,
            datagram: buffer.get_mut(range).unwrap_or_default(),
        }
    }
}

/// Why a packet was not sealed, and the packet, which is still the caller's.
#[derive(Debug)]
#[non_exhaustive]
pub struct SealFailure<'p, B> {
    /// What is wrong.
    pub error: SealError,
    /// What `begin_seal` was given.
    pub outgoing: Outgoing<'p, B>,
}

impl<'p, B> SealFailure<'p, B> {
    pub(crate) const fn new(error: SealError, outgoing: Outgoing<'p, B>) -> Self {
        Self { error, outgoing }
    }
}

impl<B> Outgoing<'_, B> {
    /// The buffer back.
    pub fn into_buffer(self) -> B {
        self.buffer
    }
}

/// A data datagram with its session found, to be opened by [`run`](Self::run) and then believed or
/// refused by `finish_open`.
#[must_use = "a datagram is opened by running its job and finishing it"]
pub struct OpenJob<B, E = SocketAddr> {
    /// Erased when the job has run, as in a [`SealJob`].
    key: AeadKey,
    pub(crate) header: DataHeader,
    /// Tells this session from any other, also from one with the same index.
    pub(crate) session: u64,
    pub(crate) peer: PeerId,
    pub(crate) source: E,
    datagram: B,
    has_run: bool,
    is_authentic: bool,
}

impl<B: AsMut<[u8]>, E: Copy> OpenJob<B, E> {
    #[inline]
    pub(crate) fn new(
        session: &Session,
        header: DataHeader,
        peer: PeerId,
        source: E,
        datagram: B,
    ) -> Self {
        Self {
            key: session.receive_key().clone(),
            header,
            session: session.id,
            peer,
            source,
            datagram,
            has_run: false,
            is_authentic: false,
        }
    }

    /// The peer whose session the datagram claims. Meaningless for a `Tunnel`.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Opens the datagram in place. Does nothing the second time. Costs one pass of the cipher.
    pub fn run(&mut self) {
        open_batch(self.lane());
    }

    /// Opens many datagrams, of any sessions and sizes, at once. A forged one costs its neighbours
    /// nothing.
    ///
    /// `jobs` is a `&mut [OpenJob]`, a `&mut Vec<OpenJob>` or any iterator over `&mut OpenJob`.
    pub fn run_all<'j>(jobs: impl IntoIterator<Item = &'j mut Self>)
    where
        Self: 'j,
    {
        open_batch(jobs.into_iter().filter_map(Self::lane));
    }

    /// Runs the job if nobody has; whether the datagram is authentic.
    #[inline]
    pub(crate) fn is_authentic(&mut self) -> bool {
        self.run();
        self.is_authentic
    }

    /// The whole datagram's length in bytes.
    pub(crate) fn datagram_len(&mut self) -> usize {
        self.datagram.as_mut().len()
    }

    /// The padded packet. For `finish_open` alone, after the replay check.
    #[inline]
    pub(crate) fn plaintext(&mut self) -> &mut [u8] {
        let datagram = self.datagram.as_mut();
        let end = datagram.len().saturating_sub(TAG_LEN);
        datagram.get_mut(DataHeader::LEN..end).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn into_opened(self, len: usize) -> Opened<B> {
        Opened {
            peer: self.peer,
            datagram: self.datagram,
            content: Opening::Data(len),
        }
    }

    /// Gives the buffer back without its plaintext.
    pub(crate) fn refuse(mut self, reason: Rejected) -> Refused<B> {
        if self.is_authentic {
            self.plaintext().fill(0);
        }
        Refused {
            reason,
            datagram: self.datagram,
        }
    }

    fn lane(&mut self) -> Option<OpenLane<'_>> {
        if core::mem::replace(&mut self.has_run, true) {
            return None;
        }
        // A buffer that has shrunk since `begin` gives an empty body, which is not authentic.
        let datagram = self.datagram.as_mut();
        Some(OpenLane {
            key: &mut self.key,
            counter: self.header.counter,
            buffer: datagram.get_mut(DataHeader::LEN..).unwrap_or_default(),
            authentic: &mut self.is_authentic,
        })
    }
}

impl<B, E: fmt::Debug> fmt::Debug for OpenJob<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenJob")
            .field("peer", &self.peer)
            .field("header", &self.header)
            .field("has_run", &self.has_run)
            .field("is_authentic", &self.is_authentic)
            .finish_non_exhaustive()
    }
}

/// A datagram that was authentic and new, and what it carried.
#[derive(Debug)]
pub struct Opened<B> {
    peer: PeerId,
    datagram: B,
    content: Opening,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(feature = "alloc"),
    expect(
        dead_code,
        reason = "batches of all kinds of datagrams are for many peers"
    )
)]
enum Opening {
    /// An inner packet of this many bytes behind the header; a keepalive has none.
    Data(usize),
    Control(Control),
}

/// What a control datagram turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Control {
    /// A peer's initiation: a response is owed.
    Initiation,
    /// The response to our initiation: a session is established.
    Response,
    /// A cookie, which the next handshake message carries.
    Cookie,
}

impl<B> Opened<B> {
    #[cfg(feature = "alloc")]
    pub(crate) const fn control(peer: PeerId, datagram: B, control: Control) -> Self {
        Self {
            peer,
            datagram,
            content: Opening::Control(control),
        }
    }

    /// The peer that sent it. Meaningless for a `Tunnel`.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Whether it was authentic and carried nothing.
    #[must_use]
    pub const fn is_keepalive(&self) -> bool {
        matches!(self.content, Opening::Data(0))
    }

    /// The kind of control message that it was, if it was one.
    #[must_use]
    pub const fn as_control(&self) -> Option<Control> {
        match self.content {
            Opening::Control(control) => Some(control),
            Opening::Data(_) => None,
        }
    }

    /// The caller's buffer and where in it the inner packet lies: nowhere unless it brought one.
    pub fn into_parts(self) -> (B, Range<usize>) {
        let range = self.range();
        (self.datagram, range)
    }

    #[inline]
    const fn range(&self) -> Range<usize> {
        match self.content {
            Opening::Data(len) => DataHeader::LEN..DataHeader::LEN.saturating_add(len),
            Opening::Control(_) => 0..0,
        }
    }
}

impl<B: AsMut<[u8]>> Opened<B> {
    /// The inner IP packet, without padding; empty unless it brought one.
    pub fn packet(&mut self) -> &mut [u8] {
        let range = self.range();
        self.datagram.as_mut().get_mut(range).unwrap_or_default()
    }
}

/// Why a datagram was dropped, and the caller's buffer. It holds no plaintext.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refused<B> {
    /// The verdict, which has been counted.
    pub reason: Rejected,
    /// What `begin_open` was given.
    pub datagram: B,
}

impl<B> Refused<B> {
    pub(crate) const fn new(reason: Rejected, datagram: B) -> Self {
        Self { reason, datagram }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Secret;
    use std::vec;
    use std::vec::Vec;

    fn job() -> SealJob<'static, Vec<u8>, ()> {
        let mut outgoing = Outgoing::in_place(vec![0x55; 80], 16..64);
        let (place, _) = outgoing.look().unwrap();
        let draft = place.draft(1420).unwrap();
        let key = AeadKey::new(Secret::new([7; 32]));
        SealJob::new(&key, draft, outgoing, PeerId::default(), ())
    }

    /// An iterator may go on after its first `None`. What it holds back must not pass for sealed.
    #[test]
    fn an_iterator_that_pauses_does_not_leave_plaintext_that_looks_sealed() {
        let mut jobs = [job(), job(), job()];
        let mut left = jobs.iter_mut();
        let mut is_pause = true;
        SealJob::run_all(core::iter::from_fn(|| {
            is_pause = !is_pause;
            if is_pause { None } else { left.next() }
        }));
        assert_eq!(jobs[0].datagram().len(), 80);
        for job in &mut jobs {
            let datagram = job.datagram();
            assert!(datagram.is_empty() || !datagram.ends_with(&[0x55; 16]));
        }
    }

    #[test]
    fn jobs_run_once() {
        let mut job = job();
        assert!(job.datagram().is_empty());
        job.run();
        let sealed = job.datagram().to_vec();
        job.run();
        SealJob::run_all([&mut job]);
        assert_eq!(job.datagram(), sealed);
        assert_eq!(job.into_parts().1, 0..80);
    }
}
