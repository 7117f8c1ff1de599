//! Golden transcripts: what a tunnel says in the scenes that everybody knows, as text to be read.
//!
//! A line has the time in seconds, who, and what happened: a datagram with its kind and length, an
//! event, a packet for the user, a datagram dropped. The wire takes 10 ms and there is no jitter. A
//! `Tunnel` and an `Interface` must tell the same story. To write the files anew after a deliberate
//! change of behaviour, run the tests with `QUIETWIRE_TRANSCRIPTS=write` and read the difference.

use std::path::PathBuf;

use quietwire::Load;

use crate::support::*;

fn check(name: &str, scene: impl Fn(&Setup) -> Pair) {
    let file = format!("tests/it/transcripts/{name}.txt");
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    on_both(|mut setup| {
        setup.timings.jitter = secs(0);
        let told = scene(&setup).story.join("\n") + "\n";
        if std::env::var("QUIETWIRE_TRANSCRIPTS").is_ok_and(|mode| mode == "write") {
            std::fs::write(&file, &told).unwrap();
        }
        let golden = std::fs::read_to_string(&file).unwrap();
        let difference = told.lines().zip(golden.lines()).find(|(a, b)| a != b);
        assert_eq!(difference, None, "in {name}: told, and written down");
        assert_eq!(told.lines().count(), golden.lines().count(), "in {name}");
    });
}

fn on_a_wire_of_10_ms(setup: &Setup) -> Pair {
    let mut pair = setup.build();
    pair.on_wire(|_, _| Fate::Delay(millis(10)));
    pair
}

/// A client contacts a server that does not know where it is; a question and an answer; then silence
/// until the keys are erased.
#[test]
fn first_contact() {
    check("first_contact", |setup| {
        let setup = Setup {
            knows_endpoint: [true, false],
            ..setup.clone()
        };
        let mut pair = on_a_wire_of_10_ms(&setup);
        pair.send(Bob, 60);
        pair.run_until(secs(1));
        pair.send(Alice, 100);
        pair.run_until(secs(2));
        pair.send(Bob, 1200);
        pair.run_until(secs(1000));
        pair
    });
}

/// A packet each way every 30 s: the client replaces the session.
#[test]
fn rekey() {
    check("rekey", |setup| {
        let mut pair = on_a_wire_of_10_ms(setup);
        for step in 0..9 {
            pair.run_until(secs(30 * step));
            pair.send(Alice, 100);
            pair.run_for(millis(100));
            pair.send(Bob, 100);
        }
        pair.run_until(secs(270));
        pair
    });
}

/// The client changes its address; the server follows the latest authentic packet, and a replay from
/// elsewhere moves nothing.
#[test]
fn roaming() {
    check("roaming", |setup| {
        let mut pair = on_a_wire_of_10_ms(setup);
        pair.send(Alice, 100);
        pair.run_until(secs(1));
        for (at, addr) in [(2, "198.51.100.1:1000"), (4, "[2001:db8::1]:2000")] {
            pair.run_until(secs(at));
            pair.addrs[0] = addr.parse().unwrap();
            pair.tell(Alice, &format!("is now at {addr}"));
            pair.send(Alice, 100);
            pair.run_for(secs(1));
            let to = pair[Bob].endpoint().unwrap();
            pair.tell(Bob, &format!("sends to {to}"));
            pair.send(Bob, 100);
        }
        pair.run_until(secs(6));
        let mut replayed = pair.log.iter().rfind(|d| d.from == Alice).unwrap().clone();
        replayed.source = "203.0.113.66:6666".parse().unwrap();
        pair.tell(
            Alice,
            "has its last datagram replayed from 203.0.113.66:6666",
        );
        pair.deliver(replayed);
        let to = pair[Bob].endpoint().unwrap();
        pair.tell(Bob, &format!("sends to {to}"));
        pair.run_until(secs(30));
        pair
    });
}

/// A server under load answers with a cookie; the repetition carries it.
#[test]
fn cookie_under_load() {
    check("cookie_under_load", |setup| {
        let mut pair = on_a_wire_of_10_ms(setup);
        pair[Bob].set_load(Load::UnderLoad);
        pair.tell(Bob, "is under load");
        pair.send(Alice, 100);
        pair.run_until(secs(8));
        pair
    });
}

/// A server that is down: the client tries for 90 s and stops; the next packet starts again, and now
/// the server is there.
#[test]
fn give_up() {
    check("give_up", |setup| {
        let mut pair = setup.build();
        pair.cut(Alice);
        pair.send(Alice, 100);
        pair.run_until(secs(200));
        pair.on_wire(|_, _| Fate::Delay(millis(10)));
        pair.tell(Bob, "is back");
        pair.send(Alice, 200);
        pair.run_until(secs(215));
        pair
    });
}

/// The server erases its keys, as before a suspend. The client learns of it by silence, after 15 s.
#[test]
fn erase() {
    check("erase", |setup| {
        let mut pair = on_a_wire_of_10_ms(setup);
        pair.send(Alice, 100);
        pair.run_until(secs(1));
        let now = pair.now;
        pair[Bob].erase(now);
        pair.tell(Bob, "erases its keys");
        pair.settle();
        for at in [2, 10, 16] {
            pair.run_until(secs(at));
            pair.send(Alice, 100);
        }
        pair.run_until(secs(40));
        pair
    });
}
