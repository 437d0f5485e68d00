//! A corpus of files as people have them: excerpts and imitations of public ones, what spreadsheets write, and what is no
//! table at all. Each gives the right values, or the right error.

use std::path::Path;

use trainyard_data::{
    ColumnOptions, ColumnType, Dataset, DatePart, Encoding, Folder, LoadOptions, MissingPolicy,
    Normalization, SourceSpec, TableOptions, Task, load,
};

use crate::common::options;

const INDEX: &str = include_str!("../corpus/index.txt");

/// A file and what is expected of it.
struct Case<'a> {
    name: &'a str,
    how: &'a str,
    expected: Vec<&'a str>,
}

fn cases() -> Vec<Case<'static>> {
    let cases = INDEX.split("\n== ").skip(1).map(|case| {
        let mut lines = case.lines().filter(|line| !line.is_empty());
        Case {
            name: lines.next().expect("a name"),
            how: lines.next().expect("how it is read"),
            expected: lines.collect(),
        }
    });
    cases.collect()
}

/// The words of a line, of which some are quoted in part.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            character => words.last_mut().expect("a word").push(character),
        }
    }
    words
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}

fn byte(text: &str) -> u8 {
    match text {
        "tab" => b'\t',
        "space" => b' ',
        text => text.as_bytes()[0],
    }
}

fn part(name: &str) -> DatePart {
    match name {
        "Year" => DatePart::Year,
        "Month" => DatePart::Month,
        "Day" => DatePart::Day,
        "DayOfWeek" => DatePart::DayOfWeek,
        "DayOfYear" => DatePart::DayOfYear,
        "Hour" => DatePart::Hour,
        _ => panic!("what is {name}?"),
    }
}

/// What is said of a column: `NAME:ordinal:A|B`, `NAME:category`.
fn typed(text: &str) -> ColumnOptions {
    let mut words = text.split(':');
    let name = words.next().expect("a name").to_owned();
    let kind = match words.next() {
        Some("ordinal") => ColumnType::Ordinal,
        Some("category") => ColumnType::Category,
        kind => panic!("what is {kind:?}?"),
    };
    let categories = words.next().into_iter().flat_map(|names| names.split('|'));
    ColumnOptions {
        name,
        kind: Some(kind),
        categories: categories.map(|name| name.replace('_', " ")).collect(),
        ..ColumnOptions::default()
    }
}

fn read_as(case: &Case<'_>) -> LoadOptions {
    let mut words = words(case.how).into_iter();
    let task = match words.next().as_deref() {
        Some("binary") => Task::Binary,
        Some("multiclass") => Task::Multiclass,
        Some("regression") => Task::Regression,
        task => panic!("{}: what is {task:?}?", case.name),
    };
    let mut table = TableOptions::csv(case.name, "y");
    for word in words {
        let (option, value) = word.split_once('=').expect("OPTION=VALUE");
        match option {
            "label" => table.label = value.to_owned(),
            "header" => table.headerless = value == "no",
            "delimiter" => table.delimiter = byte(value),
            "decimal" => table.decimal = byte(value),
            "thousands" => table.thousands = Some(byte(value)),
            "encoding" => table.encoding = Encoding::Windows1252,
            "exclude" => table.exclude = list(value),
            "missingValues" => table.missing_values = list(value),
            "type" => table.columns.push(typed(value)),
            "parts" => {
                let (name, parts) = value.split_once(':').expect("NAME:PARTS");
                table.columns.push(ColumnOptions {
                    name: name.to_owned(),
                    kind: Some(ColumnType::Date),
                    date_parts: list(parts).iter().map(|name| part(name)).collect(),
                    ..ColumnOptions::default()
                });
            }
            "missing" => {
                table.missing = match value {
                    "impute" => MissingPolicy::Impute,
                    "drop" => MissingPolicy::DropRow,
                    "mean" => MissingPolicy::Mean,
                    _ => panic!("what is {value}?"),
                }
            }
            _ => panic!("{}: what is {option}?", case.name),
        }
    }
    let mut options = options(task, SourceSpec::Table(table));
    options.normalization = Normalization::None;
    options
}

/// The problem, if what was read is not what is expected.
fn judge(case: &Case<'_>) -> Result<(), String> {
    let folder = Folder::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus"));
    let read = load(&folder, &read_as(case));
    for expected in &case.expected {
        let (what, rest) = expected.split_once(' ').expect("WHAT ...");
        match (what, &read) {
            ("error", Err(error)) => {
                let error = error.to_string();
                if !error.contains(rest) || !error.starts_with(case.name) {
                    return Err(format!("expected {rest:?}, found the error {error}"));
                }
            }
            ("error", Ok(data)) => return Err(format!("accepted: {:?}", data.train)),
            (_, Err(error)) => return Err(error.to_string()),
            ("rows", Ok(data)) => {
                if data.train.rows.to_string() != rest {
                    return Err(format!("expected {rest} rows, found {}", data.train.rows));
                }
            }
            ("told", Ok(data)) => {
                let told = data.warnings.join("\n");
                if !told.contains(rest) {
                    return Err(format!("expected {rest:?}, told {told:?}"));
                }
            }
            ("row", Ok(data)) => {
                let (row, inputs) = rest.split_once(": ").expect("ROW: INPUTS");
                let found = shown(data, row.parse().expect("a row"));
                if found != inputs {
                    return Err(format!("row {row}: expected {inputs}, found {found}"));
                }
            }
            _ => panic!("{}: what is {expected}?", case.name),
        }
    }
    Ok(())
}

/// The inputs of a row, and its label.
fn shown(data: &Dataset, row: usize) -> String {
    let inputs: Vec<String> = data.train.row(row).iter().map(f32::to_string).collect();
    let label = data.train.labels[row];
    let label = match data.facts.schema.label.classes.get(label as usize) {
        Some(class) => class.clone(),
        None => label.to_string(),
    };
    format!("{} | {label}", inputs.join(" "))
}

#[test]
fn c36_files_as_people_have_them_are_read_or_refused_as_they_should() {
    let cases = cases();
    assert!(cases.len() >= 60, "{}", cases.len());
    let wrong = |case: &Case<'_>| Some(format!("{}: {}", case.name, judge(case).err()?));
    let wrong: Vec<String> = cases.iter().filter_map(wrong).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    for case in &cases {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/corpus")
            .join(case.name);
        assert!(path.is_file(), "{}", case.name);
        assert!(!case.expected.is_empty(), "{}", case.name);
    }
}
