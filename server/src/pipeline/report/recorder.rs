//! What happened since the engine started: counters, latencies and the last events, in memory and bounded.
//!
//! Every call is a few additions under a lock that is held for nothing else, so the tasks that sign and publish may make
//! them wherever they are. Nothing is read from here to decide anything.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::publish::api::Refusal;
use serde::Serialize;
use tokio::time::Instant;

use crate::store::{Published, SubmissionRecord};

/// So many publishes and so many refusals are kept.
const EVENTS: usize = 50;
/// So many points of the freshness timeline are kept.
const POINTS: usize = 160;
/// So many commits that the registry does not show yet are remembered with their time.
const WAITING: usize = 1024;
/// Of one publish that many roles are named.
const ROLES: usize = 8;
/// Of a refusal's text that many characters are kept.
const TEXT: usize = 240;

/// Upper bounds of a histogram's buckets, seconds; above the last there is no bound.
pub const BUCKETS: [f64; 12] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// How long something took, each time.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Histogram {
    /// How many took at most as long as the bound of the same place in [`BUCKETS`], and longer than the one before.
    pub buckets: [u64; BUCKETS.len()],
    /// How many in all.
    pub count: u64,
    /// All together, seconds.
    pub sum: f64,
}

impl Histogram {
    fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(at) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            self.buckets[at] += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }
}

/// What was counted since the engine started.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Submissions that were accepted.
    pub accepted: u64,
    /// Those that were refused, by `reason`, or by `code` where that says it all (docs/http-api.md).
    pub refused: BTreeMap<String, u64>,
    /// How often the timestamp was signed again because it was due, with nothing new in it.
    pub resigned: u64,
    /// Rounds in which nothing could be signed.
    pub rounds_failed: u64,
    /// How often the newest state was put into the registry.
    pub pushes: u64,
    /// Tries to look at the registry or to publish there that failed.
    pub pushes_failed: u64,
}

/// A submission that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PublishEvent {
    /// When, UTC.
    pub at: DateTime<Utc>,
    /// Its id.
    pub id: String,
    /// The versions it brought, at most 8.
    pub roles: Vec<(String, u64)>,
    /// How many it brought.
    pub role_count: usize,
    /// The first timestamp that covers them.
    pub timestamp_version: u64,
}

/// A submission that was refused, or the same one many times in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusalEvent {
    /// When, UTC; the last time if there were several.
    pub at: DateTime<Utc>,
    /// As in [`Counts::refused`].
    pub reason: String,
    /// What its sender was told, cut to 240 characters. Holds words that the sender chose.
    pub message: String,
    /// How many times in a row.
    pub times: u64,
}

/// A timestamp on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Its version.
    pub timestamp_version: u64,
    /// When it was signed, UTC.
    pub signed: DateTime<Utc>,
    /// When the registry was first seen to show it, or a newer one; UTC.
    pub seen: Option<DateTime<Utc>>,
}

/// A commit that the registry does not show yet.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    version: u64,
    at: DateTime<Utc>,
    since: Instant,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(in crate::pipeline) struct Recorder {
    pub(super) counts: Counts,
    pub(super) commits: Histogram,
    pub(super) pushes: Histogram,
    pub(super) visible: Histogram,
    pub(super) publishes: VecDeque<PublishEvent>,
    pub(super) refusals: VecDeque<RefusalEvent>,
    pub(super) points: VecDeque<Point>,
    pub(super) last_success: Option<DateTime<Utc>>,
    waiting: VecDeque<Waiting>,
    /// The newest version that was pushed.
    shown: u64,
}

impl Recorder {
    /// A round took `took` and, if it made the timestamp `signed`, stored that.
    pub(in crate::pipeline) fn round(
        &mut self,
        took: Duration,
        signed: Option<u64>,
        now: DateTime<Utc>,
        spacing: TimeDelta,
    ) {
        let Some(version) = signed else { return };
        self.commits.add(took);
        // The pusher may have been faster than this note.
        let seen = (version <= self.shown).then_some(now);
        if seen.is_some() {
            self.visible.add(Duration::ZERO);
        } else if self.waiting.len() < WAITING {
            self.waiting.push_back(Waiting { version, at: now, since: Instant::now() });
        }
        // Points that are close together show as one: the last of them, so that the line is right at its end.
        let crowded = |last: &Point, before: &Point| last.signed - before.signed < spacing;
        if let [.., before, last] = &*self.points.make_contiguous()
            && crowded(last, before)
        {
            self.points.pop_back();
        }
        keep(&mut self.points, POINTS, Point { timestamp_version: version, signed: now, seen });
    }

    /// A round signed because it was due, and for no other reason.
    pub(in crate::pipeline) fn resigned(&mut self) {
        self.counts.resigned += 1;
    }

    /// A round failed.
    pub(in crate::pipeline) fn round_failed(&mut self) {
        self.counts.rounds_failed += 1;
    }

    /// A submission was answered.
    pub(in crate::pipeline) fn answered(
        &mut self,
        answer: &Result<SubmissionRecord, Refusal>,
        now: DateTime<Utc>,
    ) {
        match answer {
            Ok(record) => self.accepted(record),
            Err(refusal) => self.refused(refusal, now),
        }
    }

    fn accepted(&mut self, record: &SubmissionRecord) {
        // The same one, sent again since its answer was lost.
        if self.publishes.iter().any(|event| event.id == record.id) {
            return;
        }
        self.counts.accepted += 1;
        let event = PublishEvent {
            at: record.at,
            id: record.id.clone(),
            roles: record.roles.iter().take(ROLES).map(|(role, version)| (role.clone(), *version)).collect(),
            role_count: record.roles.len(),
            timestamp_version: record.timestamp_version,
        };
        keep(&mut self.publishes, EVENTS, event);
    }

    /// A submission was refused.
    pub(in crate::pipeline) fn refused(&mut self, refusal: &Refusal, now: DateTime<Utc>) {
        let reason = reason(refusal);
        *self.counts.refused.entry(reason.clone()).or_default() += 1;
        let message: String = refusal.message.chars().take(TEXT).collect();
        if let Some(last) = self.refusals.back_mut()
            && (&last.reason, &last.message) == (&reason, &message)
        {
            last.times += 1;
            last.at = now;
            return;
        }
        keep(&mut self.refusals, EVENTS, RefusalEvent { at: now, reason, message, times: 1 });
    }

    /// The registry shows what `published` says, after a push that took `took`.
    pub(in crate::pipeline) fn pushed(&mut self, took: Duration, published: &Published) {
        self.counts.pushes += 1;
        self.pushes.add(took);
        let version = published.timestamp_version;
        self.shown = self.shown.max(version);
        while let Some(waiting) = self.waiting.front().filter(|waiting| waiting.version <= version) {
            self.visible.add(waiting.since.elapsed());
            self.waiting.pop_front();
        }
        for point in self.points.iter_mut().rev().take_while(|point| point.seen.is_none()) {
            if point.timestamp_version <= version {
                point.seen = Some(published.at);
            }
        }
    }

    /// A look at the registry, with the push that followed if one was needed, ended well or not.
    pub(in crate::pipeline) fn tried(&mut self, well: bool, current: bool, now: DateTime<Utc>) {
        if !well {
            self.counts.pushes_failed += 1;
        } else if current {
            self.last_success = Some(now);
        }
    }

    /// When the oldest commit was made that the registry does not show yet.
    pub(super) fn waiting_since(&self) -> Option<DateTime<Utc>> {
        self.waiting.front().map(|waiting| waiting.at)
    }
}

/// The name of the rule that was broken, or of the kind of refusal: one of few words, whatever was sent.
fn reason(refusal: &Refusal) -> String {
    let name = match refusal.reason {
        Some(reason) => serde_json::to_value(reason),
        None => serde_json::to_value(refusal.code),
    };
    name.ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_else(|| "other".to_owned())
}

fn keep<T>(ring: &mut VecDeque<T>, most: usize, new: T) {
    while ring.len() >= most {
        ring.pop_front();
    }
    ring.push_back(new);
}

#[cfg(test)]
mod tests {
    use plimsoll::publish::api::{RefusalCode, RefusalReason};
    use plimsoll_core::oci::Digest;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn published(version: u64, seconds: i64) -> Published {
        Published {
            timestamp_version: version,
            manifest: Digest::of(b"m"),
            at: at(seconds),
            repository: None,
        }
    }

    fn record(n: u64) -> SubmissionRecord {
        let roles = (0..20).map(|role| (format!("targets--r{role}"), n)).collect();
        SubmissionRecord { id: n.to_string(), roles, timestamp_version: n, at: at(0) }
    }

    #[test]
    fn a_flood_of_refusals_stays_small_and_hides_no_publish() {
        let mut recorder = Recorder::default();
        recorder.answered(&Ok(record(1)), at(0));
        for n in 0..10_000 {
            let long = "x".repeat(10_000);
            let refusal = Refusal::new(RefusalCode::Refused, format!("{n} {long}"));
            recorder.refused(&Refusal { reason: Some(RefusalReason::Threshold), ..refusal }, at(n));
        }
        recorder.refused(&Refusal::new(RefusalCode::Malformed, "same"), at(1));
        recorder.refused(&Refusal::new(RefusalCode::Malformed, "same"), at(2));
        let expected = BTreeMap::from([("threshold".to_owned(), 10_000), ("malformed".to_owned(), 2)]);
        assert_eq!(recorder.counts.refused, expected);
        assert_eq!(recorder.refusals.len(), EVENTS);
        assert!(recorder.refusals.iter().all(|event| event.message.len() <= TEXT));
        let last =
            RefusalEvent { at: at(2), reason: "malformed".to_owned(), message: "same".to_owned(), times: 2 };
        assert_eq!(recorder.refusals.back(), Some(&last));
        assert_eq!(recorder.publishes.len(), 1);
    }

    #[test]
    fn a_submission_sent_again_counts_once() {
        let mut recorder = Recorder::default();
        for n in (1..=200).chain([200]) {
            recorder.answered(&Ok(record(n)), at(0));
        }
        assert_eq!(recorder.counts.accepted, 200);
        assert_eq!(recorder.publishes.len(), EVENTS);
        let last = recorder.publishes.back().unwrap();
        assert_eq!((last.id.as_str(), last.roles.len(), last.role_count), ("200", ROLES, 20));
    }

    #[test]
    fn a_push_shows_everything_up_to_its_version() {
        let mut recorder = Recorder::default();
        let spacing = TimeDelta::zero();
        for version in 1..=3 {
            recorder.round(Duration::from_millis(3), Some(version), at(10), spacing);
        }
        assert_eq!(recorder.waiting_since(), Some(at(10)));
        recorder.pushed(Duration::from_millis(30), &published(2, 11));
        assert_eq!(recorder.visible.count, 2);
        let seen: Vec<_> = recorder.points.iter().map(|point| point.seen).collect();
        assert_eq!(seen, [Some(at(11)), Some(at(11)), None]);
        assert_eq!(recorder.waiting_since(), Some(at(10)));
        // The push of a version can be noted before its commit is.
        recorder.pushed(Duration::from_millis(30), &published(4, 12));
        recorder.round(Duration::from_secs(100), Some(4), at(12), spacing);
        assert_eq!((recorder.waiting_since(), recorder.visible.count), (None, 4));
        assert_eq!(recorder.points.back().unwrap().seen, Some(at(12)));
        assert_eq!((recorder.commits.count, recorder.commits.buckets.iter().sum::<u64>()), (4, 3));
    }

    #[test]
    fn the_timeline_covers_days_of_quiet_and_hours_of_bustle() {
        let (mut quiet, mut bustle) = (Recorder::default(), Recorder::default());
        let spacing = TimeDelta::seconds(450);
        for n in 0..10_000 {
            quiet.round(Duration::ZERO, Some(n), at(i64::try_from(n).unwrap() * 3600), spacing);
            bustle.round(Duration::ZERO, Some(n), at(i64::try_from(n).unwrap() * 10), spacing);
        }
        for (recorder, end, hours) in [(quiet, 9_999 * 3600, 150), (bustle, 99_990, 18)] {
            assert_eq!(recorder.points.len(), POINTS);
            let (first, last) = (recorder.points[0].signed, recorder.points[POINTS - 1].signed);
            assert_eq!(last, at(end));
            assert!(last - first > TimeDelta::hours(hours), "{}", last - first);
            assert_eq!(recorder.waiting.len(), WAITING);
        }
    }
}
