use chrono::TimeDelta;

use super::*;
use crate::pipeline::report::{
    DocumentReport, Lag, Point, RoleReport, Tree,
    sample::{now, report, role},
};

/// What a text in the page would have to hold to be markup.
const HOSTILE: &str =
    "</title></style></p>\"'><script>alert(1)</script><img src=x onerror=alert(2)>\u{202e}\u{0}&lt;";

fn page(report: Report) -> String {
    front(&[(report.name.clone(), Some(report))], false)
}

fn with_roles(change: impl FnOnce(&mut Vec<RoleReport>)) -> Report {
    let mut report = report();
    let mut tree = Tree::clone(&report.tree);
    change(&mut tree.roles);
    report.tree = tree.into();
    report
}

/// The text of a page: tags are left out.
fn text_of(page: &str) -> String {
    page.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text).collect()
}

#[test]
fn a_calm_page_says_so() {
    let page = page(report());
    let text = text_of(&page);
    assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"));
    assert!(text.contains("acme: fresh"), "{text}");
    assert!(text.contains("Nothing to do. Clients can rely on what the registry shows for 23 h"), "{text}");
    assert!(!text.contains("What to do:"));
    assert!(text.contains("timestamp 31"));
    assert!(text.contains("1 of 2: alice, bob"));
    assert!(text.contains("● good for 80 d"), "{text}");
    assert!(text.contains("at least 23 h left"), "{text}");
    assert!(text.contains("never given again: 1."));
}

/// Nothing that is shown ever was sent as markup: every word that somebody else chooses, all at once.
#[test]
fn hostile_words_stay_words() {
    let bad = HOSTILE.to_owned();
    let mut report = with_roles(|roles| {
        let hostile = role(HOSTILE, Some(HOSTILE), 60, 1);
        let mut keys = hostile.keys.clone();
        keys[0].name = Some(HOSTILE.to_owned());
        keys[1] = crate::pipeline::report::KeyReport {
            id: plimsoll_core::tuf::KeyId("<b>\"'".to_owned()),
            name: None,
        };
        roles.push(RoleReport { scope: HOSTILE.to_owned(), keys, ..hostile });
    });
    report.publishes[0].roles = vec![(bad.clone(), 1)];
    report.refusals[0].message = bad.clone();
    report.refusals[0].reason = bad.clone();
    report.health.detail = bad.clone();
    report.health.ready = false;
    report.health.alarm = Some(bad.clone());
    report.unread = Some(bad.clone());
    report.trust_id = Some(bad.clone());
    report.repository = bad.clone();
    report.name = bad;
    let several = front(&[(report.name.clone(), Some(report.clone())), (report.name.clone(), None)], false);
    for page in [page(report), several] {
        assert!(page.contains("&lt;script&gt;alert(1)"));
        for tag in page.split('<').skip(1) {
            let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(!matches!(name.as_str(), "script" | "img" | "b"), "{tag}");
            let (inside, _) = tag.split_once('>').expect("a tag ends");
            assert!(!inside.contains("onerror") || inside.contains("&lt;"), "{tag}");
            // Outside of quotes no attribute but ours.
            let unquoted: String = inside.split('"').step_by(2).collect();
            assert!(!unquoted.contains("alert"), "{tag}");
        }
        assert!(!page.contains(['\u{202e}', '\u{0}']));
        assert_eq!(page.matches("</title>").count(), 1 + page.matches("<title id").count());
        assert_eq!(page.matches("<style>").count(), 1);
        assert_eq!(page.matches("</style>").count(), 1);
    }
}

#[test]
fn what_is_about_to_expire_is_on_top_with_whom_to_ask() {
    let report = with_roles(|roles| {
        roles[0] = role("root", None, 340, 25);
        roles[4] = role("targets--net-monitor", Some("targets"), 90, 0);
    });
    let text = text_of(&page(report));
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?}: {text}"));
    assert!(place("targets--net-monitor expired 0 s ago") < place("root expires in 25 d"));
    assert!(place("root expires in 25 d") < place("In the registry"));
    place("Clients read EXPIRED for acme/net-monitor, and for nothing else.");
    place("Its key holders (alice, bob) renew it: `plimsoll ceremony edit --extend`.");
    place("clients are told no");
}

#[test]
fn a_short_life_is_not_always_about_to_end() {
    let hour = |signed: i64, expires: i64| {
        let at = |minutes| now() + TimeDelta::minutes(minutes);
        let document = DocumentReport {
            signed: Some(at(signed)),
            expires: at(expires),
            ..role("x", None, 1, 1).document.unwrap()
        };
        RoleReport { document: Some(document), ..role("targets--ci", Some("targets"), 1, 1) }
    };
    let state = |role: &RoleReport| words::state(role, now());
    assert_eq!(state(&hour(-10, 50)), State::Good);
    assert_eq!(state(&hour(-50, 10)), State::Soon);
    assert_eq!(state(&hour(-60, 0)), State::Bad);
    assert_eq!(state(&role("root", None, 330, 29)), State::Soon);
    assert_eq!(state(&role("targets", None, 330, 29)), State::Good);
    assert_eq!(
        state(&RoleReport { document: None, ..role("targets--new", Some("targets"), 1, 1) }),
        State::Good
    );
    let snapshot = |age, left| state(&role("snapshot", None, age, left));
    assert_eq!((snapshot(4, 3), snapshot(5, 2)), (State::Good, State::Soon));
}

#[test]
fn an_alarm_is_the_first_thing_said() {
    let mut report = with_roles(|roles| roles[4] = role("targets--net-monitor", Some("targets"), 95, -5));
    report.health.ready = false;
    report.health.alarm = Some("the store is an old copy; restore a newer one".to_owned());
    let page = page(report);
    let text = text_of(&page);
    assert!(text.starts_with("\n") || text.contains("acme: ALARM"), "{text}");
    let (alarm, expired) =
        (text.find("ALARM: nothing is signed").unwrap(), text.find("net-monitor expired 5 d").unwrap());
    assert!(alarm < expired);
    assert!(text.contains("the store is an old copy; restore a newer one"));
    assert!(page.contains("c5281f"));
}

#[test]
fn an_outage_shows_what_is_left() {
    let mut report = report();
    let served = report.served.as_mut().unwrap();
    served.expires = now() + TimeDelta::hours(2);
    served.signed = Some(now() - TimeDelta::hours(22));
    report.points = vec![
        Point {
            timestamp_version: 31,
            signed: now() - TimeDelta::hours(22),
            seen: Some(now() - TimeDelta::hours(22)),
        },
        Point { timestamp_version: 32, signed: now() - TimeDelta::hours(1), seen: None },
    ];
    report.lag = Lag { versions: 1, seconds: 3600 };
    report.health.ready = false;
    let text = text_of(&page(report.clone()));
    assert!(text.contains("The timestamp in the registry expires in 2 h"), "{text}");
    assert!(text.contains("1 ahead of the registry, for 60 min"), "{text}");
    assert!(text.contains("One newer timestamp is signed and not there yet"), "{text}");
    report.served.as_mut().unwrap().expires = now() - TimeDelta::minutes(5);
    let text = text_of(&page(report));
    assert!(text.contains("The timestamp in the registry expired 5 min ago"), "{text}");
    assert!(text.contains("acme: clients are told no"), "{text}");
}

#[test]
fn hundreds_of_trust_repositories_and_thousands_of_roles_stay_readable() {
    let mut trusts: Vec<_> = (0..300).map(|n| (format!("org{n}"), Some(report()))).collect();
    trusts[7].1 = Some(with_roles(|roles| roles[0] = role("root", None, 364, 1)));
    trusts[9].1 = None;
    let page = front(&trusts, false);
    let text = text_of(&page);
    assert!(text.contains("2 of 300 trust repositories need somebody"), "{text:.300}");
    let rows: Vec<_> = page
        .match_indices("href=\"/trusts/")
        .map(|(at, _)| page[at + 14..].split('"').next().unwrap())
        .collect();
    assert_eq!(rows.len(), 300);
    assert_eq!(rows[..2], ["org7", "org9"]);
    assert!(page.len() < 300 * 1200, "{}", page.len());

    let many = with_roles(|roles| {
        roles.truncate(4);
        roles.extend((0..5000).map(|n| role(&format!("targets--r{n:04}"), Some("targets"), 60, 30)));
    });
    let page = front(&[("acme".to_owned(), Some(many))], false);
    assert!(text_of(&page).contains("4600 more roles are not shown"));
    assert!(page.len() < 400_000, "{}", page.len());
}

#[test]
fn the_policy_names_the_style_sheet_and_nothing_else() {
    let page = page(report());
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, style.as_bytes());
    let hash = format!("style-src 'sha256-{}';", BASE64.encode(digest.as_ref()));
    assert!(POLICY.contains(&hash), "{}", POLICY.as_str());
    assert!(POLICY.starts_with("default-src 'none';"));
    // Nothing that the policy would stop: no attributes for styles or handlers, nothing from elsewhere.
    for forbidden in [" style=", "javascript:", "<script", "<link rel=\"style", " on"] {
        let tags: String = page.split('<').filter_map(|piece| piece.split('>').next()).collect();
        assert!(forbidden == " on" || !tags.contains(forbidden), "{forbidden}");
    }
    assert_eq!(
        page.matches("http").count(),
        page.matches("http-equiv").count() + page.matches("http://www.w3.org/2000/svg").count()
    );
}

#[test]
fn spans_are_said_as_people_say_them() {
    let cases = [
        (0, "0 s"),
        (-5, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7_199, "119 min"),
        (7_200, "2 h"),
        (9_000, "2 h 30 min"),
        (86_340, "23 h"),
        (172_800, "2 d"),
        (266_400, "3 d 2 h"),
        (30 * 86_400, "30 d"),
    ];
    for (seconds, words) in cases {
        assert_eq!(span(seconds), words);
    }
}
