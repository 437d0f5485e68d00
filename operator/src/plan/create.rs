//! What is created or changed because it is missing or not as it should be.

use super::{Members, Planner, Step, lookups, members};
use crate::observe::{Child, ChildObject, Member, PodSeen, Role};
use crate::resources::pod_name;
use crate::trouble::Trouble;

impl Planner<'_> {
    pub(super) fn create_what_is_missing(&mut self) {
        let refusal = self.observed.refusal.as_ref();
        let refused_until = refusal.map(|r| r.until).filter(|until| *until > self.now);
        let due = self.due_pods();
        // A predecessor that nobody saw may have run in the generation that we know.
        let server = due.iter().any(|(member, _)| member.role == Role::Server);
        let unknown =
            server && lookups::is_predecessor_unknown(self.job, self.known, self.observed);
        if unknown && self.status.generation == self.known.status.generation {
            self.status.generation += 1;
        }
        if let Some(until) = refused_until {
            return self.wake_at(until); // what was refused just now will be refused again
        }
        self.make_children();
        if self.refused.is_none() {
            self.refused.clone_from(&self.observed.missing_reference);
        }
        if self.refused.is_none() {
            self.create_pods(due);
        }
    }

    /// The current pods of wanted members that are not there and may be created now.
    fn due_pods(&mut self) -> Vec<(Member, u32)> {
        let mut due = Vec::new();
        if self.is_exporting() && !self.others_are_over() {
            return due;
        }
        for member in members::wanted(self.job, &self.status) {
            if self.current_pod(member).is_some() {
                continue;
            }
            let not_before = self.members.not_before(member);
            match not_before.filter(|time| *time > self.now) {
                Some(time) => self.wake_at(time),
                None => due.push((member, self.members.attempt(member))),
            }
        }
        due
    }

    fn make_children(&mut self) {
        // The Service in front of server 0 leads to the current pod, not to one that hangs on a lost node.
        let attempt = |members: &Members| members.attempt(Member::COORDINATOR);
        let moved = attempt(&self.members) != attempt(&self.known.members);
        for child in ChildObject::ALL {
            let moves = child == ChildObject::Coordinator && moved;
            match self.observed.children.get(&child) {
                Some(Child::Ours { current: true, .. }) if !moves => {}
                Some(Child::Ours { uid, .. }) => self.steps.push(Step::Update {
                    child,
                    uid: uid.clone(),
                }),
                Some(Child::Foreign) => {
                    let taken = name_taken(child.kind(), &child.name(&self.job.name));
                    self.refused.get_or_insert(taken);
                }
                None => self.steps.push(Step::Create(child)),
            }
        }
    }

    fn create_pods(&mut self, due: Vec<(Member, u32)>) {
        let generation = self.status.generation;
        let mut pods = Vec::new();
        for (member, attempt) in due {
            if self.observed.foreign.contains(&(member, attempt)) {
                let taken = name_taken("Pod", &pod_name(&self.job.name, member, attempt));
                self.refused.get_or_insert(taken);
                continue;
            }
            pods.push(Step::CreatePod {
                member,
                attempt,
                generation,
            });
        }
        if !pods.is_empty() && self.keys_may_be_missing() {
            self.steps.push(Step::CreateKeys);
        }
        self.steps.extend(pods);
    }

    /// Whether nobody has the job's keys, so that they may never have been made, or may be made again. Nobody asks for them:
    /// whoever may ask may read them. As long as a pod lives, they were made before it, and others would shut it out.
    fn keys_may_be_missing(&self) -> bool {
        let lives = |pod: &PodSeen| {
            let gone = members::lost_at(pod).is_some_and(|lost| lost <= self.now);
            !gone && (pod.is_running() || !pod.has_started())
        };
        self.job.has_keys && !self.is_exporting() && !self.observed.pods.iter().any(lives)
    }
}

fn name_taken(kind: &str, name: &str) -> Trouble {
    Trouble::new(
        "NameTaken",
        format!(
            "there is a {kind} {name} that does not belong to this job: delete it, or rename the job"
        ),
    )
}
