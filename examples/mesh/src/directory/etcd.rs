//! Records in etcd, over its v3 interface: one key per node, `PREFIX/nodes/NAME`.
//!
//! A thread of its own talks to etcd over one connection. All records are read, then changes are followed
//! from the revision that was read, so none is missed in between. etcd itself decides who may write: a
//! node's certificate carries its name, and only that name's key is open to it (see
//! `examples/mesh/etcd/README.md`).
//!
//! **Time to live.** By default a record stays until it is withdrawn. The mesh goes on while etcd is away,
//! and so it should when only one node cannot reach etcd: its tunnels work, and with a short-lived record
//! the others would cut it off. A time to live is for clusters whose nodes die without a farewell; then let
//! it be hours, longer than any outage of etcd that you expect to repair.

mod members;
mod options;
mod own;
mod watch;

use std::fmt;
use std::rc::Rc;
use std::sync::mpsc::{Sender, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use tokio::runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{LocalSet, spawn_local};

use self::members::Members;
pub use self::options::{EtcdOptions, LONGEST_TTL, SHORTEST_TTL};
use self::own::Own;
use self::watch::Watch;
use super::{Directory, DirectoryError, News};

/// A directory in etcd.
///
/// [`publish`](Directory::publish) and [`withdraw`](Directory::withdraw) wait for etcd, at most some 5 s for
/// each of the one to three requests that they take. What was published is put in place again when etcd,
/// read anew, does not have it, and when its lease ended while etcd could not be reached; it is not when
/// somebody deletes it otherwise.
pub struct EtcdDirectory {
    // Before the thread, which ends when this is dropped.
    commands: Option<UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl EtcdDirectory {
    /// Begins to talk to etcd at the first request.
    ///
    /// # Errors
    ///
    /// The options cannot be right, or the thread cannot be made.
    pub fn new(options: EtcdOptions) -> Result<Self, DirectoryError> {
        options.check()?;
        let failed = |error| DirectoryError(format!("etcd: no thread for it: {error}"));
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let (commands, receiver) = unbounded_channel();
        let serve = move || LocalSet::new().block_on(&runtime, serve(options, receiver));
        let thread = Builder::new()
            .name("etcd".to_owned())
            .spawn(serve)
            .map_err(failed)?;
        Ok(Self {
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    fn ask(&self, command: impl FnOnce(Reply) -> Command) -> Result<(), DirectoryError> {
        let (reply, answer) = sync_channel(1);
        let ended = || DirectoryError("etcd: its thread has ended".to_owned());
        let commands = self.commands.as_ref().ok_or_else(ended)?;
        commands.send(command(reply)).map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }
}

impl Directory for EtcdDirectory {
    fn watch(&mut self, news: Sender<News>) -> Result<(), DirectoryError> {
        self.ask(|reply| Command::Watch(news, reply))
    }

    fn publish(&mut self, name: &str, record: &str) -> Result<(), DirectoryError> {
        self.ask(|reply| Command::Publish(name.to_owned(), record.to_owned(), reply))
    }

    fn withdraw(&mut self, name: &str) -> Result<(), DirectoryError> {
        self.ask(|reply| Command::Withdraw(name.to_owned(), reply))
    }
}

impl fmt::Debug for EtcdDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdDirectory").finish_non_exhaustive()
    }
}

impl Drop for EtcdDirectory {
    fn drop(&mut self) {
        self.commands = None;
        // A thread that panicked has said so.
        self.thread.take().map(JoinHandle::join);
    }
}

type Reply = SyncSender<Result<(), DirectoryError>>;

/// What the directory's thread is asked to do.
enum Command {
    Watch(Sender<News>, Reply),
    Publish(String, String, Reply),
    Withdraw(String, Reply),
}

/// The directory's thread, until nobody can ask any more.
async fn serve(options: EtcdOptions, mut commands: UnboundedReceiver<Command>) {
    let members = Rc::new(Members::new(options));
    let own = Rc::new(Own::new(Rc::clone(&members)));
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            () = own.due() => {
                own.tend().await;
                continue;
            }
        };
        let (reply, answer) = match command {
            None => return,
            Some(Command::Watch(news, reply)) => (reply, watch(&members, &own, news).await),
            Some(Command::Publish(name, record, reply)) => {
                (reply, own.publish(&name, &record).await)
            }
            Some(Command::Withdraw(name, reply)) => (reply, own.withdraw(&name).await),
        };
        // Who asked waits for it.
        drop(reply.send(answer));
    }
}

/// Begins to watch, once it is sure that the files can be used.
async fn watch(
    members: &Rc<Members>,
    own: &Rc<Own>,
    news: Sender<News>,
) -> Result<(), DirectoryError> {
    members.lend().await?;
    spawn_local(Watch::new(Rc::clone(members), Rc::clone(own), news).run());
    Ok(())
}
