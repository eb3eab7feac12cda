//! `log`: who signed what, and when.

mod words;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use plimsoll_core::{
    oci::{Reference, TargetName},
    policy::Verdict,
    tuf::{Document, Root},
};
use url::Url;

use super::{
    Env, Failure, Out, argument,
    output::{complain, json},
    place::{chosen, covering},
    servers,
};
use crate::{
    publish::{
        PublishError, Server,
        history::{self, Change, Entry, Fault, History, Present},
    },
    trust::{load_policy, load_root},
    update::{Bounds, Session, TufSource, UpdateError},
    verify::{chain, printable, target_name},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The pinned root, by its name in the policy; else the one of --ref, or the only one
    name: Option<String>,
    /// Only versions of this role: root, targets or a delegated one
    #[arg(long)]
    role: Option<String>,
    /// Only versions that this key signed: the beginning of its id, or its name
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only versions signed since then: 2026-01-31, 2026-01-31T12:00:00Z, or 90m, 12h, 7d, 4w ago
    #[arg(long, value_name = "TIME", value_parser = argument::<Since>)]
    since: Option<Since>,
    /// Only versions that changed what this tag or digest means
    #[arg(long = "ref", value_name = "REFERENCE", value_parser = argument::<Reference>)]
    reference: Option<Reference>,
    /// At most so many, the newest
    #[arg(short = 'n', long = "max-count", value_name = "N")]
    count: Option<usize>,
    /// URL of the plimsolld that has the history; else the one remembered by init
    #[arg(long, value_name = "URL", env = servers::variable(), value_parser = servers::url)]
    server: Option<Url>,
}

/// Prints every version that was asked for, newest first. Those that do not verify are always among them: whoever asks
/// for something else must still hear of it.
pub(super) async fn run(env: &Env, out: &Out, args: &Args) -> Result<u8, Failure> {
    let histories = histories(env, args).await?;
    let wanted = Wanted::new(args, env.clock.now());
    let mut left = args.count.unwrap_or(usize::MAX);
    let mut shown = sorted(&histories);
    shown.retain(|entry| {
        if entry.fault.is_some() {
            return args.role.as_ref().is_none_or(|role| *role == entry.role);
        }
        let takes = left > 0 && wanted.takes(entry);
        left -= usize::from(takes);
        takes
    });
    print(out, &shown)?;
    // Nothing below a version that is not to be trusted can be relied on, whichever role was asked for.
    let faults: Vec<(&str, u64, &Fault)> = histories
        .iter()
        .flat_map(|history| history.faults().map(|(version, fault)| (history.role(), version, fault)))
        .collect();
    Ok(verdict(out, &faults).map_or(0, Verdict::exit_code))
}

async fn histories(env: &Env, args: &Args) -> Result<Vec<History>, Failure> {
    let policy = load_policy(&env.home)?;
    let root = match (&args.name, &args.reference) {
        (None, Some(reference)) => covering(&policy, None, reference, &named(reference)),
        (name, _) => chosen(&policy, name.as_deref(), None),
    };
    let root = root.map_err(|failure| match failure.next.as_deref() {
        Some("add --trust NAME") => failure.next("plimsoll log NAME"),
        _ => failure,
    })?;
    let url = servers::server(&env.home, args.server.as_ref(), &policy.root[&root].location())?;
    let pinned = load_root(&env.home, &policy.root[&root])?;
    let server = Server::new(env.registry.clone(), url);
    let document = Document::<Root>::parse("root", &pinned).map_err(UpdateError::from)?;
    let id = document.signed.common.identity.map(|identity| identity.trust).unwrap_or_default();
    let name = server.trust_with_id(&id).await?.name;
    let source = TufSource::new(env.registry.clone(), server.metadata_url(&name));
    let present = {
        // The lock is let go before the long reading.
        let mut session = Session::refresh(
            source.clone(),
            &env.home.publishing(),
            &pinned,
            env.clock.now(),
            &Bounds::default(),
        )
        .await
        .map_err(PublishError::from)?;
        Present::of(&mut session)?
    };
    let read = history::read(&source, &pinned, &present, args.role.as_deref()).await;
    read.map_err(|error| match error {
        PublishError::LongHistory { .. } => Failure::from(error).next("ask for one role: --role ROLE"),
        _ => error.into(),
    })
}

/// What `--ref` means: the digest, if there is one.
fn named(reference: &Reference) -> TargetName {
    match reference.digest {
        Some(digest) => TargetName::Digest { repository: reference.repository.name.clone(), digest },
        None => target_name(reference),
    }
}

/// Newest first by what signers say of the time; along one role by version whatever they say. Of what was signed at once,
/// roles further down come first.
fn sorted(histories: &[History]) -> Vec<&Entry> {
    let mut all: Vec<(DateTime<Utc>, usize, &Entry)> = Vec::new();
    for (depth, history) in histories.iter().enumerate() {
        let first = history.entries().iter().find_map(|entry| entry.at);
        let mut at = first.unwrap_or(DateTime::<Utc>::MIN_UTC);
        for entry in history.entries() {
            at = at.max(entry.at.unwrap_or(at));
            all.push((at, depth, entry));
        }
    }
    all.sort_by_key(|(at, depth, entry)| std::cmp::Reverse((*at, *depth, entry.version)));
    all.into_iter().map(|(_, _, entry)| entry).collect()
}

/// What was asked for.
struct Wanted<'a> {
    args: &'a Args,
    since: Option<DateTime<Utc>>,
    name: Option<TargetName>,
}

impl<'a> Wanted<'a> {
    fn new(args: &'a Args, now: DateTime<Utc>) -> Self {
        let since = args.since.map(|since| since.before(now));
        Self { args, since, name: args.reference.as_ref().map(named) }
    }

    fn takes(&self, entry: &Entry) -> bool {
        let Args { role, key, .. } = self.args;
        role.as_ref().is_none_or(|role| *role == entry.role)
            && key.as_ref().is_none_or(|key| signed_by(entry, key))
            && self.since.is_none_or(|since| entry.at.is_some_and(|at| at >= since))
            && self.name.as_ref().is_none_or(|name| entry.changes.iter().any(|change| concerns(change, name)))
    }
}

fn signed_by(entry: &Entry, key: &str) -> bool {
    let id = key.to_ascii_lowercase();
    let is = |name: &Option<String>| name.as_deref() == Some(key);
    entry.signers.iter().any(|signer| signer.keyid.0.starts_with(&id) || is(&signer.name))
}

/// A digest is concerned by whatever names it, under a tag or not; a tag by its own entry.
fn concerns(change: &Change, wanted: &TargetName) -> bool {
    let digest = match wanted {
        TargetName::Digest { digest, .. } => Some(*digest),
        TargetName::Tag { .. } => None,
    };
    let means = |target: &plimsoll_core::tuf::Target| digest.is_some() && target.digest() == digest;
    let in_repository =
        |name: &str| name.strip_prefix(wanted.repository()).is_some_and(|rest| rest.starts_with([':', '@']));
    match change {
        Change::Added { name, target } => {
            *name == wanted.to_string() || (in_repository(name) && means(target))
        }
        Change::Changed { name, before, target } => {
            *name == wanted.to_string() || (in_repository(name) && (means(before) || means(target)))
        }
        Change::Removed { name, before } => {
            *name == wanted.to_string() || (in_repository(name) && means(before))
        }
        Change::Revoked(revocation) | Change::Reinstated(revocation) | Change::Forgotten(revocation) => {
            digest.is_some() && revocation.digest == digest
        }
        _ => false,
    }
}

fn print(out: &Out, shown: &[&Entry]) -> Result<(), Failure> {
    if out.json() {
        return out.print(&json(&shown));
    }
    if shown.is_empty() {
        out.aside("nothing was signed that fits");
    }
    for (at, entry) in shown.iter().enumerate() {
        let space = if at == 0 { "" } else { "\n" };
        out.result(entry, &format!("{space}{}", printable(&words::head(entry))), &words::notes(entry))?;
    }
    Ok(())
}

/// Says on standard error what is wrong, and gives the gravest of it.
fn verdict(out: &Out, faults: &[(&str, u64, &Fault)]) -> Option<Verdict> {
    // A role of which the daemon has nothing would fill the screen.
    const SHOWN: usize = 20;
    let bad = |verdict: Verdict| faults.iter().filter(move |(.., fault)| fault.verdict() == Some(verdict));
    let mut worst = None;
    for verdict in [Verdict::Unreachable, Verdict::Untrusted] {
        for (role, version, fault) in bad(verdict).take(SHOWN) {
            let text = format!("error: {role} version {version}: {}", chain(*fault));
            complain(&printable(&text));
        }
        let more = bad(verdict).count().saturating_sub(SHOWN);
        if more > 0 {
            complain(&format!("error: and {more} more such versions"));
        }
        if bad(verdict).next().is_some() {
            worst = Some(verdict);
        }
    }
    let mut unproven: BTreeMap<&str, u64> = BTreeMap::new();
    for (role, version, _) in faults.iter().filter(|(.., fault)| fault.verdict().is_none()) {
        unproven.insert(role, *version);
    }
    for (role, version) in unproven {
        out.aside(&format!("{role}: up to version {version} older than the pinned root, so not verified"));
    }
    worst
}

/// A time, or how long ago.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Since {
    At(DateTime<Utc>),
    Ago(TimeDelta),
}

#[derive(Debug, thiserror::Error)]
#[error("not a time: write 2026-01-31, 2026-01-31T12:00:00Z, or how long ago, as 90m, 12h, 7d, 4w")]
struct NotATime;

impl Since {
    fn before(self, now: DateTime<Utc>) -> DateTime<Utc> {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now.checked_sub_signed(ago).unwrap_or(DateTime::<Utc>::MIN_UTC),
        }
    }
}

impl std::str::FromStr for Since {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self::At(at.to_utc()));
        }
        if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(Self::At(day.and_time(chrono::NaiveTime::MIN).and_utc()));
        }
        let unit = text.chars().last().ok_or(NotATime)?;
        let number = &text[..text.len() - unit.len_utf8()];
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotATime);
        }
        let number: i64 = number.parse().map_err(|_| NotATime)?;
        let ago = match unit {
            's' => TimeDelta::try_seconds(number),
            'm' => TimeDelta::try_minutes(number),
            'h' => TimeDelta::try_hours(number),
            'd' => TimeDelta::try_days(number),
            'w' => TimeDelta::try_weeks(number),
            _ => None,
        };
        ago.map(Self::Ago).ok_or(NotATime)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let at = |text: &str| Some(Since::At(text.parse().unwrap()));
        let ago = |seconds| Some(Since::Ago(TimeDelta::seconds(seconds)));
        for (text, expected) in [
            ("2026-01-31", at("2026-01-31T00:00:00Z")),
            ("2026-01-31T12:00:00Z", at("2026-01-31T12:00:00Z")),
            ("2026-01-31T12:00:00+02:00", at("2026-01-31T10:00:00Z")),
            ("30s", ago(30)),
            ("90m", ago(5400)),
            ("12h", ago(43_200)),
            ("7d", ago(604_800)),
            ("2w", ago(1_209_600)),
            ("", None),
            ("d", None),
            ("7", None),
            ("-7d", None),
            ("+7d", None),
            ("7 d", None),
            ("7y", None),
            ("7é", None),
            ("2026-02-30", None),
            ("99999999999999999999d", None),
            ("9223372036854775807w", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_key_is_known_by_the_beginning_of_its_id_and_by_its_whole_name() {
        let keyid = plimsoll_core::tuf::KeyId("0a1b".repeat(16));
        let signers = vec![history::NamedKey { keyid, name: Some("amy".to_owned()) }];
        let (role, changes) = ("targets".to_owned(), Vec::new());
        let entry = Entry { role, version: 1, at: None, expires: None, signers, changes, fault: None };
        for (key, fits) in
            [("0a1b", true), ("0A1B0", true), ("a1b0", false), ("amy", true), ("am", false), ("Amy", false)]
        {
            assert_eq!(signed_by(&entry, key), fits, "{key}");
        }
    }

    #[test]
    fn long_ago_is_the_beginning_of_time() {
        let now: DateTime<Utc> = "2026-01-31T12:00:00Z".parse().unwrap();
        assert_eq!("7d".parse::<Since>().unwrap().before(now), now - TimeDelta::days(7));
        assert_eq!("90000000000d".parse::<Since>().unwrap().before(now), DateTime::<Utc>::MIN_UTC);
    }
}
