//! A job's life without faults.

use crate::world::{job, play};

#[test]
fn o02_a_job_succeeds_and_then_nothing_is_written() {
    play(async |world| {
        world.start_operator();
        world.create_job(job("a", 2, 2));
        world.until_phase("a", "Running", 60).await?;
        world.until_phase("a", "Succeeded", 120).await?;
        world.stays_quiet().await
    });
}
