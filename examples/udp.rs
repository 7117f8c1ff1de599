//! A tunnel between two processes over UDP, with nothing but the sockets of `std`.
//!
//! ```console
//! $ cargo run --example udp                          # both sides, one as a child process
//! $ cargo run --example udp listen [ADDRESS:PORT]    # prints its address and public key,
//!                                                    # then reads the other side's public key
//! $ cargo run --example udp connect ADDRESS:PORT KEY
//! ```
//!
//! [`Node::turn`] is the event loop that every program around the library has in some form.

use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use std::{env, thread};

use getrandom::SysRng;
use quietwire::rand_core::UnwrapErr;
use quietwire::{Env, Event, Instant, PeerConfig, PrivateKey, PublicKey, Received, SealError};

type Tunnel = quietwire::Tunnel<SocketAddr>;
type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

const LISTENER: [u8; 4] = [10, 0, 0, 1];
const CONNECTOR: [u8; 4] = [10, 0, 0, 2];

fn main() -> Result {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => both(),
        ["listen"] => listen("127.0.0.1:0".parse()?),
        ["listen", address] => listen(address.parse()?),
        ["connect", address, key] => connect(address.parse()?, key.parse()?, |own| {
            println!("tell the listener this public key: {own}");
            Ok(())
        }),
        _ => Err("usage: udp [listen [ADDRESS:PORT] | connect ADDRESS:PORT KEY]".into()),
    }
}

/// Starts the listener as a child process and connects to it.
fn both() -> Result {
    let mut child = Command::new(env::current_exe()?)
        .arg("listen")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
    let mut input = child.stdin.take().ok_or("no input")?;
    let mut greeting = String::new();
    output.read_line(&mut greeting)?;
    let (address, key) = greeting.trim().split_once(' ').ok_or("no greeting")?;
    let log = thread::spawn(move || io::copy(&mut output, &mut io::stdout()));
    connect(address.parse()?, key.parse()?, |own| {
        writeln!(input, "{own}")
    })?;
    child.wait()?;
    log.join().map_err(|_| "the log was lost")??;
    Ok(())
}

/// Answers every packet, until one says goodbye.
fn listen(address: SocketAddr) -> Result {
    let key = PrivateKey::generate(&mut UnwrapErr(SysRng));
    let socket = UdpSocket::bind(address)?;
    println!("{} {}", socket.local_addr()?, key.public_key());
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    let peer = PeerConfig::new(line.trim().parse()?);

    let mut node = Node::new("listener ", socket, &key, &peer)?;
    loop {
        let Some(packet) = node.turn(Duration::MAX)? else {
            continue;
        };
        let text = text_of(&packet);
        node.say(&format!("{text:?} from {:?}", node.tunnel.endpoint()));
        node.send(&packet_of(LISTENER, CONNECTOR, text))?;
        if text == "goodbye" {
            node.print_statistics();
            return Ok(());
        }
    }
}

/// Sends a few packets, from another port half way, and says goodbye.
fn connect(
    address: SocketAddr,
    key: PublicKey,
    tell: impl FnOnce(PublicKey) -> io::Result<()>,
) -> Result {
    let own = PrivateKey::generate(&mut UnwrapErr(SysRng));
    tell(own.public_key())?;
    let any_port = SocketAddr::new(
        if address.is_ipv4() {
            [0; 4].into()
        } else {
            [0; 16].into()
        },
        0,
    );
    let peer = PeerConfig::new(key).endpoint(address);
    let mut node = Node::new("connector", UdpSocket::bind(any_port)?, &own, &peer)?;

    for text in ["one", "two", "three", "goodbye"] {
        if text == "three" {
            node.socket = UdpSocket::bind(any_port)?;
            node.say("has a new socket, as after a change of network");
        }
        node.send(&packet_of(CONNECTOR, LISTENER, text))?;
        let sent = node.now();
        match node.receive(Duration::from_secs(1))? {
            Some(packet) => {
                let elapsed = node.now() - sent;
                node.say(&format!("{:?} came back in {elapsed:?}", text_of(&packet)));
            }
            None => node.say("no answer within a second"),
        }
    }
    node.print_statistics();
    Ok(())
}

/// A tunnel with its socket, its clock and its randomness.
struct Node {
    name: &'static str,
    tunnel: Tunnel,
    socket: UdpSocket,
    epoch: std::time::Instant,
    rng: UnwrapErr<SysRng>,
    buffer: Box<[u8; 2048]>,
}

impl Node {
    fn new(
        name: &'static str,
        socket: UdpSocket,
        key: &PrivateKey,
        peer: &PeerConfig<'_>,
    ) -> Result<Self> {
        Ok(Self {
            name,
            tunnel: Tunnel::new(key, peer, Instant::from_nanos(0))?,
            socket,
            epoch: std::time::Instant::now(),
            rng: UnwrapErr(SysRng),
            buffer: Box::new([0; 2048]),
        })
    }

    fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    /// One turn of the event loop: waits until a datagram arrives, something is due, or `patience`
    /// ends. Returns the packet, if the datagram brought one.
    fn turn(&mut self, patience: Duration) -> Result<Option<Vec<u8>>> {
        let deadline = self.tunnel.poll_timeout();
        let wait = deadline.map_or(patience, |at| patience.min(at - self.now()));
        let packet = self.read(wait)?;
        self.tunnel.handle_timeout(self.now());
        self.drain()?;
        Ok(packet)
    }

    /// Waits for a datagram and gives it to the tunnel.
    fn read(&mut self, wait: Duration) -> Result<Option<Vec<u8>>> {
        // A timeout of zero would mean to wait for ever.
        let wait = wait.max(Duration::from_micros(1));
        self.socket.set_read_timeout(Some(wait))?;
        let (len, source) = match self.socket.recv_from(self.buffer.as_mut_slice()) {
            Ok(received) => received,
            Err(error) if is_passing(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let now = self.now();
        match self.tunnel.receive(now, source, &mut self.buffer[..len]) {
            Ok(Received::Packet(packet)) => return Ok(Some(packet.to_vec())),
            Ok(other) => println!("{} received {other:?}", self.name),
            // A verdict about this datagram: the tunnel is as it was.
            Err(rejected) => println!("{} dropped a datagram: {rejected}", self.name),
        }
        Ok(None)
    }

    /// Takes what the tunnel has to tell and to send.
    fn drain(&mut self) -> Result {
        while let Some(event) = self.tunnel.poll_event() {
            self.say(&format!("{event:?}, peer at {:?}", self.tunnel.endpoint()));
            if event == Event::HandshakeGivenUp {
                return Err("the other side does not answer".into());
            }
        }
        let now = self.now();
        let unix_time = SystemTime::UNIX_EPOCH.elapsed()?;
        let mut env = Env::new(&mut self.rng, unix_time);
        while let Some(transmit) = self.tunnel.poll_transmit(now, &mut env) {
            let datagram = transmit.message.as_bytes();
            println!("{} sends {:?}", self.name, transmit.message.kind());
            // A datagram that cannot be sent is one that was lost: it is repeated in time.
            if let Err(error) = self.socket.send_to(datagram, transmit.to) {
                println!("{} cannot send to {}: {error}", self.name, transmit.to);
            }
        }
        Ok(())
    }

    /// Sends a packet, if need be after the handshake that it asks for. What is received meanwhile
    /// is not kept.
    fn send(&mut self, packet: &[u8]) -> Result {
        loop {
            let now = self.now();
            match self
                .tunnel
                .seal_into(now, packet, self.buffer.as_mut_slice())
            {
                Ok(sealed) => {
                    self.socket.send_to(sealed.datagram, sealed.to)?;
                    return self.drain();
                }
                Err(SealError::NoSession) => {
                    self.drain()?;
                    self.turn(Duration::MAX)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for a packet.
    fn receive(&mut self, patience: Duration) -> Result<Option<Vec<u8>>> {
        let deadline = self.now() + patience;
        while self.now() < deadline {
            if let Some(packet) = self.turn(deadline - self.now())? {
                return Ok(Some(packet));
            }
        }
        Ok(None)
    }

    fn say(&self, what: &str) {
        println!("{} {what}", self.name);
    }

    fn print_statistics(&self) {
        let stats = self.tunnel.stats();
        self.say(&format!(
            "sent {} bytes in {} datagrams, received {} in {}, dropped {}",
            stats.tx_bytes,
            stats.tx_datagrams,
            stats.rx_bytes,
            stats.rx_datagrams,
            self.tunnel.drops().total(),
        ));
    }
}

/// Whether nothing is wrong with the socket: time is up, a signal came, or (on Windows) an earlier
/// datagram was not delivered.
fn is_passing(error: &io::Error) -> bool {
    use ErrorKind::{ConnectionReset, Interrupted, TimedOut, WouldBlock};
    matches!(
        error.kind(),
        WouldBlock | TimedOut | Interrupted | ConnectionReset
    )
}

/// An IPv4 packet of protocol 253, which is for experiments (RFC 3692).
fn packet_of(source: [u8; 4], destination: [u8; 4], text: &str) -> Vec<u8> {
    let [high, low] = (20 + u16::try_from(text.len()).unwrap_or(0)).to_be_bytes();
    let header = [0x45, 0, high, low, 0, 0, 0, 0, 64, 253, 0, 0];
    [&header[..], &source, &destination, text.as_bytes()].concat()
}

fn text_of(packet: &[u8]) -> &str {
    let text = packet.get(20..).unwrap_or_default();
    str::from_utf8(text).unwrap_or("not text")
}
