//! Content digests (OCI image spec 1.1, descriptor.md, "Digests").

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// A sha256 content digest, the only algorithm Plimsoll writes or follows.
///
/// Shown and parsed as `sha256:` and 64 lower-case hex digits; anything else is refused, so a digest can never be
/// mistaken for a path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// The sha256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
        Self(out)
    }

    /// The digest whose 32 bytes are `sum`, which was made piece by piece; none for another length.
    pub fn from_sum(sum: &[u8]) -> Option<Self> {
        sum.try_into().ok().map(Self)
    }

    /// The digest whose 64 lower-case hex digits are `hex`.
    ///
    /// # Errors
    /// [`DigestError`] if `hex` is not exactly that.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let refuse = || DigestError { text: hex.chars().take(80).collect() };
        if hex.len() != 64 {
            return Err(refuse());
        }
        let bytes = HEXLOWER.decode(hex.as_bytes()).map_err(|_| refuse())?;
        Ok(Self(bytes.try_into().map_err(|_| refuse())?))
    }

    /// The 64 lower-case hex digits, without the algorithm.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex = text
            .strip_prefix("sha256:")
            .ok_or_else(|| DigestError { text: text.chars().take(80).collect() })?;
        Self::from_hex(hex)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// A text that is not a sha256 digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a digest: expected sha256: and 64 lower-case hex digits")]
pub struct DigestError {
    /// What was given, cut to 80 characters.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(format!("{digest:?}"), digest.to_string());
    }

    /// T63.
    #[test]
    fn nothing_but_a_lower_case_sha256_is_a_digest() {
        let good = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for bad in [
            "".to_owned(),
            good.to_owned(),
            "sha256:../../x".to_owned(),
            format!("sha256:{}", &good[1..]),
            format!("sha256:{good}0"),
            format!("sha256:{}", good.to_uppercase()),
            format!("sha512:{good}"),
            format!("SHA256:{good}"),
            format!("sha256: {}", &good[1..]),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
