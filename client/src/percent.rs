//! Percent-encoding (RFC 3986, 2.1) of names that others chose.

use std::fmt::Write as _;

/// `name` with `%XX` for every byte but the ASCII ones of which `stays`, given its place and itself, says so.
pub(crate) fn encoded(name: &str, stays: impl Fn(usize, u8) -> bool) -> String {
    let mut encoded = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii() && stays(at, byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
    encoded
}

/// True for what RFC 3986, 2.3, lets stand everywhere.
pub(crate) fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}
