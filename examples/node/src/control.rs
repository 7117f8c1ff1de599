//! The thread in charge: timers, the device's state, signals, and the end.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path as FilePath;

use nix::errno::Errno;
use nix::libc::{RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE, RTMGRP_LINK};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use tracing::{info, warn};

use crate::error::Error;
use crate::node::Node;

/// What the thread in charge listens to.
#[derive(Debug)]
pub struct Control {
    signals: SignalFd,
    routes: OwnedFd,
    files: Inotify,
}

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
        mask.thread_block().map_err(Error::system("blocking signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags).map_err(Error::system("waiting for signals"))?;
        let files = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
            .map_err(Error::system("watching the socket's file"))?;
        // Removing a file changes its count of links, which is an attribute.
        let events = AddWatchFlags::IN_ATTRIB | AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        files
            .add_watch(socket_file, events)
            .map_err(Error::system("watching the socket's file"))?;
        Ok(Self {
            signals,
            routes: listen_to_routes().map_err(Error::system("listening to the kernel's changes of links"))?,
            files,
        })
    }

    /// Runs until a signal comes, or the device or the socket's file is gone.
    pub fn run(&self, node: &Node, socket_file: &FilePath) {
        // What happened before we listened.
        let mut is_alive = node.follow_link().is_ok();
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
        poll(&mut fds, PollTimeout::NONE)?;
        Ok(fds.map(|fd| fd.any().unwrap_or(false)))
    }

    /// Sees to what has happened; whether the node goes on.
    fn heed(&self, node: &Node, socket_file: &FilePath, ready: [bool; 5]) -> bool {
        let [timer, signal, routes, files, ended] = ready;
        if timer {
            let _ = node.timer.wait();
            node.handle_timeout();
        }
        if routes && !self.follow_routes(node) {
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
    fn follow_routes(&self, node: &Node) -> bool {
        let mut buffer = [0; 1 << 14];
        // What it says is asked for below, so that nothing is missed when it says too much at once.
        while !matches!(
            recv(self.routes.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT),
            Err(Errno::EAGAIN)
        ) {}
        node.state().forget_sources();
        node.follow_link().is_ok()
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
            for (reason, count) in state.interface.drops().iter().filter(|(_, count)| *count > 0) {
                info!("refused: {count} times: {reason}");
            }
        }
        true
    }
}

/// Listens to changes of links, addresses and routes.
fn listen_to_routes() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags,
        SockProtocol::NetlinkRoute,
    )?;
    let groups = RTMGRP_LINK
        | RTMGRP_IPV4_IFADDR
        | RTMGRP_IPV6_IFADDR
        | RTMGRP_IPV4_ROUTE
        | RTMGRP_IPV6_ROUTE;
    let address = NetlinkAddr::new(0, u32::try_from(groups).unwrap_or_default());
    bind(fd.as_raw_fd(), &address)?;
    Ok(fd)
}
