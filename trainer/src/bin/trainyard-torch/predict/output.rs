//! Where predictions are written.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use trainyard::commands::print;
use trainyard_runtime::exit::{BadInput, ExitCode};

/// Writes to standard output, or to a file, which is there with all rows or not at all. Its name says whether it is
/// compressed: `.gz` or `.zst`.
///
/// # Errors
/// Of `print`; also if the file cannot be written.
pub fn write(
    path: Option<&Path>,
    print: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<ExitCode> {
    let Some(path) = path.filter(|path| *path != Path::new("-")) else {
        return print::to_stdout(ExitCode::Done, print);
    };
    let shown = path.display();
    let beside = beside(path)?;
    let written: Result<ExitCode> = (|| {
        let file = File::create(&beside).map_err(|error| {
            BadInput(format!(
                "{shown}: it cannot be written: {error}; check that its folder is there and that you may write to it"
            ))
        })?;
        let file = BufWriter::with_capacity(1 << 20, file);
        let file = match path.extension().and_then(|extension| extension.to_str()) {
            Some("gz") => {
                let mut out = flate2::write::GzEncoder::new(file, flate2::Compression::default());
                print(&mut out)?;
                out.finish()?
            }
            Some("zst") => {
                let mut out =
                    zstd::stream::write::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?;
                print(&mut out)?;
                out.finish()?
            }
            _ => {
                let mut out = file;
                print(&mut out)?;
                out
            }
        };
        file.into_inner()?.sync_all()?;
        std::fs::rename(&beside, path)?;
        Ok(ExitCode::Done)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside); // it may not be there yet
    }
    written.with_context(|| format!("{shown} is not written"))
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
