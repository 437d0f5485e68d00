//! Connections that end in the midst of what they carry.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::Random;

/// Bytes that are passed on at once.
const BLOCK: usize = 16 << 10;

/// When the next connection ends.
struct Next {
    random: Random,
    bytes: u64,
    breaks: u32,
}

/// What relays share.
struct Plan {
    next: Mutex<Next>,
    times: u32,
    /// Mean of the bytes between two breaks.
    every: u64,
    to_workers: AtomicU64,
}

impl Plan {
    /// How many of `bytes` that were read are passed on; none after them if there are fewer.
    fn admit(&self, bytes: usize) -> usize {
        let mut next = self.next.lock();
        if next.breaks == self.times || next.bytes > bytes as u64 {
            next.bytes = next.bytes.saturating_sub(bytes as u64);
            return bytes;
        }
        let passed = next.bytes as usize;
        next.breaks += 1;
        next.bytes = self.every / 2 + next.random.below(self.every);
        passed.min(bytes - 1)
    }
}

/// Relays between workers and servers that end one connection after another, at random, wherever in a
/// frame that may be, and leave the others alone.
#[derive(Clone)]
pub struct Breaking(Arc<Plan>);

impl Breaking {
    /// Ends `times` connections, with `every` bytes between two of them on average: never fewer than half
    /// of that, nor more than one and a half.
    pub fn new(random: Random, times: u32, every: u64) -> Self {
        let next = Next {
            random,
            bytes: every,
            breaks: 0,
        };
        Breaking(Arc::new(Plan {
            next: Mutex::new(next),
            times,
            every,
            to_workers: AtomicU64::new(0),
        }))
    }

    /// A relay to a server; returns where workers are to connect.
    pub fn before(&self, server: String) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let plan = Arc::clone(&self.0);
        std::thread::spawn(move || {
            for worker in listener.incoming().map_while(Result::ok) {
                if let Ok(server) = TcpStream::connect(&server) {
                    relay(&plan, &worker, &server);
                }
            }
        });
        address
    }

    /// Connections ended so far.
    pub fn breaks(&self) -> u32 {
        self.0.next.lock().breaks
    }

    /// Bytes passed on to workers so far.
    pub fn to_workers(&self) -> u64 {
        self.0.to_workers.load(Ordering::SeqCst)
    }
}

fn relay(plan: &Arc<Plan>, worker: &TcpStream, server: &TcpStream) {
    let clone = |stream: &TcpStream| stream.try_clone().expect("a file descriptor");
    for (from, to, down) in [(worker, server, false), (server, worker, true)] {
        let (mut from, mut to, plan) = (clone(from), clone(to), Arc::clone(plan));
        std::thread::spawn(move || {
            let mut block = vec![0; BLOCK];
            while let Ok(count @ 1..) = from.read(&mut block) {
                let passed = plan.admit(count);
                if to.write_all(&block[..passed]).is_err() || passed < count {
                    break;
                }
                if down {
                    plan.to_workers.fetch_add(passed as u64, Ordering::SeqCst);
                }
            }
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
