//! T10: any number of servers loads what any number wrote.

use crate::disk::TestDisk;
use crate::support::{FLOATS, bits, manifest, state, write_shards};
use safetensors::SafeTensors;
use trainyard_checkpoint::{
    Error, FolderStorage, Manifest, MemoryStorage, Section, ShardId, Slice, Storage, load_range,
    sha256_hex, write_shard,
};
use trainyard_core::layout::{CHUNK, Init, Layout, Param};

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

fn gather(storage: &dyn Storage, manifest: &Manifest, of: usize) -> Slice {
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

/// The arena of a job has chunks, and its servers have whole ones.
fn write_chunks(storage: &dyn Storage, servers: u32) -> Manifest {
    let layout = {
        let shape = vec![4 * CHUNK as u64 + 1];
        let (name, init) = ("weight".to_owned(), Init::Constant(0.0));
        Layout::new(vec![Param { name, shape, init }]).unwrap()
    };
    let tensor = |salt: u32| -> Vec<f32> {
        let value = |i| f32::from_bits((i as u32 + salt).wrapping_mul(2_654_435_761));
        (0..layout.len()).map(value).collect()
    };
    let tensors = [("parameters", tensor(1)), ("exp_avg", tensor(1000))];
    let chunks = |k| layout.shard(k, servers);
    let owners = (0..servers).filter(|&k| !chunks(k).is_empty());
    let write = |index| {
        let range = layout.floats(&chunks(index));
        let section =
            |(name, floats): &'_ (&'static str, Vec<f32>)| (*name, floats[range.clone()].to_vec());
        let held: Vec<_> = tensors.iter().map(section).collect();
        let sections: Vec<_> = held
            .iter()
            .map(|(name, floats)| Section {
                name,
                parts: floats.chunks(CHUNK).collect(),
            })
            .collect();
        let id = ShardId {
            generation: 1,
            step: 50,
            index,
            of: servers,
        };
        write_shard(storage, id, range, &sections).unwrap()
    };
    let mut manifest = manifest(50, 1, owners.map(write).collect());
    manifest.floats = layout.len() as u64;
    manifest.check().unwrap();
    manifest
}

#[test]
fn the_digests_of_a_state_do_not_depend_on_the_number_of_servers() {
    let storage = MemoryStorage::new();
    let one = write_chunks(&storage, 1).state_digests().unwrap();
    // Made by an implementation of RFC 6962 in Python from the same floats.
    assert_eq!(
        one.parameters_sha256.to_string(),
        "12f7799dcc73242535335da7cf7532aa4e9e2f83f820c66d8de0c4505fb13083"
    );
    assert_eq!(
        one.optimizer_sha256.unwrap().to_string(),
        "c573905620177392c17253c19b8847de373ea102a8e10a3ea8d54aeb12ddf493"
    );
    for servers in 2..=7 {
        let several = write_chunks(&storage, servers);
        assert_eq!(several.state_digests(), Some(one), "{servers}");
    }
}

#[test]
fn a_state_whose_shards_do_not_tell_their_subtrees_has_no_digest() {
    let storage = MemoryStorage::new();
    let manifest = write_chunks(&storage, 3);
    for shard in 0..3 {
        let mut older = manifest.clone();
        older.shards[shard].subtrees.clear();
        assert_eq!(older.state_digests(), None);
        let mut short = manifest.clone();
        short.shards[shard].subtrees[1].pop();
        assert_eq!(short.state_digests(), None);
    }
    let mut stateless = manifest;
    for shard in &mut stateless.shards {
        shard.slots.clear();
    }
    let digests = stateless.state_digests().unwrap();
    assert_eq!(digests.optimizer_sha256, None);
    // Its second shard begins within a chunk.
    let uneven = crate::support::manifest(50, 1, write_shards(&storage, 50, 1, 2).unwrap());
    assert_eq!(uneven.state_digests(), None);
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
