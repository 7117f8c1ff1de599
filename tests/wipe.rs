//! What stays in memory, seen by the allocator: no key in what was freed, no allocation on the data
//! path, no growth that peers or strangers could cause.
//!
//! The tests that look for keys need an optimized build (`cargo test --release --test wipe`): without
//! optimization every move of a value copies its padding too, and with it whatever lay on the stack.
#![allow(
    unsafe_code,
    reason = "a global allocator cannot be written without it"
)]

#[path = "it/support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use quietwire::{
    Cidr, Env, Instant, Interface, Load, OpenJob, Outgoing, PeerConfig, PresharedKey, PrivateKey,
    Tunnel,
};
use support::secrets::{HandshakeSecrets, opens, static_static};
use support::*;

#[global_allocator]
static ALLOCATOR: Watcher = Watcher;

/// The system's allocator, which counts what the thread does and keeps what it frees.
struct Watcher;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static KEEPS: Cell<bool> = const { Cell::new(false) };
}

/// Copies of the blocks that were freed, one behind the other.
struct Graveyard {
    used: AtomicUsize,
    bytes: UnsafeCell<[u8; Self::SIZE]>,
}

impl Graveyard {
    const SIZE: usize = 16 << 20;
}

// SAFETY: writers claim disjoint ranges through `used`; it is read only by the thread that holds
// `Watch`, when nothing is written.
unsafe impl Sync for Graveyard {}

static GRAVEYARD: Graveyard = Graveyard {
    used: AtomicUsize::new(0),
    bytes: UnsafeCell::new([0; Graveyard::SIZE]),
};

// SAFETY: every call is passed on to the system's allocator unchanged. `realloc` is left to its
// default, which allocates, copies and frees, so that blocks that moved are seen too.
unsafe impl GlobalAlloc for Watcher {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
        let _ = LIVE.try_with(|n| n.set(n.get() + layout.size().cast_signed()));
        // Zeroed, so that a block never shows what it held when somebody else had it.
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let _ = LIVE.try_with(|n| n.set(n.get() - layout.size().cast_signed()));
        if KEEPS.try_with(Cell::get) == Ok(true) {
            let start = GRAVEYARD.used.fetch_add(layout.size(), Ordering::Relaxed);
            if start + layout.size() <= Graveyard::SIZE {
                let grave = GRAVEYARD.bytes.get().cast::<u8>();
                // SAFETY: the block is live and of this size until it is freed below; the range of
                // the graveyard was claimed by this call alone and lies inside it.
                unsafe {
                    grave
                        .add(start)
                        .copy_from_nonoverlapping(block, layout.size());
                };
            }
        }
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Keeps what this thread frees, until it is dropped. One at a time.
struct Watch(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

impl Watch {
    fn start() -> Self {
        static ONE: Mutex<()> = Mutex::new(());
        let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        GRAVEYARD.used.store(0, Ordering::Relaxed);
        KEEPS.set(true);
        Self(guard)
    }

    /// Stops keeping, and shows everything that was freed.
    #[allow(clippy::unused_self, reason = "only who holds the guard may look")]
    fn freed(&self) -> &[u8] {
        KEEPS.set(false);
        let used = GRAVEYARD.used.load(Ordering::Relaxed);
        assert!(used <= Graveyard::SIZE, "{used} bytes are too many to keep");
        // SAFETY: the array is initialized and nobody writes: keeping is over for this thread, and
        // other threads keep nothing without the guard.
        unsafe { std::slice::from_raw_parts(GRAVEYARD.bytes.get().cast::<u8>(), used) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        KEEPS.set(false);
    }
}

/// The bytes of a value that is still in use, padding and all.
fn bytes_of<T>(value: &T) -> Vec<u8> {
    let start = std::ptr::from_ref(value).cast::<u8>();
    let volatile = |at| {
        // SAFETY: inside the value; a volatile read takes whatever is there.
        unsafe { start.add(at).read_volatile() }
    };
    (0..size_of::<T>()).map(volatile).collect()
}

/// Whether either half of a key is there.
fn holds(memory: &[u8], key: &[u8; 32]) -> bool {
    let (head, tail) = key.split_at(16);
    memory
        .windows(16)
        .any(|window| window == head || window == tail)
}

fn assert_holds_none<'a>(
    memory: &[u8],
    secrets: impl IntoIterator<Item = &'a (&'static str, [u8; 32])>,
) {
    let found: Vec<_> = secrets
        .into_iter()
        .filter_map(|(name, key)| holds(memory, key).then_some(*name))
        .collect();
    assert!(found.is_empty(), "found in memory: {found:?}");
}

const PSK: [u8; 32] = *b"a preshared key of 32 characters";

fn pair(kind: NodeKind) -> Pair {
    let psk = PresharedKey::from_bytes(PSK);
    Setup {
        psk,
        ..Setup::of(kind)
    }
    .build()
}

/// How far [`live`] goes.
const STAGES: u64 = 6;

/// A life in stages: an initiation that is sent, a session, a second one, an initiation received but
/// not answered to the end, a further one, and an initiation of the other side.
fn live(pair: &mut Pair, stages: u64) {
    for stage in 1..=stages {
        if stage == 1 || stage == 4 {
            pair.cut(Bob);
        } else if stage < 4 {
            pair.mend();
        }
        let from = if stage == STAGES { Bob } else { Alice };
        pair.run_until(secs(20 * stage));
        let now = pair.now;
        pair[from].initiate(now);
        pair.settle();
        if stage == 2 || stage == 3 {
            pair.send(Alice, 100);
            pair.send(Bob, 100);
        }
    }
}

/// All secrets of [`live`], proven by what they open.
fn secrets(pair: &Pair) -> Vec<(&'static str, [u8; 32])> {
    let keys = &pair.rng.keys;
    assert!(keys.len() < 64, "all were remembered");
    let mut all: Vec<_> = keys.iter().map(|key| ("ephemeral key", *key)).collect();
    let mut opened = 0;
    // Which of them belong together is not known here, so every two neighbours are tried.
    for ephemerals in keys.windows(2) {
        let ephemerals = [ephemerals[0], ephemerals[1]];
        let secrets = HandshakeSecrets::derive(Alice, PSK, ephemerals);
        let data = pair.log.iter().filter(|d| d.msg() == Msg::Data);
        let ours = data.filter(|d| {
            opens(&secrets.from_initiator, &d.bytes) || opens(&secrets.from_responder, &d.bytes)
        });
        opened += ours.count();
        all.extend(secrets.all);
    }
    let data = pair.log.iter().filter(|d| d.msg() == Msg::Data).count();
    assert_eq!(opened, data, "the keys of every datagram are known");
    all.push(("static-static secret", static_static()));
    all.push(("preshared key", PSK));
    all.extend(Side::BOTH.map(|side| ("private key", *side.private_key().expose())));
    all
}

fn each_stage(test: impl Fn(NodeKind, u64)) {
    for kind in [NodeKind::Tunnel, NodeKind::Interface] {
        for stage in 1..=STAGES {
            println!("-- {kind:?}, stage {stage}");
            test(kind, stage);
        }
    }
}

/// The watcher finds what it is to find.
#[test]
fn control_a_key_that_was_not_erased_is_found() {
    let watch = Watch::start();
    let key = std::array::from_fn(|i| u8::try_from(i).unwrap() ^ 0x5a);
    drop(Box::new(key));
    let mut grown = vec![key];
    grown.reserve(10_000);
    grown.fill([0; 32]);
    assert!(holds(watch.freed(), &key));
    let other = key.map(|byte| !byte);
    assert!(!holds(watch.freed(), &other));
}

/// When everything is dropped, nothing secret is left in the memory that goes back to the system.
#[test]
#[cfg_attr(debug_assertions, ignore = "see the top of the file")]
fn dropping_leaves_no_key_in_freed_memory() {
    each_stage(|kind, stage| {
        let watch = Watch::start();
        let mut pair = pair(kind);
        live(&mut pair, stage);
        for side in Side::BOTH {
            pair.restart(side);
        }
        let freed = watch.freed();
        assert!(freed.len() > size_of::<Tunnel>());
        assert_holds_none(freed, &secrets(&pair));
    });
}

/// Nor when keys are erased by a call, or by time.
#[test]
#[cfg_attr(debug_assertions, ignore = "see the top of the file")]
fn erasing_leaves_no_key_in_freed_memory() {
    each_stage(|kind, stage| {
        for by_time in [false, true] {
            let watch = Watch::start();
            let mut pair = pair(kind);
            live(&mut pair, stage);
            for side in Side::BOTH {
                let (now, wiped) = (pair.now, pair.now + secs(540));
                if by_time {
                    pair[side].handle_timeout(wiped);
                } else {
                    pair[side].erase(now);
                }
            }
            for side in Side::BOTH {
                pair.restart(side);
            }
            assert_holds_none(watch.freed(), &secrets(&pair));
        }
    });
}

/// Nor when a peer is removed.
#[test]
#[cfg_attr(debug_assertions, ignore = "see the top of the file")]
fn removing_a_peer_leaves_no_key_in_freed_memory() {
    for stage in 1..=STAGES {
        let watch = Watch::start();
        let mut pair = pair(NodeKind::Interface);
        live(&mut pair, stage);
        for side in Side::BOTH {
            let Node::Interface(interface, id) = &mut pair[side] else {
                panic!("not an interface");
            };
            assert!(interface.remove_peer(*id));
        }
        assert_holds_none(watch.freed(), &secrets(&pair));
    }
}

/// A tunnel is one block of memory that lives on: what is erased must be gone from it, wherever in
/// it a key has been before.
#[test]
#[cfg_attr(debug_assertions, ignore = "see the top of the file")]
fn erasing_leaves_no_session_key_in_a_tunnel() {
    for stage in 1..=STAGES {
        println!("-- stage {stage}");
        let mut pair = pair(NodeKind::Tunnel);
        live(&mut pair, stage);
        let mut secrets = secrets(&pair);
        let stay = ["static-static secret", "preshared key", "private key"];
        secrets.retain(|(name, _)| !stay.contains(name));
        for side in Side::BOTH {
            let now = pair.now;
            let Node::Tunnel(tunnel) = &mut pair[side] else {
                panic!("not a tunnel");
            };
            let before = bytes_of(&**tunnel);
            let found = secrets
                .iter()
                .filter(|(_, key)| holds(&before, key))
                .count();
            assert!(found >= 2, "there is something to erase");
            tunnel.erase(now);
            assert_holds_none(&bytes_of(&**tunnel), &secrets);
        }
    }
}

/// Nor in a vector of jobs that were taken out of it, or that had to grow: a job has no key any more
/// once it has run, and a batch runs its jobs before they come there.
#[test]
#[cfg_attr(debug_assertions, ignore = "see the top of the file")]
fn batches_leave_no_key_in_freed_memory() {
    let mut pair = pair(NodeKind::Interface);
    live(&mut pair, 2);
    pair.mend();
    let secrets = secrets(&pair);
    let now = pair.now;
    let inner = packet(Alice, 300);
    let watch = Watch::start();
    let Node::Interface(alice, _) = &mut pair[Alice] else {
        panic!("not an interface");
    };
    let (mut sealed, mut datagrams) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        // An iterator that does not know its length, so that the vector grows under way.
        let mut left = 50;
        let outgoing = std::iter::from_fn(|| {
            left -= 1;
            (left > 0).then(|| Outgoing::apart(&inner, vec![0; 400]))
        });
        alice.seal_batch(now, outgoing, &mut sealed);
        for job in sealed.drain(..) {
            let (mut buffer, range) = job.unwrap().into_parts();
            buffer.truncate(range.end);
            datagrams.push(buffer);
        }
    }
    drop(sealed);
    let Node::Interface(bob, _) = &mut pair[Bob] else {
        panic!("not an interface");
    };
    let mut opening: Vec<_> = datagrams
        .drain(..)
        .map(|datagram| bob.begin_open(now, Alice.addr(), datagram).unwrap())
        .collect();
    OpenJob::run_all(&mut opening);
    for job in opening.drain(..) {
        bob.finish_open(now, job).unwrap();
    }
    drop(opening);
    assert_holds_none(watch.freed(), &secrets);
}

/// Nor in the lines and answers of the configuration protocol, however they are cut.
#[test]
#[cfg_attr(debug_assertions, ignore = "see the top of the file")]
fn configuring_leaves_no_key_in_freed_memory() {
    use quietwire::uapi::{Connection, Device};

    let private = *b"@ private key of 32 characters.@";
    let texts = [
        PrivateKey::from_bytes(private).to_hex(),
        PresharedKey::from_bytes(PSK).to_hex(),
    ];
    let [private_hex, psk_hex] = texts.each_ref().map(|text| text.as_str().as_bytes());
    let (start, middle) = (&b"set=1\nprivate_key="[..], "11".repeat(32));
    let middle = format!("\npublic_key={middle}\npreshared_key=");
    let rest = "\n\nset=1\npreshared_key=wrong\n\nget=1\n\n".as_bytes();
    let request = [start, private_hex, middle.as_bytes(), psk_hex, rest].concat();
    for length in [1, 30, 1000] {
        let watch = Watch::start();
        let now = Instant::from_nanos(0);
        let mut interface: Interface = Interface::new(None, now);
        let (mut host, mut connection) = (NoHost, Connection::new());
        let mut device = Device::new(now, &mut interface, &mut host);
        let mut answers = Vec::with_capacity(3);
        for mut piece in request.chunks(length) {
            while let Some(answer) = connection.receive(&mut piece, &mut device).unwrap() {
                answers.push(answer);
            }
        }
        assert!(answers[2].as_str().contains(texts[0].as_str()));
        assert!(answers[2].as_str().contains(texts[1].as_str()));
        drop((answers, connection, interface));
        let freed = watch.freed();
        assert!(freed.len() > 1024);
        assert_holds_none(freed, &[("preshared key", PSK), ("private key", private)]);
        for text in [private_hex, psk_hex] {
            assert!(
                !freed
                    .windows(16)
                    .any(|window| text.chunks(16).any(|part| part == window))
            );
        }
    }
}

/// Has neither port nor mark.
struct NoHost;

impl quietwire::uapi::Host<std::net::SocketAddr> for NoHost {
    fn listen_port(&self) -> u16 {
        0
    }

    fn set_listen_port(&mut self, _port: u16) -> Result<(), quietwire::uapi::Errno> {
        Ok(())
    }

    fn fwmark(&self) -> u32 {
        0
    }

    fn set_fwmark(&mut self, _mark: u32) -> Result<(), quietwire::uapi::Errno> {
        Ok(())
    }

    fn endpoint(&self, address: std::net::SocketAddr) -> std::net::SocketAddr {
        address
    }

    fn unix_time_of(&self, _at: Instant) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// Nor in the keys that were lent to the cipher, whatever its backend and the verdict.
#[test]
#[cfg(feature = "internals")]
fn the_cipher_leaves_no_key_in_its_batches() {
    use quietwire::internals::{Aead, Open, Seal, open_batch, seal_batch};

    let secrets: [_; 20] = std::array::from_fn(|at| {
        let seed = u8::try_from(at).unwrap();
        (
            "session key",
            std::array::from_fn(|i| seed.wrapping_mul(31) ^ u8::try_from(i * 7).unwrap()),
        )
    });
    for backend in quietwire::Backend::available() {
        for count in [1, 2, 3, 16, 20] {
            let aead = |(_, key): &(_, [u8; 32])| Aead::new(*key, backend);
            let keys = || secrets[..count].iter().map(aead).collect::<Vec<_>>();
            let (mut sealing, mut opening) = (keys(), keys());
            assert!(holds(&bytes_of(&sealing[0]), &secrets[0].1));
            let mut buffers = vec![vec![0; 150]; count];
            let lanes = sealing.iter_mut().zip(&mut buffers);
            seal_batch(lanes.map(|(key, buffer)| Seal {
                key,
                counter: 1,
                source: None,
                buffer,
            }));
            buffers[count / 2][3] ^= 1;
            let mut verdicts = vec![false; count];
            let lanes = opening.iter_mut().zip(&mut buffers);
            open_batch(
                lanes
                    .zip(&mut verdicts)
                    .map(|((key, buffer), authentic)| Open {
                        key,
                        counter: 1,
                        buffer,
                        authentic,
                    }),
            );
            assert!(!verdicts[count / 2], "it was forged");
            for key in sealing.iter().chain(&opening) {
                assert_holds_none(&bytes_of(key), &secrets);
            }
        }
    }
}

/// When a handshake is over, only the keys of its session are left of it.
#[test]
#[cfg_attr(debug_assertions, ignore = "see the top of the file")]
fn a_finished_handshake_leaves_its_transport_keys_only() {
    let mut pair = pair(NodeKind::Tunnel);
    pair.establish();
    let ephemerals = [pair.rng.keys[0], pair.rng.keys[1]];
    let secrets = HandshakeSecrets::derive(Alice, PSK, ephemerals);
    for side in Side::BOTH {
        let Node::Tunnel(tunnel) = &pair[side] else {
            panic!("not a tunnel");
        };
        let memory = bytes_of(&**tunnel);
        let is_transport = |name: &str| name.starts_with("transport");
        let (transport, rest): (Vec<_>, Vec<_>) = secrets
            .all
            .iter()
            .copied()
            .partition(|(name, _)| is_transport(name));
        assert!(transport.iter().all(|(_, key)| holds(&memory, key)));
        assert_holds_none(&memory, &rest);
    }
}

// Allocations.

/// How many allocations `f` makes on this thread.
fn allocations(f: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    f();
    ALLOCATIONS.get() - before
}

/// The data path of one packet a call allocates nothing.
#[test]
fn sealing_and_receiving_allocate_nothing() {
    on_both(|setup| {
        let mut pair = setup.build();
        pair.establish();
        let now = pair.now;
        let inner = packet(Alice, 1300);
        let (mut apart, mut inside) = ([0; 1400], [0; 1400]);
        let mut round = || match &mut pair[Alice] {
            Node::Tunnel(alice) => {
                alice.seal_into(now, &inner, &mut apart).unwrap();
                inside[16..1316].copy_from_slice(&inner);
                alice.seal(now, &mut inside, 16..1316).unwrap();
                let Node::Tunnel(bob) = &mut pair[Bob] else {
                    panic!()
                };
                bob.receive(now, Alice.addr(), &mut apart[..1344]).unwrap();
                bob.receive(now, Alice.addr(), &mut inside[..1344]).unwrap();
            }
            Node::Interface(alice, _) => {
                alice.seal_into(now, &inner, &mut apart).unwrap();
                inside[16..1316].copy_from_slice(&inner);
                alice.seal(now, &mut inside, 16..1316).unwrap();
                let Node::Interface(bob, _) = &mut pair[Bob] else {
                    panic!()
                };
                bob.receive(now, Alice.addr(), &mut apart[..1344]).unwrap();
                bob.receive(now, Alice.addr(), &mut inside[..1344]).unwrap();
            }
        };
        let made = allocations(|| (0..100).for_each(|_| round()));
        assert_eq!(made, 0);
    });
}

/// Nor do batches whose results go into a vector that is used again.
#[test]
fn batches_allocate_nothing() {
    let mut pair = Setup::of(NodeKind::Interface).build();
    pair.establish();
    let now = pair.now;
    let inner = packet(Alice, 1300);
    let mut buffers = vec![[0_u8; 1400]; 40];
    let mut sealed = Vec::with_capacity(40);
    let mut received = Vec::with_capacity(40);
    let Node::Interface(alice, _) = &mut pair[Alice] else {
        panic!()
    };
    let made = allocations(|| {
        for _ in 0..10 {
            let outgoing = buffers
                .drain(..)
                .map(|buffer| Outgoing::apart(&inner, buffer));
            alice.seal_batch(now, outgoing, &mut sealed);
            buffers.extend(sealed.drain(..).map(|job| job.unwrap().into_parts().0));
        }
    });
    assert_eq!(made, 0);

    let Node::Interface(bob, _) = &mut pair[Bob] else {
        panic!()
    };
    let mut datagrams: Vec<_> = buffers
        .iter_mut()
        .map(|buffer| &mut buffer[..1344])
        .collect();
    let made = allocations(|| {
        let arrived = datagrams.drain(..).map(|datagram| (Alice.addr(), datagram));
        bob.receive_batch(now, arrived, &mut received);
    });
    assert_eq!(made, 0);
    assert!(received.iter().all(Result::is_ok) && received.len() == 40);
}

// Bounds.

fn many_peers(interface: &mut Interface, count: u32) {
    let start = Instant::from_nanos(0);
    for n in 1..=count {
        let mut key = [0x55; 32];
        key[8..12].copy_from_slice(&n.to_le_bytes());
        let [_, b, c, d] = n.to_be_bytes();
        let prefix = [Cidr::new([10, b, c, d].into(), 32).unwrap()];
        let config = PeerConfig::new(PrivateKey::from_bytes(key).public_key())
            .endpoint(Bob.addr())
            .allowed_ips(&prefix);
        interface.add_peer(start, &config).unwrap();
    }
}

/// A peer without a session is small, and removing it gives its memory back but for the tables.
#[test]
fn an_idle_peer_is_small_and_removal_frees_it() {
    let start = Instant::from_nanos(0);
    let before = LIVE.get();
    let mut interface = Interface::new(Some(&Alice.private_key()), start);
    let empty = LIVE.get();
    many_peers(&mut interface, 1000);
    let full = LIVE.get();
    let ids: Vec<_> = interface.peers().map(|peer| peer.id()).collect();
    assert!(ids.iter().all(|id| interface.remove_peer(*id)));
    drop(ids);
    let emptied = LIVE.get();
    drop(interface);
    let gone = LIVE.get();
    let (per_peer, freed) = ((full - empty) / 1000, (full - emptied) / 1000);
    println!("an idle peer with one prefix takes {per_peer} bytes, its removal frees {freed}");
    assert!(per_peer < 1024);
    assert!(freed * 10 > per_peer * 7);
    assert_eq!(gone, before, "dropping the interface frees the rest");
}

/// Strangers cannot make an interface grow: not with garbage, not with initiations under load, not
/// with replies to them.
#[test]
fn a_flood_does_not_grow_an_interface() {
    let start = Instant::from_nanos(0);
    let mut interface: Interface = Interface::new(Some(&Bob.private_key()), start);
    let mut rng = SeededRng::new(3);
    let mut env = Env::new(&mut rng, secs(1_700_000_000));
    let config = PeerConfig::new(Bob.public_key()).endpoint(Bob.addr());
    let mut stranger = Tunnel::new(&Alice.private_key(), &config, start).unwrap();
    stranger.initiate(start);
    let initiation = stranger.poll_transmit(start, &mut env).unwrap();
    interface.set_load(Load::UnderLoad);
    let before = LIVE.get();
    for n in 0..20_000_u16 {
        let [high, low] = n.to_be_bytes();
        let source = std::net::SocketAddr::from(([198, 51, high, low], n));
        let mut datagram = [0; 148];
        datagram.copy_from_slice(initiation.message.as_bytes());
        interface.receive(start, source, &mut datagram).unwrap_err();
        interface
            .receive(start, source, &mut [low; 99])
            .unwrap_err();
    }
    let grown = LIVE.get() - before;
    println!("20000 initiations under load: {grown} bytes");
    assert!(grown < 32 << 10, "{grown}");
    let replies = std::iter::from_fn(|| interface.poll_transmit(start, &mut env)).count();
    assert_eq!(replies, 256, "further ones are not owed");
}
