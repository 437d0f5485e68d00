//! Where a process listens and where another finds it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest path of a Unix socket in bytes: `sun_path` has 108, and the last one ends it (unix(7)).
pub const LONGEST_PATH: usize = 107;

/// What an address of a Unix socket begins with.
const UNIX: &str = "unix:";

/// An address: `HOST:PORT` for TCP, `unix:/PATH` for a Unix socket.
///
/// A host is looked up for each connection, so an unknown one is no error here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(pub(super) Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Tcp(String),
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The path depends on the folder that a process happens to be in.
    #[error("{0}: the path of a Unix socket must be absolute: unix:/PATH")]
    Relative(String),
    /// The system has no room for the path.
    #[error(
        "{path}: the path of a Unix socket has at most {LONGEST_PATH} bytes, this one has {length}; choose a shorter folder"
    )]
    TooLong {
        /// The path.
        path: String,
        /// Its length in bytes.
        length: usize,
    },
    /// The path cannot be written in an address.
    #[error("{0:?}: the path of a Unix socket must be UTF-8 without a zero byte")]
    NoText(PathBuf),
}

impl Address {
    /// The address of a Unix socket.
    ///
    /// # Errors
    /// If the path is relative, too long, or no text.
    pub fn unix(path: &Path) -> Result<Self, AddressError> {
        let Some(text) = path.to_str().filter(|text| !text.contains('\0')) else {
            return Err(AddressError::NoText(path.to_owned()));
        };
        if !path.is_absolute() {
            return Err(AddressError::Relative(format!("{UNIX}{text}")));
        }
        if text.len() > LONGEST_PATH {
            return Err(AddressError::TooLong {
                path: text.to_owned(),
                length: text.len(),
            });
        }
        Ok(Address(Kind::Unix(path.to_owned())))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(UNIX) {
            // A host may be called "unix" too; its port is a number.
            Some(rest) if rest.parse::<u16>().is_err() => Address::unix(Path::new(rest)),
            _ => Ok(Address(Kind::Tcp(text.to_owned()))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Tcp(text) => f.write_str(text),
            Kind::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written_alike() {
        for text in [
            "127.0.0.1:7000",
            "[::1]:7000",
            "job-server-0:7000",
            "unix:7000",
            "unix:/run/user/1000/server-0",
        ] {
            let address: Address = text.parse().expect("an address");
            assert_eq!(address.to_string(), text);
            let unix = matches!(address.0, Kind::Unix(_));
            assert_eq!(unix, text.starts_with("unix:/"), "{text}");
        }
    }

    #[test]
    fn t25_a_path_that_no_socket_can_have_is_refused_with_its_length() {
        let longest = format!("unix:/{}", "x".repeat(LONGEST_PATH - 1));
        longest.parse::<Address>().expect("it just fits");
        let refused = |text: &str| match text.parse::<Address>() {
            Ok(address) => panic!("{address} was taken"),
            Err(error) => error.to_string(),
        };
        let error = refused(&format!("{longest}x"));
        assert!(
            error.ends_with("at most 107 bytes, this one has 108; choose a shorter folder"),
            "{error}"
        );
        for relative in ["unix:server-0", "unix:", "unix:run/server-0", "unix:99999"] {
            let error = refused(relative);
            assert!(
                error.contains(relative) && error.contains("must be absolute"),
                "{error}"
            );
        }
        assert!(refused("unix:/a\0b").contains("zero byte"));
    }
}
