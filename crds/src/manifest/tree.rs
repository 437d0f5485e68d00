//! YAML text to a tree of values with their places, within bounds.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, Span};

use super::error::{Place, Report};
use super::node::{Entry, Kind, Node};
use super::{MAX_BYTES, scalar};

/// Deepest nesting. The schema is less than half as deep.
const MAX_DEPTH: usize = 64;
/// Most weight of a file, with each alias and each anchor counted as what it stands for; see [`measure`].
const MAX_WEIGHT: usize = 200_000;

/// Parses the one document of `text`. On `None` at least one error has been added.
pub(super) fn parse(text: &str, report: &mut Report) -> Option<Node> {
    if text.len() > MAX_BYTES {
        let what = format!("the file has more than {MAX_BYTES} bytes, which is the limit");
        report.add(Place::START, "", what, "keep data in their own files");
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match Builder::new(&Place::at_span).build(text) {
        Ok(node) => Some(node),
        Err(Fault {
            place,
            what,
            remedy,
        }) => {
            report.add(place, "", what, remedy);
            None
        }
    }
}

/// Parses the value of a change; every part of it stands at `place`.
pub(super) fn parse_value(text: &str, place: Place) -> Result<Node, Fault> {
    let at = move |_: &Span| place;
    Builder::new(&at).build(text)
}

impl Place {
    fn at_span(span: &Span) -> Place {
        Place::Text {
            line: span.start.line(),
            column: span.start.col() + 1,
        }
    }
}

/// Why a text is not a tree.
pub(super) struct Fault {
    pub place: Place,
    pub what: String,
    pub remedy: &'static str,
}

fn fault<T>(place: Place, what: impl Into<String>, remedy: &'static str) -> Result<T, Fault> {
    Err(Fault {
        place,
        what: what.into(),
        remedy,
    })
}

/// A collection that is not complete yet.
enum Open {
    List(Vec<Node>),
    /// Entries, and the key whose value comes next.
    Map(Vec<Entry>, Option<(String, Place)>),
}

struct Frame {
    open: Open,
    place: Place,
    anchor: usize,
}

struct Builder<'a> {
    place_of: &'a dyn Fn(&Span) -> Place,
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Node, Size)>,
    weight: usize,
    root: Option<Node>,
    documents: usize,
}

impl<'a> Builder<'a> {
    fn new(place_of: &'a dyn Fn(&Span) -> Place) -> Self {
        Builder {
            place_of,
            stack: Vec::new(),
            anchors: HashMap::new(),
            weight: 0,
            root: None,
            documents: 0,
        }
    }

    fn build(mut self, text: &str) -> Result<Node, Fault> {
        for event in Parser::new_from_str(text) {
            match event {
                Ok((event, span)) => {
                    let place = (self.place_of)(&span);
                    self.event(event, place)?;
                }
                Err(error) => {
                    let place = (self.place_of)(&Span::empty(*error.marker()));
                    return fault(
                        place,
                        format!("not valid YAML: {}", error.info()),
                        "check indentation, quotes and brackets",
                    );
                }
            }
        }
        match self.root {
            Some(root) => Ok(root),
            None => fault(
                (self.place_of)(&Span::empty(saphyr_parser::Marker::new(0, 1, 0))),
                "the file is empty",
                "see examples/ for manifests that run",
            ),
        }
    }

    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), Fault> {
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 && self.root.is_some() {
                    return fault(
                        place,
                        "a second document begins here",
                        "put each job into a file of its own",
                    );
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let kind = match scalar::resolve(&text, style, tag.as_deref()) {
                    Ok(kind) => kind,
                    Err(what) => return fault(place, what, "quote the value if it is a string"),
                };
                self.value(Node { place, kind }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), "seq", place)?;
                self.open(Open::List(Vec::new()), place, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), "map", place)?;
                self.open(Open::Map(Vec::new(), None), place, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(place),
            Event::Alias(id) => self.alias(id, place),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, open: Open, place: Place, anchor: usize) -> Result<(), Fault> {
        if self.stack.len() == MAX_DEPTH {
            return too_deep(place);
        }
        if let Some(Frame {
            open: Open::Map(_, None),
            ..
        }) = self.stack.last()
        {
            return fault(place, "a key that is a list or a map", "a key is a name");
        }
        self.stack.push(Frame {
            open,
            place,
            anchor,
        });
        Ok(())
    }

    fn close(&mut self, place: Place) -> Result<(), Fault> {
        let Some(frame) = self.stack.pop() else {
            return fault(
                place,
                "a list or map ends that never began",
                "check the brackets",
            );
        };
        let kind = match frame.open {
            Open::List(items) => Kind::List(items),
            Open::Map(entries, _) => Kind::Map(entries),
        };
        self.value(
            Node {
                place: frame.place,
                kind,
            },
            frame.anchor,
        )
    }

    /// A copy of an anchored value, with its own places: an error in it is mended there.
    fn alias(&mut self, id: usize, place: Place) -> Result<(), Fault> {
        let Some((node, size)) = self.anchors.get(&id) else {
            return fault(
                place,
                "an alias within its own anchor",
                "write the value out",
            );
        };
        self.weight += size.weight;
        if self.weight > MAX_WEIGHT {
            return too_large(place);
        }
        if self.stack.len() + size.depth > MAX_DEPTH {
            return too_deep(place);
        }
        let node = node.clone();
        self.attach(node)
    }

    /// A complete value from the text.
    fn value(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.weight += own_weight(&node.kind);
        if self.weight > MAX_WEIGHT {
            return too_large(node.place);
        }
        if anchor != 0 {
            let size = measure(&node);
            // The copy that is kept for its aliases. Anchors within anchors would keep as many as they are deep.
            self.weight += size.weight;
            if self.weight > MAX_WEIGHT {
                return too_large(node.place);
            }
            self.anchors.insert(anchor, (node.clone(), size));
        }
        self.attach(node)
    }

    /// Puts a value where it belongs: it is the next key, the value of the last key, the next item, or the document.
    fn attach(&mut self, node: Node) -> Result<(), Fault> {
        match self.stack.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map(entries, pending)) => match pending.take() {
                Some((name, place)) => entries.push(Entry { name, place, node }),
                None => *pending = Some((key(&node)?, node.place)),
            },
        }
        Ok(())
    }
}

fn too_large<T>(place: Place) -> Result<T, Fault> {
    fault(
        place,
        "the file has too many values",
        "keep data in their own files, and check the aliases",
    )
}

fn too_deep<T>(place: Place) -> Result<T, Fault> {
    fault(
        place,
        format!("nested deeper than {MAX_DEPTH} levels"),
        "check the brackets and the indentation",
    )
}

/// What a copy of a value costs.
#[derive(Clone, Copy)]
struct Size {
    weight: usize,
    depth: usize,
}

/// Weight of a value without its children: 1, and 1 more for each 16 bytes of text.
fn own_weight(kind: &Kind) -> usize {
    match kind {
        Kind::String(text) => 1 + text.len() / 16,
        _ => 1,
    }
}

fn measure(node: &Node) -> Size {
    let children: Vec<Size> = match &node.kind {
        Kind::List(items) => items.iter().map(measure).collect(),
        Kind::Map(entries) => entries
            .iter()
            .map(|entry| {
                let Size { weight, depth } = measure(&entry.node);
                Size {
                    weight: weight + 1 + entry.name.len() / 16,
                    depth,
                }
            })
            .collect(),
        _ => {
            return Size {
                weight: own_weight(&node.kind),
                depth: 0,
            };
        }
    };
    Size {
        weight: own_weight(&node.kind) + children.iter().map(|size| size.weight).sum::<usize>(),
        depth: 1 + children.iter().map(|size| size.depth).max().unwrap_or(0),
    }
}

/// The name that a key stands for. kubectl turns numbers and booleans into text.
fn key(node: &Node) -> Result<String, Fault> {
    let name = match &node.kind {
        Kind::String(name) => name.clone(),
        Kind::Integer(number) => number.to_string(),
        Kind::Bool(value, _) => value.to_string(),
        _ => return fault(node.place, "a key that is not a name", "quote it"),
    };
    if name == "<<" {
        return fault(
            node.place,
            "merge keys (`<<`) are not supported",
            "write the fields out",
        );
    }
    Ok(name)
}

fn refuse_tag(tag: Option<&saphyr_parser::Tag>, own: &str, place: Place) -> Result<(), Fault> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == own) => fault(
            place,
            format!("the tag {tag} is not supported"),
            "remove it",
        ),
        _ => Ok(()),
    }
}
