//! Where predictions are written.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::commands::print;
use anyhow::{Context, Result};
use trainyard_runtime::exit::{BadInput, ExitCode};

/// Writes to standard output, or to a file, which is there with all rows or not at all; a device or a pipe is written to
/// as it is. Its name says whether it is compressed: `.gz` or `.zst`. None of the `inputs` may be it.
///
/// # Errors
/// Of `print`; also if the file cannot be written.
pub fn write(
    path: Option<&Path>,
    inputs: &[&Path],
    print: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<ExitCode> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else {
        return print::to_stdout(ExitCode::Done, print);
    };
    let shown = path.display();
    let bad = |why: String| anyhow::Error::from(BadInput(format!("{shown}: {why}")));
    // A link stands for what it leads to.
    let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let is_there = |input: &&&Path| std::fs::canonicalize(input).is_ok_and(|input| input == place);
    if inputs.iter().any(|input| is_there(&input)) {
        return Err(bad("it is read from; write to another file".into()));
    }
    let found = std::fs::metadata(&place).ok();
    if found.as_ref().is_some_and(|found| found.is_dir()) {
        return Err(bad("it is a folder; give the name of a file in it".into()));
    }
    let replaces = found.as_ref().is_none_or(|found| found.is_file());
    let target = match replaces {
        true => beside(&place)?,
        false => place.clone(),
    };
    let written: Result<()> = (|| {
        let open = match replaces {
            true => File::create(&target),
            false => OpenOptions::new().write(true).open(&target),
        };
        let file = open.map_err(|error| {
            bad(format!(
                "it cannot be written: {error}; check that its folder is there and that you may write to it"
            ))
        })?;
        compress(&place, BufWriter::with_capacity(1 << 20, file), print)?;
        if replaces {
            if let Some(found) = found {
                std::fs::set_permissions(&target, found.permissions())?;
            }
            std::fs::rename(&target, &place)?;
        }
        Ok(())
    })();
    if written.is_err() && replaces {
        let _ = std::fs::remove_file(&target); // it may not be there yet
    }
    written
        .map(|()| ExitCode::Done)
        .with_context(|| format!("{shown} is not written"))
}

/// Prints to a file whose name says how it is compressed.
fn compress(
    place: &Path,
    file: BufWriter<File>,
    print: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<()> {
    let extension = place.extension().and_then(|extension| extension.to_str());
    let file = match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("gz") => {
            let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::default());
            print(&mut out)?;
            out.finish()?
        }
        Some("zst") => {
            let mut out = zstd::stream::write::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            print(&mut out)?;
            out.finish()?
        }
        _ => {
            let mut out = file;
            print(&mut out)?;
            out
        }
    };
    let file = file.into_inner()?;
    match file.metadata()?.is_file() {
        true => Ok(file.sync_all()?),
        false => Ok(()),
    }
}

/// A name in the same folder, for what is not complete.
fn beside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| {
        BadInput(format!(
            "{} is no name of a file; give one to --output",
            path.display()
        ))
    })?;
    let name = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
    Ok(path.with_file_name(name))
}
