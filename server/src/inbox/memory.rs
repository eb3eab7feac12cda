//! What is known of an inbox's tags, and whose turn it is. Pure, and bounded: it is only there to save requests.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};
use plimsoll_core::oci::Digest;

/// More tags than this are not remembered.
const MAX_KNOWN: usize = 100_000;

/// The tags of one inbox.
///
/// The list is read in passes, from its beginning to its end, over several looks if it is long. Every tag gets its turn in
/// the order of the list, and has it once, however many others there are.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: HashMap<String, Known>,
    /// Tags whose turn has not come, some of which may be known otherwise by now.
    waiting: VecDeque<String>,
    /// What is to be removed, with its manifest.
    rubbish: VecDeque<(String, Digest)>,
    answers: usize,
    pass: u64,
}

#[derive(Debug)]
struct Known {
    /// The last pass that met it.
    pass: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    /// Looked at and still there: nothing more is to be done about it.
    Done,
    Answer {
        manifest: Digest,
        until: DateTime<Utc>,
    },
}

impl Memory {
    /// Notes tags of the list; those not known wait for their turn. What goes beyond [`MAX_KNOWN`] is met again in a later
    /// pass.
    pub(super) fn listed(&mut self, tags: Vec<String>) {
        for tag in tags {
            if let Some(known) = self.known.get_mut(&tag) {
                known.pass = self.pass;
            } else if self.known.len() < MAX_KNOWN {
                self.waiting.push_back(tag.clone());
                self.set(&tag, State::Waiting);
            }
        }
    }

    /// The list came to its end. If all of it was read, what it did not have is forgotten.
    pub(super) fn passed(&mut self, whole: bool) {
        let (pass, full) = (self.pass, self.known.len() >= MAX_KNOWN);
        self.known.retain(|_, known| {
            let kept = (!whole || known.pass == pass) && !(full && known.state == State::Done);
            if !kept && matches!(known.state, State::Answer { .. }) {
                self.answers -= 1;
            }
            kept
        });
        self.pass += 1;
    }

    /// How many wait, at most.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The tag whose turn it is. It must be said what became of it.
    pub(super) fn take(&mut self) -> Option<String> {
        while let Some(tag) = self.waiting.pop_front() {
            if self.known.get(&tag).is_some_and(|known| known.state == State::Waiting) {
                return Some(tag);
            }
        }
        None
    }

    /// It could not be dealt with: it waits behind all others.
    pub(super) fn put_off(&mut self, tag: String) {
        self.set(&tag, State::Waiting);
        self.waiting.push_back(tag);
    }

    /// There was no room for it this time: it is the next.
    pub(super) fn put_back(&mut self, tag: String) {
        self.waiting.push_front(tag);
    }

    /// It is to be removed, once there is time for that.
    pub(super) fn discard(&mut self, tag: String, manifest: Digest) {
        self.set(&tag, State::Done);
        self.rubbish.push_back((tag, manifest));
    }

    /// What is to be removed next. It must be said what became of it.
    pub(super) fn rubbish(&mut self) -> Option<(String, Digest)> {
        self.rubbish.pop_front()
    }

    /// It stays in the list, and nothing is to be done about it any more.
    pub(super) fn done(&mut self, tag: &str) {
        self.set(tag, State::Done);
    }

    /// It is an answer, to be removed at `until`.
    pub(super) fn answer(&mut self, tag: &str, manifest: Digest, until: DateTime<Utc>) {
        self.set(tag, State::Answer { manifest, until });
    }

    /// It is gone. Should it come back, it is looked at.
    pub(super) fn forget(&mut self, tag: &str) {
        if matches!(self.known.remove(tag), Some(Known { state: State::Answer { .. }, .. })) {
            self.answers -= 1;
        }
    }

    /// How many answers there are.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// Discards the answers whose time is over.
    pub(super) fn age(&mut self, now: DateTime<Utc>) {
        let outdated = |known: &Known| match known.state {
            State::Answer { manifest, until } if until <= now => Some(manifest),
            _ => None,
        };
        let outdated: Vec<_> =
            self.known.iter().filter_map(|(tag, known)| Some((tag.clone(), outdated(known)?))).collect();
        outdated.into_iter().for_each(|(tag, manifest)| self.discard(tag, manifest));
    }

    /// The oldest answer and its manifest.
    pub(super) fn oldest_answer(&self) -> Option<(String, Digest)> {
        let answers = self.known.iter().filter_map(|(tag, known)| match known.state {
            State::Answer { manifest, until } => Some((until, tag, manifest)),
            _ => None,
        });
        answers.min().map(|(_, tag, manifest)| (tag.clone(), manifest))
    }

    fn set(&mut self, tag: &str, state: State) {
        let is_answer = matches!(state, State::Answer { .. });
        let before = self.known.insert(tag.to_owned(), Known { pass: self.pass, state });
        let was_answer = before.is_some_and(|known| matches!(known.state, State::Answer { .. }));
        self.answers = self.answers + usize::from(is_answer) - usize::from(was_answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn everyone_has_one_turn_in_the_order_of_the_list() {
        let mut memory = Memory::default();
        memory.listed(tags(&["a", "b"]));
        memory.passed(true);
        memory.listed(tags(&["a", "b", "c"]));
        assert_eq!(memory.take().as_deref(), Some("a"));
        memory.put_off("a".to_owned());
        assert_eq!(memory.take().as_deref(), Some("b"));
        memory.put_back("b".to_owned());
        assert_eq!(memory.take().as_deref(), Some("b"));
        memory.done("b");
        assert_eq!(memory.take().as_deref(), Some("c"));
        memory.forget("c");
        assert_eq!(memory.take().as_deref(), Some("a"));
        memory.done("a");
        memory.passed(true);
        memory.listed(tags(&["a", "b", "c"]));
        assert_eq!((memory.take().as_deref(), memory.take()), (Some("c"), None));
    }

    #[test]
    fn what_left_the_list_is_forgotten_once_all_of_it_was_read() {
        let mut memory = Memory::default();
        memory.listed(tags(&["a", "b"]));
        while let Some(tag) = memory.take() {
            memory.done(&tag);
        }
        memory.answer("b", Digest::of(b"b"), at(0));
        memory.passed(true);
        memory.passed(false);
        assert_eq!((memory.known.len(), memory.answers()), (2, 1));
        memory.passed(true);
        assert_eq!((memory.known.len(), memory.answers()), (0, 0));
        memory.listed(tags(&["a"]));
        assert_eq!(memory.take().as_deref(), Some("a"));
        // One that was forgotten while it waited has no second turn.
        memory.listed(tags(&["c"]));
        memory.forget("c");
        memory.listed(tags(&["c"]));
        assert_eq!(memory.take().as_deref(), Some("c"));
        memory.done("c");
        assert_eq!(memory.take(), None);
    }

    #[test]
    fn answers_are_counted_and_their_age_is_known() {
        let mut memory = Memory::default();
        for (tag, until) in [("a", 30), ("b", 10), ("c", 20), ("d", 99)] {
            memory.answer(tag, Digest::of(tag.as_bytes()), at(until));
        }
        memory.answer("a", Digest::of(b"a"), at(30));
        assert_eq!(memory.answers(), 4);
        assert_eq!(memory.oldest_answer(), Some(("b".to_owned(), Digest::of(b"b"))));
        memory.age(at(20));
        assert_eq!((memory.answers(), memory.oldest_answer().unwrap().0.as_str()), (2, "a"));
        let mut gone = [memory.rubbish().unwrap(), memory.rubbish().unwrap()];
        gone.sort_unstable();
        assert_eq!(gone, [("b".to_owned(), Digest::of(b"b")), ("c".to_owned(), Digest::of(b"c"))]);
        assert_eq!(memory.rubbish(), None);
        memory.done("d");
        memory.forget("a");
        assert_eq!((memory.answers(), memory.oldest_answer()), (0, None));
    }

    /// T42.
    #[test]
    fn there_is_an_end_to_what_is_remembered_and_still_everyone_has_a_turn() {
        let mut memory = Memory::default();
        let flood: Vec<_> = (0..MAX_KNOWN + 1).map(|n| format!("s-{n:06}")).collect();
        memory.listed(flood.clone());
        assert_eq!((memory.known.len(), memory.waiting()), (MAX_KNOWN, MAX_KNOWN));
        while let Some(tag) = memory.take() {
            memory.done(&tag);
        }
        memory.passed(true);
        memory.listed(flood[MAX_KNOWN..].to_vec());
        assert_eq!(memory.take(), flood.last().cloned());
    }
}
