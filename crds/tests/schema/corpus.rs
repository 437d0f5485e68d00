//! Manifests that must be refused, each at the right place and with the right words, and manifests that must be accepted.

use trainyard_crds::manifest::read;

use crate::common::{Case, cases};

#[test]
fn invalid_manifests_are_refused_where_they_are_wrong() {
    let cases = cases(include_str!("../corpus/invalid.txt"));
    assert!(cases.len() >= 40);
    let wrong: Vec<String> = cases.iter().filter_map(|case| judge(case).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn judge(case: &Case) -> Result<(), String> {
    let Case {
        name,
        text,
        place,
        path,
        fragment,
    } = case;
    let Err(errors) = read("job.yaml", text) else {
        return Err(format!("{name}: accepted"));
    };
    let start = match path.is_empty() {
        true => format!("job.yaml:{place}: "),
        false => format!("job.yaml:{place}: {path}: "),
    };
    let found = errors.errors().iter().map(ToString::to_string);
    match found
        .into_iter()
        .any(|error| error.starts_with(&start) && error.contains(fragment))
    {
        true => Ok(()),
        false => Err(format!(
            "{name}: expected {start}{fragment}, found\n{errors}"
        )),
    }
}

#[test]
fn valid_manifests_are_accepted() {
    for case in cases(include_str!("../corpus/valid.txt")) {
        if let Err(errors) = read("job.yaml", &case.text) {
            panic!("{}:\n{errors}", case.name);
        }
    }
}
