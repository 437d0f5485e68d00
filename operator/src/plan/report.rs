//! What the status says about a job: phase, counts, conditions, progress.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use trainyard_contract::{Stuck, add_warning};
use trainyard_crds::TrainingJobStatus;
use trainyard_crds::training_job::{CheckpointStatus, Phase, Progress, RoleStatus, WorkersStatus};

use super::{Planner, Step, after, finish, members};
use crate::conditions::{self, ConditionState, types};
use crate::observe::{Member, PodSeen, ProgressSeen, Role, Trouble};
use crate::resources::labels;

/// Progress alone is written at most this often.
const PROGRESS: Duration = Duration::from_secs(10);
/// Pods of a member that ended in a row from which on the status says so.
const LOOP: u32 = 3;
/// How long a member's pod must run to end such a row for the status.
const STEADY: Duration = Duration::from_secs(60);
/// How long a pod may take to start until the status says so.
const SLOW_START: Duration = Duration::from_secs(120);
/// How long a coordinator may be silent before the status says so.
pub const SILENCE: SignedDuration = SignedDuration::from_secs(30);
/// Why a job is degraded whose coordinator does not answer.
const UNREACHABLE: &str = "CoordinatorUnreachable";

impl Planner<'_> {
    /// Brings the status up to date with what was seen and decided.
    pub(super) fn report(&mut self) {
        let old = &self.known.status;
        self.count();
        let live = !self.status.phase.is_some_and(Phase::is_terminal);
        let suspended = self.status.phase == Some(Phase::Suspended);
        match self.is_exporting() {
            _ if !live || suspended => {}
            true => self.status.phase = Some(Phase::Exporting),
            false => {
                self.record_started();
                self.live_phase(old);
            }
        }
        self.members.store(&mut self.status);
        self.set_conditions(live);
        if live
            && !self.is_exporting()
            && let Some(seen) = &self.observed.progress
        {
            self.warn(&seen.warnings);
            self.merge_progress(seen.clone(), old);
        }
    }

    fn pods(&self, role: Role) -> impl Iterator<Item = &PodSeen> {
        let observed = self.observed;
        observed
            .pods
            .iter()
            .filter(move |pod| pod.member.role == role && pod.is_active())
    }

    fn count(&mut self) {
        let created = |role| {
            let of_role = |step: &&Step| matches!(step, Step::CreatePod { member, .. } if member.role == role);
            match self.observed.refusal {
                Some(_) => 0, // they will not be there before the next reconcile
                None => self.steps.iter().filter(of_role).count(),
            }
        };
        let leave = self.is_exporting() && self.status.completion_time.is_none();
        let count = |role, new: usize| {
            if leave {
                return (0, 0); // none is wanted any more, and how they go is not worth a write
            }
            let replicas = self.pods(role).count() + new;
            let ready = self.pods(role).filter(|pod| pod.is_ready()).count();
            (
                u32::try_from(replicas).unwrap_or(u32::MAX),
                u32::try_from(ready).unwrap_or(u32::MAX),
            )
        };
        let (replicas, ready) = count(Role::Server, created(Role::Server));
        let servers = RoleStatus {
            replicas,
            ready,
            started_indexes: None, // the members' to say
        };
        let (replicas, ready) = count(Role::Worker, created(Role::Worker));
        self.status.servers = servers;
        self.status.workers = WorkersStatus {
            replicas,
            ready,
            selector: Some(labels::selector(&self.job.name, Role::Worker)),
            started_indexes: None,
        };
    }

    /// Writes down who has started, so that one that is gone is missed by whoever looks next. With the number of those that are
    /// ready, which changes at the same time: that costs no write.
    fn record_started(&mut self) {
        for pod in &self.observed.pods {
            let is_current = self.members.attempt(pod.member) == pod.attempt;
            let wanted = members::is_wanted(self.job, &self.status, pod.member);
            let counts = wanted && pod.is_active();
            if is_current && counts && pod.is_ready() {
                self.members.record_started(pod.member);
            }
        }
    }

    fn live_phase(&mut self, old: &TrainingJobStatus) {
        let runs = |member: Member| {
            self.current_pod(member)
                .is_some_and(|pod| pod.is_running() && pod.is_active())
        };
        let servers = (0..self.job.servers()).map(Member::server).all(runs);
        let workers = (0..self.job.workers()).map(Member::worker).any(runs);
        if servers {
            self.status.started_generation = self.status.generation;
        }
        let was_running = matches!(old.phase, Some(Phase::Running | Phase::Restarting));
        self.status.phase = Some(match (servers && workers, was_running) {
            (true, _) => Phase::Running,
            (false, true) => Phase::Restarting,
            (false, false) => Phase::Pending,
        });
    }

    fn set_conditions(&mut self, live: bool) {
        let (running, reason, message) = match self.status.phase {
            Some(Phase::Running) => (true, "Training", "all servers and at least one worker run"),
            Some(Phase::Restarting) => (
                false,
                "Restarting",
                "a lost server or all workers are being replaced",
            ),
            Some(Phase::Suspended) => (false, "Suspended", "spec.suspend is true"),
            Some(Phase::Exporting) => (
                false,
                "Exporting",
                "training is complete, and a finisher exports the artifact",
            ),
            Some(Phase::Succeeded | Phase::Failed) => (false, "Finished", "the job has ended"),
            Some(Phase::Pending) | None => (
                false,
                "Starting",
                "waiting for all servers and a worker to run",
            ),
        };
        self.set_condition(types::RUNNING, running, reason, message);
        let suspended = self.status.phase == Some(Phase::Suspended);
        if suspended {
            self.set_condition(
                types::SUSPENDED,
                true,
                "Suspended",
                match self.is_exporting() {
                    true => "pods are deleted; training is complete",
                    false => "pods are deleted; training goes on from the last checkpoint",
                },
            );
        } else if conditions::is_true(&self.status.conditions, types::SUSPENDED) {
            self.set_condition(types::SUSPENDED, false, "Resumed", "spec.suspend is false");
        }
        let works = live && !suspended;
        match self.trouble().filter(|_| works) {
            Some(trouble) => {
                self.set_condition(types::DEGRADED, true, trouble.reason, &trouble.message)
            }
            None if works && self.may_last() => {}
            None if conditions::is_true(&self.status.conditions, types::DEGRADED) => {
                self.set_condition(
                    types::DEGRADED,
                    false,
                    "Recovered",
                    "nothing is in the way any more",
                );
            }
            None => {}
        }
    }

    pub(super) fn set_condition(&mut self, type_: &str, status: bool, reason: &str, message: &str) {
        let message = message.into();
        let state = ConditionState {
            status,
            reason,
            message,
        };
        conditions::set(
            &mut self.status.conditions,
            type_,
            state,
            self.job.generation,
            self.now,
        );
    }

    /// The first thing in the way: what was refused, then what keeps a pod from running, then silence.
    fn trouble(&self) -> Option<Trouble> {
        let refusal = self.observed.refusal.as_ref();
        let refused = self.refused.as_ref().or(refusal.map(|r| &r.trouble));
        if let Some(refused) = refused {
            return Some(refused.clone());
        }
        let mut pods: Vec<&PodSeen> = self
            .observed
            .pods
            .iter()
            .filter(|pod| pod.is_active())
            .collect();
        pods.sort_by_key(|pod| (pod.member, pod.attempt));
        let of_pod = pods.iter().find_map(|pod| {
            let trouble = pod.trouble()?;
            Some(Trouble::new(
                trouble.reason,
                format!("pod {}: {}", pod.name, trouble.message),
            ))
        });
        let silence = || {
            let since = self.observed.silent_since?;
            (self.now.duration_since(since) >= SILENCE).then(|| {
                let message = format!(
                    "server 0 has not told its progress since {since:.0}; training may go on unseen"
                );
                Trouble::new(UNREACHABLE, message)
            })
        };
        let slow = || pods.iter().find_map(|pod| self.slow_start(pod));
        of_pod
            .or_else(|| self.stuck())
            .or_else(|| self.crash_loop())
            .or_else(slow)
            .or_else(silence)
    }

    /// A member that does nothing for the job, until another is in its place.
    fn stuck(&self) -> Option<Trouble> {
        let seen = self.observed.progress.as_ref()?;
        let wanted = |stuck: &&Stuck| members::is_wanted(self.job, &self.status, stuck.member);
        let stuck = seen.stuck.iter().find(wanted)?;
        let message = format!("{} {}; its pod is replaced", stuck.member, stuck.reason);
        Some(Trouble::new("MemberStuck", message))
    }

    /// A member whose pods end again and again, and whose current one has not run for long.
    fn crash_loop(&self) -> Option<Trouble> {
        members::wanted(self.job, &self.status).find_map(|member| {
            let (streak, reason) = self.members.streak(member);
            let steady = self
                .current_pod(member)
                .and_then(PodSeen::running_since)
                .is_some_and(|start| self.now >= after(start, STEADY));
            (streak >= LOOP && !steady).then(|| {
                let message = format!(
                    "{member} has ended {streak} times in a row; the last time it {reason}"
                );
                Trouble::new("CrashLoopBackOff", message)
            })
        })
    }

    /// A pod that nobody says anything about, and that does not start.
    fn slow_start(&self, pod: &PodSeen) -> Option<Trouble> {
        let created = pod.created.filter(|_| !pod.has_started())?;
        (self.now >= after(created, SLOW_START)).then(|| {
            let message = format!(
                "pod {} has not started for {} s: kubectl describe pod says what it waits for",
                pod.name,
                SLOW_START.as_secs()
            );
            Trouble::new("NotStarted", message)
        })
    }

    /// When what is said of a pod changes although nothing happens to it.
    pub(super) fn wake_for_pods(&mut self) {
        let observed = self.observed;
        for pod in observed.pods.iter().filter(|pod| pod.is_active()) {
            let looped = self.members.streak(pod.member).0 >= LOOP;
            let time = match (pod.has_started(), pod.running_since()) {
                (false, _) => pod.created.map(|created| after(created, SLOW_START)),
                (true, started) => started.filter(|_| looped).map(|start| after(start, STEADY)),
            };
            if let Some(time) = time.filter(|time| self.now < *time) {
                self.wake_at(time);
            }
        }
    }

    /// Whether the trouble that was there before may still be. What was refused, and who was silent, only the operator knew
    /// that said so; another one, or this one started again, has to see for itself.
    fn may_last(&self) -> bool {
        let Some(degraded) = conditions::get(&self.status.conditions, types::DEGRADED) else {
            return false;
        };
        if degraded.reason == UNREACHABLE {
            let ready = |pod: &PodSeen| pod.member == Member::COORDINATOR && pod.is_ready();
            let since = degraded.last_transition_time.0;
            let answered = self
                .observed
                .progress
                .as_ref()
                .is_some_and(|seen| seen.time > since);
            return !answered && self.observed.pods.iter().any(ready);
        }
        self.steps.iter().any(Step::makes)
    }

    /// Adds what is new to the job's warnings. Each is written once, and so told once.
    pub(super) fn warn(&mut self, warnings: &[String]) {
        for text in warnings {
            add_warning(&mut self.status.warnings, text.clone());
        }
    }

    /// Takes progress over if something else is written anyway, or often enough. It never goes back: after a lost server
    /// the status waits until training has passed the point where it was.
    fn merge_progress(&mut self, seen: ProgressSeen, old: &TrainingJobStatus) {
        let due = match old.progress.as_ref().and_then(|p| p.time.as_ref()) {
            Some(last) => self.now >= after(last.0, PROGRESS),
            None => true,
        };
        if !due && self.status == *old {
            return;
        }
        let known_step = self.status.progress.as_ref().map_or(0, |known| known.step);
        if seen.step < known_step || seen.total_steps == 0 {
            return;
        }
        let known = self.status.progress.get_or_insert_default();
        let progress = Progress {
            step: seen.step,
            total_steps: seen.total_steps,
            epoch: seen.epoch,
            loss: seen.loss.and_then(finish::rounded),
            samples_per_second: seen.samples_per_second.and_then(finish::rounded),
            validation: finish::rounded_metrics(&seen.validation),
            test: known.test.clone(),
            time: known.time.clone(),
        };
        if progress != *known {
            *known = Progress {
                time: Some(Time(seen.time)),
                ..progress
            };
        }
        let checkpoint = self.status.checkpoint.as_ref().map(|c| c.step);
        if seen.checkpoint > checkpoint {
            self.status.checkpoint = seen.checkpoint.map(|step| CheckpointStatus {
                step,
                time: Some(Time(seen.time)),
            });
        }
    }
}
