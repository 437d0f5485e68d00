//! The keys by which processes of a job know each other.
//!
//! Whoever starts a job makes one random key for its servers. The workers' key follows from it and not the other way round, so
//! that a worker cannot pass for a server. Each process finds its role's key in a file, and proves in the handshake of each
//! connection that it has it; the key itself never travels.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::Role;

/// What the workers' key is made of, with the servers'.
const OF_WORKERS: &[u8] = b"trainyard: key of workers";

/// A key of a role: 32 bytes, in files as 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; Key::BYTES]);

/// Why a text is no key. It does not repeat the text.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NotAKey;

impl Key {
    /// Bytes of a key.
    pub const BYTES: usize = 32;

    /// The key of a job's servers, from random bytes.
    pub fn of_servers(random: [u8; Key::BYTES]) -> Self {
        Key(random)
    }

    /// From the servers' key, that of a role.
    pub fn of_role(&self, role: Role) -> Self {
        match role {
            Role::Worker => Key(self.code([OF_WORKERS])),
            Role::Server | Role::Finisher => self.clone(),
        }
    }

    /// The message authentication code of `parts`, one after the other: HMAC with SHA-256 (RFC 2104).
    pub fn code<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
        self.mac(parts).finalize().into_bytes().into()
    }

    /// Whether `code` is that of `parts`; it takes as long for one code as for another.
    pub fn verifies<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>, code: &[u8; 32]) -> bool {
        self.mac(parts).verify(code.into()).is_ok()
    }

    fn mac<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Hmac<Sha256> {
        let mac = Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        parts.into_iter().fold(mac, Mac::chain_update)
    }

    /// The text of a file.
    pub fn to_text(&self) -> String {
        base16ct::lower::encode_string(&self.0)
    }

    /// Reads the text of a file; white space around it does no harm.
    ///
    /// # Errors
    /// If it is not 64 hexadecimal digits.
    pub fn from_text(text: &str) -> Result<Self, NotAKey> {
        let mut key = [0; Key::BYTES];
        match base16ct::mixed::decode(text.trim_ascii(), &mut key) {
            Ok(decoded) if decoded.len() == Key::BYTES => Ok(Key(key)),
            _ => Err(NotAKey),
        }
    }
}

/// Nobody finds a key in a log.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key has 64 hexadecimal digits")
    }
}

impl std::error::Error for NotAKey {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::of_servers(std::array::from_fn(|i| i as u8))
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let text = key().to_text();
        assert_eq!(text.len(), 64);
        for text in [text.clone(), format!("{text}\n"), text.to_uppercase()] {
            assert_eq!(Key::from_text(&text), Ok(key()));
        }
        for bad in [
            "",
            "00",
            &text[1..],
            &format!("{text}0"),
            &text.replace('0', "x"),
            &text.replace("00", "é"),
        ] {
            assert_eq!(Key::from_text(bad), Err(NotAKey), "{bad:?}");
        }
        assert_eq!(format!("{:?}", key()), "Key(..)");
    }

    /// Computed by Python's `hmac`.
    #[test]
    fn the_codes_are_those_of_hmac_with_sha_256() {
        let workers = key().of_role(Role::Worker);
        assert_eq!(
            workers.to_text(),
            "b4cd4efb7a0224c1126e6de797f5736a292104c137a535ce71ba9c41121a02fa"
        );
        assert_eq!(key().of_role(Role::Server), key());
        let code = key().code([b"ab".as_slice(), b"c"]);
        assert_eq!(
            Key(code).to_text(),
            "f0133729c4163dede81e21cd47839256da58171238c8a0d874397c73b14e1e47"
        );
        assert!(key().verifies([b"abc".as_slice()], &code));
        assert!(!key().verifies([b"abd".as_slice()], &code));
        assert!(!workers.verifies([b"abc".as_slice()], &code));
    }
}
