//! The body of the page of one trust repository.

use super::{
    ago,
    html::Html,
    picture::{self, Timeline},
    state_word, time,
    words::{State, concerns, expiry, holders, short, span, state},
};
use crate::pipeline::report::{Histogram, Report, RoleReport};

/// So many delegated roles are shown; of the others only how many there are, and what is the matter with them.
const ROLES: usize = 400;
/// So many concerns are told.
const CONCERNS: usize = 12;

pub(super) fn show(html: &mut Html, report: &Report) {
    html.raw("<p class=\"quiet\"><code>").text(&report.repository).raw("</code>");
    if let Some(id) = &report.trust_id {
        html.raw(" \u{b7} trust id <code>").text(id).raw("</code>");
    }
    html.raw("</p>");
    attention(html, report);
    now(html, report);
    timeline(html, report);
    tree(html, report);
    publishes(html, report);
    refusals(html, report);
}

/// What somebody should do; or that nothing is to be done.
fn attention(html: &mut Html, report: &Report) {
    let concerns = concerns(report);
    if concerns.is_empty() {
        html.raw("<section class=\"well good\" aria-label=\"State\"><p>");
        state_word(html, State::Good, "Nothing to do.");
        html.raw(" ").text(calm(report)).raw("</p></section>");
        return;
    }
    html.raw("<section aria-labelledby=\"attention\"><h2 id=\"attention\">Needs somebody</h2>");
    for concern in concerns.iter().take(CONCERNS) {
        html.raw("<div class=\"concern ")
            .text(concern.state.class())
            .raw("\"><h3><span aria-hidden=\"true\">");
        html.text(concern.state.sign()).raw("</span> ").text(&concern.what).raw("</h3>");
        html.element("<p>", &concern.meaning, "</p>").element(
            "<p><strong>What to do:</strong> ",
            &concern.remedy,
            "</p>",
        );
        html.raw("</div>");
    }
    if concerns.len() > CONCERNS {
        html.raw("<p>And ").text(concerns.len() - CONCERNS).raw(" more; the table of roles has them.</p>");
    }
    html.raw("</section>");
}

fn calm(report: &Report) -> String {
    match report.served {
        Some(served) => {
            let left = span((served.expires - report.at).num_seconds());
            format!(
                "Clients can rely on what the registry shows for {left}, and it is signed again long before."
            )
        }
        None => format!("{}.", report.health.detail),
    }
}

/// The figures of this moment.
fn now(html: &mut Html, report: &Report) {
    html.raw("<section aria-labelledby=\"now\"><h2 id=\"now\">Now</h2><dl>");
    let registry = match report.served {
        Some(served) => {
            let left = (served.expires - report.at).num_seconds();
            let age = served.signed.map(|signed| span((report.at - signed).num_seconds()));
            let age = age.map_or(String::new(), |age| format!(", signed {age} ago"));
            (
                format!("timestamp {}", served.version),
                format!(
                    "{}{age}",
                    if left > 0 { expiry(State::Good, left) } else { expiry(State::Bad, left) }
                ),
            )
        }
        None => ("nothing yet".to_owned(), String::new()),
    };
    fact(html, "In the registry", &registry.0, &registry.1);
    let store =
        report.stored.map_or("nothing yet".to_owned(), |stored| format!("timestamp {}", stored.version));
    let lag = match report.lag.versions {
        0 => "the registry has it".to_owned(),
        versions => format!("{versions} ahead of the registry, for {}", span(report.lag.seconds)),
    };
    fact(html, "In the store", &store, if report.stored.is_some() { &lag } else { "" });
    let success = report.last_success.map(|at| format!("{} ago", span((report.at - at).num_seconds())));
    fact(
        html,
        "Last success",
        &success.unwrap_or_else(|| "none yet".to_owned()),
        "the registry seen to show the newest",
    );
    fact(html, "Health", if report.health.ready { "ready" } else { "not ready" }, &report.health.detail);
    let (queue, counts) = (&report.queue, &report.counts);
    let waiting = format!("{} waiting", queue.submissions);
    fact(html, "Queue", &waiting, &format!("room for {}; {} KiB held", queue.limit, queue.kib));
    let refused: u64 = counts.refused.values().sum();
    let since = format!("{refused} refused, {} re-signed on time", counts.resigned);
    fact(html, "Since the start", &format!("{} accepted", counts.accepted), &since);
    fact(html, "Commit", &mean(&report.commits), &times(&report.commits, "rounds that signed"));
    let failed = format!("{}; {} tries failed", times(&report.pushes, "pushes"), counts.pushes_failed);
    fact(html, "Push", &mean(&report.pushes), &failed);
    html.raw("</dl></section>");
}

fn fact(html: &mut Html, what: &'static str, value: &str, more: &str) {
    html.element("<div><dt>", what, "</dt>").element("<dd class=\"big\">", value, "</dd>");
    if !more.is_empty() {
        html.element("<dd class=\"quiet\">", more, "</dd>");
    }
    html.raw("</div>");
}

#[expect(clippy::cast_precision_loss, reason = "a count, for people")]
fn mean(histogram: &Histogram) -> String {
    match histogram.count {
        0 => "none yet".to_owned(),
        count => format!("{} on average", short(histogram.sum / count as f64)),
    }
}

fn times(histogram: &Histogram, what: &str) -> String {
    format!("{} {what}", histogram.count)
}

fn timeline(html: &mut Html, report: &Report) {
    let Some(timeline) = Timeline::new(report) else { return };
    html.raw(
        "<section aria-labelledby=\"freshness\"><h2 id=\"freshness\">Freshness</h2><div class=\"card\">",
    );
    timeline.draw(html);
    html.element("<p id=\"timeline-words\">", timeline.words(), "</p>");
    html.raw(
        "<p class=\"quiet\">Life left of the timestamp in the registry. At nothing clients stop; below the dashed line the \
         daemon calls itself not ready. Marks at the bottom are timestamps that are not there yet.</p></div></section>",
    );
}

fn tree(html: &mut Html, report: &Report) {
    if report.tree.roles.is_empty() {
        return;
    }
    html.raw(
        "<section aria-labelledby=\"roles\"><h2 id=\"roles\">Roles and delegations</h2>\
         <div class=\"card flush\" role=\"region\" tabindex=\"0\" aria-labelledby=\"roles\"><table><thead><tr>\
         <th scope=\"col\">Role</th><th scope=\"col\">Speaks about</th><th scope=\"col\">Signed by</th>\
         <th scope=\"col\" class=\"number\">Version</th><th scope=\"col\" class=\"number\">Names</th>\
         <th scope=\"col\">Life</th></tr></thead><tbody>",
    );
    let top = report.tree.roles.iter().filter(|role| role.parent.is_none()).count();
    let (shown, hidden) = report.tree.roles.split_at(report.tree.roles.len().min(top + ROLES));
    for role in shown {
        row(html, report, role);
    }
    html.raw("</tbody></table></div>");
    if !hidden.is_empty() {
        let first = hidden.iter().filter_map(|role| Some((role.document?.expires, &role.name))).min();
        html.raw("<p class=\"quiet\">").text(hidden.len()).raw(" more roles are not shown");
        if let Some((expires, name)) = first {
            html.raw("; of these <code>").text(name).raw("</code> expires first, ");
            time(html, expires, "%Y-%m-%d %H:%M");
        }
        html.raw(".</p>");
    }
    if report.tree.removed > 0 {
        html.raw("<p class=\"quiet\">Removed roles, which stay in the snapshot and whose names are never given again: ");
        html.text(report.tree.removed).raw(".</p>");
    }
    html.raw("</section>");
}

fn row(html: &mut Html, report: &Report, role: &RoleReport) {
    html.raw("<tr><th scope=\"row\" class=\"d")
        .text(role.depth().min(6))
        .raw("\"><span class=\"mono\">")
        .text(&role.name);
    html.raw("</span></th><td class=\"mono\">").text(&role.scope).raw("</td><td>");
    if role.is_online() {
        html.raw("the daemon");
    } else {
        html.text(role.threshold).raw(" of ").text(role.key_count).raw(": ").text(holders(role));
    }
    html.raw("</td><td class=\"number\">");
    let Some(document) = role.document else {
        html.raw(
            "\u{2013}</td><td class=\"number\">\u{2013}</td><td class=\"quiet\">never signed yet</td></tr>",
        );
        return;
    };
    html.text(document.version).raw("</td><td class=\"number\">");
    if matches!(role.name.as_str(), "root" | "snapshot" | "timestamp") {
        html.raw("\u{2013}");
    } else {
        html.text(document.targets);
        if document.revocations > 0 {
            html.raw("<br><span class=\"quiet\">").text(document.revocations).raw(" revoked</span>");
        }
    }
    html.raw("</td><td>");
    let (state, left) = (state(role, report.at), document.left(report.at));
    state_word(html, state, &expiry(state, left));
    picture::bar(html, state, left, document.life());
    html.raw("<span class=\"quiet\">");
    time(html, document.expires, "%Y-%m-%d %H:%M");
    html.raw("</span></td></tr>");
}

fn publishes(html: &mut Html, report: &Report) {
    html.raw("<section aria-labelledby=\"publishes\"><h2 id=\"publishes\">Recent publishes</h2>");
    if report.publishes.is_empty() {
        html.raw("<p class=\"quiet\">None since the daemon started.</p></section>");
        return;
    }
    html.raw(
        "<div class=\"card flush\" role=\"region\" tabindex=\"0\" aria-labelledby=\"publishes\"><table><thead><tr>\
         <th scope=\"col\">When</th><th scope=\"col\">Roles</th><th scope=\"col\">How far</th></tr></thead><tbody>",
    );
    for event in report.publishes.iter().rev() {
        html.raw("<tr><td class=\"when\">");
        ago(html, event.at, report.at);
        html.raw("</td><td>");
        for (place, (role, version)) in event.roles.iter().enumerate() {
            html.raw(if place == 0 { "" } else { ", " })
                .raw("<span class=\"mono\">")
                .text(role)
                .raw("</span> ")
                .text(version);
        }
        if event.role_count > event.roles.len() {
            html.raw(" and ").text(event.role_count - event.roles.len()).raw(" more");
        }
        html.raw("</td><td>");
        let shown = report.served.is_some_and(|served| served.version >= event.timestamp_version);
        let (state, word) = if shown {
            (State::Good, "published")
        } else {
            (State::Soon, "accepted, not yet in the registry")
        };
        state_word(html, state, word);
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table></div></section>");
}

fn refusals(html: &mut Html, report: &Report) {
    html.raw("<section aria-labelledby=\"refusals\"><h2 id=\"refusals\">Recent refusals</h2>");
    if report.refusals.is_empty() {
        html.raw("<p class=\"quiet\">None since the daemon started.</p></section>");
        return;
    }
    html.raw(
        "<div class=\"card flush\" role=\"region\" tabindex=\"0\" aria-labelledby=\"refusals\"><table><thead><tr>\
         <th scope=\"col\">When</th><th scope=\"col\">Reason</th><th scope=\"col\">What its sender was told</th>\
         <th scope=\"col\" class=\"number\">Times</th></tr></thead><tbody>",
    );
    for event in report.refusals.iter().rev() {
        html.raw("<tr><td class=\"when\">");
        ago(html, event.at, report.at);
        html.raw("</td><td class=\"when\"><span class=\"mono\">")
            .text(&event.reason)
            .raw("</span></td><td><bdi>")
            .text(&event.message);
        html.raw("</bdi></td><td class=\"number\">").text(event.times).raw("</td></tr>");
    }
    html.raw("</tbody></table></div></section>");
}
