//! What a report means, in words: how each role is, and what somebody should do. Pure.

use chrono::{DateTime, Utc};

use crate::pipeline::report::{DocumentReport, Report, RoleReport};

const DAY: i64 = 86_400;

/// How something is. Ordered: the worst is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// As it should be.
    Good,
    /// Somebody should act, and there is time.
    Soon,
    /// Clients are told no, or will be at any moment.
    Bad,
}

impl State {
    /// The class of what is shown in this state.
    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Soon => "soon",
            Self::Bad => "bad",
        }
    }

    /// A sign that can be told apart without colours.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Good => "●",
            Self::Soon => "▲",
            Self::Bad => "✖",
        }
    }
}

/// Something that somebody should do something about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Concern {
    pub(super) state: State,
    /// What is the matter, a few words.
    pub(super) what: String,
    /// What it means.
    pub(super) meaning: String,
    /// What to do.
    pub(super) remedy: String,
}

/// How the document of `role` is at `now`.
pub(super) fn state(role: &RoleReport, now: DateTime<Utc>) -> State {
    // A delegation that its team has not used yet is as it should be.
    let Some(document) = &role.document else { return State::Good };
    match document.left(now) {
        ..=0 => State::Bad,
        left if left < warning(role, document) => State::Soon,
        _ => State::Good,
    }
}

/// What is said of a document that expires in `left` seconds.
pub(super) fn expiry(state: State, left: i64) -> String {
    match (state, left) {
        (_, ..=0) => format!("expired {} ago", span(-left)),
        (State::Good, _) => format!("good for {}", span(left)),
        (..) => format!("expires in {}", span(left)),
    }
}

/// How many seconds before its end somebody should act: for the daemon's own roles when a re-signing is overdue, for others
/// some days, but never more than a quarter of a life, which those who chose a short one mean to be enough.
fn warning(role: &RoleReport, document: &DocumentReport) -> i64 {
    if role.is_online() {
        return document.life() * 2 / 5;
    }
    let limit = match role.name.as_str() {
        "root" => 30 * DAY,
        "targets" => 14 * DAY,
        _ => 7 * DAY,
    };
    if document.life() > 0 { limit.min(document.life() / 4) } else { limit }
}

/// A duration in one or two units, as people say it.
pub(super) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (unit, below, names) = match seconds {
        0..=119 => return format!("{seconds} s"),
        120..=7_199 => return format!("{} min", seconds / 60),
        7_200..=172_799 => (3_600, 60, ("h", "min")),
        _ => (DAY, 3_600, ("d", "h")),
    };
    let (whole, rest) = (seconds / unit, seconds % unit / below);
    if rest == 0 || whole >= 10 {
        format!("{whole} {}", names.0)
    } else {
        format!("{whole} {} {rest} {}", names.0, names.1)
    }
}

/// A duration that was measured, seconds.
pub(super) fn short(seconds: f64) -> String {
    if seconds < 0.1 { format!("{:.1} ms", seconds * 1000.0) } else { format!("{seconds:.2} s") }
}

/// What is the matter with `report`, the worst first; empty if nothing is.
pub(super) fn concerns(report: &Report) -> Vec<Concern> {
    let mut concerns: Vec<Concern> =
        [alarm(report), served(report), unready(report), unread(report)].into_iter().flatten().collect();
    concerns.extend(roles(report));
    concerns.sort_by_key(|concern| std::cmp::Reverse(concern.state));
    concerns
}

fn alarm(report: &Report) -> Option<Concern> {
    let alarm = report.health.alarm.as_ref()?;
    Some(Concern {
        state: State::Bad,
        what: "ALARM: nothing is signed any more".to_owned(),
        meaning: alarm.clone(),
        remedy: "Remove the cause and restart the daemon. Until then no publish is accepted, and clients stop when the \
                 timestamp in the registry expires."
            .to_owned(),
    })
}

/// What readers are shown is old, or too old.
fn served(report: &Report) -> Option<Concern> {
    let served = report.served?;
    let left = (served.expires - report.at).num_seconds();
    let remedy =
        "Look at what stands under \u{201c}Now\u{201d}, at the registry and at the daemon's log.".to_owned();
    if left <= 0 {
        return Some(Concern {
            state: State::Bad,
            what: format!("The timestamp in the registry expired {} ago", span(-left)),
            meaning: "Clients refuse everything in this trust repository: EXPIRED.".to_owned(),
            remedy,
        });
    }
    (left * 2 < report.lives.timestamp_validity).then(|| Concern {
        state: State::Soon,
        what: format!("The timestamp in the registry expires in {}", span(left)),
        meaning: "Nothing newer got into the registry for more than half of its life. Clients go on until it expires, and \
                  no longer."
            .to_owned(),
        remedy,
    })
}

/// What the health says and the others do not.
fn unready(report: &Report) -> Option<Concern> {
    let health = &report.health;
    if health.alarm.is_some() || served(report).is_some() {
        return None;
    }
    let calm = health.detail == "fresh" || health.detail.starts_with("waiting for `plimsoll init");
    let (what, remedy) = match health.ready {
        false if health.detail.starts_with("nothing is signed") => (
            "Nothing is signed",
            "Set this machine's clock right; if it is right, wait, or restart the daemon as it says.",
        ),
        false => (
            "Not ready",
            "The daemon goes on trying. If this stays: the registry, its credentials, the network.",
        ),
        true if !calm => {
            ("Something does not go as it should", "There is time: clients go on with what they have.")
        }
        true => return None,
    };
    Some(Concern {
        state: State::Soon,
        what: what.to_owned(),
        meaning: health.detail.clone(),
        remedy: remedy.to_owned(),
    })
}

fn unread(report: &Report) -> Option<Concern> {
    let why = report.unread.as_ref()?;
    Some(Concern {
        state: State::Soon,
        what: "What is shown of the roles may be old".to_owned(),
        meaning: why.clone(),
        remedy: "The store could not be read: look at the disk and at the daemon's log.".to_owned(),
    })
}

/// Roles that expire soon or have expired.
fn roles(report: &Report) -> Vec<Concern> {
    let concern = |role: &RoleReport| {
        // The daemon's own are told by what the registry shows.
        let document = role.document.filter(|_| role.name != "timestamp")?;
        let (state, left) = (state(role, report.at), document.left(report.at));
        if state == State::Good {
            return None;
        }
        let what = format!("{} {}", role.name, expiry(state, left));
        let holders = holders(role);
        let remedy = match role.name.as_str() {
            "snapshot" => "The daemon should have signed it long ago: look at its log.".to_owned(),
            "root" => format!("Its key holders ({holders}) renew it: `plimsoll ceremony edit --extend`."),
            _ => format!(
                "Its key holders ({holders}) sign once more: each `sign`, `revoke` or `delegate` gives it a full life."
            ),
        };
        let whom = match &role.parent {
            None => "every name".to_owned(),
            Some(_) => format!("{}, and for nothing else", role.scope),
        };
        let verb =
            if state == State::Bad { "Clients read EXPIRED" } else { "Clients will read EXPIRED then" };
        Some(Concern { state, what, meaning: format!("{verb} for {whom}."), remedy })
    };
    report.tree.roles.iter().filter_map(concern).collect()
}

/// Who can sign `role`: names where there are some, else the beginnings of key ids.
pub(super) fn holders(role: &RoleReport) -> String {
    let shown =
        role.keys.iter().take(4).map(|key| key.name.clone().unwrap_or_else(|| key.id.short().to_owned()));
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if role.key_count > 4 {
        text.push_str(&format!(" and {} more", role.key_count - 4));
    }
    text
}
