//! Connections: accepted, bounded, and ended without a request that fails.
//!
//! A connection of HTTP/1 is ended by an answer with `Connection: close`, never while a request may be on its way; one of HTTP/2
//! by GOAWAY. Only a connection that is idle when the server leaves is closed as it is.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt;

use crate::options::Connections;

/// Wait after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a connection without a request is left open when the server leaves.
const LAST: Duration = Duration::from_secs(1);
/// Bytes of the head of a request.
const HEAD: usize = 64 << 10;

/// What the server is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It serves on, and has clients go elsewhere.
    Draining,
    /// It finishes what it has begun.
    Leaving,
}

/// Accepts connections until the server leaves, and returns when the last of them has ended.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Connections,
    mut phase: watch::Receiver<Phase>,
) {
    let room = Arc::new(Semaphore::new(bounds.most));
    let mut open = JoinSet::new();
    let mut number = 0u64;
    loop {
        // One that has no room waits in the queue of the system.
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            _ = phase.wait_for(|phase| *phase == Phase::Leaving) => break,
        };
        while open.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                number += 1;
                let connection = connection(stream, router.clone(), bounds, number, phase.clone());
                open.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, or a peer that left before it was accepted.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// What is known of a connection.
#[derive(Default)]
struct Life {
    requests: AtomicU32,
    /// Requests that are being answered.
    busy: AtomicU32,
    /// When the last answer was given, in milliseconds since it began.
    last: AtomicU64,
    /// Whether the next answer is to be the last.
    is_closing: AtomicBool,
    is_http2: AtomicBool,
}

/// A share of a bound, so that connections which began together do not end together: nine to eleven tenths of it.
fn jitter(number: u64) -> f64 {
    // The golden ratio spreads consecutive numbers evenly.
    let fraction = (number as f64 * 0.618_033_988_749_894_9).fract();
    0.9 + 0.2 * fraction
}

async fn connection(
    stream: TcpStream,
    router: Router,
    bounds: Connections,
    number: u64,
    mut phase: watch::Receiver<Phase>,
) {
    let _ = stream.set_nodelay(true); // without it answers are late, and right
    let mut stream = TimeoutStream::new(stream);
    // Who never reads an answer does not keep it in memory for ever.
    stream.set_write_timeout(Some(bounds.patience));
    let (life, begin) = (Arc::new(Life::default()), Instant::now());
    let most = (f64::from(bounds.requests) * jitter(number)) as u32;
    let service = service_fn({
        let (life, phase) = (Arc::clone(&life), phase.clone());
        move |request| {
            let (life, phase) = (Arc::clone(&life), phase.clone());
            let router = router.clone();
            async move {
                let is_http2 = request_began(&life, &request);
                let response = answer(router, request).await;
                let count = life.requests.fetch_add(1, Ordering::Relaxed) + 1;
                if count >= most || *phase.borrow() > Phase::Serving {
                    life.is_closing.store(true, Ordering::Relaxed);
                }
                let mut response = response;
                if !is_http2 && life.is_closing.load(Ordering::Relaxed) {
                    let close = HeaderValue::from_static("close");
                    response.headers_mut().insert(CONNECTION, close);
                }
                let elapsed = begin.elapsed().as_millis() as u64;
                life.last.store(elapsed, Ordering::Relaxed);
                life.busy.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, Infallible>(response)
            }
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.idle)
        .max_buf_size(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD as u32)
        .max_concurrent_streams(256);
    let mut served = pin!(builder.serve_connection(TokioIo::new(Box::pin(stream)), service));
    let age = begin + bounds.age.mul_f64(jitter(number));
    let (mut is_told, mut left) = (false, None);
    loop {
        let wake = match left {
            None => next_look(&life, begin, age, bounds.idle),
            Some(left) => Instant::now().max(left) + LAST / 4,
        };
        tokio::select! {
            // What went wrong concerns the client, who knows.
            _ = served.as_mut() => return,
            () = tokio::time::sleep_until(wake) => {}
            changed = phase.changed() => if changed.is_err() { return },
        }
        let now = Instant::now();
        let is_idle = life.busy.load(Ordering::Relaxed) == 0;
        let last = begin + Duration::from_millis(life.last.load(Ordering::Relaxed));
        let phase = *phase.borrow();
        if now >= age || phase > Phase::Serving {
            life.is_closing.store(true, Ordering::Relaxed);
        }
        let is_closing = life.is_closing.load(Ordering::Relaxed);
        let may_tell = life.is_http2.load(Ordering::Relaxed);
        let is_leaving = phase == Phase::Leaving;
        let is_over = is_leaving || is_idle && now >= last + bounds.idle;
        // Who has sent nothing, or a part of a first request, is not waited for. An answer that is read slowly is.
        let is_unused = is_idle && life.requests.load(Ordering::Relaxed) == 0;
        if is_leaving && now >= *left.get_or_insert(now) + LAST && is_unused {
            return;
        }
        if !is_told && (is_closing && may_tell || is_over) {
            is_told = true;
            served.as_mut().graceful_shutdown();
        }
    }
}

/// When there is something to be decided of a connection.
fn next_look(life: &Life, begin: Instant, age: Instant, idle: Duration) -> Instant {
    let now = Instant::now();
    let last = begin + Duration::from_millis(life.last.load(Ordering::Relaxed));
    let soon = now + Duration::from_millis(500);
    let next = (last + idle).min(if now < age { age } else { now + idle });
    next.max(soon)
}

/// Notes that a request has come; returns whether it is of HTTP/2.
fn request_began(life: &Life, request: &Request<Incoming>) -> bool {
    life.busy.fetch_add(1, Ordering::Relaxed);
    let is_http2 = request.version() == Version::HTTP_2;
    life.is_http2.store(is_http2, Ordering::Relaxed);
    is_http2
}

async fn answer(router: Router, request: Request<Incoming>) -> Response<Body> {
    match router.oneshot(request.map(Body::new)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
