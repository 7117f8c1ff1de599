//! What the tables of whole implementations say: machine, versions, statistics, text and CSV.

use core::fmt::{self, Display, Formatter, Write as _};

use crate::Implementation;

/// Returns the version of a crate in the lock file, the first that begins with `prefix`, or `?`.
#[must_use]
pub fn locked(name: &str, prefix: &str) -> String {
    let line = format!("name = \"{name}\"");
    let mut lines = include_str!("../Cargo.lock").lines();
    while lines.by_ref().any(|other| other == line) {
        let version = lines
            .next()
            .and_then(|line| line.split('"').nth(1))
            .unwrap_or("?");
        if version.starts_with(prefix) {
            return version.to_owned();
        }
    }
    "?".to_owned()
}

/// Describes where and how the measurements run, one fact per line.
#[must_use]
pub fn circumstances(implementations: &[Implementation]) -> Vec<String> {
    let flags = match env!("PEERS_RUSTFLAGS") {
        "" => "no RUSTFLAGS",
        flags => flags,
    };
    let profile = if cfg!(debug_assertions) {
        "DEBUG BUILD: FIGURES MEAN NOTHING"
    } else {
        "release"
    };
    let mut lines = vec![
        format!("cpu: {}", cpu()),
        format!("system: {}", system()),
        format!("compiler: {}, {profile}, {flags}", env!("PEERS_RUSTC")),
    ];
    lines.extend(implementations.iter().map(|implementation| {
        let Implementation {
            name,
            version,
            backend,
            ..
        } = implementation;
        format!("{name} {version}: {backend}")
    }));
    lines
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let named = |line: &&str| line.split(':').next().is_some_and(|key| key.trim() == name);
        info.lines()
            .find(named)
            .and_then(|line| line.split(':').nth(1))
            .map_or("?", str::trim)
    };
    let (model, family, number) = (field("model name"), field("cpu family"), field("model"));
    format!("{model} (family {family}, model {number}){}", features())
}

fn system() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let release = read("/etc/os-release");
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .unwrap_or(std::env::consts::OS)
        .trim_matches('"');
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{name}, kernel {}", kernel.trim())
}

#[cfg(target_arch = "x86_64")]
fn features() -> String {
    let mut text = String::new();
    let found = [
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512ifma", std::is_x86_feature_detected!("avx512ifma")),
        ("adx", std::is_x86_feature_detected!("adx")),
    ];
    for (name, _) in found.iter().filter(|(_, present)| *present) {
        text.push(' ');
        text.push_str(name);
    }
    text
}

#[cfg(not(target_arch = "x86_64"))]
fn features() -> String {
    format!(" {}", std::env::consts::ARCH)
}

/// The samples of one contender in one measurement.
#[derive(Clone, Debug)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Sorts the samples.
    ///
    /// # Panics
    ///
    /// If there are none.
    #[must_use]
    pub fn new(mut samples: Vec<f64>) -> Self {
        assert!(!samples.is_empty(), "nothing was measured");
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    /// Returns the sample below which `percent` of them lie.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    /// Returns how many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the median.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.percentile(50)
    }
}

/// Sealing and opening, both measured over the same packets: how long one packet takes on both
/// sides together.
#[derive(Clone, Copy, Debug)]
pub struct BothWays<'a> {
    /// What it is called.
    pub title: &'a str,
    /// The measurement of sealing.
    pub seal: &'a Table,
    /// The measurement of opening.
    pub open: &'a Table,
}

impl BothWays<'_> {
    /// Returns the name and the sum of both medians of the first implementation and of the best of
    /// the others, if there is another.
    #[must_use]
    pub fn first_and_best_other(&self) -> Option<[(&'static str, f64); 2]> {
        let rows = self.seal.rows.iter().zip(&self.open.rows);
        let mut sums = rows.map(|((name, seal), (_, open))| (*name, seal.median() + open.median()));
        let first = sums.next()?;
        let best = sums.min_by(|one, other| one.1.total_cmp(&other.1))?;
        Some([first, best])
    }
}

impl Display for BothWays<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some([(name, own), (other, best)]) = self.first_and_best_other() else {
            return Ok(());
        };
        let (title, unit, ratio) = (self.title, self.seal.unit, best / own);
        writeln!(
            f,
            "  {title:<34} {name} {own:.1} {unit}, best other {other} {best:.1} {unit}: x {ratio:.2}"
        )
    }
}

/// What samples are counted in. Less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `us`.
    Microseconds,
    /// `ns`.
    Nanoseconds,
}

impl Unit {
    /// Returns how many make a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        match self {
            Self::Microseconds => 1e6,
            Self::Nanoseconds => 1e9,
        }
    }
}

impl Display for Unit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Microseconds => "us",
            Self::Nanoseconds => "ns",
        })
    }
}

/// One measurement of every contender.
#[derive(Clone, Debug)]
pub struct Table {
    /// What was measured.
    pub title: String,
    /// Unit of the samples.
    pub unit: Unit,
    /// A name and its samples per contender.
    pub rows: Vec<(&'static str, Samples)>,
}

impl Table {
    /// Returns how many times as fast as the best of the others a contender is.
    ///
    /// Without others it is 1.
    #[must_use]
    pub fn against_best_other(&self, row: usize) -> f64 {
        let own = self.rows[row].1.median();
        let others = self
            .rows
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != row);
        let best = others
            .map(|(_, (_, samples))| samples.median())
            .reduce(f64::min);
        best.unwrap_or(own) / own
    }

    /// Returns the rows as lines of [`CSV_HEADER`].
    #[must_use]
    pub fn csv(&self) -> String {
        let mut text = String::new();
        for (row, (name, samples)) in self.rows.iter().enumerate() {
            let Self { title, unit, .. } = self;
            let [low, median, high] = [10, 50, 90].map(|percent| samples.percentile(percent));
            let ratio = self.against_best_other(row);
            let count = samples.count();
            writeln!(
                text,
                "{title},{name},{unit},{median:.2},{low:.2},{high:.2},{count},{ratio:.3},"
            )
            .expect("a string takes all");
        }
        text
    }
}

/// The columns of [`Table::csv`]. The last one is filled for ciphers by themselves only, and there
/// the best other one is the best that is not quietwire's.
pub const CSV_HEADER: &str = "measurement,implementation,unit,median,percentile10,percentile90,\
     samples,times_best_other,times_ring\n";

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { title, unit, rows } = self;
        writeln!(f, "{title}")?;
        writeln!(
            f,
            "  {:<12} {:>12} {:>10} {:>10} {:>12} {:>8} {:>16}",
            "",
            format!("median {unit}"),
            "p10",
            "p90",
            "per second",
            "samples",
            "x best other"
        )?;
        for (row, (name, samples)) in rows.iter().enumerate() {
            let [low, median, high] = [10, 50, 90].map(|percent| samples.percentile(percent));
            let rate = unit.per_second() / median;
            let (count, ratio) = (samples.count(), self.against_best_other(row));
            writeln!(
                f,
                "  {name:<12} {median:>12.1} {low:>10.1} {high:>10.1} {rate:>12.0} {count:>8} {ratio:>16.2}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::implementations;

    #[test]
    fn every_version_is_found_in_the_lock_file() {
        for line in circumstances(&implementations()).iter().skip(3) {
            assert!(!line.contains('?'), "{line}");
        }
    }

    #[test]
    fn the_ratio_is_taken_against_the_best_of_the_others() {
        let rows = [("a", 50.0), ("b", 100.0), ("c", 200.0)];
        let rows = rows
            .map(|(name, sample)| (name, Samples::new(vec![sample])))
            .to_vec();
        let table = Table {
            title: "t".to_owned(),
            unit: Unit::Nanoseconds,
            rows,
        };
        let ratios = [0, 1, 2].map(|row| table.against_best_other(row).to_bits());
        assert_eq!(ratios, [2.0, 0.5, 0.25].map(f64::to_bits));
    }

    #[test]
    fn both_ways_are_summed_before_they_are_compared() {
        let table = |rows: [(&'static str, f64); 3]| Table {
            title: "t".to_owned(),
            unit: Unit::Nanoseconds,
            rows: rows
                .map(|(name, sample)| (name, Samples::new(vec![sample])))
                .to_vec(),
        };
        let both = BothWays {
            title: "t",
            seal: &table([("a", 10.0), ("b", 20.0), ("c", 90.0)]),
            open: &table([("a", 15.0), ("b", 80.0), ("c", 5.0)]),
        };
        let [(first, own), (other, best)] = both.first_and_best_other().unwrap();
        assert_eq!([first, other], ["a", "c"]);
        assert_eq!(
            [own, best].map(f64::to_bits),
            [25.0, 95.0].map(f64::to_bits)
        );
    }

    #[test]
    fn percentiles_come_from_sorted_samples() {
        let samples = Samples::new((0..=100_u8).rev().map(f64::from).collect());
        assert_eq!(
            [10, 50, 90].map(|p| samples.percentile(p).to_bits()),
            [10.0, 50.0, 90.0].map(f64::to_bits)
        );
    }
}
