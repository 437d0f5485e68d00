//! The files of an artifact, as `inspect`, `predict` and a run that begins from it read them.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;
use trainyard_checkpoint::sha256_hex;
use trainyard_core::layout::Layout;
use trainyard_data::{Rows, encode_each};
use trainyard_runtime::arch::Architecture;
use trainyard_runtime::artifact::tensors::Reader;
use trainyard_runtime::artifact::{
    FILES, GOLDEN, Golden, GoldenInputs, GoldenRows, MODEL, MetricsFile, ModelFile, ModelFiles,
    PARAMETERS, PROVENANCE, Provenance, ROWS, digest, files_of, metrics, model, provenance,
    verify_files,
};

use crate::csv::{all, limits};
use crate::{again, archive};

/// Reads the files of an archive as an artifact: as they are, and with the digests that they should have.
pub fn run(input: &[u8]) -> bool {
    let files = archive::unpack(input);
    in_folder(|folder| {
        for (name, bytes) in &files {
            // An artifact has no others, and other names lead elsewhere.
            if FILES.contains(&name.as_str()) || name == PROVENANCE {
                fs::write(folder.join(name), bytes).expect("a folder of ours");
            }
        }
        let whole = read(folder);
        mend(folder).map_or(whole, |()| read(folder) || whole)
    })
}

/// Does something in an empty folder.
fn in_folder<T>(act: impl FnOnce(&Path) -> T) -> T {
    thread_local!(static FOLDER: TempDir = tempfile::tempdir().expect("a folder"));
    FOLDER.with(|folder| {
        let folder = folder.path();
        for name in FILES.into_iter().chain([PROVENANCE]) {
            let _ = fs::remove_file(folder.join(name));
        }
        act(folder)
    })
}

/// Whether all of an artifact is there, but for the module of libtorch.
fn read(folder: &Path) -> bool {
    let (mut read, mut wanted) = (0, 5);
    if let Ok(found) = model(folder) {
        again::<ModelFile>(&found);
        read += 1;
    }
    if let Ok(found) = metrics(folder) {
        again::<MetricsFile>(&found);
        read += 1;
    }
    if let Ok(found) = provenance(folder) {
        again::<Provenance>(&found);
        let verified = verify_files(folder, &found);
        assert!(verified.len() >= files_of(found.format_version).count());
        read += 1;
        // Format 1 has no golden rows in the original columns.
        wanted += usize::from(found.format_version > 1);
    }
    if let Ok(found) = ModelFiles::read(folder) {
        let _ = found.kind();
        assert_eq!(found.parameters.len(), found.layout.len());
        written(&found);
        read += 1;
    }
    if let Ok(found) = Golden::read(&folder.join(GOLDEN)) {
        let rows = found.input_shape[0];
        assert_eq!(found.output_shape[0], rows);
        let floats: u64 = found.input_shape.iter().product();
        assert_eq!(found.inputs.len() as u64, floats);
        read += 1;
    }
    if let Ok(found) = GoldenRows::read(&folder.join(ROWS)) {
        again::<GoldenRows>(&found);
        encode(folder, &found);
        read += 1;
    }
    read == wanted
}

/// Encodes golden rows for the model beside them.
fn encode(folder: &Path, golden: &GoldenRows) {
    let (Ok(model), Ok(inputs)) = (model(folder), golden.inputs()) else {
        return;
    };
    let (schema, limits) = (&model.input_schema, limits());
    match inputs {
        GoldenInputs::Cells(cells) => {
            if let Ok(outcomes) = encode_each(schema, "golden rows", &cells, &limits) {
                assert_eq!(outcomes.len(), golden.rows.len());
            }
        }
        GoldenInputs::Array(raw) => {
            let rows = Rows::raw_array(schema, "golden rows", raw, &limits);
            let _ = rows.and_then(all);
        }
    }
}

/// A model is the same when it is written and read again.
fn written(found: &ModelFiles) {
    let folder = tempfile::tempdir().expect("a folder");
    found.write(folder.path()).expect("a folder of ours");
    let again = ModelFiles::read(folder.path()).expect("it was just written");
    assert_eq!(again.model, found.model);
    let bits = |values: &[f32]| {
        values
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    assert_eq!(bits(&again.parameters), bits(&found.parameters));
}

/// Writes the digest of the parameters into `model.json`, and those of all files into `provenance.json`.
fn mend(folder: &Path) -> Option<()> {
    if let Some(sha256) = model_sha256(folder) {
        change(&folder.join(MODEL), |model| {
            model["modelSha256"] = sha256.into()
        })?;
    }
    change(&folder.join(PROVENANCE), |provenance| {
        for name in FILES {
            let record = &mut provenance["files"][name];
            if let (Ok((bytes, sha256)), true) = (digest(&folder.join(name)), record.is_object()) {
                record["bytes"] = bytes.into();
                record["sha256"] = sha256.into();
            }
        }
    })
}

/// The digest that the parameters have, if they are those of the architecture.
fn model_sha256(folder: &Path) -> Option<String> {
    let model = model(folder).ok()?;
    let architecture =
        Architecture::new(&model.architecture, &model.input_shape, model.output.width).ok()?;
    let layout = Layout::new(architecture.params).ok()?;
    let mut file = Reader::open(&folder.join(PARAMETERS)).ok()?;
    // What the file has bounds what is held.
    let floats = fs::metadata(folder.join(PARAMETERS)).ok()?.len() as usize / 4;
    if layout.len() > 16 * (floats + 1) {
        return None;
    }
    let mut arena = vec![0.0; layout.len()];
    for placed in layout.params() {
        if file.next_name() != Some(placed.param.name.as_str()) {
            return None;
        }
        file.read_next(&mut arena[placed.range()]).ok()?;
    }
    layout.model_sha256(&arena).ok()
}

fn change(path: &Path, change: impl FnOnce(&mut Value)) -> Option<()> {
    let mut value: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    value.is_object().then(|| change(&mut value))?;
    fs::write(path, value.to_string()).ok()
}

/// Reads the input as a file of tensors.
pub fn tensors(input: &[u8]) -> bool {
    in_folder(|folder| {
        let path = folder.join(GOLDEN);
        fs::write(&path, input).expect("a folder of ours");
        let _ = Golden::read(&path);
        let Ok(mut file) = Reader::open(&path) else {
            return false;
        };
        let mut held = 0;
        while let Some(name) = file.next_name().map(str::to_owned) {
            let shape = file.shape(&name).expect("it has a shape");
            let floats = shape.iter().product::<u64>() as usize;
            let mut values = vec![0.0; floats];
            held += size_of_val(values.as_slice());
            assert!(held <= input.len(), "the file has what its header says");
            file.read_next(&mut values).expect("they are there");
        }
        assert_eq!(sha256_hex(input), digest(&path).expect("it is there").1);
        true
    })
}
