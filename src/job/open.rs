//! Datagrams on their way in.

use core::fmt;
use core::net::SocketAddr;
use core::ops::Range;

use crate::crypto::aead::{AeadKey, OpenLane, TAG_LEN, open_batch};
use crate::error::Rejected;
use crate::event::PeerId;
use crate::session::Session;
use crate::wire::DataHeader;

/// A data datagram with its session found, to be opened by [`run`](Self::run) and then believed or
/// refused by `finish_open`.
#[must_use = "a datagram is opened by running its job and finishing it"]
pub struct OpenJob<B, E = SocketAddr> {
    /// Erased when the job has run, as in a `SealJob`.
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
    /// `jobs` is a `&mut [OpenJob]`, a `&mut Vec<OpenJob>` or any iterator over `&mut OpenJob`. Vector
    /// code works on up to 64 of them at a time, and takes some 20 KiB of stack for it.
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

// It is moved several times on its way, as a `SealJob` is.
const _: () = assert!(size_of::<OpenJob<&'static mut [u8]>>() <= 128);
