//! `s3://bucket/key`.

use std::fmt;
use std::str::FromStr;

/// How an address begins.
const SCHEME: &str = "s3://";

/// A bucket and a key, or the prefix of keys, in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name of the bucket.
    pub bucket: String,
    /// The key, or a prefix without a slash at its end; may be empty.
    pub key: String,
}

impl Address {
    /// Whether a text means an address, right or wrong.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(SCHEME)
    }

    /// The address of `name` below this one.
    pub fn join(&self, name: &str) -> Address {
        let key = match self.key.is_empty() {
            true => name.to_owned(),
            false => format!("{}/{name}", self.key),
        };
        let bucket = self.bucket.clone();
        Address { bucket, key }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text
            .strip_prefix(SCHEME)
            .ok_or_else(|| format!("{text} does not begin with {SCHEME}"))?;
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(allowed) {
            return Err(format!(
                "{text} names no bucket: write s3://BUCKET/KEY, with 3 to 63 of a-z, 0-9, '.' and '-' for BUCKET"
            ));
        }
        let key = key.strip_suffix('/').unwrap_or(key);
        if key.len() > 1024 {
            return Err(format!(
                "the key of s3://{bucket} is longer than 1024 bytes"
            ));
        }
        let bad = |part: &str| part.is_empty() || part == "." || part == "..";
        if !key.is_empty() && key.split('/').any(bad) {
            return Err(format!(
                "{text} has an empty part, '.' or '..' between its slashes: write s3://BUCKET/KEY"
            ));
        }
        Ok(Address {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { bucket, key } = self;
        match key.is_empty() {
            true => write!(f, "{SCHEME}{bucket}"),
            false => write!(f, "{SCHEME}{bucket}/{key}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in ["s3://runs", "s3://runs/a/b c/d.csv", "s3://my.bucket-1/x"] {
            let address: Address = text.parse().expect("an address");
            assert_eq!(address.to_string(), text);
        }
        let address: Address = "s3://runs/jobs/".parse().expect("an address");
        assert_eq!(address.join("digits").to_string(), "s3://runs/jobs/digits");
        let whole: Address = "s3://runs/".parse().expect("an address");
        assert_eq!(whole.join("digits").to_string(), "s3://runs/digits");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("s3://runs/{}", "x".repeat(1025));
        for text in [
            "runs",
            "s3://",
            "s3:///key",
            "s3://ab/x",
            "s3://UPPER/x",
            "s3://runs//x",
            "s3://runs/../x",
            &long,
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
