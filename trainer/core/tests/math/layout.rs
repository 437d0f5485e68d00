//! The arena: its layout, its parts, its first version and its digest.

use std::num::NonZeroUsize;

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use trainyard_core::layout::{
    ALIGNMENT, CHUNK, Init, Layout, LayoutError, ModelHasher, Param, model_sha256,
};

fn param(name: &str, shape: &[u64], init: Init) -> Param {
    Param {
        name: name.to_owned(),
        shape: shape.to_vec(),
        init,
    }
}

fn any_params() -> impl Strategy<Value = Vec<Param>> {
    let shape = prop_oneof![
        prop::collection::vec(1_u64..6, 0..4),
        prop::collection::vec(1_u64..400, 2),
    ];
    let init = prop_oneof![
        (0.01_f32..2.0).prop_map(|bound| Init::Uniform { bound }),
        (-2.0_f32..2.0).prop_map(Init::Constant),
    ];
    let names = prop::collection::btree_set("[a-c.é]{1,4}", 1..8);
    (names, prop::collection::vec((shape, init), 8)).prop_map(|(names, rest)| {
        let params = names.into_iter().zip(rest);
        params
            .map(|(name, (shape, init))| param(&name, &shape, init))
            .collect()
    })
}

/// What the documentation of `model_sha256` says, written again.
fn documented_digest(layout: &Layout, arena: &[f32]) -> String {
    let mut input = b"trainyard-model-v1\n".to_vec();
    for placed in layout.params() {
        let name = placed.param.name.as_bytes();
        input.extend((name.len() as u32).to_le_bytes());
        input.extend(name);
        input.extend([3, 0, 0, 0, b'F', b'3', b'2']);
        input.extend((placed.param.shape.len() as u32).to_le_bytes());
        input.extend(placed.param.shape.iter().flat_map(|dim| dim.to_le_bytes()));
        input.extend((4 * placed.len as u64).to_le_bytes());
        input.extend(
            arena[placed.range()]
                .iter()
                .flat_map(|value| value.to_le_bytes()),
        );
    }
    Sha256::digest(&input)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn parameters_are_sorted_aligned_and_disjoint(params in any_params(), turn in 0_usize..8) {
        let layout = Layout::new(params.clone()).unwrap();
        let mut end = 0;
        let mut previous = None;
        for placed in layout.params() {
            prop_assert!(previous < Some(placed.param.name.as_bytes()));
            previous = Some(placed.param.name.as_bytes());
            prop_assert!(placed.offset.is_multiple_of(ALIGNMENT));
            prop_assert!(placed.offset >= end && placed.offset - end < ALIGNMENT);
            prop_assert_eq!(placed.len as u64, placed.param.shape.iter().product::<u64>());
            end = placed.range().end;
        }
        prop_assert!(layout.len() - end < ALIGNMENT && layout.len().is_multiple_of(ALIGNMENT));
        prop_assert_eq!(layout.params().len(), params.len());

        let mut turned = params;
        let turn = turn % turned.len();
        turned.rotate_left(turn);
        prop_assert_eq!(Layout::new(turned).unwrap(), layout);
    }

    #[test]
    fn chunks_and_shards_tile_the_arena(
        params in any_params(),
        servers in 1_u32..20,
        len in prop::sample::select(vec![CHUNK, 7, 64, 1000]),
    ) {
        let layout = Layout::new(params).unwrap();
        let layout = match len {
            CHUNK => layout,
            other => layout.in_chunks_of(NonZeroUsize::new(other).unwrap()).unwrap(),
        };
        let mut floats = 0;
        let mut chunks = 0;
        for server in 0..servers {
            let shard = layout.shard(server, servers);
            prop_assert_eq!(shard.start, chunks);
            chunks = shard.end;
            let covered = layout.floats(&shard);
            if !shard.is_empty() {
                prop_assert_eq!(covered.start, floats);
            }
            for chunk in shard {
                let range = layout.chunk_range(chunk);
                prop_assert_eq!(range.start, floats);
                prop_assert!(!range.is_empty() && range.len() <= len);
                prop_assert!(range.len() == len || chunk + 1 == layout.chunks());
                floats = range.end;
            }
            prop_assert!(covered.is_empty() || covered.end == floats);
        }
        prop_assert_eq!((chunks, floats), (layout.chunks(), layout.len()));
        prop_assert!(layout.chunk_range(chunks).is_empty());
        prop_assert!(layout.chunk_range(u32::MAX).is_empty());
        prop_assert!(layout.shard(servers, servers).is_empty());
        // The coordinator counts steps by chunk 0.
        prop_assert!(layout.shard(0, servers).contains(&0));
    }

    /// Any part of version 0, computed alone, is that part of the whole; padding is zero.
    #[test]
    fn parts_are_initialized_alike(params in any_params(), seed: u64, a: prop::sample::Index, b: prop::sample::Index) {
        let layout = Layout::new(params).unwrap();
        let mut whole = vec![f32::NAN; layout.len()];
        layout.initialize(seed, 0..layout.len(), &mut whole).unwrap();
        let (a, b) = (a.index(layout.len() + 1), b.index(layout.len() + 1));
        let range = a.min(b)..a.max(b);
        let mut part = vec![f32::NAN; range.len()];
        layout.initialize(seed, range.clone(), &mut part).unwrap();
        prop_assert_eq!(&part, &whole[range]);

        let mut padding = vec![true; layout.len()];
        for placed in layout.params() {
            padding[placed.range()].fill(false);
            let values = &whole[placed.range()];
            match placed.param.init {
                Init::Constant(value) => prop_assert!(values.iter().all(|&v| v == value)),
                Init::Uniform { bound } => prop_assert!(values.iter().all(|v| v.abs() <= bound)),
            }
        }
        prop_assert!(whole.iter().zip(padding).all(|(value, padding)| !padding || *value == 0.0));
    }

    /// Whatever part of the arena is cleared, its padding and nothing else becomes zero.
    #[test]
    fn padding_alone_is_cleared(params in any_params(), a: prop::sample::Index, b: prop::sample::Index) {
        let layout = Layout::new(params).unwrap();
        let (a, b) = (a.index(layout.len() + 1), b.index(layout.len() + 1));
        let range = a.min(b)..a.max(b);
        let mut part = vec![7.0; range.len()];
        layout.clear_padding(range.start, &mut part);
        let mut expected = vec![0.0; layout.len()];
        for placed in layout.params() {
            expected[placed.range()].fill(7.0);
        }
        prop_assert_eq!(&part, &expected[range]);
    }

    /// However the arena comes, the digest is the documented one, and blind to padding.
    #[test]
    fn digests_agree(params in any_params(), seed: u64, pieces in prop::collection::vec(0_usize..3000, 0..40)) {
        let layout = Layout::new(params).unwrap();
        let mut arena = vec![0.0; layout.len()];
        layout.initialize(seed, 0..layout.len(), &mut arena).unwrap();
        let expected = documented_digest(&layout, &arena);
        prop_assert_eq!(&layout.model_sha256(&arena).unwrap(), &expected);

        let mut hasher = ModelHasher::new(&layout);
        let mut rest = arena.as_slice();
        for piece in pieces {
            let (head, tail) = rest.split_at(piece.min(rest.len()));
            hasher.update(head).unwrap();
            rest = tail;
        }
        hasher.update(rest).unwrap();
        prop_assert_eq!(&hasher.finish().unwrap(), &expected);

        let bytes: Vec<Vec<u8>> = layout
            .params()
            .map(|placed| arena[placed.range()].iter().flat_map(|v| v.to_le_bytes()).collect())
            .collect();
        let tensors = layout.params().zip(&bytes);
        let tensors = tensors.map(|(placed, bytes)| (&*placed.param.name, &*placed.param.shape, &**bytes));
        prop_assert_eq!(&model_sha256(tensors).unwrap(), &expected);

        let mut covered = vec![false; layout.len()];
        layout.params().for_each(|placed| covered[placed.range()].fill(true));
        for (value, covered) in arena.iter_mut().zip(covered) {
            *value = if covered { *value } else { 9.0 };
        }
        prop_assert_eq!(&layout.model_sha256(&arena).unwrap(), &expected);
    }
}

/// The digest of a fixed model, computed by the Python in the documentation of `model_sha256`.
#[test]
fn the_digest_is_what_python_computes() {
    let weight: Vec<u8> = (0..6)
        .flat_map(|i| (i as f32 * 0.5).to_le_bytes())
        .collect();
    let scale = 1.25_f32.to_le_bytes();
    let tensors: [(&str, &[u64], &[u8]); 2] =
        [("a.scale", &[], &scale), ("b.weight", &[2, 3], &weight)];
    assert_eq!(
        model_sha256(tensors).unwrap(),
        "f77489d108e9a5e13d659d1aa1c18b1a015b0581e93ade74edeb5e770f18ae17"
    );
}

#[test]
fn digests_tell_models_apart() {
    let bytes = [0; 16];
    let digest = |name: &str, shape: &[u64]| model_sha256([(name, shape, &bytes[..])]).unwrap();
    let all = [
        digest("a", &[4]),
        digest("a", &[2, 2]),
        digest("a", &[4, 1]),
        digest("b", &[4]),
    ];
    for (i, one) in all.iter().enumerate() {
        assert!(all[i + 1..].iter().all(|other| other != one));
    }
}

#[test]
fn a_digest_needs_whole_ordered_tensors() {
    let bytes = [0; 8];
    let swapped: [(&str, &[u64], &[u8]); 2] = [("b", &[2], &bytes), ("a", &[2], &bytes)];
    assert_eq!(
        model_sha256(swapped),
        Err(LayoutError::Order("a".to_owned()))
    );
    let twice: [(&str, &[u64], &[u8]); 2] = [("a", &[2], &bytes), ("a", &[2], &bytes)];
    assert_eq!(model_sha256(twice), Err(LayoutError::Order("a".to_owned())));
    for shape in [&[3_u64][..], &[u64::MAX, 2], &[]] {
        assert!(matches!(
            model_sha256([("a", shape, &bytes[..])]),
            Err(LayoutError::Bytes { .. })
        ));
    }

    let layout = Layout::new(vec![param("a", &[20], Init::Constant(1.0))]).unwrap();
    let mut hasher = ModelHasher::new(&layout);
    hasher.update(&[1.0; 31]).unwrap();
    assert_eq!(
        hasher.update(&[1.0; 2]),
        Err(LayoutError::Length {
            expected: 32,
            actual: 33
        })
    );
    assert_eq!(
        hasher.clone().finish(),
        Err(LayoutError::Length {
            expected: 32,
            actual: 31
        })
    );
    hasher.update(&[0.0]).unwrap();
    let mut arena = [1.0; 32];
    arena[20..].fill(0.0);
    assert_eq!(hasher.finish(), layout.model_sha256(&arena));
}

#[test]
fn impossible_models_are_refused() {
    let one = Init::Constant(1.0);
    assert_eq!(Layout::new(vec![]), Err(LayoutError::Empty));
    let twice = vec![
        param("a", &[1], one.clone()),
        param("b", &[1], one.clone()),
        param("a", &[2], one.clone()),
    ];
    assert_eq!(
        Layout::new(twice),
        Err(LayoutError::Duplicate("a".to_owned()))
    );
    let zero = Layout::new(vec![param("a", &[3, 0], one.clone())]);
    assert_eq!(
        zero,
        Err(LayoutError::ZeroDimension {
            name: "a".to_owned(),
            shape: vec![3, 0]
        })
    );
    for shape in [vec![u64::MAX, 2], vec![(1 << 34) + 1]] {
        let error = Layout::new(vec![param("a", &shape, one.clone())]).unwrap_err();
        assert_eq!(
            error,
            LayoutError::TooLarge {
                name: "a".to_owned(),
                shape
            }
        );
    }
    // 2^14 parameters of 2^34 floats are 2^32 chunks: one more than can be counted.
    let many = |n: u32| {
        (0..n)
            .map(|i| param(&format!("{i:05}"), &[1 << 34], one.clone()))
            .collect()
    };
    assert!(matches!(
        Layout::new(many(1 << 14)),
        Err(LayoutError::TooLarge { .. })
    ));
    assert_eq!(
        Layout::new(many((1 << 14) - 1)).unwrap().chunks(),
        u32::MAX - (1 << 18) + 1
    );
}

#[test]
fn ranges_outside_the_arena_are_refused() {
    let layout = Layout::new(vec![param("a", &[3], Init::Constant(1.0))]).unwrap();
    assert_eq!(layout.len(), 16);
    let mut out = [0.0; 4];
    let past = layout.initialize(0, 13..17, &mut out);
    assert_eq!(
        past,
        Err(LayoutError::Length {
            expected: 16,
            actual: 17
        })
    );
    let short = layout.initialize(0, 0..5, &mut out);
    assert_eq!(
        short,
        Err(LayoutError::Length {
            expected: 5,
            actual: 4
        })
    );
    layout.initialize(0, 1..5, &mut out).unwrap();
    assert_eq!(out, [1.0, 1.0, 0.0, 0.0]);
    assert!(layout.shard(0, 0).is_empty());
}
