//! Asks a job's coordinator how far it is.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
pub use trainyard_contract::Progress;
use trainyard_contract::pod::{HTTP_PORT, STATUS_PAGE};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// An answer that is on its way.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Progress>> + Send + 'a>>;

/// Whoever can ask a coordinator.
pub trait Coordinator: Send + Sync {
    /// Asks the coordinator in the pod with this address.
    fn progress<'a>(&'a self, ip: &'a str) -> Answer<'a>;
}

/// Asks over HTTP.
pub struct HttpCoordinator {
    client: Client<HttpConnector, Empty<Bytes>>,
}

impl Default for HttpCoordinator {
    fn default() -> Self {
        // Jobs are many, and each is asked seldom: no connection is kept.
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.pool_max_idle_per_host(0).build_http();
        HttpCoordinator { client }
    }
}

impl Coordinator for HttpCoordinator {
    fn progress<'a>(&'a self, ip: &'a str) -> Answer<'a> {
        Box::pin(async move {
            let ip: IpAddr = ip
                .parse()
                .with_context(|| format!("{ip:?} is not an address"))?;
            let answer = self.get_status(SocketAddr::new(ip, HTTP_PORT));
            let answer = tokio::time::timeout(TIMEOUT, answer);
            answer.await.context("no answer in time")?
        })
    }
}

impl HttpCoordinator {
    async fn get_status(&self, address: SocketAddr) -> Result<Progress> {
        let uri = format!("http://{address}{STATUS_PAGE}").parse()?;
        let response = self.client.get(uri).await?;
        let status = response.status();
        ensure!(status.is_success(), "it answered {status}");
        let body = Limited::new(response.into_body(), MAX_ANSWER);
        match body.collect().await {
            Ok(body) => Ok(serde_json::from_slice(&body.to_bytes())?),
            Err(error) => bail!("its answer cannot be read: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    /// Asks a coordinator that answers so.
    async fn ask(path: &str, answer: String) -> Result<Progress> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().route(path, get(|| async { answer }));
        tokio::spawn(async { axum::serve(listener, router).await });
        HttpCoordinator::default().get_status(address).await
    }

    #[tokio::test]
    async fn o37_an_answer_is_read_within_bounds() {
        let progress = ask("/status", r#"{"step": 7, "totalSteps": 9}"#.into()).await;
        let progress = progress.expect("an answer");
        assert_eq!((progress.step, progress.total_steps), (7, 9));
        let refused = |answer: Result<Progress>| format!("{:#}", answer.expect_err("no progress"));
        let large = format!("{{{}}}", " ".repeat(MAX_ANSWER));
        assert!(refused(ask("/status", large).await).contains("cannot be read"));
        assert!(refused(ask("/other", String::new()).await).contains("404"));
    }
}
