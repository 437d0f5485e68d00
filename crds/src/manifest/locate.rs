//! From the path of a field to its place in the file.

use super::error::Place;
use super::node::{Kind, Node};

/// The steps of a path such as `spec.model.cnn.blocks[0].groups`.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '['])
        .map(|step| step.trim_end_matches(']'))
        .filter(|step| !step.is_empty())
}

/// Place of the field at `path`, or of the nearest thing above it that is in the file.
pub(super) fn place(root: &Node, path: &str) -> Place {
    let mut node = root;
    let mut place = root.place;
    for step in steps(path) {
        match &node.kind {
            Kind::Map(entries) => match entries.iter().find(|entry| entry.name == step) {
                Some(entry) => (node, place) = (&entry.node, entry.place),
                None => break,
            },
            Kind::List(items) => match step
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get(index))
            {
                Some(item) => (node, place) = (item, item.place),
                None => break,
            },
            _ => break,
        }
    }
    place
}

/// Names of the fields at `path` that have a value, with their places.
pub(super) fn fields<'a>(root: &'a Node, path: &str) -> Vec<(&'a str, Place)> {
    let mut node = root;
    for step in steps(path) {
        let next = match &node.kind {
            Kind::Map(entries) => entries
                .iter()
                .find(|entry| entry.name == step)
                .map(|entry| &entry.node),
            Kind::List(items) => step
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get(index)),
            _ => None,
        };
        match next {
            Some(next) => node = next,
            None => return Vec::new(),
        }
    }
    match &node.kind {
        Kind::Map(entries) => entries
            .iter()
            .filter(|entry| !matches!(entry.node.kind, Kind::Null))
            .map(|entry| (entry.name.as_str(), entry.place))
            .collect(),
        _ => Vec::new(),
    }
}
