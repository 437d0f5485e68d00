//! Sets of indexes in the notation of a Kubernetes Job's `completedIndexes`: numbers and ranges in ascending order, as in
//! `0-3,7`.

use std::collections::BTreeSet;

/// Indexes from which on a text is not read: no role has as many members.
const LIMIT: u32 = 1024;

/// The set in that notation; `None` for an empty one.
pub fn format(indexes: &BTreeSet<u32>) -> Option<String> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    let written = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    (!ranges.is_empty()).then(|| written.collect::<Vec<_>>().join(","))
}

/// The set that a text in that notation holds; what is not in that notation is left out.
pub fn parse(text: &str) -> BTreeSet<u32> {
    let range = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        (last < LIMIT).then_some(first..=last)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_ranges_and_read_back() {
        let cases: [(&[u32], Option<&str>); 5] = [
            (&[], None),
            (&[0], Some("0")),
            (&[0, 1, 2, 3, 7], Some("0-3,7")),
            (&[1, 3, 5], Some("1,3,5")),
            (&[0, 1022, 1023], Some("0,1022-1023")),
        ];
        for (indexes, text) in cases {
            let set: BTreeSet<u32> = indexes.iter().copied().collect();
            assert_eq!(format(&set).as_deref(), text);
            assert_eq!(parse(text.unwrap_or_default()), set);
        }
    }

    #[test]
    fn what_is_no_index_is_left_out() {
        let read = |text| parse(text).into_iter().collect::<Vec<_>>();
        assert_eq!(read("x,2,-3,4-,5-4,7"), [2, 7]);
        assert_eq!(read("0-4294967295,1024,3"), [3]);
    }
}
