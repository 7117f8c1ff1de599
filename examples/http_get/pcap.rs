//! Writes what crosses the wire as a file that Wireshark opens.
//!
//! A UDP socket shows no IP and UDP headers, so they are made up for each datagram: the file has
//! link type RAW, which means that every record begins with an IP header.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::SystemTime;

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{IpProtocol, IpRepr, UdpPacket, UdpRepr};

const MAGIC: u32 = 0xa1b2_c3d4;
const VERSION: [u16; 2] = [2, 4];
const LONGEST_RECORD: u32 = 262_144;
const LINKTYPE_RAW: u32 = 101;

#[derive(Debug)]
pub(crate) struct Capture {
    file: BufWriter<File>,
    /// Our side of every datagram.
    local: SocketAddr,
}

impl Capture {
    pub(crate) fn create(path: &Path, local: SocketAddr) -> io::Result<Self> {
        let file = File::create(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let mut file = BufWriter::new(file);
        file.write_all(&MAGIC.to_le_bytes())?;
        file.write_all(&VERSION.map(u16::to_le_bytes).concat())?;
        file.write_all(&[0; 8])?; // the time zone and the precision, which nobody fills in
        file.write_all(&LONGEST_RECORD.to_le_bytes())?;
        file.write_all(&LINKTYPE_RAW.to_le_bytes())?;
        Ok(Self { file, local })
    }

    pub(crate) fn sent(&mut self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.record(&packet(self.local, to, datagram))
    }

    pub(crate) fn received(&mut self, from: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.record(&packet(from, self.local, datagram))
    }

    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }

    fn record(&mut self, packet: &[u8]) -> io::Result<()> {
        let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        // The format counts seconds in 32 bits, which last until 2106.
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        for field in [seconds, time.subsec_micros(), len, len] {
            self.file.write_all(&field.to_le_bytes())?;
        }
        self.file.write_all(packet)
    }
}

/// The IP packet that carries a datagram.
fn packet(from: SocketAddr, to: SocketAddr, datagram: &[u8]) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let udp = UdpRepr {
        src_port: from.port(),
        dst_port: to.port(),
    };
    let (source, destination) = (from.ip().into(), to.ip().into());
    let payload_len = udp.header_len() + datagram.len();
    let ip = IpRepr::new(source, destination, IpProtocol::Udp, payload_len, 64);
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet, &checksums);
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut packet[ip.header_len()..]),
        &source,
        &destination,
        datagram.len(),
        |payload| payload.copy_from_slice(datagram),
        &checksums,
    );
    packet
}
