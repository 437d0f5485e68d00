//! What an earlier run has left in a folder, while `--overwrite` replaces it.
//!
//! It is set aside within the folder, deleted once the new run has a checkpoint, and put back if the new
//! run comes to nothing: a mistake in a manifest must not cost the model of yesterday.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::{Context, Result, bail};
use trainyard_contract::pod::JOB_FILE;
use trainyard_runtime::artifact::{FOLDER, foreign, is_artifact};
use trainyard_runtime::exit::BadInput;

use super::origin;

/// Where it is meanwhile.
const ASIDE: &str = ".overwritten";

/// What a run leaves in its folder, the log first: without it nothing else counts.
const LEFT: [&str; 7] = [
    "log",
    "checkpoints",
    FOLDER,
    origin::FOLDER,
    JOB_FILE,
    "run.json",
    "logs",
];

/// Sets aside what an earlier run has left in `folder`.
///
/// # Errors
/// [`BadInput`] if an artifact is in the way that is none.
pub fn set_aside(folder: &Path) -> Result<()> {
    let artifact = folder.join(FOLDER);
    if artifact.exists() && !is_artifact(&artifact) {
        bail!(BadInput(format!(
            "{} is no artifact, so --overwrite does not delete it: remove it, or choose another folder with --out",
            artifact.display()
        )));
    }
    if artifact.exists()
        && let Some(name) = foreign(&artifact)?
    {
        bail!(BadInput(format!(
            "{} holds {name}, which is no part of an artifact, so --overwrite does not delete it: move it away, or \
             choose another folder with --out",
            artifact.display()
        )));
    }
    // A folder in which no run has ever been has empty logs at most.
    let is_run = |name: &&str| *name != "logs" && folder.join(name).exists();
    if !LEFT.iter().any(is_run) {
        return Ok(());
    }
    fs::create_dir_all(folder.join(ASIDE))?;
    for name in LEFT {
        if name == origin::FOLDER && !origin::is_copy(&folder.join(name)) {
            continue; // the user's own
        }
        let moved = fs::rename(folder.join(name), folder.join(ASIDE).join(name));
        unless_missing(moved)
            .with_context(|| format!("{} cannot be moved", folder.join(name).display()))?;
    }
    Ok(fs::create_dir_all(folder.join("logs"))?)
}

/// Puts back what was set aside, in place of what a run has left since that came to nothing.
///
/// # Errors
/// If something cannot be moved.
pub fn put_back(folder: &Path) -> Result<()> {
    let aside = folder.join(ASIDE);
    // The log last: until then nothing counts, and this can be done again.
    for name in LEFT.iter().rev().filter(|name| aside.join(name).exists()) {
        remove(&folder.join(name))?;
        fs::rename(aside.join(name), folder.join(name))?;
    }
    Ok(remove(&aside)?)
}

/// Deletes what was set aside.
///
/// # Errors
/// If something cannot be deleted.
pub fn delete(folder: &Path) -> io::Result<()> {
    remove(&folder.join(ASIDE))
}

/// Whether something was set aside.
pub fn exists(folder: &Path) -> bool {
    folder.join(ASIDE).exists()
}

fn remove(path: &Path) -> io::Result<()> {
    unless_missing(match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    })
}

/// That something is not there is no error.
fn unless_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<String> {
        let mut found: Vec<String> = walk(folder);
        found.sort();
        found
    }

    fn walk(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder").flatten();
        entries
            .flat_map(|entry| match entry.path().is_dir() {
                true => walk(&entry.path()),
                false => vec![fs::read_to_string(entry.path()).expect("text")],
            })
            .collect()
    }

    /// A folder with the log, the checkpoints and the job of a run, and a file of the user's.
    fn run(of: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["log", "checkpoints"] {
            fs::create_dir(folder.path().join(name)).expect("writable");
            fs::write(folder.path().join(name).join("1"), format!("{of} {name}"))
                .expect("writable");
        }
        fs::write(folder.path().join("job.json"), format!("{of} job")).expect("writable");
        fs::write(folder.path().join("notes.txt"), "mine").expect("writable");
        folder
    }

    #[test]
    fn t25_what_is_overwritten_comes_back_if_nothing_takes_its_place() {
        let folder = run("old");
        let before = files(folder.path());
        set_aside(folder.path()).expect("moved");
        assert!(exists(folder.path()));
        assert!(!folder.path().join("log").exists());
        fs::write(folder.path().join("job.json"), "new job").expect("writable");
        put_back(folder.path()).expect("moved");
        assert_eq!(files(folder.path()), before);
        assert!(!exists(folder.path()));
    }

    #[test]
    fn t25_what_is_overwritten_goes_once_there_is_something_new() {
        let folder = run("old");
        set_aside(folder.path()).expect("moved");
        fs::write(folder.path().join("job.json"), "new job").expect("writable");
        delete(folder.path()).expect("deleted");
        delete(folder.path()).expect("nothing to do");
        assert_eq!(files(folder.path()), ["mine", "new job"]);
    }

    #[test]
    fn t25_a_folder_called_artifact_of_the_users_is_not_overwritten() {
        let folder = run("old");
        fs::create_dir(folder.path().join("artifact")).expect("writable");
        fs::write(folder.path().join("artifact/thesis.txt"), "mine").expect("writable");
        let before = files(folder.path());
        let error = set_aside(folder.path()).expect_err("it is the user's");
        assert!(error.to_string().contains("is no artifact"), "{error}");
        assert_eq!(files(folder.path()), before);
    }
}
