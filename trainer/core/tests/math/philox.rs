//! Random streams: the published generator, the documented layout, and the draws made from it.

use std::collections::HashSet;

use proptest::prelude::*;
use trainyard_core::philox::{Purpose, STREAM_DRAWS, Stream, philox4x32};

/// The known answers of philox4x32-10 in Random123's `kat_vectors`.
#[test]
fn philox_known_answers() {
    let cases = [
        (
            [0; 4],
            [0; 2],
            [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
        ),
        (
            [u32::MAX; 4],
            [u32::MAX; 2],
            [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
        ),
        (
            [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
            [0xa4093822, 0x299f31d0],
            [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
        ),
    ];
    for (counter, key, expected) in cases {
        assert_eq!(philox4x32(counter, key), expected);
    }
}

fn draws(stream: &mut Stream, n: usize) -> Vec<u32> {
    (0..n).map(|_| stream.next_u32()).collect()
}

/// The layout as documented, written out by hand: a change of it changes every model.
#[test]
fn layout_is_the_documented_one() {
    let mut stream = Stream::new(
        0x0123_4567_89AB_CDEF,
        Purpose::Dropout,
        0xAB_1234_5678,
        0x9ABC_DEF0,
        0x4321,
    );
    let key = [0x89AB_CDEF, 0x0123_4567];
    let counter = |block| [block, 0x1234_5678, 0x9ABC_DEF0, 0x1443_21AB];
    let expected = [philox4x32(counter(0), key), philox4x32(counter(1), key)].concat();
    assert_eq!(draws(&mut stream, 8), expected);

    stream.seek(4 * 0xFFFF_FFFF);
    assert_eq!(draws(&mut stream, 4), philox4x32(counter(0xFFFF_FFFF), key));

    // Coordinates beyond the counter go to the key: a = 2^40, c = 2^16.
    let mut far = Stream::new(0, Purpose::Init, 1 << 40, 0, 1 << 16);
    assert_eq!(
        draws(&mut far, 4),
        philox4x32([0, 0, 0, 0x1100_0000], [0x0001_0001, 0])
    );
}

#[test]
fn streams_are_told_apart_by_every_argument() {
    let mut seen = HashSet::new();
    let mut streams = 0;
    for seed in [0, 1, 1 << 32] {
        for purpose in [
            Purpose::Init,
            Purpose::Shuffle,
            Purpose::Split,
            Purpose::Dropout,
        ] {
            for a in [0, 1, 1 << 31, 1 << 32, 1 << 39] {
                for b in [0, 1, 1 << 31] {
                    for c in [0, 1, 1 << 15] {
                        seen.insert(draws(&mut Stream::new(seed, purpose, a, b, c), 4));
                        streams += 1;
                    }
                }
            }
        }
    }
    assert_eq!(seen.len(), streams);
}

proptest! {
    /// Under one seed, no two names have the same first block, whatever their size.
    #[test]
    fn names_are_injective(seed: u64, one: (u64, u32, u32), other: (u64, u32, u32), bit in 0_u32..64) {
        let first = |(a, b, c)| draws(&mut Stream::new(seed, Purpose::Dropout, a, b, c), 4);
        if one != other {
            prop_assert_ne!(first(one), first(other));
        }
        let (a, b, c) = one;
        prop_assert_ne!(first(one), first((a ^ 1 << bit, b, c)));
        prop_assert_ne!(first(one), first((a, b ^ 1 << (bit % 32), c)));
        prop_assert_ne!(first(one), first((a, b, c ^ 1 << (bit % 32))));
    }

    /// Draw `i` is a pure function of `i`: by seeking, in vectors, in pieces, one by one.
    #[test]
    fn fills_equal_single_draws(start in 0_u64..100, n in 0_usize..300, cut in 0_usize..300) {
        let stream = Stream::new(3, Purpose::Init, 5, 0, 0);
        let mut one_by_one = stream.clone();
        for _ in 0..start {
            one_by_one.next_u32();
        }
        let expected: Vec<f32> = (0..n).map(|_| -2.0 + 5.0 * one_by_one.uniform()).collect();

        let mut filled = vec![0.0; n];
        let (head, tail) = filled.split_at_mut(cut.min(n));
        let mut pieces = stream.clone();
        pieces.seek(start);
        pieces.fill_uniform(head, -2.0, 3.0);
        pieces.fill_uniform(tail, -2.0, 3.0);
        prop_assert_eq!(&filled, &expected);
        prop_assert_eq!(pieces.next_u32(), one_by_one.next_u32());
    }

    #[test]
    fn dropout_keeps_what_uniform_says(p in 0.0_f32..1.0, n in 0_usize..200, layer: u16) {
        let mut stream = Stream::new(9, Purpose::Dropout, 17, 2, layer.into());
        let mut uniform = stream.clone();
        let mut mask = vec![f32::NAN; n];
        stream.dropout_mask(&mut mask, p);
        for value in mask {
            prop_assert_eq!(value, if uniform.uniform() >= p { 1.0 / (1.0 - p) } else { 0.0 });
        }
    }

    #[test]
    fn below_is_below(seed: u64, n in 1_u64..) {
        prop_assert!(Stream::new(seed, Purpose::Shuffle, 0, 0, 0).below(n) < n);
    }
}

#[test]
fn dropout_rate_and_scale() {
    let mut mask = vec![0.0; 1 << 20];
    for p in [0.1_f32, 0.5, 0.9] {
        Stream::new(1, Purpose::Dropout, 0, 0, 0).dropout_mask(&mut mask, p);
        let dropped = mask.iter().filter(|&&value| value == 0.0).count() as f64 / mask.len() as f64;
        // Five standard deviations.
        let deviation = (f64::from(p * (1.0 - p)) / mask.len() as f64).sqrt();
        assert!(
            (dropped - f64::from(p)).abs() < 5.0 * deviation,
            "{p}: {dropped}"
        );
    }
    for (p, value) in [
        (0.0, 1.0),
        (-1.0, 1.0),
        (1.0, 0.0),
        (2.0, 0.0),
        (f32::NAN, 0.0),
    ] {
        Stream::new(1, Purpose::Dropout, 0, 0, 0).dropout_mask(&mut mask[..100], p);
        assert!(mask[..100].iter().all(|&factor| factor == value), "{p}");
    }
}

#[test]
fn below_is_unbiased_and_total() {
    let mut stream = Stream::new(2, Purpose::Shuffle, 0, 0, 0);
    assert_eq!(stream.below(0), 0);
    assert_eq!(stream.below(1), 0);
    // Two thirds of the 64-bit range: without rejection half of the draws would fall in the lower third.
    let n = u64::MAX / 3 * 2;
    let low = (0..30_000).filter(|_| stream.below(n) < n / 2).count();
    assert!((14_500..15_500).contains(&low), "{low}");
    let mut counts = [0; 6];
    for _ in 0..60_000 {
        counts[stream.below(6) as usize] += 1;
    }
    assert!(
        counts.iter().all(|count| (9_500..10_500).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn uniform_covers_its_range() {
    let mut stream = Stream::new(4, Purpose::Init, 0, 0, 0);
    let values: Vec<f32> = (0..100_000).map(|_| stream.uniform()).collect();
    assert!(values.iter().all(|value| (0.0..1.0).contains(value)));
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
    assert!(
        (mean - 0.5).abs() < 5.0 * (1.0 / 12.0_f64 / values.len() as f64).sqrt(),
        "{mean}"
    );
}

#[test]
fn a_stream_repeats_after_its_last_draw() {
    let mut stream = Stream::new(4, Purpose::Init, 0, 0, 0);
    let first = draws(&mut stream, 40);
    stream.seek(STREAM_DRAWS - 2);
    let mut wrapped = vec![0.0; 42];
    stream.fill_uniform(&mut wrapped, 0.0, 1.0);
    let expected: Vec<f32> = first
        .iter()
        .map(|bits| (bits >> 8) as f32 / 16_777_216.0)
        .collect();
    assert_eq!(wrapped[2..], expected);
}
