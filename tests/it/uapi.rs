//! The configuration protocol: against wireguard-go, against a model, in pieces, and in bulk.

mod model;

use core::time::Duration;
use std::net::SocketAddr;

use proptest::prelude::*;
use quietwire::uapi::{Answer, Connection, Device, Errno, Error, HangUp, Host};
use quietwire::{Env, Event, Instant, Interface, PeerConfig, PeerId, PeerMut, PrivateKey};

use crate::support::{SeededRng, secs};

/// A port that is taken.
const TAKEN: u16 = 51998;

/// What a program would keep beside its interface.
#[derive(Default)]
struct Node {
    port: u16,
    mark: u32,
    log: Vec<Hook>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Added(PeerId),
    Configured(PeerId),
    Removed(PeerId),
}

impl Host<SocketAddr> for Node {
    fn listen_port(&self) -> u16 {
        self.port
    }

    fn set_listen_port(&mut self, port: u16) -> Result<(), Errno> {
        if port == TAKEN {
            return Err(Errno::EADDRINUSE);
        }
        self.port = port;
        Ok(())
    }

    fn fwmark(&self) -> u32 {
        self.mark
    }

    fn set_fwmark(&mut self, mark: u32) -> Result<(), Errno> {
        self.mark = mark;
        Ok(())
    }

    fn endpoint(&self, address: SocketAddr) -> SocketAddr {
        address
    }

    fn unix_time_of(&self, at: Instant) -> Duration {
        Duration::from_secs(1_700_000_000) + Duration::from_nanos(at.as_nanos())
    }

    fn scope_id(&self, zone: &str) -> Option<u32> {
        (zone == "lo").then_some(1)
    }

    fn peer_added(&mut self, mut peer: PeerMut<'_>) {
        peer.set_mtu(1280);
        self.log.push(Hook::Added(peer.id()));
    }

    fn peer_configured(&mut self, peer: PeerMut<'_>) {
        self.log.push(Hook::Configured(peer.id()));
    }

    fn peer_removed(&mut self, id: PeerId) {
        self.log.push(Hook::Removed(id));
    }
}

/// A device and one client of it.
struct Rig {
    now: Instant,
    interface: Interface,
    node: Node,
    connection: Connection,
}

impl Rig {
    fn new() -> Self {
        let now = Instant::from_nanos(0);
        Self {
            now,
            interface: Interface::new(None, now),
            node: Node::default(),
            connection: Connection::new(),
        }
    }

    fn device(&mut self) -> Device<'_, SocketAddr, Node> {
        Device::new(self.now, &mut self.interface, &mut self.node)
    }

    /// All answers to the next bytes.
    fn send(&mut self, bytes: &[u8]) -> Result<Vec<Answer>, HangUp> {
        let mut answers = Vec::new();
        let mut rest = bytes;
        let mut device = Device::new(self.now, &mut self.interface, &mut self.node);
        while let Some(answer) = self.connection.receive(&mut rest, &mut device)? {
            answers.push(answer);
        }
        assert!(rest.is_empty());
        Ok(answers)
    }

    /// The client ends sending; another one comes.
    fn end(&mut self) -> Option<Answer> {
        let connection = core::mem::take(&mut self.connection);
        connection.finish(&mut self.device())
    }

    /// The answer to one request.
    fn ask(&mut self, request: &str) -> String {
        let answers = self.send(request.as_bytes()).unwrap();
        let [answer] = answers.as_slice() else {
            panic!("{} answers", answers.len())
        };
        answer.to_string()
    }

    fn set(&mut self, lines: &[&str]) -> Result<(), Error> {
        let answer = self.ask(&format!("set=1\n{}\n\n", lines.join("\n")));
        match self.connection.last_error() {
            None => assert_eq!(answer, "errno=0\n\n"),
            Some(error) => assert_eq!(answer, format!("errno=-{}\n\n", error.errno().raw())),
        }
        self.connection.last_error().map_or(Ok(()), Err)
    }

    fn get(&mut self) -> String {
        self.ask("get=1\n\n")
    }

    /// The lines of `get`: peers and allowed IPs in order, without what is always the same.
    fn state(&mut self) -> Vec<String> {
        let text = self.get();
        let text = text.strip_suffix("errno=0\n\n").unwrap();
        let (mut device, mut peers) = (Vec::new(), Vec::<Vec<String>>::new());
        for line in text.lines() {
            if line.starts_with("public_key=") {
                peers.push(Vec::new());
            }
            let constant = ["last_handshake_time_", "tx_", "rx_", "protocol_version=1"];
            if !constant.iter().any(|start| line.starts_with(start)) {
                peers
                    .last_mut()
                    .unwrap_or(&mut device)
                    .push(line.to_owned());
            }
        }
        peers.sort();
        for mut peer in peers {
            let ips = peer.iter().position(|line| line.starts_with("allowed_ip="));
            let ips = ips.map(|at| peer.split_off(at)).unwrap_or_default();
            let (mut ips, end) = (ips, peer.len());
            ips.sort();
            peer.splice(end.., ips);
            device.extend(peer);
        }
        device
    }
}

fn key_line(byte: &str) -> String {
    format!("public_key={}", byte.repeat(32))
}

/// Where we differ from the wireguard-go of the vectors, and why: what we answer, and what of the
/// state is another. Newer ones do as we do in the first three groups.
fn on_purpose(test: &str) -> Option<(&'static str, &'static str)> {
    Some(match test {
        // A length of a prefix has neither a sign nor leading zeros.
        "allowed_ip 10.0.0.0/08" | "allowed_ip 10.0.0.0/+8" | "allowed_ip 10.0.0.0/-0" => {
            ("errno=-22\n\n", "-allowed_ip")
        }
        // An allowed IP can be removed.
        "allowed_ip -10.0.0.0/8"
        | "removal of an allowed_ip that another peer has"
        | "removal of a removed allowed_ip" => ("errno=0\n\n", ""),
        "removal of an allowed_ip" => ("errno=0\n\n", "-allowed_ip=10.0.0.0/8"),
        // The scope of an endpoint is told.
        "endpoint [fe80::1%1]:51820" | "endpoint [fe80::1%lo]:51820" => {
            ("errno=0\n\n", "+endpoint=[fe80::1%1]:51820")
        }
        "endpoint [2001:db8::1%5]:80" => ("errno=0\n\n", "+endpoint=[2001:db8::1%5]:80"),
        "endpoint [fe80::1%02]:7" => ("errno=0\n\n", "+endpoint=[fe80::1%2]:7"),
        // Without a private key we have no public key: zeros are a peer like another.
        "public_key of zeros" => ("errno=0\n\n", "+public_key"),
        // A request that came with the one before is not lost.
        "two sets in one piece" => ("errno=0\n\nerrno=0\n\n", "+fwmark=2"),
        "a wrong set and a good one" => ("errno=-22\n\nerrno=0\n\n", "+fwmark=2"),
        _ => return None,
    })
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(core::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => panic!("{other}"),
            },
            byte => byte,
        });
    }
    bytes
}

#[test]
fn wireguard_go_answers_the_same() {
    let (mut tests, mut differences) = (0, 0);
    for paragraph in include_str!("../vectors/uapi.txt").split("\n\n").skip(1) {
        let field = |name: &str| {
            let mut lines = paragraph.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        let test = field("test").unwrap();
        let mut rig = Rig::new();
        if let Some(before) = field("before") {
            assert_eq!(
                rig.ask(core::str::from_utf8(&unescape(before)).unwrap()),
                "errno=0\n\n"
            );
        }
        let mut answers = String::new();
        if let Ok(some) = rig.send(&unescape(field("send").unwrap())) {
            answers.extend(some.iter().chain(&rig.end()).map(Answer::as_str));
        }
        rig.connection = Connection::new();
        let state = rig.state();
        let theirs = String::from_utf8(unescape(field("answer").unwrap())).unwrap();
        let lines = paragraph.lines();
        let their_state: Vec<_> = lines
            .filter_map(|line| line.strip_prefix("state="))
            .collect();
        tests += 1;
        let Some((ours, changed)) = on_purpose(test) else {
            assert_eq!(answers, theirs, "{test}");
            assert_eq!(state, their_state, "{test}");
            continue;
        };
        differences += 1;
        assert_eq!(answers, ours, "{test}");
        assert!(
            answers != theirs || state != their_state,
            "{test} does not differ"
        );
        let (sign, line) = changed.split_at_checked(1).unwrap_or_default();
        let is_there = state.iter().any(|own| own.starts_with(line));
        assert_eq!(is_there, sign != "-", "{test}: {state:?}");
    }
    assert!(tests >= 200, "{tests} tests");
    assert_eq!(differences, 14);
}

#[test]
fn errors_say_what_is_wrong() {
    let key = key_line("11");
    for (lines, said) in [
        (&["fwmark"][..], "expected a line of the form key=value"),
        (&["colour=blue"], "no key has this name"),
        (&["fwmark=x"], "fwmark: expected a number below 2^32"),
        (
            &["listen_port="],
            "listen_port: expected a number from 0 to 65535",
        ),
        (
            &["private_key=1"],
            "private_key: expected 64 hexadecimal digits",
        ),
        (&["replace_peers=no"], "replace_peers: expected `true`"),
        (
            &["remove=true"],
            "remove: expected behind a public_key only",
        ),
        (
            &[&key, "fwmark=1"],
            "fwmark: expected before the first public_key only",
        ),
        (
            &[&key, "allowed_ip=x"],
            "allowed_ip: expected a network such as 10.0.0.0/24",
        ),
        (
            &[&key, "protocol_version=2"],
            "protocol_version: expected 1",
        ),
        (
            &[&key, "endpoint=x"],
            "endpoint: expected an address and a port such as 192.0.2.1:51820 or [2001:db8::1]:51820",
        ),
        (
            &[&key, "endpoint=[fe80::1%nope]:1"],
            "endpoint: no network interface has this name",
        ),
        (&["listen_port=51998"], "listen_port: refused with error 98"),
    ] {
        let error = Rig::new().set(lines).unwrap_err();
        assert_eq!(error.to_string(), said);
    }
}

/// A line that nobody needs to be so long is refused, whether it comes whole or in pieces, and what
/// follows its request is read.
#[test]
fn lines_are_bounded() {
    for excess in [0, 1, 100_000] {
        for piece in [1, 1000, 1 << 20] {
            let line = format!("fwmark={}", "0".repeat(1017 + excess));
            let request = format!("set=1\n{line}\nfwmark=9\n\nget=1\n\n");
            let mut rig = Rig::new();
            let pieces = request.as_bytes().chunks(piece);
            let answers: Vec<_> = pieces.flat_map(|piece| rig.send(piece).unwrap()).collect();
            let texts: Vec<_> = answers.iter().map(Answer::as_str).collect();
            if excess == 0 {
                assert_eq!(texts, ["errno=0\n\n", "fwmark=9\nerrno=0\n\n"]);
            } else {
                assert_eq!(texts, ["errno=-22\n\n", "errno=0\n\n"]);
            }
        }
    }
}

#[test]
fn after_a_hang_up_nothing_is_read() {
    let mut rig = Rig::new();
    assert_eq!(rig.send(b"help\nset=1\nfwmark=1\n\n").unwrap_err(), HangUp);
    assert!(rig.send(b"set=1\nfwmark=1\n\n").unwrap().is_empty());
    assert!(rig.end().is_none());
    assert_eq!(rig.node.mark, 0);
}

#[test]
fn the_caller_hears_of_peers() {
    let (a, b) = (key_line("11"), key_line("22"));
    let mut rig = Rig::new();
    rig.set(&[&a, "allowed_ip=10.0.0.0/8", &b]).unwrap();
    let ids: Vec<_> = rig.interface.peers().map(|peer| peer.id()).collect();
    assert!(
        rig.interface.peers().all(|peer| peer.mtu() == 1280),
        "the hook changes the peer"
    );
    let [a_id, b_id] = ids[..] else { panic!() };
    let log = core::mem::take(&mut rig.node.log);
    let (added, configured) = (Hook::Added, Hook::Configured);
    assert_eq!(
        log,
        [added(a_id), configured(a_id), added(b_id), configured(b_id)]
    );

    rig.set(&[&a, "remove=true", &b, "endpoint=wrong"])
        .unwrap_err();
    assert_eq!(core::mem::take(&mut rig.node.log), [Hook::Removed(a_id)]);
    rig.set(&["replace_peers=true"]).unwrap();
    assert_eq!(core::mem::take(&mut rig.node.log), [Hook::Removed(b_id)]);
    rig.set(&[&a, "update_only=true"]).unwrap();
    assert!(matches!(rig.node.log[..], [Hook::Added(x), Hook::Removed(y)] if x == y));
}

/// A peer that another client removes under our hands is not touched, nor is its successor.
#[test]
fn two_clients_at_once() {
    let mut rig = Rig::new();
    let begun = format!("set=1\n{}\n", key_line("11"));
    assert!(rig.send(begun.as_bytes()).unwrap().is_empty());
    let first = core::mem::take(&mut rig.connection);
    rig.set(&["replace_peers=true", &key_line("22")]).unwrap();
    rig.connection = first;
    let rest = b"allowed_ip=10.0.0.0/8\npersistent_keepalive_interval=5\nremove=true\n\n";
    assert_eq!(rig.send(rest).unwrap()[0].as_str(), "errno=0\n\n");
    let peers: Vec<_> = rig.interface.peers().collect();
    assert_eq!(peers.len(), 1);
    assert!(peers[0].allowed_ips().next().is_none() && peers[0].persistent_keepalive() == 0);
}

/// Handshake time and traffic are those of a real handshake.
#[test]
fn statistics_are_told() {
    let keys = [[1; 32], [2; 32]].map(PrivateKey::from_bytes);
    let at = [1, 2].map(|n| SocketAddr::from(([192, 0, 2, n], 51820)));
    let mut rig = Rig::new();
    rig.now = rig.now + secs(7);
    let mut other: Interface = Interface::new(Some(&keys[1]), rig.now);
    other
        .add_peer(rig.now, &PeerConfig::new(keys[0].public_key()))
        .unwrap();
    rig.set(&[
        &format!("private_key={}", keys[0].to_hex()),
        &format!("public_key={}", keys[1].public_key().to_hex()),
        "persistent_keepalive_interval=25",
        &format!("endpoint={}", at[1]),
    ])
    .unwrap();
    let mut rng = SeededRng::new(1);
    let mut env = Env::new(&mut rng, Duration::from_secs(1_700_000_007));
    let initiation = rig
        .interface
        .poll_transmit(rig.now, &mut env)
        .expect("keepalive is on");
    other
        .receive(rig.now, at[0], &mut initiation.message.as_bytes().to_vec())
        .unwrap();
    let response = other.poll_transmit(rig.now, &mut env).unwrap();
    rig.interface
        .receive(rig.now, at[1], &mut response.message.as_bytes().to_vec())
        .unwrap();
    assert!(matches!(
        rig.interface.poll_event(),
        Some((_, Event::Established))
    ));
    let text = rig.get();
    assert!(text.contains(
        "last_handshake_time_sec=1700000007\nlast_handshake_time_nsec=0\ntx_bytes=148\nrx_bytes=92\n"
    ), "{text}");
}

#[test]
fn nothing_secret_is_printed_by_accident() {
    let secret = "5a".repeat(32);
    let mut rig = Rig::new();
    let half = format!(
        "set=1\nprivate_key={secret}\npublic_key={}\npreshared_key={secret}",
        "11".repeat(32)
    );
    assert!(rig.send(half.as_bytes()).unwrap().is_empty());
    let shown = format!("{:?}", rig.connection);
    let answers = rig.send(b"\n\nget=1\n\n").unwrap();
    let shown = format!("{shown} {answers:?}");
    assert!(
        answers[1].as_str().contains(&secret)
            && !shown.contains("5a5a")
            && !shown.contains("90, 90")
    );
}

/// What `get` says as a `set` request: the lines that can be set.
fn as_set(got: &str) -> String {
    let told = ["last_handshake_time_", "tx_bytes=", "rx_bytes=", "errno="];
    let settable = |line: &&str| !told.iter().any(|start| line.starts_with(start));
    let mut lines = vec!["set=1"];
    lines.extend(got.lines().filter(settable));
    lines.join("\n") + "\n"
}

/// Ten thousand peers with three networks each: set, told, set again from what was told. Linear: a
/// debug build takes a second, and anything quadratic minutes.
#[test]
fn ten_thousand_peers() {
    let start = std::time::Instant::now();
    let mut lines = vec!["set=1".to_owned(), "replace_peers=true".to_owned()];
    for n in 0..10_000_u32 {
        lines.push(format!("public_key={n:064x}"));
        lines.push(format!("preshared_key={:064x}", n + 1));
        lines.push(format!("endpoint=192.0.2.1:{}", n + 1));
        lines.push("replace_allowed_ips=true".to_owned());
        let network = |last| format!("allowed_ip=10.{}.{}.{last}/32", n >> 8, n & 255);
        lines.extend((0..3).map(network));
    }
    let request = lines.join("\n") + "\n\n";
    let mut rig = Rig::new();
    for _ in 0..2 {
        let pieces: Vec<_> = request.as_bytes().chunks(4096).collect();
        let answers: Vec<_> = pieces
            .iter()
            .flat_map(|piece| rig.send(piece).unwrap())
            .collect();
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].as_str(), "errno=0\n\n");
    }
    assert_eq!(rig.interface.peer_count(), 10_000);
    let got = rig.get();
    let mut again = Rig::new();
    assert_eq!(again.ask(&as_set(&got)), "errno=0\n\n");
    assert_eq!(again.get(), got);
    let took = start.elapsed();
    println!(
        "{} bytes set, {} bytes got, {took:?}",
        request.len(),
        got.len()
    );
    assert!(took < Duration::from_secs(30), "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn agrees_with_a_model(requests in model::requests()) {
        let mut rig = Rig::new();
        let mut model = model::Model::new();
        for request in requests {
            let errno = model.set(&request);
            let lines = [&["set=1".to_owned()], request.as_slice()].concat().join("\n");
            let answer = rig.ask(&format!("{lines}\n\n"));
            prop_assert_eq!(answer, format!("errno={}\n\n", errno), "{}", lines);
            prop_assert_eq!(rig.state(), model.get(), "{}", lines);
        }
        let got = rig.get();
        let mut again = Rig::new();
        prop_assert_eq!(again.ask(&as_set(&got)), "errno=0\n\n");
        prop_assert_eq!(again.get(), got);
    }

    #[test]
    fn pieces_make_no_difference(
        requests in model::requests(),
        cuts in proptest::collection::vec(1_usize..200, 1..50),
    ) {
        let mut text = String::new();
        for request in requests {
            text += "set=1\n";
            text.extend(request.iter().map(|line| format!("{line}\n")));
            text += "\nget=1\n\n";
        }
        let texts = |answers: &[Answer]| answers.iter().map(Answer::to_string).collect::<Vec<_>>();
        let whole = texts(&Rig::new().send(text.as_bytes()).unwrap());
        let (mut rig, mut pieces, mut rest) = (Rig::new(), Vec::new(), text.as_bytes());
        for cut in cuts.into_iter().cycle() {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.extend(texts(&rig.send(piece).unwrap()));
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(whole, pieces);
    }
}
