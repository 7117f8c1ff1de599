//! Writes answers.

use alloc::string::String;
use core::fmt::{self, Write};
use core::time::Duration;

use zeroize::Zeroize;

use super::{Device, Errno, Host};
use crate::{Endpoint, PeerRef};

/// An answer, with the secrets in it: bytes for the client. Wiped when dropped.
///
/// `Debug` shows nothing of it; [`Answer::as_str`] and `Display` show it all.
pub struct Answer {
    text: String,
    errno: Option<Errno>,
}

impl Answer {
    /// Answers nothing but whether it went well.
    pub(super) fn status(errno: Option<Errno>) -> Self {
        let text = String::new();
        Self { text, errno }.close()
    }

    /// Answers `get`.
    pub(super) fn of_get<E: Endpoint, H: Host<E> + ?Sized>(device: &Device<'_, E, H>) -> Self {
        let mut answer = Self {
            text: String::new(),
            errno: None,
        };
        // Writing here cannot fail: there is memory, or the program ends.
        let _ = write_all(&mut answer, device);
        answer.close()
    }

    fn close(mut self) -> Self {
        let _ = match self.errno {
            Some(errno) => writeln!(self, "errno={errno}\n"),
            None => self.write_str("errno=0\n\n"),
        };
        self
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The error that the answer tells; `None` is success.
    #[must_use]
    pub const fn errno(&self) -> Option<Errno> {
        self.errno
    }
}

/// Grows by moving: what a string leaves behind when it grows by itself is not wiped.
impl Write for Answer {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let needed = self.text.len().saturating_add(piece.len());
        if needed > self.text.capacity() {
            let capacity = needed.saturating_mul(2).max(256);
            let mut moved = String::with_capacity(capacity);
            moved.push_str(&self.text);
            self.text.zeroize();
            self.text = moved;
        }
        self.text.push_str(piece);
        Ok(())
    }
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl AsRef<str> for Answer {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("errno", &self.errno)
            .finish_non_exhaustive()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}

fn write_all<E: Endpoint, H: Host<E> + ?Sized>(
    out: &mut Answer,
    device: &Device<'_, E, H>,
) -> fmt::Result {
    if let Some(key) = device.interface.private_key() {
        writeln!(out, "private_key={}", key.to_hex())?;
    }
    match device.host.listen_port() {
        0 => {}
        port => writeln!(out, "listen_port={port}")?,
    }
    match device.host.fwmark() {
        0 => {}
        mark => writeln!(out, "fwmark={mark}")?,
    }
    let mut peers = device.interface.peers();
    peers.try_for_each(|peer| write_peer(out, &peer, device.host))
}

fn write_peer<E: Endpoint, H: Host<E> + ?Sized>(
    out: &mut Answer,
    peer: &PeerRef<'_, E>,
    host: &H,
) -> fmt::Result {
    writeln!(out, "public_key={}", peer.public_key().to_hex())?;
    writeln!(out, "preshared_key={}", peer.preshared_key().to_hex())?;
    out.write_str("protocol_version=1\n")?;
    if let Some(endpoint) = peer.endpoint() {
        writeln!(out, "endpoint={}", endpoint.address())?;
    }
    let stats = peer.stats();
    let last_handshake = stats
        .last_handshake
        .map_or(Duration::ZERO, |at| host.unix_time_of(at));
    writeln!(out, "last_handshake_time_sec={}", last_handshake.as_secs())?;
    let nanos = last_handshake.subsec_nanos();
    writeln!(out, "last_handshake_time_nsec={nanos}")?;
    writeln!(out, "tx_bytes={}", stats.tx_bytes)?;
    writeln!(out, "rx_bytes={}", stats.rx_bytes)?;
    let keepalive = peer.persistent_keepalive();
    writeln!(out, "persistent_keepalive_interval={keepalive}")?;
    let mut allowed_ips = peer.allowed_ips();
    allowed_ips.try_for_each(|cidr| writeln!(out, "allowed_ip={cidr}"))
}
