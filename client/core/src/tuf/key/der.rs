//! As much DER (ITU-T X.690) as an RSA key needs, and strictly: one key has one encoding.

/// Tag of a SEQUENCE.
const SEQUENCE: u8 = 0x30;
/// Tag of a BIT STRING.
const BIT_STRING: u8 = 0x03;
/// Tag of an INTEGER.
const INTEGER: u8 = 0x02;
/// The contents of the AlgorithmIdentifier of an RSA key: rsaEncryption and NULL (RFC 3279, section 2.3.1).
const RSA_ENCRYPTION: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// The RSAPublicKey inside of a SubjectPublicKeyInfo, both in DER; `None` if it is no such thing.
pub(super) fn rsa_key(spki: &[u8]) -> Option<&[u8]> {
    let mut info = whole(spki, SEQUENCE)?;
    let algorithm = element(&mut info, SEQUENCE)?;
    let bits = whole(info, BIT_STRING)?;
    // The first octet counts the unused bits of the last.
    bits.strip_prefix(&[0]).filter(|_| algorithm == RSA_ENCRYPTION)
}

/// The SubjectPublicKeyInfo around an RSAPublicKey.
pub(super) fn rsa_info(key: &[u8]) -> Vec<u8> {
    let bits = encode(BIT_STRING, &[&[0], key].concat());
    encode(SEQUENCE, &[encode(SEQUENCE, RSA_ENCRYPTION), bits].concat())
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017, A.1.1), big-endian without leading zeros.
pub(super) fn rsa_numbers(key: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut numbers = whole(key, SEQUENCE)?;
    let modulus = element(&mut numbers, INTEGER)?;
    Some((positive(modulus)?, positive(whole(numbers, INTEGER)?)?))
}

/// The magnitude of a positive INTEGER in its only encoding.
fn positive(contents: &[u8]) -> Option<&[u8]> {
    match contents {
        [0, rest @ ..] => rest.first().is_some_and(|first| first & 0x80 != 0).then_some(rest),
        [first, ..] if first & 0x80 == 0 => Some(contents),
        _ => None,
    }
}

/// The contents of the one element that `input` is.
fn whole(mut input: &[u8], tag: u8) -> Option<&[u8]> {
    let contents = element(&mut input, tag)?;
    input.is_empty().then_some(contents)
}

/// Takes an element off the front of `input`; its contents. Lengths of up to 65,535, in their shortest form.
fn element<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (length, rest) = match input.strip_prefix(&[tag])? {
        [0x82, high, low, rest @ ..] if *high != 0 => (usize::from(*high) << 8 | usize::from(*low), rest),
        [0x81, length @ 0x80..=0xff, rest @ ..] => (usize::from(*length), rest),
        [length @ 0..=0x7f, rest @ ..] => (usize::from(*length), rest),
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some(contents)
}

/// An element. RSA keys of the lengths that count are far below the 65,535 bytes that two octets of length can say.
fn encode(tag: u8, contents: &[u8]) -> Vec<u8> {
    let [.., high, low] = contents.len().to_be_bytes();
    let head: &[u8] = match contents.len() {
        0..0x80 => &[tag, low],
        0x80..0x100 => &[tag, 0x81, low],
        _ => &[tag, 0x82, high, low],
    };
    [head, contents].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key of two small numbers.
    fn small() -> Vec<u8> {
        encode(SEQUENCE, &[encode(INTEGER, &[0, 0xc5]), encode(INTEGER, &[3])].concat())
    }

    #[test]
    fn what_is_written_is_read() {
        let key = small();
        let info = rsa_info(&key);
        assert_eq!(rsa_key(&info), Some(key.as_slice()));
        assert_eq!(rsa_numbers(&key), Some((&[0xc5][..], &[3][..])));
        for length in [0, 127, 128, 255, 256, 65_535] {
            let contents = vec![7; length];
            assert_eq!(whole(&encode(INTEGER, &contents), INTEGER), Some(contents.as_slice()), "{length}");
        }
    }

    #[test]
    fn every_other_spelling_is_refused() {
        let info = rsa_info(&small());
        for cut in 0..info.len() {
            assert_eq!(rsa_key(&info[..cut]), None, "the first {cut} bytes");
        }
        assert_eq!(rsa_key(&[info.as_slice(), &[0]].concat()), None, "something after the end");
        // Long forms of lengths that have a shorter one, the indefinite one, and ones of more octets.
        for length in [&[0x81, 3][..], &[0x82, 0, 3], &[0x82, 0, 0x80], &[0x80], &[0x83, 0, 0, 3], &[0xff]] {
            let bytes = [&[INTEGER], length, &[1; 0x80]].concat();
            assert_eq!(element(&mut bytes.as_slice(), INTEGER), None, "{length:x?}");
        }
        for (number, what) in [
            (&[][..], "empty"),
            (&[0], "zero"),
            (&[0, 1], "a zero in front"),
            (&[0x80], "negative"),
            (&[0, 0, 0x80], "two zeros in front"),
        ] {
            assert_eq!(positive(number), None, "{what}");
        }
        let mut unused = info.clone();
        let at = unused.len() - small().len() - 1;
        unused[at] = 1;
        assert_eq!(rsa_key(&unused), None, "unused bits");
        let mut other = info;
        other[12] ^= 1;
        assert_eq!(rsa_key(&other), None, "another algorithm");
        for key in [
            encode(SEQUENCE, &encode(INTEGER, &[3])),
            encode(SEQUENCE, &[encode(INTEGER, &[5]), encode(INTEGER, &[3]), encode(INTEGER, &[3])].concat()),
            encode(INTEGER, &[5]),
        ] {
            assert_eq!(rsa_numbers(&key), None, "{key:x?}");
        }
    }
}
