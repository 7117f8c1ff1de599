//! The tables of the cipher by itself: nanoseconds, and how many times as fast as `ring`.

use core::fmt::{self, Display, Formatter, Write as _};

use ::quietwire::Backend;

use super::players::{Own, YARDSTICK};
use crate::report::Samples;

/// One kind of traffic, measured on every contender.
#[derive(Clone, Debug)]
pub struct Table {
    /// What was measured.
    pub title: String,
    /// The contenders.
    pub rows: Vec<Row>,
}

/// A contender and its samples.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What it is of quietwire, if it is that.
    pub own: Option<Own>,
    /// Nanoseconds a packet, of sealing and of opening.
    pub samples: [Samples; 2],
}

/// The two directions, as places in [`Row::samples`].
const DIRECTIONS: [&str; 2] = ["seal", "open"];

impl Row {
    fn medians(&self) -> [f64; 2] {
        self.samples.each_ref().map(Samples::median)
    }
}

impl Table {
    /// How many times as fast as `ring` a row seals and opens.
    #[must_use]
    pub fn against_ring(&self, row: &Row) -> [f64; 2] {
        let ring = self.rows.iter().find(|row| row.name == YARDSTICK);
        let ring = ring.map_or([f64::NAN; 2], Row::medians);
        let own = row.medians();
        [ring[0] / own[0], ring[1] / own[1]]
    }

    /// How many times as fast as the best of what is not quietwire a row seals and opens.
    fn against_best(&self, row: &Row) -> [f64; 2] {
        let own = row.medians();
        [0, 1].map(|way| {
            let others = self.rows.iter().filter(|other| other.own.is_none());
            let others = others.filter(|other| other.name != row.name);
            let best = others.map(|other| other.medians()[way]);
            best.reduce(f64::min).unwrap_or(own[way]) / own[way]
        })
    }

    /// Returns the rows as lines of [`CSV_HEADER`](crate::report::CSV_HEADER).
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let (ring, best) = (self.against_ring(row), self.against_best(row));
            for (way, samples) in row.samples.iter().enumerate() {
                let [low, median, high] = [10, 50, 90].map(|percent| samples.percentile(percent));
                let name = row.name.replace(',', "");
                writeln!(
                    text,
                    "aead {} {},{name},ns,{median:.2},{low:.2},{high:.2},{},{:.3},{:.3}",
                    DIRECTIONS[way],
                    self.title,
                    samples.count(),
                    best[way],
                    ring[way],
                )
                .expect("a string takes all");
            }
        }
        text
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "aead, {}", self.title)?;
        writeln!(
            f,
            "  {:<26} {:>10} {:>10} {:>8}   {:>10} {:>10} {:>8} {:>8}",
            "", "seal ns", "p10", "x ring", "open ns", "p10", "x ring", "samples"
        )?;
        for row in &self.rows {
            let [seal, open] = self.against_ring(row);
            let [[seal_ns, seal_low], [open_ns, open_low]] = row
                .samples
                .each_ref()
                .map(|samples| [50, 10].map(|percent| samples.percentile(percent)));
            writeln!(
                f,
                "  {:<26} {seal_ns:>10.1} {seal_low:>10.1} {seal:>8.2}   \
                 {open_ns:>10.1} {open_low:>10.1} {open:>8.2} {:>8}",
                row.name,
                row.samples[0].count(),
            )?;
        }
        Ok(())
    }
}

/// The few figures that goals are set for.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a>(pub &'a [Table]);

/// A line of the summary: traffic, whether in batches, and what it is called.
type Line = (&'static str, bool, &'static str);

const BEST: [Line; 5] = [
    ("1420 B", true, "1420 B, batch of 16"),
    ("1420 B", false, "1420 B, single"),
    ("64 B", true, "64 B, batch of 16"),
    ("64 B", false, "64 B, single"),
    ("mix", true, "mix, batch of 60"),
];

const AVX2: [Line; 3] = [
    ("1420 B", true, "1420 B, batch of 16"),
    ("64 B", true, "64 B, batch of 16"),
    ("1420 B", false, "1420 B, single"),
];

impl Summary<'_> {
    fn line(&self, f: &mut Formatter<'_>, backend: Backend, line: Line) -> fmt::Result {
        let (title, batch, label) = line;
        let label = format!("{backend}: {label}");
        let table = self.0.iter().find(|table| table.title == title);
        let own = Own { backend, batch };
        let row = |table: &Table| table.rows.iter().find(|row| row.own == Some(own)).cloned();
        let Some((table, row)) = table.and_then(|table| Some((table, row(table)?))) else {
            return writeln!(f, "  {label:<34} {:>8} {:>8}", "-", "-");
        };
        let [seal, open] = table.against_ring(&row);
        writeln!(f, "  {label:<34} {seal:>8.2} {open:>8.2}")
    }
}

impl Display for Summary<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "aead, times as fast as ring")?;
        writeln!(f, "  {:<34} {:>8} {:>8}", "", "seal", "open")?;
        let best = Backend::detect();
        for line in BEST {
            self.line(f, best, line)?;
        }
        let avx2 = Backend::available().find(|backend| backend.to_string() == "avx2");
        for line in AVX2 {
            if let Some(avx2) = avx2 {
                self.line(f, avx2, line)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, own: Option<Own>, seal: f64, open: f64) -> Row {
        Row {
            name: name.to_owned(),
            own,
            samples: [seal, open].map(|sample| Samples::new(vec![sample])),
        }
    }

    fn table() -> Table {
        let own = Own {
            backend: Backend::detect(),
            batch: true,
        };
        let rows = vec![
            row(YARDSTICK, None, 600.0, 800.0),
            row("faster", None, 300.0, 1600.0),
            row("quietwire", Some(own), 150.0, 160.0),
        ];
        Table {
            title: "64 B".to_owned(),
            rows,
        }
    }

    #[test]
    fn ratios_are_taken_against_ring_and_against_the_best_stranger() {
        let table = table();
        let bits = |ratios: [f64; 2]| ratios.map(f64::to_bits);
        let ring = table.rows.iter().map(|row| bits(table.against_ring(row)));
        let expected = [[1.0, 1.0], [2.0, 0.5], [4.0, 5.0]].map(bits);
        assert_eq!(ring.collect::<Vec<_>>(), expected);
        assert_eq!(bits(table.against_best(&table.rows[2])), bits([2.0, 5.0]));
        assert_eq!(bits(table.against_best(&table.rows[0])), bits([0.5, 2.0]));
    }

    #[test]
    fn the_summary_shows_what_was_measured_and_a_dash_for_the_rest() {
        let text = Summary(&[table()]).to_string();
        let line = |label: &str| text.lines().find(|line| line.contains(label)).unwrap();
        assert!(line("64 B, batch").ends_with("4.00     5.00"), "{text}");
        assert!(line("mix").ends_with("-        -"), "{text}");
    }
}
