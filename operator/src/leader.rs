//! Leader election by a Lease: one replica works, the others stand by. Two that both believe they lead do no harm, because
//! every write of a status names the version it replaces; the Lease only spares the work of doing everything twice.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use futures::FutureExt;
use kube::Client;
use kube_lease_manager::LeaseManagerBuilder;

use crate::metrics::Metrics;

/// Seconds after its last renewal at which a Lease may be taken over.
const DURATION: u64 = 15;
/// Seconds before that at which the holder renews it.
const GRACE: u64 = 5;

/// Where the Lease is and who we are.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What tells this process from its rivals.
    pub identity: String,
}

/// Waits for the Lease, then works until `stop` is ready or the Lease is lost. Lost, the work is dropped where it stands,
/// and the Lease is waited for again.
///
/// # Errors
/// If the work fails, or the Lease cannot be read or written.
pub async fn lead<W>(
    client: Client,
    lease: Lease,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = ()> + Clone,
    work: impl Fn() -> W,
) -> Result<()>
where
    W: Future<Output = Result<()>>,
{
    let manager = LeaseManagerBuilder::new(client, &lease.name)
        .with_namespace(&lease.namespace)
        .with_identity(&lease.identity)
        .with_duration(DURATION)
        .with_grace(GRACE)
        .build()
        .await
        .with_context(|| {
            format!(
                "the Lease {}/{} cannot be used",
                lease.namespace, lease.name
            )
        })?;
    let (mut leading, task) = manager.watch().await;
    let mut stop = pin!(stop.fuse());
    let result = loop {
        let elected = async { leading.wait_for(|leading| *leading).await.is_ok() };
        let elected = tokio::select! {
            elected = elected => elected,
            () = &mut stop => break Ok(()),
        };
        if !elected {
            break Err(anyhow::anyhow!(
                "the Lease cannot be kept: the API server does not answer or refuses"
            ));
        }
        tracing::info!(identity = lease.identity, "leading");
        metrics.set_leading(true);
        let result = {
            let lost = async {
                let _ = leading.wait_for(|leading| !*leading).await;
            };
            tokio::select! {
                result = work() => Some(result),
                () = lost => None,
            }
        };
        metrics.set_leading(false);
        match result {
            Some(result) => break result,
            None => tracing::warn!("the Lease is lost; standing by"),
        }
    };
    // Closing the channel ends the manager's task; giving the Lease back lets the next one begin at once.
    drop(leading);
    if let Ok(Ok(manager)) = task.await {
        let _ = manager.release().await;
    }
    result
}
