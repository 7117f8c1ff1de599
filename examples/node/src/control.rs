//! The thread in charge: timers, the device's state, signals, and the end.

use std::cell::Cell;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path as FilePath;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tracing::{info, warn};

use crate::error::Error;
use crate::netlink::Reports;
use crate::node::Node;

/// What the thread in charge listens to.
#[derive(Debug)]
pub struct Control {
    signals: SignalFd,
    routes: Reports,
    files: Inotify,
    /// The system could not say how the device is, such as for want of file descriptors; or the port is
    /// not open yet; or something is to be forgotten.
    looks_again: Cell<bool>,
    /// Our addresses or routes have changed since they were last forgotten.
    is_stale: Cell<bool>,
    forgot: Cell<Instant>,
}

/// How long until the system is asked again, in milliseconds.
const LOOK_AGAIN: u16 = 1000;

/// Signals that end the node, and the one that asks for its counters.
const SIGNALS: [Signal; 5] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
];

impl Control {
    /// Begins to listen. To be called before any thread is made: all of them leave the signals to this
    /// one.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub fn new(socket_file: &FilePath) -> Result<Self, Error> {
        let mask: SigSet = SIGNALS.into_iter().collect();
        mask.thread_block()
            .map_err(Error::system("blocking signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals =
            SignalFd::with_flags(&mask, flags).map_err(Error::system("waiting for signals"))?;
        let files = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(Error::system("watching the socket's file"))?;
        // Removing a file changes its count of links, which is an attribute.
        let events =
            AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        files
            .add_watch(socket_file, events)
            .map_err(Error::system("watching the socket's file"))?;
        Ok(Self {
            signals,
            routes: Reports::listen()
                .map_err(Error::system("listening to the kernel's changes of links"))?,
            files,
            looks_again: Cell::new(false),
            is_stale: Cell::new(false),
            forgot: Cell::new(Instant::now()),
        })
    }

    /// Runs until a signal comes, or the device or the socket's file is gone.
    pub fn run(&self, node: &Node, socket_file: &FilePath) {
        // What happened before we listened.
        let mut is_alive = self.follow_link(node);
        while is_alive {
            let ready = match self.wait(node) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(problem) => {
                    warn!("waiting: {problem}");
                    return;
                }
            };
            is_alive = self.heed(node, socket_file, ready);
        }
    }

    fn wait(&self, node: &Node) -> nix::Result<[bool; 5]> {
        let fds = [
            node.timer.as_fd(),
            self.signals.as_fd(),
            self.routes.as_fd(),
            self.files.as_fd(),
            node.ended.as_fd(),
        ];
        let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let timeout = if self.looks_again.get() {
            PollTimeout::from(LOOK_AGAIN)
        } else {
            PollTimeout::NONE
        };
        poll(&mut fds, timeout)?;
        Ok(fds.map(|fd| fd.any().unwrap_or(false)))
    }

    /// Sees to what has happened; whether the node goes on.
    fn heed(&self, node: &Node, socket_file: &FilePath, ready: [bool; 5]) -> bool {
        let [timer, signal, routes, files, ended] = ready;
        if timer {
            let _ = node.timer.wait();
            node.handle_timeout();
        }
        if (routes || self.looks_again.get()) && !self.follow_routes(node, routes) {
            info!("the device {} is gone", node.device.name());
            return false;
        }
        if files {
            let _ = self.files.read_events();
            if fs::symlink_metadata(socket_file).is_err() {
                info!("{} is gone", socket_file.display());
                return false;
            }
        }
        !ended && (!signal || self.obey(node))
    }

    /// The kernel's links, addresses or routes have changed; whether the device is still there.
    ///
    /// Our addresses are forgotten at most once a second, because all peers are looked at for it.
    fn follow_routes(&self, node: &Node, have_changed: bool) -> bool {
        self.routes.drain();
        let is_stale = self.is_stale.get() || have_changed;
        let is_time = self.forgot.get().elapsed() >= Duration::from_secs(1);
        if is_stale && is_time {
            node.state().forget_sources();
            self.forgot.set(Instant::now());
        }
        self.is_stale.set(is_stale && !is_time);
        let is_there = self.follow_link(node);
        self.looks_again
            .set(self.looks_again.get() || self.is_stale.get());
        is_there
    }

    /// Looks at the device; whether it is still there.
    fn follow_link(&self, node: &Node) -> bool {
        let problem = node.follow_link().err();
        let errno = problem.as_ref().and_then(std::io::Error::raw_os_error);
        let is_gone = matches!(
            errno.map(Errno::from_raw),
            Some(Errno::EBADFD | Errno::ENODEV | Errno::ENXIO)
        );
        self.looks_again
            .set((problem.is_some() && !is_gone) || node.lacks_port());
        if let Some(problem) = problem.filter(|_| !is_gone) {
            warn!("asking about the device: {problem}");
        }
        !is_gone
    }

    /// Does what a signal asks for; whether the node goes on.
    fn obey(&self, node: &Node) -> bool {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if i32::try_from(signal.ssi_signo) != Ok(Signal::SIGUSR1 as i32) {
                info!("asked to end");
                return false;
            }
            info!("dropped: {}", node.counters);
            let state = node.state();
            for (reason, count) in state
                .interface
                .drops()
                .iter()
                .filter(|(_, count)| *count > 0)
            {
                info!("refused: {count} times: {reason}");
            }
        }
        true
    }
}
