//! The corpus of manifests: `corpus/base.yaml` and the changes to it in `corpus/*.txt`.
#![allow(dead_code)] // each test binary uses a part

/// The manifest that every case changes.
pub const BASE: &str = include_str!("../corpus/base.yaml");

/// A changed manifest and what is to be found in it.
pub struct Case {
    pub name: &'static str,
    pub text: String,
    /// `line:column` of the error.
    pub place: &'static str,
    pub path: &'static str,
    pub fragment: &'static str,
}

/// The cases of a file of the corpus.
pub fn cases(file: &'static str) -> Vec<Case> {
    file.split("\n== ").skip(1).map(case).collect()
}

fn case(text: &'static str) -> Case {
    let mut lines = text.lines();
    let name = lines.next().expect("a case has a name");
    let mut manifest: Vec<&str> = BASE.lines().collect();
    let mut at = 0;
    let (mut place, mut path, mut fragment) = ("", "", "");
    for line in lines.filter(|line| !line.is_empty()) {
        let rest = line.get(2..).unwrap_or("");
        match line.as_bytes()[0] {
            b'-' => {
                let same = |i: &usize| manifest[*i].trim() == rest.trim();
                let found: Vec<usize> = (0..manifest.len()).filter(same).collect();
                assert_eq!(
                    found.len(),
                    1,
                    "{name}: {rest:?} is in the manifest {} times",
                    found.len()
                );
                at = found[0];
                manifest.remove(at);
            }
            b'+' => {
                manifest.insert(at, rest);
                at += 1;
            }
            b'@' => (place, path) = rest.split_once(' ').unwrap_or((rest, "")),
            b'!' => fragment = rest,
            _ => panic!("{name}: what is {line:?}?"),
        }
    }
    Case {
        name,
        text: manifest.join("\n") + "\n",
        place,
        path,
        fragment,
    }
}
