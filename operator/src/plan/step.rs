//! What a plan is made of.

use std::mem::{Discriminant, discriminant};

use crate::observe::{ChildObject, Member, Role};

/// Something to do, after the plan's status is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Create a child object.
    Create(ChildObject),
    /// Make a child object that is there what it should be.
    Update {
        /// Which.
        child: ChildObject,
        /// Its uid, so that a namesake is safe.
        uid: String,
    },
    /// Create the Secret with the job's keys. Only the API server can say whether there is one, in its answer.
    CreateKeys,
    /// Create a member's pod.
    CreatePod {
        /// Whose.
        member: Member,
        /// Which of the member's pods.
        attempt: u32,
        /// Generation that the pod is told.
        generation: u64,
    },
    /// Give a pod its labels back.
    Label {
        /// Its uid, so that a namesake is safe.
        uid: String,
        /// Whose it is.
        member: Member,
        /// Which of the member's pods it is.
        attempt: u32,
    },
    /// Ask a pod to go.
    DeletePod {
        /// Its name.
        name: String,
        /// Its uid, so that a namesake is safe.
        uid: String,
        /// The version that was seen of it, if another may be one to keep.
        version: Option<String>,
    },
    /// Delete the job itself.
    DeleteJob,
}

impl Step {
    /// Whether something is deleted.
    pub fn deletes(&self) -> bool {
        matches!(self, Step::DeletePod { .. } | Step::DeleteJob)
    }

    /// Whether a pod is created.
    pub fn creates_pod(&self) -> bool {
        matches!(self, Step::CreatePod { .. })
    }

    /// Whether an object is created or changed that may be refused.
    pub fn makes(&self) -> bool {
        matches!(
            self,
            Step::Create(_) | Step::Update { .. } | Step::CreateKeys | Step::CreatePod { .. }
        )
    }

    /// Steps of one kind are taken side by side. Servers come before workers, which would otherwise take their place in a
    /// quota.
    fn kind(&self) -> (Discriminant<Step>, Option<Role>) {
        let role = match self {
            Step::CreatePod { member, .. } => Some(member.role),
            _ => None,
        };
        (discriminant(self), role)
    }
}

/// The stages in which steps are taken: one after the other, the steps of a stage side by side. What comes after a stage in
/// which something was refused or failed is not tried.
pub fn stages(steps: &[Step]) -> impl Iterator<Item = &[Step]> {
    /// Requests that are made at once.
    const AT_ONCE: usize = 32;
    let alike = steps.chunk_by(|a, b| a.kind() == b.kind());
    alike.flat_map(|alike| alike.chunks(AT_ONCE))
}
