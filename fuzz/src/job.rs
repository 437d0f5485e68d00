//! A job as the processes and the operator read it.

use std::sync::Arc;

use trainyard_crds::TrainingJob;
use trainyard_operator::Guarded;
use trainyard_runtime::job::Job;
use trainyard_runtime::memory;

/// Reads the input as a job file, as a process of a job does, and as an object, as the operator does.
pub fn run(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input);
    let (mut file, mut object) = (false, false);
    if let Ok(job) = Job::from_json(&text) {
        used(job.manifest, job.defaults);
        file = true;
    }
    let guarded = serde_json::from_str::<Guarded>(&text);
    if let Some(job) = guarded.ok().and_then(|guarded| guarded.0.ok()) {
        object = on_a_cluster(job);
    }
    file && object
}

/// Asks a job for all that follows from it.
pub fn used(manifest: TrainingJob, defaults: u32) {
    on_a_cluster(manifest.clone());
    let Ok(job) = Job::new(manifest, defaults) else {
        return;
    };
    let json = job.to_json().expect("a job has a JSON form");
    let again = Job::from_value(json).expect("it is read as it was written");
    assert_eq!(again.manifest, job.manifest);
    assert_eq!(
        (again.id, again.defaults, &again.spec_digest),
        (job.id, job.defaults, &job.spec_digest)
    );
    let _ = job.load_options();
    let _ = job.manifest.spec.data.uris();
    let _ = memory::Model::smallest(&job);
    for rows in [0, 1, 1000, u64::from(u32::MAX)] {
        if let Ok(plan) = job.plan(rows) {
            let steps = plan.total_steps();
            let rate = job.learning_rate(steps);
            for step in [0, 1, steps / 2, steps.saturating_sub(1)] {
                let _ = rate.at(step);
                let _ = plan.position(step);
            }
        }
    }
}

/// Whether the operator could run it.
fn on_a_cluster(object: TrainingJob) -> bool {
    match trainyard_operator::job::Job::new(Arc::new(object)) {
        Ok(_) => true,
        Err(problems) => {
            assert!(!problems.is_empty(), "a refused job has a problem");
            false
        }
    }
}
