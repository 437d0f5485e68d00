//! From the path of a field to its place in the file.

use super::error::Place;
use super::node::{Entry, Kind, Node};

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

/// What is at `path`, if it is in the file.
fn at<'a>(root: &'a Node, path: &str) -> Option<&'a Node> {
    steps(path).try_fold(root, |node, step| match &node.kind {
        Kind::Map(entries) => {
            let entry = entries.iter().find(|entry| entry.name == step);
            entry.map(|entry| &entry.node)
        }
        Kind::List(items) => items.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Names of the fields at `path`, with their places: those that have a value, or those that have none.
pub(super) fn fields<'a>(root: &'a Node, path: &str, with_value: bool) -> Vec<(&'a str, Place)> {
    let Some(Kind::Map(entries)) = at(root, path).map(|node| &node.kind) else {
        return Vec::new();
    };
    let wanted = |entry: &&Entry| matches!(entry.node.kind, Kind::Null) != with_value;
    let wanted = entries.iter().filter(wanted);
    wanted
        .map(|entry| (entry.name.as_str(), entry.place))
        .collect()
}
