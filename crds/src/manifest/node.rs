//! A manifest as a tree of values with their places.

use super::error::Place;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub place: Place,
    pub kind: Kind,
}

/// A value as kubectl resolves it.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Null,
    Bool(bool, String),
    Integer(i64),
    /// A number that is not an integer of 64 bits; it may be infinite or NaN.
    Float(f64),
    String(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A field of a map.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: String,
    pub place: Place,
    pub node: Node,
}
