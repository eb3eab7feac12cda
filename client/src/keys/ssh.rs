//! As much of SSH's encodings (RFC 4251, section 5; RFC 8709) as its Ed25519 keys need.

use data_encoding::{BASE64, BASE64_NOPAD};
use plimsoll_core::tuf::PublicKey;
use ring::digest::{SHA256, digest};

/// The name of the only algorithm that is used.
pub(super) const ED25519: &[u8] = b"ssh-ed25519";

/// What a line of an OpenSSH public key file is.
pub(super) enum Line {
    /// An Ed25519 key.
    Ed25519(PublicKey),
    /// A key of the algorithm named here, which is not used.
    Other(String),
    /// It begins like a key and is none.
    Damaged,
}

/// Reads the one line of an OpenSSH public key file, `ssh-ed25519 BASE64 COMMENT`; `None` if it does not look like one.
pub(super) fn line(text: &str) -> Option<Line> {
    let mut words = text.split_ascii_whitespace();
    let algorithm = words.next()?;
    if !["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|start| algorithm.starts_with(start)) {
        return None;
    }
    if algorithm.as_bytes() != ED25519 {
        return Some(Line::Other(algorithm.chars().take(60).collect()));
    }
    let blob = words.next().and_then(|word| BASE64.decode(word.as_bytes()).ok()).unwrap_or_default();
    let single = text.trim().lines().count() == 1;
    Some(ed25519(&blob).filter(|_| single).map_or(Line::Damaged, Line::Ed25519))
}

/// The Ed25519 key that a public key blob holds; `None` if it holds something else.
pub(super) fn ed25519(blob: &[u8]) -> Option<PublicKey> {
    let mut rest = blob;
    let algorithm = string(&mut rest)?;
    let key = string(&mut rest)?.try_into().ok()?;
    (algorithm == ED25519 && rest.is_empty()).then_some(PublicKey::Ed25519(key))
}

/// How OpenSSH shows a key: `SHA256:` and 43 characters of base64.
pub(super) fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", BASE64_NOPAD.encode(digest(&SHA256, blob).as_ref()))
}

/// Takes a string off the front: four bytes of length, big-endian, then the bytes.
pub(super) fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

/// Takes a number of four bytes, big-endian, off the front.
pub(super) fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*number))
}

/// Appends `bytes` as a string.
pub(super) fn push_string(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("what is sent to an agent is below 4 GiB");
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(bytes);
}
