//! What loading does without being asked, in sentences for the user.
//!
//! Whatever is left out, filled in, rounded or merged, or cannot be learned from, is told here. Each
//! function gives one sentence, however many columns or rows it is about, or none.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use trainyard_core::control::RowSet;
use trainyard_core::schema::{ColumnKind, ColumnsInput, Label, Missing};

use crate::classes::class_number;
use crate::columns::{ColumnType, Frame, NO_CATEGORY, RawColumn, RawValues};
use crate::error::quoted;

/// Names that a warning shows.
const SHOWN: usize = 5;

/// The first whole number that the next f32 does not follow by one: 2^24.
const EXACT: f64 = 16_777_216.0;

/// Whether a value is a whole number that becomes another one as f32.
pub(crate) fn is_rounded(value: f64) -> bool {
    value.abs() >= EXACT && value.fract() == 0.0 && f64::from(value as f32) != value
}

/// A value and what it becomes.
pub(crate) fn rounded(what: &str, values: impl Iterator<Item = f64>) -> Option<String> {
    let mut rounded = values.filter(|value| is_rounded(*value));
    let first = rounded.next()?;
    let (numbers, are) = plural(
        1 + rounded.count(),
        "number has",
        "numbers have",
        ["is", "are"],
    );
    Some(format!(
        "{what}: {numbers} more digits than a 32-bit float holds and {are} rounded, such as {first} to {}",
        f64::from(first as f32)
    ))
}

/// Rows of a file that were left out for a missing value.
pub(crate) fn dropped(frame: &Frame) -> Option<String> {
    let first = frame.first_dropped()?;
    let rows = frame.dropped.len() + frame.lines.len();
    let (dropped, are) = plural(frame.dropped.len(), "row has", "rows have", ["is", "are"]);
    Some(format!(
        "{dropped} a missing value and {are} left out, of {rows} rows; the first is on {first}"
    ))
}

/// Values by the place of their column, counted over the parts of a file; with what there is to say of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByColumn<T>(BTreeMap<usize, Counted<T>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Counted<T> {
    column: String,
    values: usize,
    what: T,
}

impl<T> Default for ByColumn<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> ByColumn<T> {
    /// Sets the values of the column at a place.
    pub(crate) fn insert(&mut self, place: usize, column: &str, values: usize, what: T) {
        let column = column.to_owned();
        self.0.insert(
            place,
            Counted {
                column,
                values,
                what,
            },
        );
    }

    /// Counts one more value of the column at a place; what there is to say of it is asked for once.
    pub(crate) fn count(&mut self, place: usize, column: &str, what: impl FnOnce() -> T) {
        let found = self.0.entry(place).or_insert_with(|| Counted {
            column: column.to_owned(),
            values: 0,
            what: what(),
        });
        found.values += 1;
    }

    /// Adds those of further rows of the same file. What was said of a column first stays.
    pub(crate) fn add(&mut self, further: Self) {
        for (place, found) in further.0 {
            match self.0.get_mut(&place) {
                Some(known) => known.values += found.values,
                None => drop(self.0.insert(place, found)),
            }
        }
    }

    /// The columns that have some, in order, with what there is to say of each.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.values().map(|found| (&*found.column, &found.what))
    }

    /// The values of all columns.
    pub(crate) fn values(&self) -> usize {
        self.0.values().map(|found| found.values).sum()
    }
}

/// Values that were missing and are filled in, and with which of the [`FILLINGS`].
pub(crate) type Filled = ByColumn<&'static str>;

impl Filled {
    /// Those of a file, or of a part of it.
    pub(crate) fn of(frame: &Frame) -> Self {
        let mut filled = Self::default();
        for (place, column) in frame.columns.iter().enumerate() {
            let values = column.values.missing();
            if values > 0 {
                filled.insert(place, column.name(), values, filling(column));
            }
        }
        filled
    }

    /// One sentence, however many columns have some.
    pub(crate) fn told(&self) -> Option<String> {
        let values = self.values();
        let names: Vec<&str> = self.columns().map(|(name, _)| name).collect();
        let (missing, are) = plural(values, "missing value", "missing values", ["is", "are"]);
        let used: HashSet<&str> = self.columns().map(|(_, how)| *how).collect();
        let how: Vec<&str> = FILLINGS
            .into_iter()
            .filter(|how| used.contains(how))
            .collect();
        (values > 0).then(|| {
            format!(
                "{missing} in {} {are} filled in: {}",
                columns(&names),
                how.join("; ")
            )
        })
    }
}

/// What may stand for a missing value.
const FILLINGS: [&str; 5] = [
    "a number with the mean of the training rows",
    "a number with the median of the training rows",
    "a category counts as none of the known ones",
    "the most frequent value of the training rows",
    "`fillValue`",
];

/// What stands for a missing value of a column.
fn filling(column: &RawColumn) -> &'static str {
    let is_category = matches!(column.planned.kind, ColumnType::Category { .. });
    let [mean, median, none, most_frequent, constant] = FILLINGS;
    match column.planned.missing {
        Missing::MostFrequent => most_frequent,
        Missing::Constant => constant,
        _ if is_category => none,
        Missing::Median => median,
        _ => mean,
    }
}

/// Columns of which the type was told from their values.
pub(crate) fn inferred(found: &[(&str, &ColumnType)]) -> Option<String> {
    let kinds = [
        ("categories", |kind: &ColumnType| {
            matches!(kind, ColumnType::Category { .. })
        }),
        ("booleans", |kind: &ColumnType| *kind == ColumnType::Boolean),
        ("dates", |kind: &ColumnType| {
            matches!(kind, ColumnType::Date { .. })
        }),
    ] as [(&str, fn(&ColumnType) -> bool); 3];
    let each = kinds.into_iter().filter_map(|(what, is_so)| {
        let names = found.iter().filter(|(_, kind)| is_so(kind));
        let names: Vec<&str> = names.map(|(name, _)| *name).collect();
        (!names.is_empty()).then(|| format!("{} as {what}", columns(&names)))
    });
    let each: Vec<String> = each.collect();
    (!each.is_empty()).then(|| {
        format!(
            "read by the values they hold: {}; `columns` can say otherwise",
            each.join(", ")
        )
    })
}

/// Columns that are the same in every training row.
pub(crate) fn constant(frame: &Frame, input: &ColumnsInput, rows: &[u32]) -> Option<String> {
    let is_constant = |column: &RawColumn, kind: &ColumnKind| match (&column.values, kind) {
        (RawValues::Numbers(values), _) => {
            let values = rows.iter().map(|&row| values[row as usize]);
            let mut present = values.filter(|value| !value.is_nan());
            let first = present.next();
            present.all(|value| Some(value) == first)
        }
        (RawValues::Codes { codes, .. }, ColumnKind::Categorical { categories, .. }) => {
            categories.len() == 1 && rows.iter().all(|&row| codes[row as usize] != NO_CATEGORY)
        }
        _ => false,
    };
    let pairs = frame.columns.iter().zip(&input.columns);
    let constant = pairs.filter(|(column, fitted)| is_constant(column, &fitted.kind));
    let names: Vec<&str> = constant.map(|(column, _)| column.name()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "every training row has the same value in {}: nothing can be learned from it",
            columns(&names)
        )
    })
}

/// Numbers that enter the model as they are, and do not fit.
pub(crate) fn rounded_columns(frame: &Frame, input: &ColumnsInput) -> Option<String> {
    let pairs = frame.columns.iter().zip(&input.columns);
    let (mut names, mut numbers) = (Vec::new(), Vec::new());
    for (column, fitted) in pairs {
        if let (RawValues::Numbers(values), ColumnKind::Numeric { mean, std, .. }) =
            (&column.values, &fitted.kind)
            && (*mean, *std) == (0.0, 1.0)
        {
            let before = numbers.len();
            numbers.extend(values.iter().copied().filter(|value| is_rounded(*value)));
            if numbers.len() > before {
                names.push(column.name());
            }
        }
    }
    rounded(&columns(&names), numbers.into_iter())
}

/// Columns without a name, of which pandas, R and spreadsheets write some; by their numbers.
pub(crate) fn unnamed(numbers: &[usize]) -> Option<String> {
    let (columns, have, are, them) = match numbers.len() {
        0 => return None,
        1 => ("column", "has", "is", "it"),
        _ => ("columns", "have", "are", "them"),
    };
    let shown: Vec<String> = numbers.iter().take(SHOWN).map(usize::to_string).collect();
    let more = if numbers.len() > SHOWN {
        " and others"
    } else {
        ""
    };
    Some(format!(
        "{columns} {}{more} {have} no name in the header and {are} left out; to learn from {them}, give a name \
         or set `unnamedColumns` to Include",
        shown.join(", ")
    ))
}

/// Columns that pandas has named when it read a file with an index.
pub(crate) fn pandas_index<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    let mut names = names.filter(|name| name.strip_prefix("Unnamed: ").is_some_and(is_number));
    names.next().map(|name| {
        format!(
            "column {} may be an index that pandas wrote: to leave it out, list it under `exclude`",
            quoted(name)
        )
    })
}

/// Columns of a file that the model does not have.
pub(crate) fn ignored(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| format!("the model has no {}: not used", columns(&all(names))))
}

/// Columns of a further file that the first file does not have.
pub(crate) fn not_in_first(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| format!("the first file has no {}: not used", columns(&all(names))))
}

/// Names that differ in letter case, blanks or the form of a number alone, and are not the same all the same.
pub(crate) fn alike(what: &str, names: &[String]) -> Option<String> {
    let mut first: HashMap<String, &String> = HashMap::new();
    let mut pairs = Vec::new();
    for name in names {
        let plain = || {
            name.split_whitespace()
                .collect::<Vec<&str>>()
                .join(" ")
                .to_lowercase()
        };
        let key = class_number(name).map_or_else(plain, |number| number.to_string());
        match first.entry(key) {
            Entry::Vacant(entry) => drop(entry.insert(name)),
            Entry::Occupied(entry) => pairs.push((*entry.get(), name)),
        }
    }
    let shown = pairs.iter().take(SHOWN);
    let shown: Vec<String> = shown
        .map(|(one, other)| format!("{} and {}", quoted(one), quoted(other)))
        .collect();
    (!pairs.is_empty()).then(|| {
        format!(
            "{what} that differ only in letter case, blanks or the form of a number are not the same, such as {}",
            shown.join(", ")
        )
    })
}

/// Categories of a file that are alike; see [`alike`].
pub(crate) fn alike_categories(frame: &Frame) -> Option<String> {
    let mut columns = frame.columns.iter();
    columns.find_map(|column| match &column.values {
        // Numbers that compare by value are one category.
        RawValues::Codes { names, .. }
            if column.planned.kind == (ColumnType::Category { by_value: true })
                && names
                    .names()
                    .iter()
                    .all(|name| class_number(name).is_some()) =>
        {
            None
        }
        RawValues::Codes { names, .. } => alike(
            &format!("categories of column {}", quoted(column.name())),
            names.names(),
        ),
        RawValues::Numbers(_) => None,
    })
}

/// Names of labels that are one class, because they are the same number.
pub(crate) fn merged(names: &[String], label: &Label) -> Option<String> {
    if !label.numeric || label.classes.len() >= names.len() {
        return None;
    }
    let classes: HashSet<&String> = label.classes.iter().collect();
    let spelled = names.iter().filter(|name| !classes.contains(name));
    let same = spelled.filter_map(|name| {
        let class = class_number(name)?.to_string();
        Some(format!("{} and {}", quoted(&class), quoted(name)))
    });
    let same: Vec<String> = same.take(SHOWN).collect();
    Some(format!(
        "labels that are the same number are one class, such as {}",
        same.join(", ")
    ))
}

/// Classes that no training row has, which only a split can cause.
pub(crate) fn unlearned(classes: &[String]) -> Option<String> {
    (!classes.is_empty()).then(|| {
        format!(
            "no training row has {}, which the model cannot learn; another seed or a smaller validation \
             fraction may help",
            named(("the class", "the classes"), &all(classes))
        )
    })
}

/// Classes that no row of a set has that the model is judged by.
pub(crate) fn unjudged(classes: &[String], set: RowSet) -> Option<String> {
    let set = set.name();
    (!classes.is_empty()).then(|| {
        format!(
            "no {set} row has {}, of which the {set} metrics say nothing",
            named(("the class", "the classes"), &all(classes))
        )
    })
}

/// Axes that look as if channels came last.
pub(crate) fn channels_last(shape: &[u64]) -> Option<String> {
    match *shape {
        [channels, height, width @ 1..=4] if channels > 4 && height > 4 => Some(format!(
            "rows of shape {shape:?} are read as {channels} channels of {height} x {width} pixels; if they are \
             {channels} x {height} pixels of {width} channels, transpose the array: channels come first"
        )),
        _ => None,
    }
}

/// What is done about the missing values of a file.
pub(crate) fn missing(frame: &Frame) -> impl Iterator<Item = String> {
    dropped(frame).into_iter().chain(Filled::of(frame).told())
}

fn all(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

pub(crate) fn columns(names: &[&str]) -> String {
    named(("column", "columns"), names)
}

/// A noun with some of the names; a warning is short.
fn named((one, many): (&str, &str), names: &[&str]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| quoted(name)).collect();
    let noun = if names.len() == 1 { one } else { many };
    let more = match names.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{noun} {}{more}", shown.join(", "))
}

/// A number with its noun, and one of two verbs.
pub(crate) fn plural(
    count: usize,
    one: &str,
    many: &str,
    verbs: [&'static str; 2],
) -> (String, &'static str) {
    match count {
        1 => (format!("1 {one}"), verbs[0]),
        _ => (format!("{count} {many}"), verbs[1]),
    }
}
