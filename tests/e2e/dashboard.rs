//! The operator's page in a real browser: what it says, and what it looks like, when all is well and when it is not.

#![expect(clippy::unwrap_used, reason = "a test: a panic is its way to fail")]

mod browser;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use browser::{Browser, Scheme};
use chrono::{DateTime, TimeDelta, Utc};
use fantoccini::Locator;
use plimsoll::{
    clock::{Clock, SystemClock},
    keys::{Passphrase, PrivateKey},
    publish::{api::Submission, author},
};
use plimsoll_core::tuf::{Document, Targets};
use plimsoll_tests::{
    docker_registry::Registry,
    http,
    image::Image,
    middle::{Effect, Middle, Rule},
    process::Daemon,
    skopeo::Side,
    world::{NAME, ROLE, Site, World},
};

/// No wait for the page takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Loads the page again and again until what people can read in it is as wanted; returns that.
async fn eventually(browser: &Browser, url: &str, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        browser.open(url).await;
        let text = browser.text("body").await;
        if wanted(&text) {
            return text;
        }
        assert!(Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The lowest contrast of any text with what is behind it (WCAG 2.2, section 1.4.3), and which text that is.
const CONTRAST: &str = r#"
    const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, at) => sum + v * [0.2126, 0.7152, 0.0722][at], 0);
    const parts = colour => colour.match(/[\d.]+/g).map(Number);
    const behind = element => {
        for (; element; element = element.parentElement) {
            const colour = parts(getComputedStyle(element).backgroundColor);
            if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    let worst = [99, ''];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!own || element.tagName === 'title') continue;
        const style = getComputedStyle(element);
        const ink = element.closest('svg') ? style.fill : style.color;
        if (!ink.startsWith('rgb')) continue;
        const [a, b] = [light(parts(ink)), light(behind(element))].sort((a, b) => b - a);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < worst[0]) worst = [ratio, element.textContent.trim()];
    }
    return worst;
"#;

async fn assert_readable(browser: &Browser) {
    let worst = browser.run(CONTRAST).await;
    assert!(worst[0].as_f64().unwrap() >= 4.5, "too faint: {worst}");
}

/// The signed document of `role`, changed by `change`, as its holder on `machine` signs it; submitted and published.
fn republish(world: &World, role: &str, machine: &str, change: impl FnOnce(&mut Targets)) {
    let info = http::get(&format!("{}/v1/trusts/{NAME}", world.daemon.url())).unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.body).unwrap();
    let version = &info["heads"][role];
    let url = format!("{}/tuf/{NAME}/metadata/{version}.{role}.json", world.daemon.url());
    let mut document = Document::<Targets>::parse(role, &http::get(&url).unwrap().body).unwrap().signed;
    document.common.version += 1;
    change(&mut document);
    let home = world.machine(machine).home().to_owned();
    let passphrase = Passphrase::from_file(&home.join("passphrase")).unwrap();
    let key = PrivateKey::load(&home.join(format!("{machine}.key")), &passphrase).unwrap();
    let signed = author::sign(&document, &[&key]).unwrap();
    let body = Submission::json(&BTreeMap::from([(role.to_owned(), signed)]));
    let submissions = format!("{}/v1/trusts/{NAME}/submissions", world.daemon.url());
    let answer = http::request("POST", &submissions, &[], &body).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let accepted: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let progress = format!("{submissions}/{}?wait=9", accepted["id"].as_str().unwrap());
    assert!(http::get(&progress).unwrap().text().contains("\"published\""));
}

fn signed_and_expiring(signed: DateTime<Utc>, expires: DateTime<Utc>) -> impl FnOnce(&mut Targets) {
    move |document| {
        document.common.identity.as_mut().unwrap().at = signed;
        document.common.expires = expires;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_calm_page_in_light_and_dark() {
    let world = World::ready(Site::embedded());
    world.push("v1", "hello\n");
    world.sign("v1").ok();
    let browser = Browser::start(true).await;
    eventually(&browser, &world.daemon.url(), |text| text.contains("Nothing to do.")).await;

    assert_eq!(browser.client.title().await.unwrap(), "acme: fresh \u{2013} plimsolld");
    assert_eq!(browser.text("h1").await, "acme: fresh");
    let roles = browser.texts("tbody th[scope=row]").await;
    assert_eq!(roles, ["root", "timestamp", "snapshot", "targets", ROLE]);
    let row = browser.text("tbody tr:nth-child(5)").await;
    for words in ["acme/net-monitor", "1 of 1: team", "good for 89 d"] {
        assert!(row.contains(words), "{words}: {row}");
    }
    let publishes = browser.text("section[aria-labelledby=publishes]").await;
    assert!(publishes.contains(ROLE) && publishes.contains("published"), "{publishes}");
    let timeline = browser.text("#timeline-words").await;
    assert!(timeline.contains("at least 23 h left"), "{timeline}");
    let drawn = "const box = document.querySelector('.timeline .level').getBoundingClientRect();
        return [box.width, document.querySelectorAll('.timeline > title').length]";
    let drawn = browser.run(drawn).await;
    assert!(drawn[0].as_f64().unwrap() > 1.0 && drawn[1] == 1, "{drawn}");

    let mut shown = Vec::new();
    for (scheme, paper) in [(Scheme::Light, "rgb(251, 250, 247)"), (Scheme::Dark, "rgb(18, 23, 29)")] {
        browser.prefer(scheme).await;
        // The style sheet counts although the policy forbids all that it does not name.
        assert_eq!(browser.run("return getComputedStyle(document.body).backgroundColor").await, paper);
        assert_readable(&browser).await;
        shown.push(browser.picture(&format!("calm-{scheme:?}")).await);
    }
    assert_ne!(shown[0], shown[1]);

    // On a telephone only tables and the timeline are moved sideways, each in its own frame.
    browser.width(360).await;
    browser.open(&world.daemon.url()).await;
    let wide = browser.run("return document.documentElement.scrollWidth").await;
    assert!(wide.as_u64().unwrap() <= 360, "{wide}");
    browser.picture("calm-narrow").await;
    browser.width(1200).await;

    assert_eq!(
        browser.run("return performance.getEntriesByType('resource').map(entry => entry.name)").await,
        serde_json::json!([])
    );
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_needs_no_scripts() {
    let world = World::ready(Site::embedded());
    let browser = Browser::start(false).await;
    let text = eventually(&browser, &world.daemon.url(), |text| text.contains("Nothing to do.")).await;
    for words in ["acme: fresh", "In the registry", "Freshness", ROLE, "acme/net-monitor", "Recent refusals"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    let picture = browser.picture("no-scripts").await;
    assert!(picture.len() > 20_000, "{} bytes", picture.len());
    // It can be told to load itself again, and to stop.
    browser.client.find(Locator::LinkText("load again every 30 s")).await.unwrap().click().await.unwrap();
    assert!(browser.text("header").await.contains("loaded again every 30 s"));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_about_to_expire_is_on_top_and_says_whom_to_ask() {
    let world = World::ready(Site::embedded());
    world.push("v1", "hello\n");
    world.sign("v1").ok();
    let browser = Browser::start(true).await;
    let now = SystemClock.now();
    let days = TimeDelta::days;
    republish(&world, ROLE, "team", signed_and_expiring(now - days(84), now + days(5) + TimeDelta::hours(1)));
    let soon = |text: &str| text.contains("Needs somebody");
    eventually(&browser, &world.daemon.url(), soon).await;
    assert_eq!(browser.text("h1").await, "acme: something to do");
    let concern = browser.text(".concern.soon").await;
    assert!(concern.contains(&format!("{ROLE} expires in 5 d")), "{concern}");
    assert!(concern.contains("Clients will read EXPIRED then for acme/net-monitor, and for nothing else."));
    assert!(concern.contains("Its key holders (team) sign once more"), "{concern}");
    let state = browser.text("tbody tr:nth-child(5) .state.soon").await;
    assert!(state.starts_with("▲ expires in 5 d"), "{state}");
    let share = "const [rest, left] = document.querySelectorAll('tbody tr:nth-child(5) .bar rect');
        return left.getBoundingClientRect().width / rest.getBoundingClientRect().width";
    let share = browser.run(share).await.as_f64().unwrap();
    assert!((0.03..0.09).contains(&share), "{share}");
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.prefer(scheme).await;
        assert_readable(&browser).await;
        browser.picture(&format!("soon-{scheme:?}")).await;
    }

    let end = SystemClock.now() + TimeDelta::seconds(5);
    republish(&world, ROLE, "team", signed_and_expiring(end - days(80), end));
    eventually(&browser, &world.daemon.url(), |text| text.contains(&format!("{ROLE} expired "))).await;
    assert_eq!(browser.text("h1").await, "acme: clients are told no");
    assert!(browser.text(".concern.bad").await.contains("Clients read EXPIRED for acme/net-monitor"));
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_the_first_thing_on_the_page() {
    let registry = Registry::open();
    let host = registry.address();
    Image::busybox("not ours").push(&format!("{host}/acme/trust:latest"), &Side::plain()).ok();
    let home = tempfile::tempdir().unwrap();
    let repository = format!("acme={host}/acme/trust");
    let data = home.path().join("data");
    let arguments =
        ["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap(), "--trust", &repository];
    let daemon = Daemon::spawn(home.path(), &arguments);
    let browser = Browser::start(true).await;
    eventually(&browser, &daemon.url(), |text| text.contains("ALARM")).await;
    assert_eq!(browser.text("h1").await, "acme: ALARM");
    let first = browser.text(".concern").await;
    assert!(first.starts_with("✖ ALARM: nothing is signed any more"), "{first}");
    assert!(
        first.contains("acme/trust:latest holds something that is not ours: choose an empty repository"),
        "{first}"
    );
    assert!(first.contains("What to do: Remove the cause and restart the daemon."), "{first}");
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.prefer(scheme).await;
        assert_readable(&browser).await;
        browser.picture(&format!("alarm-{scheme:?}")).await;
    }
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_seen_to_eat_up_the_life_of_the_timestamp() {
    let registry = Registry::open();
    let middle = Middle::start(&registry.address());
    let world = World::ready(Site::at(&middle.address()).timestamp(16, 2));
    let browser = Browser::start(true).await;
    eventually(&browser, &world.daemon.url(), |text| text.contains("acme: fresh")).await;
    middle.set(Rule::new("*", "/v2/"), Effect::Status(503));
    let soon = "The timestamp in the registry expires in ";
    let text = eventually(&browser, &world.daemon.url(), |text| text.contains(soon)).await;
    assert!(text.contains("ahead of the registry"), "{text}");
    assert!(text.contains("signed and not there yet"), "{text}");
    assert_eq!(browser.text("h1").await, "acme: not ready");
    browser.picture("outage").await;
    eventually(&browser, &world.daemon.url(), |text| text.contains("The timestamp in the registry expired "))
        .await;
    assert_eq!(browser.text("h1").await, "acme: clients are told no");
    let low = "const [dot, level] = ['.timeline .now', '.timeline .level'].map(s => document.querySelector(s).getBoundingClientRect());
        return dot.top + dot.height / 2 >= level.bottom - 3";
    assert_eq!(browser.run(low).await, true);
    browser.picture("expired").await;
    middle.clear();
    eventually(&browser, &world.daemon.url(), |text| text.contains("acme: fresh")).await;
    assert!(browser.text("#timeline-words").await.contains("was without a timestamp that clients accept"));
    browser.picture("recovered").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    browser.quit().await;
}

/// What a stranger sends is shown to the operator as what it is: text.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_do_not_become_markup() {
    let world = World::ready(Site::embedded());
    let hostile = "</td><script>window.owned=1</script><img src=x onerror=window.owned=2>\"'><svg onload=window.owned=3>&lt;b&gt;\u{202e}";
    let submissions = format!("{}/v1/trusts/{NAME}/submissions", world.daemon.url());
    for name in [hostile, "<script>window.owned=4</script>"] {
        let body = serde_json::json!({"documents": {name: {"signed": {"_type": name}, "signatures": []}}})
            .to_string();
        let answer = http::request("POST", &submissions, &[], body.as_bytes()).unwrap();
        assert!((400..500).contains(&answer.status), "{}", answer.text());
        assert!(answer.text().contains("script"), "{}", answer.text());
    }
    let browser = Browser::start(true).await;
    let url = format!("{}/", world.daemon.url());
    eventually(&browser, &url, |text| text.contains("Recent refusals")).await;
    let refusals = browser.text("section[aria-labelledby=refusals]").await;
    assert!(refusals.contains("<script>window.owned=4</script>"), "{refusals}");
    let elements = "return [window.owned === undefined, document.scripts.length, document.images.length,
        document.querySelectorAll('b').length, document.querySelectorAll('main svg').length]";
    let found = browser.run(elements).await;
    let svg = browser.run("return document.querySelectorAll('.bar, .timeline').length").await;
    assert_eq!(found, serde_json::json!([true, 0, 0, 0, svg]));
    browser.picture("hostile").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new());

    // And if markup did slip through, the policy would not let it run.
    let slipped = "const script = document.createElement('script'); script.text = 'window.owned = 5'; document.body.append(script);
        const image = document.createElement('img'); image.setAttribute('onerror', 'window.owned = 6'); image.src = '/x'; document.body.append(image);
        const style = document.createElement('style'); style.textContent = 'body{background:red}'; document.head.append(style);
        return new Promise(done => setTimeout(() => done([window.owned === undefined, getComputedStyle(document.body).backgroundColor]), 300))";
    assert_eq!(browser.run(slipped).await, serde_json::json!([true, "rgb(251, 250, 247)"]));
    let complaints = browser.complaints().await;
    assert!(
        complaints.iter().any(|complaint| complaint.contains("Content Security Policy")),
        "{complaints:?}"
    );
    browser.quit().await;
}
