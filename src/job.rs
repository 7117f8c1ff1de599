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
use crate::wire::{DATA_OVERHEAD, DataHeader};

/// How many packets the cipher is given at once: enough to fill every lane, little enough to stay
/// in the first-level cache.
const CHUNK: usize = 16;

/// The longest packet that IP knows.
const MAX_PACKET: usize = 65_535;

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

    /// The packet.
    pub(crate) fn packet(&mut self) -> Result<&[u8], SealError> {
        let packet = match &self.payload {
            Payload::Inside(range) => self
                .buffer
                .as_mut()
                .get(range.clone())
                .ok_or(SealError::BadRange)?,
            Payload::Apart(packet) => packet,
        };
        if packet.len() > MAX_PACKET {
            Err(SealError::TooLong)
        } else {
            Ok(packet)
        }
    }

    /// Where the datagram will lie, once the packet is padded for this MTU.
    pub(crate) fn layout(&mut self, mtu: u16) -> Result<Layout, SealError> {
        let packet = self.packet()?.len();
        let padded = ip::padded_len(packet, usize::from(mtu));
        let packet_start = match &self.payload {
            Payload::Inside(range) => range.start,
            Payload::Apart(_) => DataHeader::LEN,
        };
        let end = packet_start.saturating_add(padded).saturating_add(TAG_LEN);
        let tail = end.saturating_sub(self.buffer.as_mut().len());
        match packet_start.checked_sub(DataHeader::LEN) {
            Some(start) if tail == 0 => Ok(Layout {
                start,
                packet,
                padded,
            }),
            _ => {
                let head = DataHeader::LEN.saturating_sub(packet_start);
                Err(SealError::BufferTooSmall { head, tail })
            }
        }
    }
}

/// Where a datagram lies in its buffer, and how long the packet is before and after padding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    start: usize,
    packet: usize,
    padded: usize,
}

impl Layout {
    pub(crate) const fn datagram_len(&self) -> usize {
        self.padded.saturating_add(DATA_OVERHEAD)
    }

    const fn range(&self) -> Range<usize> {
        self.start..self.start.saturating_add(self.datagram_len())
    }
}

/// A packet with its counter reserved, to be sealed by [`run`](Self::run).
///
/// Dropping it loses the packet and skips its counter, which harms nothing.
#[must_use = "a packet is sealed by running its job"]
pub struct SealJob<'p, B, E = SocketAddr> {
    /// `None` once the job has run, so that a job taken out of a collection leaves no key there.
    key: Option<AeadKey>,
    header: DataHeader,
    layout: Layout,
    outgoing: Outgoing<'p, B>,
    peer: PeerId,
    to: E,
    sealed: bool,
}

impl<'p, B: AsMut<[u8]>, E: Copy> SealJob<'p, B, E> {
    pub(crate) fn new(
        key: AeadKey,
        header: DataHeader,
        layout: Layout,
        outgoing: Outgoing<'p, B>,
        to: E,
    ) -> Self {
        Self {
            key: Some(key),
            header,
            layout,
            outgoing,
            peer: PeerId::default(),
            to,
            sealed: false,
        }
    }

    pub(crate) fn of(mut self, peer: PeerId) -> Self {
        self.peer = peer;
        self
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
        if let Some(lane) = self.lane() {
            match lane.source {
                None => lane.key.seal(lane.counter, &[], lane.buffer),
                Some(packet) => lane.key.seal_from(lane.counter, &[], packet, lane.buffer),
            }
        }
        self.key = None;
    }

    /// Seals many packets, of any peers and sizes, at once.
    ///
    /// `jobs` is a `&mut [SealJob]`, a `&mut Vec<SealJob>` or any iterator over `&mut SealJob`.
    pub fn run_all<'j>(jobs: impl IntoIterator<Item = &'j mut Self>)
    where
        Self: 'j,
    {
        let mut jobs = jobs.into_iter().filter(|job| job.key.is_some()).fuse();
        loop {
            let mut chunk: [_; CHUNK] = core::array::from_fn(|_| jobs.next());
            if chunk.first().is_none_or(Option::is_none) {
                return;
            }
            let lanes = chunk.iter_mut().flatten().filter_map(|job| job.lane());
            if let Some((mut lanes, n)) = gather(lanes, blank_seal) {
                seal_batch(lanes.get_mut(..n).unwrap_or_default());
            }
            for job in chunk.into_iter().flatten() {
                job.key = None;
            }
        }
    }

    /// The sealed datagram; empty before [`run`](Self::run).
    pub fn datagram(&mut self) -> &mut [u8] {
        let range = if self.sealed {
            self.layout.range()
        } else {
            0..0
        };
        self.outgoing
            .buffer
            .as_mut()
            .get_mut(range)
            .unwrap_or_default()
    }

    /// The caller's buffer and where in it the sealed datagram lies (nowhere before `run`).
    pub fn into_parts(self) -> (B, Range<usize>) {
        let range = if self.sealed {
            self.layout.range()
        } else {
            0..0
        };
        (self.outgoing.buffer, range)
    }

    /// Writes the header and the padding, and hands the rest to the cipher, which cannot fail.
    fn lane(&mut self) -> Option<SealLane<'_>> {
        let key = self.key.as_ref()?;
        let datagram = self.outgoing.buffer.as_mut().get_mut(self.layout.range())?;
        let (header, body) = datagram.split_first_chunk_mut::<{ DataHeader::LEN }>()?;
        self.sealed = true;
        *header = self.header.emit();
        let source = match self.outgoing.payload {
            Payload::Apart(packet) => Some(packet),
            Payload::Inside(_) => {
                body.get_mut(self.layout.packet..self.layout.padded)?
                    .fill(0);
                None
            }
        };
        Some(SealLane {
            key,
            counter: self.header.counter,
            source,
            buffer: body,
        })
    }
}

impl<B, E: fmt::Debug> fmt::Debug for SealJob<'_, B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealJob")
            .field("peer", &self.peer)
            .field("header", &self.header)
            .field("sealed", &self.sealed)
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
    /// `None` once the job has run, as in a [`SealJob`].
    key: Option<AeadKey>,
    pub(crate) header: DataHeader,
    /// Tells this session from any other, also from one with the same index.
    pub(crate) session: u64,
    pub(crate) peer: PeerId,
    pub(crate) source: E,
    datagram: B,
    state: OpenState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OpenState {
    Sealed,
    Forged,
    Authentic,
}

impl<B: AsMut<[u8]>, E: Copy> OpenJob<B, E> {
    pub(crate) fn new(ticket: OpenTicket, peer: PeerId, source: E, datagram: B) -> Self {
        let OpenTicket {
            key,
            header,
            session,
        } = ticket;
        Self {
            key: Some(key),
            header,
            session,
            peer,
            source,
            datagram,
            state: OpenState::Sealed,
        }
    }

    /// The peer whose session the datagram claims. Meaningless for a `Tunnel`.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// Opens the datagram in place. Does nothing the second time. Costs one pass of the cipher.
    pub fn run(&mut self) {
        if let Some(lane) = self.lane() {
            self.state = OpenState::of(lane.key.open(lane.counter, &[], lane.buffer).is_ok());
            self.key = None;
        }
    }

    /// Opens many datagrams, of any sessions and sizes, at once. A forged one costs its neighbours
    /// nothing.
    ///
    /// `jobs` is a `&mut [OpenJob]`, a `&mut Vec<OpenJob>` or any iterator over `&mut OpenJob`.
    pub fn run_all<'j>(jobs: impl IntoIterator<Item = &'j mut Self>)
    where
        Self: 'j,
    {
        let mut jobs = jobs.into_iter().filter(|job| job.key.is_some()).fuse();
        loop {
            let mut chunk: [_; CHUNK] = core::array::from_fn(|_| jobs.next());
            let lanes = chunk.iter_mut().flatten().filter_map(|job| job.lane());
            let Some((mut lanes, n)) = gather(lanes, blank_open) else {
                return;
            };
            open_batch(lanes.get_mut(..n).unwrap_or_default());
            let verdicts = lanes.map(|lane| lane.authentic);
            for (job, authentic) in chunk.into_iter().flatten().zip(verdicts) {
                job.state = OpenState::of(authentic);
                job.key = None;
            }
        }
    }

    /// Runs the job if nobody has; whether the datagram is authentic.
    pub(crate) fn is_authentic(&mut self) -> bool {
        self.run();
        self.state == OpenState::Authentic
    }

    /// The whole datagram's length in bytes.
    pub(crate) fn datagram_len(&mut self) -> usize {
        self.datagram.as_mut().len()
    }

    /// The padded packet. For `finish_open` alone, after the replay check.
    pub(crate) fn plaintext(&mut self) -> &mut [u8] {
        let datagram = self.datagram.as_mut();
        let end = datagram.len().saturating_sub(TAG_LEN);
        datagram.get_mut(DataHeader::LEN..end).unwrap_or_default()
    }

    pub(crate) fn into_opened(self, len: usize) -> Opened<B> {
        Opened {
            peer: self.peer,
            datagram: self.datagram,
            content: Opening::Data(len),
        }
    }

    /// Gives the buffer back without its plaintext.
    pub(crate) fn refuse(mut self, reason: Rejected) -> Refused<B> {
        if self.state == OpenState::Authentic {
            self.plaintext().fill(0);
        }
        Refused {
            reason,
            datagram: self.datagram,
        }
    }

    fn lane(&mut self) -> Option<OpenLane<'_>> {
        // A buffer that has shrunk since `begin` gives an empty body, which is not authentic.
        let datagram = self.datagram.as_mut();
        Some(OpenLane {
            key: self.key.as_ref()?,
            counter: self.header.counter,
            buffer: datagram.get_mut(DataHeader::LEN..).unwrap_or_default(),
            authentic: false,
        })
    }
}

impl OpenState {
    const fn of(authentic: bool) -> Self {
        if authentic {
            Self::Authentic
        } else {
            Self::Forged
        }
    }
}

impl<B, E: fmt::Debug> fmt::Debug for OpenJob<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenJob")
            .field("peer", &self.peer)
            .field("header", &self.header)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What a session contributes to an [`OpenJob`].
#[derive(Debug)]
pub(crate) struct OpenTicket {
    pub(crate) key: AeadKey,
    pub(crate) header: DataHeader,
    pub(crate) session: u64,
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

/// Gathers up to [`CHUNK`] lanes on the stack; the rest of the array is blank.
fn gather<L>(
    mut lanes: impl Iterator<Item = L>,
    blank: impl Fn(&L) -> L,
) -> Option<([L; CHUNK], usize)> {
    let first = lanes.next()?;
    let empty = blank(&first);
    let mut first = Some(first);
    let mut count = 0;
    let all = core::array::from_fn(|_| match first.take().or_else(|| lanes.next()) {
        Some(lane) => {
            count += 1;
            lane
        }
        None => blank(&empty),
    });
    Some((all, count))
}

fn blank_seal<'a>(lane: &SealLane<'a>) -> SealLane<'a> {
    SealLane {
        source: None,
        buffer: &mut [],
        ..*lane
    }
}

fn blank_open<'a>(lane: &OpenLane<'a>) -> OpenLane<'a> {
    OpenLane {
        buffer: &mut [],
        ..*lane
    }
}
