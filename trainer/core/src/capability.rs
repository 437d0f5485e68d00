//! Whether two processes compute the same bits, by the words that say what their bits depend on.
//!
//! `trainyard-torch` writes the words, e.g. `libtorch 2.13.0 (build 6e37ee1c7994) on x86_64, avx2 kernels,
//! MKL AVX2,STRICT on GenuineIntel, oneDNN AVX2`. Equal words compute equal bits. Older versions left the maker
//! of the CPU out where MKL is pinned; such words stand in their checkpoints.

/// What the job is computed with once a worker with `theirs` has joined one with `ours`; nothing if the
/// worker would compute other bits.
///
/// Words without a maker, of an older version, agree with those of any maker, which are taken over: from then
/// on they must be equal.
///
/// # Examples
/// ```
/// use trainyard_core::capability::joined;
///
/// let (old, new) = ("avx2 kernels, MKL AVX2,STRICT", "avx2 kernels, MKL AVX2,STRICT on GenuineIntel");
/// assert_eq!(joined(Some(old), new), Some(new));
/// assert_eq!(joined(Some(new), "avx2 kernels, MKL AVX2,STRICT on AuthenticAMD"), None);
/// ```
pub fn joined<'a>(ours: Option<&str>, theirs: &'a str) -> Option<&'a str> {
    let agrees = ours.is_none_or(|ours| ours == theirs || ours == without_maker(theirs));
    agrees.then_some(theirs)
}

/// The words as a version wrote them that did not name the maker of a CPU whose MKL is pinned.
fn without_maker(words: &str) -> String {
    let parts = words.split(", ").map(|part| match part.split_once(" on ") {
        Some((mkl, _maker)) if mkl.starts_with("MKL ") => mkl,
        _ => part,
    });
    parts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "libtorch 2.13.0 (build 6e37ee1c7994) on x86_64, avx2 kernels, MKL AVX2,STRICT, oneDNN AVX2";
    const INTEL: &str = "libtorch 2.13.0 (build 6e37ee1c7994) on x86_64, avx2 kernels, MKL AVX2,STRICT on GenuineIntel, oneDNN AVX2";
    const AMD: &str = "libtorch 2.13.0 (build 6e37ee1c7994) on x86_64, avx2 kernels, MKL AVX2,STRICT on AuthenticAMD, oneDNN AVX2";

    #[test]
    fn the_first_worker_decides_and_equal_words_agree() {
        for words in [OLD, INTEL, "anything"] {
            assert_eq!(joined(None, words), Some(words));
            assert_eq!(joined(Some(words), words), Some(words));
        }
    }

    #[test]
    fn makers_are_told_apart() {
        assert_eq!(joined(Some(INTEL), AMD), None);
        assert_eq!(joined(Some(AMD), INTEL), None);
        // A worker that does not say its maker may be of any.
        assert_eq!(joined(Some(INTEL), OLD), None);
    }

    #[test]
    fn words_of_an_older_version_take_the_maker_of_who_joins() {
        assert_eq!(joined(Some(OLD), INTEL), Some(INTEL));
        assert_eq!(joined(Some(OLD), AMD), Some(AMD));
    }

    #[test]
    fn nothing_but_a_missing_maker_is_overlooked() {
        for (is, other) in [
            ("2.13.0", "2.12.0"),
            ("6e37ee1c7994", "000000000000"),
            ("on x86_64", "on aarch64"),
            ("avx2 kernels", "avx512 kernels"),
            ("MKL AVX2,STRICT", "MKL AVX512,STRICT"),
            ("oneDNN AVX2", "oneDNN AVX2, 2 threads a leaf"),
        ] {
            let differs = INTEL.replace(is, other);
            assert_ne!(differs, INTEL);
            assert_eq!(joined(Some(OLD), &differs), None, "{differs}");
        }
        // Where MKL is not pinned, older versions named the maker too.
        let auto = |maker: &str| format!("avx2 kernels, MKL auto{maker}");
        assert_eq!(
            joined(Some(&auto(" on GenuineIntel")), &auto(" on AuthenticAMD")),
            None
        );
    }
}
