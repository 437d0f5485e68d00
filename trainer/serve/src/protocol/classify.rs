//! Triton's extension `classification`: the greatest elements of an output, with their labels.

use std::cmp::Ordering;

use super::data::Data;

/// The `count` greatest elements of each row, as strings `VALUE:INDEX:LABEL`, or `VALUE:INDEX` where there is no label; all of
/// them where there are fewer. The value has six decimals, as with Triton.
///
/// `values` are rows of `width` elements, one after the other. The greatest comes first, of equal ones the first; NaN is last. The
/// shape is `[rows, count]`, the data `BYTES`.
pub fn classify(values: &[f32], width: usize, labels: &[String], count: u32) -> (Vec<u64>, Data) {
    let count = usize::try_from(count).map_or(width, |count| count.min(width));
    // Rows of no elements would be infinitely many.
    let rows = values.chunks_exact(width.max(1));
    let shape = vec![rows.len() as u64, count as u64];
    let strings = rows.flat_map(|row| {
        greatest(row, count)
            .into_iter()
            .map(|(index, value)| match labels.get(index) {
                Some(label) => format!("{value:.6}:{index}:{label}"),
                None => format!("{value:.6}:{index}"),
            })
    });
    (shape, Data::Bytes(strings.collect()))
}

/// The first `count` of a row in descending order, each with its place.
fn greatest(row: &[f32], count: usize) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
    if count < ranked.len() {
        // Sorting all of a thousand classes for the best five would take most of the time.
        ranked.select_nth_unstable_by(count, descending);
        ranked.truncate(count);
    }
    ranked.sort_unstable_by(descending);
    ranked
}

/// A total order also where there is NaN, which `partial_cmp` alone is not.
fn descending((i, a): &(usize, f32), (j, b): &(usize, f32)) -> Ordering {
    let by_value = b
        .partial_cmp(a)
        .unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()));
    by_value.then(i.cmp(j))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[f32], width: usize, labels: &[&str], count: u32) -> (Vec<u64>, Vec<String>) {
        let labels: Vec<String> = labels.iter().map(|label| (*label).into()).collect();
        let (shape, data) = classify(values, width, &labels, count);
        let Data::Bytes(strings) = data else {
            panic!("{data:?}");
        };
        assert_eq!(shape.iter().product::<u64>(), strings.len() as u64);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (shape, strings.iter().map(text).collect())
    }

    #[test]
    fn s04_the_greatest_of_each_row_come_first() {
        let values = [0.1, 0.7, 0.2, 1.0, 5.0, 10.0];
        let (shape, strings) = texts(&values, 3, &["cat", "dog", "eel"], 2);
        assert_eq!(shape, [2, 2]);
        let expected = [
            "0.700000:1:dog",
            "0.200000:2:eel",
            "10.000000:2:eel",
            "5.000000:1:dog",
        ];
        assert_eq!(strings, expected);
    }

    #[test]
    fn s04_of_equal_elements_the_first_comes_first_and_nan_is_last() {
        let values = [f32::NAN, 0.0, -0.0, -1.5, 0.0, f32::NAN];
        for count in 1..=6 {
            let (_, strings) = texts(&values, 6, &[], count);
            let all = [
                "0.000000:1",
                "-0.000000:2",
                "0.000000:4",
                "-1.500000:3",
                "NaN:0",
                "NaN:5",
            ];
            assert_eq!(strings, all[..count as usize]);
        }
    }

    #[test]
    fn s04_values_are_rounded_as_c_does() {
        // 2^-7 and 3 * 2^-7 lie in the middle of two: the even one is taken.
        let (_, strings) = texts(&[0.0234375, 0.0078125, 5e-7], 3, &[], 3);
        assert_eq!(strings, ["0.023438:0", "0.007812:1", "0.000000:2"]);
    }

    #[test]
    fn s04_more_classes_than_there_are_are_all() {
        assert_eq!(texts(&[1.0, 2.0], 2, &[], u32::MAX).0, [1, 2]);
        assert_eq!(texts(&[1.0, 2.0], 2, &[], 0).0, [1, 0]);
        assert_eq!(texts(&[], 2, &[], 1).0, [0, 1]);
        assert_eq!(texts(&[], 0, &[], 1).0, [0, 0]);
    }
}
