//! The page for the operator: what `/` shows in a browser. HTML and pictures made here, no scripts, nothing from elsewhere.
//!
//! Pure: a page is made of reports. Names of roles and keys, what was wrong with a submission and what a registry said are
//! other people's words, so markup and text never mix ([`html`]), and the browser is told to run and load nothing.

mod html;
mod picture;
mod trust;
mod words;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use data_encoding::BASE64;
use plimsoll_core::oci::Digest;

use self::{
    html::Html,
    words::{State, concerns, expiry, span},
};
use crate::pipeline::report::Report;

const STYLE: &str = include_str!("dashboard/style.css");

/// What a browser may do with a page: apply its own style sheet and show its own icon.
pub(crate) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = data_encoding::HEXLOWER.decode(Digest::of(STYLE.as_bytes()).hex().as_bytes());
    let digest = BASE64.encode(&digest.expect("a digest is written in hex"));
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
});

/// Plimsoll's mark as an icon of one colour.
macro_rules! icon {
    ($colour:literal) => {
        concat!(
            "%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E%3Cg fill='none' stroke='%23",
            $colour,
            "' stroke-width='4'%3E%3Ccircle cx='16' cy='16' r='10'/%3E%3Cpath d='M0 16h32'/%3E%3C/g%3E%3C/svg%3E"
        )
    };
}

/// A trust repository: its name, and what is known of it once it has started.
pub(crate) type Trust = (String, Option<Report>);

/// The front page; with `refresh` it is loaded again by itself.
pub(crate) fn front(trusts: &[Trust], refresh: bool) -> String {
    match trusts {
        [one] => trust(one, refresh, false),
        all => overview(all, refresh),
    }
}

/// The page of one trust repository of several.
pub(crate) fn single(one: &Trust, refresh: bool) -> String {
    trust(one, refresh, true)
}

fn trust((name, report): &Trust, refresh: bool, of_many: bool) -> String {
    let (state, word) = condition(report.as_ref());
    let mut html = Html::default();
    open(&mut html, state, &format!("{name}: {word}"), report.as_ref().map(|report| report.at), refresh);
    if of_many {
        html.raw("<p><a href=\"/\">All trust repositories</a></p>");
    }
    html.raw("<h1>")
        .text(name)
        .raw(": <span class=\"")
        .text(state.class())
        .raw("\">")
        .text(&word)
        .raw("</span></h1>");
    match report {
        Some(report) => trust::show(&mut html, report),
        None => {
            html.raw("<p>The daemon is starting and has not read this trust repository yet.</p>");
        }
    }
    close(html)
}

/// All trust repositories in a table, those with concerns first.
fn overview(trusts: &[Trust], refresh: bool) -> String {
    let mut rows: Vec<_> =
        trusts.iter().map(|(name, report)| (condition(report.as_ref()), name, report.as_ref())).collect();
    rows.sort_by(|((a, _), one, _), ((b, _), two, _)| b.cmp(a).then(one.cmp(two)));
    let worst = rows.first().map_or(State::Good, |((state, _), ..)| *state);
    let troubled = rows.iter().filter(|((state, _), ..)| *state != State::Good).count();
    let title = match troubled {
        0 => format!("{} trust repositories, all fresh", rows.len()),
        1 => format!("1 of {} trust repositories needs somebody", rows.len()),
        some => format!("{some} of {} trust repositories need somebody", rows.len()),
    };
    let mut html = Html::default();
    let at = trusts.iter().filter_map(|(_, report)| Some(report.as_ref()?.at)).max();
    open(&mut html, worst, &title, at, refresh);
    html.element("<h1>", &title, "</h1>");
    html.raw(
        "<h2 id=\"all\">Trust repositories</h2><div class=\"card flush\" role=\"region\" tabindex=\"0\" aria-labelledby=\"all\">\
         <table><thead><tr><th scope=\"col\">Name</th><th scope=\"col\">State</th>\
         <th scope=\"col\">Timestamp in the registry</th><th scope=\"col\">What to look at first</th>\
         <th scope=\"col\" class=\"number\">Roles</th></tr></thead><tbody>",
    );
    for ((state, word), name, report) in rows {
        html.raw("<tr><th scope=\"row\"><a href=\"/trusts/")
            .text(name)
            .raw("\">")
            .text(name)
            .raw("</a></th><td>");
        state_word(&mut html, state, &word);
        html.raw("</td><td>");
        if let Some((report, served)) = report.and_then(|report| Some((report, report.served?))) {
            let (left, life) = ((served.expires - report.at).num_seconds(), report.lives.timestamp_validity);
            let state = if left <= 0 {
                State::Bad
            } else if left * 2 < life {
                State::Soon
            } else {
                State::Good
            };
            html.text(expiry(state, left));
            picture::bar(&mut html, state, left, life);
        } else {
            html.raw("<span class=\"quiet\">none</span>");
        }
        html.raw("</td><td>");
        if let Some(first) = report.and_then(|report| concerns(report).into_iter().next()) {
            html.text(first.what);
        }
        let roles = report.map_or(0, |report| report.tree.roles.len());
        html.raw("</td><td class=\"number\">").text(roles).raw("</td></tr>");
    }
    html.raw("</tbody></table></div>");
    close(html)
}

/// How a trust repository is, in a word or two.
fn condition(report: Option<&Report>) -> (State, String) {
    let Some(report) = report else { return (State::Soon, "starting".to_owned()) };
    let worst = concerns(report).first().map_or(State::Good, |concern| concern.state);
    let word = match (&report.health.alarm, worst) {
        (Some(_), _) => "ALARM",
        (None, State::Bad) => "clients are told no",
        (None, State::Soon) if !report.health.ready => "not ready",
        (None, State::Soon) => "something to do",
        (None, State::Good) if report.trust_id.is_none() => "waiting for its owner",
        (None, State::Good) => "fresh",
    };
    (worst, word.to_owned())
}

fn state_word(html: &mut Html, state: State, word: &str) {
    html.raw("<span class=\"state ")
        .text(state.class())
        .raw("\"><span aria-hidden=\"true\">")
        .text(state.sign());
    html.raw("</span> ").text(word).raw("</span>");
}

/// From the document's beginning to the header's end.
fn open(html: &mut Html, state: State, title: &str, at: Option<DateTime<Utc>>, refresh: bool) {
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    html.raw("<meta name=\"robots\" content=\"noindex\"><meta name=\"color-scheme\" content=\"light dark\">");
    if refresh {
        html.raw("<meta http-equiv=\"refresh\" content=\"30\">");
    }
    html.raw("<title>")
        .text(title)
        .raw(" \u{2013} plimsolld</title><link rel=\"icon\" href=\"data:image/svg+xml,");
    html.raw(match state {
        State::Good => icon!("1f6f4a"),
        State::Soon => icon!("c27c00"),
        State::Bad => icon!("c5281f"),
    });
    html.raw("\"><style>").raw(STYLE).raw("</style></head><body><div class=\"page\"><header>");
    picture::mark(html, state);
    html.raw("<p class=\"name\">plimsolld</p><p>")
        .text(env!("CARGO_PKG_VERSION"))
        .raw("</p><p class=\"time\">");
    if let Some(at) = at {
        html.raw("As of ");
        time(html, at, "%Y-%m-%d %H:%M:%S UTC");
        html.raw(" \u{b7} ");
    }
    html.raw(if refresh {
        "loaded again every 30 s (<a href=\"?\">stop</a>)"
    } else {
        "<a href=\"?refresh\">load again every 30 s</a>"
    });
    html.raw("</p></header><main>");
}

fn close(mut html: Html) -> String {
    html.raw(
        "</main><footer><a href=\"/metrics\">Metrics</a> <a href=\"/readyz\">Readiness</a> \
         <a href=\"/v1/trusts\">Trust repositories, JSON</a><span>Times are UTC.</span></footer></div></body></html>\n",
    );
    html.into_string()
}

/// A time, written as `format` has it.
fn time(html: &mut Html, at: DateTime<Utc>, format: &str) {
    html.raw("<time datetime=\"")
        .text(at.format("%Y-%m-%dT%H:%M:%SZ"))
        .raw("\">")
        .text(at.format(format))
        .raw("</time>");
}

/// A time and how long ago that was.
fn ago(html: &mut Html, at: DateTime<Utc>, now: DateTime<Utc>) {
    time(html, at, "%Y-%m-%d %H:%M:%S");
    html.raw(" <span class=\"quiet\">").text(span((now - at).num_seconds())).raw(" ago</span>");
}
