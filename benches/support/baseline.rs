//! Figures that were measured before, as a text file that is committed.
//!
//! A line in brackets says under which circumstances the figures below it were measured; every other
//! line is a name and a number. Figures from other circumstances are compared, but prove nothing.

use core::fmt::{self, Display, Formatter};

/// The figures of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Baseline {
    figures: Vec<Figure>,
}

/// A figure and where it was measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) made_on: String,
}

impl Baseline {
    /// Reads a file; in an error, says which line it does not understand.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut figures, mut made_on) = (Vec::new(), String::new());
        for (number, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(heading) = line.strip_prefix('[') {
                let heading = heading.strip_suffix(']');
                heading
                    .ok_or_else(|| format!("line {number}: no ] at its end"))?
                    .clone_into(&mut made_on);
                continue;
            }
            let figure = Figure::parse(line, &made_on);
            figures.push(figure.ok_or_else(|| format!("line {number}: no name and number"))?);
        }
        Ok(Self { figures })
    }

    /// Returns the figure of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Figure> {
        self.figures.iter().find(|figure| figure.name == name)
    }

    /// Returns all figures.
    pub(crate) fn figures(&self) -> &[Figure] {
        &self.figures
    }

    /// Drops figures of which nobody will ask again.
    pub(crate) fn forget(&mut self, stale: impl Fn(&str) -> bool) {
        self.figures.retain(|figure| !stale(&figure.name));
    }

    /// Puts new figures in the place of those of the same names and keeps the others.
    pub(crate) fn update(
        &mut self,
        made_on: &str,
        measured: impl IntoIterator<Item = (String, f64)>,
    ) {
        let new: Vec<_> = measured
            .into_iter()
            .map(|(name, value)| Figure {
                name,
                value,
                made_on: made_on.to_owned(),
            })
            .collect();
        self.figures
            .retain(|old| new.iter().all(|new| new.name != old.name));
        // With those kept that were measured under the same circumstances.
        let (same, others): (Vec<_>, Vec<_>) = self
            .figures
            .drain(..)
            .partition(|old| old.made_on == made_on);
        self.figures = [new, same, others].concat();
    }
}

/// Prints a file that [`Baseline::parse`] reads, without comments.
impl Display for Baseline {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut made_on = None;
        for figure in &self.figures {
            if made_on != Some(&figure.made_on) {
                writeln!(f, "\n[{}]", figure.made_on)?;
                made_on = Some(&figure.made_on);
            }
            writeln!(f, "{:<40} {:>8}", figure.name, Digits(figure.value))?;
        }
        Ok(())
    }
}

impl Figure {
    fn parse(line: &str, made_on: &str) -> Option<Self> {
        let (name, value) = line.rsplit_once(char::is_whitespace)?;
        let value: f64 = value.parse().ok()?;
        (value.is_finite() && value > 0.0).then(|| Self {
            name: name.trim_end().to_owned(),
            value,
            made_on: made_on.to_owned(),
        })
    }

    /// By which part `now` is more than the figure: 0.5 if it is half as much again.
    pub(crate) fn change(&self, now: f64) -> f64 {
        now / self.value - 1.0
    }
}

/// A number with as many digits as mean something.
pub(crate) struct Digits(pub(crate) f64);

impl Display for Digits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let decimals = if self.0 < 100.0 { 3 } else { 1 };
        f.pad(&format!("{:.decimals$}", self.0))
    }
}

/// The model of this machine's processor.
pub(crate) fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.split_once(':'));
        let found = lines.find(|(key, _)| key.trim() == name);
        found.map_or("?", |(_, value)| value.trim())
    };
    let (model, family, number) = (field("model name"), field("cpu family"), field("model"));
    let arch = std::env::consts::ARCH;
    format!("{model}, family {family}, model {number}, {arch}")
}
