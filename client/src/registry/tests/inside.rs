//! Who is outside sends nobody inside, whatever the way there is called (T74).

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
};

use super::trust::with_ca;
use super::*;
use crate::registry::connect::Network;

/// In these tests, the one address that is not inside.
const OUTSIDE: &str = "127.0.0.9";
const HERE: &str = "127.0.0.1";

/// The names that were looked up.
type Asked = Arc<Mutex<Vec<String>>>;

/// A client in a world of these names. Each look-up of a name gives the next of its answers, and then the last for ever.
fn client_among(names: &[(&str, &[&[&str]])]) -> (Registry, Asked) {
    let parse = |answer: &&[&str]| {
        answer.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect::<Vec<_>>()
    };
    let names: HashMap<String, Vec<Vec<SocketAddr>>> = names
        .iter()
        .map(|(name, answers)| ((*name).to_owned(), answers.iter().map(parse).collect()))
        .collect();
    let asked = Asked::default();
    let log = asked.clone();
    let lookup = move |name: String| {
        let mut log = log.lock().unwrap();
        let answers = &names[&name];
        let before = log.iter().filter(|asked| **asked == name).count();
        log.push(name);
        let answer = answers[before.min(answers.len() - 1)].clone();
        let answer: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(async { Ok(answer) });
        answer
    };
    let inside = |ip: IpAddr| ip != OUTSIDE.parse::<IpAddr>().unwrap();
    let network = Network { lookup: Arc::new(lookup), inside };
    // A CA, so that https does not depend on this machine's.
    let dir = tempfile::tempdir().unwrap();
    let options = RegistryOptions { plain_http: true, ..with_ca(&dir, &Identity::new()) };
    (Registry::on(network, options).unwrap(), asked)
}

/// How a registry sends us somewhere.
#[derive(Debug, Clone, Copy)]
enum By {
    Redirect,
    Realm,
    Upload,
}

/// A registry at `ip` that sends everybody to `to`.
fn sends(ip: &str, by: By, to: &str) -> Server {
    let to = to.to_owned();
    Server::start_at(ip, move |seen| match (by, seen.method.as_str()) {
        (By::Redirect, _) => answer(307, &[("location", &to)], b""),
        (By::Realm, _) if seen.header("authorization").is_some() => answer(200, &[], b"content"),
        (By::Realm, _) => answer(401, &[("www-authenticate", &format!("Bearer realm=\"{to}\""))], b""),
        (By::Upload, "HEAD") => answer(404, &[], b""),
        (By::Upload, _) => answer(202, &[("location", &to)], b""),
    })
}

async fn follow(client: &Registry, by: By, registry: &Server) -> Result<(), RegistryError> {
    let place = repo(format!("registry.test:{}", registry.port()));
    match by {
        By::Upload => client.put_blob(&place, "content".into()).await.map(drop),
        _ => client.blob(&place, &Digest::of(b"content"), 7, true).await.map(drop),
    }
}

fn assert_refused(by: By, error: &RegistryError) {
    match by {
        By::Realm => {
            assert!(
                matches!(error, RegistryError::RealmRefused { source: Refusal::Internal, .. }),
                "{error:?}"
            );
        }
        _ => assert!(
            matches!(error, RegistryError::RedirectRefused { source: Refusal::Internal, .. }),
            "{by:?} {error:?}"
        ),
    }
    assert!(error.is_untrusted());
}

fn service() -> impl Fn(&Seen) -> Reply + Send + Sync {
    |seen: &Seen| match (seen.method.as_str(), seen.target.contains("scope=")) {
        ("PUT", _) => answer(201, &[], b""),
        (_, true) => answer(200, &[], br#"{"token":"good"}"#),
        _ => answer(200, &[], b"content"),
    }
}

/// T74: literal addresses, in every spelling a URL parser knows.
#[tokio::test]
async fn nobody_outside_sends_us_to_an_inside_address() {
    for by in [By::Redirect, By::Realm, By::Upload] {
        for inside in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127。0。0。1",
            "１２７.0.0.1",
            "%31%32%37.0.0.1",
            "127.0.0.1.",
            "0.0.0.0",
            "0",
            "169.254.169.254",
            "10.0.0.1",
            "172.31.0.1",
            "192.168.0.1",
            "100.64.0.1",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::7f00:1]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "localhost",
            "localhost.",
            "LOCALHOST",
            "x.localhost",
        ] {
            // A header holds no other letters; a browser's spelling of them comes percent-encoded.
            let encoded: String = inside
                .chars()
                .map(|c| match c.is_ascii() {
                    true => c.to_string(),
                    false => c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect(),
                })
                .collect();
            let registry = sends(OUTSIDE, by, &format!("http://{encoded}:1/token"));
            let (client, _) = client_among(&[("registry.test", &[&[OUTSIDE]])]);
            let before = match by {
                By::Upload => 2,
                _ => 1,
            };
            let error = follow(&client, by, &registry).await.unwrap_err();
            assert_refused(by, &error);
            assert_eq!(client.requests(), before, "{by:?} {inside}: nothing is sent there");
        }
    }
}

/// T74: DNS rebinding: a name is judged by the address that is connected to.
#[tokio::test]
async fn a_name_outside_that_leads_inside_is_refused() {
    for by in [By::Redirect, By::Realm, By::Upload] {
        let victim = Server::start_at(HERE, service());
        for (scheme, answers) in [
            ("http", &[HERE][..]),
            ("https", &[HERE]),
            ("http", &["10.0.0.1", "::1"]),
            ("http", &["::ffff:127.0.0.1"]),
        ] {
            let registry = sends(OUTSIDE, by, &format!("{scheme}://rebind.test:{}/token", victim.port()));
            let (client, asked) =
                client_among(&[("registry.test", &[&[OUTSIDE]]), ("rebind.test", &[answers])]);
            let error = follow(&client, by, &registry).await.unwrap_err();
            assert_refused(by, &error);
            assert_eq!(asked.lock().unwrap().iter().filter(|name| *name == "rebind.test").count(), 1);
        }
        // Addresses inside among others are left out, not tried.
        let cdn = Server::start_at(OUTSIDE, service());
        let registry = sends(OUTSIDE, by, &format!("http://rebind.test:{}/token", cdn.port()));
        let mixed = [HERE, OUTSIDE];
        let (client, _) = client_among(&[("registry.test", &[&[OUTSIDE]]), ("rebind.test", &[&mixed])]);
        follow(&client, by, &registry).await.unwrap();
        assert_eq!((cdn.seen().len(), victim.seen().len()), (1, 0), "{by:?}");
    }
}

/// T74: the registry's own name, once it is somebody else who uses it.
#[tokio::test]
async fn a_name_that_changes_its_address_is_judged_by_the_new_one() {
    let victim = Server::start_at(HERE, service());
    for by in [By::Redirect, By::Realm] {
        let registry = sends(OUTSIDE, by, &format!("http://registry.test:{}/token", victim.port()));
        let (client, _) = client_among(&[("registry.test", &[&[OUTSIDE], &[HERE]])]);
        let error = follow(&client, by, &registry).await.unwrap_err();
        assert_refused(by, &error);
    }
    assert_eq!(victim.seen().len(), 0);
}

/// T74: a registry that is inside itself, as its user wants, sends to its neighbours.
#[tokio::test]
async fn a_registry_inside_names_others_inside() {
    for by in [By::Redirect, By::Realm, By::Upload] {
        let storage = Server::start_at(HERE, service());
        let registry = sends(HERE, by, &format!("http://storage.test:{}/token", storage.port()));
        let (client, _) = client_among(&[("registry.test", &[&[HERE]]), ("storage.test", &[&[HERE]])]);
        follow(&client, by, &registry).await.unwrap();
        assert_eq!(storage.seen().len(), 1, "{by:?}");
    }
}

/// T74: a connection that may go anywhere is not lent to a request that may not.
#[tokio::test]
async fn connections_are_not_shared_across_the_border() {
    let both = Server::start_at(HERE, |_| {
        Reply::Keep(b"HTTP/1.1 200 x\r\ncontent-length: 7\r\n\r\ncontent".to_vec())
    });
    let registry = sends(OUTSIDE, By::Redirect, &format!("http://neighbour.test:{}/", both.port()));
    let (client, _) = client_among(&[("registry.test", &[&[OUTSIDE]]), ("neighbour.test", &[&[HERE]])]);
    // The user's own word: anywhere.
    let place = repo(format!("neighbour.test:{}", both.port()));
    client.blob(&place, &Digest::of(b"content"), 7, true).await.unwrap();
    let error = follow(&client, By::Redirect, &registry).await.unwrap_err();
    assert_refused(By::Redirect, &error);
    assert_eq!(both.seen().len(), 1);
}
