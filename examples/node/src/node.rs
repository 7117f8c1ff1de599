//! The node: what its threads share, and what each of them does with what comes out of the interface.

use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use quietwire::{Instant, SealJob};
use tracing::{debug, info, warn};

use crate::clock;
use crate::counters::Counters;
use crate::device::{Device, Link};
use crate::error::Error;
use crate::offload::VnetHeader;
use crate::path::Path;
use crate::state::{Output, State};
use crate::udp::{Sent, Sockets};

/// A node. Its threads hold it together.
#[derive(Debug)]
pub struct Node {
    /// The TUN device.
    pub device: Device,
    /// What was dropped.
    pub counters: Counters,
    /// Rings when the next deadline of the interface has come.
    pub timer: Arc<TimerFd>,
    /// Wakes the threads that receive when the sockets have changed.
    pub sockets_changed: EventFd,
    /// Wakes the thread that does the multiplications of handshakes.
    pub handshakes_wait: Condvar,
    /// Wakes the thread in charge when the device is gone.
    pub ended: EventFd,
    is_gone: AtomicBool,
    state: Mutex<State>,
    sockets: RwLock<Option<Arc<Sockets>>>,
    link: RwLock<Link>,
}

impl Node {
    /// Makes a node around a device.
    ///
    /// # Errors
    ///
    /// [`Error::System`].
    pub fn new(device: Device) -> Result<Self, Error> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_BOOTTIME, flags);
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let [changed, ended] = [(), ()].map(|()| EventFd::from_flags(flags));
        let link = device
            .link(Link::default())
            .map_err(Error::system("asking about the device"))?;
        let timer = Arc::new(timer.map_err(Error::system("making a timer"))?);
        Ok(Self {
            timer: timer.clone(),
            sockets_changed: changed.map_err(Error::system("making an event"))?,
            ended: ended.map_err(Error::system("making an event"))?,
            is_gone: AtomicBool::new(false),
            handshakes_wait: Condvar::new(),
            counters: Counters::default(),
            state: Mutex::new(State::new(link.mtu, timer)),
            sockets: RwLock::new(None),
            link: RwLock::new(Link::default()),
            device,
        })
    }

    /// The interface. Hold it for short steps only.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, with the lock given back meanwhile, until handshakes are queued.
    pub fn wait_for_handshakes<'s>(
        &'s self,
        state: MutexGuard<'s, State>,
    ) -> MutexGuard<'s, State> {
        self.handshakes_wait
            .wait_while(state, |state| state.handshakes.is_empty())
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The sockets, while the device is up.
    pub fn sockets(&self) -> Option<Arc<Sockets>> {
        self.sockets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The device's MTU.
    pub fn mtu(&self) -> u16 {
        self.link().mtu
    }

    /// Whether the device is gone, and the node with it.
    pub fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// The device cannot be read or written any more.
    pub fn lose_device(&self, problem: Errno) {
        if !self.is_gone.swap(true, Ordering::Relaxed) {
            info!("the device {} is gone: {problem}", self.device.name());
            let _ = self.ended.write(1);
        }
    }

    /// Gives one whole packet to the kernel.
    pub fn deliver_packet(&self, packet: &[u8]) {
        let header = [0; VnetHeader::LEN];
        if let Err(problem) = self
            .device
            .write(&[IoSlice::new(&header), IoSlice::new(packet)])
        {
            debug!("writing to the device: {problem}");
            self.counters.unwritten.add(1);
        }
    }

    /// What the system said last about the device.
    pub fn link(&self) -> Link {
        *self.link.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a step of the interface has left to do outside of the lock. `out` is empty afterwards.
    pub fn deliver(&self, out: &mut Output) {
        if std::mem::take(&mut out.wakes_handshakes) {
            self.handshakes_wait.notify_one();
        }
        if out.staged.is_empty() && out.messages.is_empty() {
            return;
        }
        let Some(sockets) = self.sockets() else {
            out.staged.clear();
            out.messages.clear();
            return;
        };
        for transmit in out.messages.drain(..) {
            let message = transmit.message.as_bytes();
            self.send(
                &sockets,
                &transmit.to,
                transmit.tos(),
                message,
                message.len(),
            );
        }
        SealJob::run_all(out.staged.iter_mut().map(|(job, _)| job));
        for (mut job, tos) in out.staged.drain(..) {
            let to = job.to();
            let datagram = job.datagram();
            self.send(&sockets, &to, tos, datagram, datagram.len());
        }
    }

    /// Sends a train; what the network refuses is counted.
    pub fn send(&self, sockets: &Sockets, path: &Path, tos: u8, train: &[u8], size: usize) {
        match sockets.send(path, tos, train, size) {
            Ok(Sent {
                is_broken,
                lost_source,
            }) => {
                self.counters.broken_trains.add(usize::from(is_broken));
                if lost_source {
                    self.state().forget_sources();
                }
            }
            Err(error) => {
                debug!("sending to {}: {error}", path.remote);
                self.counters.unsent.add(train.len().div_ceil(size.max(1)));
            }
        }
    }

    /// Changes the state and sees to all that follows from it.
    pub fn change<R>(&self, f: impl FnOnce(&mut State, Instant) -> R) -> R {
        let mut out = Output::default();
        let mut state = self.state();
        let now = clock::now();
        let result = f(&mut state, now);
        state.settle(now, &mut out, &self.counters);
        drop(state);
        self.deliver(&mut out);
        result
    }

    /// The timer has rung: does what is due.
    pub fn handle_timeout(&self) {
        let mut out = Output::default();
        let mut state = self.state();
        let now = clock::now();
        state.look_for_sleep(now);
        state.alarm = None;
        if state.is_up {
            state.interface.handle_timeout(now);
            state.settle(now, &mut out, &self.counters);
        }
        drop(state);
        self.deliver(&mut out);
    }

    /// Follows what has happened to the device.
    ///
    /// # Errors
    ///
    /// When the device is gone.
    pub fn follow_link(&self) -> io::Result<()> {
        let old = self.link();
        let link = self.device.link(old)?;
        *self.link.write().unwrap_or_else(PoisonError::into_inner) = link;
        if link.mtu != old.mtu {
            self.follow_mtu(link.mtu);
        }
        match (old.is_up, link.is_up) {
            (was_up, true) if !was_up || self.lacks_port() => self.go_up(!was_up),
            (true, false) => self.go_down(),
            _ => {}
        }
        Ok(())
    }

    /// Whether the device is up and its port could not be opened yet.
    pub fn lacks_port(&self) -> bool {
        self.link().is_up && self.sockets().is_none()
    }

    /// Whether the device is up, as the system says at this moment.
    pub fn is_up_now(&self) -> bool {
        self.device.link(self.link()).is_ok_and(|link| link.is_up)
    }

    fn follow_mtu(&self, mtu: u16) {
        self.state().set_mtu(mtu);
        if let Err(problem) = self.device.fit_trains(mtu) {
            debug!("the size of super-packets stays as it is: {problem}");
        }
        if mtu < 1280 {
            warn!("the MTU is {mtu}: IPv6 needs at least 1280");
        } else {
            debug!("the MTU is {mtu}");
        }
    }

    /// Opens the port, under the lock: a request that changes port or mark comes before or after.
    fn go_up(&self, is_first_try: bool) {
        let state = self.state();
        if state.is_up {
            // A request for another port has seen before us that the device is up.
            return;
        }
        let port = state.port;
        match Sockets::open(port, state.fwmark) {
            Ok(sockets) => self.start_on(sockets, state),
            Err(error) if is_first_try => warn!(
                "UDP port {port} cannot be opened: {error}. It is tried again every second. Set another one with `wg set {} listen-port`",
                self.device.name()
            ),
            Err(_) => {}
        }
    }

    fn start_on(&self, sockets: Sockets, mut state: MutexGuard<'_, State>) {
        info!("up, on UDP port {}", sockets.port());
        let mut out = Output::default();
        state.port = sockets.port();
        self.replace_sockets(Some(sockets));
        let now = clock::now();
        state.go_up(now);
        state.settle(now, &mut out, &self.counters);
        drop(state);
        self.deliver(&mut out);
    }

    fn go_down(&self) {
        info!("down");
        self.state().go_down(clock::now(), &self.counters);
        let old = self.replace_sockets(None);
        // The port is free when the last thread has let go of it, which takes the length of a batch.
        for _ in 0..1000 {
            if old.as_ref().is_none_or(|old| Arc::strong_count(old) == 1) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Puts other sockets in place, and wakes who receives from the old ones.
    fn replace_sockets(&self, sockets: Option<Sockets>) -> Option<Arc<Sockets>> {
        let mut place = self.sockets.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *place, sockets.map(Arc::new));
        drop(place);
        // The counter of the event cannot be full: each wake-up empties it.
        let _ = self.sockets_changed.write(1);
        old
    }

    /// Moves to another port, or chooses one with 0; whether nobody had listened before. If it fails,
    /// everything stays as it was.
    ///
    /// # Errors
    ///
    /// The system's; `EADDRINUSE` when another program has the port.
    pub fn set_port(&self, port: &mut u16, fwmark: u32, wanted: u16) -> nix::Result<bool> {
        let old = self.sockets();
        if wanted != 0 && old.as_ref().is_some_and(|old| old.port() == wanted) {
            return Ok(false);
        }
        if !self.link().is_up {
            *port = wanted;
            return Ok(false);
        }
        let sockets = Sockets::open(wanted, fwmark)?;
        *port = sockets.port();
        info!("on UDP port {port}");
        self.replace_sockets(Some(sockets));
        Ok(old.is_none())
    }

    /// Marks what is sent from now on.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn set_fwmark(&self, fwmark: u32) -> nix::Result<()> {
        self.sockets()
            .map_or(Ok(()), |sockets| sockets.set_fwmark(fwmark))
    }
}
