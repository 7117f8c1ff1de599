//! The demonstration: a second node with a web server behind it, in a thread of this process, from
//! which a file is downloaded through a tunnel between two sockets on loopback.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::thread;

use getrandom::SysRng;
use quietwire::config::{Config, InterfaceAddress, PeerSection};
use quietwire::rand_core::UnwrapErr;
use quietwire::{Cidr, PrivateKey};
use sha2::{Digest, Sha256};

use crate::download::download;
use crate::http;
use crate::node::{Failure, Node, is_stopped};
use crate::tcp::Stream;
use crate::url::Url;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2));
const PORT: u16 = 80;

pub(crate) fn run(
    bytes: u64,
    pcap: Option<&Path>,
    prepare: impl FnOnce(&Node) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut client, server) = pair(pcap)?;
    prepare(&client)?;
    let stopper = server.stopper()?;
    let server = thread::spawn(move || serve(server));

    let handshake = client.establish(SERVER)?;
    eprintln!("handshake in {handshake:.1?}");
    let url: Url = format!("http://{SERVER}/{bytes}").parse()?;
    let mut hash = Sha256::new();
    let result = download(&mut client, (SERVER, PORT).into(), &url, || {
        Ok(Hashing(&mut hash))
    });

    stopper.stop()?;
    let server = server.join().map_err(|_| "the server has panicked")?;
    eprintln!("client: {client}");
    eprintln!("server: {server}");
    client.wire.finish_capture()?;
    eprintln!("{}", result?);
    check(bytes, hash)
}

/// Two nodes that know each other; the client also knows where the server is.
fn pair(pcap: Option<&Path>) -> Result<(Node, Node), Failure> {
    let mut rng = UnwrapErr(SysRng);
    let (client_key, server_key) = (
        PrivateKey::generate(&mut rng),
        PrivateKey::generate(&mut rng),
    );
    let (client_socket, server_socket) = (loopback()?, loopback()?);
    let client_address = client_socket.local_addr()?;
    let server_address = server_socket.local_addr()?;
    eprintln!(
        "client: {CLIENT} at {client_address}, public key {}",
        client_key.public_key()
    );
    eprintln!(
        "server: {SERVER} at {server_address}, public key {}",
        server_key.public_key()
    );

    let mut to_client = PeerSection::new(client_key.public_key());
    to_client.allowed_ips = vec![Cidr::from(CLIENT)];
    let mut to_server = PeerSection::new(server_key.public_key());
    to_server.allowed_ips = vec![Cidr::from(SERVER)];
    to_server.endpoint = Some(server_address.into());

    let server = Node::new(&config(server_key, SERVER, to_client)?, server_socket)?;
    let mut client = Node::new(&config(client_key, CLIENT, to_server)?, client_socket)?;
    if let Some(path) = pcap {
        client.wire.capture(path, client_address)?;
    }
    Ok((client, server))
}

fn loopback() -> io::Result<UdpSocket> {
    UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn config(private_key: PrivateKey, address: IpAddr, peer: PeerSection) -> Result<Config, Failure> {
    let mut config = Config::default();
    config.interface.private_key = Some(private_key);
    config.interface.addresses = vec![InterfaceAddress::new(address, 24)?];
    config.peers = vec![peer];
    Ok(config)
}

/// Serves one connection after another until it is stopped. Returns the node's statistics.
fn serve(mut node: Node) -> String {
    loop {
        if let Err(error) = serve_one(&mut node) {
            if is_stopped(&error) {
                return node.to_string();
            }
            eprintln!("server: {error}");
        }
    }
}

fn serve_one(node: &mut Node) -> io::Result<()> {
    let mut stream = Stream::accept(node, PORT)?;
    http::serve(&mut stream, |path| {
        let bytes = path.strip_prefix('/')?.parse().ok()?;
        Some((bytes, Pattern::new(bytes)))
    })?;
    stream.finish()
}

/// Takes the hash of what is written.
struct Hashing<'h>(&'h mut Sha256);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compares what was downloaded with what the server had to send.
fn check(bytes: u64, downloaded: Sha256) -> Result<(), Failure> {
    let mut expected = Sha256::new();
    io::copy(&mut Pattern::new(bytes), &mut Hashing(&mut expected))?;
    let (expected, downloaded) = (expected.finalize(), downloaded.finalize());
    if expected != downloaded {
        return Err("the SHA-256 of what arrived is not that of what was sent".into());
    }
    eprint!("SHA-256 is right: ");
    for byte in downloaded {
        eprint!("{byte:02x}");
    }
    eprintln!();
    Ok(())
}

/// So many bytes that look random and are always the same: outputs of `SplitMix64`.
#[derive(Clone, Copy, Debug)]
struct Pattern {
    position: u64,
    end: u64,
}

impl Pattern {
    const fn new(bytes: u64) -> Self {
        Self {
            position: 0,
            end: bytes,
        }
    }

    /// The eight bytes of which the one at the position is one.
    const fn word(&self) -> [u8; 8] {
        let step = self.position / 8 + 1;
        let state = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    }
}

impl Read for Pattern {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let mut rest = &mut buffer[..len];
        while !rest.is_empty() {
            let word = self.word();
            let word = &word[usize::from(self.position.to_le_bytes()[0] % 8)..];
            let (head, tail) = rest.split_at_mut(word.len().min(rest.len()));
            head.copy_from_slice(&word[..head.len()]);
            self.position += head.len() as u64;
            rest = tail;
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_is_the_same_however_it_is_read() {
        let mut whole = Vec::new();
        Pattern::new(1003).read_to_end(&mut whole).unwrap();
        assert_eq!(whole.len(), 1003);
        for step in [1, 3, 8, 13, 100] {
            let mut pattern = Pattern::new(1003);
            let mut pieces = Vec::new();
            while pattern
                .by_ref()
                .take(step)
                .read_to_end(&mut pieces)
                .unwrap()
                > 0
            {}
            assert_eq!(pieces, whole, "in steps of {step}");
        }
    }
}
