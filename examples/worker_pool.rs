//! Packets through the cipher on several threads, in batches and in order.
//!
//! ```console
//! $ cargo run --release --example worker_pool [PACKETS]
//! ```
//!
//! Each packet passes three steps. *Begin* and *finish* need the interface, are short, and happen on
//! the one thread that owns it. *Run* needs nothing but the job, takes nearly all of the time, and
//! happens on any worker. Batches go to the workers in turn and are taken back in turn, so they come
//! out in the order in which they went in, whichever worker is faster: no lock, no reordering.
//!
//! Here one thread owns four clients and generates load; another one owns the hub that they are
//! connected to, and checks that every packet arrives once and in order. Between them are channels.
//! The workers serve both. Handshakes take the same way as packets.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, SystemTime};
use std::{env, thread};

use getrandom::SysRng;
use quietwire::rand_core::UnwrapErr;
use quietwire::wire::{DATA_OVERHEAD, DataHeader, Kind};
use quietwire::{
    Cidr, Env, HandshakeJob, HandshakeStep, Instant, Interface, OpenJob, Opened, Outgoing,
    PeerConfig, PrivateKey, SealJob,
};

type Failure = Box<dyn Error + Send + Sync>;

const CLIENTS: usize = 4;

/// The inner packets, in bytes: an IPv4 header, a number, and whatever is in the buffer.
const PACKET: usize = 1400;
const NUMBER: Range<usize> = 20..28;

/// A packet with room for padding and for what a data message adds.
const BUFFER: usize = PACKET + 15 + DATA_OVERHEAD;

/// Packets that go to a worker at once: many fill the lanes of the cipher, few are soon done.
const BATCH: usize = 256;
/// Batches that a side has under way for each worker: one to work on and one to go on with.
const DEPTH: usize = 2;
/// Batches of buffers in circulation, which bound the memory and how far the clients are ahead.
const CIRCULATING: usize = 16;

/// How often each number of workers is measured.
const ROUNDS: usize = 5;

fn main() -> Result<(), Failure> {
    let packets: usize = env::args()
        .nth(1)
        .map_or(Ok(400_000), |text| text.parse())?;
    let packets = packets.next_multiple_of(CLIENTS * BATCH);
    let mut rates = [const { Vec::new() }; 2];
    // By turns, so that whatever else the machine does hits both.
    for _ in 0..ROUNDS {
        for (cores, rates) in (1..).zip(&mut rates) {
            let rate = measure_on(cores, packets)?;
            println!("cores and workers: {cores}, packets/s: {rate:.0}");
            rates.push(rate);
        }
    }
    let [one, two] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    });
    println!(
        "two cores move {:.2} times what one does (medians)",
        two / one
    );
    Ok(())
}

/// Measures with as many workers as cores. On one core everything takes turns there; two are all that
/// is asked of the machine.
fn measure_on(cores: usize, packets: usize) -> Result<f64, Failure> {
    let measurement = thread::spawn(move || {
        // The threads of a measurement inherit this.
        let core = core_affinity::get_core_ids().and_then(|ids| ids.first().copied());
        if cores == 1 && !core.is_some_and(core_affinity::set_for_current) {
            return Err("this system keeps no thread to a core".into());
        }
        measure(cores, packets)
    });
    measurement.join().map_err(|_| "a thread has panicked")?
}

/// Sends packets through a pool of workers. Returns how many in a second.
fn measure(workers: usize, packets: usize) -> Result<f64, Failure> {
    let (clients, hub) = network()?;
    let (to_hub, from_clients) = channel();
    let (to_clients, from_hub) = channel();
    thread::scope(|scope| {
        let (orders, queues): (Vec<_>, Vec<_>) = (0..workers).map(|_| channel()).unzip();
        for queue in queues {
            scope.spawn(move || work(&queue));
        }
        let clients = Side::new(clients, Lanes::new(orders.clone()), from_hub, to_hub);
        let hub = Side::new(vec![hub], Lanes::new(orders), from_clients, to_clients);
        let start = std::time::Instant::now();
        let load = scope.spawn(move || generate(clients, packets));
        let verdict = scope.spawn(move || check(hub, packets));
        verdict.join().map_err(|_| "the hub has panicked")??;
        let elapsed = start.elapsed();
        load.join().map_err(|_| "the clients have panicked")??;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        Ok(packets as f64 / elapsed.as_secs_f64())
    })
}

/// Generates load: a batch from each client in turn.
fn generate(mut clients: Side, packets: usize) -> Result<(), Failure> {
    clients.spare = vec![vec![vec![0; BUFFER]; BATCH]; CIRCULATING];
    let mut numbers = [0; CLIENTS];
    let mut clients_in_turn = (0..CLIENTS).cycle().take(packets / BATCH).peekable();
    while let Some(client) = clients_in_turn.peek().copied() {
        if clients.lanes.has_room() && clients.is_established(client) && !clients.spare.is_empty() {
            clients.begin_batch(client, &mut numbers[client])?;
            clients_in_turn.next();
        } else {
            clients.turn()?;
        }
    }
    while !clients.lanes.is_empty() {
        clients.turn()?;
    }
    Ok(())
}

/// Checks that each client's packets arrive once and in order.
fn check(mut hub: Side, packets: usize) -> Result<(), Failure> {
    let mut expected = [0; CLIENTS];
    for _ in 0..packets / BATCH {
        let mut batch = Vec::new();
        while batch.is_empty() {
            batch = hub.turn()?;
            batch.retain(|opened| !opened.is_keepalive());
        }
        for opened in &mut batch {
            let packet = opened.packet();
            let client = usize::from(packet[15]);
            let number = u64::from_be_bytes(packet[NUMBER].try_into()?);
            if number != expected[client] {
                let expected = expected[client];
                return Err(format!("client {client}: {number} instead of {expected}").into());
            }
            expected[client] += 1;
        }
        let buffers = batch.into_iter().map(|opened| opened.into_parts().0);
        hub.send(Message::Spare(buffers.collect()));
    }
    Ok(())
}

/// The thread that owns some interfaces: what it has, and its event loop.
struct Side {
    interfaces: Vec<Interface>,
    lanes: Lanes,
    input: Receiver<Message>,
    output: Sender<Message>,
    spare: Vec<Vec<Vec<u8>>>,
    epoch: std::time::Instant,
    rng: UnwrapErr<SysRng>,
}

/// From one side to the other.
enum Message {
    /// Datagrams from one interface to another.
    Train {
        from: SocketAddr,
        to: SocketAddr,
        datagrams: Vec<Vec<u8>>,
    },
    /// A batch of buffers, to be used again.
    Spare(Vec<Vec<u8>>),
}

impl Side {
    fn new(
        interfaces: Vec<Interface>,
        lanes: Lanes,
        input: Receiver<Message>,
        output: Sender<Message>,
    ) -> Self {
        Self {
            interfaces,
            lanes,
            input,
            output,
            spare: Vec::new(),
            epoch: std::time::Instant::now(),
            rng: UnwrapErr(SysRng),
        }
    }

    fn now(&self) -> Instant {
        Instant::since_epoch(self.epoch.elapsed())
    }

    fn is_established(&self, interface: usize) -> bool {
        let now = self.now();
        let mut peers = self.interfaces[interface].peers();
        peers.any(|peer| peer.is_established(now))
    }

    /// One turn of the event loop: finishes the oldest task of the workers, and waits for messages
    /// only if they have none. Returns the packets that it brought.
    fn turn(&mut self) -> Result<Vec<Opened<Vec<u8>>>, Failure> {
        for interface in 0..self.interfaces.len() {
            self.control(interface)?;
        }
        while self.lanes.has_room()
            && let Ok(message) = self.input.try_recv()
        {
            self.arrive(message)?;
        }
        match self.lanes.collect()? {
            Some(task) => self.finish(task),
            None => self.wait().map(|()| Vec::new()),
        }
    }

    /// Does what is due, and begins the handshake messages that are owed.
    fn control(&mut self, interface: usize) -> Result<(), Failure> {
        let now = self.now();
        let own = &mut self.interfaces[interface];
        own.handle_timeout(now);
        while own.poll_event().is_some() {}
        let mut env = Env::new(&mut self.rng, SystemTime::UNIX_EPOCH.elapsed()?);
        while let Some(job) = own.poll_handshake(now, &mut env) {
            self.lanes.submit(interface, Work::handshake(job))?;
        }
        // What is left needs no multiplications: keepalives and cookie replies.
        let mut cheap = Vec::new();
        while let Some(transmit) = own.poll_transmit(now, &mut env) {
            cheap.push((transmit.to, transmit.message));
        }
        for (to, message) in cheap {
            self.send_datagrams(interface, to, vec![message.as_bytes().to_vec()]);
        }
        Ok(())
    }

    /// Writes a batch of packets and begins to seal them.
    fn begin_batch(&mut self, interface: usize, number: &mut u64) -> Result<(), Failure> {
        let now = self.now();
        let mut jobs = Vec::with_capacity(BATCH);
        for mut buffer in self.spare.pop().unwrap_or_default() {
            let payload = DataHeader::LEN..DataHeader::LEN + PACKET;
            buffer.resize(BUFFER, 0);
            write_packet(&mut buffer[payload.clone()], interface, *number)?;
            *number += 1;
            let begun =
                self.interfaces[interface].begin_seal(now, Outgoing::in_place(buffer, payload));
            jobs.push(begun.map_err(|failure| failure.error)?);
        }
        self.lanes.submit(interface, Work::Seal(jobs))
    }

    /// Takes a message, and begins to open what is in it.
    fn arrive(&mut self, message: Message) -> Result<(), Failure> {
        let (from, to, datagrams) = match message {
            Message::Train {
                from,
                to,
                datagrams,
            } => (from, to, datagrams),
            Message::Spare(buffers) => {
                self.spare.push(buffers);
                return Ok(());
            }
        };
        let now = self.now();
        let interface = usize::from(to.port() - PORT);
        let own = &mut self.interfaces[interface];
        let mut jobs = Vec::with_capacity(datagrams.len());
        for datagram in datagrams {
            if Kind::of(&datagram) == Ok(Kind::Data) {
                let begun = own.begin_open(now, from, datagram);
                jobs.push(begun.map_err(|refused| refused.reason)?);
            } else if let HandshakeStep::Run(job) = own.begin_handshake(now, from, &datagram)? {
                self.lanes.submit(interface, Work::handshake(job))?;
            }
        }
        if jobs.is_empty() {
            return Ok(());
        }
        self.lanes.submit(interface, Work::Open(jobs))
    }

    /// Finishes what a worker has run. Returns the packets, if it was about packets received.
    fn finish(&mut self, task: Task) -> Result<Vec<Opened<Vec<u8>>>, Failure> {
        let now = self.now();
        let Task { interface, work } = task;
        let own = &mut self.interfaces[interface];
        match work {
            Work::Open(jobs) => {
                let opened = jobs.into_iter().map(|job| own.finish_open(now, job));
                let opened = opened.collect::<Result<_, _>>();
                return opened.map_err(|refused| refused.reason.into());
            }
            Work::Seal(jobs) => {
                let to = jobs.first().ok_or("an empty batch")?.to();
                let datagrams = jobs.into_iter().map(into_datagram).collect();
                self.send_datagrams(interface, to, datagrams);
            }
            Work::Handshake(job) => match own.finish_handshake(now, *job)? {
                HandshakeStep::Run(job) => self.lanes.submit(interface, Work::handshake(job))?,
                HandshakeStep::Transmit(transmit) => {
                    let datagram = transmit.message.as_bytes().to_vec();
                    self.send_datagrams(interface, transmit.to, vec![datagram]);
                }
                _ => {}
            },
        }
        Ok(Vec::new())
    }

    /// Waits for a message, until something is due.
    fn wait(&mut self) -> Result<(), Failure> {
        let due = self
            .interfaces
            .iter()
            .filter_map(Interface::poll_timeout)
            .min();
        let wait = due.map_or(Duration::MAX, |due| due - self.now());
        match self.input.recv_timeout(wait) {
            Ok(message) => self.arrive(message),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err("the other side is gone".into()),
        }
    }

    fn send_datagrams(&self, interface: usize, to: SocketAddr, datagrams: Vec<Vec<u8>>) {
        let from = address_of(interface);
        self.send(Message::Train {
            from,
            to,
            datagrams,
        });
    }

    /// Sends a message. If nobody is there, it is lost, as on any network.
    fn send(&self, message: Message) {
        let _ = self.output.send(message);
    }
}

/// One side's way through the workers: in at one end, out at the other end in the same order.
struct Lanes {
    workers: Vec<Lane>,
    submitted: usize,
    collected: usize,
}

/// The way through one worker.
struct Lane {
    input: Sender<Order>,
    done: Sender<Task>,
    output: Receiver<Task>,
}

/// A task, and where it goes when it is done.
type Order = (Task, Sender<Task>);

/// What a worker can do for an interface.
struct Task {
    interface: usize,
    work: Work,
}

enum Work {
    Seal(Vec<SealJob<'static, Vec<u8>>>),
    Open(Vec<OpenJob<Vec<u8>>>),
    Handshake(Box<HandshakeJob>),
}

impl Work {
    fn handshake(job: HandshakeJob) -> Self {
        Self::Handshake(Box::new(job))
    }
}

impl Lanes {
    fn new(inputs: Vec<Sender<Order>>) -> Self {
        let workers = inputs.into_iter().map(|input| {
            let (done, output) = channel();
            Lane {
                input,
                done,
                output,
            }
        });
        Self {
            workers: workers.collect(),
            submitted: 0,
            collected: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.submitted == self.collected
    }

    fn has_room(&self) -> bool {
        self.submitted - self.collected < self.workers.len() * DEPTH
    }

    fn submit(&mut self, interface: usize, work: Work) -> Result<(), Failure> {
        let lane = &self.workers[self.submitted % self.workers.len()];
        self.submitted += 1;
        let order = (Task { interface, work }, lane.done.clone());
        lane.input
            .send(order)
            .map_err(|_| "a worker is gone".into())
    }

    /// Waits for the task that was submitted first; `None` if there is none.
    fn collect(&mut self) -> Result<Option<Task>, Failure> {
        if self.is_empty() {
            return Ok(None);
        }
        let lane = &self.workers[self.collected % self.workers.len()];
        self.collected += 1;
        Ok(Some(lane.output.recv()?))
    }
}

/// A worker: runs what it is given, until there is nobody left to give it anything.
fn work(orders: &Receiver<Order>) {
    for (mut task, done) in orders {
        match &mut task.work {
            Work::Seal(jobs) => SealJob::run_all(jobs),
            Work::Open(jobs) => OpenJob::run_all(jobs),
            Work::Handshake(job) => job.run(),
        }
        // If nobody waits for it any more, that is all right.
        let _ = done.send(task);
    }
}

/// Each interface has a port: on the side of the clients from this one on, on the other only this.
const PORT: u16 = 51820;

fn address_of(interface: usize) -> SocketAddr {
    let port = PORT + u16::try_from(interface).unwrap_or_default();
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn inner_address_of(client: usize) -> IpAddr {
    let number = u32::try_from(client).unwrap_or_default();
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number).into()
}

/// The clients and the hub. Handshakes have been asked for.
fn network() -> Result<(Vec<Interface>, Interface), Failure> {
    let now = Instant::from_nanos(0);
    let mut rng = UnwrapErr(SysRng);
    let hub_key = PrivateKey::generate(&mut rng);
    let mut hub = Interface::new(Some(&hub_key), now);
    let inner_network = [Cidr::new(inner_address_of(0), 24)?];
    let hub_as_peer = PeerConfig::new(hub_key.public_key())
        .endpoint(address_of(0))
        .allowed_ips(&inner_network);
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let key = PrivateKey::generate(&mut rng);
        let inner_addresses = [inner_address_of(number).into()];
        let client_as_peer = PeerConfig::new(key.public_key()).allowed_ips(&inner_addresses);
        hub.add_peer(now, &client_as_peer)?;
        let mut client = Interface::new(Some(&key), now);
        let id = client.add_peer(now, &hub_as_peer)?;
        client.peer_mut(id).ok_or("no such peer")?.initiate(now);
        clients.push(client);
    }
    Ok((clients, hub))
}

/// An IPv4 packet from a client to nobody in particular, with a number in it.
fn write_packet(packet: &mut [u8], client: usize, number: u64) -> Result<(), Failure> {
    let [high, low] = u16::try_from(packet.len())?.to_be_bytes();
    let [.., source] = client.to_be_bytes();
    let header = [
        0x45, 0, high, low, 0, 0, 0, 0, 64, 253, 0, 0, 10, 0, 0, source, 10, 0, 0, 200,
    ];
    packet[..header.len()].copy_from_slice(&header);
    packet[NUMBER].copy_from_slice(&number.to_be_bytes());
    Ok(())
}

/// The datagram of a job that has been run. It begins where the buffer does.
fn into_datagram(job: SealJob<'_, Vec<u8>>) -> Vec<u8> {
    let (mut buffer, range) = job.into_parts();
    buffer.truncate(range.end);
    buffer
}
