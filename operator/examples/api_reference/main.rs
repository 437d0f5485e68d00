//! Writes the reference of the API, from its types: `cargo run -p trainyard-operator --example api_reference`.

mod render;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api-reference.md");
    std::fs::write(&path, render::reference())?;
    println!("{}", path.display());
    Ok(())
}
