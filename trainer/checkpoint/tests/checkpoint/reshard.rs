//! T10: any number of servers loads what any number wrote.

use crate::disk::TestDisk;
use crate::support::{FLOATS, bits, manifest, state, write_shards};
use safetensors::SafeTensors;
use trainyard_checkpoint::{
    Error, FolderStorage, MemoryStorage, Section, ShardId, Slice, Storage, load_range, sha256_hex,
    write_shard,
};

#[test]
fn t10_resharding_from_n_to_m_servers_keeps_every_bit() {
    let disk = TestDisk::new();
    let folder = FolderStorage::open_on(disk, "/runs").unwrap();
    let memory = MemoryStorage::new();
    for storage in [&folder as &dyn Storage, &memory] {
        for writers in 1..=4 {
            let shards = write_shards(storage, 50, u64::from(writers), writers).unwrap();
            let manifest = manifest(50, u64::from(writers), shards);
            for readers in 1..=4 {
                let whole = gather(storage, &manifest, readers);
                assert_eq!(bits(&whole), bits(&state(50)), "{writers} -> {readers}");
            }
        }
    }
}

fn gather(storage: &dyn Storage, manifest: &trainyard_checkpoint::Manifest, of: usize) -> Slice {
    let mut whole = Slice {
        parameters: Vec::new(),
        slots: vec![("exp_avg".to_owned(), Vec::new())],
    };
    for k in 0..of {
        let range = FLOATS * k / of..FLOATS * (k + 1) / of;
        let slice = load_range(storage, manifest, range.clone()).unwrap();
        assert_eq!(slice.parameters.len(), range.len());
        whole.parameters.extend(slice.parameters);
        whole.slots[0].1.extend(&slice.slots[0].1);
    }
    whole
}

#[test]
fn every_range_can_be_loaded() {
    let storage = MemoryStorage::new();
    let manifest = manifest(50, 1, write_shards(&storage, 50, 1, 3).unwrap());
    let expected = state(50);
    for start in 0..=FLOATS {
        for end in start..=FLOATS {
            let slice = load_range(&storage, &manifest, start..end).unwrap();
            let wanted = Slice {
                parameters: expected.parameters[start..end].to_vec(),
                slots: vec![(
                    "exp_avg".to_owned(),
                    expected.slots[0].1[start..end].to_vec(),
                )],
            };
            assert_eq!(bits(&slice), bits(&wanted));
        }
    }
    let outside = load_range(&storage, &manifest, 0..FLOATS + 1).unwrap_err();
    assert!(outside.to_string().contains("0..38"), "{outside}");
}

#[test]
fn more_servers_than_floats_write_empty_shards() {
    let storage = MemoryStorage::new();
    let servers = FLOATS as u32 + 3;
    let manifest = manifest(50, 1, write_shards(&storage, 50, 1, servers).unwrap());
    let whole = load_range(&storage, &manifest, 0..FLOATS).unwrap();
    assert_eq!(bits(&whole), bits(&state(50)));
}

#[test]
fn a_shard_is_a_plain_safetensors_file_and_always_the_same_bytes() {
    let storage = MemoryStorage::new();
    let record = write_shards(&storage, 50, 2, 3).unwrap().remove(1);
    assert_eq!(
        record.key,
        "checkpoints/000000000050-g0002/shard-0002-of-0003.safetensors"
    );
    let bytes = storage.get(&record.key, record.bytes).unwrap();
    assert_eq!(bytes.len() as u64, record.bytes);
    assert_eq!(sha256_hex(&bytes), record.sha256);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let expected = state(50).parameters[record.start as usize..record.end as usize].to_vec();
    let parameters = file.tensor("parameters").unwrap();
    assert_eq!(parameters.shape(), [expected.len()]);
    let expected: Vec<u8> = expected.iter().flat_map(|f| f.to_le_bytes()).collect();
    assert_eq!(parameters.data(), expected);
    assert_eq!(file.names().len(), 2);
    let again = write_shards(&storage, 50, 2, 3).unwrap().remove(1);
    assert_eq!(again, record);
}

#[test]
fn sections_that_do_not_fit_are_refused() {
    let storage = MemoryStorage::new();
    let write = |index, names: &[&str], floats: usize| {
        let floats = vec![0.0; floats];
        let section = |&name| Section {
            name,
            parts: vec![&floats[..]],
        };
        let sections: Vec<_> = names.iter().map(section).collect();
        let id = ShardId {
            generation: 1,
            step: 1,
            index,
            of: 2,
        };
        match write_shard(&storage, id, 3..7, &sections) {
            Err(Error::Invalid { reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(write(2, &["parameters"], 4).contains("index 2"));
    assert!(write(0, &["exp_avg"], 4).contains("first section"));
    assert!(write(0, &["parameters", "a", "a"], 4).contains("\"a\" is taken"));
    assert!(write(0, &["parameters", "__metadata__"], 4).contains("taken"));
    assert!(write(0, &["parameters"], 5).contains("has 5 floats"));
    assert_eq!(storage.list("").unwrap(), []);
}
