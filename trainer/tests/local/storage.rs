//! The run's folder is damaged, full, or read-only: named errors, the last good checkpoint, and the
//! same model after all.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::{Ended, Spec, example, folder, message, reference, sha};
use rustix::process::Signal;

/// A job that is stopped on the way and has several checkpoints then.
fn job() -> Spec {
    example("breast-cancer/job.yaml").epochs(60).every(20)
}

/// What an optimizer makes of the padding between parameters is neither checkpointed nor taken for a
/// parameter that is no number.
#[test]
fn t07_a_job_without_an_epsilon_is_checkpointed() {
    let optimizers = [
        "{adam: {learningRate: 0.001, epsilon: 0}}",
        "{adamW: {learningRate: 0.001, epsilon: 0}}",
        "{adagrad: {learningRate: 0.01, epsilon: 0}}",
    ];
    for optimizer in optimizers {
        // Without hidden units, none of which could be dead: every parameter has a gradient.
        let spec = example("breast-cancer/job.yaml")
            .epochs(3)
            .every(20)
            .set("model.mlp.hidden", "[]")
            .set("training.optimizer", optimizer);
        assert_eq!(spec.sha(), reference::train(&spec).sha, "{optimizer}");
    }
}

/// Runs `spec` in `folder` until several checkpoints are there, and kills all of it.
fn broken_off(spec: &Spec, folder: &Path) {
    let mut run = spec.start(folder);
    run.until("checkpoints", |run| {
        run.status()
            .filter(|status| status["checkpoint"].as_u64() >= Some(60))
    });
    run.signal(Signal::KILL);
    run.wait();
}

/// Files of the newest checkpoint that the log names.
fn newest(folder: &Path) -> Vec<PathBuf> {
    let mut checkpoints: Vec<PathBuf> = fs::read_dir(folder.join("checkpoints"))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    checkpoints.sort();
    let log = fs::read_dir(folder.join("log")).expect("a log");
    let entries: String = log
        .map(|entry| fs::read_to_string(entry.expect("an entry").path()).expect("text"))
        .collect();
    let named = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| entries.contains(name))
    };
    let newest = checkpoints
        .into_iter()
        .rev()
        .find(named)
        .expect("a committed checkpoint");
    let mut files: Vec<PathBuf> = fs::read_dir(newest)
        .expect("shards")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

fn resumed(spec: &Spec, folder: &Path) -> Ended {
    spec.clone().resume().start(folder).wait()
}

/// The resumed run reaches the same model, from a checkpoint before the one that was damaged.
fn falls_back(damage: impl Fn(&Path)) {
    let (spec, folder) = (job().on(1, 2), folder());
    broken_off(&spec, folder.path());
    let shard = newest(folder.path()).remove(0);
    damage(&shard);
    let ended = resumed(&spec, folder.path());
    assert_eq!(
        sha(&ended.summary()),
        reference::train(&job()).sha,
        "{ended}"
    );
    let server = fs::read_to_string(folder.path().join("logs/server-0.log")).expect("a log");
    let name = shard
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    assert!(
        server.contains("passed over") && server.contains(name),
        "a warning names the shard: {server}"
    );
}

#[test]
fn t09_a_missing_shard_is_passed_over() {
    falls_back(|shard| fs::remove_file(shard).expect("it was there"));
}

#[test]
fn t09_a_truncated_shard_is_passed_over() {
    falls_back(|shard| {
        let bytes = fs::read(shard).expect("a shard");
        fs::write(shard, &bytes[..bytes.len() - 100]).expect("writable");
    });
}

/// A changed byte has no effect on the size.
#[test]
fn t09_a_corrupt_shard_is_passed_over() {
    falls_back(|shard| {
        let mut bytes = fs::read(shard).expect("a shard");
        let at = bytes.len() / 2;
        bytes[at] ^= 0x10;
        fs::write(shard, bytes).expect("writable");
    });
}

#[test]
fn t09_without_any_checkpoint_left_the_run_refuses_and_names_them() {
    let (spec, folder) = (job(), folder());
    broken_off(&spec, folder.path());
    fs::remove_dir_all(folder.path().join("checkpoints")).expect("it was there");
    let ended = resumed(&spec, folder.path());
    assert_eq!(ended.code(), Some(1), "{ended}");
    let message = ended.named("error")[0]["message"]
        .as_str()
        .expect("a message")
        .to_owned();
    assert!(
        message.contains("none of the job's checkpoints can be loaded"),
        "{message}"
    );
    assert!(message.contains("is missing"), "{message}");
}

/// A finished run whose result is damaged does not pretend.
#[test]
fn t09_a_damaged_result_is_refused() {
    let (spec, folder) = (example("breast-cancer/job.yaml").epochs(1), folder());
    spec.start(folder.path()).finish();
    fs::remove_dir_all(folder.path().join("artifact")).expect("an artifact");
    for shard in newest(folder.path()) {
        fs::remove_file(shard).expect("it was there");
    }
    let ended = resumed(&spec, folder.path());
    assert_eq!(ended.code(), Some(1), "{ended}");
    assert!(ended.stderr.contains("shard"), "{ended}");
    assert!(
        !folder.path().join("artifact").exists(),
        "no artifact without parameters"
    );
}

/// `trainyard run` with `mount` done before it in a mount namespace of its own; none where that is
/// not permitted.
fn mounted(spec: &Spec, mount: &str) -> Option<Spec> {
    let permitted = Command::new("unshare")
        .args(["--mount", "sh", "-c", mount])
        .output();
    if !permitted
        .as_ref()
        .is_ok_and(|output| output.status.success())
    {
        println!("skipped: mounts are not permitted here ({permitted:?})");
        return None;
    }
    let mut spec = spec.clone();
    let script = format!("{mount} && exec \"$0\" \"$@\"");
    spec.wrapper = ["unshare", "--mount", "sh", "-c", &script]
        .map(String::from)
        .to_vec();
    Some(spec)
}

/// `trainyard run` in `inside`, on a disk of this size of its own; none where that is not permitted.
/// What is in `inside` at the end is copied to `kept`, before the disk goes with its namespace.
pub fn on_small_disk(spec: &Spec, size: &str, inside: &Path, kept: &Path) -> Option<Spec> {
    let (inside, kept) = (inside.display(), kept.display());
    let mount = format!("mount -t tmpfs -o size={size} tmpfs {inside}");
    let mut spec = mounted(spec, &mount)?;
    let last = spec.wrapper.len() - 1;
    spec.wrapper[last] =
        format!("{mount} && {{ \"$0\" \"$@\"; code=$?; cp -a {inside} {kept}; exit $code; }}");
    Some(spec)
}

/// The disk fills up on the way. What was committed stays, and with room the run goes on.
#[test]
fn t09_a_full_disk_fails_by_name_and_the_last_checkpoint_stays() {
    let folder = folder();
    let (inside, kept) = (folder.path().join("full"), folder.path().join("kept"));
    fs::create_dir(&inside).expect("writable");
    // One checkpoint is 3 x 58 KiB; several are kept, so that the third or so does not fit.
    let spec = job().set("checkpoint.keep", 100);
    let Some(full) = on_small_disk(&spec, "640k", &inside, &kept) else {
        return;
    };
    let ended = full.start(&inside).wait();
    assert_eq!(ended.code(), Some(1), "{ended}");
    let said = message(&ended).to_lowercase();
    assert!(said.contains("no space left"), "{said}");
    let ended = resumed(&spec, &kept);
    assert!(
        ended.named("started")[0]["resumedFrom"].as_u64() >= Some(20),
        "{ended}"
    );
    assert_eq!(sha(&ended.summary()), reference::train(&spec).sha);
}

/// Every size at which one file or another of an artifact does not fit.
#[test]
fn t09_an_export_to_a_full_disk_fails_by_name_and_leaves_nothing() {
    let folder = folder();
    let run = folder.path().join("run");
    job().epochs(1).start(&run).finish();
    let inside = folder.path().join("full");
    fs::create_dir(&inside).expect("writable");
    for size in ["16k", "60k", "100k"] {
        let inside = inside.display();
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs {inside} || exit 99; \
             \"$0\" export \"$1\" --out {inside}/a; code=$?; ls -A {inside}; exit $code"
        );
        let export = Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-c",
                &script,
                env!("CARGO_BIN_EXE_trainyard"),
            ])
            .arg(&run)
            .output();
        let output = export.expect("unshare is there");
        let (left, told) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        if output.status.code() == Some(99) || told.contains("Operation not permitted") {
            println!("skipped: mounts are not permitted here ({told})");
            return;
        }
        assert_eq!(output.status.code(), Some(1), "{size}: {told}");
        assert_eq!(left, "", "{size}: {told}");
        let named = format!("the artifact {inside}/a cannot be made");
        assert!(
            told.contains(&named) && told.contains("No space left"),
            "{size}: {told}"
        );
    }
}

#[test]
fn t09_a_read_only_folder_is_refused_at_once() {
    let folder = folder();
    let path = folder.path().display();
    let mount = format!("mount -t tmpfs -o ro tmpfs {path}");
    let Some(spec) = mounted(&job(), &mount) else {
        return;
    };
    let ended = spec.start(&folder.path().join("run")).wait();
    assert_eq!(ended.code(), Some(2), "{ended}");
    let message = message(&ended);
    assert!(
        message.contains("cannot be written") && message.contains("--out"),
        "{message}"
    );
}

/// Checkpoints of any number of servers are loaded by any other.
#[test]
fn t10_another_number_of_servers_loads_the_checkpoint() {
    let many = example("digits/mlp.yaml")
        .epochs(12)
        .every(15)
        .set("model.mlp.hidden", "[512, 256]");
    let folder = folder();
    let expected = reference::train(&many).sha;
    let mut shapes = [(1, 3), (2, 1), (1, 4), (2, 2)].into_iter().peekable();
    let mut target = 15;
    let mut spec = many.clone();
    while let Some((workers, servers)) = shapes.next() {
        let run = spec.clone().on(workers, servers).start(folder.path());
        if shapes.peek().is_none() {
            assert_eq!(sha(&run.finish()), expected);
            return;
        }
        let mut run = run;
        run.until("a checkpoint", |run| {
            run.status()
                .filter(|status| status["checkpoint"].as_u64() >= Some(target))
        });
        run.signal(Signal::KILL);
        run.wait();
        target += 30;
        spec = many.clone().resume();
    }
}

/// Two runs of one job on one place would fence each other for ever, were each to answer with a higher
/// generation. The one that has lost it says so, and leaves it to the other.
#[test]
fn t10_a_run_whose_place_another_run_has_taken_over_ends() {
    let (spec, folder) = (job().epochs(400), folder());
    let mut run = spec.start(folder.path());
    run.until("a checkpoint", |run| {
        run.status().filter(|status| status["checkpoint"].is_u64())
    });
    let storage = trainyard_checkpoint::FolderStorage::open(folder.path()).expect("a folder");
    let log = trainyard_checkpoint::Log::open_any(std::sync::Arc::new(storage));
    log.expect("a log").claim(5, "another").expect("claimed");
    let claimed = Instant::now();
    let ended = run.wait();
    // Nobody waits for the server that has ended. It took 27 s.
    assert!(claimed.elapsed() < Duration::from_secs(15), "{ended}");
    assert_eq!(ended.code(), Some(1), "{ended}");
    let message = message(&ended);
    for part in ["another run has taken over", "generation 5", "--out"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(ended.named("restarting").is_empty(), "{ended}");
}
