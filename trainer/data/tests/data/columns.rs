//! Types of columns: told from their values, or declared; and what stands for their missing values.

use trainyard_data::{
    Advice, ClassWeights, ColumnKind, ColumnOptions, ColumnType, CsvOptions, Dataset, DatePart,
    Encoding, HeldOut, InputKind, Limits, LoadOptions, Missing, MissingPolicy, Normalization,
    SourceSpec, SplitRule, Task, inspect_csv, load,
};

use crate::common::{Memory, assert_error, csv_options, edit, encode_csv, load_csv, told_of_csv};

/// Options for a regression on `a.csv`, without scaling.
fn unscaled(change: impl FnOnce(&mut CsvOptions)) -> LoadOptions {
    let mut options = csv_options(Task::Regression);
    options.normalization = Normalization::None;
    edit(&mut options, change);
    options
}

fn column(name: &str, change: impl FnOnce(&mut ColumnOptions)) -> ColumnOptions {
    let mut column = ColumnOptions {
        name: name.into(),
        ..ColumnOptions::default()
    };
    change(&mut column);
    column
}

fn kinds(data: &Dataset) -> Vec<ColumnKind> {
    match &data.facts.schema.input {
        InputKind::Columns(input) => input
            .columns
            .iter()
            .map(|column| column.kind.clone())
            .collect(),
        InputKind::Array(_) => panic!("columns"),
    }
}

/// What was trained on is predicted with the same bits.
fn assert_predicts_the_same(text: &str, data: &Dataset) {
    let encoded = encode_csv(
        &data.facts.schema,
        "a.csv",
        text.as_bytes(),
        &Limits::default(),
    )
    .unwrap();
    let bits =
        |values: &[f32]| -> Vec<u32> { values.iter().map(|value| value.to_bits()).collect() };
    assert_eq!(bits(&encoded.table.features), bits(&data.train.features));
    let json = serde_json::to_string(&data.facts.schema).unwrap();
    let again: trainyard_data::InputSchema = serde_json::from_str(&json).unwrap();
    assert_eq!(again, data.facts.schema);
}

#[test]
fn c01_types_are_told_from_the_values() {
    let text = "n,when,flag,kind,y\n1,2024-02-29,yes,red,1\n2,2024-03-01,no,blue,2\n3,1970-01-01,No,red,3\n";
    let data = load_csv(text, &unscaled(|_| {})).unwrap();
    let kinds = kinds(&data);
    assert!(matches!(kinds[0], ColumnKind::Numeric { .. }));
    assert!(
        matches!(&kinds[1], ColumnKind::Date { format, parts, .. } if format == "iso8601" && parts.len() == 7)
    );
    assert_eq!(kinds[2], ColumnKind::Boolean { fill: 1.0 / 3.0 });
    assert!(
        matches!(&kinds[3], ColumnKind::Categorical { categories, .. } if *categories == ["blue", "red"])
    );
    let days = 19_782.0;
    assert_eq!(
        data.train.row(0),
        [1.0, days, 2024.0, 2.0, 29.0, 3.0, 60.0, 0.0, 1.0, 0.0, 1.0]
    );
    let told = &data.warnings[0];
    assert!(
        told.contains(
            "column \"kind\" as categories, column \"flag\" as booleans, column \"when\" as dates"
        ),
        "{told}"
    );
    assert_predicts_the_same(text, &data);
}

#[test]
fn c01_a_table_of_numbers_is_what_it_was() {
    let options = csv_options(Task::Binary);
    let data = load_csv("a,b,y\n1,0,0\n2,1,1\n4,1,0\n", &options).unwrap();
    assert!(data.warnings.is_empty(), "{:?}", data.warnings);
    let schema = serde_json::to_value(&data.facts.schema).unwrap();
    let b = &schema["input"]["columns"]["columns"][1];
    assert_eq!(b["type"], "numeric", "0 and 1 are numbers");
    assert_eq!(b.as_object().unwrap().len(), 5, "no field is new: {b}");
}

#[test]
fn c02_all_wrong_columns_are_named_in_one_error() {
    let rows: String = (0..40)
        .map(|i| {
            format!(
                "{i},name {i},{},{},{i}\n",
                ["1", "x"][i % 2],
                ["", "u"][usize::from(i > 0)]
            )
        })
        .collect();
    let text = format!("a,id,mixed,gap,y\n{rows}");
    let error = load_csv(text, &unscaled(|_| {})).unwrap_err().to_string();
    for part in [
        "a.csv: 3 columns cannot be read",
        "\"id\" on line 2: expected a number, found \"name 0\"",
        "40 different texts among 40 values are too many to be categories",
        "`exclude`",
        "\"mixed\" on line 3: expected a number, found \"x\" (and 19 more of 40 values)",
        "`categorical`",
        "\"gap\" on line 2: the value is missing",
    ] {
        assert!(error.contains(part), "{part:?} is not in: {error}");
    }
}

#[test]
fn c02_what_may_stand_for_a_missing_value_is_said() {
    let text = "a,y\n1,1\n?,2\n3,3\n";
    let fragments = [
        "a.csv:3: column \"a\"",
        "found \"?\"",
        "list \"?\" under `missingValues`",
    ];
    assert_error("marker", load_csv(text, &unscaled(|_| {})), &fragments);
    let options = unscaled(|csv| {
        csv.missing_values = vec!["?".into()];
        csv.missing = MissingPolicy::Impute;
    });
    let data = load_csv(text, &options).unwrap();
    assert_eq!(data.train.features, [1.0, 2.0, 3.0]);
    assert_predicts_the_same(text, &data);
    // In the label, too.
    let data = load_csv("a,y\n1,1\n2,?\n3,3\n", &options).unwrap();
    assert_eq!(data.train.labels, [1.0, 3.0]);
}

#[test]
fn c03_dates_that_can_be_read_in_two_ways_are_asked_about() {
    let text = "d,y\n01/02/2024,1\n03/04/2024,2\n";
    let fragments = ["column \"d\"", "\"%m/%d/%Y\", \"%d/%m/%Y\"", "`dateFormat`"];
    assert_error("in doubt", load_csv(text, &unscaled(|_| {})), &fragments);
    let options = unscaled(|csv| {
        csv.columns = vec![column("d", |d| {
            d.kind = Some(ColumnType::Date);
            d.date_format = Some("%d/%m/%Y".into());
            d.date_parts = vec![DatePart::Month, DatePart::Day];
        })];
    });
    let data = load_csv(text, &options).unwrap();
    assert_eq!(data.train.features, [2.0, 1.0, 4.0, 3.0]);
    assert_predicts_the_same(text, &data);
    // One of them tells.
    let text = "d,y\n01/02/2024,1\n13/04/2024,2\n";
    let data = load_csv(text, &unscaled(|_| {})).unwrap();
    assert_eq!(data.train.row(1)[2..4], [4.0, 13.0]);
    // Declared, and of another format.
    let options = unscaled(|csv| {
        csv.columns = vec![column("d", |d| d.kind = Some(ColumnType::Date))];
    });
    assert!(load_csv(text, &options).is_ok());
    let fragments = ["column \"d\"", "in no format that is tried", "`dateFormat`"];
    assert_error(
        "unknown",
        load_csv("d,y\nMay 2024,1\nJune 2024,2\n", &options),
        &fragments,
    );
    assert_error(
        "numbers",
        load_csv("d,y\n2024,1\n2025,2\n", &options),
        &fragments,
    );
}

#[test]
fn c04_ordinals_are_places_in_the_given_order() {
    let options = unscaled(|csv| {
        csv.columns = vec![column("size", |size| {
            size.kind = Some(ColumnType::Ordinal);
            size.categories = ["S", "M", "L"].map(str::to_owned).into();
            size.missing = Some(Missing::Median);
        })];
    });
    let text = "size,y\nM,1\nS,2\nL,3\n,4\n";
    let data = load_csv(text, &options).unwrap();
    assert_eq!(data.train.features, [1.0, 0.0, 2.0, 1.0]);
    assert_predicts_the_same(text, &data);
    let fragments = [
        "a.csv:3: column \"size\"",
        "one of the categories \"S\", \"M\", \"L\", found \"XL\"",
    ];
    assert_error(
        "unknown",
        load_csv("size,y\nM,1\nXL,2\n", &options),
        &fragments,
    );
}

#[test]
fn c05_categories_that_are_numbers_compare_by_value_where_declared() {
    let text = "zone,y\n10,1\n9,2\n9.0,3\n10.0,4\n";
    let declared = unscaled(|csv| {
        csv.columns = vec![column("zone", |zone| {
            zone.kind = Some(ColumnType::Category)
        })];
    });
    let data = load_csv(text, &declared).unwrap();
    assert_eq!(
        data.train.features,
        [0.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    );
    assert_predicts_the_same(text, &data);
    let listed = unscaled(|csv| csv.categorical = vec!["zone".into()]);
    assert_eq!(
        load_csv(text, &listed).unwrap().train.width,
        4,
        "as they are written"
    );
}

#[test]
fn c06_each_column_has_its_own_policy_for_missing_values() {
    let policy = |missing: Missing, fill: Option<&str>| {
        unscaled(|csv| {
            csv.columns = vec![
                column("a", |a| {
                    a.missing = Some(missing);
                    a.fill_value = fill.map(str::to_owned);
                }),
                column("c", |c| {
                    c.kind = Some(ColumnType::Category);
                    c.missing = Some(missing);
                    c.fill_value = fill.map(str::to_owned);
                }),
            ];
        })
    };
    let text = "a,c,y\n1,1,1\n5,2,2\n,,3\n2,2,4\n5,1,5\n9,1,6\n";
    let filled = |missing, fill| {
        let data = load_csv(text, &policy(missing, fill)).unwrap();
        assert_predicts_the_same(text, &data);
        let row = data.train.row(2);
        (row[0], row[1..].to_vec())
    };
    assert_eq!(filled(Missing::Mean, None), (4.4, vec![0.0, 0.0]));
    assert_eq!(filled(Missing::Median, None), (5.0, vec![0.0, 0.0]));
    assert_eq!(filled(Missing::MostFrequent, None), (5.0, vec![1.0, 0.0]));
    assert_eq!(
        filled(Missing::Constant, Some("7")),
        (7.0, vec![0.0, 0.0, 1.0])
    );
    assert_eq!(
        filled(Missing::Constant, Some("2.0")),
        (2.0, vec![0.0, 1.0])
    );
    let data = load_csv(text, &policy(Missing::DropRow, None)).unwrap();
    assert_eq!(data.train.rows, 5);
    let fragments = [
        "2 columns cannot be read: \"a\" on line 4",
        "the value is missing",
    ];
    assert_error(
        "error",
        load_csv(text, &policy(Missing::Error, None)),
        &fragments,
    );
    let fragments = [
        "column \"a\"",
        "`fillValue` is \"many\"",
        "expected a number",
    ];
    assert_error(
        "constant",
        load_csv(text, &policy(Missing::Constant, Some("many"))),
        &fragments,
    );
}

#[test]
fn c06_the_tables_policy_goes_by_the_type() {
    let text = "n,c,b,y\n1,u,true,1\n,,,2\n4,v,false,3\n10,u,true,4\n7,u,true,5\n,v,false,\n";
    let data = load_csv(text, &unscaled(|csv| csv.missing = MissingPolicy::Impute)).unwrap();
    assert_eq!(data.train.rows, 5, "the row without a label is left out");
    assert_eq!(data.train.row(1), [5.5, 1.0, 0.0, 1.0]);
    let told = data.warnings.join("\n");
    assert!(
        told.contains("3 missing values in columns \"n\", \"c\", \"b\" are filled in"),
        "{told}"
    );
    let rows = "n,c,b\n,,\n";
    let encoded = encode_csv(
        &data.facts.schema,
        "p.csv",
        rows.as_bytes(),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(encoded.table.features, [5.5, 1.0, 0.0, 1.0]);
    let told = told_of_csv(&data.facts.schema, rows.as_bytes());
    assert!(told[0].contains("3 missing values"), "{told:?}");
}

#[test]
fn c07_an_indicator_says_where_a_value_was_missing() {
    let options = unscaled(|csv| {
        csv.missing = MissingPolicy::Impute;
        csv.columns = vec![
            column("a", |a| a.missing_indicator = true),
            column("c", |c| c.missing_indicator = true),
        ];
    });
    let text = "a,c,y\n1,u,1\n,v,2\n3,,3\n2,u,4\n2,v,5\n";
    let data = load_csv(text, &options).unwrap();
    assert_eq!(data.facts.input_shape, [5]);
    let rows: Vec<&[f32]> = (0..3).map(|row| data.train.row(row)).collect();
    assert_eq!(rows[0], [1.0, 0.0, 1.0, 0.0, 0.0]);
    assert_eq!(rows[1], [2.0, 1.0, 0.0, 1.0, 0.0]);
    assert_eq!(rows[2], [3.0, 0.0, 1.0, 0.0, 1.0]);
    assert_predicts_the_same(text, &data);
}

#[test]
fn c08_a_given_schema_reads_every_type_as_it_was_fitted() {
    let text = "n,when,flag,kind,y\n1,2024-02-29,yes,red,1\n2,,no,,2\n3,1970-01-01,No,red,3\n5,1970-01-05,No,blue,3\n";
    let options = unscaled(|csv| csv.missing = MissingPolicy::Impute);
    let data = load_csv(text, &options).unwrap();
    let mut given = options.clone();
    given.schema = Some(data.facts.schema.clone());
    let again = load_csv(text, &given).unwrap();
    assert_eq!(again.train, data.train);
    let fragments = [
        "a.csv:2: column \"when\"",
        "expected a date as iso8601, found \"soon\"",
    ];
    let text = text.replace("2024-02-29", "soon");
    assert_error("no date", load_csv(text, &given), &fragments);
}

#[test]
fn c09_a_report_tells_types_gaps_and_what_to_do() {
    let rows: String = (0..60)
        .map(|i| {
            let (grade, gap) = (i % 3, if i % 7 == 0 { "?" } else { "2.5" });
            format!(
                "{i};person {i};{grade};{gap};{:02}.05.2024;same\n",
                1 + i % 28
            )
        })
        .collect();
    let text = format!("id;who;grade;gap;day;one\n{rows}");
    let report = inspect_csv("a.csv", text.as_bytes(), &[], &Limits::default()).unwrap();
    assert_eq!((report.delimiter, report.rows), (';', 60));
    let column = |index: usize| &report.columns[index];
    assert_eq!(column(0).advice, [Advice::NumbersRows]);
    assert_eq!(column(1).kind, None);
    assert!(
        matches!(&column(1).advice[..], [Advice::Unreadable { line: 2, problem }] if problem.contains("60 different texts"))
    );
    assert_eq!(column(2).advice, [Advice::MayBeCategories]);
    assert_eq!(column(2).top[0], ("0".into(), 20));
    assert_eq!(column(3).kind, Some(ColumnType::Number));
    assert_eq!(column(3).advice, [Advice::MissingValues(vec!["?".into()])]);
    assert_eq!(column(4).date_format.as_deref(), Some("%d.%m.%Y"));
    assert_eq!(column(5).advice, [Advice::Constant]);
}

#[test]
fn c12_what_only_looks_like_a_type_is_not_taken_for_it() {
    let kind = |values: &[&str]| {
        let rows: String = values
            .iter()
            .cycle()
            .take(30)
            .zip(0..)
            .map(|(v, i)| format!("{v},{i}\n"))
            .collect();
        let report = inspect_csv(
            "a.csv",
            format!("a,y\n{rows}").as_bytes(),
            &[],
            &Limits::default(),
        )
        .unwrap();
        report.columns[0].kind
    };
    use ColumnType::{Boolean, Category, Date, Number};
    assert_eq!(
        kind(&["31.12.98", "01.02.01"]),
        Some(Category),
        "years of two digits"
    );
    assert_eq!(kind(&["1.2.3", "2.1.1"]), Some(Category), "versions");
    assert_eq!(kind(&["31.12.1998", "01.02.2001"]), Some(Date));
    assert_eq!(kind(&["N", "F"]), Some(Category), "of two pairs");
    assert_eq!(kind(&["T", "Y"]), Some(Category));
    assert_eq!(kind(&["0", "N"]), None, "a number and a text");
    assert_eq!(kind(&["no", "No", "YES"]), Some(Boolean));
    assert_eq!(kind(&["1", "0"]), Some(Number));
}

#[test]
fn c12_a_rank_is_no_row_number() {
    let advice = |numbers: &[u32]| {
        let rows: String = numbers.iter().map(|n| format!("{n},1\n")).collect();
        let report = inspect_csv(
            "a.csv",
            format!("a,y\n{rows}").as_bytes(),
            &[],
            &Limits::default(),
        )
        .unwrap();
        report.columns[0].advice.clone()
    };
    assert_eq!(advice(&[7, 8, 9, 10]), [Advice::NumbersRows]);
    assert_eq!(advice(&[3, 1, 2, 4]), []);
}

#[test]
fn c13_a_date_that_is_none_is_named_with_its_line() {
    let rows = |odd: &str| {
        let date = |i: u32| {
            if i == 40 {
                odd.to_owned()
            } else {
                format!("2024-05-{:02}", 1 + i % 28)
            }
        };
        (0..60)
            .map(|i| format!("{},{i}\n", date(i)))
            .collect::<String>()
    };
    let text = format!("d,y\n{}", rows("N/A"));
    let fragments = [
        "a.csv:42: column \"d\"",
        "expected a date as iso8601, found \"N/A\"",
        "\"N/A\" under `missingValues`",
    ];
    assert_error(
        "marker",
        load_csv(text.as_str(), &unscaled(|_| {})),
        &fragments,
    );
    let declared =
        unscaled(|csv| csv.columns = vec![column("d", |d| d.kind = Some(ColumnType::Date))]);
    assert_error("declared", load_csv(text.as_str(), &declared), &fragments);
    let report = inspect_csv("a.csv", text.as_bytes(), &[], &Limits::default()).unwrap();
    assert_eq!(report.columns[0].kind, Some(ColumnType::Date));
    assert_eq!(
        report.columns[0].advice,
        [Advice::MissingValues(vec!["N/A".into()])]
    );
    let text = format!("d,y\n{}", rows("soon"));
    let fragments = [
        "a.csv:42: column \"d\"",
        "found \"soon\"",
        "correct the value",
    ];
    assert_error("text", load_csv(text, &unscaled(|_| {})), &fragments);
}

#[test]
fn c14_settings_without_a_meaning_are_refused() {
    let with =
        |change: fn(&mut ColumnOptions)| unscaled(|csv| csv.columns = vec![column("a", change)]);
    let hour = with(|a| {
        a.kind = Some(ColumnType::Date);
        a.date_format = Some("%d/%m/%Y".into());
        a.date_parts = vec![DatePart::Hour];
    });
    let fragments = ["column \"a\"", "have no Hour"];
    assert_error("hour", load_csv("a,y\n01/02/2024,1\n", &hour), &fragments);
    let ordinal = with(|a| {
        a.kind = Some(ColumnType::Ordinal);
        a.categories = vec!["NA".into(), "S".into()];
    });
    assert_error(
        "ordinal",
        load_csv("a,y\nS,1\n", &ordinal),
        &["`categories` has \"NA\""],
    );
    let constant = with(|a| {
        a.kind = Some(ColumnType::Category);
        a.missing = Some(Missing::Constant);
        a.fill_value = Some("none".into());
    });
    let fragments = ["`fillValue` is \"none\"", "all categories are numbers"];
    assert_error(
        "fill",
        load_csv("a,y\n1,1\n1.0,2\n2,3\n,4\n", &constant),
        &fragments,
    );
}

#[test]
fn c15_what_the_initial_model_does_is_not_said_otherwise() {
    let text = "s,d,x,y\nS,2024-01-02,1,1\nM,2024-02-03,2,2\nL,2024-05-06,,3\n";
    let ordinal = |names: [&str; 3]| {
        column("s", |s| {
            s.kind = Some(ColumnType::Ordinal);
            s.categories = names.map(str::to_owned).into();
        })
    };
    let options = unscaled(|csv| {
        csv.missing = MissingPolicy::Mean;
        csv.columns = vec![ordinal(["S", "M", "L"])];
    });
    let schema = load_csv(text, &options).unwrap().facts.schema;
    let given = |change: &dyn Fn(&mut CsvOptions)| {
        let mut options = options.clone();
        edit(&mut options, |csv| change(csv));
        options.schema = Some(schema.clone());
        load_csv(text, &options)
    };
    let imputed = given(&|csv| csv.missing = MissingPolicy::Impute).unwrap();
    assert_eq!(imputed.train.rows, 3, "nothing is left out");
    let cases: [(&str, ColumnOptions); 4] = [
        ("categories", ordinal(["L", "M", "S"])),
        (
            "dateFormat",
            column("d", |d| {
                d.kind = Some(ColumnType::Date);
                d.date_format = Some("%d/%m/%Y".into());
            }),
        ),
        (
            "missingIndicator",
            column("x", |x| x.missing_indicator = true),
        ),
        (
            "missing",
            column("x", |x| x.missing = Some(Missing::Median)),
        ),
    ];
    for (field, said) in cases {
        let result = given(&|csv| csv.columns = vec![said.clone()]);
        assert_error(
            field,
            result,
            &[&format!("`{field}` is not that of the initial model")],
        );
    }
}

#[test]
fn c11_a_target_is_scaled_by_its_training_rows_and_comes_back() {
    let mut options = csv_options(Task::Regression);
    options.target = Normalization::Standardize;
    let text = "a,y\n1,100000\n2,300000\n3,500000\n4,300000.1\n";
    let data = load_csv(text, &options).unwrap();
    let label = &data.facts.schema.label;
    let scale = label.scale.unwrap();
    assert_eq!(scale.mean, 300_000.025);
    assert!((scale.std - 141_421.356).abs() < 0.01, "{}", scale.std);
    let sum: f32 = data.train.labels.iter().sum();
    assert!(sum.abs() < 1e-6, "{:?}", data.train.labels);
    assert_eq!(label.unscaled(data.train.labels[2]), 500_000.0);
    assert_predicts_the_same(text, &data);
    let limits = Limits::default();
    let encoded = encode_csv(
        &data.facts.schema,
        "p.csv",
        "a,y\n1,100000\n2,\n".as_bytes(),
        &limits,
    );
    let encoded = encoded.unwrap();
    assert_eq!(encoded.label(0), Some(100_000.0), "as the file has it");
    assert_eq!(encoded.table.labels[0], data.train.labels[0]);
    assert!(encoded.label(1).unwrap().is_nan() && encoded.table.labels[1].is_nan());
    // Equal targets are left where they are.
    let data = load_csv("a,y\n1,5\n2,5\n", &options).unwrap();
    assert_eq!(data.train.labels, [0.0, 0.0]);
    // What a model begins with keeps its scale.
    let mut given = options.clone();
    given.schema = Some(load_csv(text, &options).unwrap().facts.schema);
    let other = load_csv("a,y\n1,300000.025\n2,7\n", &given).unwrap();
    assert_eq!(other.train.labels[0], 0.0);
    given.target = Normalization::None;
    let fragments = ["`targetNormalization` is None"];
    assert_error("contradiction", load_csv(text, &given), &fragments);
}

#[test]
fn c17_rows_and_classes_have_weights_in_training() {
    let text = "a,w,y\n1,2,no\n2,0.5,no\n3,1,no\n4,4,yes\n";
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| csv.weight = Some("w".into()));
    let data = load_csv(text, &options).unwrap();
    assert_eq!(data.facts.input_shape, [1], "a weight is no input");
    assert_eq!(data.train.weights, [2.0, 0.5, 1.0, 4.0]);
    assert_predicts_the_same(text, &data);
    let (mut some, mut gathered) = (options.clone(), Vec::new());
    data.train.gather_weights(&[3, 0], &mut gathered);
    assert_eq!(gathered, [4.0, 2.0]);
    // As scikit-learn: n / (classes * n of the class), here 4 / (2 * 3) and 4 / (2 * 1).
    some.class_weights = ClassWeights::Balanced;
    edit(&mut some, |csv| {
        csv.weight = None;
        csv.exclude = vec!["w".into()];
    });
    let balanced = load_csv(text, &some).unwrap();
    assert_eq!(
        balanced.train.weights,
        [2.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0, 2.0]
    );
    assert_ne!(
        balanced.facts.digest,
        load_csv(text, &options).unwrap().facts.digest
    );
    some.class_weights = ClassWeights::None;
    let plain = load_csv(text, &some).unwrap();
    assert_eq!(plain.train.weights, [] as [f32; 0]);
    assert_ne!(balanced.facts.digest, plain.facts.digest);
    options.class_weights = ClassWeights::Given([("yes".to_owned(), 3.0)].into());
    let both = load_csv(text, &options).unwrap();
    assert_eq!(both.train.weights, [2.0, 0.5, 1.0, 12.0]);
}

#[test]
fn c17_weights_that_cannot_be_are_refused() {
    let mut options = csv_options(Task::Binary);
    edit(&mut options, |csv| csv.weight = Some("w".into()));
    let cases: [(&str, &[&str]); 5] = [
        (
            "a,w,y\n1,-1,0\n2,1,1\n",
            &["a.csv:2: column \"w\"", "0 or more", "\"-1\""],
        ),
        (
            "a,w,y\n1,heavy,0\n2,1,1\n",
            &["a.csv:2: column \"w\"", "expected a number"],
        ),
        (
            "a,w,y\n1,,0\n2,1,1\n",
            &["a.csv:2: column \"w\"", "the weight is missing"],
        ),
        (
            "a,w,y\n1,0,0\n2,0,1\n",
            &["every training row has the weight 0"],
        ),
        (
            "a,y\n1,0\n2,1\n",
            &["no column is named \"w\"", "`weight` names it"],
        ),
    ];
    for (text, fragments) in cases {
        assert_error(text, load_csv(text, &options), fragments);
    }
    edit(&mut options, |csv| csv.weight = Some("y".into()));
    let text = "a,w,y\n1,1,0\n2,1,1\n";
    assert_error(
        "label",
        load_csv(text, &options),
        &["both `label` and `weight`"],
    );
    edit(&mut options, |csv| csv.weight = None);
    options.class_weights = ClassWeights::Given([("2".to_owned(), 3.0)].into());
    assert_error(
        "class",
        load_csv(text, &options),
        &["`classWeights` names \"2\"", "\"0\", \"1\""],
    );
}

#[test]
fn c18_a_split_keeps_classes_groups_or_the_order() {
    let rows: String = (0..40)
        .map(|i| {
            format!(
                "{i},p{},{:02}.06.2024,{}\n",
                i / 4,
                28 - i % 28,
                ["no", "no", "no", "yes"][i % 4]
            )
        })
        .collect();
    let text = format!("a,who,day,y\n{rows}");
    let split = |task: Task, rule: SplitRule| {
        let mut options = csv_options(task);
        options.normalization = Normalization::None;
        options.validation = HeldOut::Fraction(0.25);
        options.split = rule;
        load_csv(text.as_str(), &options).unwrap()
    };
    let stratified = split(Task::Binary, SplitRule::Stratified);
    let validation = stratified.validation.unwrap();
    assert_eq!(
        (validation.rows, validation.labels.iter().sum::<f32>()),
        (10, 2.0),
        "7.5 and 2.5 rows: the first class gets the odd one"
    );
    let groups = split(Task::Binary, SplitRule::Group("who".into()));
    let validation = groups.validation.unwrap();
    assert_eq!(validation.rows, 12, "3 of 10 groups of 4");
    let rows: Vec<u32> = (0..12)
        .map(|row| validation.row(row)[0] as u32 / 4)
        .collect();
    assert!(
        rows.chunks(4)
            .all(|rows| rows.iter().all(|group| *group == rows[0])),
        "{rows:?}"
    );
    assert_eq!(
        validation.width, 7,
        "a and the parts of day: the group is no input"
    );
    let order = split(Task::Binary, SplitRule::Order("day".into()));
    let validation = order.validation.unwrap();
    let rows: Vec<f32> = (0..validation.rows)
        .map(|row| validation.row(row)[0])
        .collect();
    let last = [0.0, 1.0, 2.0, 3.0, 4.0, 28.0, 29.0, 30.0, 31.0, 32.0];
    assert_eq!(rows, last, "the 28th to the 24th");
}

#[test]
fn c18_a_column_to_split_by_need_not_be_an_input() {
    let text = "a,t,y\n1,3,1\n2,1,2\n3,2,3\n4,9,4\n";
    let mut options = unscaled(|csv| csv.exclude = vec!["t".into()]);
    options.validation = HeldOut::Fraction(0.5);
    options.split = SplitRule::Order("t".into());
    let data = load_csv(text, &options).unwrap();
    assert_eq!(
        (data.train.features, data.train.labels),
        (vec![2.0, 3.0], vec![2.0, 3.0])
    );
    options.validation = HeldOut::Fraction(0.5);
    options.split = SplitRule::Order("z".into());
    assert_error(
        "no column",
        load_csv(text, &options),
        &["no column is named \"z\"", "`orderBy` names it"],
    );
    options.validation = HeldOut::Fraction(0.5);
    options.split = SplitRule::Group("t".into());
    assert_error(
        "no group",
        load_csv("a,t,y\n1,,1\n2,1,2\n", &options),
        &["a.csv:2: column \"t\"", "the value is missing"],
    );
}

/// A test file is encoded with the fit of the training rows, and a digest tells whether it is the same.
#[test]
fn c18_test_rows_are_encoded_like_training_rows() {
    let files = |test: &str| {
        let train = Memory::default().with("a.csv", "a,y\n1,0\n3,1\n1,0\n3,1\n");
        train.with("t.csv", test)
    };
    let mut options = csv_options(Task::Binary);
    let read = |options: &LoadOptions, test: &str| load(&files(test), options);
    let without = read(&options, "").unwrap();
    options.test = HeldOut::Source(SourceSpec::Csv(CsvOptions::new("t.csv", "y")));
    let with = read(&options, "y,a\n1,5\n0,2\n").unwrap();
    let test = with.test.unwrap();
    assert_eq!(
        (test.features, test.labels),
        (vec![3.0, 0.0], vec![1.0, 0.0])
    );
    assert_eq!((with.train, with.facts.test_rows), (without.train, 2));
    assert_eq!((without.test, without.facts.test_rows), (None, 0));
    let other = read(&options, "y,a\n1,5\n0,3\n").unwrap();
    let digests = [
        &without.facts.digest,
        &with.facts.digest,
        &other.facts.digest,
    ];
    assert!(
        digests[0] != digests[1] && digests[1] != digests[2],
        "{digests:?}"
    );
    let one_class = read(&options, "y,a\n1,5\n").unwrap();
    let told = one_class.warnings.join("\n");
    assert!(
        told.contains("no test row has the class \"0\", of which the test metrics say nothing"),
        "{told}"
    );
    assert_error(
        "a class",
        read(&options, "y,a\n2,5\n"),
        &["t.csv:2: column \"y\"", "\"2\""],
    );
}

/// Numbers as they are written in much of Europe, in inputs, targets and weights; kept for predictions.
#[test]
fn c32_a_decimal_comma_and_separated_thousands_are_read() {
    let text = "a;w;y\n1.234,5;1;0,25\n-2,5;0,5;1.000\n\"3\";2;,5\n";
    let mut options = unscaled(|csv| {
        csv.delimiter = b';';
        csv.decimal = b',';
        csv.thousands = Some(b'.');
        csv.weight = Some("w".into());
    });
    let data = load_csv(text, &options).unwrap();
    assert_eq!(data.train.features, [1234.5, -2.5, 3.0]);
    assert_eq!(data.train.labels, [0.25, 1000.0, 0.5]);
    assert_eq!(data.train.weights, [1.0, 0.5, 2.0]);
    let encoded = encode_csv(&data.facts.schema, "p.csv", b"a\n7,5\n", &Limits::default()).unwrap();
    assert_eq!(encoded.table.features, [7.5]);
    assert_error(
        "a point in its wrong place",
        load_csv("a;w;y\n1.5;1;0\n", &options),
        &[
            "a.csv:2: column \"a\"",
            "expected a number such as \"1.234,5\", found \"1.5\"",
        ],
    );
    edit(&mut options, |csv| csv.thousands = None);
    assert_error(
        "1.234",
        load_csv("a;w;y\n1.234;1;0\n", &options),
        &["such as \"1234,5\", found \"1.234\""],
    );
}

#[test]
fn c32_text_of_one_byte_a_character_is_read() {
    let text = b"gr\xf6\xdfe,y\n\x80uro,1\n\xe9t\xe9,2\n";
    let read = |encoding: Encoding| {
        let options = unscaled(|csv| {
            csv.encoding = encoding;
            csv.categorical = vec!["größe".into()];
        });
        load_csv(&text[..], &options)
    };
    let categories = |data: &Dataset| match &data.facts.schema.input {
        InputKind::Columns(input) => match &input.columns[0].kind {
            ColumnKind::Categorical { categories, .. } => categories.clone(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    assert_eq!(
        categories(&read(Encoding::Windows1252).unwrap()),
        ["été", "€uro"]
    );
    assert_eq!(
        categories(&read(Encoding::Latin1).unwrap()),
        ["\u{80}uro", "été"]
    );
    assert_error(
        "UTF-8",
        read(Encoding::Utf8),
        &["a.csv:1:", "not UTF-8", "set `encoding`"],
    );
    // Longer than what is converted at a time, so that a character lies across its end.
    let long = [&b"c,y\n"[..], &b"\x80\x80\x80,1\n".repeat(20_000)].concat();
    let options = unscaled(|csv| {
        csv.encoding = Encoding::Windows1252;
        csv.categorical = vec!["c".into()];
    });
    let data = load_csv(long, &options).unwrap();
    assert_eq!(
        (categories(&data), data.train.rows),
        (vec!["€€€".into()], 20_000)
    );
}

#[test]
fn c32_a_file_without_a_header_names_its_columns_by_position() {
    let read = |text: &str| {
        let mut options = unscaled(|csv| {
            csv.headerless = true;
            csv.label = "column 3".into();
            csv.categorical = vec!["column 2".into()];
        });
        options.task = Task::Binary;
        load_csv(text, &options)
    };
    let data = read("1,u,no\n2,v,yes\n3,u,yes\n").unwrap();
    assert_eq!(
        data.train.features,
        [1.0, 1.0, 0.0, 2.0, 0.0, 1.0, 3.0, 1.0, 0.0]
    );
    assert_eq!(data.train.labels, [0.0, 1.0, 1.0]);
    // Without the label, which is last here.
    let encoded = encode_csv(&data.facts.schema, "p.csv", b"5,v\n", &Limits::default()).unwrap();
    assert_eq!(
        (encoded.table.features, encoded.lines),
        (vec![5.0, 0.0, 1.0], vec![1])
    );
    assert_error(
        "few",
        read("1,u,no\n2,v\n"),
        &[
            "a.csv:2:",
            "expected 3 fields as in the first line, found 2",
        ],
    );
    assert_error(
        "value",
        read("1,u,no\nx,v,yes\n"),
        &["a.csv:2: column \"column 1\"", "\"x\""],
    );
    assert_error("empty", read("\n"), &["a.csv", "the file is empty"]);
    assert_error(
        "none",
        read("1,2\n3,4\n"),
        &["a.csv", "\"column 3\"", "`label` names it"],
    );
}

#[test]
fn c17_a_class_is_named_once() {
    let mut options = csv_options(Task::Binary);
    let given = [("0".to_owned(), 5.0), ("0.0".to_owned(), 3.0)];
    options.class_weights = ClassWeights::Given(given.into());
    assert_error(
        "twice",
        load_csv("a,y\n1,0\n2,1\n", &options),
        &["names one class twice: \"0\" and \"0.0\""],
    );
}

#[test]
fn c18_a_split_says_what_it_cannot_go_by() {
    let text = "a,t,y\n1,3,1\n2,,2\n3,2,3\n4,9,4\n";
    let mut options = unscaled(|_| ());
    options.validation = HeldOut::Fraction(0.3);
    options.split = SplitRule::Group("y".into());
    assert_error(
        "label",
        load_csv(text, &options),
        &["`groupBy` names \"y\", which is the label"],
    );
    options.split = SplitRule::Order("t".into());
    let missing = load_csv(text, &options);
    assert_error(
        "missing",
        missing,
        &["a.csv:3: column \"t\"", "the value is missing"],
    );
    edit(&mut options, |csv| csv.missing = MissingPolicy::DropRow);
    let data = load_csv(text, &options).unwrap();
    assert_eq!(
        data.validation.unwrap().labels,
        [4.0],
        "the row without it is left out"
    );
    options.split = SplitRule::Group("a".into());
    let one = load_csv("a,t,y\n1,3,1\n1,2,2\n", &options);
    assert_error(
        "one group",
        one,
        &["of 1 groups none are left for training"],
    );
}
