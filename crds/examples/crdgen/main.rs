//! Writes the CustomResourceDefinitions into a folder, `crds/yaml` if none is named: `cargo run -p trainyard-crds --example crdgen`.

mod render;

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = match std::env::args_os().nth(1) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("yaml"),
    };
    std::fs::create_dir_all(&folder)?;
    for crd in trainyard_crds::schema::crds() {
        let path = folder.join(render::file_name(&crd));
        std::fs::write(&path, render::yaml(&crd)?)?;
        println!("{}", path.display());
    }
    Ok(())
}
