//! What the system lets this process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit::BadInput;

/// Descriptors of a server that its connections leave to other things: files of checkpoints, pages, the log.
pub const SPARED: usize = 128;

/// Connections of a server that may be waiting to introduce themselves.
pub const STRANGERS: usize = 256;

/// Bulk connections of a server that may be in use.
pub const BULK: usize = 16_384;

/// Who connects to a job's servers.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Callers {
    /// Workers.
    pub workers: u32,
    /// Servers, which connect to server 0.
    pub servers: u32,
    /// Bulk connections of a worker to each server, in each direction.
    pub connections: u32,
}

impl Callers {
    /// Descriptors that server 0 needs; the others need fewer. Each connection takes one: those of a worker are one for
    /// control and the bulk connections in both directions.
    pub fn descriptors(&self) -> usize {
        let [workers, servers, connections] =
            [self.workers, self.servers, self.connections].map(|n| n as usize);
        let observer = 1;
        let control = workers.saturating_add(servers + observer);
        let bulk = workers.saturating_mul(2 * connections);
        control
            .saturating_add(bulk)
            .saturating_add(SPARED + STRANGERS)
    }

    /// Checks that a server can hold the connections of all that the job declares, before those that find no place keep
    /// it waiting for ever. Raises the limit as far as it may be.
    ///
    /// # Errors
    /// With what is needed, what there is, and what to do.
    pub fn check(&self) -> Result<(), BadInput> {
        self.check_within(descriptors())
    }

    fn check_within(&self, limit: usize) -> Result<(), BadInput> {
        let Callers {
            workers,
            connections,
            ..
        } = *self;
        let whose = format!("{workers} workers with {connections} connections each way");
        let bulk = workers as usize * 2 * connections as usize;
        if bulk > BULK {
            return Err(BadInput(format!(
                "{whose} take {bulk} connections to each server, which takes {BULK} at most: use fewer workers or fewer \
                 connections"
            )));
        }
        let needed = self.descriptors();
        if needed > limit {
            return Err(BadInput(format!(
                "server 0 needs {needed} file descriptors for {whose}, and the hard limit is {limit}: raise it (ulimit -Hn, \
                 LimitNOFILE of a service, the container runtime's default), or use fewer workers or fewer connections"
            )));
        }
        Ok(())
    }
}

/// Raises the number of file descriptors that this process may have as far as it may; returns it.
///
/// The soft limit is often 1024, for the sake of programs that use `select`, which this one does not.
pub fn descriptors() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(_) => current,
    };
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: Callers = Callers {
        workers: 1024,
        servers: 8,
        connections: 2,
    };

    #[test]
    fn t15_a_job_whose_workers_find_no_place_is_refused_with_what_to_do() {
        // Five a worker; servers, the observer, and what is spared.
        let needed = 5 * 1024 + 8 + 1 + 128 + 256;
        assert_eq!(LARGEST.descriptors(), needed);
        LARGEST.check_within(needed).expect("they have a place");
        let error = LARGEST.check_within(needed - 1).expect_err("one has none");
        for part in [
            "1024 workers",
            &needed.to_string(),
            &(needed - 1).to_string(),
            "ulimit -Hn",
        ] {
            assert!(error.0.contains(part), "{part}: {}", error.0);
        }
    }

    #[test]
    fn t15_more_bulk_connections_than_a_server_takes_are_refused_whatever_the_limit() {
        let with = |connections| Callers {
            connections,
            ..LARGEST
        };
        with(8)
            .check_within(usize::MAX)
            .expect("as many as it takes");
        let error = with(9).check_within(usize::MAX).expect_err("too many");
        assert!(error.0.contains("18432 connections"), "{}", error.0);
        let most = Callers {
            workers: u32::MAX,
            servers: u32::MAX,
            connections: 64,
        };
        most.check_within(usize::MAX - 1).expect_err("too many");
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let limit = descriptors();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
        assert_eq!(maximum.map_or(usize::MAX, |limit| limit as usize), limit);
    }
}
