//! The thread that speaks to the directory, so that a directory that hangs delays nothing else.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::directory::Directory;

/// What is to be said to the directory.
#[derive(Debug)]
pub enum Order {
    /// Put this record in place.
    Publish(String),
    /// Take our record away.
    Withdraw,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This record is in place.
    Published(String),
    /// Our record is away.
    Withdrawn,
    /// It failed, for this reason. A record is tried again until it or a newer one is in place.
    Failed(String),
}

/// A failed order is tried again after this, then after twice as long, and so on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Starts the thread. It ends when the sender that is returned is dropped.
///
/// # Errors
///
/// The system's, when it has no more threads.
pub fn start(
    directory: Box<dyn Directory>,
    name: String,
    tell: impl Fn(Outcome) + Send + 'static,
) -> io::Result<Sender<Order>> {
    let (orders, inbox) = channel();
    let run = move || run(directory, &name, &inbox, &tell);
    thread::Builder::new().name("publisher".into()).spawn(run)?;
    Ok(orders)
}

fn run(
    mut directory: Box<dyn Directory>,
    name: &str,
    inbox: &Receiver<Order>,
    tell: &dyn Fn(Outcome),
) {
    let mut waiting: Option<Order> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let next = match &waiting {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => inbox.recv_timeout(pause),
        };
        match next {
            Ok(order) => {
                waiting = Some(order);
                pause = FIRST_PAUSE;
            }
            Err(RecvTimeoutError::Timeout) => pause = (pause * 2).min(LONGEST_PAUSE),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // Only the newest counts.
        waiting = inbox.try_iter().last().or(waiting);
        let Some(order) = &waiting else {
            continue;
        };
        let done = match order {
            Order::Publish(record) => directory
                .publish(name, record)
                .map(|()| Outcome::Published(record.clone())),
            Order::Withdraw => directory.withdraw(name).map(|()| Outcome::Withdrawn),
        };
        match done {
            Ok(outcome) => {
                waiting = None;
                tell(outcome);
            }
            Err(why) => tell(Outcome::Failed(why.to_string())),
        }
    }
}
