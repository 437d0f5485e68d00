//! Labels: raw values as read, and the classes fitted from them.

use std::collections::HashMap;

use trainyard_core::metrics::Task;
use trainyard_core::schema::{Label, TargetScale};

use crate::columns::{ColumnType, NO_CATEGORY, RawValues};
use crate::error::{DataError, few, quoted};
use crate::options::{ClassWeights, Limits};
use crate::scale::Scale;
use crate::warnings;

/// Distinct texts, numbered in the order of their first appearance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interner {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
    recent: Recent,
}

/// Short texts as they stand in a file, with the numbers of the names that they were found to be. Most columns of texts repeat
/// a few: these are found without being read with care again.
#[derive(Clone, Debug, Default)]
struct Recent(Vec<Option<(u128, u32)>>);

impl Recent {
    const SLOTS: usize = 64;

    /// A text of at most 15 bytes, with its length.
    fn key(text: &[u8]) -> Option<u128> {
        let mut key = [0; 16];
        key[..15].get_mut(..text.len())?.copy_from_slice(text);
        key[15] = text.len() as u8;
        Some(u128::from_le_bytes(key))
    }

    /// Its slot: the upper bits of a product depend on all bits below (Knuth, The Art of Computer Programming 3, 6.4).
    fn slot(key: u128) -> usize {
        let folded = (key ^ key >> 64) as u64;
        (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 58) as usize
    }
}

impl Interner {
    /// The number of the name that `text`, as it stands in a file, was found to be not long ago.
    pub(crate) fn recent(&self, text: &[u8]) -> Option<u32> {
        let key = Recent::key(text)?;
        let found = self.recent.0.get(Recent::slot(key))?.as_ref();
        found
            .filter(|(known, _)| *known == key)
            .map(|(_, number)| *number)
    }

    /// Remembers that `text` stands for the name with this number.
    pub(crate) fn remember(&mut self, text: &[u8], number: u32) {
        if let Some(key) = Recent::key(text) {
            self.recent.0.resize(Recent::SLOTS, None);
            self.recent.0[Recent::slot(key)] = Some((key, number));
        }
    }

    /// The number of `name`, new if need be; an error past the limit. `bytes` grows by what a new name takes.
    pub(crate) fn intern(
        &mut self,
        name: &str,
        limits: &Limits,
        bytes: &mut u64,
    ) -> Result<u32, DataError> {
        if let Some(&number) = self.numbers.get(name) {
            return Ok(number);
        }
        if self.names.len() >= limits.categories {
            let problem = format!("more than {} distinct values", limits.categories);
            return Err(DataError::limit(
                problem,
                "exclude the column, or read it as numbers",
            ));
        }
        // It is held twice, with what it takes to find it.
        *bytes += 2 * (name.len() as u64 + size_of::<String>() as u64);
        limits.check_memory(*bytes)?;
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        Ok(number)
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

/// Adds rows with names of their own numbering; a code that is none of them stays.
///
/// # Errors
/// If there is one name too many, with the line of the row that has it first; `lines` are those of the rows.
pub(crate) fn append_codes(
    (names, codes): (&mut Interner, &mut Vec<u32>),
    (others, part): (&Interner, &[u32]),
    lines: &[u64],
    limits: &Limits,
    bytes: &mut u64,
) -> Result<(), DataError> {
    let mut numbers = Vec::with_capacity(others.names.len());
    for (name, code) in others.names.iter().zip(0..) {
        let number = names.intern(name, limits, bytes);
        numbers.push(number.map_err(|error| {
            let row = part.iter().position(|&other| other == code);
            match row.and_then(|row| lines.get(row)) {
                Some(line) => error.on_line(*line),
                None => error,
            }
        })?);
    }
    let number = |&code: &u32| numbers.get(code as usize).copied().unwrap_or(code);
    codes.extend(part.iter().map(number));
    Ok(())
}

/// Labels of a source, row by row: the codes of classes that are not yet in order, or the targets of a regression.
#[derive(Clone, Debug)]
pub(crate) struct RawLabels(pub RawValues);

impl RawLabels {
    pub(crate) fn new(task: Task) -> Self {
        Self(ColumnType::of_label(task).values())
    }

    /// Bytes that they hold, beside names.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.value_bytes() * self.0.len() as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Fits the label: which classes there are, and in which order.
    pub(crate) fn fit(
        &self,
        task: Task,
        name: &str,
        positive: Option<&str>,
    ) -> Result<Label, DataError> {
        let mut label = Label {
            name: name.to_owned(),
            classes: Vec::new(),
            numeric: true,
            scale: None,
            link: None,
            threshold: None,
        };
        if let RawValues::Codes { names, .. } = &self.0 {
            (label.classes, label.numeric) = order(names.names());
        }
        let found = label.classes.len();
        let shown = few(&label.classes);
        match task {
            Task::Regression => Ok(label),
            Task::Binary if found == 2 => with_positive(label, positive),
            Task::Multiclass if found >= 2 => Ok(label),
            _ if found < 2 => Err(DataError::data(
                format!("expected at least two classes, found only {shown}"),
                "train on rows of every class, or name another label column",
            )),
            _ => Err(DataError::data(
                format!("expected two classes, found {found}: {shown}"),
                "set the task to multiclassClassification or regression, or mend the labels",
            )),
        }
    }

    /// The scale of the targets of some rows.
    pub(crate) fn scale(&self, rows: &[u32]) -> Option<TargetScale> {
        let RawValues::Numbers(targets) = &self.0 else {
            return None;
        };
        let Scale { mean, std } = Scale::fit(rows.iter().map(|&row| targets[row as usize]))?;
        Some(TargetScale { mean, std })
    }

    /// The first target below 0, with its row.
    pub(crate) fn negative(&self) -> Option<(u32, f64)> {
        let RawValues::Numbers(targets) = &self.0 else {
            return None;
        };
        let row = targets.iter().position(|target| *target < 0.0)?;
        Some((row as u32, targets[row]))
    }

    /// The targets as they are; none for classes.
    pub(crate) fn targets(&self) -> Vec<f64> {
        match &self.0 {
            RawValues::Numbers(targets) => targets.clone(),
            RawValues::Codes { .. } => Vec::new(),
        }
    }

    /// What a user should know of the labels.
    pub(crate) fn warning(&self, label: &Label) -> Option<String> {
        match &self.0 {
            RawValues::Codes { names, .. } if label.numeric => {
                warnings::merged(names.names(), label)
            }
            RawValues::Codes { names, .. } => warnings::alike("labels", names.names()),
            // A scaled target is rounded once it is scaled, as numbers are.
            RawValues::Numbers(_) if label.scale.is_some() => None,
            RawValues::Numbers(targets) => warnings::rounded("labels", targets.iter().copied()),
        }
    }

    /// That all of `rows` have the same target, as the model learns it.
    pub(crate) fn constant(&self, label: &Label, rows: &[u32]) -> Option<String> {
        let RawValues::Numbers(targets) = &self.0 else {
            return None; // two classes are asked for
        };
        let is_scaled = label.scale.is_some();
        let mut values = rows.iter().map(|&row| match targets[row as usize] {
            target if is_scaled => target,
            target => f64::from(target as f32),
        });
        let first = values.next()?;
        values.all(|value| value == first).then(|| {
            format!("every training row has the label {first}: there is nothing to learn, and r2 is undefined")
        })
    }

    /// Encodes the labels of some rows; NaN where a row has none.
    pub(crate) fn encode(&self, label: &Label, rows: &[u32]) -> Result<Vec<f32>, UnknownLabel> {
        match &self.0 {
            RawValues::Numbers(targets) => Ok(rows
                .iter()
                .map(|&row| label.scaled(targets[row as usize]))
                .collect()),
            RawValues::Codes { names, codes } => {
                let index = CategoryIndex::of(label);
                let classes: Vec<Option<f32>> = names
                    .names()
                    .iter()
                    .map(|name| index.find(name).map(|class| class as f32))
                    .collect();
                rows.iter()
                    .map(|&row| match codes[row as usize] {
                        NO_CATEGORY => Ok(f32::NAN),
                        code => classes[code as usize].ok_or_else(|| UnknownLabel {
                            row,
                            value: names.names()[code as usize].clone(),
                        }),
                    })
                    .collect()
            }
        }
    }

    /// Classes that none of `rows` has.
    pub(crate) fn unseen(&self, label: &Label, rows: &[u32]) -> Vec<String> {
        let Ok(values) = self.encode(label, rows) else {
            return Vec::new();
        };
        let mut seen = vec![false; label.classes.len()];
        for value in values {
            if let Some(seen) = seen.get_mut(value as usize) {
                *seen = true;
            }
        }
        let classes = label.classes.iter().zip(seen);
        classes
            .filter(|(_, seen)| !seen)
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// What the rows of each class count; none if all count 1. `labels` are those of the training rows.
pub(crate) fn weights(
    of_classes: &ClassWeights,
    label: &Label,
    labels: &[f32],
) -> Result<Option<Vec<f64>>, DataError> {
    let classes = label.classes.len();
    match of_classes {
        ClassWeights::None => Ok(None),
        _ if classes == 0 => {
            let problem = "`classWeights` are for classes, and the task is a regression";
            Err(DataError::options(problem, "leave them out"))
        }
        ClassWeights::Balanced => {
            let mut counts = vec![0u64; classes];
            for &label in labels {
                counts[label as usize] += 1;
            }
            // A class without training rows has no part in the loss.
            let weight = |count: &u64| match count {
                0 => 0.0,
                count => labels.len() as f64 / (classes as u64 * count) as f64,
            };
            Ok(Some(counts.iter().map(weight).collect()))
        }
        ClassWeights::Given(given) => {
            let index = CategoryIndex::of(label);
            let mut weights = vec![1.0; classes];
            let mut names: Vec<Option<&str>> = vec![None; classes];
            for (name, weight) in given {
                let Some(class) = index.find(name) else {
                    let classes = few(&label.classes);
                    let problem = format!(
                        "`classWeights` names {}, and the classes are {classes}",
                        quoted(name)
                    );
                    return Err(DataError::options(problem, "name one of them"));
                };
                if let Some(other) = names[class].replace(name) {
                    let (other, name) = (quoted(other), quoted(name));
                    let problem =
                        format!("`classWeights` names one class twice: {other} and {name}");
                    return Err(DataError::options(problem, "name it once"));
                }
                weights[class] = *weight;
            }
            Ok(Some(weights))
        }
    }
}

/// A binary label whose class 1 is `positive`, if that is given.
fn with_positive(mut label: Label, positive: Option<&str>) -> Result<Label, DataError> {
    let Some(positive) = positive else {
        return Ok(label);
    };
    match CategoryIndex::of(&label).find(positive) {
        Some(1) => {}
        Some(_) => label.classes.reverse(),
        None => {
            let classes = few(&label.classes);
            let problem = format!(
                "`positive` is {}, and the classes are {classes}",
                quoted(positive)
            );
            return Err(DataError::options(problem, "name one of them"));
        }
    }
    Ok(label)
}

/// A label that is none of the classes.
#[derive(Debug)]
pub(crate) struct UnknownLabel {
    pub row: u32,
    pub value: String,
}

impl UnknownLabel {
    /// The error in words, without its place.
    pub(crate) fn error(&self, label: &Label) -> DataError {
        DataError::data(
            format!(
                "label {} is none of the model's classes: {}",
                quoted(&self.value),
                few(&label.classes)
            ),
            "mend the label, or train a model on rows of that class",
        )
    }

    /// The error for a source whose places are row numbers.
    pub(crate) fn error_by_row(&self, label: &Label) -> DataError {
        let error = self.error(label);
        DataError {
            problem: format!("row {} (from 0): {}", self.row, error.problem),
            ..error
        }
    }
}

/// The distinct classes in order, and whether they are numbers.
pub(crate) fn order(names: &[String]) -> (Vec<String>, bool) {
    let numbers: Option<Vec<f64>> = names.iter().map(|name| class_number(name)).collect();
    if let Some(mut numbers) = numbers.filter(|numbers| !numbers.is_empty()) {
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        return (numbers.iter().map(f64::to_string).collect(), true);
    }
    let mut names = names.to_vec();
    names.sort_unstable();
    (names, false)
}

/// Below this, which is 2^53, each integer has an f64 of its own.
pub(crate) const DISTINCT: f64 = 9_007_199_254_740_992.0;

/// The number a class name stands for. From 2^53 on integers stay text: as f64 two of them might
/// be one.
pub(crate) fn class_number(name: &str) -> Option<f64> {
    // Adding zero makes -0 and 0 one class.
    name.parse()
        .ok()
        .filter(|value: &f64| value.abs() < DISTINCT)
        .map(|value| value + 0.0)
}

/// Finds classes, or categories, by name.
pub(crate) struct CategoryIndex<'a> {
    by_name: HashMap<&'a str, usize>,
    /// By the bits of their numbers, if all are numbers.
    by_number: Option<HashMap<u64, usize>>,
}

impl<'a> CategoryIndex<'a> {
    /// An index of the classes of a label.
    pub(crate) fn of(label: &'a Label) -> Self {
        Self::new(&label.classes, label.numeric)
    }

    /// An index of `names`, which are compared by value if `numeric`.
    pub(crate) fn new(names: &'a [String], numeric: bool) -> Self {
        let names = names.iter().enumerate();
        let number = |(index, name): (usize, &String)| Some((class_number(name)?.to_bits(), index));
        let by_number = || names.clone().map(number).collect();
        Self {
            by_number: numeric.then(by_number).flatten(),
            by_name: names.map(|(index, name)| (name.as_str(), index)).collect(),
        }
    }

    /// The place of the one that `name` stands for.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        match &self.by_number {
            None => self.by_name.get(name).copied(),
            Some(numbers) => numbers.get(&class_number(name)?.to_bits()).copied(),
        }
    }
}
