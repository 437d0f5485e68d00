//! Pairs of measurements taken in turns, and what to say about them.

use std::time::Duration;

/// What must hold of a ratio.
#[derive(Copy, Clone, Debug)]
pub enum Target {
    /// The ratio is at most this.
    AtMost(f64),
    /// The ratio is at least this.
    AtLeast(f64),
    /// Reported only.
    None,
}

/// How long something takes, in a unit of the caller's: on average over a while, and at best within
/// it, which other work on the machine disturbs less.
#[derive(Copy, Clone, Debug)]
pub struct Pace {
    pub mean: f64,
    pub best: f64,
}

impl Pace {
    /// Times per second, of milliseconds.
    pub fn rate(self) -> Pace {
        Pace {
            mean: 1e3 / self.mean,
            best: 1e3 / self.best,
        }
    }
}

impl From<f64> for Pace {
    fn from(once: f64) -> Self {
        Pace {
            mean: once,
            best: once,
        }
    }
}

/// Median, least and greatest.
#[derive(Copy, Clone, Debug)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => (values[middle - 1] + values[middle]) / 2.0,
            _ => values[middle],
        };
        Spread {
            median,
            min: values[0],
            max: values[values.len() - 1],
        }
    }
}

/// Prints a line: medians of ours and of the reference, and of their ratio pair by pair. On a machine
/// that does other work too, the ratio of the best of each says more.
pub fn report<P: Into<Pace> + Copy>(
    what: &str,
    ours: &[P],
    reference: &[P],
    unit: &str,
    target: Target,
) {
    let mean = |paces: &[P]| {
        paces
            .iter()
            .map(|&pace| pace.into().mean)
            .collect::<Vec<_>>()
    };
    let best = |paces: &[P]| Spread::of(paces.iter().map(|&pace| pace.into().best).collect());
    let pairs = mean(ours).into_iter().zip(mean(reference));
    let ratio = Spread::of(pairs.map(|(a, b)| a / b).collect());
    let best = match target {
        Target::AtLeast(_) => best(ours).max / best(reference).max,
        _ => best(ours).min / best(reference).min,
    };
    let verdict = match target {
        Target::AtMost(limit) => format!("; target <= {limit:.2}: {}", met(ratio.median <= limit)),
        Target::AtLeast(limit) => format!("; target >= {limit:.2}: {}", met(ratio.median >= limit)),
        Target::None => String::new(),
    };
    println!(
        "  {what:<42} {:>8.2} {unit} / {:>8.2} {unit}, ratio {:.2} ({:.2} .. {:.2}), of the best {best:.2}{verdict}",
        Spread::of(mean(ours)).median,
        Spread::of(mean(reference)).median,
        ratio.median,
        ratio.min,
        ratio.max,
    );
}

fn met(yes: bool) -> &'static str {
    if yes { "met" } else { "MISSED" }
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    1e3 * duration.as_secs_f64()
}
