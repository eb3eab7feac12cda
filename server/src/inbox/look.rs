//! One look into an inbox: list, read, submit, answer, remove. In this order, so that whatever breaks off in between,
//! the submission is still there and is known to the engine when it is found again; and removing comes last, as it takes
//! the longest (docker-registry reads every tag for it), so that nobody waits for the garbage of others.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use plimsoll::{
    publish::api::{Accepted, MAX_SUBMISSION, Refusal, RefusalCode},
    registry::{ManifestAnswer, NextTags, RegistryError, Removal},
};
use plimsoll_core::oci::{
    Digest,
    mapping::inbox::{self, Entry, MAX_INBOX_MANIFEST},
    media_type,
};
use serde::Serialize;
use tokio::{
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::Instant,
};

use super::{InboxOptions, memory::Memory};
use crate::api;

/// Tags looked at in one look.
const LOOKS: usize = 256;
/// Manifests removed in one look, and how long that may take.
const REMOVALS: (usize, Duration) = (64, Duration::from_secs(10));
/// Bytes of submissions read in one look.
const BYTES: u64 = 32 << 20;
/// Bytes of the list read in one look, but for the last page, which may go over it by as much.
const LIST: u64 = 4 << 20;
/// Pages of it.
const PAGES: usize = 16;
/// No tag is looked at after this.
const TIME: Duration = Duration::from_secs(30);
/// Tags that may fail in one look: more, and it is the registry.
const FAILURES: usize = 8;
/// How long an answer stays.
const ANSWER_LIFE: TimeDelta = TimeDelta::days(1);
/// How many answers there may be.
const ANSWERS: usize = 1000;
/// After the registry refused to remove something.
const NO_REMOVAL: Duration = Duration::from_secs(3600);

/// Submissions that are parsed at a time, of all inboxes: a parsed one takes many times the room of its text.
static PARSER: Semaphore = Semaphore::const_new(1);

/// Looks into one inbox.
pub(super) struct Looker {
    options: InboxOptions,
    memory: Memory,
    /// Where the list is to be read on; none for its beginning.
    next: Option<NextTags>,
    /// True if the present pass over the list has read all of it so far.
    whole: bool,
    /// Until then nothing is removed: it was refused.
    keep_until: Option<Instant>,
}

/// What came of one look.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) tally: Tally,
    /// What kept it from looking at everything.
    pub(super) trouble: Option<RegistryError>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) accepted: usize,
    pub(super) refused: usize,
    /// Neither submission nor answer, or beyond the limits.
    pub(super) garbage: usize,
    /// Not taken now.
    pub(super) put_off: usize,
}

/// What lies under a tag.
enum Found {
    Nothing,
    /// The manifest's digest, if it could be told.
    Garbage(Option<Digest>),
    Answer {
        manifest: Digest,
        created: Option<DateTime<Utc>>,
    },
    /// More than there is room for in this look.
    TooMuch,
    Submission(Submission),
}

struct Submission {
    manifest: Digest,
    json: Digest,
    size: u64,
    documents: Result<BTreeMap<String, Vec<u8>>, Refusal>,
}

impl Looker {
    pub(super) fn new(options: InboxOptions) -> Self {
        Self { options, memory: Memory::default(), next: None, whole: true, keep_until: None }
    }

    /// How many tags wait for the next looks.
    pub(super) fn waiting(&self) -> usize {
        self.memory.waiting()
    }

    pub(super) async fn look(&mut self) -> Looked {
        let mut looked = Looked::default();
        let result = self.try_look(&mut looked.tally).await;
        looked.trouble = result.err();
        looked
    }

    async fn try_look(&mut self, tally: &mut Tally) -> Result<(), RegistryError> {
        let now = self.options.clock.now();
        self.memory.age(now);
        self.list().await?;
        let (submissions, trouble) = self.read(tally).await;
        let (answers, put_off) = self.submit(submissions).await;
        // A team that publishes too often waits; the looks for others do not become fewer for that.
        tally.put_off = put_off.iter().filter(|(_, why)| *why == Some(RefusalCode::Unavailable)).count();
        put_off.into_iter().for_each(|(tag, _)| self.memory.put_off(tag));
        for (tag, submission, answer) in answers {
            match &answer {
                Ok(_) => tally.accepted += 1,
                Err(_) => tally.refused += 1,
            }
            self.settle(tag, &submission, answer, now).await?;
        }
        let started = Instant::now();
        for _ in 0..REMOVALS.0 {
            if started.elapsed() > REMOVALS.1 {
                break;
            }
            let Some((tag, manifest)) = self.memory.rubbish() else { break };
            self.remove(tag, manifest).await?;
        }
        trouble.map_or(Ok(()), Err)
    }

    /// Reads on in the list until enough tags wait, or it is at its end.
    async fn list(&mut self) -> Result<(), RegistryError> {
        let mut bytes = 0;
        for _ in 0..PAGES {
            if self.memory.waiting() >= LOOKS || bytes >= LIST {
                break;
            }
            let InboxOptions { registry, repository, .. } = &self.options;
            // Taken: if it fails, the next pass begins at the beginning.
            let from = self.next.take();
            let first = from.is_none();
            let page = match registry.tags_page(repository, from.as_ref(), LIST).await {
                Ok(page) => page,
                // Nobody has left anything yet.
                Err(RegistryError::NotFound { .. }) if first => {
                    self.memory = Memory::default();
                    return Ok(());
                }
                Err(error) => {
                    self.whole = true;
                    return Err(error);
                }
            };
            self.whole = (first || self.whole) && !page.cut;
            bytes += page.tags.iter().map(|tag| tag.len() as u64).sum::<u64>();
            self.memory.listed(page.tags);
            self.next = page.next;
            if self.next.is_none() {
                self.memory.passed(self.whole);
                break;
            }
        }
        Ok(())
    }

    /// Looks at the tags whose turn it is. What fails is put off, and so is the rest if the registry is in trouble.
    async fn read(&mut self, tally: &mut Tally) -> (Vec<(String, Submission)>, Option<RegistryError>) {
        let (started, mut room) = (Instant::now(), BYTES);
        let (mut submissions, mut trouble, mut failures) = (Vec::new(), None, 0);
        // Those put off in this look are not looked at again in it.
        for _ in 0..LOOKS.min(self.memory.waiting()) {
            if started.elapsed() > TIME {
                break;
            }
            let Some(tag) = self.memory.take() else { break };
            let error = match self.find(&tag, room).await {
                Ok(Found::Nothing) => {
                    self.memory.forget(&tag);
                    continue;
                }
                Ok(Found::TooMuch) => {
                    self.memory.put_back(tag);
                    break;
                }
                Ok(Found::Submission(submission)) => {
                    room -= submission.size;
                    submissions.push((tag, submission));
                    continue;
                }
                Ok(Found::Answer { manifest, created }) => {
                    let now = self.options.clock.now();
                    let until = created.map_or(now, |at| at.min(now)) + ANSWER_LIFE;
                    self.memory.answer(&tag, manifest, until);
                    continue;
                }
                Ok(Found::Garbage(manifest)) => {
                    tally.garbage += 1;
                    match manifest {
                        Some(manifest) => self.memory.discard(tag, manifest),
                        None => self.memory.done(&tag),
                    }
                    continue;
                }
                Err(error) => error,
            };
            self.memory.put_off(tag);
            failures += 1;
            // One tag may be broken for good; that nobody is there is no tag's fault.
            let over = failures == FAILURES || error.is_auth() || unreachable(&error);
            trouble = Some(error);
            if over {
                break;
            }
        }
        (submissions, trouble)
    }

    /// What lies under `tag`, a submission only if it has at most `room` bytes.
    async fn find(&self, tag: &str, room: u64) -> Result<Found, RegistryError> {
        let InboxOptions { registry, repository, .. } = &self.options;
        let manifest = match registry.manifest(repository, tag, MAX_INBOX_MANIFEST as u64, None).await {
            Ok(ManifestAnswer::Found(manifest)) => manifest,
            Ok(ManifestAnswer::NotFound | ManifestAnswer::NotModified) => return Ok(Found::Nothing),
            Err(error) if error.is_untrusted() => {
                let described = registry.head_manifest(repository, tag).await;
                return Ok(Found::Garbage(described.ok().flatten().map(|manifest| manifest.digest)));
            }
            Err(error) => return Err(error),
        };
        let garbage = Found::Garbage(Some(manifest.digest));
        if manifest.media_type != media_type::MANIFEST {
            return Ok(garbage);
        }
        let layer = match inbox::read(&manifest.bytes) {
            Ok(Entry::Submission(layer)) => layer,
            Ok(Entry::Answer { created, .. }) => {
                return Ok(Found::Answer { manifest: manifest.digest, created });
            }
            Err(_) => return Ok(garbage),
        };
        if layer.size > MAX_SUBMISSION {
            return Ok(garbage);
        }
        if layer.size > room {
            return Ok(Found::TooMuch);
        }
        let json = match registry.blob(repository, &layer.digest, layer.size, true).await {
            Ok(Some(json)) => json,
            Ok(None) => return Ok(garbage),
            Err(error) if error.is_untrusted() => return Ok(garbage),
            Err(error) => return Err(error),
        };
        Ok(Found::Submission(Submission {
            manifest: manifest.digest,
            json: layer.digest,
            size: layer.size,
            documents: parse(json).await,
        }))
    }

    /// Gives the submissions to the engine all at once, so that they share a round. Returns the answers, and the tags of
    /// those that it does not take now, with the reason.
    async fn submit(
        &self,
        submissions: Vec<(String, Submission)>,
    ) -> (Vec<(String, Submission, Result<Accepted, Refusal>)>, Vec<(String, Option<RefusalCode>)>) {
        let mut tasks = JoinSet::new();
        for (tag, mut submission) in submissions {
            let engine = self.options.engine.clone();
            let nothing_left = Ok(BTreeMap::new());
            let documents = std::mem::replace(&mut submission.documents, nothing_left);
            tasks.spawn(async move {
                let answer = match documents {
                    Ok(documents) => engine.submit(documents).await,
                    Err(refusal) => {
                        engine.note_refused(&refusal);
                        Err(refusal)
                    }
                };
                (tag, submission, answer)
            });
        }
        let (later, decided) =
            tasks.join_all().await.into_iter().partition::<Vec<_>, _>(
                |(_, _, answer)| matches!(answer, Err(refusal) if refusal.is_for_now()),
            );
        (decided, later.into_iter().map(|(tag, _, answer)| (tag, answer.err().map(|r| r.code))).collect())
    }

    /// Writes the answer and discards the submission. If that fails it waits again: the engine knows what it took.
    async fn settle(
        &mut self,
        tag: String,
        submission: &Submission,
        answer: Result<Accepted, Refusal>,
        now: DateTime<Utc>,
    ) -> Result<(), RegistryError> {
        let answered = match &answer {
            Ok(accepted) => self.answer(&submission.json, accepted, now).await,
            Err(refusal) => self.answer(&submission.json, refusal, now).await,
        };
        match answered {
            // A daemon that may not write here answers nobody; the timestamp tells them.
            Err(error) if !error.is_auth() => {
                self.memory.put_off(tag);
                Err(error)
            }
            _ => {
                self.memory.discard(tag, submission.manifest);
                Ok(())
            }
        }
    }

    /// Writes an answer, unless there are too many that cannot be removed.
    async fn answer(
        &mut self,
        submission: &Digest,
        answer: &impl Serialize,
        now: DateTime<Utc>,
    ) -> Result<(), RegistryError> {
        if self.memory.answers() >= ANSWERS {
            if let Some((tag, manifest)) = self.memory.oldest_answer() {
                self.remove(tag, manifest).await?;
            }
            if self.memory.answers() >= ANSWERS {
                return Ok(());
            }
        }
        let json = serde_json::to_vec(answer).expect("strings and integers always serialise");
        let InboxOptions { registry, repository, profile, .. } = &self.options;
        let artifact = inbox::answer(submission, &json, now, *profile);
        for (_, bytes) in artifact.blobs {
            registry.put_blob(repository, bytes.into()).await?;
        }
        let manifest = Bytes::from(artifact.manifest);
        registry.put_manifest(repository, &artifact.tag, media_type::MANIFEST, manifest).await?;
        self.memory.answer(&artifact.tag, artifact.digest, now + ANSWER_LIFE);
        Ok(())
    }

    /// Removes what `tag` names; where that is not possible, it is left alone from now on.
    async fn remove(&mut self, tag: String, manifest: Digest) -> Result<(), RegistryError> {
        if self.keep_until.is_some_and(|until| Instant::now() < until) {
            self.memory.done(&tag);
            return Ok(());
        }
        match self.options.registry.delete_manifest(&self.options.repository, &manifest).await {
            Ok(Removal::Removed | Removal::Absent) => self.memory.forget(&tag),
            Err(error) if !error.is_auth() => {
                self.memory.discard(tag, manifest);
                return Err(error);
            }
            Ok(Removal::Unsupported) | Err(_) => {
                self.keep_until = Some(Instant::now() + NO_REMOVAL);
                self.memory.done(&tag);
            }
        }
        Ok(())
    }
}

impl Tally {
    /// True if there is something to tell.
    pub(super) fn any(&self) -> bool {
        self.accepted + self.refused + self.garbage > 0
    }
}

/// The documents of a submission.
async fn parse(json: Bytes) -> Result<BTreeMap<String, Vec<u8>>, Refusal> {
    let _parser = PARSER.acquire().await.expect("this semaphore is never closed");
    let parsed = spawn_blocking(move || api::read_submission(&json)).await;
    parsed.unwrap_or_else(|ended| std::panic::resume_unwind(ended.into_panic()))
}

/// True if no connection, or no answer in time, is what was wrong.
fn unreachable(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Connect { .. } | RegistryError::Tls { .. } | RegistryError::Timeout { .. })
}
