//! Asks a job's coordinator how far it is.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
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
pub struct HttpCoordinator;

impl Coordinator for HttpCoordinator {
    fn progress<'a>(&'a self, ip: &'a str) -> Answer<'a> {
        Box::pin(async move {
            let answer = tokio::time::timeout(TIMEOUT, get_status(ip));
            answer.await.context("no answer in time")?
        })
    }
}

async fn get_status(ip: &str) -> Result<Progress> {
    let ip: std::net::IpAddr = ip
        .parse()
        .with_context(|| format!("{ip:?} is not an address"))?;
    let stream = tokio::net::TcpStream::connect((ip, HTTP_PORT)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = http::Request::get(STATUS_PAGE)
        .header(http::header::HOST, "coordinator")
        .body(Empty::<Bytes>::new())?;
    let ask = async {
        let response = sender.send_request(request).await?;
        ensure!(
            response.status().is_success(),
            "it answered {}",
            response.status()
        );
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        match body {
            Ok(body) => Ok(serde_json::from_slice(&body.to_bytes())?),
            Err(error) => bail!("its answer cannot be read: {error}"),
        }
    };
    // The connection works only while it is polled; it ends with the answer.
    tokio::pin!(ask);
    tokio::select! {
        answer = &mut ask => answer,
        ended = connection => { ended?; ask.await }
    }
}
