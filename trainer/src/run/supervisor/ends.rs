//! What follows when a process ends, or does nothing any more.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use anyhow::{Result, anyhow};
use rustix::process::Signal;
use trainyard_contract::{Member, Role, Verdict, judge};
use trainyard_core::control::Release;
use trainyard_runtime::exit;

use super::{Input, Over, Place, Supervisor};
use crate::run::end::{self, Ended};
use crate::run::folder::elsewhere;
use crate::run::observer::Heard;
use crate::run::policy::{self, Reaction};
use crate::run::process::{self, Exited};
use crate::run::stuck;
use crate::ui::Note;

impl Supervisor<'_> {
    /// Decides what follows the end of a process.
    pub(super) fn exited(&mut self, exited: &Exited) -> Result<Option<Over>> {
        let Exited {
            member,
            pid,
            status,
        } = *exited;
        let (lived, log_from, stuck) = match self.places.get_mut(&member) {
            Some(Place::Running {
                process,
                since,
                killed,
                ..
            }) if process.pid == pid => {
                let stuck = killed.take().map(|(_, why)| why);
                (since.elapsed(), process.log_from, stuck)
            }
            _ => return Ok(None),
        };
        // First: whatever follows, nobody waits for it or signals it any more.
        self.places.remove(&member);
        let said = process::said_since(&self.common.log(member), log_from);
        let lacked = self.watch.lacked(status, &said);
        let verdict = judge(end::judged(status, lacked), self.stopping);
        if verdict == Verdict::Left && member == Member::COORDINATOR {
            // The release that explains it may still be on its way to us.
            return self.explained();
        }
        if self.stopping {
            return Ok(None);
        }
        if verdict == Verdict::Disrupted && member == Member::COORDINATOR {
            self.not_taken_over()?;
        }
        let ended = Ended {
            member,
            status,
            lacked,
            stuck,
            said: exit::last_error(&said),
            log: self.common.log(member),
        };
        if lacked && self.restarts.is_hopeless(member, self.furthest) {
            return Err(ended.failed(", as before, and a restart would not help"));
        }
        let expected = policy::heard_the_end(member, verdict, &self.progress.phase);
        let limit = self.backoff_limit;
        match self.restarts.react(member, verdict, lived, limit) {
            Reaction::Restart(wait) => {
                match member.role {
                    // Durable before its effect: the claim in the log is made by server 0 itself.
                    Role::Server => self.generation += 1,
                    Role::Worker | Role::Finisher => {}
                }
                let wait = if expected { policy::WORD } else { wait };
                if !expected {
                    self.ui.note(&Note::Restarting {
                        member: member.in_words(),
                        how: ended.how(),
                        wait,
                    });
                }
                self.places.insert(
                    member,
                    Place::Waiting {
                        until: Instant::now() + wait,
                    },
                );
                // Nobody shall take its number for a process of ours.
                self.write_roster()?;
                Ok(None)
            }
            Reaction::Fail => Err(ended.refused()),
            Reaction::Exhausted => Err(ended.failed(&policy::used_up(limit))),
        }
    }

    /// After server 0 has asked to be tried again: nobody else may have claimed the checkpoints.
    /// Were it started again under a higher generation all the same, two runs would fence each other
    /// for ever.
    pub(super) fn not_taken_over(&self) -> Result<()> {
        // A storage that cannot be read now may be what server 0 is waiting for.
        let Ok(log) = self.checkpoints.log(self.job) else {
            return Ok(());
        };
        if log.complete().is_some() {
            return Ok(()); // its successor will find the result
        }
        let claim = log.current_claim();
        let claimed = claim.map(|claim| claim.generation);
        let Some(claim) = claim.filter(|_| policy::taken_over(claimed, self.generation)) else {
            return Ok(());
        };
        Err(anyhow!(
            "another run has taken over {}: its coordinator {} claimed generation {}, this run's last is {}; \
             let one of the two go on and end the other, or {}",
            self.checkpoints.location,
            claim.holder,
            claim.generation,
            self.generation,
            elsewhere(&self.checkpoints.location)
        ))
    }

    /// After server 0 has left in order: hears how the job ended, or leaves it to the log.
    pub(super) fn explained(&mut self) -> Result<Option<Over>> {
        let deadline = Instant::now() + policy::WORD;
        while let Ok(input) = self
            .inputs
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            match input {
                Input::Heard(Heard::Released(Release::Done)) => return Ok(Some(Over::Done)),
                Input::Heard(Heard::Released(Release::Failed { message })) => {
                    return Err(anyhow!(message));
                }
                Input::Heard(Heard::Released(_)) => return Ok(Some(Over::Stopped)),
                Input::Exited(exited) => drop(self.places.remove(&exited.member)),
                // What it saved last is told to the user.
                Input::Heard(Heard::Progress(at, progress)) => self.progressed(at, *progress),
                Input::Heard(Heard::Epochs(epochs)) => self.finished_epochs(&epochs),
                Input::Heard(Heard::Alive | Heard::Silent) => {}
                Input::Terminate => self.stopping = true,
            }
        }
        let stopping = self.stopping;
        Ok(Some(if stopping { Over::Stopped } else { Over::Done }))
    }

    /// Ends processes that do nothing, and does without those that do not even end.
    pub(super) fn replace_stuck(&mut self) -> Result<Option<Over>> {
        let now = Instant::now();
        for (member, silent) in self.frozen(self.stopping) {
            let seconds = silent.as_secs();
            self.kill_stuck(member, format!("has not run for {seconds} s"));
        }
        if self.silence.lasts(now, stuck::MUTE) && self.heard {
            self.kill_stuck(Member::COORDINATOR, "has not answered for 15 s".into());
        }
        let had_run_for = |member: Member| match self.places.get(&member) {
            Some(Place::Running { since, .. }) => self.heard_at.checked_duration_since(*since),
            _ => None,
        };
        for (member, why) in stuck::meant(&self.progress.stuck, had_run_for) {
            self.kill_stuck(member, why);
        }
        let gone = |(member, place): (&Member, &Place)| match place {
            Place::Running {
                process,
                killed: Some((killed, _)),
                ..
            } if now.duration_since(*killed) >= stuck::GONE => Some(Exited {
                member: *member,
                pid: process.pid,
                status: ExitStatus::from_raw(Signal::KILL.as_raw()),
            }),
            _ => None,
        };
        match self.places.iter().find_map(gone) {
            Some(exited) => self.exited(&exited),
            None => Ok(None),
        }
    }

    pub(super) fn kill_stuck(&mut self, member: Member, why: String) {
        if let Some(Place::Running {
            process, killed, ..
        }) = self.places.get_mut(&member)
            && killed.is_none()
        {
            process.signal(Signal::KILL);
            *killed = Some((Instant::now(), why));
            self.progress.stuck.retain(|stuck| stuck.member != member);
        }
    }
}
