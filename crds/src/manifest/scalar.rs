//! What a scalar means. Kubernetes reads YAML with go-yaml v2, whose rules lie between YAML 1.1 and 1.2: `yes`, `on` and `y` are booleans, `010` is
//! octal, `1_000` a number, `12:30:45` a string. These are its rules (`resolve.go`), so that a manifest means the same here and on a cluster.

use saphyr_parser::{ScalarStyle, Tag};

use super::node::Kind;

/// Resolves a scalar, or says why it has no meaning.
pub(super) fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind, String> {
    let Some(tag) = tag else {
        return Ok(match style {
            ScalarStyle::Plain => plain(text),
            _ => Kind::String(text.to_owned()),
        });
    };
    if !tag.is_yaml_core_schema() {
        // A lone `!` says that the scalar is a string.
        return match (tag.handle.as_str(), tag.suffix.as_str()) {
            ("", "!") | ("!", "") => Ok(Kind::String(text.to_owned())),
            _ => Err(format!("the tag {tag} is not supported")),
        };
    }
    match (tag.suffix.as_str(), plain(text)) {
        ("str", _) => Ok(Kind::String(text.to_owned())),
        ("int", kind @ Kind::Integer(_))
        | ("bool", kind @ Kind::Bool(..))
        | ("null", kind @ Kind::Null) => Ok(kind),
        ("float", kind @ (Kind::Float(_) | Kind::Integer(_))) => Ok(kind),
        (suffix, _) => Err(format!("`{text}` cannot be read as !!{suffix}")),
    }
}

/// A plain scalar without a tag.
fn plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Kind::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Kind::Bool(true, text.to_owned())
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Kind::Bool(false, text.to_owned())
        }
        ".nan" | ".NaN" | ".NAN" => Kind::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Kind::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Kind::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or_else(|| Kind::String(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Kind> {
    let first = text.bytes().next()?;
    if first == b'.' {
        return float(text);
    }
    if !first.is_ascii_digit() && first != b'+' && first != b'-' {
        return None;
    }
    let text = text.replace('_', "");
    match integer(&text) {
        Some(value) => Some(Kind::Integer(value)),
        None => float(&text),
    }
}

/// An integer of 64 bits in the syntax of Go: `0x`, `0o`, `0b`, and a leading `0` for octal.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, radix).ok()?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

/// A decimal number. One that has no fraction is an integer, because that is what is left of it in JSON.
fn float(text: &str) -> Option<Kind> {
    if !text
        .bytes()
        .all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
    {
        return None;
    }
    // A number that overflows is text to Go.
    let value = text.parse().ok().filter(|value: &f64| value.is_finite())?;
    // 2^63, the first integer that does not fit.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if value.fract() == 0.0 && (-LIMIT..LIMIT).contains(&value) {
        return Some(Kind::Integer(value as i64));
    }
    Some(Kind::Float(value))
}
