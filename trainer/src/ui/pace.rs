//! How fast the job goes, and how often to say so.

use std::time::Duration;

/// Time over which the past fades from a [`Pace`], in seconds.
const FADE: f64 = 5.0;
/// Observed seconds before a pace is told.
const WARM_UP: f64 = 0.25;

/// Smoothed samples and steps a second: sums of both and of the time they took, fading
/// exponentially. Their ratio needs no correction at the start, however irregular the observations.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    last: Option<(Duration, u64, u64)>,
    seconds: f64,
    steps: f64,
    samples: f64,
}

impl Pace {
    /// Takes the counts at a time. Counts that went back (to a checkpoint) begin anew without
    /// changing the pace.
    pub fn observe(&mut self, now: Duration, step: u64, samples: u64) {
        if let Some((then, last_step, last_samples)) = self.last {
            let back = step < last_step || samples < last_samples;
            if now <= then && !back {
                return; // no time has passed: the next observation brings this one's counts
            }
            if now > then && !back {
                let seconds = (now - then).as_secs_f64();
                let keep = (-seconds / FADE).exp();
                self.seconds = self.seconds * keep + seconds;
                self.steps = self.steps * keep + (step - last_step) as f64;
                self.samples = self.samples * keep + (samples - last_samples) as f64;
            }
        }
        self.last = Some((now, step, samples));
    }

    /// Samples a second, once enough was seen.
    pub fn samples_per_second(&self) -> Option<f64> {
        (self.seconds >= WARM_UP).then(|| self.samples / self.seconds)
    }

    /// The time that `steps` will take, once enough was seen and while anything moves.
    pub fn eta(&self, steps: u64) -> Option<Duration> {
        let warm = self.seconds >= WARM_UP && self.steps > 0.0;
        warm.then(|| Duration::try_from_secs_f64(steps as f64 * self.seconds / self.steps).ok())?
    }
}

/// Lets something pass at most once an interval.
#[derive(Clone, Debug)]
pub struct Throttle {
    interval: Duration,
    last: Option<Duration>,
}

impl Throttle {
    /// At most once every `interval`.
    pub fn new(interval: Duration) -> Self {
        Throttle {
            interval,
            last: None,
        }
    }

    /// Whether it may pass now; if so, it has.
    pub fn pass(&mut self, now: Duration) -> bool {
        let due = self
            .last
            .is_none_or(|last| now.saturating_sub(last) >= self.interval);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn near(value: Option<f64>, expected: f64) -> bool {
        value.is_some_and(|value| (value / expected - 1.0).abs() < 1e-9)
    }

    #[test]
    fn an_even_pace_is_told_exactly_from_the_start() {
        let mut pace = Pace::default();
        // A resumed job does not count what was done before.
        pace.observe(at(0), 1000, 32_000);
        assert_eq!(pace.samples_per_second(), None);
        for (millis, step) in [(100, 1002), (700, 1014), (750, 1015), (9750, 1195)] {
            pace.observe(at(millis), step, step * 32);
            if millis >= 250 {
                assert!(
                    near(pace.samples_per_second(), 640.0),
                    "{:?}",
                    pace.samples_per_second()
                );
            }
        }
        assert_eq!(pace.eta(100).map(|eta| eta.as_millis()), Some(5000));
        assert_eq!(pace.eta(0), Some(Duration::ZERO));
    }

    #[test]
    fn the_past_fades() {
        let mut pace = Pace::default();
        pace.observe(at(0), 0, 0);
        pace.observe(at(5000), 500, 5000);
        // Five seconds at half that speed: the older half weighs 1/e.
        pace.observe(at(10_000), 750, 7500);
        let weight = (-1.0_f64).exp();
        assert!(near(
            pace.samples_per_second(),
            (1000.0 * weight + 500.0) / (weight + 1.0)
        ));
        pace.observe(at(100_000), 750, 7500);
        assert!(pace.samples_per_second().is_some_and(|rate| rate < 1e-3));
    }

    #[test]
    fn going_back_to_a_checkpoint_does_not_disturb_the_pace() {
        let mut pace = Pace::default();
        pace.observe(at(0), 0, 0);
        pace.observe(at(1000), 100, 1000);
        pace.observe(at(9000), 50, 500);
        pace.observe(at(10_000), 150, 1500);
        assert!(near(pace.samples_per_second(), 1000.0));
    }

    #[test]
    fn observations_at_one_instant_and_stillness_are_harmless() {
        let mut pace = Pace::default();
        pace.observe(at(0), 0, 0);
        pace.observe(at(0), 5, 50);
        pace.observe(at(1000), 10, 100);
        assert!(near(pace.samples_per_second(), 100.0));
        let mut still = Pace::default();
        still.observe(at(0), 7, 70);
        still.observe(at(5000), 7, 70);
        assert_eq!(still.samples_per_second(), Some(0.0));
        assert_eq!(still.eta(1), None);
        let mut crawling = Pace::default();
        crawling.observe(at(0), 0, 0);
        crawling.observe(Duration::from_secs(u64::MAX / 2), 1, 1);
        assert_eq!(crawling.eta(u64::MAX), None); // longer than a Duration
    }

    #[test]
    fn a_throttle_passes_once_an_interval() {
        let mut throttle = Throttle::new(at(1000));
        let passed: Vec<u64> = (0..40)
            .map(|tick| tick * 100)
            .filter(|&now| throttle.pass(at(now)))
            .collect();
        assert_eq!(passed, [0, 1000, 2000, 3000]);
        assert!(!throttle.pass(at(0))); // a clock that went back neither passes nor panics
    }
}
