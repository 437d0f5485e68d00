//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff: `base`, doubled so many times, at most `cap`.
pub fn exponential(base: Duration, doublings: u32, cap: Duration) -> Duration {
    base.saturating_mul(2u32.saturating_pow(doublings)).min(cap)
}

/// The longer of `wait` and what the API server asked for in its `Retry-After`.
pub fn retry_after(error: &kube::Error, wait: Duration) -> Duration {
    let kube::Error::Api(status) = error else {
        return wait;
    };
    let details = status.details.as_ref();
    let asked = details.map_or(0, |details| details.retry_after_seconds);
    wait.max(Duration::from_secs(asked.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o09_waits_double_up_to_the_cap() {
        let second = Duration::from_secs(1);
        let waits = [0, 1, 2, 3, 31, 32, u32::MAX].map(|n| exponential(second, n, second * 5));
        assert_eq!(waits.map(|wait| wait.as_secs()), [1, 2, 4, 5, 5, 5, 5]);
        assert_eq!(exponential(Duration::ZERO, 9, second), Duration::ZERO);
    }
}
