//! Types of columns: told from their values, or declared; and what stands for their missing values.

use trainyard_data::{
    Advice, ColumnKind, ColumnOptions, ColumnType, DatePart, Limits, Missing, MissingPolicy,
    TableOptions, Task,
};

use crate::common::{
    assert_error, assert_predicts_the_same, column, csv_options, edit, encode_csv, inspect_csv,
    kinds, load_csv, told_of_csv, unscaled,
};

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
    let report = inspect_csv(text.as_bytes(), &[], &Limits::default()).unwrap();
    assert_eq!((report.delimiter, report.rows), (Some(';'), 60));
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
        let report =
            inspect_csv(format!("a,y\n{rows}").as_bytes(), &[], &Limits::default()).unwrap();
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
        let report =
            inspect_csv(format!("a,y\n{rows}").as_bytes(), &[], &Limits::default()).unwrap();
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
    let report = inspect_csv(text.as_bytes(), &[], &Limits::default()).unwrap();
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
    let given = |change: &dyn Fn(&mut TableOptions)| {
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
