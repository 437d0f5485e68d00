//! References for the exchange: bare TCP connections that carry the same bytes.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

/// Connected ends on loopback: the one writes, the other reads.
fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let sender = TcpStream::connect(listener.local_addr()?)?;
    let (receiver, _) = listener.accept()?;
    sender.set_nodelay(true)?;
    Ok((sender, receiver))
}

/// Connections that each carry a part of the bytes one way, from memory to memory, all at once.
pub struct Bare(Arc<Rounds>);

struct Rounds {
    begin: Barrier,
    end: Barrier,
    over: AtomicBool,
    failed: Mutex<io::Result<()>>,
}

impl Bare {
    /// `pairs` connections in each direction, that together carry `bytes` each way.
    pub fn new(bytes: usize, pairs: usize) -> io::Result<Self> {
        let parties = 4 * pairs + 1;
        let rounds = Arc::new(Rounds {
            begin: Barrier::new(parties),
            end: Barrier::new(parties),
            over: AtomicBool::new(false),
            failed: Mutex::new(Ok(())),
        });
        for _ in 0..2 * pairs {
            let (mut sender, mut receiver) = connection()?;
            rounds.join(bytes / pairs, move |memory| sender.write_all(memory));
            rounds.join(bytes / pairs, move |memory| receiver.read_exact(memory));
        }
        Ok(Bare(rounds))
    }

    /// Exchanges everything once.
    pub fn round(&self) -> io::Result<Duration> {
        self.0.begin.wait();
        let begin = Instant::now();
        self.0.end.wait();
        let elapsed = begin.elapsed();
        let mut failed = self
            .0
            .failed
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::replace(&mut *failed, Ok(()))?;
        Ok(elapsed)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
        self.0.begin.wait();
    }
}

impl Rounds {
    /// A thread that does `work` with memory of its own in each round.
    fn join(
        self: &Arc<Self>,
        bytes: usize,
        mut work: impl FnMut(&mut [u8]) -> io::Result<()> + Send + 'static,
    ) {
        let rounds = Arc::clone(self);
        std::thread::spawn(move || {
            let mut memory = vec![1; bytes];
            loop {
                rounds.begin.wait();
                if rounds.over.load(Ordering::SeqCst) {
                    return;
                }
                if let Err(error) = work(&mut memory) {
                    *rounds
                        .failed
                        .lock()
                        .unwrap_or_else(|poisoned| poisoned.into_inner()) = Err(error);
                }
                rounds.end.wait();
            }
        });
    }
}

/// Two connections to a thread that sends back what it has received whole.
pub struct Echo {
    there: TcpStream,
    back: TcpStream,
    memory: Vec<u8>,
}

impl Echo {
    /// Of messages of `bytes`.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let (there, mut receiver) = connection()?;
        let (mut sender, back) = connection()?;
        std::thread::spawn(move || {
            let mut memory = vec![1; bytes];
            while receiver
                .read_exact(&mut memory)
                .and_then(|()| sender.write_all(&memory))
                .is_ok()
            {}
        });
        Ok(Echo {
            there,
            back,
            memory: vec![1; bytes],
        })
    }

    /// There and back once.
    pub fn round(&mut self) -> io::Result<Duration> {
        let begin = Instant::now();
        self.there.write_all(&self.memory)?;
        self.back.read_exact(&mut self.memory)?;
        Ok(begin.elapsed())
    }
}
