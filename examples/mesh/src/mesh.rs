//! The running mesh: what comes in from the directory and from commands, and what follows from it.
//!
//! One thread owns all of this. It sleeps until a message comes or something is due.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use quietwire::PublicKey;
use quietwire_node::node::Node;
use tracing::{error, info, warn};

use crate::apply::Applied;
use crate::config::Config;
use crate::directory::News;
use crate::grace::Missing;
use crate::kept::What;
use crate::mtu;
use crate::plan::{DesiredPeer, Known, Own, Refusal, peers, plan};
use crate::probe::Prober;
use crate::publisher::{Order, Outcome};
use crate::record::Record;
use crate::rotation::Identity;
use crate::routes::Routes;
use crate::socket::{Answer, Command};
use crate::store::Store;
use crate::times::Times;

/// What the mesh's thread is told.
#[derive(Debug)]
pub enum Message {
    /// By the directory.
    News(News),
    /// By the publisher.
    Outcome(Outcome),
    /// By somebody who waits for the answer.
    Command(Command, Sender<Answer>),
}

/// The running mesh.
#[derive(Debug)]
pub struct Mesh {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) node: Arc<Node>,
    pub(crate) routes: Routes,
    pub(crate) orders: Sender<Order>,
    pub(crate) prober: Option<Prober>,
    pub(crate) identity: Identity,
    pub(crate) known: Known,
    /// What the directory has, by name.
    pub(crate) texts: BTreeMap<String, String>,
    pub(crate) peers: Vec<DesiredPeer>,
    pub(crate) applied: Applied,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) advice: Vec<mtu::Advice>,
    pub(crate) is_enabled: bool,
    pub(crate) ordered: Option<String>,
    pub(crate) published: Option<String>,
    /// Why the last attempt to publish failed.
    pub(crate) publish_problem: Option<String>,
    pub(crate) problem: Option<String>,
    pub(crate) rotations: u64,
    /// Whether what is known is not on the disk yet, and when it was last written, or that was tried.
    pub(crate) is_known_new: bool,
    pub(crate) known_written: Option<Instant>,
    /// The key that we have announced, and since when the directory has it.
    pub(crate) announced: Option<(PublicKey, Instant)>,
    pub(crate) times: Times,
    pub(crate) missing: Missing,
    pub(crate) started: Instant,
    /// What could not be written into the state folder, and why.
    pub(crate) unkept: BTreeMap<What, String>,
    /// When the times are tried again.
    pub(crate) retry_times: Instant,
    /// When our record was last put back after somebody had changed it.
    restored: Option<Instant>,
    /// Since when the directory has another record of ours than we have published.
    noticed: Option<Instant>,
    /// Whether the directory has told what it has.
    has_heard: bool,
    leaver: Option<Sender<Answer>>,
}

/// Our record is not put back more often than this: two nodes of one name must not fight at full speed.
const RESTORE_INTERVAL: Duration = Duration::from_secs(30);

/// The directory may tell of a record of ours that we have replaced since.
const SETTLE: Duration = Duration::from_secs(2);

/// How often what nobody tells is looked at: the outer path's MTU.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Everything that a mesh begins with.
#[derive(Debug)]
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The state folder.
    pub store: Store,
    /// The data plane.
    pub node: Arc<Node>,
    /// The way to the publisher.
    pub orders: Sender<Order>,
    /// If probing was asked for.
    pub prober: Option<Prober>,
    /// Our keys.
    pub identity: Identity,
    /// What the directory has, as far as it has told.
    pub texts: BTreeMap<String, String>,
    /// The last good records.
    pub known: Known,
    /// The times that our handshakes have shown.
    pub times: Times,
}

impl Mesh {
    /// Begins from what is known.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts {
            config,
            store,
            node,
            orders,
            prober,
            identity,
            texts,
            known,
            times,
        } = parts;
        Self {
            routes: Routes::new(&config),
            is_enabled: store.is_enabled(),
            config,
            store,
            node,
            orders,
            prober,
            identity,
            known,
            texts,
            peers: Vec::new(),
            applied: Applied::default(),
            refusals: Vec::new(),
            advice: Vec::new(),
            ordered: None,
            published: None,
            publish_problem: None,
            problem: None,
            rotations: 0,
            is_known_new: false,
            known_written: None,
            announced: None,
            times,
            missing: Missing::default(),
            started: Instant::now(),
            unkept: BTreeMap::new(),
            retry_times: Instant::now(),
            restored: None,
            noticed: None,
            has_heard: false,
            leaver: None,
        }
    }

    /// Runs until everybody who could send a message is gone.
    pub fn run(mut self, inbox: &Receiver<Message>) {
        self.replan();
        let mut look = Instant::now();
        loop {
            if look <= Instant::now() {
                self.follow_mtu();
                look = Instant::now() + LOOK_INTERVAL;
            }
            let due = self.rotate_if_due().min(self.restore());
            let due = due.min(self.forget_missing()).min(self.keep_up());
            let due = due.min(self.applied.greet(&self.node).unwrap_or(due));
            self.publish();
            let wait = look.saturating_duration_since(Instant::now()).min(due);
            match inbox.recv_timeout(wait) {
                Ok(first) => {
                    // A burst of news is one change.
                    let all: Vec<_> = [first].into_iter().chain(inbox.try_iter()).collect();
                    self.take(all);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, messages: Vec<Message>) {
        let mut has_news = false;
        for message in messages {
            match message {
                Message::News(news) => has_news |= self.hear(news),
                Message::Outcome(outcome) => self.note(outcome),
                Message::Command(command, answer) => {
                    if std::mem::take(&mut has_news) {
                        self.replan();
                    }
                    self.obey(command, answer);
                }
            }
        }
        if has_news {
            self.replan();
        }
    }

    /// Takes news in; whether the plan may change.
    fn hear(&mut self, news: News) -> bool {
        match news {
            // Such as a folder whose file system is not mounted. When all have left, nothing is lost by it.
            News::Everything(all) if all.is_empty() && !self.known.is_empty() => {
                return self.hear(News::Unreachable(
                    "it is empty, which the directory of a mesh never is".into(),
                ));
            }
            News::Everything(all) => {
                self.reached();
                self.take_everything(all);
            }
            News::Changed(name, text) => {
                if self.reached() {
                    // It was empty until now.
                    self.take_everything(vec![(name, text)]);
                } else {
                    self.missing.found(&name);
                    self.texts.insert(name, text);
                }
            }
            News::Gone(name) => {
                self.reached();
                self.missing.found(&name);
                info!("{name}: its record is gone");
                self.texts.remove(&name);
            }
            News::Unreachable(why) => {
                if self.problem.is_none() {
                    warn!("the directory cannot be reached: {why}; the mesh goes on as it is");
                }
                self.problem = Some(why);
                return false;
            }
        }
        true
    }

    /// Says whether the directory was away until now.
    fn reached(&mut self) -> bool {
        self.has_heard = true;
        let was_away = self.problem.take().is_some();
        if was_away {
            info!("the directory can be reached again");
            if !self.is_published() {
                // Sooner than the publisher would by itself after an outage; and a new reason is said.
                (self.ordered, self.publish_problem) = (None, None);
            }
        }
        was_away
    }

    /// Puts our record back if the directory has had another one for a while; how long nothing is due.
    fn restore(&mut self) -> Duration {
        let found = self.texts.get(&self.config.name);
        let is_fine =
            !self.has_heard || self.published.is_none() || found == self.published.as_ref();
        if is_fine || self.leaver.is_some() || self.problem.is_some() {
            self.noticed = None;
            return LOOK_INTERVAL;
        }
        let fought = self
            .restored
            .is_some_and(|at| at.elapsed() < 2 * RESTORE_INTERVAL);
        let wait = if fought { RESTORE_INTERVAL } else { SETTLE };
        let noticed = self.noticed.get_or_insert_with(Instant::now);
        if let Some(left) = wait
            .checked_sub(noticed.elapsed())
            .filter(|left| !left.is_zero())
        {
            return left;
        }
        let what = if found.is_some() {
            "changed"
        } else {
            "removed"
        };
        warn!("our record in the directory was {what} by another: it is put back");
        (self.restored, self.noticed, self.ordered) = (Some(Instant::now()), None, None);
        LOOK_INTERVAL
    }

    fn note(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Published(record) => {
                if self.published.as_ref() != Some(&record) {
                    info!(
                        "our record is in the directory, with the key of generation {}",
                        self.identity.generation
                    );
                }
                self.published = Some(record);
                self.publish_problem = None;
                self.note_announced();
            }
            Outcome::Withdrawn => {
                info!("our record is no longer in the directory");
                self.answer_leaver(Answer::Done(
                    "the mesh is left; its routes are removed".into(),
                ));
            }
            Outcome::Failed(why) => {
                if self.publish_problem.replace(why.clone()).is_none() {
                    warn!("our record is not in the directory: {why}");
                }
                if self.leaver.is_some() {
                    // We stay, so nobody is to take our record away later.
                    self.ordered = None;
                }
                self.answer_leaver(Answer::Failed(format!(
                    "our record is still in the directory: {why}"
                )));
            }
        }
    }

    /// What decides about others.
    fn own(&self) -> Own {
        let addresses = self.config.addresses.iter().copied().map(Into::into);
        Own {
            name: self.config.name.clone(),
            generation: self.identity.generation,
            keys: self.identity.public_keys(),
            claims: addresses
                .chain(self.config.subnets.iter().copied())
                .collect(),
            networks: self.config.networks.clone(),
        }
    }

    /// Decides anew about everything, and applies what follows.
    pub(crate) fn replan(&mut self) {
        let plan = plan(&self.own(), &self.texts, &self.known);
        for refusal in plan
            .refusals
            .iter()
            .filter(|refusal| !self.refusals.contains(refusal))
        {
            error!("refused: {refusal}");
        }
        self.refusals = plan.refusals;
        if plan.known != self.known {
            self.known = plan.known;
            self.is_known_new = true;
        }
        self.peers = peers(&self.known, &self.config.endpoints);
        self.apply();
        self.follow_mtu();
        if let Some(prober) = &self.prober {
            prober.set_targets(&self.known.values().filter_map(target).collect::<Vec<_>>());
        }
    }

    /// Applies the peers that are wanted.
    pub(crate) fn apply(&mut self) {
        let store = &self.store;
        let psk = |name: &str| {
            let read = store.preshared_key(name);
            read.inspect_err(|why| error!("{name}: its preshared key: {why}"))
                .ok()
        };
        let keepalive = self.config.keepalive;
        self.applied
            .apply(&self.node, &self.peers, keepalive, unix_time(), psk);
    }

    /// Our record as it is to be.
    fn record(&self) -> Record {
        Record {
            name: self.config.name.clone(),
            generation: self.identity.generation,
            key: self.identity.key.public_key(),
            since: self.identity.since,
            endpoints: self.config.endpoints.clone(),
            addresses: self.config.addresses.clone(),
            subnets: self.config.subnets.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            next: self.identity.announcement(),
        }
    }

    fn publish(&mut self) {
        // That an announced key is in use is told when all have been greeted under it: whoever reads it earlier
        // greets us, all at the same time.
        let key = self.identity.key.public_key();
        let is_announced = self.announced.is_some_and(|(known, _)| known == key);
        if self.leaver.is_some() || (is_announced && self.applied.is_greeting()) {
            return;
        }
        let record = self.record().to_json();
        if self.ordered.as_ref() != Some(&record) {
            let _ = self.orders.send(Order::Publish(record.clone()));
            self.ordered = Some(record);
        }
    }

    /// Whether the directory has our record as it is to be.
    pub(crate) fn is_published(&self) -> bool {
        self.published.as_deref() == Some(&self.record().to_json())
    }

    fn obey(&mut self, command: Command, answer: Sender<Answer>) {
        let done = match command {
            Command::Status => {
                let _ = answer.send(Answer::Status(Box::new(self.status())));
                return;
            }
            Command::Leave => {
                self.leave(answer);
                return;
            }
            Command::Rotate => self.announce(),
            Command::Reprovision => self.reprovision(),
            Command::Enable => self.set_enabled(true),
            Command::Disable => self.set_enabled(false),
            Command::Reread => {
                self.apply();
                Ok(
                    "the preshared keys are read again; each is used from the next handshake on"
                        .into(),
                )
            }
        };
        let _ = answer.send(done.map_or_else(Answer::Failed, Answer::Done));
    }

    fn set_enabled(&mut self, is_enabled: bool) -> Result<String, String> {
        let routed = if is_enabled {
            self.routes.enable()
        } else {
            self.routes.disable()
        };
        routed.map_err(|why| why.to_string())?;
        self.is_enabled = is_enabled;
        self.store
            .set_enabled(is_enabled)
            .map_err(|why| format!("done, but not for a restart: {why}"))?;
        Ok(if is_enabled { "enabled" } else { "disabled" }.into())
    }

    fn leave(&mut self, answer: Sender<Answer>) {
        self.leaver = Some(answer);
        let _ = self.orders.send(Order::Withdraw);
    }

    /// Ends the process too, if we have left.
    fn answer_leaver(&mut self, answer: Answer) {
        let Some(leaver) = self.leaver.take() else {
            return;
        };
        let is_done = matches!(answer, Answer::Done(_));
        if is_done && let Err(why) = self.routes.disable() {
            error!("{why}");
        }
        let _ = leaver.send(answer);
        if is_done {
            self.leaver = Some(leaver);
            // Our answer is to be read before the process is gone.
            thread::sleep(Duration::from_millis(100));
            // The thread in charge ends when it is told that the device is gone.
            let _ = self.node.ended.write(1);
        }
    }
}

/// Which address of a node is probed.
pub(crate) fn target(record: &Record) -> Option<IpAddr> {
    record.addresses.first().copied()
}

/// The wall clock, in seconds since 1970.
#[must_use]
pub fn unix_time() -> u64 {
    SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |time| time.as_secs())
}
