//! Packets on their way out.

use core::fmt;
use core::net::SocketAddr;
use core::ops::Range;

use crate::crypto::aead::{AeadKey, SealLane, TAG_LEN, seal_batch};
use crate::error::SealError;
use crate::event::PeerId;
use crate::ip;
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

    /// How many bytes the datagram takes, or will take when the job has run.
    #[must_use]
    pub fn datagram_len(&self) -> usize {
        self.draft.datagram_len()
    }

    /// Seals the packet. Does nothing the second time. Costs one pass of the cipher.
    pub fn run(&mut self) {
        seal_batch(self.lane());
    }

    /// Seals many packets, of any peers and sizes, at once.
    ///
    /// `jobs` is a `&mut [SealJob]`, a `&mut Vec<SealJob>` or any iterator over `&mut SealJob`. Vector
    /// code works on up to 64 of them at a time, and takes some 20 KiB of stack for it. If the iterator
    /// panics, the packets that it has given and that are not sealed yet are erased.
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

    /// Nor must what it has given before it panics.
    #[test]
    fn an_iterator_that_panics_does_not_leave_plaintext_that_looks_sealed() {
        for count in 1..4 {
            let mut jobs: Vec<_> = (0..count).map(|_| job()).collect();
            let mut left = jobs.iter_mut();
            let panics = core::iter::from_fn(|| Some(left.next().expect("on purpose")));
            let run = std::panic::AssertUnwindSafe(|| SealJob::run_all(panics));
            assert!(std::panic::catch_unwind(run).is_err());
            for job in &mut jobs {
                let datagram = job.datagram();
                assert!(!datagram.windows(4).any(|bytes| bytes == [0x55; 4]));
            }
        }
    }

    #[test]
    fn jobs_run_once() {
        let mut job = job();
        assert!(job.datagram().is_empty());
        assert_eq!(job.datagram_len(), 80);
        job.run();
        let sealed = job.datagram().to_vec();
        job.run();
        SealJob::run_all([&mut job]);
        assert_eq!(job.datagram(), sealed);
        assert_eq!(job.into_parts().1, 0..80);
    }
}
