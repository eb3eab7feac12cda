//! Which addresses may be spoken to, and which of them belong together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use super::Refusal;

/// True for `localhost`, 127.0.0.0/8 and `[::1]`: the hosts that plain http is spoken to without being told.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.trim_end_matches('.') == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// True for a literal address, or a `localhost` name, that means this machine or a private network. Unusual spellings
/// (decimal, octal, full-width digits) have been normalised by the URL parser.
pub(super) fn is_internal(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(ip)) => internal_v4(ip),
        Some(Host::Ipv6(ip)) => internal_v6(ip),
        None => false,
    }
}

/// True for an address that means this machine, a private network, or nothing that a public server has.
pub(super) fn is_internal_address(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => internal_v4(ip),
        IpAddr::V6(ip) => internal_v6(ip),
    }
}

fn internal_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    a == 0
        || a >= 224 // multicast, reserved, broadcast
        || ip.is_loopback()
        || ip.is_private()
        || ip.is_link_local()
        || (a == 100 && (64..128).contains(&b)) // RFC 6598, carriers' shared space
        || [a, b, c] == [192, 0, 0] // RFC 6890; some clouds' metadata
        || (a == 198 && (b & 0xfe) == 18) // RFC 2544, benchmarks
}

fn internal_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let first = segments[0];
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    // Addresses that carry an IPv4 address, which gateways send on to.
    let embedded = match segments {
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] // compatible, mapped
        | [0, 0, 0, 0, 0xffff, 0, high, low] // RFC 2765, translated
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low] // RFC 6052, NAT64
        | [0x2002, high, low, ..] => Some(v4(high, low)), // RFC 3056, 6to4
        _ => None,
    };
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || (first & 0xfe00) == 0xfc00 // unique-local
        || (first & 0xff80) == 0xfe80 // link-local, and what was site-local
        || segments[..3] == [0x64, 0xff9b, 1] // RFC 8215, a network's own NAT64
        || embedded.is_some_and(internal_v4)
}

/// True if both URLs have the same scheme, host and port.
pub(super) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// True if a registry's credentials may go to a token server at `realm`: the same host on any port, or a host under
/// the same last two labels (three, where the last two look like a country's `co.uk`).
pub(super) fn same_site(registry: &Url, realm: &Url) -> bool {
    match (registry.host(), realm.host()) {
        (Some(Host::Domain(a)), Some(Host::Domain(b))) => {
            a == b || site(a).is_some_and(|a| Some(a) == site(b))
        }
        (a, b) => a.is_some() && a == b,
    }
}

fn site(name: &str) -> Option<String> {
    let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
    let wanted = match labels[..] {
        [.., "ac" | "co" | "com" | "edu" | "gov" | "net" | "org", country] if country.len() == 2 => 3,
        _ => 2,
    };
    let start = labels.len().checked_sub(wanted)?;
    Some(labels[start..].join("."))
}

/// Checks a URL that a server sent us to, before anything is sent there.
///
/// `registry` is where the call began and `from` who sent us on; `plain_http` is the user's leave to speak plain http
/// to hosts other than loopback.
pub(super) fn check_hop(registry: &Url, from: &Url, to: &Url, plain_http: bool) -> Result<(), Refusal> {
    if !matches!(to.scheme(), "http" | "https") || to.host().is_none() {
        return Err(Refusal::NotHttp);
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(Refusal::UserInfo);
    }
    if to.scheme() == "http" && (from.scheme() == "https" || !(plain_http || is_loopback(to))) {
        return Err(Refusal::PlainHttp);
    }
    if is_internal(to) && !is_internal(registry) {
        return Err(Refusal::Internal);
    }
    Ok(())
}

/// A URL for people: without user info, query and fragment, where signatures and passwords travel; at most 300
/// characters.
pub(super) fn shown(url: &Url) -> String {
    let text = format!("{}://{}{}", url.scheme(), authority(url), url.path());
    text.chars().take(300).collect()
}

/// `HOST` or `HOST:PORT`, as it stands in the URL.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    /// T74: however it is spelled.
    #[test]
    fn inside_addresses_are_known_in_every_spelling() {
        for inside in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "127。0。0。1",
            "１２７.0.0.1",
            "169.254.169.254",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::a9fe:a9fe]",
            "[64:ff9b:1::1]",
            "[2002:7f00:1::]",
            "[::ffff:0:127.0.0.1]",
            "[fe80::1]",
            "[fec0::1]",
            "[ff02::1]",
            "192.0.0.192",
            "198.18.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "127.0.0.1.",
            "[fd00::1]",
            "localhost",
            "LOCALHOST.",
            "a.localhost",
        ] {
            assert!(is_internal(&url(&format!("https://{inside}/"))), "{inside}");
        }
        for outside in [
            "example.com",
            "1.1.1.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "[2606:4700::1111]",
            "[64:ff9b::101:101]",
            "[2002:101:101::]",
            "[::ffff:1.1.1.1]",
            "localhost.example.com",
        ] {
            assert!(!is_internal(&url(&format!("https://{outside}/"))), "{outside}");
        }
    }

    /// T73.
    #[test]
    fn a_site_is_the_last_two_labels() {
        let same = |a: &str, b: &str| same_site(&url(&format!("https://{a}")), &url(&format!("https://{b}")));
        assert!(same("registry-1.docker.io", "auth.docker.io"));
        assert!(same("registry.example.com:5000", "registry.example.com"));
        assert!(same("example.com", "auth.example.com"));
        assert!(same("10.0.0.1:5000", "10.0.0.1:5001"));
        assert!(same("localhost:1", "localhost:2"));
        assert!(same("r.acme.co.uk", "auth.acme.co.uk"));
        assert!(!same("acme.co.uk", "evil.co.uk"));
        assert!(!same("registry.example.com", "example.com.evil.org"));
        assert!(!same("registry.example.com", "evilexample.com"));
        assert!(!same("10.0.0.1", "20.0.0.1"));
        assert!(!same("localhost", "example.com"));
        assert!(!same("com", "evil.com"));
    }

    #[test]
    fn hops_are_checked() {
        let check = |from: &str, to: &str| check_hop(&url(from), &url(from), &url(to), false);
        assert_eq!(check("https://r.io/", "https://cdn.net/x"), Ok(()));
        assert_eq!(check("http://127.0.0.1:1/", "http://localhost:2/"), Ok(()));
        assert_eq!(check("http://127.0.0.1:1/", "https://cdn.net/"), Ok(()));
        assert_eq!(check("https://r.io/", "http://r.io/"), Err(Refusal::PlainHttp));
        assert_eq!(check("http://127.0.0.1:1/", "http://cdn.net/"), Err(Refusal::PlainHttp));
        assert_eq!(check("https://r.io/", "https://169.254.169.254/"), Err(Refusal::Internal));
        assert_eq!(check("https://r.io/", "https://u:p@r.io/"), Err(Refusal::UserInfo));
        assert_eq!(check("https://r.io/", "file:///etc/passwd"), Err(Refusal::NotHttp));
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        assert_eq!(shown(&url("https://u:p@h:1/a?sig=x#y")), "https://h:1/a");
    }
}
