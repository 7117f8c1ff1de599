//! `quietwire-peers [aead] [handshake] [tunnel] [mac1] [--quick] [--csv FILE]`
//!
//! Measures every implementation in one process and one thread. The contenders take turns within
//! every round and every round begins with another one, so that drift of the machine hits all alike.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use quietwire_peers::aead::{self, report::Summary, traffic::Traffic};
use quietwire_peers::contender::{AT_ONCE, Contender, Work};
use quietwire_peers::report::{BothWays, CSV_HEADER, Samples, Table, Unit, circumstances};
use quietwire_peers::{Implementation, implementations};

const USAGE: &str =
    "usage: quietwire-peers [aead] [handshake] [tunnel] [mac1] [--quick] [--csv FILE]
Without a name it runs all four measurements.";

/// IP lengths of the data packets.
const LENGTHS: [usize; 3] = [64, 576, 1420];

/// Bytes that a timed batch of data packets touches: they stay in the first-level cache.
const BATCH: usize = 16 * 1024;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let implementations = implementations();
    let mut ciphers = aead::Arena::new();
    let mut facts = circumstances(&implementations);
    facts.extend(ciphers.facts());
    println!("{}", facts.join("\n"));
    let mut csv = format!("# {}\n{CSV_HEADER}", facts.join("\n# "));
    csv.push_str(&measure_ciphers(&mut ciphers, &options));
    csv.push_str(&measure_tunnels(&implementations, &options));
    let Some(file) = options.csv else {
        return ExitCode::SUCCESS;
    };
    match std::fs::write(&file, csv) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the tables of the ciphers by themselves and returns them as lines of CSV.
fn measure_ciphers(arena: &mut aead::Arena, options: &Options) -> String {
    let budget = options.budget(5);
    let mut tables = Vec::new();
    for traffic in options.traffic() {
        let table = arena.measure(&traffic, budget);
        print!("\n{table}");
        tables.push(table);
    }
    if !tables.is_empty() {
        print!("\n{}", Summary(&tables));
    }
    tables.iter().map(aead::report::Table::csv).collect()
}

/// Prints the tables of whole implementations and returns them as lines of CSV.
fn measure_tunnels(implementations: &[Implementation], options: &Options) -> String {
    let mut arena = Arena::new(implementations);
    let mut tables = Vec::new();
    for measurement in options.measurements() {
        let table = arena.measure(&measurement);
        print!("\n{table}");
        tables.push((measurement.work, table));
    }
    summarise(&tables);
    tables.iter().map(|(_, table)| table.csv()).collect()
}

/// Prints what sealing and opening come to together.
fn summarise(tables: &[(Work, Table)]) {
    let find = |wanted: Work| {
        let found = tables.iter().find(|(work, _)| *work == wanted);
        found.map(|(_, table)| table)
    };
    let mut heading = "\ntunnel, seal + open of one IP packet on both sides\n";
    for length in LENGTHS {
        let singly = ["one at a time".to_owned(), format!("{AT_ONCE} at a time")];
        let works = [
            (Work::Seal(length), Work::Open(length)),
            (Work::SealBatch(length), Work::OpenBatch(length)),
        ];
        for (how, (seal, open)) in singly.iter().zip(works) {
            if let (Some(seal), Some(open)) = (find(seal), find(open)) {
                let title = &format!("{length} B, {how}");
                print!("{heading}{}", BothWays { title, seal, open });
                heading = "";
            }
        }
    }
}

#[derive(Debug, Default)]
struct Options {
    names: Vec<String>,
    quick: bool,
    csv: Option<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "aead" | "handshake" | "tunnel" | "mac1" => options.names.push(argument),
                "--quick" => options.quick = true,
                "--csv" => options.csv = Some(arguments.next().ok_or("--csv takes a file name")?),
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        Ok(options)
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }

    /// Time for all contenders together.
    fn budget(&self, seconds: u64) -> Duration {
        Duration::from_secs(seconds) / if self.quick { 6 } else { 1 }
    }

    fn traffic(&self) -> Vec<Traffic> {
        if !self.wants("aead") {
            return Vec::new();
        }
        let mut list = [64, 128, 256, 576, 1420].map(Traffic::of).to_vec();
        list.push(Traffic::mix());
        list
    }

    fn measurements(&self) -> Vec<Measurement> {
        let mut list = Vec::new();
        if self.wants("handshake") {
            list.push(Measurement::new("handshake", Work::Handshake, 6, 4));
        }
        for length in LENGTHS.into_iter().filter(|_| self.wants("tunnel")) {
            let count = BATCH / length;
            let whole = count.next_multiple_of(AT_ONCE);
            list.extend([
                Measurement::new(&format!("seal {length}"), Work::Seal(length), 3, count),
                Measurement::new(&format!("open {length}"), Work::Open(length), 3, count),
                Measurement::new(
                    &format!("seal {length}, {AT_ONCE} at a time"),
                    Work::SealBatch(length),
                    3,
                    whole,
                ),
                Measurement::new(
                    &format!("open {length}, {AT_ONCE} at a time"),
                    Work::OpenBatch(length),
                    3,
                    whole,
                ),
            ]);
        }
        if self.wants("mac1") {
            list.push(Measurement::new("wrong mac1", Work::Refuse, 3, 64));
        }
        for measurement in &mut list {
            measurement.budget = self.budget(measurement.budget.as_secs());
        }
        list
    }
}

/// One thing to measure.
#[derive(Clone, Debug)]
struct Measurement {
    title: String,
    work: Work,
    /// Time for all contenders together.
    budget: Duration,
    /// Pieces of work in a batch, which is timed as a whole.
    count: usize,
}

/// Timed batches in a turn. One more goes before them, untimed, to warm the caches.
const BATCHES: usize = 4;

impl Measurement {
    fn new(title: &str, work: Work, seconds: u64, count: usize) -> Self {
        Self {
            title: title.to_owned(),
            work,
            budget: Duration::from_secs(seconds),
            count,
        }
    }

    fn unit(&self) -> Unit {
        if self.work == Work::Handshake {
            Unit::Microseconds
        } else {
            Unit::Nanoseconds
        }
    }

    /// Returns the time per piece of work of each batch of one contender's turn.
    fn turn(&self, contender: &mut dyn Contender) -> Vec<f64> {
        contender.time(self.work, self.count);
        let pieces = f64::from(u32::try_from(self.count).unwrap_or(u32::MAX));
        let per_second = self.unit().per_second();
        let mut batch = || contender.time(self.work, self.count).as_secs_f64();
        (0..BATCHES)
            .map(|_| batch() * per_second / pieces)
            .collect()
    }
}

struct Arena {
    contenders: Vec<(&'static str, Box<dyn Contender>)>,
}

impl Arena {
    fn new(implementations: &[Implementation]) -> Self {
        let make =
            |implementation: &Implementation| (implementation.name, (implementation.contender)());
        Self {
            contenders: implementations.iter().map(make).collect(),
        }
    }

    fn measure(&mut self, measurement: &Measurement) -> Table {
        let mut samples = vec![Vec::new(); self.contenders.len()];
        let (start, mut round) = (Instant::now(), 0);
        while round < self.contenders.len() || start.elapsed() < measurement.budget {
            for turn in 0..self.contenders.len() {
                let whose = (round + turn) % self.contenders.len();
                samples[whose].extend(measurement.turn(self.contenders[whose].1.as_mut()));
            }
            round += 1;
        }
        let names = self.contenders.iter().map(|(name, _)| *name);
        let rows = names.zip(samples.into_iter().map(Samples::new)).collect();
        Table {
            title: measurement.title.clone(),
            unit: measurement.unit(),
            rows,
        }
    }
}
