//! A progress bar on standard error: one line that is redrawn on a terminal, a line for every tenth
//! of the work elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

const WIDTH: u64 = 30;
const REDRAW: Duration = Duration::from_millis(100);
/// Elsewhere, when the total is not known.
const STEP: u64 = 10_000_000;

#[derive(Debug)]
pub(crate) struct Progress {
    done: u64,
    total: Option<u64>,
    started: Instant,
    is_terminal: bool,
    drawn_at: Instant,
    next_line: u64,
}

impl Progress {
    pub(crate) fn new(total: Option<u64>) -> Self {
        let now = Instant::now();
        Self {
            done: 0,
            total,
            started: now,
            is_terminal: io::stderr().is_terminal(),
            drawn_at: now,
            next_line: total.map_or(STEP, |total| total / 10),
        }
    }

    pub(crate) fn advance(&mut self, bytes: usize) {
        self.done += u64::try_from(bytes).unwrap_or_default();
        if self.is_terminal && self.drawn_at.elapsed() >= REDRAW {
            self.drawn_at = Instant::now();
            self.draw();
        } else if !self.is_terminal && self.done >= self.next_line {
            self.next_line = self.done + self.total.map_or(STEP, |total| total / 10);
            eprintln!("{}", self.figures());
        }
    }

    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn draw(&self) {
        let bar = self.total.map_or_else(String::new, |total| {
            let filled = (self.done * WIDTH).checked_div(total).unwrap_or(WIDTH);
            (0..WIDTH)
                .map(|place| if place < filled { '#' } else { '.' })
                .collect()
        });
        eprint!("\r\x1b[K{bar} {}", self.figures());
    }

    fn figures(&self) -> String {
        let total = self
            .total
            .map_or_else(String::new, |total| format!(" of {:.1}", megabytes(total)));
        let rate = rate(self.done, self.elapsed());
        format!("{:.1}{total} MB, {rate:.1} MB/s", megabytes(self.done))
    }
}

/// Leaves the terminal with an empty line to go on with.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
            let _ = io::stderr().flush();
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Megabytes in a second.
pub(crate) fn rate(bytes: u64, elapsed: Duration) -> f64 {
    megabytes(bytes) / elapsed.as_secs_f64().max(1e-9)
}
