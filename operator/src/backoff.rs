//! How long to wait before trying again.

use std::time::Duration;

/// The longer of `wait` and what the API server asked for in its `Retry-After`.
pub fn retry_after(error: &kube::Error, wait: Duration) -> Duration {
    let kube::Error::Api(status) = error else {
        return wait;
    };
    let details = status.details.as_ref();
    let asked = details.map_or(0, |details| details.retry_after_seconds);
    wait.max(Duration::from_secs(asked.into()))
}
