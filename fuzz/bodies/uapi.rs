//! The configuration protocol: any bytes get answers, in pieces the same ones, and the device that
//! is left can be told and set up again.

use std::net::SocketAddr;
use std::time::Duration;

use quietwire::uapi::{Connection, Device, Errno, Host};
use quietwire::{Instant, Interface};

/// Pieces that requests are made of, and some that they must not be made of.
const PIECES: [&str; 52] = [
    "set=1\n",
    "get=1\n",
    "\n",
    "\n\n",
    "\r\n",
    "=",
    "-",
    "/",
    ":",
    "%",
    "[",
    "]",
    "private_key=",
    "listen_port=",
    "fwmark=",
    "replace_peers=true\n",
    "public_key=",
    "remove=true\n",
    "update_only=true\n",
    "preshared_key=",
    "endpoint=",
    "persistent_keepalive_interval=",
    "replace_allowed_ips=true\n",
    "allowed_ip=",
    "protocol_version=1\n",
    "5858585858585858585858585858585858585858585858585858585858585858\n",
    "0000000000000000000000000000000000000000000000000000000000000000\n",
    // The public key of the one before the zeros.
    "4c851fc5046a9493c0698d9ab7da0376bbb9deb6dbfcedc4dc887b5ffa279a6b\n",
    "ABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB\n",
    "public_key=1111111111111111111111111111111111111111111111111111111111111111\n",
    "10.0.0.0/8\n",
    "10.1.0.0/16\n",
    "::/0\n",
    "192.0.2.1:51820\n",
    "[fe80::1%2]:7\n",
    "[fe80::1%lo]:7\n",
    "0\n",
    "65535\n",
    "4294967295\n",
    "é",
    // Whole lines, so that much of what is made at random is right.
    "public_key=2222222222222222222222222222222222222222222222222222222222222222\n",
    "private_key=5858585858585858585858585858585858585858585858585858585858585858\n",
    "preshared_key=9999999999999999999999999999999999999999999999999999999999999999\n",
    "listen_port=51820\n",
    "fwmark=7\n",
    "endpoint=192.0.2.1:51820\n",
    "endpoint=[2001:db8::1%lo]:7\n",
    "persistent_keepalive_interval=25\n",
    "allowed_ip=10.0.0.0/8\n",
    "allowed_ip=-10.0.0.0/8\n",
    "allowed_ip=::/0\n",
    "\nset=1\n",
];

#[derive(Default)]
struct Node {
    port: u16,
    mark: u32,
}

impl Host<SocketAddr> for Node {
    fn listen_port(&self) -> u16 {
        self.port
    }

    fn set_listen_port(&mut self, port: u16) -> Result<(), Errno> {
        self.port = port;
        Ok(())
    }

    fn fwmark(&self) -> u32 {
        self.mark
    }

    fn set_fwmark(&mut self, mark: u32) -> Result<(), Errno> {
        if mark == 5 {
            return Err(Errno::from_raw(1));
        }
        self.mark = mark;
        Ok(())
    }

    fn endpoint(&self, address: SocketAddr) -> SocketAddr {
        address
    }

    fn unix_time_of(&self, at: Instant) -> Duration {
        Duration::from_nanos(at.as_nanos())
    }

    fn scope_id(&self, zone: &str) -> Option<u32> {
        (zone == "lo").then_some(1)
    }
}

/// The first byte is the length of the pieces in which the request comes. The others are the request
/// or, if the first has its highest bit set, a choice of pieces of one.
pub fn uapi(data: &[u8]) {
    let Some((length, data)) = data.split_first() else {
        return;
    };
    let request = if length & 0x80 == 0 {
        data.to_vec()
    } else {
        let piece = |choice: &u8| PIECES[usize::from(*choice) % PIECES.len()];
        let pieces = data.iter().map(piece);
        [PIECES[0]]
            .into_iter()
            .chain(pieces)
            .collect::<String>()
            .into_bytes()
    };
    let (answers, got) = serve(&request, request.len());
    let (in_pieces, got_in_pieces) = serve(&request, usize::from(*length & 0x7f));
    assert_eq!(answers, in_pieces);
    assert_eq!(got, got_in_pieces);
    let (set_again, got_again) = serve(&as_set(&got), 4096);
    assert_eq!(set_again, ["errno=0\n\n"]);
    assert_eq!(got_again, got);
}

/// A new device, and what it answers to a client that sends `request` and ends; then what it is.
fn serve(request: &[u8], length: usize) -> (Vec<String>, String) {
    let now = Instant::from_nanos(1);
    let (mut interface, mut node) = (Interface::new(None, now), Node::default());
    let mut device = Device::new(now, &mut interface, &mut node);
    let mut connection = Connection::new();
    let mut answers = Vec::new();
    let mut hung_up = false;
    for mut piece in request.chunks(length.max(1)) {
        loop {
            match connection.receive(&mut piece, &mut device) {
                Ok(Some(answer)) => answers.push(checked(answer.as_str(), answer.errno())),
                Ok(None) => break,
                Err(_) => {
                    assert!(!hung_up, "nothing follows");
                    hung_up = true;
                }
            }
        }
        assert!(piece.is_empty());
    }
    let last = connection.finish(&mut device);
    assert!(!hung_up || last.is_none());
    answers.extend(last.map(|answer| checked(answer.as_str(), answer.errno())));
    let got = device.get();
    (answers, checked(got.as_str(), got.errno()))
}

/// An answer has pairs, one number at its end, one empty line, and nothing behind it.
fn checked(answer: &str, errno: Option<Errno>) -> String {
    let lines = answer.strip_suffix("\n\n").expect("an empty line ends it");
    let (name, number) = lines.lines().last().unwrap().split_once('=').unwrap();
    assert_eq!(name, "errno");
    assert_eq!(number.parse(), Ok(-errno.map_or(0, Errno::raw)));
    assert!(errno.is_none() || lines.lines().count() == 1);
    assert!(lines.lines().all(|line| line.contains('=')));
    answer.to_owned()
}

/// What `get` says as a `set` request: the lines that can be set.
fn as_set(got: &str) -> Vec<u8> {
    let told = ["last_handshake_time_", "tx_bytes=", "rx_bytes=", "errno="];
    let mut request = String::from("set=1\n");
    for line in got.lines() {
        if !told.iter().any(|start| line.starts_with(start)) {
            request.push_str(line);
            request.push('\n');
        }
    }
    request.into_bytes()
}
