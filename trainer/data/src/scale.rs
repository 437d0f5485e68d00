//! Mean and standard deviation, fitted in two passes in f64.
//!
//! The textbook two-pass formula in row order: exact enough for f32 results, and the same on
//! every machine, since f64 addition, multiplication, division and square root are.

/// Fitted scale of one column or channel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// Mean of the values.
    pub mean: f64,
    /// Population standard deviation; 1 where all values are equal.
    pub std: f64,
}

impl Scale {
    /// Leaves values as they are.
    pub(crate) const IDENTITY: Self = Self {
        mean: 0.0,
        std: 1.0,
    };

    /// Fits the values (any number of passes over them); `None` if there is none.
    pub(crate) fn fit(values: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let mut first = FirstPass::default();
        values.clone().for_each(|v| first.add(v));
        let mut second = first.finish()?;
        values.for_each(|v| second.add(v));
        Some(second.finish())
    }

    /// The one place where an input becomes an f32: computed in f64, rounded once.
    pub(crate) fn apply(self, value: f64) -> f32 {
        ((value - self.mean) / self.std) as f32
    }
}

/// Sums values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstPass {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Default for FirstPass {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }
}

impl FirstPass {
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    pub(crate) fn finish(self) -> Option<SecondPass> {
        if self.count == 0 {
            return None;
        }
        // The rounded mean of equal values need not be that value, and the deviation would then
        // be noise that blows the column up. Equal values are told by their range instead.
        let constant = self.min == self.max;
        let mean = if constant {
            self.min
        } else {
            self.sum / self.count as f64
        };
        Some(SecondPass {
            count: self.count,
            mean,
            squares: 0.0,
            constant,
        })
    }
}

/// Sums squared distances from the mean.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SecondPass {
    count: u64,
    mean: f64,
    squares: f64,
    constant: bool,
}

impl SecondPass {
    pub(crate) fn add(&mut self, value: f64) {
        let distance = value - self.mean;
        self.squares += distance * distance;
    }

    pub(crate) fn finish(self) -> Scale {
        let std = (self.squares / self.count as f64).sqrt();
        let usable = !self.constant && std.is_normal();
        Scale {
            mean: self.mean,
            std: if usable { std } else { 1.0 },
        }
    }
}
