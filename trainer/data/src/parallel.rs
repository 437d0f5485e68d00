//! Work for several threads, with the same result for any number of them.

use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Makes something of each item. The results are in the order of the items.
pub(crate) fn map<T: Send, R: Send>(
    threads: usize,
    items: Vec<T>,
    make: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let threads = threads.min(items.len());
    if threads <= 1 {
        return items.into_iter().map(make).collect();
    }
    let queue = Mutex::new(items.into_iter().enumerate());
    let take = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.next()
    };
    let work = || {
        let mut made = Vec::new();
        while let Some((place, item)) = take() {
            made.push((place, make(item)));
        }
        made
    };
    let mut made: Vec<(usize, R)> = thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = started.into_iter().map(|thread| thread.join());
        ended
            .flat_map(|made| made.unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
    });
    made.sort_by_key(|(place, _)| *place);
    made.into_iter().map(|(_, made)| made).collect()
}

/// Makes something of each item that `next` gives, and hands it to `merge` in the order of the items. At most four items
/// or results for each of the threads are held at once.
///
/// # Errors
/// The first of the three functions, in the order of the items.
pub(crate) fn pipeline<T: Send, R: Send, E: Send>(
    threads: usize,
    mut next: impl FnMut() -> Result<Option<T>, E> + Send,
    make: impl Fn(T) -> Result<R, E> + Sync,
    mut merge: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    if threads <= 1 {
        while let Some(item) = next()? {
            merge(make(item)?)?;
        }
        return Ok(());
    }
    thread::scope(|scope| {
        // The threads take turns: each has every so many-th item.
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        for _ in 0..threads {
            let (input, items) = sync_channel::<Result<T, E>>(1);
            let (output, results) = sync_channel(1);
            let make = &make;
            scope.spawn(move || {
                for item in items {
                    if output.send(item.and_then(make)).is_err() {
                        break; // something before it has failed
                    }
                }
            });
            inputs.push(input);
            outputs.push(results);
        }
        scope.spawn(move || {
            for input in inputs.iter().cycle() {
                let Some(item) = next().transpose() else {
                    break;
                };
                let is_last = item.is_err();
                if input.send(item).is_err() || is_last {
                    break;
                }
            }
        });
        for results in outputs.iter().cycle() {
            match results.recv() {
                Ok(made) => merge(made?)?,
                Err(_) => break, // there is no item for it, and so for none
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items_for_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let squares = map(threads, (0..100).collect(), |n: u64| {
                if n.is_multiple_of(7) {
                    thread::yield_now();
                }
                n * n
            });
            assert!(squares.iter().zip(0..).all(|(square, n)| *square == n * n));
            let (mut given, mut all) = (0..100u64, Vec::new());
            let ended: Result<(), String> = pipeline(
                threads,
                || Ok(given.next()),
                |n| Ok(n + 1),
                |n| {
                    all.push(n);
                    Ok(())
                },
            );
            assert_eq!((ended, all), (Ok(()), (1..=100).collect()));
        }
    }

    #[test]
    fn the_first_error_is_told_and_what_comes_before_it_is_used() {
        for threads in [1, 2, 3, 8] {
            let (mut given, mut all) = (0..100u64, Vec::new());
            let ended = pipeline(
                threads,
                || match given.next() {
                    Some(60) => Err("read 60".to_owned()),
                    n => Ok(n),
                },
                |n| match n {
                    50.. => Err(format!("make {n}")),
                    n => Ok(n),
                },
                |n| {
                    all.push(n);
                    Ok(())
                },
            );
            assert_eq!(ended, Err("make 50".to_owned()), "{threads}");
            assert_eq!(all, (0..50).collect::<Vec<u64>>());
            let ended = pipeline(threads, || Ok(Some(0)), Ok, |_: u8| Err("merge".to_owned()));
            assert_eq!(ended, Err("merge".to_owned()));
        }
    }
}
