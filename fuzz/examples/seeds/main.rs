//! Makes seeds for the corpora from what the programs themselves write: `cargo run --example seeds RUN OUT`, where `RUN` is the
//! folder of a run of `toy/job.yaml`. Seeds that are texts are in the corpora as somebody has written them.

mod frames;
mod messages;
mod run;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Where seeds are put: in a folder for each target.
struct Out(PathBuf);

impl Out {
    fn put(&self, target: &str, name: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
        let folder = self.0.join(target);
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(name), bytes)?)
    }
}

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let (Some(run), Some(out)) = (args.next(), args.next()) else {
        return Err("give the folder of a run of fuzz/toy/job.yaml, and one for the seeds".into());
    };
    let out = Out(out.into());
    frames::seeds(&out)?;
    messages::seeds(&out)?;
    run::seeds(Path::new(&run), &out)
}
