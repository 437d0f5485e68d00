//! `trainyard inspect`: what is in a run's folder, an artifact or a file of data.

mod artifact;
mod run;
mod table;

use std::io::Write;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use trainyard_runtime::artifact::{FILES, MODEL, PROVENANCE};
use trainyard_runtime::exit::{BadInput, ExitCode};
use trainyard_runtime::output::Shown;
use trainyard_runtime::storage::Location;

pub use table::{notation, read as read_table};

use super::print;

/// Arguments of `trainyard inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// Folder of a run, such as runs/NAME, or of an artifact, such as runs/NAME/artifact, or
    /// s3://BUCKET/PREFIX/NAME with or without /artifact; or a CSV file.
    path: Location,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Read every shard of a run's checkpoints and check its digest, not just its size.
    #[arg(long)]
    verify: bool,
    /// A text that stands for a missing value in a CSV file. May be repeated.
    #[arg(long, value_name = "TEXT")]
    missing_value: Vec<String>,
}

/// Runs the command. Damage is reported, and makes the exit code 2 where nothing usable is left.
///
/// # Errors
/// [`BadInput`] if the path is neither a run's folder nor an artifact nor a file of data.
pub fn run(args: InspectArgs) -> Result<ExitCode> {
    let place = &args.path;
    if let Location::Folder(path) = place
        && !path.is_dir()
    {
        if path.exists() {
            let report = read_table(path, &args.missing_value)?;
            let write = |out: &mut dyn Write| table::write(&report, out);
            return show(&report, true, args.json, write);
        }
        let shown = path.display();
        bail!(BadInput(format!(
            "there is nothing at {shown}: give the folder of a run or of an artifact, or a CSV file"
        )));
    }
    let names: Vec<&str> = FILES.into_iter().chain([PROVENANCE]).collect();
    let files = place.fetch(&names)?;
    let path = files.path();
    if path.join(MODEL).exists() || path.join(PROVENANCE).exists() {
        let report = artifact::Report::read(path, place)?;
        let write = |out: &mut dyn Write| report.write(&mut Shown(out));
        return show(&report, report.is_sound(), args.json, write);
    }
    let report = run::Report::read(place, args.verify, args.json)?;
    let write = |out: &mut dyn Write| report.write(&mut Shown(out));
    show(&report, report.is_sound(), args.json, write)
}

/// Prints a report: as JSON, or for people as `write` does.
fn show(
    report: &impl Serialize,
    is_sound: bool,
    json: bool,
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<ExitCode> {
    let exit = match is_sound {
        true => ExitCode::Done,
        false => ExitCode::BadInput,
    };
    print::to_stdout(exit, |out| match json {
        true => Ok(writeln!(out, "{}", serde_json::to_string(report)?)?),
        false => write(out),
    })
}
