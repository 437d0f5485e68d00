//! What a worker says it holds when it opens a connection for parameters.

use serde::{Deserialize, Serialize};

/// More runs than this are not told: what is in the rest is sent again.
const RUNS: usize = 256;

/// The newest version that a worker holds of each chunk of a connection, in order, as runs of equal
/// versions. What is missing at the end is not held.
///
/// Without it, one broken connection would cost a whole model: the server cannot know what has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Held(Vec<(u32, Option<u64>)>);

impl Held {
    /// These versions, as far as they fit a bounded number of runs.
    pub fn of(versions: impl IntoIterator<Item = Option<u64>>) -> Self {
        let mut runs: Vec<(u32, Option<u64>)> = Vec::new();
        for version in versions {
            match runs.last_mut() {
                Some((count, last)) if *last == version => *count += 1,
                _ => runs.push((1, version)),
            }
            if runs.len() > RUNS {
                runs.pop();
                break;
            }
        }
        runs.pop_if(|(_, version)| version.is_none());
        Held(runs)
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The versions, one for each chunk.
    pub fn versions(&self) -> impl Iterator<Item = Option<u64>> {
        let run = |&(count, version)| std::iter::repeat_n(version, count as usize);
        self.0.iter().flat_map(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_told_in_runs() {
        let versions = [Some(4), Some(4), Some(5), None, Some(4), None, None];
        let held = Held::of(versions);
        assert_eq!(
            serde_json::to_string(&held).expect("JSON"),
            "[[2,4],[1,5],[1,null],[1,4]]"
        );
        let told: Vec<_> = held.versions().collect();
        assert_eq!(told, versions[..5], "what is missing is not held");
        assert!(Held::of([None, None]).is_empty());
        assert!(!held.is_empty());
    }

    #[test]
    fn what_would_take_more_runs_is_sent_again() {
        let versions: Vec<_> = (0..1000).map(|chunk| Some(chunk % 2)).collect();
        let told: Vec<_> = Held::of(versions.clone()).versions().collect();
        assert_eq!(told, versions[..RUNS]);
        let same = Held::of(vec![Some(u64::MAX); 1 << 20]);
        assert_eq!(same.versions().count(), 1 << 20);
    }
}
