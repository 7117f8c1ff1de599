//! Starts the mesh: the device, the node, the directory, and the thread that keeps them in step.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use quietwire_node::clock::WallClock;
use quietwire_node::control::Control;
use quietwire_node::device::Device;
use quietwire_node::node::Node;
use quietwire_node::threads;
use quietwire_node::uapi::UapiSocket;
use tracing::{info, warn};

use crate::config::Config;
use crate::directory::{self, Directory, News};
use crate::kept;
use crate::keys::new_key;
use crate::mesh::{Mesh, Message, Parts, unix_time};
use crate::metrics;
use crate::plan::Known;
use crate::probe::Prober;
use crate::publisher;
use crate::record::Record;
use crate::rotation::Identity;
use crate::routes::Routes;
use crate::socket::{self, Answer, Command};
use crate::store::Store;

/// A node that starts for the first time waits so long for what the directory says about its name.
const FIRST_NEWS: Duration = Duration::from_secs(5);

/// A packet waits so long for a session with its peer; later ones are answered with ICMP until there is one.
const PATIENCE: Duration = Duration::from_secs(3);

type Watched = (Box<dyn Directory>, BTreeMap<String, String>);

type Failure = Box<dyn Error + Send + Sync>;

/// Runs until a signal comes or the device is deleted. What fails closed stays behind.
///
/// # Errors
///
/// Why it did not start, in words for the operator.
pub fn run(config: Config) -> Result<(), Failure> {
    let store = Store::open(&config.state)?;
    let _lock = store.lock()?;
    let identity = store.identity()?;
    let mut known = known(&store);
    let directory = directory::open(&config.directory)?;
    let socket_file = store.socket();
    let listener =
        socket::bind(&socket_file).map_err(named("the control socket", &socket_file.display()))?;
    // Before any thread is made: all of them leave signals to this one.
    let control = Control::new(&socket_file)?;
    let (sender, inbox) = channel();
    let (directory, texts) = watch(directory, &sender, &inbox, identity.is_none(), &known)?;
    let identity = match identity {
        Some(identity) => identity,
        None => first_identity(&store, &config.name, &texts)?,
    };
    known.remove(&config.name);
    let (times, floor) = kept::begin(&store);
    let node = start_node(&config, &identity, floor)?;
    let uapi = serve_wg(&node);
    if store.is_enabled() {
        Routes::new(&config).enable()?;
    } else {
        warn!("disabled: `mesh enable` sends traffic through the mesh");
    }
    let tell = sender.clone();
    let orders = publisher::start(directory, config.name.clone(), move |outcome| {
        let _ = tell.send(Message::Outcome(outcome));
    })?;
    let prober = config
        .probe
        .map(|every| Prober::start(&config.addresses, every));
    let prober = prober
        .transpose()
        .map_err(named("probing", &"it needs CAP_NET_RAW"))?;
    serve(&config, listener, &sender)?;
    let parts = Parts {
        config,
        store,
        node: node.clone(),
        orders,
        prober,
        identity,
        texts,
        known,
        times,
    };
    let mesh = Mesh::new(parts);
    thread::Builder::new()
        .name("mesh".into())
        .spawn(move || mesh.run(&inbox))?;
    control.run(&node, &socket_file);
    let _ = std::fs::remove_file(&socket_file);
    drop(uapi);
    Ok(())
}

/// Without what was known the mesh comes up as soon as the directory is there.
fn known(store: &Store) -> Known {
    store.known().unwrap_or_else(|why| {
        warn!("what was known of others cannot be used: {why}");
        Known::new()
    })
}

/// Names what failed.
fn named<E: std::fmt::Display>(
    what: &'static str,
    more: &dyn std::fmt::Display,
) -> impl FnOnce(E) -> Failure {
    let more = more.to_string();
    move |why| format!("{what} ({more}): {why}").into()
}

/// Begins to listen to the directory. What is known counts as what it has until it tells; a node that starts for
/// the first time waits for that a little.
fn watch(
    mut directory: Box<dyn Directory>,
    sender: &Sender<Message>,
    inbox: &Receiver<Message>,
    is_first: bool,
    known: &Known,
) -> Result<Watched, Failure> {
    let (news, told) = channel();
    directory.watch(news)?;
    let forward = sender.clone();
    let run = move || {
        told.into_iter()
            .try_for_each(|news| forward.send(Message::News(news)))
    };
    thread::Builder::new().name("news".into()).spawn(run)?;
    let mut texts: BTreeMap<_, _> = known
        .iter()
        .map(|(name, record)| (name.clone(), record.to_json()))
        .collect();
    if is_first {
        texts = first_news(sender, inbox);
    }
    Ok((directory, texts))
}

/// Waits a little for everything that the directory has.
fn first_news(sender: &Sender<Message>, inbox: &Receiver<Message>) -> BTreeMap<String, String> {
    let mut away = None;
    let end = Instant::now() + FIRST_NEWS;
    loop {
        match inbox.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(Message::News(News::Everything(all))) => return all.into_iter().collect(),
            Ok(Message::News(away_now @ News::Unreachable(_))) => away = Some(away_now),
            Ok(_) => {}
            Err(_) => {
                let seconds = FIRST_NEWS.as_secs();
                warn!("the directory has said nothing for {seconds} s: we start without it");
                // The mesh is to say why, and that it is so.
                away.map(|away| sender.send(Message::News(away)));
                return BTreeMap::new();
            }
        }
    }
}

/// Makes our first key. If the directory has a record of our name we were here before, and have lost our state:
/// then our generation is a newer one, so that the others take the new key.
fn first_identity(
    store: &Store,
    name: &str,
    texts: &BTreeMap<String, String>,
) -> Result<Identity, Failure> {
    let before = texts.get(name).and_then(|text| Record::parse(text).ok());
    let generation = before.as_ref().map_or(1, |before| {
        before.next.map_or(before.generation, |next| {
            next.generation.max(before.generation)
        }) + 1
    });
    let mut identity = Identity::first(new_key(), generation, unix_time());
    if let Some(before) = before {
        warn!(
            "the directory has a record of {name} already, and there is no key: it is taken for ours, from before"
        );
        identity.since = before.since;
    }
    store.set_identity(&identity)?;
    info!(
        "our first key is made: {}, generation {generation}",
        identity.key.public_key()
    );
    Ok(identity)
}

/// The times in handshakes are later than `floor`.
fn start_node(config: &Config, identity: &Identity, floor: Duration) -> Result<Arc<Node>, Failure> {
    let device = Device::create(&config.interface)?;
    let node = Arc::new(Node::new(device)?);
    threads::start(&node, threads::usual_count())?;
    node.change(|state, now| {
        state.wall = WallClock::new(now, floor);
        state.port = config.port;
        state.patience = Some(PATIENCE);
        state.interface.set_private_key(Some(&identity.key))
    })?;
    Routes::new(config).raise(config.mtu.unwrap_or(Device::MTU))?;
    node.follow_link()?;
    if node.sockets().is_none() {
        let port = config.port;
        return Err(format!("UDP port {port} cannot be opened: end the program that has it, or choose another one with --port").into());
    }
    Ok(node)
}

/// Lets `wg show` look at the device too. The mesh does without.
fn serve_wg(node: &Arc<Node>) -> Option<UapiSocket> {
    let socket = UapiSocket::bind(node.device.name());
    let served = socket.map_err(|why| why.to_string()).and_then(|socket| {
        let served = socket.serve(node).map_err(|why| why.to_string());
        served.map(|()| socket)
    });
    served
        .inspect_err(|why| info!("`wg show` cannot look at the device: {why}"))
        .ok()
}

/// Answers commands and, if asked for, serves metrics.
fn serve(
    config: &Config,
    listener: std::os::unix::net::UnixListener,
    sender: &Sender<Message>,
) -> Result<(), Failure> {
    let ask = |sender: Sender<Message>| {
        move |command| {
            let (answer, answered) = channel();
            sender.send(Message::Command(command, answer)).ok()?;
            answered.recv().ok()
        }
    };
    socket::serve(listener, ask(sender.clone()))?;
    if let Some(at) = config.metrics {
        let ask = ask(sender.clone());
        let status = move || match ask(Command::Status)? {
            Answer::Status(status) => Some(*status),
            _ => None,
        };
        metrics::serve(at, status).map_err(named("--metrics", &at))?;
    }
    Ok(())
}
