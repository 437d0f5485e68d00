//! The Merkle tree of RFC 6962, and the digests of a job's state that are made with it.

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use trainyard_core::layout::CHUNK;
use trainyard_core::merkle::{Digest, Leaf, Subtrees, cover};
use trainyard_core::state::SectionDigest;

/// The inputs and roots that Certificate Transparency's implementations are tested with.
const VECTORS: [(&str, &str); 8] = [
    (
        "",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    ),
    (
        "00",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    ),
    (
        "10",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    ),
    (
        "2021",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ),
    (
        "3031",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    ),
    (
        "40414243",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    ),
    (
        "5051525354555657",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    ),
    (
        "606162636465666768696a6b6c6d6e6f",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ),
];

fn leaf(bytes: &[u8]) -> Digest {
    let mut leaf = Leaf::new();
    leaf.update(bytes);
    leaf.finish()
}

/// Leaves that are told apart by their number.
fn leaves(n: u64) -> Vec<Digest> {
    (0..n).map(|i| leaf(&i.to_le_bytes())).collect()
}

/// Section 2.1 of the RFC as it is written, from the digests of the leaves.
fn defined(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::new(Sha256::digest([]).into()),
        [leaf] => *leaf,
        _ => {
            let split = leaves.len().next_power_of_two() / 2;
            let mut sha = Sha256::new_with_prefix([1]);
            sha.update(defined(&leaves[..split]).bytes());
            sha.update(defined(&leaves[split..]).bytes());
            Digest::new(sha.finalize().into())
        }
    }
}

/// The root, with the leaves cut at `cuts` among several who know a part each.
fn root_of_parts(leaves: &[Digest], cuts: &[usize]) -> Digest {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (leaves.len() + 1)).collect();
    cuts.extend([0, leaves.len()]);
    cuts.sort_unstable();
    let mut whole = Subtrees::starting_at(0);
    for pair in cuts.windows(2) {
        let part = &leaves[pair[0]..pair[1]];
        let mut subtrees = Subtrees::starting_at(pair[0] as u64);
        part.iter().for_each(|leaf| subtrees.push(*leaf));
        let added = whole.append(part.len() as u64, &subtrees.digests());
        added.expect("as many as cover the part");
    }
    whole.root()
}

#[test]
fn the_roots_are_those_of_rfc_6962() {
    let input = |hex: &str| base16ct::lower::decode_vec(hex).unwrap();
    let mut tree = Subtrees::starting_at(0);
    assert_eq!(
        tree.clone().root().to_string(),
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    for (bytes, root) in VECTORS {
        tree.push(leaf(&input(bytes)));
        assert_eq!(tree.clone().root().to_string(), root);
    }
}

#[test]
fn a_range_is_covered_by_its_largest_aligned_blocks() {
    assert_eq!(cover(0..0), [0; 0]);
    assert_eq!(cover(0..8), [3]);
    assert_eq!(cover(0..7), [2, 1, 0]);
    assert_eq!(cover(1..15), [0, 1, 2, 2, 1, 0]);
    assert_eq!(cover(5..6), [0]);
    assert!(cover(1..u64::MAX).len() <= 2 * 64);
}

#[test]
fn subtrees_that_do_not_cover_their_range_are_refused() {
    let two = &leaves(2);
    for wrong in [1, 2, 4, 5, u64::MAX] {
        let refused = Subtrees::starting_at(0).append(wrong, two);
        assert_eq!(refused.is_some(), cover(0..wrong).len() == 2, "{wrong}");
    }
    assert_eq!(Subtrees::starting_at(1).append(u64::MAX, two), None);
}

#[test]
fn a_digest_is_64_lower_case_digits_in_json() {
    let digest = leaf(b"");
    let json = serde_json::to_string(&digest).unwrap();
    assert_eq!(json, format!("\"{digest}\""));
    assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
    for wrong in [
        json.to_uppercase(),
        json[..63].to_owned() + "\"",
        json.replace('6', "g"),
    ] {
        let error = serde_json::from_str::<Digest>(&wrong).unwrap_err();
        assert!(error.to_string().contains("64 lower-case"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_partition_of_the_leaves_has_the_root_that_is_defined(
        n in 0_u64..200,
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let leaves = leaves(n);
        prop_assert_eq!(root_of_parts(&leaves, &cuts), defined(&leaves));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_leaves_of_a_section_are_its_chunks_however_its_floats_are_cut(
        first in 0_usize..5,
        floats in 1..3 * CHUNK,
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let values: Vec<f32> = (0..floats).map(|i| f32::from_bits((i as u32).wrapping_mul(2_654_435_761))).collect();
        let mut expected = Subtrees::starting_at(first as u64);
        for chunk in values.chunks(CHUNK) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|float| float.to_le_bytes()).collect();
            expected.push(leaf(&bytes));
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % floats).collect();
        cuts.extend([0, floats]);
        cuts.sort_unstable();
        let mut section = SectionDigest::starting_at(first * CHUNK).expect("a chunk begins there");
        for pair in cuts.windows(2) {
            section.update(&values[pair[0]..pair[1]]);
        }
        prop_assert_eq!(section.finish(), expected.digests());
        prop_assert!(SectionDigest::starting_at(first * CHUNK + 1 + floats % (CHUNK - 1)).is_none());
    }
}
