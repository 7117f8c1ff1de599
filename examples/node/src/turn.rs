//! Order among threads that work side by side.
//!
//! Each batch draws a ticket while it is read. Threads then seal or open at the same time, and wait for
//! their turn before they hand on what they made, so that it leaves in the order in which it came.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Tickets, and whose turn it is.
#[derive(Debug, Default)]
pub struct Turn {
    board: Mutex<Board>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Board {
    serving: u64,
    /// How many threads wait: without any, nobody needs to be woken, which is a system call.
    waiting: usize,
}

impl Turn {
    /// Waits until all tickets before this one have had their turn.
    ///
    /// The turn ends when what is returned is dropped. Every ticket must come, or those behind it wait
    /// for ever.
    pub fn wait(&self, ticket: u64) -> Served<'_> {
        let mut board = self.lock();
        while board.serving != ticket {
            board.waiting += 1;
            board = self
                .moved
                .wait(board)
                .unwrap_or_else(PoisonError::into_inner);
            board.waiting -= 1;
        }
        Served { turn: self }
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn that lasts.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct Served<'t> {
    turn: &'t Turn,
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        let mut board = self.turn.lock();
        board.serving += 1;
        if board.waiting > 0 {
            self.turn.moved.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn turns_are_served_in_the_order_of_tickets() {
        let (turn, next) = (Turn::default(), Mutex::new(0));
        let served = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let ticket = {
                            let mut next = next.lock().unwrap();
                            *next += 1;
                            *next - 1
                        };
                        let work = (ticket * 7919) % 13;
                        (0..work).for_each(|_| thread::yield_now());
                        let _turn = turn.wait(ticket);
                        if ticket >= 2000 {
                            return;
                        }
                        served.lock().unwrap().push(ticket);
                    }
                });
            }
        });
        assert_eq!(*served.lock().unwrap(), (0..2000).collect::<Vec<_>>());
    }
}
