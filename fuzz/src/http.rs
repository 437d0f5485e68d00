//! A request for a page.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use trainyard_runtime::http::{Metrics, connection, pages};

/// Bytes that a pipe between the two sides holds.
const PIPE: usize = 1 << 16;

/// Turns that the other side takes before this one ends what it says.
const TURNS: usize = 8;

/// Asks as the input does, and reads the answer to its end.
pub fn run(input: &[u8]) -> bool {
    thread_local!(static RUNTIME: Runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime"));
    let answer = RUNTIME.with(|runtime| runtime.block_on(ask(input)));
    // A request that is cut, or too long, may go unanswered; what is said is an answer.
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1."),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    assert!(answer.len() < 4096, "an answer of {} bytes", answer.len());
    answer.starts_with(b"HTTP/1.1 200") || answer.starts_with(b"HTTP/1.0 200")
}

async fn ask(input: &[u8]) -> Vec<u8> {
    let (mut ours, theirs) = tokio::io::duplex(PIPE);
    let served = connection(theirs, pages(|| true, Metrics::default));
    let asked = async {
        let mut answer = Vec::new();
        // It may close the connection before it has read all.
        let _ = ours.write_all(input).await;
        // It is answered before the end is seen, or there is nothing that it could answer.
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
        let _ = ours.shutdown().await;
        let _ = ours.read_to_end(&mut answer).await;
        answer
    };
    tokio::join!(served, asked).1
}
