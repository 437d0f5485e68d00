//! What the user should know.

use trainyard_contract::{MAX_WARNINGS, MAX_WARNINGS_OF_WORKERS, add_warning, cut_warning};

/// Warnings of the job. However many a worker brings, there is room for what the coordinator finds.
#[derive(Clone, Debug, Default)]
pub(super) struct Warnings {
    told: Vec<String>,
    found: Vec<String>,
}

impl Warnings {
    /// Those that a worker brings; of too many, the first.
    pub fn told(&mut self, texts: Vec<String>) {
        for text in texts {
            if self.told.len() < MAX_WARNINGS_OF_WORKERS {
                add_warning(&mut self.told, text);
            }
        }
    }

    /// One of the coordinator; of too many, the latest are kept.
    pub fn found(&mut self, text: String) {
        let text = cut_warning(text);
        if self.found.contains(&text) {
            return;
        }
        if self.found.len() == MAX_WARNINGS - MAX_WARNINGS_OF_WORKERS {
            self.found.remove(0);
        }
        self.found.push(text);
    }

    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.told.iter().chain(&self.found).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t34_a_worker_leaves_room_for_what_is_said_of_it() {
        let many = |what: &str| (0..100).map(|n| format!("{what} {n}")).collect();
        let mut warnings = Warnings::default();
        warnings.told(many("told"));
        let found: Vec<String> = many("found");
        found.into_iter().for_each(|text| warnings.found(text));
        let all = warnings.all();
        assert_eq!(all.len(), MAX_WARNINGS);
        assert_eq!((all[0].as_str(), all[15].as_str()), ("told 0", "found 99"));
        warnings.found("found 99".into());
        warnings.told(many("more"));
        assert_eq!(warnings.all(), all);
    }
}
